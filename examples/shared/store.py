"""What the site knows without Feedmill: people, who follows whom, posts, likes and comments, in one SQLite file."""

from __future__ import annotations

import datetime as dt
import functools
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

#: Whom there are at first, who follows whom, and what they have done: the same on every site.
SEED: dict[str, Any] = json.loads((Path(__file__).parent / "seed.json").read_text())

_SCHEMA = """
    PRAGMA journal_mode = WAL;
    CREATE TABLE people (id TEXT PRIMARY KEY, name TEXT);
    CREATE TABLE follows (person TEXT, target TEXT, PRIMARY KEY (target, person)) WITHOUT ROWID;
    CREATE TABLE posts (id INTEGER PRIMARY KEY AUTOINCREMENT, author TEXT, text TEXT, link TEXT, time TEXT);
    CREATE TABLE likes (post INTEGER, person TEXT, time TEXT, PRIMARY KEY (post, person)) WITHOUT ROWID;
    CREATE TABLE comments (id INTEGER PRIMARY KEY AUTOINCREMENT, post INTEGER, person TEXT, text TEXT, time TEXT);
"""


@functools.cache
def _ready(path: str) -> str:
    """*path*, with tables and people in it."""
    with closing(sqlite3.connect(path, timeout=30)) as connection, connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'people'").fetchone():
            connection.executescript(_SCHEMA)
            connection.executemany("INSERT INTO people VALUES (?, ?)", SEED["people"].items())
            connection.executemany("INSERT INTO follows VALUES (?, ?)", SEED["follows"])
    return path


@contextmanager
def _connected() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(_ready(os.environ.get("EXAMPLE_DB", "example.sqlite3")), timeout=30)) as db, db:
        db.row_factory = sqlite3.Row
        yield db


def _ask(query: str, *values: Any) -> list[sqlite3.Row]:
    with _connected() as db:
        return db.execute(query, values).fetchall()


def _insert(query: str, *values: Any) -> tuple[int, dt.datetime]:
    """The number of the new row, and now, which is the last of its values."""
    now = dt.datetime.now(dt.timezone.utc)
    with _connected() as db:
        return db.execute(query, (*values, now.isoformat())).lastrowid or 0, now


def people() -> dict[str, str]:
    """Names by id."""
    return {row["id"]: row["name"] for row in _ask("SELECT * FROM people ORDER BY id")}


def has_posts() -> bool:
    """Whether anybody has shared anything."""
    return bool(_ask("SELECT 1 FROM posts LIMIT 1"))


def following(person: str) -> set[str]:
    """Whom *person* follows."""
    return {row["target"] for row in _ask("SELECT target FROM follows WHERE person = ?", person)}


def followers(target: str) -> list[str]:
    """Who follows *target*."""
    return [row["person"] for row in _ask("SELECT person FROM follows WHERE target = ?", target)]


def follow(person: str, target: str) -> None:
    """*person* follows *target*."""
    _insert("INSERT OR IGNORE INTO follows SELECT ?, ? WHERE ? != ''", person, target)


def unfollow(person: str, target: str) -> None:
    """*person* no longer follows *target*."""
    with _connected() as db:
        db.execute("DELETE FROM follows WHERE person = ? AND target = ?", (person, target))


def add_post(author: str, text: str, link: str) -> tuple[int, dt.datetime]:
    """The number and the time of a new post."""
    return _insert("INSERT INTO posts (author, text, link, time) VALUES (?, ?, ?, ?)", author, text, link)


def add_comment(post: int, person: str, text: str) -> tuple[int, dt.datetime]:
    """The number and the time of a new comment."""
    return _insert("INSERT INTO comments (post, person, text, time) VALUES (?, ?, ?, ?)", post, person, text)


def like(post: int, person: str) -> dt.datetime:
    """When *person* liked *post*: now, or the first time."""
    _insert("INSERT OR IGNORE INTO likes VALUES (?, ?, ?)", post, person)
    (row,) = _ask("SELECT time FROM likes WHERE post = ? AND person = ?", post, person)
    return dt.datetime.fromisoformat(row["time"])


def liked_at(post: int, person: str) -> dt.datetime | None:
    """When *person* liked *post*; None if they did not."""
    rows = _ask("SELECT time FROM likes WHERE post = ? AND person = ?", post, person)
    return dt.datetime.fromisoformat(rows[0]["time"]) if rows else None


def unlike(post: int, person: str) -> None:
    """*person* likes *post* no longer."""
    with _connected() as db:
        db.execute("DELETE FROM likes WHERE post = ? AND person = ?", (post, person))


def posts(numbers: Iterable[int], reader: str) -> dict[int, dict[str, Any]]:
    """The posts of *numbers* that are there, for *reader*, in one query."""
    wanted = sorted(set(numbers))
    marks = ",".join("?" * len(wanted))
    rows = _ask(
        f"SELECT posts.*, (SELECT COUNT(*) FROM likes WHERE post = posts.id) AS likes,"  # noqa: S608  # question marks only
        f" (SELECT COUNT(*) FROM comments WHERE post = posts.id) AS comments,"
        f" EXISTS (SELECT 1 FROM likes WHERE post = posts.id AND person = ?) AS liked FROM posts WHERE id IN ({marks})",
        reader,
        *wanted,
    )
    return {row["id"]: {**dict(row), "liked": bool(row["liked"])} for row in rows}


def comments(post: int) -> list[dict[str, Any]]:
    """The comments on *post*, oldest first."""
    return [dict(row) for row in _ask("SELECT person, text, time FROM comments WHERE post = ? ORDER BY id", post)]
