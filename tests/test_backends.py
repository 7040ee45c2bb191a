"""A backend is one object, found by the scheme of the URL: ours, or one that another package registers."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from typing import Any

import pytest

import feedmill
from feedmill import settings
from feedmill.errors import DeclarationError, SettingsError
from feedmill.feeds import Feed, RedisFeed, RedisNotificationFeed
from feedmill.storage import registry
from feedmill.storage.memory import MemoryActivityStorage, MemoryTimelineStorage
from feedmill.storage.memory.backend import MemoryBackend
from feedmill.storage.redis import RedisActivityStorage, RedisTimelineStorage
from feedmill.storage.registry import backend, register_backend
from tests.feeds.samples import on_day


class Counting(MemoryBackend):
    """A backend of another package."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url, self.operations = url, 0

    def run(self, operation: Any) -> Any:
        self.operations += 1
        return super().run(operation)


@pytest.fixture
def scheme(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A scheme that nobody has registered, and that is forgotten again."""
    monkeypatch.setattr(registry, "_factories", dict(registry._factories))
    monkeypatch.setattr(settings, "backend_schemes", set(settings.backend_schemes))
    yield "elsewhere"
    registry._made.cache_clear()


class Mine(RedisTimelineStorage):
    """A storage that an app has changed."""


class Changed(RedisFeed):
    timeline_storage_class = Mine


class Here(Feed):
    key_format = "here:%(user_id)s"


def test_a_registered_backend_is_used(scheme: str) -> None:
    """Feeds that name Redis live on whatever backend is in force, which is made once, with the URL."""
    register_backend(scheme, Counting)
    feedmill.configure(redis_url=f"{scheme}://somewhere")
    found: Any = backend()
    assert type(found) is Counting and found.url == f"{scheme}://somewhere" and backend() is found
    for feed in (RedisFeed(1), RedisNotificationFeed(1)):
        assert feed.add(on_day(1)) == 1 and len(feed[:]) == 1
    assert found.operations >= 4


def test_an_unknown_scheme_is_refused() -> None:
    """The error names the schemes that are known, and what to do about one that is not."""
    with pytest.raises(
        SettingsError, match=r"'nowhere://x'; use redis://.*memory://.*unix://.*first install or import"
    ):
        feedmill.configure(redis_url="nowhere://x")


def test_an_installed_package_needs_no_call(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point is as good as a registration."""
    point = importlib.metadata.EntryPoint(scheme, f"{__name__}:Counting", "feedmill.backends")
    monkeypatch.setattr(
        importlib.metadata,
        "entry_points",
        lambda *, group, name: [point] if (group, name) == ("feedmill.backends", scheme) else [],
    )
    feedmill.configure(redis_url=f"{scheme}://")
    assert isinstance(backend(), Counting)


@pytest.mark.parametrize("taken", ["redis", "memory"])
def test_a_scheme_has_one_factory(taken: str) -> None:
    """A scheme that has another factory is refused."""
    with pytest.raises(DeclarationError, match=rf"{taken}:// are made by .*use another scheme"):
        register_backend(taken, Counting)


def test_a_server_that_is_no_broker(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers in other processes need a broker, and a server that Celery does not know is none."""
    monkeypatch.setattr(Counting, "in_process", False)
    register_backend(scheme, Counting)
    feedmill.configure(redis_url=f"{scheme}://x")
    with pytest.raises(SettingsError, match=r"BROKER_URL is empty, and elsewhere:// is no broker; use redis://"):
        backend()
    feedmill.configure(broker_url="redis://127.0.0.1:1/0")
    assert backend().in_process is False


def test_configure_switches_the_backend(redis_url: str) -> None:
    """The URL that is in force decides at each call, and what was made is found again."""
    there = backend()
    feedmill.configure(redis_url="memory://")
    here = backend()
    assert here.in_process and not there.in_process
    feedmill.configure(redis_url=redis_url)
    assert backend() is there


def test_storages_of_feed_classes(backend_kind: str) -> None:
    """A class of the storage in force, and one of another, is the backend's own; a subclass is used; memory stays here."""
    on_server = backend_kind == "redis"
    assert RedisFeed.timeline() is backend().flat and RedisNotificationFeed.timeline() is backend().groups
    assert RedisFeed.activities() is backend().activities
    assert type(RedisFeed.activities()) is (RedisActivityStorage if on_server else MemoryActivityStorage)
    assert type(Changed.timeline()) is (Mine if on_server else MemoryTimelineStorage)
    assert Changed.timeline() is Changed.timeline()
    assert type(Here.timeline()) is MemoryTimelineStorage and type(Here.activities()) is MemoryActivityStorage
    assert Here(1).add(on_day(1)) == 1 and len(Here(1)) == 1
