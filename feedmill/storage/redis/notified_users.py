"""Who was notified by name, on Redis: a HASH and a ZSET for each activity, in one slot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from feedmill.keys import notices_key, words_key
from feedmill.storage.journal import OPEN_TTL
from feedmill.storage.notified_users import KEPT, Notices, Numbers, Words
from feedmill.storage.operations import Command, Steps
from feedmill.storage.redis.timelines import call_script

#: The fields of the numbers.
LAST, REMOVED = "#", "-"


class RedisNotices(Notices):
    """See :class:`~feedmill.storage.notified_users.Notices`.

    What an older release kept has no number; it counts as notified before anything else happened.
    """

    def put(self, manager: str, raw_id: bytes, told: bool, people: Mapping[str, bytes], number: int = 0) -> Steps[int]:
        """Keep notices that came by one call."""
        parts = [part for item in people.items() for part in item]
        (found,) = yield [call_script("notice_put", _keys(manager, raw_id), KEPT, number, int(told), *parts)]
        return int(found)

    def void(self, manager: str, raw_id: bytes) -> Steps[None]:
        """The notices so far are void."""
        yield [call_script("notice_void", _keys(manager, raw_id), OPEN_TTL)]

    def numbers(self, manager: str, raw_id: bytes) -> Steps[Numbers | None]:
        """The numbers of an activity."""
        key = notices_key(manager, raw_id)
        held, found = yield [("HLEN", key), _numbers(key)]
        return Numbers(*_counted(found)) if held else None

    def words(self, manager: str, raw_id: bytes) -> Steps[Words]:
        """All notices of an activity."""
        key, words = _keys(manager, raw_id)
        found, held, numbered = yield [_numbers(key), ("HLEN", key), ("ZRANGE", words, 0, -1, "WITHSCORES")]
        notices = {
            name.decode(): (int(float(score)) // 2, bool(int(float(score)) % 2))
            for name, score in zip(numbered[::2], numbered[1::2])
        }
        if held > len(notices) + sum(each is not None for each in found):
            (names,) = yield [("HKEYS", key)]
            older = {name.decode() for name in names} - {LAST, REMOVED, *notices}
            notices.update(dict.fromkeys(older, (0, True)))
        return Words(Numbers(*_counted(found)), notices)

    def people(self, manager: str, raw_id: bytes, names: Sequence[str]) -> Steps[dict[str, bytes]]:
        """The people of some notices."""
        if not names:
            return {}
        (found,) = yield [("HMGET", notices_key(manager, raw_id), *names)]
        return {name: packed for name, packed in zip(names, found) if packed is not None}


def _keys(manager: str, raw_id: bytes) -> list[str]:
    return [notices_key(manager, raw_id), words_key(manager, raw_id)]


def _numbers(key: str) -> Command:
    return ("HMGET", key, LAST, REMOVED)


def _counted(found: Sequence[Any]) -> tuple[int, int]:
    last, removed = found
    return int(last or 0), -1 if removed is None else int(removed)
