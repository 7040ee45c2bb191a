"""The demo: a generated social network, played through real workers, shown as a person would see it."""

from __future__ import annotations

import datetime as dt
import random
import statistics
import time
from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple

from feedmill.activity import Activity
from feedmill.ids import EntityId
from feedmill.tools.replay.play import publish, session, show_feeds
from feedmill.tools.replay.social import OWNER, SocialManager
from feedmill.verbs import Love

FIRST = "Ann Bob Cleo Dan Eva Finn Gina Hugo Ida Jon Kira Leo Mia Noah Olga Paul Rosa Sam Tess Uma".split()  # noqa: SIM905  # not a name a line
LAST = "Adler Brook Costa Dahl Engel Frost Grant Holm Ivers Jansen Klein Lund Moor North Ortiz Pike".split()  # noqa: SIM905
#: Whom a person follows on average, how many photos there are, and how often latency is measured.
FOLLOWS, PHOTOS, PROBES = 14, 400, 40


def person(user: EntityId) -> str:
    """A person's name."""
    number = int(str(user))
    # Neighbouring ids, the most followed people, have different first names.
    name = f"{FIRST[number % len(FIRST)]} {LAST[number // len(FIRST) % len(LAST)]}"
    again = number // (len(FIRST) * len(LAST))
    return name if not again else f"{name} {again + 1}"


def photo(number: EntityId) -> str:
    """What a photo is called."""
    return f"photo {number}"


def network(people: int, seed: int = 7) -> dict[EntityId, list[EntityId]]:
    """Followers by person; a few have very many (a power law). The same for the same arguments."""
    chance = random.Random(seed)
    weights = list(accumulate((rank + 3) ** -0.9 for rank in range(people)))
    followers: dict[EntityId, list[EntityId]] = {}
    for user in range(people):
        chosen = chance.choices(range(people), cum_weights=weights, k=min(people, chance.randint(2, 2 * FOLLOWS - 2)))
        for followed in sorted(set(chosen) - {user}):
            followers.setdefault(followed, []).append(user)
    return followers


def loves(people: int, count: int, seed: int = 8) -> list[Activity]:
    """*count* people love photos, a second apart until now; popular photos belong to popular people."""
    chance = random.Random(seed)
    start = dt.datetime.now(dt.timezone.utc).replace(microsecond=0) - dt.timedelta(seconds=count)
    popular = list(accumulate((rank + 1) ** -0.8 for rank in range(PHOTOS)))
    made = []
    for number in range(count):
        (thing,) = chance.choices(range(PHOTOS), cum_weights=popular)
        made.append(love(chance.randrange(people), thing, people, start + dt.timedelta(seconds=number)))
    return made


def love(actor: int, thing: int, people: int, at: dt.datetime | None = None) -> Activity:
    """Somebody loves a photo; its owner is told."""
    return Activity(actor, Love, thing, time=at, extra_context={"owner": thing % people})


class Played(NamedTuple):
    """The figures of a demo."""

    people: int
    follows: int
    activities: int
    #: Into home and aggregated feeds.
    deliveries: int
    seconds: float
    #: Seconds from publishing to visible.
    latency_median: float
    latency_p99: float


def demo(people: int, activities: int, say: Callable[[str], None], redis_url: str = "") -> Played:
    """Bring everything up, play, show, take everything down."""
    followers, events = network(people), loves(people, activities)
    deliveries = sum(len(followers.get(activity.actor_id, ())) for activity in events)
    follows, most = sum(map(len, followers.values())), max(map(len, followers.values()), default=0)
    say(f"{people:,} people, {follows:,} follows, {most:,} followers at most; {activities:,} activities")
    with session(redis_url, 2, followers, OWNER, {}, say) as running:
        began = time.monotonic()
        publish(running, events)
        seconds = max(time.monotonic() - began, 1e-9)
        manager = SocialManager()
        user = 0
        show_feeds(user, person, photo, say)
        feed = manager.get_notification_feed(user)
        feed.mark_all()
        say("")
        say(f"{person(user)} looks: badge {feed.get_denormalized_count()}")
        manager.add_activity(love(1, 0, people)).wait()
        say(f"{person(1)} loves {photo(0)}: badge {feed.get_denormalized_count()}")
        feed.mark_all()
        say(f"{person(user)} looks again: badge {feed.get_denormalized_count()}")
        rate = 2 * deliveries / seconds
        say("")
        say(f"Throughput: {activities / seconds:,.0f} activities and {rate:,.0f} feed deliveries per second")
        waits = sorted(probe(manager, followers, people) for _ in range(PROBES))
        median, worst = statistics.median(waits), waits[int(len(waits) * 0.99)]
        say(f"Publish to visible: median {median * 1000:.1f} ms, p99 {worst * 1000:.1f} ms ({PROBES} probes)")
        return Played(people, follows, activities, 2 * deliveries, seconds, median, worst)


def probe(manager: SocialManager, followers: dict[EntityId, list[EntityId]], people: int) -> float:
    """Seconds until an activity stands in a follower's home feed."""
    actor = min(followers, key=lambda user: abs(len(followers[user]) - FOLLOWS))
    activity = love(int(str(actor)), PHOTOS - 1, people)
    feed = manager.get_feeds(followers[actor][0])["home"]
    began = time.monotonic()
    fanout = manager.add_activity(activity)
    while activity not in feed[:1] and time.monotonic() - began < 10:
        time.sleep(0.0005)
    seen = time.monotonic() - began
    fanout.wait()
    return seen
