"""Calls the hooks that are told what happened: batch by batch, each item at least once, apart from the work that they are told of.

Who has what is to be told is known by buckets; whoever takes a bucket reads the lists of those that are due in it, writes down that it
begins, calls the hook, and drops what it told. Where it dies, another does it again when the lease is over; those whose telling never
came to an end are then told alone, one item at a time, since what they hold may be what kills. Where the hook raises, it is called
again with halves, until only what fails is left: that is taken out of its list and tried again later, with attempts of its own, so that it
delays nothing else, and in the end becomes a dead letter. Where all fails, lists stay as they are, and whoever has them waits.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import random
import time
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from celery.exceptions import SoftTimeLimitExceeded

from feedmill import tracing
from feedmill.errors import DeclarationError
from feedmill.iteration import batched
from feedmill.manager import Manager, activity_bodies
from feedmill.manager.hook_values import finished_fanout, notification
from feedmill.storage.hook_queue import Arrival, HookClaim, HookSettlement, split_owner
from feedmill.storage.journal import lease
from feedmill.storage.operations import Steps, together
from feedmill.storage.registry import backend
from feedmill.worker import dead_letters, hook_traces
from feedmill.worker.delivery import manager_named
from feedmill.worker.hook_wakeups import place_of, queue, untold_dead_letters, wake
from feedmill.worker.isolation import halves, isolate

logger = logging.getLogger(__name__)

#: How often something is begun; what is not told by then becomes a dead letter.
MOST_ATTEMPTS = 12
#: Seconds until what failed is told again: the first time, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 3600.0
#: Seconds until it is looked again whether what is removed is out of a feed.
REMOVAL_PAUSE = 5.0
#: Seconds for which what is for a hook of another release is left to workers of that.
FOREIGN_PAUSE = 60.0
#: Owners that are claimed at a time, and items that are read of each, at most.
MOST_OWNERS = MOST_ITEMS = 100


def call_due(manager_name: str) -> int:
    """Answer a wake-up message: tell the hooks of a manager what is due; how many items were told.

    After half a lease no bucket is begun, and another message is sent for what is left.
    """
    manager, until = manager_named(manager_name), time.monotonic() + lease() / 2000
    if not manager.told_hooks:
        return 0
    due = backend().run(queue().due(manager_name, answering=True))
    random.shuffle(due)  # others may begin with the same
    told = sum(_Bucket(manager, bucket, until).run() for bucket in due if time.monotonic() <= until)
    if time.monotonic() > until:
        wake(manager)
    return told


class _Owner:
    """An owner that was claimed, what the hook is to be told of theirs, and how that went."""

    def __init__(self, claim: HookClaim, manager: Manager) -> None:
        #: Whose list it is, and the item if it is told apart from the rest of that list.
        self.list_owner, self.item = split_owner(claim.owner)
        place = place_of(manager, self.list_owner)
        self.claim, self.hook, self.user_id = claim, place.hook, place.user_id
        self.key = place.key if self.item is None else ""
        #: What stands in the list.
        self.items: list[bytes] = []
        #: What is told of each; None of what need not be told, an error of what cannot be told here.
        self.values: dict[bytes, Any] = {}
        #: The trace context that each belongs to, where somebody traces and there is one.
        self.traces: dict[bytes, str] = {}
        self.done: set[bytes] = set()
        #: What failed, since all does or as it is told apart from others already; and what is to be told apart from now on.
        self.failed: dict[bytes, Exception] = {}
        self.apart: list[bytes] = []
        #: How many are left in the list, as far as it is known.
        self.remaining = 0
        #: Whether the hook is one of another release.
        self.foreign = False
        #: What is removed, and is to be out of the feed before it is forgotten: it may be added again meanwhile.
        self.waits: set[bytes] = set()


class _Told(NamedTuple):
    """One item, and whose it is."""

    owner: _Owner
    item: bytes

    @property
    def value(self) -> Any:
        """What the hook is told of it."""
        return self.owner.values[self.item]

    def __repr__(self) -> str:
        return repr(self.value)


class _Lost(Exception):
    """Somebody else has the bucket."""


class _Bucket:
    """One bucket of a manager, taken by this process."""

    def __init__(self, manager: Manager, bucket: int, until: float) -> None:
        self.manager, self.bucket, self.until = manager, bucket, until
        self.token = os.urandom(8)
        self.number = 0

    def run(self) -> int:
        """Tell what is due in it, as long as there is time; how many items were told."""
        limit = min(MOST_OWNERS, self.manager.hook_batch_size)
        while time.monotonic() <= self.until:
            claims = backend().run(queue().take(self.manager.name, self.bucket, self.token, lease(), limit))
            if not claims:  # somebody else has it, or nothing is due
                return self.number
            owners = self._read(claims)
            try:
                self._tell_all(owners)
            except _Lost:
                logger.warning("another worker calls hooks of %s, whose calls took too long here", self.manager.name)
                return self.number
        backend().run(queue().settle(self.manager.name, self.bucket, [], release=self.token))
        return self.number

    # -- reading

    def _read(self, claims: Sequence[HookClaim]) -> list[_Owner]:
        """What claimed owners have to be told."""
        owners = [_Owner(claim, self.manager) for claim in claims]
        lists = [each for each in owners if each.key]
        limit = min(MOST_ITEMS, self.manager.hook_batch_size)
        for owner, items in zip(lists, backend().run(queue().items([each.key for each in lists], limit))):
            owner.items, owner.remaining = list(dict.fromkeys(items)), len(items)
        for owner in owners:
            if owner.hook == "on_dead_letter":
                self._know_dead_letters(owner, limit)
            elif owner.hook and owner.item is not None:
                owner.items, owner.remaining = [owner.item], 1
            if owner.hook not in self.manager.told_hooks:
                owner.items, owner.foreign = [], True
        self._know_notifications([each for each in owners if each.hook == "on_notification"])
        for owner in owners:
            if owner.hook == "on_fanout_finished":
                owner.values = {item: finished_fanout(self.manager.name, item) for item in owner.items}
        if tracing.sink is not None:
            self._know_traces(owners)
        return owners

    def _know_traces(self, owners: Sequence[_Owner]) -> None:
        """To which traces what is told belongs."""
        told = [_Told(owner, item) for owner in owners for item in owner.items]
        for each, trace in zip(told, hook_traces.traces_of(self.manager, [each.value for each in told])):
            each.owner.traces[each.item] = trace

    def _know_dead_letters(self, owner: _Owner, limit: int) -> None:
        """The oldest that were not told; or the one that is told apart, which may be dropped by now."""
        if "on_dead_letter" not in self.manager.told_hooks:
            return
        if owner.item is None:
            owner.values = {each.id.encode(): each for each in untold_dead_letters(self.manager)[:limit]}
        else:
            owner.values = {owner.item: None}
            with contextlib.suppress(dead_letters.UnknownDeadLetter):
                owner.values[owner.item] = dead_letters.get(owner.item.decode(errors="replace"))
        owner.items, owner.remaining = list(owner.values), len(owner.values)

    def _know_notifications(self, owners: Sequence[_Owner]) -> None:
        """What arrivals are, as far as they are still known. Of what was removed nothing is told, once it is out of the feed: until
        then it may be added again, and nothing new would come into the feed.
        """
        arrivals = {item: Arrival.decode(item) for owner in owners for item in owner.items}
        raw_ids = list(dict.fromkeys(each.raw_id for each in arrivals.values() if each is not None))
        facts = backend().run(activity_bodies.facts(self.manager, raw_ids)) if raw_ids else {}
        feeds, removed = self.manager.notification_feed_class, list[tuple[_Owner, bytes]]()
        held = list[Steps[bool]]()
        for owner in owners:
            user_id = owner.user_id
            for item in owner.items:
                arrival = arrivals[item]
                fact = None if arrival is None else facts[arrival.raw_id]
                owner.values[item] = None
                if arrival is None or fact is None or user_id is None:
                    continue
                if fact.error is not None:
                    owner.values[item] = fact.error
                elif fact.activity is not None and fact.known:
                    owner.values[item] = notification(self.manager.name, user_id, arrival, fact.activity)
                elif fact.activity is not None and feeds is not None:
                    removed.append((owner, item))
                    held.append(feeds.is_held(user_id, arrival.group, fact.activity))
        for (owner, item), is_held in zip(removed, backend().run(together(held)) if held else ()):
            if is_held:
                owner.waits.add(item)
        for owner in owners:
            owner.items = [item for item in owner.items if item not in owner.waits]

    # -- telling

    def _tell_all(self, owners: Sequence[_Owner]) -> None:
        """Tell what *owners* have, alone where somebody died in telling it, and settle it.

        Lists in whose telling somebody died are only taken apart.
        """
        try:
            for hook in dict.fromkeys(each.hook for each in owners):
                some = [each for each in owners if each.hook == hook and not each.claim.deaths]
                told = [_Told(owner, item) for owner in some for item in owner.items]
                for batch in batched(told, self.manager.hook_batch_size):
                    self._tell(hook, batch)
            for owner in owners:
                if owner.claim.deaths and owner.items and owner.item is not None:
                    self._tell_suspect(owner, owner.item)
        except SoftTimeLimitExceeded:
            self._settle(owners, release=self.token)
            raise
        self._settle(owners)

    def _tell_suspect(self, owner: _Owner, item: bytes) -> None:
        """Tell an item in whose telling somebody died, unless too many did."""
        if owner.claim.begun >= MOST_ATTEMPTS:
            owner.failed[item] = dead_letters.AttemptsExhausted(
                f"{owner.hook} is not told it any more: its worker died {owner.claim.deaths} times"
            )
        else:
            self._tell(owner.hook, [_Told(owner, item)])

    def _tell(self, hook: str, batch: Sequence[_Told]) -> None:
        """Call the hook with *batch*; with parts of it if it raises."""
        begun = list({id(each.owner): each.owner.claim for each in batch}.values())
        if not backend().run(queue().begin(self.manager.name, self.bucket, self.token, lease(), begun)):
            raise _Lost
        silent = [each for each in batch if each.owner.values[each.item] is None]
        told: list[_Told] = []
        failing: dict[_Told, Exception] = {}
        for each in batch:
            value = each.owner.values[each.item]
            if isinstance(value, Exception):
                failing[each] = value
            elif value is not None:
                told.append(each)
        self._drop(silent)
        works = len(told) < 2

        def written(some: Sequence[_Told]) -> Steps[Any]:
            nonlocal works
            yield from ()
            try:
                self._call(hook, some)
            except SoftTimeLimitExceeded:
                raise
            except Exception as error:
                if len(some) > 1:
                    raise
                failing[some[0]] = error
                logger.warning("%s.%s raises: %r", self.manager.name, hook, error, exc_info=error)
                return
            self._drop(some)
            self.number += len(some)
            works = True

        try:
            if told:
                backend().run(isolate(cast(Sequence[_Told], told), written, halves))
        except Exception as error:  # the storage that the hook uses is away, or all of it fails
            works = False
            failing.update({each: error for each in told if each.item not in each.owner.done and each not in failing})
            logger.warning("%s.%s fails: %r", self.manager.name, hook, error)
            if isinstance(error, SoftTimeLimitExceeded):
                raise
        finally:
            for (owner, item), failure in failing.items():
                if owner.item is None and (works or isinstance(owner.values[item], Exception)):
                    owner.apart.append(item)
                owner.failed[item] = failure

    def _call(self, hook: str, some: Sequence[_Told]) -> None:
        if tracing.sink is None:
            self._call_with(hook, [each.value for each in some])
            return
        with hook_traces.calling(self.manager, hook, [each.owner.traces.get(each.item, "") for each in some]):
            self._call_with(hook, [each.value for each in some])

    def _call_with(self, hook: str, values: list[Any]) -> None:
        answer = getattr(self.manager, hook)(values)
        if inspect.isawaitable(answer):
            if inspect.iscoroutine(answer):
                answer.close()  # else Python warns that nobody awaited it
            raise DeclarationError(
                f"{self.manager.name}.{hook} returned a {type(answer).__name__}, which nobody awaits: workers have no event loop;"
                " do the work in a plain def"
            )

    def _drop(self, told: Sequence[_Told]) -> None:
        """Take what was told out of the lists, and forget what was told apart from them."""
        by_owner: dict[int, tuple[_Owner, list[bytes]]] = {}
        for owner, item in told:
            owner.done.add(item)
            by_owner.setdefault(id(owner), (owner, []))[1].append(item)
        lists = [(owner, items) for owner, items in by_owner.values() if owner.key]
        alone = [owner for owner, _ in by_owner.values() if owner.item is not None]
        asked: list[Steps[Any]] = [queue().drop(owner.key, items) for owner, items in lists]
        if alone:
            settled = [HookSettlement(owner.claim, None) for owner in alone]
            asked.append(queue().settle(self.manager.name, self.bucket, settled))
        left = backend().run(together(asked)) if asked else []
        for (owner, _), number in zip(lists, left):
            owner.remaining = number
        for owner in alone:
            owner.remaining = 0

    # -- what becomes of it

    def _settle(self, owners: Sequence[_Owner], release: bytes = b"") -> None:
        """Say what became of *owners*, and let go of the bucket if it is held by the token *release*."""
        settlements = []
        for owner in owners:
            if owner.item is None:
                self._set_apart(owner)
            claim, given_up = owner.claim, claim_is_over(owner)
            if given_up:
                self._give_up(owner)
            if owner.hook == "on_dead_letter" and owner.item is None:
                self._pass_dead_letters(owner)
            if owner.foreign and owner.remaining:
                settlements.append(HookSettlement(claim, FOREIGN_PAUSE))
            elif owner.waits and not owner.failed:
                settlements.append(HookSettlement(claim, REMOVAL_PAUSE))
            elif owner.failed:  # what is left after one was given up is tried as if for the first time
                pause = _pause(0 if given_up else claim.begun)
                settlements.append(HookSettlement(claim, pause, failed=not given_up))
            else:
                settlements.append(HookSettlement(claim, 0 if owner.remaining else None))
        backend().run(queue().settle(self.manager.name, self.bucket, settlements, release))

    def _set_apart(self, owner: _Owner) -> None:
        """Take what failed out of a list to be told apart from the rest, or all of a list in whose telling somebody died."""
        suspects = [item for item in owner.items if item not in owner.done] if owner.claim.deaths else []
        if not (items := suspects or owner.apart):
            return
        delay, survived = (0.0, 0) if suspects else (_pause(0), 1)
        noted = queue().set_apart(self.manager.name, self.bucket, owner.list_owner, items, delay, 1, survived)
        if backend().run(noted):
            self._drop([_Told(owner, item) for item in items])
            for item in items:
                owner.failed.pop(item, None)

    def _give_up(self, owner: _Owner) -> None:
        """Make a dead letter of the oldest that fails; what a dead letter is told of makes no other.

        Where all fails, the others may have failed less often: attempts of a list are counted in one.
        """
        item = next(each for each in owner.items if each in owner.failed)
        reason = dead_letters.reason(owner.failed.pop(item))
        if owner.hook == "on_dead_letter":
            logger.error("%s.on_dead_letter is not told of %s any more: %s", self.manager.name, item.decode(), reason)
        else:
            dead_letters.keep_untold(self.manager.name, owner.hook, owner.list_owner, [item], reason)
        self._drop([_Told(owner, item)])

    def _pass_dead_letters(self, owner: _Owner) -> None:
        """Note up to which dead letter all were told."""
        last = ""
        for item in owner.items:
            if item not in owner.done:
                break
            last = item.decode()
        if last:
            backend().run(queue().dead_letters_told(self.manager.name, last))
            owner.remaining = 1  # there may be more


def _pause(attempts: int) -> float:
    """Seconds until what had failed *attempts* times before is told again, spread so that not all comes back at once."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**attempts) * (0.5 + random.random())


def claim_is_over(owner: _Owner) -> bool:
    """Whether what fails of an owner's is tried no more."""
    return bool(owner.failed) and owner.claim.begun + 1 >= MOST_ATTEMPTS
