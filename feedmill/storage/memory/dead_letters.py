"""Dead letters inside this process."""

from __future__ import annotations

from collections.abc import Sequence

from feedmill.storage.journal import MOST_LETTERS, Letter
from feedmill.storage.memory.backend import BACKEND, milliseconds
from feedmill.storage.operations import Steps


class MemoryLetters:
    """Dead letters in a dict."""

    def add_letter(self, kind: str, reason: str, payload: bytes, manager: str = "", fanout_id: str = "") -> Steps[str]:
        """Put a dead letter."""
        yield from ()
        with BACKEND.guard:
            BACKEND.letter_number += 1
            name = f"{milliseconds()}-{BACKEND.letter_number}"
            BACKEND.letters[name] = Letter(name, kind, reason, payload, manager, fanout_id)
            while len(BACKEND.letters) > MOST_LETTERS:
                del BACKEND.letters[next(iter(BACKEND.letters))]
            return name

    def letters(self, limit: int) -> Steps[list[Letter]]:
        """The newest letters."""
        yield from ()
        with BACKEND.guard:
            return list(BACKEND.letters.values())[::-1][:limit]

    def letter(self, letter_id: str) -> Steps[Letter | None]:
        """One letter."""
        yield from ()
        with BACKEND.guard:
            return BACKEND.letters.get(letter_id)

    def drop_letters(self, ids: Sequence[str]) -> Steps[int]:
        """Forget letters."""
        yield from ()
        with BACKEND.guard:
            return sum(BACKEND.letters.pop(name, None) is not None for name in ids)
