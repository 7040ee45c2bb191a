"""An override of anything public is honoured on every path that does what it does, or refused when the class is declared.

The names come from the classes, so what is added to one is tried, too.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from feedmill import Activity, AggregatedActivity, Manager, aclose
from feedmill.aggregators import (
    BaseAggregator,
    DecayAggregator,
    NotificationAggregator,
    RecentVerbAggregator,
)
from feedmill.errors import ActivityError, BatchError, DeclarationError
from feedmill.feeds import (
    AggregatedFeed,
    Feed,
    NotificationFeed,
    RedisAggregatedFeed,
    RedisFeed,
    RedisNotificationFeed,
    reaggregate,
)
from feedmill.overrides import is_method, is_own, overridden
from feedmill.verbs import Love
from tests.fake_broker import FakeBroker
from tests.manager.friends import Friends, Home, love, notes

FEEDS = [Feed, AggregatedFeed, NotificationFeed, RedisFeed, RedisAggregatedFeed, RedisNotificationFeed]
AGGREGATORS = [BaseAggregator, RecentVerbAggregator, NotificationAggregator, DecayAggregator]
VALUES = [Activity, AggregatedActivity]
SPECIAL = (
    "__getitem__",
    "__len__",
    "__iter__",
    "__contains__",
    "__eq__",
    "__hash__",
    "__lt__",
    "__setattr__",
    "__getstate__",
)


def public_methods(cls: type) -> list[str]:
    """What users may call or read of *cls*, and the special methods that stand for such."""
    return [
        name
        for name in dir(cls)
        if not name.startswith("_") or (name in SPECIAL and getattr(cls, name, None) is not getattr(object, name, None))
        if is_method(inspect.getattr_static(cls, name))
    ]


def overriding(base: type, name: str, calls: list[str]) -> type:
    """A subclass of *base* that overrides *name* and notes each call; raises what the declaration raises."""
    known = inspect.getattr_static(base, name)

    def noted(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        return getattr(super(made, args[0]), name)(*args[1:], **kwargs)  # type: ignore[arg-type]

    value: Any = noted
    if inspect.iscoroutinefunction(known):

        async def anoted(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            return await getattr(super(made, args[0]), name)(*args[1:], **kwargs)  # type: ignore[arg-type]

        value = anoted
    elif isinstance(known, classmethod):
        value = classmethod(noted)
    elif not inspect.isfunction(known):
        value = property(lambda self: noted(self))
    body = {name: value, "__module__": __name__}
    made: type = type(f"Own{name}", (base,), body)
    return made


def declared(base: type, name: str, calls: list[str]) -> tuple[Any, str]:
    """What :func:`overriding` gives, or None and why it is refused."""
    try:
        return overriding(base, name, calls), ""
    except DeclarationError as error:
        return None, str(error)


def tried(classes: list[type]) -> list[Any]:
    """All (class, name) that a test tries."""
    return [pytest.param(cls, name, id=f"{cls.__name__}.{name}") for cls in classes for name in public_methods(cls)]


@pytest.mark.parametrize(("base", "name"), tried(FEEDS))
def test_feeds(base: type, name: str) -> None:
    """A feed has no hooks: every override is refused, with what to do instead."""
    with pytest.raises(DeclarationError, match=f"Own{name}.{name} overrides that of .*; .{{10,}}"):
        overriding(base, name, [])


@pytest.mark.parametrize(("base", "name"), tried([each for each in FEEDS if each is not Feed]))
def test_mixins_of_feeds(base: type, name: str) -> None:
    """The same of what a mixin brings, and of what a class far above overrides of one in between."""
    mixin = type("Mixin", (), {name: lambda self: None})
    with pytest.raises(DeclarationError, match=f"Mixed.{name} overrides that of"):
        type("Mixed", (mixin, base), {"__module__": __name__})


def settings_of(cls: type) -> list[str]:
    """The class attributes of *cls* that Feedmill has, and that are values."""
    known = {name for each in cls.__mro__ if is_own(each) for name in vars(each)}
    return sorted(name for name in known if name[0] != "_" and not is_method(inspect.getattr_static(cls, name)))


@pytest.mark.parametrize(
    ("base", "name"),
    [(each, name) for each in [RedisNotificationFeed, Friends, DecayAggregator] for name in settings_of(each)],
)
@pytest.mark.parametrize("value", [property(lambda self: 5), lambda self: 5, classmethod(lambda cls: 5)])
def test_settings_are_values(base: type, name: str, value: Any) -> None:
    """A class attribute that is asked of the class is no method and no property."""
    with pytest.raises(DeclarationError):
        type("Wrong", (base,), {name: value, "__module__": __name__})


# -- activities and groups


class SaysMore(Activity):
    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "more": 1}

    @property
    def label(self) -> str:
        return f"object {self.object_id}"

    @functools.cached_property
    def doubled(self) -> int:
        return 2 * int(self.object_id)  # type: ignore[arg-type]


class GroupSaysMore(AggregatedActivity):
    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "more": len(self)}

    @property
    def label(self) -> str:
        return f"group {self.group}"


class Rich(RedisNotificationFeed):
    key_format, count_format = "rich:%(user_id)s", "rich:%(user_id)s:count"
    activity_class, aggregated_activity_class = SaysMore, GroupSaysMore


@pytest.mark.parametrize(("base", "name"), tried(VALUES))
def test_values(base: type, name: str) -> None:
    """Of activities and groups only ``to_dict`` can be overridden: what is read is made without asking a subclass."""
    if name == "to_dict":
        overriding(base, name, [])
        return
    with pytest.raises(
        DeclarationError, match=f"Own{name}.{name} overrides that of .*; give what you add a name of its own"
    ):
        overriding(base, name, [])


@pytest.mark.parametrize(
    ("base", "name"),
    [(Activity, name) for name in ("verb", "actor_id", "object_id", "target_id", "microseconds", "actor", "time")]
    + [(AggregatedActivity, name) for name in ("group", "is_seen", "is_read", "activities")],
)
def test_attributes_of_values(base: type, name: str) -> None:
    """What an instance has is no property of a subclass, which would hide it from some and not from others."""
    for value in (property(lambda self: 5), functools.cached_property(lambda self: 5), 5):
        with pytest.raises(DeclarationError, match=f"Wrong.{name} overrides that of"):
            type("Wrong", (base,), {name: value, "__module__": __name__})


@pytest.mark.parametrize("base", VALUES)
@pytest.mark.parametrize("name", ["__init__", "__new__"])
def test_constructors_of_values(base: type, name: str) -> None:
    """A constructor would not run for what is read, so it is refused, with what to do instead."""
    with pytest.raises(DeclarationError, match=f"Made.{name} would not be called for what is read; .*property"):
        type("Made", (base,), {name: lambda self, *args: None, "__module__": __name__})


@pytest.mark.parametrize(
    "name", ["append", "remove", "update_seen_at", "max_aggregated_activities_length", "get_hydrated"]
)
def test_groups_of_stream_framework(name: str) -> None:
    """What groups have there and nothing here would ask is refused."""
    with pytest.raises(DeclarationError, match=f"Ported.{name} is Stream-Framework's, and nothing here asks it"):
        type("Ported", (AggregatedActivity,), {name: None, "__module__": __name__})


def test_what_values_add(backend_kind: str) -> None:
    """Properties and ``to_dict`` of one's own are there for what is made, read, inside groups and in their ``to_dict``."""
    Rich(5).add_many([Activity(n, Love, 7) for n in range(3)])
    group = Rich(5)[0]
    assert (group.label, group.to_dict()["more"]) == (f"group {group.group}", 3)
    for activity in (*group.activities, group.last_activity, SaysMore(1, Love, 7)):
        assert (activity.label, activity.doubled, activity.to_dict()["more"]) == ("object 7", 14, 1)
    assert [each["more"] for each in group.to_dict()["activities"]] == [1, 1, 1]


# -- aggregators


#: Paths of a feed that ask each hook of its aggregator, given a feed that holds three groups.
AGGREGATOR_PATHS: dict[str, dict[str, Callable[[Any], object]]] = {
    "get_group": {
        "add": lambda feed: feed.add(love(9)),
        "remove": lambda feed: feed.remove(love(1)),
        "deliver": lambda feed: feed._run(type(feed).deliver([5, 6], [love(8)])),
        "contains": lambda feed: feed.contains(love(1)),
        "index": lambda feed: feed.index_of(love(1)),
        "reaggregate": lambda feed: reaggregate(feed),
    },
    "score": {
        "add": lambda feed: feed.add(love(9)),
        "remove": lambda feed: feed.remove(love(1)),
        "reaggregate": lambda feed: reaggregate(feed),
    },
    "rank": {
        "slice": lambda feed: feed[:2],
        "page": lambda feed: feed.page(2),
        "oldest first": lambda feed: feed.order_by("activity_id")[:1],
        "index": lambda feed: feed.index_of(love(1)),
    },
    "merge": {
        "add": lambda feed: feed.add(love(9)),
        "deliver": lambda feed: feed._run(type(feed).deliver([5, 6], [love(8)])),
    },
    "weight": {
        "add": lambda feed: feed.add(love(9)),
        "remove": lambda feed: feed.remove(love(1)),
    },
}


class Hot(DecayAggregator, NotificationAggregator):
    """Has a weight, too."""


@pytest.mark.parametrize(("base", "name"), tried([*AGGREGATORS, Hot]))
def test_aggregators(backend_kind: str, base: type, name: str) -> None:
    """A hook is asked on each path that uses it; whatever else is public is refused."""
    calls: list[str] = []
    aggregator, error = declared(base, name, calls)
    if error:
        assert name not in AGGREGATOR_PATHS
        assert f"Own{name}.{name} overrides that of" in error
        return
    if not any(
        "get_group" in vars(each)
        for each in aggregator.__mro__
        if each not in (BaseAggregator, DecayAggregator, object)
    ):
        aggregator = type("Grouping", (aggregator, NotificationAggregator), {"__module__": __name__})
    if name == "get_group" and base in (BaseAggregator, DecayAggregator):
        return  # they have none that could be called
    feed_class: Any = type("Feed", (RedisAggregatedFeed,), {"aggregator_class": aggregator, "__module__": __name__})
    for path, walk in AGGREGATOR_PATHS[name].items():
        feed_class(5).delete()
        feed_class(5).add_many([love(1), love(1, actor=2), love(2), love(3)])
        calls.clear()
        walk(feed_class(5))
        assert name in calls, path


# -- managers: test_coroutines tries each method under its own name; here is what else does the same

#: What an override of each method is reached by, under other names. *manager* has 1, who did two things, followed by 10.
MANAGER_PATHS: dict[str, dict[str, Callable[[Any], object]]] = {
    "add_activity": {
        "add_user_activity": lambda manager: manager.add_user_activity(1, love(5)),
        "add_activities": lambda manager: manager.add_activities([love(5), love(6)]),
    },
    "remove_activity": {
        "remove_user_activity": lambda manager: manager.remove_user_activity(1, love(1)),
        "remove_activities": lambda manager: manager.remove_activities([love(1), love(2).id]),
    },
    "update_activity": {
        "update_user_activity": lambda manager: manager.update_user_activity(love(1, text="new")),
        "update_user_activities": lambda manager: manager.update_user_activities([love(1, text="new")]),
    },
    "update_user_activities": {
        "update_user_activity": lambda manager: manager.update_user_activity(love(1, text="new"))
    },
    "follow": {
        "follow_many": lambda manager: manager.follow_many(13, [1]),
        "follow_many, limited": lambda manager: manager.follow_many(13, [1], limit=1),
        "follow_user": lambda manager: manager.follow_user(13, 1),
        "follow_many_users": lambda manager: manager.follow_many_users(13, [1], False),
    },
    "unfollow": {
        "unfollow_many": lambda manager: manager.unfollow_many(10, [1]),
        "unfollow_user": lambda manager: manager.unfollow_user(10, 1),
        "unfollow_many_users": lambda manager: manager.unfollow_many_users(10, [1], False),
    },
    "follow_many": {
        "follow_user": lambda manager: manager.follow_user(13, 1),
        "follow_many_users": lambda manager: manager.follow_many_users(13, [1]),
    },
    "unfollow_many": {
        "unfollow_user": lambda manager: manager.unfollow_user(10, 1),
        "unfollow_many_users": lambda manager: manager.unfollow_many_users(10, [1]),
    },
    "follow_many_users": {"follow_user": lambda manager: manager.follow_user(13, 1)},
    "unfollow_many_users": {"unfollow_user": lambda manager: manager.unfollow_user(10, 1)},
    "get_activity": {"get_activities": lambda manager: manager.get_activities([love(1), love(9)])},
}


class _Async:
    """Calls the coroutine of each method instead."""

    def __init__(self, manager: Any) -> None:
        self.manager = manager

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            async def closing() -> Any:
                try:
                    return await getattr(self.manager, f"a{name}")(*args, **kwargs)
                finally:
                    await aclose()

            return asyncio.run(closing())

        return call


MANAGER_NAMES = public_methods(Manager)


@pytest.fixture
def unregistered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages are for Friends, whatever is declared here."""
    monkeypatch.setattr("feedmill.manager.manager.register_manager", lambda name, manager: None)


@pytest.mark.parametrize("name", MANAGER_NAMES)
@pytest.mark.parametrize("through", [lambda manager: manager, _Async], ids=["thread", "coroutine"])
def test_managers(at_once: None, unregistered: None, name: str, through: Any) -> None:
    """What is overridden is called whichever name leads to it, from threads and from coroutines; the rest is refused."""
    calls: list[str] = []
    manager_class, error = declared(Friends, name, calls)
    if error and name == "filter_activities":
        assert "write accepts or filter_user_ids as well" in error
        return
    if error:
        assert name in ("get_feeds", "get_user_feed", "get_notification_feed", "__setattr__")
        assert f"Own{name}.{name} overrides that of" in error
        assert name == "__setattr__" or "workers write to" in error
        return
    manager_class.name = "Friends"
    for path, walk in MANAGER_PATHS.get(name, {}).items():
        Friends().add_activities([love(1), love(2)])
        calls.clear()
        walk(through(manager_class()))
        assert calls and set(calls) == {name}, path


@pytest.mark.parametrize("name", [name for name in MANAGER_PATHS if f"a{name}" in MANAGER_NAMES])
def test_overridden_coroutines_of_managers(at_once: None, unregistered: None, name: str) -> None:
    """The same of a coroutine that is overridden, when the path is walked by coroutines."""
    calls: list[str] = []
    manager_class: Any = overriding(Friends, f"a{name}", calls)
    manager_class.name = "Friends"
    for path, walk in MANAGER_PATHS[name].items():
        Friends().add_activities([love(1), love(2)])
        calls.clear()
        walk(_Async(manager_class()))
        assert calls and set(calls) == {f"a{name}"}, path


def test_an_override_that_returns_nothing(at_once: None, unregistered: None) -> None:
    """As ports write them: no handle to return is no error."""

    class Silent(Friends):
        name = "Friends"

        def add_activity(self, activity: Activity) -> Any:
            super().add_activity(activity)

        def follow(self, user_id: Any, target_id: Any, limit: int | None = None) -> Any:
            super().follow(user_id, target_id)

        def follow_many_users(self, user_id: Any, target_ids: Any, async_: bool = True) -> Any:
            super().follow_many_users(user_id, target_ids, async_)

        def update_user_activities(self, activities: Any) -> Any:
            super().update_user_activities(activities)

    assert len(Silent().add_activities([love(1), {"actor": 1, "verb": Love, "object": 2}])) == 0
    assert len(Silent().follow_many(13, [1, 2])) == 0
    assert Silent().follow_user(13, 1) is None
    assert Silent().update_user_activity(love(1, text="new")) is None
    assert Home(13).count() == 2


def test_one_refused_by_an_override(at_once: None, unregistered: None) -> None:
    """What an override refuses is listed with what Feedmill refuses, and harms no other."""

    class Picky(Friends):
        name = "Friends"

        def add_activity(self, activity: Activity) -> Any:
            if activity.object_id == 2:
                raise ActivityError("2 is not wanted")
            return super().add_activity(activity)

    with pytest.raises(BatchError) as caught:
        Picky().add_activities([love(1), love(2), "x", love(3)])
    assert [(place, item) for place, item, _ in caught.value.refused] == [(1, love(2)), (2, "x")]
    assert caught.value.refused[0][2] == "2 is not wanted" and len(caught.value.fanouts) == 2
    assert [activity.object_id for activity in Home(10)[:]] == [3, 1]


def test_hooks_of_managers_are_asked_by_workers(box: FakeBroker) -> None:
    """Each hook is asked by the fan-out, the follow, the rebuild or the notification that it is about."""
    calls: list[str] = []
    hooks = (
        "get_user_follower_ids",
        "get_user_following_ids",
        "get_recipient_ids",
        "filter_user_ids",
        "filter_activities",
    )

    def noting(name: str) -> Any:
        def noted(self: Any, *args: Any) -> Any:
            calls.append(name)
            return getattr(super(Asked, self), name)(*args)

        return noted

    body = {name: noting(name) for name in (*hooks, "accepts")}
    Asked: Any = type("Asked", (Friends,), {**body, "__module__": __name__})
    Asked().add_activity(love(1, target=77))
    box.work()
    assert {"get_user_follower_ids", "get_recipient_ids", "filter_user_ids", "accepts"} == set(calls)
    assert notes(77)
    calls.clear()
    Asked().follow(13, 1)
    box.work()
    assert {"filter_activities"} < set(calls)
    calls.clear()
    Asked().rebuild(10)
    box.work()
    assert {"get_user_following_ids", "filter_activities"} < set(calls)


def test_new_names_are_free(backend_kind: str) -> None:
    """What a subclass adds is its own business, also private and special names that Feedmill does not have."""

    class Own(RedisFeed):
        key_format = "free:%(user_id)s"

        def titles(self) -> list[Any]:
            """New."""
            return [activity.object_id for activity in self[:]]

        def __call__(self) -> int:
            return self.count()

        def __repr__(self) -> str:
            return "mine"

    Own(5).add(love(1))
    assert (Own(5).titles(), Own(5)(), repr(Own(5))) == ([1], 1, "mine")
    assert list(overridden(Own)) == [("key_format", Own, Feed)]


def _all_own(cls: type) -> Iterator[type]:
    """Feedmill's subclasses of *cls*, without those that its tools and tests declare as an app would."""
    for each in cls.__subclasses__():
        package = (each.__module__ + ".").split(".")[1]
        if is_own(each) and package not in ("testing", "tools", "contrib"):
            yield each
            yield from _all_own(each)


def test_all_of_feedmills_classes_are_tried() -> None:
    """No class that users derive from is forgotten above."""
    # Those on Cassandra add nothing but where they are stored.
    places = ("aggregated_feed.notification_feed", "feeds.cassandra")
    assert {*_all_own(Feed)} - {*FEEDS} <= {each for each in _all_own(Feed) if each.__module__.endswith(places)}
    assert {*_all_own(BaseAggregator)} == {*AGGREGATORS} - {BaseAggregator}
    assert not [*_all_own(Activity), *_all_own(AggregatedActivity)]
