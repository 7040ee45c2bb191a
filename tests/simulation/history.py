"""One history: what is planned happens, then everything heals, and then all that is stored is held against the model."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from feedmill import doctor, registry, settings, verbs
from feedmill.doctor import runner
from feedmill.fanout import publisher
from feedmill.feeds import Feed, notification
from feedmill.feeds.notification import NotificationFeed
from feedmill.grouping import writer
from feedmill.keys import due_key, ended_key
from feedmill.manager import deferral
from feedmill.manager.hooks import TOLD_HOOKS
from feedmill.msgpack_codec import pack
from feedmill.storage import activity_state, procedures
from feedmill.storage.journal import ROLLING
from feedmill.storage.memory import DATA
from feedmill.storage.registry import backend
from feedmill.tasks import tasks
from feedmill.worker import heartbeat
from tests.simulation import app, coroutines, heartbeats, storages
from tests.simulation import world as worlds
from tests.simulation.broker import Broker, CurrentTask, Message, nothing_to_batch, run_task
from tests.simulation.clients import Clients, HookFailed
from tests.simulation.listeners import Listener, feeds_heard
from tests.simulation.model import Model, Wrong
from tests.simulation.plan import Plan
from tests.simulation.world import Process, World
from tests.traces import traces

if TYPE_CHECKING:
    from tests.simulation.cluster import Cluster

#: Sweeps after which everything must be done.
MOST_SWEEPS = 80


@dataclasses.dataclass
class Result:
    """What came of a history."""

    plan: Plan
    #: What is wrong; empty if nothing is.
    wrong: str
    ops: int
    commands: int
    faults: dict[str, int]
    trace: list[str]


class Simulator:
    """Runs histories in this process, on one storage."""

    def __init__(
        self, storage: str = "memory", driver: storages.RedisDriver | None = None, cluster: Cluster | None = None
    ) -> None:
        self.storage, self.driver, self.cluster = storage, driver, cluster
        #: Keys of feeds that were read while nothing was stored of them, and nothing was wrong: so it is in each history.
        self._nothing: set[str] = set()

    @contextlib.contextmanager
    def installed(self) -> Iterator[Simulator]:
        """While this lasts, clocks, broker, storage and chance are the world's."""
        undo: list[tuple[Any, str, Any]] = []

        def patch(place: Any, name: str, value: Any) -> None:
            undo.append((place, name, vars(place)[name]))
            setattr(place, name, value)

        before, random_before = settings._current, random.getstate()
        real, thread = (time.time, time.monotonic, time.sleep, os.urandom), threading.get_ident()

        def here() -> bool:
            """Whether this is the world's own thread, and no other that a test has left."""
            return worlds.WORLD is not None and threading.get_ident() == thread

        patch(verbs, "_verbs", verbs._verbs)
        patch(registry, "_managers", registry._managers)
        patch(deferral, "_sweeps", {})  # outboxes of others have databases that are real
        patch(time, "time", worlds.clock(real[0]))
        patch(time, "monotonic", worlds.steady_clock(real[1]))
        patch(time, "sleep", lambda seconds: worlds.WORLD.sleep(seconds) if here() else real[2](seconds))
        patch(time, "time_ns", lambda: int(time.time() * 1e9))
        patch(notification, "_now", lambda: int(time.time() * 1e6))
        patch(os, "urandom", lambda size: worlds.WORLD.rng.randbytes(size) if here() else real[3](size))
        patch(publisher, "send", self._send)
        patch(publisher, "length", lambda queue: self.broker.length(queue))
        patch(publisher, "batched", nothing_to_batch)
        patch(publisher, "inline", lambda: False)
        patch(publisher, "in_thread", coroutines.in_thread)
        patch(procedures, "_arun_unbroken", coroutines.unbroken)
        patch(heartbeat, "beating", heartbeats.beating)
        patch(heartbeat, "new_lock", heartbeats.Lock)
        patch(runner, "unsafe_broker", lambda *_: ())  # there is none to ask
        patch(tasks, "current_task", None)
        patch(writer, "RETRY", 0.1)  # a lock that is held costs as many commands as it is asked for
        logging.disable(logging.CRITICAL)
        try:
            with self._storage(patch):
                yield self
        finally:
            worlds.WORLD = None
            logging.disable(logging.NOTSET)
            for place, name, value in reversed(undo):
                setattr(place, name, value)
            settings._current = before
            random.setstate(random_before)

    def _storage(self, patch: Callable[[Any, str, Any], None]) -> contextlib.AbstractContextManager[None]:
        if self.driver is None:
            return storages.in_memory(patch)
        if self.cluster is None:
            return storages.on_redis(patch, self.driver)
        from tests.simulation.cluster import on_cassandra

        return on_cassandra(patch, self.driver, self.cluster)

    def _send(self, name: str, args: Any, **rest: Any) -> None:
        self.broker.send(name, args, **rest)

    # -- one history

    def run(self, plan: Plan, *, trace: bool = False) -> Result:
        """Let *plan* happen."""
        if self.driver is None:
            storages.clear_memory()
        else:
            self.driver.reset()
        if self.cluster is not None:
            self.cluster.reset()
        before = settings.current()
        if plan.lock_ttl:
            settings.configure(lock_ttl=plan.lock_ttl)
        try:
            with app.on_cassandra(plan.manager, plan.on_cassandra if self.cluster is not None else ()):
                return self._run(plan, trace=trace)
        finally:
            settings._current = before

    def _run(self, plan: Plan, *, trace: bool) -> Result:
        random.seed(plan.schedule)
        world = World(plan.schedule, list(plan.faults), turns=plan.turns, trace=trace)
        world.manager, world.slow = plan.manager, plan.slow
        world.flush = lambda: self.driver and self.driver.command("SCRIPT", "FLUSH") and None
        app.use(app.NEW, plan.manager)
        app.begin()
        app.STATE.hook = lambda name, about, answer: hook(world, model, name, about, answer)
        model = Model(
            app.RELEASES[app.NEW][plan.manager], set(plan.edges), set(plan.mutes), self._is_stored, self._nothing
        )
        app.STATE.edges, app.STATE.mutes = model.edges, model.mutes
        worlds.WORLD = world
        tasks.current_task = CurrentTask(world)
        wrong, clients = "", None
        try:
            self.broker = Broker(world, plan.workers)
            clients = Clients(world, plan, model)
            listeners = [Listener(world, each, model.manager) for each in plan.listeners if feeds_heard(model.manager)]
            world.start("sweeper", "sweeper", self.broker.sweep_for_ever, plan.workers[0])
            for number in range(plan.doctors):
                self._doctor(world, number, plan.workers[-1])
            world.run(lambda: not clients.left)
            if clients.left:
                raise Wrong("clients wait for ever")
            self._go_on(world, plan.aftermath)
            lasted = world.now - worlds.DAWN
            self._heal(world)
            excluded = self._foreign(world, plan, lasted)
            self._check(world, plan, model, clients, excluded)
            if not (
                model.excused_authors or model.excused_readers
            ):  # else feeds hold what has no body, and tell nobody
                for each in listeners:
                    if each.name not in excluded:
                        each.check()
        except Exception as error:
            wrong = f"{type(error).__name__}: {error}"
            if trace and not isinstance(error, Wrong):
                import traceback

                world.say(traceback.format_exc())
        finally:
            world.healing = True
            while world.processes:
                world.processes.pop().end()
            worlds.WORLD = None
            app.use(app.NEW, plan.manager)
        ops = clients.done if clients else 0
        return Result(plan, wrong, ops, world.commands, world.happened, world.trace or [])

    @staticmethod
    def _foreign(world: World, plan: Plan, lasted: float) -> set[str]:
        """The feed that old workers do not know, if they had it left to them: what has waited for ten minutes is for anybody."""
        names = list(app.RELEASES[app.NEW][plan.manager].feed_classes)
        waited = lasted > ROLLING / 1000 - 100 or "server clock moved" in world.happened
        return {names[-1]} if app.OLD in plan.workers and len(names) > 1 and waited else set()

    def _doctor(self, world: World, number: int, release: int) -> None:
        def run(process: Process) -> None:
            world.sleep(world.rng.choice((0.05, 1.0, 30.0, 100.0)))
            with contextlib.suppress(*_ALLOWED):
                doctor.examine(fix=True)

        world.start(f"doctor-{number}", "doctor", run, release)

    def _go_on(self, world: World, seconds: float) -> None:
        """Nobody asks for anything more; what was asked for goes on for a while, and so do faults."""
        until = world.now + seconds
        asked = 0.0

        def over() -> bool:
            nonlocal asked
            if world.now > until:
                return True
            if not self.broker.quiet or world.now < asked:
                return False
            asked = world.now + 1.0
            return not self._open(world)

        world.run(over)

    def _heal(self, world: World) -> None:
        """No more faults; everybody comes to an end, and sweeps bring up what is left."""
        world.healing = True
        world.refused_for = 0
        for process in world.processes:
            process.cut_off = 0
        for process in self.broker.idle:
            process.wake = world.now
        world.processes = [process for process in world.processes if process.role != "sweeper"]
        for _sweeps in range(MOST_SWEEPS):
            world.run(lambda: self._idle(world))
            if not self._open(world):
                return
            at = self._next_due()
            world.now = max(world.now + 11.0, min(at - world.server_offset, world.now + 4000))
            world.start("sweeper", "sweeper", self._sweep_once)
            world.run(lambda: self._idle(world))
        raise Wrong(f"after {MOST_SWEEPS} sweeps it has not come to an end: {self._open(world)}")

    def _sweep_once(self, process: Process) -> None:
        run_task(process.world, process, Message("sweep", "feedmill.sweep", ()), None)

    def _idle(self, world: World) -> bool:
        return self.broker.quiet and all(p.role == "worker" and p.release == app.NEW for p in world.processes)

    def _open(self, world: World) -> str:
        """What is not done."""
        name = world.manager
        count = backend().run(backend().journal.list_due(name)).number
        if count:
            return f"{count} fan-outs"
        return next(self._leftovers(), "") or next(self._untold(), "")

    def _next_due(self) -> float:
        if self.driver is None:
            due = min((at for due in DATA.due.values() for at in due.values()), default=0) / 1000
        else:
            found = self.driver.command("ZRANGE", due_key(worlds.WORLD.manager), 0, 0, "WITHSCORES")
            due = float(found[1]) / 1000 if found else 0.0
        return min(filter(None, (due, self._next_told())), default=0.0)

    def _next_told(self) -> float:
        """When the first of what hooks are to be told is due."""
        if self.driver is None:
            return min((at for due in DATA.hook_due.values() for at in due.values()), default=0) / 1e6
        found = [self.driver.command("ZRANGE", key, 0, 0, "WITHSCORES") for key in self._hook_keys()]
        return min((float(each[1]) for each in found if each), default=0.0) / 1e6

    def _hook_keys(self) -> list[Any]:
        assert self.driver is not None
        return [*self.driver.command("KEYS", "fm:hooks:*}")]

    def _untold(self) -> Iterator[str]:
        """What hooks were not told yet: what is noted, and ends that nobody noted, which a sweep finds."""
        lists = DATA.hook_items if self.driver is None else [*self.driver.command("KEYS", "fm:due:*:ended")]
        ends = ended_key(worlds.WORLD.manager)
        yield from ("fan-outs ended, and nobody noted it" for key in lists if key in (ends, ends.encode()))
        if self.driver is None:
            yield from (f"hooks are to be told what {bucket} holds" for bucket, due in DATA.hook_due.items() if due)
        else:
            yield from (f"hooks are to be told what {key.decode()} holds" for key in self._hook_keys())

    def _check_told(self, plan: Plan, model: Model, clients: Clients, excluded: set[str]) -> None:
        """Hooks were told everything at least once, unless an older release that has none did it; and nothing is left."""
        manager = app.RELEASES[app.NEW][plan.manager]
        wrong = model.wrongly_told(app.STATE.told)
        if "on_notification" in manager.told_hooks and app.OLD not in (*plan.workers, *plan.clients):
            wrong += model.untold(app.STATE.told)
            lists = DATA.hook_items if self.driver is None else self.driver.command("KEYS", "fm:*:arrivals")
            wrong += [f"{key!r} holds what hooks were not told" for key in lists]
            ended = set(app.STATE.ended.values())
            wrong += [f"{each.id} ended, and no hook was told" for each in clients.fanouts if each.id not in ended]
        if wrong:
            raise Wrong("; ".join(wrong))

    def _leftovers(self) -> Iterator[str]:
        """Locks that are held, and pending writes that are not empty."""
        if self.driver is None:
            for key, held in DATA.groups.items():
                if held.pending:
                    yield f"{key} has {len(held.pending)} bytes among its pending writes"
                if held.lock and held.deadline > worlds.WORLD.now:
                    yield f"{key} is locked"
            return
        for key in self.driver.command("KEYS", "*:groups"):
            _meta, pending = self.driver.command("HMGET", key, "\0m", "\0i")
            if pending:
                yield f"{key.decode()} has {len(pending)} bytes among its pending writes"

    def _check(self, world: World, plan: Plan, model: Model, clients: Clients, excluded: set[str]) -> None:
        if self.cluster is not None:
            self.cluster.settle()
        if letters := backend().run(backend().journal.dead_letters(5)):
            raise Wrong(f"dead letters: {[letter.reason for letter in letters]}")
        for fanout in clients.fanouts:
            if not fanout.status().finished:
                raise Wrong(f"{fanout!r} says that it is not finished: {fanout.status()}")
        self._nameless(model)
        self._rebuilt(world)
        model.check(excluded)
        self._check_told(plan, model, clients, excluded)
        self._bodies(model)
        self._age(world)
        world.now += 120
        report = doctor.examine()
        # A process that dies, or hears nothing more from the server, cannot let go of what it holds: the time of that is over.
        allowed = {"unsafe Redis setting", *(["stuck lock"] if set(world.happened) - {"coroutine cancelled"} else [])}
        if model.erased and (model.excused_authors or model.excused_readers):
            # A removal that was told of nobody to remove it from leaves ids, and a deletion no tombstones that say so.
            allowed.add("entries without body")
        said = [str(finding) for finding in report.shown if finding.kind not in allowed]
        if said:
            raise Wrong(f"the doctor finds {said}")

    def _nameless(self, model: Model) -> None:
        """Nothing names a deleted user about whom nobody has asked for anything since: see ``_names``."""
        if model.excused_authors or model.excused_readers:  # who answers nonsense may name anybody
            return
        for user in sorted(model.nameless):
            command = None if self.driver is None else self.driver.command
            beside = () if self.cluster is None else self.cluster.stored()
            found = traces(_names(user), command, is_meant=lambda key, user=user: _is_meant(key, user), beside=beside)
            if found:
                raise Wrong(f"{app.SPELLINGS[user][-1]} is deleted, and named by {found[:3]}")

    def _rebuilt(self, world: World) -> None:
        """Users look at their feeds, and those that are gone are rebuilt."""
        manager = registry.get_manager(world.manager)()
        if not any(kind.expires_idle() for kind in manager.feed_classes.values()):
            return
        for _ in range(6):
            for number, spelled in enumerate(app.SPELLINGS):
                for feed in manager.get_feeds(spelled[-1]).values():
                    if number % 2:
                        coroutines.awaited(feed.acount())
                    else:
                        feed.count()
            world.run(lambda: self._idle(world))
            if not self._open(world):
                return
            self._heal(world)  # which takes its time
        raise Wrong("feeds are rebuilt again and again")

    def _age(self, world: World) -> None:
        """Later, sweeps have taken out everything that is too old, and each count says so."""
        kinds = [kind for kind in app.feeds_of(app.RELEASES[app.NEW][world.manager]).values() if kind.lifetime()]
        if not kinds:
            return
        for _ in range(3):
            world.now += max(kind.lifetime() / 1e6 for kind in kinds) + 3600
            world.start("sweeper", "sweeper", self._sweep_once)
            world.run(lambda: self._idle(world))
        held = [key for key in self._timelines() if "sim:aging" in key]
        if held:
            raise Wrong(f"{held} still hold what is too old")

    def _timelines(self) -> list[str]:
        """Keys of timelines that hold something."""
        if self.driver is None:
            return [*DATA.flat, *(key for key, held in DATA.groups.items() if held.scores)]
        found = self.driver.command("KEYS", "fm:sim:*}")
        held = [key.decode() for key in found if self.driver.command("TYPE", key) in (b"zset", b"string")]
        return held if self.cluster is None else [*held, *self.cluster.timelines()]

    def _is_stored(self, feed: Feed) -> bool:
        """Whether anything may be stored of *feed*."""
        if self.driver is not None or feed.key in DATA.flat or feed.key in DATA.groups:
            return True
        return isinstance(feed, NotificationFeed) and feed.count_key in DATA.counts

    def _bodies(self, model: Model) -> None:
        if self.driver is None:
            stored = dict(DATA.bodies)
        else:
            keys = self.driver.command("KEYS", "fm:a:*")
            stored = {key[-16:]: self.driver.command("GET", key) for key in keys}
        held = {app.BY_ID[raw_id] for raw_id, value in stored.items() if activity_state.shown(value) is not None}
        must, may = model.bodies()
        if not must <= held <= may:
            raise Wrong(f"bodies: {sorted(held)} are stored, not {sorted(must)}")


def _names(user: int) -> set[bytes]:
    """What names a user: where the id is a word, or a number, only as it stands in keys and where it is packed as text."""
    names = set[bytes]()
    for spelled in map(str, app.SPELLINGS[user]):
        names |= {f"{{{spelled}}}".encode(), repr(spelled).encode(), pack(spelled)}
    return names


def _is_meant(key: bytes, user: int) -> bool:
    """Whether what a key holds is not to name a deleted *user*: not what others did to them, nor feeds that hold all of that, nor what
    was written to a single feed.
    """
    number = app.BY_ID.get(key[-16:])
    if b":wire:" in key or f"{{{app.SPELLINGS[app.SOLO][-1]}}}".encode() in key:
        return False
    return number is None or (number < app.ALONE and app.ACTIVITIES[number][0] == user)


_ALLOWED = (Exception,)


def hook(world: World, model: Model, name: str, about: int, answer: Any) -> Any:
    """What a hook of the app answers: mostly what it should."""
    world.yield_turn()
    fault = world.fault("hook") if world.current else None
    if fault is None:
        return answer
    if fault.kind == "kill":
        world.kill("process killed in a hook")
    if fault.kind == "raise":
        world.happen("hook raised")
        raise HookFailed(name)
    if fault.kind == "hang":
        world.happen("hook hung")
        world.sleep(fault.amount)
        return answer
    world.happen(f"hook answered {fault.amount}")
    if name in TOLD_HOOKS:  # whatever it answers is nobody's business
        return NONSENSE[fault.amount](answer)
    (model.excused_readers if name == "get_user_following_ids" else model.excused_authors).add(about)
    return NONSENSE[fault.amount](answer)


@dataclasses.dataclass(frozen=True)
class Person:
    """What an app may give in place of an id."""

    name: Any


#: What a hook answers in place of what it should.
NONSENSE: dict[str, Callable[[Any], Any]] = {
    "text": lambda answer: "".join(str(each)[:1] for each in answer) + "zz",
    "one": lambda answer: next(iter(answer), 7),
    "none": lambda answer: None,
    "bools": lambda answer: [True, False],
    "models": lambda answer: [Person(each) for each in answer],
    "mapping": lambda answer: dict.fromkeys((5, "ann", app._UUID, 9), False),
    "nested": lambda answer: [[*answer, 1]],
    "bad id": lambda answer: [*answer, 1.5],
}
