"""The Lua scripts, by name."""

from __future__ import annotations

import functools
import hashlib
import re
from importlib import resources


@functools.cache
def source(name: str) -> str:
    """The text of script *name*; a line ``-- include: other`` stands for the text of another."""
    return _INCLUDE.sub(lambda found: source(found[1]), _text(name))


@functools.cache
def sha(name: str) -> str:
    """The digest under which Redis knows script *name*."""
    return hashlib.sha1(source(name).encode(), usedforsecurity=False).hexdigest()


def all_sources() -> list[str]:
    """The texts of all scripts, without those that are only parts of others."""
    names = [
        file.name.removesuffix(".lua") for file in resources.files(__name__).iterdir() if file.name.endswith(".lua")
    ]
    parts = {part for name in names for part in _INCLUDE.findall(_text(name))}
    return [source(name) for name in names if name not in parts]


@functools.cache
def _text(name: str) -> str:
    return (resources.files(__name__) / f"{name}.lua").read_text(encoding="utf-8")


_INCLUDE = re.compile(r"^-- include: (\w+)\n", re.MULTILINE)
