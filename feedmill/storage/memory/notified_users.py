"""Who was notified by name, inside this process."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from feedmill.storage.memory.data import DATA
from feedmill.storage.notified_users import Notices, Numbers, Words
from feedmill.storage.operations import Steps


@dataclasses.dataclass
class _Numbered:
    """The notices of one activity."""

    last: int = 0
    removed: int = -1
    people: dict[str, bytes] = dataclasses.field(default_factory=dict)
    notices: dict[str, tuple[int, bool]] = dataclasses.field(default_factory=dict)


class MemoryNotices(Notices):
    """See :class:`~feedmill.storage.notified_users.Notices`. Kept as long as the process lives."""

    def put(self, manager: str, raw_id: bytes, told: bool, people: Mapping[str, bytes], number: int = 0) -> Steps[int]:
        """Keep notices that came by one call."""
        yield from ()
        with DATA.guard:
            held: _Numbered = DATA.notices.setdefault((manager, raw_id), _Numbered())
            number = number or held.last + 1
            held.last = max(held.last, number)
            for name, packed in people.items():
                if held.notices.get(name, (0, False))[0] <= number:
                    held.people[name], held.notices[name] = packed, (number, told)
            return number

    def void(self, manager: str, raw_id: bytes) -> Steps[None]:
        """The notices so far are void."""
        yield from ()
        with DATA.guard:
            held: _Numbered | None = DATA.notices.get((manager, raw_id))
            if held is not None:
                held.last = held.removed = held.last + 1

    def numbers(self, manager: str, raw_id: bytes) -> Steps[Numbers | None]:
        """The numbers of an activity."""
        yield from ()
        with DATA.guard:
            held: _Numbered | None = DATA.notices.get((manager, raw_id))
            return None if held is None else Numbers(held.last, held.removed)

    def words(self, manager: str, raw_id: bytes) -> Steps[Words]:
        """All notices of an activity."""
        yield from ()
        with DATA.guard:
            held: _Numbered = DATA.notices.get((manager, raw_id), _Numbered())
            return Words(Numbers(held.last, held.removed), dict(held.notices))

    def people(self, manager: str, raw_id: bytes, names: Sequence[str]) -> Steps[dict[str, bytes]]:
        """The people of some notices."""
        yield from ()
        with DATA.guard:
            held: _Numbered = DATA.notices.get((manager, raw_id), _Numbered())
            return {name: held.people[name] for name in names if name in held.people}
