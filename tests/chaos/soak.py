"""Random faults for as long as wanted: rounds of load under fire, each held against a model of its own at its end."""

from __future__ import annotations

import dataclasses
import datetime as dt
import random
import signal
import time
from collections.abc import Callable

from tests.chaos.model import Model
from tests.chaos.proxied import COMMITTING, WRITING, digests
from tests.chaos.stage import LOCK_TTL, Stage
from tests.chaos.workers import Worker

#: Seconds of load in a round, before everything must heal and be right.
ROUND = 45.0
#: Fan-outs on their way at once, so that a fault always strikes many and memory stays bounded.
CROWD = 40
#: Seconds between two faults, at least and at most.
PAUSES = 0.2, 1.5


@dataclasses.dataclass
class Tally:
    """What a soak came to."""

    date: str
    broker: str
    faults: int = 0
    #: ``kill -9`` of workers, children and all; counted among the faults too.
    kills: int = 0
    minutes: float = 0.0
    rounds: int = 0
    fanouts: int = 0
    deliveries: int = 0
    lost: int = 0
    duplicated: int = 0
    wrong: int = 0
    #: What of it was wrong, in words.
    notes: list[str] = dataclasses.field(default_factory=list)


class Soak:
    """A stage under fire."""

    def __init__(self, stage: Stage, workers: int, only_kills: bool, seed: int) -> None:
        self.stage, self.random = stage, random.Random(seed)
        self.tally = Tally(dt.date.today().isoformat(), stage.broker_kind)
        self.began = time.monotonic()
        stage.hire(workers, children=1)
        self.arsenal: list[tuple[int, Callable[[], None]]] = [(8, self.kill_worker)]
        if not only_kills:
            self.arsenal += [
                (6, self.kill_child),
                (4, self.freeze_worker),
                (6, self.cut_write),
                (4, self.short_fuse),
                (3, self.cut_everything),
                (2, self.silence),
                (2, self.refuse_writes),
                (2, self.kill_feeds),
                (1, self.kill_broker),
            ]

    # -- faults

    def _worker(self) -> Worker:
        return self.random.choice(self.stage.workers)

    def kill_worker(self) -> None:
        """A worker with its children."""
        self._worker().kill()
        self.tally.kills += 1
        self.stage.supervise()

    def kill_child(self) -> None:
        """A child alone."""
        self._worker().kill_child()

    def freeze_worker(self) -> None:
        """A worker, for longer than a lock lives."""
        worker = self._worker()
        if worker.alive:
            worker.signal(signal.SIGSTOP)
            self._load(LOCK_TTL + 0.5)
            worker.signal(signal.SIGCONT)

    def cut_write(self) -> None:
        """The next few connections that write."""
        side, after = self.random.choice(["request", "answer"]), self.random.choice([0, 3, 45, 400, 100_000])
        names = self.random.choice([WRITING, COMMITTING])
        self.stage.feeds_proxy.rule(digests(names), side=side, after=after, times=self.random.randrange(1, 6))

    def short_fuse(self) -> None:
        """Every connection, wherever it is when its bytes run out."""
        self.stage.feeds_proxy.fuse(self.random.randrange(500, 50_000))
        self._load(0.5)
        self.stage.feeds_proxy.fuse(None)

    def cut_everything(self) -> None:
        """All connections to one of the servers."""
        self.random.choice([self.stage.feeds_proxy, self.stage.broker_proxy]).cut()

    def silence(self) -> None:
        """Nothing gets through for a while."""
        self.stage.feeds_proxy.set(frozen=True)
        self._load(self.random.choice([0.3, LOCK_TTL + 0.5]))
        self.stage.feeds_proxy.set(frozen=False)

    def refuse_writes(self) -> None:
        """The feed store has no memory left."""
        self.stage.feeds.client.config_set("maxmemory", 1)
        time.sleep(0.5)
        self.stage.feeds.client.config_set("maxmemory", 0)

    def kill_feeds(self) -> None:
        """The feed store, started again with its file."""
        self.stage.feeds.kill()
        self.stage.feeds.start()

    def kill_broker(self) -> None:
        """The broker, started again."""
        self.stage.kill_broker()
        self.stage.start_broker()

    # -- rounds

    def _load(self, seconds: float) -> None:
        """Keep many fan-outs on their way for *seconds*; now and then one is taken back."""
        until = time.monotonic() + seconds
        while True:
            room = CROWD - self.stage.unfinished
            if room > 0:
                fresh = self.stage.add(min(room, 10))
                if self.random.random() < 0.3:
                    self.stage.take_back(self.random.choice(fresh))
            elif time.monotonic() > until:
                return
            time.sleep(0.02)
            if time.monotonic() > until:
                return

    def round(self, seconds: float, kills: int) -> bool:
        """Load under fire for *seconds* or until *kills* workers were killed in all; whether all was right at its end."""
        stage, tally, until = self.stage, self.tally, time.monotonic() + seconds
        stage.look()
        self._load(0.5)
        while time.monotonic() < until and not (kills and tally.kills >= kills):
            weights, faults = zip(*self.arsenal)
            self.random.choices(faults, weights)[0]()
            stage.fault()
            self._load(self.random.uniform(*PAUSES))
        stage.feeds_proxy.forget()
        stage.settle()
        verdict = stage.judge()
        tally.rounds += 1
        tally.faults, stage.faults = tally.faults + stage.faults, 0
        tally.fanouts += len(stage.asked)
        tally.deliveries += stage.model.deliveries
        tally.lost, tally.duplicated = tally.lost + verdict.lost, tally.duplicated + verdict.duplicated
        tally.wrong += verdict.wrong
        tally.notes = (tally.notes + verdict.notes)[:20]
        tally.minutes = round((time.monotonic() - self.began) / 60, 1)
        return verdict.clean

    def start_over(self) -> None:
        """Forget all feeds, and the model with them: what was right is counted."""
        self.stage.feeds.client.flushall()
        self.stage.model, self.stage.asked = Model(), {}

    def run(self, minutes: float, kills: int, deliveries: int) -> Tally:
        """Rounds until the time is up, or all *kills* or *deliveries* (0: no matter) are done, or something is wrong."""
        until = self.began + minutes * 60
        while True:
            clean = self.round(min(ROUND, max(1.0, until - time.monotonic())), kills)
            tally = self.tally
            done = (kills and tally.kills >= kills) or (deliveries and tally.deliveries >= deliveries)
            if not clean or done or time.monotonic() > until:
                return tally
            self.start_over()
