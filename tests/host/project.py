"""A Celery app of its own, with a manager. ``include`` is all that hosting takes."""

from __future__ import annotations

from collections.abc import Iterable

from celery import Celery
from kombu import Queue

from feedmill import Manager, settings
from feedmill.feeds import RedisFeed
from feedmill.ids import EntityId

app = Celery("project", broker=settings.current().effective_broker_url, include=["feedmill.tasks"])
app.conf.accept_content = ["json", "msgpack"]
app.conf.task_queues = [Queue("fanout.high"), Queue("fanout.low")]


class Home(RedisFeed):
    key_format = "host:home:%(user_id)s"


class Own(RedisFeed):
    key_format = "host:own:%(user_id)s"


class HostManager(Manager):
    feed_classes = {"home": Home}
    user_feed_class = Own

    def get_user_follower_ids(self, user_id: EntityId) -> Iterable[EntityId]:
        """Three people."""
        return [1, 2, 3]
