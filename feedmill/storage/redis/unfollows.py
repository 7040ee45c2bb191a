"""Who has unfollowed whom of late, on Redis: three ZSETs and a HASH for each manager, in one slot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from feedmill.keys import unfollows_keys
from feedmill.msgpack_codec import pack, pack_list, unpack
from feedmill.storage.operations import Command, Steps
from feedmill.storage.redis.timelines import call_script
from feedmill.storage.unfollows import KEPT_HOURS, MOST_READ, REBUILD_HOURS, Parting, Partings, Turns

#: Pairs that are read in one round trip when all are read.
PAGE = 10_000


class RedisPartings(Partings):
    """See :class:`~feedmill.storage.unfollows.Partings`."""

    def part(self, manager: str, user: str, targets: Sequence[str]) -> Steps[None]:
        """Write down whom *user* unfollows."""
        yield from self._changed(manager, "part", user, targets)

    def join(self, manager: str, user: str, targets: Sequence[str]) -> Steps[None]:
        """They follow again."""
        yield from self._changed(manager, "join", user, targets)

    def _changed(self, manager: str, change: str, user: str, targets: Sequence[str]) -> Steps[None]:
        pairs = [pack([user, target]) for target in targets]
        yield [call_script("part", unfollows_keys(manager), change, KEPT_HOURS, REBUILD_HOURS, user, *pairs)]

    def number(self, manager: str) -> Steps[int]:
        """The last number."""
        (number,) = yield [last_number(manager)]
        return int(number or 0)

    def rebuild(self, manager: str, user: str) -> Steps[int]:
        """The same, and whom *user* follows is written down from now on."""
        (number,) = yield [call_script("part", unfollows_keys(manager), "rebuild", KEPT_HOURS, REBUILD_HOURS, user)]
        return int(number)

    def since(self, manager: str, number: int, pairs: Callable[[], Iterable[Parting]]) -> Steps[set[Parting]]:
        """Who unfollowed whom since."""
        key = unfollows_keys(manager)[0]
        (found,) = yield [("ZRANGEBYSCORE", key, f"({number}", "+inf", "LIMIT", 0, MOST_READ + 1)]
        if len(found) <= MOST_READ:
            return {(user, target) for user, target in map(unpack, found)}
        wanted = list(dict.fromkeys(pairs()))
        if not wanted:
            return set()
        (numbers,) = yield [("ZMSCORE", key, *(pack(list(pair)) for pair in wanted))]
        return {pair for pair, at in zip(wanted, numbers) if at is not None and float(at) > number}

    def of(self, manager: str, target: str, number: int) -> Steps[list[str]]:
        """Who unfollowed *target* since."""
        pairs = yield from self._all(unfollows_keys(manager)[0], number)
        return [user for user, whom in map(unpack, pairs) if whom == target]

    def turns(self, manager: str, user: str, number: int) -> Steps[Turns]:
        """What *user* did since *number*."""
        start, (parted, joined, *_) = pack_list(pack(user), b""), unfollows_keys(manager)
        left, back = (yield from self._all(parted, number)), (yield from self._all(joined, number))
        return Turns(
            *(frozenset(unpack(pair)[1] for pair in pairs if pair.startswith(start)) for pairs in (left, back))
        )

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
