"""Who has unfollowed whom of late, on Redis: a ZSET for each manager, in the slot of what is due of it."""

from __future__ import annotations

from collections.abc import Sequence

from feedmill.codec import pack, unpack
from feedmill.keys import parted_key
from feedmill.storage.journal import OPEN_TTL
from feedmill.storage.partings import Parting
from feedmill.storage.redis.timelines import call_script
from feedmill.storage.steps import Steps


class RedisPartings:
    """See :class:`~feedmill.storage.partings.Partings`. No chunk is older than what is remembered here."""

    def part(self, manager: str, pairs: Sequence[Parting]) -> Steps[None]:
        """Write down who unfollows whom."""
        yield [call_script("part", [parted_key(manager)], OPEN_TTL, *map(_packed, pairs))]

    def join(self, manager: str, pairs: Sequence[Parting]) -> Steps[None]:
        """They follow again."""
        yield [("ZREM", parted_key(manager), *map(_packed, pairs))]

    def since(self, manager: str, time: int) -> Steps[set[Parting]]:
        """Who unfollowed whom of late."""
        (found,) = yield [("ZRANGEBYSCORE", parted_key(manager), time, "+inf")]
        return {(user, target) for user, target in map(unpack, found)}


def _packed(pair: Parting) -> bytes:
    return pack(list(pair))
