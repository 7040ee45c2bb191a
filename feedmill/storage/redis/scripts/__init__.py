"""The Lua scripts, by name."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources


@functools.cache
def source(name: str) -> str:
    """The text of script *name*."""
    return (resources.files(__name__) / f"{name}.lua").read_text(encoding="utf-8")


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
