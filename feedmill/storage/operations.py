"""Storage work as steps, free of I/O.

A storage operation is a generator: it yields Redis commands (any iterable of them: a driver sends the first while the
next is being made), is sent the list of replies, and returns its result. So it is written once and driven synchronously or from a coroutine, and operations that do not depend on each
other share their round trips (:func:`together`). A storage without a server never yields.

A driver may let the commands of one yield take effect in any order, as they do that travel to several servers at once, except
that those about one key keep theirs; and that nothing behind a :data:`BARRIER` takes effect before all in front of it has. A
driver that has only one connection to one server keeps all orders anyway, and ignores it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

Command = tuple[Any, ...]
Steps = Generator[Iterable[Command], list[Any], T]

#: First word of the command by which a step asks its driver to wait: ``(PAUSE, seconds)``.
PAUSE = "feedmill.pause"
#: The command by which a step asks its driver to have all in front of it done, on whatever server, before anything behind it is
#: sent. So what is behind it is in the next round trip of a driver with several servers.
BARRIER: Command = ("feedmill.barrier", None)
#: First words of the commands that are for the driver alone. They are not sent, and None is the reply to each.
DRIVER_COMMANDS = (PAUSE, BARRIER[0])


def barrier() -> Steps[None]:
    """:data:`BARRIER` as an operation: between others in :func:`together`, it is between their first commands."""
    yield [BARRIER]


class Interrupted(BaseException):
    """Raised inside an operation that will not be continued: its round trip failed or was cancelled, or what it runs
    beside failed. The commands that it yields from then on are its last, such as the release of a lock.
    """


def together(operations: Sequence[Steps[T]]) -> Steps[list[T]]:
    """Run *operations* in lockstep: the n-th yields of all of them travel in one round trip.

    When one of them fails, or all are interrupted, the others are interrupted too.
    """
    if len(operations) == 1:
        return [(yield from operations[0])]
    results: dict[int, T] = {}
    replies: dict[int, list[Any] | None] = dict.fromkeys(range(len(operations)))
    try:
        while replies:
            wanted: dict[int, Iterable[Command]] = {}
            for number, reply in replies.items():
                operation = operations[number]
                try:
                    wanted[number] = next(operation) if reply is None else operation.send(reply)
                except StopIteration as stop:
                    results[number] = stop.value
            replies = (yield from _answered(wanted)) if wanted else {}
    except GeneratorExit:
        raise
    except BaseException:
        yield from interrupt(operations)
        raise
    return [results[number] for number in range(len(operations))]


def interrupt(operations: Sequence[Steps[Any]]) -> Steps[None]:
    """Interrupt *operations*, in lockstep, and do what each still asks for. What goes wrong with that is passed over."""

    replies: dict[int, list[Any] | None] = dict.fromkeys(range(len(operations)))
    while replies:
        wanted: dict[int, Iterable[Command]] = {}
        for number, reply in replies.items():
            operation = operations[number]
            with contextlib.suppress(Interrupted, StopIteration, Exception):
                wanted[number] = operation.throw(Interrupted()) if reply is None else operation.send(reply)
        replies = (yield from _answered(wanted)) if wanted else {}


def _answered(wanted: Mapping[int, Iterable[Command]]) -> Steps[dict[int, list[Any] | None]]:
    """What is replied to each number in one round trip."""
    sizes: dict[int, int] = {}
    answered = yield _chained(wanted, sizes)
    replies: dict[int, list[Any] | None] = {}
    start = 0
    for number, size in sizes.items():
        replies[number] = answered[start : start + size]
        start += size
    return replies


def _chained(wanted: Mapping[int, Iterable[Command]], sizes: dict[int, int]) -> Iterator[Command]:
    """All commands, one operation's after the other's; how many each had goes into *sizes*."""
    for number, commands in wanted.items():
        if type(commands) is list:
            sizes[number] = len(commands)
            yield from commands
            continue
        size = 0
        for command in commands:
            size += 1
            yield command
        sizes[number] = size
