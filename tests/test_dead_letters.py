"""What cannot be processed is kept with its reason, and can be listed, retried and deleted; nothing else is lost for it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

import feedmill
from feedmill.cli.main import main
from feedmill.errors import MessageError
from feedmill.fanout.handle import FanoutTimeout
from feedmill.keys import fanout_record_key
from feedmill.msgpack_codec import pack
from feedmill.storage.journal import OPEN_TTL, DeadLetter
from feedmill.storage.registry import backend
from feedmill.tasks import app
from feedmill.worker import dead_letters, drain
from tests.fake_broker import FakeBroker, arrive, make_overdue, replaced
from tests.test_journal import BROKEN, NAME, STAR, Home, JournalManager, love, manager, open_fanouts, sweep_and_work


@pytest.fixture
def box(backend_kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
    """Each backend in turn, with a broker by hand, and patience for two attempts."""
    monkeypatch.setattr(JournalManager, "broken", None)
    monkeypatch.setattr(drain, "MOST_ATTEMPTS", 2)
    with replaced(monkeypatch) as fake_broker:
        yield fake_broker


def run(*words: str) -> str:
    """What the command prints; it must succeed."""
    result = CliRunner().invoke(main, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def the_letter() -> DeadLetter:
    (letter,) = dead_letters.newest()
    return letter


def given_up(box: FakeBroker, monkeypatch: pytest.MonkeyPatch, activity: Any) -> Any:
    """A fan-out that failed as often as is allowed."""
    with monkeypatch.context() as patch:
        patch.setattr(JournalManager, "broken", OSError("no database"))
        wanted = manager.add_activity(activity)
        box.work()
        assert not dead_letters.newest()
        sweep_and_work(box)
    return wanted


def test_a_fanout_is_given_up(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails again and again becomes a dead letter that says why, and its replay delivers it."""
    activity = love(1, actor=BROKEN)
    wanted = given_up(box, monkeypatch, activity)
    letter, status = the_letter(), wanted.status()
    assert (letter.kind, letter.manager, letter.reason) == ("fanout", NAME, "OSError: no database")
    assert status.finished and status.dead == letter.id and status.error == letter.reason
    assert open_fanouts() == 0
    sweep_and_work(box)
    assert "OSError: no database" in run("dead", "list")
    shown = run("dead", "show", letter.id)
    assert "reason: OSError: no database" in shown and "holds: 'add'" in shown
    assert f"add in {NAME} starts again" in run("dead", "retry", letter.id)
    box.work()
    assert wanted.status().finished and not wanted.status().dead
    assert Home(2000)[:] == [activity]
    assert run("dead", "list") == "no dead letters\n"


def test_a_removal_makes_the_dead_letter_pointless(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """When an activity is removed whose addition is a dead letter, the dead letter goes: a replay must not bring it back."""
    given_up(box, monkeypatch, love(1, actor=BROKEN))
    name = the_letter().id
    manager.remove_activity(love(1, actor=BROKEN))
    box.work()
    assert dead_letters.newest() == []
    result = CliRunner().invoke(main, ["dead", "retry", name])
    assert result.exit_code == 1 and f"no dead letter '{name}'" in result.output


def test_replaced_while_it_is_given_up(box: FakeBroker) -> None:
    """Who gives up an addition that was removed meanwhile leaves no dead letter that could bring it back."""
    manager.add_activity(love(1))
    (claim,), _ = backend().run(backend().journal.claim(NAME, 10))
    removed = manager.remove_activity(love(1))
    dead_letters.dead_letter(NAME, claim, "too late")
    assert dead_letters.newest() == []
    box.work()
    assert removed.status().finished and not removed.status().dead


def test_nothing_is_kept_of_a_dropped_dead_letter(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fan-out record of what was given up stays as long as its dead letter, and not for ever."""
    monkeypatch.setattr(drain, "MOST_ATTEMPTS", 2)
    with replaced(monkeypatch) as box:
        record = fanout_record_key(given_up(box, monkeypatch, love(1, actor=BROKEN)).id)
    client = backend().client  # type: ignore[attr-defined]
    assert client.ttl(record) == -1
    dead_letters.delete([the_letter().id])
    assert 0 < client.ttl(record) <= OPEN_TTL


def test_only_so_many_are_kept(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit the oldest dead letters go, a few at a time if it was lowered; and the fan-out records that they kept expire."""
    for storage in ("redis.journal", "memory.journal"):
        monkeypatch.setattr(f"feedmill.storage.{storage}.MAX_DEAD_LETTERS", 3)
    ids = []
    for number in range(5):
        run_once(backend().journal.open(NAME, f"{NAME}:{number}", "add", b"x"))
        (claim,), _ = run_once(backend().journal.claim(NAME, 10))
        dead_letters.dead_letter(NAME, claim, "why")
        ids.append(claim.id)
    kept = dead_letters.newest()
    assert [(letter.fanout, dead_letters.content(letter)[2]) for letter in kept] == [
        (name, name) for name in ids[:1:-1]
    ]
    dead_letters.keep_message("feedmill.sweep", [], "no reason")
    assert [letter.fanout for letter in dead_letters.newest()] == ["", ids[4], ids[3]]
    for storage in ("redis.journal", "memory.journal"):
        monkeypatch.setattr(f"feedmill.storage.{storage}.MAX_DEAD_LETTERS", 1)
    dead_letters.keep_message("feedmill.sweep", [], "no reason")
    assert [letter.fanout for letter in dead_letters.newest()] == [""]
    if not backend().in_process:
        client = backend().client  # type: ignore[attr-defined]
        assert all(0 < client.ttl(fanout_record_key(name)) <= OPEN_TTL for name in ids)


def run_once(operation: Any) -> Any:
    return backend().run(operation)


def test_chunks_that_stay_undone(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks are sent again as long as some of them get done, and given up when none does."""
    wanted = manager.add_activity(love(1, actor=STAR))
    for _ in range(3):
        box.messages[0:1] and arrive(*box.messages.pop(0))
        if box.messages:
            arrive(*box.messages.pop(0))
        box.take()
        make_overdue(NAME)
        drain.sweep()
    assert not dead_letters.newest() and wanted.status().done == 3
    for _ in range(3):
        box.take("feedmill.deliver")
        sweep_fanouts(box)
    letter = the_letter()
    assert letter.reason == "AttemptsExhausted: not done after 2 attempts"
    dead_letters.retry(letter.id)
    box.work()
    status = wanted.status()
    assert status.finished and status.reached == 100


def sweep_fanouts(box: FakeBroker) -> None:
    """A sweep whose chunks do not arrive."""
    make_overdue(NAME)
    drain.sweep()
    for message in box.take("feedmill.fanout"):
        arrive(*message)


@pytest.mark.parametrize(
    ("task", "args", "why"),
    [
        ("feedmill.deliver", ["x"], r"feedmill.deliver takes str, str, bytes.*holds str"),
        ("feedmill.fanout", [5], r"feedmill.fanout takes str; the message holds int"),
        ("feedmill.sweep", [b"x"], r"feedmill.sweep takes nothing; the message holds bytes"),
        ("feedmill.follow", [NAME, pack([1]), "f", 1], r"takes a user and a target, not 1 ids"),
        ("feedmill.deliver", [NAME, "add", b"\xc1", "f", 1, 0], r"activity cannot be read"),
    ],
)
def test_a_malformed_message(box: FakeBroker, task: str, args: list[Any], why: str) -> None:
    """A message that no worker understands is kept, with the reason, and can be deleted."""
    result = app.tasks[task].apply(args)
    assert isinstance(result.result, MessageError)
    letter = the_letter()
    assert letter.kind == "message" and dead_letters.content(letter) == [task, args]
    with pytest.raises(MessageError, match=why):
        arrive(task, args)
    assert run("dead", "delete", letter.id) == "1 deleted\n"
    assert not dead_letters.newest()


def test_a_message_once_more(box: FakeBroker) -> None:
    """The replay of a message sends it as it was."""
    dead_letters.keep_message("feedmill.sweep", [], "no reason")
    dead_letters.keep_message("feedmill.fanout", [NAME], "no reason")
    assert run("dead", "retry", "--all").splitlines() == ["sent feedmill.fanout again", "sent feedmill.sweep again"]
    assert box.messages == [("feedmill.fanout", [NAME]), ("feedmill.sweep", [])]
    assert CliRunner().invoke(main, ["dead", "delete"]).exit_code == 2


def test_a_chunk_that_fails(box: FakeBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A chunk that an error of the app's own stops is no dead letter: it is noted, and sent again by the sweep."""
    wanted = manager.add_activity(love(1, actor=STAR))
    arrive(*box.messages.pop(0))
    name, args = box.messages.pop(0)
    with monkeypatch.context() as patch, caplog.at_level(logging.CRITICAL):
        patch.setattr("feedmill.worker.compensation.operations_of", lambda *_: 1 / 0)
        app.tasks[name].apply(args)
    box.work()
    status = wanted.status()
    assert (status.done, status.failed, status.error) == (9, 1, "ZeroDivisionError: division by zero")
    assert not dead_letters.newest()
    assert "9/10" in run("fanouts") and "ZeroDivisionError" in run("fanouts")
    make_overdue(NAME)
    assert run("sweep") == "1 overdue\n"
    box.work()
    assert wanted.status().finished
    assert run("fanouts") == "no fan-out is running\n"
    assert backend().run(backend().journal.list_due(NAME)).number == 0


def test_one_that_cannot_be_replayed(box: FakeBroker) -> None:
    """It is said, and keeps no other from being retried."""
    dead_letters.keep_message("feedmill.sweep", [], "no reason")
    dead_letters.keep_message("", [b"?"], "rubbish")
    result = CliRunner().invoke(main, ["dead", "retry", "--all"])
    assert result.exit_code == 1 and "names no task of ours" in result.output
    assert "sent feedmill.sweep again" in result.output and box.messages == [("feedmill.sweep", [])]
    assert the_letter().reason == "rubbish"


def test_a_follow_that_fails(
    box: FakeBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What stopped a follow is noted as well, and stands in the error of who waits for it."""
    manager.get_user_feed(7).add(love(1, actor=7))
    wanted = manager.follow("reader", 7)
    name, args = box.messages.pop(0)
    with monkeypatch.context() as patch, caplog.at_level(logging.CRITICAL):
        patch.setattr("feedmill.worker.follow.admitted_to", lambda *_: 1 / 0)
        app.tasks[name].apply(args)
    assert (wanted.status().failed, wanted.status().error) == (1, "ZeroDivisionError: division by zero")
    with pytest.raises(FanoutTimeout, match="last error: ZeroDivisionError"):
        wanted.wait(0)


def test_bytes_that_are_no_message(box: FakeBroker) -> None:
    """What a worker cannot decode, or does not know, is kept as it came and acknowledged; its replay is refused."""
    from types import SimpleNamespace

    from feedmill.tasks.consumer import DeadLetterConsumer

    class Message(SimpleNamespace):
        @property
        def payload(self) -> Any:
            raise ValueError("no msgpack")

    handled: list[str] = []
    message = Message(
        body=b"\xc1rubbish",
        headers={"task": "feedmill.next", "id": "1"},
        content_type="application/x-msgpack",
        content_encoding="binary",
        properties={},
        delivery_info={},
        ack=lambda: handled.append("ack"),
        reject_log_error=lambda *_: handled.append("reject"),
    )
    consumer = object.__new__(DeadLetterConsumer)
    consumer.on_decode_error(message, ValueError("no msgpack"))
    letter = the_letter()
    assert letter.reason == "cannot be decoded: no msgpack"
    assert dead_letters.content(letter) == ["feedmill.next", [b"\xc1rubbish"]]
    assert handled == ["ack"]
    dead_letters.delete([letter.id])
    message.delivery_info = {"exchange": "celery.pidbox", "routing_key": ""}
    consumer.on_decode_error(message, ValueError("json"))
    assert dead_letters.newest(5) == [], "what another project asks of all workers is no work that was lost"
    dead_letters.keep_message("", [b"?"], "rubbish")
    with pytest.raises(MessageError, match="names no task of ours"):
        dead_letters.retry(the_letter().id)


def test_a_visibility_timeout_that_is_too_short() -> None:
    """A worker whose broker would hand out a running task again warns at its start, and says which setting."""
    from types import SimpleNamespace

    from feedmill.tasks.startup_checks import check_visibility

    def warning(**options: Any) -> str:
        conf = SimpleNamespace(broker_url="redis://x", broker_transport_options=options)
        return str(check_visibility(SimpleNamespace(app=SimpleNamespace(conf=conf, tasks=app.tasks))))

    assert "visibility_timeout is 60 s, and feedmill.fanout may run for 1800 s" in warning(visibility_timeout=60)
    assert warning() == ""
    assert warning(visibility_timeout=1801) == ""


def test_a_lease_that_is_too_short() -> None:
    """A worker that is to try again before the locks of the dead are over warns at its start."""
    from feedmill.tasks.startup_checks import check_lease

    feedmill.configure(fanout_lease=10, lock_ttl=10)
    assert "FEEDMILL_FANOUT_LEASE is 10.0 s, not longer than FEEDMILL_LOCK_TTL (10.0 s)" in str(check_lease())
    feedmill.configure(fanout_lease=11)
    assert check_lease() == ""
