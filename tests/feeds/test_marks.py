"""Marks reach what was shown and nothing that came later, and what is marked can be unmarked; counts follow, exactly."""

from __future__ import annotations

import asyncio
import copy
import datetime as dt
import json
import pickle
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from feedmill import Activity, AggregatedActivity, group_names, revision
from feedmill.aggregators import RecentVerbAggregator
from feedmill.errors import ArgumentError, NewerRecord, RevisionError
from feedmill.feeds import Page, reaggregate
from feedmill.keys import GROUPS
from feedmill.storage.memory import DATA
from feedmill.storage.redis.timelines import STATE
from feedmill.storage.registry import backend
from feedmill.verbs import Love
from tests.feeds.samples import BASE, News, Notes, in_group, on_day
from tests.feeds.test_pending_writes import put_record
from tests.feeds.test_writer import seize

pytestmark = pytest.mark.usefixtures("backend_kind")


def counts(feed: Any) -> tuple[int, int]:
    """Unseen and unread, which must be what a recount gives."""
    kept = feed.get_denormalized_counts()
    assert kept[:2] == (feed.count_unseen(), feed.count_unread())
    before = kept
    assert (feed.denormalize_count(), feed.get_denormalized_counts()) == (kept.unseen, before)
    return kept.unseen, kept.unread


def states(feed: Any) -> dict[str, tuple[bool, bool]]:
    """Seen and read of each group."""
    return {group.group: (group.is_seen, group.is_read) for group in feed[:]}


def name(activity: Activity) -> str:
    return Notes(1).get_aggregator().get_group(activity)


def kept(page: Any) -> Any:
    return pickle.loads(pickle.dumps(page))


def over_json(groups: Any) -> Any:
    return json.loads(json.dumps([group.to_dict() for group in groups]))


#: How what was shown is told to ``mark``.
TOLD: dict[str, Callable[[Any], dict[str, Any]]] = {
    "slice": lambda feed: {"groups": feed[:10]},
    "page": lambda feed: {"groups": feed.page(10)},
    "view": lambda feed: {"groups": feed.unseen().page(10)},
    "one group": lambda feed: {"groups": feed[0]},
    "found by its name": lambda feed: {"groups": feed.find_group(feed[0].group)},
    "kept page": lambda feed: {"groups": kept(feed.page(10))},
    "kept group": lambda feed: {"groups": [kept(feed[0])]},
    "copied page": lambda feed: {"groups": copy.deepcopy(feed.page(10))},
    "JSON": lambda feed: {"groups": over_json(feed[:10])},
    "JSON of one": lambda feed: {"groups": over_json(feed[:10])[0]},
    "JSON of what is needed": lambda feed: {"groups": [{"group": feed[0].group, "revision": feed[0].revision}]},
    "names up to a page": lambda feed: {"groups": [feed[0].group, "nobody"], "until": feed.page(10)},
    "names up to a revision": lambda feed: {"groups": [feed[0].group], "until": feed.page(10).revision},
}


@pytest.mark.parametrize("told", TOLD)
def test_what_came_later_stays(told: str) -> None:
    """A group that got another activity since it was shown stays unseen and unread, and so does one that came; the rest is marked."""
    feed = Notes(1)
    feed.add(in_group(1))
    shown = TOLD[told](feed)
    feed.add(on_day(3))
    feed.mark(**shown, read=True)
    assert states(feed) == {name(in_group(1)): (True, True), name(on_day(3)): (False, False)}
    assert counts(feed) == (1, 1)
    feed = Notes(2)
    feed.add(in_group(1))
    shown = TOLD[told](feed)
    feed.add(in_group(2))
    feed.mark(**shown, read=True)
    assert states(feed) == {name(in_group(1)): (False, False)}
    assert counts(feed) == (1, 1)
    feed.mark(TOLD["slice"](feed)["groups"], read=True)
    assert counts(feed) == (0, 0)


@pytest.mark.parametrize(
    "until",
    [
        lambda feed: feed.page(10),
        lambda feed: feed.page(10).revision,
        lambda feed: kept(feed.page(10)),
        lambda feed: feed.unread().page(10),
        lambda feed: feed[:10],
        lambda feed: feed[0],
        lambda feed: kept(feed[0]),
        lambda feed: feed[0].revision,
        lambda feed: over_json(feed[:10]),
        lambda feed: over_json(feed[:10])[0],
        lambda feed: [group.revision for group in feed[:10]],
    ],
)
def test_all_up_to_what_was_shown(until: Any) -> None:
    """All groups are marked but those in which something arrived since, also what is older than what was shown."""
    feed = Notes(1)
    feed.add_many([on_day(1), on_day(2)])
    shown = until(feed)
    feed.add(on_day(0))
    feed.add(Activity(77, Love, 1001, time=on_day(1).time))
    feed.mark_all(read=True, until=shown)
    assert states(feed) == {
        name(on_day(2)): (True, True),
        name(on_day(1)): (False, False),
        name(on_day(0)): (False, False),
    }
    assert counts(feed) == (2, 2)
    feed.mark_all(until=shown)
    assert counts(feed) == (2, 2)


def test_coroutines() -> None:
    """The same from coroutines."""
    feed = Notes(1)
    feed.add_many([on_day(1), on_day(2)])

    async def marked() -> None:
        page = await feed.apage(10)
        await feed.aadd(on_day(3))
        await feed.amark(page, read=True)
        await feed.amark_all(seen=False, until=page)
        await backend().aclose()

    asyncio.run(marked())
    assert states(feed) == {
        name(on_day(3)): (False, False),
        name(on_day(2)): (False, True),
        name(on_day(1)): (False, True),
    }
    assert counts(feed) == (3, 1)


def test_an_older_activity_that_arrives_later() -> None:
    """What happened before anything that was shown and arrives after it was shown was not shown."""
    feed = Notes(1)
    feed.add(in_group(5))
    page = feed.page(5)
    feed.add(in_group(1))
    assert feed[0].updated_at == page.items[0].updated_at
    feed.mark(page)
    feed.mark_all(until=page)
    feed.mark_all(until=page.items)
    assert counts(feed) == (1, 1)


def test_what_went_since() -> None:
    """Of a group from which something was removed the rest is marked; what was removed and came again was not shown."""
    feed = Notes(1)
    feed.add_many([in_group(1), in_group(2)])
    page = feed.page(5)
    feed.remove(in_group(2))
    feed.mark(page)
    assert counts(feed) == (0, 1)
    feed.add(in_group(2))
    feed.mark(page)
    feed.mark_all(until=page)
    assert counts(feed) == (1, 1)
    feed.remove_many([in_group(1), in_group(2)])
    feed.mark(page)
    assert counts(feed) == (0, 0)
    feed.add(in_group(1))
    feed.mark(page)
    feed.mark_all(until=page)
    assert counts(feed) == (1, 1)


def test_a_group_that_was_trimmed() -> None:
    """A group that had to go, and began anew, was not shown."""
    feed = Notes(1)
    feed.add(on_day(1))
    page = feed.page(5)
    feed.add_many(map(on_day, range(10, 18)))
    feed.mark(page)
    assert counts(feed) == (8, 8)
    feed.remove_many(map(on_day, range(10, 18)))
    feed.add(on_day(1))
    feed.mark(page)
    feed.mark_all(until=page)
    assert counts(feed) == (1, 1)


def test_an_update_is_not_news() -> None:
    """A group in which an activity was updated since, or added again, is marked."""
    feed = Notes(1)
    feed.add(in_group(1))
    page = feed.page(5)
    feed._run(Notes.deliver([1], updates=[Activity(1, Love, 7, time=in_group(1).time, extra_context={"a": 1})]))
    feed.add(in_group(1))
    feed.mark(page)
    assert counts(feed) == (0, 1)


def test_pending_writes() -> None:
    """What waits for the holder of a feed when it is read was not shown, whoever applies it."""
    feed = Notes(1)
    feed.add_many([in_group(1), on_day(2)])
    seize(feed, ttl=1000)
    feed._run(Notes.deliver([1], [in_group(2), on_day(3)]))
    page = feed.page(5)
    seize(feed, ttl=-1000)
    feed.mark(page)
    assert states(feed) == {
        name(on_day(3)): (False, False),
        name(on_day(2)): (True, False),
        name(in_group(1)): (False, False),
    }
    feed.mark_all(until=page)
    assert counts(feed) == (2, 3)


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock of writers, which stands still until it is moved."""
    clock = SimpleNamespace(now=time.time())
    stands = SimpleNamespace(time=lambda: clock.now, monotonic=time.monotonic)
    monkeypatch.setattr("feedmill.grouping.writer.time", stands)
    return clock


def forget(feed: Any, backend_kind: str, request: Any) -> None:
    """All that is stored of *feed* is gone, as by a server that lost it."""
    if backend_kind == "memory":
        DATA.groups.pop(feed.key)
        DATA.counts.pop(feed.count_key)
    else:
        backend().client.delete(feed.key, feed.key + GROUPS, feed.count_key)


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("moved", [0, -3600, 0.5])
def test_a_feed_that_began_anew(frozen: Any, moved: float, merged: bool) -> None:
    """Who was shown a feed that was deleted since marks nothing of what it holds now, however clocks go."""
    feed = Notes(1)
    for _ in range(3):
        feed.add_many([in_group(1), on_day(2)])
        page = feed.page(5)
        for _ in range(2):
            feed.delete()
            feed.mark_all()
        frozen.now += moved
        if merged:
            seize(feed, ttl=1000, now=frozen.now)
            feed._run(Notes.deliver([1], [in_group(3), on_day(2)]))
            seize(feed, ttl=-1000, now=frozen.now)
        feed.add_many([in_group(3), on_day(2)])
        feed.mark(page, read=True)
        feed.mark_all(read=True, until=page)
        feed.mark_all(read=True, until=page.items)
        assert counts(feed) == (2, 2)
        feed.delete()


def test_a_feed_that_was_lost(frozen: Any, backend_kind: str, request: pytest.FixtureRequest) -> None:
    """The same where nothing is left of what was, as time went on."""
    feed = Notes(1)
    feed.add_many([in_group(1), on_day(2)])
    page = feed.page(5)
    frozen.now += 0.001
    forget(feed, backend_kind, request)
    feed.add_many([in_group(3), on_day(2)])
    feed.mark(page)
    feed.mark_all(until=page)
    assert counts(feed) == (2, 2)


def test_numbers_only_grow(frozen: Any) -> None:
    """Whatever the clocks of writers say, what arrives later has the higher number."""
    feed, numbers = Notes(1), []
    for number, step in enumerate((0, 0, -7200, 0.001, 7200, -1, 0)):
        frozen.now += step
        feed.add(in_group(number))
        numbers.append(feed[0]._revision)
        feed.remove(in_group(number - 1))
        assert feed[0]._revision == feed.page(1).arrived == numbers[-1]
    assert numbers == sorted(set(numbers))


class ByActor(RecentVerbAggregator):
    def get_group(self, activity: Activity) -> str:
        """One group for each actor, but all of one name are together."""
        return f"actor {activity.actor_id}"


class ByThing(RecentVerbAggregator):
    def get_group(self, activity: Activity) -> str:
        """Under a name that another aggregator gives, too."""
        return f"actor {activity.object_id}"


def test_groups_of_another_aggregator() -> None:
    """A group that now holds what was in another when it was shown is left as it is; one that only keeps its own is marked."""
    feed = Notes(1)
    reaggregate(feed, ByActor, dry_run=False)
    loves = [Activity(actor, Love, thing, time=BASE) for actor, thing in ((1, 1), (1, 2), (2, 2), (3, 3))]
    feed.add_many(loves)
    reaggregate(feed, ByActor, dry_run=False)
    page = feed.page(5)
    assert {group.group for group in page.items} == {"actor 1", "actor 2", "actor 3"}
    reaggregate(feed, ByThing, dry_run=False)
    feed.mark(page, read=True)
    assert states(feed) == {"actor 1": (True, True), "actor 2": (False, False), "actor 3": (True, True)}
    page = feed.page(5)
    reaggregate(feed, ByThing, dry_run=False)
    feed.mark(page, read=True)
    assert counts(feed) == (0, 0)


# -- pages


def test_a_page_is_what_had_arrived_when_it_was_read() -> None:
    """Up to a page is all that had arrived, also what the page does not show; of several the first says what was shown."""
    feed = Notes(1)
    feed.add_many(map(on_day, range(6)))
    first = feed.page(2)
    feed.add(on_day(7))
    second = feed.page(2, first.next)
    feed.mark_all(until=first)
    assert [group.is_seen for group in feed] == [False, True, True, True, True, True, True]
    feed.mark_all(until=second)
    assert counts(feed) == (0, 7)


def test_a_page_of_which_reading_took_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """What arrives while a filtered page is read, above what was looked at, is not up to that page."""
    feed = Wide(1)
    feed.add_many(map(on_day, range(60)))
    feed.mark([group for group in feed[:] if group.group != name(on_day(1))])
    scan = Wide.scan

    def scanned(cls: Any, *args: Any) -> Any:
        found = yield from scan(*args)
        if not arrived:
            arrived.append(1)
            Wide(1).add(on_day(99))
        return found

    arrived: list[int] = []
    monkeypatch.setattr(Wide, "scan", classmethod(scanned))
    page = feed.unseen().page(1)
    assert [group.group for group in page.items] == [name(on_day(1))] and arrived
    monkeypatch.undo()
    feed.mark_all(until=page)
    assert feed.get_denormalized_count() == 1 and not feed[0].is_seen


class Wide(Notes):
    key_format = "test:wide:%(user_id)s"
    count_format = "test:wide:%(user_id)s:count"
    max_length = 99


@pytest.mark.parametrize("nothing", [[], (), iter(())])
def test_nothing_was_shown(nothing: Any) -> None:
    """Up to no groups, or to a page without any, nothing is marked."""
    feed = Notes(1)
    empty = feed.page(5), feed.filter(seen=True).filter(seen=False).page(5), feed.unseen().page(5)
    feed.add(on_day(1))
    feed.mark_all(until=nothing)
    for page in (*empty, feed.filter(seen=True).filter(seen=False).page(5)):
        assert page.items == []
        feed.mark_all(until=page)
        feed.mark_all(until=page.revision)
        feed.mark(page)
    assert counts(feed) == (1, 1)


def test_a_revision_of_what_has_none() -> None:
    """Groups that no notification feed gave, and pages of other feeds, have none, and tell so over JSON."""
    News(1).add(on_day(1))
    made = AggregatedActivity("g", [on_day(1)])
    page = News(1).page(5)
    assert (made.revision, page.revision, page.items[0].revision, page.items[0].to_dict()["revision"]) == (None,) * 4
    Notes(1).add(on_day(1))
    page = Notes(1).page(5)
    assert page.items[0].revision == page.items[0].to_dict()["revision"] == page.revision is not None
    assert Notes(1).page(5) == page == Page(page.items, None) and "arrived" not in repr(page)
    Notes(1).mark_all()
    assert Notes(1)[0].revision == page.revision, "a mark is no arrival"
    Notes(1).add(on_day(2))
    assert Notes(1)[1].revision == page.revision != Notes(1)[0].revision == Notes(1).page(5).revision


def test_names_mean_what_is_there_by_now() -> None:
    """A name says nothing of what was shown; nor does a group that the app made itself."""
    feed = Notes(1)
    feed.add(in_group(1))
    feed.mark([name(in_group(1))])
    assert counts(feed) == (0, 1)
    feed.mark([AggregatedActivity(name(in_group(1)), [in_group(1)])], read=True)
    assert counts(feed) == (0, 0)


# -- set, clear, leave


def test_set_clear_and_leave() -> None:
    """True sets, False clears, None leaves, for one group; what one shows can be marked again and again."""
    feed = Notes(1)
    feed.add_many([in_group(1), on_day(2)])
    group = feed.find_group(name(in_group(1)))
    for seen, read, wanted in (
        (True, True, (True, True)),
        (None, False, (True, False)),
        (False, None, (False, False)),
        (None, None, (False, False)),
        (True, True, (True, True)),
        (False, True, (False, True)),
        (True, False, (True, False)),
        (None, True, (True, True)),
    ):
        feed.mark(group, seen, read)
        found = feed.find_group(group)
        assert (found.is_seen, found.is_read) == wanted
        assert (found.seen_at is not None, found.read_at is not None) == wanted
        assert counts(feed) == (2 - wanted[0], 2 - wanted[1])
    feed.mark_all(read=True)
    feed.mark_all(seen=None, read=False)
    assert counts(feed) == (0, 2)


def test_one_of_all_that_were_marked() -> None:
    """After all were marked one is unmarked: the others stay marked as they were, and all can be marked again."""
    feed = Notes(1)
    feed.add_many(map(on_day, range(3)))
    feed.add_many(map(on_day, range(3, 6)))
    feed.mark_all(read=True)
    before = {group.group: group.read_at for group in feed[:]}
    for number in (4, 0):
        feed.mark(feed.find_group(name(on_day(number))), seen=None, read=False)
    assert counts(feed) == (0, 2)
    for group in feed[:]:
        wanted = None if group.group in (name(on_day(4)), name(on_day(0))) else before[group.group]
        assert (group.read_at, group.is_read) == (wanted, wanted is not None)
    feed.add(on_day(7))
    assert counts(feed) == (1, 3)
    feed.add(Activity(50, Love, 1005, time=on_day(5).time))
    assert counts(feed) == (2, 4)
    feed.mark_all(read=True)
    assert counts(feed) == (0, 0)


@pytest.mark.parametrize("pages", [True, False])
def test_all_are_unmarked(pages: bool) -> None:
    """All groups are unmarked, also those beyond the page, however they were marked; or those that had arrived by then."""
    feed = Wide(1)
    feed.add_many(map(on_day, range(40)))
    feed.mark_all(read=True)
    feed.add_many(map(on_day, range(40, 60)))
    page = feed.page(3)
    feed.mark(feed[:30], read=True)
    feed.add(on_day(70))
    feed.mark(feed[:1], read=True)
    assert counts(feed) == (0, 0)
    feed.mark_all(seen=False, read=None, until=page if pages else None)
    assert counts(feed) == ((60, 0) if pages else (61, 0))
    assert all(group.is_read and group.read_at and not group.seen_at for group in feed[1:])
    feed.mark_all(seen=None, read=False, until=page if pages else None)
    assert counts(feed) == ((60, 60) if pages else (61, 61))
    feed.mark_all(seen=True, read=True, until=page)
    assert counts(feed) == ((0, 0) if pages else (1, 1))


def test_what_changed_since_is_left_as_it_is() -> None:
    """Unmarking what was shown does not unmark what came later and was marked by somebody else."""
    feed = Notes(1)
    feed.add_many([in_group(1), on_day(2)])
    page = feed.page(5)
    feed.add(in_group(2))
    feed.mark_all(read=True)
    feed.mark(page, seen=None, read=False)
    assert states(feed) == {name(in_group(1)): (True, True), name(on_day(2)): (True, False)}
    feed.mark_all(seen=False, until=page)
    assert states(feed) == {name(in_group(1)): (True, True), name(on_day(2)): (False, False)}
    assert counts(feed) == (1, 1)


def test_counts_are_told() -> None:
    """Each change of a count is published with the number that follows; what changes none, or is asked for twice, is not."""
    feed = Notes(1)
    feed.add_many([on_day(1), on_day(2)])
    with feed.subscribe() as heard:
        last = heard.get(timeout=30)
        page = feed.page(5)
        feed.add(on_day(3))
        told = [heard.get(timeout=30)]
        for call in (
            lambda: feed.mark(page, read=True),
            lambda: feed.mark(page, read=False),
            lambda: feed.mark_all(seen=False, read=True, until=page),
            lambda: feed.mark_all(seen=False, read=False),
            lambda: feed.mark_all(read=True, until=page),
        ):
            call()
            told.append(heard.get(timeout=30))
            call()
            assert heard.get(timeout=0.01) is None
        feed.mark_all(seen=None, read=None)
        feed.mark(page, seen=None)
        feed.mark([], read=True)
        assert heard.get(timeout=0.01) is None
    assert [change[:2] for change in told] == [(3, 3), (1, 1), (1, 3), (3, 1), (3, 3), (1, 1)]
    assert [change.seq for change in told] == [last.seq + number for number in range(1, 7)]
    assert feed.get_denormalized_counts() == told[-1]


# -- what makes no sense

REFUSED: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "a flag that is a number": (
        lambda feed: feed.mark_all(seen=1),
        ArgumentError,
        "seen is 1; use True to set it, False",
    ),
    "a flag that is text": (
        lambda feed: feed.mark(["g"], read="no"),
        ArgumentError,
        "read is 'no'; use True to set it",
    ),
    "one name": (lambda feed: feed.mark("g"), ArgumentError, "groups are 'g'; use a list of groups"),
    "no group": (lambda feed: feed.mark([5]), ArgumentError, "5 is no group"),
    "JSON without a revision": (
        lambda feed: feed.mark([{"group": "g"}]),
        ArgumentError,
        "`group` and `revision` at least",
    ),
    "JSON without a name": (
        lambda feed: feed.mark({"revision": "x"}),
        ArgumentError,
        "`group` and `revision` at least",
    ),
    "JSON of a group of no feed": (
        lambda feed: feed.mark(AggregatedActivity("g", [on_day(1)]).to_dict()),
        RevisionError,
        "a revision is a str, not NoneType",
    ),
    "a wrong name in JSON": (
        lambda feed: feed.mark([{"group": 5, "revision": revision.encode(5)}]),
        ArgumentError,
        "5 is no group",
    ),
    "a wrong revision in JSON": (
        lambda feed: feed.mark([{"group": "g", "revision": "x"}]),
        RevisionError,
        "'x' is not a revision; pass `revision` of a group or a page unchanged, or read the feed again",
    ),
    "up to a name": (lambda feed: feed.mark_all(until="g"), RevisionError, "'g' is not a revision"),
    "names up to a name": (lambda feed: feed.mark(["g"], until="g"), RevisionError, "'g' is not a revision"),
    "up to a number": (lambda feed: feed.mark_all(until=5), ArgumentError, "until is 5; pass a group or a page"),
    "up to bytes": (lambda feed: feed.mark_all(until=b"g"), ArgumentError, "until is b'g'; pass a group or a page"),
    "up to a time": (lambda feed: feed.mark_all(until=dt.datetime(2024, 1, 1)), ArgumentError, "until is datetime"),
    "up to a page of another feed": (
        lambda feed: feed.mark_all(until=News(1).page(5)),
        ArgumentError,
        "page of no notif",
    ),
    "up to pages": (lambda feed: feed.mark_all(until=[feed.page(5)]), ArgumentError, "until has Page"),
    "up to a group of no feed": (
        lambda feed: feed.mark_all(until=AggregatedActivity("g", [on_day(1)])),
        ArgumentError,
        "which was not read from a notification feed",
    ),
    "up to what has no revision": (lambda feed: feed.mark_all(until={"next": None}), RevisionError, "not NoneType"),
    "up to a list of other things": (lambda feed: feed.mark_all(until=[5]), ArgumentError, "until has 5 in it"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_words(case: str) -> None:
    """It is an error that says what is wrong and what to use; nothing is marked."""
    call, kind, words = REFUSED[case]
    feed = Notes(1)
    feed.add(on_day(1))
    before = feed.get_denormalized_counts()
    with pytest.raises(kind) as caught:
        call(feed)
    assert words in str(caught.value)
    assert (feed.get_denormalized_counts(), states(feed)) == (before, {name(on_day(1)): (False, False)})


def test_a_group_that_only_a_newer_release_can_read() -> None:
    """Where all groups must be known and one cannot be read, nothing is changed; other marks are as ever."""
    feed = Notes(1)
    feed.add_many([on_day(1), on_day(2)])
    page = feed.page(5)
    feed.add(on_day(3))
    feed.mark_all(read=True)
    put_record(feed, group_names.encode(name(on_day(2))), b"\x20 another layout")
    before = feed.get_denormalized_counts(), states(feed)
    for call in (
        lambda: feed.mark_all(read=False),
        lambda: feed.mark_all(seen=False, until=page),
        lambda: feed.mark([name(on_day(1))], read=False),
    ):
        with pytest.raises(NewerRecord, match="do it with a process of that"):
            call()
        assert (feed.get_denormalized_counts(), states(feed)) == before
    feed.mark([name(on_day(1))], read=True)
    feed.mark_all(read=True, until=page)
    assert (feed.get_denormalized_counts(), states(feed)) == before


def test_a_damaged_group() -> None:
    """One that cannot be read at all counts for nothing, and is in nobody's way."""
    feed = Notes(1)
    feed.add_many([on_day(1), on_day(2), on_day(3)])
    put_record(feed, group_names.encode(name(on_day(2))), b"\0\1")
    feed.mark_all(read=True)
    feed.mark_all(read=False)
    assert feed.get_denormalized_counts()[:2] == (0, 2) == (feed.count_unseen(), feed.count_unread())


def test_markers_and_writers_collide() -> None:
    """Readers that mark what they are shown, and unmark it, while others write: counts equal a recount, and in the end what
    nobody was shown is unseen."""
    feed, stop = Wide(1), threading.Event()
    shown: dict[str, int] = {}
    failures: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    def write() -> None:
        for number in range(120):
            feed.add(Activity(number, Love, number % 9, time=BASE + dt.timedelta(seconds=number)))
        stop.set()

    def mark() -> None:
        while not stop.is_set():
            page = feed.page(5)
            for group in page.items:
                shown[group.group] = max(shown.get(group.group, 0), group.activity_count)
            feed.mark(page, read=True)
            feed.mark_all(seen=None, read=False, until=page)
            feed.mark_all(until=feed[:2])

    threads = [threading.Thread(target=guarded, args=(work,)) for work in (write, mark, mark)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failures
    assert feed.get_denormalized_counts()[:2] == (feed.count_unseen(), feed.count_unread())
    assert feed.denormalize_count() == feed.count_unseen()


def test_the_state_of_a_deleted_feed(backend_kind: str) -> None:
    """An older release, which knows nothing of the number that is kept, begins such a feed anew as it did."""
    feed = Notes(1)
    feed.add(on_day(1))
    number = feed[0]._revision
    feed.delete()
    feed.delete()
    stored = DATA.groups[feed.key].state if backend_kind == "memory" else _redis_state(feed)
    assert (stored[:24], stored[24:32], stored[32:48]) == (bytes(24), number.to_bytes(8, "big"), bytes(16))


def _redis_state(feed: Any) -> bytes:
    client = backend().client  # type: ignore[attr-defined]
    state: bytes = client.hget(feed.key + GROUPS, STATE)[1:]
    return state
