"""What is due: workers claim it, fold it into as few round trips as they can, and settle it."""

from __future__ import annotations

import dataclasses
import logging
import random
import time
from collections.abc import Sequence

from feedmill import registry
from feedmill.delivery import chunks, late, letters
from feedmill.delivery.deliveries import OLDER, Delivery, checked_op, manager_called, people_of
from feedmill.errors import StorageError, WrongType
from feedmill.fanout import dispatch
from feedmill.feeds.aggregated_feed import AggregatedFeed
from feedmill.feeds.cycle import fold_in
from feedmill.manager import Manager
from feedmill.manager.ops import ALONE, PLANNED
from feedmill.registry import feed_names
from feedmill.storage.backends import backend
from feedmill.storage.journal import Claim, journal, lease
from feedmill.storage.lease import LeaseExpired, within
from feedmill.storage.steps import together

logger = logging.getLogger(__name__)

#: Fan-outs that are claimed at a time, and deliveries and messages after which the rest is left to others.
MOST_CLAIMS, MOST_DELIVERIES, MOST_MESSAGES = 100, 5000, 500
#: Attempts after which a fan-out that fails, or whose chunks stay undone, becomes a dead letter.
MOST_ATTEMPTS = 12
#: Seconds until a fan-out that failed is tried again: the first time, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 600.0
#: Seconds until chunks that stay undone are sent again, at most; the first time it is the lease.
LONGEST_SILENCE = 3600.0


def answer(manager_name: str, bell: str = "") -> int:
    """Answer the bell with the message id *bell*: do what is due; how many people were reached or planned for.

    A bell that comes again, because the worker that answered it died, brings up what that worker had taken. What one
    fan-out does wrong harms no other. If more is due than one worker takes, the bell is rung again before the work
    begins, so that others join.
    """
    manager, deadline = manager_called(manager_name), time.monotonic() + lease() / 1000
    claims, ring = backend().run(journal().claim(manager_name, MOST_CLAIMS, bell))
    if ring:
        dispatch.ring(manager_name)
    return _Round(manager, deadline).run(claims)


def sweep() -> int:
    """Ring for every manager of which something is overdue, and do what dead holders of feeds left; how much there was."""
    overdue = sum(map(_left_behind, _grouped()))
    for name in registry.manager_names():
        try:
            count, ring = backend().run(journal().look(name))
        except WrongType as error:  # others' work is elsewhere
            logger.error("what is due of %s cannot be looked at: %s", name, error)
            continue
        overdue += count
        if ring:
            dispatch.ring(name)
    return overdue


def _grouped() -> set[type[AggregatedFeed]]:
    """The kinds of feeds that have inboxes."""
    managers = map(registry.get_manager, registry.manager_names())
    declared = {kind for each in managers for kind in (*each.feed_classes.values(), each.notification_feed_class)}
    return {kind for kind in declared if kind is not None and issubclass(kind, AggregatedFeed)}


def _left_behind(feed_class: type[AggregatedFeed]) -> int:
    try:
        found = backend().run(fold_in(feed_class))
    except WrongType as error:
        logger.error("what was left to holders of feeds of %s cannot be looked at: %s", feed_class.__name__, error)
        return 0
    except StorageError:
        raise
    except Exception:  # an app's own aggregator may raise anything: that is about this kind of feed alone
        logger.exception("what was left to holders of feeds of %s waits", feed_class.__name__)
        return 0
    if found:
        logger.warning(
            "%s feeds of %s held what was left to somebody who died; it is done now", found, feed_class.__name__
        )
    return found


class _Round:
    """Claimed fan-outs of one manager, done together."""

    def __init__(self, manager: Manager, deadline: float) -> None:
        self.manager, self.deadline = manager, deadline
        self.ready: list[tuple[Claim, list[Delivery]]] = []
        self.deliveries = self.messages = 0
        #: Queues that have no room for the first chunk of a plan, and who waits for that.
        self.full: dict[str, list[Claim]] = {}
        self.error: Exception | None = None

    def run(self, claims: Sequence[Claim]) -> int:
        """Plan, and deliver what fits into a chunk; the rest is sent. What was begun before comes last, each alone.

        So neither a bad one nor a slow one harms others, and those who wait for busy feeds do not wait for each other.
        Of those that wait for room in a queue, one looks for all: a crowd costs next to nothing, and holds up nobody.
        """
        queue = sorted(claims, key=lambda claim: (claim.attempts > 1, bool(claim.waits)))
        for place, claim in enumerate(queue):
            if claim.attempts > 1 or claim.waits:
                self._deliver()
            if claim.waits in self.full:
                self.full[claim.waits].append(claim)
                continue
            if self._enough():
                self._leave(queue[place:])
                break
            try:
                self._plan(claim)
            except LeaseExpired as error:  # somebody else has it, or nobody wants it any more
                logger.warning("%s", error)
            except Exception as error:
                self._failed(claim, error)
        self._deliver()
        for name, waiting in self.full.items():
            chunks.put_off(self.manager, waiting, name)
        if self.error is not None and (dispatch.inline() or isinstance(self.error, LeaseExpired)):
            raise self.error  # embedded, the caller is the worker, and nobody else would tell
        return self.deliveries

    def _enough(self) -> bool:
        """Whether this round has done what a round does."""
        much = self.deliveries >= MOST_DELIVERIES or self.messages >= MOST_MESSAGES
        return much or time.monotonic() > self.deadline - lease() / 2000

    def _plan(self, claim: Claim) -> None:
        """Get one claim ready, or send its chunks."""
        if claim.attempts > MOST_ATTEMPTS:
            raise letters.GivenUp(f"not done after {MOST_ATTEMPTS} attempts")
        if lacking := set(claim.feeds) - set(feed_names(self.manager.name)):
            name = self.manager.name
            logger.warning("fan-out %s: this worker's %s has no feed %r; %s", claim.id, name, min(lacking), OLDER)
            pause = FIRST_PAUSE * (0.5 + random.random())
            backend().run(journal().put_off(name, claim, pause, waits=claim.waits))
            return
        silence = min(LONGEST_SILENCE, lease() / 1000 * 2 ** (claim.attempts - 1))
        if claim.planned:
            if claim.sent == claim.planned:
                logger.warning("fan-out %s has chunks that stay undone; sending them again", claim.id)
            self.messages += chunks.send_rest(self.manager, claim, silence)
            return
        if claim.op in ALONE:
            self.messages += chunks.send_alone(self.manager, claim, silence)
            return
        checked_op(claim.op, *PLANNED)
        planned = chunks.plan(self.manager, claim)
        if isinstance(planned, list):
            self.ready.append((claim, planned))
            entries = people_of(planned) * max(1, len(planned))
            self.deliveries += entries * (len(self.manager.feed_classes) or 1)
        else:
            sent = chunks.send(self.manager, claim, planned, silence, self.full)
            self.messages += sent.chunks
            if sent.full:
                self.full.setdefault(sent.full, []).append(claim)

    def _leave(self, claims: Sequence[Claim]) -> None:
        """Give back what is too much for one round, and ring for it."""
        left = [journal().put_off(self.manager.name, claim, 0, waits=claim.waits) for claim in claims]
        backend().run(together(left))
        if backend().run(journal().look(self.manager.name))[1]:
            dispatch.ring(self.manager.name)

    def _deliver(self) -> None:
        """All that is ready in one go; if that fails, each alone."""
        ready, self.ready = self.ready, []
        try:
            self._run(ready)
            return
        except LeaseExpired as error:
            self.error = error
            return
        except Exception as error:
            if len(ready) == 1:
                self._failed(ready[0][0], error)
                return
        for claim, deliveries in ready:
            try:
                self._run([(claim, [dataclasses.replace(each, attempt=2) for each in deliveries])])
            except Exception as error:
                self._failed(claim, error)

    def _run(self, ready: Sequence[tuple[Claim, list[Delivery]]]) -> None:
        if not ready:
            return
        deliveries, listed = [one for _, each in ready for one in each], min(claim.listed() for claim, _ in ready)
        backend().run(within(self.deadline, late.delivered(self.manager, deliveries, listed)))
        backend().run(
            journal().finish(self.manager.name, [(claim, people_of(deliveries)) for claim, deliveries in ready])
        )

    def _failed(self, claim: Claim, error: Exception) -> None:
        """Note what went wrong with one fan-out; try it again later, or give it up."""
        self.error = error
        if isinstance(error, LeaseExpired):
            return
        reason = letters.reason(error)
        if claim.attempts >= MOST_ATTEMPTS:
            logger.error("fan-out %s of %s is given up: %s", claim.id, self.manager.name, reason, exc_info=error)
            letters.bury(self.manager.name, claim, reason)
            return
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (claim.attempts - 1)) * (0.5 + random.random())
        logger.warning(
            "fan-out %s of %s failed (attempt %s, the next in %.1f s): %s",
            *(claim.id, self.manager.name, claim.attempts, pause, reason),
            exc_info=None if isinstance(error, StorageError) else error,
        )
        backend().run(journal().put_off(self.manager.name, claim, pause, reason))
