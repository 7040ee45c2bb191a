"""The journal on Redis: HASHes for receipts and chunks, a ZSET for what is due. The scripts' headers say the rest."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from feedmill import settings
from feedmill.keys import (
    PARTITIONS,
    bell_key,
    bucket_key,
    chunks_key,
    clock_key,
    due_key,
    fanout_keys,
    is_fanout_name,
    letters_key,
    named_fanout,
    partition_of,
    receipt_key,
    receipts_beginning,
    split_fanout,
    taken_key,
)
from feedmill.storage.journal import (
    BELL,
    MOST_LETTERS,
    OPEN_TTL,
    REPLACING,
    ROLLING,
    TRIMMED,
    Begun,
    Claim,
    Journal,
    Letter,
    Opened,
    Pace,
    Succession,
    keep,
    lease,
    name_of,
)
from feedmill.storage.operations import Command, Steps, together
from feedmill.storage.redis.auxiliary import last_number
from feedmill.storage.redis.timelines import call_script

logger = logging.getLogger(__name__)

#: Milliseconds since 1970 that no clock has come to; as in ``journal.lua``.
FAR = 4_000_000_000_000
#: What a status shows.
_FIELDS = (
    *("manager", "op", "created", "planned", "done", "reached", "complete", "claimed", "finished", "cancelled"),
    *("attempts", "retried", "failed", "error", "dead", "was", "again", "skipped"),
)

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
        pace: Pace | None = None,
        feeds: Sequence[str] = (),
        succession: Succession = REPLACING,
    ) -> Steps[Opened]:
        return (yield from self._open(manager, fanout_id, op, body, feeds, succession, pace, b""))

    def open_sent(
        self,
        manager: str,
        fanout_id: str,
        op: str,
        body: bytes,
        feeds: Sequence[str] = (),
        succession: Succession = REPLACING,
    ) -> Steps[Opened]:
        return (yield from self._open(manager, fanout_id, op, body, feeds, succession, None, body))

    def _open(
        self,
        manager: str,
        fanout_id: str,
        op: str,
        body: bytes,
        feeds: Sequence[str],
        succession: Succession,
        pace: Pace | None,
        chunk: bytes,
    ) -> Steps[Opened]:
        name, partition = name_of(manager, fanout_id), partition_of(fanout_id)
        author = bucket_key(manager, pace.author if pace else "", partition)
        keys = [*fanout_keys(fanout_id), bell_key(manager, partition), author]
        limits = (pace.interval, pace.interval * pace.burst) if pace else (0, 0)
        rules = _lines(succession.absorbs), succession.becomes
        facts = (name, lease(), OPEN_TTL, op, manager, body, chunk, _lines(feeds), BELL, *limits, *rules)
        ((plan, dead, found, ring),) = yield [call_script("journal_open", keys, *facts)]
        if dead:
            yield from self.drop_letters([dead.decode()])
        return Opened(int(plan), bool(ring), found.decode())

    def claim(self, manager: str, limit: int, bell: str = "") -> Steps[tuple[list[Claim], bool]]:
        bell = bell or os.urandom(8).hex()
        keys = [*_due(manager), taken_key(manager, bell), receipts_beginning(manager)]
        counter = last_number(manager)
        place = settings.current().redis_url, counter
        if place not in known_numbers:
            (number,) = yield [counter]
            known_numbers[place] = int(number or 0)
        reply, number = yield [
            call_script("journal_claim", keys, limit, lease(), BELL, ROLLING, known_numbers[place]),
            counter,
        ]
        known_numbers[place] = int(number or 0)
        held, ring, claimed, damaged = reply
        for name in damaged:
            key = receipts_beginning(manager) + name.decode(errors="backslashreplace")
            logger.error("%s is no sound receipt of a fan-out; feedmill doctor --fix begins it anew", key)
        return [_claimed(manager, held.decode(), facts, bell, int(number or 0)) for facts in claimed], bool(ring)

    def look(self, manager: str) -> Steps[tuple[int, bool]]:
        ((count, ring),) = yield [call_script("journal_look", _due(manager), BELL)]
        return int(count), bool(ring)

    def finish(self, manager: str, done: Sequence[tuple[Claim, int]]) -> Steps[None]:
        parts: dict[int, list[tuple[Claim, int]]] = {}
        for claim, reached in done:
            parts.setdefault(partition_of(claim.id), []).append((claim, reached))
        if parts:
            yield [_finish(manager, partition, some) for partition, some in parts.items()]

    def begin(self, manager: str, claim: Claim) -> Steps[Claim | None]:
        clock, receipt, _, due = fanout_keys(claim.id)
        keys = [clock, receipt, due, taken_key(manager, claim.bell, partition_of(claim.id))]
        facts = claim.tries, claim.deaths + 1, claim.died() if claim.deaths else ""
        (moved,) = yield [call_script("journal_begin", keys, *_proof(claim), lease(), *facts)]
        return claim._replace(time=moved.decode(), marked=True) if moved else None

    def write_chunks(self, manager: str, claim: Claim, chunks: Mapping[int, bytes]) -> Steps[Claim | None]:
        keys = [*fanout_keys(claim.id), taken_key(manager, claim.bell, partition_of(claim.id))]
        parts = [part for item in chunks.items() for part in item]
        (moved,) = yield [call_script("journal_chunks", keys, *_proof(claim), lease(), OPEN_TTL, *parts)]
        return claim._replace(time=moved.decode()) if moved else None

    def park(self, manager: str, claim: Claim, planned: int, delay: float, sent: int) -> Steps[None]:
        facts = _milliseconds(delay), planned, sent, keep(), claim.deaths
        yield [call_script("journal_park", fanout_keys(claim.id), *_proof(claim), *facts)]

    def left(self, claim: Claim) -> Steps[list[int]]:
        (names,) = yield [("HKEYS", chunks_key(claim.id))]
        start = f"{claim.plan}.".encode()
        return sorted(int(name[len(start) :]) for name in names if name.startswith(start))

    def chunks(self, claim: Claim, numbers: Sequence[int]) -> Steps[dict[int, bytes]]:
        if not numbers:
            return {}
        (values,) = yield [("HMGET", chunks_key(claim.id), *(f"{claim.plan}.{number}" for number in numbers))]
        return {number: value for number, value in zip(numbers, values) if value is not None}

    def start(self, fanout_id: str, plan: int, chunk: int, feeds: Sequence[str] | None = None) -> Steps[Begun]:
        known = [] if feeds is None else [_lines(feeds), ROLLING]
        (begun,) = yield [call_script("journal_start", fanout_keys(fanout_id)[:3], plan, chunk, *known)]
        return Begun(*map(int, begun))

    def lived(self, fanout_id: str, plan: int, chunk: int) -> Steps[None]:
        yield [call_script("journal_lived", fanout_keys(fanout_id)[:3], plan, chunk)]

    def done(self, manager: str, fanout_id: str, plan: int, chunk: int, reached: int) -> Steps[None]:
        name = split_fanout(fanout_id)[1]
        yield [call_script("journal_done", fanout_keys(fanout_id), name, plan, chunk, reached, keep())]

    def put_off(self, manager: str, claim: Claim, delay: float, error: str = "", waits: str = "") -> Steps[None]:
        facts: tuple[Any, ...] = ("failed", 1, "error", error) if error else ("attempts", -1, "waits", waits)
        if error or claim.marked:
            facts += ("tried", claim.tries if error else claim.tries - 1, "deaths", claim.deaths)
        if not error and not claim.relisted and not claim.planned:
            facts += ("listed", "")
        yield [_settle(claim, _milliseconds(delay), 0, 1, *facts)]

    def note(self, fanout_id: str, plan: int, error: str) -> Steps[None]:
        facts = split_fanout(fanout_id)[1], plan, "", 0, 0, 1, "failed", 1, "error", error
        yield [call_script("journal_settle", fanout_keys(fanout_id)[:2], *facts)]

    def skip(self, fanout_id: str, plan: int, count: int, error: str) -> Steps[None]:
        facts = split_fanout(fanout_id)[1], plan, "", 0, 0, 0, "skipped", count, "error", error
        yield [call_script("journal_settle", fanout_keys(fanout_id)[:2], *facts)]

    def bury(self, manager: str, claim: Claim, reason: str, payload: bytes) -> Steps[None]:
        # The dead letter first: twice is better than never.
        letter = yield from self.add_letter("fanout", reason, payload, manager, claim.id)
        (noted,) = yield [_settle(claim, -1, 1, 0, "dead", letter, "error", reason)]
        if not noted:
            yield from self.drop_letters([letter])

    def let_expire(self, fanout_id: str) -> Steps[None]:
        yield [("EXPIRE", receipt_key(fanout_id), OPEN_TTL)]

    def cancel(self, fanout_id: str, op: str = "") -> Steps[bool]:
        name = split_fanout(fanout_id)[1]
        (cancelled,) = yield [call_script("journal_cancel", fanout_keys(fanout_id), name, keep(), op)]
        return bool(cancelled)

    def get(self, fanout_id: str) -> Steps[dict[str, str]]:
        clock, receipt = fanout_keys(fanout_id)[:2]
        # MGET: a clock of a wrong type is none.
        values, time, (kept,) = yield [("HMGET", receipt, *_FIELDS), ("TIME",), ("MGET", clock)]
        fields = {name: value.decode(errors="replace") for name, value in zip(_FIELDS, values) if value is not None}
        return {**fields, "now": str(journal_time(time, kept))}

    def open_ids(self, manager: str, limit: int) -> Steps[list[str]]:
        replies = yield [("ZRANGE", key, 0, limit - 1) for key in _all_due(manager)]
        names = [name for reply in replies for name in reply]
        sound = [name for name in names if is_fanout_name(name)]
        if len(sound) < len(names):
            keys = ", ".join(_all_due(manager))
            logger.error("%s holds %s, which name no fan-out", keys, sorted(set(names) - set(sound)))
        return [named_fanout(manager, name.decode()) for name in sound][:limit]

    def count_open(self, managers: Sequence[str]) -> Steps[int]:
        counts = yield [("ZCARD", key) for name in managers for key in _all_due(name)]
        return sum(map(int, counts))

    def add_letter(self, kind: str, reason: str, payload: bytes, manager: str = "", fanout_id: str = "") -> Steps[str]:
        facts = ("kind", kind, "manager", manager, "reason", reason, "payload", payload, "fanout", fanout_id)
        letter, count = yield [("XADD", letters_key(), "*", *facts), ("XLEN", letters_key())]
        if count > MOST_LETTERS:
            (rows,) = yield [("XRANGE", letters_key(), "-", "+", "COUNT", min(count - MOST_LETTERS, TRIMMED))]
            oldest = [_letter(*row) for row in rows]
            yield from together([self.let_expire(each.fanout) for each in oldest if each.fanout])
            yield from self.drop_letters([each.id for each in oldest])
        return str(letter.decode())

    def letters(self, limit: int) -> Steps[list[Letter]]:
        (rows,) = yield [("XREVRANGE", letters_key(), "+", "-", "COUNT", limit)]
        return [_letter(*row) for row in rows]

    def letter(self, letter_id: str) -> Steps[Letter | None]:
        (rows,) = yield [("XRANGE", letters_key(), letter_id, letter_id)]
        return _letter(*rows[0]) if rows else None

    def drop_letters(self, ids: Sequence[str]) -> Steps[int]:
        (count,) = yield [("XDEL", letters_key(), *ids)] if ids else [("EXISTS", letters_key())]
        return int(count) if ids else 0


def journal_time(time: Sequence[Any], kept: bytes | None) -> int:
    """The journal's time, in milliseconds, from ``TIME`` and what its clock's key holds: see ``journal.lua``."""
    server = int(time[0]) * 1000 + int(time[1]) // 1000
    come, _, ahead = (kept or b"").partition(b" ")
    if not (come.isdigit() and ahead.isdigit() and max(int(come), int(ahead)) <= FAR):
        return server
    return max(server + int(ahead), int(come))


def _due(manager: str) -> list[str]:
    return [clock_key(manager), due_key(manager), bell_key(manager)]


def _all_due(manager: str) -> list[str]:
    return [due_key(manager, partition) for partition in range(PARTITIONS)]


def _proof(claim: Claim) -> tuple[str, int, str]:
    return split_fanout(claim.id)[1], claim.plan, claim.time


def _finish(manager: str, partition: int, done: Sequence[tuple[Claim, int]]) -> Command:
    keys, facts = [clock_key(manager, partition), due_key(manager, partition)], list[Any]()
    beginning = receipts_beginning(manager, partition)
    for claim, reached in done:
        name = split_fanout(claim.id)[1]
        keys.append(beginning + name)
        facts += (name, claim.plan, reached, claim.time)
    return call_script("journal_finish", keys, keep(), *facts)


def _settle(claim: Claim, delay: int, over: int, increments: int, *facts: Any) -> Command:
    clock, receipt, _, due = fanout_keys(claim.id)
    return call_script("journal_settle", [clock, receipt, due], *_proof(claim), delay, over, increments, *facts)


def _claimed(manager: str, held: str, facts: Sequence[Any], bell: str, listed: int) -> Claim:
    name, op, plan, planned, attempts, body, sent, feeds, waits, tries, deaths, first = facts
    done = op.decode(), body, int(planned), int(attempts), int(sent), _names(feeds), waits.decode(errors="replace")
    counted = int(first or listed), int(tries), int(deaths)
    return Claim(named_fanout(manager, name.decode()), held, int(plan), *done, bell, *counted, relisted=bool(first))


@functools.lru_cache(maxsize=256)
def _names(lines: bytes) -> tuple[str, ...]:
    """What :func:`_lines` made *lines* from."""
    return tuple(lines.decode(errors="replace").split("\n")[1:-1])


def _lines(names: Sequence[str]) -> str:
    """Names as the receipts hold them: each between two ends of lines."""
    return "".join(["\n", *(f"{name}\n" for name in names)])


def _letter(name: bytes, facts: Sequence[bytes]) -> Letter:
    known = dict(zip(facts[::2], facts[1::2]))
    kind, reason, manager, fanout_id = (
        known.get(key, b"").decode("utf-8", "replace") for key in (b"kind", b"reason", b"manager", b"fanout")
    )
    return Letter(name.decode(), kind, reason, known.get(b"payload", b""), manager, fanout_id)
