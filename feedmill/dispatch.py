"""Sends task messages by literal name, so that nothing here imports the tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from feedmill import settings
from feedmill.errors import SettingsError, StorageError

#: Queues: priority is which queue a message is in, which means the same on every broker.
HIGH_QUEUE, LOW_QUEUE = "fanout.high", "fanout.low"
#: The Celery app that is used when a process has none of its own.
DEFAULT_APP = "feedmill.tasks:app"
#: Messages that one round trip to the broker carries at most.
PUBLISH_BATCH = 100


def celery_app() -> Any:
    """The app that sends: the setting's, else this process' own, else Feedmill's."""
    from celery import _state
    from celery.utils.imports import symbol_by_name

    name = settings.current().celery_app
    if name:
        return symbol_by_name(name)
    own = _state._tls.current_app or _state.default_app
    if own is None:
        return symbol_by_name(DEFAULT_APP)
    if "msgpack" not in own.conf.accept_content:
        raise SettingsError(
            f"the Celery app {own.main!r} does not accept msgpack, which Feedmill's messages are in;"
            " add 'msgpack' to its accept_content, or set FEEDMILL_CELERY_APP=feedmill.tasks:app"
        )
    return own


def send(name: str, args: Sequence[Any], *, queue: str, sentence: str, producer: Any = None) -> None:
    """Send the task *name*; *sentence* is what an operator reads in Flower.

    Raises :class:`~feedmill.errors.StorageError` when the broker cannot be reached. In the embedded mode, without a
    broker, the task runs right here.
    """
    from kombu.exceptions import OperationalError

    app = celery_app()
    if settings.current().embedded and not settings.current().broker_url:
        app.tasks[name].apply(args, throw=True)
        return
    try:
        app.send_task(
            name,
            args=list(args),
            queue=queue,
            serializer="msgpack",
            argsrepr=sentence,
            kwargsrepr="",
            ignore_result=True,
            producer=producer,
            retry=producer is None,
        )
    except OperationalError as error:
        raise StorageError(f"the broker cannot be reached: {error}. Check FEEDMILL_BROKER_URL") from error


@contextmanager
def batched() -> Iterator[Any]:
    """A producer for many :func:`send` calls that share round trips to the broker; None in the embedded mode."""
    if settings.current().embedded and not settings.current().broker_url:
        yield None
        return
    with celery_app().producer_or_acquire() as producer, producer.batch(max_size=PUBLISH_BATCH):
        yield producer
