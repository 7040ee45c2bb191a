"""What the app knows without Feedmill: users, who follows whom, posts and loves, in one SQLite file."""

from __future__ import annotations

import functools
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

_SCHEMA = """
    PRAGMA journal_mode = WAL;
    CREATE TABLE IF NOT EXISTS users (name TEXT PRIMARY KEY);
    CREATE TABLE IF NOT EXISTS follows (user TEXT, target TEXT, PRIMARY KEY (target, user)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS posts (id INTEGER PRIMARY KEY AUTOINCREMENT, author TEXT, text TEXT, time REAL);
    CREATE TABLE IF NOT EXISTS loves (user TEXT, post INTEGER, time REAL, PRIMARY KEY (user, post)) WITHOUT ROWID;
"""


@functools.cache
def _path() -> str:
    """The file, from ``WEBAPP_DB``; made ready the first time."""
    path = os.environ.get("WEBAPP_DB", "webapp.sqlite3")
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        connection.executescript(_SCHEMA)
    return path


@contextmanager
def _connected() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(_path(), timeout=30)) as connection, connection:
        yield connection


def add_user(name: str) -> None:
    """Make *name* known; nothing happens if it is."""
    with _connected() as db:
        db.execute("INSERT OR IGNORE INTO users VALUES (?)", (name,))


def users() -> list[str]:
    """All names."""
    with _connected() as db:
        return [name for (name,) in db.execute("SELECT name FROM users ORDER BY name")]


def has_user(name: str) -> bool:
    """Whether *name* is known."""
    with _connected() as db:
        return db.execute("SELECT 1 FROM users WHERE name = ?", (name,)).fetchone() is not None


def add_post(author: str, text: str) -> tuple[int, float]:
    """The number and time of a new post."""
    now = time.time()
    with _connected() as db:
        number = db.execute("INSERT INTO posts (author, text, time) VALUES (?, ?, ?)", (author, text, now)).lastrowid
    assert number is not None
    return number, now


def author_of(post: int) -> str | None:
    """Who wrote *post*; None if there is no such post."""
    with _connected() as db:
        row = db.execute("SELECT author FROM posts WHERE id = ?", (post,)).fetchone()
    return None if row is None else str(row[0])


def add_love(user: str, post: int) -> float:
    """When *user* loved *post*: now, or the first time. The same time twice makes the same activity twice: one."""
    with _connected() as db:
        db.execute("INSERT OR IGNORE INTO loves VALUES (?, ?, ?)", (user, post, time.time()))
        return float(db.execute("SELECT time FROM loves WHERE user = ? AND post = ?", (user, post)).fetchone()[0])


def follow(user: str, target: str) -> None:
    """*user* follows *target*."""
    with _connected() as db:
        db.execute("INSERT OR IGNORE INTO follows VALUES (?, ?)", (user, target))


def unfollow(user: str, target: str) -> None:
    """*user* no longer follows *target*."""
    with _connected() as db:
        db.execute("DELETE FROM follows WHERE user = ? AND target = ?", (user, target))


def follower_ids(target: str) -> Iterator[str]:
    """Who follows *target*, streamed from the database: workers cut it into chunks."""
    with _connected() as db:
        for (name,) in db.execute("SELECT user FROM follows WHERE target = ?", (target,)):
            yield name
