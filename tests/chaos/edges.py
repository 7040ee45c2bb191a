"""Who follows whom of late: the app's own database, which no fault strikes. Every process of a stage opens the same file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

#: The variable that names the file; without it nobody follows anybody.
WHERE = "CHAOS_EDGES"


def create(path: Path) -> None:
    """Make the database, with nothing in it."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE edges (user INTEGER, target INTEGER, PRIMARY KEY (target, user))")


@contextmanager
def _database() -> Iterator[sqlite3.Connection | None]:
    path = os.environ.get(WHERE)
    if not path:
        yield None
        return
    with closing(sqlite3.connect(path, timeout=60)) as database, database:
        yield database


def _asked(wanted: str, by: str, user: object) -> list[int]:
    with _database() as database:
        return (
            []
            if database is None
            else [n for (n,) in database.execute(f"SELECT {wanted} FROM edges WHERE {by} = ?", [user])]
        )


def followers(user: object) -> list[int]:
    """Who follows *user*."""
    return _asked("user", "target", user)


def following(user: object) -> list[int]:
    """Whom *user* follows."""
    return _asked("target", "user", user)


def put(user: int, target: int) -> None:
    """*user* follows *target* from now on."""
    with _database() as database:
        assert database is not None
        database.execute("INSERT OR IGNORE INTO edges VALUES (?, ?)", [user, target])


def drop(user: int, target: int) -> None:
    """No longer."""
    with _database() as database:
        assert database is not None
        database.execute("DELETE FROM edges WHERE user = ? AND target = ?", [user, target])


def clear() -> None:
    """Nobody follows anybody."""
    with _database() as database:
        if database is not None:
            database.execute("DELETE FROM edges")
