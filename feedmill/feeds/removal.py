"""Removal from a feed of whatever must not be there."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

from feedmill.feeds.flat import Feed, HeldMember
from feedmill.grouping.hydration import Resolved, Unread, actor_of
from feedmill.grouping.pending_writes import PendingWrite
from feedmill.grouping.writer import apply_pending_writes
from feedmill.ids import EntityId
from feedmill.storage.operations import Steps, together
from feedmill.storage.registry import backend


def remove_matching(
    feed_class: type[Feed],
    user_id: EntityId,
    id_matches: Callable[[bytes], bool],
    actor_matches: Callable[[EntityId], bool] | None = None,
    *,
    wait: float,
) -> Steps[int]:
    """Remove from a user's feed every activity whose id matches, minimised members included; how many were removed.

    With *actor_matches* the activity's actor must match as well, as far as it is known: an activity without a body is
    shown to nobody and goes. What cannot be read here stays; it is raised when everything else is done.
    *wait*: seconds to wait for the feed if somebody else is writing it.
    """
    members = [each for each in (yield from feed_class.all_members(user_id)) if id_matches(each[1].raw_id)]
    unread: dict[bytes, Unread] = {}
    if actor_matches is not None:
        actors, unread = yield from _actors(feed_class, members)
        members = [each for each in members if (actor := actors.get(each[1].raw_id)) is None or actor_matches(actor)]
        members = [each for each in members if each[1].raw_id not in unread]
    removed = (yield from feed_class.remove_members(user_id, members, wait)) if members else 0
    Resolved({}, unread).check()
    return removed


def apply_all_pending(feed_classes: Iterable[type[Feed]], user_id: EntityId, wait: float) -> Steps[list[PendingWrite]]:
    """Do what was left to the holders of a user's feeds: whoever reads these sees nothing of what is still among pending writes.

    Those of the writes that cannot be done here. *wait*: seconds to wait for a feed if somebody else is writing it.
    """

    def apply(feed_class: type[Feed]) -> Steps[list[PendingWrite]]:
        if (yield from backend().auxiliary.pending_index.has_pending([feed_class.key_of(user_id)])) == [True]:
            return (yield from apply_pending_writes(feed_class, user_id, wait))
        return []

    classes = [each for each in feed_classes if each.may_have_pending_writes]
    return list(itertools.chain(*(yield from together([apply(each) for each in classes]))))


def check_done(kept: Iterable[PendingWrite]) -> None:
    """Raise why the first of *kept* could not be done, if there is any: then the work is not done either."""
    for write in kept:
        if write.error is not None:
            raise write.error


def _actors(
    feed_class: type[Feed], members: Sequence[HeldMember]
) -> Steps[tuple[dict[bytes, EntityId | None], dict[bytes, Unread]]]:
    """By id, the actor of each activity that is there; and those of which that cannot be told here."""
    if feed_class.activity_storage_class is None:
        return {member.raw_id: actor_of(member.body) for _, member in members}, {}
    resolved: Resolved = yield from feed_class.resolve([member.raw_id for _, member in members])
    actors = {raw_id: activity.actor_id for raw_id, activity in resolved.found.items()}
    known = {raw_id: each.actor_id for raw_id, each in resolved.unread.items() if each.actor_id is not None}
    return {**actors, **known}, {raw_id: each for raw_id, each in resolved.unread.items() if raw_id not in known}
