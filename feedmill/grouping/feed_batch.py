"""The feeds of many users of one kind, as a storage is told of them: keys are spelled when they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from feedmill.grouping.feed_state import title
from feedmill.ids import EntityId


class FeedsOf:
    """The feeds of *user_ids*: see :class:`~feedmill.storage.base.Targets`."""

    def __init__(self, feed_class: Any, user_ids: Sequence[EntityId]) -> None:
        self.feed_class, self.user_ids = feed_class, user_ids

    def __len__(self) -> int:
        return len(self.user_ids)

    def keys(self, start: int, stop: int) -> Sequence[str]:
        """Their keys."""
        keys: list[str] = self.feed_class.keys_of(self.user_ids[start:stop])
        return keys

    def count_keys(self, start: int, stop: int) -> Sequence[str]:
        """The keys of their counts."""
        keys: list[str] = self.feed_class.count_keys_of(self.user_ids[start:stop])
        return keys

    def titles(self, start: int, stop: int) -> Sequence[str]:
        """The front of what is published; of feeds without counts nothing."""
        if not self.feed_class.counted:
            return ()
        return [title(key, user) for key, user in zip(self.keys(start, stop), self.user_ids[start:stop])]
