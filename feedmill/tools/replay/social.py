"""The manager that replay and demo play through. Workers import this module; the graph comes from ``REPLAY_DIR``."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from feedmill.activity import Activity
from feedmill.feeds import Feed, NotificationFeed, RedisAggregatedFeed, RedisFeed, RedisNotificationFeed
from feedmill.ids import EntityId
from feedmill.manager import Manager
from feedmill.msgpack_codec import pack, unpack
from feedmill.verbs import Verb, register

#: The folder that holds the graph, and the manager to whose feeds is written; no settings of Feedmill.
DIR, MANAGER = "REPLAY_DIR", "REPLAY_MANAGER"
#: Groups that aggregated feeds keep: so many that a replay never drops one, and every count can be checked.
MAX_GROUPS = 10_000
#: Who is notified: followers who did something with the object in an earlier row, its owner, or nobody.
CO_ACTORS, OWNER, NOBODY = "co-actors", "owner", "none"


@register
class Listen(Verb):
    id = 1001
    infinitive = "listen"
    past_tense = "listened to"


class HomeFeed(RedisFeed):
    key_format = "replay:home:%(user_id)s"


class OwnFeed(RedisFeed):
    key_format = "replay:own:%(user_id)s"


class NewsFeed(RedisAggregatedFeed):
    key_format = "replay:news:%(user_id)s"
    max_length = MAX_GROUPS


class Notifications(RedisNotificationFeed):
    key_format = "replay:notifications:%(user_id)s"
    count_format = "replay:notifications:%(user_id)s:count"
    max_length = MAX_GROUPS


def save_graph(
    folder: Path,
    followers: Mapping[EntityId, list[EntityId]],
    rule: str,
    first: Mapping[EntityId, Mapping[EntityId, int]],
) -> None:
    """Write what workers need: followers by user, the rule of who is notified, and each object's first row by actor."""
    pairs = [[object_id, list(rows.items())] for object_id, rows in first.items()]
    (folder / "graph").write_bytes(pack([list(followers.items()), rule, pairs]))


@functools.cache
def _graph(folder: str) -> tuple[dict[EntityId, list[EntityId]], str, dict[EntityId, dict[EntityId, int]]]:
    followers, rule, first = unpack((Path(folder) / "graph").read_bytes())
    return dict(followers), rule, {object_id: dict(rows) for object_id, rows in first}


class SocialManager(Manager):
    """Home, news and notifications over the graph in ``REPLAY_DIR``."""

    name = "feedmill.tools.replay"
    feed_classes: ClassVar[Mapping[str, type[Feed]]] = {"home": HomeFeed, "news": NewsFeed}
    notification_feed_class: ClassVar[type[NotificationFeed] | None] = Notifications
    user_feed_class: ClassVar[type[Feed] | None] = OwnFeed

    def get_user_follower_ids(self, user_id: EntityId) -> list[EntityId]:
        return _graph(os.environ[DIR])[0].get(user_id, [])

    def get_recipient_ids(self, activity: Activity) -> Iterable[EntityId]:
        followers, rule, first = _graph(os.environ[DIR])
        context: Mapping[str, Any] = activity.extra_context
        if rule == OWNER:
            return [context["owner"]] if context["owner"] != activity.actor_id else []
        if rule == NOBODY:
            return []
        earlier, row = first.get(activity.object_id, {}), context["row"]
        return [user for user in followers.get(activity.actor_id, []) if earlier.get(user, row) < row]


def playing_for(named: type[Manager]) -> type[SocialManager]:
    """A manager over the graph in ``REPLAY_DIR`` that writes to the feeds of *named*, in chunks of the same size.

    Hooks of *named* are not asked: they look into an application's data, and may tell its users something.
    """

    class ReplayManager(SocialManager):
        name = f"{SocialManager.name}.named"
        feed_classes = named.feed_classes
        notification_feed_class = named.notification_feed_class
        user_feed_class = named.user_feed_class
        fanout_chunk_size = named.fanout_chunk_size

    return ReplayManager
