"""The floors: the fewest bare Redis commands that leave the same result, without merging, locks or trimming.

``Pipeline`` is what a good engineer writes by hand: redis-py with hiredis, pipelines of 100. ``Script`` sends the same
commands from inside one script per 100 feeds: what this Redis can do at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis

BATCH = 100

_FLAT = """
for i = 1, #KEYS do redis.call('ZADD', KEYS[i], ARGV[1], ARGV[2]) end
"""
_GROUP = """
for i = 1, #KEYS, 2 do
  local old = redis.call('HGET', KEYS[i + 1], ARGV[2])
  redis.call('HSET', KEYS[i + 1], ARGV[2], ARGV[3])
  redis.call('ZADD', KEYS[i], ARGV[1], ARGV[2])
end
"""
_COUNTED = """
for i = 1, #KEYS, 3 do
  local old = redis.call('HGET', KEYS[i + 1], ARGV[2])
  redis.call('HSET', KEYS[i + 1], ARGV[2], ARGV[3])
  redis.call('ZADD', KEYS[i], ARGV[1], ARGV[2])
  redis.call('SET', KEYS[i + 2], ARGV[4])
  redis.call('PUBLISH', ARGV[5], ARGV[4])
end
"""


class Pipeline:
    """Bare commands in pipelines of 100."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    def flat(self, users: Sequence[int], score: int, member: bytes) -> None:
        """``ZADD`` for each user."""
        for start in range(0, len(users), BATCH):
            pipe = self.client.pipeline(transaction=False)
            for user in users[start : start + BATCH]:
                pipe.execute_command("ZADD", f"bare:flat:{user}", score, member)
            pipe.execute()

    def groups(self, users: Sequence[int], score: int, group: bytes, record: bytes, counted: bool) -> None:
        """Read a record, write a record, ``ZADD``; with *counted* a count and a publication as well."""
        for start in range(0, len(users), BATCH):
            part = users[start : start + BATCH]
            pipe = self.client.pipeline(transaction=False)
            for user in part:
                pipe.execute_command("HGET", f"bare:groups:{user}:h", group)
            pipe.execute()
            pipe = self.client.pipeline(transaction=False)
            for user in part:
                pipe.execute_command("HSET", f"bare:groups:{user}:h", group, record)
                pipe.execute_command("ZADD", f"bare:groups:{user}", score, group)
                if counted:
                    pipe.execute_command("SET", f"bare:groups:{user}:count", 5)
                    pipe.execute_command("PUBLISH", "bare", 5)
            pipe.execute()


class Script:
    """The same commands in one script per 100 feeds."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self._flat = client.script_load(_FLAT)
        self._group = client.script_load(_GROUP)
        self._counted = client.script_load(_COUNTED)

    def _call(self, sha: Any, keys: list[str], *args: Any) -> None:
        self.client.execute_command("EVALSHA", sha, len(keys), *keys, *args)

    def flat(self, users: Sequence[int], score: int, member: bytes) -> None:
        """``ZADD`` for each user."""
        for start in range(0, len(users), BATCH):
            keys = [f"bare:flat:{user}" for user in users[start : start + BATCH]]
            self._call(self._flat, keys, score, member)

    def groups(self, users: Sequence[int], score: int, group: bytes, record: bytes, counted: bool) -> None:
        """Read a record, write a record, ``ZADD``; with *counted* a count and a publication as well."""
        for start in range(0, len(users), BATCH):
            keys: list[str] = []
            for user in users[start : start + BATCH]:
                keys += (f"bare:groups:{user}", f"bare:groups:{user}:h")
                if counted:
                    keys.append(f"bare:groups:{user}:count")
            extra = (5, "bare") if counted else ()
            self._call(self._counted if counted else self._group, keys, score, group, record, *extra)
