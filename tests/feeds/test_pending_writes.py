"""What waits among the pending writes of a feed: what a process cannot do stays there for one that can, and closes no feed."""

from __future__ import annotations

import datetime as dt
import logging
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded

import feedmill
from feedmill import Activity, AggregatedActivity, verbs
from feedmill.aggregators import RecentVerbAggregator
from feedmill.feeds import RedisAggregatedFeed, RedisNotificationFeed
from feedmill.grouping import pending_writes
from feedmill.grouping.operations import UserFeedBatch
from feedmill.grouping.writer import apply_pending_writes, recover_pending_writes
from feedmill.keys import GROUPS
from feedmill.msgpack_codec import pack, unpack_stream
from feedmill.storage.base import Changes, FeedLimits, Lock, Snapshot, WriteRequest
from feedmill.storage.memory import DATA
from feedmill.storage.redis.timelines import PENDING_FIELD
from feedmill.storage.registry import backend
from feedmill.verbs import Love, Verb
from tests.feeds.samples import BASE, held

pytestmark = pytest.mark.usefixtures("backend_kind")


class Hum(Verb):
    id, infinitive, past_tense = 31113, "hum", "hummed"


class ByObject(RecentVerbAggregator):
    #: (method, object) that raises.
    bad: tuple[str, int] = ("", 0)

    def get_group(self, activity: Activity) -> str:
        """All that was done to an object."""
        if self.bad == ("get_group", activity.object_id):
            raise KeyError("bad")
        return str(activity.object_id)


class Scoring(ByObject):
    score_reads_activities = True

    def score(self, aggregated: AggregatedActivity) -> float:
        if self.bad[0] == "score" and self.bad[1] in aggregated.object_ids:
            raise ZeroDivisionError("bad")
        return super().score(aggregated)


class Merging(ByObject):
    def merge(self, aggregated: Any, activities: Any) -> Any:
        activities = list(activities)
        if self.bad[0] == "merge" and any(each.object_id == self.bad[1] for each in activities):
            raise TypeError("bad")
        return super().merge(aggregated, activities)


class News(RedisAggregatedFeed):
    key_format = "test:pending:news:%(user_id)s"
    aggregator_class = ByObject


class Notes(RedisNotificationFeed):
    key_format = "test:pending:notes:%(user_id)s"
    count_format = "test:pending:notes:%(user_id)s:count"
    aggregator_class = ByObject


class ScoringNews(News):
    key_format = "test:pending:scoring-news:%(user_id)s"
    aggregator_class = Scoring


class ScoringNotes(Notes):
    key_format = "test:pending:scoring-notes:%(user_id)s"
    count_format = "test:pending:scoring-notes:%(user_id)s:count"
    aggregator_class = Scoring


class MergingNews(News):
    key_format = "test:pending:merging-news:%(user_id)s"
    aggregator_class = Merging


class MergingNotes(Notes):
    key_format = "test:pending:merging-notes:%(user_id)s"
    count_format = "test:pending:merging-notes:%(user_id)s:count"
    aggregator_class = Merging


EACH = pytest.mark.parametrize("kind", [News, Notes])


@contextmanager
def known() -> Iterator[None]:
    """As in the newer release."""
    verbs.register(Hum)
    try:
        yield
    finally:
        del verbs._verbs[Hum.id]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What stays is looked at again at once; aggregators are sound until a test says otherwise."""
    feedmill.configure(lock_ttl=0.05)
    monkeypatch.setattr(pending_writes, "MARGIN", 0)
    yield
    ByObject.bad = ("", 0)


def act(number: int, verb: Any = Love, object: int | None = None) -> Activity:
    return Activity(number, verb, 100 + number if object is None else object, time=BASE + dt.timedelta(seconds=number))


def seize(feed: Any, ttl: float = 60) -> None:
    """Take the lock of *feed*, as a process that is slow or dies."""
    rules = FeedLimits(8, 0, feed.channel())
    lock = Lock(b"stranger", time.time(), ttl)
    (reply,) = backend().run(
        feed.timeline().begin(UserFeedBatch(type(feed), [feed.user_id]), WriteRequest(()), lock, rules)
    )
    assert isinstance(reply, Snapshot)


def let_go(feed: Any) -> None:
    """The stranger's lock is over; it merged nothing in."""
    backend().run(feed.timeline().release([feed.key], [b"stranger"]))


def pending(feed: Any) -> bytes:
    """What waits."""
    if backend().in_process:
        return DATA.groups[feed.key].pending
    return backend().client.hget(feed.key + GROUPS, PENDING_FIELD) or b""  # type: ignore[attr-defined]


def put_inbox(feed: Any, data: bytes) -> None:
    if backend().in_process:
        DATA.groups[feed.key].pending = data
    else:
        backend().client.hset(feed.key + GROUPS, PENDING_FIELD, data)  # type: ignore[attr-defined]


def record_of(feed: Any, group: bytes) -> bytes:
    if backend().in_process:
        return DATA.groups[feed.key].records[group]
    return backend().client.hget(feed.key + GROUPS, group)  # type: ignore[attr-defined,no-any-return]


def put_record(feed: Any, group: bytes, data: bytes) -> None:
    if backend().in_process:
        DATA.groups[feed.key].records[group] = data
    else:
        backend().client.hset(feed.key + GROUPS, group, data)  # type: ignore[attr-defined]


def left_in(feed: Any, *activities: Activity) -> None:
    """Leave additions of *activities* among the pending writes of *feed*, one after the other."""
    seize(feed)
    type(feed).insert_activities(activities)
    for activity in activities:
        assert backend().run(type(feed).deliver([feed.user_id], [activity])) == 0
    let_go(feed)


def all_held(feed: Any) -> set[Activity]:
    return set(held(feed[:]))


WRITES: dict[str, Any] = {
    "add": lambda feed: feed.add(act(50)),
    "deliver": lambda feed: backend().run(type(feed).deliver([feed.user_id, 2], [act(50)])),
    "remove": lambda feed: feed.remove(act(1)),
    "mark all": lambda feed: feed.mark_all() if isinstance(feed, Notes) else feed.trim(),
    "mark": lambda feed: feed.mark([str(act(1).object_id)], read=True) if isinstance(feed, Notes) else feed.trim(),
    "recount": lambda feed: feed.denormalize_count() if isinstance(feed, Notes) else feed.trim(),
    "trim": lambda feed: feed.trim(),
    "sweep": lambda feed: (time.sleep(0.06), backend().run(recover_pending_writes(type(feed)))),
}


@EACH
@pytest.mark.parametrize("write", WRITES)
def test_what_an_older_process_cannot_read_stays(kind: Any, write: str) -> None:
    """An old process applies what it knows, on whatever occasion; the rest waits for a new one, in its order."""
    feed = kind(1)
    kind.insert_activities([act(1), act(50)])
    feed.add(act(1))
    with known():
        foreign = [act(number, Hum) for number in (2, 4, 5)]
        left_in(feed, foreign[0], act(3), foreign[1], foreign[2], act(6))
    before = pending(feed)
    WRITES[write](feed)
    assert {act(3), act(6)} <= all_held(feed)
    kept = pending(feed)
    assert [body for _, body in unpack_stream(kept)] == [each.pack() for each in foreign]
    assert all(kept[start : start + 5] in before for start in range(0, len(kept), 5))
    for _ in range(2):
        time.sleep(0.06)
        assert backend().run(recover_pending_writes(kind)) == 0  # it looks, and leaves them
    assert pending(feed) == kept
    with known():
        time.sleep(0.06)
        assert backend().run(recover_pending_writes(kind)) == 1
        assert {act(3), act(6), *foreign} <= all_held(feed) and not pending(feed)
        if kind is Notes:
            counts = feed.get_denormalized_counts()
            assert (counts.unseen, counts.unread) == (feed.count_unseen(), feed.count_unread())


@EACH
def test_a_feed_with_what_stays_is_open(kind: Any) -> None:
    """Nobody finds such a feed locked, and everything else that is written to it is there at once; it is said once."""
    feed = kind(1)
    with known():
        left_in(feed, act(1, Hum))
    for number in range(5):
        kind.insert_activities([act(number)])
        assert backend().run(kind.deliver([1], [act(number)])) == 1
        assert backend().run(kind.deliver([1], (), [act(number)], wait=0.0)) == 1
    with known():
        feed.add(act(9))
        assert all_held(feed) == {act(1, Hum), act(9)}


@EACH
def test_the_last_word_of_the_order(kind: Any) -> None:
    """An addition and a removal that stay are applied in the order in which they came."""
    feed = kind(1)
    with known():
        kind.insert_activities([act(1, Hum), act(2, Hum)])
        seize(feed)
        for adds, removes in (([act(1, Hum)], ()), ((), [act(1, Hum)]), ((), [act(2, Hum)]), ([act(2, Hum)], ())):
            backend().run(kind.deliver([1], adds, removes))
        let_go(feed)
    feed.add(act(3))
    with known():
        feed.add(act(4))
        assert all_held(feed) == {act(2, Hum), act(3), act(4)}


@EACH
def test_a_kind_of_write_that_only_a_newer_release_knows(kind: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It stays, and so does a known kind that says more than this release understands; it is logged once."""
    feed = kind(1)
    feed.add(act(1))
    foreign = [pack([7, act(2).pack()]), pack([True, act(3).pack(), {"why": 1}])]
    put_inbox(feed, foreign[0] + pack([True, act(4).pack()]) + foreign[1])
    kind.insert_activities([act(4)])
    with caplog.at_level(logging.WARNING):
        for number in (5, 6, 7):
            feed.add(act(number))
    assert pending(feed) == b"".join(foreign)
    assert all_held(feed) == {act(number) for number in (1, 4, 5, 6, 7)} & all_held(feed) | {act(1), act(4)}
    assert sum("pending write of kind 7" in record.getMessage() for record in caplog.records) <= 1


@EACH
def test_damage_costs_no_more_than_what_is_damaged(kind: Any) -> None:
    """A damaged write whose end can be found is dropped alone; what is cut off at the end is dropped with nothing before it."""
    feed = kind(1)
    kind.insert_activities([act(1), act(2), act(3)])
    feed.add(act(9))
    good = [pack([True, act(number).pack()]) for number in (1, 2, 3)]
    bad = [pack([True, b"no activity"]), pack(5), pack([200, b"x"]), pack(["x", b"y"]), pack([True])]
    put_inbox(feed, good[0] + b"".join(bad) + good[1] + good[2][:-1])
    feed.remove(act(9))
    assert all_held(feed) == {act(1), act(2)} and not pending(feed)


def test_a_long_pending_writes() -> None:
    """However much is left to somebody who is away for long, all of it is applied: there is no size that is damage."""
    feed = Notes(1)
    feed.add(act(1))
    contexts = [Activity(2, Love, 7, time=BASE, extra_context={"text": "x" * 60_000, "n": n}) for n in range(300)]
    put_inbox(feed, b"".join(pack([True, each.pack()]) for each in [*contexts, act(3)]))
    feed.mark_all()
    assert {each.object_id for each in all_held(feed)} == {101, 7, 103} and not pending(feed)


@EACH
def test_commit_keeps_what_it_is_told_to(kind: Any) -> None:
    """What stays comes before what came meanwhile; with nothing new the lock is free, with something it is kept."""
    feed = kind(1)
    storage, now = feed.timeline(), time.time()
    rules = FeedLimits(8, 0, feed.channel())

    def begin(token: bytes, data: bytes = b"") -> Any:
        asked = storage.begin(UserFeedBatch(kind, [1]), WriteRequest((), data), Lock(token, now, 60), rules)
        return backend().run(asked)[0]

    def commit(lock: Lock, done: int, kept: bytes) -> Any:
        changes = Changes(feed.key, b"", done, kept, count_key=feed.count_key_of(1))
        return backend().run(storage.commit([changes], lock, feed.channel()))[0]

    first = Lock(b"first___", now, 60)
    begin(b"first___")
    begin(b"other___", b"1:2 3")
    assert commit(first, 0, b"") == b"1:2 3"
    kept = Lock(first.following, now, 60)
    assert begin(kept.token).pending == b"1:2 3"
    begin(b"other___", b"45")
    assert commit(kept, 5, b"2: ") == b"45"
    assert commit(kept, 5, b"2: ") == b"2: 45"  # sent again
    again = Lock(kept.following, now, 60)
    assert begin(again.token).pending == b"2: 45"
    assert commit(again, 5, b"9:9") == 0
    assert begin(b"next____").pending == b"9:9"
    assert backend().run(storage.release([feed.key, "nothing"], [b"someone_", b"next____"])) == [True, False]
    assert begin(b"afterall").pending == b"9:9"
    assert commit(Lock(b"afterall", now, 60), 3, b"") == 0
    assert begin(b"free____").pending == b""


# -- aggregators that fail


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        *((kind, "get_group") for kind in (News, Notes, ScoringNews, ScoringNotes, MergingNews, MergingNotes)),
        *((kind, "score") for kind in (ScoringNews, ScoringNotes)),
        *((kind, "merge") for kind in (MergingNews, MergingNotes)),
    ],
)
@pytest.mark.parametrize("write", [name for name in WRITES if name != "sweep"])
def test_an_aggregator_that_fails_for_one_activity(kind: Any, method: str, write: str) -> None:
    """Whoever writes to the feed succeeds, all others that waited are applied, and the one stays until it can be."""
    feed = kind(1)
    kind.insert_activities([act(1), act(50)])
    feed.add(act(1))
    sound = [act(number) for number in (3, 4, 6, 7)]
    left_in(feed, act(2, object=7), sound[0], sound[1], act(5, object=7), *sound[2:])
    ByObject.bad = (method, 7)
    WRITES[write](feed)
    assert set(sound) <= all_held(feed)
    assert [Activity.unpack(body) for _, body in unpack_stream(pending(feed))] == [act(2, object=7), act(5, object=7)]
    time.sleep(0.06)
    assert backend().run(recover_pending_writes(kind)) == 0
    assert backend().run(kind.deliver([1], [act(50)], [act(50)], wait=0.0)) in (1, 2)  # nobody holds it
    ByObject.bad = ("", 0)
    time.sleep(0.06)
    assert backend().run(recover_pending_writes(kind)) == 1
    assert {*sound, act(2, object=7), act(5, object=7)} <= all_held(feed)


@pytest.mark.parametrize("kind", [ScoringNews, ScoringNotes, MergingNews, MergingNotes])
def test_what_the_caller_asks_for_fails_in_words(kind: Any) -> None:
    """If its own activity is to blame, the caller is told; nobody's feed is locked, and what waited is applied."""
    feed, method = kind(1), "score" if issubclass(kind.aggregator_class, Scoring) else "merge"
    left_in(feed, act(2))
    ByObject.bad = (method, 7)
    with pytest.raises((ZeroDivisionError, TypeError), match="bad"):
        feed.add(act(1, object=7))
    assert all_held(feed) == {act(2)} and not pending(feed)
    assert backend().run(kind.deliver([1], (), [act(2)], wait=0.0)) == 1


# -- a record of a newer release


@EACH
def test_a_record_that_only_a_newer_release_knows(kind: Any) -> None:
    """It is left as it is; what is written to its group waits among the pending writes, and other groups and feeds are written."""
    feed = kind(1)
    kind.insert_activities([act(number, object=7) for number in range(9)])
    feed.add_many([act(1, object=7), act(2, object=8)])
    record, put = partial(record_of, feed, b"7"), partial(put_record, feed, b"7")
    good = record()
    for bit, text in enumerate((good[1:], b"short", b"\x01 quite another layout"), 32):
        newer = bytes((bit,)) + text
        put(newer)
        assert backend().run(kind.deliver([1, bit], [act(3, object=7)])) == 1
        backend().run(kind.deliver([1, bit], (), [act(1, object=7)], wait=0.0))
        feed.add_many([act(4, object=7), act(5, object=9)])
        if kind is Notes:
            feed.mark_all(read=True)
        assert record() == newer
        assert act(5, object=9) in all_held(feed)
        put(good)  # as if a newer process read it
        feed.add(act(6, object=9))
        assert not pending(feed)
        assert {each for each in all_held(feed) if each.object_id == 7} == {act(3, object=7), act(4, object=7)}
        feed.add(act(1, object=7))
        feed.remove_many([act(3, object=7), act(4, object=7), act(5, object=9), act(6, object=9)])
        assert record()[0] == good[0]


@EACH
@pytest.mark.parametrize("pending", [True, False])
def test_a_feed_that_is_too_long_and_ends_with_what_only_a_newer_release_knows(kind: Any, pending: bool) -> None:
    """Where ``max_length`` was lowered, what cannot be read is left to who can, and closes the feed to nothing else."""
    feed = kind(1)
    feed.add_many(act(number) for number in range(8))
    newer = b"\x20 another layout"
    put_record(feed, b"100", newer)
    if pending:
        left_in(feed, act(9))
    short = type("Short", (kind,), {"max_length": 4, "__module__": __name__})
    assert not backend().run(apply_pending_writes(short, 1, 0))
    short(1).add(act(10))
    assert act(10) in all_held(feed)
    assert record_of(feed, b"100") == newer
    short(1).trim()
    assert record_of(feed, b"100") == newer
    assert len(feed) == 5
    assert act(10) in all_held(short(1))


# -- random histories


@EACH
@pytest.mark.parametrize("seed", range(12))
def test_random_histories_of_two_releases(kind: Any, seed: int) -> None:
    """Whatever an old and a new process add, remove and apply, with the feed held now and then: a new one then sees
    exactly the last word on each activity, and counts it.
    """
    rng = random.Random(seed)
    feed, wanted = kind(1), set[Activity]()
    with known():
        plain = [act(number, object=number % 3) for number in range(6)]
        everything = [*plain, *(act(number + 10, Hum, number % 3) for number in range(6))]
        kind.insert_activities([*everything, act(99)])
    for _ in range(60):
        new = rng.random() < 0.5
        activity = rng.choice(everything if new else plain)
        adds = rng.random() < 0.6
        busy = rng.random() < 0.4
        with known() if new else contextmanager(lambda: iter([None]))():
            if busy:
                seize(feed)
            backend().run(kind.deliver([1], [activity] if adds else (), () if adds else [activity]))
            if busy:
                let_go(feed)
            if kind is Notes and rng.random() < 0.2:
                feed.mark_all()
        (wanted.add if adds else wanted.discard)(activity)
    with known():
        feed.add(act(99))
        assert all_held(feed) == {*wanted, act(99)} and not pending(feed)
        if kind is Notes:
            counts = feed.get_denormalized_counts()
            assert (counts.unseen, counts.unread) == (feed.count_unseen(), feed.count_unread())


@pytest.mark.parametrize("kind", [News, ScoringNews, MergingNews])
def test_a_time_limit_is_no_fault_of_an_activity(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose time is over while an aggregator is asked about what waits stops, and lets the feed go."""
    feed = kind(1)
    left_in(feed, act(1), act(2))
    limits: list[int] = []

    def over(self: Any, *args: Any) -> Any:
        limits.append(0)
        raise SoftTimeLimitExceeded

    method = {News: "get_group", ScoringNews: "score", MergingNews: "merge"}[kind]
    with monkeypatch.context() as patch:
        patch.setattr(kind.aggregator_class, method, over)
        with pytest.raises(SoftTimeLimitExceeded):
            feed.trim()
    assert len(limits) <= 2  # the second is asked of what waits, as the feed is let go
    feed.add(act(3))
    assert all_held(feed) == {act(1), act(2), act(3)} and not pending(feed)


@EACH
def test_who_writes_often_puts_nothing_off(kind: Any) -> None:
    """However often an old process writes to the feed meanwhile, or looks at it, the sweep of a new one comes by in time."""
    feed = kind(1)
    with known():
        left_in(feed, act(1, Hum))
    for number in range(8):
        feed.add(act(number))
        time.sleep(0.02)
    with known():
        assert backend().run(recover_pending_writes(kind)) == 1
        assert act(1, Hum) in all_held(feed)
        left_in(feed, act(2, Hum))
    for number in range(8):
        feed.remove(act(number))
        time.sleep(0.02)
        assert backend().run(recover_pending_writes(kind)) == 0
    time.sleep(0.06)
    with known():
        assert backend().run(recover_pending_writes(kind)) == 1 and act(2, Hum) in all_held(feed)
