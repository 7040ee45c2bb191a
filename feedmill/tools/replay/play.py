"""The replay: read, bring up, publish, wait, show, verify. The demo plays through the same servers and workers."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import redis

from feedmill import registry, settings
from feedmill.activity import Activity
from feedmill.aggregated_activity import AggregatedActivity
from feedmill.cli.loading import load_managers, set_up_django
from feedmill.cli.terminal import progress
from feedmill.errors import FeedmillError
from feedmill.feeds import Feed
from feedmill.ids import MAX_TIME, EntityId
from feedmill.storage.cassandra.backend import CassandraBackend
from feedmill.storage.cassandra.session import CassandraSession
from feedmill.storage.registry import backend
from feedmill.tools.local_servers import LocalRedis, Workers, broker_of
from feedmill.tools.replay.lines import Garbage, InputError
from feedmill.tools.replay.read import Event, read_events, read_follows
from feedmill.tools.replay.social import CO_ACTORS, DIR, MANAGER, SocialManager, playing_for, save_graph
from feedmill.tools.replay.verify import check_verifiable, on_cassandra, verify

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
    #: Name of the manager whose feeds are played to; empty for feeds of the tool's own.
    manager: str = ""
    cassandra_url: str = ""
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
    #: Feeds that were compared; None without a check.
    verified: int | None


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
    with session(
        options.redis_url,
        options.workers,
        followers,
        options.recipients,
        first,
        say,
        options.manager,
        options.cassandra_url,
    ) as running:
        manager = running.manager
        if options.verify:
            check_verifiable(manager)
        began = time.monotonic()
        activities = [activity_of(event) for event in events]
        publish(running, activities)
        seconds = max(time.monotonic() - began, 1e-9)
        to_recipients = 0
        if options.recipients == CO_ACTORS:
            to_recipients = sum(
                first[e.object].get(user, e.row) < e.row for e in events for user in followers.get(e.actor, ())
            )
        kinds = dict.fromkeys(manager.feed_classes, to_followers)
        if manager.notification_feed_class is not None:
            kinds["notifications"] = to_recipients
        say(f"{len(events):,} events in {seconds:.1f} s, {len(events) / seconds:,.0f} per second")
        for kind, count in kinds.items():
            say(f"  {kind}: {count:,} deliveries, {count / seconds:,.0f} per second")
        total = sum(kinds.values())
        say(f"  total: {total:,} deliveries, {total / seconds:,.0f} per second")
        if options.sample is not None:
            show_feeds(options.sample, str, str, say, manager)
        verdict = None
        if options.verify:
            began = time.monotonic()
            verdict = verify(activities, followers, options.recipients, manager)
            for text in verdict.shown:
                say(text)
            say(f"{verdict.feeds:,} feeds compared in {time.monotonic() - began:.1f} s")
            say(f"{verdict.missing} missing, {verdict.twice} twice, {verdict.wrong} wrong")
            if not verdict.good:
                raise ReplayFailed("the timelines are not what they must be")
            if garbage.count:
                raise ReplayFailed(
                    f"what was played is right, but {garbage}: put it right, or take it out of the files"
                )
            if not events:
                raise ReplayFailed("no event was played, so nothing was verified")
        checked = (verdict.missing, verdict.twice, verdict.wrong, verdict.feeds) if verdict else (None,) * 4
        return Played(sum(map(len, followers.values())), len(events), garbage.count, seconds, kinds, *checked)


def activity_of(event: Event) -> Activity:
    """The activity of an event; it carries its row, from which workers know what was earlier."""
    return Activity(event.actor, event.verb, event.object, time=event.time, extra_context={"row": event.row})


def publish(running: Session, activities: Sequence[Activity]) -> None:
    """Publish *activities*, never too far ahead of the workers, and wait until all are fanned out."""
    manager, total = running.manager(), len(activities)
    with progress("fan-out") as seen:
        for sent, activity in enumerate(activities, 1):
            manager.add_activity(activity)
            if sent % 200 == 0 or sent == total:
                for under_way in running.until(MOST_OPEN if sent < total else 0):
                    seen(sent - under_way, total)


class Session:
    """What is running: workers, or nothing in the in-memory mode."""

    def __init__(self, workers: Workers | None, manager: type[SocialManager] = SocialManager) -> None:
        self._workers = workers
        #: The manager that is played through.
        self.manager = manager

    def open(self) -> int:
        """Fan-outs under way; also notices a worker that has ended."""
        if self._workers is not None:
            self._workers.check()
        return backend().run(backend().journal.list_due(self.manager.name)).number

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
    named: str = "",
    cassandra_url: str = "",
) -> Iterator[Session]:
    """Bring up a Redis and *workers* processes over the graph; take all of it down again, also on a signal.

    *named*: the manager to whose feeds is written. A Cassandra cluster, which it may need, is never brought up: *cassandra_url* names
    it, or else ``FEEDMILL_CASSANDRA_URL``.
    """
    with ExitStack() as stack:
        previous = signal.signal(signal.SIGTERM, _interrupt)
        stack.callback(signal.signal, signal.SIGTERM, previous)
        local = stack.enter_context(LocalRedis(redis_url))
        say(f"Redis: {local.source} ({local.url})" if local.private else f"Redis: {local.source}")
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="feedmill-replay-"))
        save_graph(Path(folder), followers, rule, first)
        os.environ[DIR] = folder
        in_process = local.url.startswith("memory:")
        before = settings.current()
        values = {
            "redis_url": local.url,
            "broker_url": "" if in_process else broker_of(local.url),
            "modules": "feedmill.tools.replay.social",
            "key_prefix": f"fm-replay-{os.urandom(4).hex()}:",
            "celery_app": "feedmill.tasks:app",
            "cassandra_url": cassandra_url or before.cassandra_url,
            "cassandra_consistency": before.cassandra_consistency,
            "cassandra_serial_consistency": before.cassandra_serial_consistency,
        }

        def configure(**changes: object) -> None:
            settings.configure(
                **{**values, **changes}, max_future=MAX_TIME / 1e6
            )  # the times of a file are what they are

        configure()
        import feedmill.tasks  # noqa: F401  reads the settings above, so not sooner

        manager = SocialManager
        if named:
            configure(modules=before.modules)
            manager = _manager(named)
            values["modules"] = f"{registry.get_manager(named).__module__},feedmill.tools.replay.named"
            configure()  # a module that was imported may have said something else
        beside = on_cassandra(manager)
        for feed_class in beside:
            feed_class.timeline()  # says it if no cluster is named
        running = None
        if not in_process:
            Session(None).open()  # what is wrong with the Redis is said here
            if beside:
                stack.callback(_forget_on_cassandra, beside, followers, first, say)
                say(f"Cassandra: {_cluster().url.place}")
                if problems := _cluster().problems():
                    raise ReplayFailed("; ".join(problems))
            if not local.private:
                stack.callback(_forget, local.url, values["key_prefix"])
                broker_prefix = settings.current().broker_options["global_keyprefix"]
                stack.callback(_forget, values["broker_url"], broker_prefix)
            environ = {f"FEEDMILL_{name.upper()}": value for name, value in values.items()}
            environ |= {DIR: folder, MANAGER: named}
            if named:  # workers find its module as we did
                environ["PYTHONPATH"] = os.pathsep.join(place or os.getcwd() for place in sys.path)
            running = stack.enter_context(Workers(workers, environ))
            running.wait_ready()
            say(f"Workers: {workers} celery worker processes")
        yield Session(running, manager)


def _manager(named: str) -> type[SocialManager]:
    """The manager that plays to the feeds of the one of this name."""
    set_up_django()
    load_managers()
    return playing_for(registry.get_manager(named))


def _cluster() -> CassandraSession:
    here = backend()
    assert isinstance(here, CassandraBackend)
    return here.cluster


def _forget_on_cassandra(
    beside: Sequence[type[Feed]],
    followers: Mapping[EntityId, list[EntityId]],
    first: Mapping[EntityId, Mapping[EntityId, int]],
    say: Callable[[str], None],
) -> None:
    """Delete the feeds on Cassandra; they are under a prefix of this replay's own, which is told if that fails."""
    users = {
        *followers,
        *(user for ids in followers.values() for user in ids),
        *(user for row in first.values() for user in row),
    }
    try:
        _cluster().forget([key for feed_class in beside for key in feed_class.keys_of(users)])
    except FeedmillError as error:
        say(f"feeds under {settings.current().key_prefix} are left on Cassandra: {error}")


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


def show_feeds(
    user: EntityId,
    person: Name,
    thing: Name,
    say: Callable[[str], None],
    played: type[SocialManager] = SocialManager,
    count: int = 5,
) -> None:
    """The feeds of *user*, but for that of what they did."""
    manager = played()
    say("")
    for name, feed in manager.get_feeds(user).items():
        say(f"{name.capitalize()} feed of {person(user)}")
        for item in feed[:count]:
            if isinstance(item, AggregatedActivity):
                say(f"  {item.updated_at:%d %b}  {description(item, person, thing)}")
            else:
                what = f"{person(item.actor_id)} {item.verb.past_tense} {thing(item.object_id)}"
                say(f"  {item.time:%d %b %H:%M:%S}  {what}")
    if manager.notification_feed_class is None:
        return
    told = manager.get_notification_feed(user)
    say(f"Notifications of {person(user)} ({told.get_denormalized_count()} unseen)")
    for group in told[:count]:
        say(f"  {' ' if group.is_seen else '*'} {description(group, person, thing)}")
