"""The Lua scripts, by name."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable
from importlib import resources

from feedmill.storage.operations import Command


@functools.cache
def source(name: str) -> str:
    """The text of script *name*; a line ``-- include: other`` stands for the text of another."""
    return _INCLUDE.sub(lambda found: source(found[1]), _text(name))


@functools.cache
def sha(name: str) -> str:
    """The digest under which Redis knows script *name*."""
    return hashlib.sha1(source(name).encode(), usedforsecurity=False).hexdigest()


def reads(wanted: Iterable[Command]) -> list[Command] | None:
    """The commands *wanted* if all of them are such as feeds are read with, which change nothing and are answered at once.

    None if they are not known to be; then they were not looked at.
    """
    if type(wanted) is not list:
        return None
    for command in wanted:
        name = command[0]
        if name not in _READS and not (name == "EVALSHA" and command[1] in _reading_scripts()):
            return None
    return wanted


@functools.cache
def _reading_scripts() -> frozenset[str]:
    return frozenset(map(sha, ("aged", "flat_range", "group_actors", "groups_slice")))


#: Commands that change nothing.
_READS = frozenset(("GET", "MGET", "GETRANGE", "STRLEN", "HGET", "HMGET", "HGETALL", "ZCARD", "ZCOUNT", "ZREVRANK"))


def load_commands() -> list[Command]:
    """The commands that make all scripts known to a server, without those that are only parts of others."""
    names = [
        file.name.removesuffix(".lua") for file in resources.files(__name__).iterdir() if file.name.endswith(".lua")
    ]
    parts = {part for name in names for part in _INCLUDE.findall(_text(name))}
    return [("SCRIPT", "LOAD", source(name)) for name in names if name not in parts]


@functools.cache
def _text(name: str) -> str:
    return (resources.files(__name__) / f"{name}.lua").read_text(encoding="utf-8")


_INCLUDE = re.compile(r"^-- include: (\w+)\n", re.MULTILINE)
