"""The journal inside this process. Same operations, same results as on Redis."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from feedmill.storage.journal import (
    BELL,
    FANOUT,
    MESSAGE,
    MOST_LETTERS,
    REPLACING,
    ROLLING,
    STATUS_FIELDS,
    Begun,
    Claim,
    Claimed,
    DueFanouts,
    FanoutRecord,
    Journal,
    Letter,
    NotBegun,
    Opened,
    Overdue,
    Pace,
    Succession,
    lease,
    name_of,
)
from feedmill.storage.memory.auxiliary import last_number
from feedmill.storage.memory.data import DATA, atomic, journal_time, milliseconds


class Record(FanoutRecord, total=False):
    """The record of a fan-out, with its chunks."""

    #: The chunks that are not done, by number.
    chunks: dict[int, bytes]
    #: How often each was begun, and how often its worker was heard of again.
    begun: dict[int, int]
    lived: dict[int, int]


class MemoryJournal(Journal):
    """Records in dicts. Finished ones are kept as long as the process lives."""

    @atomic
    def open(
        self,
        manager: str,
        fanout_id: str,
        op: str,
        body: bytes,
        *,
        pace: Pace | None = None,
        feeds: Sequence[str] = (),
        succession: Succession = REPLACING,
        sent: bool = False,
    ) -> Opened:
        name_of(manager, fanout_id)
        was, now = _record(fanout_id) or Record(), journal_time()
        again = _number(was.get("again"))
        undone = "finished" not in was or "dead" in was or "again" in was
        absorbed = undone and was.get("op") in succession.absorbs
        op = succession.becomes if absorbed else op
        twice = "cancelled" in was or was.get("retried") or _number(was.get("attempts")) > 1
        if "claimed" in was and (twice or "finished" not in was):
            again = max(again, now + lease())
        DATA.letters.pop(was.get("dead", ""), None)
        record = Record(plan=_next_plan(_number(was.get("plan"))), op=op, manager=manager, body=body, created=now)
        record.update(Record(feeds=tuple(feeds), chunks={}, begun={}, lived={}))
        if again:
            record.update(Record(again=again, repeat_after=lease(), listed=was.get("listed", 0)))
        at: float = now
        if sent:
            at = now + lease() + 0.5
            record.update(Record(planned=1, complete=1, claimed=now, due=at, chunks={0: body}))
        elif pace is not None:
            bucket = f"{manager}:{pace.author}"
            level = DATA.buckets[bucket] = max(now, DATA.buckets.get(bucket, 0)) + pace.interval
            at = max(now, int(level - pace.interval * pace.burst))
        DATA.receipts[fanout_id], _due(manager)[fanout_id] = record, at
        return Opened(record["plan"], at <= now and _ring(manager), op)

    @atomic
    def claim(self, manager: str, limit: int, bell: str = "") -> Claimed:
        due, now = _due(manager), journal_time()
        DATA.bells.pop(manager, None)
        ids = sorted((at, name) for name, at in due.items() if at <= now)
        claims, held = [], now + lease() + 0.5
        newest = limit - limit // 2
        for _, name in ids if len(ids) <= limit else [*ids[: limit // 2], *ids[-newest:]]:
            record = _record(name)
            if record is None or ("finished" in record and "again" not in record):
                del due[name]
                continue
            due[name] = held
            claims.append(_claimed(name, record, f"{held:.1f}", now))
        return Claimed(claims, len(ids) > limit and _ring(manager))

    @atomic
    def wake_if_overdue(self, manager: str) -> Overdue:
        now = journal_time()
        count = sum(at <= now for at in _due(manager).values())
        return Overdue(count, count > 0 and _ring(manager))

    @atomic
    def renew(
        self, manager: str, claim: Claim, chunks: Mapping[int, bytes] | None = None, *, begins: bool = False
    ) -> Claim | None:
        record = _current(claim.id, claim.plan)
        moved = "" if record is None else _move(manager, claim.id, claim.time, lease())
        if record is None or not moved:
            return None
        if begins:
            record.update(Record(tried=claim.tries, deaths=claim.deaths + 1))
            if claim.deaths:
                record["error"] = claim.died()
        if chunks:
            record["chunks"].update(chunks)
            record["planned"] += len(chunks)
        return claim._replace(time=moved, marked=claim.marked or begins)

    @atomic
    def await_chunks(self, manager: str, claim: Claim, planned: int, delay: float, sent: int) -> None:
        record = _current(claim.id, claim.plan)
        moved = _move(manager, claim.id, claim.time, int(delay * 1000)) if record is not None else ""
        if moved and record is not None:
            record.update(Record(planned=planned, complete=1, due=float(moved), sent=sent, deaths=claim.deaths))
            _perhaps_finished(manager, claim.id, record)

    @atomic
    def chunks(self, claim: Claim, start: int, limit: int) -> dict[int, bytes]:
        held = (_current(claim.id, claim.plan) or Record(chunks={}))["chunks"]
        return {number: held[number] for number in sorted(each for each in held if each >= start)[:limit]}

    @atomic
    def begin_chunk(
        self, fanout_id: str, plan: int, chunk: int, feeds: Sequence[str] | None = None
    ) -> Begun | NotBegun:
        record = _current(fanout_id, plan)
        if record is None or chunk not in record["chunks"]:
            return NotBegun.DONE
        if feeds is not None and not set(_feeds(record)) <= set(feeds):
            return NotBegun.UNKNOWN_FEED
        times = record["begun"][chunk] = record["begun"].get(chunk, 0) + 1
        if times > 1:
            record["retried"] = record.get("retried", 0) + 1
        return Begun(times, record.get("listed", 0), max(0, times - 1 - record["lived"].get(chunk, 0)))

    @atomic
    def end_chunk(self, manager: str, fanout_id: str, plan: int, chunk: int, reached: int | None) -> None:
        record = _current(fanout_id, plan)
        if record is None:
            return
        if reached is None:
            if chunk in record["chunks"]:
                lived = record["lived"].get(chunk, 0) + 1
                record["lived"][chunk] = min(record["begun"].get(chunk, 0), lived)
            return
        if record["chunks"].pop(chunk, None) is not None:
            record.update(Record(done=record.get("done", 0) + 1, reached=record.get("reached", 0) + reached))
        _perhaps_finished(manager, fanout_id, record)

    @atomic
    def finish(self, manager: str, done: Sequence[tuple[Claim, int]]) -> None:
        for claim, reached in done:
            record = _current(claim.id, claim.plan)
            if record is None:  # another has it
                continue
            record.update(Record(planned=1, done=1, reached=reached, complete=1))
            if _move(manager, claim.id, claim.time, -1 if _finished(record) else 0):
                _due(manager)[claim.id] = record["again"] - 0.25

    @atomic
    def postpone(
        self, manager: str, claim: Claim, delay: float, *, error: str = "", waits: str = "", written: bool = False
    ) -> None:
        record = _current(claim.id, claim.plan)
        if record is None:
            return
        if error:
            record.update(Record(failed=record.get("failed", 0) + 1, error=error))
        else:
            record.update(Record(attempts=record["attempts"] - 1, waits=waits))
        if error or claim.marked:
            record.update(Record(tried=claim.tries if error else claim.tries - 1, deaths=claim.deaths))
        if not (error or written or claim.relisted or claim.planned):
            record.pop("listed", None)
        _move(manager, claim.id, claim.time, int(delay * 1000))

    @atomic
    def record_error(self, fanout_id: str, plan: int, error: str, *, skipped: int = 0) -> None:
        record = _current(fanout_id, plan)
        if record is not None:
            record["error"] = error
            record.update(Record(skipped=skipped) if skipped else Record(failed=record.get("failed", 0) + 1))

    @atomic
    def cancel(self, fanout_id: str, op: str = "") -> bool:
        record, now = _record(fanout_id), journal_time()
        if record is None or "finished" in record or op not in ("", record["op"]):
            return False
        record.update(Record(plan=_next_plan(record["plan"]), cancelled=now, finished=now, chunks={}))
        record.pop("again", None)
        _due(record["manager"]).pop(fanout_id, None)
        return True

    @atomic
    def get(self, fanout_id: str) -> dict[str, str]:
        found = (_record(fanout_id) or Record()).items()
        return {**{name: str(value) for name, value in found if name in STATUS_FIELDS}, "now": str(journal_time())}

    @atomic
    def list_due(self, manager: str, start: int = 0, limit: int = 0) -> DueFanouts:
        found = sorted(_due(manager).items(), key=lambda item: (item[1], item[0]))
        return DueFanouts(len(found), found[start : start + limit])

    @atomic
    def dead_letter(self, reason: str, payload: bytes, manager: str = "", claim: Claim | None = None) -> str:
        DATA.letter_number += 1
        name = f"{milliseconds()}-{DATA.letter_number}"
        kind, fanout_id = (MESSAGE, "") if claim is None else (FANOUT, claim.id)
        if claim is not None:
            record = _current(claim.id, claim.plan)
            if record is None:
                return ""
            record.update(Record(dead=name, finished=journal_time(), error=reason))
            _move(manager, claim.id, claim.time, -1)
        DATA.letters[name] = Letter(name, kind, reason, payload, manager, fanout_id)
        while len(DATA.letters) > MOST_LETTERS:
            del DATA.letters[next(iter(DATA.letters))]
        return name

    @atomic
    def dead_letters(self, limit: int, letter_id: str = "") -> list[Letter]:
        newest = list(DATA.letters.values())[::-1]
        return [each for each in newest if letter_id in ("", each.id)][:limit]

    @atomic
    def drop_dead_letters(self, ids: Sequence[str]) -> int:
        return sum(DATA.letters.pop(name, None) is not None for name in ids)


def _claimed(name: str, record: Record, held: str, now: int) -> Claim:
    complete = record.get("complete") == 1 and "finished" not in record
    tried = record.get("tried", 1 if complete and record.get("attempts") else 0)
    if complete:
        unsent = record.get("sent", record["planned"]) < record["planned"]
        if unsent or record.get("done", 0) != record.get("seen", 0):
            record.update(Record(seen=record.get("done", 0), attempts=0))
            tried = 0
            _forget(record, "tried", "deaths")
    else:
        if "finished" in record:
            counts: list[Any] = [record.get("planned", 0), record.get("done", 0), record.get("reached", 0)]
            record.setdefault("was", " ".join(map(str, counts)))
        record.update(Record(plan=_next_plan(record["plan"]), planned=0, done=0, reached=0, complete=0))
        record.update(Record(chunks={}, begun={}, lived={}))
        _forget(record, "sent", "skipped")
    record.update(Record(attempts=record.get("attempts", 0) + 1, claimed=now))
    relisted, listed = "listed" in record, record.setdefault("listed", last_number(record["manager"]))
    return Claim(
        *(name, held, record["plan"], record["op"], record["body"], record["planned"], record["attempts"]),
        sent=record.get("sent", record["planned"]),
        feeds=_feeds(record),
        waits="" if complete else record.get("waits", ""),
        listed=listed,
        tries=tried + 1,
        deaths=record.get("deaths", 0),
        relisted=relisted,
    )


def _forget(record: Any, *fields: str) -> None:
    for field in fields:
        record.pop(field, None)


def _number(value: Any) -> Any:
    """*value*, which a damaged record holds, as a number."""
    return value if isinstance(value, (int, float)) and 0 <= value < 9e15 else 0


def _next_plan(plan: int) -> int:
    return max(plan + 1, time.time_ns() // 1000)


def _due(manager: str) -> dict[str, float]:
    return DATA.due.setdefault(manager, {})


def _ring(manager: str) -> bool:
    """Whether a bell is to be sent; it then counts as on its way."""
    if DATA.bells.get(manager, 0) > journal_time():
        return False
    DATA.bells[manager] = journal_time() + BELL
    return True


def _feeds(record: Record) -> tuple[str, ...]:
    """The feeds that a worker must know to do it."""
    return record["feeds"] if record["created"] > journal_time() - ROLLING else ()


def _record(fanout_id: str) -> Record | None:
    found: Record | None = DATA.receipts.get(fanout_id)
    return found


def _current(fanout_id: str, plan: int) -> Record | None:
    record = _record(fanout_id)
    return record if record is not None and record["plan"] == plan else None


def _finished(record: Record) -> bool:
    """Mark *record* as finished; whether nothing is left to do."""
    record.setdefault("finished", journal_time())
    _forget(record, "was", "tried", "deaths")
    if record.get("again", 0) <= record["claimed"] and "repeat_after" in record:
        record["again"] = journal_time() + record.pop("repeat_after")
    if record.get("again", 0) > record["claimed"]:
        return False
    _forget(record, "again", "listed")
    return True


def _perhaps_finished(manager: str, fanout_id: str, record: Record) -> None:
    if record.get("complete") == 1 and record["planned"] == record.get("done", 0) and _finished(record):
        _move(manager, fanout_id, str(record["due"]), -1)


def _move(manager: str, fanout_id: str, held: str, delay: int) -> str:
    """Put a claim off or drop it; its new time, empty if it was dropped or lost."""
    due = _due(manager)
    if due.get(fanout_id) != float(held):
        return ""
    if delay < 0:
        del due[fanout_id]
        return ""
    due[fanout_id] = journal_time() + delay - 0.25
    return str(due[fanout_id])
