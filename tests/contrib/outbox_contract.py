"""What holds of every outbox, whatever keeps its rows. Each function that begins with ``check_`` is run on each kind."""

from __future__ import annotations

import contextlib
import datetime as dt
import random
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import feedmill
from feedmill import Activity, Manager
from feedmill.contrib import outbox as core
from feedmill.contrib.outbox import Outbox
from feedmill.errors import (
    ActivityError,
    BatchError,
    FeedmillError,
    MessageError,
    StorageError,
    UnknownName,
    WrongType,
)
from feedmill.feeds import RedisFeed, RedisNotificationFeed
from feedmill.manager import deferral
from feedmill.storage import procedures
from feedmill.storage.memory import DATA
from feedmill.verbs import Comment, Love
from tests.spans import tracing_to_memory

START = dt.datetime(2024, 1, 1, 12, tzinfo=dt.timezone.utc)


class Remark(Activity):
    @property
    def words(self) -> Any:
        return self.extra_context["words"]


class Home(RedisFeed):
    key_format = "outbox:home:%(user_id)s"
    activity_class = Remark


class Own(RedisFeed):
    key_format = "outbox:own:%(user_id)s"


class Notes(RedisNotificationFeed):
    key_format = "outbox:notes:%(user_id)s"
    count_format = "outbox:notes:%(user_id)s:count"


class Club(Manager):
    name = "outbox_club"
    feed_classes = {"home": Home}
    user_feed_class = Own
    notification_feed_class = Notes
    fanout_chunk_size = 3

    def get_user_follower_ids(self, user_id: Any) -> Any:
        return ["fan", "other"]

    def get_user_following_ids(self, user_id: Any) -> Any:
        return ["ann", "bob"]

    def get_recipient_ids(self, activity: Activity) -> Any:
        return () if activity.target_id is None else (activity.target_id,)


class Counting(Club):
    name = "outbox_counting"
    calls = list[Any]()

    def add_activity(self, activity: Activity) -> Any:
        self.calls.append(activity)
        return super().add_activity(activity)


club = Club()


class Kind(ABC):
    """One kind of outbox, and how an app uses it."""

    outbox: Outbox

    @abstractmethod
    def transaction(self) -> AbstractContextManager[None]:
        """A transaction that is committed, or rolled back if the block raises."""

    @abstractmethod
    def savepoint(self) -> AbstractContextManager[None]:
        """A savepoint in it."""

    @abstractmethod
    def outside(self) -> AbstractContextManager[bool]:
        """What is done outside a transaction; whether there is such a thing."""

    def empty(self) -> None:
        """No rows, and no claims."""
        claims = self.ask(self.outbox._claims, [row.lane for row in self.outbox.rows(limit=10_000)])
        self.ask(self.outbox._delete_claims, [each.lane for each in claims], None, None)
        for row in [*self.outbox.rows(limit=10_000), *self.outbox.rows(dead=True, limit=10_000)]:
            self.outbox.discard(row.id)
        self.outbox._left_until = 0.0
        assert self.outbox.counts()[:2] == (0, 0)

    def ask(self, function: Callable[..., Any], *args: Any) -> Any:
        """One step of the outbox's own."""
        return procedures.run(self.outbox._ask(function, *args))


class Undo(Exception):
    """Ends a transaction."""


def act(number: int = 1, actor: Any = "ann", **more: Any) -> Activity:
    return Activity(actor, Love, number, time=START + dt.timedelta(minutes=number), **more)


def home(user: Any = "fan") -> list[Any]:
    return [(each.actor_id, each.object_id) for each in Home(user)[:]]


@contextlib.contextmanager
def away(error: type[Exception] = StorageError) -> Iterator[None]:
    """While the block runs nothing can be stored."""

    def refuse(*_: Any) -> Any:
        raise error("it is away")
        yield

    with mock.patch.object(deferral, "made", refuse), mock.patch.object(deferral, "made_together", refuse):
        yield


@contextlib.contextmanager
def later(kind: Kind, seconds: float) -> Iterator[None]:
    """The clock of the database is ahead."""
    clock = kind.outbox._clock
    with mock.patch.object(kind.outbox, "_clock", lambda db: clock(db) + seconds):
        yield


def dying(kind: Kind) -> AbstractContextManager[Any]:
    """The process ends where it would delete what it relayed."""
    return mock.patch.object(kind.outbox, "_delete", side_effect=RuntimeError("killed"))


@contextlib.contextmanager
def seen() -> Iterator[list[tuple[str, Any]]]:
    """The calls that are made, in order, each as its method and what it is about."""
    made, together, calls = deferral.made, deferral.made_together, list[tuple[str, Any]]()

    def one(manager: str, method: str, given: Any) -> Any:
        calls.append((method, given[-1] if method in ("notify", "unnotify") else given[0]))
        return (yield from made(manager, method, given))

    def many(manager: str, activities: Any) -> Any:
        calls.extend(("add_activity", each) for each in activities)
        return (yield from together(manager, activities))

    with mock.patch.object(deferral, "made", one), mock.patch.object(deferral, "made_together", many):
        yield calls


def check_committed(kind: Kind) -> None:
    """What a committed transaction asked for is delivered, and not before; the handle tells how it stands."""
    with kind.transaction():
        handle = club.add_activity(act())
        status = handle.status()
        assert (status.finished, status.op, status.manager) == (False, "add", "outbox_club") and home() == []
    assert home() == [("ann", 1)] and handle.wait(5).reached == 2
    assert handle.activity_id == act().id and kind.outbox.counts() == (0, 0, 0.0)
    assert club.add_activity(act()).id == handle.id


def check_rolled_back(kind: Kind) -> None:
    """What a transaction asked for that is rolled back never happened."""
    with contextlib.suppress(Undo), kind.transaction():
        handle = club.add_activity(act())
        raise Undo
    assert kind.outbox.relay() == 0 and home() == []
    status = handle.status()
    assert status.finished and status.cancelled and "rolled back" in status.error
    with kind.transaction():
        club.add_activity(act(2))
    assert home() == [("ann", 2)]


def check_savepoints(kind: Kind) -> None:
    """A savepoint that is rolled back takes along what was asked for in it, and nothing else."""
    with kind.transaction():
        first = club.add_activity(act(1))
        with contextlib.suppress(Undo), kind.savepoint():
            second = club.add_activity(act(2, "bob"))
            with kind.savepoint():
                inner = club.add_activity(act(3, "cleo"))
            raise Undo
        with kind.savepoint():
            third = club.add_activity(act(4, "dan"))
    assert home() == [("dan", 4), ("ann", 1)]
    assert [each.status().cancelled for each in (first, second, inner, third)] == [False, True, True, False]
    with contextlib.suppress(Undo), kind.transaction():
        with kind.savepoint():
            lost = club.add_activity(act(5))
        raise Undo
    assert lost.status().cancelled and len(home()) == 2


def check_traces(kind: Kind) -> None:
    """What comes of a row belongs to the trace of the request that wrote it, whoever relays it, together with which others; and to
    none if that was not sampled."""
    off = TracerProvider(sampler=ALWAYS_OFF).get_tracer("app")
    with tracing_to_memory(Club.name) as traces:
        requests = []
        with away():
            for number in range(3):
                with traces.tracer.start_as_current_span("POST") as request, kind.transaction():
                    club.add_activity(act(number))
                    club.follow(f"zoe{number}", "ann")
                requests.append(request)
            with off.start_as_current_span("POST"), kind.transaction():
                club.add_activity(act(3))
        with traces.tracer.start_as_current_span("of somebody else") as other:
            kind.outbox._left_until = 0.0
            with later(kind, 60):
                assert kind.outbox.relay() == 7
        assert len(home()) == 4 and traces.spans(other) == []
        for request in requests:
            names = traces.names(request)
            assert names.count("record") == names.count("accept") == 2 and names.count("plan") == 1, names
            recorded, accepted = (traces.spans(request, each) for each in ("record", "accept"))
            assert {each.parent.span_id for each in accepted} == {each.context.span_id for each in recorded}  # type: ignore[union-attr]
        assert len(traces.spans(name="accept")) == 6
    with kind.transaction():
        club.add_activity(act(9))
    assert len(home()) == 5


def everything() -> None:
    """All that can be asked of a manager, once."""
    old = [act(number, extra_context={"words": f"{number}"}) for number in range(1, 9)]
    club.add_activities(old)
    club.add_activity(act(20, "bob", target="gus"))
    club.batch_import("cleo", [act(number, "cleo") for number in range(30, 35)], chunk_size=2)
    club.update_activity(old[0].replace(extra_context={"words": "new"}))
    club.remove_activity(old[1])
    club.remove_activities([old[2], old[3].id])
    club.remove_object(5)
    club.notify(["x", "y", "z", "u"], old[5])
    club.unnotify(["y"], old[5])
    club.follow("zoe", "ann")
    club.follow_many("yan", ["ann", "bob"], limit=1)
    club.unfollow("zoe", "bob")
    club.unfollow_many("yan", ["bob"])
    club.remove_actor("other", "cleo")
    club.rebuild("vic")
    club.add_activity(act(40, "leo"))
    club.delete_user("leo")
    club.add_activity(act(41, "leo"))


USERS = ("fan", "other", "ann", "bob", "cleo", "gus", "x", "y", "z", "u", "zoe", "yan", "vic", "leo")


def contents() -> Any:
    """What is in all feeds."""
    flat = [[(a.id, dict(a.extra_context)) for a in feed(user)[:]] for user in USERS for feed in (Home, Own)]
    notes = [[([a.id for a in g.activities], g.is_seen) for g in Notes(user)[:]] for user in USERS]
    return flat, notes


def check_everything(kind: Kind) -> None:
    """Each method that writes does the same behind a transaction as without an outbox, whether relayed at once or by a sweep."""
    outbox = deferral._of_process
    deferral.use(None)
    everything()
    deferral.use(outbox)
    wanted = contents()
    assert wanted[0][0] and wanted[1][5]
    for sweep in (False, True):
        DATA.clear()
        with away() if sweep else contextlib.nullcontext():
            with kind.transaction():
                everything()
            if sweep:
                assert contents() != wanted and kind.outbox.counts().waiting > 20
        with later(kind, 30):
            for _ in range(5):  # what waits for others is relayed by the next
                kind.outbox.relay()
        assert kind.outbox.counts()[:2] == (0, 0), [str(each) for each in kind.outbox.rows()]
        assert contents() == wanted


def check_order(kind: Kind) -> None:
    """The last word about an activity counts, in one transaction and in several that wait."""
    for words in ("ar", "ara", "arar", "aura", "ra"):
        for apart in (False, True):
            DATA.clear()
            with away() if apart else contextlib.nullcontext(), contextlib.ExitStack() as stack:
                if not apart:
                    stack.enter_context(kind.transaction())
                for word in words:
                    with kind.transaction() if apart else contextlib.nullcontext():
                        call = {"a": club.add_activity, "r": club.remove_activity, "u": club.update_activity}[word]
                        call(act(1, extra_context={"words": "u"}))
                    kind.outbox._left_until = 0.0
            with later(kind, 30):
                kind.outbox.relay()
            assert kind.outbox.counts()[:2] == (0, 0)
            assert home() == ([("ann", 1)] if words[-1] == "a" else []), (words, apart)


def check_outage(kind: Kind) -> None:
    """While the storage is away commits go through, quickly; afterwards a sweep delivers what waits."""
    with away():
        with kind.transaction():
            handle = club.add_activity(act(1))
        (row,) = kind.outbox.rows()
        assert (row.attempts, row.error, row.dead) == (0, "StorageError: it is away", False)
        with kind.transaction(), seen() as calls:  # it does not try again so soon
            club.add_activity(act(2, "bob"))
        assert calls == [] and [bool(row.error) for row in kind.outbox.rows()] == [True, False]
        status = handle.status()
        assert not status.finished and status.failed == 0 and "away" in status.error
        for number in range(20):
            with later(kind, 100 * number):
                kind.outbox.relay()
    assert kind.outbox.counts()[:2] == (2, 0)  # however long it takes
    failing = {"side_effect": RuntimeError("once")}
    with (
        mock.patch.multiple(deferral, made=mock.Mock(**failing), made_together=mock.Mock(**failing)),
        later(kind, 2900),
    ):
        kind.outbox.relay()
    assert [row.attempts for row in kind.outbox.rows()] == [1, 1]  # an outage is not counted among the attempts
    with later(kind, 3000):
        assert kind.outbox.relay() == 2
    assert home() == [("bob", 2), ("ann", 1)] and handle.wait(5).reached == 2


def check_slow(kind: Kind) -> None:
    """A commit does not wait long: what takes longer is left to a sweep."""
    made = deferral.made

    def slow(*given: Any) -> Any:
        time.sleep(0.05)
        return (yield from made(*given))

    together = mock.Mock(side_effect=WrongType("one of them"))
    slowly = mock.patch.multiple(deferral, made=slow, made_together=together)
    with slowly, mock.patch.object(core, "COMMIT_TIME", 0.2), kind.transaction():
        for number in range(12):
            club.add_activity(act(number, f"author{number}"))
            club.remove_object(99)
    assert 1 <= kind.outbox.counts().waiting < 24 and home()
    for _ in range(3):
        kind.outbox.relay()
    assert len(home()) == 12 and kind.outbox.counts()[:2] == (0, 0)


def check_outside(kind: Kind) -> None:
    """Outside a transaction a call is relayed at once, and waits if it cannot be."""
    with kind.outside() as possible:
        if not possible:
            return
        handle = club.add_activity(act(1))
        assert home() == [("ann", 1)] and handle.status().finished
        with away():
            club.add_activity(act(2))
        assert home() == [("ann", 1)]
        with later(kind, 30):
            assert kind.outbox.relay() == 1
        assert home() == [("ann", 2), ("ann", 1)]


def check_hopeless(kind: Kind) -> None:
    """What can never be relayed is given up at once, holds up nobody, and waits for an operator."""
    made = deferral.made

    def bad(manager: str, method: str, given: Any) -> Any:
        if getattr(given[0], "object_id", 0) == 1 and method == "update_activity":
            raise ActivityError("no group")
        return (yield from made(manager, method, given))

    with mock.patch.object(deferral, "made", bad):
        with kind.transaction():
            club.add_activity(act(1))
            handle = club.update_activity(act(1, extra_context={"words": "x"}))
            club.add_activity(act(2))
            club.add_activity(act(3, "bob"))
        assert home() == [("bob", 3), ("ann", 2), ("ann", 1)]
        status = handle.status()
        assert status.finished and status.dead == f"outbox:{handle.row_id}" and "no group" in status.error
        (row,) = kind.outbox.rows(dead=True)
        assert "update_activity(<Activity ann loved 1" in str(row) and kind.outbox.counts()[:2] == (0, 1)
        assert kind.outbox.retry([row.id]) == 1 and kind.outbox.counts()[:2] == (0, 1)
    assert kind.outbox.retry() == 1 and kind.outbox.counts()[:2] == (0, 0)
    assert Home("fan")[2].extra_context == {"words": "x"}


def check_errors_of_any_text(kind: Kind) -> None:
    """An error is kept although PostgreSQL has no place in a text for a NUL, and no database for what has no UTF-8."""
    for error in (UnknownName("no \0\udc80 here"), MessageError("no \0\udc80 here")):  # tried again, and given up
        with mock.patch.object(deferral, "made", side_effect=error), kind.transaction():
            club.remove_activity(act(1).id)
        (row,) = kind.outbox.rows(dead=isinstance(error, MessageError))
        assert row.error == f"{type(error).__name__}: no \\0\\udc80 here" and row.attempts == 1
        assert kind.outbox.discard(row.id)


def check_replaced(kind: Kind) -> None:
    """What was given up is forgotten when a later call about the same takes its place."""
    made = deferral.made

    def bad(manager: str, method: str, given: Any) -> Any:
        if method != "remove_activity":
            raise MessageError("no")
        return (yield from made(manager, method, given))

    with mock.patch.object(deferral, "made", bad):
        for call in (club.add_activity, club.update_activity, lambda a: club.notify(["x"], a)):
            with kind.transaction():
                call(act(1))  # type: ignore[no-untyped-call]
        with kind.transaction():
            club.follow("zoe", "ann")
            club.add_activity(act(2))
        assert kind.outbox.counts()[:2] == (0, 5)
        with kind.transaction():
            club.remove_activity(act(1))
    assert [row.method for row in kind.outbox.rows(dead=True)] == ["follow", "add_activity"]
    with kind.transaction():
        club.unfollow("zoe", "ann")
        club.add_activity(act(2))
    assert kind.outbox.counts()[:2] == (0, 0)


def check_attempts(kind: Kind) -> None:
    """What fails for a reason that may heal is tried again, later and later; others do not wait for it."""
    made = deferral.made

    def bad(manager: str, method: str, given: Any) -> Any:
        if given[0] == act(1) and method == "add_activity":
            raise UnknownName("this release does not know it")
        return (yield from made(manager, method, given))

    def all_bad(manager: str, activities: Any) -> Any:
        raise WrongType("one of them")
        yield

    with mock.patch.object(deferral, "made", bad), mock.patch.object(deferral, "made_together", all_bad):
        with kind.transaction():
            club.add_activity(act(1))
            club.add_activity(act(2, "bob"))
            club.remove_activity(act(1))
        assert home() == [("bob", 2)]
        (first, _) = kind.outbox.rows()
        assert "this release" in first.error and first.attempts == 1
        with later(kind, 2):
            assert kind.outbox.relay() == 0
        assert kind.outbox.rows()[0].attempts == 2
        for number in range(20):
            with later(kind, 1000 * (number + 1)):
                kind.outbox.relay()
    assert kind.outbox.counts()[:2] == (
        0,
        0,
    )  # it was given up; the removal behind it took its place, with nothing to do


def check_claims(kind: Kind) -> None:
    """A lane that somebody relays is left to them until their lease is over; they relay what was committed meanwhile."""
    with away(), kind.transaction():
        club.add_activity(act(1))
        club.add_activity(act(2, "bob"))
    kind.outbox._left_until = 0.0
    lane = next(row.lane for row in kind.outbox.rows() if "bob" in str(row))
    now = kind.ask(kind.outbox._clock)
    kind.ask(kind.outbox._insert_claims, [lane], "somebody", now + 60)
    with later(kind, 30):
        assert kind.outbox.relay() == 1 and home() == [("ann", 1)]
    with kind.transaction():
        handle = club.add_activity(act(3, "bob"))
    assert home() == [("ann", 1)] and not handle.status().finished and not handle.cancel()
    with later(kind, 61):
        assert kind.outbox.relay() == 2
    assert home() == [("bob", 3), ("bob", 2), ("ann", 1)]

    add, done = deferral.made, list[int]()

    def slow(manager: str, method: str, given: Any) -> Any:
        """While it is relayed, another process commits more for the same lane."""
        if not done:
            done.append(1)
            rows = kind.outbox.rows()
            assert len(rows) == 1
            call = deferral._addition(club, act(5, "bob"))
            kind.ask(kind.outbox._insert, [call], kind.ask(kind.outbox._clock))
            procedures.run(kind.outbox.relay_lanes([call.lane]))
            assert ("bob", 5) not in home()
        return (yield from add(manager, method, given))

    with mock.patch.object(deferral, "made", slow), kind.transaction():
        club.add_activity(act(4, "bob"))
    assert home()[:2] == [("bob", 5), ("bob", 4)] and kind.outbox.counts()[:2] == (0, 0)


def check_stalled(kind: Kind) -> None:
    """A process that stood still for longer than its lease relays nothing more when it goes on."""
    ask, stalled = kind.outbox._rows, list[float]()

    def rows(*args: Any) -> Any:
        found = ask(*args)
        stalled.append(1)
        return found

    monotonic = time.monotonic
    with mock.patch.object(kind.outbox, "_rows", rows), kind.transaction():
        club.add_activity(act(1))
        stand = mock.patch.object(core.time, "monotonic", side_effect=lambda: monotonic() + 100 * len(stalled))
        stand.start()
    stand.stop()
    assert stalled and home() == [] and kind.outbox.counts()[:2] == (1, 0)
    assert kind.outbox.relay() == 1 and home() == [("ann", 1)]


def check_barrier(kind: Kind) -> None:
    """What removes all about an object waits for what was asked for before, and what comes later waits for it."""
    with away(), kind.transaction():
        club.add_activity(act(1))
        club.remove_object(1)
        club.add_activity(act(1, "bob"))
    with seen() as calls, later(kind, 30):
        for _ in range(3):
            kind.outbox.relay()
    assert [method for method, _ in calls] == ["add_activity", "remove_object", "add_activity"]
    assert home() == [("bob", 1)] and kind.outbox.counts()[:2] == (0, 0)

    with away(), kind.transaction():
        club.add_activity(act(2, "cleo"))
        club.remove_object(2)
    kind.outbox._left_until = 0.0
    lane, now = kind.outbox.rows()[0].lane, kind.ask(kind.outbox._clock)
    kind.ask(kind.outbox._insert_claims, [lane], "somebody", now + 60)
    with seen() as calls, later(kind, 30), kind.transaction():
        club.add_activity(act(2, "dan"))
    with seen() as more, later(kind, 30):
        assert kind.outbox.relay() == 0 and not calls and not more
    with later(kind, 61):
        for _ in range(3):
            kind.outbox.relay()
    assert home() == [("dan", 2), ("bob", 1)] and kind.outbox.counts()[:2] == (0, 0)


def check_barrier_behind_failures(kind: Kind) -> None:
    """A row that fails holds up its lane, and neither what removes all about something nor what comes behind that; but
    what somebody did comes before their deletion."""
    made = deferral.made

    def bad(manager: str, method: str, given: Any) -> Any:
        if getattr(given[0], "actor_id", "") in ("ann", 5):
            raise UnknownName("not in this release")
        return (yield from made(manager, method, given))

    together = mock.Mock(side_effect=WrongType("one of them"))
    with mock.patch.multiple(deferral, made=bad, made_together=together):
        for call in (
            lambda: club.add_activity(act(1)),
            lambda: club.add_activity(act(2)),
            lambda: club.remove_object(9),
        ):
            with kind.transaction():
                call()  # type: ignore[no-untyped-call]
        with kind.transaction():
            club.remove_actor("fan", "cleo")
            club.delete_user("bob")
            club.add_activity(act(3, "dan"))
        assert home() == [("dan", 3)]
        assert [(row.method, row.attempts) for row in kind.outbox.rows()] == [("add_activity", 1), ("add_activity", 0)]
        for number, user in ((4, "ann"), (5, 5)):
            with kind.transaction():
                club.add_activity(act(number, user))
                club.delete_user(str(user))
                club.add_activity(act(number, "eve"))
        with later(kind, 30):
            kind.outbox.relay()
        assert home() == [("dan", 3)]
    for _ in range(3):
        with later(kind, 60):
            kind.outbox.relay()
    assert home() == [("eve", 5), ("eve", 4), ("dan", 3)] and kind.outbox.counts()[:2] == (0, 0)


def check_killed(kind: Kind) -> None:
    """A process that dies between a call and the deletion of its row changes nothing: it is made once more, and only the last."""
    with away(), kind.transaction():
        for number in range(3):
            club.add_activity(act(number))
        club.remove_activity(act(1))
        club.notify(["x"], act(2))
    deleted = kind.outbox._delete
    for _ in range(4):
        with seen() as calls, contextlib.suppress(RuntimeError), later(kind, 30), dying(kind):
            kind.outbox.relay()
        assert len({each for _, each in calls}) == len(calls) >= 1
        assert kind.outbox.counts().waiting >= 1
    with later(kind, 100), mock.patch.object(kind.outbox, "_delete", deleted):
        kind.outbox.relay()
    assert home() == [("ann", 2), ("ann", 0)] and Notes("x")[:][0].activity_count == 1
    assert kind.outbox.counts()[:2] == (0, 0)


def check_values(kind: Kind) -> None:
    """Ids of all types, contexts and subclasses survive; what cannot be is refused at once, and nothing is written."""
    key, context = uuid.uuid4(), {"words": ["a", 1, None, {"x": b"\0"}], "at": START, "id": uuid.uuid4()}
    given = Remark(5, Comment, key, "album:7", START, context)
    with kind.transaction():
        club.add_activity(given)
    (found,) = Home("fan")[:]
    assert type(found) is Remark and found.words == context["words"] and dict(found.extra_context) == context
    assert (found.actor_id, found.object_id, found.target_id, found.time) == (5, key, "album:7", START)
    with kind.transaction():
        for call in (
            lambda: club.add_activity("no"),  # type: ignore[arg-type]
            lambda: club.add_activity(act(1).replace(time=dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=2))),
            lambda: club.remove_activity("no"),
            lambda: club.follow("ann", "ann"),
            lambda: club.follow("ann", "bob", 0),
            lambda: club.notify("ann", act(1)),
            lambda: club.remove_actor("ann", "ann"),
            lambda: club.delete_user(object()),  # type: ignore[arg-type]
            lambda: club.batch_import("ann", [act(1)], chunk_size=0),
        ):
            with pytest.raises(FeedmillError):
                call()
        for call in (club.add_activities, club.remove_activities):
            with pytest.raises(BatchError) as caught:
                call([act(7), "no"])  # type: ignore[operator]
            assert [place for place, _, _ in caught.value.refused] == [1]
            assert not caught.value.fanouts.status().finished
        assert list(club.notify([], act(1))) == [] and list(club.add_activities([])) == []
    assert kind.outbox.counts()[:2] == (0, 0) and len(home()) == 1


def check_future(kind: Kind) -> None:
    """An activity that is dated now instead of ahead is the same however often it is relayed."""
    feedmill.configure(clamp_future=True)
    with away(), kind.transaction():
        handle = club.add_activity(act(1).replace(time=dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=2)))
    with contextlib.suppress(RuntimeError), later(kind, 30), dying(kind):
        kind.outbox.relay()
    with later(kind, 99):
        kind.outbox.relay()
    assert [each.id for each in Home("fan")[:]] == [handle.activity_id]


def check_overrides(kind: Kind) -> None:
    """An override is called when the app calls it, and not again when its call is relayed."""
    counting = Counting()
    Counting.calls.clear()
    with away(), kind.transaction():
        counting.add_activity(act(1))
        counting.add_activities([act(2), act(3, "bob")])
    with later(kind, 30):
        kind.outbox.relay()
    assert Counting.calls == [act(1), act(2), act(3, "bob")] and len(home()) == 3


def check_cancel(kind: Kind) -> None:
    """What waits can be cancelled, in the transaction and after it."""
    with kind.transaction():
        assert club.add_activity(act(1)).cancel()
        kept = club.add_activity(act(2))
    with away(), kind.transaction():
        waiting = club.add_activities([act(3), act(4)])
    assert waiting.cancel() == 2 and waiting.cancel() == 0 and not kept.cancel()
    with later(kind, 30):
        kind.outbox.relay()
    assert home() == [("ann", 2)]


def check_unknown(kind: Kind) -> None:
    """To remove or update what is not there is nothing to do, as it may be gone by the time."""
    with kind.transaction():
        club.remove_activity(act(1).id)
        club.update_activity(act(2))
        club.add_activity(act(3))
    assert home() == [("ann", 3)] and kind.outbox.counts()[:2] == (0, 0)


def check_update_or_add(kind: Kind) -> None:
    """An update that is to add what it does not find does so once, also when it is relayed again, and takes the place of what was
    given up before; a later removal holds."""
    with kind.transaction(), deferral.added_if_unknown(act(1)):
        handle = club.update_activity(act(1, extra_context={"words": "x"}))
        club.update_activity(act(2))
    assert home() == [("ann", 1)] and handle.status().finished
    with dying(kind), kind.transaction(), deferral.added_if_unknown(act(1)):
        club.update_activity(act(1, extra_context={"words": "y"}))
    with later(kind, 60):
        kind.outbox.relay()
    assert [each.extra_context for each in Home("fan")[:]] == [{"words": "y"}] and kind.outbox.counts()[:2] == (0, 0)
    with mock.patch.object(deferral, "made", side_effect=MessageError("no")):
        for call in (club.remove_activity, club.update_activity):
            with kind.transaction():
                call(act(1))  # type: ignore[operator]
    assert kind.outbox.counts()[:2] == (0, 2)
    with kind.transaction(), deferral.added_if_unknown(act(1)):
        club.update_activity(act(1))
    assert kind.outbox.counts()[:2] == (0, 0) and home() == [("ann", 1)]
    with kind.transaction():
        with deferral.added_if_unknown(act(1)):
            club.update_activity(act(1))
        club.remove_activity(act(1))
    assert home() == [] and kind.outbox.counts()[:2] == (0, 0)


def check_damaged(kind: Kind) -> None:
    """A row that nobody can read is given up, and harms no other."""
    call = deferral._addition(club, act(1))
    now = kind.ask(kind.outbox._clock)
    bad = [call._replace(payload=b"\xc1"), call._replace(method="nothing"), call._replace(payload=b"\x91\xc4\x01x")]
    bad = [each._replace(subject="another") for each in bad]
    kind.ask(kind.outbox._insert, [*bad, call, call._replace(manager="nobody")], now)
    kind.outbox.relay()
    assert home() == [("ann", 1)] and kind.outbox.counts()[:2] == (1, 3)
    assert all(row.error for row in kind.outbox.rows(dead=True)) and "nobody" in kind.outbox.rows()[0].error


def check_side_by_side(kind: Kind) -> None:
    """Several relays at once make the calls of a lane one after the other, in order, each once."""
    dice, running, order = random.Random(5), set[str](), dict[str, list[int]]()
    made, together, guard = deferral.made, deferral.made_together, threading.Lock()
    broken = list[str]()

    def watch(activities: Any) -> None:
        for actor in {each.actor_id for each in activities}:
            with guard:
                if actor in running:
                    broken.append(f"two at once for {actor}")
                running.add(actor)
        time.sleep(dice.random() / 200)
        for each in activities:
            with guard:
                order.setdefault(each.actor_id, []).append(each.object_id)
                running.discard(each.actor_id)

    def one(manager: str, method: str, given: Any) -> Any:
        watch([given[0]])
        return (yield from made(manager, method, given))

    def many(manager: str, activities: Any) -> Any:
        watch(activities)
        return (yield from together(manager, activities))

    actors = [f"actor{number}" for number in range(4)]

    def work(worker: int) -> None:
        for number in range(10):
            with kind.transaction():
                for actor in dice.sample(actors, 2):
                    club.add_activity(act(worker * 100 + number, actor))
            if number % 4 == 0:
                with contextlib.suppress(Exception):  # a database may be busy: a later relay does it
                    kind.outbox.relay()

    if not threads_can(kind):
        return
    with mock.patch.object(deferral, "made", one), mock.patch.object(deferral, "made_together", many):
        threads = [threading.Thread(target=finishing, args=(kind, work, worker)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        kind.outbox._left_until = 0
        for _ in range(20):
            kind.outbox.relay()
    assert broken == [] and kind.outbox.counts()[:2] == (0, 0)
    for actor in actors:
        for worker in range(4):
            own = [number for number in order[actor] if number // 100 == worker]
            assert own == sorted(own) and len(own) == len({*own}), (actor, own)
    assert len(home()) == sum(map(len, order.values()))


def threads_can(kind: Kind) -> bool:
    """Whether several threads can use the database at once."""
    return bool(getattr(kind, "threads", True))


def finishing(kind: Kind, work: Callable[[int], None], worker: int) -> None:
    """Do *work* in a thread, and leave no connection behind."""
    try:
        work(worker)
    finally:
        getattr(kind, "leave_thread", lambda: None)()


CHECKS: dict[str, Callable[[Kind], None]] = {
    name.removeprefix("check_"): function for name, function in list(globals().items()) if name.startswith("check_")
}


def run(kind: Kind, name: str) -> None:
    """Run one check, with feeds in memory and no rows."""
    feedmill.configure(redis_url="memory://", broker_url="", celery_app="feedmill.tasks:app", clamp_future=False)
    DATA.clear()
    kind.empty()
    try:
        CHECKS[name](kind)
    finally:
        feedmill.configure(clamp_future=False)
        DATA.clear()
        kind.empty()


__all__ = ["CHECKS", "Kind", "run"]
