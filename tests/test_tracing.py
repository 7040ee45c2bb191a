"""Where nobody traces, tracing costs nothing: no call, no memory, no byte; and a record of another release is done."""

from __future__ import annotations

import inspect
import logging
import sys
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from feedmill import Activity, tracing
from feedmill.fanout import handle, publisher
from feedmill.keys import fanout_record_key
from feedmill.manager import deferral
from feedmill.storage.memory.journal import MemoryJournal
from feedmill.storage.redis.journal import RedisJournal
from feedmill.storage.registry import backend
from feedmill.tracing import Kind
from feedmill.verbs import Love
from feedmill.worker import chunk_tasks, drain, hook_calls, hook_traces
from tests.counting import CountedManager, counted_alone
from tests.documents import ROOT
from tests.fake_broker import FakeBroker, arrive

NAME = CountedManager.name
manager = CountedManager()
#: What Feedmill keeps of a trace, as another release may write it.
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
#: What is there for tracing alone: modules, and functions of others.
MODULES = {tracing.__name__, hook_traces.__name__}
FUNCTIONS = {
    inspect.unwrap(each).__code__
    for each in (
        *(handle._accepting, deferral._recorded, deferral.trace_of),
        *(drain._traced, drain._DrainPass._plan_traced, drain._DrainPass._trace_sent),
        *(chunk_tasks._traced, chunk_tasks._traced_together, hook_calls._Bucket._know_traces),
        *(MemoryJournal.traces, RedisJournal.traces),
    )
}


@pytest.fixture
def box(backend_kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
    """Each backend, with a broker by hand, and the manager of the load alone."""
    with counted_alone(monkeypatch) as fake_broker:
        yield fake_broker


def load(authors: int) -> None:
    """What a round and chunks have to do."""
    for number in range(authors):
        manager.add_activity(Activity(f"writer{number}", Love, authors))
        manager.follow(f"reader{number}", "ann")
    manager.add_activity(Activity("star", Love, authors))


def test_without_a_sink_no_function_is_called(box: FakeBroker) -> None:
    """Asking for fan-outs, planning and delivering them calls nothing that is there for tracing, and needs no memory there."""
    called: list[str] = []

    def trace(frame: Any, event: str, _: Any) -> None:
        name = frame.f_globals.get("__name__")
        if event == "call" and (name in MODULES or frame.f_code in FUNCTIONS):
            called.append(f"{name}.{frame.f_code.co_name}")

    load(2)
    box.work()
    tracemalloc.start()
    sys.setprofile(trace)
    try:
        load(20)
        box.work()
        arrive("feedmill.sweep", [])
    finally:
        sys.setprofile(None)
        snapshot = tracemalloc.take_snapshot()
        tracemalloc.stop()
    assert called == []
    assert not snapshot.filter_traces([tracemalloc.Filter(True, tracing.__file__)]).traces


def test_without_a_sink_not_one_byte_is_stored(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records have no field for it, and messages hold what they held; nor is anything more said to the server."""
    sent: list[tuple[Any, ...]] = []
    monkeypatch.setattr(publisher, "send", keeping(sent, publisher.send))
    fanouts = [manager.add_activity(Activity("star", Love, 1)), manager.follow("bob", "ann")]
    box.work()
    assert not any("trace" in str(each).lower() for each in sent) and len(sent) >= 4
    for each in fanouts:
        if backend().in_process:
            from feedmill.storage.memory import DATA

            fields = list(DATA.fanout_records[each.id])
        else:
            fields = [name.decode() for name in backend().client.hkeys(fanout_record_key(each.id))]  # type: ignore[attr-defined]
        assert "manager" in fields and "trace" not in fields


def keeping(sent: list[tuple[Any, ...]], plain: Any) -> Any:
    """The function, and all arguments that it is called with."""

    def send(*args: Any, **named: Any) -> Any:
        sent.append((*args, named))
        return plain(*args, **named)

    return send


def test_what_a_newer_release_has_written(box: FakeBroker) -> None:
    """A worker that does not trace does what belongs to a trace like any other, and leaves the trace context where it is."""
    activity, journal = Activity("star", Love, 1), backend().journal
    fanout = manager.add_activity(activity)
    backend().run(journal.open(NAME, fanout.id, "add", activity.raw_id, trace=PARENT + " later=things"))
    box.work()
    assert fanout.status().finished and backend().run(journal.traces([fanout.id])) == [PARENT + " later=things"]


def test_the_log_tells_the_trace(box: FakeBroker, caplog: pytest.LogCaptureFixture) -> None:
    """Each line about a fan-out that belongs to a trace has the id of that as a field, also where the worker does not trace."""
    caplog.set_level(logging.INFO, "feedmill")
    activities = [Activity("star", Love, 1), Activity("ann", Love, 1)]
    for each in activities:
        fanout = manager.add_activity(each)
        backend().run(backend().journal.open(NAME, fanout.id, "add", each.raw_id, trace=PARENT))
    manager.follow("bob", "ann")
    box.work()
    lines = [each for each in caplog.records if each.name == "feedmill.worker.reporting"]
    told = [each for each in lines if getattr(each, "operation", "") == "add"]
    assert {each.getMessage().partition(":")[0] for each in told} == {"chunk done", "fan-out done"} and len(told) == 5
    for line in told:
        assert (
            vars(line)["trace_id"] == tracing.id_of(PARENT) and f"trace_id={tracing.id_of(PARENT)}" in line.getMessage()
        )
    for line in lines:
        assert line in told or not hasattr(line, "trace_id")


@pytest.mark.parametrize("text", ["", "00-", PARENT + "x", PARENT[:-1], PARENT.replace("0af", "0AF"), "x" + PARENT])
def test_what_is_no_trace_context(text: str) -> None:
    """It has no id."""
    assert tracing.id_of(text) == ""


def test_the_reference_has_each_step() -> None:
    """The table of the reference says of each step what its definition says."""
    page = (ROOT / "docs" / "reference" / "traces.md").read_text()
    kinds = {Kind.RECEIVE: "client", Kind.SETTLE: "client", Kind.PROCESS: "consumer"}
    for each in tracing.ALL:
        row = f"| `{each.name}` | `{each.kind.value}` | {kinds.get(each.kind, 'producer')} | {each.help} |"
        assert row in page
