"""Messages that come twice, late and out of order, clocks that disagree, and releases that do."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from feedmill.verbs import Comment, Love
from tests.chaos.network import AUTHORS, QUIET, READERS, RECIPIENTS, PinsFeed
from tests.chaos.release import NextManager, Poke
from tests.chaos.shuffler import CONFIG, SHUFFLED, Shuffler
from tests.chaos.stage import Stage

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]


@pytest.mark.scenario("each message twice and out of order")
def test_shuffled(stage: Stage, verify: Callable[[], object]) -> None:
    """Messages that all arrive twice, in any order, do what they do once."""
    stage.hire(2, "-Q", ",".join(SHUFFLED.values()), config=CONFIG)
    with Shuffler(stage.broker_url, seed=3):
        seeded = stage.add(40)
        stage.settle()
        for activity in seeded[::4]:
            stage.take_back(activity)
        stage.add(20)
        stage.fault()
        verify()


@pytest.mark.scenario("taken back while it is still being delivered")
def test_taken_back_early(stage: Stage, verify: Callable[[], object]) -> None:
    """What is removed while its own delivery is still on its way, twice and out of order, stays removed."""
    stage.hire(2, "-Q", ",".join(SHUFFLED.values()), config=CONFIG)
    with Shuffler(stage.broker_url, seed=4):
        for _ in range(12):
            activity, *_ = stage.add(3)
            stage.take_back(activity)
        stage.fault()
        verify()


@pytest.mark.short
@pytest.mark.scenario("clocks 5 minutes apart")
def test_clocks(stage: Stage, verify: Callable[[], object]) -> None:
    """Workers whose clocks disagree by five minutes repeat work and get it right."""
    stage.hire(1, clock=150)
    stage.hire(1, clock=-150)
    seeded = stage.add(30)
    stage.settle()
    for activity in seeded[::3]:
        stage.take_back(activity)
        stage.add(2)
    stage.fault(2)
    verify()


@pytest.mark.scenario("a new release's manager beside an old worker")
def test_rolling_deploy(stage: Stage, verify: Callable[[], object]) -> None:
    """What a new release asks for is not lost when an old worker, which has never heard of it, gets the message first."""
    (old,) = stage.hire(1)
    manager = NextManager()
    stage.flat["pins"] = PinsFeed
    stage.add(5)
    stage.add(10, manager, "pins")
    time.sleep(2)
    old.terminate()
    old.wait_end()
    stage.retired.add(old)
    stage.hire(2, modules="tests.chaos.network,tests.chaos.release")
    stage.fault()
    verify()


@pytest.mark.scenario("a new release's feed beside an old worker")
def test_rolling_feed(stage: Stage, verify: Callable[[], object]) -> None:
    """A feed that a new release adds gets all that the release asks for, although old workers get some of it first."""
    stage.flat["pins"] = PinsFeed
    (old,) = stage.hire(1)
    stage.add(5)
    stage.settle()
    stage.hire(1, environment={"CHAOS_RELEASE": "next"})
    for _ in range(3):
        asked = "; ".join(stage.wanted("pins") for _ in range(6))
        stage.web(asked, CHAOS_RELEASE="next").process.wait(60)
        stage.fault()
    time.sleep(1)
    old.terminate()
    old.wait_end()
    stage.retired.add(old)
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
def test_rolling_verb(stage: Stage, verify: Callable[[], object]) -> None:
    """What is done with a verb that a new release brings reaches everybody, whichever process of the old release comes near
    it: with what was on its way, in what is imported, followed and rebuilt, and in what somebody looks at meanwhile."""
    both = "tests.chaos.network,tests.chaos.release"
    (old,) = stage.hire(1)
    seeded = [activity for actor in AUTHORS for activity in stage.add(3, actor=actor)]
    stage.settle()
    stage.hire(1, modules=both)
    stage.steady = True
    proxy = stage.another_proxy()
    proxy.set(delay=0.002)  # so that it holds each feed for a while
    web = stage.web(LOOKING, feeds=proxy)
    stage.model.hazy.update(RECIPIENTS)
    targets = RECIPIENTS[:3]
    for number in range(12):
        for target in targets:
            for verb in (Poke, Love, Poke, Comment):
                stage.add(1, target=target, verb=verb, actor=QUIET[number])
        author, reader = AUTHORS[number % len(AUTHORS)], READERS[number % len(READERS)]
        stage.import_([stage.activity(actor=author, verb=verb) for verb in (Poke, Love, Poke)])
        stage.follow(reader, author)
        stage.rebuild(reader)
    for activity in seeded[::3]:
        stage.take_back(activity)
    stage.fault()
    stage.settle(20)
    for reader in READERS:
        stage.rebuild(reader)
    time.sleep(1)
    web.kill()
    old.terminate()
    old.wait_end()
    stage.retired.add(old)
    stage.fault()
    stage.settle()
    stage.look()
    verify()


@pytest.mark.short
@pytest.mark.scenario("the broker forgets all its messages")
def test_forgotten(stage: Stage, verify: Callable[[], object]) -> None:
    """A broker that comes back empty costs time, and nothing else: the journal knows what was asked for."""
    stage.add(20)
    stage.hire(2)
    for _ in range(3):
        stage.add(10)
        stage.forget_messages()
        stage.fault()
        time.sleep(0.3)
    verify()
