"""Keeps a claim alive while its plan runs: an app's queries take as long as they take, and only a dead worker loses its claim.

One thread in each process, started with the first plan, lets all plans of the process *beat*. It ends with the process, and
stands still with it: then the claim is over when its lease is. In the in-memory mode nobody else could take a claim, and
there is no thread.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from feedmill.storage.deadline import LeaseExpired
from feedmill.storage.journal import Claim, lease
from feedmill.storage.operations import Steps, together
from feedmill.storage.registry import backend

logger = logging.getLogger(__name__)

#: Seconds after which a plan is slow, and nobody else is to wait for it.
SLOW = 1.0
#: Seconds after which a plan is no longer kept alive. It is what interrupts the task, where tasks can be interrupted.
LONGEST_PLANNING = 1800.0
#: Seconds between two looks at what is planned, at most.
LOOK = 0.25
#: Makes the lock that a plan and the heart share; where processes are no threads but simulated, another.
new_lock: Callable[[], Any] = threading.Lock


class Watch:
    """The claims of what a round plans: of one fan-out, and of others that share its plan. They change when they are renewed, so
    whoever writes with them asks here.

    One serves for all claims of a round, one after the other. Nothing beats between two of them.
    """

    def __init__(self, manager: str, when_slow: Callable[[], None]) -> None:
        #: Until when it may be written with, by ``time.monotonic()``.
        self.deadline = 0.0
        #: Whether the plan took so long that *when_slow* was called.
        self.slow = False
        #: Whether it is to be let beat by a thread: in the in-memory mode there is nobody who could take a claim.
        self.threaded = not backend().in_process
        self._manager, self._when_slow = manager, when_slow
        #: Whether nothing beats any more.
        self.closed = True
        self._lock, self._lost = new_lock(), set[str]()
        self._begun = 0.0

    def take(self, claim: Claim, deadline: float) -> None:
        """Turn to *claim*, which holds until *deadline*."""
        with self._lock:
            #: The last that is known of each claim, even if it was lost, by the fan-out's id; the first that was taken comes first.
            self.latest = {claim.id: claim}
            #: The fan-out that was taken.
            self.id = claim.id
            self.deadline, self.slow, self.closed = deadline, False, False
            self._lost.clear()
            self._begun = time.monotonic()

    def share(self, choose: Callable[[], Iterable[Claim]], deadline: float) -> None:
        """Plan what *choose* returns along with it, which holds until *deadline*; not if it is slow, and others were let go."""
        with self._lock:
            if not self.slow:
                self.latest.update((claim.id, claim) for claim in choose())
                self.deadline = min(self.deadline, deadline)

    @property
    def claim(self) -> Claim:
        """The first as it is now; :class:`~feedmill.storage.deadline.LeaseExpired` if it was lost."""
        with self._lock:
            if self.id in self._lost:
                raise self._expired()
            return self.latest[self.id]

    @property
    def held(self) -> dict[str, Claim]:
        """Those that were not lost, as they are now, by the fan-out's id; LeaseExpired if there is none."""
        with self._lock:
            return self._held()

    def _held(self) -> dict[str, Claim]:
        held = {name: claim for name, claim in self.latest.items() if name not in self._lost}
        if not held:
            raise self._expired()
        return held

    def _expired(self) -> LeaseExpired:
        return LeaseExpired(f"fan-out {self.id} was called off or taken over while it was planned")

    def write(self, operation: Callable[[Claim], Steps[Claim | None]]) -> dict[str, Claim]:
        """Run what *operation* makes of each claim, and keep the claim that it returns; which are left. LeaseExpired if none is."""
        with self._lock:
            self._renew(operation, time.monotonic())
            return self._held()

    def _renew(self, operation: Callable[[Claim], Steps[Claim | None]], now: float) -> None:
        held = self._held()
        renewed = backend().run(together([operation(claim) for claim in held.values()]))
        for name, claim in zip(held, renewed):
            if claim is None:
                self._lost.add(name)
            else:
                self.latest[name], self.deadline = claim, now + lease() / 1000

    def beat(self, now: float) -> None:
        """What is due *now*: let go of what waits for this plan, once; renew the claims, for as long as a plan may take."""
        with self._lock:
            if not self.closed and not self.slow and now >= self._begun + SLOW:
                self.slow = True
                self._when_slow()
        self.renew(now)

    def renew(self, now: float, last: bool = False) -> None:
        """Renew the claims if a third of their lease is over; nothing beats after the *last* time."""
        with self._lock:
            is_due = now >= self.deadline - lease() / 1500 and now < self._begun + LONGEST_PLANNING
            if is_due and not self.closed and len(self._lost) < len(self.latest):
                self._renew(partial(backend().journal.renew, self._manager), now)
            self.closed = self.closed or last

    def close(self) -> None:
        """Nothing beats after this."""
        with self._lock:
            self.closed = True


class Heart:
    """The thread that lets watches beat."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._watches: set[Watch] = set()
        self._thread: threading.Thread | None = None
        self._used = self._waits = False

    def add(self, watch: Watch) -> None:
        """Let *watch* beat until it is removed."""
        self._watches.add(watch)
        self._used = True
        if self._thread is None or self._waits:  # who is about to wait says so, and then looks for what was added
            with self._changed:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="feedmill-heartbeat", daemon=True)
                    self._thread.start()
                self._changed.notify()

    def remove(self, watch: Watch) -> None:
        """Let it be."""
        self._watches.discard(watch)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._waits = True
                while not self._used and not self._watches:
                    self._changed.wait(60)
                self._used = self._waits = False
                watches = list(self._watches)
            for watch in watches:
                try:
                    watch.beat(time.monotonic())
                except Exception:  # it is tried again at the next look, and without it the lease ends
                    logger.warning("a claim could not be renewed", exc_info=True)
            time.sleep(min(LOOK, lease() / 12_000))


#: The heart of this process.
heart = Heart()


def _forked() -> None:
    global heart
    heart = Heart()  # threads stay with the parent


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class beating:
    """Let *watch* beat while the block runs."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def __enter__(self) -> Watch:
        if self._watch.threaded:
            heart.add(self._watch)
        return self._watch

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._watch.renew(time.monotonic(), last=True)
        finally:
            if self._watch.threaded:
                heart.remove(self._watch)
            if not self._watch.closed:
                self._watch.close()
