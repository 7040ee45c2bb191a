"""What to write in place of a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def instead_of(name: str, known: Iterable[str]) -> str:
    """Advice for whoever wrote *name*: the one of *known* that is nearest, else all of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else "use " + ", ".join(names)
