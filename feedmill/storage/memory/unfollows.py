"""Who has unfollowed whom of late, inside this process."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

from feedmill.storage.memory.data import DATA
from feedmill.storage.operations import Steps
from feedmill.storage.unfollows import Parting, Partings, Turns


@dataclasses.dataclass
class _Numbered:
    """One manager's pairs."""

    number: int = 0
    parted: dict[Parting, int] = dataclasses.field(default_factory=dict)
    joined: dict[Parting, int] = dataclasses.field(default_factory=dict)
    rebuilt: set[str] = dataclasses.field(default_factory=set)


class MemoryPartings(Partings):
    """See :class:`~feedmill.storage.unfollows.Partings`. Kept as long as the process lives."""

    def part(self, manager: str, user: str, targets: Sequence[str]) -> Steps[None]:
        """Write down whom *user* unfollows."""
        yield from ()
        with DATA.guard:
            held = _of(manager)
            held.number += 1
            for target in targets:
                held.parted[user, target] = held.number
                held.joined.pop((user, target), None)

    def join(self, manager: str, user: str, targets: Sequence[str]) -> Steps[None]:
        """They follow again."""
        yield from ()
        with DATA.guard:
            held = _of(manager)
            held.number += 1
            for target in targets:
                if held.parted.pop((user, target), None) is not None or user in held.rebuilt:
                    held.joined[user, target] = held.number

    def number(self, manager: str) -> Steps[int]:
        """The last number."""
        yield from ()
        with DATA.guard:
            return last_number(manager)

    def rebuild(self, manager: str, user: str) -> Steps[int]:
        """The same, and whom *user* follows is written down from now on."""
        yield from ()
        with DATA.guard:
            _of(manager).rebuilt.add(user)
            return _of(manager).number

    def since(self, manager: str, number: int, pairs: Callable[[], Iterable[Parting]]) -> Steps[set[Parting]]:
        """Who unfollowed whom since."""
        yield from ()
        with DATA.guard:
            return {pair for pair, at in _of(manager).parted.items() if at > number}

    def of(self, manager: str, target: str, number: int) -> Steps[list[str]]:
        """Who unfollowed *target* since."""
        yield from ()
        with DATA.guard:
            return [user for (user, whom), at in _of(manager).parted.items() if whom == target and at > number]

    def turns(self, manager: str, user: str, number: int) -> Steps[Turns]:
        """What *user* did since *number*."""
        yield from ()
        with DATA.guard:
            held = _of(manager)
            return Turns(*(_of_user(each, user, number) for each in (held.parted, held.joined)))


def _of(manager: str) -> _Numbered:
    found: _Numbered = DATA.partings.setdefault(manager, _Numbered())
    return found


def _of_user(pairs: dict[Parting, int], user: str, number: int) -> frozenset[str]:
    return frozenset(target for (who, target), at in pairs.items() if who == user and at > number)


def last_number(manager: str) -> int:
    """The last number of *manager*."""
    return _of(manager).number
