"""The auxiliary indexes inside this process."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

from feedmill.storage.auxiliary import (
    REFILTERED,
    FeedSchedule,
    FollowChanges,
    NotificationNumbers,
    Notifications,
    NotifiedUsers,
    PendingEntry,
    PendingIndex,
    RemovalIndex,
    Unfollow,
    Unfollows,
    names,
    names_all,
    without,
)
from feedmill.storage.memory.data import DATA, atomic, journal_time


class MemoryFeedSchedule(FeedSchedule):
    """Owners and times in a dict of :data:`DATA`."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def _held(self) -> dict[str, dict[bytes, tuple[int, int]]]:
        held: dict[str, dict[bytes, tuple[int, int]]] = getattr(DATA, self._name)
        return held

    @atomic
    def schedule(self, key_format: str, owners: Sequence[bytes], seconds: float, *, sooner: bool = False) -> None:
        self._schedule(key_format, owners, seconds, sooner=sooner)

    def _schedule(self, key_format: str, owners: Sequence[bytes], seconds: float, *, sooner: bool = False) -> None:
        scheduled = self._held.setdefault(key_format, {})
        at = journal_time() + int(seconds * 1000)
        for owner in owners:
            if not sooner or owner not in scheduled or scheduled[owner][0] > at:
                DATA.pending_number += 1
                scheduled[owner] = at, DATA.pending_number

    @atomic
    def due(self, key_format: str, limit: int) -> list[PendingEntry]:
        scheduled, now = self._held.get(key_format, {}), journal_time()
        due = sorted((time, owner) for owner, time in scheduled.items() if time[0] <= now)
        return [PendingEntry(owner, b"%d %d" % time) for time, owner in due[:limit]]

    @atomic
    def settle(self, key_format: str, entries: Sequence[PendingEntry], seconds: float | None) -> None:
        held = self._held.get(key_format, {})
        same = [owner for owner, time in entries if owner in held and b"%d %d" % held[owner] == time]
        for owner in same:
            del held[owner]
        if seconds is not None:
            self._schedule(key_format, same, seconds)

    @atomic
    def forget(self, key_format: str, owners: Sequence[bytes]) -> None:
        for owner in owners:
            self._held.get(key_format, {}).pop(owner, None)

    @atomic
    def count(self, key_format: str) -> int:
        return len(self._held.get(key_format, {}))


class MemoryPendingIndex(MemoryFeedSchedule, PendingIndex):
    """The same of feeds with pending writes."""

    def __init__(self) -> None:
        super().__init__("pending")

    @atomic
    def has_pending(self, keys: Sequence[str]) -> list[bool]:
        return [key in DATA.groups and bool(DATA.groups[key].pending) for key in keys]


@dataclasses.dataclass
class _Unfollows:
    """One manager's pairs."""

    number: int = 0
    unfollowed: dict[Unfollow, int] = dataclasses.field(default_factory=dict)
    followed: dict[Unfollow, int] = dataclasses.field(default_factory=dict)
    rebuilt: set[str] = dataclasses.field(default_factory=set)


class MemoryUnfollows(Unfollows):
    """Pairs in dicts, kept as long as the process lives."""

    @atomic
    def record_unfollow(self, manager: str, user: str, targets: Sequence[str]) -> None:
        held = _unfollows(manager)
        held.number += 1
        for target in targets:
            held.unfollowed[user, target] = held.number
            held.followed.pop((user, target), None)

    @atomic
    def clear_unfollow(self, manager: str, user: str, targets: Sequence[str]) -> None:
        held = _unfollows(manager)
        held.number += 1
        for target in targets:
            if held.unfollowed.pop((user, target), None) is not None or user in held.rebuilt:
                held.followed[user, target] = held.number

    @atomic
    def last_number(self, manager: str) -> int:
        return last_number(manager)

    @atomic
    def begin_rebuild(self, manager: str, user: str, *, refiltered: bool = False) -> int:
        held = _unfollows(manager)
        held.rebuilt.add(user)
        if refiltered:
            held.number += 1
            held.unfollowed[user, REFILTERED] = held.number
        return held.number

    @atomic
    def unfollowed_since(self, manager: str, number: int, pairs: Callable[[], Iterable[Unfollow]]) -> set[Unfollow]:
        return {pair for pair, at in _unfollows(manager).unfollowed.items() if at > number}

    @atomic
    def unfollowers_since(self, manager: str, target: str, number: int) -> list[str]:
        return [user for (user, whom), at in _unfollows(manager).unfollowed.items() if whom == target and at > number]

    @atomic
    def changes_since(self, manager: str, user: str, number: int) -> FollowChanges:
        held = _unfollows(manager)
        return FollowChanges(*(_of_user(each, user, number) for each in (held.unfollowed, held.followed)))

    @atomic
    def forget_user(self, manager: str, user: str, number: int, rebuilds: int | None) -> None:
        held = _unfollows(manager)
        for pairs in (held.unfollowed, held.followed):
            for pair, at in list(pairs.items()):
                until = rebuilds if pair[1] == REFILTERED else number
                if names(pair, user) and until is not None and at <= until:
                    del pairs[pair]
        if rebuilds is not None:
            held.rebuilt.discard(user)


def _unfollows(manager: str) -> _Unfollows:
    found: _Unfollows = DATA.unfollows.setdefault(manager, _Unfollows())
    return found


def _of_user(pairs: dict[Unfollow, int], user: str, number: int) -> frozenset[str]:
    return frozenset(target for (who, target), at in pairs.items() if who == user and at > number) - {REFILTERED}


def last_number(manager: str) -> int:
    """The last number of *manager*."""
    return _unfollows(manager).number


@dataclasses.dataclass
class _Notified:
    """The direct notifications of one activity."""

    last: int = 0
    removed: int = -1
    users: dict[str, bytes] = dataclasses.field(default_factory=dict)
    notifications: dict[str, tuple[int, bool]] = dataclasses.field(default_factory=dict)


class MemoryNotifiedUsers(NotifiedUsers):
    """Users in dicts, kept as long as the process lives."""

    @atomic
    def record(self, manager: str, raw_id: bytes, notified: bool, users: Mapping[str, bytes], number: int = 0) -> int:
        held: _Notified = DATA.notified.setdefault((manager, raw_id), _Notified())
        number = number or held.last + 1
        held.last = max(held.last, number)
        for name, packed in users.items():
            if held.notifications.get(name, (0, False))[0] <= number:
                held.users[name], held.notifications[name] = packed, (number, notified)
        return number

    @atomic
    def void(self, manager: str, raw_id: bytes) -> None:
        held: _Notified | None = DATA.notified.get((manager, raw_id))
        if held is not None:
            held.last = held.removed = held.last + 1

    @atomic
    def numbers(self, manager: str, raw_id: bytes) -> NotificationNumbers | None:
        held: _Notified | None = DATA.notified.get((manager, raw_id))
        return None if held is None else NotificationNumbers(held.last, held.removed)

    @atomic
    def notifications(self, manager: str, raw_id: bytes) -> Notifications:
        held: _Notified = DATA.notified.get((manager, raw_id), _Notified())
        return Notifications(NotificationNumbers(held.last, held.removed), dict(held.notifications))

    @atomic
    def users(self, manager: str, raw_id: bytes, names: Sequence[str]) -> dict[str, bytes]:
        held: _Notified = DATA.notified.get((manager, raw_id), _Notified())
        return {name: held.users[name] for name in names if name in held.users}

    @atomic
    def forget(self, manager: str, raw_ids: Sequence[bytes]) -> None:
        for raw_id in raw_ids:
            DATA.notified.pop((manager, raw_id), None)

    @atomic
    def forget_user(self, manager: str, user: str) -> None:
        for (owner, _), held in DATA.notified.items():
            if owner == manager:
                for name, packed in list(held.users.items()):
                    if (rest := without(packed, user)) != packed:
                        _replace(held, name, rest)


def _replace(held: _Notified, name: str, rest: bytes) -> None:
    """Keep the users that are left of a direct notification, which may be nobody."""
    said = held.notifications.pop(name, (0, True))
    del held.users[name]
    held.last += 1
    if rest:
        name = f"{name}*{said[0]}" if names_all(name) else name
        held.users[name], held.notifications[name] = rest, said


class MemoryRemovalIndex(RemovalIndex):
    """Entries in lists."""

    @atomic
    def add(self, manager: str, entries: Mapping[int, Sequence[bytes]]) -> None:
        for bucket, some in entries.items():
            DATA.index.setdefault((manager, bucket), []).extend(some)

    @atomic
    def entries(self, manager: str, buckets: Sequence[int], limit: int = 0) -> list[list[bytes]]:
        return [DATA.index.get((manager, bucket), [])[: limit or None] for bucket in buckets]

    @atomic
    def turn(self, manager: str, bucket: int, oldest: Sequence[bytes], kept: Sequence[bytes]) -> bool:
        held = DATA.index.get((manager, bucket), [])
        if held[: len(oldest)] != list(oldest):
            return False
        DATA.index[manager, bucket] = [*held[len(oldest) :], *kept]
        return True
