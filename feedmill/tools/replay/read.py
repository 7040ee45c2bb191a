"""Follow graphs and events from files of rows: columns by name or guessed from the header.

Times are read as people write them. A column has one way of writing; a number that could be two things is none.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from feedmill.ids import EntityId, as_id, from_microseconds, to_microseconds
from feedmill.tools.replay.lines import Garbage, InputError, Rows
from feedmill.tools.replay.social import Listen
from feedmill.verbs import Add, Comment, Follow, Love, Verb

#: When row 0 of events without a time happened.
START = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)
_VERBS = {verb.infinitive: verb for verb in (Add, Comment, Follow, Listen, Love)}
#: Years within which a number is taken for a time, so that no number has two meanings.
EARLIEST, LATEST = 1990, 2100
_NUMBER = re.compile(r"\d+(\.\d*)?\Z", re.ASCII)
#: Units since 1970, in microseconds: what is written in the largest numbers has the smallest unit.
_UNITS = {"seconds": 1e6, "milliseconds": 1e3, "microseconds": 1.0, "nanoseconds": 1e-3}
_LOW, _HIGH = (dt.datetime(year, 1, 1, tzinfo=dt.timezone.utc).timestamp() * 1e6 for year in (EARLIEST, LATEST))
#: Numbers that are dates by their digits.
_DIGITS = {"YYYYMMDD": (8, "%Y%m%d"), "YYYYMMDDhhmmss": (14, "%Y%m%d%H%M%S")}
ISO = "ISO 8601"
WAYS = f"{ISO}, YYYYMMDD, YYYYMMDDhhmmss, or seconds, milliseconds, microseconds or nanoseconds since 1970"


class Column(NamedTuple):
    """What a column is for, and what it is called: the names that say it, before those that only may mean it."""

    role: str
    names: tuple[str, ...]
    vague: tuple[str, ...] = ()
    needed: bool = True


#: Names are compared without capitals and underscores: user_id, userID and userId are one.
_FOLLOWS = (
    Column("follower", ("follower", "followerid", "from", "fromid", "source", "sourceid"), ("userid", "user")),
    Column(
        "followee",
        (
            *("followee", "followeeid", "followed", "followedid", "following", "followingid"),
            *("friend", "friendid", "to", "toid", "target", "targetid"),
        ),
        ("userid", "user"),
    ),
)
_EVENTS = (
    Column("actor", ("actor", "actorid"), ("userid", "user")),
    Column("object", ("object", "objectid", "item", "itemid", "artist", "artistid", "track", "trackid")),
    Column("time", ("time", "timestamp", "createdat", "date"), needed=False),
    Column("verb", ("verb",), needed=False),
)


@dataclasses.dataclass(frozen=True)
class Event:
    """One row of the events; *row* counts from 0."""

    row: int
    actor: EntityId
    object: EntityId
    time: dt.datetime
    verb: type[Verb]


def read_follows(path: Path, columns: Sequence[str], garbage: Garbage) -> dict[EntityId, list[EntityId]]:
    """Followers by whom they follow, each once."""
    followers: dict[EntityId, dict[EntityId, None]] = {}
    rows = Rows(path, garbage)
    follower_at, followee_at = _needed(_places(path, rows.header, columns, _FOLLOWS)[:2])
    for line, fields in rows:
        try:
            follower, followee = as_id(fields[follower_at]), as_id(fields[followee_at])
        except ValueError as error:
            garbage.add(path, line, str(error))
            continue
        followers.setdefault(followee, {})[follower] = None
    return {user: list(ids) for user, ids in followers.items()}


def read_events(path: Path, columns: Sequence[str], garbage: Garbage, limit: int | None = None) -> list[Event]:
    """The first *limit* events in the order of the file; rows without a time column are a second apart from :data:`START`.

    How times are written is decided for the column as a whole: what is written in another way is garbage.
    """
    rows = Rows(path, garbage)
    places = _places(path, rows.header, columns, _EVENTS)
    (actor_at, object_at), (time_at, verb_at) = _needed(places[:2]), places[2:]
    found: list[tuple[int, EntityId, EntityId, str, type[Verb]]] = []
    for line, fields in rows:
        try:
            actor, object_id = as_id(fields[actor_at]), as_id(fields[object_at])
            verb = Listen if verb_at is None else _verb(fields[verb_at])
            found.append((line, actor, object_id, "" if time_at is None else fields[time_at], verb))
        except ValueError as error:
            garbage.add(path, line, str(error))
        if limit is not None and len(found) >= limit:
            break
    if time_at is None:
        return [
            Event(row, actor, object_id, START + dt.timedelta(seconds=row), verb)
            for row, (_, actor, object_id, _, verb) in enumerate(found)
        ]
    way = _way_of_all([time for _, _, _, time, _ in found])
    if found and way is None:
        raise InputError(
            f"{path}: {found[0][3]!r} in line {found[0][0]} is no time, nor is any other in column"
            f" {rows.header[time_at]!r}; use {WAYS}"
        )
    events: list[Event] = []
    for line, actor, object_id, time, verb in found:
        try:
            events.append(Event(len(events), actor, object_id, _parse(time, str(way)), verb))
        except ValueError as error:
            garbage.add(path, line, f"{error}, as most of the column is")
    return events


def _places(path: Path, header: list[str], columns: Sequence[str], wanted: Sequence[Column]) -> list[int | None]:
    """Where each of *wanted* stands, None for one that need not be there and is not."""
    if columns:
        return _named(path, header, [name.lower() for name in columns], wanted)
    plain = [name.replace("_", "") for name in header]
    places: list[int | None] = [_first(column.names, plain, ()) for column in wanted]
    certain = any(place is not None for place in places)
    for number, column in enumerate(wanted):
        if places[number] is None and certain:
            places[number] = _first(column.vague, plain, places)
        if places[number] is None and column.needed:
            names = ", ".join(column.names + column.vague)
            raise InputError(f"{path} has no column for the {column.role} ({names}); its header is {', '.join(header)}")
    return places


def _first(names: Sequence[str], header: Sequence[str], taken: Sequence[int | None]) -> int | None:
    """Where the first of *names* stands that is not taken."""
    places = [place for name in names for place, head in enumerate(header) if head == name]
    return next((place for place in places if place not in taken), None)


def _named(path: Path, header: list[str], names: Sequence[str], wanted: Sequence[Column]) -> list[int | None]:
    """Where the columns stand that somebody named."""
    if len(names) > len(wanted):
        roles = ", ".join(column.role for column in wanted)
        raise InputError(f"{len(names)} columns are named for {path}, and it has a use for {len(wanted)}: {roles}")
    places: list[int | None] = []
    for name, column in zip(names, wanted):
        if header.count(name) != 1:
            how = "no" if name not in header else "more than one"
            raise InputError(
                f"{path} has {how} column for the {column.role} ({name}); its header is {', '.join(header)}"
            )
        if header.index(name) in places:
            raise InputError(f"{name} is named twice for {path}; the {column.role} needs a column of its own")
        places.append(header.index(name))
    return places + [None] * (len(wanted) - len(names))


def _needed(places: Sequence[int | None]) -> list[int]:
    return [place for place in places if place is not None]


def _verb(text: str) -> type[Verb]:
    if text not in _VERBS:
        raise ValueError(f"unknown verb {text!r}; use one of {', '.join(_VERBS)}")
    return _VERBS[text]


def _way_of(text: str) -> str | None:
    """How the time *text* is written; None for what is no time, or a number of no year from 1990 to 2099."""
    for way in [ISO, *_DIGITS] if not _NUMBER.match(text) else [*_UNITS, *_DIGITS]:
        try:
            _parse(text, way)
        except ValueError:
            continue
        return way
    return None


def _way_of_all(texts: Sequence[str]) -> str | None:
    """How most of *texts* are written; None if none of them is a time."""
    ways = Counter(way for way in map(_way_of, texts) if way is not None)
    return ways.most_common(1)[0][0] if ways else None


def _parse(text: str, way: str) -> dt.datetime:
    """The time that *text* says when it is written in *way*, UTC if it does not say; ``ValueError`` if it is not."""
    reader: Callable[[str, str], dt.datetime] = _since_1970 if way in _UNITS else _by_digits if way in _DIGITS else _iso
    try:
        time = reader(text, way)
        to_microseconds(time)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"bad time {text!r}; it is not in {way}") from error
    return time


def _since_1970(text: str, way: str) -> dt.datetime:
    if not _NUMBER.match(text) or len(text) > 40:
        raise ValueError("no number")
    whole, _, part = text.partition(".")
    unit = _UNITS[way]
    # In whole numbers: what a float holds is not exact to the microsecond.
    microseconds = int(whole) * int(unit) if unit >= 1 else int(whole) // 1000
    microseconds += round(float(f"0.{part or 0}") * unit)
    if not _LOW <= microseconds < _HIGH:
        raise ValueError("of another unit")
    return from_microseconds(microseconds)


def _by_digits(text: str, way: str) -> dt.datetime:
    length, pattern = _DIGITS[way]
    if len(text) != length or not (EARLIEST <= int(text[:4]) < LATEST):
        raise ValueError("no date")
    return dt.datetime.strptime(text, pattern).replace(tzinfo=dt.timezone.utc)


def _iso(text: str, way: str) -> dt.datetime:
    time = dt.datetime.fromisoformat(re.sub(r" ?(Z|UTC)\Z", "+00:00", text))
    return time if time.tzinfo else time.replace(tzinfo=dt.timezone.utc)
