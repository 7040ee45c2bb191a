"""What hooks are to be told, on Redis: lists where it happened, and a sorted set for each bucket of a manager."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from feedmill.keys import HOOK_BUCKETS, dead_letters_key, hook_keys, hooks_wakeup_key, told_dead_letter_key
from feedmill.storage.hook_queue import (
    FURTHEST,
    HOOKS_WAKEUP_TTL,
    UNTOLD_TTL,
    HookClaim,
    HookQueue,
    HookSettlement,
    UntoldDeadLetters,
    item_owner,
    items_of,
)
from feedmill.storage.journal import OPEN_TTL
from feedmill.storage.operations import Command, Steps
from feedmill.storage.redis.journal import read_dead_letter
from feedmill.storage.redis.timelines import call_script


class RedisHookQueue(HookQueue):
    """Timed by the server."""

    def schedule(self, manager: str, owners: Mapping[int, Sequence[bytes]]) -> Steps[None]:
        if owners:
            yield [call_script("hooks_note", [hook_keys(manager, bucket)[0]], *some) for bucket, some in owners.items()]

    def wake(self, manager: str) -> Steps[bool]:
        (is_first,) = yield [call_script("hooks_wake", [hooks_wakeup_key(manager)], HOOKS_WAKEUP_TTL)]
        return bool(is_first)

    def due(self, manager: str, *, answering: bool = False) -> Steps[list[int]]:
        # What is put in behind this is told by another wake-up message.
        first: list[Command] = [("UNLINK", hooks_wakeup_key(manager))] if answering else []
        *_, (seconds, micros) = yield [*first, ("TIME",)]
        now = int(seconds) * 1_000_000 + int(micros)
        keys = [hook_keys(manager, bucket)[0] for bucket in range(HOOK_BUCKETS)]
        counted = yield [
            command
            for key in keys
            for command in (("ZCOUNT", key, "-inf", now), ("ZCOUNT", key, now + FURTHEST, "+inf"))
        ]
        return [bucket for bucket in range(HOOK_BUCKETS) if any(counted[2 * bucket : 2 * bucket + 2])]

    def overdue(self, manager: str, seconds: float) -> Steps[int]:
        ((whole, micros),) = yield [("TIME",)]
        latest = int(whole) * 1_000_000 + int(micros) - int(seconds * 1e6)
        counted = yield [
            ("ZCOUNT", hook_keys(manager, bucket)[0], "-inf", f"({latest}") for bucket in range(HOOK_BUCKETS)
        ]
        return sum(counted)

    def take(self, manager: str, bucket: int, token: bytes, lease: int, limit: int) -> Steps[list[HookClaim] | None]:
        (found,) = yield [call_script("hooks_take", hook_keys(manager, bucket), token, lease, limit, FURTHEST)]
        if found is None:
            return None
        return [
            HookClaim(owner, proof.decode(), int(begun), int(survived))
            for owner, proof, begun, survived in zip(*(found[at::4] for at in range(4)))
        ]

    def begin(self, manager: str, bucket: int, token: bytes, lease: int, claims: Sequence[HookClaim]) -> Steps[bool]:
        _, attempts, holder = hook_keys(manager, bucket)
        begun = [part for each in claims for part in (each.owner, each.begun + 1)]
        (held,) = yield [call_script("hooks_begin", [attempts, holder], token, lease, OPEN_TTL, *begun)]
        return bool(held)

    def settle(
        self, manager: str, bucket: int, settlements: Sequence[HookSettlement], release: bytes = b""
    ) -> Steps[None]:
        facts: list[Any] = []
        for claim, delay, failed in settlements:
            facts += (claim.owner, claim.proof, -1 if delay is None else int(delay * 1000))
            facts += (claim.begun + 1, claim.survived + 1) if failed else ("", "")
        yield [call_script("hooks_settle", hook_keys(manager, bucket), release, *facts)]

    def set_apart(
        self, manager: str, bucket: int, owner: bytes, items: Sequence[bytes], delay: float, begun: int, survived: int
    ) -> Steps[bool]:
        owners = [item_owner(owner, item) for item in items]
        facts = owner, int(delay * 1000), begun, survived, OPEN_TTL
        (is_noted,) = yield [call_script("hooks_apart", hook_keys(manager, bucket)[:2], *facts, *owners)]
        return bool(is_noted)

    def items(self, keys: Sequence[str], limit: int) -> Steps[list[list[bytes]]]:
        return (yield [("LRANGE", key, 0, limit - 1) for key in keys]) if keys else []

    def drop(self, key: str, items: Sequence[bytes]) -> Steps[int]:
        (left,) = yield [call_script("hooks_drop", [key], *items)]
        return int(left)

    def put(self, key: str, items: Sequence[bytes]) -> Steps[None]:
        yield [("RPUSH", key, *items), ("EXPIRE", key, UNTOLD_TTL)]

    def untold_dead_letters(self, manager: str, limit: int) -> Steps[UntoldDeadLetters]:
        (told,) = yield [("GET", told_dead_letter_key(manager))]
        start = "-" if told is None else f"({told.decode()}"
        (rows,) = yield [("XRANGE", dead_letters_key(), start, "+", "COUNT", limit)]
        letters = [read_dead_letter(*row) for row in rows]
        last = letters[-1].id if letters else ""
        return UntoldDeadLetters([each for each in letters if each.manager in ("", manager)], last)

    def dead_letters_told(self, manager: str, last: str) -> Steps[None]:
        yield [("SET", told_dead_letter_key(manager), last)]

    def forget(self, manager: str, owners: Mapping[int, Sequence[bytes]]) -> Steps[None]:
        if owners:
            yield [
                call_script(
                    "hooks_forget",
                    hook_keys(manager, bucket)[:2],
                    *(part for each in some for part in (each, items_of(each))),
                )
                for bucket, some in owners.items()
            ]
