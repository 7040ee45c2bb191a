"""Messages that come twice, late and out of order, clocks that disagree, and releases that do."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from feedmill.verbs import Comment, Love
from tests.chaos.harness import Harness
from tests.chaos.network import AUTHORS, QUIET, READERS, RECIPIENTS, PinsFeed
from tests.chaos.release import NextManager, Poke
from tests.chaos.shuffler import CONFIG, SHUFFLED, Shuffler

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]


@pytest.mark.scenario("each message twice and out of order")
def test_shuffled(harness: Harness, verify: Callable[[], object]) -> None:
    """If all messages arrive twice and in any order, their work is applied once."""
    harness.hire(2, "-Q", ",".join(SHUFFLED.values()), config=CONFIG)
    with Shuffler(harness.broker_url, seed=3):
        seeded = harness.add(40)
        harness.settle()
        for activity in seeded[::4]:
            harness.take_back(activity)
        harness.add(20)
        harness.fault()
        verify()


@pytest.mark.scenario("an activity removed while it is being delivered")
def test_taken_back_early(harness: Harness, verify: Callable[[], object]) -> None:
    """An activity that is removed during its delivery stays removed, even if messages arrive twice and out of order."""
    harness.hire(2, "-Q", ",".join(SHUFFLED.values()), config=CONFIG)
    with Shuffler(harness.broker_url, seed=4):
        for _ in range(12):
            activity, *_ = harness.add(3)
            harness.take_back(activity)
        harness.fault()
        verify()


@pytest.mark.short
@pytest.mark.scenario("clocks 5 minutes apart")
def test_clocks(harness: Harness, verify: Callable[[], object]) -> None:
    """Workers whose clocks differ by five minutes repeat work, and the result is correct."""
    harness.hire(1, clock=150)
    harness.hire(1, clock=-150)
    seeded = harness.add(30)
    harness.settle()
    for activity in seeded[::3]:
        harness.take_back(activity)
        harness.add(2)
    harness.fault(2)
    verify()


@pytest.mark.scenario("a new release's manager beside an old worker")
def test_rolling_deploy(harness: Harness, verify: Callable[[], object]) -> None:
    """A message for a manager that only a new release knows is not lost when an old worker receives it first."""
    (old,) = harness.hire(1)
    manager = NextManager()
    harness.flat["pins"] = PinsFeed
    harness.add(5)
    harness.add(10, manager, "pins")
    time.sleep(2)
    old.terminate()
    old.wait_end()
    harness.retired.add(old)
    harness.hire(2, modules="tests.chaos.network,tests.chaos.release")
    harness.fault()
    verify()


@pytest.mark.scenario("a new release's feed beside an old worker")
def test_rolling_feed(harness: Harness, verify: Callable[[], object]) -> None:
    """A feed that a new release adds receives all activities, although old workers receive some of the messages first."""
    harness.flat["pins"] = PinsFeed
    (old,) = harness.hire(1)
    harness.add(5)
    harness.settle()
    harness.hire(1, environment={"CHAOS_RELEASE": "next"})
    for _ in range(3):
        asked = "; ".join(harness.wanted("pins") for _ in range(6))
        harness.web(asked, CHAOS_RELEASE="next").process.wait(60)
        harness.fault()
    time.sleep(1)
    old.terminate()
    old.wait_end()
    harness.retired.add(old)
    assert "another release" in old.log, "no old worker got anything of the new release"
    verify()


#: A process of the old release that looks at everybody's notifications, again and again.
LOOKING = """
import time
from feedmill.errors import FeedmillError
while True:
    for user in RECIPIENTS:
        try:
            Notes(user).mark_all()
        except FeedmillError:
            time.sleep(0.1)
"""


@pytest.mark.short
@pytest.mark.scenario("a new release's verb beside old workers and an old web process")
def test_rolling_verb(harness: Harness, verify: Callable[[], object]) -> None:
    """Activities with a verb that a new release adds reach all feeds, although processes of the old release handle
    some of them: in fan-outs, imports, follows, rebuilds, and reads.
    """
    both = "tests.chaos.network,tests.chaos.release"
    (old,) = harness.hire(1)
    seeded = [activity for actor in AUTHORS for activity in harness.add(3, actor=actor)]
    harness.settle()
    harness.hire(1, modules=both)
    harness.steady = True
    proxy = harness.another_proxy()
    proxy.set(delay=0.002)  # so that it holds each feed for a while
    web = harness.web(LOOKING, feeds=proxy)
    harness.model.hazy.update(RECIPIENTS)
    targets = RECIPIENTS[:3]
    for number in range(12):
        for target in targets:
            for verb in (Poke, Love, Poke, Comment):
                harness.add(1, target=target, verb=verb, actor=QUIET[number])
        author, reader = AUTHORS[number % len(AUTHORS)], READERS[number % len(READERS)]
        harness.import_([harness.activity(actor=author, verb=verb) for verb in (Poke, Love, Poke)])
        harness.follow(reader, author)
        harness.rebuild(reader)
    for activity in seeded[::3]:
        harness.take_back(activity)
    harness.fault()
    harness.settle(20)
    for reader in READERS:
        harness.rebuild(reader)
    time.sleep(1)
    web.kill()
    old.terminate()
    old.wait_end()
    harness.retired.add(old)
    harness.fault()
    harness.look()  # takes the lock that the web process died with
    harness.settle()
    harness.look()
    verify()


@pytest.mark.short
@pytest.mark.scenario("the broker loses all its messages")
def test_forgotten(harness: Harness, verify: Callable[[], object]) -> None:
    """A broker that restarts without its messages only delays deliveries, because the journal knows the work."""
    harness.add(20)
    harness.hire(2)
    for _ in range(3):
        harness.add(10)
        harness.forget_messages()
        harness.fault()
        time.sleep(0.3)
    verify()
