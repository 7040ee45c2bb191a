"""A server whose settings are safe, for tests that are about something else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

import feedmill
from feedmill import registry
from tests.doctor.fixtures import fill


@pytest.fixture
def server(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    """A client of the private server, which saves, with feeds in it, and no managers but those of these tests."""
    theirs = {name: each for name, each in registry._managers.items() if each.__module__.startswith("tests.doctor.")}
    monkeypatch.setattr(registry, "_managers", theirs)
    client = redis.Redis.from_url(redis_url)
    client.config_set("save", "3600 1")
    feedmill.configure(celery_app="feedmill.tasks:app")
    fill()
    yield client
    client.config_set("save", "")
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("appendonly", "no")
    client.close()
