"""A small app as a user would write it, who checks types strictly. It is checked, not run: see ``test_typing.py``."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence

from feedmill import Activity, AggregatedActivity, Manager, Priority, Verb, configure, register
from feedmill.aggregators import BaseAggregator, DecayAggregator, RecentVerbAggregator
from feedmill.errors import BatchError, FeedmillError
from feedmill.fanout import Fanout, Fanouts, FanoutStatus
from feedmill.feeds import Counts, Page, RedisAggregatedFeed, RedisFeed, RedisNotificationFeed, reaggregate
from feedmill.verbs import Love


@register
class Pin(Verb):
    id = 100
    infinitive = "pin"
    past_tense = "pinned"


class ByTarget(BaseAggregator):
    def get_group(self, activity: Activity) -> str:
        return f"{activity.verb.id}-{activity.target_id}"

    def score(self, aggregated: AggregatedActivity) -> float:
        return aggregated.actor_count


class Hot(DecayAggregator, RecentVerbAggregator):
    half_life = dt.timedelta(hours=6)


class Home(RedisFeed):
    key_format = "home:%(user_id)s"
    max_length = 100


class News(RedisAggregatedFeed):
    aggregator_class = ByTarget


class PinManager(Manager):
    feed_classes = {"home": Home, "news": News}
    notification_feed_class = RedisNotificationFeed
    user_feed_class = RedisFeed
    fanout_chunk_size = 100

    def get_user_follower_ids(self, user_id: int) -> Mapping[Priority, Iterable[int]]:
        return {Priority.HIGH: [1, user_id], Priority.LOW: (n for n in range(3))}

    def get_user_following_ids(self, user_id: int) -> list[int]:
        return [user_id]

    def get_recipient_ids(self, activity: Activity) -> list[int]:
        return [4]

    def accepts(self, user_id: int, activity: Activity) -> bool:
        return user_id != activity.actor_id

    def filter_user_ids(self, activity: Activity, user_ids: Sequence[int]) -> Iterable[int]:
        return (user_id for user_id in user_ids if user_id > 0)


def write(manager: PinManager) -> FanoutStatus:
    configure(redis_url="memory://")
    fanout: Fanout = manager.add_activity(Activity(1, Pin, 2, extra_context={"board": 1}))
    fanouts: Fanouts = manager.add_activities([{"actor": 1, "verb": Love, "object": 2}])
    manager.follow_many(1, range(3), limit=10).wait(None)
    manager.notify({1, 2}, Activity("ann", Love, "pin:1"))
    called_off: int = fanouts.cancel()
    try:
        manager.batch_import(1, (Activity(1, Pin, n) for n in range(called_off)))
    except BatchError as error:
        print(error.refused[0][2])
    except FeedmillError:
        raise
    return fanout.wait(timeout=5)


class Logging(PinManager):
    def add_activity(self, activity: Activity) -> Fanout:
        return super().add_activity(activity)

    async def aadd_activities(self, activities: Iterable[Activity | Mapping[str, object]]) -> Fanouts:
        return await super().aadd_activities(activities)

    def _notify(self) -> None:
        """A name of the app's own."""


async def write_async(manager: Logging) -> FanoutStatus:
    fanout: Fanout = await manager.aadd_activity(Activity(1, Pin, 2))
    await manager.afollow_user(1, 2, False)
    found: dict[str, Activity] = await manager.aget_activities([fanout.activity_id])
    shown: dict[str, object] = found[fanout.activity_id].to_dict()
    print(shown, (await manager.anotify([1], Activity(1, Pin, 2)))[0].id)
    return await fanout


def read(manager: PinManager) -> int:
    home = manager.get_feeds(1)["home"]
    page: Page = home.page(10)
    page = home.filter(verb=Love).order_by("activity_id").page(10, page.next)
    news = News(1)
    added: int = news.add_many([Activity(1, Love, 2)], trim=False)
    one: AggregatedActivity | None = news.find_group("100-None")
    names = [] if one is None else [verb.past_tense for verb in one.verbs]
    notes = manager.get_notification_feed(1)
    notes.mark(notes[:3], seen=True, read=True)
    page = notes.page(3)
    revision: str | None = page.revision
    notes.mark(page, seen=None, read=False)
    notes.mark([{"group": "g", "revision": revision}, *page.items, "name"], until=revision)
    notes.mark_all(until=page)
    notes.mark_all(False, until=[group.to_dict() for group in page.items])
    with notes.subscribe() as subscription:
        counts: Counts | None = subscription.get(0.1)
    return added + len(names) + len(reaggregate(news, Hot).removed) + (counts.unseen if counts else 0)


async def aread() -> int:
    home = Home(1)
    added: int = await home.aadd_many([Activity(1, Love, 2)])
    page: Page = await home.apage(3)
    async with RedisNotificationFeed(1).asubscribe() as subscription:
        async for counts in subscription:
            return counts.seq + added + len(page.items)
    return await home.acount()
