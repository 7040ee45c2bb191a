"""What every feed must hold at the end: sets in plain Python, without locks, batches, messages or records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import Any

from feedmill import Activity
from feedmill.activity import MAX_MEMBERS
from tests.chaos.network import followers_of

Groups = dict[Hashable, set[Activity]]


class Model:
    """Add, remove and mark, as the manager and the feeds were told to."""

    def __init__(self) -> None:
        #: The flat feeds that followers have, by name: user -> activities.
        self.flat: dict[str, dict[Any, set[Activity]]] = {"home": defaultdict(set)}
        self.own: dict[Any, set[Activity]] = defaultdict(set)
        self.news: dict[Any, Groups] = defaultdict(lambda: defaultdict(set))
        self.notes: dict[Any, Groups] = defaultdict(lambda: defaultdict(set))
        #: Notification groups that nobody has looked at since they were last touched.
        self.unseen: dict[Any, set[Hashable]] = defaultdict(set)
        #: Changes of one feed each that were asked for.
        self.deliveries = 0

    def add(self, activity: Activity, *flat: str) -> int:
        """*activity* was added, and goes into the flat feeds "home" and *flat*; how many people it must reach."""
        self.own[activity.actor_id].add(activity)
        for user in followers_of(activity.actor_id):
            for name in ("home", *flat):
                self.flat.setdefault(name, defaultdict(set))[user].add(activity)
            self.news[user][_verb_and_day(activity)].add(activity)
        if activity.target_id is not None:
            group = (activity.object_id, *_verb_and_day(activity))
            self.notes[activity.target_id][group].add(activity)
            self.unseen[activity.target_id].add(group)
        return self._asked(activity, 2 + len(flat))

    def remove(self, activity: Activity) -> int:
        """*activity* was taken back; how many people that must reach."""
        self.own[activity.actor_id].discard(activity)
        for user in followers_of(activity.actor_id):
            for feed in self.flat.values():
                feed[user].discard(activity)
            _take(self.news[user], _verb_and_day(activity), activity)
        if activity.target_id is not None:
            group = (activity.object_id, *_verb_and_day(activity))
            if _take(self.notes[activity.target_id], group, activity):
                self.unseen[activity.target_id].discard(group)
        return self._asked(activity, 2)

    def mark_all(self, user: Any) -> None:
        """*user* looked at the notifications."""
        self.unseen[user].clear()

    def _asked(self, activity: Activity, feeds: int) -> int:
        people = len(followers_of(activity.actor_id))
        notified = activity.target_id is not None
        self.deliveries += feeds * people + notified
        return people + notified


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
