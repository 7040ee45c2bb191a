"""What is counted agrees with what was done, exactly; and without a sink nothing is called."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from feedmill import Activity, metrics
from feedmill.fanout.operations import TOGETHER
from feedmill.feeds.redis import RedisAggregatedFeed
from feedmill.metrics import ALL, Kind
from feedmill.storage.registry import backend
from feedmill.verbs import Love
from feedmill.worker import chunk_tasks, compensation, figures
from feedmill.worker.drain import MOST_ATTEMPTS
from tests.counting import CROWD, CountedHome, CountedManager, CountedNews, CountedNotes, CountingSink, counted_alone
from tests.fake_broker import FakeBroker, arrive, make_overdue

NAME = CountedManager.name
#: What one author does in quick succession.
POSTS = 7
manager = CountedManager()


@pytest.fixture
def box(backend_kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
    """Each backend, with a broker by hand, and the manager of the load alone."""
    with counted_alone(monkeypatch) as fake_broker:
        yield fake_broker


@pytest.fixture
def sink() -> Iterator[CountingSink]:
    """A sink that keeps what it is told."""
    chosen = CountingSink()
    metrics.use(chosen)
    yield chosen
    metrics.use(None)


def plan(box: FakeBroker) -> None:
    """Answer the wake-up messages, and leave the chunks that are sent."""
    for name, args in box.take("feedmill.fanout"):
        arrive(name, list(args))


def stored() -> dict[tuple[Any, ...], float]:
    """What is stored now."""
    return {(each.metric.name, *each.labels): each.value for each in figures.figures()}


def test_a_known_load_in_exact_numbers(box: FakeBroker, sink: CountingSink) -> None:
    """Deliveries, batches, durations and accepted fan-outs of a load whose size is known, on each backend."""
    manager.add_activity(Activity("star", Love, 1))
    for number in range(5):
        manager.add_activity(Activity(f"author{number}", Love, 1))
    manager.follow("bob", "star")
    box.work()
    assert sink.sums[("feedmill_fanouts_accepted_total", NAME, "add")] == 6
    assert sink.sums[("feedmill_fanouts_accepted_total", NAME, "follow")] == 1
    assert sink.sums[("feedmill_deliveries_total", NAME, "add")] == CROWD + 5 * 2
    assert sink.sums[("feedmill_deliveries_total", NAME, "follow")] == 1
    assert sink.sums[("feedmill_batches_total", NAME, "chunk")] == 3 + 1
    assert 1 <= sink.sums[("feedmill_batches_total", NAME, "round")] <= 5
    visible = sink.observed[("feedmill_visible_seconds", NAME, "add")]
    whole = sink.observed[("feedmill_fanout_seconds", NAME, "add")]
    assert (len(visible), len(whole)) == (3 + 5, 6)
    assert all(0 <= each < 60 for each in [*visible, *whole])
    assert sink.sums[("feedmill_redis_round_trips_total",)] > 0 or backend().in_process
    assert not any(name == "feedmill_retries_total" for name, *_ in sink.sums)


def test_a_burst_that_shares_messages_in_exact_numbers(box: FakeBroker, sink: CountingSink) -> None:
    """Posts of one author, to more followers than a chunk, share messages: each counts once, also if a message comes twice."""
    for number in range(POSTS):
        manager.add_activity(Activity("star", Love, number))
    plan(box)
    messages = box.take("feedmill.deliver")
    assert [args[1] for _, args in messages] == [TOGETHER] * 3
    assert sum(value for (name, *_), value in stored().items() if name == "feedmill_queue_deliveries") == CROWD * POSTS
    for name, args in [*messages, messages[0]]:
        arrive(name, list(args))
    assert sink.sums[("feedmill_deliveries_total", NAME, "add")] == CROWD * POSTS
    assert sink.sums[("feedmill_batches_total", NAME, "chunk")] == 3 * POSTS
    visible = sink.observed[("feedmill_visible_seconds", NAME, "add")]
    whole = sink.observed[("feedmill_fanout_seconds", NAME, "add")]
    assert (len(visible), len(whole)) == (3 * POSTS, POSTS)
    assert all(0 <= each < 60 for each in [*visible, *whole])
    assert not any(name in ("feedmill_retries_total", "feedmill_failures_total") for name, *_ in sink.sums)


def test_shared_messages_that_fail(box: FakeBroker, sink: CountingSink, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails together counts as one failure of each chunk, and each that is then done alone as one retry."""

    def fails(*_: Any) -> Any:
        raise OSError("no database")

    for number in range(POSTS):
        manager.add_activity(Activity("star", Love, number))
    plan(box)
    with monkeypatch.context() as patch:
        patch.setattr(compensation, "read", fails)
        for name, args in box.take("feedmill.deliver"):
            arrive(name, list(args))
    assert sink.sums[("feedmill_failures_total", NAME, "chunk")] == 3 * POSTS
    assert sink.sums[("feedmill_deliveries_total", NAME, "add")] == 0
    box.work()
    assert sink.sums[("feedmill_retries_total", NAME, "chunk")] == 3 * POSTS
    assert sink.sums[("feedmill_failures_total", NAME, "chunk")] == 3 * POSTS
    assert sink.sums[("feedmill_deliveries_total", NAME, "add")] == CROWD * POSTS


def test_a_chunk_that_is_done_twice_counts_once(box: FakeBroker, sink: CountingSink) -> None:
    """A message that arrives twice, also while the first is being done, adds no delivery: the journal says which one counted."""
    manager.add_activity(Activity("star", Love, 1))
    plan(box)
    chunks = box.take("feedmill.deliver")
    assert len(chunks) == 3
    for name, args in chunks * 2:
        arrive(name, list(args))
    assert sink.sums[("feedmill_deliveries_total", NAME, "add")] == CROWD
    assert len(sink.observed[("feedmill_visible_seconds", NAME, "add")]) == 3
    assert len(sink.observed[("feedmill_fanout_seconds", NAME, "add")]) == 1


def test_a_chunk_that_two_workers_do_counts_once(
    box: FakeBroker, sink: CountingSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers begin the same chunk before one of them has ended it: only the first to end it counts its users."""
    manager.add_activity(Activity("star", Love, 1))
    plan(box)
    chunks, counted = box.take("feedmill.deliver"), chunk_tasks.count_recipients
    others = iter(chunks)

    def meanwhile(deliveries: Any) -> int:
        monkeypatch.setattr(chunk_tasks, "count_recipients", counted)
        arrive(*next(others))
        return counted(deliveries)

    for name, args in chunks:
        monkeypatch.setattr(chunk_tasks, "count_recipients", meanwhile)
        arrive(name, list(args))
    assert sink.sums[("feedmill_deliveries_total", NAME, "add")] == CROWD
    assert sink.sums[("feedmill_batches_total", NAME, "chunk")] == 6
    assert len(sink.observed[("feedmill_visible_seconds", NAME, "add")]) == 3
    assert len(sink.observed[("feedmill_fanout_seconds", NAME, "add")]) == 1


def test_failures_retries_and_dead_letters(box: FakeBroker, sink: CountingSink) -> None:
    """A fan-out that fails each time counts as many failures as attempts, one retry less, and one dead letter."""
    manager.add_activity(Activity("bad", Love, 1))
    for _ in range(MOST_ATTEMPTS + 2):
        box.work()
        make_overdue(NAME)
        arrive("feedmill.sweep", [])
    assert sink.sums[("feedmill_failures_total", NAME, "round")] == MOST_ATTEMPTS
    assert sink.sums[("feedmill_retries_total", NAME, "round")] == MOST_ATTEMPTS - 1
    assert sink.sums[("feedmill_dead_letters_total", "fanout")] == 1
    assert stored()[("feedmill_dead_letters_stored",)] == 1
    assert sink.stored[("feedmill_dead_letters_stored",)] == 1, "a sweep tells a sink that wants it"


def test_what_is_stored(box: FakeBroker) -> None:
    """The journal's depth, the deliveries that wait in each queue, and what a scrape reads besides them."""
    first = stored()
    assert first[("feedmill_storage_up",)] == 1
    assert first[("feedmill_journal_fanouts", NAME)] == first[("feedmill_journal_oldest_seconds", NAME)] == 0
    assert (
        first[("feedmill_queue_deliveries", "fanout.high")] == first[("feedmill_queue_deliveries", "fanout.low")] == 0
    )
    assert ("feedmill_sweep_age_seconds",) not in first
    manager.add_activity(Activity("star", Love, 1))
    plan(box)
    waits = stored()
    assert waits[("feedmill_journal_fanouts", NAME)] == 1
    assert waits[("feedmill_journal_oldest_seconds", NAME)] >= 0
    assert sum(value for (name, *_), value in waits.items() if name == "feedmill_queue_deliveries") == CROWD
    box.work()
    arrive("feedmill.sweep", [])
    last = stored()
    assert last[("feedmill_journal_fanouts", NAME)] == 0
    assert 0 <= last[("feedmill_sweep_age_seconds",)] < 60


def test_each_metric_keeps_the_conventions() -> None:
    """Names, units and kinds are as Prometheus has them, and each name stands once."""
    assert len({each.name for each in ALL}) == len(ALL)
    for each in ALL:
        assert each.name.startswith("feedmill_") and each.help.endswith(".")
        assert each.name.endswith("_total") == (each.kind is Kind.COUNTER)
        assert each.kind is not Kind.HISTOGRAM or each.name.endswith("_seconds")
        assert not each.stored or each.kind is Kind.GAUGE
    assert {id(each) for each in vars(metrics).values() if isinstance(each, metrics.Metric)} == {
        id(each) for each in ALL
    }


def test_contention_and_pending_writes(box: FakeBroker, sink: CountingSink) -> None:
    """A feed that another holds: its work is left to the holder, once, and the feed waits for a look of the sweep."""
    held = hold("bob")
    manager.add_activity(Activity("ann", Love, 1))
    box.work()
    assert sink.sums[("feedmill_lock_contention_total", CountedNews.__name__, "left")] == 1
    assert stored()[("feedmill_pending_feeds", CountedNews.__name__)] == 1
    assert stored()[("feedmill_pending_feeds", CountedNotes.__name__)] == 0
    assert held


def hold(user: str) -> bytes:
    """Lock the aggregated feed of *user*, as a writer does that then dies."""
    import time

    from feedmill.grouping.operations import UserFeedBatch
    from feedmill.storage.base import FeedLimits, GroupRead, Lock, WriteRequest

    token = b"12345678"
    feed: type[RedisAggregatedFeed] = CountedNews
    limits = FeedLimits(feed.max_length, 0, "", begins=True)
    request = WriteRequest((GroupRead(b"any", None),))
    backend().run(feed.timeline().begin(UserFeedBatch(feed, [user]), request, Lock(token, time.time(), 10), limits))
    return token


def test_subscriptions_open_and_close(box: FakeBroker, sink: CountingSink) -> None:
    """The gauge counts subscriptions that are open, and each end once."""
    opened = [CountedNotes(user).subscribe() for user in ("ann", "bob")]
    for each in opened:
        next(iter(each))
    assert sink.sums[("feedmill_subscriptions",)] == 2
    for each in [*opened, opened[0]]:
        each.close()
    assert sink.sums[("feedmill_subscriptions",)] == 0


def test_without_a_sink_no_function_is_called(box: FakeBroker) -> None:
    """With metrics and INFO lines off, a delivery calls nothing of these modules but what asks whether anybody is told."""
    called = dict.fromkeys(("feedmill.metrics", "feedmill.worker.reporting"), 0)

    def trace(frame: Any, event: str, _: Any) -> None:
        name = frame.f_globals.get("__name__")
        if event == "call" and name in called:
            called[name] += 1

    def calls(authors: int) -> int:
        for number in range(authors):
            manager.add_activity(Activity(f"writer{number}", Love, authors))
        manager.add_activity(Activity("star", Love, authors))
        before = sum(called.values())
        sys.setprofile(trace)
        try:
            box.work()
        finally:
            sys.setprofile(None)
        return sum(called.values()) - before

    logging.getLogger("feedmill").setLevel(logging.WARNING)
    try:
        few, many = calls(2), calls(60)
    finally:
        logging.getLogger("feedmill").setLevel(logging.NOTSET)
    assert called["feedmill.metrics"] == 0
    assert few <= 12 and many <= 12, "a few for each round and chunk, whatever is delivered"


def test_the_sink_is_called_by_batch(box: FakeBroker, sink: CountingSink) -> None:
    """Sixty small fan-outs of one round, and a chunk of a hundred users, cost a sink a few calls, besides round trips."""
    for number in range(60):
        manager.add_activity(Activity(f"writer{number}", Love, 1))
    trips, before = sink.sums[("feedmill_redis_round_trips_total",)], sink.calls
    box.work()
    trips = sink.sums[("feedmill_redis_round_trips_total",)] - trips
    assert sink.sums[("feedmill_deliveries_total", NAME, "add")] == 120
    assert sink.calls - before - trips <= 12
    assert CountedHome("bob").count() == 60
