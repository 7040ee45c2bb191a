"""Bytes that went bad in Redis: each byte of each part in turn. What was in the bad part is lost, nothing else is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from feedmill import group_names
from feedmill.errors import CorruptRecord
from feedmill.grouping import hydration
from feedmill.ids import ID_SIZE
from feedmill.keys import GROUPS, activity_key
from feedmill.storage.redis.timelines import STATE
from feedmill.storage.registry import backend
from tests.feeds.samples import Home, News, Notes, held, in_group, on_day

Put = Callable[[bytes], Any]
#: What the damage is done to, what must be shown all the same, and what is delivered afterwards.
VICTIM, SAFE, NEW = on_day(2), on_day(3), on_day(9)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of the private server; what feeds log of damage is another test's matter."""
    client = redis.Redis.from_url(redis_url)
    logging.disable(logging.CRITICAL)
    yield client
    logging.disable(logging.NOTSET)
    client.close()


def variants(good: bytes) -> Iterator[bytes]:
    """*good* with each of its bytes changed, cut short everywhere, with more behind it, and with nothing of it left."""
    for at in range(len(good)):
        for byte in {good[at] ^ 1, good[at] ^ 0x80, 0xC1}:
            yield good[:at] + bytes((byte,)) + good[at + 1 :]
        yield good[:at]
    yield good + b"\xc1"
    yield b"\x91" * 5000


def filled(feed_class: Any) -> Any:
    """A feed of user 1 with a group of each kind: large enough for overflow, of one, and of one."""
    feed_class.insert_activities([NEW])
    feed_class(1).add_many([VICTIM, SAFE, *(in_group(number) for number in range(35))])
    return feed_class(1)


def looked_at(feed: Any) -> list[Any]:
    """The activities that readers see, who read the feed in all ways there are."""
    shown = held(feed[:])
    assert len(feed) >= 1
    page = feed.page(1)
    walked = held(page.items)
    while page.next:
        page = feed.page(1, after=page.next)
        walked += held(page.items)
    if not isinstance(feed, Home):  # a flat timeline is one record: pages of it are found by its order
        assert set(walked) == set(shown)
    feed.contains(VICTIM)
    feed.contains(SAFE)
    if isinstance(feed, Notes):
        assert 0 <= feed.count_unseen() <= len(feed)
    return shown


def survives(client: redis.Redis, feed_class: Any, good: bytes, put: Put) -> None:
    """Put every variant of *good*: others are shown, and what is delivered arrives and is shown with them."""
    feed = feed_class(1)
    parts = {key: client.dump(key) for key in client.scan_iter("fm:test:*")}
    for bad in variants(good):
        put(bad)
        assert SAFE in looked_at(feed), bad
        backend().run(feed_class.deliver([1, 2], [NEW]))
        shown = looked_at(feed)
        assert SAFE in shown and NEW in shown, bad
        assert looked_at(feed_class(2)) == [NEW]
        client.delete(*client.keys("fm:test:*"))
        for key, dump in parts.items():
            client.restore(key, 0, dump)


def fields(client: redis.Redis, feed: Any) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = client.hgetall(feed.key + GROUPS)
    return found


@pytest.mark.parametrize("feed_class", [News, Notes])
def test_a_bad_record(client: redis.Redis, feed_class: Any) -> None:
    """A record: the feed's other groups are read and written."""
    feed = filled(feed_class)
    group = next(name for name in fields(client, feed) if b"2024-01-03" in group_names.spelled(name))
    good = fields(client, feed)[group]
    survives(client, feed_class, good, lambda bad: client.hset(feed.key + GROUPS, group, bad))


@pytest.mark.parametrize("feed_class", [News, Notes])
def test_a_bad_record_with_a_overflow(client: redis.Redis, feed_class: Any) -> None:
    """The front of a large group's record, where the numbers stand that only it knows."""
    feed = filled(feed_class)
    (group,) = [name for name, record in fields(client, feed).items() if name[:1] != b"\0" and record[0] & 1]
    good = fields(client, feed)[group]
    survives(client, feed_class, good[:45], lambda bad: client.hset(feed.key + GROUPS, group, bad + good[45:]))


@pytest.mark.parametrize("feed_class", [News, Notes])
def test_a_bad_overflow(client: redis.Redis, feed_class: Any) -> None:
    """One actor's overflow members: the group itself goes on, and takes more in."""
    feed = filled(feed_class)
    (overflow,) = client.keys(f"{feed.key}{GROUPS}:*")
    actor, good = next((actor, data) for actor, data in client.hgetall(overflow).items() if data)

    def put(bad: bytes) -> None:
        new = [in_group(50), in_group(3), in_group(51, 1)]
        client.hset(overflow, actor, bad)
        feed_class.insert_activities(new)
        backend().run(feed_class.deliver([1], new))
        (group,) = [each for each in feed[:] if each.activity_count > 20]
        assert in_group(51, 1) in group.last_activities
        more = feed.actors(group.group, limit=50).items
        assert len(more) > 30

    survives(client, feed_class, good, put)


@pytest.mark.parametrize("field", [STATE, "\0i"], ids=["state", "pending"])
def test_a_bad_state_or_pending_writes(client: redis.Redis, field: str) -> None:
    """What a notification feed knows of itself, and what was left for its writer: all groups are read and written."""
    feed = filled(Notes)
    feed.mark_all()
    feed.add(on_day(4))
    good = client.hget(feed.key + GROUPS, field) or b"\x92\xc3\xc4\x0b" + on_day(4).pack()
    survives(client, Notes, good, lambda bad: client.hset(feed.key + GROUPS, field, bad))


def test_a_bad_count(client: redis.Redis) -> None:
    """The denormalised count: the feed is read, and who asks for a count that is none is told what to do."""
    feed = filled(Notes)

    def put(bad: bytes) -> None:
        client.set(feed.count_key, bad)
        said = ""
        try:
            count = feed.get_denormalized_count()
        except CorruptRecord as error:
            said = str(error)
        assert "feedmill doctor --fix counts again" in said or count >= 0

    survives(client, Notes, client.get(feed.count_key) or b"", put)


@pytest.mark.parametrize("feed_class", [Home, News])
def test_a_bad_body(client: redis.Redis, feed_class: Any) -> None:
    """An activity's body: the activity is left out; every other is shown."""
    filled(feed_class)
    key = activity_key(VICTIM.raw_id)
    survives(client, feed_class, client.get(key) or b"", lambda bad: client.set(key, bad))


def test_a_bad_flat_timeline(client: redis.Redis) -> None:
    """One entry of a flat timeline: the feed shows those beside it."""
    Home.insert_activities([NEW])
    feed = Home(1)
    feed.add_many([on_day(1), VICTIM, SAFE])
    text = client.get(feed.key) or b""

    def put(bad: bytes) -> None:
        client.set(feed.key, text[:ID_SIZE] + bad + text[2 * ID_SIZE :])

    survives(client, Home, text[ID_SIZE : 2 * ID_SIZE], put)


@pytest.mark.parametrize("feed_class", [Home, News, Notes])
def test_it_is_told_once(redis_url: str, feed_class: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What readers leave out is logged, with where to look: once, however often the page is read."""
    client, feed = redis.Redis.from_url(redis_url), filled(feed_class)
    hydration.log_skipped.cache_clear()
    if feed_class is Home:
        client.set(activity_key(VICTIM.raw_id), b"\xc1")
    else:
        client.hset(
            feed.key + GROUPS,
            next(name for name in fields(client, feed) if b"2024-01-03" in group_names.spelled(name)),
            b"\xc1",
        )
    for _ in range(3):
        assert VICTIM not in held(feed[:])
    (line,) = [record.getMessage() for record in caplog.records if record.name == hydration.__name__]
    assert "is left out" in line and "feedmill doctor" in line
    client.close()
