"""The storages of a simulated world: every command of every pipeline is a turn, and a moment at which a fault may strike."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import inspect
import itertools
import pathlib
import pkgutil
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import hiredis
import redis
from greenlet import GreenletExit

from feedmill import settings
from feedmill.errors import StorageError
from feedmill.storage import memory
from feedmill.storage.memory import DATA
from feedmill.storage.memory.backend import MemoryBackend
from feedmill.storage.operations import DRIVER_COMMANDS, PAUSE, Command, Steps, interrupt
from feedmill.storage.redis import journal, scripts
from feedmill.storage.redis.client import RETRIES, RedisBackend
from tests.simulation import world as worlds
from tests.simulation.world import ConnectionLost, Failing, Refused

#: Operations of storages in memory that write nothing, and those that only free memory: a full server takes these.
READS = frozenset(
    [
        "get",
        "flat_slice",
        "flat_range",
        "flat_count",
        "groups_slice",
        "group_get",
        "overflow_scan",
        "groups_count",
        "count_get",
        "counts_and_oldest",
        "dead_letters",
        "items",
        "untold_dead_letters",
        "chunks",
        "list_due",
        "users",
        "unfollowed_since",
        "size",
        "scan",
        "types",
        "feed",
        "overdue",
        "fanout_records",
        "due",
        "due_at",
        "facts",
        "option",
        "has_pending",
        "publish",
    ]
)
FREEING = frozenset(
    [
        "remove",
        "forget",
        "clear_unfollow",
        "delete_dead_letters",
        "due_drop",
        "flat_delete",
        "groups_delete",
        "idle_end",
        "settle",
    ]
)


#: Settings of every simulation.
_OURS: dict[str, Any] = {"broker_url": "memory://", "celery_app": "feedmill.tasks:app", "clamp_future": True}


def _world() -> worlds.World:
    assert worlds.WORLD is not None
    return worlds.WORLD


# -- in memory


class _Part:
    """A part of an operation of a storage in memory, up to the next operation that it is made of, as one command."""

    __slots__ = ("args", "done", "function", "known", "kwargs", "name", "operation", "replies")

    def __init__(
        self, name: str, function: Any, args: Any, kwargs: Any, operation: Any = None, replies: Any = None
    ) -> None:
        #: What begins the operation; None for a later part of it, which goes on with *replies*.
        self.name, self.function, self.args, self.kwargs = name, function, args, kwargs
        self.operation, self.replies = operation, replies
        #: Whether the operation is over, so that what came of the part is its result and no further command.
        self.done = False
        #: What came of a later part, in a list: it cannot be carried out twice.
        self.known: list[Any] | None = None

    def __call__(self, refusing: str) -> Any:
        """Carry it out; only the first part of an operation can be carried out twice."""
        if refusing and self.name not in READS and not (refusing == "full" and self.name in FREEING):
            return Refused(f"{refusing}: {self.name}")
        if self.function is None:
            return self._later()
        try:
            operation = self.operation = self.function(*self.args, **self.kwargs)
            found = next(operation)
        except StopIteration as stop:
            self.done = True
            return stop.value
        self.done = False
        return found

    def _later(self) -> Any:
        if self.known is None:
            self.done, self.known = True, [None]  # so it stays if it fails
            try:
                self.known = [self.operation.send(self.replies)]
                self.done = False
            except StopIteration as stop:
                self.known = [stop.value]
        return self.known[0]


def as_command(function: Callable[..., Steps[Any]]) -> Callable[..., Steps[Any]]:
    """An operation of a storage in memory as one command, which its driver carries out when it is its turn.

    On a server all of an operation's commands are carried out by the server in their order, whatever becomes of those before.
    """
    name = function.__name__

    @functools.wraps(function)
    def operation(*args: Any, **kwargs: Any) -> Steps[Any]:
        part = _Part(name, function, args, kwargs)
        (reply,) = yield [(name, part)]
        while not part.done:  # it is made of others
            part = _Part(name, None, (), {}, part.operation, (yield reply))
            (reply,) = yield [(name, part)]
        return reply

    return operation


class MemoryDriver(MemoryBackend):
    """Drives operations of the storages in memory as a server's pipelines are driven."""

    def run(self, operation: Steps[Any]) -> Any:
        """To the end; what fails is interrupted, as the package's own driver does."""
        world = _world()
        try:
            wanted = next(operation)
            while True:
                commands = list(wanted)
                try:
                    replies = self._answers(world, commands)
                except ConnectionLost:
                    replies = self._again(world, commands)
                wanted = operation.send(replies)
        except StopIteration as stop:
            return stop.value
        except GreenletExit:  # a process that was killed does nothing more
            raise
        except BaseException:
            last = interrupt([operation])
            with contextlib.suppress(StopIteration, Exception):
                commands = list(next(last))
                while True:
                    commands = list(last.send(self._answers(world, commands)))
            raise

    async def arun(self, operation: Steps[Any]) -> Any:
        """From a coroutine, which may be cancelled at each command."""
        return self.run(operation)

    async def aclose(self) -> None:
        """Nothing to close."""

    def _again(self, world: worlds.World, commands: list[Command]) -> list[Any]:
        """The round trip once more, a while after the connection was lost."""
        for attempt in range(RETRIES):
            world.sleep(0.05 * 2**attempt * world.rng.random())
            with contextlib.suppress(ConnectionLost):
                return self._answers(world, commands)
        world.sleep(0.05 * 2**RETRIES * world.rng.random())
        raise StorageError("no connection to the server")

    @staticmethod
    def _answers(world: worlds.World, commands: list[Command]) -> list[Any]:
        """One round trip."""
        replies, refused, perform = [], None, world.perform
        for name, what in commands:
            if name in DRIVER_COMMANDS:
                replies.append(world.sleep(what) if name == PAUSE else None)
                continue
            reply = perform(name, what)
            if type(reply) is Refused and refused is None:
                refused = reply
            replies.append(reply)
        world.answered()
        if refused is not None:
            raise StorageError(f"the server refuses ({refused})")
        return replies


def operations() -> Iterator[tuple[type, str, Callable[..., Any]]]:
    """All operations of the storages in memory: classes, names, functions."""
    for module in pkgutil.iter_modules(memory.__path__):
        found = importlib.import_module(f"{memory.__name__}.{module.name}")
        for cls in vars(found).values():
            if isinstance(cls, type) and cls.__module__ == found.__name__:
                for name, function in list(vars(cls).items()):
                    if isinstance(function, types.FunctionType) and inspect.isgeneratorfunction(function):
                        yield cls, name, function


@contextlib.contextmanager
def in_memory(patch: Callable[[Any, str, Any], None]) -> Iterator[None]:
    """The storages in memory, driven by the world."""
    from feedmill.storage import registry

    for cls, name, function in operations():
        patch(cls, name, as_command(function))
    driver, made = MemoryDriver(), registry._made
    patch(registry, "_made", lambda url: driver if url.startswith("memory:") else made(url))
    settings.configure(redis_url="memory://", **_OURS)
    yield


def clear_memory() -> None:
    """Nothing is stored."""
    DATA.clear()


# -- on a server


def _script_names() -> dict[str, str]:
    """The names of scripts by their digests."""
    return {
        scripts.sha(path.stem): path.stem
        for path in pathlib.Path(scripts.__file__).parent.iterdir()
        if path.suffix == ".lua"
    }


class _Replies(Failing):
    """What a server answered to commands that nobody comes in between."""

    def __init__(self, all: list[Any]) -> None:
        self.all = all

    def __str__(self) -> str:
        return next((str(each) for each in self.all if isinstance(each, Exception)), "")


class RedisDriver(RedisBackend):
    """The driver of the package, except that each command travels alone."""

    def __init__(self, url: str, clock: Any) -> None:
        super().__init__(url)
        self.clock = clock
        self.connection = self.client.connection_pool.get_connection()
        self.names = _script_names()
        self.url = "redis://simulated/0"  # what stands in errors is the same wherever the server is

    def command(self, *command: Any) -> Any:
        """The reply to one command."""
        self.connection.send_packed_command([hiredis.pack_command(command)])
        try:
            return self.connection.read_response()
        except redis.ResponseError as error:
            return error

    def _effect(self, command: Command, refusing: str) -> Any:
        self.clock.set(_world().time())
        if not refusing:
            return self._sorted(command, self.command(*command))
        option, value, back = ("maxmemory", 1, 0) if refusing == "full" else ("min-replicas-to-write", 1, 0)
        self.command("CONFIG", "SET", option, value)
        try:
            return self.command(*command)
        finally:
            self.command("CONFIG", "SET", option, back)

    @staticmethod
    def _sorted(command: Command, reply: Any) -> Any:
        """What a server tells in an order of its own is told in one that is always the same."""
        if command[0] == "SCAN" and isinstance(reply, list):
            return [reply[0], sorted(reply[1])]
        return reply

    def _name(self, command: Command) -> str:
        return self.names.get(command[1], "script") if command[0] == "EVALSHA" else str(command[0])

    def _effects(self, commands: list[Command], refusing: str) -> Any:
        """What a command, or a transaction, comes to."""
        if len(commands) == 1:
            return _Replies([self._effect(commands[0], refusing)])
        return _Replies([self._effect(command, "") for command in commands])

    def _perform(self, commands: Iterable[Command], pause: Callable[[float], Any]) -> list[Any]:
        world, replies, waiting = _world(), list[Any](), iter(commands)
        for command in waiting:
            if command[0] in DRIVER_COMMANDS:
                replies.append(pause(command[1]) if command[0] == PAUSE else None)
                continue
            name, transaction = self._name(command), [command]
            if command[0] == "MULTI":  # nobody comes in between
                transaction += itertools.takewhile(lambda each: each[0] != "EXEC", waiting)
                transaction.append(("EXEC",))
            try:
                answers = world.perform(name, functools.partial(self._effects, transaction))
            except ConnectionLost as error:
                raise redis.ConnectionError("the connection was lost") from error
            replies += answers.all
        world.answered()
        return replies

    def _attempt(self, outbox: Any) -> list[Any]:
        self.round_trips += 1
        return self._perform(outbox._all(), _world().sleep)

    async def arun(self, operation: Steps[Any]) -> Any:
        """From a coroutine; what one that is cancelled does is what one does that fails."""
        return self.run(operation)

    def reset(self) -> None:
        """Nothing is stored, and all scripts are known."""
        self.clock.set(worlds.DAWN)
        self.command("FLUSHALL")
        self.command("CONFIG", "SET", "appendonly", "no")  # the doctor of the last history may have repaired it
        journal.known_numbers.clear()
        for lesson in scripts.load_commands():
            self.command(*lesson)
        self._scripts_loaded = True


async def _sleep(seconds: float, result: Any = None) -> Any:
    _world().sleep(seconds)
    return result


@contextlib.contextmanager
def on_redis(patch: Callable[[Any, str, Any], None], driver: RedisDriver) -> Iterator[None]:
    """A real server, driven by the world."""
    from feedmill.storage import registry

    made = registry._made
    patch(registry, "_made", lambda url: driver if url == driver.url else made(url))
    patch(asyncio, "sleep", _sleep)
    settings.configure(redis_url=driver.url, **_OURS)
    yield
