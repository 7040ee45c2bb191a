"""What the live page knows without Feedmill: people, who follows whom, posts and likes, in one SQLite file."""

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

#: Who is there at first and what they say, as ``seed.json`` has it.
SEED: dict[str, Any] = json.loads((Path(__file__).parent / "seed.json").read_text())
#: Who has thousands of followers, and how many.
BIG: str = SEED["big"]
FOLLOWERS = int(os.environ.get("LIVE_FOLLOWERS", "10000"))

_SCHEMA = """
    PRAGMA journal_mode = WAL;
    CREATE TABLE people (id TEXT PRIMARY KEY, name TEXT, bio TEXT, listed INTEGER);
    CREATE TABLE follows (person TEXT, target TEXT, time TEXT, PRIMARY KEY (target, person)) WITHOUT ROWID;
    CREATE INDEX followed ON follows (person, target);
    CREATE TABLE posts (id INTEGER PRIMARY KEY AUTOINCREMENT, author TEXT, text TEXT, time TEXT, key TEXT UNIQUE);
    CREATE TABLE likes (post INTEGER, person TEXT, time TEXT, PRIMARY KEY (post, person)) WITHOUT ROWID;
    CREATE TABLE done (what TEXT PRIMARY KEY);
"""


@functools.cache
def _ready(path: str) -> str:
    """*path*, with tables and people in it."""
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("BEGIN IMMEDIATE")  # several processes may begin at once
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'people'").fetchone():
            for statement in filter(str.strip, _SCHEMA.split(";")[1:]):
                db.execute(statement)
            _people_the_network(db)
        db.execute("COMMIT")
    return path


def _people_the_network(db: sqlite3.Connection) -> None:
    now = dt.datetime.now(dt.timezone.utc).isoformat()
    db.executemany("INSERT INTO people VALUES (?, ?, ?, 1)", SEED["people"])
    pairs = [(person, target, now) for person, targets in SEED["follows"].items() for target in targets]
    names = [f"{first} {last}" for last in SEED["last_names"] for first in SEED["first_names"]]
    crowd = [(f"p{number}", names[number % len(names)]) for number in range(FOLLOWERS)]
    db.executemany("INSERT INTO people VALUES (?, ?, '', 0)", crowd)
    db.executemany("INSERT OR IGNORE INTO follows VALUES (?, ?, ?)", pairs + [(id, BIG, now) for id, _ in crowd])


@contextmanager
def _connected() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(_ready(os.environ.get("EXAMPLE_DB", "live.sqlite3")), timeout=30)) as db, db:
        db.row_factory = sqlite3.Row
        yield db


def _ask(query: str, *values: Any) -> list[sqlite3.Row]:
    with _connected() as db:
        return db.execute(query, values).fetchall()


def _marks(values: Iterable[Any]) -> tuple[str, list[Any]]:
    """Question marks for the different ones of *values*, and these."""
    wanted = list(dict.fromkeys(values))
    return ",".join("?" * len(wanted)), wanted


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)


def _time(rows: list[sqlite3.Row]) -> dt.datetime | None:
    return dt.datetime.fromisoformat(rows[0]["time"]) if rows else None


# -- people


def people(ids: Iterable[str]) -> dict[str, dict[str, str]]:
    """Those of *ids* who are there, by id."""
    marks, wanted = _marks(ids)
    rows = _ask(f"SELECT id, name, bio FROM people WHERE id IN ({marks})", *wanted)  # noqa: S608  # question marks only
    return {row["id"]: dict(row) for row in rows}


def listed() -> list[dict[str, str]]:
    """Those whom the page offers to follow, by name: all but the crowd."""
    return [dict(row) for row in _ask("SELECT id, name, bio FROM people WHERE listed ORDER BY name")]


def has_person(id: str) -> bool:
    """Whether *id* is somebody."""
    return bool(_ask("SELECT 1 FROM people WHERE id = ?", id))


def add_person(name: str) -> str:
    """The id of somebody new."""
    with _connected() as db:
        db.execute("BEGIN IMMEDIATE")
        number = db.execute("SELECT COUNT(*) FROM people").fetchone()[0]
        db.execute("INSERT INTO people VALUES (?, ?, 'Just arrived.', 1)", (f"n{number}", name))
    return f"n{number}"


def follow(person: str, target: str, time: dt.datetime | None = None) -> dt.datetime:
    """Since when *person* follows *target*: now, or as before."""
    with _connected() as db:
        db.execute("INSERT OR IGNORE INTO follows VALUES (?, ?, ?)", (person, target, (time or _now()).isoformat()))
        row = db.execute("SELECT time FROM follows WHERE target = ? AND person = ?", (target, person)).fetchone()
    return dt.datetime.fromisoformat(row["time"])


def followed_since(person: str, target: str) -> dt.datetime | None:
    """Since when *person* follows *target*; None if they do not."""
    return _time(_ask("SELECT time FROM follows WHERE target = ? AND person = ?", target, person))


def unfollow(person: str, target: str) -> None:
    """*person* no longer follows *target*."""
    with _connected() as db:
        db.execute("DELETE FROM follows WHERE target = ? AND person = ?", (target, person))


def following(person: str) -> set[str]:
    """Whom *person* follows."""
    return {row["target"] for row in _ask("SELECT target FROM follows WHERE person = ?", person)}


def follower_ids(target: str) -> Iterator[str]:
    """Who follows *target*, as a stream: workers cut it into chunks."""
    with _connected() as db:
        for row in db.execute("SELECT person FROM follows WHERE target = ?", (target,)):
            yield row["person"]


def audience(target: str) -> int:
    """How many follow *target*."""
    return int(_ask("SELECT COUNT(*) FROM follows WHERE target = ?", target)[0][0])


def fans(targets: Iterable[str]) -> list[dict[str, Any]]:
    """Who of the crowd follows one of *targets*, oldest first."""
    marks, wanted = _marks(targets)
    query = f"SELECT * FROM follows JOIN people ON id = person WHERE NOT listed AND target IN ({marks}) ORDER BY time"  # noqa: S608
    return [dict(row) for row in _ask(query, *wanted)]


def some_followers(target: str, number: int) -> list[str]:
    """Some who follow *target*, other ones each time."""
    query = "SELECT person FROM follows WHERE target = ? ORDER BY RANDOM() LIMIT ?"
    return [row["person"] for row in _ask(query, target, number)]


# -- posts and likes


def add_post(
    author: str, text: str, key: str | None = None, time: dt.datetime | None = None
) -> tuple[int, dt.datetime]:
    """The number and the time of a post: a new one, or the one that *author* wrote with the same *key* before."""
    with _connected() as db:
        query = "INSERT OR IGNORE INTO posts (author, text, time, key) VALUES (?, ?, ?, ?)"
        found = db.execute(query, (author, text, (time or _now()).isoformat(), key and f"{author} {key}"))
        where, value = ("key = ?", f"{author} {key}") if key else ("id = ?", found.lastrowid)
        row = db.execute(f"SELECT id, time FROM posts WHERE {where}", (value,)).fetchone()  # noqa: S608  # one of these two
    return row["id"], dt.datetime.fromisoformat(row["time"])


def remove_post(number: int) -> None:
    """There is no such post any more, nor likes of it."""
    with _connected() as db:
        db.execute("DELETE FROM posts WHERE id = ?", (number,))
        db.execute("DELETE FROM likes WHERE post = ?", (number,))


def like(post: int, person: str, time: dt.datetime | None = None) -> dt.datetime:
    """When *person* liked *post*: now, or the first time."""
    with _connected() as db:
        db.execute("INSERT OR IGNORE INTO likes VALUES (?, ?, ?)", (post, person, (time or _now()).isoformat()))
        row = db.execute("SELECT time FROM likes WHERE post = ? AND person = ?", (post, person)).fetchone()
    return dt.datetime.fromisoformat(row["time"])


def liked_at(post: int, person: str) -> dt.datetime | None:
    """When *person* liked *post*; None if they did not."""
    return _time(_ask("SELECT time FROM likes WHERE post = ? AND person = ?", post, person))


def unlike(post: int, person: str) -> None:
    """*person* likes *post* no longer."""
    with _connected() as db:
        db.execute("DELETE FROM likes WHERE post = ? AND person = ?", (post, person))


def posts(numbers: Iterable[int], reader: str = "") -> dict[int, dict[str, Any]]:
    """The posts of *numbers* that are there, as *reader* sees them, in one query."""
    marks, wanted = _marks(numbers)
    rows = _ask(
        f"SELECT id, author, text, time, (SELECT COUNT(*) FROM likes WHERE post = posts.id) AS likes,"  # noqa: S608  # question marks only
        f" EXISTS (SELECT 1 FROM likes WHERE post = posts.id AND person = ?) AS liked FROM posts WHERE id IN ({marks})",
        reader,
        *wanted,
    )
    return {row["id"]: {**dict(row), "liked": bool(row["liked"])} for row in rows}


def all_posts() -> list[dict[str, Any]]:
    """Every post, oldest first."""
    return [dict(row) for row in _ask("SELECT * FROM posts ORDER BY id")]


def all_likes() -> list[dict[str, Any]]:
    """Every like, oldest first, with the author of the post."""
    query = "SELECT likes.*, author FROM likes JOIN posts ON posts.id = post ORDER BY likes.time"
    return [dict(row) for row in _ask(query)]


def recent_posts(number: int) -> list[dict[str, Any]]:
    """The newest *number* posts, newest first."""
    return [dict(row) for row in _ask("SELECT * FROM posts ORDER BY id DESC LIMIT ?", number)]


# -- what is done once


def is_done(what: str) -> bool:
    """Whether *what* was done, by whichever process."""
    return bool(_ask("SELECT 1 FROM done WHERE what = ?", what))


def set_done(what: str) -> None:
    """*what* is done."""
    with _connected() as db:
        db.execute("INSERT OR IGNORE INTO done VALUES (?)", (what,))
