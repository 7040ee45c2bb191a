"""A stage: a feed store, a broker, proxies before both, workers, and the model of what must come out."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import itertools
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from celery import Celery

import feedmill
from feedmill import Activity, registry
from feedmill.errors import StorageError
from feedmill.fanout import publisher
from feedmill.fanout.handle import Fanout, FanoutStatus, fanout_id, status_of
from feedmill.fanout.operations import ADD, REMOVE
from feedmill.fanout.publisher import ALL_QUEUES, HIGH_QUEUE, LOW_QUEUE
from feedmill.feeds.flat import Feed
from feedmill.storage.journal import FANOUT
from feedmill.storage.operations import together
from feedmill.storage.registry import backend
from feedmill.verbs import Comment, Love, Verb
from feedmill.worker.dead_letters import content
from tests.celery_local.process import LocalProcess
from tests.celery_local.rabbit import LocalRabbit
from tests.chaos import edges
from tests.chaos.audit import Verdict, audit, leftovers
from tests.chaos.healing import sweep, undelivered
from tests.chaos.model import Model
from tests.chaos.network import AUTHORS, NAMED, READERS, RECIPIENTS, ChaosManager, Notes
from tests.chaos.proxied import Proxied
from tests.chaos.servers import Server
from tests.chaos.workers import ROOT, Worker

T = TypeVar("T")
START = dt.datetime(2024, 3, 1, 12, tzinfo=dt.timezone.utc)
#: Seconds a lock lives on stages: short, so that scenarios can outlive it.
LOCK_TTL = 2.0
#: Seconds after which work that somebody took is given to others.
LEASE = 6.0
#: Seconds after which what is not finished counts as lost.
TIMEOUT = 60.0


@dataclasses.dataclass
class Row:
    """What came of one scenario on one broker."""

    scenario: str
    promise: str
    broker: str
    faults: int = 0
    #: Fan-outs that were on their way when the faults struck.
    in_flight: int = 0
    deliveries: int = 0
    lost: int = 0
    duplicated: int = 0
    wrong: int = 0
    #: Seconds from the end of the fault until everything was delivered.
    recovery: float = 0.0
    passed: bool = False
    #: What else was measured, in words.
    remark: str = ""
    #: What was wrong, in words.
    notes: list[str] = dataclasses.field(default_factory=list)


class Harness:
    """Everything that one scenario needs. Workers reach both servers through proxies; the test itself does not."""

    def __init__(self, folder: Path, broker: str, rabbit: LocalRabbit | None, seed: int = 1) -> None:
        self.folder, self.broker_kind, self.rabbit = folder, broker, rabbit
        self.random = random.Random(seed)
        self.model, self.manager = Model(), ChaosManager()
        #: Faults, and fan-outs that were on their way at each of them.
        self.faults = self.in_flight = 0
        self.healed_at = 0.0
        #: By fan-out, the handle and how many people it must reach, if that is known: of an activity the last word counts.
        self.asked: dict[str, tuple[Fanout, int | None]] = {}
        #: Those of them that were not seen finished.
        self.open: dict[str, Fanout] = {}
        self.made = 0
        #: What else is worth knowing of the scenario, in words.
        self.remark = ""
        #: Held while the model is told of something: several threads may ask.
        self.guard = threading.RLock()
        #: Flat feeds of a later release, by name.
        self.flat: dict[str, type[Feed]] = {}
        self._stack = contextlib.ExitStack()
        self.workers: list[Worker] = []
        #: Workers that are meant to stay dead.
        self.retired: set[Worker] = set()
        #: Whether no worker may end that was not asked to.
        self.steady = False
        #: Fan-outs that are meant to be given up.
        self.hopeless: set[str] = set()
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        self.feeds = Server(self.folder / "feeds")
        self._stack.callback(self.feeds.stop)
        if self.rabbit is not None:
            self.rabbit.empty(*ALL_QUEUES)
            self.broker_port = self.rabbit.port
        else:
            self.broker = Server(self.folder / "broker")
            self._stack.callback(self.broker.stop)
            self.broker_port = self.broker.port
        edges.create(self.folder / "edges")
        self._stack.callback(os.environ.pop, edges.WHERE, None)
        os.environ[edges.WHERE] = str(self.folder / "edges")
        self.feeds_proxy, self.broker_proxy = self.another_proxy(), self.another_proxy(broker=True)
        self.broker_url = self.url_of_broker(self.broker_port)
        self.environment = {
            "FEEDMILL_REDIS_URL": self.feeds_url(self.feeds_proxy.port),
            "FEEDMILL_BROKER_URL": self.url_of_broker(self.broker_proxy.port),
            "FEEDMILL_MODULES": "tests.chaos.network",
            "FEEDMILL_LOCK_TTL": str(LOCK_TTL),
            "FEEDMILL_FANOUT_LEASE": str(LEASE),
        }
        feedmill.configure(redis_url=self.feeds.url, broker_url=self.broker_url, celery_app="")
        feedmill.configure(lock_ttl=LOCK_TTL, fanout_lease=LEASE)
        self.app = Celery("chaos", set_as_current=True)
        self.app.config_from_object("feedmill.tasks.celeryconfig")
        self.app.conf.update(broker_url=self.broker_url, broker_transport_options={})
        self.app.set_default()
        self._stack.callback(self.app.close)

    @staticmethod
    def feeds_url(port: int) -> str:
        """Where to find the feed store, or a proxy before it."""
        return f"redis://127.0.0.1:{port}/0"

    def url_of_broker(self, port: int) -> str:
        """Where to find the broker, or a proxy before it."""
        return f"redis://127.0.0.1:{port}/0" if self.rabbit is None else f"amqp://guest:guest@127.0.0.1:{port}//"

    def close(self) -> None:
        """End every process."""
        for worker in self.workers:
            worker.kill()
        self._stack.close()

    # -- workers

    def hire(self, count: int = 2, *options: str, **more: Any) -> list[Worker]:
        """Start *count* workers and wait until they work."""
        modules = more.pop("modules", "tests.chaos.network")
        environment = {**self.environment, "FEEDMILL_MODULES": modules, **more.pop("environment", {})}
        new = []
        for _ in range(count):
            folder = self.folder / f"worker{len(self.workers)}"
            worker = Worker(folder, environment, *options, **more)
            self.workers.append(worker)
            new.append(worker)
        return [worker.wait_ready() for worker in new]

    def supervise(self) -> None:
        """Start again what has ended, as a supervisor would."""
        for worker in self.workers:
            if not worker.alive and worker not in self.retired:
                worker.start()

    def another_proxy(self, broker: bool = False) -> Proxied:
        """A proxy to the feed store, or the broker, that workers know nothing of."""
        proxy = Proxied(self.broker_port if broker else self.feeds.port)
        self._stack.callback(proxy.stop)
        return proxy

    def web(
        self, statement: str, feeds: Proxied | None = None, broker: Proxied | None = None, **environment: str
    ) -> LocalProcess:
        """A process of a web app that executes *statement*, through proxies of its own."""
        program = f"from tests.chaos.network import *; {statement}"
        where = {**self.environment, "PYTHONPATH": str(ROOT), **environment}
        where["FEEDMILL_REDIS_URL"] = self.feeds_url((feeds or self.feeds_proxy).port)
        where["FEEDMILL_BROKER_URL"] = self.url_of_broker((broker or self.broker_proxy).port)
        process = LocalProcess([sys.executable, "-c", program], self.folder, where, "web")
        self._stack.callback(process.kill)
        return process

    def wanted(self, *flat: str, target: Any = None) -> str:
        """The statement that asks for a new activity, which counts as asked for from now on."""
        activity = self.activity(target)
        fanout = Fanout(fanout_id(self.manager.name, activity.raw_id), ADD.name)
        self.expect(fanout, self.model.add(activity, *flat))
        return f"ChaosManager().add_activity(Activity.unpack({activity.pack()!r}))"

    def messages(self, queue: str) -> int:
        """How many wait in *queue*."""
        return publisher.length(queue)

    def forget_messages(self) -> None:
        """The broker forgets all that waits in its queues."""
        if self.rabbit is None:
            self.broker.client.flushall()
        else:
            self.rabbit.purge(HIGH_QUEUE, LOW_QUEUE)

    def kill_broker(self) -> None:
        """Kill the broker with -9."""
        self.rabbit.kill() if self.rabbit is not None else self.broker.kill()

    def start_broker(self) -> None:
        """Start it again, with what it kept."""
        if self.rabbit is None:
            self.broker.start()
        else:
            self.rabbit.restart()

    # -- servers that are full, or no longer the master

    @contextlib.contextmanager
    def full(self, *servers: str) -> Iterator[None]:
        """No room is left in the *servers* "feeds" and "broker": what needs some is refused. RabbitMQ takes no messages."""
        with contextlib.ExitStack() as stack:
            if "feeds" in servers:
                stack.enter_context(self.feeds.full())
            if "broker" in servers:
                stack.enter_context(self.broker.full() if self.rabbit is None else self.rabbit.full())
            yield

    @contextlib.contextmanager
    def failed_over(self) -> Iterator[None]:
        """The broker is no longer the one: a Redis that only reads, as a master that was replaced; a RabbitMQ that is away."""
        with self.broker.replaced() if self.rabbit is None else self.rabbit.stopped():
            yield

    # -- load

    def activity(self, target: Any = None, *, actor: Any = None, verb: type[Verb] | None = None) -> Activity:
        """The next one: in the groups that everybody writes to, a little out of order."""
        with self.guard:
            self.made += 1
            number = self.made
        return Activity(
            actor=actor or AUTHORS[number % len(AUTHORS)],
            verb=verb or (Love if number % 3 else Comment),
            object=self.random.randrange(4),
            target=target or self.random.choice(RECIPIENTS),
            time=START + dt.timedelta(milliseconds=number * 10 + self.random.randrange(200), microseconds=number),
        )

    def add(self, count: int = 1, manager: Any = None, *flat: str, **more: Any) -> list[Activity]:
        """Ask for *count* new activities to be delivered; asked again until the answer is not an error."""
        activities = [self.activity(**more) for _ in range(count)]
        for activity in activities:
            self.put(activity, manager, *flat)
        return activities

    def put(self, activity: Activity, manager: Any = None, *flat: str) -> None:
        """Ask for *activity* to be delivered, whether it is new, there, or was taken back."""
        fanout = self.insist((manager or self.manager).add_activity, activity)
        with self.guard:
            self.expect(fanout, self.model.add(activity, *flat))

    def take_back(self, activity: Activity, *, stored: bool = True) -> None:
        """Ask for *activity* to be removed from everywhere; by value, by id if it is *stored*, and the other way each time
        that it fails."""
        forms = [activity, activity.id] if stored else [activity]
        self.random.shuffle(forms)
        ways = itertools.cycle(forms)
        fanout = self.insist(lambda: self.manager.remove_activity(next(ways)))
        with self.guard:
            self.expect(fanout, self.model.remove(activity))

    def remove_object(self, thing: Any) -> None:
        """Ask for everything about *thing* to be removed."""
        fanout = self.insist(self.manager.remove_object, thing)
        self._removed(fanout, lambda activity: activity.object_id == thing)

    def delete_user(self, user: Any) -> None:
        """Ask for a user to be deleted, with all that they did."""
        fanout = self.insist(self.manager.delete_user, user)
        self._removed(fanout, lambda activity: activity.actor_id == user)

    def _removed(self, fanout: Fanout, concerns: Callable[[Activity], bool]) -> None:
        """*fanout* waits for the removal of all that it *concerns*."""
        with self.guard:
            known = {*self.model.named, *(each for own in self.model.own.values() for each in own)}
            gone = [each for each in sorted(known) if concerns(each)]
            for activity in gone:
                name = fanout_id(self.manager.name, activity.raw_id)
                named = activity in self.model.named
                people = self.model.remove(activity)
                self.expect(Fanout(name, REMOVE.name), None if named else people)
            self.expect(fanout, 0)

    def update(self, activity: Activity, **context: Any) -> Activity:
        """Ask for *activity* to carry *context* wherever it is."""
        changed = carrying(activity, context)
        fanout = self.insist(self.manager.update_activity, changed)
        with self.guard:
            self.expect(fanout)
            self.model.update(changed)
        return changed

    def bring(self, count: int) -> list[Activity]:
        """Import old activities of one author."""
        actor = self.random.choice(AUTHORS)
        activities = [self.activity(actor=actor) for _ in range(count)]
        self.import_(activities)
        return activities

    def import_(self, activities: Sequence[Activity]) -> None:
        """Import *activities*, all of one author."""
        fanout = self.insist(self.manager.batch_import, activities[0].actor_id, activities)
        with self.guard:
            self.expect(fanout)
            self.model.bring(activities)

    def notify(self, users: Sequence[Any], activity: Activity) -> None:
        """Ask for *users* to be notified of *activity*."""
        fanout = self.insist(self.manager.notify, users, activity)
        with self.guard:
            self.expect(fanout)
            self.model.notify(users, activity)

    def unnotify(self, users: Sequence[Any], activity: Activity) -> None:
        """Ask for that to be taken back."""
        fanout = self.insist(self.manager.unnotify, users, activity)
        with self.guard:
            self.expect(fanout)
            self.model.unnotify(users, activity)

    def follow(self, reader: Any, author: Any) -> None:
        """*reader* follows *author*, in the app's database and then in its feeds."""
        edges.put(reader, author)
        fanout = self.insist(self.manager.follow, reader, author)
        with self.guard:
            self.expect(fanout)
            self.model.follow(reader, author)

    def unfollow(self, reader: Any, author: Any) -> None:
        """*reader* no longer follows *author*."""
        edges.drop(reader, author)
        fanout = self.insist(self.manager.unfollow, reader, author)
        with self.guard:
            self.expect(fanout)
            self.model.unfollow(reader, author)

    def rebuild(self, reader: Any) -> None:
        """Ask for the feeds of *reader* to be made what they are."""
        fanout = self.insist(self.manager.rebuild, reader)
        with self.guard:
            self.expect(fanout)

    def mark(self, user: Any) -> None:
        """*user* looks while things are on their way: what was there then is not known here."""
        self.insist(Notes(user).mark_all)
        self.model.hazy.add(user)

    def expect(self, fanout: Fanout | Iterable[Fanout], people: int | None = None) -> None:
        """*fanout* was asked for. *people*: how many it must reach, besides readers who follow at that moment."""
        for number, part in enumerate([fanout] if isinstance(fanout, Fanout) else fanout):
            self.asked[part.id] = part, None if number else people
            self.open[part.id] = part

    def look(self) -> None:
        """Everybody looks at their notifications."""
        for user in (*RECIPIENTS, *NAMED):
            Notes(user).mark_all()
            self.model.mark_all(user)

    def insist(self, call: Callable[..., T], *args: Any) -> T:
        """What *call* returns, called again until that is no error of the storage."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                return call(*args)
            except StorageError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    # -- faults and what comes after

    def fault(self, count: int = 1) -> None:
        """*count* faults were inflicted; recovery is counted from the last one."""
        self.faults += count
        self.in_flight += self.unfinished
        self.healed_at = time.monotonic()

    @property
    def unfinished(self) -> int:
        """Fan-outs that are not finished."""
        with self.guard:
            for name, status in self._statuses(list(self.open.values())):
                if status.finished:
                    del self.open[name]
            return len(self.open)

    def _statuses(self, fanouts: Sequence[Fanout]) -> list[tuple[str, FanoutStatus]]:
        """What the fan-out records of *fanouts* say, read in one go."""
        found = backend().run(together([backend().journal.get(fanout.id) for fanout in fanouts]))
        return [(fanout.id, status_of(fields, fanout.op)) for fanout, fields in zip(fanouts, found)]

    def settle(self, timeout: float = TIMEOUT) -> float:
        """Let the system heal itself, until all is done or nothing more is done for *timeout* seconds; the seconds that took since the
        last fault.
        """
        began, patience = self.healed_at or time.monotonic(), Patience(timeout)
        while True:
            self.supervise()
            sweep()
            left = leftovers(self.feeds.client)
            if (not self.unfinished and not left) or patience.is_over(left, self._chunks_done):
                return time.monotonic() - began
            time.sleep(0.1)

    def rest(self) -> bool:
        """Let what is to be done again be done again; whether there was any. Nothing may change by it."""
        busy, patience = False, Patience(LEASE + TIMEOUT)
        while (due := self._due) and not patience.is_over(due, self._chunks_done):
            busy = True
            self.supervise()
            sweep()
            time.sleep(0.1)
        return busy

    @property
    def _due(self) -> int:
        """Fan-outs of which something is to be done, whoever asked for them."""
        return sum(backend().run(backend().journal.list_due(name)).number for name in registry.manager_names())

    @property
    def _chunks_done(self) -> int:
        """Chunks that are done of the fan-outs that are to be done; it changes while workers work."""
        journal = backend().journal
        ids = [name for manager in registry.manager_names() for name in backend().run(journal.list_due(manager)).ids]
        found = backend().run(together([journal.get(name) for name in ids]))
        return sum(status_of(fields, "").done for fields in found)

    def judge(self) -> Verdict:
        """Everything that is not as it must be, now."""
        verdict = audit(self.model, self.flat)
        for note in leftovers(self.feeds.client):
            verdict.off(note)
        # Who follows at that moment, and who was told by name when it was planned once more, is reached as well.
        others = (len(READERS) if self.model.followed else 0) + (len(NAMED) if self.model.named else 0)
        for name, status in self._statuses([fanout for fanout, _ in self.asked.values()]):
            people = self.asked[name][1]
            if name in self.hopeless:
                continue
            verdict.chunks += status.planned
            verdict.chunks_lost += status.planned - status.done
            right = people is None or people <= status.reached <= people + others
            if not status.finished or status.planned != status.done or not right:
                verdict.off(f"fan-out record of {name}: {status}, and {people} people were to be reached")
        if self.steady:
            for number, worker in enumerate(self.workers):
                if worker not in self.retired and (worker.starts > 1 or not worker.alive):
                    verdict.off(f"worker {number} ended: {worker.log[-500:]}")
        given_up = undelivered()
        for name in self.hopeless:
            mine = [letter for letter in given_up if letter.kind == FANOUT and content(letter)[-1] == name]
            if len(mine) != 1:
                verdict.off(f"{len(mine)} dead letters of {name}, which is hopeless, instead of 1")
            given_up = [letter for letter in given_up if letter not in mine]
        for letter in given_up:
            verdict.off(f"dead letter: {letter}")
        return verdict

    def fill(self, row: Row) -> Verdict:
        """Settle, judge, and write the result into *row*; and judge again when nothing is left to be done again."""
        row.recovery = round(self.settle(), 1)
        verdict = self.judge()
        if verdict.clean and self.rest():
            self.settle()
            verdict = self.judge()
        row.faults, row.in_flight, row.deliveries = self.faults, self.in_flight, self.model.deliveries
        row.lost, row.duplicated, row.wrong = verdict.lost, verdict.duplicated, verdict.wrong
        row.passed, row.notes, row.remark = verdict.clean, verdict.notes[:20], self.remark
        return verdict


class Patience:
    """Ends when nothing has changed for so many seconds: a machine may be slow, and busy all the same."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._since, self._state = seconds, time.monotonic(), tuple[object, ...]()

    def is_over(self, *state: object) -> bool:
        """Whether it has: *state* is what work changes."""
        if state != self._state:
            self._since, self._state = time.monotonic(), state
        return time.monotonic() > self._since + self._seconds


def carrying(activity: Activity, context: dict[str, Any]) -> Activity:
    """The same activity, as it is when it carries *context*."""
    what = activity.actor_id, activity.verb, activity.object_id, activity.target_id
    return Activity(*what, time=activity.time, extra_context=context)


@contextlib.contextmanager
def staged(folder: Path, broker: str, rabbit: LocalRabbit | None, seed: int = 1) -> Iterator[Harness]:
    """A stage that is cleared away afterwards."""
    harness = Harness(folder, broker, rabbit, seed)
    try:
        yield harness
    finally:
        harness.close()
