"""The replay: read, bring up, publish, wait, show, verify. The demo plays through the same servers and workers."""

from __future__ import annotations

import dataclasses
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import redis

from feedmill import settings
from feedmill.activity import Activity
from feedmill.aggregated_activity import AggregatedActivity
from feedmill.cli.terminal import progress
from feedmill.errors import FeedmillError
from feedmill.ids import MAX_TIME, EntityId
from feedmill.storage.registry import backend
from feedmill.tools.local_servers import LocalRedis, Workers, broker_of
from feedmill.tools.replay.lines import Garbage, InputError
from feedmill.tools.replay.read import Event, read_events, read_follows
from feedmill.tools.replay.social import CO_ACTORS, DIR, SocialManager, save_graph
from feedmill.tools.replay.verify import verify

#: Fan-outs that may be under way before the publisher waits.
MOST_OPEN = 2000
#: Gives what somebody, or something, is called.
Name = Callable[[EntityId], str]


class ReplayFailed(FeedmillError):
    """Timelines are not what they must be, or not all of the files was played."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What to replay, and how."""

    follows: Path
    events: Path
    follow_columns: Sequence[str] = ()
    event_columns: Sequence[str] = ()
    recipients: str = CO_ACTORS
    workers: int = 2
    redis_url: str = ""
    limit: int | None = None
    sample: EntityId | None = None
    verify: bool = False
    strict: bool = False


class Played(NamedTuple):
    """The figures of a replay."""

    follows: int
    events: int
    #: Lines that could not be read.
    skipped: int
    seconds: float
    #: Deliveries by feed.
    deliveries: Mapping[str, int]
    #: What a check found; None without one.
    missing: int | None
    twice: int | None
    wrong: int | None


def replay(options: Options, say: Callable[[str], None]) -> Played:
    """Play the events; the figures.

    :class:`ReplayFailed` if a check finds a difference, or something that was not played; ``InputError`` for garbage when
    strict, and for files of which nothing can be made.
    """
    garbage = Garbage()
    followers = read_follows(options.follows, options.follow_columns, garbage)
    events = read_events(options.events, options.event_columns, garbage, options.limit)
    for line in garbage.shown:
        say(f"skipped {line}")
    if garbage.comments:
        say(f"{garbage.comments:,} lines of comments skipped")
    if garbage.count:
        say(str(garbage))
        if options.strict:
            raise InputError("refused because of --strict; nothing was written")
    say(f"{sum(map(len, followers.values())):,} follows, {len(events):,} events")
    first: dict[EntityId, dict[EntityId, int]] = {}
    for event in events:
        first.setdefault(event.object, {}).setdefault(event.actor, event.row)
    to_followers = sum(len(followers.get(event.actor, ())) for event in events)
    with session(options.redis_url, options.workers, followers, options.recipients, first, say) as running:
        began = time.monotonic()
        activities = [activity_of(event) for event in events]
        publish(running, activities)
        seconds = max(time.monotonic() - began, 1e-9)
        to_recipients = 0
        if options.recipients == CO_ACTORS:
            to_recipients = sum(
                first[e.object].get(user, e.row) < e.row for e in events for user in followers.get(e.actor, ())
            )
        kinds = {"home": to_followers, "news": to_followers, "notifications": to_recipients}
        say(f"{len(events):,} events in {seconds:.1f} s, {len(events) / seconds:,.0f} per second")
        for kind, count in kinds.items():
            say(f"  {kind}: {count:,} deliveries, {count / seconds:,.0f} per second")
        total = sum(kinds.values())
        say(f"  total: {total:,} deliveries, {total / seconds:,.0f} per second")
        if options.sample is not None:
            show_feeds(options.sample, str, str, say)
        verdict = None
        if options.verify:
            verdict = verify(activities, followers, options.recipients)
            for text in verdict.shown:
                say(text)
            say(f"{verdict.missing} missing, {verdict.twice} twice, {verdict.wrong} wrong")
            if not verdict.good:
                raise ReplayFailed("the timelines are not what they must be")
            if garbage.count:
                raise ReplayFailed(
                    f"what was played is right, but {garbage}: put it right, or take it out of the files"
                )
            if not events:
                raise ReplayFailed("no event was played, so nothing was verified")
        checked = (verdict.missing, verdict.twice, verdict.wrong) if verdict else (None, None, None)
        return Played(sum(map(len, followers.values())), len(events), garbage.count, seconds, kinds, *checked)


def activity_of(event: Event) -> Activity:
    """The activity of an event; it carries its row, from which workers know what was earlier."""
    return Activity(event.actor, event.verb, event.object, time=event.time, extra_context={"row": event.row})


def publish(running: Session, activities: Sequence[Activity]) -> None:
    """Publish *activities*, never too far ahead of the workers, and wait until all are fanned out."""
    manager, total = SocialManager(), len(activities)
    with progress("fan-out") as seen:
        for sent, activity in enumerate(activities, 1):
            manager.add_activity(activity)
            if sent % 200 == 0 or sent == total:
                for under_way in running.until(MOST_OPEN if sent < total else 0):
                    seen(sent - under_way, total)


class Session:
    """What is running: workers, or nothing in the in-memory mode."""

    def __init__(self, workers: Workers | None) -> None:
        self._workers = workers

    def open(self) -> int:
        """Fan-outs under way; also notices a worker that has ended."""
        if self._workers is not None:
            self._workers.check()
        return backend().run(backend().journal.list_due(SocialManager.name)).number

    def until(self, most: int) -> Iterator[int]:
        """Wait until at most *most* fan-outs are under way; gives how many are, again and again."""
        yield (count := self.open())
        while count > most:
            time.sleep(0.05)
            yield (count := self.open())


@contextmanager
def session(
    redis_url: str,
    workers: int,
    followers: Mapping[EntityId, list[EntityId]],
    rule: str,
    first: Mapping[EntityId, Mapping[EntityId, int]],
    say: Callable[[str], None],
) -> Iterator[Session]:
    """Bring up a Redis and *workers* processes over the graph; take all of it down again, also on a signal."""
    with ExitStack() as stack:
        previous = signal.signal(signal.SIGTERM, _interrupt)
        stack.callback(signal.signal, signal.SIGTERM, previous)
        local = stack.enter_context(LocalRedis(redis_url))
        say(f"Redis: {local.source} ({local.url})" if local.private else f"Redis: {local.source}")
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="feedmill-replay-"))
        save_graph(Path(folder), followers, rule, first)
        os.environ[DIR] = folder
        in_process = local.url.startswith("memory:")
        values = {
            "redis_url": local.url,
            "broker_url": "" if in_process else broker_of(local.url),
            "modules": "feedmill.tools.replay.social",
            "key_prefix": f"fm-replay-{os.urandom(4).hex()}:",
            "celery_app": "feedmill.tasks:app",
        }
        settings.configure(**values, max_future=MAX_TIME / 1e6)  # the times of a file are what they are
        import feedmill.tasks  # noqa: F401  reads the settings above, so not sooner

        running = None
        if not in_process:
            Session(None).open()  # what is wrong with the Redis is said here
            if not local.private:
                stack.callback(_forget, local.url, values["key_prefix"])
                broker_prefix = settings.current().broker_options["global_keyprefix"]
                stack.callback(_forget, values["broker_url"], broker_prefix)
            environ = {f"FEEDMILL_{name.upper()}": value for name, value in values.items()}
            running = stack.enter_context(Workers(workers, {**environ, DIR: folder}))
            running.wait_ready()
            say(f"Workers: {workers} celery worker processes")
        yield Session(running)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _forget(url: str, prefix: str) -> None:
    """Delete what was written to a Redis that is not ours; one that cannot be used was told of, and has nothing."""
    with suppress(redis.RedisError), redis.Redis.from_url(url) as client:
        keys = client.scan_iter(match=prefix + "*", count=1000)
        while batch := list(islice(keys, 1000)):
            client.unlink(*batch)


def people(group: AggregatedActivity, person: Name) -> str:
    """ "Ann", "Ann and Bob", "Ann, Bob and 12 others"."""
    names = [person(actor) for actor in group.actor_ids[:2]]
    others = group.actor_count - len(names)
    if others > 0:
        return f"{', '.join(names)} and {others} other{'s' if others > 1 else ''}"
    return " and ".join(names)


def description(group: AggregatedActivity, person: Name, thing: Name) -> str:
    """A group in one line."""
    objects, count = group.object_ids, group.activity_count
    what = thing(objects[0]) if len(objects) == 1 else f"{count} things, latest {thing(objects[0])}"
    return f"{people(group, person)} {group.verb.past_tense} {what}"


def show_feeds(user: EntityId, person: Name, thing: Name, say: Callable[[str], None], count: int = 5) -> None:
    """The three feeds of *user*."""
    manager = SocialManager()
    feeds = manager.get_feeds(user)
    say("")
    say(f"Home feed of {person(user)}")
    activities: list[Activity] = feeds["home"][:count]
    for a in activities:
        say(f"  {a.time:%d %b %H:%M:%S}  {person(a.actor_id)} {a.verb.past_tense} {thing(a.object_id)}")
    say(f"News feed of {person(user)}")
    for group in feeds["news"][:count]:
        say(f"  {group.updated_at:%d %b}  {description(group, person, thing)}")
    told = manager.get_notification_feed(user)
    say(f"Notifications of {person(user)} ({told.get_denormalized_count()} unseen)")
    for group in told[:count]:
        say(f"  {' ' if group.is_seen else '*'} {description(group, person, thing)}")
