"""What the workers of tests/test_traced_workers.py import: a manager, and spans that go to the collector of the test."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from feedmill import Manager
from feedmill.contrib import opentelemetry
from feedmill.feeds import RedisFeed, RedisNotificationFeed

#: Variables: where the collector is, after how many milliseconds spans are sent, whether Celery is instrumented, and a file that says
#: that the followers of "slow" are being listed, which takes for ever as long as it is not there.
COLLECTOR, DELAY, CELERY, BEGUN = "TEST_COLLECTOR", "TEST_DELAY", "TEST_CELERY", "TEST_BEGUN"
#: What the name of the file ends in that says that a hook was called.
TOLD = ".told"
#: Followers, in chunks of 20.
CROWD, CHUNK = 200, 20


class TracedHome(RedisFeed):
    key_format = "exported:home:%(user_id)s"


class TracedNotes(RedisNotificationFeed):
    key_format = "exported:notes:%(user_id)s"
    count_format = "exported:notes:%(user_id)s:count"


class TracedManager(Manager):
    """Whose followers are known, and who has a hook."""

    feed_classes = {"home": TracedHome}
    notification_feed_class = TracedNotes
    fanout_chunk_size = CHUNK

    def get_user_follower_ids(self, user_id: Any) -> Iterable[Any]:
        """Two people, or a crowd."""
        begun = os.environ[BEGUN]
        if user_id == "slow" and not os.path.exists(begun):
            open(begun, "w").close()
            time.sleep(600)
        return ["bob", "cleo"] if str(user_id).startswith("writer") else range(1000, 1000 + CROWD)

    def get_user_following_ids(self, user_id: Any) -> Iterable[Any]:
        """One."""
        return ["ann"]

    def get_recipient_ids(self, activity: Any) -> Iterable[Any]:
        """One."""
        return ["dan"]

    def on_notification(self, notifications: Any) -> None:
        """Leave a file that says that it was called."""
        open(os.environ[BEGUN] + TOLD, "w").close()


def provider_of(service: str, delay: int) -> TracerProvider:
    """A tracer provider that sends to the collector."""
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    exporter = OTLPSpanExporter(os.environ[COLLECTOR])
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=delay))
    return provider


if COLLECTOR in os.environ:
    trace.set_tracer_provider(provider_of("worker", int(os.environ[DELAY])))
    opentelemetry.install()
    if os.environ.get(CELERY):
        CeleryInstrumentor().instrument()
