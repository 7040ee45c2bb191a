"""Random faults for as long as wanted: rounds of load under fire, each held against a model of its own at its end."""

from __future__ import annotations

import dataclasses
import datetime as dt
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from feedmill import Activity
from tests.chaos import edges
from tests.chaos.harness import LOCK_TTL, Harness
from tests.chaos.model import Model
from tests.chaos.network import AUTHORS, CHUNK, FOLLOWERS, NAMED, READERS, RECIPIENTS
from tests.chaos.proxied import COMMITTING, WRITING, digests
from tests.chaos.workers import Worker

#: Seconds of load in a round, before everything must heal and be right.
ROUND = 45.0
#: Fan-outs on their way at once, so that a fault always strikes many and memory stays bounded.
CROWD = 40
#: Seconds between two faults, at least and at most.
PAUSES = 0.1, 1.0
#: What is asked for between new activities, and how often; and what of it is about one that is there.
OPERATIONS = {
    **{"remove": 6, "update": 4, "notify": 3, "unnotify": 2, "add_again": 3, "bring": 2, "bring_again": 1},
    **{"follow": 3, "unfollow": 2, "rebuild": 1, "mark": 3},
}
ABOUT_ONE = {"remove", "update", "notify", "unnotify"}


@dataclasses.dataclass
class Tally:
    """What a soak came to, up to the end of its last round."""

    #: When it began: names it.
    began: str
    broker: str
    seed: int = 1
    workers: int = 0
    followers: int = FOLLOWERS
    chunk: int = CHUNK
    #: How often each fault was inflicted.
    faults: dict[str, int] = dataclasses.field(default_factory=dict)
    #: How often what was asked for, besides new activities.
    operations: dict[str, int] = dataclasses.field(default_factory=dict)
    #: ``kill -9`` of workers that were at work, children and all, while fan-outs were on their way.
    kills: int = 0
    minutes: float = 0.0
    rounds: int = 0
    fanouts: int = 0
    chunks: int = 0
    chunks_lost: int = 0
    deliveries: int = 0
    lost: int = 0
    duplicated: int = 0
    wrong: int = 0
    #: Seconds from the last fault of a round until everything was delivered: the longest of all rounds.
    recovery: float = 0.0
    #: Whether it came to its end: all that was wanted of it is done.
    ended: bool = False
    #: What of it was wrong, in words.
    notes: list[str] = dataclasses.field(default_factory=list)


class Soak:
    """A stage under fire."""

    def __init__(self, harness: Harness, workers: int, seed: int) -> None:
        self.harness, self.random = harness, random.Random(seed)
        now = dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")
        self.tally = Tally(now, harness.broker_kind, seed, workers)
        self.began = time.monotonic()
        #: Activities that are there and that nobody asks about at the moment, and those that were taken back.
        self.there: list[Activity] = []
        self.gone: list[Activity] = []
        #: Held while somebody asks about a pair.
        self.pairs = threading.Lock()
        harness.hire(workers, children=1)
        self.arsenal: list[tuple[int, Callable[[], None]]] = [
            (40, self.kill_worker),
            (6, self.kill_child),
            (3, self.freeze_worker),
            (6, self.cut_write),
            (4, self.short_fuse),
            (3, self.cut_everything),
            (2, self.silence),
            (2, self.full_feeds),
            (1, self.full_broker),
            (1, self.full_everywhere),
            (1, self.fail_over),
            (2, self.kill_feeds),
            (1, self.kill_broker),
        ]

    # -- faults: the first line of each is what the page calls it

    def _worker(self) -> Worker:
        """One that is at work, while there is something to do."""
        while True:
            ready = [worker for worker in self.harness.workers if worker.ready]
            if ready and self.harness.unfinished:
                return self.random.choice(ready)
            self._load(0.1)

    def kill_worker(self) -> None:
        """kill -9 of a worker with its children"""
        self._worker().kill()
        self.tally.kills += 1
        self.harness.supervise()

    def kill_child(self) -> None:
        """kill -9 of one child"""
        self._worker().kill_child()

    def freeze_worker(self) -> None:
        """a worker stopped for longer than a lock lives"""
        worker = self._worker()
        worker.signal(signal.SIGSTOP)
        self._load(LOCK_TTL + 0.5)
        worker.signal(signal.SIGCONT)

    def cut_write(self) -> None:
        """a few writes cut, on the way there or back"""
        side, after = self.random.choice(["request", "answer"]), self.random.choice([0, 3, 45, 400, 100_000])
        names = self.random.choice([WRITING, COMMITTING])
        self.harness.feeds_proxy.rule(digests(names), side=side, after=after, times=self.random.randrange(1, 6))

    def short_fuse(self) -> None:
        """every connection cut when its bytes run out"""
        self.harness.feeds_proxy.fuse(self.random.randrange(500, 50_000))
        self._load(0.5)
        self.harness.feeds_proxy.fuse(None)

    def cut_everything(self) -> None:
        """all connections to one of the servers cut"""
        self.random.choice([self.harness.feeds_proxy, self.harness.broker_proxy]).cut()

    def silence(self) -> None:
        """nothing gets through for a while"""
        self.harness.feeds_proxy.set(frozen=True)
        self._load(self.random.choice([0.3, LOCK_TTL + 0.5]))
        self.harness.feeds_proxy.set(frozen=False)

    def _without_room(self, *servers: str) -> None:
        """Clients go on asking, and each asks again for what was refused."""
        with ThreadPoolExecutor() as clients:
            with self.harness.full(*servers):
                asked = [clients.submit(self._ask) for _ in range(3)]
                time.sleep(self.random.choice([0.3, 1.5]))
            for each in asked:
                each.result()

    def full_feeds(self) -> None:
        """the feed store at maxmemory, under load"""
        self._without_room("feeds")

    def full_broker(self) -> None:
        """the broker out of memory, under load"""
        self._without_room("broker")

    def full_everywhere(self) -> None:
        """feed store and broker out of memory, under load"""
        self._without_room("feeds", "broker")

    def fail_over(self) -> None:
        """the broker replaced by another for seconds"""
        with self.harness.failed_over():
            self._load(3.0)

    def kill_feeds(self) -> None:
        """kill -9 of the feed store"""
        self.harness.feeds.kill()
        self.harness.feeds.start()

    def kill_broker(self) -> None:
        """kill -9 of the broker"""
        self.harness.kill_broker()
        self.harness.start_broker()

    # -- rounds

    def _load(self, seconds: float) -> None:
        """Keep many fan-outs on their way for *seconds*, of everything that can be asked for."""
        until = time.monotonic() + seconds
        while True:
            room = CROWD - self.harness.unfinished
            if room > 0:
                self._put(self.harness.add(min(room, 10)))
                self._ask()
            if time.monotonic() > until:
                return
            time.sleep(0.02)

    def _put(self, activities: Sequence[Activity]) -> None:
        """What is there now, for others to choose from."""
        with self.harness.guard:
            self.there += activities

    def _taken(self) -> Activity | None:
        """One of those that are there, which from now on nobody else has; what is asked about it is asked in one order."""
        with self.harness.guard:
            if not self.there:
                return None
            return self.there.pop(self.random.randrange(len(self.there)))

    def _ask(self) -> None:
        """Ask for one more thing, about an activity or a pair that nobody else asks about meanwhile."""
        kinds, weights = zip(*OPERATIONS.items())
        (kind,) = self.random.choices(kinds, weights)
        activity = self._taken() if kind in ABOUT_ONE else None
        if activity is None and kind in ABOUT_ONE:
            return
        getattr(self, f"_{kind}")(*([activity] if activity is not None else ()))
        with self.harness.guard:
            self.tally.operations[kind] = self.tally.operations.get(kind, 0) + 1

    def _remove(self, activity: Activity) -> None:
        self.harness.take_back(activity)
        self.gone.append(activity)

    def _update(self, activity: Activity) -> None:
        self._put([self.harness.update(activity, words=self.random.randrange(1_000))])

    def _notify(self, activity: Activity) -> None:
        self.harness.notify(self.random.sample(NAMED, 3), activity)
        self._put([activity])

    def _unnotify(self, activity: Activity) -> None:
        """Of some whom it was told, in the words in which they were told."""
        users = self.random.sample(NAMED, 3)
        self.harness.notify(users, activity)
        self.harness.unnotify(users, activity)
        self._put([activity])

    def _add_again(self) -> None:
        with self.harness.guard:
            activity = self.gone.pop(self.random.randrange(len(self.gone))) if self.gone else None
        if activity is not None:
            self.harness.put(activity)
            if activity.target_id is not None:
                self.harness.model.hazy.add(activity.target_id)
            self._put([activity])

    def _bring(self) -> None:
        self._put(self.harness.bring(5))

    def _bring_again(self) -> None:
        """Imported, taken back, and imported again: the last word counts."""
        activities = self.harness.bring(3)
        self.harness.take_back(activities[0])
        self.harness.import_(activities)
        self._put(activities)

    def _follow(self) -> None:
        with self.pairs:
            self.harness.follow(self.random.choice(READERS), self.random.choice(AUTHORS))

    def _unfollow(self) -> None:
        with self.pairs:
            self.harness.unfollow(self.random.choice(READERS), self.random.choice(AUTHORS))

    def _rebuild(self) -> None:
        self.harness.rebuild(self.random.choice(READERS))

    def _mark(self) -> None:
        self.harness.mark(self.random.choice([*RECIPIENTS, *NAMED]))

    def round(self, seconds: float, kills: int) -> bool:
        """Load under fire for *seconds*, or until *kills* workers were killed in all; whether all was right at its end."""
        harness, tally, until = self.harness, self.tally, time.monotonic() + seconds
        harness.look()
        self._load(0.5)
        weights, faults = zip(*self.arsenal)
        while time.monotonic() < until and not (kills and tally.kills >= kills):
            (fault,) = self.random.choices(faults, weights)
            fault()
            name = str(fault.__doc__)
            tally.faults[name] = tally.faults.get(name, 0) + 1
            harness.fault()
            self._load(self.random.uniform(*PAUSES))
        harness.feeds_proxy.forget()
        recovery = harness.settle()
        verdict = harness.judge()
        harness.look()
        verdict.take(harness.judge())
        tally.rounds += 1
        tally.fanouts += len(harness.asked)
        tally.chunks, tally.chunks_lost = tally.chunks + verdict.chunks, tally.chunks_lost + verdict.chunks_lost
        tally.deliveries += harness.model.deliveries
        tally.lost, tally.duplicated = tally.lost + verdict.lost, tally.duplicated + verdict.duplicated
        tally.wrong += verdict.wrong
        tally.recovery = round(max(tally.recovery, recovery), 1)
        tally.notes = (tally.notes + verdict.notes)[:20]
        tally.minutes = round((time.monotonic() - self.began) / 60, 1)
        return verdict.clean

    def start_over(self) -> None:
        """Forget all feeds, and the model with them: what was right is counted."""
        self.harness.feeds.client.flushall()
        edges.clear()
        self.harness.model, self.harness.asked, self.harness.open = Model(), {}, {}
        self.there, self.gone = [], []

    def run(self, minutes: float, kills: int, deliveries: int, keep: Callable[[Tally], None]) -> Tally:
        """Rounds until there were so many *kills* and *deliveries*, or for *minutes* at most.

        Something wrong ends it too. *keep* is given the tally after each round.
        """
        until = self.began + minutes * 60
        while True:
            tally = self.tally
            left = kills if tally.deliveries >= deliveries else 0
            clean = self.round(min(ROUND, max(1.0, until - time.monotonic())), left)
            done = tally.kills >= kills and tally.deliveries >= deliveries
            tally.ended = clean and (done if kills or deliveries else time.monotonic() > until)
            keep(tally)
            if not clean or tally.ended or time.monotonic() > until:
                return tally
            self.start_over()
