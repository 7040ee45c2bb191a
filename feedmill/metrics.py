"""What Feedmill measures: one definition of each metric, and the sink that is told the numbers.

Two kinds of numbers. What processes *count* (deliveries, retries, …) goes to :data:`sink`, where it happens: once for a chunk, a round, a
batch of feeds or a round trip, never for each delivery. Without a sink, which is the default, that is one comparison with None. What is
*stored* (fan-outs that are not finished, messages in queues, …) is read when somebody asks: see ``feedmill.worker.figures``.

Names, units and labels follow the conventions of Prometheus.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence
from typing import Protocol


class Kind(enum.Enum):
    """What a metric does as time passes."""

    #: It only grows, from 0 at the start of the process.
    COUNTER = "counter"
    #: It goes up and down.
    GAUGE = "gauge"
    #: Numbers of observations, by size.
    HISTOGRAM = "histogram"


@dataclasses.dataclass(frozen=True)
class Metric:
    """One metric."""

    #: Its name, as Prometheus has it.
    name: str
    kind: Kind
    #: What it says, in one sentence.
    help: str
    #: The names of its labels.
    labels: tuple[str, ...] = ()
    #: Whether it is read where everything is stored, instead of counted by processes.
    stored: bool = False


class Sink(Protocol):
    """Where processes count. Called by any thread; it must not raise and must not wait."""

    #: Whether sweeps tell it what is stored, by :meth:`set`. One that is asked for its numbers reads that itself.
    wants_stored: bool

    def add(self, metric: Metric, value: float, labels: tuple[str, ...] = ()) -> None:
        """A counter, or a gauge, has changed by *value*. *labels*: the values of its labels, in their order."""

    def observe(self, metric: Metric, values: Sequence[float], labels: tuple[str, ...] = ()) -> None:
        """A histogram has got *values*."""

    def set(self, metric: Metric, value: float, labels: tuple[str, ...] = ()) -> None:
        """A gauge of what is stored is *value*."""


#: Who is told what this process counts; None if nobody is.
sink: Sink | None = None


def use(chosen: Sink | None) -> None:
    """Tell *chosen* what this process, and what it forks, counts from now on; None: nobody."""
    global sink
    sink = chosen


#: Upper bounds of the buckets of histograms, in seconds.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)

#: How workers deliver: many small fan-outs together, or one chunk of a large one.
ROUND, CHUNK = "round", "chunk"
#: What becomes of a writer that finds a feed locked: it leaves its work to the holder, or waits; or its lock was taken over meanwhile.
LEFT, WAITED, LOST = "left", "waited", "lost"

ACCEPTED = Metric(
    "feedmill_fanouts_accepted_total", Kind.COUNTER, "Fan-outs that were asked for.", ("manager", "operation")
)
DELIVERIES = Metric(
    "feedmill_deliveries_total",
    Kind.COUNTER,
    "Users into whose feeds workers delivered. A user counts once for each fan-out; a fan-out that is repeated counts once.",
    ("manager", "operation"),
)
VISIBLE = Metric(
    "feedmill_visible_seconds",
    Kind.HISTOGRAM,
    "Seconds from the call until all users of a chunk see it: one observation for each chunk, and one for each fan-out without chunks.",
    ("manager", "operation"),
)
FANOUT_SECONDS = Metric(
    "feedmill_fanout_seconds",
    Kind.HISTOGRAM,
    "Seconds from the call until the last user sees it: one observation for each fan-out that is done.",
    ("manager", "operation"),
)
BATCHES = Metric(
    "feedmill_batches_total",
    Kind.COUNTER,
    "Batches of deliveries that workers made: rounds, which deliver small fan-outs together, and chunks of large ones.",
    ("manager", "kind"),
)
RETRIES = Metric(
    "feedmill_retries_total",
    Kind.COUNTER,
    "Fan-outs (round) and chunks (chunk) that were begun once more, because a worker failed, died or was silent.",
    ("manager", "kind"),
)
FAILURES = Metric(
    "feedmill_failures_total",
    Kind.COUNTER,
    "Attempts at fan-outs (round) and chunks (chunk) that ended with an error.",
    ("manager", "kind"),
)
DEAD_LETTERS = Metric(
    "feedmill_dead_letters_total",
    Kind.COUNTER,
    "Dead letters that were written, by what they are about: fanout, message or hook.",
    ("kind",),
)
CONTENTION = Metric(
    "feedmill_lock_contention_total",
    Kind.COUNTER,
    "Feeds that a writer found locked by another: its work was left to the holder (left), or it waited (waited); or its own lock was"
    " taken over before it was done (lost).",
    ("feed", "outcome"),
)
RECOVERED = Metric(
    "feedmill_pending_writes_recovered_total",
    Kind.COUNTER,
    "Feeds whose pending writes were left to a holder that did not do them, and were done by a sweep.",
    ("feed",),
)
ROUND_TRIPS = Metric("feedmill_redis_round_trips_total", Kind.COUNTER, "Round trips to the Redis server of the feeds.")
SUBSCRIPTIONS = Metric("feedmill_subscriptions", Kind.GAUGE, "Open subscriptions to feeds.")

STORAGE_UP = Metric("feedmill_storage_up", Kind.GAUGE, "Whether the storage answers: 1 or 0.", stored=True)
BROKER_UP = Metric(
    "feedmill_broker_up",
    Kind.GAUGE,
    "Whether the broker answers: 1 or 0. Absent where there is no broker.",
    stored=True,
)
OPEN_FANOUTS = Metric(
    "feedmill_journal_fanouts", Kind.GAUGE, "Fan-outs in the journal that are not finished.", ("manager",), stored=True
)
OLDEST = Metric(
    "feedmill_journal_oldest_seconds",
    Kind.GAUGE,
    "Seconds since the oldest unfinished fan-out was asked for; 0 if there is none.",
    ("manager",),
    stored=True,
)
QUEUE_DELIVERIES = Metric(
    "feedmill_queue_deliveries",
    Kind.GAUGE,
    "Users whose feeds are still to be written by chunks that are planned, by queue; of many chunks it is estimated from a sample.",
    ("queue",),
    stored=True,
)
QUEUE_MESSAGES = Metric(
    "feedmill_queue_messages", Kind.GAUGE, "Messages that wait in a queue of the broker.", ("queue",), stored=True
)
DEAD_LETTERS_STORED = Metric(
    "feedmill_dead_letters_stored", Kind.GAUGE, "Dead letters that nobody has retried or deleted.", stored=True
)
PENDING_FEEDS = Metric(
    "feedmill_pending_feeds",
    Kind.GAUGE,
    "Feeds at which a sweep will look, because writes were left to whoever held their lock.",
    ("feed",),
    stored=True,
)
SWEEP_AGE = Metric(
    "feedmill_sweep_age_seconds",
    Kind.GAUGE,
    "Seconds since the last sweep was done; beat sends one every ten seconds. Absent if there was none in a week.",
    stored=True,
)


def subscribed(change: int) -> None:
    """So many subscriptions were opened, or closed."""
    if sink is not None and change:
        sink.add(SUBSCRIPTIONS, change)


#: All of them.
ALL: tuple[Metric, ...] = (
    *(ACCEPTED, DELIVERIES, VISIBLE, FANOUT_SECONDS, BATCHES, RETRIES, FAILURES, DEAD_LETTERS, CONTENTION, RECOVERED),
    *(ROUND_TRIPS, SUBSCRIPTIONS, STORAGE_UP, BROKER_UP, OPEN_FANOUTS, OLDEST, QUEUE_DELIVERIES, QUEUE_MESSAGES),
    *(DEAD_LETTERS_STORED, PENDING_FEEDS, SWEEP_AGE),
)
