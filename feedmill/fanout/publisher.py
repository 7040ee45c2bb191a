"""Sends task messages by literal name, so that nothing here imports the tasks."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, ParamSpec, TypeVar
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

from feedmill import registry, settings, signing
from feedmill.errors import MessageError, SettingsError, StorageError
from feedmill.storage.procedures import Procedure, either
from feedmill.storage.registry import backend

logger = logging.getLogger(__name__)

T = TypeVar("T")
P = ParamSpec("P")

#: Queues: priority is which queue a message is in, which means the same on every broker.
HIGH_QUEUE, LOW_QUEUE = "fanout.high", "fanout.low"
#: And the queue of the messages that have hooks called: a worker that calls none need not listen on it.
HOOKS_QUEUE = "fanout.hooks"
#: All queues of Feedmill's; which of them must have workers depends on the managers: :func:`queues`.
ALL_QUEUES = (HIGH_QUEUE, LOW_QUEUE, HOOKS_QUEUE)
#: Messages that wait there at most: each does all that is due, and where nobody listens they must not become many.
MOST_HOOK_MESSAGES = 100
#: The Celery app that is used when a process has none of its own.
DEFAULT_APP = "feedmill.tasks:app"
#: What Celery calls the content that messages are in.
MSGPACK = frozenset({"msgpack", "application/x-msgpack"})
#: Seconds between tries to connect to the broker, where the app's ``task_publish_retry_policy`` does not say.
PAUSES = {"interval_start": 0, "interval_step": 0.2, "interval_max": 0.2}
#: Messages that one round trip to the broker carries at most.
PUBLISH_BATCH = 100


#: What the workers of a host app listen on beside their own queues.
QUEUES = f"{HIGH_QUEUE},{LOW_QUEUE}"


def queues() -> tuple[str, ...]:
    """The queues that workers must listen on: that of hooks only if a manager of this process has some that are called."""
    told = any(registry.get_manager(name).told_hooks for name in registry.manager_names())
    return ALL_QUEUES if told else (HIGH_QUEUE, LOW_QUEUE)


def celery_app() -> Any:
    """The app that sends: the setting's, else this process' own, else Feedmill's.

    Raises :class:`~feedmill.errors.SettingsError` if there are several to choose from, or it could not send.
    """
    if (inherited := _inherited.get()) is not None:
        return inherited
    app = project_app()
    if app is None:
        return _default_app()
    if problem := content_type_problem(app):
        raise SettingsError(problem)
    return app


def project_app() -> Any:
    """The app that the setting names, else this process' own, whether or not it could send; None if there is neither.

    Raises :class:`~feedmill.errors.SettingsError` if there are several to choose from, or none of the name.
    """
    name = settings.current().celery_app
    return app_named(name) if name else _own_app()


#: In a thread that a coroutine has opened: the app of the coroutine's own thread, where it may be current.
_inherited: contextvars.ContextVar[Any] = contextvars.ContextVar("feedmill_celery_app", default=None)


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call *function*, which may send messages and wait, in a thread of the running loop's executor."""
    context = contextvars.copy_context()
    with suppress(SettingsError):  # who sends is told
        context.run(_inherited.set, celery_app())
    call = functools.partial(context.run, function, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(None, call)


def broker(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Procedure[T]:
    """Ask for *function*, which speaks to the broker: from a coroutine in a thread, since Celery has no async client."""
    return (yield from either(function, functools.partial(_off_loop, function), *args, **kwargs))  # type: ignore[arg-type]


async def _off_loop(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    if _is_here(None):  # there is no broker: all of it happens in this process, and at once
        return function(*args, **kwargs)
    return await in_thread(function, *args, **kwargs)


@functools.cache
def _default_app() -> Any:
    """Feedmill's own, once its configuration was found to be good."""
    from celery.utils.imports import symbol_by_name

    app = symbol_by_name(DEFAULT_APP)
    try:
        _ = app.conf.broker_url
    except ValueError as error:  # Celery says so of any error in a configuration that is named
        raise SettingsError(str(error)) from error
    return app


def ready() -> bool:
    """Raise now, before anything is stored, what could only be raised afterwards: that messages cannot be sent.

    Whether tasks run right here, as :func:`inline`.
    """
    app = celery_app()
    here = inline()
    if app not in _usable and not here:
        try:
            with app.connection_for_write() as connection:  # takes the URL apart, and connects to nothing
                if connection.get_transport_cls().driver_type == "redis" and "://" not in str(connection.hostname):
                    int(str(connection.virtual_host or "").strip("/") or 0)  # the number of a database
        except Exception as error:  # whatever kombu makes of a URL
            raise SettingsError(
                f"the Celery app {app.main!r} cannot send: its broker_url or broker_transport_options are refused"
                f" ({type(error).__name__}: {_without(error, str(app.conf.broker_url or ''))})"
            ) from None
        _usable.add(app)
    return here


#: Apps whose broker can be spoken to, as far as their settings go.
_usable: WeakSet[Any] = WeakSet()


def _without(error: Exception, url: str) -> str:
    """What *error* says, unless that quotes *url*, which may hold a password."""
    text = str(error)
    return "it is no URL" if isinstance(error, ValueError) or (url and url in text) else text


def _own_app() -> Any:
    """The app that this process made for itself; None if there is none.

    Celery knows it as current in the thread that made it alone. In other threads, and in greenlets, it is the one app
    there is or, of several, the one that names Feedmill's tasks.
    """
    from celery import _state

    for app in (_state._tls.current_app, _state.default_app):
        if app is not None and not _is_fallback(app):
            return app
    apps = [app for app in _state._get_active_apps() if app.set_as_current]
    hosts = apps if len(apps) < 2 else [app for app in apps if _names_tasks(app)]
    if len(apps) > 1 and len(hosts) != 1:
        names = ", ".join(sorted(repr(app.main) for app in hosts or apps))
        raise SettingsError(
            f"this process has several Celery apps ({names}), and none is current in this thread; name the one whose"
            " workers run Feedmill's tasks: FEEDMILL_CELERY_APP=module:attribute"
        )
    return hosts[0] if hosts else None


def _is_fallback(app: Any) -> bool:
    """Whether *app* is the one that Celery makes up when it is asked for the current app and there is none."""
    return app.main == "default" and not app.set_as_current


def _names_tasks(app: Any) -> bool:
    """Whether the workers of *app* import Feedmill's tasks, or its beat sends them."""
    package = DEFAULT_APP.partition(":")[0]
    try:
        named = [*(app.conf.include or ()), *(app.conf.imports or ())]
        entries = [entry for entry in (app.conf.beat_schedule or {}).values() if isinstance(entry, dict)]
    except Exception:  # its settings cannot be read: it is of no use to anybody
        return False
    sent = [str(entry.get("task", "")) for entry in entries]
    return package in named or any(task.startswith("feedmill.") for task in sent)


def app_named(name: str) -> Any:
    """The Celery app that ``celery -A`` finds by that name; :class:`~feedmill.errors.SettingsError` if there is none."""
    module, _, attribute = name.partition(":")
    app = getattr(sys.modules.get(module), attribute, None) if attribute else _found.get(name)
    return app if app is not None and app in _known else _looked_up(name)


#: Apps that were looked up by their module alone.
_found: WeakValueDictionary[str, Any] = WeakValueDictionary()


def _looked_up(name: str) -> Any:
    from celery import Celery
    from celery.app.utils import find_app

    by = "--app" if settings.current().origins.get("celery_app") == settings.COMMAND_LINE else "FEEDMILL_CELERY_APP"
    usage = "name a Celery app as module:attribute, or its module"
    try:
        app = find_app(name)
    except Exception as error:  # of whatever kind: it is somebody's module that is run
        raise SettingsError(f"{by} is {name!r}, {_not_found(name, error)}; {usage}") from error
    if not isinstance(app, Celery):
        raise SettingsError(f"{by} is {name!r}, a {type(app).__name__}; {usage}")
    _found[name] = app
    return app


def _not_found(name: str, error: Exception) -> str:
    """Why Celery finds no app of *name*, where it failed with *error*: what is not there, or cannot be imported."""
    module, _, attribute = name.partition(":")
    parent, _, last = module.rpartition(".")
    absent = error.name if isinstance(error, ModuleNotFoundError) else None
    if module not in sys.modules and parent in sys.modules and absent == module:
        module, attribute = parent, last
    if module not in sys.modules:
        if absent and f"{module}.".startswith(f"{absent}."):
            return f"and there is no module {absent!r}, neither here in {os.getcwd()} nor among what is installed"
        return f"which cannot be imported: {type(error).__name__}: {error}"
    if attribute:
        return f"and the module {module!r} has no {attribute!r}"
    inner = f"{module}.celery"
    from celery.app.utils import find_app

    try:
        find_app(f"{inner}:app")
    except Exception as failed:
        if not isinstance(failed, ModuleNotFoundError) or failed.name not in (inner, f"{inner}:app"):
            return f"whose {inner} cannot be imported: {type(failed).__name__}: {failed}"
    return f"and the module {module!r} holds no Celery app, neither as app or celery nor in {inner}"


def content_type_problem(app: Any) -> str:
    """What is wrong if *app* would throw away Feedmill's messages, or cannot send them; empty if it takes them."""
    return _facts(app).problem


class _Facts(NamedTuple):
    """What an app's settings say, which take Celery long to look up; and which settings, and changes of them, it was."""

    conf: Any
    changes: dict[str, Any]
    problem: str
    eager: bool


_known: WeakKeyDictionary[Any, _Facts] = WeakKeyDictionary()


def _facts(app: Any) -> _Facts:
    known, conf = _known.get(app), app.conf
    if known is None or known.conf is not conf or known.changes != conf.changes:
        known = _known[app] = _Facts(conf, dict(conf.changes), _content_type_problem(app), bool(conf.task_always_eager))
    return known


def _content_type_problem(app: Any) -> str:
    if not MSGPACK.intersection(app.conf.accept_content):
        return (
            f"the Celery app {app.main!r} does not accept msgpack, which Feedmill's messages are in;"
            " add 'msgpack' to its accept_content, or set FEEDMILL_CELERY_APP=feedmill.tasks:app"
        )
    if app.conf.task_create_missing_queues:
        return ""
    lacking = [name for name in queues() if name not in app.amqp.queues]
    if not lacking:
        return ""
    lines = ", ".join(f"Queue({name!r})" for name in lacking)
    return (
        f"the Celery app {app.main!r} has task_create_missing_queues=False and lacks {' and '.join(lacking)};"
        f" add to its task_queues: {lines}"
    )


def inline() -> bool:
    """Whether tasks run right here: in the in-memory mode without a broker, and where ``task_always_eager`` says so."""
    return _is_here(None) or _is_here(celery_app())


def _is_here(app: Any) -> bool:
    """Whether tasks that *app* sends run right here; of None, whether those of any app do."""
    return (backend().in_process and not settings.current().broker_url) or (app is not None and _facts(app).eager)


def _run_here(app: Any, name: str, args: Sequence[Any]) -> None:
    """Run the task *name* in the caller's process, as Celery does with ``task_always_eager``."""
    from celery.exceptions import NotRegistered
    from celery.utils.imports import symbol_by_name

    symbol_by_name(DEFAULT_APP)  # imports the tasks, as workers do: this process may not have
    throw = _is_here(None) or bool(app.conf.task_eager_propagates)
    try:
        task = app.tasks[name]
    except NotRegistered as error:
        raise MessageError(f"there is no task {name!r}") from error
    task.apply(args, throw=throw, headers=signing.headers(name, args))


def send(name: str, args: Sequence[Any], *, queue: str, description: str, producer: Any = None) -> None:
    """Send the task *name*; *description* is what an operator reads in Flower.

    Raises :class:`~feedmill.errors.StorageError` when the broker cannot be reached. In the in-memory mode, without a
    broker, and with ``task_always_eager`` the task runs right here.
    """
    from kombu.exceptions import OperationalError

    app = celery_app()
    if producer is None and _is_here(app):
        _run_here(app, name, args)
        return
    try:
        app.send_task(
            name,
            args=list(args),
            queue=queue,
            serializer="msgpack",
            headers=signing.headers(name, args),
            argsrepr=description,
            kwargsrepr="",
            ignore_result=True,
            producer=producer,
            retry=producer is None,
        )
    except OperationalError as error:
        raise _unreachable(error) from error
    except Exception as error:  # what it is about is stored already: the caller is told that it waits, whatever it is
        raise StorageError(f"the message of {name} could not be sent: {type(error).__name__}: {error}") from error


def _unreachable(error: Exception) -> StorageError:
    return StorageError(f"the broker cannot be reached: {str(error).rstrip('.')}. {_where_it_is_set()}")


def _where_it_is_set() -> str:
    """What to look at when the broker cannot be reached: the setting that says where it is."""
    app = celery_app()
    if _default_app.cache_info().currsize and app is _default_app():
        return "Check FEEDMILL_BROKER_URL"
    return f"Check broker_url of the Celery app {app.main!r} (in a Django project mostly CELERY_BROKER_URL)"


def _connect(app: Any, connection: Any) -> Any:
    """*connection*, connected; as many tries as *app* takes to send a message, where kombu would wait for seconds."""
    policy = app.conf.task_publish_retry_policy or {}
    tries = policy.get("max_retries", 3) if app.conf.task_publish_retry else 1
    intervals = {name: policy.get(name, default) for name, default in PAUSES.items()}
    return connection.ensure_connection(max_retries=tries or 1, **intervals)


def wake_workers(manager: str) -> None:
    """Tell workers that something of *manager* is due: the wake-up message, which carries nothing else.

    For who was told by the journal to ring. The wake-up message counts as sent even if the broker cannot be reached, which for a
    moment spares those who come next from trying the same.
    """
    try:
        send("feedmill.fanout", [manager], queue=HIGH_QUEUE, description=f"fan out what is waiting in {manager}")
    except StorageError as error:
        log_deferred(manager, error)


def wake_hooks(manager: str) -> None:
    """Tell workers that hooks of *manager* are to be told something, for who was told to by the storage."""
    try:
        if inline() or length(HOOKS_QUEUE) < MOST_HOOK_MESSAGES:
            send("feedmill.hooks", [manager], queue=HOOKS_QUEUE, description=f"call the hooks of {manager}")
    except StorageError as error:
        logger.warning(
            "what hooks of %s are to be told waits for the next wake-up message or sweep: %s", manager, error
        )


def log_deferred(manager: str, error: StorageError) -> None:
    """Say that what the journal knows already could not be sent: the next wake-up message or sweep brings it up."""
    logger.warning(
        "what was accepted for %s waits in the journal for the next wake-up message or sweep: %s", manager, error
    )


def queue_capacity(queue: str) -> float:
    """How many messages *queue* takes until it has as many as the setting allows; infinity if there is no limit."""
    limit = settings.current().queue_limit
    return max(0, limit - length(queue)) if limit and not inline() else math.inf


def length(queue: str) -> int:
    """How many messages wait in *queue*; 0 where the broker cannot tell.

    The broker is asked, since a count of our own would drift with each message that is lost.
    """
    try:
        app = celery_app()
        with app.connection_or_acquire() as connection:  # its own channel, since to make one is not cheap
            _connect(app, connection)
            return message_count(connection, connection.default_channel, queue)
    except Exception:  # nobody has declared it yet, or something is wrong with the broker, which sending says better
        return 0


def message_count(connection: Any, channel: Any, queue: str) -> int:
    """How many messages wait in *queue*, as the broker says on *channel*; raises what the transport raises."""
    # kombu looks for a queue in Redis without the prefix of its keys, and creates nothing there by declaring one.
    passive = connection.transport.driver_type != "redis"
    return int(channel.queue_declare(queue, passive=passive).message_count)


def waiting(connection: Any, queue: str) -> int | None:
    """How many messages wait in *queue*, by a channel of its own; 0 if nobody has declared it yet, None where the broker does not tell."""
    try:
        with connection.channel() as channel:  # the broker closes it with an error
            return message_count(connection, channel, queue)
    except connection.channel_errors as error:
        return 0 if getattr(error, "code", None) == 404 else None


@contextmanager
def batched() -> Iterator[Any]:
    """A producer for many :func:`send` calls that share round trips to the broker; None where tasks run right here."""
    from kombu.exceptions import BatchPublishError, OperationalError

    if inline():
        yield None
        return
    app = celery_app()
    with app.producer_or_acquire() as producer:
        try:
            _connect(app, producer.connection)
            with producer.batch(max_size=PUBLISH_BATCH):
                yield producer
        except (
            BatchPublishError,
            OperationalError,
            *producer.connection.connection_errors,
            *producer.connection.channel_errors,
        ) as error:
            raise _unreachable(error) from error
