"""The journal on Redis: HASHes for fan-out records and chunks, a ZSET for what is due. The scripts' headers say the rest."""

from __future__ import annotations

import bisect
import functools
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from feedmill import settings
from feedmill.ids import EntityId
from feedmill.keys import (
    PARTITIONS,
    bucket_key,
    chunks_key,
    clock_key,
    dead_letters_key,
    due_key,
    fanout_keys,
    fanout_record_key,
    fanout_records_prefix,
    named_fanout,
    partition_of,
    split_fanout,
    swept_key,
    taken_key,
    wakeup_key,
)
from feedmill.storage.journal import (
    FANOUT,
    HOOK,
    MAX_DEAD_LETTERS,
    MESSAGE,
    OPEN_TTL,
    REPLACING,
    ROLLING,
    STATUS_FIELDS,
    SWEEP_TTL,
    TRIMMED,
    WAKEUP_TTL,
    Begun,
    Claim,
    Claimed,
    DeadLetter,
    DueFanouts,
    Journal,
    NotBegun,
    Opened,
    Overdue,
    Progress,
    RateLimit,
    Succession,
    keep,
    lease,
    name_of,
)
from feedmill.storage.operations import BARRIER, Command, Steps
from feedmill.storage.redis.auxiliary import last_number
from feedmill.storage.redis.timelines import call_script

logger = logging.getLogger(__name__)

#: What ``journal_open.lua`` is given for the trace context that the record has.
KEPT_TRACE = "="
#: Milliseconds since 1970 that no clock has come to; as in ``journal.lua``.
FAR = 4_000_000_000_000
#: The number of an unfollow that is not younger than the last, by server and the command that reads it: what a claim notes of
#: when people are listed without another round trip.
known_numbers: dict[tuple[str, Command], int] = {}


def _milliseconds(seconds: float) -> int:
    return max(0, int(seconds * 1000))


class RedisJournal(Journal):
    """The journal of one Redis server. Its clock is the server's, so workers' clocks need not agree.

    What changes something is one script: it is refused before its first write, or takes effect whole.
    """

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
    ) -> Steps[Opened]:
        name, partition = name_of(manager, fanout_id), partition_of(fanout_id)
        author = bucket_key(manager, rate_limit.author if rate_limit else "", partition)
        keys = [*fanout_keys(fanout_id), wakeup_key(manager, partition), author]
        limits = (rate_limit.interval, rate_limit.interval * rate_limit.burst) if rate_limit else (0, 0)
        rules: tuple[Any, ...] = _lines(succession.absorbs), succession.becomes
        if trace != "":
            rules += (1 if tells else "", KEPT_TRACE if trace is None else trace)
        elif tells:
            rules += (1,)
        chunk = body if sent else b""
        facts = (name, lease(), OPEN_TTL, op, manager, body, chunk, _lines(feeds), WAKEUP_TTL, *limits, *rules)
        ((generation, dead, found, wake),) = yield [call_script("journal_open", keys, *facts)]
        if dead:
            yield [("XDEL", dead_letters_key(), dead)]
        return Opened(int(generation), bool(wake), found.decode())

    def claim(self, manager: str, limit: int, wakeup_id: str = "") -> Steps[Claimed]:
        wakeup_id = wakeup_id or os.urandom(8).hex()
        keys = [*_due(manager), taken_key(manager, wakeup_id), fanout_records_prefix(manager)]
        counter = last_number(manager)
        place = settings.current().redis_url, counter
        if place not in known_numbers:
            (number,) = yield [counter]
            known_numbers[place] = int(number or 0)
        reply, number = yield [
            call_script("journal_claim", keys, limit, lease(), WAKEUP_TTL, ROLLING, known_numbers[place]),
            counter,
        ]
        known_numbers[place] = int(number or 0)
        held, wake, claimed, damaged = reply
        for name in damaged:
            key = fanout_records_prefix(manager) + name.decode(errors="backslashreplace")
            logger.error("%s is no sound fan-out record; feedmill doctor --fix begins it anew", key)
        claims = [_claimed(manager, held.decode(), facts, wakeup_id, int(number or 0)) for facts in claimed]
        return Claimed(claims, bool(wake))

    def wake_if_overdue(self, manager: str) -> Steps[Overdue]:
        ((count, wake),) = yield [call_script("journal_wake_if_overdue", _due(manager), WAKEUP_TTL)]
        return Overdue(int(count), bool(wake))

    def renew(
        self, manager: str, claim: Claim, chunks: Mapping[int, bytes] | None = None, *, begins: bool = False
    ) -> Steps[Claim | None]:
        keys = [*fanout_keys(claim.id), taken_key(manager, claim.wakeup_id, partition_of(claim.id))]
        begun = (claim.tries, claim.deaths + 1, claim.died() if claim.deaths else "") if begins else ("", "", "")
        parts = [part for item in chunks.items() for part in item] if chunks else []
        (moved,) = yield [call_script("journal_renew", keys, *_proof(claim), lease(), OPEN_TTL, *begun, *parts)]
        return claim._replace(time=moved.decode(), marked=claim.marked or begins) if moved else None

    def await_chunks(self, manager: str, claim: Claim, planned: int, delay: float, sent: int) -> Steps[Progress | None]:
        facts = _milliseconds(delay), planned, sent, keep(), claim.deaths
        (reply,) = yield [call_script("journal_await_chunks", fanout_keys(claim.id), *_proof(claim), *facts)]
        return _progress(reply)

    def chunks(self, claim: Claim, start: int, limit: int) -> Steps[dict[int, bytes]]:
        (names,) = yield [("HKEYS", chunks_key(claim.id))]
        mine = f"{claim.generation}.".encode()
        numbers = sorted(int(name[len(mine) :]) for name in names if name.startswith(mine))
        wanted = numbers[bisect.bisect_left(numbers, start) :][:limit]
        if not wanted:
            return {}
        (values,) = yield [("HMGET", chunks_key(claim.id), *(f"{claim.generation}.{number}" for number in wanted))]
        return {number: value for number, value in zip(wanted, values) if value is not None}

    def begin_chunk(
        self, fanout_id: str, generation: int, chunk: int, feeds: Sequence[str] | None = None
    ) -> Steps[Begun | NotBegun]:
        known = [] if feeds is None else [_lines(feeds), ROLLING]
        (begun,) = yield [call_script("journal_begin_chunk", fanout_keys(fanout_id)[:3], generation, chunk, *known)]
        if len(begun) == 1:
            return NotBegun(begun[0])
        trace = _trace(begun.pop()) if len(begun) > 4 else ""
        times, audience_read_at, deaths, data = begun
        return Begun(int(times), int(audience_read_at), int(deaths), data, trace)

    def end_chunk(
        self, manager: str, fanout_id: str, generation: int, chunk: int, reached: int | None
    ) -> Steps[Progress | None]:
        facts = split_fanout(fanout_id)[1], generation, chunk, "" if reached is None else reached, keep()
        (reply,) = yield [call_script("journal_finish_chunk", fanout_keys(fanout_id), *facts)]
        return _progress(reply)

    def finish(self, manager: str, done: Sequence[tuple[Claim, int]]) -> Steps[Sequence[int]]:
        parts: dict[int, list[tuple[Claim, int]]] = {}
        for claim, reached in done:
            parts.setdefault(partition_of(claim.id), []).append((claim, reached))
        if not parts:
            return ()
        replies = yield [_finish(manager, partition, some) for partition, some in parts.items()]
        if len(parts) == 1:
            return replies[0]  # type: ignore[no-any-return]
        ages = dict(zip(parts, map(iter, replies)))
        return [next(ages[partition_of(claim.id)]) for claim, _ in done]

    def postpone(
        self,
        manager: str,
        claim: Claim,
        delay: float,
        *,
        error: str = "",
        waiting_queue: str = "",
        written: bool = False,
    ) -> Steps[None]:
        failed = bool(error) and not written
        facts: tuple[Any, ...] = (
            ("failed", 1, "error", error) if failed else ("attempts", -1, "waiting_queue", waiting_queue)
        )
        if error and written:
            facts += ("error", error)
        if failed or claim.marked:
            facts += ("tried", claim.tries if failed else claim.tries - 1, "deaths", claim.deaths)
        if not (error or written or claim.relisted or claim.planned):
            facts += ("audience_read_at", "")
        yield [_settle(claim, _milliseconds(delay), 0, 1, *facts)]

    def record_error(self, fanout_id: str, generation: int, error: str, *, skipped: int = 0) -> Steps[None]:
        what = (0, "skipped", skipped) if skipped else (1, "failed", 1)
        facts = split_fanout(fanout_id)[1], generation, "", 0, 0, *what, "error", error
        yield [call_script("journal_settle", fanout_keys(fanout_id)[:2], *facts)]

    def cancel(self, fanout_id: str, op: str = "") -> Steps[bool]:
        name = split_fanout(fanout_id)[1]
        (cancelled,) = yield [call_script("journal_cancel", fanout_keys(fanout_id), name, keep(), op)]
        return bool(cancelled)

    def get(self, fanout_id: str) -> Steps[dict[str, str]]:
        clock, record = fanout_keys(fanout_id)[:2]
        # MGET: a clock of a wrong type is none.
        values, time, (kept,) = yield [("HMGET", record, *STATUS_FIELDS), ("TIME",), ("MGET", clock)]
        fields = {
            name: value.decode(errors="replace") for name, value in zip(STATUS_FIELDS, values) if value is not None
        }
        return {**fields, "now": str(journal_time(time, kept))}

    def traces(self, fanout_ids: Sequence[str]) -> Steps[list[str]]:
        found = yield [("HGET", fanout_record_key(each), "trace") for each in fanout_ids]
        return [_trace(each or b"") for each in found]

    def forget(self, manager: str, author: EntityId, fanout_ids: Sequence[str]) -> Steps[None]:
        buckets = [("UNLINK", bucket_key(manager, author, partition)) for partition in range(PARTITIONS)]
        yield [*buckets, *(("HDEL", fanout_record_key(each), "error") for each in fanout_ids)]

    def list_due(self, manager: str, start: int = 0, limit: int = 0) -> Steps[DueFanouts]:
        keys = [due_key(manager, partition) for partition in range(PARTITIONS)]
        replies = yield [
            command
            for key in keys
            for command in (("ZCARD", key), ("ZRANGE", key, start, start + limit - 1, "WITHSCORES"))[
                : 2 if limit else 1
            ]
        ]
        found = [part for reply in replies if type(reply) is list for part in reply]
        names = [name.decode(errors="surrogateescape") for name in found[::2]]
        entries = [(named_fanout(manager, name), float(at)) for name, at in zip(names, found[1::2])][:limit]
        return DueFanouts(sum(reply for reply in replies if type(reply) is int), entries)

    def sample_chunks(self, fanout_id: str, limit: int) -> Steps[list[bytes]]:
        # Chunks are called by numbers, and what is counted about them begins with a word.
        ((_, found),) = yield [("HSCAN", chunks_key(fanout_id), 0, "MATCH", "[0-9]*", "COUNT", 3 * limit)]
        return list(found[1::2])[:limit]

    def record_sweep(self) -> Steps[None]:
        (time,) = yield [("TIME",)]
        yield [("SET", swept_key(), journal_time(time, None), "EX", SWEEP_TTL)]

    def last_sweep(self) -> Steps[float | None]:
        (kept,), time = yield [("MGET", swept_key()), ("TIME",)]
        if kept is None or not kept.isdigit() or len(kept) > 19:
            return None
        return max(0, journal_time(time, None) - int(kept)) / 1000

    def dead_letter(self, reason: str, payload: bytes, manager: str = "", claim: Claim | None = None) -> Steps[str]:
        kind, fanout_id = (HOOK if manager else MESSAGE, "") if claim is None else (FANOUT, claim.id)
        facts = ("kind", kind, "manager", manager, "reason", reason, "payload", payload, "fanout", fanout_id)
        # The dead letter first: twice is better than never.
        name, count = yield [("XADD", dead_letters_key(), "*", *facts), ("XLEN", dead_letters_key())]
        dead_letter: str = name.decode()
        if count > MAX_DEAD_LETTERS:
            (rows,) = yield [("XRANGE", dead_letters_key(), "-", "+", "COUNT", min(count - MAX_DEAD_LETTERS, TRIMMED))]
            yield from self._drop([read_dead_letter(*row) for row in rows])
        if claim is not None:
            (noted,) = yield [_settle(claim, -1, 1, 0, "dead", dead_letter, "error", reason)]
            if not noted:
                yield [("XDEL", dead_letters_key(), dead_letter)]
                return ""
        return dead_letter

    def dead_letters(self, limit: int, dead_letter_id: str = "") -> Steps[list[DeadLetter]]:
        newest, oldest = (dead_letter_id, dead_letter_id) if dead_letter_id else ("+", "-")
        (rows,) = yield [("XREVRANGE", dead_letters_key(), newest, oldest, "COUNT", limit)]
        return [read_dead_letter(*row) for row in rows]

    def count_dead_letters(self) -> Steps[int]:
        (count,) = yield [("XLEN", dead_letters_key())]
        return int(count)

    def delete_dead_letters(self, ids: Sequence[str]) -> Steps[int]:
        found = yield [("XRANGE", dead_letters_key(), each, each) for each in ids]
        return (yield from self._drop([read_dead_letter(*row) for rows in found for row in rows]))

    @staticmethod
    def _drop(dead_letters: Sequence[DeadLetter]) -> Steps[int]:
        """Delete *dead_letters*, after their records are made to expire: else nobody would know of these any more."""
        if not dead_letters:
            return 0
        expire = [("EXPIRE", fanout_record_key(each.fanout), OPEN_TTL) for each in dead_letters if each.fanout]
        *_, count = yield [*expire, BARRIER, ("XDEL", dead_letters_key(), *(each.id for each in dead_letters))]
        return int(count)


def journal_time(time: Sequence[Any], kept: bytes | None) -> int:
    """The journal's time, in milliseconds, from ``TIME`` and what its clock's key holds: see ``journal.lua``."""
    server = int(time[0]) * 1000 + int(time[1]) // 1000
    come, _, ahead = (kept or b"").partition(b" ")
    if not (come.isdigit() and ahead.isdigit() and max(int(come), int(ahead)) <= FAR):
        return server
    return max(server + int(ahead), int(come))


def _progress(reply: Any) -> Progress | None:
    if type(reply) is not list:
        return None
    counted, planned, done, reached, milliseconds, ended = reply
    return Progress(bool(counted), planned, done, reached, milliseconds, bool(ended))


def _due(manager: str) -> list[str]:
    return [clock_key(manager), due_key(manager), wakeup_key(manager)]


def _proof(claim: Claim) -> tuple[str, int, str]:
    return split_fanout(claim.id)[1], claim.generation, claim.time


def _finish(manager: str, partition: int, done: Sequence[tuple[Claim, int]]) -> Command:
    keys, facts = [clock_key(manager, partition), due_key(manager, partition)], list[Any]()
    beginning = fanout_records_prefix(manager, partition)
    for claim, reached in done:
        name = split_fanout(claim.id)[1]
        keys.append(beginning + name)
        facts += (name, claim.generation, reached, claim.time)
    return call_script("journal_finish", keys, keep(), *facts)


def _settle(claim: Claim, delay: int, over: int, increments: int, *facts: Any) -> Command:
    clock, record, _, due = fanout_keys(claim.id)
    return call_script("journal_settle", [clock, record, due], *_proof(claim), delay, over, increments, *facts)


def _claimed(manager: str, held: str, facts: list[Any], wakeup_id: str, audience_read_at: int) -> Claim:
    trace = _trace(facts.pop()) if len(facts) > 12 else ""
    name, op, generation, planned, attempts, body, sent, feeds, waiting_queue, tries, deaths, first = facts
    done = (
        op.decode(),
        body,
        int(planned),
        int(attempts),
        int(sent),
        _names(feeds),
        waiting_queue.decode(errors="replace"),
    )
    counted = int(first or audience_read_at), int(tries), int(deaths)
    return Claim(
        *(named_fanout(manager, name.decode()), held, int(generation), *done, wakeup_id, *counted),
        relisted=bool(first),
        trace=trace,
    )


def _trace(value: bytes) -> str:
    return value.decode("ascii", "replace")


@functools.lru_cache(maxsize=256)
def _names(lines: bytes) -> tuple[str, ...]:
    """What :func:`_lines` made *lines* from."""
    return tuple(lines.decode(errors="replace").split("\n")[1:-1])


def _lines(names: Sequence[str]) -> str:
    """Names as the fan-out records hold them: each between two ends of lines."""
    return "".join(["\n", *(f"{name}\n" for name in names)])


def read_dead_letter(name: bytes, facts: Sequence[bytes]) -> DeadLetter:
    """The dead letter that an entry of the stream is."""
    known = dict(zip(facts[::2], facts[1::2]))
    kind, reason, manager, fanout_id = (
        known.get(key, b"").decode("utf-8", "replace") for key in (b"kind", b"reason", b"manager", b"fanout")
    )
    return DeadLetter(name.decode(), kind, reason, known.get(b"payload", b""), manager, fanout_id)
