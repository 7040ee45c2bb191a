"""Commands for probes and operators: whether what delivers is there, in bounded time and without a scan of keys."""

from __future__ import annotations

import concurrent.futures
import contextlib
import contextvars
import dataclasses
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Generic, NamedTuple, TypeVar

import click

from feedmill import settings
from feedmill.cli import shapes
from feedmill.cli.command import OK, PROBLEM, UNREACHABLE, Command, Failure, Result, examples, plural, table, tell
from feedmill.cli.loading import known_managers, no_manager
from feedmill.errors import FeedmillError, StorageError, WrongType
from feedmill.fanout import publisher
from feedmill.redis_urls import without_secrets
from feedmill.storage.maintenance import refusal
from feedmill.storage.registry import backend
from feedmill.tasks.listeners import Listeners, listeners
from feedmill.worker.backlog import Backlog, backlog

T = TypeVar("T")

#: The part of the time to wait for answers in which workers are listened to.
LISTENED = 0.6
#: Seconds since the last sweep after which it is late: beat sends one every ten seconds.
SWEEP_AGE = 60.0

_SECONDS = click.FloatRange(0, min_open=True)
_TIMEOUT = click.option(
    "--timeout", default=3.0, show_default=True, type=_SECONDS, help="Maximum number of seconds to wait for answers."
)


class _Question(Generic[T]):
    """Something that is asked of the server at *url*, in a thread: whoever does not answer holds up nobody."""

    def __init__(self, url: str, ask: Callable[[Callable[[], None]], T]) -> None:
        self._url, self._future, self._began = url, Future[T](), time.monotonic()
        self._seconds: float | None = None
        run = contextvars.copy_context().run
        threading.Thread(target=run, args=(self._ask, ask), daemon=True).start()

    def _ask(self, ask: Callable[[Callable[[], None]], T]) -> None:
        try:
            self._future.set_result(ask(self._reached))
        except BaseException as error:
            self._future.set_exception(error)

    def _reached(self) -> None:
        """Note that there was a first answer."""
        self._seconds = time.monotonic() - self._began

    def answer(self, deadline: float) -> tuple[shapes.Server, T | None]:
        """What became of the server, and what was answered until *deadline*; None if that came to no end, or failed."""
        concurrent.futures.wait([self._future], max(0.0, deadline - time.monotonic()))
        if not self._future.done():
            if self._seconds is not None:
                return shapes.Server(self._url, True, self._seconds, ""), None
            seconds = time.monotonic() - self._began
            return shapes.Server(self._url, False, None, f"no answer within {seconds:.1f} s"), None
        error = self._future.exception()
        if error is None:
            return shapes.Server(self._url, True, self._seconds, ""), self._future.result()
        if not isinstance(error, Exception):
            raise error
        text = str(error) if isinstance(error, FeedmillError) else f"{type(error).__name__}: {str(error).rstrip('.')}"
        return shapes.Server(self._url, False, None, text), None


class _Stored(NamedTuple):
    """What the storage told."""

    #: Why it refuses writes; empty if it takes them or does not tell.
    refuses: str
    last_sweep: float | None
    #: By manager what is not finished, or why that is not known.
    managers: Mapping[str, Backlog | str]


class _Brokered(NamedTuple):
    """What the broker told, and who listens on it."""

    #: Why it refuses messages; empty if it takes them or does not tell.
    refuses: str
    #: Messages by queue; None where the broker did not tell.
    messages: Mapping[str, int | None]
    #: None where nobody can be asked, as the question is a message.
    listeners: Listeners | None


def _storage(managers: Sequence[str]) -> _Question[_Stored]:
    """Ask the storage for the last sweep, and for what is not finished of *managers*."""
    run, journal = backend().run, backend().journal

    def ask(reached: Callable[[], None]) -> _Stored:
        last_sweep = run(journal.last_sweep())
        reached()
        refuses = ""
        with contextlib.suppress(StorageError):  # whom it does not let ask
            refuses = refusal(run(backend().maintenance.facts()))
        found: dict[str, Backlog | str] = {}
        for name in managers:
            try:
                found[name] = run(backlog(name))
            except WrongType as error:
                found[name] = str(error)
        return _Stored(refuses, last_sweep, found)

    current = settings.current().redis_url
    return _Question("" if backend().in_process else without_secrets(current), ask)


def _cluster() -> _Question[None] | None:
    """Ask the servers that stand beside the storage; None without."""
    run, places = backend().run, backend().beside

    def ask(reached: Callable[[], None]) -> None:
        for place in places:
            run(place.types([b"feedmill"]))
        reached()

    return _Question(without_secrets(settings.current().cassandra_url), ask) if places else None


def _broker(then: Callable[[Any, Any], T]) -> _Question[T] | None:
    """Connect to the broker, and have *then* ask it, given the app and the connection; None where tasks run in this process."""
    if publisher.inline():
        return None
    publisher.ready()
    app = publisher.celery_app()

    def ask(reached: Callable[[], None]) -> T:
        with app.connection_for_write() as connection:
            retries = {"max_retries": len(connection.alt), "interval_start": 0, "interval_step": 0}
            connection.ensure_connection(**retries, reraise_as_library_errors=False)
            reached()
            return then(app, connection)

    return _Question(broker_url(app), ask)


def broker_url(app: Any) -> str:
    """The broker of *app*, without passwords."""
    given = app.conf.broker_write_url or app.conf.broker_url or "amqp://localhost//"
    urls = given if isinstance(given, (list, tuple)) else str(given).split(";")
    return ";".join(without_secrets(str(url)) for url in urls)


#: In place of a broker, where there is none.
_NO_BROKER = shapes.Server("", True, None, "")


@click.command(cls=Command, epilog=examples("feedmill ping", "feedmill -A proj ping --worker high@$HOSTNAME"))
@click.option("--worker", default="", metavar="NAME", help="Ask this Celery worker alone, over the broker.")
@_TIMEOUT
def ping(worker: str, timeout: float) -> Result:
    """Check that the storage and the broker answer.

    Exit with status 3 if one of them does not, and with status 1 if the worker that is named does not. No module that declares
    managers is imported.
    """
    deadline = time.monotonic() + timeout
    if worker:
        return _ping_worker(worker, timeout, deadline)
    storage, broker = ask_servers(deadline)
    table(("server", "state", "answer"), list(_server_rows(storage, broker)))
    ok = storage.ok and broker.ok
    return Result(shapes.Ping(ok, storage, broker, ""), OK if ok else UNREACHABLE)


def ask_servers(deadline: float) -> tuple[shapes.Server, shapes.Server]:
    """What became of the storage and of the broker, asked at the same time; *deadline* is of the monotonic clock."""
    stored, brokered = _storage(()), _broker(lambda app, connection: None)
    storage, _ = stored.answer(deadline)
    return storage, brokered.answer(deadline)[0] if brokered else _NO_BROKER


def _ping_worker(worker: str, timeout: float, deadline: float) -> Result:
    def answers(app: Any, connection: Any) -> bool:
        left = max(0.1, deadline - time.monotonic() - 0.2)
        return bool(app.control.ping([worker], timeout=left, connection=connection, limit=1))

    brokered = _broker(answers)
    if brokered is None:
        raise Failure("there are no workers: tasks run in the process that calls, and there is no broker")
    broker, found = brokered.answer(deadline)
    if not broker.ok:
        tell(f"broker {broker.url}: {broker.error}", error=True)
    else:
        tell(f"{worker}: " + ("ok" if found else f"no answer within {timeout:g} s"), error=not found)
    return Result(
        shapes.Ping(bool(found), None, broker, worker), OK if found else PROBLEM if broker.ok else UNREACHABLE
    )


def _server_rows(
    storage: shapes.Server, broker: shapes.Server, cassandra: shapes.Server | None = None
) -> Iterator[tuple[str, str, str]]:
    servers = [("storage", storage), ("broker", broker)]
    for name, server in servers if cassandra is None else [*servers, ("cassandra", cassandra)]:
        told = f"{server.seconds * 1000:.1f} ms" if server.seconds is not None else server.error
        where = server.url or ("in this process" if name == "storage" else "none: tasks run in the process that calls")
        detail = ", ".join(filter(None, (where, told, server.refuses and "refuses writes")))
        yield name, _state(server.ok and not server.refuses), detail


def _state(ok: bool) -> str:
    return "ok" if ok else "problem"


@click.command(
    cls=Command,
    epilog=examples("feedmill status", "feedmill -A proj status --json", "feedmill status --max-fanout-age 300"),
)
@_TIMEOUT
@click.option(
    "--max-sweep-age",
    default=SWEEP_AGE,
    show_default=True,
    type=_SECONDS,
    help="Seconds since the last sweep after which it is a problem. Beat sends one every ten seconds.",
)
@click.option(
    "--max-fanout-age",
    type=_SECONDS,
    help="Seconds for which a fan-out may be unfinished before it is a problem. By default that is none.",
)
def status(timeout: float, max_sweep_age: float, max_fanout_age: float | None) -> Result:
    """Show whether everything that delivers is there.

    Storage, broker, the Cassandra cluster if there is one, workers on each queue, the last sweep, what waits in the queues, and the oldest fan-out of each manager. Exit with
    status 1 if there is a problem, such as that no manager is known, and with status 3 if the storage or the broker does not answer. No keys are scanned.
    """
    found, knows_sweep, is_late = examine(known_managers(), timeout, max_sweep_age, max_fanout_age or math.inf)
    table(("check", "state", "detail"), list(_rows(found, knows_sweep, is_late, max_fanout_age or math.inf)))
    for problem in found.problems:
        tell(f"problem: {problem}")
    tell("healthy" if found.healthy else plural(len(found.problems), "problem"))
    reached = found.storage.ok and found.broker.ok
    return Result(found, OK if found.healthy else PROBLEM if reached else UNREACHABLE)


class Examined(NamedTuple):
    """What an examination found."""

    status: shapes.Status
    #: Whether it is known when the last sweep was, and whether that is too long ago.
    knows_sweep: bool
    is_late: bool


def examine(managers: Sequence[str], timeout: float, max_sweep_age: float, longest: float) -> Examined:
    """Whether everything that delivers is there, told within *timeout* seconds: see the command ``status``.

    *longest*: seconds for which a fan-out may be unfinished.
    """
    deadline = time.monotonic() + timeout
    stored, brokered = _storage(managers), _broker(lambda app, connection: _told(app, connection, timeout))
    beside = _cluster()
    storage, told = stored.answer(deadline)
    broker, heard = brokered.answer(deadline) if brokered else (_NO_BROKER, None)
    cassandra = beside.answer(deadline)[0] if beside else None
    storage = dataclasses.replace(storage, refuses=told.refuses if told else "")
    broker = dataclasses.replace(broker, refuses=heard.refuses if heard else "")
    backlogs = dict(told.managers) if told else {}
    queues = _queues(heard, [each for each in backlogs.values() if isinstance(each, Backlog)])
    fanouts = [_open(name, each) for name, each in backlogs.items() if isinstance(each, Backlog)]
    last_sweep = told.last_sweep if told else None
    late = list(_late(told.last_sweep, max_sweep_age)) if told and brokered else []
    problems = [
        *(
            f"the {name} does not answer: {each.error}"
            for name, each in (("storage", storage), ("broker", broker), ("Cassandra cluster", cassandra))
            if each is not None and not each.ok
        ),
        *(
            f"the {name} refuses writes: {each.refuses}"
            for name, each in (("storage", storage), ("broker", broker))
            if each.refuses
        ),
        *(() if managers else (no_manager(),)),
        *(_unheard(each) for each in queues if not each.workers),
        *_unknown(storage, told, broker, heard),
        *(heard.listeners.shared() if heard and heard.listeners else ()),
        *late,
        *(f"{name}: {each}" for name, each in backlogs.items() if isinstance(each, str)),
        *(_old(each, longest) for each in fanouts if each.oldest_seconds > longest),
    ]
    found = shapes.Status(not problems, problems, storage, broker, queues, last_sweep, fanouts, cassandra)
    return Examined(found, told is not None, bool(late))


def _told(app: Any, connection: Any, timeout: float) -> _Brokered:
    messages = {queue: publisher.waiting(connection, queue) for queue in publisher.queues()}
    refuses = _refused_messages(connection)
    return _Brokered(refuses, messages, None if refuses else listeners(app, connection, within=timeout * LISTENED))


def _refused_messages(connection: Any) -> str:
    """Why a broker that is a Redis refuses messages; empty if it takes them, does not tell, or is another."""
    if connection.transport.driver_type != "redis":
        return ""
    with contextlib.suppress(*connection.channel_errors), connection.channel() as channel:
        return refusal({name: str(value) for name, value in channel.client.info().items()})
    return ""


def _queues(heard: _Brokered | None, backlogs: Sequence[Backlog]) -> list[shapes.Queue]:
    if heard is None or heard.listeners is None:
        return []
    deliveries = Counter[str]()
    for each in backlogs:
        deliveries.update(each.deliveries)
    listening, ours, unknown = heard.listeners.queues, heard.listeners.ours, heard.listeners.unknown

    def queue(name: str) -> shapes.Queue:
        workers, others = (sorted(worker for worker in among if name in listening[worker]) for among in (ours, unknown))
        return shapes.Queue(name, workers, others, heard.messages[name], deliveries[name])

    return [queue(each) for each in publisher.queues()]


def _unheard(queue: shapes.Queue) -> str:
    """What is wrong with a queue of which no worker of this deployment is known."""
    if queue.unknown:
        return (
            f"it is not known whether a worker of this deployment listens on {queue.name}: {', '.join(queue.unknown)} did not"
            " tell in time of which one they are; raise --timeout"
        )
    return f"no worker listens on {queue.name}; start one with -Q {','.join(publisher.queues())}"


def _open(name: str, found: Backlog) -> shapes.OpenFanouts:
    return shapes.OpenFanouts(name, found.fanouts, found.oldest, found.oldest_op, found.oldest_seconds)


def _unknown(storage: shapes.Server, told: object, broker: shapes.Server, heard: object) -> Iterator[str]:
    """What was not told in time by servers that answered."""
    if storage.ok and told is None:
        yield "the storage did not tell in time what is unfinished; raise --timeout"
    if broker.ok and broker.url and heard is None:
        yield "the broker and the workers did not tell in time what waits and who listens; raise --timeout"


def _late(seconds: float | None, limit: float) -> Iterator[str]:
    advice = "run one celery beat, and enough workers that its messages are not left to expire"
    if seconds is None:
        yield f"no sweep was done in the last week; {advice}"
    elif seconds > limit:
        yield f"the last sweep was done {seconds:,.0f} s ago; {advice}"


def _old(found: shapes.OpenFanouts, limit: float) -> str:
    return f"fan-out {found.oldest} ({found.oldest_op}) is unfinished for {found.oldest_seconds:,.0f} s, longer than {limit:g} s"


def _rows(found: shapes.Status, has_sweep: bool, is_late: bool, longest: float) -> Iterator[tuple[str, str, str]]:
    yield from _server_rows(found.storage, found.broker, found.cassandra)
    for queue in found.queues:
        waiting = "messages unknown" if queue.messages is None else plural(queue.messages, "message")
        silent = f", {len(queue.unknown)} of an unknown deployment" if queue.unknown else ""
        detail = f"{plural(len(queue.workers), 'worker')}{silent}, {waiting}, about {queue.deliveries:,} deliveries"
        yield queue.name, _state(bool(queue.workers)), detail
    if found.broker.url and has_sweep:
        last = found.last_sweep
        detail = "none in the last week" if last is None else f"{last:,.1f} s ago"
        yield "last sweep", _state(not is_late), detail
    for each in found.managers:
        oldest = f", the oldest ({each.oldest_op}) since {each.oldest_seconds:,.1f} s" if each.oldest else ""
        is_old = each.oldest_seconds > longest
        yield each.manager, _state(not is_old), f"{plural(each.fanouts, 'unfinished fan-out')}{oldest}"


__all__ = ["ask_servers", "broker_url", "examine", "ping", "status"]
