"""What every feed must hold at the end: sets in plain Python, without locks, batches, messages or records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from feedmill import Activity
from feedmill.activity import MAX_MEMBERS
from tests.chaos.network import READERS, followers_of

Groups = dict[Hashable, set[Activity]]


class Model:
    """Everything that can be asked of the manager and of feeds, done at once. Of an activity, and of a pair, the last word counts."""

    def __init__(self) -> None:
        #: The flat feeds that followers have, by name: user -> activities.
        self.flat: dict[str, dict[Any, set[Activity]]] = {"home": defaultdict(set)}
        self.own: dict[Any, set[Activity]] = defaultdict(set)
        self.news: dict[Any, Groups] = defaultdict(lambda: defaultdict(set))
        self.notes: dict[Any, Groups] = defaultdict(lambda: defaultdict(set))
        #: Notification groups that nobody has looked at since they were last touched.
        self.unseen: dict[Any, set[Hashable]] = defaultdict(set)
        #: Users of whom that is not known: they looked while something was on its way.
        self.hazy: set[Any] = set()
        #: What activities carry, where it is something.
        self.contexts: dict[Activity, dict[str, Any]] = {}
        #: Who was notified of an activity by name.
        self.named: dict[Activity, set[Any]] = defaultdict(set)
        #: Whom each reader follows.
        self.following: dict[Any, set[Any]] = {reader: set() for reader in READERS}
        #: Whether anybody ever followed anybody: then not all that is reached is known.
        self.followed = False
        #: Changes of one feed each that were asked for.
        self.deliveries = 0

    def add(self, activity: Activity, *flat: str) -> int:
        """*activity* was added, and goes into the flat feeds "home" and *flat*; how many people it must reach."""
        self._spread(activity, *flat)
        if activity.target_id is not None:
            self._notify(activity.target_id, activity)
        return self._asked(activity, 2 + len(flat))

    def bring(self, activities: Iterable[Activity]) -> None:
        """*activities* were imported: nobody is notified."""
        for activity in activities:
            self._spread(activity)
            self._asked(activity, 2)

    def _spread(self, activity: Activity, *flat: str) -> None:
        self.contexts[activity] = dict(activity.extra_context)
        self.own[activity.actor_id].add(activity)
        for user in followers_of(activity.actor_id):
            for name in ("home", *flat):
                self.flat.setdefault(name, defaultdict(set))[user].add(activity)
            self.news[user][_verb_and_day(activity)].add(activity)

    def update(self, activity: Activity) -> None:
        """*activity* was updated to what it carries now."""
        self.contexts[activity] = dict(activity.extra_context)
        self._asked(activity, 0)

    def remove(self, activity: Activity) -> int:
        """*activity* was taken back; how many people that must reach."""
        self.own[activity.actor_id].discard(activity)
        for user in followers_of(activity.actor_id):
            for feed in self.flat.values():
                feed[user].discard(activity)
            _take(self.news[user], _verb_and_day(activity), activity)
        if activity.target_id is not None:
            self._unnotify(activity.target_id, activity)
        for user in self.named.pop(activity, ()):
            self._unnotify(user, activity)
        return self._asked(activity, 2)

    def notify(self, users: Sequence[Any], activity: Activity) -> None:
        """*users* were notified of *activity* by name."""
        self.contexts.setdefault(activity, dict(activity.extra_context))
        for user in users:
            self.named[activity].add(user)
            self._notify(user, activity)
        self.deliveries += len(users)

    def unnotify(self, users: Sequence[Any], activity: Activity) -> None:
        """That was taken back."""
        for user in users:
            self.named[activity].discard(user)
            self._unnotify(user, activity)
        self.deliveries += len(users)

    def _notify(self, user: Any, activity: Activity) -> None:
        group = (activity.object_id, *_verb_and_day(activity))
        self.notes[user][group].add(activity)
        self.unseen[user].add(group)

    def _unnotify(self, user: Any, activity: Activity) -> None:
        group = (activity.object_id, *_verb_and_day(activity))
        if _take(self.notes[user], group, activity):
            self.unseen[user].discard(group)

    def follow(self, reader: Any, author: Any) -> None:
        """*reader* follows *author*: what is in the author's own feed, now and later, is in the reader's feeds."""
        self.followed = True
        self.following[reader].add(author)
        self.deliveries += 2 * len(self.own[author])

    def unfollow(self, reader: Any, author: Any) -> None:
        """No longer: none of it is."""
        self.following[reader].discard(author)
        self.deliveries += 2 * len(self.own[author])

    def read_by(self, reader: Any) -> set[Activity]:
        """What is in the feeds of *reader*."""
        return {activity for author in self.following[reader] for activity in self.own[author]}

    def mark_all(self, user: Any) -> None:
        """*user* looked at the notifications, when nothing was on its way."""
        self.unseen[user].clear()
        self.hazy.discard(user)

    def _asked(self, activity: Activity, feeds: int) -> int:
        people = len(followers_of(activity.actor_id))
        notified = activity.target_id is not None
        self.deliveries += feeds * people + notified
        return people + notified


def grouped(activities: Iterable[Activity]) -> Groups:
    """*activities* as a news feed groups them."""
    groups: Groups = defaultdict(set)
    for activity in activities:
        groups[_verb_and_day(activity)].add(activity)
    return groups


def shown(members: Iterable[Activity]) -> list[Activity]:
    """The members of a group that are shown, oldest first."""
    return sorted(members)[-MAX_MEMBERS:]


def _verb_and_day(activity: Activity) -> tuple[int, str]:
    return activity.verb.id, activity.time.date().isoformat()


def _take(groups: Groups, group: Hashable, activity: Activity) -> bool:
    """Take *activity* out; whether that emptied its group."""
    groups[group].discard(activity)
    if groups[group]:
        return False
    del groups[group]
    return True
