"""Feeds that go when nobody uses them: their marks are on the backend in force, which lets them go by itself."""

from __future__ import annotations

from collections.abc import Sequence

from feedmill.keys import PRESENT
from feedmill.storage.base import IdleFeeds
from feedmill.storage.operations import Steps

#: How a feed began: it was rebuilt, or written to.
REBUILT, WRITTEN = b"r", b"w"


class IdleTimelines(IdleFeeds):
    """Marks of feeds, and what becomes of feeds whose mark is gone."""

    def clear(self, keys: Sequence[str]) -> Steps[None]:
        """Delete all that is stored of feeds of either kind."""
        raise NotImplementedError

    def present(self, keys: Sequence[str], idle: int, *, begins: bool) -> Steps[list[str]]:
        """Use feeds to write to them; those of *keys* that are there, or begin now: then nothing is there of what they held."""
        marks = yield [("GETEX", key + PRESENT, "EX", idle) for key in keys]
        absent = [key for key, mark in zip(keys, marks) if mark is None]
        if not absent:
            return list(keys)
        if not begins:
            return [key for key, mark in zip(keys, marks) if mark is not None]
        yield from self.clear(absent)
        yield [("SET", key + PRESENT, WRITTEN, "EX", idle, "NX") for key in absent]
        return list(keys)

    def idle_use(self, key: str, idle: int) -> Steps[bytes | None]:
        (how,) = yield [("GETEX", key + PRESENT, "EX", idle)]
        return how  # type: ignore[no-any-return]

    def idle_begin(self, key: str, idle: int) -> Steps[bool]:
        (mark,) = yield [("GET", key + PRESENT)]
        if mark is None:
            yield from self.clear([key])
        yield [("SET", key + PRESENT, REBUILT, "EX", idle)]
        return mark is None

    def idle_end(self, key: str) -> Steps[int | None]:
        (seconds,) = yield [("TTL", key + PRESENT)]
        if seconds != -2:
            return max(0, int(seconds))
        yield from self.clear([key])
        return None
