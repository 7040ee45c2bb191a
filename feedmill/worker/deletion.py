"""The end of the deletion of a user: nothing is left that names them.

It is done when all that was asked for before is done, so that nobody who still delivers needs what goes. Each step may run twice.
Bodies go last: by them it is known what the user did.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from feedmill.errors import FeedmillError
from feedmill.fanout.operations import OPERATIONS, Subject
from feedmill.ids import ACTOR_SLICE, EntityId, actor_hashes, spellings
from feedmill.iteration import batched
from feedmill.keys import GROUPS, PRESENT, fanout_record_key, feed_key, hook_bucket, set_aside_key
from feedmill.manager import Manager, activity_bodies, feed_classes, own_feeds, removals
from feedmill.manager.activity_bodies import UNKNOWN, Fact
from feedmill.msgpack_codec import pack, unpack
from feedmill.storage.activity_state import REMOVED
from feedmill.storage.journal import HOOK, MAX_DEAD_LETTERS, Claim, DeadLetter
from feedmill.storage.operations import Steps, together
from feedmill.storage.registry import backend
from feedmill.worker import dead_letters

#: Entries of the list of what is due, and activities, that are read in one round trip.
AT_ONCE = 500


def is_anything_older_open(manager: Manager, claim: Claim) -> bool:
    """Whether a fan-out of the manager that was asked for before *claim*, or in the same millisecond, is not done."""
    created = int(backend().run(backend().journal.get(claim.id)).get("created", "0"))
    start = 0
    while ids := backend().run(backend().journal.list_due(manager.name, start, AT_ONCE)).ids:
        records = backend().run(backend().maintenance.fanout_records(ids))
        for fanout_id, record in zip(ids, records):
            if fanout_id != claim.id and record and int(record.get("created", b"0")) <= created:
                op = OPERATIONS.get(record.get("op", b"").decode(errors="replace"))
                waits = op is not None and op.subject is Subject.FOUND  # of two that wait, only one for the other
                if not waits or (int(record.get("created", b"0")), fanout_id) < (created, claim.id):
                    return True
        start += len(ids)
    return False


def erase(manager: Manager, user_id: EntityId, removed: Iterator[Fact], fanout_id: str) -> None:
    """Delete all feeds of *user_id*, and all that names them, the *removed* activities included; *fanout_id*: what does so."""
    run = backend().run
    run(together([*_erase_feeds(manager, user_id), *_forget_pending(manager, user_id)]))
    run(backend().auxiliary.unfollows.forget_user(manager.name, str(user_id)))
    run(backend().auxiliary.notified_users.forget_user(manager.name, str(user_id)))
    facts = list(removed)
    ids = {fact.raw_id for fact in facts}
    letters = run(backend().journal.dead_letters(MAX_DEAD_LETTERS))
    theirs = [each for each in letters if _names(each, manager, str(user_id), ids)]
    dead_letters.delete([each.id for each in theirs])
    run(together([backend().maintenance.forget(fanout_record_key(each.fanout)) for each in theirs if each.fanout]))
    for some in batched(facts, AT_ONCE):
        names = [removals.name_of(manager, fact.raw_id) for fact in some]
        forgotten: list[Steps[Any]] = [
            backend().journal.forget(manager.name, user_id, names),
            backend().auxiliary.notified_users.forget(manager.name, [fact.raw_id for fact in some]),
            *activity_bodies.forgotten(manager, [fact.raw_id for fact in some]),
        ]
        run(together(forgotten))
    run(backend().journal.forget(manager.name, user_id, [fanout_id]))


def _erase_feeds(manager: Manager, user_id: EntityId) -> list[Steps[Any]]:
    own, found = [*own_feeds.classes(manager), manager.user_feed_class], list[Steps[Any]]()
    for each in feed_classes.declared(manager):
        found.append(_erase_own(manager, each, user_id) if each in own else each.erase(user_id))
        spelled = [getattr(each, name) for name in each.key_attributes()]
        keys = [feed_key(key_format, user_id) for key_format in spelled]
        found += [backend().maintenance.forget(set_aside_key(key + end)) for key in keys for end in ("", GROUPS)]
        if each.expires_idle():
            found.append(backend().maintenance.forget(each.key_of(user_id) + PRESENT))
    return found


def _erase_own(manager: Manager, feed_class: Any, user_id: EntityId) -> Steps[None]:
    """Take out of a feed in which the user's own activities are what is gone, and what others did; what they did after they were
    deleted stays.
    """
    hashes = actor_hashes(user_id)
    members = yield from feed_class.all_members(user_id)
    facts = yield from activity_bodies.facts(manager, [member.raw_id for _, member in members])
    gone = [
        each
        for each in members
        if facts[each[1].raw_id].kind in (UNKNOWN, REMOVED) or each[1].raw_id[ACTOR_SLICE] not in hashes
    ]
    if len(gone) == len(members):
        yield from feed_class.erase(user_id)
    elif gone:
        yield from feed_class.remove_members(user_id, gone, 0)


def _forget_pending(manager: Manager, user_id: EntityId) -> list[Steps[Any]]:
    owners, indexes = [pack(each) for each in spellings(user_id)], backend().auxiliary
    found: list[Steps[Any]] = []
    for each in feed_classes.declared(manager):
        asked = [
            (indexes.pending_index, each.may_have_pending_writes),
            (indexes.aging_index, each.lifetime()),
            (indexes.idle_index, each.expires_idle()),
        ]
        found += [index.forget(each.key_format, owners) for index, is_used in asked if is_used]
    if "on_notification" in manager.told_hooks:
        found.append(indexes.hook_queue.forget(manager.name, {hook_bucket(user_id): owners}))
    return found


def _names(dead_letter: DeadLetter, manager: Manager, user: str, ids: set[bytes]) -> bool:
    """Whether a dead letter is about the user, or about what they did."""
    if dead_letter.manager != manager.name:
        return False
    try:
        if dead_letter.kind == HOOK:
            return dead_letters.content(dead_letter)[1] in [pack(each) for each in spellings(user)]
        name, body, _ = dead_letters.content(dead_letter)
        op = OPERATIONS.get(name)
        if op is not None and op.subject is Subject.FEEDS:
            return user in map(str, unpack(body)[: op.fewest])
    except (FeedmillError, TypeError, ValueError):
        return False
    return body in ids


__all__ = ["erase", "is_anything_older_open"]
