"""The dicts of activities and groups: their exact shape, which is a promise, and that the json module takes them."""

from __future__ import annotations

import datetime as dt
import json
import math
import uuid
from typing import Any

import pytest

from feedmill import Activity, AggregatedActivity
from feedmill.feeds import RedisNotificationFeed
from feedmill.verbs import Add, Love
from tests.feeds.samples import Home, News, Notes

NOON = dt.datetime(2024, 5, 1, 12, tzinfo=dt.timezone.utc)
PHOTO = uuid.UUID(int=7)
LOVE = {"id": 3, "name": "love", "past_tense": "loved"}


def as_json(value: Any) -> Any:
    """*value* through the json module, strictly."""
    return json.loads(json.dumps(value, allow_nan=False))


def love(actor: Any, minutes: int = 0, **context: Any) -> Activity:
    return Activity(actor, Love, PHOTO, target=9, time=NOON + dt.timedelta(minutes=minutes), extra_context=context)


def test_an_activity() -> None:
    """All that is said of an activity, in the order of its keys."""
    activity = love("ann", title="A cat")
    assert list(activity.to_dict().items()) == [
        ("id", activity.id),
        ("actor_id", "ann"),
        ("verb", LOVE),
        ("object_id", "00000000-0000-0000-0000-000000000007"),
        ("target_id", 9),
        ("time", "2024-05-01T12:00:00.000000+00:00"),
        ("extra_context", {"title": "A cat"}),
    ]
    assert as_json(activity.to_dict()) == activity.to_dict()


def test_an_activity_without_more() -> None:
    """No target is None, no context an empty dict; ints stay ints, and the time is UTC whatever it was given in."""
    kyiv = dt.timezone(dt.timedelta(hours=3))
    found = Activity(2**64 - 1, Add, -5, time=NOON.astimezone(kyiv).replace(microsecond=1)).to_dict()
    assert (found["actor_id"], found["object_id"], found["target_id"]) == (2**64 - 1, -5, None)
    assert found["extra_context"] == {}
    assert found["time"] == "2024-05-01T12:00:00.000001+00:00"
    assert dt.datetime.fromisoformat(found["time"]).utcoffset() == dt.timedelta(0)


def test_whatever_a_context_holds() -> None:
    """Each value that a context may hold has one form; nothing of it is left to the json module."""
    context = {
        "plain": [1, 2.5, "ü", True, None, -(2**63), 2**64 - 1],
        "bytes": b"\x00\xff",
        "uuid": PHOTO,
        "time": dt.datetime(2024, 1, 1, 3, tzinfo=dt.timezone(dt.timedelta(hours=3))),
        "no number": [math.nan, math.inf, -math.inf],
        "deep": {"in": [{"in": (PHOTO, b"a")}]},
        "keys": {7: "int", 1.5: "float", True: "true", None: "null", b"b": "bytes", PHOTO: "uuid", NOON: "time"},
    }
    expected = {
        "plain": [1, 2.5, "ü", True, None, -(2**63), 2**64 - 1],
        "bytes": "AP8=",
        "uuid": str(PHOTO),
        "time": "2024-01-01T00:00:00.000000+00:00",
        "no number": [None, None, None],
        "deep": {"in": [{"in": [str(PHOTO), "YQ=="]}]},
        "keys": {
            **{"7": "int", "1.5": "float", "true": "true", "null": "null", "Yg==": "bytes"},
            **{str(PHOTO): "uuid", "2024-05-01T12:00:00.000000+00:00": "time"},
        },
    }
    found = love(1, **context).to_dict()["extra_context"]
    assert found == expected == as_json(found)


def group_of(members: list[Activity], **more: Any) -> list[tuple[str, Any]]:
    """What is said of the group of *members*, and *more*."""
    return list(
        {
            "group": "loves",
            "verb": LOVE,
            "activity_count": 2,
            "actor_count": 2,
            "actor_ids": ["bob", 1],
            "object_ids": [str(PHOTO)],
            "created_at": "2024-05-01T12:00:00.000000+00:00",
            "updated_at": "2024-05-01T12:01:00.000000+00:00",
            "is_seen": False,
            "is_read": False,
            "seen_at": None,
            "read_at": None,
            "revision": None,
            "activities": [member.to_dict() for member in members],
            **more,
        }.items()
    )


def test_a_group() -> None:
    """All that is said of a group, in the order of its keys."""
    members = [love(1), love("bob", 1, note="nice")]
    group = AggregatedActivity("loves", members)
    assert list(group.to_dict().items()) == group_of(members)
    assert as_json(group.to_dict()) == group.to_dict()


@pytest.mark.parametrize("feed_class", [News, Notes])
def test_a_stored_group(backend_kind: str, feed_class: Any) -> None:
    """A group that was read from a feed says the same, with exact counts beyond what it holds."""
    members = [love(1), love("bob", 1, note="nice")]
    feed = feed_class(1)
    feed.add_many(members)
    (group,) = feed[:]
    assert list(group.to_dict().items()) == group_of(members, group=group.group, revision=group.revision)
    assert (group.revision is None) == (feed_class is News)
    feed.add_many(love(number, 2) for number in range(100, 140))
    found = feed[0].to_dict()
    assert (found["activity_count"], found["actor_count"], len(found["activities"])) == (42, 42, 15)
    assert found["actor_ids"][0] == found["activities"][-1]["actor_id"]
    assert as_json(found) == found


def test_seen_and_read(backend_kind: str) -> None:
    """A notification says whether it was seen and read, and when; as it changes, that is over."""
    feed = Notes(1)
    feed.add(love(1))
    feed.mark_all(seen=True, read=True)
    found = feed[0].to_dict()
    assert (found["is_seen"], found["is_read"]) == (True, True)
    for name in ("seen_at", "read_at"):
        at = dt.datetime.fromisoformat(found[name])
        assert abs(at - dt.datetime.now(dt.timezone.utc)) < dt.timedelta(minutes=5)
    feed.add(love(2))
    found = feed[0].to_dict()
    assert (found["is_seen"], found["is_read"], found["seen_at"], found["read_at"]) == (False, False, None, None)


def test_a_group_that_shows_nothing() -> None:
    """Without members there is no verb and no time, and no error."""
    found = AggregatedActivity("none").to_dict()
    assert (found["verb"], found["activities"], found["created_at"], found["updated_at"]) == (None, [], None, None)


def test_a_class_of_the_apps_own(backend_kind: str) -> None:
    """An activity class that says more says it in groups as well."""

    class Photo(Activity):
        def to_dict(self) -> dict[str, Any]:
            return {**super().to_dict(), "url": f"/photos/{self.object_id}"}

    class Shelf(RedisNotificationFeed):
        key_format = "json:shelf:%(user_id)s"
        count_format = "json:shelf:%(user_id)s:count"
        activity_class = Photo

    Shelf(1).add(love(1))
    assert Shelf(1)[0].to_dict()["activities"][0]["url"] == f"/photos/{PHOTO}"


def test_a_page(backend_kind: str) -> None:
    """What a feed gives is what a web app answers with."""
    feed = Home(1)
    feed.add_many([love(1), love(2, 1)])
    page = feed.page(1)
    assert as_json([item.to_dict() for item in page.items]) == [love(2, 1).to_dict()]
