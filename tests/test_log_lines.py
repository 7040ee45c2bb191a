"""A line of the log for each task and each fan-out that ends: text for people, and fields for formatters; nothing secret."""

from __future__ import annotations

import json
import logging
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from feedmill import Activity
from feedmill.verbs import Love
from feedmill.worker import reporting
from feedmill.worker.heartbeat import Watch
from tests.counting import CROWD, CountedManager, counted_alone
from tests.fake_broker import FakeBroker, arrive

NAME = CountedManager.name
manager = CountedManager()


@pytest.fixture
def box(backend_kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[FakeBroker]:
    """Each backend, with a broker by hand, and what is logged at INFO."""
    caplog.set_level(logging.INFO, "feedmill")
    with counted_alone(monkeypatch) as fake_broker:
        yield fake_broker


def lines(caplog: pytest.LogCaptureFixture, what: str) -> list[Any]:
    """The records that begin with *what*, whose text is checked against their fields."""
    found = [each for each in caplog.records if each.getMessage().startswith(f"{what}: ")]
    for each in found:
        assert each.levelno == logging.INFO and each.name == "feedmill.worker.reporting"
        for word in shlex.split(each.getMessage().partition(": ")[2]):
            key, _, text = word.partition("=")
            held = getattr(each, key)
            if isinstance(held, float):
                assert text == f"{held:.3f}"
            else:
                assert text in (str(held), f"{held} of {getattr(each, 'chunks', '')}")
    return found


def test_a_large_fanout(box: FakeBroker, caplog: pytest.LogCaptureFixture) -> None:
    """Each chunk says which of how many it is, how many users it reached, and how long it took; the last is followed by the whole."""
    fanout = manager.add_activity(Activity("star", Love, 1))
    box.work()
    chunks = lines(caplog, "chunk done")
    assert [(each.chunk, each.chunks, each.deliveries) for each in chunks] == [(1, 3, 100), (2, 3, 100), (3, 3, 50)]
    for each in chunks:
        assert (each.manager, each.operation, each.fanout_id, each.author) == (NAME, "add", fanout.id, "star")
        assert 0 <= each.seconds < 60 and 'chunk="' in each.getMessage()
    (whole,) = lines(caplog, "fan-out done")
    assert (whole.chunks, whole.deliveries, whole.author, whole.fanout_id) == (3, CROWD, "star", fanout.id)
    assert whole.operation == "add" and 0 <= whole.seconds < 60
    assert len(lines(caplog, "round done")) >= 1


def test_fanouts_that_share_messages(box: FakeBroker, caplog: pytest.LogCaptureFixture) -> None:
    """Each fan-out has its own lines, as if it had messages of its own; the round counts those that were sent."""
    fanouts = [manager.add_activity(Activity("star", Love, number)) for number in range(4)]
    box.work()
    found = lines(caplog, "chunk done")
    for fanout in fanouts:
        mine = [each for each in found if each.fanout_id == fanout.id]
        assert [(each.chunk, each.chunks, each.deliveries) for each in mine] == [(1, 3, 100), (2, 3, 100), (3, 3, 50)]
        assert {(each.author, each.operation) for each in mine} == {("star", "add")}
    whole = {each.fanout_id: (each.chunks, each.deliveries, each.author) for each in lines(caplog, "fan-out done")}
    assert whole == {fanout.id: (3, CROWD, "star") for fanout in fanouts} and len(found) == 12
    assert sum(each.messages for each in lines(caplog, "round done")) == 3


def test_the_plan_that_ends_last_says_the_author(
    box: FakeBroker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks are done before the plan that several share is settled: each of these fan-outs ends with that, and has its line."""
    fanouts = [manager.add_activity(Activity("star", Love, number)) for number in range(4)]
    plain = Watch.close

    def close(watch: Watch) -> None:
        for name, args in box.take("feedmill.deliver"):
            arrive(name, list(args))
        plain(watch)

    monkeypatch.setattr(Watch, "close", close)
    box.work()
    whole = [(each.fanout_id, each.chunks, each.deliveries, each.author) for each in lines(caplog, "fan-out done")]
    assert sorted(whole) == sorted((fanout.id, 3, CROWD, "star") for fanout in fanouts)


def test_small_fanouts(box: FakeBroker, caplog: pytest.LogCaptureFixture) -> None:
    """A round has a line, and each fan-out of it has one."""
    for number in range(3):
        manager.add_activity(Activity(f"author{number}", Love, 1))
    manager.remove_activity(Activity("nobody", Love, 1))
    box.work()
    found = {(each.author, each.operation): each for each in lines(caplog, "fan-out done")}
    assert {key for key in found if key[1] == "add"} == {(f"author{number}", "add") for number in range(3)}
    assert all((each.chunks, each.deliveries) == (1, 2) for key, each in found.items() if key[1] == "add")
    rounds = lines(caplog, "round done")
    assert sum(each.deliveries for each in rounds) >= 6 and sum(each.fanouts for each in rounds) == 4


def test_tasks_about_one_user_and_sweeps(box: FakeBroker, caplog: pytest.LogCaptureFixture) -> None:
    """Follows have a line as a chunk and one as a fan-out, whose author is who is followed; a sweep has one, too."""
    manager.follow("bob", "ann")
    manager.rebuild("bob")
    box.work()
    arrive("feedmill.sweep", [])
    done = {each.operation: each for each in lines(caplog, "chunk done")}
    assert set(done) == {"follow", "rebuild"}
    assert (done["follow"].author, done["follow"].chunk, done["follow"].chunks) == ("ann", 1, 1)
    assert done["follow"].user == done["rebuild"].user == "bob" and not hasattr(done["rebuild"], "author")
    assert [each.operation for each in lines(caplog, "fan-out done")] == ["follow", "rebuild"]
    (sweep,) = lines(caplog, "sweep done")
    assert (sweep.overdue, sweep.relayed) == (0, 0) and sweep.seconds >= 0


def test_nothing_of_an_activity_is_logged(box: FakeBroker, caplog: pytest.LogCaptureFixture) -> None:
    """What an activity says, what it is about, and who receives it stay out of the log."""
    activity = Activity("star", Love, "object-7", target="target-8", extra_context={"text": "whisper-9"})
    manager.add_activity(activity)
    box.work()
    assert len(lines(caplog, "chunk done")) == 3
    text = "\n".join(f"{each.getMessage()} {vars(each)}" for each in caplog.records)
    assert not re.search("object-7|target-8|whisper-9", text)


def test_no_author_breaks_a_line(caplog: pytest.LogCaptureFixture) -> None:
    """An id with spaces, quotation marks or line ends stays one value on one line."""
    caplog.set_level(logging.INFO, "feedmill")
    reporting.task_done("round done", 0.0, author='a "b"\nlevel=ERROR', manager="Home")
    (record,) = caplog.records
    assert "\n" not in record.getMessage() and 'author="a \\"b\\"\\nlevel=ERROR" manager=Home' in record.getMessage()


def test_fields_for_json(box: FakeBroker, caplog: pytest.LogCaptureFixture) -> None:
    """A formatter that writes the extra fields as JSON needs nothing else: they are texts and numbers."""
    usual = set(vars(logging.makeLogRecord({}))) | {"message"}
    manager.add_activity(Activity("ann", Love, 1))
    box.work()
    (record,) = lines(caplog, "fan-out done")
    fields = json.loads(json.dumps({key: held for key, held in vars(record).items() if key not in usual}))
    assert set(fields) == {"manager", "operation", "fanout_id", "author", "chunks", "deliveries", "seconds"}


def test_warnings_alone_by_default(box: FakeBroker, caplog: pytest.LogCaptureFixture) -> None:
    """Where INFO is off no line is made."""
    caplog.set_level(logging.WARNING, "feedmill")
    manager.add_activity(Activity("star", Love, 1))
    box.work()
    assert [each for each in caplog.records if each.name == "feedmill.worker.reporting"] == []
