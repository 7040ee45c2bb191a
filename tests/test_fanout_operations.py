"""The definitions of the kinds of fan-out, compared with what must agree with them."""

from __future__ import annotations

import inspect
import re
from importlib import resources
from string import Formatter

import pytest

from feedmill.errors import MessageError, UnknownName
from feedmill.fanout.operations import CHUNKED, OPERATIONS, PLANNED, REBUILD, FanoutOperation, Subject, operation_called
from feedmill.storage.journal import Claim
from feedmill.storage.registry import backend
from feedmill.tasks import app
from feedmill.worker import chunk_tasks
from tests.fake_broker import make_overdue

ALL = list(OPERATIONS.values())
NAME = "Kinds"
ONE = f"{NAME}:one"


@pytest.mark.parametrize("op", ALL, ids=repr)
def test_what_it_says_of_messages(op: FanoutOperation) -> None:
    """Its task is there and says where the fan-out is; its words have a place for each of its arguments that is always there."""
    task = app.tasks[op.task]
    function = chunk_tasks.deliver if op.name in PLANNED else chunk_tasks.copy
    arguments = [name for name in inspect.signature(function).parameters if op.name in PLANNED or name != "op"]
    assert arguments[task.fanout_at : task.fanout_at + 2] == ["fanout_id", "generation"]
    places = {name for _, name, _, _ in Formatter().parse(op.description) if name is not None}
    wanted = {Subject.NAMED_USERS: 0, Subject.FOUND: 0, Subject.FEEDS: op.fewest}.get(op.subject, 3)
    assert places == {str(number) for number in range(wanted)}
    assert (op.subject is Subject.FEEDS) == bool(op.arguments)


def test_its_sets() -> None:
    """What is chunked is planned, and what is sent alone is not; another name is refused with those that are known."""
    assert set(CHUNKED) < set(PLANNED) < set(OPERATIONS)
    assert not PLANNED.keys() & {"follow", "unfollow", REBUILD.name}
    assert all(op is operation_called(op.name) for op in ALL)
    with pytest.raises(UnknownName, match="no fan-out of kind 'dance'; it knows add, remove, .*, rebuild"):
        operation_called("dance")
    with pytest.raises(MessageError, match="'rebuild' is none of add, remove, .*"):
        operation_called("rebuild", CHUNKED)
    for op in ALL:
        named = {*op.succession.absorbs, *filter(None, [op.succession.becomes])}
        assert named <= set(OPERATIONS) and bool(op.succession.absorbs) == bool(op.succession.becomes)


def run(op: FanoutOperation) -> str:
    """Open *op*; what it is then."""
    opened = backend().run(backend().journal.open(NAME, ONE, op.name, b"body", succession=op.succession))
    return str(opened.op)


def claimed() -> Claim:
    """The fan-out, claimed."""
    make_overdue(NAME)
    ((claim,), _) = backend().run(backend().journal.claim(NAME, 10))
    found: Claim = claim
    return found


@pytest.mark.parametrize("after", ALL, ids=repr)
@pytest.mark.parametrize("before", ALL, ids=repr)
def test_what_it_makes_of_another(backend_kind: str, before: FanoutOperation, after: FanoutOperation) -> None:
    """Both journals do with an open fan-out, and with a finished one, what the definition of the next one says."""
    absorbs = before.name in after.succession.absorbs
    expected = after.succession.becomes if absorbs else after.name
    run(before)
    assert run(after) == expected
    backend().run(backend().journal.cancel(ONE))
    run(before)
    claimed()  # it may be running: whatever comes next is done once more behind it
    assert run(after) == expected
    backend().run(backend().journal.finish(NAME, [(claimed(), 1)]))
    assert "rerun_at" in backend().run(backend().journal.get(ONE))
    # it is to be done again, so whoever takes its place has that to do
    assert run(after) == (after.succession.becomes if expected in after.succession.absorbs else after.name)


def test_no_kind_is_spelled_elsewhere() -> None:
    """No script names a kind of fan-out: what it must know of one it is told."""
    scripts = resources.files("feedmill.storage.redis.scripts")
    kinds = "|".join(OPERATIONS)
    for file in scripts.iterdir():
        if file.name.startswith("journal"):
            code = re.sub(r"--.*", "", file.read_text(encoding="utf-8"))
            assert not re.search(rf"['\"]({kinds})['\"]", code), file.name
