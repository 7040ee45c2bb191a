"""Who was notified by name, on Redis: a HASH for each activity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from feedmill.keys import notices_key
from feedmill.storage.notices import KEPT
from feedmill.storage.steps import Steps


class RedisNotices:
    """See :class:`~feedmill.storage.notices.Notices`."""

    def add(self, manager: str, raw_id: bytes, people: Mapping[str, bytes]) -> Steps[None]:
        """Keep the people of some notices."""
        if people:
            key = notices_key(manager, raw_id)
            yield [("HSET", key, *(part for item in people.items() for part in item)), ("EXPIRE", key, KEPT)]

    def forget(self, manager: str, raw_id: bytes, names: Sequence[str]) -> Steps[None]:
        """Forget the people of some notices."""
        if names:
            yield [("HDEL", notices_key(manager, raw_id), *names)]

    def names(self, manager: str, raw_id: bytes) -> Steps[list[str]]:
        """The fan-outs of all notices of an activity."""
        (names,) = yield [("HKEYS", notices_key(manager, raw_id))]
        return [name.decode() for name in names]

    def people(self, manager: str, raw_id: bytes, names: Sequence[str]) -> Steps[dict[str, bytes]]:
        """The people of some notices."""
        if not names:
            return {}
        (found,) = yield [("HMGET", notices_key(manager, raw_id), *names)]
        return {name: packed for name, packed in zip(names, found) if packed is not None}
