"""Records and ranks: every group has a record that can be read and an entry that says how new it is."""

from __future__ import annotations

from collections.abc import Iterator

from feedmill.doctor.case import Case
from feedmill.doctor.findings import Finding
from feedmill.errors import CorruptRecord, UnknownVerb


def damaged_records(case: Case) -> Iterator[Finding]:
    """A group whose record or name cannot be read; it is dropped, which is what readers do already."""
    for group, stored in case.stored.records.items():
        where = f"{case.key} group {group!r}"
        try:
            record = case.serializer.decode(stored)
            group.decode()
        except (CorruptRecord, UnicodeDecodeError) as error:
            if isinstance(error.__cause__, UnknownVerb):
                hint = "name the module that registers it in FEEDMILL_MODULES; nothing of the group is touched"
                case.foreign.add(group)
                yield Finding("verb not registered", where, f"{error.__cause__}; {hint}", mendable=False)
                continue
            yield Finding("damaged group", where, f"{error}; readers leave it out, --fix drops it")
            case.drop(group)
        else:
            case.records[group] = record


def wrong_ranks(case: Case) -> Iterator[Finding]:
    """An entry without a record, a record without an entry, or one that stands at the wrong place."""
    for group in case.stored.scores:
        if group not in case.stored.records:
            yield Finding("entry without record", f"{case.key} group {group!r}", "it is listed and holds nothing")
            case.drop(group)
    for group, record in list(case.records.items()):
        score = case.stored.scores.get(group)
        if score is None:
            yield Finding("record without entry", f"{case.key} group {group!r}", "readers do not find it")
            case.put(group, record)
        elif score != record.updated:
            text = f"it is ranked by {score:.0f}, and its newest member is of {record.updated}"
            yield Finding("wrong rank", f"{case.key} group {group!r}", text)
            case.put(group, record)
