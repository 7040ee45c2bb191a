"""Reads follow graphs and events: TSV or CSV, gzip or not, columns by name or guessed from the header."""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import gzip
import math
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from feedmill.errors import FeedmillError
from feedmill.ids import EntityId, as_id, from_microseconds, to_microseconds
from feedmill.replay.social import Listen
from feedmill.verbs import Add, Comment, Follow, Love, Verb

#: When row 0 of events without a time happened.
START = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)
#: Bytes of a line beyond which a file is no list of events.
LONGEST_LINE = 1024 * 1024
_FOLLOWER = ("user_id", "follower", "follower_id", "user", "source", "from")
_FOLLOWEE = ("friend_id", "followee", "followee_id", "followed", "target", "to", "friend")
_ACTOR = ("actor", "actor_id", "user_id", "user")
_OBJECT = ("object", "object_id", "artist_id", "item", "item_id")
_TIME = ("time", "timestamp", "created_at", "date")
_VERB = ("verb",)
_VERBS = {verb.infinitive: verb for verb in (Add, Comment, Follow, Listen, Love)}


class InputError(FeedmillError, ValueError):
    """A file cannot be read as a graph or as events."""


@dataclasses.dataclass(frozen=True)
class Event:
    """One row of the events; *row* counts from 0."""

    row: int
    actor: EntityId
    object: EntityId
    time: dt.datetime
    verb: type[Verb]


@dataclasses.dataclass
class Garbage:
    """Lines that were skipped: how many, and the first few with their reasons."""

    count: int = 0
    shown: list[str] = dataclasses.field(default_factory=list)

    def note(self, path: Path, line: int, reason: str) -> None:
        """Remember a line."""
        self.count += 1
        if len(self.shown) < 10:
            self.shown.append(f"{path}:{line}: {reason}")


def read_follows(path: Path, columns: Sequence[str], garbage: Garbage) -> dict[EntityId, list[EntityId]]:
    """Followers by whom they follow, each once."""
    followers: dict[EntityId, dict[EntityId, None]] = {}
    wanted = [(_FOLLOWER, "follower", True), (_FOLLOWEE, "followee", True)]
    for line, (follower, followee) in _rows(path, columns, wanted, garbage):
        try:
            follower_id, followee_id = as_id(follower), as_id(followee)
        except ValueError as error:
            garbage.note(path, line, str(error))
            continue
        followers.setdefault(followee_id, {})[follower_id] = None
    return {user: list(ids) for user, ids in followers.items()}


def read_events(path: Path, columns: Sequence[str], garbage: Garbage, limit: int | None = None) -> list[Event]:
    """The events in the order of the file; rows without a time column are a second apart from :data:`START`."""
    events: list[Event] = []
    wanted = [(_ACTOR, "actor", True), (_OBJECT, "object", True), (_TIME, "time", False), (_VERB, "verb", False)]
    for line, (actor, object_id, time, verb) in _rows(path, columns, wanted, garbage):
        if limit is not None and len(events) >= limit:
            break
        row = len(events)
        try:
            at = START + dt.timedelta(seconds=row) if time is None else _time(time)
            events.append(Event(row, as_id(actor), as_id(object_id), at, Listen if verb is None else _verb(verb)))
        except ValueError as error:
            garbage.note(path, line, str(error))
    return events


def _rows(
    path: Path, columns: Sequence[str], wanted: Sequence[tuple[tuple[str, ...], str, bool]], garbage: Garbage
) -> Iterator[tuple[int, list[str | None]]]:
    lines = _lines(path, garbage)
    try:
        _, header_line = next(lines)
    except StopIteration:
        raise InputError(f"{path} is empty; its first line must be a header") from None
    mark = "\t" if "\t" in header_line else ","
    header = [name.strip().lower() for name in _split(header_line.lstrip("\ufeff"), mark)]
    places = _places(path, header, columns, wanted)
    for line, text in lines:
        fields = _split(text, mark)
        if len(fields) != len(header):
            garbage.note(path, line, f"{len(fields)} columns instead of {len(header)}")
            continue
        yield line, [None if place is None else fields[place].strip() for place in places]


def _places(
    path: Path, header: list[str], columns: Sequence[str], wanted: Sequence[tuple[tuple[str, ...], str, bool]]
) -> list[int | None]:
    places: list[int | None] = []
    for number, (names, role, needed) in enumerate(wanted):
        if columns:
            names = (columns[number].lower(),) if number < len(columns) else ()
        place = next((header.index(name) for name in names if name in header), None)
        if place is None and (needed or (columns and names)):
            raise InputError(
                f"{path} has no column for the {role} ({', '.join(names)}); its header is {', '.join(header)}"
            )
        places.append(place)
    return places


def _lines(path: Path, garbage: Garbage) -> Iterator[tuple[int, str]]:
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as stream:
            for number, data in enumerate(iter(partial(stream.readline, LONGEST_LINE), b""), 1):
                if len(data) == LONGEST_LINE:
                    raise InputError(f"{path}:{number} is longer than {LONGEST_LINE:,} bytes; is it a text file?")
                try:
                    text = data.decode().rstrip("\r\n")
                except UnicodeDecodeError:
                    garbage.note(path, number, "not UTF-8")
                    continue
                if text:
                    yield number, text
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _split(line: str, mark: str) -> list[str]:
    try:
        return line.split("\t") if mark == "\t" else next(csv.reader([line]))
    except csv.Error:
        return []


def _verb(text: str) -> type[Verb]:
    if text not in _VERBS:
        raise ValueError(f"unknown verb {text!r}; use one of {', '.join(_VERBS)}")
    return _VERBS[text]


def _time(text: str) -> dt.datetime:
    try:
        try:
            number = float(text)
        except ValueError:
            time = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
            time = time if time.tzinfo else time.replace(tzinfo=dt.timezone.utc)
        else:
            if not math.isfinite(number):
                raise ValueError("not finite")
            time = from_microseconds(round(number * 1_000_000))
        to_microseconds(time)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"bad time {text!r}; use ISO 8601 or seconds since 1970") from error
    return time
