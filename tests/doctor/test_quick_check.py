"""The doctor's quick look: what it calls healthy is, whatever bytes are stored; and it costs few round trips."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis

import feedmill
from feedmill import Activity, verbs
from feedmill.doctor import examine
from feedmill.doctor.checks.overflow import _flaw, _surely_fits
from feedmill.doctor.checks.quick import Glances
from feedmill.doctor.key_map import KeyInfo, KeyKind, KeyMap
from feedmill.doctor.repair import diagnose
from feedmill.keys import GROUPS
from feedmill.storage.memory import DATA
from feedmill.storage.redis import maintenance as redis_inspection
from feedmill.storage.registry import backend
from feedmill.verbs import Comment, Love, Verb
from tests.doctor.fixtures import examined, fill
from tests.doctor.test_ranked import HotNews, HotNotes
from tests.feeds.samples import BASE, Home, News, Notes, in_group, on_day

#: Ids of every kind, for actors, objects and targets.
IDS: list[Any] = [5, 70_000, 2**40, -3, "ann", "a longer text than thirty-one characters", uuid.UUID(int=7)]


def some(dice: random.Random, number: int) -> list[Activity]:
    """Activities of every shape, of few groups and times."""
    return [
        Activity(
            dice.choice(IDS),
            dice.choice((Love, Comment)),
            dice.choice((7, 8, "x", "y")),
            dice.choice((None, None, 1, uuid.UUID(int=9))),
            BASE + dt.timedelta(seconds=dice.randrange(90), microseconds=dice.randrange(3)),
            dice.choice((None, None, {"text": "hello"})),
        )
        for _ in range(number)
    ]


def lived(feed: Any, dice: random.Random) -> None:
    """Let a feed live for a while."""
    for _ in range(dice.randrange(1, 8)):
        batch = some(dice, dice.choice((1, 3, 40)))
        feed.insert_activities(batch)
        dice.choice((feed.add_many, feed.add_many, feed.remove_many))(batch)
        if feed.counted:
            dice.choice((feed.mark_all, feed.count_unseen, lambda: feed.mark(feed[:2], seen=True, read=True)))()


def quickly(feed: Any) -> list[bytes] | None:
    stored = backend().run(backend().maintenance.feed(feed.key, feed.count_key_of(feed.user_id)))
    return Glances().healthy(type(feed), stored)


def closely(feed: Any) -> list[Any]:
    _, findings = backend().run(diagnose(KeyInfo(KeyKind.GROUPS, type(feed), str(feed.user_id))))
    return findings


KINDS = pytest.mark.parametrize("feed_class", [News, Notes, HotNews, HotNotes], ids=lambda kind: kind.__name__)


@KINDS
@pytest.mark.parametrize("seed", range(10))
def test_a_healthy_feed_is_known_by_a_glance(memory: None, feed_class: Any, seed: int) -> None:
    """No healthy feed needs a close look, whatever its ids and contexts; and the newest ids are those that it shows."""
    dice = random.Random(seed)
    for user in range(20):
        feed = feed_class(user)
        lived(feed, dice)
        assert closely(feed) == []
        ids = quickly(feed)
        assert ids is not None
        shown = {activity.raw_id for group in feed[:] for activity in group.activities}
        assert set(ids) == (set() if feed.counted else shown)


@KINDS
@pytest.mark.parametrize("seed", range(10))
def test_what_is_damaged_is_not_healthy_at_a_glance(memory: None, feed_class: Any, seed: int) -> None:
    """Whatever bytes are flipped, cut, doubled or lost: where a close look finds something, a glance does not pass it."""
    dice, missed, found = random.Random(seed), [], 0
    for user in range(40):
        feed = feed_class(user)
        lived(feed, dice)
        held = DATA.groups.get(feed.key)
        if held is None or not held.records:
            continue
        for _ in range(8):
            records, scores, state = dict(held.records), dict(held.scores), held.state
            count = DATA.counts.get(getattr(feed, "count_key", ""))
            damage(feed, held, dice)
            findings = closely(feed)
            found += bool(findings)
            if findings and quickly(feed) is not None:
                missed.append(findings)
            held.records, held.scores, held.state = records, scores, state
            if count is not None:
                DATA.counts[feed.count_key] = count
    assert missed == []
    assert found > 60


def damage(feed: Any, held: Any, dice: random.Random) -> None:
    """Damage one thing."""
    group = dice.choice(list(held.records))
    kind = dice.randrange(8)
    if kind < 4:
        held.records[group] = mutated(held.records[group], dice)
    elif kind == 4:
        held.scores[group] += dice.choice((1, -1, 1e6))
    elif kind == 5:
        dice.choice((held.scores, held.records)).pop(group)
    elif kind == 6:
        held.scores[b"\xff\xfe"], held.records[b"\xff\xfe"] = held.scores[group], held.records[group]
    elif held.state:
        held.state = mutated(held.state, dice)
    elif feed.counted:
        DATA.counts[feed.count_key] = (5, 5, 5)


def mutated(data: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(data))
    flipped = data[:at] + bytes((data[at] ^ (1 << dice.randrange(8)),)) + data[at + 1 :]
    return dice.choice((flipped, flipped, data[:at], data + data[at:], data[:at] + data[at + 1 :]))


def test_a_verb_that_is_not_registered_is_looked_at_closely(memory: None) -> None:
    """A glance does not pass a group of a verb that is unknown here, in short rows or in whole activities."""

    class Hiss(Verb):
        id, infinitive, past_tense = 31115, "hiss", "hissed"

    for context in (None, {"text": "x"}):
        verbs.register(Hiss)
        Notes(1).add(Activity(1, Hiss, 2, time=BASE, extra_context=context))
        assert quickly(Notes(1)) is not None
        del verbs._verbs[Hiss.id]
        assert quickly(Notes(1)) is None
        Notes(1).delete()


@pytest.fixture
def healthy_server(redis_url: str) -> Iterator[redis.Redis]:
    """A server that keeps what it has."""
    client = redis.Redis.from_url(redis_url)
    client.config_set("save", "3600 1")
    feedmill.configure(celery_app="feedmill.tasks:app")
    yield client
    client.config_set("save", "")
    client.close()


def test_few_round_trips(healthy_server: redis.Redis) -> None:
    """A healthy system costs at most 15 round trips for each thousand keys, and few commands for each key, beside what
    the managers' journals cost."""
    users = range(300)
    start = backend().round_trips  # type: ignore[attr-defined]
    examine()
    nothing = backend().round_trips - start  # type: ignore[attr-defined]
    everything = [in_group(n) for n in range(40)] + [on_day(n) for n in range(2, 6)]
    Home.insert_activities(everything)
    for kind in (Home, News, Notes):
        backend().run(kind.deliver(users, everything))
    Home.insert_activities(map(on_day, range(1000, 1500)))
    keys = healthy_server.dbsize()
    assert keys > 2500
    trips, before = backend().round_trips, commands(healthy_server)  # type: ignore[attr-defined]
    report = examine()
    assert dict(report.found) == {}
    assert report.feeds == 3 * len(users)
    trips = backend().round_trips - trips - nothing  # type: ignore[attr-defined]
    assert trips / keys * 1000 <= 15
    assert (commands(healthy_server) - before) / keys <= 8


def commands(client: redis.Redis) -> int:
    """Commands that the server has run, those inside scripts included."""
    stats: dict[str, Any] = client.info("commandstats")  # type: ignore[assignment]
    return sum(value["calls"] for value in stats.values())


def test_what_is_remembered_is_bounded(memory: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many records there are, only so many are remembered."""
    monkeypatch.setattr("feedmill.doctor.checks.quick.REMEMBERED", 50)
    glances = Glances()
    for user in range(100):
        Notes(user).add_many(Activity(user, Love, thing, time=BASE) for thing in range(5))
        stored = backend().run(backend().maintenance.feed(Notes(user).key, Notes(user).count_key))
        assert glances.healthy(Notes, stored) is not None
        assert all(len(known) <= 55 for known in glances._records.values())


@pytest.mark.parametrize("size", [7, 10_000])
def test_pages_of_any_size(healthy_server: redis.Redis, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """What belongs together is put together whatever pages a scan gives."""
    monkeypatch.setattr(redis_inspection, "SCAN_SIZE", size)
    fill()
    assert examined() == {}
    healthy_server.set(Notes(42).count_key, "5 5 5")
    healthy_server.delete(News(42).key + GROUPS)
    report = examine(fix=True)
    assert set(report.found) >= {"drifted count", "entry without record"}
    assert report.remaining == 0
    assert examined() == {}
    assert KeyMap().of(b"fm:strange:{1}") is None


@pytest.mark.parametrize("seed", range(20))
def test_a_overflow_that_surely_fits_does(memory: None, seed: int) -> None:
    """What is passed without a look at each overflow member has no flaw."""
    dice, passed = random.Random(seed), 0
    News(1).add_many(in_group(n, dice.randrange(30)) for n in range(90))
    held = DATA.groups[News(1).key]
    ((group, overflow),) = held.overflows.items()
    for _ in range(60):
        record, fields = News.serializer().decode(held.records[group]), dict(overflow)
        actor = dice.choice(list(fields))
        if dice.random() < 0.5:
            fields[actor] = mutated(fields[actor] or b"x", dice)
        record.count += dice.choice((0, 0, 0, 1))
        if _surely_fits(record, fields):
            passed += 1
            assert _flaw(record, fields) == ""
    assert passed
