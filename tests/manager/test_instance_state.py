"""What is set on an instance is never lost in silence: it is refused, with what to do instead."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
from typing import Any
from unittest import mock

import pytest

from feedmill import Activity, AggregatedActivity, Manager
from feedmill.aggregators import BaseAggregator, RecentVerbAggregator
from feedmill.errors import ActivityError, ArgumentError, DeclarationError
from feedmill.feeds import Feed, RedisAggregatedFeed, RedisFeed, RedisNotificationFeed
from feedmill.registry import get_manager
from feedmill.verbs import Comment, Love
from tests.fake_broker import FakeBroker
from tests.manager.friends import Friends, Home, home, love

NOON = dt.datetime(2024, 5, 1, 12, tzinfo=dt.timezone.utc)


@pytest.fixture(autouse=True)
def _unregistered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is declared here takes no messages of Friends."""
    monkeypatch.setattr("feedmill.manager.manager.register_manager", lambda name, manager: None)


# -- managers and aggregators


def one_more(self: Any, tenant: str) -> None: ...
def one_more_by_default(self: Any, tenant: str = "shop") -> None: ...
def anything(self: Any, *args: Any, **kwargs: Any) -> None: ...
def only_by_name(self: Any, *, tenant: str = "shop") -> None: ...


@pytest.mark.parametrize("init", [one_more, one_more_by_default, anything, only_by_name])
@pytest.mark.parametrize("mixed_in", [False, True])
def test_a_manager_that_could_differ(init: Any, mixed_in: bool) -> None:
    """Workers make a manager without arguments, so a constructor that takes some is refused, wherever it comes from."""
    mixin: Any = type("Mixin", (), {"__init__": init})
    bases, body = ((mixin, Manager), {}) if mixed_in else ((Manager,), {"__init__": init})
    with pytest.raises(DeclarationError, match=r"Tenant.__init__\(self, .*state of their own.*class attribute"):
        type("Tenant", bases, {"__module__": __name__, **body})


@pytest.mark.parametrize("base", [Manager, BaseAggregator])
def test_making_instances_another_way(base: type) -> None:
    """The same of ``__new__``."""
    with pytest.raises(DeclarationError, match="Own.__new__ could make instances that differ"):
        type("Own", (base,), {"__module__": __name__, "__new__": lambda cls: object.__new__(cls)})


def test_what_a_manager_sets_up_for_itself(at_once: None) -> None:
    """An ``__init__`` without parameters runs in workers, too, and may set attributes; cached properties are free."""

    class Prepared(Friends):
        name = "Friends"

        def __init__(self) -> None:
            super().__init__()
            self.people = [2, 3]

        @functools.cached_property
        def number(self) -> int:
            return len(self.people)

    class More(Prepared):
        name = "Friends"

        def __init__(self) -> None:
            super().__init__()
            self.more = [4]

    assert (More().people, More().more, More().number) == ([2, 3], [4], 2)
    with pytest.raises(AttributeError, match=r"More.people cannot be set on an instance: .*class ClubManager"):
        More().people = [5]


@pytest.mark.parametrize("name", ["tenant", "feed_classes", "get_user_follower_ids"])
def test_setting_an_attribute_of_a_manager(name: str) -> None:
    """Nothing can be set on an instance later, also not by mocks: workers make another."""
    manager = Friends()
    with pytest.raises(AttributeError, match=f"Friends.{name} cannot be set on an instance: .*class attribute"):
        setattr(manager, name, 5)
    with (
        pytest.raises(AttributeError, match="cannot be set on an instance"),
        mock.patch.object(manager, name, create=True),
    ):
        pass
    assert not vars(manager)


def test_a_dataclass_is_no_manager() -> None:
    """Its constructor comes after the declaration: then it is refused when an instance is made."""

    @dataclasses.dataclass
    class Tenant(Friends):
        tenant: str = "shop"

    with pytest.raises(AttributeError, match="Tenant.tenant cannot be set on an instance"):
        Tenant("club")


def test_patching_the_class(box: FakeBroker) -> None:
    """A test of an app patches the class, and workers see it."""
    with mock.patch.object(get_manager("Friends"), "get_user_follower_ids", return_value=[99]):
        Friends().add_activity(love(1))
        box.work()
    assert home(99) == [1] and Home(10).count() == 0


@pytest.mark.parametrize("init", [one_more, one_more_by_default, anything, only_by_name, lambda self: None])
def test_an_aggregator_that_could_differ(init: Any) -> None:
    """A feed makes its aggregator with two arguments; another constructor is refused when it is declared."""
    with pytest.raises(
        DeclarationError, match=r"Own.__init__\(self.*write __init__\(self, aggregated_activity_class=None, act"
    ):
        type("Own", (RecentVerbAggregator,), {"__module__": __name__, "__init__": init})


def test_an_aggregator_with_its_constructor(backend_kind: str) -> None:
    """The constructor of Stream-Framework's aggregators works, with the classes of the feed; nothing is set later."""

    class Ported(RecentVerbAggregator):
        def __init__(self, aggregated_activity_class: Any = None, activity_class: Any = None) -> None:
            super().__init__(aggregated_activity_class, activity_class)
            self.suffix = f"{self.aggregated_activity_class.__name__} of {self.activity_class.__name__}"

        def get_group(self, activity: Activity) -> str:
            return f"{super().get_group(activity)} {self.suffix}"

    class Mine(Activity): ...

    class Ours(AggregatedActivity): ...

    body = {
        "aggregator_class": Ported,
        "activity_class": Mine,
        "aggregated_activity_class": Ours,
        "__module__": __name__,
    }
    feed: Any = type("Feed", (RedisAggregatedFeed,), body)(5)
    feed.add(love(1))
    assert feed[0].group.endswith("Ours of Mine")
    aggregator = Ported()
    assert (aggregator.aggregated_activity_class, aggregator.activity_class) == (AggregatedActivity, Activity)
    with pytest.raises(AttributeError, match="Ported.suffix cannot be set on an instance: .*class ByHour"):
        aggregator.suffix = "x"


# -- feeds


@pytest.mark.parametrize("feed_class", [Feed, RedisFeed, RedisAggregatedFeed, RedisNotificationFeed])
def test_setting_an_attribute_of_a_feed(feed_class: Any) -> None:
    """Whatever Feedmill has of a feed cannot be set on one, and the error says how it is done."""
    feed, view = feed_class(5), feed_class(5).filter(verb=Love)
    names = [name for name in dir(feed) if not name.startswith("__") and name != "lock_format"]
    for name in (*names, "lock_format")[: None if hasattr(feed, "lock_format") else -1]:
        with pytest.raises(AttributeError, match=f"{feed_class.__name__}.{name} cannot be set; .{{10,}}"):
            setattr(feed, name, 5)
    for name in ("user_id", "count", "_query"):
        with pytest.raises(AttributeError, match=f"View.{name} cannot be set; a view does not change; filter"):
            setattr(view, name, 5)
    assert (feed.key, feed.user_id) == (feed_class.key_of(5), 5)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("key", "set key_format of a class of its own"),
        ("count_key", "set count_format of a class of its own"),
        ("lock_key", "set lock_format of a class of its own"),
        ("user_id", r"make another feed: RedisNotificationFeed\(user_id\)"),
        ("max_length", r"declare class Another\(RedisNotificationFeed\) with max_length"),
        ("add_many", "a test can patch the class"),
    ],
)
def test_how_it_is_done(name: str, advice: str) -> None:
    """Each kind of attribute has its own way."""
    with pytest.raises(AttributeError, match=f"RedisNotificationFeed.{name} cannot be set; .*{advice}"):
        setattr(RedisNotificationFeed(5), name, 5)


def test_a_feed_of_two_things(backend_kind: str) -> None:
    """A feed that is made of more than a user id is refused; what tells feeds apart is part of that id, and heeded everywhere."""
    with pytest.raises(
        DeclarationError, match=r"Board.__init__\(self, user_id, board\) needs more than a user id, .*user_id}:"
    ):

        class Board(RedisFeed):
            def __init__(self, user_id, board): ...  # type: ignore[no-untyped-def]

    class Shelf(RedisFeed):
        key_format = "shelf:%(user_id)s"

        def __init__(self, user_id: Any, board: str = "cats") -> None:
            super().__init__(f"{user_id}:{board}")
            self.board = board

    cats, dogs = Shelf(1), Shelf(1, "dogs")
    cats.add(love(1))
    dogs.add(love(2))
    assert (cats.board, dogs.board, cats[:], dogs[:]) == ("cats", "dogs", [love(1)], [love(2)])
    assert cats.contains(love(1)) and not dogs.contains(love(1))
    cats.delete()
    assert (cats.count(), dogs.count()) == (0, 1)

    class Renamed(RedisFeed):
        def __init__(self, user_id: Any) -> None:
            super().__init__(user_id)
            self.key = f"{self.key}:more"

    with pytest.raises(AttributeError, match="Renamed.key cannot be set"):
        Renamed(5)


# -- activities and groups

ACTIVITY = Activity(1, Love, 7, 9, NOON, {"item": 3})


@pytest.mark.parametrize("name", [name for name in dir(ACTIVITY) if not name.startswith("__")])
def test_setting_an_attribute_of_an_activity(name: str) -> None:
    """Whatever an activity has cannot be set, whether it was looked at before or not."""
    for activity in (Activity(1, Love, 7, 9, NOON, {"item": 3}), Activity.unpack(ACTIVITY.pack()), ACTIVITY):
        with pytest.raises(AttributeError, match=f"Activity.{name} cannot be set; an activity does not change"):
            setattr(activity, name, 5)
    assert (ACTIVITY.actor_id, ACTIVITY.time, dict(ACTIVITY.extra_context)) == (1, NOON, {"item": 3})


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("object_id", "object"),
        ("actor", "actor"),
        ("time", "time"),
        ("microseconds", "time"),
        ("extra_context", "extra_context"),
    ],
)
def test_the_way_to_another_activity(name: str, advice: str) -> None:
    """The error names the argument of ``replace``."""
    with pytest.raises(AttributeError, match=rf"activity.replace\({advice}=…\) makes another one"):
        setattr(ACTIVITY, name, 5)


def test_replace() -> None:
    """Another activity, checked as any; with another context alone it is the one that takes its place."""
    other = ACTIVITY.replace(object=8, verb=Comment, time=NOON + dt.timedelta(hours=1))
    assert (other.actor_id, other.object_id, other.target_id, other.verb) == (1, 8, 9, Comment)
    assert other.time == NOON + dt.timedelta(hours=1) and other.extra_context == {"item": 3} and other != ACTIVITY
    assert ACTIVITY.replace() == ACTIVITY and ACTIVITY.replace() is not ACTIVITY
    again = ACTIVITY.replace(extra_context={"item": 4})
    assert again == ACTIVITY and again.extra_context == {"item": 4} and ACTIVITY.extra_context == {"item": 3}
    assert ACTIVITY.replace(target=None).target_id is None and not ACTIVITY.replace(extra_context=None).extra_context
    stored = Activity.unpack(ACTIVITY.pack())
    assert stored.replace(actor=2).pack() == ACTIVITY.replace(actor=2).pack() != stored.pack()

    class Mine(Activity): ...

    assert type(Mine.of(ACTIVITY).replace(object=8)) is Mine

    class Row:
        id = 70

    row = Row()
    kept = ACTIVITY.replace(object=row)
    assert (kept.object_id, kept.object, kept.replace(actor=2).object) == ("row:70", row, row)
    assert (kept.actor, stored.actor, stored.object, stored.target) == (1, 1, 7, 9)


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"object_id": 8}, ArgumentError, "made of no 'object_id'; did you mean 'object'?"),
        ({"xyz": 8}, ArgumentError, "made of no 'xyz'; use actor, verb, object, target, time, extra_context"),
        ({"object": None}, ActivityError, "object is None"),
        ({"time": NOON.replace(tzinfo=None)}, ActivityError, "naive"),
        ({"extra_context": {"x": object()}}, ActivityError, r"extra_context\['x'\] cannot be stored"),
    ],
)
def test_replace_checks(changes: dict[str, Any], error: type[Exception], text: str) -> None:
    """What makes no activity is refused."""
    with pytest.raises(error, match=text):
        ACTIVITY.replace(**changes)


def test_names_of_an_apps_own(backend_kind: str) -> None:
    """A reader may attach what it knows, under names that Feedmill does not have; it is not stored."""
    for value in (Activity(1, Love, 7), AggregatedActivity("g", [ACTIVITY])):
        value.photo = "a photo"  # type: ignore[attr-defined]
        assert value.photo == "a photo"  # type: ignore[attr-defined]


@pytest.mark.parametrize("stored", [False, True])
def test_setting_an_attribute_of_a_group(backend_kind: str, stored: bool) -> None:
    """A group does not change; it is marked with its feed."""
    group: Any = AggregatedActivity("g", [ACTIVITY])
    if stored:
        RedisNotificationFeed(5).add(ACTIVITY)
        group = RedisNotificationFeed(5)[0]
    for name in [name for name in dir(AggregatedActivity) if not name.startswith("__")] + [
        "group",
        "is_seen",
        "is_read",
    ]:
        advice = (
            r"mark it with its feed: feed.mark\(" if name in ("seen_at", "is_seen", "is_read") else "make another|mark"
        )
        with pytest.raises(
            AttributeError, match=f"AggregatedActivity.{name} cannot be set; a group does not change; .*{advice}"
        ):
            setattr(group, name, 5)
    assert not group.is_seen


def test_comparing_with_something_else() -> None:
    """What is no activity is not equal to one; what cannot be ordered says so."""
    group = AggregatedActivity("g", [ACTIVITY])
    for value in (ACTIVITY, group):
        assert value != 5 and value != "g" and value is not None
        with pytest.raises(TypeError, match="not supported"):
            _ = value < 5  # type: ignore[operator]
    assert group != ACTIVITY and ACTIVITY == mock.ANY
    assert hash(group) == hash(AggregatedActivity("g", [ACTIVITY])) and {group: 1}[group] == 1


def test_ids_in_groups() -> None:
    """A group is asked for an activity, or its id; anything else is an error."""
    group = AggregatedActivity("g", [ACTIVITY])
    assert group.contains(ACTIVITY) and group.contains(ACTIVITY.id) and not group.contains(love(5).id)
    assert group.serialization_id == group.group == "g"
    with pytest.raises(ActivityError, match="5 is not a feedmill.Activity, nor the id of one"):
        group.contains(5)  # type: ignore[arg-type]
