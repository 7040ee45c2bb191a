"""The journal when something goes wrong: whatever opens, hands over or ends work takes effect whole, or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from click.testing import CliRunner

import feedmill
from feedmill.cli.main import main
from feedmill.doctor import examine
from feedmill.errors import ArgumentError, StorageError, WrongType
from feedmill.fanout.handle import Fanout
from feedmill.keys import (
    bucket_key,
    clock_key,
    dead_letters_key,
    due_key,
    fanout_record_key,
    pending_key,
    taken_key,
    wakeup_key,
)
from feedmill.storage.journal import Claim, NotBegun, RateLimit
from feedmill.storage.memory import DATA
from feedmill.storage.memory import data as memory
from feedmill.storage.registry import backend
from feedmill.worker import dead_letters, drain
from tests.doctor.fixtures import DoctorManager
from tests.fake_broker import FakeBroker, make_overdue, replaced
from tests.feeds.samples import News, on_day
from tests.test_journal import JournalManager
from tests.test_scripts import alike, alone, full, read_only, restore, state

NAME = "Faulty"
ONE = f"{NAME}:one"


def run(operation: Any) -> Any:
    return backend().run(operation)


def server() -> redis.Redis:
    client: redis.Redis = backend().client  # type: ignore[attr-defined]
    return client


def opened(op: str = "add") -> None:
    run(backend().journal.open(NAME, ONE, op, b"body", feeds=["home"]))


def claimed(op: str = "add") -> Claim:
    """A fan-out that somebody works on."""
    opened(op)
    make_overdue(NAME)
    (claim,), _ = run(backend().journal.claim(NAME, 10))
    found: Claim = claim
    return found


def planned() -> Claim:
    """One whose chunks are written down."""
    found: Claim = run(backend().journal.renew(NAME, claimed(), {0: b"a", 1: b"b"}))
    return found


def parked() -> Claim:
    """One of whose two chunks one is done."""
    claim = planned()
    run(backend().journal.await_chunks(NAME, claim, 2, 60, 2))
    run(backend().journal.end_chunk(NAME, claim.id, claim.generation, 0, 3))
    return claim


#: An operation, and what was before.
Prepared = Callable[[], Callable[[], Any]]
OPERATIONS: dict[str, Prepared] = {
    "open": lambda: lambda: backend().journal.open(NAME, ONE, "add", b"body"),
    "open again": lambda: (claimed(), lambda: backend().journal.open(NAME, ONE, "remove", b"body"))[1],
    "open one that is sent": lambda: lambda: backend().journal.open(NAME, ONE, "follow", b"body", sent=True),
    "claim": lambda: (opened(), lambda: backend().journal.claim(NAME, 10))[1],
    "claim what died in its plan": lambda: (planned(), make_overdue(NAME), lambda: backend().journal.claim(NAME, 10))[
        2
    ],
    "wake_if_overdue": lambda: (opened(), make_overdue(NAME), lambda: backend().journal.wake_if_overdue(NAME))[2],
    "finish": lambda: (lambda claim: lambda: backend().journal.finish(NAME, [(claim, 3)]))(claimed()),
    "renew": lambda: (lambda claim: lambda: backend().journal.renew(NAME, claim, {0: b"a"}))(claimed()),
    "await_chunks": lambda: (lambda claim: lambda: backend().journal.await_chunks(NAME, claim, 2, 60, 2))(planned()),
    "end_chunk": lambda: (lambda claim: lambda: backend().journal.end_chunk(NAME, ONE, claim.generation, 0, 3))(
        planned()
    ),
    "end_chunk with the last": lambda: (
        lambda claim: lambda: backend().journal.end_chunk(NAME, ONE, claim.generation, 1, 3)
    )(parked()),
    "postpone": lambda: (lambda claim: lambda: backend().journal.postpone(NAME, claim, 5, error="why"))(claimed()),
    "record_error": lambda: (lambda claim: lambda: backend().journal.record_error(ONE, claim.generation, "why"))(
        claimed()
    ),
    "dead_letter": lambda: (lambda claim: lambda: backend().journal.dead_letter("why", b"x", NAME, claim))(claimed()),
    "cancel": lambda: (planned(), lambda: backend().journal.cancel(ONE))[1],
    "begin_chunk": lambda: (lambda claim: lambda: backend().journal.begin_chunk(ONE, claim.generation, 0))(planned()),
}


@pytest.mark.parametrize("refusal", [full, alone, read_only])
@pytest.mark.parametrize("prepared", OPERATIONS.values(), ids=OPERATIONS)
def test_what_is_refused_changes_nothing(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, prepared: Prepared, refusal: Any
) -> None:
    """An operation that the server refuses leaves the journal as it was, and the next try does all of it."""
    monkeypatch.setattr("feedmill.storage.redis.journal.WAKEUP_TTL", 600_000)
    operation = prepared()
    server().delete(*server().keys("*:wakeup") or ["none"])
    before = alike(state(server()))
    with refusal(server()), pytest.raises(StorageError):
        run(operation())
    assert alike(state(server())) == before
    run(operation())
    assert alike(state(server())) != before


@pytest.mark.parametrize("prepared", [OPERATIONS[name] for name in OPERATIONS], ids=OPERATIONS)
def test_each_step_is_one_round_trip(redis_url: str, prepared: Prepared) -> None:
    """Whatever opens, hands over or ends work is one script; but for a dead letter, which is in another slot."""
    operation = prepared()
    before, calls = backend().round_trips, server().info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)  # type: ignore[attr-defined]
    run(operation())
    assert backend().round_trips - before == 1 + (prepared is OPERATIONS["dead_letter"])  # type: ignore[attr-defined]
    assert server().info("commandstats")["cmdstat_evalsha"]["calls"] == calls + 1


class Lost(Exception):
    """The connection."""


def interrupted(operation: Any, place: int, how: str) -> Iterator[Any]:
    """*operation*, one command at a time; the command number *place* is refused, or lost before or after it took effect."""
    count, replies = 0, None
    while True:
        try:
            wanted = next(operation) if replies is None else operation.send(replies)
        except StopIteration as stop:
            if not count and not place and how == "lost after":  # a storage that has no commands
                raise Lost from None
            return stop.value
        replies = []
        for command in wanted:
            if count == place and how == "lost before":
                raise Lost
            if count == place and how == "refused":
                server().config_set("maxmemory", 1)
            replies += yield [command]
            if count == place and how == "lost after":
                raise Lost
            count += 1


def given_up() -> None:
    dead_letters.dead_letter(NAME, claimed(), "why")


def finished() -> None:
    run(backend().journal.finish(NAME, [(claimed(), 3)]))


def cancelled() -> None:
    claimed()
    run(backend().journal.cancel(ONE))


def updating() -> None:
    claimed("update")


BEFORE: list[Callable[[], Any]] = [lambda: None, opened, claimed, parked, given_up, finished, cancelled, updating]


def outcome() -> Any:
    """What the journal knows of the fan-out, and what who looks gets to do."""
    record = run(backend().journal.get(ONE))
    fields = {
        name: record.get(name) for name in ("op", "planned", "done", "fully_planned", "finished", "cancelled", "dead")
    }
    due = run(backend().journal.list_due(NAME, limit=10)).ids
    make_overdue(NAME)
    claims, _ = run(backend().journal.claim(NAME, 10))
    kept = [(claim.id, claim.op, claim.body, claim.planned, claim.attempts, claim.feeds) for claim in claims]
    chunks = [run(backend().journal.chunks(claim, 0, 100)) for claim in claims]
    return fields, due, kept, chunks, [letter.reason for letter in dead_letters.newest()]


@pytest.mark.parametrize("sent", [False, True])
@pytest.mark.parametrize("op", ["add", "remove", "update"])
@pytest.mark.parametrize("before", BEFORE, ids=lambda each: each.__name__)
def test_asking_again_completes_it(backend_kind: str, before: Callable[[], Any], op: str, sent: bool) -> None:
    """After any fault at any command of an opening, the same call again comes to what one undisturbed call comes to."""

    def begin() -> None:
        DATA.clear() if backend_kind == "memory" else server().flushall()
        before()

    def asked() -> Any:
        return backend().journal.open(NAME, ONE, op, b"new", sent=sent)

    begin()
    run(asked())
    expected, faults = outcome(), 0
    for how in ("lost before", "lost after", "refused")[: 3 if backend_kind == "redis" else 2]:
        for place in range(5):
            begin()
            try:
                run(interrupted(asked(), place, how))
            except (Lost, StorageError):
                faults += 1
            finally:
                if how == "refused":
                    server().config_set("maxmemory", 0)
            run(asked())
            assert outcome() == expected, (how, place)
    assert faults


def test_no_plan_comes_again(redis_url: str) -> None:
    """A replica that takes over and has lost the last claims gives none of their numbers to another plan."""
    opened()
    copied = state(server())
    lost = {run(backend().journal.claim(NAME, 10))[0][0].generation}
    make_overdue(NAME)
    lost.add(run(backend().journal.claim(NAME, 10))[0][0].generation)
    restore(server(), copied)
    again = run(backend().journal.claim(NAME, 10))[0][0].generation
    assert again not in lost and len(lost) == 2
    run(backend().journal.cancel(ONE))
    restore(server(), copied)
    assert run(backend().journal.open(NAME, ONE, "remove", b"")).generation > again


def test_no_number_of_an_unfollow_comes_again(redis_url: str) -> None:
    """Nor does one that has lost the last unfollows hide those that come from whoever has listed followers before."""
    run(backend().auxiliary.unfollows.record_unfollow(NAME, "7", ["1"]))
    copied = state(server())
    for _ in range(3):
        run(backend().auxiliary.unfollows.record_unfollow(NAME, "8", ["1"]))
    listed = run(backend().auxiliary.unfollows.last_number(NAME))
    restore(server(), copied)
    assert run(backend().auxiliary.unfollows.unfollowed_since(NAME, listed, list)) == set()
    run(backend().auxiliary.unfollows.record_unfollow(NAME, "9", ["1"]))
    assert run(backend().auxiliary.unfollows.unfollowed_since(NAME, listed, list)) == {("9", "1")}
    run(backend().auxiliary.unfollows.clear_unfollow(NAME, "9", ["1"]))
    assert run(backend().auxiliary.unfollows.changes_since(NAME, "9", listed)).followed == {"1"}


def test_no_number_of_a_notification_comes_again(redis_url: str) -> None:
    """Whoever has read a direct notification that is lost sees that another came in its place; the last word has the highest number."""
    raw_id = on_day(1).raw_id
    run(backend().auxiliary.notified_users.record(NAME, raw_id, True, {"a": b"x"}))
    copied = state(server())
    run(backend().auxiliary.notified_users.record(NAME, raw_id, True, {"b": b"y"}))
    read = run(backend().auxiliary.notified_users.numbers(NAME, raw_id))
    restore(server(), copied)
    last = run(backend().auxiliary.notified_users.record(NAME, raw_id, False, {"a": b"x"}))
    assert last > read.last and run(backend().auxiliary.notified_users.numbers(NAME, raw_id)).last == last
    words = run(backend().auxiliary.notified_users.notifications(NAME, raw_id))
    assert words.notifications == {"a": (last, False)} and words.numbers.removed == -1
    restore(server(), copied)
    run(backend().auxiliary.notified_users.void(NAME, raw_id))
    assert run(backend().auxiliary.notified_users.numbers(NAME, raw_id)).removed > last


def test_who_finishes_late_drops_nobody_elses_claim(backend_kind: str) -> None:
    """Also where both claimed in the same millisecond."""
    late = claimed()
    make_overdue(NAME)
    (claim,), _ = run(backend().journal.claim(NAME, 10))
    run(backend().journal.finish(NAME, [(late._replace(time=claim.time), 1)]))
    assert run(backend().journal.list_due(NAME, limit=10)).ids == [ONE]
    run(backend().journal.finish(NAME, [(claim, 1)]))
    assert run(backend().journal.list_due(NAME, limit=10)).ids == []


def test_plans_count_on(backend_kind: str) -> None:
    """Each opening and claim has a higher number than the one before, also in the same microsecond or in the past."""
    plans = [run(backend().journal.open(NAME, ONE, "add", b"")).generation for _ in range(20)]
    for _ in range(20):
        make_overdue(NAME)
        plans.append(run(backend().journal.claim(NAME, 10))[0][0].generation)
    assert plans == sorted(set(plans)) and plans[0] > 1.7e15


def test_an_id_says_where_it_is(backend_kind: str) -> None:
    """A fan-out whose id somebody stored is found by that alone; an id of something else is of nothing, and harms nothing."""
    opened()
    for manager in ("a:b", "ü{x}%", "O'Neill"):
        run(backend().journal.open(manager, f"{manager}:one", "add", b""))
        assert Fanout(f"{manager}:one").status().manager == manager
        assert run(backend().journal.list_due(manager, limit=5)).ids == [f"{manager}:one"]
    assert not Fanout(ONE).status().finished
    for junk in ("junk", "", ":", "one", f"{NAME}:", f"{NAME}:two", f"{ONE}:chunks", "f" * 24, "\u00fc{}"):
        assert Fanout(junk).status().finished and not Fanout(junk).cancel()
    with pytest.raises(ArgumentError, match="fan-out 5 is no text; use an id"):
        Fanout(5)  # type: ignore[arg-type]
    assert Fanout(ONE).cancel() and Fanout(ONE).status().cancelled
    for junk in ("one", "Other:one", f"{NAME}:", f"{NAME}:a b", f"{NAME}:{{x}}"):
        with pytest.raises(ArgumentError, match="is none of Faulty's; their ids begin with 'Faulty:'"):
            run(backend().journal.open(NAME, junk, "add", b""))


def set_clock(by: int, backend_kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the server's clock *by* so many milliseconds."""
    if backend_kind == "memory":
        plain = memory.milliseconds
        monkeypatch.setattr(memory, "milliseconds", lambda: plain() + by)
        return
    client = server()  # the clock of a server cannot be set, but all that it has written can
    for key in client.keys("*due:{*}"):
        for name, at in client.zrange(key, 0, -1, withscores=True):
            client.zadd(key, {name: at - by})
    for key in client.keys("*fanout:{*}:*"):
        for field in ("created", "claimed", "finished", "cancelled", "rerun_at", "due"):
            value = client.hget(key, field) if client.type(key) == b"hash" else None
            if value is not None:
                client.hset(key, field, str(float(value) - by).removesuffix(".0"))
    for key in client.keys("*:clock"):
        come, ahead = map(int, client.get(key).split())
        client.set(key, f"{come - by} {ahead}")


def test_the_clock_leaps_ahead(backend_kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was overtaken writes on until their lease is over by their own clock: the removal is done once more after that."""
    feedmill.configure(fanout_lease=0.5)
    claimed()
    run(backend().journal.open(NAME, ONE, "remove", b""))
    (claim,), _ = run(backend().journal.claim(NAME, 10))
    run(backend().journal.finish(NAME, [(claim, 1)]))
    set_clock(TestTheClockGoesBack.HOUR, backend_kind, monkeypatch)
    leapt = last = time.monotonic()
    while run(backend().journal.list_due(NAME)).number:
        for again in run(backend().journal.claim(NAME, 10))[0]:
            last = time.monotonic()
            run(backend().journal.finish(NAME, [(again, 1)]))
        assert time.monotonic() < leapt + 60
        time.sleep(0.02)
    assert last >= leapt + 0.5


@pytest.mark.parametrize("finished", [False, True])
def test_what_runs_is_remembered(backend_kind: str, finished: bool) -> None:
    """What is asked for after the same was asked for twice is done once more: the first may still run."""
    feedmill.configure(fanout_lease=1)
    first = run(backend().journal.open(NAME, ONE, "unfollow", b"body", sent=True))
    assert run(backend().journal.begin_chunk(ONE, first.generation, 0)).times == 1
    second = run(backend().journal.open(NAME, ONE, "unfollow", b"body", sent=True))
    assert run(backend().journal.begin_chunk(ONE, first.generation, 0)) is NotBegun.DONE
    if finished:
        assert run(backend().journal.begin_chunk(ONE, second.generation, 0)).times == 1
        run(backend().journal.end_chunk(NAME, ONE, second.generation, 0, 1))
    third = run(backend().journal.open(NAME, ONE, "follow", b"body", sent=True))
    assert run(backend().journal.begin_chunk(ONE, third.generation, 0)).times == 1
    run(backend().journal.end_chunk(NAME, ONE, third.generation, 0, 1))
    assert run(backend().journal.list_due(NAME)).number == 1
    deadline, claims = time.monotonic() + 60, list[Any]()
    while not claims:
        claims, _ = run(backend().journal.claim(NAME, 10))
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert [claim.op for claim in claims] == ["follow"]


class TestTheClockGoesBack:
    """Somebody sets the clock of the server back by an hour, or a replica takes over whose clock is behind."""

    HOUR = 3_600_000

    @pytest.fixture
    def set_back(self, backend_kind: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
        """What was written before is an hour ahead of the clock from then on."""
        return lambda: set_clock(-self.HOUR, backend_kind, monkeypatch)

    def test_what_waits_is_done(self, set_back: Callable[[], None], backend_kind: str) -> None:
        """What was accepted before is due at once, what is accepted afterwards as well."""
        opened()
        set_back()
        run(backend().journal.open(NAME, f"{NAME}:two", "add", b""))
        assert run(backend().journal.wake_if_overdue(NAME))[0] == 2
        claims, _ = run(backend().journal.claim(NAME, 10))
        assert sorted(claim.id for claim in claims) == [ONE, f"{NAME}:two"]
        run(backend().journal.finish(NAME, [(claim, 1) for claim in claims]))
        assert run(backend().journal.list_due(NAME)).number == 0
        assert 0 <= Fanout(ONE).status().seconds < 60

    def test_leases_last_as_long_as_ever(self, set_back: Callable[[], None], backend_kind: str) -> None:
        """What was claimed before is due when its lease is over, not when the clock has caught up."""
        feedmill.configure(fanout_lease=1)
        claimed()
        set_back()
        deadline = time.monotonic() + 60
        while not run(backend().journal.wake_if_overdue(NAME))[0]:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        (claim,), _ = run(backend().journal.claim(NAME, 10))
        assert claim.attempts == 2

    def test_what_is_to_be_done_again(self, set_back: Callable[[], None], backend_kind: str) -> None:
        """A removal that overtook its addition is done again after a lease, once more after another, and then it is over."""
        feedmill.configure(fanout_lease=1)
        claimed()
        time.sleep(0.1)  # from now on nobody notes the time
        run(backend().journal.open(NAME, ONE, "remove", b""))
        (claim,), _ = run(backend().journal.claim(NAME, 10))
        set_back()
        if backend_kind == "redis":  # the time that proves the claim was moved as well
            claim = claim._replace(time=f"{float(claim.time) + self.HOUR:.3f}")
        run(backend().journal.finish(NAME, [(claim, 1)]))
        deadline, times = time.monotonic() + 60, 1
        while run(backend().journal.list_due(NAME)).number:
            assert time.monotonic() < deadline
            for again in run(backend().journal.claim(NAME, 10))[0]:
                run(backend().journal.finish(NAME, [(again, 1)]))
                times += 1
            time.sleep(0.02)
        assert times == 3

    def test_releases_roll(
        self, set_back: Callable[[], None], backend_kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A fan-out for a feed that is gone is left to others for no longer than ever."""
        monkeypatch.setattr(f"{type(backend().journal).__module__}.ROLLING", 200)
        opened()
        set_back()
        deadline = time.monotonic() + 60
        while True:
            make_overdue(NAME)
            (claim,), _ = run(backend().journal.claim(NAME, 10))
            if not claim.feeds:
                break
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def test_an_author_at_the_limit(self, set_back: Callable[[], None], backend_kind: str) -> None:
        """An author's next activity waits as long as ever."""
        pace = RateLimit(5, 1, 1)
        run(backend().journal.open(NAME, ONE, "add", b"", rate_limit=pace))
        run(backend().journal.open(NAME, f"{NAME}:two", "add", b"", rate_limit=pace))
        set_back()
        deadline = time.monotonic() + 60
        while run(backend().journal.wake_if_overdue(NAME))[0] < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def test_what_was_left_in_a_feed(self, redis_url: str) -> None:
        """Feeds in which something was left are looked at, too: nothing is ever noted for so much later."""
        run(backend().auxiliary.pending_index.schedule("some:%(user_id)s", [b"\x05"], 5))
        assert run(backend().auxiliary.pending_index.due("some:%(user_id)s", 10)) == []
        (entry,) = server().zrange("fm:pending:some:%(user_id)s", 0, -1, withscores=True)
        server().zadd("fm:pending:some:%(user_id)s", {entry[0]: entry[1] + self.HOUR})
        assert [owner for owner, _ in run(backend().auxiliary.pending_index.due("some:%(user_id)s", 10))] == [b"\x05"]

    def test_what_was_left_in_a_feed_of_this_process(self, memory: None, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same in memory, whose clock goes on from where it was."""
        run(backend().auxiliary.pending_index.schedule("some:%(user_id)s", [b"\x05"], 0.1))
        plain = time.time
        monkeypatch.setattr(time, "time", lambda: plain() - self.HOUR / 1000)
        deadline = time.monotonic() + 60
        while not run(backend().auxiliary.pending_index.due("some:%(user_id)s", 10)):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def test_a_clock_of_nonsense(self, redis_url: str) -> None:
        """Whatever its key holds, time goes on."""
        for value in (b"x", b"9" * 30 + b" 0", b"9999999999999999 9", b"-5 3", b"1 2 3", b"\xff", b""):
            server().set(clock_key(NAME), value)
            opened()
            assert run(backend().journal.wake_if_overdue(NAME))[0] == 1
            assert Fanout(ONE).status().seconds < 60
            make_overdue(NAME)
            (claim,), _ = run(backend().journal.claim(NAME, 10))
            run(backend().journal.finish(NAME, [(claim, 1)]))
            assert Fanout(ONE).status().finished
        server().delete(clock_key(NAME))
        server().lpush(clock_key(NAME), "x")
        opened()
        assert not Fanout(ONE).status().finished
        assert run(backend().journal.claim(NAME, 10))[0] and server().type(clock_key(NAME)) == b"string"


class TestDamagedKeys:
    """A key of the journal that holds something else than it should stops nothing that is kept elsewhere."""

    @pytest.fixture
    def box(self, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
        """A broker by hand; something is overdue of each manager."""
        with replaced(monkeypatch) as fake_broker:
            for kind in (DoctorManager, JournalManager):
                kind().add_activity(on_day(6))
            fake_broker.take()
            for kind in (DoctorManager, JournalManager):
                make_overdue(kind.name)
            yield fake_broker

    @staticmethod
    def damage(key: str) -> None:
        server().delete(key)
        server().lpush(key, "x")

    def test_what_is_due_of_one_manager(self, box: FakeBroker, caplog: pytest.LogCaptureFixture) -> None:
        """The sweep rings for the others and names the key; so does the list of what is running."""
        self.damage(due_key(DoctorManager.name))
        drain.sweep()
        assert box.take() == [("feedmill.fanout", [JournalManager.name])]
        assert f"WRONGTYPE of fm:due:{{{DoctorManager.name}:0}}" in caplog.text and "doctor --fix" in caplog.text
        shown = CliRunner().invoke(main, ["fanouts"])
        assert shown.exit_code == 1 and f"fm:due:{{{DoctorManager.name}:0}}" in shown.output
        assert f"{JournalManager.name}:" in shown.output
        for call in (lambda: DoctorManager().add_activity(on_day(7)), lambda: drain.drain(DoctorManager.name)):
            with pytest.raises(WrongType, match=f"WRONGTYPE of fm:due:.{DoctorManager.name}:0.; feedmill doctor --fix"):
                call()
        assert JournalManager().add_activity(on_day(8)) and drain.drain(JournalManager.name)
        for record in server().keys(f"fm:fanout:{{{DoctorManager.name}:0}}:*"):
            server().hset(record, "created", 1)
        examine(fix=True)
        assert drain.drain(DoctorManager.name), "what is due is found again by its fan-out records"

    def test_what_was_left_in_feeds(self, box: FakeBroker, caplog: pytest.LogCaptureFixture) -> None:
        """Nor does a list of feeds in which something was left stop the sweep."""
        self.damage(pending_key(News.key_format))
        drain.sweep()
        assert [args for _, args in box.take()] == [[DoctorManager.name], [JournalManager.name]]
        assert f"WRONGTYPE of {pending_key(News.key_format)}" in caplog.text

    def test_one_record(self, box: FakeBroker, caplog: pytest.LogCaptureFixture) -> None:
        """What is claimed together with it is done; it is named, in the list too; and asked for again it is replaced."""
        bad = DoctorManager().add_activity(on_day(9)).id
        self.damage(fanout_record_key(bad))
        shown = CliRunner().invoke(main, ["fanouts"])
        assert shown.exit_code == 1 and fanout_record_key(bad) in shown.output and shown.output.count("Manager:") >= 3
        assert drain.drain(DoctorManager.name)
        assert f"{fanout_record_key(bad)} is no sound fan-out record" in caplog.text
        again = DoctorManager().add_activity(on_day(9))
        assert again.id == bad and drain.drain(DoctorManager.name) and again.status().finished

    def test_an_entry_that_names_nothing(self, box: FakeBroker, caplog: pytest.LogCaptureFixture) -> None:
        """Bytes that are no text among what is due are passed over, and named."""
        server().zadd(due_key(DoctorManager.name), {b"\xff\xc1": 1})
        shown = CliRunner().invoke(main, ["fanouts"])
        assert shown.exit_code == 0 and shown.output.count("Manager:") == 2
        assert f"{due_key(DoctorManager.name)} holds [b'\\xff\\xc1']" in caplog.text
        assert drain.drain(DoctorManager.name)
        assert r"\xff\xc1 is no sound fan-out record" in caplog.text
        assert server().zcard(due_key(DoctorManager.name)) == 0

    def test_the_lesser_keys(self, box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Bell, clock, pace and what is taken for a wake-up message may hold anything."""
        monkeypatch.setattr(DoctorManager, "fanout_rate", 5)
        monkeypatch.setattr(DoctorManager, "fanout_burst", 5)
        name, activity = DoctorManager.name, on_day(9)
        for key in (wakeup_key(name), clock_key(name), bucket_key(name, activity.actor_id), taken_key(name, "wakeup")):
            self.damage(key)
        wanted = DoctorManager().add_activity(activity)
        drain.sweep()
        drain.drain(name, "wakeup")
        assert wanted.status().finished and server().type(wakeup_key(name)) in (b"string", b"none")

    def test_dead_letters(self, box: FakeBroker) -> None:
        """A stream of a wrong type is named by who asks for it."""
        self.damage(dead_letters_key())
        for words in (["dead", "list"], ["dead", "show", "1-1"]):
            shown = CliRunner().invoke(main, words)
            assert shown.exit_code == 1 and "WRONGTYPE of fm:dead;" in shown.output
