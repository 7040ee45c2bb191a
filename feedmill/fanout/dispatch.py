"""Sends task messages by literal name, so that nothing here imports the tasks."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from feedmill import settings, signing
from feedmill.errors import SettingsError, StorageError

logger = logging.getLogger(__name__)

#: Queues: priority is which queue a message is in, which means the same on every broker.
HIGH_QUEUE, LOW_QUEUE = "fanout.high", "fanout.low"
#: The Celery app that is used when a process has none of its own.
DEFAULT_APP = "feedmill.tasks:app"
#: What Celery calls the content that messages are in.
MSGPACK = frozenset({"msgpack", "application/x-msgpack"})
#: Messages that one round trip to the broker carries at most.
PUBLISH_BATCH = 100


def celery_app() -> Any:
    """The app that sends: the setting's, else this process' own, else Feedmill's."""
    from celery import _state
    from celery.utils.imports import symbol_by_name

    name = settings.current().celery_app
    app = _app_called(name) if name else _state._tls.current_app or _state.default_app
    if app is None:
        return symbol_by_name(DEFAULT_APP)
    if deaf := deafness(app):
        raise SettingsError(deaf)
    return app


def _app_called(name: str) -> Any:
    """The Celery app that the setting names."""
    from celery import Celery
    from celery.utils.imports import symbol_by_name

    try:
        app = symbol_by_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(
            f"FEEDMILL_CELERY_APP is {name!r}, which cannot be imported: {error}; name a Celery app as module:attribute"
        ) from error
    if not isinstance(app, Celery):
        raise SettingsError(
            f"FEEDMILL_CELERY_APP is {name!r}, a {type(app).__name__}; name a Celery app as module:attribute"
        )
    return app


def deafness(app: Any) -> str:
    """What is wrong if *app* would throw away Feedmill's messages; empty if it takes them."""
    if MSGPACK.intersection(app.conf.accept_content):
        return ""
    return (
        f"the Celery app {app.main!r} does not accept msgpack, which Feedmill's messages are in;"
        " add 'msgpack' to its accept_content, or set FEEDMILL_CELERY_APP=feedmill.tasks:app"
    )


def inline() -> bool:
    """Whether tasks run right here: in the embedded mode, without a broker."""
    current = settings.current()
    return current.embedded and not current.broker_url


def send(name: str, args: Sequence[Any], *, queue: str, sentence: str, producer: Any = None) -> None:
    """Send the task *name*; *sentence* is what an operator reads in Flower.

    Raises :class:`~feedmill.errors.StorageError` when the broker cannot be reached. In the embedded mode, without a
    broker, the task runs right here.
    """
    from kombu.exceptions import OperationalError

    app = celery_app()
    if inline():
        app.tasks[name].apply(args, throw=True, headers=signing.headers(name, args))
        return
    try:
        app.send_task(
            name,
            args=list(args),
            queue=queue,
            serializer="msgpack",
            headers=signing.headers(name, args),
            argsrepr=sentence,
            kwargsrepr="",
            ignore_result=True,
            producer=producer,
            retry=producer is None,
        )
    except OperationalError as error:
        raise _unreachable(error) from error


def _unreachable(error: Exception) -> StorageError:
    return StorageError(f"the broker cannot be reached: {str(error).rstrip('.')}. Check FEEDMILL_BROKER_URL")


def ring(manager: str) -> None:
    """Tell workers that something of *manager* is due: the bell, which carries nothing else.

    For who was told by the journal to ring. The bell counts as rung even if the broker cannot be reached, which for a
    moment spares those who come next from trying the same.
    """
    try:
        send("feedmill.fanout", [manager], queue=HIGH_QUEUE, sentence=f"fan out what is waiting in {manager}")
    except StorageError as error:
        waits(manager, error)


def waits(manager: str, error: StorageError) -> None:
    """Say that what the journal knows already could not be sent: the next bell or sweep brings it up."""
    logger.warning("what was accepted for %s waits in the journal for the next bell or sweep: %s", manager, error)


def room(queue: str) -> float:
    """How many messages *queue* takes until it has as many as the setting allows; infinity if there is no limit."""
    limit = settings.current().queue_limit
    return max(0, limit - length(queue)) if limit and not inline() else math.inf


def length(queue: str) -> int:
    """How many messages wait in *queue*; 0 where the broker cannot tell.

    The broker is asked, since a count of our own would drift with each message that is lost.
    """
    try:
        with celery_app().connection_or_acquire() as connection:  # its own channel, since to make one is not cheap
            return int(connection.default_channel.queue_declare(queue, passive=True).message_count)
    except Exception:  # nobody has declared it yet, or something is wrong with the broker, which sending says better
        return 0


@contextmanager
def batched() -> Iterator[Any]:
    """A producer for many :func:`send` calls that share round trips to the broker; None in the embedded mode."""
    if inline():
        yield None
        return
    with celery_app().producer_or_acquire() as producer:
        try:
            with producer.batch(max_size=PUBLISH_BATCH):
                yield producer
        except (*producer.connection.connection_errors, *producer.connection.channel_errors) as error:
            raise _unreachable(error) from error
