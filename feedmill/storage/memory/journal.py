"""The journal inside this process. Same operations, same results as on Redis."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from feedmill import settings
from feedmill.ids import EntityId
from feedmill.keys import ended_key, split_fanout
from feedmill.storage.hook_queue import CANCELLED, DEAD_LETTER, DONE, ENDED_FIELDS, MOST_ENDED, REPLACED
from feedmill.storage.journal import (
    FANOUT,
    HOOK,
    MAX_DEAD_LETTERS,
    MESSAGE,
    REPLACING,
    ROLLING,
    STATUS_FIELDS,
    WAKEUP_TTL,
    Begun,
    Claim,
    Claimed,
    DeadLetter,
    DueFanouts,
    FanoutRecord,
    Journal,
    NotBegun,
    Opened,
    Overdue,
    Progress,
    RateLimit,
    Succession,
    lease,
    name_of,
)
from feedmill.storage.memory.auxiliary import last_number
from feedmill.storage.memory.data import DATA, atomic, journal_time, milliseconds
from feedmill.storage.memory.hook_queue import put

#: Fan-outs that are opened at least between two looks for finished ones.
FORGET_EVERY = 50


class Record(FanoutRecord, total=False):
    """The record of a fan-out, with its chunks."""

    #: The chunks that are not done, by number.
    chunks: dict[int, bytes]
    #: How often each was begun, and how often its worker was heard of again.
    begun: dict[int, int]
    survived: dict[int, int]


class MemoryJournal(Journal):
    """Records in dicts. Those of finished fan-outs are looked for now and then, and forgotten when their time is over."""

    @atomic
    def open(
        self,
        manager: str,
        fanout_id: str,
        op: str,
        body: bytes,
        *,
        rate_limit: RateLimit | None = None,
        feeds: Sequence[str] = (),
        succession: Succession = REPLACING,
        sent: bool = False,
        tells: bool = False,
        trace: str | None = "",
    ) -> Opened:
        name_of(manager, fanout_id)
        was, now = _record(fanout_id) or Record(), journal_time()
        DATA.opened += 1
        if DATA.opened > max(FORGET_EVERY, len(DATA.fanout_records) // 2):
            DATA.opened = 0
            _forget_finished(now - settings.current().receipt_ttl * 1000)
        rerun_at = _number(was.get("rerun_at"))
        undone = "finished" not in was or "dead" in was or "rerun_at" in was
        absorbed = undone and was.get("op") in succession.absorbs
        op = succession.becomes if absorbed else op
        again = "alone" not in was and (was.get("retried") or _number(was.get("attempts")) > 1)
        running = "finished" not in was or "previous_progress" in was
        if "claimed" in was and ("cancelled" in was or again or running):
            rerun_at = max(rerun_at, now + lease())
        if was and "finished" not in was:
            _tell(fanout_id, was, REPLACED)
        DATA.dead_letters.pop(was.get("dead", ""), None)
        record = Record(
            generation=_next_generation(_number(was.get("generation"))), op=op, manager=manager, body=body, created=now
        )
        record.update(Record(feeds=tuple(feeds), chunks={}, begun={}, survived={}))
        record.update(Record(tells=1) if tells else {})
        trace = was.get("trace", "") if trace is None else trace
        record.update(Record(trace=trace) if trace else {})
        if rerun_at:
            record.update(
                Record(rerun_at=rerun_at, repeat_after=lease(), audience_read_at=was.get("audience_read_at", 0))
            )
        at: float = now
        if sent:
            at = now + lease() + 0.5
            record.update(Record(planned=1, fully_planned=1, claimed=now, due=at, chunks={0: body}))
        elif rate_limit is not None:
            bucket = f"{manager}:{rate_limit.author}"
            level = DATA.buckets[bucket] = max(now, DATA.buckets.get(bucket, 0)) + rate_limit.interval
            at = max(now, int(level - rate_limit.interval * rate_limit.burst))
        DATA.fanout_records[fanout_id], _due(manager)[fanout_id] = record, at
        return Opened(record["generation"], at <= now and _wake(manager), op)

    @atomic
    def claim(self, manager: str, limit: int, wakeup_id: str = "") -> Claimed:
        due, now = _due(manager), journal_time()
        DATA.wakeups.pop(manager, None)
        ids = sorted((at, name) for name, at in due.items() if at <= now)
        claims, held = [], now + lease() + 0.5
        newest = limit - limit // 2
        for _, name in ids if len(ids) <= limit else [*ids[: limit // 2], *ids[-newest:]]:
            record = _record(name)
            if record is None or ("finished" in record and "rerun_at" not in record):
                del due[name]
                continue
            due[name] = held
            claims.append(_claimed(name, record, f"{held:.1f}", now))
        return Claimed(claims, len(ids) > limit and _wake(manager))

    @atomic
    def wake_if_overdue(self, manager: str) -> Overdue:
        now = journal_time()
        count = sum(at <= now for at in _due(manager).values())
        return Overdue(count, count > 0 and _wake(manager))

    @atomic
    def renew(
        self, manager: str, claim: Claim, chunks: Mapping[int, bytes] | None = None, *, begins: bool = False
    ) -> Claim | None:
        record = _current(claim.id, claim.generation)
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
    def await_chunks(self, manager: str, claim: Claim, planned: int, delay: float, sent: int) -> Progress | None:
        record = _current(claim.id, claim.generation)
        moved = _move(manager, claim.id, claim.time, int(delay * 1000)) if record is not None else ""
        if record is None or not moved:
            return None
        record.update(Record(planned=planned, fully_planned=1, due=float(moved), sent=sent, deaths=claim.deaths))
        ended = _perhaps_finished(manager, claim.id, record)
        return _progress(record, counted=False, ended=ended)

    @atomic
    def chunks(self, claim: Claim, start: int, limit: int) -> dict[int, bytes]:
        held = (_current(claim.id, claim.generation) or Record(chunks={}))["chunks"]
        return {number: held[number] for number in sorted(each for each in held if each >= start)[:limit]}

    @atomic
    def begin_chunk(
        self, fanout_id: str, generation: int, chunk: int, feeds: Sequence[str] | None = None
    ) -> Begun | NotBegun:
        record = _current(fanout_id, generation)
        if record is None or chunk not in record["chunks"]:
            return NotBegun.DONE
        if feeds is not None and not set(_feeds(record)) <= set(feeds):
            return NotBegun.UNKNOWN_FEED
        times = record["begun"][chunk] = record["begun"].get(chunk, 0) + 1
        if times > 1:
            record["retried"] = record.get("retried", 0) + 1
            _forget(record, "alone")
        deaths = max(0, times - 1 - record["survived"].get(chunk, 0))
        facts = record.get("audience_read_at", 0), deaths, record["chunks"][chunk], record.get("trace", "")
        return Begun(times, *facts)

    @atomic
    def end_chunk(
        self, manager: str, fanout_id: str, generation: int, chunk: int, reached: int | None
    ) -> Progress | None:
        record = _current(fanout_id, generation)
        if record is None:
            return None
        if reached is None:
            if chunk in record["chunks"]:
                survived = record["survived"].get(chunk, 0) + 1
                record["survived"][chunk] = min(record["begun"].get(chunk, 0), survived)
            return None
        first = record["chunks"].pop(chunk, None) is not None
        if first:
            record.update(Record(done=record.get("done", 0) + 1, reached=record.get("reached", 0) + reached))
        counted = first and "finished" not in record
        ended = _perhaps_finished(manager, fanout_id, record)
        return _progress(record, counted=counted, ended=ended)

    @atomic
    def finish(self, manager: str, done: Sequence[tuple[Claim, int]]) -> list[int]:
        ages = []
        for claim, reached in done:
            record = _current(claim.id, claim.generation)
            if record is None:  # another has it
                ages.append(-1)
                continue
            record.update(Record(planned=1, done=1, reached=reached, fully_planned=1))
            first = _conclude(manager, claim.id, claim.time, record)
            ages.append(journal_time() - record["created"] if first else -1)
        return ages

    @atomic
    def postpone(
        self,
        manager: str,
        claim: Claim,
        delay: float,
        *,
        error: str = "",
        waiting_queue: str = "",
        written: bool = False,
    ) -> None:
        record = _current(claim.id, claim.generation)
        if record is None:
            return
        failed = bool(error) and not written
        if error:
            record["error"] = error
        if failed:
            record["failed"] = record.get("failed", 0) + 1
        else:
            record.update(Record(attempts=max(0, record["attempts"] - 1), waiting_queue=waiting_queue))
        if failed or claim.marked:
            record.update(Record(tried=claim.tries if failed else claim.tries - 1, deaths=claim.deaths))
        if not (error or written or claim.relisted or claim.planned):
            record.pop("audience_read_at", None)
        _move(manager, claim.id, claim.time, int(delay * 1000))

    @atomic
    def record_error(self, fanout_id: str, generation: int, error: str, *, skipped: int = 0) -> None:
        record = _current(fanout_id, generation)
        if record is not None:
            record["error"] = error
            record.update(Record(skipped=skipped) if skipped else Record(failed=record.get("failed", 0) + 1))

    @atomic
    def cancel(self, fanout_id: str, op: str = "") -> bool:
        record, now = _record(fanout_id), journal_time()
        if record is None or "finished" in record or op not in ("", record["op"]):
            return False
        record.update(Record(generation=_next_generation(record["generation"]), cancelled=now, finished=now, chunks={}))
        record.pop("rerun_at", None)
        _due(record["manager"]).pop(fanout_id, None)
        _tell(fanout_id, record, CANCELLED)
        return True

    @atomic
    def get(self, fanout_id: str) -> dict[str, str]:
        found = (_record(fanout_id) or Record()).items()
        return {**{name: str(value) for name, value in found if name in STATUS_FIELDS}, "now": str(journal_time())}

    @atomic
    def traces(self, fanout_ids: Sequence[str]) -> list[str]:
        return [(_record(each) or Record()).get("trace", "") for each in fanout_ids]

    @atomic
    def forget(self, manager: str, author: EntityId, fanout_ids: Sequence[str]) -> None:
        DATA.buckets.pop(f"{manager}:{author}", None)
        for each in fanout_ids:
            if (record := _record(each)) is not None:
                record.pop("error", None)

    @atomic
    def list_due(self, manager: str, start: int = 0, limit: int = 0) -> DueFanouts:
        found = sorted(_due(manager).items(), key=lambda item: (item[1], item[0]))
        return DueFanouts(len(found), found[start : start + limit])

    @atomic
    def sample_chunks(self, fanout_id: str, limit: int) -> list[bytes]:
        record = _record(fanout_id)
        return [] if record is None else list(record.get("chunks", {}).values())[:limit]

    @atomic
    def record_sweep(self) -> None:
        DATA.swept = journal_time()

    @atomic
    def last_sweep(self) -> float | None:
        return None if DATA.swept is None else (journal_time() - DATA.swept) / 1000

    @atomic
    def dead_letter(self, reason: str, payload: bytes, manager: str = "", claim: Claim | None = None) -> str:
        DATA.dead_letter_number += 1
        name = f"{milliseconds()}-{DATA.dead_letter_number}"
        kind, fanout_id = (HOOK if manager else MESSAGE, "") if claim is None else (FANOUT, claim.id)
        if claim is not None:
            record = _current(claim.id, claim.generation)
            if record is None:
                return ""
            record.update(Record(dead=name, finished=journal_time(), error=reason))
            _tell(claim.id, record, DEAD_LETTER)
            _move(manager, claim.id, claim.time, -1)
        DATA.dead_letters[name] = DeadLetter(name, kind, reason, payload, manager, fanout_id)
        while len(DATA.dead_letters) > MAX_DEAD_LETTERS:
            del DATA.dead_letters[next(iter(DATA.dead_letters))]
        return name

    @atomic
    def dead_letters(self, limit: int, dead_letter_id: str = "") -> list[DeadLetter]:
        newest = list(DATA.dead_letters.values())[::-1]
        return [each for each in newest if dead_letter_id in ("", each.id)][:limit]

    @atomic
    def count_dead_letters(self) -> int:
        return len(DATA.dead_letters)

    @atomic
    def delete_dead_letters(self, ids: Sequence[str]) -> int:
        return sum(DATA.dead_letters.pop(name, None) is not None for name in ids)


def _claimed(name: str, record: Record, held: str, now: int) -> Claim:
    fully_planned = record.get("fully_planned") == 1 and "finished" not in record
    tried = record.get("tried", 1 if fully_planned and record.get("attempts") else 0)
    if fully_planned:
        unsent = record.get("sent", record["planned"]) < record["planned"]
        if unsent or record.get("done", 0) != record.get("progress_at_claim", 0):
            record.update(Record(progress_at_claim=record.get("done", 0), attempts=0))
            tried = 0
            _forget(record, "tried", "deaths")
    else:
        if "finished" in record and "previous_progress" not in record:
            counts: list[Any] = [record.get("planned", 0), record.get("done", 0), record.get("reached", 0)]
            record["previous_progress"] = " ".join(map(str, counts))
            record.update(Record() if "repeat_after" in record else Record(alone=1))
        elif "finished" in record:
            _forget(record, "alone")
        record.update(
            Record(generation=_next_generation(record["generation"]), planned=0, done=0, reached=0, fully_planned=0)
        )
        record.update(Record(chunks={}, begun={}, survived={}))
        _forget(record, "sent", "skipped")
    record.update(Record(attempts=record.get("attempts", 0) + 1, claimed=now))
    relisted, audience_read_at = (
        "audience_read_at" in record,
        record.setdefault("audience_read_at", last_number(record["manager"])),
    )
    return Claim(
        *(name, held, record["generation"], record["op"], record["body"], record["planned"], record["attempts"]),
        sent=record.get("sent", record["planned"]),
        feeds=_feeds(record),
        waiting_queue="" if fully_planned else record.get("waiting_queue", ""),
        audience_read_at=audience_read_at,
        tries=tried + 1,
        deaths=record.get("deaths", 0),
        relisted=relisted,
        trace=record.get("trace", ""),
    )


def _forget(record: Any, *fields: str) -> None:
    for field in fields:
        record.pop(field, None)


def _number(value: Any) -> Any:
    """*value*, which a damaged record holds, as a number."""
    return value if isinstance(value, (int, float)) and 0 <= value < 9e15 else 0


def _next_generation(generation: int) -> int:
    return max(generation + 1, time.time_ns() // 1000)


def _due(manager: str) -> dict[str, float]:
    return DATA.due.setdefault(manager, {})


def _wake(manager: str) -> bool:
    """Whether a wake-up message is to be sent; it then counts as on its way."""
    if DATA.wakeups.get(manager, 0) > journal_time():
        return False
    DATA.wakeups[manager] = journal_time() + WAKEUP_TTL
    return True


def _feeds(record: Record) -> tuple[str, ...]:
    """The feeds that a worker must know to do it."""
    return record["feeds"] if record["created"] > journal_time() - ROLLING else ()


def _record(fanout_id: str) -> Record | None:
    found: Record | None = DATA.fanout_records.get(fanout_id)
    return found


def _current(fanout_id: str, generation: int) -> Record | None:
    record = _record(fanout_id)
    return record if record is not None and record["generation"] == generation else None


def _finished(fanout_id: str, record: Record) -> bool:
    """Mark *record* as finished; whether nothing is left to do."""
    if "finished" not in record:
        record["finished"] = journal_time()
        _tell(fanout_id, record, DONE)
    _forget(record, "previous_progress", "tried", "deaths")
    if record.get("rerun_at", 0) <= record["claimed"] and "repeat_after" in record:
        record["rerun_at"] = journal_time() + record.pop("repeat_after")
    if record.get("rerun_at", 0) > record["claimed"]:
        return False
    _forget(record, "rerun_at", "audience_read_at", "body")
    return True


def _tell(fanout_id: str, record: Record, how: str) -> None:
    """Put into the list of what hooks are to be told that a fan-out has ended, if one is told."""
    if "tells" in record:
        manager, name = split_fanout(fanout_id)
        item = "\n".join((how, name, *(str(record.get(field, "")) for field in ENDED_FIELDS)))
        put(ended_key(manager), [item.encode()], MOST_ENDED)


def _progress(record: Record, *, counted: bool, ended: bool) -> Progress:
    counts = record["planned"], record.get("done", 0), record.get("reached", 0)
    return Progress(counted, *counts, journal_time() - record["created"], ended)


def _perhaps_finished(manager: str, fanout_id: str, record: Record) -> bool:
    """Conclude a fan-out whose chunks are all done; whether it has ended with this, for the first time."""
    if record.get("fully_planned") == 1 and record["planned"] == record.get("done", 0):
        return _conclude(manager, fanout_id, str(record["due"]), record)
    return False


def _conclude(manager: str, fanout_id: str, held: str, record: Record) -> bool:
    """Drop the entry of what has ended, or put it off until it is done once more; whether it ended for the first time."""
    first = "finished" not in record
    if _move(manager, fanout_id, held, -1 if _finished(fanout_id, record) else 0):
        _due(manager)[fanout_id] = record["rerun_at"] - 0.25
    return first


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


def _forget_finished(until: float) -> None:
    """Forget fan-outs that ended before *until*, ms, and need not run once more."""
    for name, record in list(DATA.fanout_records.items()):
        over = 0 < _number(record.get("finished")) < until
        if over and "dead" not in record and "rerun_at" not in record:
            del DATA.fanout_records[name]
