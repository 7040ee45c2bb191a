"""What hooks are to be told, inside this process."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from feedmill.storage.hook_queue import (
    FURTHEST,
    HOOKS_WAKEUP_TTL,
    HookClaim,
    HookQueue,
    HookSettlement,
    UntoldDeadLetters,
    item_owner,
    items_of,
)
from feedmill.storage.memory.data import DATA, atomic, journal_time


class MemoryHookQueue(HookQueue):
    """Lists and times in dicts of :data:`DATA`."""

    @atomic
    def schedule(self, manager: str, owners: Mapping[int, Sequence[bytes]]) -> None:
        for bucket, some in owners.items():
            due = _due(manager, bucket)
            for owner in some:
                due[owner] = due[owner] + 1 if owner in due else _now()

    @atomic
    def wake(self, manager: str) -> bool:
        if DATA.hook_wakeups.get(manager, 0) > _now():
            return False
        DATA.hook_wakeups[manager] = _now() + HOOKS_WAKEUP_TTL * 1000
        return True

    @atomic
    def due(self, manager: str, *, answering: bool = False) -> list[int]:
        if answering:
            DATA.hook_wakeups.pop(manager, None)
        return sorted(bucket for name, bucket in DATA.hook_due if name == manager and _of_now(manager, bucket))

    @atomic
    def overdue(self, manager: str, seconds: float) -> int:
        latest = _now() - seconds * 1e6
        return sum(at < latest for (name, _), due in DATA.hook_due.items() if name == manager for at in due.values())

    @atomic
    def take(self, manager: str, bucket: int, token: bytes, lease: int, limit: int) -> list[HookClaim] | None:
        holder, until = DATA.hook_holders.get((manager, bucket), (b"", 0))
        if holder not in (b"", token) and until > _now():
            return None
        found = _of_now(manager, bucket)[:limit]
        if not found:
            DATA.hook_holders.pop((manager, bucket), None)
            return []
        DATA.hook_holders[manager, bucket] = token, _now() + lease * 1000
        due = _due(manager, bucket)
        return [HookClaim(each, str(due[each]), *DATA.hook_attempts.get((manager, each), (0, 0))) for each in found]

    @atomic
    def begin(self, manager: str, bucket: int, token: bytes, lease: int, claims: Sequence[HookClaim]) -> bool:
        holder, until = DATA.hook_holders.get((manager, bucket), (b"", 0))
        if holder != token or until <= _now():
            return False
        DATA.hook_holders[manager, bucket] = token, _now() + lease * 1000
        for each in claims:
            DATA.hook_attempts[manager, each.owner] = each.begun + 1, each.survived
        return True

    @atomic
    def settle(self, manager: str, bucket: int, settlements: Sequence[HookSettlement], release: bytes = b"") -> None:
        due = _due(manager, bucket)
        for claim, delay, failed in settlements:
            if failed:
                DATA.hook_attempts[manager, claim.owner] = claim.begun + 1, claim.survived + 1
            else:
                DATA.hook_attempts.pop((manager, claim.owner), None)
            at = due.get(claim.owner)
            if at is not None and delay:
                due[claim.owner] = _now() + int(delay * 1_000_000)
            elif at is not None and str(at) == claim.proof:
                if delay is None:
                    del due[claim.owner]
                else:
                    due[claim.owner] = max(_now(), at + 1)
        if release and DATA.hook_holders.get((manager, bucket), (b"", 0))[0] == release:
            del DATA.hook_holders[manager, bucket]

    @atomic
    def set_apart(
        self, manager: str, bucket: int, owner: bytes, items: Sequence[bytes], delay: float, begun: int, survived: int
    ) -> bool:
        due = _due(manager, bucket)
        if owner not in due:
            return False
        for each in (item_owner(owner, item) for item in items):
            if each not in due:
                due[each] = _now() + int(delay * 1_000_000)
                DATA.hook_attempts[manager, each] = begun, survived
        return True

    @atomic
    def items(self, keys: Sequence[str], limit: int) -> list[list[bytes]]:
        return [DATA.hook_items.get(key, [])[:limit] for key in keys]

    @atomic
    def drop(self, key: str, items: Sequence[bytes]) -> int:
        held = DATA.hook_items.get(key, [])
        for item in items:
            if item in held:
                held.remove(item)
        if not held:
            DATA.hook_items.pop(key, None)
        return len(held)

    @atomic
    def put(self, key: str, items: Sequence[bytes]) -> None:
        DATA.hook_items.setdefault(key, []).extend(items)

    @atomic
    def untold_dead_letters(self, manager: str, limit: int) -> UntoldDeadLetters:
        letters, told = list(DATA.dead_letters.values()), DATA.told_dead_letters.get(manager, "")
        rest = [each for each in letters if _number(each.id) > _number(told)][:limit]
        last = rest[-1].id if rest else ""
        return UntoldDeadLetters([each for each in rest if each.manager in ("", manager)], last)

    @atomic
    def dead_letters_told(self, manager: str, last: str) -> None:
        DATA.told_dead_letters[manager] = last

    @atomic
    def forget(self, manager: str, owners: Mapping[int, Sequence[bytes]]) -> None:
        for bucket, some in owners.items():
            due, beginnings = _due(manager, bucket), tuple(map(items_of, some))
            for owner in [*some, *(each for each in due if each.startswith(beginnings))]:
                due.pop(owner, None)
                DATA.hook_attempts.pop((manager, owner), None)


def put(key: str, items: Sequence[bytes], most: int) -> None:
    """Put *items* behind those of the list *key*, of which the newest *most* stay."""
    held = DATA.hook_items.setdefault(key, [])
    held.extend(items)
    del held[:-most]


def _due(manager: str, bucket: int) -> dict[bytes, int]:
    return DATA.hook_due.setdefault((manager, bucket), {})


def _of_now(manager: str, bucket: int) -> list[bytes]:
    """What is due, that first which has been longest."""
    now, due = _now(), DATA.hook_due.get((manager, bucket), {})
    return sorted((each for each, at in due.items() if at <= now or at > now + FURTHEST), key=lambda each: due[each])


def _now() -> int:
    """The time in µs, which goes back by no more than a millisecond."""
    with DATA.guard:
        journal_time()  # notes how far it is ahead of this process' clock
        return time.time_ns() // 1000 + DATA.ahead * 1000


def _number(dead_letter_id: str) -> int:
    return int(dead_letter_id.partition("-")[2] or 0)
