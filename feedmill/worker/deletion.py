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
from feedmill.manager import Manager, activity_bodies, feed_classes, own_feeds, writes
from feedmill.manager.activity_bodies import UNKNOWN, Fact
from feedmill.manager.audience import admitted
from feedmill.msgpack_codec import pack, unpack
from feedmill.storage.activity_state import REMOVED
from feedmill.storage.journal import HOOK, MAX_DEAD_LETTERS, DeadLetter
from feedmill.storage.operations import Steps, together
from feedmill.storage.registry import backend
from feedmill.worker import dead_letters

#: Entries of the list of what is due, and activities, that are read in one round trip.
AT_ONCE = 500


def asked_at(fanout_id: str) -> int:
    """When a fan-out was asked for, ms; 0 if nothing is known of it."""
    return int(backend().run(backend().journal.get(fanout_id)).get("created", "0"))


def is_anything_older_open(manager: Manager, deletion_id: str, created: int) -> bool:
    """Whether a fan-out of the manager is not done that was asked for before the deletion, which was at *created*, or in the same
    millisecond.

    One that was asked for later in place of another counts as that: whoever has begun the other may still be at it.
    """
    start = 0
    while ids := backend().run(backend().journal.list_due(manager.name, start, AT_ONCE)).ids:
        records = backend().run(backend().maintenance.fanout_records(ids))
        for fanout_id, record in zip(ids, records):
            if fanout_id == deletion_id or not record:
                continue
            opened, op = (
                int(record.get("created", b"0")),
                OPERATIONS.get(record.get("op", b"").decode(errors="replace")),
            )
            if op is not None and op.subject is Subject.FOUND:  # of two that wait, only one for the other
                is_older = (opened, fanout_id) < (created, deletion_id)
            else:
                is_older = opened <= created or "rerun_at" in record
            if is_older:
                return True
        start += len(ids)
    return False


def forget_unfollows(manager: Manager, user_id: EntityId, number: int, created: int) -> None:
    """Forget the unfollows that name a user, as far as nobody needs them: whoever delivers may have listed people at any time since the
    deletion was asked for, at *created* behind the unfollow *number*.

    A rebuild that was asked for before may have left something behind since; if another was asked for later, it is taken for that one's.
    """
    unfollows = backend().auxiliary.unfollows
    last: int | None = backend().run(unfollows.last_number(manager.name))
    if asked_at(writes.rebuild_id(manager, user_id)) > created:
        last = None
    backend().run(unfollows.forget_user(manager.name, str(user_id), number, last))


def erase(manager: Manager, user_id: EntityId, removed: Iterator[Fact], fanout_id: str) -> None:
    """Delete all feeds of *user_id*, and all that names them, the *removed* activities included; *fanout_id*: what does so."""
    run = backend().run
    # From then on nobody delivers to them what they were notified of by name: a removal would not know of it.
    run(backend().auxiliary.notified_users.forget_user(manager.name, str(user_id)))
    run(together([*_erase_feeds(manager, user_id), *_forget_pending(manager, user_id)]))
    facts = list(removed)
    ids = {fact.raw_id for fact in facts}
    letters = run(backend().journal.dead_letters(MAX_DEAD_LETTERS))
    theirs = [each for each in letters if _names(each, manager, str(user_id), ids)]
    dead_letters.delete([each.id for each in theirs])
    run(together([backend().maintenance.forget(fanout_record_key(each.fanout)) for each in theirs if each.fanout]))
    for some in batched(facts, AT_ONCE):
        names = [writes.name_of(manager, fact.raw_id) for fact in some]
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
    deleted stays: also what they do at this moment.
    """
    hashes = actor_hashes(user_id)
    while True:
        members = yield from feed_class.all_members(user_id)
        facts = yield from activity_bodies.facts(manager, [member.raw_id for _, member in members])
        gone = [
            each
            for each in members
            if facts[each[1].raw_id].kind in (UNKNOWN, REMOVED) or each[1].raw_id[ACTOR_SLICE] not in hashes
        ]
        if not gone:
            return
        yield from feed_class.remove_members(user_id, gone, 0)
        ids = [member.raw_id for _, member in gone if member.raw_id[ACTOR_SLICE] in hashes]
        facts = yield from activity_bodies.facts(manager, ids)
        again = [each.activity for each in facts.values() if each.live and each.activity is not None]
        if feed_class is not manager.user_feed_class:
            again = [each for each in again if admitted(manager, each, [each.actor_id])]
        if not again:
            return
        yield from feed_class.deliver([user_id], again)


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


__all__ = ["asked_at", "erase", "forget_unfollows", "is_anything_older_open"]
