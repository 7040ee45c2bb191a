"""Records and ranks: every group has a record that can be read and an entry with the score that its aggregator gives."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from feedmill.activity import Activity
from feedmill.doctor.feed_case import Case
from feedmill.doctor.findings import Finding
from feedmill.errors import CorruptRecord, NewerRecord, UnknownVerb
from feedmill.ids import MAX_TIME
from feedmill.records.record import Record
from feedmill.worker.dead_letters import reason


def damaged_records(case: Case) -> Iterator[Finding]:
    """A group whose record or name cannot be read; it is dropped, which is what readers do already."""
    for group, stored in case.stored.records.items():
        where = f"{case.key} group {group!r}"
        try:
            record = case.serializer.decode(stored)
            _check(record, whole=case.serializer.whole)
            check_name(group)
        except NewerRecord as error:
            case.foreign.add(group)
            yield Finding("newer record", where, f"{error}; nothing of the group is touched", mendable=False)
        except (CorruptRecord, UnknownVerb) as error:
            unknown = error if isinstance(error, UnknownVerb) else error.__cause__
            if isinstance(unknown, UnknownVerb):
                yield foreign(case, group, where, unknown)
                continue
            yield Finding("damaged group", where, f"{error}; readers leave it out, --fix drops it")
            case.drop(group)
        else:
            case.records[group] = record


def decodable(case: Case) -> Iterator[Record]:
    """The records that can be read at all."""
    for stored in case.stored.records.values():
        with contextlib.suppress(CorruptRecord, UnknownVerb):
            yield case.serializer.decode(stored)


def check_name(group: bytes) -> None:
    """:class:`~feedmill.errors.CorruptRecord` for a name that no aggregator gives."""
    try:
        group.decode()
    except UnicodeDecodeError as error:
        raise CorruptRecord("its name is no text") from error


def _check(record: Record, *, whole: bool) -> None:
    """Look at every part of *record*: readers and writers decode what they need, and meet the rest one day."""
    if len(set(record.members)) < len(record.members):
        raise CorruptRecord("a member stands in it more than once")
    if record.members[-1].microseconds > MAX_TIME:
        raise CorruptRecord("a member is of a time that cannot be")
    if whole:
        for member in record.members:
            look_at(member.body)


def look_at(body: bytes) -> Activity:
    """Decode all of a packed activity; :class:`~feedmill.errors.CorruptRecord`, or an unknown verb."""
    activity = Activity.unpack(body)
    activity.raw_id, activity.extra_context  # noqa: B018  # both are worked out when they are asked for
    return activity


def foreign(case: Case, group: bytes, where: str, error: UnknownVerb) -> Finding:
    """The finding for a group that another application's verb is in; nothing of the group is touched."""
    case.foreign.add(group)
    return Finding("verb not registered", where, f"{error}; nothing of the group is touched", mendable=False)


def wrong_ranks(case: Case) -> Iterator[Finding]:
    """An entry without a record, a record without an entry, or one that stands at the wrong place."""
    for group in case.stored.scores:
        if group not in case.stored.records:
            yield Finding("entry without record", f"{case.key} group {group!r}", "it is listed and holds nothing")
            case.drop(group)
    for group, record in list(case.records.items()):
        where, held = f"{case.key} group {group!r}", case.stored.scores.get(group)
        if held is None:
            yield Finding("record without entry", where, "readers do not find it")
            case.put(group, record)
            continue
        try:
            score = case.score(group, record)
        except Exception as error:  # an app's own aggregator may raise anything
            name = case.feed_class.aggregator_class.__name__
            yield Finding("failing score", where, f"{name}.score: {reason(error)}; correct it", mendable=False)
            continue
        if score is not None and held != score:
            yield Finding("wrong rank", where, f"its score is {held!r}, and should be {score!r}")
            case.put(group, record)
