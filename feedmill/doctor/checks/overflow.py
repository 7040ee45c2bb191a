"""Spills: each belongs to a group that says so, can be read, and holds as many members as the group counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from feedmill.doctor.checks.groups import Case, foreign, look_at
from feedmill.doctor.key_map import Place
from feedmill.doctor.report import Finding
from feedmill.errors import CorruptRecord, UnknownVerb
from feedmill.ids import ACTOR_SLICE, ID_SIZE, id_microseconds
from feedmill.keys import GROUPS
from feedmill.records.layout import SPILLED
from feedmill.records.members import Member
from feedmill.records.overflow import IdParts
from feedmill.records.record import Record
from feedmill.storage.base import SET
from feedmill.storage.operations import Steps
from feedmill.storage.registry import backend

#: Fields of a spill that are read at once.
PIECE = 1000


def suspicions(places: Sequence[Place]) -> Steps[list[str | None]]:
    """What is wrong with what each spill holds: empty for one that no group says that it has, None if nothing is wrong or a
    writer came in between.

    How many actors it names is not looked at: that is seen when its feed is read.
    """
    names = [(place.key, place.group) for place in places]
    sizes = yield from backend().maintenance.spill_sizes(names)
    small = [name for name, size in zip(names, sizes) if size <= PIECE]
    found = dict(zip(small, (yield from backend().maintenance.spills(small))))
    flaws: list[str | None] = []
    for place, name in zip(places, names):
        if name not in found:  # a large one is read in pieces, alone
            before, spill = yield from whole_spill(place.feed_class, *name)
            after, _, _ = yield from place.feed_class.timeline().spill_scan(*name, 0, 1)
        else:
            before, spill, after = found[name]
        if before != after:
            flaws.append(None)
        elif not before or not before[0] & SPILLED:
            flaws.append("")
        else:
            flaws.append(_decoded_flaw(place.feed_class, before, spill))
    return flaws


def _decoded_flaw(feed_class: Any, stored: bytes, spill: Mapping[bytes, bytes]) -> str | None:
    try:
        record: Record = feed_class.serializer().decode(stored)
    except CorruptRecord:  # said when the feed is read
        return None
    if isinstance(record.parts, IdParts) and _surely_fits(record, spill):
        return None
    return _flaw(record, spill) or None


def _surely_fits(record: Record, spill: Mapping[bytes, bytes]) -> bool:
    """Whether *spill*, of ids, is that of *record*; if not, only a close look can tell. No members are made of it."""
    if record.capped or record.top > record.members[0].microseconds:
        return False
    ids: list[bytes] = []
    for actor, part in spill.items():
        if len(part) == ID_SIZE and part[ACTOR_SLICE] == actor:
            ids.append(part)
        elif part:
            found = [part[at : at + ID_SIZE] for at in range(0, len(part), ID_SIZE)]
            if len(part) % ID_SIZE or any(raw_id[ACTOR_SLICE] != actor for raw_id in found):
                return False
            ids += found
    if not ids or len({*ids, *(member.raw_id for member in record.members)}) != record.count:
        return False
    return record.created <= id_microseconds(min(ids)) and id_microseconds(max(ids)) <= record.top


def whole_spill(feed_class: Any, key: str, group: bytes) -> Steps[tuple[bytes | None, dict[bytes, bytes]]]:
    """A group's record and all of its spill, read in pieces; no record if a writer came in between."""
    spill: dict[bytes, bytes] = {}
    records: set[bytes | None] = set()
    place = 0
    while True:
        record, place, fields = yield from feed_class.timeline().spill_scan(key, group, place, PIECE)
        records.add(record)
        spill.update(fields)
        if not place or len(records) > 1:
            return (record if len(records) == 1 else None), spill


def _flaw(record: Record, spill: Mapping[bytes, bytes]) -> str:
    """Why *spill* is not that of *record*; empty if it is."""
    members: list[Member] = []
    try:
        for actor, data in spill.items():
            members += map(_looked_at, record.parts.decode(actor, data))
    except (CorruptRecord, UnknownVerb) as error:
        return str(error)
    known = {*members, *record.members}
    if record.capped:
        return "" if len(known) <= record.count else "it holds more members than the group counts"
    if len(known) != record.count:
        return f"with it the group has {len(known)} members, and it counts {record.count}"
    if record.top > record.members[0].microseconds:
        return "a member of the group is older than the newest that was spilled"
    moments = [member.microseconds for member in members]
    if max(moments, default=0) > record.top or min(moments, default=record.created) < record.created:
        return "it holds members that are newer or older than the group knows"
    return ""


def wrong_spills(case: Case) -> Iterator[Finding]:
    """A spill that no group has, or that does not fit the group's counts; what it names is counted anew."""
    for group, actors in case.stored.spills.items():
        where = f"{case.key}{GROUPS}:{group.decode(errors='backslashreplace')}"
        record = case.records.get(group)
        if record is None or not record.spilled:
            if actors and group not in case.foreign:
                yield Finding("orphaned spill", where, "spilled members that no group has")
                case.changes.unspill.append(group)
        elif group in case.spills:
            try:
                recounted = _recount(case, group, record)
            except UnknownVerb as error:
                yield foreign(case, group, where, error)
                continue
            if recounted:
                yield Finding("damaged spill", where, "its members do not add up to what the group counts")
        elif suspected := case.suspected.get(group) or _miscounted(record, actors):
            yield Finding("damaged spill", where, suspected)
            case.wanted.append(group)


def _miscounted(record: Record, actors: int) -> str:
    """What is wrong with a spill that names so many *actors*. A capped one need not name all."""
    if actors == record.actors or (record.capped and actors < record.actors):
        return ""
    return f"it names {actors} actors, and its group counts {record.actors}"


def _recount(case: Case, group: bytes, record: Record) -> bool:
    """Make the group and its spill agree, from what of both can be read; whether that changed anything."""
    if not _flaw(record, case.spills[group]) and not _miscounted(record, len(case.spills[group])):
        return False
    latest = max(record.top, record.members[0].microseconds)  # what is newer than both was never spilled
    parts = {actor: _readable(record, actor, data) for actor, data in case.spills[group].items()}
    found = [member for members in parts.values() for member in members if member.microseconds <= latest]
    everything = sorted({*record.members, *found})
    fields: dict[bytes, list[Member]] = {member.actor: [] for member in everything}
    if record.capped:  # most of what it counts is nowhere: its numbers are all there is
        fields.update((actor, []) for actor in parts)
        record.count, record.actors = max(record.count, len(everything)), max(record.actors, len(fields))
    else:
        record.count, record.actors = len(everything), len(fields)
        record.members = everything[-len(record.members) :]
    held = set(record.members)
    beside = [member for member in everything if member not in held]
    for member in beside:
        fields[member.actor].append(member)
    newest = beside[-1].microseconds if beside else 0
    record.created, record.top = everything[0].microseconds, max(record.top, newest) if record.capped else newest
    record.spilled = record.capped or bool(beside)
    case.changes.unspill.append(group)
    if record.spilled:
        case.changes.spill += [(group, actor, SET, record.parts.encode(members)) for actor, members in fields.items()]
    case.put(group, record)
    return True


def _readable(record: Record, actor: bytes, part: bytes) -> list[Member]:
    readable = []
    for member in record.parts.salvage(actor, part):
        try:
            readable.append(_looked_at(member))
        except CorruptRecord:
            continue
    return readable


def _looked_at(member: Member) -> Member:
    """*member*, of whose body, where it has one, all was decoded."""
    if member.body:
        look_at(member.body)
    return member
