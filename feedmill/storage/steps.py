"""Storage work as steps, free of I/O.

A storage operation is a generator: it yields Redis commands (any iterable of them: a driver sends the first while the
next is being made), is sent the list of replies, and returns its result. So it is written once and driven synchronously or from a coroutine, and operations that do not depend on each
other share their round trips (:func:`together`). A storage without a server never yields.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

Command = tuple[Any, ...]
Steps = Generator[Iterable[Command], list[Any], T]

#: First word of the command by which a step asks its driver to wait: ``(PAUSE, seconds)``.
PAUSE = "feedmill.pause"


def together(operations: Sequence[Steps[T]]) -> Steps[list[T]]:
    """Run *operations* in lockstep: the n-th yields of all of them travel in one round trip."""
    results: dict[int, T] = {}
    replies: dict[int, list[Any] | None] = dict.fromkeys(range(len(operations)))
    while replies:
        wanted: dict[int, Iterable[Command]] = {}
        for number, reply in replies.items():
            try:
                wanted[number] = next(operations[number]) if reply is None else operations[number].send(reply)
            except StopIteration as stop:
                results[number] = stop.value
        if not wanted:
            break
        sizes: dict[int, int] = {}
        answered = yield _chained(wanted, sizes)
        replies = {}
        start = 0
        for number, size in sizes.items():
            replies[number] = answered[start : start + size]
            start += size
    return [results[number] for number in range(len(operations))]


def _chained(wanted: dict[int, Iterable[Command]], sizes: dict[int, int]) -> Iterator[Command]:
    """All commands, one operation's after the other's; how many each had goes into *sizes*."""
    for number, commands in wanted.items():
        sizes[number] = 0
        for command in commands:
            sizes[number] += 1
            yield command
