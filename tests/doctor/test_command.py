"""The command: one line and exit 0 for a healthy system; what is wrong and exit 1 for another."""

from __future__ import annotations

import datetime as dt
import random
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result

import feedmill
from feedmill import Activity, registry, verbs
from feedmill.cli.main import main
from feedmill.doctor import Finding, Report, examine
from feedmill.doctor.checks.settings import unsafe_broker
from feedmill.doctor.key_map import KeyInfo, KeyKind
from feedmill.doctor.repair import repair
from feedmill.doctor.report import SHOWN, lines
from feedmill.fanout import publisher
from feedmill.keys import GROUPS
from feedmill.storage.journal import RateLimit
from feedmill.storage.operations import Steps
from feedmill.storage.redis import maintenance
from feedmill.storage.registry import backend
from feedmill.verbs import Verb
from feedmill.worker import dead_letters, drain
from tests.doctor.fixtures import OTHER, USER, DoctorManager, examined, visited
from tests.doctor.test_damage import hold
from tests.feeds.samples import BASE, Home, News, Notes, in_group, on_day


def doctor(*options: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *options])


def test_a_healthy_system_gets_one_line(server: redis.Redis) -> None:
    """Nothing wrong: one line with what was looked at, exit 0."""
    result = doctor()
    assert result.exit_code == 0
    (line,) = result.output.splitlines()
    assert line.startswith("healthy (") and " 6 feeds," in line


def test_damage_is_told_then_fixed(server: redis.Redis) -> None:
    """Damage: named with its key, exit 1; --fix says that it fixed it, exit 0; then healthy."""
    server.set(Notes(USER).count_key, "5 5 5")
    server.delete(News(USER).key)
    result = doctor()
    assert result.exit_code == 1
    assert (
        "drifted count: fm:test:notes:{42}:count: it says 5 unseen and 5 unread; the feed says 1 and" in result.output
    )
    assert "record without entry: fm:test:news:{42} group b'3-2024-01-01': the feed does not list" in result.output
    assert re.match(r"\d+ findings; --fix repairs what can be repaired \(", result.output.splitlines()[-1])
    result = doctor("--fix")
    assert result.exit_code == 0
    assert "drifted count: fixed 1 of 1" in result.output
    assert doctor().output.startswith("healthy")


def test_what_cannot_be_fixed_is_left(server: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that cannot be changed from here is named with the fix, and --fix exits 1."""

    monkeypatch.setitem(publisher.celery_app().conf, "accept_content", ["msgpack", "pickle"])
    result = doctor("--fix")
    assert result.exit_code == 1
    assert (
        "unsafe Celery setting: accept_content: it has pickle: anyone who can write to the broker could run"
        in result.output
    )


def test_what_cannot_be_fixed_for_an_error_of_the_apps(server: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named as what is left, with the error, and what else is wrong is fixed."""
    for user in (USER, OTHER):
        server.set(Notes(user).count_key, "9 9 1")

    def broken(place: KeyInfo, *suspects: Any) -> Steps[None]:
        if place.user_id == str(USER):
            raise ZeroDivisionError("in somebody's aggregator")
        yield from repair(place, *suspects)

    monkeypatch.setattr("feedmill.doctor.runner.repair", broken)
    result = doctor("--fix")
    assert result.exit_code == 1
    assert "repair failed: ZeroDivisionError: in somebody's aggregator" in result.output
    assert "drifted count: fixed 1 of 2" in result.output


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("accept_content", ["msgpack", "yaml"], "accept_content"),
        ("result_accept_content", ["pickle"], "result_accept_content"),
        ("broker_transport_options", {"visibility_timeout": 60}, "visibility_timeout"),
    ],
)
def test_unsafe_settings_of_celery(
    server: redis.Redis, monkeypatch: pytest.MonkeyPatch, name: str, value: Any, named: str
) -> None:
    """Contents that can carry code and a visibility timeout that is too short are named."""
    conf = publisher.celery_app().conf
    monkeypatch.setitem(conf, "broker_url", "redis://127.0.0.1:1/0")
    assert list(unsafe_broker()) == []
    monkeypatch.setitem(conf, name, value)
    (finding,) = unsafe_broker()
    assert named in finding.where


@pytest.mark.parametrize("name", ["acks_late", "reject_on_worker_lost"])
def test_tasks_that_would_be_lost(server: redis.Redis, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Tasks that are acknowledged early, or done with when their process is killed, are named."""
    task = publisher.celery_app().tasks["feedmill.deliver"]
    monkeypatch.setattr(type(task), name, False)
    assert [finding.where for finding in unsafe_broker()] == [name]


def test_a_server_that_does_not_tell_its_settings(server: redis.Redis, redis_url: str) -> None:
    """Where CONFIG is forbidden the rest is examined, and what cannot be set is left with the fix."""
    server.config_set("maxmemory-policy", "allkeys-lru")
    server.acl_setuser("nurse", enabled=True, nopass=True, keys=["*"], channels=["*"], commands=["+@all", "-config"])
    feedmill.configure(redis_url=redis_url.replace("redis://", "redis://nurse:x@"))
    report = examine(fix=True)
    (finding,) = report.shown
    assert report.remaining == 1
    assert "set noeviction. It could not be set from here: Redis at 127.0.0.1" in finding.text
    server.acl_deluser("nurse")


def test_a_verb_that_is_not_registered_is_not_damage(server: redis.Redis) -> None:
    """Groups of a verb that a module not imported here registers are named, and --fix touches nothing of them."""

    class Hum(Verb):
        id, infinitive, past_tense = 31111, "hum", "hummed"

    verbs.register(Hum)
    Notes(USER).add(Activity(1, Hum, 2, time=BASE))
    del verbs._verbs[Hum.id]
    before = server.hgetall(Notes(USER).key + GROUPS)
    report = examine(fix=True)
    assert dict(report.found) == {"verb not registered": 1}
    assert report.remaining == 1
    assert "unknown verb 31111" in report.shown[0].text and "FEEDMILL_MODULES" in report.shown[0].text
    assert server.hgetall(Notes(USER).key + GROUPS) == before


def test_memory_is_bounded_by_the_step_of_a_scan(server: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are looked at in small steps, each one told; a step is no longer than the scan's."""
    monkeypatch.setattr(maintenance, "SCAN_SIZE", 10)
    for number in range(300):
        server.set(f"fm:somebody:else:{number}", "x")
    told: list[tuple[int, int]] = []
    report = examine(seen=lambda done, total: told.append((done, total)))
    assert len(told) > 20
    assert told == sorted(told) and told[-1][0] == report.keys >= 300
    assert all(done <= total for done, total in told)


def test_a_flood_of_findings_is_counted() -> None:
    """Of each kind the first few are shown, the others counted."""
    report = Report()
    for number in range(1000):
        report.add(Finding("stuck lock", f"key{number}", "text"), False)
    assert len(report.shown) == SHOWN
    assert list(lines(report, False))[-1] == f"stuck lock: {1000 - SHOWN:,} more"


def test_writers_at_work_lose_nothing(server: redis.Redis) -> None:
    """What workers deliver between the steps of a repair, held off by its lock, is in the feed afterwards."""
    delivered = list[Activity]()
    server.set(Notes(USER).count_key, "9 9 9")
    backend().run(visited(repair(KeyInfo(KeyKind.GROUPS, Notes, str(USER))), delivered))
    assert len(delivered) == 12
    (group,) = [group for group in Notes(USER)[:] if group.activity_count > 30]
    assert group.activity_count == 40 + len(delivered)
    assert Notes(USER).get_denormalized_count() == Notes(USER).count_unseen() == 2
    assert examined() == {}


@pytest.mark.slow
def test_a_busy_system_is_healthy(server: redis.Redis) -> None:
    """While writers add, remove and mark in the feeds that are looked at, hold their locks and leave pending writes, and a
    fan-out after the other is opened and finished, nothing is taken for damage."""
    over = threading.Event()
    examine()

    def work(seed: int) -> int:
        dice, rounds = random.Random(seed), 0
        while not over.is_set():
            feed = dice.choice((Home, News, Notes))(dice.choice((USER, 7)))
            some = [in_group(dice.randrange(90), dice.randrange(50)) for _ in range(5)] + [on_day(dice.randrange(20))]
            Home.insert_activities(some)
            dice.choice((feed.add_many, feed.remove_many))(some)
            backend().run(
                backend().journal.open(
                    DoctorManager.name, f"{DoctorManager.name}:f{seed}-{rounds % 3}", "add", some[0].raw_id
                )
            )
            drain.drain(DoctorManager.name)
            rounds += 1
        return rounds

    with ThreadPoolExecutor(3) as pool:
        workers = [pool.submit(work, seed) for seed in range(3)]
        try:
            reports = [examine() for _ in range(25)]
        finally:
            over.set()
        assert all(worker.result() > 10 for worker in workers)
    assert [report.shown for report in reports if report.found] == []
    assert examined() == {}


def test_what_waits_is_said_in_the_healthy_line(server: redis.Redis) -> None:
    """Dead letters, and keys of managers that are not known here, are no damage: the one line says how many."""
    server.set("fm:somebody:else:{1}", "x")
    dead_letters.keep_message("feedmill.deliver", ["x"], "why")
    result = doctor()
    assert result.exit_code == 0
    (line,) = result.output.splitlines()
    assert "; 1 key of unknown managers; 1 dead letter, run: feedmill dead list)" in line


def test_the_brokers_keys_are_no_unknown(server: redis.Redis) -> None:
    """With a prefix, Celery's keys stand beside the feeds under it: they are not said to belong to no known manager."""
    feedmill.configure(key_prefix="a:")
    for key in ("_kombu.binding.celery.pidbox", "_kombu.binding_deadlines", "unacked", "unacked_index", "fanout.low"):
        server.set("a:" + key, "x")
    server.set("a:fanout.high\x06\x163", "x")
    server.set("a:somebody", "x")
    assert "; 1 key of unknown managers)" in doctor().output


def test_the_in_memory_mode_is_no_place_to_look_at(memory: None) -> None:
    """A command of its own has an empty memory: that it is healthy says nothing of what an app's process holds."""
    (line,) = doctor().output.splitlines()
    assert line.startswith("healthy (0 keys") and line.endswith(
        "; memory:// can be checked only in the process that wrote it)"
    )


def test_every_key_of_ours_is_known(server: redis.Redis) -> None:
    """Whatever is asked of a manager, and whatever goes wrong, leaves no key that the doctor takes for a stranger's."""
    manager, some = DoctorManager(), on_day(4)
    manager.add_activity(some)
    manager.notify(["x"], some)
    hold(server, Notes(USER).key + GROUPS, time.time() + 8)
    backend().run(
        backend().journal.open(
            DoctorManager.name, f"{DoctorManager.name}:f", "add", some.raw_id, rate_limit=RateLimit(5, 1, 1)
        )
    )
    drain.drain(DoctorManager.name, "wakeup")
    dead_letters.keep_message("feedmill.deliver", ["x"], "why")
    server.set(Home(8).key, "x")
    server.lpush(Home(9).key, "x")
    examine(fix=True)
    keys = b" ".join(server.scan_iter("fm:*"))
    for kind in (b"fm:fanout:", b"fm:due:", b"fm:pending:", b"fm:notified:", b"fm:dead", b"fm:set-aside:", b"fm:test:"):
        assert kind in keys
    assert examine().unknown_keys == 0


def test_a_live_writers_lock_is_not_stuck(server: redis.Redis) -> None:
    """A lock whose holder has time left is no damage, nor is the pending writes that others leave meanwhile; it is not taken."""
    hold(server, Notes(USER).key + GROUPS, time.time() + 8)
    backend().run(Notes.deliver([USER], [on_day(6)]))
    before = server.hgetall(Notes(USER).key + GROUPS)
    assert b"\0i" in before
    assert dict(examine(fix=True).found) == {}
    assert server.hgetall(Notes(USER).key + GROUPS) == before


def test_unknown_verbs_among_in_the_overflow_members(server: redis.Redis) -> None:
    """Of a group that a newer release wrote, overflow members of its verbs too are no damage."""

    class Buzz(Verb):
        id, infinitive, past_tense = 31113, "buzz", "buzzed"

    verbs.register(Buzz)
    Notes(USER).add_many([Activity(n, Buzz, 2, time=BASE + dt.timedelta(seconds=n)) for n in range(40)])
    del verbs._verbs[Buzz.id]
    (overflow,) = server.keys(f"{Notes(USER).key}{GROUPS}:{Buzz.id}-*")
    before = server.hgetall(overflow)
    assert dict(examine(fix=True).found) == {"verb not registered": 1}
    assert server.hgetall(overflow) == before


def test_no_manager_is_an_error(server: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a manager nothing is known of any feed: that is said, instead of healthy."""
    monkeypatch.setattr(registry, "_managers", {})
    result = doctor()
    assert result.exit_code == 1
    assert "no manager is known; name the modules that declare managers in FEEDMILL_MODULES" in result.output
