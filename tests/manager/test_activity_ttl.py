"""``FEEDMILL_ACTIVITY_TTL``: activities are kept for so long from when they happened, and feeds show nothing older."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

import pytest
import redis
from click.testing import CliRunner

import feedmill
from feedmill import Activity, lifetimes, settings
from feedmill.cli.main import main
from feedmill.errors import SettingsError, UnknownActivity
from feedmill.keys import activity_key
from feedmill.storage import activity_state
from feedmill.storage.activity_state import MARGIN
from feedmill.storage.auxiliary import NOTIFIED_TTL
from feedmill.storage.journal import OPEN_TTL
from feedmill.storage.memory import DATA
from feedmill.verbs import Love
from tests.doctor.fixtures import examined
from tests.manager.friends import Friends, Home, News, Notes, Own

DAY = 86_400
TTL = 30 * DAY


@pytest.fixture(autouse=True)
def _ttl(at_once: None) -> None:
    feedmill.configure(activity_ttl=dt.timedelta(seconds=TTL))


def ago(days: float, thing: int = 7, target: int | None = None) -> Activity:
    """What user 1 did *days* ago."""
    return Activity(1, Love, thing, target, dt.datetime.now(dt.timezone.utc) - dt.timedelta(days=days))


def seconds_left(activity: Activity) -> int | None:
    """For how long the body of *activity* is kept; None for ever, and -2 if it is not there."""
    if settings.current().redis_url == "memory://":
        if activity.raw_id not in DATA.bodies:
            return -2
        at = DATA.body_ends.get(("", activity.raw_id))
        return None if at is None else round(at - time.time())
    with redis.Redis.from_url(settings.current().redis_url) as client:
        found: Any = client.ttl(activity_key(activity.raw_id))
    return None if found == -1 else found


def forget(activity: Activity) -> None:
    """What becomes of *activity* when its time is over."""
    Home._run(Home.activities().remove([activity.raw_id]))


@pytest.mark.parametrize("value", [-1, "a month", float("inf"), 1e12, dt.timedelta(-1), True])
def test_what_is_no_lifetime_is_refused(value: Any) -> None:
    """The setting and what to use are named."""
    with pytest.raises(SettingsError, match="FEEDMILL_ACTIVITY_TTL is .*; use a number"):
        feedmill.configure(activity_ttl=value)


def test_how_long_bodies_are_kept() -> None:
    """From when it happened, and a week at least; after a removal a week, if only told by name 90 days, without a setting for ever."""
    young, old = ago(3), ago(100)
    manager = Friends()
    manager.add_activity(young)
    manager.add_activity(old)
    for _ in range(2):
        assert seconds_left(young) == pytest.approx(27 * DAY + MARGIN, abs=300)
        assert seconds_left(old) == pytest.approx(OPEN_TTL + MARGIN, abs=300) or seconds_left(old) == pytest.approx(
            OPEN_TTL, abs=300
        )
        manager.add_activity(young)
        manager.update_activity(Activity(1, Love, 7, time=young.time, extra_context={"a": 1}))
    manager.remove_activity(young)
    assert seconds_left(young) == pytest.approx(OPEN_TTL, abs=300)
    told = ago(1, 9)
    manager.notify([5], told)
    assert seconds_left(told) == pytest.approx(NOTIFIED_TTL, abs=300)
    feedmill.configure(activity_ttl=0)
    kept = ago(1, 10)
    manager.add_activity(kept)
    assert seconds_left(kept) is None


def test_feeds_show_nothing_older() -> None:
    """Feeds whose activities are apart are as if that were their ``max_age``, if theirs is not shorter; others are not concerned."""
    manager = Friends()
    manager.add_activity(ago(31, 1, 10))
    manager.add_activity(ago(29, 2, 10))
    assert [len(feed) for feed in (*manager.get_feeds(10).values(), manager.get_user_feed(1))] == [1, 1, 1]
    assert len(manager.get_notification_feed(10)) == 2
    assert Home.lifetime() == TTL * 1_000_000 and Notes.lifetime() == 0
    shorter = type("Shorter", (Home,), {"max_age": 5, "__module__": "feedmill.x"})
    longer = type("Longer", (Home,), {"max_age": 2 * TTL, "__module__": "feedmill.x"})
    assert (shorter.lifetime(), longer.lifetime()) == (5_000_000, TTL * 1_000_000)


def test_what_became_of_it() -> None:
    """An activity whose body is gone is known to nobody by its id; who has it in hand takes it out of feeds all the same."""
    manager, activity = Friends(), ago(1)
    manager.add_activity(activity)
    forget(activity)
    for call in (manager.get_activity, manager.remove_activity):
        with pytest.raises(UnknownActivity, match="older than FEEDMILL_ACTIVITY_TTL"):
            call(activity.id)
    with pytest.raises(UnknownActivity, match="older than FEEDMILL_ACTIVITY_TTL"):
        manager.update_activity(activity)
    assert "FEEDMILL_ACTIVITY_TTL" in manager.explain(10, activity.id)[0].text or manager.explain(10, activity.id)
    assert list(manager.get_feeds(10)["home"]) == [] and len(manager.get_feeds(10)["home"]) == 1
    manager.remove_activity(activity)
    assert [len(feed) for feed in (*manager.get_feeds(10).values(), manager.get_user_feed(1))] == [0, 0, 0]


def test_a_rebuild_brings_nothing_whose_body_is_gone() -> None:
    """Entries of the user feed without a body are passed over."""
    manager, first, second = Friends(), ago(2, 1), ago(1, 2)
    manager.add_activity(first)
    manager.add_activity(second)
    forget(first)
    for feed in manager.get_feeds(10).values():
        feed.delete()
    manager.rebuild(10)
    assert [len(feed) for feed in manager.get_feeds(10).values()] == [1, 1]


def test_the_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written before the setting is found and given an end; too old entries without a body are no damage."""
    feedmill.configure(activity_ttl=0)
    manager, old, young = Friends(), ago(29, 1), ago(1, 2)
    manager.add_activity(old)
    manager.add_activity(young)
    feedmill.configure(activity_ttl=TTL)
    settled = settings.current().redis_url == "memory://"
    ignored = {"unsafe Redis setting"}
    if not settled:
        assert {k: n for k, n in examined().items() if k not in ignored} == {"body without end": 2}
        assert {k: n for k, n in examined(fix=True).items() if k not in ignored} == {"body without end": 2}
        assert seconds_left(young) == pytest.approx(29 * DAY + MARGIN, abs=300)
    forget(old)
    now = lifetimes.now() + 2 * DAY * 1_000_000
    monkeypatch.setattr(lifetimes, "now", lambda: now)
    assert {k: n for k, n in examined().items() if k not in ignored} == {}
    said = CliRunner().invoke(main, ["doctor", "--growth"]).output.splitlines()
    assert "bounded: activities: 1, kept for 30 days" in said
    assert "bounded: feeds of Home: 3, each of 50 entries at most, none older than 30 days" in said
    assert "grows: feeds of Notes" not in "\n".join(said)
    feedmill.configure(activity_ttl=0)
    said = CliRunner().invoke(main, ["doctor", "--growth"]).output.splitlines()
    assert any(line.startswith("grows: activities: 1, kept until they are removed; FEEDMILL_") for line in said)
    assert any(line.startswith("grows: feeds of News: 3, each of 100 groups at most, of any age") for line in said)


def test_memory_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """In memory, too, what is kept goes when its time is over, and what is written again stays."""
    if settings.current().redis_url != "memory://":
        pytest.skip("a server does it itself")
    manager, activity, removed, told = Friends(), ago(1, 1), ago(1, 2), ago(1, 3)
    manager.add_activity(activity)
    manager.add_activity(removed)
    manager.remove_activity(removed)
    manager.notify([5], told)
    real = time.time
    for days, number in ((6, 3), (8, 2), (31, 1), (91, 0)):
        monkeypatch.setattr(time, "time", lambda days=days: real() + days * DAY)
        Home._run(Home.activities().get([activity.raw_id]))
        assert len(DATA.bodies) == number, days
    assert not DATA.body_ends and not DATA.next_ends
    assert activity_state.kind_of(b"body") == activity_state.LIVE and Own and News
