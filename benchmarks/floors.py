"""The floors: the fewest bare Redis commands that leave the same result, without merging, locks or looking up what to trim.

``Pipeline`` is what a good engineer writes by hand: redis-py with hiredis, pipelines of 100. ``Script`` sends the same
commands from inside one script per 100 feeds: what this Redis can do at all. A group's record is as many bytes as ours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from benchmarks.feeds import FLAT, GROUPS, Aggregated, Notification, copy_keys, love

BATCH = 100
FLAT_KEY, GROUPS_KEY = "bare:flat:%d", "bare:groups:%d"
RECORDS_KEY, COUNT_KEY = GROUPS_KEY + ":records", GROUPS_KEY + ":count"
CHANNEL = "bare"

_FLAT = """
for i = 1, #KEYS do redis.call('ZADD', KEYS[i], ARGV[1], ARGV[2]) end
"""
_GROUPS = """
local score, group, record, oldest, count, channel = unpack(ARGV)
local step = count ~= '' and 3 or 2
for i = 1, #KEYS, step do
  local old = redis.call('HGET', KEYS[i + 1], group)
  redis.call('HSET', KEYS[i + 1], group, record)
  redis.call('ZADD', KEYS[i], score, group)
  if oldest ~= '' then
    redis.call('ZREM', KEYS[i], oldest)
    redis.call('HDEL', KEYS[i + 1], oldest)
  end
  if count ~= '' then
    redis.call('SET', KEYS[i + 2], count)
    redis.call('PUBLISH', channel, count)
  end
end
"""


@dataclasses.dataclass(frozen=True)
class Write:
    """One touched group of a feed: its new record and score; the group that goes for it; the count to publish."""

    score: int
    group: bytes
    record: bytes
    oldest: bytes = b""
    count: bytes = b""


class Pipeline:
    """Bare commands in pipelines of 100."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def flat(self, users: Sequence[int], score: int, member: bytes) -> None:
        """``ZADD`` for each user."""
        for start in range(0, len(users), BATCH):
            pipe = self.client.pipeline(transaction=False)
            for user in users[start : start + BATCH]:
                pipe.execute_command("ZADD", FLAT_KEY % user, score, member)
            pipe.execute()

    def groups(self, users: Sequence[int], write: Write) -> None:
        """Read a record, write a record, ``ZADD``; where there is a count, set and publish it as well."""
        for start in range(0, len(users), BATCH):
            part = users[start : start + BATCH]
            pipe = self.client.pipeline(transaction=False)
            for user in part:
                pipe.execute_command("HGET", RECORDS_KEY % user, write.group)
            pipe.execute()
            pipe = self.client.pipeline(transaction=False)
            for user in part:
                pipe.execute_command("HSET", RECORDS_KEY % user, write.group, write.record)
                pipe.execute_command("ZADD", GROUPS_KEY % user, write.score, write.group)
                if write.oldest:
                    pipe.execute_command("ZREM", GROUPS_KEY % user, write.oldest)
                    pipe.execute_command("HDEL", RECORDS_KEY % user, write.oldest)
                if write.count:
                    pipe.execute_command("SET", COUNT_KEY % user, write.count)
                    pipe.execute_command("PUBLISH", CHANNEL, write.count)
            pipe.execute()


class Script:
    """The same commands in one script per 100 feeds."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self._flat = client.script_load(_FLAT)
        self._groups = client.script_load(_GROUPS)

    def _call(self, sha: Any, keys: list[str], *args: Any) -> None:
        self.client.execute_command("EVALSHA", sha, len(keys), *keys, *args)

    def flat(self, users: Sequence[int], score: int, member: bytes) -> None:
        """``ZADD`` for each user."""
        for start in range(0, len(users), BATCH):
            self._call(self._flat, [FLAT_KEY % user for user in users[start : start + BATCH]], score, member)

    def groups(self, users: Sequence[int], write: Write) -> None:
        """Read a record, write a record, ``ZADD``; where there is a count, set and publish it as well."""
        for start in range(0, len(users), BATCH):
            keys: list[str] = []
            for user in users[start : start + BATCH]:
                keys += (GROUPS_KEY % user, RECORDS_KEY % user)
                if write.count:
                    keys.append(COUNT_KEY % user)
            args = (write.score, write.group, write.record, write.oldest, write.count, CHANNEL)
            self._call(self._groups, keys, *args)


def group_of(feed_class: Any, day: int) -> bytes:
    """The name of the group of day *day*."""
    return str(feed_class.get_aggregator().get_group(love(day, 0))).encode()


def record_size(client: Any, feed_class: type[Aggregated] | type[Notification], user: int, group: bytes = b"") -> int:
    """Bytes of one of our records: what *user*'s feed holds for *group*, by default for one in the middle."""
    name = group or group_of(feed_class, GROUPS // 2)
    for key in client.scan_iter(match=feed_class.key_of(user) + "*", count=10_000):
        if client.type(key) == b"hash" and client.hexists(key, name.decode()):
            return int(client.hstrlen(key, name.decode()))
    raise LookupError(f"no hash of {feed_class.__name__} holds a record of {name!r}")


def fill_flat_floor(client: Any, users: Sequence[int]) -> None:
    """A ZSET of 1,000 ids for each user."""
    client.zadd(FLAT_KEY % users[0], {love(0, number).raw_id: number for number in range(FLAT)})
    copy_keys(client, {FLAT_KEY % users[0]: FLAT_KEY}, users[1:])


def fill_groups_floor(client: Any, feed_class: Any, users: Sequence[int], size: int) -> None:
    """A ZSET of 99 groups and a HASH of their records, of *size* bytes each, for each user."""
    first = users[0]
    for day in range(GROUPS):
        client.hset(RECORDS_KEY % first, group_of(feed_class, day), bytes(size))
        client.zadd(GROUPS_KEY % first, {group_of(feed_class, day): day})
    names = {GROUPS_KEY % first: GROUPS_KEY, RECORDS_KEY % first: RECORDS_KEY}
    copy_keys(client, names, users[1:])
