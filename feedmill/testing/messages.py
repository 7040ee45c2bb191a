"""The messages to workers, kept in place of a broker: a test delivers them, or looks at what was asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar
from unittest import mock

from feedmill.errors import ArgumentError
from feedmill.fanout import publisher
from feedmill.storage.memory import DATA
from feedmill.storage.registry import backend

#: Rounds of messages and sweeps after which something is due for ever.
MOST_ROUNDS = 100


class Message(NamedTuple):
    """A message that was sent to a worker."""

    #: The name of the task, such as ``feedmill.fanout``.
    task: str
    #: Its arguments.
    args: list[Any]


class _Sent(Message):
    """With the queue that it was sent to, which does not matter where messages are compared."""

    queue: str

    def __repr__(self) -> str:
        return repr(Message(*self))


class MessageBox:
    """The messages that were sent and not delivered, in the order in which they were sent."""

    def __init__(self) -> None:
        #: Those messages.
        self.messages: list[Message] = []
        #: What Flower would show for each message that was ever sent.
        self.descriptions: list[str] = []

    def send(self, name: str, args: Sequence[Any], *, queue: str, description: str, producer: Any = None) -> None:
        """Keep a message."""
        message = _Sent(name, list(args))
        message.queue = queue
        self.messages.append(message)
        self.descriptions.append(description)

    def length(self, queue: str) -> int:
        """How many messages wait in *queue*."""
        return sum(isinstance(message, _Sent) and message.queue == queue for message in self.messages)

    def take(self, name: str = "") -> list[Message]:
        """Take the messages for the task *name*, or all, out of the box: they are lost unless the caller delivers them."""
        taken = [message for message in self.messages if name in ("", message[0])]
        self.messages = [message for message in self.messages if message not in taken]
        return taken

    def work(self) -> int:
        """Deliver all messages, and those that are sent meanwhile; how many messages."""
        count = 0
        while self.messages:
            deliver(*self.messages.pop(0))
            count += 1
        return count

    def finish(self) -> None:
        """Deliver all messages, and do what else is due, as workers and the sweep do in time, whatever was lost.

        In memory only. Raises :class:`AssertionError` if something is still due after many rounds: its hooks fail.
        """
        from feedmill.worker import drain

        if not backend().in_process:
            raise ArgumentError("finish() passes over waiting times, which it can in memory alone; use work()")
        for _ in range(MOST_ROUNDS):
            self.work()
            if not any(DATA.due.values()) and not any(DATA.hook_due.values()):
                return
            pass_waiting_times()
            drain.sweep()
        raise AssertionError(f"still due after {MOST_ROUNDS} rounds: {_undone()}")


def deliver(task: str, args: Sequence[Any]) -> Any:
    """Run the task of a message as a worker does, without its retries."""
    from feedmill.tasks import app

    return app.tasks[task]._orig_run(*args)


def pass_waiting_times(*managers: str) -> None:
    """Have whatever waits in the in-memory journal of *managers*, or of all, be due now; what holds a claim has lost it."""
    for name in managers or list(DATA.due):
        DATA.due[name] = dict.fromkeys(DATA.due.get(name, {}), 0.0)
    DATA.wakeups.clear()
    DATA.hook_wakeups.clear()
    DATA.hook_holders.clear()
    for (name, _), due in DATA.hook_due.items():
        due.update(dict.fromkeys(due, 0) if name in managers or not managers else {})
    for record in DATA.fanout_records.values():
        record.update({"rerun_at": 1} if "rerun_at" in record else {})


B = TypeVar("B", bound=MessageBox)


def _undone() -> str:
    untold = [f"hooks of {name} are told nothing" for (name, _), due in DATA.hook_due.items() if due]
    records = [DATA.fanout_records.get(name, {}) for due in DATA.due.values() for name in due]
    return "; ".join(
        [
            *untold,
            *(f"{each.get('op', '?')} in {each.get('manager', '?')}: {each.get('error', '')}" for each in records),
        ]
    )


@contextmanager
def kept_messages(box: B | None = None) -> Iterator[B]:
    """Keep the messages to workers in *box*, a new one if none is given, while the block runs, instead of sending them.

    What the manager does itself happens: an activity is stored and in its author's own feed. Feeds of others are written
    when the test delivers, by :meth:`MessageBox.work`.
    """
    kept: Any = MessageBox() if box is None else box
    with mock.patch.multiple(publisher, **replacements(kept)):
        yield kept


def replacements(box: MessageBox) -> dict[str, Any]:
    """What stands in ``feedmill.fanout.publisher`` while *box* keeps the messages, by name."""

    def here() -> bool:
        return False

    return {"send": box.send, "length": box.length, "batched": contextlib.nullcontext, "inline": here, "ready": here}


__all__ = ["MOST_ROUNDS", "Message", "MessageBox", "deliver", "kept_messages", "pass_waiting_times"]
