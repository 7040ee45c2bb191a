"""The journal inside this process. Same operations, same results as on Redis."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from feedmill.storage.journal import (
    BELL,
    MOST_LETTERS,
    REPLACING,
    ROLLING,
    Begun,
    Claim,
    Journal,
    Letter,
    Opened,
    Pace,
    Succession,
    lease,
    name_of,
)
from feedmill.storage.memory.auxiliary import last_number
from feedmill.storage.memory.data import DATA, journal_time, milliseconds
from feedmill.storage.operations import Steps


class MemoryJournal(Journal):
    """Receipts in dicts. Finished ones are kept as long as the process lives."""

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
        yield from ()
        name_of(manager, fanout_id)
        with DATA.guard:
            receipt, now = self._open(manager, fanout_id, op, body, feeds, succession), journal_time()
            at: float = now
            if pace is not None:
                bucket = f"{manager}:{pace.author}"
                level = DATA.buckets[bucket] = max(now, DATA.buckets.get(bucket, 0)) + pace.interval
                at = max(now, int(level - pace.interval * pace.burst))
            _due(manager)[fanout_id] = at
            return Opened(receipt["plan"], at <= now and _ring(manager), receipt["op"])

    def open_sent(
        self,
        manager: str,
        fanout_id: str,
        op: str,
        body: bytes,
        feeds: Sequence[str] = (),
        succession: Succession = REPLACING,
    ) -> Steps[Opened]:
        yield from ()
        name_of(manager, fanout_id)
        with DATA.guard:
            receipt = self._open(manager, fanout_id, op, body, feeds, succession)
            due = journal_time() + lease() + 0.5
            receipt.update(planned=1, complete=1, claimed=journal_time(), due=due, chunks={0: body})
            _due(manager)[fanout_id] = due
            return Opened(receipt["plan"], False, receipt["op"])

    @staticmethod
    def _open(
        manager: str, fanout_id: str, op: str, body: bytes, feeds: Sequence[str], succession: Succession
    ) -> dict[str, Any]:
        was, now = DATA.receipts.get(fanout_id, {}), journal_time()
        again = _number(was.get("again"))
        undone = "finished" not in was or "dead" in was or "again" in was
        absorbed = undone and was.get("op") in succession.absorbs
        op = succession.becomes if absorbed else op
        twice = "cancelled" in was or was.get("retried") or _number(was.get("attempts")) > 1
        if "claimed" in was and (twice or "finished" not in was):
            again = max(again, now + lease())
        DATA.letters.pop(was.get("dead", ""), None)
        receipt = {
            "plan": _next_plan(_number(was.get("plan"))),
            "op": op,
            "manager": manager,
            "body": body,
            "created": now,
        }
        receipt |= {"chunks": {}, "begun": {}, "feeds": tuple(feeds)}
        if again:
            receipt.update(again=again, repeat_after=lease(), listed=was.get("listed", 0))
        DATA.receipts[fanout_id] = receipt
        return receipt

    def claim(self, manager: str, limit: int, bell: str = "") -> Steps[tuple[list[Claim], bool]]:
        yield from ()
        with DATA.guard:
            due, now = _due(manager), journal_time()
            DATA.bells.pop(manager, None)
            ids = sorted((at, name) for name, at in due.items() if at <= now)
            claims, held = [], now + lease() + 0.5
            newest = limit - limit // 2
            for _, name in ids if len(ids) <= limit else [*ids[: limit // 2], *ids[-newest:]]:
                receipt = DATA.receipts.get(name)
                if receipt is None or ("finished" in receipt and "again" not in receipt):
                    del due[name]
                    continue
                due[name] = held
                claims.append(self._claim(name, receipt, f"{held:.1f}", now))
            return claims, len(ids) > limit and _ring(manager)

    @staticmethod
    def _claim(name: str, receipt: dict[str, Any], held: str, now: int) -> Claim:
        complete = receipt.get("complete") == 1 and "finished" not in receipt
        tried = receipt.get("tried", 1 if complete and receipt.get("attempts") else 0)
        if complete:
            unsent = receipt.get("sent", receipt["planned"]) < receipt["planned"]
            if unsent or receipt.get("done", 0) != receipt.get("seen", 0):
                receipt.update(seen=receipt.get("done", 0), attempts=0)
                tried = 0
                _forget(receipt, "tried", "deaths")
        else:
            if "finished" in receipt:
                receipt.setdefault("was", " ".join(str(receipt.get(key, 0)) for key in ("planned", "done", "reached")))
            receipt["plan"] = _next_plan(receipt["plan"])
            receipt.update(planned=0, done=0, reached=0, complete=0, chunks={}, begun={})
            _forget(receipt, "sent", "skipped", "lived")
        receipt.update(attempts=receipt.get("attempts", 0) + 1, claimed=now)
        plan, op, body, planned = (receipt[key] for key in ("plan", "op", "body", "planned"))
        sent, feeds = receipt.get("sent", planned), _feeds(receipt)
        waits = "" if complete else receipt.get("waits", "")
        facts = op, body, planned, receipt["attempts"], sent, feeds, waits
        deaths, relisted = receipt.get("deaths", 0), "listed" in receipt
        listed = receipt.setdefault("listed", last_number(receipt["manager"]))
        return Claim(name, held, plan, *facts, listed=listed, tries=tried + 1, deaths=deaths, relisted=relisted)

    def look(self, manager: str) -> Steps[tuple[int, bool]]:
        yield from ()
        with DATA.guard:
            now = journal_time()
            count = sum(at <= now for at in _due(manager).values())
            return count, count > 0 and _ring(manager)

    def finish(self, manager: str, done: Sequence[tuple[Claim, int]]) -> Steps[None]:
        yield from ()
        with DATA.guard:
            for claim, reached in done:
                receipt = _current(claim.id, claim.plan)
                if receipt is None:  # another has it
                    continue
                receipt.update(planned=1, done=1, reached=reached, complete=1)
                if _move(manager, claim.id, claim.time, -1 if _finished(receipt) else 0):
                    _due(manager)[claim.id] = receipt["again"] - 0.25

    def begin(self, manager: str, claim: Claim) -> Steps[Claim | None]:
        yield from ()
        with DATA.guard:
            receipt, moved = _renewed(manager, claim)
            if receipt is None:
                return None
            receipt.update(tried=claim.tries, deaths=claim.deaths + 1)
            if claim.deaths:
                receipt["error"] = claim.died()
            return claim._replace(time=moved, marked=True)

    def write_chunks(self, manager: str, claim: Claim, chunks: Mapping[int, bytes]) -> Steps[Claim | None]:
        yield from ()
        with DATA.guard:
            receipt, moved = _renewed(manager, claim)
            if receipt is None:
                return None
            receipt["chunks"].update(chunks)
            receipt["planned"] += len(chunks)
            return claim._replace(time=moved)

    def park(self, manager: str, claim: Claim, planned: int, delay: float, sent: int) -> Steps[None]:
        yield from ()
        with DATA.guard:
            receipt = _current(claim.id, claim.plan)
            moved = _move(manager, claim.id, claim.time, int(delay * 1000)) if receipt is not None else ""
            if moved and receipt is not None:
                receipt.update(planned=planned, complete=1, due=float(moved), sent=sent, deaths=claim.deaths)
                self._perhaps_finished(manager, claim.id, receipt)

    def left(self, claim: Claim) -> Steps[list[int]]:
        yield from ()
        with DATA.guard:
            receipt = _current(claim.id, claim.plan)
            return [] if receipt is None else sorted(receipt["chunks"])

    def chunks(self, claim: Claim, numbers: Sequence[int]) -> Steps[dict[int, bytes]]:
        yield from ()
        with DATA.guard:
            held = (_current(claim.id, claim.plan) or {}).get("chunks", {})
            return {number: held[number] for number in numbers if number in held}

    def start(self, fanout_id: str, plan: int, chunk: int, feeds: Sequence[str] | None = None) -> Steps[Begun]:
        yield from ()
        with DATA.guard:
            receipt = _current(fanout_id, plan)
            if receipt is None or chunk not in receipt["chunks"]:
                return Begun(0)
            if feeds is not None and not set(_feeds(receipt)) <= set(feeds):
                return Begun(-1)
            times = receipt["begun"][chunk] = receipt["begun"].get(chunk, 0) + 1
            if times > 1:
                receipt["retried"] = receipt.get("retried", 0) + 1
            deaths = max(0, times - 1 - receipt.setdefault("lived", {}).get(chunk, 0))
            return Begun(times, receipt.get("listed", 0), deaths)

    def lived(self, fanout_id: str, plan: int, chunk: int) -> Steps[None]:
        yield from ()
        with DATA.guard:
            receipt = _current(fanout_id, plan)
            if receipt is not None and chunk in receipt["chunks"]:
                lived = receipt.setdefault("lived", {})
                lived[chunk] = min(receipt["begun"].get(chunk, 0), lived.get(chunk, 0) + 1)

    def done(self, manager: str, fanout_id: str, plan: int, chunk: int, reached: int) -> Steps[None]:
        yield from ()
        with DATA.guard:
            receipt = _current(fanout_id, plan)
            if receipt is None:
                return
            if receipt["chunks"].pop(chunk, None) is not None:
                receipt["done"] = receipt.get("done", 0) + 1
                receipt["reached"] = receipt.get("reached", 0) + reached
            self._perhaps_finished(manager, fanout_id, receipt)

    @staticmethod
    def _perhaps_finished(manager: str, fanout_id: str, receipt: dict[str, Any]) -> None:
        if receipt.get("complete") == 1 and receipt["planned"] == receipt.get("done", 0) and _finished(receipt):
            _move(manager, fanout_id, str(receipt["due"]), -1)

    def put_off(self, manager: str, claim: Claim, delay: float, error: str = "", waits: str = "") -> Steps[None]:
        yield from self.note(claim.id, claim.plan, error)
        with DATA.guard:
            receipt = _current(claim.id, claim.plan)
            if receipt is not None and not error:
                receipt["attempts"] -= 1
                receipt["waits"] = waits
                if not claim.relisted and not claim.planned:
                    _forget(receipt, "listed")
            if receipt is not None and (error or claim.marked):
                receipt.update(tried=claim.tries if error else claim.tries - 1, deaths=claim.deaths)
            if receipt is not None:
                _move(manager, claim.id, claim.time, int(delay * 1000))

    def note(self, fanout_id: str, plan: int, error: str) -> Steps[None]:
        yield from ()
        with DATA.guard:
            receipt = _current(fanout_id, plan)
            if receipt is not None and error:
                receipt.update(failed=receipt.get("failed", 0) + 1, error=error)

    def skip(self, fanout_id: str, plan: int, count: int, error: str) -> Steps[None]:
        yield from ()
        with DATA.guard:
            receipt = _current(fanout_id, plan)
            if receipt is not None:
                receipt.update(skipped=count, error=error)

    def bury(self, manager: str, claim: Claim, reason: str, payload: bytes) -> Steps[None]:
        letter = yield from self.add_letter("fanout", reason, payload, manager, claim.id)
        with DATA.guard:
            receipt = _current(claim.id, claim.plan)
            if receipt is not None:
                receipt.update(dead=letter, finished=journal_time(), error=reason)
                _move(manager, claim.id, claim.time, -1)
            else:
                DATA.letters.pop(letter)

    def let_expire(self, fanout_id: str) -> Steps[None]:
        yield from ()

    def cancel(self, fanout_id: str, op: str = "") -> Steps[bool]:
        yield from ()
        with DATA.guard:
            receipt = DATA.receipts.get(fanout_id)
            if receipt is None or "finished" in receipt or op not in ("", receipt["op"]):
                return False
            receipt.update(
                plan=_next_plan(receipt["plan"]), cancelled=journal_time(), finished=journal_time(), chunks={}
            )
            receipt.pop("again", None)
            _due(receipt["manager"]).pop(fanout_id, None)
            return True

    def get(self, fanout_id: str) -> Steps[dict[str, str]]:
        yield from ()
        with DATA.guard:
            fields = DATA.receipts.get(fanout_id, {}).items()
            return {
                **{k: str(v) for k, v in fields if k not in ("chunks", "begun", "lived", "body", "feeds")},
                "now": str(journal_time()),
            }

    def open_ids(self, manager: str, limit: int) -> Steps[list[str]]:
        yield from ()
        with DATA.guard:
            due = _due(manager)
            return sorted(due, key=lambda name: (due[name], name))[:limit]

    def count_open(self, managers: Sequence[str]) -> Steps[int]:
        yield from ()
        with DATA.guard:
            return sum(len(_due(name)) for name in managers)

    def add_letter(self, kind: str, reason: str, payload: bytes, manager: str = "", fanout_id: str = "") -> Steps[str]:
        yield from ()
        with DATA.guard:
            DATA.letter_number += 1
            name = f"{milliseconds()}-{DATA.letter_number}"
            DATA.letters[name] = Letter(name, kind, reason, payload, manager, fanout_id)
            while len(DATA.letters) > MOST_LETTERS:
                del DATA.letters[next(iter(DATA.letters))]
            return name

    def letters(self, limit: int) -> Steps[list[Letter]]:
        yield from ()
        with DATA.guard:
            return list(DATA.letters.values())[::-1][:limit]

    def letter(self, letter_id: str) -> Steps[Letter | None]:
        yield from ()
        with DATA.guard:
            return DATA.letters.get(letter_id)

    def drop_letters(self, ids: Sequence[str]) -> Steps[int]:
        yield from ()
        with DATA.guard:
            return sum(DATA.letters.pop(name, None) is not None for name in ids)


def _forget(receipt: dict[str, Any], *fields: str) -> None:
    for field in fields:
        receipt.pop(field, None)


def _number(value: Any) -> Any:
    """*value*, which a damaged receipt holds, as a number."""
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


def _feeds(receipt: dict[str, Any]) -> tuple[str, ...]:
    """The feeds that a worker must know to do it."""
    return receipt["feeds"] if receipt["created"] > journal_time() - ROLLING else ()


def _current(fanout_id: str, plan: int) -> dict[str, Any] | None:
    receipt = DATA.receipts.get(fanout_id)
    return receipt if receipt is not None and receipt["plan"] == plan else None


def _finished(receipt: dict[str, Any]) -> bool:
    """Mark *receipt* as finished; whether nothing is left to do."""
    receipt.setdefault("finished", journal_time())
    _forget(receipt, "was", "tried", "deaths")
    if receipt.get("again", 0) <= receipt["claimed"] and "repeat_after" in receipt:
        receipt["again"] = journal_time() + receipt.pop("repeat_after")
    if receipt.get("again", 0) > receipt["claimed"]:
        return False
    _forget(receipt, "again", "listed")
    return True


def _renewed(manager: str, claim: Claim) -> tuple[dict[str, Any] | None, str]:
    """The receipt of a claim that holds for another lease, and its new time; None if it was lost, and nothing was written."""
    receipt = _current(claim.id, claim.plan)
    moved = "" if receipt is None else _move(manager, claim.id, claim.time, lease())
    return (receipt, moved) if moved else (None, "")


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
