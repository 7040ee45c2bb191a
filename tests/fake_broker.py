"""A broker by hand: messages are kept, and a test decides which arrive, how often, and in which order."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from feedmill.fanout import publisher
from feedmill.keys import due_key, fanout_record_key, named_fanout, wakeup_key
from feedmill.storage.memory import DATA
from feedmill.storage.registry import backend
from feedmill.tasks import app

Message = tuple[str, list[Any]]


class FakeBroker:
    """What was sent and has not arrived."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.descriptions: list[str] = []
        self._queues: dict[int, str] = {}

    def send(self, name: str, args: Any, *, queue: str, description: str, producer: Any = None) -> None:
        """Keep a message."""
        self.messages.append((name, list(args)))
        self.descriptions.append(description)
        self._queues[id(self.messages[-1])] = queue

    def length(self, queue: str) -> int:
        """How many messages wait in *queue*."""
        return sum(self._queues.get(id(message)) == queue for message in self.messages)

    def take(self, name: str = "") -> list[Message]:
        """Take the messages for the task *name* (or all) out of the box."""
        taken = [message for message in self.messages if name in ("", message[0])]
        self.messages = [message for message in self.messages if message not in taken]
        return taken

    def work(self) -> int:
        """Let everything arrive, and what is sent by that; how many messages."""
        count = 0
        while self.messages:
            arrive(*self.messages.pop(0))
            count += 1
        return count


def arrive(name: str, args: list[Any]) -> Any:
    """Run the task of a message, without its retries."""
    return app.tasks[name]._orig_run(*args)


def make_overdue(manager: str) -> None:
    """The time of everything that is to be looked at has come; what holds a claim has lost it."""
    if backend().in_process:
        DATA.due[manager] = dict.fromkeys(DATA.due.get(manager, {}), 0.0)
        DATA.wakeups.clear()
        for record in DATA.fanout_records.values():
            record.update({"rerun_at": 1} if "rerun_at" in record else {})
        return
    client = backend().client  # type: ignore[attr-defined]
    for name in client.zrange(due_key(manager), 0, -1):
        client.zadd(due_key(manager), {name: 0})
        record = fanout_record_key(named_fanout(manager, name.decode()))
        if client.hexists(record, "rerun_at"):
            client.hset(record, "rerun_at", 1)
    client.delete(wakeup_key(manager))


@contextlib.contextmanager
def replaced(patch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
    """A fake broker in place of the broker."""
    box = FakeBroker()
    nothing: Callable[[], Any] = contextlib.nullcontext
    patch.setattr(publisher, "send", box.send)
    patch.setattr(publisher, "length", box.length)
    patch.setattr(publisher, "batched", nothing)
    patch.setattr(publisher, "inline", lambda: False)
    patch.setattr(publisher, "ready", lambda: None)
    yield box
