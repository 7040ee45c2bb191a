"""The journal on Redis: HASHes for receipts and chunks, a ZSET for what is due. The scripts' headers say the rest."""

from __future__ import annotations

import bisect
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
    FANOUT,
    MESSAGE,
    MOST_LETTERS,
    OPEN_TTL,
    REPLACING,
    ROLLING,
    STATUS_FIELDS,
    TRIMMED,
    Begun,
    Claim,
    Claimed,
    DueFanouts,
    Journal,
    Letter,
    NotBegun,
    Opened,
    Overdue,
    Pace,
    Succession,
    keep,
    lease,
    name_of,
)
from feedmill.storage.operations import BARRIER, Command, Steps
from feedmill.storage.redis.auxiliary import last_number
from feedmill.storage.redis.timelines import call_script

logger = logging.getLogger(__name__)

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
        pace: Pace | None = None,
        feeds: Sequence[str] = (),
        succession: Succession = REPLACING,
        sent: bool = False,
    ) -> Steps[Opened]:
        name, partition = name_of(manager, fanout_id), partition_of(fanout_id)
        author = bucket_key(manager, pace.author if pace else "", partition)
        keys = [*fanout_keys(fanout_id), bell_key(manager, partition), author]
        limits = (pace.interval, pace.interval * pace.burst) if pace else (0, 0)
        rules = _lines(succession.absorbs), succession.becomes
        chunk = body if sent else b""
        facts = (name, lease(), OPEN_TTL, op, manager, body, chunk, _lines(feeds), BELL, *limits, *rules)
        ((plan, dead, found, ring),) = yield [call_script("journal_open", keys, *facts)]
        if dead:
            yield [("XDEL", letters_key(), dead)]
        return Opened(int(plan), bool(ring), found.decode())

    def claim(self, manager: str, limit: int, bell: str = "") -> Steps[Claimed]:
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
        claims = [_claimed(manager, held.decode(), facts, bell, int(number or 0)) for facts in claimed]
        return Claimed(claims, bool(ring))

    def wake_if_overdue(self, manager: str) -> Steps[Overdue]:
        ((count, ring),) = yield [call_script("journal_look", _due(manager), BELL)]
        return Overdue(int(count), bool(ring))

    def renew(
        self, manager: str, claim: Claim, chunks: Mapping[int, bytes] | None = None, *, begins: bool = False
    ) -> Steps[Claim | None]:
        keys = [*fanout_keys(claim.id), taken_key(manager, claim.bell, partition_of(claim.id))]
        begun = (claim.tries, claim.deaths + 1, claim.died() if claim.deaths else "") if begins else ("", "", "")
        parts = [part for item in chunks.items() for part in item] if chunks else []
        (moved,) = yield [call_script("journal_renew", keys, *_proof(claim), lease(), OPEN_TTL, *begun, *parts)]
        return claim._replace(time=moved.decode(), marked=claim.marked or begins) if moved else None

    def await_chunks(self, manager: str, claim: Claim, planned: int, delay: float, sent: int) -> Steps[None]:
        facts = _milliseconds(delay), planned, sent, keep(), claim.deaths
        yield [call_script("journal_park", fanout_keys(claim.id), *_proof(claim), *facts)]

    def chunks(self, claim: Claim, start: int, limit: int) -> Steps[dict[int, bytes]]:
        (names,) = yield [("HKEYS", chunks_key(claim.id))]
        mine = f"{claim.plan}.".encode()
        numbers = sorted(int(name[len(mine) :]) for name in names if name.startswith(mine))
        wanted = numbers[bisect.bisect_left(numbers, start) :][:limit]
        if not wanted:
            return {}
        (values,) = yield [("HMGET", chunks_key(claim.id), *(f"{claim.plan}.{number}" for number in wanted))]
        return {number: value for number, value in zip(wanted, values) if value is not None}

    def begin_chunk(
        self, fanout_id: str, plan: int, chunk: int, feeds: Sequence[str] | None = None
    ) -> Steps[Begun | NotBegun]:
        known = [] if feeds is None else [_lines(feeds), ROLLING]
        (begun,) = yield [call_script("journal_start", fanout_keys(fanout_id)[:3], plan, chunk, *known)]
        return Begun(*map(int, begun)) if len(begun) > 1 else NotBegun(begun[0])

    def end_chunk(self, manager: str, fanout_id: str, plan: int, chunk: int, reached: int | None) -> Steps[None]:
        facts = split_fanout(fanout_id)[1], plan, chunk, "" if reached is None else reached, keep()
        yield [call_script("journal_done", fanout_keys(fanout_id), *facts)]

    def finish(self, manager: str, done: Sequence[tuple[Claim, int]]) -> Steps[None]:
        parts: dict[int, list[tuple[Claim, int]]] = {}
        for claim, reached in done:
            parts.setdefault(partition_of(claim.id), []).append((claim, reached))
        if parts:
            yield [_finish(manager, partition, some) for partition, some in parts.items()]

    def postpone(
        self, manager: str, claim: Claim, delay: float, *, error: str = "", waits: str = "", written: bool = False
    ) -> Steps[None]:
        facts: tuple[Any, ...] = ("failed", 1, "error", error) if error else ("attempts", -1, "waits", waits)
        if error or claim.marked:
            facts += ("tried", claim.tries if error else claim.tries - 1, "deaths", claim.deaths)
        if not (error or written or claim.relisted or claim.planned):
            facts += ("listed", "")
        yield [_settle(claim, _milliseconds(delay), 0, 1, *facts)]

    def record_error(self, fanout_id: str, plan: int, error: str, *, skipped: int = 0) -> Steps[None]:
        what = (0, "skipped", skipped) if skipped else (1, "failed", 1)
        facts = split_fanout(fanout_id)[1], plan, "", 0, 0, *what, "error", error
        yield [call_script("journal_settle", fanout_keys(fanout_id)[:2], *facts)]

    def cancel(self, fanout_id: str, op: str = "") -> Steps[bool]:
        name = split_fanout(fanout_id)[1]
        (cancelled,) = yield [call_script("journal_cancel", fanout_keys(fanout_id), name, keep(), op)]
        return bool(cancelled)

    def get(self, fanout_id: str) -> Steps[dict[str, str]]:
        clock, receipt = fanout_keys(fanout_id)[:2]
        # MGET: a clock of a wrong type is none.
        values, time, (kept,) = yield [("HMGET", receipt, *STATUS_FIELDS), ("TIME",), ("MGET", clock)]
        fields = {
            name: value.decode(errors="replace") for name, value in zip(STATUS_FIELDS, values) if value is not None
        }
        return {**fields, "now": str(journal_time(time, kept))}

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

    def dead_letter(self, reason: str, payload: bytes, manager: str = "", claim: Claim | None = None) -> Steps[str]:
        kind, fanout_id = (MESSAGE, "") if claim is None else (FANOUT, claim.id)
        facts = ("kind", kind, "manager", manager, "reason", reason, "payload", payload, "fanout", fanout_id)
        # The dead letter first: twice is better than never.
        name, count = yield [("XADD", letters_key(), "*", *facts), ("XLEN", letters_key())]
        letter: str = name.decode()
        if count > MOST_LETTERS:
            (rows,) = yield [("XRANGE", letters_key(), "-", "+", "COUNT", min(count - MOST_LETTERS, TRIMMED))]
            yield from self._drop([_letter(*row) for row in rows])
        if claim is not None:
            (noted,) = yield [_settle(claim, -1, 1, 0, "dead", letter, "error", reason)]
            if not noted:
                yield [("XDEL", letters_key(), letter)]
                return ""
        return letter

    def dead_letters(self, limit: int, letter_id: str = "") -> Steps[list[Letter]]:
        newest, oldest = (letter_id, letter_id) if letter_id else ("+", "-")
        (rows,) = yield [("XREVRANGE", letters_key(), newest, oldest, "COUNT", limit)]
        return [_letter(*row) for row in rows]

    def drop_dead_letters(self, ids: Sequence[str]) -> Steps[int]:
        found = yield [("XRANGE", letters_key(), each, each) for each in ids]
        return (yield from self._drop([_letter(*row) for rows in found for row in rows]))

    @staticmethod
    def _drop(letters: Sequence[Letter]) -> Steps[int]:
        """Delete *letters*, after their records are made to expire: else nobody would know of these any more."""
        if not letters:
            return 0
        expire = [("EXPIRE", receipt_key(each.fanout), OPEN_TTL) for each in letters if each.fanout]
        *_, count = yield [*expire, BARRIER, ("XDEL", letters_key(), *(each.id for each in letters))]
        return int(count)


def journal_time(time: Sequence[Any], kept: bytes | None) -> int:
    """The journal's time, in milliseconds, from ``TIME`` and what its clock's key holds: see ``journal.lua``."""
    server = int(time[0]) * 1000 + int(time[1]) // 1000
    come, _, ahead = (kept or b"").partition(b" ")
    if not (come.isdigit() and ahead.isdigit() and max(int(come), int(ahead)) <= FAR):
        return server
    return max(server + int(ahead), int(come))


def _due(manager: str) -> list[str]:
    return [clock_key(manager), due_key(manager), bell_key(manager)]


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
