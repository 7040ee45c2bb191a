"""The journal's bookkeeping: an open fan-out will be looked at, and what will be looked at is there."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from feedmill.doctor.report import Finding
from feedmill.errors import FeedmillError
from feedmill.fanout.operations import OPERATIONS, PLANNED
from feedmill.keys import chunks_key, is_fanout_name, receipt_key, split_fanout
from feedmill.registry import manager_names
from feedmill.storage.journal import NUMBERS, OPEN_TTL
from feedmill.storage.maintenance import HASH
from feedmill.storage.operations import Steps, together
from feedmill.storage.registry import backend
from feedmill.worker import drain
from feedmill.worker.dead_letters import content, is_letter_id

#: Seconds for which a receipt that was just written may stand alone, and a fan-out wait for a worker.
YOUNG, PATIENCE = 5.0, 60.0
#: Entries of what is due that are read in one round trip, and dead letters that are looked at.
PIECE, LETTERS = 500, 1000
#: Takes findings, and what mends them.
Tell = Callable[[Sequence[Finding], Steps[Any] | None], None]
Receipt = Mapping[str, bytes]


def _run(operation: Steps[Any]) -> Any:
    return backend().run(operation)


def overdue_fanouts(managers: Iterable[str], fix: bool, tell: Callable[[Finding, bool], None]) -> None:
    """Fan-outs that no worker looks at; with *fix* they are done, or cut into chunks and sent, from here."""
    for name in managers:
        count = left = _overdue(name)
        while fix and left:
            drain.answer(name)
            before, left = left, _overdue(name)
            if left >= before:
                break
        if count:
            text = f"{count:,} wait for longer than {PATIENCE:.0f} s; are workers running, and one celery beat?"
            tell(Finding("overdue fan-outs", name, text), fix and not left)


def _overdue(manager: str) -> int:
    return backend().run(backend().maintenance.overdue(manager, PATIENCE))


def due_without_receipt(managers: Iterable[str], tell: Tell) -> None:
    """Entries of what is due that lead nowhere, or that nobody will live to see."""
    for manager in managers:
        start, gone, late = 0, list[tuple[str, str]](), list[str]()
        while found := _run(backend().journal.list_due(manager, start, PIECE)).entries:
            flaws = _run(_leads_nowhere([name for name, _ in found]))
            gone += [(name, flaw) for (name, _), flaw in zip(found, flaws) if flaw]
            latest = (time.time() + OPEN_TTL) * 1000
            late += [name for (name, at), flaw in zip(found, flaws) if not flaw and at > latest]
            start += len(found)
        for name, flaw in gone:
            finding = Finding("due without receipt", f"fan-out {readable(name)} of {manager}", flaw)
            tell([finding], backend().maintenance.due_drop(manager, name))
        for name in late:
            text = "it is to be looked at when its receipt has expired; --fix has it done now"
            finding = Finding("due too late", f"fan-out {name} of {manager}", text)
            tell([finding], backend().maintenance.due_put(manager, name))


def _leads_nowhere(ids: Sequence[str]) -> Steps[list[str]]:
    """What is wrong with each entry of what is due; empty for one that leads to a receipt."""
    sound = [name for name in ids if is_fanout_name(split_fanout(name)[1])]
    types = yield from backend().maintenance.types([receipt_key(name).encode() for name in sound])
    held = dict(zip(sound, types))
    flaws = {
        HASH: "",
        "none": "its receipt is gone: it is over, or a server that evicts or expires took what it was about",
        "": "that names no fan-out",
    }
    return [flaws.get(held.get(name, ""), f"its receipt is none, but a {held.get(name)}") for name in ids]


def readable(name: str) -> str:
    """*name*, whatever bytes it was made of."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def work_of_strangers(found: Iterable[tuple[bytes, str]], tell: Tell) -> None:
    """What is due (key, manager) of managers that are not known here, and that nobody looks at."""
    for key, manager in found:
        if manager in manager_names():
            continue
        if count := _overdue(manager):
            text = (
                f"{count:,} fan-outs of {manager} wait for longer than {PATIENCE:.0f} s, and it is not known here: name its"
                f" module in FEEDMILL_MODULES; if its class has another name now, give it `name = {manager!r}`;"
                " if it is gone for good, delete this key: that drops them"
            )
            tell([Finding("work of an unknown manager", key.decode(errors="replace"), text, mendable=False)], None)


def check_receipts(ids: Sequence[str], managers: Sequence[str], tell: Tell) -> None:
    """Receipts that cannot be read, and open ones of *managers* that nobody will look at."""
    for name, receipt in zip(ids, _run(backend().maintenance.receipts(ids)) if ids else ()):
        flaw = _flaw(receipt) if receipt else ""
        if flaw:
            text = f"{flaw}; --fix begins it anew if it says what it is about, else sets its receipt aside"
            tell([Finding("damaged receipt", f"fan-out {name}", text)], _begin_anew(name, receipt, managers))
            continue
        manager = split_fanout(name)[0]
        if receipt and manager in managers and _run(_forgotten(name, manager, receipt)):
            finding = Finding("forgotten fan-out", f"fan-out {name} of {manager}", "it is open, and nobody looks at it")
            tell([finding], backend().maintenance.due_put(manager, name))
        elif receipt.get("dead") and _run(_outlives_its_letter(name, receipt["dead"].decode())):
            text = "its dead letter is gone, and it is kept for ever; --fix lets it expire"
            forget = backend().maintenance.forget(receipt_key(name), OPEN_TTL)
            tell([Finding("receipt without letter", f"fan-out {name}", text)], forget)


def chunks_without_receipt(ids: Sequence[str], tell: Tell) -> None:
    """Chunks of a fan-out that is not there."""
    held = _run(backend().maintenance.types([receipt_key(name).encode() for name in ids])) if ids else ()
    for name, kind in zip(ids, held):
        if kind == "none":
            finding = Finding(
                "chunks without receipt", chunks_key(name), "they belong to no fan-out, and nobody does them"
            )
            tell([finding], backend().maintenance.forget(chunks_key(name)))


def damaged_letters(tell: Tell) -> int:
    """Dead letters that cannot be read; how many there are that can, as far as was looked."""
    good = 0
    for letter in _run(backend().journal.dead_letters(LETTERS)):
        try:
            content(letter)
        except FeedmillError as error:
            finding = Finding("damaged letter", f"dead letter {letter.id}", f"{error}; --fix drops it")
            tell([finding], backend().journal.drop_dead_letters([letter.id]))
        else:
            good += 1
    return good


def _flaw(receipt: Receipt) -> str:
    """What makes no sense in *receipt*."""
    try:
        known = {name: value.decode() for name, value in receipt.items()}
    except UnicodeDecodeError:
        return "it holds bytes that are no text"
    if known.get("op") not in OPERATIONS:
        return f"it asks for {known.get('op')!r}, which nobody can do"
    if not known.get("manager"):
        return "it names no manager"
    for name in NUMBERS:
        if not receipt.get(name, b"0").isdigit() or len(receipt.get(name, b"")) > 16:
            return f"its {name} is {receipt[name][:20]!r}, not a number"
    if not re.fullmatch(r"[0-9]+\.?[0-9]*", known.get("again", "0")):
        return f"it is to be done again at {receipt['again'][:20]!r}, which is no time"
    if known.get("complete") == "1" and "planned" not in known:
        return "all its chunks are written down, and it does not say how many"
    return "" if "plan" in known and "created" in known else "it lacks its plan or when it was made"


def _forgotten(name: str, manager: str, receipt: Receipt) -> Steps[bool]:
    """Whether an open fan-out is not among what is due; looked at once more in case it was finished meanwhile."""
    if "finished" in receipt or int(receipt["created"]) / 1000 > time.time() - YOUNG:
        return False
    at = yield from backend().maintenance.due_at(manager, name)
    if at is not None:
        return False
    (again,) = yield from backend().maintenance.receipts([name])
    return "finished" not in again and again.get("created") == receipt["created"]


def _outlives_its_letter(name: str, letter: str) -> Steps[bool]:
    """Whether the receipt of what was given up stays without a letter; looked at once more in case it was dropped meanwhile."""
    if not is_letter_id(letter) or not (yield from backend().journal.dead_letters(1, letter)):
        (again,) = yield from backend().maintenance.receipts([name])
        (expires,) = yield from backend().maintenance.expire([receipt_key(name)])
        return not expires and again.get("dead") == letter.encode()
    return False


def _begin_anew(name: str, receipt: Receipt, managers: Iterable[str]) -> Steps[None]:
    """Open the fan-out again with what its receipt still says; everything of it may be done twice. What says too little goes."""
    (whole,) = yield from backend().maintenance.receipts([name], body=True)
    body = whole.get("body", b"")
    manager, op = split_fanout(name)[0], receipt.get("op", b"").decode(errors="replace")
    if body and manager in managers and op in OPERATIONS:
        succession, sent = OPERATIONS[op].succession, op not in PLANNED
        yield from backend().journal.open(manager, name, op, body, succession=succession, sent=sent)
        return
    yield from backend().maintenance.due_drop(manager, name)
    yield from backend().maintenance.set_aside(receipt_key(name), "none")
    yield from together([backend().maintenance.forget(key) for key in (receipt_key(name), chunks_key(name))])
