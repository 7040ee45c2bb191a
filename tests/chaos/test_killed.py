"""Processes that are killed or stopped."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from feedmill.storage.journal import BELL
from tests.chaos.healing import sweep, undelivered
from tests.chaos.network import BOMBER, QUIET, RECIPIENTS
from tests.chaos.proxied import COMMITTING, digests
from tests.chaos.stage import LOCK_TTL, Stage

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]


@pytest.mark.short
@pytest.mark.scenario("kill -9 of a worker")
def test_killed_worker(stage: Stage, verify: Callable[[], object]) -> None:
    """A worker that is killed with all its children in the middle of its work loses nothing."""
    workers = stage.hire(2)
    for number in range(4):
        stage.add(15)
        time.sleep(0.1 * number)
        workers[number % 2].kill()
        stage.fault()
        stage.supervise()
    verify()


@pytest.mark.short
@pytest.mark.scenario("kill -9 of one child in the middle of a chunk")
def test_killed_child(stage: Stage, verify: Callable[[], object]) -> None:
    """A prefork child that is killed in the middle of a chunk loses nothing; its worker goes on."""
    (worker,) = stage.hire(1)
    stage.add(4)
    for _ in range(5):
        held = stage.feeds_proxy.hits + 1
        stage.feeds_proxy.rule(digests(["begin"]), side="answer", action="hold")
        stage.add(2)
        stage.feeds_proxy.wait_hits(held)
        stage.feeds_proxy.forget()
        worker.kill_child(0)
        worker.kill_child(1)
        stage.feeds_proxy.release()
        stage.fault(2)
    verify()


@pytest.mark.short
@pytest.mark.scenario("kill -9 while holding locks")
def test_killed_with_locks(stage: Stage, verify: Callable[[], object]) -> None:
    """A worker that dies between taking locks and committing leaves no feed closed and nothing half-written."""
    workers = stage.hire(2, children=1)
    seeded = stage.add(12)
    stage.settle()
    for number in range(3):
        held = stage.feeds_proxy.hits + 1
        stage.feeds_proxy.rule(digests(COMMITTING), side="request", action="hold")
        stage.take_back(seeded[number])
        stage.add(2)
        stage.feeds_proxy.wait_hits(held)
        stage.feeds_proxy.forget()
        for worker in workers:
            worker.kill()
        stage.feeds_proxy.cut()
        stage.fault()
        stage.supervise()
    verify()


@pytest.mark.scenario("SIGTERM during a big fan-out")
def test_warm_shutdown(stage: Stage, verify: Callable[[], object]) -> None:
    """Workers that are asked to stop finish what they do, and what they had not begun is done by others."""
    stage.add(60)
    workers = stage.hire(2, children=1)
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.wait_end()
        stage.fault()
        assert "Traceback" not in worker.log
    stage.supervise()
    verify()


@pytest.mark.scenario("SIGSTOP for longer than a lock lives")
def test_frozen_worker(stage: Stage, verify: Callable[[], object]) -> None:
    """A worker that sleeps past its lock's life while others write overwrites nothing when it wakes up."""
    first, _ = stage.hire(2, children=1)
    seeded = stage.add(8)
    stage.settle()
    for number in range(3):
        held = stage.feeds_proxy.hits + 1
        stage.feeds_proxy.rule(digests(COMMITTING), side="request", action="hold")
        stage.take_back(seeded[number])
        stage.feeds_proxy.wait_hits(held)
        stage.feeds_proxy.forget()
        stage.add(2)
        first.signal(signal.SIGSTOP)
        time.sleep(LOCK_TTL + 1)
        stage.feeds_proxy.release()
        first.signal(signal.SIGCONT)
        stage.fault()
    verify()


@pytest.mark.scenario("kill -9 of a web process while it holds a lock")
def test_killed_web(stage: Stage, verify: Callable[[], object]) -> None:
    """What workers leave to a web process that dies in the middle of marking notifications is delivered all the same."""
    stage.hire(2)
    stage.add(20)
    stage.settle()
    proxy = stage.another_proxy()
    for user in list(RECIPIENTS)[:3]:
        proxy.rule(digests(COMMITTING), side="request", action="hold")
        web = stage.web(f"Notes({user}).mark_all()", feeds=proxy)
        proxy.wait_hits(1)
        for _ in range(4):
            stage.add(1, target=user)
        time.sleep(0.5)
        web.kill()
        proxy.cut()
        proxy = stage.another_proxy()
        stage.fault()
    verify()


@pytest.mark.short
@pytest.mark.scenario("kill -9 of a web process before it sent the message")
def test_killed_before_sending(stage: Stage, verify: Callable[[], object]) -> None:
    """What a web process has stored is delivered, even if it dies before a message could leave it."""
    stage.hire(2)
    for _ in range(4):
        proxy = stage.another_proxy(broker=True)
        proxy.rule(["feedmill.fanout"], side="request", action="hold")
        web = stage.web(stage.wanted(target=RECIPIENTS[0]), broker=proxy)
        proxy.wait_hits(1)
        web.kill()
        proxy.cut()
        stage.fault()
        time.sleep(BELL / 1000)  # until then a bell counts as on its way, and the next process would not send one
    assert stage.unfinished == 4, "a message got through"
    verify()


@pytest.mark.scenario("a fan-out that kills whoever does it, among a thousand others")
def test_bomb(stage: Stage, verify: Callable[[], object]) -> None:
    """An activity whose followers nobody can ask for and live ends among the dead letters, alone."""
    for number, author in enumerate(QUIET):
        stage.add(25, actor=author)
        if number == 1:
            bomb = stage.activity(actor=BOMBER)
            stage.hopeless.add(stage.manager.add_activity(bomb).id)
            stage.model.own[BOMBER].add(bomb)
    stage.hire(2)
    stage.fault()
    deadline = time.monotonic() + 120
    while not undelivered() and time.monotonic() < deadline:
        stage.supervise()
        sweep()
        time.sleep(0.1)
    verify()
