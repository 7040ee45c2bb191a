"""What keeps a worker's main process alive while its broker is ill: it waits and goes on, as after a lost connection.

Celery goes on by itself when a connection is lost. A broker that *answers* with an error ends it: a Redis that became a
replica, is full or is being restarted, or a RabbitMQ whose queues are of the quorum type and know no global prefetch limit.
The step below is added to every worker that imports the tasks, whichever app it is of.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import amqp.exceptions  # type: ignore[import-untyped]
from celery import bootsteps, signals
from celery.worker.consumer.tasks import Tasks
from kombu.transport import virtual
from redis.exceptions import RedisError

from feedmill.errors import FeedmillError
from feedmill.worker import dead_letters

logger = logging.getLogger(__name__)

#: What RabbitMQ answers to whoever wants a prefetch limit for several consumers of a quorum queue.
NOT_IMPLEMENTED = 540
#: Answers of a server that is ill: a Redis that refuses, a RabbitMQ node without the one where a queue is. Others, such as
#: those about wrong settings, still end a worker.
ILL = (RedisError, amqp.exceptions.NotFound, amqp.exceptions.ResourceLocked)
#: Seconds until Redis is told again what it refused to hear.
SETTLE_AGAIN = 1.0
#: What reading a message from Redis comes to that is no message. kombu takes the last one for a lost connection.
NO_MESSAGE = (ValueError, TypeError, AttributeError, KeyError)


class Enduring(bootsteps.StartStopStep):  # type: ignore[misc]
    """Takes the server's errors for lost connections, and survives what goes wrong while those are tidied up."""

    requires = (Tasks,)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        # Also what acknowledging or restoring a message may raise: whatever is not acknowledged comes again.
        consumer.connection_errors = (*consumer.connection_errors, *ILL)
        self._settling = _Settling()
        lost = consumer.on_connection_error_after_connected
        consumer.on_connection_error_after_connected = functools.partial(
            _after_an_error, consumer, lost, self._settling
        )
        unconnected = consumer.on_connection_error_before_connected
        consumer.on_connection_error_before_connected = functools.partial(_before_connected, consumer, unconnected)
        self._timer: Any = None

    def start(self, consumer: Any) -> None:
        """Guard what reads and settles messages, each time a connection was made."""
        channel: Any = getattr(consumer.task_consumer, "channel", None)
        read = getattr(channel, "handlers", {}).get("BRPOP")
        if read is not None:
            channel.handlers["BRPOP"] = functools.partial(_read, channel, read, _Remembering(channel.client))
            self._settling.guard(channel.qos)
            self._timer = consumer.timer.call_repeatedly(SETTLE_AGAIN, self._settling.tell_again)

    def stop(self, consumer: Any) -> None:
        """Tell what is left to tell, if the connection is there: it may be the last time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._settling.tell_again()


class _Settling:
    """Tells Redis what becomes of a message (acknowledged, rejected, put back) again until Redis takes it.

    kombu counts a message against the prefetch limit until then and does not tell twice: a worker whose tasks all end while
    its Redis is full, or read-only, would take no message ever again. Here such a message counts no more. Should the worker
    end before Redis takes it, the message comes again, as after any death of a worker.
    """

    def __init__(self) -> None:
        #: By delivery tag: the method of kombu's QoS that is to be called, and its arguments.
        self._left: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {}
        #: kombu's QoS of the connection that there is, and its methods.
        self._qos: Any = None
        self._methods: dict[str, Callable[..., None]] = {}

    def guard(self, qos: Any) -> None:
        """Have all that *qos* is told pass by here; what earlier connections did not take is told on this one."""
        self._methods = {name: getattr(qos, name) for name in ("ack", "reject")}
        self._qos = qos
        for name in self._methods:
            setattr(qos, name, functools.partial(self._settle, qos, name))

    def _settle(self, qos: Any, name: str, tag: str, *args: Any, **named: Any) -> None:
        self._left[tag] = name, args, named
        if not self._qos.channel.closed:
            try:
                self._tell(tag)
            except RedisError as error:
                logger.warning("the broker does not take what becomes of a message (%s); it is told again", error)
        virtual.QoS.ack(qos, tag)  # type: ignore[no-untyped-call]

    def _tell(self, tag: str) -> None:
        name, args, named = self._left[tag]
        self._methods[name](tag, *args, **named)
        self._left.pop(tag, None)

    def unsettled(self) -> list[str]:
        """The delivery tags of the messages that were taken by this connection and not settled."""
        if self._qos is None:
            return []
        self._qos._flush()
        return list(self._qos._delivered)

    def give_back(self, tags: Sequence[str]) -> None:
        """Put messages back into their queues, as soon as Redis takes them; one that is settled meanwhile stays settled."""
        for tag in tags:
            self._left.setdefault(tag, ("reject", (), {"requeue": True}))

    def tell_again(self) -> None:
        """Tell what Redis did not take, until it does not take one."""
        with contextlib.suppress(RedisError):
            for tag in list(self._left):
                if self._qos.channel.closed:
                    break
                self._tell(tag)


def _after_an_error(consumer: Any, tidy: Callable[[Exception], None], settling: _Settling, error: Exception) -> None:
    """Celery's tidying up after a lost connection, of which no part can fail."""
    _without_global_limit(consumer, error)
    # kombu gives back what was not acknowledged when a connection is closed, which fails where the server is ill, with
    # any error.
    connection = consumer.connection
    connection.close = functools.partial(_quietly, connection.close, settling)
    try:
        tidy(error)
    except Exception as another:
        logger.warning("tidying up after a lost connection failed (%s); going on", another)
        consumer.connection = None


def _quietly(close: Callable[[], Any], settling: _Settling) -> None:
    taken = settling.unsettled()
    try:
        close()
    except Exception as error:
        logger.warning("what was not acknowledged could not be given back (%s); it is tried again", error)
        settling.give_back(taken)


def _before_connected(consumer: Any, say: Callable[[Exception], None], error: Exception) -> None:
    _without_global_limit(consumer, error)
    say(error)


def _without_global_limit(consumer: Any, error: Exception) -> None:
    """Have the next try set a prefetch limit for each consumer, if the server knows no other."""
    if getattr(error, "reply_code", getattr(error, "code", None)) != NOT_IMPLEMENTED:
        return
    for step in consumer.steps:
        if isinstance(step, Tasks):
            logger.warning(
                "the queues are of the quorum type, which Celery was not told; going on with a prefetch limit for each"
                " consumer. Say x-queue-type in the queue_arguments of task_queues"
            )
            step.qos_global = lambda consumer: False


class _Remembering:
    """Keeps what a client read last, so that it can be kept where it is no message."""

    def __init__(self, client: Any) -> None:
        self.reply: Any = None
        self._parse = client.parse_response
        client.parse_response = self

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.reply = None
        self.reply = self._parse(*args, **options)
        return self.reply


def _read(channel: Any, read: Callable[[], Any], last: _Remembering) -> Any:
    """Read a message; bytes that are none are kept as a dead letter."""
    last.reply = None
    try:
        return read()
    except NO_MESSAGE as error:
        if not isinstance(last.reply, (list, tuple)) or len(last.reply) != 2 or isinstance(error, RedisError):
            raise
        queue, data = last.reply
        text = queue.decode(errors="replace") if isinstance(queue, bytes) else str(queue)
        logger.error(
            "what came from the queue %s is no message of Celery's (%s); it is kept as a dead letter", text, error
        )
        with contextlib.suppress(FeedmillError):
            dead_letters.keep_message(
                "", [bytes(data)[: dead_letters.LONGEST_BODY]], f"no message: {dead_letters.reason(error)}"
            )
        return True


@signals.worker_init.connect  # type: ignore[untyped-decorator]
def endure(sender: Any, **_: Any) -> None:
    """Have the worker that starts, of whichever app, go on whatever its broker answers."""
    sender.app.steps["consumer"].add(Enduring)


__all__ = ["Enduring", "endure"]
