"""How often an activity, and the people whom it concerns, are packed and unpacked on the way into feeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from feedmill import msgpack_codec
from feedmill.manager import activity_bodies
from tests.fake_broker import FakeBroker, Message, arrive
from tests.manager.friends import Friends, Home, News, Notes, love

manager = Friends()


def kind(value: Any) -> str:
    """What a value of the codec is, as far as this is about it."""
    if isinstance(value, list) and len(value) in (4, 5, 6) and value[0] == love(1).microseconds:
        return "activity"
    if (
        isinstance(value, list)
        and value
        and all(type(each) is int and 0 < each < 2000 for each in value)
        and value[0] >= 20
    ):
        return "people"  # ids, or the first one and differences
    return "other"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, int]]:
    """How often activities, and lists of people, were packed and unpacked since the last call."""
    activity_bodies._recent.cache_clear()
    calls: Counter[str] = Counter()
    plain, plain_unpack = msgpack_codec._packers.pack, msgpack.unpackb

    def pack(value: Any) -> Any:
        calls[f"pack {kind(value)}"] += 1
        return plain(value)

    def unpack(data: bytes, **options: Any) -> Any:
        value = plain_unpack(data, **options)
        calls[f"unpack {kind(value)}"] += 1
        return value

    monkeypatch.setattr(msgpack_codec._packers, "pack", pack)
    monkeypatch.setattr(msgpack, "unpackb", unpack)

    def since() -> dict[str, int]:
        found = {what: count for what, count in calls.items() if what.split()[1] in ("activity", "people")}
        calls.clear()
        return found

    return since


def test_twenty_chunks(box: FakeBroker, monkeypatch: pytest.MonkeyPatch, counted: Callable[[], dict[str, int]]) -> None:
    """An activity is packed once, and unpacked once by who plans it and once by who delivers all chunks; people once a chunk."""
    monkeypatch.setattr(Friends, "edges", {(user, 1) for user in range(1000, 1200)})
    activity = love(1, text="x")
    manager.add_activity(activity)
    assert counted() == {"pack activity": 1}
    arrive(*box.messages.pop(0))
    assert counted() == {"unpack activity": 1, "pack people": 20}
    assert len(box.messages) == 20 and not any(activity.pack() in each for each in pieces(box.messages))
    box.work()
    assert counted() == {"unpack activity": 1, "unpack people": 20}
    assert all(Home(user)[:] == [activity] and News(user).count() == 1 for user in range(1000, 1200))


def pieces(messages: list[Message]) -> list[bytes]:
    """What messages hold."""
    return [each for _, args in messages for each in args if isinstance(each, bytes)]


def test_a_handful_of_followers(
    box: FakeBroker, monkeypatch: pytest.MonkeyPatch, counted: Callable[[], dict[str, int]]
) -> None:
    """In the everyday case an activity is packed by who adds it and unpacked by who delivers it; people never are."""
    monkeypatch.setattr(Friends, "edges", {(user, 1) for user in range(1000, 1005)})
    activity = love(1, target=1001, text="x")
    manager.add_activity(activity)
    assert counted() == {"pack activity": 1}
    box.work()
    assert counted() == {"unpack activity": 1}
    assert Notes(1001).count() == Home(1001).count() == News(1004).count() == 1
    counted()
    manager.remove_activity(activity.id)
    box.work()
    assert counted().get("pack activity", 0) <= 1


def test_people_who_are_named(box: FakeBroker, counted: Callable[[], dict[str, int]]) -> None:
    """Those whom ``notify`` names are packed once, for the fan-out and for whoever asks later who was notified."""
    manager.notify([20, 21, 22], love(1))
    assert counted() == {"pack activity": 1, "pack people": 1}
    box.work()
    assert counted()["unpack activity"] == 1 and [Notes(user).count() for user in (20, 21, 22)] == [1, 1, 1]


@pytest.mark.parametrize("people", [5, 200])
def test_a_body_that_is_gone(box: FakeBroker, monkeypatch: pytest.MonkeyPatch, people: int) -> None:
    """An addition whose body is gone when a worker comes writes nothing; a removal by id takes out what it can still read."""
    monkeypatch.setattr(Friends, "edges", {(user, 1) for user in range(1000, 1000 + people)})
    added = manager.add_activity(love(1))
    Home.remove_activity(love(1))
    box.work()
    assert added.status().finished and Home(1000).count() == News(1000).count() == 0
    manager.add_activity(love(2))
    box.work()
    removed = manager.remove_activity(love(2).id)
    assert Home(1000)[:] == []
    box.work()
    assert removed.status().finished and Home(1000).count() == News(1000).count() == 0


@pytest.mark.parametrize(("followers", "chunks"), [(9, 0), (10, 0), (11, 2), (20, 2)])
def test_exactly_a_chunk(box: FakeBroker, monkeypatch: pytest.MonkeyPatch, followers: int, chunks: int) -> None:
    """Who has no more followers than a chunk, exactly as many included, is served by who plans, without a message."""
    monkeypatch.setattr(Friends, "edges", {(user, 1) for user in range(1000, 1000 + followers)})
    manager.add_activity(love(1))
    arrive(*box.messages.pop(0))
    assert [name for name, _ in box.messages] == ["feedmill.deliver"] * chunks
    box.work()
    assert all(Home(user).count() == 1 for user in range(1000, 1000 + followers))
