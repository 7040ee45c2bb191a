"""The auxiliary indexes on Redis: sorted sets and hashes of each manager, kind of feed and activity, each in one slot."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha1
from typing import Any

from feedmill import settings
from feedmill.iteration import batched
from feedmill.keys import (
    GROUPS,
    NUMBERS,
    index_key,
    notification_numbers_key,
    notified_users_key,
    pending_key,
    unfollows_keys,
)
from feedmill.msgpack_codec import pack, pack_list, unpack
from feedmill.storage.auxiliary import (
    KEPT_HOURS,
    MOST_READ,
    NOTIFIED_TTL,
    REBUILD_HOURS,
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
    without,
)
from feedmill.storage.journal import OPEN_TTL
from feedmill.storage.operations import Command, Steps
from feedmill.storage.redis.timelines import PENDING_FIELD, call_script

#: Milliseconds by which settings of workers may differ.
AHEAD = 600_000


class RedisFeedSchedule(FeedSchedule):
    """A sorted set for each kind of feed, timed by the server."""

    def __init__(self, spell: Callable[[str], str]) -> None:
        #: The key of the set, by the key format.
        self._key = spell

    @staticmethod
    def _furthest() -> float | None:
        """How far ahead anything is ever scheduled, ms; None if there is no limit."""
        return None

    def schedule(
        self, key_format: str, owners: Sequence[bytes], seconds: float, *, sooner: bool = False
    ) -> Steps[None]:
        how = "LT" if sooner else "CH"  # CH counts what changes, which nobody asks for
        yield [call_script("pending_put", [self._key(key_format)], int(seconds * 1000), how, *owners)]

    def due(self, key_format: str, limit: int) -> Steps[list[PendingEntry]]:
        (now,) = yield [("TIME",)]
        until = int(now[0]) * 1000 + int(now[1]) // 1000
        # What is further ahead than anything was ever scheduled for is from before the server's clock went back.
        furthest = self._furthest()
        times = [("-inf", until), *([] if furthest is None else [(until + int(furthest), "+inf")])]
        found = yield [
            ("ZRANGEBYSCORE", self._key(key_format), *each, "WITHSCORES", "LIMIT", 0, limit) for each in times
        ]
        return [PendingEntry(*each) for part in found for each in zip(part[::2], part[1::2])][:limit]

    def settle(self, key_format: str, entries: Sequence[PendingEntry], seconds: float | None) -> Steps[None]:
        delay = -1 if seconds is None else int(seconds * 1000)
        moves = [part for owner, time in entries for part in (owner, time, delay)]
        if moves:
            yield [call_script("pending_move", [self._key(key_format)], *moves)]

    def forget(self, key_format: str, owners: Sequence[bytes]) -> Steps[None]:
        yield [("ZREM", self._key(key_format), *owners)]

    def count(self, key_format: str) -> Steps[int]:
        (count,) = yield [("ZCARD", self._key(key_format))]
        return int(count)


class RedisPendingIndex(RedisFeedSchedule, PendingIndex):
    """The same of feeds with pending writes."""

    def __init__(self) -> None:
        super().__init__(pending_key)

    @staticmethod
    def _furthest() -> float | None:
        return 10_000 * settings.current().lock_ttl + AHEAD

    def has_pending(self, keys: Sequence[str]) -> Steps[list[bool]]:
        found = yield [("HEXISTS", key + GROUPS, PENDING_FIELD) for key in keys]
        return [bool(each) for each in found]


#: Keys that the server looks at in one round trip when notifications of a user are looked for.
SCANNED = 1000
#: Pairs that are read in one round trip when all are read.
PAGE = 10_000


class RedisUnfollows(Unfollows):
    """Three sorted sets and a hash for each manager."""

    def record_unfollow(self, manager: str, user: str, targets: Sequence[str]) -> Steps[None]:
        yield from self._changed(manager, "unfollow", user, targets)

    def clear_unfollow(self, manager: str, user: str, targets: Sequence[str]) -> Steps[None]:
        yield from self._changed(manager, "follow", user, targets)

    def _changed(self, manager: str, change: str, user: str, targets: Sequence[str]) -> Steps[None]:
        pairs = [pack([user, target]) for target in targets]
        yield [call_script("unfollow", unfollows_keys(manager), change, KEPT_HOURS, REBUILD_HOURS, user, *pairs)]

    def last_number(self, manager: str) -> Steps[int]:
        (number,) = yield [last_number(manager)]
        return int(number or 0)

    def begin_rebuild(self, manager: str, user: str, *, refiltered: bool = False) -> Steps[int]:
        pairs = [pack([user, REFILTERED])] if refiltered else []
        (number,) = yield [
            call_script("unfollow", unfollows_keys(manager), "rebuild", KEPT_HOURS, REBUILD_HOURS, user, *pairs)
        ]
        return int(number)

    def unfollowed_since(
        self, manager: str, number: int, pairs: Callable[[], Iterable[Unfollow]]
    ) -> Steps[set[Unfollow]]:
        key = unfollows_keys(manager)[0]
        (found,) = yield [("ZRANGEBYSCORE", key, f"({number}", "+inf", "LIMIT", 0, MOST_READ + 1)]
        if len(found) <= MOST_READ:
            return {(user, target) for user, target in map(unpack, found)}
        wanted = list(dict.fromkeys(pairs()))
        if not wanted:
            return set()
        (numbers,) = yield [("ZMSCORE", key, *(pack(list(pair)) for pair in wanted))]
        return {pair for pair, at in zip(wanted, numbers) if at is not None and float(at) > number}

    def unfollowers_since(self, manager: str, target: str, number: int) -> Steps[list[str]]:
        pairs = yield from self._all(unfollows_keys(manager)[0], number)
        return [user for user, whom in map(unpack, pairs) if whom == target]

    def changes_since(self, manager: str, user: str, number: int) -> Steps[FollowChanges]:
        start, (unfollowed, followed, *_) = pack_list(pack(user), b""), unfollows_keys(manager)
        gone, back = (yield from self._all(unfollowed, number)), (yield from self._all(followed, number))
        return FollowChanges(
            *(
                frozenset(unpack(pair)[1] for pair in pairs if pair.startswith(start)) - {REFILTERED}
                for pairs in (gone, back)
            )
        )

    def forget_user(self, manager: str, user: str, number: int, rebuilds: int | None) -> Steps[None]:
        unfollowed, followed, rebuilt, _ = unfollows_keys(manager)
        for key in (unfollowed, followed):
            pairs = yield from self._all(key, -1)
            theirs = [pair for pair in pairs if names(unpack(pair), user)]
            for part in batched(theirs, PAGE):
                (numbers,) = yield [("ZMSCORE", key, *part)]
                gone = list[Any]()
                for pair, at in zip(part, numbers):
                    until = rebuilds if unpack(pair)[1] == REFILTERED else number
                    if at is not None and until is not None and float(at) <= until:
                        gone += [pair, at, -1]
                if gone:  # each only if it has no later number by now
                    yield [call_script("pending_move", [key], *gone)]
        if rebuilds is not None:
            yield [("ZREM", rebuilt, user)]

    def _all(self, key: str, number: int) -> Steps[list[bytes]]:
        """All pairs since *number*."""
        found: list[bytes] = []
        while True:
            (page,) = yield [("ZRANGEBYSCORE", key, f"({number}", "+inf", "LIMIT", len(found), PAGE)]
            found += page
            if len(page) < PAGE:
                return found


def last_number(manager: str) -> Command:
    """The command that reads the last number; nothing stands for 0."""
    return ("HGET", unfollows_keys(manager)[3], "#")


#: The fields of the numbers.
LAST, REMOVED = "#", "-"


class RedisNotifiedUsers(NotifiedUsers):
    """A hash and a sorted set for each activity.

    What an older release kept has no number; it counts as notified before anything else happened.
    """

    def record(
        self, manager: str, raw_id: bytes, notified: bool, users: Mapping[str, bytes], number: int = 0
    ) -> Steps[int]:
        parts = [part for item in users.items() for part in item]
        (found,) = yield [
            call_script(
                "notification_put", _notified_keys(manager, raw_id), NOTIFIED_TTL, number, int(notified), *parts
            )
        ]
        return int(found)

    def void(self, manager: str, raw_id: bytes) -> Steps[None]:
        yield [call_script("notification_void", _notified_keys(manager, raw_id), OPEN_TTL)]

    def numbers(self, manager: str, raw_id: bytes) -> Steps[NotificationNumbers | None]:
        key = notified_users_key(manager, raw_id)
        held, found = yield [("HLEN", key), _numbers(key)]
        return NotificationNumbers(*_counted(found)) if held else None

    def notifications(self, manager: str, raw_id: bytes) -> Steps[Notifications]:
        key, numbers_key = _notified_keys(manager, raw_id)
        found, held, numbered = yield [_numbers(key), ("HLEN", key), ("ZRANGE", numbers_key, 0, -1, "WITHSCORES")]
        known = {
            name.decode(): (int(float(score)) // 2, bool(int(float(score)) % 2))
            for name, score in zip(numbered[::2], numbered[1::2])
        }
        if held > len(known) + sum(each is not None for each in found):
            (names,) = yield [("HKEYS", key)]
            older = {name.decode() for name in names} - {LAST, REMOVED, *known}
            known.update(dict.fromkeys(older, (0, True)))
        return Notifications(NotificationNumbers(*_counted(found)), known)

    def users(self, manager: str, raw_id: bytes, names: Sequence[str]) -> Steps[dict[str, bytes]]:
        if not names:
            return {}
        (found,) = yield [("HMGET", notified_users_key(manager, raw_id), *names)]
        return {name: packed for name, packed in zip(names, found) if packed is not None}

    def forget(self, manager: str, raw_ids: Sequence[bytes]) -> Steps[None]:
        if raw_ids:
            yield [("UNLINK", key) for raw_id in raw_ids for key in _notified_keys(manager, raw_id)]

    def forget_user(self, manager: str, user: str) -> Steps[None]:
        beginning, cursor = notified_users_key(manager, b"").removesuffix("{}"), b"0"
        pattern = re.sub(r"([\\*?\[\]^-])", r"\\\1", beginning) + "{*}"
        while True:
            ((cursor, keys),) = yield [("SCAN", cursor, "MATCH", pattern, "COUNT", SCANNED)]
            found = (yield [("HGETALL", key) for key in keys]) if keys else []
            changed: list[Command] = []
            for key, fields in zip(keys, found):
                for name, packed in zip(fields[::2], fields[1::2]):
                    if name.decode() not in (LAST, REMOVED) and (rest := without(packed, user)) != packed:
                        keys_of = [key, key + NUMBERS.encode()]
                        changed.append(call_script("notification_forget", keys_of, name, packed, rest))
            if changed:
                yield changed
            if int(cursor) == 0:
                return


class RedisRemovalIndex(RemovalIndex):
    """A list for each bucket: its nodes hold many entries, at two bytes more for each."""

    def add(self, manager: str, entries: Mapping[int, Sequence[bytes]]) -> Steps[None]:
        if entries:
            yield [("RPUSH", index_key(manager, bucket), *some) for bucket, some in entries.items()]

    def entries(self, manager: str, buckets: Sequence[int], limit: int = 0) -> Steps[list[list[bytes]]]:
        return (yield [("LRANGE", index_key(manager, bucket), 0, limit - 1) for bucket in buckets])

    def turn(self, manager: str, bucket: int, oldest: Sequence[bytes], kept: Sequence[bytes]) -> Steps[bool]:
        digest = sha1(b"".join(oldest), usedforsecurity=False).hexdigest()
        (done,) = yield [call_script("index_turn", [index_key(manager, bucket)], len(oldest), digest, *kept)]
        return bool(done)


def _notified_keys(manager: str, raw_id: bytes) -> list[str]:
    return [notified_users_key(manager, raw_id), notification_numbers_key(manager, raw_id)]


def _numbers(key: str) -> Command:
    return ("HMGET", key, LAST, REMOVED)


def _counted(found: Sequence[Any]) -> tuple[int, int]:
    last, removed = found
    return int(last or 0), -1 if removed is None else int(removed)
