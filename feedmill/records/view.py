"""A group as readers and aggregators are shown it: its members become activities when someone looks at them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from feedmill.activity import MAX_MEMBERS, Activity
from feedmill.records.record import Record


class GroupView(ABC):
    """One group, stored or about to be. Times in µs."""

    #: What the front of the record says.
    record: Record

    @property
    def count(self) -> int:
        """Members that are counted."""
        return self.record.count

    @property
    def actors(self) -> int:
        """Their actors."""
        return self.record.actors

    @property
    def created(self) -> int:
        """Time of the oldest member."""
        return self.record.created

    @property
    def updated(self) -> int:
        """Time of the newest member."""
        return self.record.updated

    @property
    def newest(self) -> Activity | None:
        """The newest member that can be shown, or None."""
        found = self.load()
        return found[-1] if found else None

    @abstractmethod
    def load(self) -> list[Activity]:
        """The newest members that can be shown, oldest first."""


class StoredView(GroupView):
    """A stored group. No members are made of its rows, which each kind of record has in its own form."""

    #: The ids of the newest members, oldest first, where bodies are stored apart; else empty.
    ids: Sequence[bytes] = ()
    #: What the record holds of each member, oldest first.
    rows: Sequence[Any]
    #: How many of the newest members are shown at most.
    most = MAX_MEMBERS

    def show(self, most: int) -> None:
        """Show no more than the newest *most* members."""
        self.most = most

    def look_further(self) -> bool:
        """Whether there are more members that could be shown; then :attr:`ids` are those of all of them."""
        return False

    @property
    def actors(self) -> int:
        return self.record.actors if self.record.has_overflow else len(self.distinct_actors())

    @property
    def created(self) -> int:
        return self.record.created if self.record.has_overflow else self.time_of(self.rows[0])

    @property
    def updated(self) -> int:
        return self.time_of(self.rows[-1])

    @abstractmethod
    def time_of(self, row: Any) -> int:
        """When the member of *row* happened."""

    @abstractmethod
    def distinct_actors(self) -> set[Any]:
        """Whose the rows are, each once."""


class EmbeddedView(StoredView):
    """A stored group whose rows hold the activities."""

    @property
    def newest(self) -> Activity | None:
        return self.activity_of(self.rows[-1])

    def load(self) -> list[Activity]:
        return [self.activity_of(row) for row in self.rows[-self.most :]]

    @abstractmethod
    def activity_of(self, row: Any) -> Activity:
        """The activity of *row*."""
