"""What commands print with ``--json``: one object of one of these classes, whose fields are its keys.

Keys may be added in any release; until 1.0 a minor version may rename or remove some, and a patch version none. Times are ISO 8601 in UTC, to
the microsecond; durations are seconds. Ids of users are numbers or texts, as in ``to_dict()`` of activities.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

from feedmill.ids import EntityId


@dataclasses.dataclass(frozen=True)
class Error:
    """What went wrong."""

    #: Name of the class of the error, such as ``StorageError``; ``UsageError`` for arguments that make no sense.
    kind: str
    #: The text that is printed without ``--json``.
    message: str
    #: What the command ends with for an error of this kind.
    exit_code: int


@dataclasses.dataclass(frozen=True)
class Failed:
    """Any command that failed: instead of its own object."""

    #: What went wrong.
    error: Error


@dataclasses.dataclass(frozen=True)
class Fanout:
    """An unfinished fan-out; the fields are those of :class:`~feedmill.fanout.FanoutStatus`."""

    #: Its id, as ``feedmill cancel`` takes it.
    id: str
    #: Name of its manager.
    manager: str
    #: The operation, such as ``add``.
    op: str
    #: Number of chunks that are planned.
    planned: int
    #: Number of chunks that are done.
    done: int
    #: Number of users whose feeds were written.
    reached: int
    #: Seconds since it was asked for.
    seconds: float
    #: Number of retries.
    retried: int
    #: Number of failed attempts.
    failed: int
    #: The last error; empty if there was none.
    error: str


@dataclasses.dataclass(frozen=True)
class Fanouts:
    """``feedmill fanouts``."""

    #: Those that are not finished.
    fanouts: list[Fanout]
    #: What could not be read.
    errors: list[Error]


@dataclasses.dataclass(frozen=True)
class Cancelled:
    """A fan-out that was to be cancelled."""

    #: Its id.
    id: str
    #: False if there was nothing left to cancel.
    cancelled: bool
    #: In words.
    text: str


@dataclasses.dataclass(frozen=True)
class Cancellations:
    """``feedmill cancel``."""

    #: Each that was named, in that order.
    fanouts: list[Cancelled]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """``feedmill sweep``."""

    #: Number of overdue fan-outs, for which workers were woken.
    overdue: int


@dataclasses.dataclass(frozen=True)
class Figure:
    """A number of what is stored."""

    #: Name of the metric, as Prometheus has it.
    name: str
    #: Its labels.
    labels: dict[str, str]
    #: The number.
    value: float


@dataclasses.dataclass(frozen=True)
class Figures:
    """``feedmill metrics``."""

    #: All numbers; of a storage or broker that does not answer only that it does not.
    metrics: list[Figure]


@dataclasses.dataclass(frozen=True)
class DeadLetter:
    """A dead letter."""

    #: Its id.
    id: str
    #: When it became one.
    since: dt.datetime
    #: ``fanout`` or ``message``.
    kind: str
    #: Empty for a message.
    manager: str
    #: What went wrong.
    reason: str
    #: Id of the fan-out; empty for a message.
    fanout: str


@dataclasses.dataclass(frozen=True)
class DeadLetters:
    """``feedmill dead list``."""

    #: The newest first.
    dead_letters: list[DeadLetter]


@dataclasses.dataclass(frozen=True)
class DeadLetterContent:
    """``feedmill dead show``."""

    #: The dead letter.
    dead_letter: DeadLetter
    #: Operation, body and fan-out, or task and arguments; bytes in Base64.
    content: list[Any]


@dataclasses.dataclass(frozen=True)
class Retried:
    """A dead letter that was retried."""

    #: Its id.
    id: str
    #: What was done, in words.
    text: str


@dataclasses.dataclass(frozen=True)
class Retries:
    """``feedmill dead retry``."""

    #: Those that were retried.
    retried: list[Retried]
    #: Why others were not.
    errors: list[Error]


@dataclasses.dataclass(frozen=True)
class Deletions:
    """``feedmill dead delete``."""

    #: Number of dead letters.
    deleted: int


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Why an activity is, or is not, in one feed; the fields are those of :class:`~feedmill.manager.Explanation`."""

    #: Name of the feed.
    feed: str
    #: Whether readers are shown the activity, or a group that counts it.
    present: bool
    #: Name of a :class:`~feedmill.manager.Why`.
    why: str
    #: The reason, in words.
    text: str
    #: Rank of the activity, or of its group, from 0; null if it is not shown.
    rank: int | None
    #: Name of the group that it is in, if any.
    group: str | None


@dataclasses.dataclass(frozen=True)
class Explanations:
    """``feedmill explain``."""

    #: Name of the manager.
    manager: str
    #: Id of the user.
    user: EntityId
    #: Id of the activity.
    activity: str
    #: One for each feed.
    feeds: list[Explanation]


@dataclasses.dataclass(frozen=True)
class Newest:
    """The first item of a feed."""

    #: Of the activity, or when the group was updated; null for a group that shows none.
    time: dt.datetime | None
    #: Id of the activity, or name of the group.
    id: str
    #: Who did what, in words.
    text: str


@dataclasses.dataclass(frozen=True)
class Feed:
    """One feed of a user."""

    #: Name of the manager that declares it.
    manager: str
    #: As :meth:`~feedmill.Manager.get_feeds` calls it; ``user`` for what the user did, ``notifications``.
    feed: str
    #: ``flat``, ``aggregated`` or ``notification``.
    kind: str
    #: False if it went because nobody used it; it is rebuilt when the app reads it.
    present: bool
    #: Number of activities or groups.
    length: int
    #: Number of unseen groups of a notification feed; else null.
    unseen: int | None
    #: Number of unread groups of a notification feed; else null.
    unread: int | None
    #: Null for an empty feed.
    newest: Newest | None
    #: ``to_dict()`` of the first activities or groups, if the feed was named; else null.
    items: list[dict[str, Any]] | None


@dataclasses.dataclass(frozen=True)
class Feeds:
    """``feedmill feeds``."""

    #: Id of the user.
    user: EntityId
    #: One for each feed, or those of the name that was given.
    feeds: list[Feed]


@dataclasses.dataclass(frozen=True)
class Started:
    """A fan-out that a command has started."""

    #: Name of the manager.
    manager: str
    #: Id of the fan-out.
    fanout: str
    #: Whether it was finished when the command ended.
    finished: bool
    #: Seconds that it took; 0 if it was not waited for.
    seconds: float


@dataclasses.dataclass(frozen=True)
class Rebuilt:
    """``feedmill rebuild``."""

    #: Id of the user.
    user: EntityId
    #: The fan-out.
    rebuilt: Started


@dataclasses.dataclass(frozen=True)
class UserDeleted:
    """``feedmill delete-user``."""

    #: Id of the user.
    user: EntityId
    #: One for each manager.
    deleted: list[Started]


@dataclasses.dataclass(frozen=True)
class Finding:
    """What the doctor found; see :doc:`/how-to/examine-with-the-doctor`."""

    #: What is wrong, in two or three words.
    kind: str
    #: A key, or the name of a setting.
    where: str
    #: What it means and, if it cannot be fixed by the doctor, what to do.
    text: str
    #: Whether ``--fix`` can fix it.
    fixable: bool


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """``feedmill doctor``."""

    #: Whether nothing is wrong, or all of it was fixed.
    healthy: bool
    #: The first of each kind.
    findings: list[Finding]
    #: How many of each kind there are.
    found: dict[str, int]
    #: How many of each kind were fixed.
    fixed: dict[str, int]
    #: Number of keys that were checked.
    keys: int
    #: Number of feeds that were checked.
    feeds: int
    #: Keys under the prefix that belong to no manager that is known.
    unknown_keys: int
    #: Number of dead letters.
    dead_letters: int
    #: Seconds that it took.
    seconds: float
    #: With ``--growth``, how much is stored, in words; else null.
    growth: list[str] | None


@dataclasses.dataclass(frozen=True)
class Server:
    """A server that was asked."""

    #: Without passwords; empty if there is none, as in the in-memory mode.
    url: str
    #: Whether it answered.
    ok: bool
    #: How long the answer took; null without one.
    seconds: float | None
    #: Empty if it answered.
    error: str
    #: Why it refuses writes; empty if it takes them, does not tell, or was asked for an answer alone.
    refuses: str = ""


@dataclasses.dataclass(frozen=True)
class Queue:
    """A queue of Feedmill's on the broker."""

    #: Its name.
    name: str
    #: Names of the workers of this deployment that listen on it.
    workers: list[str]
    #: Names of those that listen on it and did not tell in time of which deployment they are.
    unknown: list[str]
    #: Number of messages that wait; null if the broker did not tell.
    messages: int | None
    #: Users whose feeds are still to be written, of what is planned; an estimate from a sample.
    deliveries: int


@dataclasses.dataclass(frozen=True)
class OpenFanouts:
    """The unfinished fan-outs of a manager."""

    #: Name of the manager.
    manager: str
    #: How many there are.
    fanouts: int
    #: Id of the one that was asked for first; empty if there is none.
    oldest: str
    #: Its operation.
    oldest_op: str
    #: How many seconds ago it was asked for; 0 if there is none.
    oldest_seconds: float


@dataclasses.dataclass(frozen=True)
class Status:
    """``feedmill status``."""

    #: Whether there is no problem.
    healthy: bool
    #: What is wrong, in words.
    problems: list[str]
    #: The server of the feeds.
    storage: Server
    #: The broker.
    broker: Server
    #: Empty where tasks run in the process that calls, as in the in-memory mode.
    queues: list[Queue]
    #: How many seconds ago the last sweep was done; null if there was none in the last week, or it is not known.
    last_sweep: float | None
    #: The managers that are known.
    managers: list[OpenFanouts]
    #: The cluster of feeds on Cassandra; null where the settings name none.
    cassandra: Server | None = None


@dataclasses.dataclass(frozen=True)
class Ping:
    """``feedmill ping``."""

    #: Whether all that was asked answered.
    ok: bool
    #: Null with ``--worker``.
    storage: Server | None
    #: The broker.
    broker: Server
    #: The worker that was to answer; empty without ``--worker``.
    worker: str


@dataclasses.dataclass(frozen=True)
class Token:
    """``feedmill token``."""

    #: The token.
    token: str
    #: The user, or the name of the server.
    subject: str
    #: What it is for: ``server``; or ``read``, perhaps ``write``.
    scopes: list[str]
    #: When it expires.
    expires: dt.datetime


@dataclasses.dataclass(frozen=True)
class Served:
    """``feedmill serve``, once it has been stopped."""

    #: Address.
    host: str
    #: Port.
    port: int


@dataclasses.dataclass(frozen=True)
class Setting:
    """A setting."""

    #: Its name, as :func:`feedmill.configure` takes it.
    name: str
    #: ``(hidden)`` in place of a secret that is set.
    value: str | int | float | bool
    #: ``default``, ``environment``, ``Django setting``, ``configure()`` or ``command line``.
    origin: str
    #: How it is spelled there, such as ``FEEDMILL_LOCK_TTL``; empty for a default.
    spelled: str


@dataclasses.dataclass(frozen=True)
class CeleryApp:
    """The Celery app that sends."""

    #: Its name; empty if there is a problem.
    name: str
    #: Without passwords; empty where tasks run in the process that calls.
    broker_url: str
    #: Why it cannot send; else empty.
    problem: str


@dataclasses.dataclass(frozen=True)
class Settings:
    """``feedmill settings``."""

    #: All settings.
    settings: list[Setting]
    #: The app.
    celery_app: CeleryApp


@dataclasses.dataclass(frozen=True)
class Demo:
    """``feedmill demo``."""

    #: Number of users.
    people: int
    #: Number of pairs of a follower and who is followed.
    follows: int
    #: Number of activities.
    activities: int
    #: Number of deliveries into home and aggregated feeds.
    deliveries: int
    #: Seconds from the first activity until all were delivered.
    seconds: float
    #: From publishing an activity to when it is in a follower's feed, in seconds.
    latency_median: float
    #: The same, of 99 in 100 at most.
    latency_p99: float


@dataclasses.dataclass(frozen=True)
class Replay:
    """``feedmill replay``."""

    #: Number of follows.
    follows: int
    #: Number of events that were played.
    events: int
    #: Lines that could not be read.
    skipped: int
    #: Seconds from the first event until all were delivered.
    seconds: float
    #: By feed.
    deliveries: dict[str, int]
    #: With ``--verify``, how many entries of timelines are missing, there twice, or wrong; else null.
    missing: int | None
    #: The same: there twice.
    twice: int | None
    #: The same: wrong.
    wrong: int | None
    #: With ``--verify``, how many feeds were compared; else null.
    verified: int | None


@dataclasses.dataclass(frozen=True)
class CassandraSchema:
    """What ``feedmill cassandra init`` and ``feedmill cassandra check`` tell of the schema of feeds on Cassandra."""

    #: The keyspace.
    keyspace: str
    #: What is wrong with it, and what to do about it; empty if nothing is.
    problems: list[str]


@dataclasses.dataclass(frozen=True)
class OutboxCounts:
    """How many rows a transactional outbox of the app has."""

    #: Its name.
    name: str
    #: Number of rows that wait.
    waiting: int
    #: Number of rows that were given up.
    dead: int
    #: Seconds since the oldest row that waits was written; 0 if none does.
    oldest: float


@dataclasses.dataclass(frozen=True)
class Outboxes:
    """``feedmill outbox status``."""

    #: Those that are in use.
    outboxes: list[OutboxCounts]


@dataclasses.dataclass(frozen=True)
class OutboxRow:
    """A call of a manager that waits, or was given up."""

    #: Its id.
    id: int
    #: When it was written.
    created: dt.datetime
    #: Name of the manager.
    manager: str
    #: Name of the method.
    method: str
    #: The call, in words.
    text: str
    #: Number of failed attempts.
    attempts: int
    #: The last error; empty if there was none.
    error: str
    #: Whether it was given up.
    dead: bool


@dataclasses.dataclass(frozen=True)
class OutboxRows:
    """``feedmill outbox list``."""

    #: The oldest first.
    rows: list[OutboxRow]


@dataclasses.dataclass(frozen=True)
class OutboxRelayed:
    """``feedmill outbox relay``."""

    #: Number of rows.
    relayed: int


@dataclasses.dataclass(frozen=True)
class OutboxRetried:
    """``feedmill outbox retry``."""

    #: Number of rows.
    retried: int


@dataclasses.dataclass(frozen=True)
class OutboxDropped:
    """``feedmill outbox drop``."""

    #: Number of rows.
    dropped: int
