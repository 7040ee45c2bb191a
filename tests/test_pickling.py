"""Whatever a reader or a caller is given can be pickled and copied, at any time: before and after it was looked at."""

from __future__ import annotations

import copy
import dataclasses
import enum
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import feedmill.errors
from feedmill import Activity, AggregatedActivity, Manager, Priority, configure
from feedmill.aggregators import BaseAggregator, NotificationAggregator, RecentVerbAggregator
from feedmill.errors import BatchError, FeedmillError
from feedmill.fanout import Fanout, Fanouts, FanoutStatus, FanoutTimeout
from feedmill.feeds import (
    Counts,
    Feed,
    Page,
    RedisAggregatedFeed,
    RedisFeed,
    RedisNotificationFeed,
    Regrouping,
    View,
    reaggregate,
)
from feedmill.feeds.new_items import NewItems
from feedmill.feeds.published import Published
from feedmill.manager import Explanation, FinishedFanout, Notification, UserFeeds, Why
from feedmill.verbs import Comment, Love, Verb
from tests.public_api import public_classes


class Rich(Activity):
    """An activity of an app's own."""

    @property
    def label(self) -> str:
        return f"thing {self.object_id}"


class Home(RedisFeed):
    key_format = "pickled:home:%(user_id)s"
    activity_class = Rich


class News(RedisAggregatedFeed):
    key_format = "pickled:news:%(user_id)s"


class Notes(RedisNotificationFeed):
    key_format, count_format = "pickled:notes:%(user_id)s", "pickled:notes:%(user_id)s:count"
    activity_class = Rich


class PickledManager(Manager):
    feed_classes = {"home": Home, "news": News}
    user_feed_class = type("Own", (RedisFeed,), {"key_format": "pickled:own:%(user_id)s", "__module__": __name__})

    def get_user_follower_ids(self, user_id: Any) -> list[int]:
        return [2]


MANY = [Activity(n, Love, 7, extra_context={"item": n}) for n in range(40)]


@pytest.fixture(autouse=True)
def _app() -> None:
    """Feedmill's own Celery app."""
    configure(celery_app="feedmill.tasks:app")


def filled() -> None:
    """The feeds of user 1."""
    for feed_class in (Home, News, Notes):
        feed_class(1).add_many([*MANY, Activity(1, Comment, 8, 9)])
    Notes(1).mark(Notes(1)[:1])


#: How each kind of value is come by.
VALUES: dict[type, Callable[[], list[Any]]] = {
    NewItems: lambda: [NewItems(3)],
    Published: lambda: [Published(None), Published("ann", Counts(1, 2, 3))],
    Activity: lambda: [Activity(1, Love, 7), MANY[0], Home(1)[0], Home(1)[5], News(1)[1].last_activity],
    AggregatedActivity: lambda: [
        AggregatedActivity("g", MANY),
        *News(1)[:],
        *Notes(1)[:],
        *RecentVerbAggregator().aggregate(MANY),
    ],
    Page: lambda: [Home(1).page(3), News(1).page(1), Notes(1).page(2), News(1).actors(News(1)[1], 10)],
    Counts: lambda: [Notes(1).get_denormalized_counts()],
    Regrouping: lambda: [reaggregate(Notes(1), NotificationAggregator), reaggregate(News(1), NotificationAggregator)],
    Fanout: lambda: [PickledManager().add_activity(MANY[0])],
    Fanouts: lambda: [PickledManager().add_activities(MANY[:2])],
    FanoutStatus: lambda: [PickledManager().add_activity(MANY[0]).status()],
    FinishedFanout: lambda: [FinishedFanout("k", "f", "dead", "add", 2, 1, 500, 3, 0, "d", "why")],
    Notification: lambda: [Notification("k", 7, Home(1)[5], "g", MANY[0].time)],
    Explanation: lambda: [*PickledManager().explain(2, MANY[0])],
    UserFeeds: lambda: [PickledManager().get_feeds(1)],
    Feed: lambda: [Home(1), News(1), Notes(1)],
    View: lambda: [Home(1).filter(verb=Love), Notes(1).unseen(), News(1).order_by("activity_id")],
    Priority: lambda: [*Priority],
    Why: lambda: [*Why],
}
#: Public classes that are no values: what an app derives from or runs, protocols of storages, and what is about processes.
OTHERS = (Manager, BaseAggregator, Verb, FeedmillError)


def looked_at(value: Any, depth: int = 4) -> Any:
    """Everything that can be seen of *value* without I/O, which is what it is compared by; seeing it may fill caches."""
    if depth == 0 or value is None or isinstance(value, (str, bytes, int, float, type, enum.Enum)):
        return value
    if isinstance(value, dict):
        return {key: looked_at(each, depth - 1) for key, each in value.items()}
    if isinstance(value, (list, tuple, Fanouts)):
        return [looked_at(each, depth - 1) for each in value]
    if isinstance(value, (Activity, AggregatedActivity)):
        names = [name for name in dir(value) if name[0] != "_" and not callable(getattr(type(value), name, None))]
        return {name: looked_at(getattr(value, name), depth - 1) for name in names}
    if isinstance(value, (Feed, View)):
        return type(value), value.user_id, repr(value)
    if dataclasses.is_dataclass(value):
        fields = [field.name for field in dataclasses.fields(value)]
        return {name: looked_at(getattr(value, name), depth - 1) for name in fields}
    if hasattr(value, "items") and not callable(value.items):
        return looked_at(value.items, depth - 1)
    return dict(value) if hasattr(value, "keys") else repr(value)


@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda value: pickle.loads(pickle.dumps(value))])
@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.__name__)
def test_values(backend_kind: str, kind: type, copied: Callable[[Any], Any]) -> None:
    """What is pickled or copied is the same as what it was made of, and both go on being of use."""
    filled()
    for value in VALUES[kind]():
        before = copied(value)
        assert isinstance(value, kind) and type(before) is type(value)
        seen = looked_at(value)
        assert looked_at(before) == seen
        after = copied(value)
        assert looked_at(after) == seen == looked_at(copied(after))
        if not isinstance(value, (Fanout, Fanouts, Feed, UserFeeds)):
            assert before == value == after


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_page_that_was_rendered(backend_kind: str, protocol: int) -> None:
    """A page whose contexts a template looked at goes into a cache and comes back, with what the app's class adds."""
    filled()
    page = Home(1).page(25)
    assert [activity.extra_context.get("item") for activity in page.items][1] == 39
    cached = pickle.loads(pickle.dumps(page, protocol))
    assert cached == page and [each.label for each in cached.items] == [each.label for each in page.items]
    assert [each.extra_context for each in cached.items] == [each.extra_context for each in page.items]
    with pytest.raises(TypeError):
        cached.items[1].extra_context["item"] = 1
    assert cached.items[1].replace(extra_context={"item": 5}).extra_context == {"item": 5}


def test_what_an_app_attached(backend_kind: str) -> None:
    """Names of the app's own stay with the copy."""
    activity = Activity(1, Love, 7)
    activity.photo = {"url": "/7"}  # type: ignore[attr-defined]
    group = AggregatedActivity("g", [activity])
    group.title = "one"  # type: ignore[attr-defined]
    copied = pickle.loads(pickle.dumps(group))
    assert (copied.title, copied.activities[0].photo) == ("one", {"url": "/7"})


def test_all_public_values_are_tried() -> None:
    """No public class of values is forgotten above."""
    modules = ("feedmill", "feedmill.manager", "feedmill.fanout", "feedmill.feeds")
    classes = [cls for cls, name in public_classes().items() if name.rpartition(".")[0] in modules]
    assert len(classes) > 15
    assert not [cls for cls in classes if not issubclass(cls, (*VALUES, *OTHERS))]


ERRORS = [each for each in vars(feedmill.errors).values() if inspect.isclass(each) and issubclass(each, FeedmillError)]
ERRORS.append(FanoutTimeout)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_errors(error: Any) -> None:
    """An error travels between processes, with what it lists."""
    refused = [(1, MANY[0], "why")]
    made = BatchError(refused, 3, Fanouts([]), "removed") if error is BatchError else error("what is wrong")
    for copied in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert type(copied) is error and str(copied) == str(made)
        assert getattr(copied, "refused", None) == getattr(made, "refused", None)
