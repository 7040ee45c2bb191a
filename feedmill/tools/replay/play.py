"""The replay: read, bring up, publish, wait, show, verify."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from feedmill.activity import Activity
from feedmill.cli.terminal import progress
from feedmill.errors import FeedmillError
from feedmill.ids import EntityId
from feedmill.tools.replay.lines import Garbage, InputError
from feedmill.tools.replay.read import Event, read_events, read_follows
from feedmill.tools.replay.session import MOST_OPEN, Session, session
from feedmill.tools.replay.show import show_feeds
from feedmill.tools.replay.social import CO_ACTORS, SocialManager
from feedmill.tools.replay.verify import verify


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


def replay(options: Options, say: Callable[[str], None]) -> None:
    """Play the events.

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
        if options.verify:
            verdict = verify(enumerate(activities), followers, options.recipients)
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
