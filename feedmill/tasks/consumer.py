"""What workers do otherwise than Celery's: what cannot be decoded becomes a dead letter; arguments of tasks are not told."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from celery.worker.consumer import Consumer
from celery.worker.request import Request

from feedmill.errors import FeedmillError
from feedmill.worker import dead_letters

logger = logging.getLogger(__name__)


class DeadLetterConsumer(Consumer):  # type: ignore[misc]
    """Celery's consumer, except that refused messages end in the dead letters. For apps whose queues are Feedmill's."""

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Bytes that are not msgpack, or a content type that is not accepted."""
        _keep(message, f"cannot be decoded: {exc}")
        super().on_decode_error(message, exc)

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Not a task message."""
        _keep(message, "not a task message")
        super().on_unknown_message(body, message)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """A task that this release does not have: a later one may, and then a replay is all it takes."""
        _keep(message, f"no such task: {exc}")
        super().on_unknown_task(body, message, exc)

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """A task message with parts missing."""
        _keep(message, f"not a task message: {exc}")
        super().on_invalid_task(body, message, exc)


class RedactedRequest(Request):  # type: ignore[misc]
    """Celery's request, which tells whoever asks, such as Flower, a sentence in place of its arguments."""

    def info(self, safe: bool = True) -> dict[str, Any]:
        """What is told of it: the representation of its arguments that was sent with them."""
        told: dict[str, Any] = super().info(safe=True)
        return told


def _keep(message: Any, why: str) -> None:
    """The dead letter; a storage that is away must not keep the worker from going on.

    What was shouted to all workers of a broker, such as another project's ``celery inspect``, is nobody's work.
    """
    if str((message.delivery_info or {}).get("exchange", "")).endswith(".pidbox"):
        return
    task = str((message.headers or {}).get("task", ""))
    body = message.body if isinstance(message.body, (bytes, str)) else bytes(message.body)
    with contextlib.suppress(FeedmillError):
        try:
            args, _, _ = message.payload
            dead_letters.keep_message(task, args, why)
        except FeedmillError:
            raise
        except Exception:  # it is anything at all: keep the bytes
            dead_letters.keep_message(task, [body[: dead_letters.LONGEST_BODY]], why)
