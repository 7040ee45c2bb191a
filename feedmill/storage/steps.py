"""Storage work as steps, free of I/O.

A storage operation is a generator: it yields a list of Redis commands, is sent the list of replies, and returns its
result. So it is written once and driven synchronously or from a coroutine, and operations that do not depend on each
other share their round trips (:func:`together`). A storage without a server never yields.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

Command = tuple[Any, ...]
Steps = Generator[list[Command], list[Any], T]

#: First word of the command by which a step asks its driver to wait: ``(PAUSE, seconds)``.
PAUSE = "feedmill.pause"


def together(operations: Sequence[Steps[T]]) -> Steps[list[T]]:
    """Run *operations* in lockstep: the n-th yields of all of them travel in one round trip."""
    results: dict[int, T] = {}
    replies: dict[int, list[Any] | None] = dict.fromkeys(range(len(operations)))
    while replies:
        commands: list[Command] = []
        spans: list[tuple[int, int]] = []
        for number, reply in replies.items():
            try:
                wanted = next(operations[number]) if reply is None else operations[number].send(reply)
            except StopIteration as stop:
                results[number] = stop.value
                continue
            commands.extend(wanted)
            spans.append((number, len(wanted)))
        if not spans:
            break
        answered = yield commands
        replies = {}
        start = 0
        for number, size in spans:
            replies[number] = answered[start : start + size]
            start += size
    return [results[number] for number in range(len(operations))]
