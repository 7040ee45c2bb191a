"""A server whose settings are safe, for tests that are about something else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

import feedmill
from tests.doctor.fixtures import fill


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    """A client of the private server, which saves, with feeds in it."""
    client = redis.Redis.from_url(redis_url)
    client.config_set("save", "3600 1")
    feedmill.configure(celery_app="feedmill.tasks:app")
    fill()
    yield client
    client.config_set("save", "")
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("appendonly", "no")
    client.close()
