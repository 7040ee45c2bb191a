"""Who was notified by name, inside this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from feedmill.storage.memory.backend import BACKEND, no_steps
from feedmill.storage.steps import Steps


class MemoryNotices:
    """See :class:`~feedmill.storage.notices.Notices`."""

    def add(self, manager: str, raw_id: bytes, people: Mapping[str, bytes]) -> Steps[None]:
        """Keep the people of some notices."""
        yield from no_steps()
        with BACKEND.guard:
            BACKEND.notices.setdefault((manager, raw_id), {}).update(people)

    def forget(self, manager: str, raw_id: bytes, names: Sequence[str]) -> Steps[None]:
        """Forget the people of some notices."""
        yield from no_steps()
        with BACKEND.guard:
            held = BACKEND.notices.get((manager, raw_id), {})
            for name in names:
                held.pop(name, None)

    def names(self, manager: str, raw_id: bytes) -> Steps[list[str]]:
        """The fan-outs of all notices of an activity."""
        yield from no_steps()
        with BACKEND.guard:
            return list(BACKEND.notices.get((manager, raw_id), {}))

    def people(self, manager: str, raw_id: bytes, names: Sequence[str]) -> Steps[dict[str, bytes]]:
        """The people of some notices."""
        yield from no_steps()
        with BACKEND.guard:
            held = BACKEND.notices.get((manager, raw_id), {})
            return {name: held[name] for name in names if name in held}
