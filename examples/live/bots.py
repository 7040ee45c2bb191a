"""What happens by itself: the first posts and likes of a new network, and then somebody who does something, now and then."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import os
import random
import sqlite3
from collections.abc import Coroutine
from typing import Any

from examples.live import site, store
from examples.live.feeds import post_manager, reaction_manager
from feedmill.errors import FeedmillError
from feedmill.fanout import Fanouts

logger = logging.getLogger(__name__)

#: Seconds between two deeds, about; 0: nobody does anything by itself. LIVE_BOTS in the environment.
PAUSE = float(os.environ.get("LIVE_BOTS", "4"))
#: Seconds after which the first posts are tried again, while the storage is away; and that the first likes may take.
RETRY, WAIT = 2.0, 60.0
_CAST = [id for id, _, _ in store.SEED["people"] if id in store.SEED["chatter"]]


async def seed() -> None:
    """Write the first posts and likes, and deliver them. Whatever it was interrupted in, the next time it goes on."""
    if await asyncio.to_thread(store.is_done, "delivered"):
        return
    old = await asyncio.to_thread(_write_and_add_old)
    await old.afinished(WAIT)
    await asyncio.to_thread(_mark_and_add_new)


def _write_and_add_old() -> Fanouts:
    if not store.is_done("written"):
        _write()
        store.set_done("written")
    posts, reactions = site.stored_activities()
    post_manager.add_activities(each for each in posts if each.actor_id != store.BIG)
    return reaction_manager.add_activities(each for each in reactions if each.time < _yesterday())


def _mark_and_add_new() -> None:
    for person in _CAST:
        site.mark(person, {"seen": True, "read": True})
    posts, reactions = site.stored_activities()
    reaction_manager.add_activities(each for each in reactions if each.time >= _yesterday())
    for each in posts:
        if each.actor_id == store.BIG:
            site.watch.add(post_manager.add_activity(each), store.BIG, store.audience(store.BIG))
    store.set_done("delivered")


def _yesterday() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc) - dt.timedelta(hours=10)


def _write() -> None:
    rng, now = random.Random(7), dt.datetime.now(dt.timezone.utc)
    crowd = sorted(store.some_followers(store.BIG, store.FOLLOWERS))
    for author, minutes, text, likes in store.SEED["posts"]:
        number, time = store.add_post(author, text, f"seed {minutes}", now - dt.timedelta(minutes=minutes))
        friends = [id for id in _CAST if id != author]
        fans = rng.sample(friends, min(len(friends), likes // 9 + 2))
        fans += rng.sample(crowd, min(len(crowd), max(0, likes - len(fans))))
        for fan in fans:
            store.like(number, fan, time + min(now - time, dt.timedelta(hours=8)) * rng.uniform(0.02, 0.95))
    for target, number in store.SEED["fans"].items():
        for fan in rng.sample(crowd, min(len(crowd), number)):
            store.follow(fan, target, now - dt.timedelta(minutes=rng.uniform(20, 300)))


async def live(rng: random.Random) -> None:
    """Until cancelled: the first posts, as soon as they can be delivered, and then one deed after the other."""
    while not await _tried(seed()):
        await asyncio.sleep(RETRY)
    while PAUSE:
        await asyncio.sleep(rng.uniform(0.5, 1.5) * PAUSE)
        await _tried(asyncio.to_thread(act, rng))


async def _tried(deed: Coroutine[Any, Any, None]) -> bool:
    """Whether *deed* was possible."""
    try:
        await deed
    except (FeedmillError, site.Refused, sqlite3.OperationalError) as error:
        logger.warning("could not be done by itself: %s", error)
        return False
    return True


def act(rng: random.Random) -> None:
    """Somebody likes a recent post, more rarely posts something, and now and then follows somebody."""
    dice = rng.random()
    if dice < 0.72:
        chosen = rng.choice(store.recent_posts(8))
        fans = [id for id in _CAST if id != chosen["author"]] + store.some_followers(store.BIG, 8)
        site.like(rng.choice(fans), chosen["id"])
    elif dice < 0.93:
        author = rng.choice(_CAST)
        _say_something(rng, author)
    else:
        listed = [each["id"] for each in store.listed()]
        person, target = rng.sample(listed, 2)
        if person in _CAST:
            (site.unfollow if target in store.following(person) and rng.random() < 0.3 else site.follow)(person, target)


def post_of_big(rng: random.Random) -> dict[str, object]:
    """Who has thousands of followers posts something."""
    return _say_something(rng, store.BIG)


def _say_something(rng: random.Random, author: str) -> dict[str, object]:
    """What they have not said for the longest time, if they have said everything."""
    said = {each["text"]: each["id"] for each in reversed(store.recent_posts(200)) if each["author"] == author}
    return site.post(author, min(store.SEED["chatter"][author], key=lambda text: (said.get(text, 0), rng.random())))
