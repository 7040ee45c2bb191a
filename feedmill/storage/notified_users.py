"""Who was notified of an activity by name, or taken back: nothing else can tell when it is removed or updated.

Each notice is a chunk of people, and has a number: that of the call that it came by. The numbers of an activity only grow,
and its removals have one each, too. So of any two that name a user it is known which is the last word, whatever order they
are carried out in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from feedmill.storage.operations import Steps

#: Seconds for which it is known.
KEPT = 90 * 24 * 3600


class Numbers(NamedTuple):
    """The numbers of the last notice or removal, and of the last removal (-1 without). What is older than that is void."""

    last: int = 0
    removed: int = -1


class Words(NamedTuple):
    """All notices of an activity."""

    numbers: Numbers
    #: By the fan-out of each: its number, and whether its people were notified or taken back.
    notices: Mapping[str, tuple[int, bool]]


class Notices(Protocol):
    """The notices of each activity, by their fan-outs, with their packed people."""

    def put(self, manager: str, raw_id: bytes, told: bool, people: Mapping[str, bytes], number: int = 0) -> Steps[int]:
        """Keep notices that came by one call; their number, which is the next if *number* is 0.

        One that has a later number already is left alone.
        """
        ...

    def void(self, manager: str, raw_id: bytes) -> Steps[None]:
        """The activity is removed: the notices so far are void. Who they named is known for as long as a fan-out is open."""
        ...

    def numbers(self, manager: str, raw_id: bytes) -> Steps[Numbers | None]:
        """The numbers of an activity; None without any notice."""
        ...

    def words(self, manager: str, raw_id: bytes) -> Steps[Words]:
        """All notices of an activity."""
        ...

    def people(self, manager: str, raw_id: bytes, names: Sequence[str]) -> Steps[dict[str, bytes]]:
        """The people of those of the notices *names* that are known."""
        ...
