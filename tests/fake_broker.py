"""A broker by hand: messages are kept, and a test decides which arrive, how often, and in which order."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from feedmill.fanout import publisher
from feedmill.ids import EntityId
from feedmill.keys import (
    HOOK_BUCKETS,
    due_key,
    fanout_record_key,
    hook_keys,
    hooks_wakeup_key,
    named_fanout,
    wakeup_key,
)
from feedmill.storage.journal import Claim
from feedmill.storage.registry import backend
from feedmill.testing.messages import Message, MessageBox, deliver, pass_waiting_times, replacements
from feedmill.worker.planned_chunks import read_chunk

FakeBroker = MessageBox
arrive = deliver


def make_overdue(manager: str) -> None:
    """The time of everything that is to be looked at has come; what holds a claim has lost it."""
    if backend().in_process:
        pass_waiting_times(manager)
        return
    client = backend().client  # type: ignore[attr-defined]
    for name in client.zrange(due_key(manager), 0, -1):
        client.zadd(due_key(manager), {name: 0})
        record = fanout_record_key(named_fanout(manager, name.decode()))
        if client.hexists(record, "rerun_at"):
            client.hset(record, "rerun_at", 1)
    client.delete(wakeup_key(manager), hooks_wakeup_key(manager))
    for bucket in range(HOOK_BUCKETS):
        due, _, holder = hook_keys(manager, bucket)
        client.delete(holder)
        for name in client.zrange(due, 0, -1):
            client.zadd(due, {name: 0})


def users_of_chunk(message: Message) -> list[EntityId]:
    """For whom the chunk is that a message asks to deliver, as the journal has it."""
    *_, fanout_id, generation, number = message[1]
    claim = Claim(fanout_id, "", generation, "", b"", 1, 1)
    return read_chunk(backend().run(backend().journal.chunks(claim, number, 1))[number]).user_ids


def settle(box: FakeBroker, manager: str) -> None:
    """Let everything be done, also what is done once more to be on the safe side."""
    for _ in range(4):
        box.work()
        make_overdue(manager)
        arrive("feedmill.sweep", [])
    box.work()
    assert backend().run(backend().journal.list_due(manager, limit=1)).ids == []


@contextlib.contextmanager
def replaced(patch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
    """A fake broker in place of the broker."""
    box = FakeBroker()
    for name, value in replacements(box).items():
        patch.setattr(publisher, name, value)
    yield box


__all__ = ["FakeBroker", "Message", "arrive", "make_overdue", "replaced"]
