"""Dead letters inside this process."""

from __future__ import annotations

from collections.abc import Sequence

from feedmill.storage.journal import MOST_LETTERS, Letter
from feedmill.storage.memory.data import DATA, milliseconds
from feedmill.storage.operations import Steps


class MemoryLetters:
    """Dead letters in a dict."""

    def add_letter(self, kind: str, reason: str, payload: bytes, manager: str = "", fanout_id: str = "") -> Steps[str]:
        yield from ()
        with DATA.guard:
            DATA.letter_number += 1
            name = f"{milliseconds()}-{DATA.letter_number}"
            DATA.letters[name] = Letter(name, kind, reason, payload, manager, fanout_id)
            while len(DATA.letters) > MOST_LETTERS:
                del DATA.letters[next(iter(DATA.letters))]
            return name

    def letters(self, limit: int) -> Steps[list[Letter]]:
        yield from ()
        with DATA.guard:
            return list(DATA.letters.values())[::-1][:limit]

    def letter(self, letter_id: str) -> Steps[Letter | None]:
        yield from ()
        with DATA.guard:
            return DATA.letters.get(letter_id)

    def drop_letters(self, ids: Sequence[str]) -> Steps[int]:
        yield from ()
        with DATA.guard:
            return sum(DATA.letters.pop(name, None) is not None for name in ids)
