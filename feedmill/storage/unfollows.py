"""Who has unfollowed whom of late: what is on its way to them from before is to be kept from their feeds.

What happens to pairs has numbers that only grow, in each manager. Whoever delivers reads the last number before it lists
people, and asks behind its writes what has happened since. So no clock decides what came first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from feedmill.storage.operations import Steps

#: Who unfollowed, and whom; as text, since 5 and "5" are one user.
Parting = tuple[str, str]
#: Unfollows since a number that are read whole; if there are more, only those of the pairs that matter are.
MOST_READ = 200
#: Hours for which it is known who unfollowed, at least: no fan-out is older. And hours for which a rebuild may last.
KEPT_HOURS, REBUILD_HOURS = 7 * 24, 1


class Turns(NamedTuple):
    """What one user has done since a number: whom they unfollowed, and whom they follow again."""

    parted: frozenset[str]
    joined: frozenset[str]


class Partings(Protocol):
    """Pairs by manager, each with its number."""

    def part(self, manager: str, user: str, targets: Sequence[str]) -> Steps[None]:
        """Write down whom *user* unfollows, before their feeds are swept."""
        ...

    def join(self, manager: str, user: str, targets: Sequence[str]) -> Steps[None]:
        """They follow again; that is written down if they unfollowed, or if their feeds are being rebuilt."""
        ...

    def number(self, manager: str) -> Steps[int]:
        """The number of what happened last."""
        ...

    def rebuild(self, manager: str, user: str) -> Steps[int]:
        """The same; from now on it is written down whom *user* follows, for an hour at least."""
        ...

    def since(self, manager: str, number: int, pairs: Callable[[], Iterable[Parting]]) -> Steps[set[Parting]]:
        """Who unfollowed whom since *number*, and has not followed again; perhaps only those that are among *pairs*.

        Commonly one command in one round trip.
        """
        ...

    def of(self, manager: str, target: str, number: int) -> Steps[list[str]]:
        """Who unfollowed *target* since *number*, and has not followed again: all of them, however many."""
        ...

    def turns(self, manager: str, user: str, number: int) -> Steps[Turns]:
        """What *user* did since *number*."""
        ...
