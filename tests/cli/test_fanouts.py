"""Fan-outs and dead letters: listed, cancelled, woken, retried and deleted, for people and for programs."""

from __future__ import annotations

import pytest

from feedmill import Activity
from feedmill.cli import shapes
from feedmill.storage.registry import backend
from feedmill.verbs import Love
from feedmill.worker import dead_letters
from feedmill.worker.backlog import backlog
from tests.cli.samples import CROWD, TownManager, failed_json, invoke, run, run_json
from tests.fake_broker import FakeBroker, arrive, make_overdue

manager = TownManager()


def test_fanouts(box: FakeBroker) -> None:
    """One that waits, and one of which a chunk is done; nothing once all is done."""
    assert run("fanouts") == "no fan-out is running\n"
    assert run_json(shapes.Fanouts, "fanouts") == {"fanouts": [], "errors": []}
    fanout = manager.add_activity(Activity("star", Love, 1))
    (found,) = run_json(shapes.Fanouts, "fanouts")["fanouts"]
    assert (found["id"], found["manager"], found["op"], found["planned"]) == (fanout.id, "TownManager", "add", 0)
    assert "waiting" in run("fanouts")
    arrive(*box.messages.pop(0))
    arrive(*box.messages.pop(0))
    (found,) = run_json(shapes.Fanouts, "fanouts")["fanouts"]
    assert (found["planned"], found["done"], found["reached"]) == (4, 1, 1)  # who is told comes first
    assert "1/4" in run("fanouts", "--limit", "5")
    box.work()
    assert run_json(shapes.Fanouts, "fanouts", "--limit", "1")["fanouts"] == []
    assert invoke("fanouts", "--limit", "0").exit_code == 2
    assert failed_json("fanouts", "--limit", "many", code=2)["kind"] == "UsageError"


def test_the_backlog_is_estimated_from_a_sample(box: FakeBroker) -> None:
    """Open fan-outs, the oldest of them, and deliveries by queue: of chunks, and of what is one task."""
    run_now = backend().run
    assert run_now(backlog(TownManager.name)) == (0, "", "", 0.0, {})
    first = manager.add_activity(Activity("star", Love, 1))
    found = run_now(backlog(TownManager.name))
    assert (found.fanouts, found.oldest, found.oldest_op, dict(found.deliveries)) == (1, first.id, "add", {})
    arrive(*box.messages.pop(0))
    found = run_now(backlog(TownManager.name))
    assert CROWD * 0.5 < sum(found.deliveries.values()) <= 400
    manager.follow("eve", "ann")
    found = run_now(backlog(TownManager.name))
    assert found.fanouts == 2 and found.oldest == first.id and found.deliveries["fanout.high"] >= 1
    box.work()
    assert run_now(backlog(TownManager.name)) == (0, "", "", 0.0, {})


def test_the_backlog_of_many(box: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are more than are looked at, their number is right all the same, and deliveries are in proportion."""
    monkeypatch.setattr("feedmill.worker.backlog.LOOKED_AT", 5)
    monkeypatch.setattr("feedmill.worker.backlog.SAMPLED", 2)
    for number in range(20):
        manager.follow(f"u{number}", "ann")
    found = backend().run(backlog(TownManager.name))
    assert found.fanouts == 20 and found.deliveries == {"fanout.high": 20}


def test_cancel(box: FakeBroker) -> None:
    """What has not begun is not done; what is over, or never was, is said to be so, with status 1."""
    fanout = manager.add_activity(Activity("star", Love, 1))
    arrive(*box.messages.pop(0))
    arrive(*box.messages.pop(0))
    assert run("cancel", fanout.id) == f"{fanout.id}: cancelled, 1 of 4 chunks were done\n"
    box.work()
    assert fanout.status().cancelled and fanout.status().reached == 1
    again = invoke("cancel", fanout.id)
    assert again.exit_code == 1 and "it was finished already" in again.stderr
    other = manager.add_activity(Activity("ann", Love, 2))
    found = run_json(shapes.Cancellations, "cancel", other.id, "TownManager:none", code=1)["fanouts"]
    assert [(each["id"], each["cancelled"]) for each in found] == [(other.id, True), ("TownManager:none", False)]
    assert "there is no such fan-out" in found[1]["text"]


@pytest.mark.parametrize("name", ["nothing", "TownManager:", "TownManager:a b", ":x", ""])
def test_cancel_of_what_is_no_fanout(box: FakeBroker, name: str) -> None:
    """It is refused before anything is cancelled."""
    fanout = manager.add_activity(Activity("ann", Love, 1))
    assert (
        "is no id of a fan-out; `feedmill fanouts` lists ids"
        in failed_json("cancel", fanout.id, name, code=2)["message"]
    )
    assert not fanout.status().cancelled
    assert invoke("cancel").exit_code == 2


def test_sweep(box: FakeBroker) -> None:
    """It tells how many are overdue, and that it was done is known afterwards."""
    manager.add_activity(Activity("ann", Love, 1))
    box.take()
    make_overdue(TownManager.name)
    assert backend().run(backend().journal.last_sweep()) is None
    assert run_json(shapes.Sweep, "sweep") == {"overdue": 1}
    assert box.messages and backend().run(backend().journal.last_sweep()) < 60
    box.work()
    assert run("sweep") == "0 overdue\n"


def test_dead_letters(box: FakeBroker) -> None:
    """Listed, shown, retried and deleted; what cannot be retried is told with status 1, and keeps no other from it."""
    assert run_json(shapes.DeadLetters, "dead", "list") == {"dead_letters": []}
    dead_letters.keep_message("feedmill.sweep", [], "no reason")
    dead_letters.keep_message("", [b"\x7f\xff"], "rubb\x7fish")
    bad, good = run_json(shapes.DeadLetters, "dead", "list")["dead_letters"]
    assert (bad["kind"], bad["reason"], bad["fanout"]) == ("message", "rubb\x7fish", "")
    assert len(run_json(shapes.DeadLetters, "dead", "list", "--limit", "1")["dead_letters"]) == 1
    shown = run_json(shapes.DeadLetterContent, "dead", "show", bad["id"])
    assert shown == {"dead_letter": bad, "content": ["", ["f/8="]]}
    done = run_json(shapes.Retries, "dead", "retry", "--all", code=1)
    assert [each["id"] for each in done["retried"]] == [good["id"]]
    assert "names no task of ours" in done["errors"][0]["message"]
    assert run_json(shapes.Deletions, "dead", "delete", bad["id"]) == {"deleted": 1}
    assert run_json(shapes.Retries, "dead", "retry", "--all") == {"retried": [], "errors": []}
    assert run("dead", "retry", "--all") == "no dead letters\n"
    assert failed_json("dead", "show", "1-1", code=1)["kind"] == "UnknownDeadLetter"
    assert failed_json("dead", "delete", "1-1", code=1)["kind"] == "UnknownDeadLetter"
    assert failed_json("dead", "retry", code=2)["kind"] == "UsageError"
    assert failed_json("dead", "delete", "1-1", "--all", code=2)["message"].startswith("name the ids")
