"""A middleman between the queues that are published to and those that workers read: everything twice, in any order."""

from __future__ import annotations

import random
import threading
from typing import Any

from kombu import Connection, Consumer, Exchange, Queue

from feedmill.fanout.publisher import HIGH_QUEUE, LOW_QUEUE

#: What workers of a shuffled stage listen to, and how their configuration says so.
SHUFFLED = {HIGH_QUEUE: "shuffled.high", LOW_QUEUE: "shuffled.low"}
CONFIG = (
    "from kombu import Exchange, Queue\ntask_queues = ["
    + ", ".join(
        f"Queue({name!r}, Exchange({name!r}, type='direct'), routing_key={name!r})" for name in SHUFFLED.values()
    )
    + "]\n"
)


def queue_of(name: str) -> Queue:
    """The queue called *name*, as Feedmill declares it."""
    return Queue(name, Exchange(name, type="direct"), routing_key=name)


class Shuffler:
    """Passes messages on in a thread: each *copies* times, late ones before early ones."""

    def __init__(self, url: str, seed: int, copies: int = 2, hold: int = 12) -> None:
        self.url, self.copies, self.hold = url, copies, hold
        self.random = random.Random(seed)
        self._waiting: list[tuple[str, Any]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Shuffler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(10)

    def _run(self) -> None:
        with Connection(self.url) as connection, connection.channel() as channel:
            producer = connection.Producer()
            with Consumer(
                channel, [queue_of(n) for n in SHUFFLED], callbacks=[self._take], accept=["msgpack"]
            ) as consumer:
                consumer.qos(prefetch_count=0)
                while not self._ended.is_set():
                    try:
                        connection.drain_events(timeout=0.05)
                    except TimeoutError:
                        self._pass_on(producer, 0)
                    self._pass_on(producer, self.hold * 4)

    def _take(self, _: Any, message: Any) -> None:
        name = message.delivery_info["routing_key"]
        self._waiting += [(name, message)] * self.copies
        message.ack()

    def _pass_on(self, producer: Any, keep: int) -> None:
        while len(self._waiting) > keep:
            name, message = self._waiting.pop(self.random.randrange(len(self._waiting)))
            queue = queue_of(SHUFFLED[name])
            producer.publish(
                message.body,
                exchange=queue.exchange,
                routing_key=queue.routing_key,
                declare=[queue],
                headers=message.headers,
                content_type=message.content_type,
                content_encoding=message.content_encoding,
                **{k: message.properties[k] for k in ("correlation_id", "reply_to") if message.properties.get(k)},
            )
