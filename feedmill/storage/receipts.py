"""Receipts: what a fan-out planned and what of it is done, in Redis or in this process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from feedmill import settings
from feedmill.keys import open_fanouts_key, receipt_key
from feedmill.storage.memory import BACKEND
from feedmill.storage.redis.timelines import call_script
from feedmill.storage.steps import Steps

#: Seconds that the receipt of an unfinished fan-out is kept.
OPEN_TTL = 7 * 24 * 3600
#: The number of a plan that has one chunk, done by whoever planned it.
SINGLE = 0


class RedisReceipts:
    """A HASH for each fan-out, a bitmap of its chunks, and a ZSET of those that are open."""

    def open(self, fanout_id: str, facts: Mapping[str, Any]) -> Steps[None]:
        """A fan-out is about to be asked for."""
        key, now = receipt_key(fanout_id), int(time.time() * 1000)
        fields = [part for item in facts.items() for part in item]
        yield [
            ("HSET", key, "created", now, *fields),
            ("EXPIRE", key, OPEN_TTL),
            ("ZADD", open_fanouts_key(), now, fanout_id),
        ]

    def plan(self, fanout_id: str) -> Steps[int]:
        """A worker begins to plan; the plan's number."""
        key = receipt_key(fanout_id)
        (number,) = yield [call_script("receipt_plan", [key, key + ":chunks"])]
        return int(number)

    def done(self, fanout_id: str, plan: int, chunk: int, amount: int) -> Steps[bool]:
        """Chunk *chunk* is done and reached *amount* people; with ``chunk=-1`` *amount* chunks are all there are."""
        key, ttl = receipt_key(fanout_id), max(1, int(settings.current().receipt_ttl))
        now = int(time.time() * 1000)
        (finished,) = yield [call_script("receipt_done", [key, key + ":chunks"], plan, chunk, amount, now, ttl)]
        if finished == 1:
            yield [("ZREM", open_fanouts_key(), fanout_id)]
        return bool(finished == 1)

    def single(self, fanout_id: str, reached: int) -> Steps[None]:
        """The whole fan-out was one chunk and is done."""
        key, now = receipt_key(fanout_id), int(time.time() * 1000)
        yield [
            ("HSET", key, "planned", 1, "done", 1, "reached", reached, "complete", 1, "finished", now),
            ("EXPIRE", key, max(1, int(settings.current().receipt_ttl))),
            ("ZREM", open_fanouts_key(), fanout_id),
        ]

    def get(self, fanout_id: str) -> Steps[dict[str, str]]:
        """The receipt's fields; empty if it is not (or no longer) there."""
        (fields,) = yield [("HGETALL", receipt_key(fanout_id))]
        if not isinstance(fields, dict):
            fields = dict(zip(fields[::2], fields[1::2]))
        return {name.decode(): value.decode() for name, value in fields.items()}

    def count_open(self) -> Steps[int]:
        """How many fan-outs are not finished."""
        (count,) = yield [("ZCARD", open_fanouts_key())]
        return int(count)


class MemoryReceipts:
    """Receipts in a dict. In one process a fan-out has one worker, so plans never overlap."""

    def open(self, fanout_id: str, facts: Mapping[str, Any]) -> Steps[None]:
        """A fan-out is about to be asked for."""
        yield from ()
        BACKEND.receipts[fanout_id] = {"created": int(time.time() * 1000), **facts}

    def plan(self, fanout_id: str) -> Steps[int]:
        """A worker begins to plan; the plan's number."""
        yield from ()
        receipt = BACKEND.receipts.setdefault(fanout_id, {})
        receipt.update(planned=0, done=0, reached=0, complete=0, plan=receipt.get("plan", 0) + 1, chunks=set())
        return int(receipt["plan"])

    def done(self, fanout_id: str, plan: int, chunk: int, amount: int) -> Steps[bool]:
        """Chunk *chunk* is done, or with ``chunk=-1`` the plan is complete."""
        yield from ()
        receipt = BACKEND.receipts.setdefault(fanout_id, {})
        if receipt.get("plan") != plan:
            return False
        if chunk < 0:
            receipt.update(planned=amount, complete=1)
        elif chunk not in receipt["chunks"]:
            receipt["chunks"].add(chunk)
            receipt["done"] += 1
            receipt["reached"] += amount
        if not receipt["complete"] or receipt["planned"] != receipt["done"]:
            return False
        receipt.setdefault("finished", int(time.time() * 1000))
        return True

    def single(self, fanout_id: str, reached: int) -> Steps[None]:
        """The whole fan-out was one chunk and is done."""
        yield from ()
        now = int(time.time() * 1000)
        receipt = BACKEND.receipts.setdefault(fanout_id, {})
        receipt.update(planned=1, done=1, reached=reached, complete=1, finished=now)

    def get(self, fanout_id: str) -> Steps[dict[str, str]]:
        """The receipt's fields."""
        yield from ()
        return {name: str(value) for name, value in BACKEND.receipts.get(fanout_id, {}).items() if name != "chunks"}

    def count_open(self) -> Steps[int]:
        """How many fan-outs are not finished."""
        yield from ()
        return sum("finished" not in receipt for receipt in BACKEND.receipts.values())


def receipts() -> RedisReceipts | MemoryReceipts:
    """The receipts in force."""
    return MemoryReceipts() if settings.current().embedded else RedisReceipts()
