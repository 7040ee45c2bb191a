"""The journal's bookkeeping: an open fan-out will be looked at, and what will be looked at is there."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from feedmill.doctor.report import Finding
from feedmill.errors import FeedmillError
from feedmill.fanout import publisher
from feedmill.fanout.operations import OPERATIONS, PLANNED
from feedmill.keys import chunks_key, fanout_record_key, is_fanout_name, split_fanout
from feedmill.registry import get_manager, manager_names
from feedmill.storage.journal import NUMBERS, OPEN_TTL
from feedmill.storage.maintenance import HASH
from feedmill.storage.operations import Steps, together
from feedmill.storage.registry import backend
from feedmill.worker import drain
from feedmill.worker.dead_letters import content, is_dead_letter_id

#: Seconds for which a fan-out record that was just written may stand alone, and a fan-out wait for a worker.
YOUNG, OVERDUE_AFTER = 5.0, 60.0
#: And what hooks are to be told.
UNTOLD_AFTER = 600.0
#: Entries of what is due that are read in one round trip, and dead letters that are looked at.
PIECE, DEAD_LETTERS = 500, 1000
#: Takes findings, and what fixes them.
Tell = Callable[[Sequence[Finding], Steps[Any] | None], bool]
FanoutRecord = Mapping[str, bytes]


def _run(operation: Steps[Any]) -> Any:
    return backend().run(operation)


def overdue_fanouts(managers: Iterable[str], fix: bool, tell: Callable[[Finding, bool], None]) -> None:
    """Fan-outs that no worker looks at; with *fix* they are done, or cut into chunks and sent, from here."""
    for name in managers:
        count = left = _overdue(name)
        while fix and left:
            drain.drain(name)
            before, left = left, _overdue(name)
            if left >= before:
                break
        if count:
            text = f"{count:,} fan-outs are overdue by more than {OVERDUE_AFTER:.0f} s; check that workers and one celery beat are running"
            tell(Finding("overdue fan-outs", name, text), fix and not left)


def untold_hooks(managers: Iterable[str], tell: Callable[[Finding, bool], None]) -> None:
    """What hooks should have been told long ago."""
    for name in managers:
        if get_manager(name).told_hooks and (count := _run(backend().auxiliary.hook_queue.overdue(name, UNTOLD_AFTER))):
            text = (
                f"{count:,} lists hold what hooks of {name} should have been told more than {UNTOLD_AFTER / 60:.0f} minutes ago; check that a"
                f" worker listens on {publisher.HOOKS_QUEUE}"
            )
            tell(Finding("untold hooks", name, text, fixable=False), False)


def _overdue(manager: str) -> int:
    return backend().run(backend().maintenance.overdue(manager, OVERDUE_AFTER))


def due_without_record(managers: Iterable[str], tell: Tell) -> None:
    """Entries of what is due that lead nowhere, or that nobody will live to see."""
    for manager in managers:
        start, missing, late = 0, list[tuple[str, str]](), list[str]()
        while found := _run(backend().journal.list_due(manager, start, PIECE)).entries:
            flaws = _run(_leads_nowhere([name for name, _ in found]))
            missing += [(name, flaw) for (name, _), flaw in zip(found, flaws) if flaw]
            latest = (time.time() + OPEN_TTL) * 1000
            late += [name for (name, at), flaw in zip(found, flaws) if not flaw and at > latest]
            start += len(found)
        for name, flaw in missing:
            finding = Finding("due without record", f"fan-out {readable(name)} of {manager}", flaw)
            tell([finding], backend().maintenance.due_drop(manager, name))
        for name in late:
            text = "it becomes due only after its record has expired; --fix makes it due now"
            finding = Finding("due too late", f"fan-out {name} of {manager}", text)
            tell([finding], backend().maintenance.due_put(manager, name))


def _leads_nowhere(ids: Sequence[str]) -> Steps[list[str]]:
    """What is wrong with each entry of what is due; empty for one that leads to a fan-out record."""
    sound = [name for name in ids if is_fanout_name(split_fanout(name)[1])]
    types = yield from backend().maintenance.types([fanout_record_key(name).encode() for name in sound])
    held = dict(zip(sound, types))
    flaws = {
        HASH: "",
        "none": "its record does not exist: the fan-out is over, or the server has evicted or expired the record",
        "": "this is not the name of a fan-out",
    }
    return [flaws.get(held.get(name, ""), f"its record is a {held.get(name)}, not a hash") for name in ids]


def readable(name: str) -> str:
    """*name*, whatever bytes it was made of."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def work_of_unknown_managers(found: Iterable[tuple[bytes, str]], tell: Tell) -> None:
    """What is due (key, manager) of managers that are not known here, and that nobody looks at."""
    for key, manager in found:
        if manager in manager_names():
            continue
        if count := _overdue(manager):
            text = (
                f"{count:,} fan-outs of {manager} are overdue by more than {OVERDUE_AFTER:.0f} s, and this process does not know"
                f" the manager: name its module in FEEDMILL_MODULES; if its class was renamed, set `name = {manager!r}` on it;"
                " if it was removed for good, delete this key, which discards the fan-outs"
            )
            tell([Finding("work of an unknown manager", key.decode(errors="replace"), text, fixable=False)], None)


def check_fanout_records(ids: Sequence[str], managers: Sequence[str], tell: Tell) -> None:
    """Fan-out records that cannot be read, and open ones of *managers* that nobody will look at."""
    for name, record in zip(ids, _run(backend().maintenance.fanout_records(ids)) if ids else ()):
        flaw = _flaw(record) if record else ""
        if flaw:
            text = f"{flaw}; --fix restarts it if the record still says what to do, and otherwise sets the record aside"
            tell([Finding("damaged fan-out record", f"fan-out {name}", text)], _begin_anew(name, record, managers))
            continue
        manager = split_fanout(name)[0]
        if record and manager in managers and _run(_forgotten(name, manager, record)):
            finding = Finding(
                "forgotten fan-out", f"fan-out {name} of {manager}", "it is not finished, and no worker will process it"
            )
            tell([finding], backend().maintenance.due_put(manager, name))
        elif record.get("dead") and _run(_outlives_its_dead_letter(name, record["dead"].decode())):
            text = "its dead letter no longer exists, and the record has no expiry time; --fix sets one"
            forget = backend().maintenance.forget(fanout_record_key(name), OPEN_TTL)
            tell([Finding("record without dead letter", f"fan-out {name}", text)], forget)


def chunks_without_record(ids: Sequence[str], tell: Tell) -> None:
    """Chunks of a fan-out that is not there."""
    held = _run(backend().maintenance.types([fanout_record_key(name).encode() for name in ids])) if ids else ()
    for name, kind in zip(ids, held):
        if kind == "none":
            finding = Finding(
                "chunks without record", chunks_key(name), "they belong to no fan-out, so no worker will process them"
            )
            tell([finding], backend().maintenance.forget(chunks_key(name)))


def damaged_dead_letters(tell: Tell) -> int:
    """Dead letters that cannot be read; how many there are that can, as far as was looked."""
    good = 0
    for dead_letter in _run(backend().journal.dead_letters(DEAD_LETTERS)):
        try:
            content(dead_letter)
        except FeedmillError as error:
            finding = Finding("damaged dead letter", f"dead letter {dead_letter.id}", f"{error}; --fix drops it")
            tell([finding], backend().journal.delete_dead_letters([dead_letter.id]))
        else:
            good += 1
    return good


def _flaw(record: FanoutRecord) -> str:
    """What makes no sense in *record*."""
    try:
        known = {name: value.decode() for name, value in record.items()}
    except UnicodeDecodeError:
        return "it holds bytes that are no text"
    if known.get("op") not in OPERATIONS:
        return f"its operation is {known.get('op')!r}, which does not exist"
    if not known.get("manager"):
        return "it names no manager"
    for name in NUMBERS:
        if not record.get(name, b"0").isdigit() or len(record.get(name, b"")) > 16:
            return f"its {name} is {record[name][:20]!r}, not a number"
    if not re.fullmatch(r"[0-9]+\.?[0-9]*", known.get("rerun_at", "0")):
        return f"its rerun_at is {record['rerun_at'][:20]!r}, not a time"
    if known.get("fully_planned") == "1" and "planned" not in known:
        return "all its chunks are written down, and it does not say how many"
    return (
        ""
        if "generation" in known and "created" in known
        else "its generation or the time when it was opened is missing"
    )


def _forgotten(name: str, manager: str, record: FanoutRecord) -> Steps[bool]:
    """Whether an open fan-out is not among what is due; looked at once more in case it was finished meanwhile."""
    if "finished" in record or int(record["created"]) / 1000 > time.time() - YOUNG:
        return False
    at = yield from backend().maintenance.due_at(manager, name)
    if at is not None:
        return False
    (again,) = yield from backend().maintenance.fanout_records([name])
    return "finished" not in again and again.get("created") == record["created"]


def _outlives_its_dead_letter(name: str, dead_letter: str) -> Steps[bool]:
    """Whether the fan-out record of what was given up stays without a dead letter; looked at once more in case it was dropped meanwhile."""
    if not is_dead_letter_id(dead_letter) or not (yield from backend().journal.dead_letters(1, dead_letter)):
        (again,) = yield from backend().maintenance.fanout_records([name])
        (expires,) = yield from backend().maintenance.expires([fanout_record_key(name)])
        return not expires and again.get("dead") == dead_letter.encode()
    return False


def _begin_anew(name: str, record: FanoutRecord, managers: Iterable[str]) -> Steps[None]:
    """Open the fan-out again with what its record still says; everything of it may be done twice. What says too little goes."""
    (whole,) = yield from backend().maintenance.fanout_records([name], body=True)
    body = whole.get("body", b"")
    manager, op = split_fanout(name)[0], record.get("op", b"").decode(errors="replace")
    if body and manager in managers and op in OPERATIONS:
        succession, sent = OPERATIONS[op].succession, op not in PLANNED
        tells = "on_fanout_finished" in get_manager(manager).told_hooks
        yield from backend().journal.open(
            manager, name, op, body, succession=succession, sent=sent, tells=tells, trace=None
        )
        return
    yield from backend().maintenance.due_drop(manager, name)
    yield from backend().maintenance.set_aside(fanout_record_key(name), "none")
    yield from together([backend().maintenance.forget(key) for key in (fanout_record_key(name), chunks_key(name))])
