"""What other modules ask of a feed class instead of its kind: each kind answers for itself."""

from __future__ import annotations

from typing import Any

import pytest

from feedmill import Activity, group_names
from feedmill.feeds import AggregatedFeed, Feed, NotificationFeed
from feedmill.feeds.removal import remove_matching
from feedmill.records import ActivitySerializer
from feedmill.storage.registry import backend
from feedmill.verbs import Love
from tests.feeds.samples import in_group, on_day

KINDS = [Feed, AggregatedFeed, NotificationFeed]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> Any:
    """A class of each kind, with a short feed."""
    return type(
        f"Short{request.param.__name__}", (request.param,), {"key_format": "kinds:%(user_id)s", "max_length": 4}
    )


def test_all_members(kind: Any) -> None:
    """Every member is listed with the name of its group, which is empty in a flat feed, and can be removed by its id."""
    activities = [in_group(number, 2) for number in range(1, 4)]
    kind(1).add_many(activities)
    members = backend().run(kind.all_members(1))
    assert {member.raw_id for _, member in members} == {each.raw_id for each in activities}
    assert {group for group, _ in members} == {kind.group_name_of(activities[0]) or b""}
    gone = activities[1]
    assert backend().run(remove_matching(kind, 1, gone.raw_id.__eq__, wait=1)) == 1
    assert {member.raw_id for _, member in backend().run(kind.all_members(1))} == {
        each.raw_id for each in activities if each != gone
    }
    assert backend().run(remove_matching(kind, 1, gone.raw_id.__eq__, lambda actor: True, wait=1)) == 0


class WithoutContext(ActivitySerializer):
    """Reads bodies in a way of its own."""

    def loads(self, data: bytes) -> Activity:
        return super().loads(data).replace(extra_context=None)


def test_a_serializer_of_an_apps_own() -> None:
    """A page is read by the serializer of the class, also where bodies could be told to be sound without it."""

    class Plain(Feed):
        key_format = "kinds:%(user_id)s"
        activity_serializer = WithoutContext

    Plain(1).add(Activity(1, Love, 2, extra_context={"a": 1}))
    assert [dict(each.extra_context) for each in Plain(1)] == [{}]


def test_group_name_of(kind: Any) -> None:
    """A flat feed has no groups; elsewhere the aggregator names them."""
    names = {kind.group_name_of(in_group(number, 2)) for number in (1, 2)}
    if issubclass(kind, AggregatedFeed):
        assert names == {group_names.encode(kind.get_aggregator().get_group(in_group(1, 2)))}
    else:
        assert names == {None}


def test_key_attributes(kind: Any) -> None:
    """The formats name all attributes that spell keys, and only a flat timeline and a count are alone under theirs."""
    formats = {
        Feed: {"key_format": False},
        AggregatedFeed: {"key_format": True},
        NotificationFeed: {"key_format": True, "count_format": False},
    }
    assert kind.key_attributes() == formats[kind.__base__]


def test_rebuild_size(kind: Any) -> None:
    """A rebuild of a flat feed looks at as many activities as it shows; groups hold any number."""
    grouped = issubclass(kind, AggregatedFeed)
    assert [kind.rebuild_size(limit) for limit in (1, 5)] == ([1, 5] if grouped else [4, 5])


def test_pending_writes(kind: Any) -> None:
    """Only what is merged under a lock can be left to the holder of one."""
    assert kind.may_have_pending_writes == issubclass(kind, AggregatedFeed)


def test_why_trimmed(kind: Any) -> None:
    """A full feed has no place for what is older than all it holds; one with room, and what is newer, get no reason."""

    def why(activity: Any) -> str:
        members = backend().run(kind.all_members(1))
        return str(backend().run(kind.why_trimmed(1, members, activity)))

    kind(1).add_many([on_day(number) for number in range(3, 6)])
    assert why(on_day(1)) == ""
    kind(1).add(on_day(6))
    assert why(on_day(1)) == "it is older than all of the 4 that are kept"
    assert why(on_day(7)) == ""
