"""The journal on Redis: HASHes for receipts and chunks, a ZSET for what is due. The scripts' headers say the rest."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from feedmill.keys import bell_key, bucket_key, chunks_key, due_key, letters_key, receipt_key, taken_key
from feedmill.storage.journal import (
    BELL,
    MOST_LETTERS,
    OPEN_TTL,
    ROLLING,
    Begun,
    Claim,
    Letter,
    Opened,
    Pace,
    keep,
    lease,
)
from feedmill.storage.redis.timelines import call_script
from feedmill.storage.steps import Command, Steps

logger = logging.getLogger(__name__)

#: What a status shows.
_FIELDS = (
    *("manager", "op", "created", "planned", "done", "reached", "complete", "claimed", "finished", "cancelled"),
    *("attempts", "retried", "failed", "error", "dead", "was", "skipped"),
)


def _milliseconds(seconds: float) -> int:
    return max(0, int(seconds * 1000))


class RedisJournal:
    """The journal of one Redis server. Its clock is the server's, so workers' clocks need not agree.

    Except for when a fan-out that was sent at once is looked at: two scripts in two slots must know the very same time of it,
    so that comes from the caller. A clock that is wrong sends a message again too soon, which is harmless, or later.
    """

    def open(
        self,
        manager: str,
        fanout_id: str,
        op: str,
        body: bytes,
        pace: Pace | None = None,
        feeds: Sequence[str] = (),
    ) -> Steps[Opened]:
        """Write down that a fan-out is wanted."""
        return (yield from self._open(manager, fanout_id, op, body, feeds, pace, ("", ""), BELL))

    def open_sent(self, manager: str, fanout_id: str, op: str, body: bytes, feeds: Sequence[str] = ()) -> Steps[Opened]:
        """Write down a fan-out that is sent as one chunk."""
        # In halves, as a claim: nothing that was put in by the server's clock has the same.
        at = f"{time.time() * 1000 + lease():.0f}.5"
        return (yield from self._open(manager, fanout_id, op, body, feeds, None, (body, at), 0))

    def _open(
        self,
        manager: str,
        fanout_id: str,
        op: str,
        body: bytes,
        feeds: Sequence[str],
        pace: Pace | None,
        chunk: tuple[bytes | str, str],
        bell: int,
    ) -> Steps[Opened]:
        author = (pace.interval, pace.interval * pace.burst) if pace else (0, 0)
        put = [*_due(manager), bucket_key(manager, pace.author if pace else "")]
        (plan, dead, found), ring = yield [
            call_script(
                "receipt_open", _receipt(fanout_id), lease(), OPEN_TTL, op, manager, body, *chunk, _lines(feeds)
            ),
            call_script("due_put", put, fanout_id, chunk[1], bell, *author),
        ]
        if dead:
            yield from self.drop_letters([dead.decode()])
        return Opened(plan, bool(ring), found.decode())

    def claim(self, manager: str, limit: int, bell: str = "") -> Steps[tuple[list[Claim], bool]]:
        """Claim what is due."""
        bell = bell or os.urandom(8).hex()
        keys = [*_due(manager), taken_key(manager, bell)]
        (reply,) = yield [call_script("due_claim", keys, limit, lease(), BELL)]
        held, ring, ids = reply[0].decode(), bool(reply[1]), [name.decode() for name in reply[2:]]
        if not ids:
            return [], ring
        (receipts,) = yield [call_script("receipts_claim", [receipt_key(name) for name in ids], ROLLING)]
        claims, over = [], []
        for name, got in zip(ids, receipts):
            claim = _claimed(name, held, got, bell) if got else None
            if claim is None:
                over.append(name)
            else:
                claims.append(claim)
        if over:
            yield [_move(manager, [(name, held, -1) for name in over])]
        return claims, ring

    def look(self, manager: str) -> Steps[tuple[int, bool]]:
        """What is overdue."""
        (reply,) = yield [call_script("due_look", _due(manager), BELL)]
        return int(reply[0]), bool(reply[1])

    def finish(self, manager: str, done: Sequence[tuple[Claim, int]]) -> Steps[None]:
        """Receipts first: what is no longer due must be finished."""
        if not done:
            return
        facts = [part for claim, reached in done for part in (claim.plan, reached)]
        yield [
            call_script("receipts_finish", [receipt_key(claim.id) for claim, _ in done], keep(), *facts),
            _move(manager, [(claim.id, claim.time, claim.again or -1) for claim, _ in done]),
        ]

    def begin(self, manager: str, claim: Claim) -> Steps[Claim | None]:
        """Write down that a suspect is begun."""
        facts: tuple[Any, ...] = ("tried", claim.tries, "deaths", claim.deaths + 1)
        if claim.deaths:
            facts += ("error", claim.died())
        written, (moved,) = yield [
            call_script("receipt_update", [receipt_key(claim.id)], claim.plan, 0, *facts),
            _move(manager, [(claim.id, claim.time, lease())], taken_key(manager, claim.bell)),
        ]
        return dataclasses.replace(claim.renewed(moved.decode()), marked=True) if written and moved else None

    def renew(self, manager: str, claim: Claim) -> Steps[Claim | None]:
        """Let a claim last longer."""
        ((moved,),) = yield [_move(manager, [(claim.id, claim.time, lease())], taken_key(manager, claim.bell))]
        return claim.renewed(moved.decode()) if moved else None

    def write_chunks(self, manager: str, claim: Claim, chunks: Mapping[int, bytes]) -> Steps[Claim | None]:
        """Write down chunks."""
        parts = [part for item in chunks.items() for part in item]
        written, (moved,) = yield [
            call_script("receipt_chunks", _receipt(claim.id), claim.plan, OPEN_TTL, *parts),
            _move(manager, [(claim.id, claim.time, lease())], taken_key(manager, claim.bell)),
        ]
        return claim.renewed(moved.decode()) if written and moved else None

    def park(self, manager: str, claim: Claim, planned: int, delay: float, sent: int) -> Steps[None]:
        """First the time, then the receipt, which tells it to whoever does the last chunk."""
        survived = [_settled(claim)] if claim.marked else []
        *_, (moved,) = yield [*survived, _move(manager, [(claim.id, claim.time, _milliseconds(delay))])]
        if moved:
            yield from self._done(manager, claim.id, claim.plan, "", planned, moved, sent)

    def left(self, claim: Claim) -> Steps[list[int]]:
        """The chunks that are not done."""
        (names,) = yield [("HKEYS", chunks_key(claim.id))]
        start = f"{claim.plan}.".encode()
        return sorted(int(name[len(start) :]) for name in names if name.startswith(start))

    def chunks(self, claim: Claim, numbers: Sequence[int]) -> Steps[dict[int, bytes]]:
        """Chunks by number."""
        if not numbers:
            return {}
        (values,) = yield [("HMGET", chunks_key(claim.id), *(f"{claim.plan}.{number}" for number in numbers))]
        return {number: value for number, value in zip(numbers, values) if value is not None}

    def start(self, fanout_id: str, plan: int, chunk: int, feeds: Sequence[str] | None = None) -> Steps[Begun]:
        """Whether a chunk is to be done."""
        known = [] if feeds is None else [_lines(feeds), ROLLING]
        (begun,) = yield [call_script("chunk_start", _receipt(fanout_id), plan, chunk, *known)]
        return Begun(*map(int, begun))

    def done(self, manager: str, fanout_id: str, plan: int, chunk: int, reached: int) -> Steps[None]:
        """A chunk is done."""
        yield from self._done(manager, fanout_id, plan, str(chunk), reached)

    def _done(self, manager: str, fanout_id: str, plan: int, chunk: str, amount: int, *parked: Any) -> Steps[None]:
        (over,) = yield [call_script("receipt_done", _receipt(fanout_id), plan, chunk, amount, keep(), *parked)]
        if over:
            yield [_move(manager, [(fanout_id, over, -1)])]

    def put_off(self, manager: str, claim: Claim, delay: float, error: str = "", waits: str = "") -> Steps[None]:
        """Let a claim go."""
        facts: tuple[Any, ...] = ("failed", 1, "error", error) if error else ("attempts", -1, "waits", waits)
        if error or claim.marked:
            facts += ("tried", claim.tries if error else claim.tries - 1, "deaths", claim.deaths)
        yield [
            call_script("receipt_update", [receipt_key(claim.id)], claim.plan, 1, *facts),
            _move(manager, [(claim.id, claim.time, _milliseconds(delay))]),
        ]

    def note(self, fanout_id: str, plan: int, error: str) -> Steps[None]:
        """A chunk failed."""
        yield [call_script("receipt_update", [receipt_key(fanout_id)], plan, 1, "failed", 1, "error", error)]

    def skip(self, fanout_id: str, plan: int, count: int, error: str) -> Steps[None]:
        """Bad ids were left out."""
        facts = ("skipped", count, "error", error)
        yield [call_script("receipt_update", [receipt_key(fanout_id)], plan, 0, *facts)]

    def bury(self, manager: str, claim: Claim, reason: str, payload: bytes) -> Steps[None]:
        """The letter first: twice is better than never."""
        letter = yield from self.add_letter("fanout", reason, payload, manager)
        key, now = receipt_key(claim.id), letter.partition("-")[0]
        noted, _ = yield [
            call_script("receipt_update", [key], claim.plan, 0, "dead", letter, "finished", now, "error", reason),
            _move(manager, [(claim.id, claim.time, -1)]),
        ]
        if noted:
            yield [("PERSIST", key)]
        else:
            yield from self.drop_letters([letter])

    def let_expire(self, fanout_id: str) -> Steps[None]:
        """Its receipt expires."""
        yield [("EXPIRE", receipt_key(fanout_id), OPEN_TTL)]

    def cancel(self, fanout_id: str, op: str = "") -> Steps[bool]:
        """Cancel; the entry in due is dropped by whoever looks at it."""
        (cancelled,) = yield [call_script("receipt_cancel", _receipt(fanout_id), keep(), op)]
        return bool(cancelled)

    def get(self, fanout_id: str) -> Steps[dict[str, str]]:
        """The receipt's fields."""
        values, now = yield [("HMGET", receipt_key(fanout_id), *_FIELDS), ("TIME",)]
        fields = {name: value.decode(errors="replace") for name, value in zip(_FIELDS, values) if value is not None}
        return {**fields, "now": str(int(now[0]) * 1000 + int(now[1]) // 1000)}

    def open_ids(self, manager: str, limit: int) -> Steps[list[str]]:
        """Unfinished fan-outs."""
        (names,) = yield [("ZRANGE", due_key(manager), 0, limit - 1)]
        return [name.decode() for name in names]

    def count_open(self, managers: Sequence[str]) -> Steps[int]:
        """How many are not finished."""
        counts = yield [("ZCARD", due_key(name)) for name in managers]
        return sum(map(int, counts))

    def add_letter(self, kind: str, reason: str, payload: bytes, manager: str = "") -> Steps[str]:
        """Put a dead letter."""
        facts = ("kind", kind, "manager", manager, "reason", reason, "payload", payload)
        (letter,) = yield [("XADD", letters_key(), "MAXLEN", "~", MOST_LETTERS, "*", *facts)]
        return str(letter.decode())

    def letters(self, limit: int) -> Steps[list[Letter]]:
        """The newest letters."""
        (rows,) = yield [("XREVRANGE", letters_key(), "+", "-", "COUNT", limit)]
        return [_letter(*row) for row in rows]

    def letter(self, letter_id: str) -> Steps[Letter | None]:
        """One letter."""
        (rows,) = yield [("XRANGE", letters_key(), letter_id, letter_id)]
        return _letter(*rows[0]) if rows else None

    def drop_letters(self, ids: Sequence[str]) -> Steps[int]:
        """Forget letters."""
        (count,) = yield [("XDEL", letters_key(), *ids)] if ids else [("EXISTS", letters_key())]
        return int(count) if ids else 0


def _due(manager: str) -> list[str]:
    return [due_key(manager), bell_key(manager)]


def _receipt(fanout_id: str) -> list[str]:
    return [receipt_key(fanout_id), chunks_key(fanout_id)]


def _claimed(name: str, held: str, got: Sequence[Any], bell: str) -> Claim | None:
    """The claim of a receipt; None of a damaged one."""
    op, plan, planned, attempts, body, again, sent, feeds, waits, tries, deaths = got
    try:
        facts = op.decode(), body, int(planned), attempts, again, int(sent)
        names = tuple(feeds.decode().split("\n")[1:-1])
        return Claim(name, held, int(plan), *facts, names, waits.decode(), bell, int(tries), int(deaths))
    except ValueError:
        logger.error("the receipt of fan-out %s is damaged; feedmill doctor --fix begins it anew", name)
        return None


def _settled(claim: Claim) -> Command:
    """Whoever began *claim* did not die in it."""
    return call_script("receipt_update", [receipt_key(claim.id)], claim.plan, 0, "deaths", claim.deaths)


def _lines(names: Sequence[str]) -> str:
    """Names as the receipts hold them: each between two ends of lines."""
    return "".join(["\n", *(f"{name}\n" for name in names)])


def _move(manager: str, moves: Sequence[tuple[str, Any, int]], *taken: str) -> Command:
    return call_script("due_move", [due_key(manager), *taken], *(part for move in moves for part in move))


def _letter(name: bytes, facts: Sequence[bytes]) -> Letter:
    known = dict(zip(facts[::2], facts[1::2]))
    kind, reason, manager = (known.get(key, b"").decode("utf-8", "replace") for key in (b"kind", b"reason", b"manager"))
    return Letter(name.decode(), kind, reason, known.get(b"payload", b""), manager)
