"""Mistakes are told clearly: what is wrong, and what to do about it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

import feedmill
from feedmill import Activity, Manager, cursor, settings
from feedmill.aggregators import BaseAggregator
from feedmill.errors import (
    ActivityError,
    ArgumentError,
    CursorError,
    DeclarationError,
    FeedIndexError,
    FeedmillError,
    MessageError,
    MissingMethod,
    SettingsError,
    StorageError,
    UnknownName,
    UnknownVerb,
    VerbError,
)
from feedmill.fanout.operations import FOLLOW
from feedmill.fanout.publisher import celery_app
from feedmill.feeds import RedisAggregatedFeed, RedisFeed, RedisNotificationFeed
from feedmill.msgpack_codec import pack
from feedmill.registry import get_manager
from feedmill.storage.memory import DATA
from feedmill.verbs import Love, Verb, register
from feedmill.worker import chunk_tasks
from feedmill.worker.planned_chunks import read_chunk
from tests.conftest import free_port
from tests.feeds.samples import Home, News, Notes, on_day


class Unregistered(Verb):
    id = 30000
    infinitive, past_tense = "hum", "hummed"


class ErrorManager(Manager):
    feed_classes = {"home": Home, "news": News}

    def get_user_follower_ids(self, user_id: Any) -> Any:
        return [1]


def duplicate_verb() -> None:
    @register
    class Adore(Verb):
        id = 3
        infinitive, past_tense = "adore", "adored"


def misspelt_feed() -> None:
    class Wrong(RedisFeed):
        max_lenght = 5


def misspelt_manager() -> None:
    class Wrong(Manager):
        feed_clases: dict[str, Any] = {}


def misspelt_aggregator() -> None:
    class Wrong(BaseAggregator):
        def get_groups(self) -> None: ...


def shared_key() -> None:
    class Other(RedisFeed):
        key_format = Home.key_format

    class Wrong(Manager):
        feed_classes = {"home": Home, "other": Other}


def not_a_feed() -> None:
    class Wrong(Manager):
        feed_classes: Any = {"home": int}


def zero_length() -> None:
    class Wrong(RedisFeed):
        max_length = 0


def key_without_user() -> None:
    class Wrong(RedisFeed):
        key_format = "feed:home"


def not_an_aggregator() -> None:
    class Wrong(RedisNotificationFeed):
        aggregator_class: Any = int


def flat_notifications() -> None:
    class Wrong(Manager):
        notification_feed_class: Any = Home


def key_with_braces() -> None:
    class Wrong(RedisFeed):
        key_format = "feed:{%(user_id)s}"


def declared(base: type, **attributes: Any) -> Callable[[], object]:
    """Declares a subclass of *base*, called Wrong."""
    return lambda: type("Wrong", (base,), attributes)


def deep(levels: int) -> dict[str, Any]:
    return {"in": deep(levels - 1)} if levels else {}


def two_managers_counting() -> None:
    for name in ("First", "Second"):
        feed = type("Wrong", (RedisNotificationFeed,), {"key_format": name + ":%s", "count_format": "errors:%s"})
        type(name, (Manager,), {"notification_feed_class": feed})


class NotesManager(Manager):
    notification_feed_class = Notes


class Bare(Manager):
    """Declares nothing."""


class Following(Manager):
    def get_user_following_ids(self, user_id: Any) -> Any:
        return [1]


class Wordless(Verb):
    id = 29000


def second_manager() -> None:
    type("ErrorManager", (Manager,), {"__module__": "elsewhere"})


def when(**parts: Any) -> Callable[[], Any]:
    return lambda: Activity(**{"actor": 1, "verb": Love, "object": 2, **parts})


BODY = on_day(1).raw_id
CASES: dict[str, tuple[Callable[[], Any], type[FeedmillError], str]] = {
    "verb not registered": (
        when(verb=Unregistered),
        UnknownVerb,
        r"verb Unregistered is not registered; decorate .*register",
    ),
    "unknown verb id": (
        when(verb=31000),
        UnknownVerb,
        r"verb 31000; register it, or name the module that does in FEEDMILL_MODULES; known: .*Love \(3\)",
    ),
    "verb by name": (when(verb="love"), UnknownVerb, r"unknown verb 'love'"),
    "naive time": (
        when(time=dt.datetime(2024, 1, 1)),
        ActivityError,
        r"is naive; use a timezone-aware one, e.g. datetime.now",
    ),
    "no time": (when(time="today"), ActivityError, r"time is 'today'; use a timezone-aware datetime"),
    "time before 1970": (
        when(time=dt.datetime(1960, 1, 1, tzinfo=dt.timezone.utc)),
        ActivityError,
        r"out of range; use one from 1970 to 2255",
    ),
    "float actor": (
        when(actor=1.5),
        ActivityError,
        r"actor is 1.5 of type float; use an int, str or UUID, or an instance with such",
    ),
    "bool object": (when(object=True), ActivityError, r"object is True of type bool"),
    "bytes target": (when(target=b"x"), ActivityError, r"target is b'x' of type bytes"),
    "huge id": (when(actor=2**64), ActivityError, r"actor id 18446744073709551616 does not fit 64 bits"),
    "broken text": (when(actor="\ud800"), ActivityError, r"actor id .* is not valid Unicode text"),
    "unserialisable context": (
        when(extra_context={"a": {1, 2}}),
        ActivityError,
        r"extra_context\['a'\] cannot be stored: set \{1, 2\}; use str, int",
    ),
    "naive time in context": (
        when(extra_context={"a": dt.datetime(2024, 1, 1)}),
        ActivityError,
        r"extra_context\['a'\] cannot be stored: naive datetime",
    ),
    "oversized context": (
        when(extra_context={"a": "x" * 70000}),
        ActivityError,
        r"70,0\d\d bytes packed; the limit is 65,536",
    ),
    "list as context": (when(extra_context=[1]), ActivityError, r"extra_context is a list; use a dict"),
    "not an activity": (lambda: Home(1).add("x"), ActivityError, r"'x' is not a feedmill.Activity"),  # type: ignore[arg-type]
    "not an activity, manager": (lambda: ErrorManager().add_activity(5), ActivityError, r"5 is not a"),  # type: ignore[arg-type]
    "duplicate verb id": (duplicate_verb, VerbError, r"verb id 3 is Love's already; give Adore another id"),
    "verb of no class": (lambda: register(5), VerbError, r"5 is not a subclass of feedmill.verbs.Verb"),  # type: ignore[arg-type]
    "verb without id": (lambda: register(Verb), VerbError, r"Verb.id is None; a verb id is an int from 1 to 32767"),
    "misspelt feed attribute": (
        misspelt_feed,
        DeclarationError,
        r"Wrong.max_lenght does not exist; did you mean 'max_length'",
    ),
    "misspelt manager attribute": (
        misspelt_manager,
        DeclarationError,
        r"feed_clases does not exist; did you mean 'feed_classes'",
    ),
    "misspelt aggregator method": (
        misspelt_aggregator,
        DeclarationError,
        r"get_groups does not exist; did you mean 'get_group'",
    ),
    "two feeds, one key": (
        shared_key,
        DeclarationError,
        r"'other' and 'home' share the key_format .* give one of them another",
    ),
    "not a feed class": (not_a_feed, DeclarationError, r"Wrong: 'home' is <class 'int'>; use a feed class"),
    "no length": (zero_length, DeclarationError, r"Wrong.max_length is 0; use a positive int"),
    "key without user": (
        key_without_user,
        DeclarationError,
        r"Wrong.key_format: key format 'feed:home' .*%\(user_id\)s once",
    ),
    "not an aggregator": (
        not_an_aggregator,
        DeclarationError,
        r"aggregator_class is <class 'int'>; use a subclass of BaseAgg",
    ),
    "two managers, one name": (
        second_manager,
        DeclarationError,
        r"manager name 'ErrorManager' is .*'s already; set another `name`",
    ),
    "no group": (lambda: BaseAggregator().get_group(on_day(1)), MissingMethod, r"must define get_group\(activity\)"),
    "no followers": (
        lambda: Bare().get_user_follower_ids(1),
        MissingMethod,
        r"Bare must define get_user_follower_ids\(user_id\)",
    ),
    "no followed": (
        lambda: Bare().get_user_following_ids(1),
        MissingMethod,
        r"Bare must define get_user_following_ids\(user_id\)",
    ),
    "no user feed to read": (lambda: Bare().get_user_feed(1), DeclarationError, r"Bare has no user_feed_class"),
    "no notifications to read": (
        lambda: Bare().get_notification_feed(1),
        DeclarationError,
        r"Bare has no notification_feed_class",
    ),
    "no user feed to import into": (
        lambda: Bare().batch_import(1, []),
        DeclarationError,
        r"Bare.batch_import needs user_feed_class, the feed that it fills",
    ),
    "no user feed to rebuild from": (
        lambda: Following().rebuild(1),
        DeclarationError,
        r"Following.rebuild needs user_feed_class, the feed it copies from",
    ),
    "flat notifications": (
        flat_notifications,
        DeclarationError,
        r"Wrong.notification_feed_class must be a subclass of NotificationFeed",
    ),
    "key with braces": (
        key_with_braces,
        DeclarationError,
        r"key format 'feed:\{%\(user_id\)s\}' must .* hold no braces",
    ),
    "key of no text": (
        declared(RedisFeed, key_format=5),
        DeclarationError,
        r"Wrong.key_format is 5; use a text such as 'feed:home:",
    ),
    "count without user": (
        declared(RedisNotificationFeed, count_format="count"),
        DeclarationError,
        r"Wrong.count_format: key format 'count' .*%\(user_id\)s once",
    ),
    "count in the place of the feed": (
        declared(RedisNotificationFeed, key_format="n:%(user_id)s", count_format="n:%(user_id)s"),
        DeclarationError,
        r"Wrong.count_format is its key_format, .* a key of its own, e.g. 'n:%\(user_id\)s:count'",
    ),
    "groups in a flat feed": (
        declared(RedisFeed, aggregator_class=BaseAggregator),
        DeclarationError,
        r"Wrong is a flat feed, so nothing would ask its aggregator_class; use RedisAggregatedFeed",
    ),
    "ids without bodies": (
        declared(RedisAggregatedFeed, activity_storage_class=None),
        DeclarationError,
        r"Wrong.activity_storage_class is None, .* set the storage in which bodies are, such as RedisActivityStorage",
    ),
    "ids without bodies in a flat feed": (
        declared(RedisFeed, activity_storage_class=None),
        DeclarationError,
        r"Wrong.activity_storage_class is None, but its timeline holds nothing but ids",
    ),
    "chance of a hundred": (
        declared(RedisFeed, trim_chance=100),
        DeclarationError,
        r"Wrong.trim_chance is 100; use a number from 0 to 1",
    ),
    "rate of text": (
        declared(Manager, fanout_rate="5"),
        DeclarationError,
        r"Wrong.fanout_rate is '5'; use a number from 0",
    ),
    "rate below none": (declared(Manager, fanout_rate=-1), DeclarationError, r"fanout_rate is -1; use a number from 0"),
    "list of feeds": (
        declared(Manager, feed_classes=[Home]),
        DeclarationError,
        r"Wrong.feed_classes is a list; use a dict: \{'home': HomeFeed\}",
    ),
    "number of a feed": (
        declared(Manager, feed_classes={1: Home}),
        DeclarationError,
        r"Wrong.feed_classes has the names \[1\]; use names that are str",
    ),
    "counts of two managers in one place": (
        two_managers_counting,
        DeclarationError,
        r"Wrong of Second and Wrong of First share the count_format 'errors:%s' .* give Wrong one of its own",
    ),
    "manager of no name": (declared(Manager, name=""), DeclarationError, r"Wrong.name is ''; use a non-empty str"),
    "arguments in another order": (
        lambda: Activity(Love, 1, 2),  # type: ignore[arg-type]
        ActivityError,
        r"actor is the class Love; give an instance or an id. .* swapped\? It is Activity\(actor, verb, object, target\)",
    ),
    "nobody": (when(actor=""), ActivityError, r"actor id is an empty text; use an id that names somebody"),
    "a dict for an activity": (
        lambda: ErrorManager().add_activity({"actor": 1}),  # type: ignore[arg-type]
        ActivityError,
        r"\{'actor': 1\} is not a feedmill.Activity; make one: Activity\(actor, verb, object\)",
    ),
    "notify the other way round": (
        lambda: NotesManager().notify(on_day(1), [2]),  # type: ignore[arg-type]
        ArgumentError,
        r"user ids are <Activity .*; use a list of ids, even of one",
    ),
    "subscription to one": (
        lambda: Notes.subscribe_many("ann"),
        ArgumentError,
        r"user ids are 'ann'; use a list of ids, even of one",
    ),
    "another way of batches": (
        lambda: News(1).remove_many([], batch_interface=5),
        DeclarationError,
        r"remove_many\(batch_interface=…\) does not exist here; every write is a batch already",
    ),
    "verb without words": (
        lambda: register(Wordless),
        VerbError,
        r"Wordless has no infinitive; set it, e.g. infinitive =",
    ),
    "long id": (
        when(actor="x" * 256),
        ActivityError,
        r"actor id 'x{40}'… has 256 characters; use at most 255, or a hash",
    ),
    "deep context": (
        when(extra_context=deep(40)),
        ActivityError,
        r"extra_context could not be read again: .* deeper than 32",
    ),
    "cursor of no actor": (
        lambda: News(1).actors("g", after=cursor.encode(f"actors by place {News.key_format} g", b"x")),
        CursorError,
        r"names no actor; start again without a cursor",
    ),
    "endless fan-out records": (
        lambda: feedmill.configure(receipt_ttl=0),
        SettingsError,
        r"RECEIPT_TTL is 0.0; use a positive number of seconds",
    ),
    "no lease": (lambda: feedmill.configure(fanout_lease=-5), SettingsError, r"FANOUT_LEASE is -5.0; use a positive"),
    "negative queues": (
        lambda: feedmill.configure(queue_limit=-1),
        SettingsError,
        r"QUEUE_LIMIT is -1; use a number of messages, or 0 for no limit",
    ),
    "queues of no number": (
        lambda: feedmill.configure(queue_limit="many"),
        SettingsError,
        r"QUEUE_LIMIT is 'many'; use a whole number",
    ),
    "endless locks": (
        lambda: settings.from_environment({"FEEDMILL_LOCK_TTL": "nan"}),
        SettingsError,
        r"LOCK_TTL is 'nan'; use a number",
    ),
    "locks for ever": (
        lambda: feedmill.configure(lock_ttl=float("inf")),
        SettingsError,
        r"LOCK_TTL is inf; use a number",
    ),
    "half a message": (
        lambda: feedmill.configure(queue_limit=1.5),
        SettingsError,
        r"QUEUE_LIMIT is 1.5; use a whole number",
    ),
    "a flag for a number": (
        lambda: feedmill.configure(queue_limit=True),
        SettingsError,
        r"LIMIT is True; use a whole number",
    ),
    "port of no number": (
        lambda: feedmill.configure(redis_url="redis://localhost:abc/0"),
        SettingsError,
        r"REDIS_URL is 'redis://localhost:abc/0', whose port or database is no number; use redis://host:port/db",
    ),
    "database of no number": (
        lambda: feedmill.configure(broker_url="redis://localhost/0;redis://localhost/feeds"),
        SettingsError,
        r"BROKER_URL is 'redis://localhost/feeds', whose port or database is no number",
    ),
    "port out of range": (
        lambda: feedmill.configure(redis_url="redis://localhost:77777/0"),
        SettingsError,
        r"REDIS_URL is 'redis://localhost:77777/0', whose port is not from 1 to 65535; use redis://host:port/db",
    ),
    "port 0": (
        lambda: feedmill.configure(redis_url="redis://localhost:0/0"),
        SettingsError,
        r"REDIS_URL is 'redis://localhost:0/0', whose port is not from 1 to 65535",
    ),
    "IPv6 without brackets": (
        lambda: feedmill.configure(redis_url="redis://::1:6379/0"),
        SettingsError,
        r"REDIS_URL is 'redis://::1:6379/0'; put an IPv6 address into brackets, as in redis://\[::1\]:6379/0",
    ),
    "password with a slash": (
        lambda: feedmill.configure(redis_url="redis://:open/sesame@localhost:6379/0"),
        SettingsError,
        r"REDIS_URL is 'redis://localhost:6379/0', .* %2F for a slash",
    ),
    "broker of no kind": (
        lambda: feedmill.configure(broker_url="localhost:5672"),
        SettingsError,
        r"BROKER_URL is 'localhost:5672'; use redis://host:port/db or amqp://",
    ),
    "app that is not there": (
        lambda: [feedmill.configure(celery_app="nowhere:app"), celery_app()],
        SettingsError,
        r"CELERY_APP is 'nowhere:app', and there is no module 'nowhere', .*; name a Celery app as module:attribute",
    ),
    "app that is none": (
        lambda: [feedmill.configure(celery_app="feedmill.verbs:known_verbs"), celery_app()],
        SettingsError,
        r"CELERY_APP is 'feedmill.verbs:known_verbs', a function; name a Celery app as module:attribute",
    ),
    "prefix with braces": (
        lambda: feedmill.configure(key_prefix="{x}"),
        SettingsError,
        r"KEY_PREFIX is '\{x\}'; do not use braces, they mark the hash tag",
    ),
    "unknown feed name": (
        lambda: ErrorManager().get_feeds(1)["hme"],
        UnknownName,
        r"no feed 'hme'; the manager declares 'home', 'news'",
    ),
    "unknown manager": (
        lambda: get_manager("Nobody"),
        UnknownName,
        r"no manager 'Nobody'; known: .*ErrorManager.*FEEDMILL_MODULES",
    ),
    "no user feed": (
        lambda: ErrorManager().follow(1, 2),
        DeclarationError,
        r"ErrorManager.follow needs user_feed_class",
    ),
    "user of no id": (lambda: Home(1.5), ActivityError, r"user is 1.5 of type float; use an int, str or UUID"),  # type: ignore[arg-type]
    "negative slice": (
        lambda: Home(1)[-5:],
        FeedIndexError,
        r"feed\[-5:\]: use numbers from 0, such as feed\[:25\]",
    ),
    "negative index": (
        lambda: Notes(1)[-1],
        FeedIndexError,
        r"feed\[-1\]: use a number from 0; feed\[0\] is the newest",
    ),
    "stepped slice": (lambda: News(1)[::2], FeedIndexError, r"feed\[::2\]: a feed is read in order, without a step"),
    "index of text": (lambda: Home(1)["a"], FeedIndexError, r"feed\['a'\]: use an int or a slice"),  # type: ignore[call-overload]
    "unknown setting": (
        lambda: feedmill.configure(redis_ulr="x"),
        SettingsError,
        r"no setting 'redis_ulr'; did you mean 'redis_url'",
    ),
    "unknown variable": (
        lambda: settings.from_environment({"FEEDMILL_LOCK_TLL": "5"}),
        SettingsError,
        r"FEEDMILL_LOCK_TLL'; did you mean 'FEEDMILL_LOCK_TTL'",
    ),
    "setting of no number": (
        lambda: settings.from_environment({"FEEDMILL_LOCK_TTL": "soon"}),
        SettingsError,
        r"FEEDMILL_LOCK_TTL is 'soon'; use a number",
    ),
    "negative lock ttl": (
        lambda: feedmill.configure(lock_ttl=-1),
        SettingsError,
        r"LOCK_TTL is -1.0; use a positive number",
    ),
    "strange url": (
        lambda: feedmill.configure(redis_url="http://x"),
        SettingsError,
        r"REDIS_URL is 'http://x'; use redis://",
    ),
    "message of no activity": (
        lambda: chunk_tasks.deliver("ErrorManager", "add", b"\xc1", "f", 1, 0),
        MessageError,
        r"activity cannot be read",
    ),
    "message of no verb": (
        lambda: chunk_tasks.deliver("ErrorManager", "burn", BODY, "f", 1, 0),
        UnknownName,
        r"no fan-out of kind 'burn'; it knows add, remove",
    ),
    "message of no audience": (
        lambda: read_chunk(pack(["mob", "fanout.high", 1, "plain", pack([1])])),
        MessageError,
        r"a chunk in the journal is for mob by fanout.high: there are none such",
    ),
    "message of no ids": (
        lambda: read_chunk(pack(["followers", "fanout.high", 1, "plain", b"\xc1"])).user_ids,
        MessageError,
        r"user ids cannot be read",
    ),
    "message of no list": (
        lambda: read_chunk(pack(["followers", "fanout.high", 1, "plain", pack(5)])).user_ids,
        MessageError,
        r"are 5, not a list",
    ),
    "message of one id": (
        lambda: chunk_tasks.copy(FOLLOW, "ErrorManager", pack([1]), "f", 1),
        MessageError,
        r"follow takes a user and a target, not 1 ids",
    ),
}


@pytest.mark.parametrize("case", list(CASES))
def test_a_mistake_is_told(case: str) -> None:
    """The mistake raises its own error, which says what is wrong and what to do, and nothing was written."""
    do, error, message = CASES[case]
    with pytest.raises(error, match=message):
        do()
    assert not DATA.flat
    assert not DATA.groups
    assert not DATA.bodies


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://:secret@127.0.0.1:PORT/0", "127.0.0.1:PORT/0"),
        ("redis://secret:secret@127.0.0.1:PORT/0?client_name=secret", "127.0.0.1:PORT/0"),
        ("rediss://secret:secret@127.0.0.1:PORT/0?ssl_cert_reqs=required&ssl_password=secret", "127.0.0.1:PORT/0"),
        ("redis://127.0.0.1:PORT/0?password=secret", "127.0.0.1:PORT/0"),
        ("unix://secret:secret@/nowhere/redis.sock?db=3", "/nowhere/redis.sock"),
        ("unix:///nowhere/redis.sock?password=secret", "/nowhere/redis.sock"),
    ],
)
def test_no_server(url: str, place: str) -> None:
    """A Redis that is not there is named, however it is reached, without its user, password and options."""
    port = str(free_port())
    feedmill.configure(redis_url=url.replace("PORT", port))
    with pytest.raises(StorageError, match=r"Redis at .*Check FEEDMILL_REDIS_URL") as caught:
        Home(1).count()
    assert f"Redis at {place.replace('PORT', port)}: " in str(caught.value)
    assert ".." not in str(caught.value)
    assert "secret" not in str(caught.value)
