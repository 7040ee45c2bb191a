"""What a driver with several servers may do: commands that no barrier separates take effect in any order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from feedmill.storage.operations import BARRIER, Command


def key_of(command: Command) -> Any:
    """The key that a command is about, or the first of several; None for one that is about none."""
    if command[0] in ("EVALSHA", "EVAL"):
        return command[3] if command[2] else None
    return command[1] if len(command) > 1 and isinstance(command[1], (str, bytes)) else None


def order(commands: Sequence[Command], rng: random.Random, *, ignored: bool = False) -> list[int]:
    """The places of *commands* in an order in which they may take effect; with *ignored*, as if there were no barriers.

    Those about one key keep theirs, and so does a transaction.
    """
    found: list[int] = []
    part: list[int] = []
    for place, command in enumerate([*commands, BARRIER]):
        if command != BARRIER or (ignored and place < len(commands)):
            part.append(place)
            continue
        shuffled = part if any(commands[each][0] == "MULTI" for each in part) else rng.sample(part, len(part))
        by_key: dict[Any, list[int]] = {}
        for each in part:
            if (key := key_of(commands[each])) is not None:
                by_key.setdefault(key, []).append(each)
        for each in shuffled:
            key = key_of(commands[each])
            found.append(each if key is None or shuffled is part else by_key[key].pop(0))
        found += [place] if place < len(commands) else []
        part = []
    return found
