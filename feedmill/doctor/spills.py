"""Spills: each belongs to a group that says so, can be read, and names as many actors as the group counts."""

from __future__ import annotations

from collections.abc import Iterator

from feedmill.doctor.case import Case
from feedmill.doctor.findings import Finding
from feedmill.doctor.records import foreign, look_at
from feedmill.errors import CorruptRecord, UnknownVerb
from feedmill.ids import id_microseconds
from feedmill.keys import GROUPS
from feedmill.serializers.records import Member, Record, decode_spill, encode_spill
from feedmill.storage.base import SET


def wrong_spills(case: Case) -> Iterator[Finding]:
    """A spill that no group has, or that does not fit the group's counts; what it names is counted anew."""
    for group, actors in case.stored.spills.items():
        where = f"{case.key}{GROUPS}:{group.decode(errors='backslashreplace')}"
        record = case.records.get(group)
        if record is None or not record.spilled:
            if actors and group not in case.foreign:
                yield Finding("orphaned spill", where, "spilled members that no group has")
                case.changes.unspill.append(group)
                case.mends = True
        elif group in case.spills:
            try:
                recounted = _recount(case, group, record)
            except UnknownVerb as error:
                yield foreign(case, group, where, error)
                continue
            if recounted:
                yield Finding("damaged spill", where, "its members do not add up to what the group counts")
        elif actors != record.actors:
            yield Finding("damaged spill", where, f"it names {actors} actors, and its group counts {record.actors}")
            case.wanted.append(group)


def _recount(case: Case, group: bytes, record: Record) -> bool:
    """Make the group and its spill agree, from what of both can be read; whether that changed anything."""
    held = {member.raw_id for member in record.members}
    spilled: dict[bytes, list[Member]] = {member.actor: [] for member in record.members}
    for actor, data in case.spills[group].items():
        members = [member for member in _readable(case, actor, data) if member.raw_id not in held]
        if members:
            spilled[actor] = members
    everything = [member for members in spilled.values() for member in members]
    fields = {actor: encode_spill(members) for actor, members in spilled.items()}
    count, actors = len(held) + len(everything), len(spilled)
    if fields == case.spills[group] and (count, actors) == (record.count, record.actors):
        return False
    case.changes.unspill.append(group)
    record.count, record.actors, record.spilled = count, actors, bool(everything)
    record.top = max((id_microseconds(member.raw_id) for member in everything), default=0)
    if everything:
        case.changes.spill += [(group, actor, SET, data) for actor, data in fields.items()]
    else:
        record.holding(record.members)
    case.put(group, record)
    return True


def _readable(case: Case, actor: bytes, data: bytes) -> list[Member]:
    try:
        members = decode_spill(actor, data)
        if case.serializer.whole:
            for member in members:
                look_at(member.body)
    except CorruptRecord:
        return []
    return members
