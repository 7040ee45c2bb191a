"""What the digest remembers: three tables of a database of yours. Here it is SQLite, in the file that DIGEST_DB names."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

_TABLES = """
-- What is to be told, by the key of its notification: a hook that is called again changes nothing.
CREATE TABLE IF NOT EXISTS collected (key TEXT PRIMARY KEY, user TEXT NOT NULL, name TEXT NOT NULL, arrived REAL NOT NULL);
CREATE INDEX IF NOT EXISTS collected_user ON collected (user, arrived);
-- Who wants mail, and where to.
CREATE TABLE IF NOT EXISTS readers (user TEXT PRIMARY KEY, address TEXT NOT NULL, wants_mail INTEGER NOT NULL DEFAULT 1);
-- The digest of each user and period: begun before it is handed to the mail server, and sent behind that.
CREATE TABLE IF NOT EXISTS digests (
    user TEXT, period INTEGER, begun REAL NOT NULL, sent REAL, PRIMARY KEY (user, period)
);
"""


@contextmanager
def database() -> Iterator[sqlite3.Connection]:
    """A connection; what is done with it is one transaction."""
    connection = sqlite3.connect(os.environ.get("DIGEST_DB", "digest.sqlite3"), timeout=30)
    try:
        connection.executescript(_TABLES)
        with connection:
            yield connection
    finally:
        connection.close()


def collect(notifications: Iterable[tuple[str, str, str, float]]) -> None:
    """Note notifications: key, user, group, and when each came, seconds since 1970."""
    with database() as tables:
        tables.executemany("INSERT OR IGNORE INTO collected VALUES (?, ?, ?, ?)", notifications)


def add_reader(user: str, address: str) -> None:
    """Have *user* get digests at *address*."""
    with database() as tables:
        tables.execute(
            "INSERT INTO readers (user, address) VALUES (?, ?) ON CONFLICT DO UPDATE SET address = ?2", (user, address)
        )


def set_wants_mail(user: str, *, wants: bool) -> None:
    """Have *user* get digests from now on, or none."""
    with database() as tables:
        tables.execute("UPDATE readers SET wants_mail = ? WHERE user = ?", (wants, user))


def waiting(until: float) -> list[str]:
    """The users for whom something was collected before *until*."""
    with database() as tables:
        rows = tables.execute("SELECT DISTINCT user FROM collected WHERE arrived < ? ORDER BY user", (until,))
        return [user for (user,) in rows]


def groups(user: str, until: float) -> list[str]:
    """The groups of what was collected for *user* before *until*, in the order in which they came."""
    with database() as tables:
        rows = tables.execute(
            "SELECT name FROM collected WHERE user = ? AND arrived < ? GROUP BY name ORDER BY min(arrived)",
            (user, until),
        )
        return [name for (name,) in rows]


def address_of(user: str) -> str | None:
    """Where the digests of *user* go; None if they want none."""
    with database() as tables:
        row = tables.execute("SELECT address FROM readers WHERE user = ? AND wants_mail", (user,)).fetchone()
        return None if row is None else str(row[0])


def begin(user: str, period: int, now: float, patience: float) -> bool:
    """Whether the caller is to send the digest of a period: nobody has sent it, or is about to since less than *patience* seconds."""
    with database() as tables:
        tables.execute("BEGIN IMMEDIATE")
        begun = tables.execute(
            "SELECT begun, sent FROM digests WHERE user = ? AND period = ?", (user, period)
        ).fetchone()
        if begun is not None and (begun[1] is not None or begun[0] > now - patience):
            return False
        tables.execute("INSERT OR REPLACE INTO digests VALUES (?, ?, ?, NULL)", (user, period, now))
        return True


def done(user: str, period: int, until: float, now: float | None) -> None:
    """Drop what was collected for *user* before *until*; *now*: a digest of it was sent."""
    with database() as tables:
        if now is not None:
            tables.execute("UPDATE digests SET sent = ? WHERE user = ? AND period = ?", (now, user, period))
        tables.execute("DELETE FROM collected WHERE user = ? AND arrived < ?", (user, until))
