"""Traces with OpenTelemetry: whoever opens the trace of a web request finds all that came of it, whoever did it."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from celery import signals
from opentelemetry import trace as api
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags, TraceState

from feedmill import Activity, registry, tracing
from feedmill.contrib import opentelemetry
from feedmill.errors import SettingsError
from feedmill.feeds import RedisNotificationFeed
from feedmill.storage.registry import backend
from feedmill.tracing import LONGEST
from feedmill.verbs import Love
from feedmill.worker import chunk_tasks, compensation, dead_letters
from feedmill.worker.drain import MOST_ATTEMPTS
from tests.counting import CROWD, CountedManager, counted_alone
from tests.fake_broker import FakeBroker, arrive, make_overdue
from tests.spans import Traces, said, stored, tracing_to_memory

NAME = CountedManager.name
manager = CountedManager()


@pytest.fixture
def box(backend_kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
    """Each backend, with a broker by hand, and the manager of the load alone."""
    with counted_alone(monkeypatch) as fake_broker:
        yield fake_broker


@pytest.fixture
def traces() -> Iterator[Traces]:
    """Where spans go in this test."""
    with tracing_to_memory(NAME) as kept:
        yield kept


def plan(box: FakeBroker) -> None:
    """Answer the wake-up messages, and leave the chunks that are sent."""
    for name, args in box.take("feedmill.fanout"):
        arrive(name, list(args))


def test_a_large_fanout_is_one_trace(box: FakeBroker, traces: Traces) -> None:
    """The request, what is accepted, the plan, and each chunk to the last, in one trace; each below the step that asked for it."""
    activity = Activity("star", Love, 1)
    with traces.tracer.start_as_current_span("POST /posts") as request:
        fanout = manager.add_activity(activity)
    box.work()
    assert traces.names(request) == ["accept", "plan", "deliver", "deliver", "deliver"]
    accept, planned, *chunks = traces.spans(request)
    assert accept.parent.span_id == request.get_span_context().span_id and accept.kind is SpanKind.PRODUCER
    for each in (planned, *chunks):
        assert each.parent.span_id == accept.context.span_id and each.kind is SpanKind.CONSUMER
        assert each.attributes["messaging.system"] == "feedmill"
        assert each.attributes["messaging.operation.type"] == "process"
        assert each.attributes["messaging.destination.name"] == NAME
        assert (said(each, "operation"), said(each, "fanout.id")) == ("add", fanout.id)
        assert (said(each, "activity.id"), said(each, "author")) == (activity.id, "star")
        assert said(each, "attempt") == 1
    assert (said(planned, "messages"), said(planned, "outcome")) == (3, "sent")
    found = [(said(each, "chunk"), said(each, "chunks"), said(each, "users")) for each in chunks]
    assert found == [(1, 3, 100), (2, 3, 100), (3, 3, 50)]
    assert {said(each, "feeds") for each in chunks} == {("home", "news")}


def test_each_author_of_one_round_has_a_trace(box: FakeBroker, traces: Traces) -> None:
    """A round that does the fan-outs of two requests is a step of its own, linked to both; each delivery is in the trace of its author."""
    requests = {}
    for author in ("ann", "ben"):
        with traces.tracer.start_as_current_span(f"POST of {author}") as requests[author]:
            manager.add_activity(Activity(author, Love, 1))
    box.work()
    (claim,) = traces.spans(name="claim")
    accepted = [traces.spans(each, "accept")[0].context for each in requests.values()]
    assert {each.context.span_id for each in claim.links} == {each.span_id for each in accepted}
    assert claim.parent is None and claim.kind is SpanKind.CLIENT
    assert claim.attributes["messaging.batch.message_count"] == 2
    for author, request in requests.items():
        assert traces.names(request) == ["accept", "plan", "deliver"]
        (delivered,) = traces.spans(request, "deliver")
        assert (said(delivered, "author"), said(delivered, "users")) == (author, 2)
        assert [each.context.span_id for each in delivered.links] == [claim.context.span_id]
        assert delivered.start_time <= delivered.end_time


def test_chunks_that_share_messages(box: FakeBroker, traces: Traces) -> None:
    """A message that names chunks of several fan-outs is one step, linked to all, and one in the trace of each."""
    requests = []
    for number in range(3):
        with traces.tracer.start_as_current_span("POST") as request:
            manager.add_activity(Activity("star", Love, number))
        requests.append(request)
    manager.add_activity(Activity("star", Love, "root"))  # in no request: a trace of its own
    box.work()
    together = traces.spans(name="deliver_together")
    assert [(len(each.links), each.attributes["messaging.batch.message_count"]) for each in together] == [(4, 4)] * 3
    for request in requests:
        assert traces.names(request) == ["accept", "plan", "deliver", "deliver", "deliver"]
        delivered = traces.spans(request, "deliver")
        assert [(said(each, "chunk"), said(each, "users")) for each in delivered] == [(1, 100), (2, 100), (3, 50)]
        for each, batch in zip(delivered, together):
            assert batch.context.span_id in [link.context.span_id for link in each.links]


def test_what_is_not_sampled_leaves_no_trace(box: FakeBroker, traces: Traces) -> None:
    """Of a request that is not sampled nothing is stored, and no worker makes a span."""
    off = TracerProvider(sampler=ALWAYS_OFF).get_tracer("app")
    with off.start_as_current_span("POST"):
        fanout = manager.add_activity(Activity("star", Love, 1))
        followed = manager.follow("bob", "star")
    box.work()
    assert stored(fanout) == stored(followed) == ""
    assert traces.spans() == []


def test_a_lost_message_and_a_sweep(box: FakeBroker, traces: Traces) -> None:
    """Chunks whose messages were lost are sent again by a round that a sweep wakes, in the same trace; attempts are counted."""
    with traces.tracer.start_as_current_span("POST") as request:
        manager.add_activity(Activity("star", Love, 1))
    plan(box)
    lost = box.take("feedmill.deliver")
    assert len(lost) == 3
    make_overdue(NAME)
    arrive("feedmill.sweep", [])
    box.work()
    assert traces.names(request) == ["accept", "plan", "plan", "deliver", "deliver", "deliver"]
    assert said(traces.spans(request, "plan")[-1], "outcome") == "sent"


def test_a_worker_that_dies_in_a_chunk(box: FakeBroker, traces: Traces, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does a chunk after its worker was killed makes a span in the same trace, of the second attempt."""

    class Killed(BaseException):
        pass

    def dies(*_: Any) -> Any:
        raise Killed

    with traces.tracer.start_as_current_span("POST") as request:
        manager.add_activity(Activity("star", Love, 1))
    plan(box)
    messages = box.take("feedmill.deliver")
    with monkeypatch.context() as patch:
        patch.setattr(compensation, "read", dies)
        with pytest.raises(Killed):
            chunk_tasks.deliver(*messages[0][1])
    for name, args in messages:
        arrive(name, list(args))
    found = [
        (said(each, "chunk"), said(each, "attempt"), said(each, "users")) for each in traces.spans(request, "deliver")
    ]
    assert found == [(1, 1, None), (1, 2, 100), (2, 1, 100), (3, 1, 50)]


def test_failures_and_a_dead_letter_that_is_retried(box: FakeBroker, traces: Traces) -> None:
    """Each attempt that fails says so by the class of its error, and no text of it; a dead letter that is retried goes on in the trace."""
    with traces.tracer.start_as_current_span("POST") as request:
        fanout = manager.add_activity(Activity("bad", Love, 1))
    for _ in range(MOST_ATTEMPTS + 2):
        box.work()
        make_overdue(NAME)
        arrive("feedmill.sweep", [])
    settled = traces.spans(request, "settle")
    assert [said(each, "outcome") for each in settled] == ["retry"] * (MOST_ATTEMPTS - 1) + ["dead letter"]
    assert [said(each, "attempt") for each in settled] == list(range(1, MOST_ATTEMPTS + 1))
    for each in (*settled, *traces.spans(request, "plan")):
        assert each.status.status_code is StatusCode.ERROR and each.attributes["error.type"] == "ValueError"
        assert "followers" not in each.to_json()
    traces.exporter.clear()
    kept = stored(fanout)
    with traces.tracer.start_as_current_span("of an operator"):
        dead_letters.retry(fanout.status().dead)
    assert stored(fanout) == kept
    box.work()
    assert traces.names(request) == ["plan", "settle"]
    assert "accept" not in traces.names()


def test_the_feeds_of_one_user(box: FakeBroker, traces: Traces) -> None:
    """Follow, unfollow and rebuild are sent as tasks of their own, and belong to the trace of who asked."""
    with traces.tracer.start_as_current_span("POST") as request:
        manager.follow("bob", "ann")
        manager.unfollow("cleo", "ann")
        manager.rebuild("bob")
    box.work()
    assert traces.names(request) == ["accept"] * 3 + ["deliver"] * 3
    done = traces.spans(request, "deliver")
    assert [said(each, "operation") for each in done] == ["follow", "unfollow", "rebuild"]
    assert [(said(each, "user"), said(each, "author")) for each in done] == [
        ("bob", "ann"),
        ("cleo", "ann"),
        ("bob", None),
    ]


def test_a_shared_chunk_that_fails_is_done_alone(
    box: FakeBroker, traces: Traces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails together says in each trace that it was sent alone, and is done there."""

    def fails(*_: Any) -> Any:
        raise OSError("no database at secret.example")

    requests = []
    for number in range(2):
        with traces.tracer.start_as_current_span("POST") as request:
            manager.add_activity(Activity("star", Love, number))
        requests.append(request)
    plan(box)
    with monkeypatch.context() as patch:
        patch.setattr(compensation, "read", fails)
        for name, args in box.take("feedmill.deliver"):
            arrive(name, list(args))
    box.work()
    for request in requests:
        delivered = traces.spans(request, "deliver")
        assert [said(each, "outcome") for each in delivered] == ["sent alone"] * 3 + [None] * 3
        assert [said(each, "users") for each in delivered] == [None] * 3 + [100, 100, 50]


class TracedNotes(RedisNotificationFeed):
    key_format = "traced:notes:%(user_id)s"
    count_format = "traced:notes:%(user_id)s:count"


class TracedTelling(CountedManager):
    """The managers of the load, with hooks that are told; what "bad" gets fails once."""

    notification_feed_class = TracedNotes
    told: list[tuple[str, str]] = []

    def get_recipient_ids(self, activity: Any) -> Iterator[Any]:
        """Everybody who is to be told of it."""
        yield from (activity.extra_context or {}).get("tell", ())

    def _hear(self, hook: str, values: Any) -> None:
        self.told.extend((hook, tracing.sink.trace_id() if tracing.sink else "") for _ in values)

    def on_notification(self, notifications: Any) -> None:
        """Remember the trace that is current."""
        self._hear("on_notification", notifications)

    def on_fanout_finished(self, fanouts: Any) -> None:
        """Remember the trace that is current."""
        self._hear("on_fanout_finished", fanouts)

    def on_dead_letter(self, letters: Any) -> None:
        """Remember the trace that is current."""
        self._hear("on_dead_letter", letters)


def hooks_called(traces: Traces, request: Any = None) -> list[tuple[str, int]]:
    """The hooks that were called in a trace, and with how many values that belong to it."""
    found = [each for each in traces.spans(request) if each.name == f"call_hooks {TracedTelling.name}"]
    return sorted((said(each, "hook"), (each.attributes or {})["messaging.batch.message_count"]) for each in found)  # type: ignore[misc]


@pytest.fixture
def telling(monkeypatch: pytest.MonkeyPatch) -> TracedTelling:
    """The manager whose hooks are told, alone."""
    monkeypatch.setattr(registry, "_managers", {TracedTelling.name: TracedTelling})
    monkeypatch.setattr(TracedTelling, "told", [])
    return TracedTelling()


def test_hooks_of_one_request(box: FakeBroker, telling: TracedTelling, traces: Traces) -> None:
    """What hooks are told of one request is a step in its trace, which is current while the app's code runs."""
    with traces.tracer.start_as_current_span("POST") as request:
        telling.add_activity(Activity("ann", Love, 1, extra_context={"tell": ["dan", "eve"]}))
    box.work()
    assert hooks_called(traces, request) == [("on_fanout_finished", 1)] + [("on_notification", 1)] * 2, "two buckets"
    mine = api.format_trace_id(request.get_span_context().trace_id)
    assert sorted(telling.told) == [("on_fanout_finished", mine)] + [("on_notification", mine)] * 2


def test_hooks_of_several_requests(box: FakeBroker, telling: TracedTelling, traces: Traces) -> None:
    """A call that tells what came of several requests, and of none, is a step of its own and one in the trace of each."""
    requests = []
    for number in range(2):
        with traces.tracer.start_as_current_span("POST") as request:
            telling.add_activity(Activity("ann", Love, number, extra_context={"tell": ["dan"]}))
        requests.append(request)
    sink, tracing.sink = tracing.sink, None
    telling.add_activity(Activity("ann", Love, 3, extra_context={"tell": ["dan"]}))
    tracing.use(sink)
    box.work()
    for request in requests:
        assert hooks_called(traces, request) == [("on_fanout_finished", 1), ("on_notification", 1)]
    batches = [
        each for each in traces.spans() if each.name == f"call_hooks {TracedTelling.name}" and each.parent is None
    ]
    assert {(said(each, "hook"), len(each.links)) for each in batches} == {
        ("on_notification", 2),
        ("on_fanout_finished", 2),
    }
    assert len(telling.told) == 6


def test_hooks_of_users_who_were_named(box: FakeBroker, telling: TracedTelling, traces: Traces) -> None:
    """Direct notifications of one activity belong to the request that named the user."""
    activity, requests = Activity("ann", Love, 1), {}
    for user in ("dan", "eve"):
        with traces.tracer.start_as_current_span("POST") as requests[user]:
            telling.notify([user], activity)
    with traces.tracer.start_as_current_span("POST") as other:
        telling.notify(["flo"], Activity("ann", Love, 2))
    box.work()
    for request in (*requests.values(), other):
        assert ("on_notification", 1) in hooks_called(traces, request)


def test_hooks_of_dead_letters(box: FakeBroker, telling: TracedTelling, traces: Traces) -> None:
    """A hook that is told of a dead letter is called in the trace of what was given up."""
    with traces.tracer.start_as_current_span("POST") as request:
        telling.add_activity(Activity("bad", Love, 1))
    for _ in range(MOST_ATTEMPTS + 2):
        box.work()
        make_overdue(TracedTelling.name)
        arrive("feedmill.sweep", [])
    box.work()
    assert ("on_dead_letter", 1) in hooks_called(traces, request)


def test_from_a_coroutine(box: FakeBroker, traces: Traces) -> None:
    """A coroutine accepts in its own trace, and leaves what was current as it was."""

    async def post(author: str) -> Any:
        with traces.tracer.start_as_current_span(f"POST of {author}") as request:
            await manager.aadd_activity(Activity(author, Love, 1))
            assert api.get_current_span() is request
        return request

    async def both() -> list[Any]:
        return await asyncio.gather(post("ann"), post("ben"))

    requests = asyncio.run(both())
    box.work()
    for request in requests:
        assert traces.names(request) == ["accept", "plan", "deliver"]


def test_a_replaced_fanout_belongs_to_the_last_request(box: FakeBroker, traces: Traces) -> None:
    """An activity that is removed before it was delivered: what is done belongs to the removal; without a trace none is left."""
    activity = Activity("star", Love, 1)
    with traces.tracer.start_as_current_span("POST") as added:
        fanout = manager.add_activity(activity)
    with traces.tracer.start_as_current_span("DELETE") as removed:
        manager.remove_activity(activity)
    box.work()
    assert traces.names(added) == ["accept"]
    assert traces.names(removed) == ["accept", "plan", "deliver", "deliver", "deliver"]
    tracing.use(None)
    manager.add_activity(activity)
    assert stored(fanout) == ""


def test_a_worker_without_tracing(box: FakeBroker, traces: Traces) -> None:
    """A worker that traces nothing does what belongs to a trace; and one that traces does what belongs to none."""
    with traces.tracer.start_as_current_span("POST") as request:
        first = manager.add_activity(Activity("star", Love, 1))
    sink, tracing.sink = tracing.sink, None
    second = manager.add_activity(Activity("ann", Love, 1))
    box.work()
    third = manager.add_activity(Activity("ann", Love, 2))
    tracing.use(sink)
    box.work()
    assert first.status().finished and second.status().finished and third.status().finished
    assert traces.names(request) == ["accept"] and len(traces.spans()) == 1


def test_a_long_tracestate_is_cut(box: FakeBroker, traces: Traces) -> None:
    """What is stored has a bounded length, and keeps the first entries of the state, without those that are long."""
    entries = [("vendor0", "x" * 100), ("huge", "y" * 200)] + [(f"vendor{number}", "z" * 60) for number in range(1, 12)]
    state = TraceState(entries)
    remote = SpanContext(1 << 100, 1 << 50, True, TraceFlags(TraceFlags.SAMPLED), state)
    with api.use_span(NonRecordingSpan(remote)):
        fanout = manager.add_activity(Activity("ann", Love, 1))
    kept = stored(fanout)
    assert len(kept) <= LONGEST
    assert re.match(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01 vendor0=x{100},vendor1=z{60},", kept)
    assert "huge" not in kept and tracing.id_of(kept) == f"{1 << 100:032x}"
    box.work()
    (delivered,) = traces.spans(name="deliver")
    assert delivered.context.trace_id == 1 << 100
    assert delivered.context.trace_state.get("vendor1") == "z" * 60


@pytest.mark.parametrize("damaged", ["nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "00-é", "=", "x" * 5000])
def test_a_damaged_trace_context_harms_nothing(box: FakeBroker, traces: Traces, damaged: str) -> None:
    """A record whose trace context is none is done like any other."""
    activity, journal = Activity("star", Love, 1), backend().journal
    fanout = manager.add_activity(activity)
    backend().run(journal.open(NAME, fanout.id, "add", activity.raw_id, trace=damaged))
    box.work()
    assert fanout.status().finished and fanout.status().reached == CROWD


def test_nothing_secret_is_in_spans(box: FakeBroker, traces: Traces) -> None:
    """What an activity says, what it is about, and who receives it stay out of spans."""
    with traces.tracer.start_as_current_span("POST"):
        manager.add_activity(Activity("star", Love, "object-7", target="target-8", extra_context={"text": "whisper-9"}))
        manager.add_activity(Activity("ann", Love, "object-7"))
        manager.notify(["reader-6"], Activity("ann", Love, "object-7"))
    box.work()
    text = "\n".join(each.to_json() for each in traces.spans())
    assert len(traces.spans()) > 8 and not re.search("object-7|target-8|whisper-9|reader-6|cleo", text)


def test_each_line_of_the_log_tells_its_trace(
    box: FakeBroker, traces: Traces, caplog: pytest.LogCaptureFixture
) -> None:
    """Lines of chunks and fan-outs tell the trace of the request, that of a round the trace of the round."""
    caplog.set_level(logging.INFO, "feedmill")
    with traces.tracer.start_as_current_span("POST") as request:
        manager.add_activity(Activity("star", Love, 1))
    box.work()
    mine, found = api.format_trace_id(request.get_span_context().trace_id), list[tuple[str, str]]()
    for line in caplog.records:
        if line.name == "feedmill.worker.reporting":
            found.append((line.getMessage().partition(":")[0], vars(line)["trace_id"]))
    (claim,) = traces.spans(name="claim")
    round_line = ("round done", api.format_trace_id(claim.context.trace_id))
    assert found == [round_line, *[("chunk done", mine)] * 3, ("fan-out done", mine)]


def test_a_collector_that_is_away_holds_up_no_end(traces: Traces, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that ends waits for its last spans for a bounded time."""
    began, away = threading.Event(), threading.Event()

    def flush(*_: Any) -> bool:
        began.set()
        return away.wait(60)

    monkeypatch.setattr(traces.provider, "force_flush", flush)
    monkeypatch.setattr(opentelemetry, "LAST_EXPORT", 0.05)
    signals.worker_process_shutdown.send(sender=None, pid=0, exitcode=0)
    assert began.is_set() and not away.is_set()
    away.set()


def test_the_provider_is_that_of_the_app() -> None:
    """What is no tracer provider is refused, and leaves all as it was."""
    with pytest.raises(SettingsError, match="TracerProvider"):
        opentelemetry.install("jaeger")  # type: ignore[arg-type]
    assert tracing.sink is None
    opentelemetry.install()
    try:
        assert isinstance(tracing.sink, opentelemetry.OpenTelemetrySink)
    finally:
        tracing.use(None)


def test_links_are_what_the_conventions_say() -> None:
    """Every step has a name and a kind of its own, and the kinds are those of the conventions for messaging."""
    assert len({each.name for each in tracing.ALL}) == len(tracing.ALL)
    assert {id(each) for each in vars(tracing).values() if isinstance(each, tracing.Step)} == set(map(id, tracing.ALL))
    assert all(each.help.endswith(".") for each in tracing.ALL)
