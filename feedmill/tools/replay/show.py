"""Feeds as a person would read them."""

from __future__ import annotations

from collections.abc import Callable

from feedmill.activity import Activity
from feedmill.aggregated_activity import AggregatedActivity
from feedmill.ids import EntityId
from feedmill.tools.replay.social import SocialManager

Name = Callable[[EntityId], str]


def people(group: AggregatedActivity, person: Name) -> str:
    """ "Ann", "Ann and Bob", "Ann, Bob and 12 others"."""
    names = [person(actor) for actor in group.actor_ids[:2]]
    others = group.actor_count - len(names)
    if others > 0:
        return f"{', '.join(names)} and {others} other{'s' if others > 1 else ''}"
    return " and ".join(names)


def sentence(group: AggregatedActivity, person: Name, thing: Name) -> str:
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
        say(f"  {group.updated_at:%d %b}  {sentence(group, person, thing)}")
    told = manager.get_notification_feed(user)
    say(f"Notifications of {person(user)} ({told.get_denormalized_count()} unseen)")
    for group in told[:count]:
        say(f"  {' ' if group.is_seen else '*'} {sentence(group, person, thing)}")
