"""Open pages: each shows a part of a feed, hears what is published of it, and tells its reader what is new.

A page is loaded again now and then, its reader is late to take what was heard, and its connection is cut: what was published
meanwhile is lost. When everything is over, what the reader was told last must be so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from feedmill.errors import StorageError
from feedmill.feeds import Feed, NotificationFeed, Page, several
from feedmill.feeds.new_items import MOST_AGAIN
from feedmill.feeds.watch import Watch
from feedmill.storage.memory import DATA
from feedmill.storage.pubsub import LISTENING, Heard
from feedmill.storage.registry import backend
from tests.feeds.model import plainly_new
from tests.simulation import app
from tests.simulation.model import Wrong
from tests.simulation.plan import Listening
from tests.simulation.world import Process, World


def feeds_heard(manager: Any) -> list[tuple[str, Any]]:
    """The feeds that publish all their changes: what becomes too old, or goes unused, changes without one."""
    named = app.feeds_of(manager).items()
    return [(n, c) for n, c in named if c.publish_changes and not c.lifetime() and not c.expires_idle()]


class Listener:
    """One open page."""

    def __init__(self, world: World, listening: Listening, manager: Any) -> None:
        self.world, self.listening = world, listening
        feeds = feeds_heard(manager)
        self.name, feed_class = feeds[listening.feed % len(feeds)]
        self.feed: Feed = feed_class(app.SPELLINGS[listening.user][-1])
        self.page: Page | None = None
        self.watch: Watch[Any, Any] | None = None
        self.told: Any = None
        self._inbox: list[Heard] = []
        self._leave: Callable[[], None] | None = None
        world.start(f"page-{listening.user}", "listener", self._serve)

    def _serve(self, process: Process) -> None:
        world = self.world
        while not world.healing:
            with contextlib.suppress(StorageError):
                if self.watch is None or world.rng.random() < 0.05:
                    self._load()
                if self._leave is None:
                    self._join()
                elif world.rng.random() < 0.1:
                    self._cut()
                self.take()
            world.sleep(world.rng.choice((0.001, 0.001, 0.01, 0.5, 5.0, 30.0)))

    def _load(self) -> None:
        """Load the page, and listen from now on to what comes after it."""
        self.page = self.feed.page(self.listening.size)
        self._cut()
        watched = self.feed if isinstance(self.feed, NotificationFeed) else (self.feed, self.page)
        self.watch, _ = several._watch({self.name: watched})
        self.told = None

    def _cut(self) -> None:
        """What was heard and not taken is lost, and so is what is published until it listens again."""
        if self._leave is not None:
            self._leave()
        self._leave = None
        self._inbox.clear()

    def _join(self) -> None:
        assert self.watch is not None
        channels = self.watch.channels
        self._leave = DATA.join(channels, "", lambda *heard: self._inbox.append(Heard(*heard)))
        self._inbox += [Heard(channel, LISTENING) for channel in channels]

    def take(self) -> None:
        """Take what was heard, and all that is to be told."""
        assert self.watch is not None
        while (change := self._next(self.watch.next(0.0))) is not None:
            name, self.told = change
            self.world.say(f"{name} is told {self.told}")

    def _next(self, steps: Any) -> Any:
        try:
            ask = next(steps)
            while True:
                if ask is None or isinstance(ask, float):
                    heard = list(self._inbox)
                    self._inbox.clear()
                    ask = steps.send(heard)
                    continue
                try:
                    answer = backend().run(ask)
                except StorageError as error:
                    ask = steps.throw(error)
                else:
                    ask = steps.send(answer)
        except StopIteration as stop:
            return stop.value

    def check(self) -> None:
        """Everything is over: :class:`Wrong` if the reader was told something else last."""
        if self.watch is None or self.page is None:
            return
        if self._leave is None:
            self._join()
        self.take()
        self.world.now += MOST_AGAIN + 1
        self.take()
        kept = self.feed
        truth: Any = (
            kept.get_denormalized_counts() if isinstance(kept, NotificationFeed) else (plainly_new(kept, self.page),)
        )
        if isinstance(kept, NotificationFeed) and self.told is not None and not truth.seq:
            truth = truth._replace(seq=self.told.seq)  # with an account goes the number of its counts, once it was told
        if self.told != truth:
            raise Wrong(f"page of {self.name} of {self.feed.user_id}: told {self.told} last, it is {tuple(truth)}")
