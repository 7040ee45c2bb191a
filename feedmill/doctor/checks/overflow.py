"""Overflow: each belongs to a group that says so, can be read, and holds as many members as the group counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from feedmill import group_names
from feedmill.doctor.checks.groups import Case, foreign, look_at
from feedmill.doctor.key_map import KeyInfo
from feedmill.doctor.report import Finding
from feedmill.errors import CorruptRecord, UnknownVerb
from feedmill.ids import ACTOR_SLICE, ID_SIZE, id_microseconds
from feedmill.keys import GROUPS
from feedmill.records.layout import HAS_OVERFLOW
from feedmill.records.members import Member
from feedmill.records.overflow import IdOverflowCodec
from feedmill.records.record import Record
from feedmill.storage.base import SET
from feedmill.storage.operations import Steps
from feedmill.storage.registry import maintenance

#: Fields of overflow that are read at once.
PIECE = 1000


def suspicions(infos: Sequence[KeyInfo]) -> Steps[list[str | None]]:
    """What is wrong with what each overflow holds, all of them on the same servers: empty for one that no group says that it has, None if nothing is wrong or a
    writer came in between.

    How many actors it names is not looked at: that is seen when its feed is read.
    """
    names = [(info.key, info.group) for info in infos]
    place = maintenance(infos[0].feed_class.timeline())
    sizes = yield from place.overflow_sizes(names)
    small = [name for name, size in zip(names, sizes) if size <= PIECE]
    found = dict(zip(small, (yield from place.overflows(small))))
    flaws: list[str | None] = []
    for info, name in zip(infos, names):
        if name not in found:  # a large one is read in pieces, alone
            before, overflow = yield from read_overflow(info.feed_class, *name)
            after, _, _ = yield from info.feed_class.timeline().overflow_scan(*name, 0, 1)
        else:
            before, overflow, after = found[name]
        if before != after:
            flaws.append(None)
        elif not before or not before[0] & HAS_OVERFLOW:
            flaws.append("")
        else:
            flaws.append(_decoded_flaw(info.feed_class, before, overflow))
    return flaws


def _decoded_flaw(feed_class: Any, stored: bytes, overflow: Mapping[bytes, bytes]) -> str | None:
    try:
        record: Record = feed_class.serializer().decode(stored)
    except CorruptRecord:  # said when the feed is read
        return None
    if isinstance(record.overflow_codec, IdOverflowCodec) and _surely_fits(record, overflow):
        return None
    return _flaw(record, overflow) or None


def _surely_fits(record: Record, overflow: Mapping[bytes, bytes]) -> bool:
    """Whether *overflow*, of ids, is that of *record*; if not, only a close look can tell. No members are made of it."""
    if record.truncated or record.overflow_newest > record.members[0].microseconds:
        return False
    ids: list[bytes] = []
    for actor, part in overflow.items():
        if len(part) == ID_SIZE and part[ACTOR_SLICE] == actor:
            ids.append(part)
        elif part:
            found = [part[at : at + ID_SIZE] for at in range(0, len(part), ID_SIZE)]
            if len(part) % ID_SIZE or any(raw_id[ACTOR_SLICE] != actor for raw_id in found):
                return False
            ids += found
    if not ids or len({*ids, *(member.raw_id for member in record.members)}) != record.count:
        return False
    return record.created <= id_microseconds(min(ids)) and id_microseconds(max(ids)) <= record.overflow_newest


def read_overflow(feed_class: Any, key: str, group: bytes) -> Steps[tuple[bytes | None, dict[bytes, bytes]]]:
    """A group's record and all of its overflow, read in pieces; no record if a writer came in between."""
    overflow: dict[bytes, bytes] = {}
    records: set[bytes | None] = set()
    info = 0
    while True:
        record, info, fields = yield from feed_class.timeline().overflow_scan(key, group, info, PIECE)
        records.add(record)
        overflow.update(fields)
        if not info or len(records) > 1:
            return (record if len(records) == 1 else None), overflow


def _flaw(record: Record, overflow: Mapping[bytes, bytes]) -> str:
    """Why *overflow* is not that of *record*; empty if it is."""
    members: list[Member] = []
    try:
        for actor, data in overflow.items():
            members += map(_looked_at, record.overflow_codec.decode(actor, data))
    except (CorruptRecord, UnknownVerb) as error:
        return str(error)
    known = {*members, *record.members}
    if record.truncated:
        return "" if len(known) <= record.count else "it holds more members than the group counts"
    if len(known) != record.count:
        return f"record and overflow have {len(known)} members, and the group counts {record.count}"
    if record.overflow_newest > record.members[0].microseconds:
        return "a member of the group is older than the newest that is in the overflow"
    moments = [member.microseconds for member in members]
    if max(moments, default=0) > record.overflow_newest or min(moments, default=record.created) < record.created:
        return "it holds members that are newer or older than the group knows"
    return ""


def wrong_overflow(case: Case) -> Iterator[Finding]:
    """Overflow that no group has, or that does not fit the group's counts; what it names is counted anew."""
    for group, actors in case.stored.overflows.items():
        where = f"{case.key}{GROUPS}:{group_names.spelled(group).decode(errors='backslashreplace')}"
        record = case.records.get(group)
        if record is None or not record.has_overflow:
            if actors and group not in case.foreign:
                yield Finding("orphaned overflow", where, "overflow that belongs to no group")
                case.changes.drop_overflow.append(group)
        elif group in case.overflows:
            try:
                recounted = _recount(case, group, record)
            except UnknownVerb as error:
                yield foreign(case, group, where, error)
                continue
            if recounted:
                yield Finding("damaged overflow", where, "its members do not match the counts of the group")
        elif suspected := case.suspected.get(group) or _miscounted(record, actors):
            yield Finding("damaged overflow", where, suspected)
            case.wanted.append(group)


def _miscounted(record: Record, actors: int) -> str:
    """What is wrong with overflow that names so many *actors*. A truncated one need not name all."""
    if actors == record.actors or (record.truncated and actors < record.actors):
        return ""
    return f"it has {actors} actors, and the group counts {record.actors}"


def _recount(case: Case, group: bytes, record: Record) -> bool:
    """Make the group and its overflow agree, from what of both can be read; whether that changed anything."""
    if not _flaw(record, case.overflows[group]) and not _miscounted(record, len(case.overflows[group])):
        return False
    latest = max(
        record.overflow_newest, record.members[0].microseconds
    )  # what is newer than both was never in the overflow
    parts = {actor: _readable(record, actor, data) for actor, data in case.overflows[group].items()}
    found = [member for members in parts.values() for member in members if member.microseconds <= latest]
    everything = sorted({*record.members, *found})
    fields: dict[bytes, list[Member]] = {member.actor: [] for member in everything}
    if record.truncated:  # most of what it counts is nowhere: its numbers are all there is
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
    record.created, record.overflow_newest = (
        everything[0].microseconds,
        max(record.overflow_newest, newest) if record.truncated else newest,
    )
    record.has_overflow = record.truncated or bool(beside)
    case.changes.drop_overflow.append(group)
    if record.has_overflow:
        case.changes.overflow += [
            (group, actor, SET, record.overflow_codec.encode(members)) for actor, members in fields.items()
        ]
    case.put(group, record)
    return True


def _readable(record: Record, actor: bytes, part: bytes) -> list[Member]:
    readable = []
    for member in record.overflow_codec.salvage(actor, part):
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
