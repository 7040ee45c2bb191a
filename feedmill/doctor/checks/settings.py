"""Settings of Redis and Celery: nothing is lost, messages carry no code, and workers listen on the queues."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from feedmill import settings
from feedmill.doctor.report import Finding
from feedmill.errors import FeedmillError, SettingsError, StorageAway, StorageError
from feedmill.fanout import publisher
from feedmill.storage.maintenance import BesideMaintenance, refusal
from feedmill.storage.registry import backend
from feedmill.tasks.listeners import listeners
from feedmill.tasks.startup_checks import visibility_problem

#: What messages may be in; anything else can carry code, or was never asked for.
SAFE_CONTENT = {"msgpack", "application/x-msgpack", "json", "application/json"}
#: What follows for the feeds on servers that cannot be asked.
_UNSEEN = "the feeds there are not examined, or not to the end"
#: Seconds in which the broker is to be reached.
CONNECT = 5.0
#: How the other keys of Celery's Redis transport begin, and what it puts between a queue's name and a priority.
BROKERS, PRIORITY = (b"_kombu.binding", b"unacked"), b"\x06\x16"


def unsafe_server(fix: bool, tell: Callable[[Finding, bool], None]) -> None:
    """Look at the server that holds the feeds: it takes writes, what it holds survives a restart, and it throws no feed away to make room."""
    said = backend().run(backend().maintenance.facts())
    if refused := refusal(said):
        tell(Finding("refused writes", "Redis", refused, fixable=False), False)
    policy = said.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        text = (
            f"it is {policy}: a full server deletes feeds or fan-out records instead of refusing writes; set noeviction"
        )
        _settle("maxmemory-policy", "noeviction", text, fix, tell)
    if said.get("aof_enabled") == "0" and not _saves():
        text = "neither appendonly nor save is on: a restart loses everything; set appendonly yes"
        _settle("appendonly", "yes", text, fix, tell)


def _saves() -> bool:
    """Whether snapshots are written; what a server does not tell is not complained about."""
    try:
        return bool(backend().run(backend().maintenance.option("save")))
    except StorageError:
        return True


def _settle(option: str, value: str, text: str, fix: bool, tell: Callable[[Finding, bool], None]) -> None:
    """Tell what is wrong with a setting, with *fix* after it was changed."""
    refused = ""
    if fix:
        try:
            backend().run(backend().maintenance.option(option, value))
        except StorageError as error:
            refused = f". It could not be set from here: {error}"
    tell(Finding("unsafe Redis setting", option, text + refused, fixable=not refused), fix and not refused)


def cassandra_schema() -> Iterator[Finding]:
    """Look whether the cluster of feeds on Cassandra, where there is one, has their tables."""
    cluster = getattr(backend(), "cluster", None)
    if cluster is None:
        return
    try:
        problems = cluster.problems()
    except StorageError as error:
        yield Finding("unreachable Cassandra", cluster.url.place, f"{error}; {_UNSEEN}", fixable=False)
        return
    for problem in problems:
        yield Finding("Cassandra schema", cluster.url.place, f"{problem}; {_UNSEEN}", fixable=False)


def unreachable(place: BesideMaintenance, error: StorageError) -> Finding:
    """The finding about servers beside the backend in force that cannot be asked, or not any more."""
    kind = f"unreachable {place.servers}" if isinstance(error, StorageAway) else "not examined"
    return Finding(kind, f"feeds on {place.servers}", f"{error}; {_UNSEEN}", fixable=False)


def unnamed_servers(feed_classes: Iterable[Any]) -> Iterator[Finding]:
    """Look whether the settings name the servers of every feed class."""
    for feed_class in feed_classes:
        try:
            feed_class.timeline()
        except SettingsError as error:
            yield Finding("not examined", f"feeds of {feed_class.__name__}", str(error), fixable=False)


def unsafe_broker() -> Iterator[Finding]:
    """Look at the app that sends and runs the tasks. What is wrong stands in its configuration, so it is only named."""
    for name, text in _unsafe_settings():
        yield Finding("unsafe Celery setting", name, text, fixable=False)


def _unsafe_settings() -> Iterator[tuple[str, str]]:
    """The name of each setting that is wrong, and why."""
    try:
        if publisher.inline():
            return
        publisher.ready()
        app = publisher.celery_app()
    except FeedmillError as error:
        yield "the Celery app", str(error)
        return
    tasks = [task for name, task in app.tasks.items() if name.startswith("feedmill.")]
    for name, info, reader in (
        ("accept_content", "the broker", "workers"),
        ("result_accept_content", "the result backend", "programs that read a result"),
    ):
        if wrong := sorted(set(getattr(app.conf, name) or ()) - SAFE_CONTENT):
            yield (
                name,
                f"it has {', '.join(wrong)}: anyone who can write to {info} could run code in {reader}; use ['msgpack']",
            )
    for name, harm in (
        ("acks_late", "a worker that dies loses the tasks that it had begun"),
        ("reject_on_worker_lost", "the task of a killed child process counts as done"),
    ):
        if not all(getattr(task, name) for task in tasks):
            yield name, f"{harm}; leave it True in task_annotations"
    if problem := visibility_problem(app):
        yield "broker_transport_options['visibility_timeout']", problem


def is_brokers(key: bytes) -> bool:
    """Whether *key*, under our prefix, is of Feedmill's own Celery app, which may keep its queues in the feeds' database."""
    name = key.removeprefix(settings.current().key_prefix.encode())
    return name.startswith(BROKERS) or name.partition(PRIORITY)[0].decode(errors="replace") in publisher.ALL_QUEUES


def unheard() -> Iterator[Finding]:
    """Ask the workers, which takes half a second: queues that none of them listens on, and those of other deployments.

    A worker that is silent may be busy: where one is missing all are asked again, and given more time. If none answers, as
    before the first is started, nothing is said of queues.
    """
    try:
        if publisher.inline():
            return
        app = publisher.celery_app()
    except FeedmillError:  # unsafe_broker says so
        return
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=CONNECT, reraise_as_library_errors=False)
            found = listeners(app, connection, silence_is_final=True)
    except Exception as error:  # any of the many that transports have
        told = f"{type(error).__name__}: {str(error).rstrip('.')}"
        yield Finding(
            "unreachable broker", app.main or "the Celery app", f"{told}; no message can be sent", fixable=False
        )
        return
    for text in found.shared():
        yield Finding("shared queues", ", ".join(publisher.ALL_QUEUES), text, fixable=False)
    for queue in publisher.queues() if found.answers else ():
        if queue not in found.heard:
            text = f"none of the answering workers ({found.answers}) listens on it; start one with -Q {','.join(publisher.queues())}"
            yield Finding("queue without workers", queue, text, fixable=False)
