"""A broker and its workers: what Celery does with messages, and what can happen to them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from greenlet import GreenletExit

from feedmill.errors import StorageError
from feedmill.tasks import app as celery_app
from tests.simulation import app
from tests.simulation.world import FOREVER, Process, World

#: Seconds after which a Redis broker gives what a dead worker held to another.
VISIBILITY = 3600.0
#: Seconds between two sweeps.
SWEEP_EVERY = 10.0


@dataclasses.dataclass(frozen=True)
class Message:
    """A task message."""

    id: str
    name: str
    args: tuple[Any, ...]
    retries: int = 0


class Broker:
    """Messages on their way."""

    def __init__(self, world: World, releases: tuple[int, ...]) -> None:
        self.world = world
        self.ready: list[Message] = []
        self.later: list[tuple[float, Message]] = []
        self.busy = self.sent = 0
        self.idle: list[Process] = []
        for number, release in enumerate(releases):
            self.hire(f"worker-{number}", release)

    # -- what is sent

    def send(self, name: str, args: Any, **rest: Any) -> None:
        """Send a message; :class:`StorageError` when the broker cannot be reached."""
        world = self.world
        world.yield_turn()
        self.sent += 1
        message = Message(f"m{self.sent}", name, tuple(args))
        fault = world.fault("message") if world.current else None
        kind = fault.kind if fault else ""
        if kind == "kill before":
            world.kill("process killed before it sent a message")
        if kind == "refuse":
            world.happen("broker away")
            raise StorageError("the broker cannot be reached")
        if kind == "lose":
            world.happen("message lost")
        elif kind == "late":
            world.happen("message late")
            self.put(message, fault.amount)  # type: ignore[union-attr]
        else:
            self.put(message)
        if kind == "double":
            world.happen("message doubled")
            self.put(message, fault.amount)  # type: ignore[union-attr]
        if kind == "kill after":
            world.kill("process killed after it sent a message")

    def put(self, message: Message, delay: float = 0.0) -> None:
        """Into the queue, in *delay* seconds."""
        if delay:
            self.later.append((self.world.now + delay, message))
        else:
            self.ready.append(message)
        for process in self.idle:
            process.wake = min(process.wake, self.world.now + delay)

    def length(self, queue: str) -> int:
        """How many wait."""
        return len(self.ready)

    # -- who takes it

    def hire(self, name: str, release: int) -> None:
        """A worker, and another of the same kind whenever it dies."""
        self.world.start(name, "worker", lambda process: self._work(process, name, release), release)

    def _take(self) -> Message | None:
        now = self.world.now
        if self.later:
            due = [each for each in self.later if each[0] <= now]
            for each in due:
                self.later.remove(each)
                self.ready.append(each[1])
        return self.ready.pop(0) if self.ready else None

    def _work(self, process: Process, name: str, release: int) -> None:
        world, message = self.world, None
        try:
            while not (world.healing and release == app.OLD):
                message = self._take()
                if message is None:
                    process.wake = min((at for at, _ in self.later), default=FOREVER)
                    self.idle.append(process)
                    world.hub.switch()
                    self.idle.remove(process)
                    continue
                self.busy += 1
                try:
                    run_task(world, process, message, self)
                finally:
                    self.busy -= 1
                message = None
            self.hire(name, app.NEW)
        except GreenletExit:
            if message is not None:
                self._give_back(message)
            self.hire(name, app.NEW if world.healing else release)
            raise

    def _give_back(self, message: Message) -> None:
        """What a dead worker held: another gets it at once, or after a while, or nobody."""
        chance = self.world.rng.random()
        if chance < 0.7:
            self.put(message)
        elif chance < 0.85:
            self.put(message, VISIBILITY)

    def sweep_for_ever(self, process: Process) -> None:
        """The sweeper."""
        world = self.world
        try:
            while True:
                world.sleep(SWEEP_EVERY)
                run_task(world, process, Message("sweep", "feedmill.sweep", ()), None)
        except GreenletExit:
            if not world.healing:
                world.start("sweeper", "sweeper", self.sweep_for_ever, process.release)
            raise

    @property
    def quiet(self) -> bool:
        """Whether nothing is on its way and nobody works."""
        return not (self.ready or self.later or self.busy)


def run_task(world: World, process: Process, message: Message, broker: Broker | None) -> None:
    """What a worker does with a message: late acknowledgement, retries with backoff, a time limit."""
    task = celery_app.tasks[message.name]
    process.limit = world.now + task.soft_time_limit
    process.message, process.doing = message.id, message.name
    if world.trace is not None:
        world.say(f"> {message.name} {message.id}")
    try:
        task._orig_run(*message.args)
    except task.autoretry_for as error:
        world.say(f"{message.name} failed: {error!r}"[:200])
        if broker is not None and message.retries < task.max_retries:
            delay = min(task.retry_backoff_max, 2**message.retries) * (0.5 + world.rng.random() / 2)
            broker.put(dataclasses.replace(message, retries=message.retries + 1), delay)
        else:
            _failed(process, task, error, message)
    except Exception as error:
        world.say(f"{message.name} failed: {error!r}"[:200])
        _failed(process, task, error, message)
    finally:
        process.limit, process.message = FOREVER, ""


def _failed(process: Process, task: Any, error: Exception, message: Message) -> None:
    process.limit = FOREVER
    with contextlib.suppress(StorageError):
        task.on_failure(error, message.id, message.args, {}, None)


class CurrentTask:
    """Celery's ``current_task``, of the process that runs."""

    def __init__(self, world: World) -> None:
        self.request = self
        self.headers = None
        self._world = world

    @property
    def id(self) -> str:
        """The id of the message that is answered."""
        process = self._world.current
        return process.message if process else ""


@contextlib.contextmanager
def nothing_to_batch() -> Iterator[None]:
    """A producer of nobody's."""
    yield None
