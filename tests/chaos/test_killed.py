"""Processes that are killed or stopped."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from feedmill.storage.journal import WAKEUP_TTL
from feedmill.storage.registry import backend
from tests.chaos.harness import LOCK_TTL, TIMEOUT, Harness
from tests.chaos.healing import sweep, undelivered
from tests.chaos.network import BOMBER, QUIET, RECIPIENTS, ChaosManager
from tests.chaos.proxied import COMMITTING, digests

#: Seconds, longer than what fails is ever put off.
FURTHEST = 7200.0

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]


@pytest.mark.short
@pytest.mark.scenario("kill -9 of a worker")
def test_killed_worker(harness: Harness, verify: Callable[[], object]) -> None:
    """A worker that is killed with all its child processes during its work loses nothing."""
    workers = harness.hire(2)
    for number in range(4):
        harness.add(15)
        time.sleep(0.1 * number)
        workers[number % 2].kill()
        harness.fault()
        harness.supervise()
    verify()


@pytest.mark.short
@pytest.mark.scenario("kill -9 of one child in the middle of a chunk")
def test_killed_child(harness: Harness, verify: Callable[[], object]) -> None:
    """A prefork child process that is killed during a chunk loses nothing, and its worker continues."""
    (worker,) = harness.hire(1)
    harness.add(4)
    for _ in range(5):
        held = harness.feeds_proxy.hits + 1
        harness.feeds_proxy.rule(digests(["begin"]), side="answer", action="hold")
        harness.add(2)
        harness.feeds_proxy.wait_hits(held)
        harness.feeds_proxy.forget()
        worker.kill_child(0)
        worker.kill_child(1)
        harness.feeds_proxy.release()
        harness.fault(2)
    verify()


@pytest.mark.short
@pytest.mark.scenario("kill -9 while holding locks")
def test_killed_with_locks(harness: Harness, verify: Callable[[], object]) -> None:
    """A worker that dies between taking locks and committing leaves no feed locked for ever and no feed partly
    written.
    """
    workers = harness.hire(2, children=1)
    seeded = harness.add(12)
    harness.settle()
    for number in range(3):
        held = harness.feeds_proxy.hits + 1
        harness.feeds_proxy.rule(digests(COMMITTING), side="request", action="hold")
        harness.take_back(seeded[number])
        harness.add(2)
        harness.feeds_proxy.wait_hits(held)
        harness.feeds_proxy.forget()
        for worker in workers:
            worker.kill()
        harness.feeds_proxy.cut()
        harness.fault()
        harness.supervise()
    verify()


@pytest.mark.short
@pytest.mark.scenario("kill -9 of workers that call hooks")
def test_killed_in_hooks(
    harness: Harness, verify: Callable[[], object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A hook is told of each notification at least once, with a key of its own, whenever its workers are killed, and of nothing
    else.
    """
    heard = tmp_path / "heard"
    heard.touch()
    monkeypatch.setattr(ChaosManager, "told_hooks", frozenset({"on_notification"}))
    workers = harness.hire(2, environment={"CHAOS_HEARD": str(heard)})
    for number in range(6):
        harness.add(20)
        time.sleep(0.15 * number)
        workers[number % 2].kill()
        harness.fault()
        harness.supervise()
    verify()
    queue, deadline = backend().auxiliary.hook_queue, time.monotonic() + TIMEOUT
    while backend().run(queue.overdue(ChaosManager.name, -FURTHEST)) and time.monotonic() < deadline:
        harness.supervise()
        sweep()
        time.sleep(0.1)
    lines = [line.split() for line in heard.read_text().splitlines()]
    told = {(user, activity) for _, user, activity in lines}
    wanted = {
        (str(user), activity.id)
        for user, groups in harness.model.notes.items()
        for group in groups.values()
        for activity in group
    }
    assert wanted and told == wanted
    assert len({key for key, _, _ in lines}) == len({tuple(line) for line in lines}) == len(told)


@pytest.mark.scenario("SIGTERM during a big fan-out")
def test_warm_shutdown(harness: Harness, verify: Callable[[], object]) -> None:
    """Workers that are asked to stop finish the tasks that they have begun. Other workers run the rest."""
    harness.add(60)
    workers = harness.hire(2, children=1)
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.wait_end()
        harness.fault()
        assert "Traceback" not in worker.log
    harness.supervise()
    verify()


@pytest.mark.scenario("SIGSTOP for longer than a lock lives")
def test_frozen_worker(harness: Harness, verify: Callable[[], object]) -> None:
    """A worker that is paused until its lock has expired, while others write, overwrites nothing when it continues."""
    first, _ = harness.hire(2, children=1)
    seeded = harness.add(8)
    harness.settle()
    for number in range(3):
        held = harness.feeds_proxy.hits + 1
        harness.feeds_proxy.rule(digests(COMMITTING), side="request", action="hold")
        harness.take_back(seeded[number])
        harness.feeds_proxy.wait_hits(held)
        harness.feeds_proxy.forget()
        harness.add(2)
        first.signal(signal.SIGSTOP)
        time.sleep(LOCK_TTL + 1)
        harness.feeds_proxy.release()
        first.signal(signal.SIGCONT)
        harness.fault()
    verify()


@pytest.mark.scenario("kill -9 of a web process while it holds a lock")
def test_killed_web(harness: Harness, verify: Callable[[], object]) -> None:
    """Pending writes are applied even if the web process that should apply them dies while it marks notifications."""
    harness.hire(2)
    harness.add(20)
    harness.settle()
    proxy = harness.another_proxy()
    for user in list(RECIPIENTS)[:3]:
        proxy.rule(digests(COMMITTING), side="request", action="hold")
        web = harness.web(f"Notes({user}).mark_all()", feeds=proxy)
        proxy.wait_hits(1)
        for _ in range(4):
            harness.add(1, target=user)
        time.sleep(0.5)
        web.kill()
        proxy.cut()
        proxy = harness.another_proxy()
        harness.fault()
    verify()


@pytest.mark.short
@pytest.mark.scenario("kill -9 of a web process before it sent the message")
def test_killed_before_sending(harness: Harness, verify: Callable[[], object]) -> None:
    """An activity that a web process has stored is delivered, even if the process dies before it sends a message."""
    harness.hire(2)
    for _ in range(4):
        proxy = harness.another_proxy(broker=True)
        proxy.rule(["feedmill.fanout"], side="request", action="hold")
        web = harness.web(harness.wanted(target=RECIPIENTS[0]), broker=proxy)
        proxy.wait_hits(1)
        web.kill()
        proxy.cut()
        harness.fault()
        time.sleep(
            WAKEUP_TTL / 1000
        )  # until then a wake-up message counts as on its way, and the next process would not send one
    assert harness.unfinished == 4, "a message got through"
    verify()


@pytest.mark.scenario("a fan-out that kills its worker, among a thousand others")
def test_bomb(harness: Harness, verify: Callable[[], object]) -> None:
    """If the follower query of one activity kills every worker, only this activity becomes a dead letter."""
    for number, author in enumerate(QUIET):
        harness.add(25, actor=author)
        if number == 1:
            bomb = harness.activity(actor=BOMBER)
            harness.hopeless.add(harness.manager.add_activity(bomb).id)
            harness.model.own[BOMBER].add(bomb)
    harness.hire(2)
    harness.fault()
    deadline = time.monotonic() + 120
    while not undelivered() and time.monotonic() < deadline:
        harness.supervise()
        sweep()
        time.sleep(0.1)
    verify()
