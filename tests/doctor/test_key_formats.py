"""Whatever formats feeds are declared with: they are refused, or no key is two feeds', and the doctor knows whose it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import feedmill
from feedmill import Manager, keys, registry
from feedmill.doctor import examine
from feedmill.doctor.key_map import KeyMap
from feedmill.errors import DeclarationError
from feedmill.feeds import RedisAggregatedFeed, RedisFeed, RedisNotificationFeed
from feedmill.manager.feed_keys import Format
from feedmill.storage.registry import backend
from tests.doctor.fixtures import examined
from tests.feeds.samples import in_group, on_day

FLAT, GROUPS, NOTES = RedisFeed, RedisAggregatedFeed, RedisNotificationFeed
#: A key of each kind that is no feed's.
OWN: dict[str, Callable[[], str]] = {
    "body": lambda: keys.activity_key(b"0123456789abcdef").decode(),
    "fanout_record": lambda: keys.fanout_record_key("Manager:name"),
    "chunks": lambda: keys.chunks_key("Manager:name"),
    "due": lambda: keys.due_key("Manager"),
    "wakeup": lambda: keys.wakeup_key("Manager"),
    "pace": lambda: keys.bucket_key("Manager", 5),
    "left": lambda: keys.pending_key("feed:%(user_id)s"),
    "notices": lambda: keys.notified_users_key("Manager", b"0123456789abcdef"),
    "set aside": lambda: keys.set_aside_key("feed:{1}"),
}
BEGINNINGS = [name().removeprefix("fm:").partition(":")[0] for name in OWN.values()]


@pytest.fixture(autouse=True)
def _nobody(lasting_wakeups: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No manager is known yet."""
    monkeypatch.setattr(registry, "_managers", {})
    feedmill.configure(celery_app="feedmill.tasks:app")


def declare(kind: Any, key_format: str, count_format: str = "") -> Any:
    body = {"key_format": key_format, "max_length": 5, "__module__": __name__}
    if kind is NOTES:
        body["count_format"] = count_format or f"counts:{key_format}"
    return type("Some", (kind,), body)


def manage(name: str, *feeds: Any) -> Any:
    """A manager of *feeds*, the last of which may be a notification feed."""
    body: dict[str, Any] = {"feed_classes": {f"feed{n}": feed for n, feed in enumerate(feeds) if not feed_counts(feed)}}
    body["notification_feed_class"] = next(filter(feed_counts, feeds), None)
    return type(name, (Manager,), body)


def feed_counts(feed: Any) -> bool:
    return issubclass(feed, RedisNotificationFeed)


@pytest.mark.parametrize("own", OWN.values(), ids=OWN)
@pytest.mark.parametrize("kind", [FLAT, GROUPS, NOTES])
def test_keys_like_our_own(own: Callable[[], str], kind: Any) -> None:
    """A feed whose keys begin as those that Feedmill has for itself is refused by name; so is a count."""
    beginning = own().removeprefix("fm:").partition(":")[0] + ":"
    with pytest.raises(
        DeclarationError, match=f"key_format '{beginning}.*begins like keys that Feedmill has for itself"
    ):
        declare(kind, beginning + "%(user_id)s")
    with pytest.raises(DeclarationError, match="count_format .*begins like keys"):
        declare(NOTES, "some:%s", beginning + "more:%(user_id)s")
    assert declare(kind, f"{beginning[:-1]}lines:%(user_id)s")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((FLAT, "x:%(user_id)s"), (GROUPS, "x:%(user_id)s")),
        ((FLAT, "x:%(user_id)s"), (FLAT, "x:%s")),
        ((GROUPS, "x:%(user_id)s"), (FLAT, "x:%(user_id)s:groups")),
        ((GROUPS, "x:%(user_id)s"), (FLAT, "x:%(user_id)s:groups:tea")),
        ((GROUPS, "x:%(user_id)s:groups"), (GROUPS, "x:%(user_id)s")),
        ((NOTES, "x:%(user_id)s", "x:%(user_id)s:count"), (FLAT, "x:%(user_id)s:count")),
        ((NOTES, "x:%(user_id)s", "x:%(user_id)s:groups"), None),
    ],
)
def test_keys_of_two_feeds(first: Any, second: Any) -> None:
    """Feeds of which a key of one can be the other's are refused, in one manager and in two, whichever comes first."""
    if second is None:
        with pytest.raises(DeclarationError, match="can make the same keys"):
            manage("One", declare(*first))
        return
    words = "(share the|can make the same keys).* would overwrite each other"
    with pytest.raises(DeclarationError, match=words):
        manage("One", *sorted((declare(*first), declare(*second)), key=feed_counts))
    for one, other in ((first, second), (second, first)):
        registry._managers.clear()
        manage("One", declare(*one))
        if first[0] is second[0] is FLAT:  # what is stored alike is one feed
            assert manage("Other", declare(*other))
            continue
        with pytest.raises(DeclarationError, match=words):
            manage("Other", declare(*other))


def test_what_does_not_meet() -> None:
    """Formats that only look alike are taken, and two managers may have one feed."""
    feeds = [
        declare(FLAT, "x:%s"),
        declare(GROUPS, "x:%s:group"),
        declare(FLAT, "x:%s:groupsies"),
        declare(FLAT, "%s:x"),
    ]
    assert manage("One", *feeds) and manage("Two", *feeds)


def test_many_feeds(memory: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only feeds whose keys begin alike are compared, when managers are declared and when the doctor asks whose a key is."""
    compared: list[tuple[str, str]] = []
    meets = Format.meets
    monkeypatch.setattr(
        Format, "meets", lambda one, other: compared.append((one.text, other.text)) or meets(one, other)
    )
    for number in range(100):
        manage(f"Manager{number}", declare(FLAT, f"home{number}:%s"), declare(NOTES, f"notes{number}:%s"))
    manage("Other", declare(FLAT, "home7:%s:other"))
    found = KeyMap().of(b"fm:notes7:{1}")
    assert found and found.feed_class.key_format == "notes7:%s"
    assert compared.count(("home7:%s:other", "home7:%s")) == 2
    assert len(compared) < 4 * 100  # else those of one manager, three each


def test_a_key_of_two_owners_is_nobodys(redis_url: str) -> None:
    """Where formats were made to meet after they were declared, what is stored under them is not touched."""
    flat, groups = declare(FLAT, "x:%s"), declare(GROUPS, "y:%s")
    manage("One", flat)
    manage("Two", groups)
    groups.key_format = "x:%s"
    groups(1).add(on_day(1))
    before = dump(redis_url)
    assert KeyMap().of(b"fm:x:{1}") is None and KeyMap().of(b"fm:x:{1}:groups") is None
    report = examine(fix=True)
    assert not {kind for kind in report.found if not kind.startswith("unsafe")}
    assert report.unknown_keys == 2
    assert dump(redis_url) == before


def dump(url: str) -> dict[bytes, Any]:
    """All that is stored; the order of a hash is none."""
    client: Any = redis.Redis.from_url(url)
    readers = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }
    return {key: readers[client.type(key)](key) for key in client.scan_iter()}


PIECES = st.sampled_from([*BEGINNINGS, "feed", "x", "", "deadlines", ":", "groups", "count"])
FORMATS = st.builds(
    lambda before, after: f"{':'.join(before)}%(user_id)s{after}",
    st.lists(PIECES, min_size=1, max_size=3),
    st.sampled_from(["", ":groups", ":groups:7", ":count", ":groups:groups", ":group", "x"]),
)
USERS = st.sampled_from([7, "7x", "a:b", "{7}", "50%", "x}:groups", "abcdefghijklmn", "groups", "é", "%7D"])


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(
    feeds=st.lists(st.tuples(st.sampled_from([FLAT, GROUPS]), FORMATS), min_size=1, max_size=3),
    notes=st.lists(st.tuples(FORMATS, FORMATS), max_size=2),
    users=st.lists(USERS, min_size=1, max_size=3, unique_by=str),
)
def test_refused_or_healthy(redis_url: str, feeds: Any, notes: Any, users: Any) -> None:
    """Whatever formats feeds have: they are refused, or the doctor finds nothing in what is healthy, and changes nothing."""
    registry._managers.clear()
    client = redis.Redis.from_url(redis_url)
    client.flushall()
    client.config_set("save", "3600 1")
    try:
        first = [declare(kind, key_format) for kind, key_format in feeds]
        wakeups = [declare(NOTES, *each) for each in notes]
        manage("One", *first[:2], *wakeups[:1])
        manage("Two", *first[2:], *wakeups[1:])
    except DeclarationError:
        return
    for user in users:
        for feed in (*first, *wakeups):
            feed(user).add_many([in_group(n) for n in range(40)] + [on_day(n) for n in range(2, 8)])
    backend().run(backend().journal.open("One", "One:f0", "add", on_day(6).raw_id))
    before = dump(redis_url)
    held = [[len(feed(user)) for user in users] for feed in (*first, *wakeups)]
    assert examined() == {}
    assert examined(fix=True) == {}
    assert dump(redis_url) == before
    assert held == [[5 for user in users] for feed in (*first, *wakeups)]
