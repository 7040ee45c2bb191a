"""What is due: workers claim it, merge it into as few round trips as they can, and settle it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from celery.exceptions import SoftTimeLimitExceeded

from feedmill import metrics, registry, tracing
from feedmill.errors import RETRY_ELSEWHERE, MessageError, SettingsError, StorageAway, StorageError, WrongType
from feedmill.fanout import publisher
from feedmill.fanout.operations import ADD, PLANNED, FanoutOperation, Subject, operation_called
from feedmill.feeds.flat import Feed
from feedmill.grouping.writer import recover_pending_writes
from feedmill.ids import EntityId
from feedmill.manager import Manager, activity_bodies, feed_classes, removal_index
from feedmill.manager.activity_bodies import Fact
from feedmill.manager.hook_results import Skipped
from feedmill.registry import feed_names
from feedmill.storage.deadline import LeaseExpired, with_deadline
from feedmill.storage.journal import Claim, lease
from feedmill.storage.operations import Steps, together
from feedmill.storage.registry import backend, backend_for
from feedmill.worker import aging, compensation, dead_letters, heartbeat, hook_wakeups, planner, removal, reporting
from feedmill.worker.delivery import (
    OLDER,
    Delivery,
    about,
    count_recipients,
    manager_named,
)
from feedmill.worker.heartbeat import Watch
from feedmill.worker.isolation import driven, halves, isolate, split_people

logger = logging.getLogger(__name__)

#: Fan-outs that are claimed at a time, and deliveries and messages after which the rest is left to others.
MOST_CLAIMS, MOST_DELIVERIES, MOST_MESSAGES = 100, 5000, 500
#: What a further activity for the same people counts as: it is written along with the others.
FOLDED = 0.1
#: Fan-outs of one author whose followers are listed once, and whose chunks share messages.
MOST_SHARED = 25
#: Seconds for which hooks are asked whom else these concern, before the chunks are sent.
LONGEST_GATHERING = 0.25
#: Attempts after which a fan-out that fails, or whose chunks stay undone, becomes a dead letter.
MOST_ATTEMPTS = 12
#: Seconds until a fan-out that failed is tried again: the first time, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 600.0
#: Seconds until a fan-out is tried again whose feeds are on servers that are away, about. That counts as no attempt.
AWAY_PAUSE = 10.0
#: Seconds for which what is ready waits for what else a round plans, before it is delivered.
LONGEST_WAIT = 1.0
#: Seconds until chunks that stay undone are sent again, at most; the first time it is the lease.
LONGEST_SILENCE = 3600.0


def drain(manager_name: str, wakeup_id: str = "") -> int:
    """Answer the wake-up message with the message id *wakeup_id*: do what is due; how many people were reached or planned for.

    A wake-up message that is delivered again, because the worker that answered it died, brings up what that worker had taken. What one
    fan-out does wrong harms no other. If more is due than one worker takes, the wake-up message is sent again before the work
    begins, so that others join.
    """
    manager, began = manager_named(manager_name), time.monotonic()
    deadline = began + lease() / 1000
    claims, wake = backend().run(backend().journal.claim(manager_name, MOST_CLAIMS, wakeup_id))
    if wake:
        publisher.wake_workers(manager_name)
    raw_ids = dict.fromkeys(raw_id for claim in claims for raw_id in _one_activity(claim))
    facts = backend().run(activity_bodies.facts(manager, list(raw_ids)))
    drain_pass = _DrainPass(manager, deadline, facts)
    with _traced(manager_name, claims, began) if tracing.sink is not None else tracing.NOTHING:
        try:
            reached = drain_pass.run(claims)
        except Exception:
            hook_wakeups.work_done(manager)
            raise
        if claims:
            hook_wakeups.work_done(manager)
        reporting.task_done(
            "round done",
            began,
            manager=manager_name,
            fanouts=len(claims),
            deliveries=drain_pass.reached,
            messages=drain_pass.messages,
        )
    return reached


def _traced(manager_name: str, claims: Sequence[Claim], began: float) -> AbstractContextManager[Any]:
    """The block in which a round is done, as a step of its own that is linked to the traces of its fan-outs, if one of these has any."""
    traces = [claim.trace for claim in claims if claim.trace]
    if not traces:
        return tracing.NOTHING
    attributes = {"messaging.batch.message_count": len(claims)}
    return tracing.receiving(tracing.CLAIM, manager_name, traces, attributes, began)


def _one_activity(claim: Claim) -> list[bytes]:
    """The id of what a fan-out is about, if it is about one activity, and it can be read here."""
    op = PLANNED.get(claim.op)
    if op is None or op.subject in (Subject.ACTIVITIES, Subject.FOUND):
        return []
    try:
        return about(op, claim.body)
    except MessageError:
        return []


def sweep() -> int:
    """Wake workers for every manager of which something is overdue, and do what dead holders of feeds left; how much there was.

    Then what is too old is taken out of feeds, and feeds that nobody uses are deleted. At the end it is recorded that a sweep was
    done.
    """
    overdue = sum(map(_recover_pending_writes, kinds_with_pending_writes()))
    for name in registry.manager_names():
        try:
            count, wake = backend().run(backend().journal.wake_if_overdue(name))
        except WrongType as error:  # others' work is elsewhere
            logger.error("what is due of %s cannot be looked at: %s", name, error)
            continue
        overdue += count
        if wake:
            publisher.wake_workers(name)
        _clean_index(name)
        _find_untold(name)
    for kind in _kinds():
        if kind.lifetime():
            _run_on(kind, aging.expire)
        if kind.expires_idle():
            _run_on(kind, aging.end_idle)
    backend().run(backend().journal.record_sweep())
    return overdue


def _clean_index(name: str) -> None:
    """Drop what is gone from a part of a manager's index of activities."""
    manager = manager_named(name)
    if manager.removal_index:
        try:
            backend().run(removal_index.clean(manager))
        except WrongType as error:
            logger.error("the index of activities of %s cannot be looked at: %s", name, error)


def _find_untold(name: str) -> None:
    """Have told what hooks of a manager were not told."""
    try:
        hook_wakeups.sweep(manager_named(name))
    except WrongType as error:
        logger.error("what hooks of %s are to be told cannot be looked at: %s", name, error)


def kinds_with_pending_writes() -> list[type[Feed]]:
    """The declared feed classes whose writes may be left to the holder of a lock."""
    return [kind for kind in _kinds() if kind.may_have_pending_writes]


def _recover_pending_writes(feed_class: type[Feed]) -> int:
    try:
        found = backend().run(recover_pending_writes(feed_class))
    except (WrongType, StorageAway, SettingsError) as error:
        logger.error("what was left to holders of feeds of %s cannot be looked at: %s", feed_class.__name__, error)
        return 0
    except StorageError:
        raise
    except Exception:  # an app's own aggregator may raise anything: that is about this kind of feed alone
        logger.exception("what was left to holders of feeds of %s waits", feed_class.__name__)
        return 0
    if found:
        if metrics.sink is not None:
            metrics.sink.add(metrics.RECOVERED, found, (feed_class.__name__,))
        logger.warning(
            "%s feeds of %s held what was left to somebody who died; it is done now", found, feed_class.__name__
        )
    return found


def _kinds() -> list[type[Feed]]:
    """All declared feed classes."""
    managers = map(registry.get_manager, registry.manager_names())
    return list(dict.fromkeys(kind for each in managers for kind in feed_classes.declared(each)))


def _run_on(feed_class: type[Feed], operation: Callable[[type[Feed]], Steps[int]]) -> None:
    """*operation* on feeds of a kind, as a sweep does it."""
    try:
        backend_for(feed_class.timeline_storage_class).run(operation(feed_class))
    except (WrongType, StorageAway, SettingsError) as error:
        logger.error("feeds of %s that are too old or idle cannot be looked at: %s", feed_class.__name__, error)


class _Ready(NamedTuple):
    """A fan-out that this round delivers itself."""

    claim: Claim
    deliveries: list[Delivery]
    #: Until when, by ``time.monotonic()``.
    deadline: float
    #: How many people these reach.
    reached: int
    #: What went wrong with what is not among the deliveries.
    error: Exception | None = None


class _DrainPass:
    """Claimed fan-outs of one manager, done together."""

    def __init__(self, manager: Manager, deadline: float, facts: Mapping[bytes, Fact]) -> None:
        self.manager, self.deadline, self.facts = manager, deadline, facts
        self.halftime = deadline - lease() / 2000
        self.feeds = frozenset(feed_names(manager.name))
        self.ready: list[_Ready] = []
        #: Since when the first of these waits.
        self.since = 0.0
        self.deliveries = self.messages = 0
        #: How many people the fan-outs have reached that were delivered.
        self.reached = 0
        #: What these cost, in deliveries of one activity alone, and for whom there was one in this round.
        self.work, self.audiences = 0.0, set[int]()
        #: Queues that have no room for the first chunk of a plan, and who waits for that.
        self.full: dict[str, list[Claim]] = {}
        self.error: Exception | None = None
        #: What is planned in this round, and at which place of it the claim is that is looked at.
        self.queue: Sequence[Claim] = ()
        self.place = 0
        #: Those that were planned along with one before them.
        self.shared = set[str]()
        #: What waits for others that are not done yet, and seconds until it is to be looked at again.
        self.undone: list[tuple[Claim, float]] = []
        self.watch = Watch(manager.name, self._let_go)
        #: The step in the trace of what is planned, if it is traced; and since when the last deliveries are made, if anybody traces.
        self.span: tracing.Span | None = None
        self.delivers_since = 0.0

    def run(self, claims: Sequence[Claim]) -> int:
        """Plan, and deliver what fits into a chunk; the rest is sent. Suspects come last, each alone.

        What was claimed before and not settled is suspect: whoever had it may have died of it, or of what else they had
        claimed. So each is written down as begun right before it is, and those that never were come first. So neither a
        bad one nor a slow one harms others, and those who wait for busy feeds do not wait for each other. Of those that
        wait for room in a queue, one looks for all: a crowd costs next to nothing, and holds up nobody.
        """
        self.queue = sorted(
            claims, key=lambda claim: (_waits(claim), _is_suspect(claim), claim.tries, bool(claim.waiting_queue))
        )
        is_left = self._plan_each()
        for name, waiting in self.full.items():
            planner.postpone(self.manager, waiting, name)
        self._look_again(is_left)
        if self.error is not None and (publisher.inline() or isinstance(self.error, LeaseExpired)):
            raise self.error  # in memory, the caller is the worker, and nobody else would tell
        return self.deliveries

    def _plan_each(self) -> bool:
        """Plan what is in the queue, and deliver it; whether some was left to other workers."""
        is_left = False
        for place, claim in enumerate(self.queue):
            if claim.id in self.shared:
                continue
            self.place = place
            if (
                _is_suspect(claim)
                or claim.waiting_queue
                or _waits(claim)
                or (self.ready and time.monotonic() > self.since + LONGEST_WAIT)
            ):
                self._deliver()
            if claim.waiting_queue in self.full:
                self.full[claim.waiting_queue].append(claim)
                continue
            if self._enough():
                self._leave(self._rest(place))
                is_left = True
                break
            if self._one(claim):
                is_left = True
                break
        self._deliver()
        return is_left

    def _look_again(self, is_left: bool) -> None:
        """Look for a second, if nothing else *is_left*, at what waits for others; it is postponed if it is not done by then.

        All were looked at once before any is waited for: one may wait for another of them, and must not keep it from being looked at.
        """
        until, before = time.monotonic() + LONGEST_WAIT, sum(map(_waits, self.queue))
        while self.undone and not is_left and time.monotonic() < until:
            if len(self.undone) == before:  # other workers are at what they wait for
                time.sleep(min(LONGEST_WAIT, *(pause for _, pause in self.undone)))
            before, self.queue, self.undone = len(self.undone), [claim for claim, _ in self.undone], []
            is_left = self._plan_each()
        if self.undone:
            name, journal = self.manager.name, backend().journal
            backend().run(together([journal.postpone(name, claim, pause) for claim, pause in self.undone]))

    def _enough(self) -> bool:
        """Whether this round has done what a round does."""
        much = self.work >= MOST_DELIVERIES or self.messages >= MOST_MESSAGES
        return much or time.monotonic() > self.halftime

    def _let_go(self) -> None:
        """Leave all others to other workers: what is planned is slow. While it is planned none of these change."""
        logger.info("fan-out %s of %s is slow to be planned", self.watch.id, self.manager.name)
        full = [each for waiting in self.full.values() for each in waiting]
        self._leave([*(each.claim for each in self.ready), *full, *self._rest(self.place + 1)])

    def _rest(self, place: int) -> list[Claim]:
        """What is in the queue from *place* on and not planned yet."""
        return [claim for claim in self.queue[place:] if claim.id not in self.shared]

    def _one(self, claim: Claim) -> bool:
        """Get a claim ready, or send its chunks; whether that was so slow that all others were left to other workers."""
        deadline, planned = self.deadline, None
        if _is_suspect(claim):
            deadline = time.monotonic() + lease() / 1000
            begun = backend().run(backend().journal.renew(self.manager.name, claim, begins=True))
            if begun is None:
                logger.warning("fan-out %s was called off or taken over before it was begun", claim.id)
                return False
            claim = begun
        if claim.tries > 1:
            reporting.retried(self.manager.name, metrics.ROUND)
        watch = self.watch
        watch.take(claim, deadline)
        try:
            with heartbeat.beating(watch):
                traced = claim.trace and tracing.sink is not None and not _waits(claim)
                plan = self._plan_traced if traced else self._plan
                planned = plan(claim, watch)
            claim = watch.claim
        except LeaseExpired as error:  # somebody else has it, or nobody wants it any more
            logger.warning("%s", error)
            planned = None
        except Exception as error:
            planned = None
            for each in watch.latest.values():
                self._failed(each, error)
        if watch.slow:
            self.ready = []
            self.full = {name: [each for each in some if each.id in watch.latest] for name, some in self.full.items()}
        if planned is not None:
            self.since = self.since if self.ready else time.monotonic()
            reached = count_recipients(planned.deliveries)
            self.ready.append(_Ready(claim, planned.deliveries, watch.deadline, reached, planned.error))
            deliveries = reached * max(1, len(planned.deliveries)) * (len(self.manager.feed_classes) or 1)
            people = hash(tuple(tuple(ids) for each in planned.deliveries for _, ids in each.parts))
            self.deliveries += deliveries
            self.work += deliveries * (FOLDED if people in self.audiences else 1)
            self.audiences.add(people)
        return watch.slow

    def _plan_traced(self, claim: Claim, watch: Watch) -> planner.Planned | None:
        """:meth:`_plan`, as a step in the trace of the fan-out."""
        with tracing.working(tracing.PLAN, self.manager.name, claim.trace, self._said_of(claim)) as self.span:
            try:
                return self._plan(claim, watch)
            finally:
                self.span = None

    def _said_of(self, claim: Claim, deliveries: Sequence[Delivery] = ()) -> dict[str, Any]:
        """What spans say of a fan-out."""
        said = {"feedmill.operation": claim.op, "feedmill.fanout.id": claim.id, "feedmill.attempt": claim.attempts}
        if (author := self._author(claim, deliveries)) is not None:
            said["feedmill.author"] = str(author)
        if raw_ids := _one_activity(claim):
            said["feedmill.activity.id"] = raw_ids[0].hex()
        return said

    def _plan(self, claim: Claim, watch: Watch) -> planner.Planned | None:
        """What one claim comes to, if it is to be delivered here; else its chunks are sent."""
        name = self.manager.name
        if claim.tries > MOST_ATTEMPTS:
            last = backend().run(backend().journal.get(claim.id)).get("error", "")
            why = f": {claim.died() if claim.deaths else last}" if claim.deaths or last else ""
            raise dead_letters.AttemptsExhausted(f"not done after {MOST_ATTEMPTS} attempts{why}")
        if not self.feeds.issuperset(claim.feeds):
            lacking = set(claim.feeds) - self.feeds
            logger.warning("fan-out %s: this worker's %s has no feed %r; %s", claim.id, name, min(lacking), OLDER)
            pause = FIRST_PAUSE * (0.5 + random.random())
            if self.span is not None:
                self.span.set({"feedmill.outcome": "postponed"})
            watch.close()
            backend().run(backend().journal.postpone(name, watch.claim, pause, waiting_queue=claim.waiting_queue))
            return None
        op = operation_called(claim.op)
        if claim.planned or op.subject is Subject.FEEDS:
            watch.close()
            messages = self._send_alone_or_rest(watch.claim)
            self.messages += messages
            if self.span is not None:
                self.span.set({"feedmill.messages": messages, "feedmill.outcome": "sent"})
            return None
        if op.subject is Subject.FOUND:
            return self._wait(op, watch)
        omitted = planner.Omitted(Skipped(), Skipped())
        facts = self.facts
        if op.subject is Subject.ACTIVITIES:  # they are read when they are needed
            facts = backend().run(activity_bodies.facts(self.manager, about(op, claim.body)))
        planned = planner.plan(self.manager, op, claim, facts, omitted)
        if isinstance(planned, planner.Planned):
            planner.record_omitted(self.manager, claim, omitted)
            return planned
        all_omitted = {claim.id: omitted}
        others: dict[str, list[planner.Chunk]] = {}
        if planned.by_followers and _may_share(claim) and not publisher.inline():  # there a message costs nothing
            others = self._sharing(op, claim, omitted.followers, all_omitted)
            watch.share(lambda: self._take(others), self.deadline)
            others = {name: chunks for name, chunks in others.items() if name in watch.latest}
        began = time.monotonic() if tracing.sink is not None else 0.0
        sent = planner.send(
            self.manager,
            watch,
            planner.shared(planned, claim, others),
            _silence(claim),
            self.full,
            all_omitted,
            self._author(claim),
        )
        self.messages += sent.messages
        if tracing.sink is not None:
            self._trace_sent(claim, [watch.latest[name] for name in others], sent, began)
        if sent.full:
            watch.close()
            self.full.setdefault(sent.full, []).extend(watch.held.values())
        return None

    def _trace_sent(self, claim: Claim, others: Sequence[Claim], sent: planner.Sent, began: float) -> None:
        """Say what became of a plan in the traces of its fan-outs: of *claim*, which was planned, and of those that were planned along with it."""
        said: dict[str, Any] = {"feedmill.messages": sent.messages, "feedmill.outcome": "full" if sent.full else "sent"}
        if self.span is not None:
            self.span.set(said)
        for each in others:
            if each.trace:
                tracing.worked(tracing.PLAN, self.manager.name, each.trace, {**self._said_of(each), **said}, began)

    def _sharing(
        self, op: FanoutOperation, claim: Claim, followers: Skipped, omitted: dict[str, planner.Omitted]
    ) -> dict[str, list[planner.Chunk]]:
        """The fan-outs for which the followers of *claim* are the same, and the chunks that each has beside them.

        They are additions of the same author, begun for the first time. What is left out of them is put into *omitted*. One of which a
        hook fails is planned when it is its turn, and so are all that are left when hooks have taken long.
        """
        found: dict[str, list[planner.Chunk]] = {}
        author, until = self._author(claim), time.monotonic() + LONGEST_GATHERING
        if author is None:
            return found
        for other in self._rest(self.place + 1):
            if len(found) + 1 >= MOST_SHARED or time.monotonic() > until:
                break
            if not (_may_share(other) and other.feeds == claim.feeds and other.waiting_queue not in self.full):
                continue
            its = self._author(other)
            if type(its) is not type(author) or its != author:  # as hooks get it: 1 and True are not the same
                continue
            (raw_id,), skipped = _one_activity(other), Skipped()
            try:
                chunks = planner.beside_followers(self.manager, op, other, self.facts[raw_id], skipped)
            except SoftTimeLimitExceeded:
                raise
            except Exception as error:
                logger.info("fan-out %s is planned by itself: %r", other.id, error)
                continue
            if chunks is not None:
                found[other.id], omitted[other.id] = chunks, planner.Omitted(followers, skipped)
        return found

    def _take(self, others: Mapping[str, list[planner.Chunk]]) -> list[Claim]:
        """Those of *others* that are still in the queue, for whom it is their turn now."""
        found = [claim for claim in self._rest(self.place + 1) if claim.id in others]
        self.shared.update(claim.id for claim in found)
        return found

    def _wait(self, op: FanoutOperation, watch: Watch) -> planner.Planned | None:
        """Nothing is left to be delivered of what waits for others, once those are done."""
        pause = removal.wait_for(self.manager, op, watch.claim)
        if pause is None:
            return planner.Planned([])
        watch.close()
        self.undone.append((watch.claim, pause))
        return None

    def _send_alone_or_rest(self, claim: Claim) -> int:
        """Send what has a task of its own, or chunks that are planned; how many messages."""
        silence = _silence(claim)
        if not claim.planned:
            return planner.publish_single(self.manager, claim, silence)
        if claim.sent == claim.planned:
            logger.warning("fan-out %s has chunks that stay undone; sending them again", claim.id)
        return planner.send_rest(self.manager, claim, silence, self._author(claim))

    def _leave(self, claims: Sequence[Claim]) -> None:
        """Give back what is too much for one round, and wake workers for it."""
        remaining = [
            backend().journal.postpone(self.manager.name, claim, 0, waiting_queue=claim.waiting_queue)
            for claim in claims
        ]
        backend().run(together(remaining))
        if backend().run(backend().journal.wake_if_overdue(self.manager.name)).wake:
            publisher.wake_workers(self.manager.name)

    def _deliver(self) -> None:
        """All that is ready in one go; if that fails, each alone. What needs servers that are away is not tried again in this round."""
        ready, self.ready = self.ready, []
        away: StorageAway | None = None
        if tracing.sink is not None:
            self.delivers_since = time.monotonic()
        try:
            self._run(ready)
            return
        except LeaseExpired as error:
            self.error = error
            return
        except Exception as error:
            if len(ready) == 1 and len(_split(ready[0].deliveries)) < 2:
                self._failed(ready[0].claim, error)
                return
            away = error if isinstance(error, StorageAway) else None
        for each in ready:
            if away is not None and planner.needs_others(self.manager, each.deliveries):
                self._failed(each.claim, away)
                continue
            if tracing.sink is not None:
                self.delivers_since = time.monotonic()
            try:
                self._run_apart(each)
            except Exception as error:
                away = error if isinstance(error, StorageAway) else away
                self._failed(each.claim, error)

    def _run(self, ready: Sequence[_Ready]) -> None:
        if not ready:
            return
        deliveries = [one for each in ready for one in each.deliveries]
        audience_read_at, deadline = (
            min(each.claim.audience_read_at for each in ready),
            min(each.deadline for each in ready),
        )
        backend().run(
            with_deadline(deadline, compensation.deliver_and_compensate(self.manager, deliveries, audience_read_at))
        )
        self._settle(ready)

    def _settle(self, ready: Sequence[_Ready]) -> None:
        """Note what was delivered whole, and what was not."""
        done = [(each.claim, each.reached) for each in ready if each.error is None]
        ages = backend().run(backend().journal.finish(self.manager.name, done))
        self.reached += sum([reached for _, reached in done])
        if done and reporting.is_watched():
            whole = [each for each in ready if each.error is None]
            reporting.fanouts_done(self.manager.name, [self._done(each, age) for each, age in zip(whole, ages)])
        for each in ready:
            if each.claim.trace and tracing.sink is not None:
                said = self._said_of(each.claim, each.deliveries)
                said.update(
                    {
                        "feedmill.users": each.reached,
                        "feedmill.feeds": planner.names_of_feeds(self.manager, each.deliveries),
                    }
                )
                tracing.worked(
                    tracing.DELIVER, self.manager.name, each.claim.trace, said, self.delivers_since, each.error
                )
            if each.error is not None:
                self._failed(each.claim, each.error)

    def _done(self, ready: _Ready, age: int) -> reporting.Done:
        """What is reported of a fan-out that was delivered whole, *age* milliseconds after it was asked for."""
        author = self._author(ready.claim, ready.deliveries)
        return reporting.Done(ready.claim.id, ready.claim.op, ready.reached, age, author, ready.claim.trace)

    def _author(self, claim: Claim, deliveries: Sequence[Delivery] = ()) -> EntityId | None:
        """Who did what a fan-out is about, and what *deliveries* are of; None if that is not known, or cannot be read."""
        if deliveries:
            return deliveries[0].activity.actor_id
        facts = (self.facts.get(raw_id) for raw_id in _one_activity(claim))
        return next((fact.activity.actor_id for fact in facts if fact is not None and fact.activity is not None), None)

    def _run_apart(self, ready: _Ready) -> None:
        """Deliver one fan-out in parts, if need be, so that what is bad of it harms nothing else of it."""
        again: Sequence[Delivery] = [one._replace(attempt=2) for one in ready.deliveries]

        def written(some: Sequence[Delivery]) -> Steps[Any]:
            return driven(
                compensation.deliver_and_compensate(self.manager, some, ready.claim.audience_read_at), ready.deadline
            )

        error = backend().run(isolate(again, written, _split))
        self._settle([ready if error is None else ready._replace(error=error)])

    def _failed(self, claim: Claim, error: Exception) -> None:
        """Note what went wrong with one fan-out; try it again later, or give it up."""
        self.error = error
        if isinstance(error, LeaseExpired):
            return
        began = time.monotonic() if tracing.sink is not None else 0.0
        outcome = self._settle_failed(claim, error)
        if claim.trace and tracing.sink is not None:
            said = {**self._said_of(claim), "feedmill.outcome": outcome}
            tracing.worked(tracing.SETTLE, self.manager.name, claim.trace, said, began, error)

    def _settle_failed(self, claim: Claim, error: Exception) -> str:
        """Put off a fan-out that has failed, or make a dead letter of it; which of both, in a word."""
        reporting.failed(self.manager.name, metrics.ROUND)
        reason = dead_letters.reason(error)
        if isinstance(error, RETRY_ELSEWHERE) and claim.feeds:  # else it has waited long enough for another worker
            logger.warning("fan-out %s of %s: %s; %s", claim.id, self.manager.name, reason, OLDER)
            pause = FIRST_PAUSE * (0.5 + random.random())
            backend().run(
                backend().journal.postpone(
                    self.manager.name, claim, pause, waiting_queue=claim.waiting_queue, written=True
                )
            )
            return "postponed"
        if isinstance(error, StorageAway):
            logger.warning("fan-out %s of %s waits: %s", claim.id, self.manager.name, reason)
            pause = AWAY_PAUSE * (0.5 + random.random())
            backend().run(backend().journal.postpone(self.manager.name, claim, pause, error=reason, written=True))
            return "postponed"
        if claim.tries >= MOST_ATTEMPTS:
            logger.error("fan-out %s of %s is given up: %s", claim.id, self.manager.name, reason, exc_info=error)
            dead_letters.dead_letter(self.manager.name, claim, reason)
            return "dead letter"
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (claim.tries - 1)) * (0.5 + random.random())
        logger.warning(
            "fan-out %s of %s failed (attempt %s, the next in %.1f s): %s",
            *(claim.id, self.manager.name, claim.tries, pause, reason),
            exc_info=None if isinstance(error, StorageError) else error,
        )
        backend().run(backend().journal.postpone(self.manager.name, claim, pause, error=reason))
        return "retry"


def _silence(claim: Claim) -> float:
    """Seconds until its chunks are sent again if they stay undone."""
    return min(LONGEST_SILENCE, lease() / 1000 * 2.0 ** (claim.tries - 1))


def _waits(claim: Claim) -> bool:
    """Whether it waits for others, which may be among those that are claimed with it."""
    op = PLANNED.get(claim.op)
    return op is not None and op.subject is Subject.FOUND


def _may_share(claim: Claim) -> bool:
    """Whether it may be planned along with others: it adds an activity, and nobody has begun it before."""
    return claim.op == ADD.name and not (_is_suspect(claim) or claim.planned or claim.relisted)


def _is_suspect(claim: Claim) -> bool:
    """Whether somebody had it before, and did not settle it."""
    return claim.attempts > 1


def _split(deliveries: Sequence[Delivery]) -> list[Sequence[Delivery]]:
    """Half of the activities, and then half of the people."""
    if len(deliveries) != 1:
        return halves(deliveries)
    return [[deliveries[0]._replace(parts=some)] for some in split_people(deliveries[0].parts)]
