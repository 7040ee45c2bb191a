"""Storage work as steps, free of I/O.

A storage operation is a generator: it yields Redis commands (any iterable of them: a driver sends the first while the
next is being made), is sent the list of replies, and returns its result. So it is written once and driven synchronously or from a coroutine, and operations that do not depend on each
other share their round trips (:func:`together`). A storage without a server never yields.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

Command = tuple[Any, ...]
Steps = Generator[Iterable[Command], list[Any], T]

#: First word of the command by which a step asks its driver to wait: ``(PAUSE, seconds)``.
PAUSE = "feedmill.pause"


class Interrupted(BaseException):
    """Raised inside an operation that will not be continued: its round trip failed or was cancelled, or what it runs
    beside failed. The commands that it yields from then on are its last, such as the release of a lock.
    """


def together(operations: Sequence[Steps[T]]) -> Steps[list[T]]:
    """Run *operations* in lockstep: the n-th yields of all of them travel in one round trip.

    When one of them fails, or all are interrupted, the others are interrupted too.
    """
    results: dict[int, T] = {}

    def advance(number: int, reply: list[Any] | None) -> Iterable[Command] | None:
        try:
            return next(operations[number]) if reply is None else operations[number].send(reply)
        except StopIteration as stop:
            results[number] = stop.value
            return None

    try:
        yield from _lockstep(dict.fromkeys(range(len(operations))), advance)
    except GeneratorExit:
        raise
    except BaseException:
        yield from interrupt(operations)
        raise
    return [results[number] for number in range(len(operations))]


def interrupt(operations: Sequence[Steps[Any]]) -> Steps[None]:
    """Interrupt *operations*, in lockstep, and do what each still asks for. What goes wrong with that is passed over."""

    def advance(number: int, reply: list[Any] | None) -> Iterable[Command] | None:
        operation = operations[number]
        try:
            return operation.throw(Interrupted()) if reply is None else operation.send(reply)
        except (Interrupted, StopIteration, Exception):
            return None

    yield from _lockstep(dict.fromkeys(range(len(operations))), advance)


def _lockstep(
    replies: dict[int, list[Any] | None], advance: Callable[[int, list[Any] | None], Iterable[Command] | None]
) -> Steps[None]:
    """*advance* each number with what was replied to it, until none wants anything more."""
    while True:
        asked = {number: advance(number, reply) for number, reply in replies.items()}
        wanted = {number: commands for number, commands in asked.items() if commands is not None}
        if not wanted:
            return
        sizes: dict[int, int] = {}
        answered = yield _chained(wanted, sizes)
        replies, start = {}, 0
        for number, size in sizes.items():
            replies[number] = answered[start : start + size]
            start += size


def _chained(wanted: Mapping[int, Iterable[Command]], sizes: dict[int, int]) -> Iterator[Command]:
    """All commands, one operation's after the other's; how many each had goes into *sizes*."""
    for number, commands in wanted.items():
        sizes[number] = 0
        for command in commands:
            sizes[number] += 1
            yield command
