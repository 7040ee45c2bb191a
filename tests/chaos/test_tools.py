"""The tools of the chaos suite themselves: a suite that cannot see what is wrong proves nothing."""

from __future__ import annotations

import dataclasses
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from feedmill import Activity
from feedmill.verbs import Love
from tests.chaos import page, report
from tests.chaos.audit import STATE, Verdict, audit, leftovers
from tests.chaos.harness import START, Patience, Row, carrying
from tests.chaos.model import Model
from tests.chaos.network import ChaosManager, HomeFeed, NewsFeed, Notes, followers_of
from tests.chaos.proxied import Proxied
from tests.chaos.soak import Soak, Tally
from tests.fake_broker import replaced


class Echo:
    """A server that sends back what it gets, and remembers it."""

    def __init__(self) -> None:
        self.got = b""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            try:
                while block := client.recv(65_536):
                    self.got += block
                    client.sendall(block)
            except OSError:
                return

    def gets(self, wanted: bytes) -> bytes:
        """All that it has got, once that is as long as *wanted*: what was passed on is read soon after it."""
        deadline = time.monotonic() + 30
        while len(self.got) < len(wanted) and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.got

    def close(self) -> None:
        """End it."""
        self._socket.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    """A server."""
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxied]:
    """A proxy before it."""
    made = Proxied(echo.port)
    yield made
    made.stop()


def said(proxy: Proxied, text: bytes, timeout: float = 5.0) -> bytes:
    """What comes back for *text* until the connection ends or all is there."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=timeout) as client:
        client.sendall(text)
        answer = b""
        try:
            while len(answer) < len(text) and (block := client.recv(65_536)):
                answer += block
        except (ConnectionError, TimeoutError):
            pass
        return answer


def ended(client: socket.socket) -> bool:
    """Whether the connection ends without another byte."""
    try:
        return client.recv(100) == b""
    except ConnectionError:
        return True


def test_the_proxy_passes_on(echo: Echo, proxy: Proxied) -> None:
    """Without orders everything gets through, both ways."""
    text = bytes(range(256)) * 4000
    assert said(proxy, text) == text == echo.gets(text)


@pytest.mark.parametrize(
    ("side", "after", "arrived", "answered"),
    [
        ("request", 0, b"one ", None),
        ("request", 6, b"one commit", None),
        ("answer", 0, b"one commit two", b""),
        ("answer", 3, b"one commit two", b"one"),
    ],
)
def test_the_proxy_cuts(
    echo: Echo, proxy: Proxied, side: str, after: int, arrived: bytes, answered: bytes | None
) -> None:
    """A connection is cut at the very byte that was asked for, on the way there and on the way back, and only once."""
    proxy.rule(["commit"], side=side, after=after)
    answer = said(proxy, b"one commit two")
    assert answered in (None, answer)
    assert echo.gets(arrived) == arrived
    assert proxy.hits == 1
    assert said(proxy, b"one commit two") == b"one commit two"


def test_the_proxy_holds(echo: Echo, proxy: Proxied) -> None:
    """What is held does not arrive until it is released; what is cut while it is held never does."""
    proxy.rule(["commit"], side="request", action="hold", times=2)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client:
        client.sendall(b"commit 1")
        proxy.wait_hits(1)
        assert (echo.got, proxy.held) == (b"", 1)
        proxy.release()
        assert client.recv(100) == b"commit 1"
        client.sendall(b"commit 2")
        proxy.wait_hits(2)
        proxy.cut()
        assert ended(client)
    assert echo.gets(b"commit 1") == b"commit 1"


def test_the_proxy_burns_down(echo: Echo, proxy: Proxied) -> None:
    """A fuse ends a connection after so many bytes, counted in both directions."""
    proxy.fuse(10)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client:
        client.sendall(b"1234")
        assert client.recv(100) == b"1234"
        client.sendall(b"5678")
        assert ended(client)
    assert echo.gets(b"123456") == b"123456"


def test_the_proxy_is_silent(echo: Echo, proxy: Proxied) -> None:
    """A frozen network keeps what it is given; one that drops does not; one that refuses takes no connection."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client:
        client.sendall(b"a")
        assert client.recv(1) == b"a"
        proxy.set(frozen=True)
        client.sendall(b"kept")
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.recv(4)
        proxy.set(frozen=False)
        client.settimeout(5)
        assert client.recv(4) == b"kept"
    proxy.set(dropping=True)
    assert said(proxy, b"gone", timeout=0.1) == b""
    proxy.set(dropping=False, refusing=True)
    assert said(proxy, b"no") == b""
    assert echo.got == b"akept"


@pytest.fixture
def delivered(redis_url: str) -> tuple[Model, redis.Redis, list[Activity]]:
    """A model, and feeds that hold what it says."""
    model, activities = Model(), []
    for number in range(20):
        activity = Activity(1 + number % 2, Love, number % 2, target=9_000, time=START.replace(microsecond=number))
        activities.append(activity)
        model.add(activity)
        HomeFeed.insert_activity(activity)
        ChaosManager.user_feed_class(activity.actor_id).add(activity)  # type: ignore[misc]
        for feed_class in (HomeFeed, NewsFeed):
            feed_class._run(feed_class.deliver(followers_of(activity.actor_id), [activity]))
        Notes(9_000).add(activity)
    return model, redis.Redis.from_url(redis_url), activities


def test_the_audit_sees(delivered: tuple[Model, redis.Redis, list[Activity]]) -> None:
    """Feeds that are right are found right; what is missing, too much, miscounted or left over is found and counted."""
    model, client, activities = delivered
    assert audit(model).clean and leftovers(client) == []
    user, first = followers_of(2)[0], activities[1]

    HomeFeed(user).remove(first)
    assert (audit(model).lost, audit(model).wrong) == (1, 1)
    HomeFeed(user).add(first)
    assert audit(model).clean

    NewsFeed(user).remove(activities[-1])
    assert (audit(model).lost, audit(model).wrong) == (1, 1)
    NewsFeed(user).add(activities[-1])
    NewsFeed(user).remove(first)  # is not shown, only counted
    assert (audit(model).lost, audit(model).wrong) == (0, 1)
    NewsFeed(user).add(first)
    assert audit(model).clean

    model.remove(activities[-1])
    verdict = audit(model)
    assert verdict.duplicated > len(followers_of(2)) and verdict.wrong > len(followers_of(2))
    model.add(activities[-1])

    Notes(9_000).set_denormalized_count(7)
    assert audit(model).notes == [f"{Notes.key_of(9_000)}: keeps 7 unseen, a recount says 2"]
    Notes(9_000).denormalize_count()
    Notes(9_000).mark_all()
    assert audit(model).notes == [f"{Notes.key_of(9_000)}: 0 unseen instead of 2"]
    model.mark_all(9_000)
    assert audit(model).clean

    client.hset(NewsFeed.key_of(user) + ":groups", mapping={STATE: b"1" + b"t" * 8 + b"9" * 13, b"\0i": b"xx"})
    assert [note.partition(" ")[2] for note in leftovers(client)] == [
        "is still locked",
        "has 2 bytes among its pending writes",
    ]


def test_the_model_does_what_is_asked(redis_url: str) -> None:
    """Updates, notices, imports, follows and what is added again, done with the feeds at once, come out as the model says;
    what an activity carries is compared as well."""
    model, manager, activity = Model(), ChaosManager(), Activity(1, Love, 2, target=9_000, time=START)
    old = Activity(2, Love, 3, target=9_001, time=START)
    with pytest.MonkeyPatch.context() as patch, replaced(patch) as box:
        manager.add_activity(activity)
        model.add(activity)
        manager.notify([9_100, 9_101], activity)
        model.notify([9_100, 9_101], activity)
        box.work()
        manager.unnotify([9_101], activity)
        model.unnotify([9_101], activity)
        manager.batch_import(2, [old])
        model.bring([old])
        manager.follow(20_000, 2)
        model.follow(20_000, 2)
        box.work()
        assert audit(model).clean, audit(model).notes
        changed = carrying(activity, {"words": 1})
        manager.update_activity(changed)
        box.work()
        notes = audit(model).notes
        assert len(notes) == 2 * len(followers_of(1)) + 3 and "{'words': 1}, not {}" in notes[0]
        model.update(changed)
        assert audit(model).clean, audit(model).notes
        manager.remove_activity(activity)
        model.remove(activity)
        manager.unfollow(20_000, 2)
        model.unfollow(20_000, 2)
        box.work()
        assert audit(model).clean, audit(model).notes
        assert not model.notes[9_100] and not model.read_by(20_000)


def test_lists_are_compared() -> None:
    """An entry that stands twice, a wrong order, and both numbers of what differs."""
    a, b, c = (Activity(1, Love, n, time=START.replace(second=n)) for n in range(3))
    verdict = Verdict()
    verdict.entries("twice", {a, b}, [b, b, a])
    assert (verdict.lost, verdict.duplicated) == (0, 1)
    verdict.entries("other", {a, b}, [c, a])
    assert (verdict.lost, verdict.duplicated, verdict.wrong) == (1, 2, 0)
    verdict.entries("order", {a, b}, [a, b])
    assert verdict.wrong == 1


def test_the_page_holds_what_is_kept(tmp_path: Path) -> None:
    """The page holds the latest scenarios and all soaks, whichever comes first; a failure is plain to see."""
    written = tmp_path / "reliability.md"
    row = Row("a kill", "It lives.", "redis", 3, 40, 12_000, recovery=1.5, passed=True)
    tally = Tally("2024-03-01T12:00:00+00:00", "redis", faults={"a kill": 4_000, "a cut": 321}, deliveries=10_000_000)
    report.keep_soak(dataclasses.replace(tally, ended=True), tmp_path)
    report.keep_scenarios([row], 1, tmp_path)
    report.keep_soak(dataclasses.replace(tally, began="2024-03-02T12:00:00+00:00", broker="rabbitmq"), tmp_path)
    report.keep_scenarios([row, dataclasses.replace(row, broker="rabbitmq", lost=2, passed=False)], 61, tmp_path)
    text = written.read_text()
    assert "| 2024-03-01 12:00 | redis | 0.0 | 4,321 |" in text and "4,000 × a kill, 321 × a cut." in text
    assert "| 2024-03-02 12:00 (did not come to its end) | rabbitmq |" in text
    assert text.count("10,000,000") == 2 and text.count("**It lives.**") == 1
    assert "| a kill | redis | 3 | 40 | 12,000 | 0 | 0 | 0 | 1.5 |" in text
    assert "| a kill (**FAILED**) | rabbitmq | 3 | 40 | 12,000 | 2 | 0 | 0 | 1.5 |" in text
    assert "2 runs, 6 faults, 24,000 deliveries: 2 lost" in text and "1 of the runs failed" in text
    report.keep_scenarios([dataclasses.replace(row, broker="rabbitmq", faults=4)], 61, tmp_path, in_part=True)
    text = written.read_text()
    assert "2 runs, 7 faults, 24,000 deliveries: 0 lost" in text and "FAILED" not in text
    assert "FAILED" in report.table([dataclasses.replace(row, passed=False)])


def test_a_soak_is_kept_as_it_goes(tmp_path: Path) -> None:
    """A soak that is interrupted leaves what its rounds came to: each round takes the place of the one before."""
    tally = Tally("2024-03-01T12:00:00+00:00", "redis", rounds=1, deliveries=5)
    report.keep_soak(tally, tmp_path)
    report.keep_soak(dataclasses.replace(tally, rounds=2, deliveries=7, ended=True), tmp_path)
    (kept,) = json.loads((tmp_path / "reliability" / "soaks.json").read_text())
    assert (kept["rounds"], kept["deliveries"], kept["ended"]) == (2, 7, True)


def test_the_page_holds_simulated_histories() -> None:
    """Where a simulation was kept, the page tells how many histories, faults by kind and violations it came to."""
    storage = {"storage": "memory", "histories": 1_000_000, "operations": 45_000_000, "longest": 60, "commands": 10**9}
    storage |= {
        "seeds": [[0, 499_999], [700_000, 1_199_999]],
        "violations": 0,
        "seconds": 3_600,
        "faults": {"killed": 2_000, "refused": 30_000},
    }
    facts = {
        "date": "2024-03-01",
        "python": "3.11.7",
        "cores": 2,
        "code": "0123abcd",
        "excluded": [],
        "storages": [storage],
    }
    text = page.render({"simulation": facts})
    assert "cores, code 0123abcd." in text
    assert (
        "| memory | 0 to 499,999; 700,000 to 1,199,999 | 1,000,000 | 45,000,000 | 60 | 1,000,000,000 | 32,000 | 0 | 3,600 |"
        in text
    )
    assert "memory: 30,000 × refused, 2,000 × killed." in text and "Left out" not in text
    mutation = {"name": "a lock that is not checked", "storage": "redis", "histories": 1_234, "seconds": 8.4}
    text = page.render({"simulation": {**facts, "excluded": ["doctor"], "mutations": [mutation]}})
    assert "Left out: doctor." in text and "| a lock that is not checked | redis | 1,234 | 8 |" in text
    assert "## Simulated histories" not in page.render({})


def test_the_page_is_what_the_runs_found() -> None:
    """Nobody has written into the page by hand."""
    assert (page.DOCS / "reliability.md").read_text(encoding="utf-8") == page.render(page.kept())


def test_a_tally_counts_what_was_asked_for() -> None:
    """A soak ends when there were as many kills and deliveries as wanted, not before, and says whether it came to that."""
    soak = Soak.__new__(Soak)
    soak.tally, soak.began, soak.start_over = Tally("", "redis"), time.monotonic(), lambda: None  # type: ignore[method-assign]
    clean, kept = True, []

    def round_(seconds: float, kills: int) -> bool:
        soak.tally.kills += 3
        soak.tally.deliveries += 10
        return clean

    def keep(tally: Tally) -> None:
        kept.append(dataclasses.replace(tally))

    soak.round = round_  # type: ignore[method-assign]
    assert soak.run(60, 7, 50, keep).ended
    assert [(each.kills, each.ended) for each in kept] == [(3, False), (6, False), (9, False), (12, False), (15, True)]
    clean = False
    assert not soak.run(60, 7, 50, keep).ended and len(kept) == 6
    clean, soak.tally = True, Tally("", "redis")
    assert not soak.run(0, 7, 50, keep).ended
    assert soak.run(0, 0, 0, keep).ended


def test_patience_lasts_while_something_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long work takes, it is waited for; not for what does not go on."""
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    patience = Patience(10)
    for done in range(5):
        now += 9
        assert not patience.is_over(done)
    now += 9
    assert not patience.is_over(4)
    now += 2
    assert patience.is_over(4)
