"""The Lua scripts, by name."""

from __future__ import annotations

import functools
import hashlib
import re
from importlib import resources


@functools.cache
def source(name: str) -> str:
    """The text of script *name*; a line ``-- include: other`` stands for the text of another."""
    text = (resources.files(__name__) / f"{name}.lua").read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda found: source(found[1]), text)


@functools.cache
def sha(name: str) -> str:
    """The digest under which Redis knows script *name*."""
    digest = hashlib.sha1(source(name).encode(), usedforsecurity=False).hexdigest()
    _names[digest] = name
    return digest


def by_sha(digest: str) -> str:
    """The text of the script with that digest."""
    return source(_names[digest])


_names: dict[str, str] = {}
_INCLUDE = re.compile(r"^-- include: (\w+)\n", re.MULTILINE)
