"""Bugs on purpose, of the kinds that were once there: the simulator must find each within ten minutes.

``python -m tests.simulation --mutation NAME`` puts one in and runs seeds until a history fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from feedmill.fanout import handle
from feedmill.feeds import watch
from feedmill.grouping import aging, marking, pending_writes
from feedmill.grouping.merge import GroupMerge
from feedmill.grouping.operations import EVERYTHING, is_updated
from feedmill.ids import split
from feedmill.manager import idle, writes
from feedmill.storage import activity_state
from feedmill.storage.cassandra import flat as cassandra_flat
from feedmill.storage.cassandra import session
from feedmill.storage.cassandra.flat import CassandraFlatTimelines
from feedmill.storage.cassandra.header import Header
from feedmill.storage.cassandra.session import BATCH, CONDITIONAL, CQL
from feedmill.storage.cassandra.timelines import CassandraTimelineStorage
from feedmill.storage.memory import DATA
from feedmill.storage.memory.activities import MemoryActivityStorage
from feedmill.storage.memory.auxiliary import MemoryNotifiedUsers
from feedmill.storage.memory.hook_queue import MemoryHookQueue
from feedmill.storage.memory.journal import MemoryJournal
from feedmill.storage.memory.maintenance import MemoryMaintenance
from feedmill.storage.memory.timelines import MemoryTimelineStorage
from feedmill.storage.operations import Steps, together
from feedmill.storage.procedures import stored
from feedmill.storage.pubsub import LISTENING
from feedmill.worker import chunk_tasks, compensation, delivery, follow, hook_calls, planner
from tests.reordering import order
from tests.simulation import app, coroutines
from tests.simulation import world as worlds
from tests.simulation.storages import MemoryDriver, RedisDriver

Patch = Callable[[Any, str, Any], None]


def finished_in_two_steps(patch: Patch) -> None:
    """What is due is dropped before its record says that it is finished: whoever dies in between leaves it for ever."""
    finish = MemoryJournal.finish

    def mutant(self: Any, manager: str, done: Sequence[Any]) -> Steps[None]:
        for claim, _ in done:
            yield from MemoryMaintenance().due_drop(manager, claim.id)
        yield from finish(self, manager, done)

    patch(MemoryJournal, "finish", mutant)


def journal_first(patch: Patch) -> None:
    """The journal knows of a call before what it counts on is stored: a worker that comes in between does nothing."""
    start = handle.enqueue

    def mutant(manager: str, op: str, wanted: Any, operations: Sequence[Any] = (), **options: Any) -> Any:
        fanouts = yield from start(manager, op, wanted, **options)
        if operations:
            yield from stored(together(operations))
        return fanouts

    patch(handle, "enqueue", mutant)


def token_unchecked(patch: Patch) -> None:
    """A commit does not look whether the lock is still its own."""
    commit = MemoryTimelineStorage._commit

    def mutant(feed: Any, lock: Any, channel: str) -> Any:
        held = DATA.groups.get(feed.key)
        if held is not None and held.lock != lock.following:
            held.lock = lock.token
        return commit(feed, lock, channel)

    patch(MemoryTimelineStorage, "_commit", staticmethod(mutant))


def no_look_behind(patch: Patch) -> None:
    """Whoever has delivered does not look whether something else is so with the activity by now."""
    patch(compensation, "_changed", lambda manager, made, seen: ([], list(made)))


def unfollowed_unseen(patch: Patch) -> None:
    """Whoever has delivered does not look who has unfollowed meanwhile."""
    patch(compensation, "_concerned", lambda deliveries, unfollowed: set())


def refused_stays(patch: Patch) -> None:
    """Whom the filters keep out keeps what was delivered before, or as it was before."""
    patch(delivery, "_may_be_there", lambda request, effect: False)


def update_unfiltered(patch: Patch) -> None:
    """An update of what has arrived asks no filter whether followers may still have it."""
    patch(planner, "_is_changed", lambda manager, fact, classes: fact.live and any(map(is_updated, classes)))


def inbox_is_dropped(patch: Patch) -> None:
    """What was left among the pending writes and cannot be read here is dropped, and what stands behind it."""
    read = pending_writes.read

    def mutant(*given: Any) -> Any:
        found = read(*given)
        known = itertools.takewhile(lambda write: write.error is None, found.writes)
        return dataclasses.replace(found, writes=tuple(known))

    patch(pending_writes, "read", mutant)


def aged_uncounted(patch: Patch) -> None:
    """Groups that go because they are too old stay counted."""

    def mutant(self: Any) -> None:
        counted, self.counted = self.counted, False
        expire(self)
        self.counted = counted

    expire = GroupMerge._expire
    patch(GroupMerge, "_expire", mutant)


def aged_forgotten(patch: Patch) -> None:
    """Nobody notes that something will be too old."""
    patch(aging, "noted", lambda feed_class, user_ids, oldest, horizon, operation: operation)


def idle_not_begun(patch: Patch) -> None:
    """A rebuild does not say that a feed is there before it fills it, so that nothing is taken."""

    def mutant(self: Any, key: str, idle: int) -> Steps[bool]:
        yield from ()
        return True

    patch(MemoryTimelineStorage, "idle_begin", mutant)


def named_for_good(patch: Patch) -> None:
    """Who is deleted stays in the lists of those who were notified of what others did."""

    def mutant(self: Any, manager: str, user: str) -> Steps[None]:
        yield from ()

    patch(MemoryNotifiedUsers, "forget_user", mutant)


def no_tombstone(patch: Patch) -> None:
    """A removal leaves nothing behind by which who comes late, or calls again, could know of it."""
    change = MemoryActivityStorage._change

    def mutant(self: Any, what: str, raw_id: bytes, body: bytes, expected: bytes) -> bytes | None:
        value = change(self, what, raw_id, body, expected)
        if what == activity_state.REMOVE:
            self._held.pop(raw_id, None)
        return value

    patch(MemoryActivityStorage, "_change", mutant)


def unfollowed_by_key(patch: Patch) -> None:
    """Who unfollows somebody loses what another of the same number did, whatever kind of thing that is."""
    unfollow = follow.unfollow

    def mutant(manager: Any, user_id: Any, target_id: Any) -> Steps[int]:
        key = split(target_id).key
        taken = 0
        for each in (key, f"team:{key}"):
            taken += yield from unfollow(manager, user_id, each)
        return taken

    patch(follow, "unfollow", mutant)


def loss_unnoticed(patch: Patch) -> None:
    """A subscriber that has lost its connection goes on as if nothing had been published meanwhile."""
    hear = watch.Watch.hear

    def mutant(self: Any, channel: str, message: bytes) -> None:
        if message != LISTENING or self._topics[channel].latest is None:
            hear(self, channel, message)

    patch(watch.Watch, "hear", mutant)


def removal_unpublished(patch: Patch) -> None:
    """What is taken out of a flat feed is published to nobody."""
    remove = MemoryTimelineStorage.flat_remove

    def mutant(self: Any, keys: Sequence[str], ids: Sequence[bytes], channel: str = "") -> Steps[int]:
        return remove(self, keys, ids)

    patch(MemoryTimelineStorage, "flat_remove", mutant)


def marked_unshown(patch: Patch) -> None:
    """A mark reaches what is there when it is carried out, whatever was shown."""
    apply = marking.apply

    def mutant(groups: Any, op: Any) -> None:
        named = None if op.groups is None else dict.fromkeys(op.groups, EVERYTHING)
        apply(groups, dataclasses.replace(op, groups=named, until=EVERYTHING))

    patch(marking, "apply", mutant)


def cancelled_halfway(patch: Patch) -> None:
    """What a coroutine has begun ends when that is cancelled, and nobody takes it up again."""
    outcome = coroutines.Task.outcome

    def mutant(self: Any) -> Any:
        try:
            return outcome(self)
        except asyncio.CancelledError:
            self.process.dead, self.process.wake = True, self.world.now
            self._over, self.result = True, []
            raise

    patch(coroutines.Task, "outcome", mutant)


def unasked_by_coroutines(patch: Patch) -> None:
    """A coroutine that reads a feed that is gone has it rebuilt by nobody."""

    async def mutant(manager: Any, feed: Any, operation: Steps[Any]) -> Any:
        return await type(feed)._arun(operation)

    patch(idle, "_arun", mutant)


def dated_twice(patch: Patch) -> None:
    """What is dated too far ahead is stored as of one moment, and delivered as of another."""
    storing = writes.storing

    def mutant(manager: Any, op: Any, activities: Sequence[Any], **options: Any) -> Any:
        later = [each.dated(each.microseconds + (each.microseconds > app.DAWN * 1e6)) for each in activities]
        return storing(manager, op, later, **options)

    patch(writes, "storing", mutant)


def dropped_before_told(patch: Patch) -> None:
    """What a hook is to be told is dropped before it is called: whoever dies in it, or raises, has told nobody."""
    tell = hook_calls._Bucket._tell

    def mutant(self: Any, hook: str, batch: Sequence[Any]) -> None:
        self._drop(batch)
        tell(self, hook, batch)

    patch(hook_calls._Bucket, "_tell", mutant)


def noted_again_unseen(patch: Patch) -> None:
    """Who was told is forgotten, though something came in meanwhile and was noted."""
    settle = MemoryHookQueue.settle

    def mutant(self: Any, manager: str, bucket: int, settlements: Sequence[Any], release: bytes = b"") -> Steps[None]:
        yield from settle(self, manager, bucket, settlements, release)
        yield from self.forget(manager, {bucket: [each.claim.owner for each in settlements if each.delay is None]})

    patch(MemoryHookQueue, "settle", mutant)


def shared_dropped(patch: Patch) -> None:
    """Of chunks that are delivered together the last is noted as done, and is not delivered."""
    plain = chunk_tasks._together

    def mutant(manager: Any, op: Any, begun: Sequence[Any], deadline: float) -> list[Any]:
        done = plain(manager, op, begun[:-1] if len(begun) > 1 else begun, deadline)
        return [*done, *_noted(begun[-1:])] if done and len(begun) > 1 else done

    patch(chunk_tasks, "_together", mutant)


def shared_failure_done(patch: Patch) -> None:
    """Chunks that are delivered together and fail are noted as done."""
    plain = chunk_tasks._together

    def mutant(manager: Any, op: Any, begun: Sequence[Any], deadline: float) -> list[Any]:
        try:
            return plain(manager, op, begun, deadline) or _noted(begun)
        except Exception:
            return _noted(begun)

    patch(chunk_tasks, "_together", mutant)


def _noted(begun: Sequence[Any]) -> list[Any]:
    """Chunks that were begun, as if they were delivered to nobody."""
    return [chunk_tasks._Delivered(named, 0, {}) for named, _ in begun]


def _in_any_order(patch: Patch, *, ignored: bool) -> None:
    """Storages are as several servers: each round trip's commands take effect in an order of their own."""
    answers, perform = MemoryDriver._answers, RedisDriver._perform

    def answered(world: Any, commands: list[Any]) -> list[Any]:
        places = order(commands, world.rng, ignored=ignored)
        return _back(places, answers(world, [commands[place] for place in places]))

    def performed(self: Any, wanted: Iterable[Any], pause: Any) -> list[Any]:
        assert worlds.WORLD is not None
        commands = list(wanted)
        places = order(commands, worlds.WORLD.rng, ignored=ignored)
        return _back(places, perform(self, [commands[place] for place in places], pause))

    patch(MemoryDriver, "_answers", staticmethod(answered))
    patch(RedisDriver, "_perform", performed)


def _back(places: Sequence[int], replies: Sequence[Any]) -> list[Any]:
    """Replies in the order of the commands, given where each of them stood."""
    return [reply for _, reply in sorted(zip(places, replies), key=lambda pair: pair[0])]


def barriers_ignored(patch: Patch) -> None:
    """A driver with several servers waits for nothing before it sends what is behind a barrier."""
    _in_any_order(patch, ignored=True)


def reordered(patch: Patch) -> None:
    """No bug: a driver with several servers, which waits at barriers."""
    _in_any_order(patch, ignored=False)


def header_last(patch: Patch) -> None:
    """The rows of a feed are read first and its header second: an old row is written back under a new version."""
    snapshots = CassandraTimelineStorage._snapshots

    def mutant(self: Any, pending: Any, request: Any, limits: Any) -> Steps[Any]:
        found = yield from snapshots(self, pending, request, limits)
        headers = yield [(CQL, "header", key, (key,)) for key in found]
        for (key, snapshot), rows in zip(list(found.items()), headers):
            found[key] = dataclasses.replace(snapshot, basis=Header.read(key, rows[0]) if rows else Header())
        return found

    patch(CassandraTimelineStorage, "_snapshots", mutant)


def unconditional(patch: Patch) -> None:
    """A commit takes effect whatever others have committed since its feed was read."""
    commit = CassandraTimelineStorage.commit

    def mutant(self: Any, batch: Sequence[Any], lock: Any, channel: str) -> Steps[Any]:
        steps = commit(self, batch, lock, channel)
        try:
            wanted = next(steps)
            while True:
                commands = list(wanted)
                replies = yield commands
                for number, command in enumerate(commands):
                    while command[1] == CONDITIONAL and not replies[number][0]:
                        command = _whatever_there_is(command, replies[number][1])
                        (replies[number],) = yield [command]
                wanted = steps.send(replies)
        except StopIteration as stop:
            return stop.value

    patch(CassandraTimelineStorage, "commit", mutant)


def _whatever_there_is(command: Any, version: bytes | None) -> Any:
    """A commit, on the condition that the version is what it is."""
    word, name, key, ((statement, values), *rest) = command
    written = values[1:] if statement == "begin" else values[:-2]
    first = ("begin", (key, *written)) if version is None else ("update", (*written, key, version))
    return word, name, key, [first, *rest]


def lost_answer_refused(patch: Patch) -> None:
    """No bug: a conditional write that was sent again, its answer lost, is taken as refused, and its work is done again."""
    reply = session._reply

    def mutant(command: Any, rows: list[Any]) -> Any:
        if command[1] != CONDITIONAL:
            return reply(command, rows)
        return bool(rows[0]["[applied]"]), rows[0].get("version")

    patch(session, "_reply", mutant)


def lost_answer_applied(patch: Patch) -> None:
    """A conditional write that was refused is taken for one whose answer was lost."""
    reply = session._reply

    def mutant(command: Any, rows: list[Any]) -> Any:
        found = reply(command, rows)
        return (True, found[1]) if command[1] == CONDITIONAL else found

    patch(session, "_reply", mutant)


def pending_dropped_behind(patch: Patch) -> None:
    """What others left among the pending writes while a commit was on its way goes with what the commit did."""
    commit = CassandraTimelineStorage.commit

    def mutant(self: Any, batch: Sequence[Any], lock: Any, channel: str) -> Steps[Any]:
        return commit(self, [dataclasses.replace(feed, pending_done=10**9) for feed in batch], lock, channel)

    patch(CassandraTimelineStorage, "commit", mutant)


def time_not_new(patch: Patch) -> None:
    """Ids are written and removed with the time at which the minute began."""
    patch(cassandra_flat, "write_time", lambda: int(worlds.clock(lambda: 0.0)()) // 60 * 60_000_000)


def only_what_changes(patch: Patch) -> None:
    """Of a flat feed only ids that are not there are written, and only those removed that are: a write that timed out comes behind."""

    def wrapped(operation: Callable[..., Steps[Any]]) -> Callable[..., Steps[Any]]:
        def mutant(self: Any, *args: Any, **kwargs: Any) -> Steps[Any]:
            steps, held = operation(self, *args, **kwargs), set[tuple[str, bytes]]()
            try:
                wanted = next(steps)
                while True:
                    commands = [_only_changes(command, held) for command in wanted]
                    replies = yield commands
                    held |= {
                        (command[2], raw_id)
                        for command, rows in zip(commands, replies)
                        if command[1] == "ids_known"
                        for raw_id, _ in rows
                    }
                    wanted = steps.send(replies)
            except StopIteration as stop:
                return stop.value

        return mutant

    for name in ("flat_add", "flat_remove"):
        patch(CassandraFlatTimelines, name, wrapped(getattr(CassandraFlatTimelines, name)))


def _only_changes(command: Any, held: Any) -> Any:
    """A batch without what is so already; a count, which changes nothing, in place of one that is empty."""
    word, name, key, writes = command if command[1] == BATCH else (*command[:3], ())
    if name != BATCH:
        return command
    changes = [
        (part, values)
        for part, values in writes
        if part == "ids_size" or ((key, values[2 if part == "ids_remove" else 1]) in held) == (part == "ids_remove")
    ]
    return (word, name, key, changes) if changes else (word, "ids_count", key, (key,))


#: Those of feeds on Cassandra, which only histories that have some can find.
ON_CASSANDRA: dict[str, Callable[[Patch], None]] = {
    "header-last": header_last,
    "unconditional": unconditional,
    "lost-answer-applied": lost_answer_applied,
    "pending-dropped-behind": pending_dropped_behind,
    "time-not-new": time_not_new,
    "only-what-changes": only_what_changes,
}


def storage_of(name: str) -> str:
    """The storage on which the bug *name* can be found."""
    return "cassandra" if name in ON_CASSANDRA else "memory"


#: The bugs by name.
MUTATIONS: dict[str, Callable[[Patch], None]] = {
    "finished-in-two-steps": finished_in_two_steps,
    "journal-first": journal_first,
    "token-unchecked": token_unchecked,
    "no-look-behind": no_look_behind,
    "unfollowed-unseen": unfollowed_unseen,
    "refused-stays": refused_stays,
    "update-unfiltered": update_unfiltered,
    "pending-writes-dropped": inbox_is_dropped,
    "named-for-good": named_for_good,
    "no-tombstone": no_tombstone,
    "aged-uncounted": aged_uncounted,
    "aged-forgotten": aged_forgotten,
    "idle-not-begun": idle_not_begun,
    "unfollowed-by-key": unfollowed_by_key,
    "loss-unnoticed": loss_unnoticed,
    "removal-unpublished": removal_unpublished,
    "barriers-ignored": barriers_ignored,
    "marked-unshown": marked_unshown,
    "dated-twice": dated_twice,
    "cancelled-halfway": cancelled_halfway,
    "unasked-by-coroutines": unasked_by_coroutines,
    "dropped-before-told": dropped_before_told,
    "noted-again-unseen": noted_again_unseen,
    "shared-dropped": shared_dropped,
    "shared-failure-done": shared_failure_done,
}
#: What no history must find, by name.
HARMLESS: dict[str, Callable[[Patch], None]] = {"reordered": reordered, "lost-answer-refused": lost_answer_refused}


@contextlib.contextmanager
def mutated(name: str) -> Iterator[None]:
    """While this lasts the code has the bug *name*."""
    undo: list[tuple[Any, str, Any]] = []

    def patch(place: Any, attribute: str, value: Any) -> None:
        undo.append((place, attribute, vars(place)[attribute]))
        setattr(place, attribute, value)

    (MUTATIONS | ON_CASSANDRA | HARMLESS)[name](patch)
    try:
        yield
    finally:
        for place, attribute, value in reversed(undo):
            setattr(place, attribute, value)
