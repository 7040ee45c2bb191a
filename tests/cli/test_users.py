"""The feeds of one user: looked at, explained, rebuilt, deleted."""

from __future__ import annotations

import pytest

from feedmill import Activity
from feedmill.cli import shapes
from feedmill.errors import StorageError
from feedmill.verbs import Love
from tests.cli.samples import (
    ShopCached,
    ShopHome,
    ShopOwn,
    TownManager,
    failed_json,
    invoke,
    run,
    run_json,
)
from tests.fake_broker import FakeBroker

manager = TownManager()


@pytest.fixture
def filled(prompt: None) -> list[Activity]:
    """Two activities of ann, which bob follows."""
    done = [Activity("ann", Love, f"picture:{number}", target=number) for number in (1, 2)]
    for activity in done:
        manager.add_activity(activity)
    return done


def test_feeds(filled: list[Activity]) -> None:
    """Each feed with its length, its counts and its newest item."""
    lines = run("feeds", "bob").splitlines()
    assert lines[0].split() == ["manager", "feed", "kind", "length", "unseen", "unread", "newest"]
    assert [line.split()[1:6] for line in lines[1:]] == [
        ["home", "flat", "2", "-", "-"],
        ["news", "aggregated", "1", "-", "-"],
        ["user", "flat", "0", "-", "-"],
        ["notifications", "notification", "0", "0", "0"],
    ]
    assert lines[1].endswith("ann loved picture:2 at 2") and lines[2].endswith("ann loved picture:2 at 2 and 1 more")
    found = {each["feed"]: each for each in run_json(shapes.Feeds, "feeds", "dan")["feeds"]}
    assert (found["notifications"]["length"], found["notifications"]["unseen"], found["notifications"]["unread"]) == (
        2,
        2,
        2,
    )
    assert found["home"]["newest"] is None and found["notifications"]["newest"]["text"] == "ann loved picture:2 at 2"
    assert all(each["items"] is None for each in found.values())
    manager.get_notification_feed("dan").mark_all(seen=True)
    counts = run_json(shapes.Feeds, "feeds", "dan", "notifications")["feeds"][0]
    assert (counts["unseen"], counts["unread"]) == (0, 2)


def test_one_feed(filled: list[Activity]) -> None:
    """Its items, newest first, as to_dict() has them."""
    text = run("feeds", "bob", "home")
    assert filled[1].id in text and "ann loved picture:1 at 1" in text and "home, flat, length 2" in text
    (found,) = run_json(shapes.Feeds, "feeds", "bob", "home", "--limit", "1")["feeds"]
    assert found["items"] == [filled[1].to_dict()] and found["newest"]["id"] == filled[1].id
    (news,) = run_json(shapes.Feeds, "feeds", "bob", "news")["feeds"]
    assert [item["activity_count"] for item in news["items"]] == [2]
    assert "ann loved picture:2 at 2 and 1 more" in run("feeds", "bob", "news")
    assert "2 unseen, 2 unread" in run("feeds", "dan", "notifications")
    assert "it is empty" in run("feeds", "nobody", "home")
    assert run("feeds", "nobody").endswith("\nnothing is stored of 'nobody'; ids are keys, not login names\n")
    assert "nothing is stored" not in run("feeds", "bob")
    assert run_json(shapes.Feeds, "feeds", "nobody", "home")["feeds"][0]["items"] == []
    error = failed_json("feeds", "bob", "hoem", code=1)
    assert error == {
        "kind": "UnknownName",
        "message": "no feed 'hoem'; there are: home, news, user, notifications",
        "exit_code": 1,
    }


def test_ids_that_look_like_numbers(prompt: None) -> None:
    """They are numbers, as in a web app; empty ones and too long ones are refused."""
    manager.add_activity(Activity(7, Love, 1))
    assert run_json(shapes.Feeds, "feeds", "7", "user")["feeds"][0]["length"] == 1
    assert run_json(shapes.Feeds, "feeds", "7")["user"] == 7
    for user in ("", "x" * 1000):
        for command in ("feeds", "rebuild", "delete-user"):
            assert (
                failed_json(command, user, *(["--yes"] if command == "delete-user" else []), code=1)["kind"]
                == "ActivityError"
            )


def test_several_managers(second: FakeBroker) -> None:
    """All are looked at, or the one that is named; what needs one says which there are."""
    found = run_json(shapes.Feeds, "feeds", "bob")["feeds"]
    assert {each["manager"] for each in found} == {"SecondManager", "TownManager"}
    named = run_json(shapes.Feeds, "feeds", "bob", "--manager", "SecondManager")["feeds"]
    assert [each["feed"] for each in named] == ["second", "cached", "user"]
    assert failed_json("feeds", "bob", "--manager", "Nobody", code=1)["kind"] == "UnknownName"
    for words in (["rebuild", "bob"], ["explain", "bob", "x"]):
        assert (
            "there are several managers: SecondManager, TownManager; name one with --manager"
            in (failed_json(*words, code=1)["message"])
        )


def test_an_idle_feed_is_not_rebuilt_by_looking(second: FakeBroker) -> None:
    """What went because nobody used it is told to be so, and stays away."""
    for _ in range(2):
        (found,) = run_json(shapes.Feeds, "feeds", "bob", "cached", "--manager", "SecondManager")["feeds"]
        assert (found["present"], found["length"], found["items"]) == (False, 0, [])
    assert "idle" in run("feeds", "bob") and "nobody used it" in run("feeds", "bob", "cached")
    assert second.messages == []
    ShopCached("bob").add(Activity(1, Love, 7))
    assert run_json(shapes.Feeds, "feeds", "bob", "cached")["feeds"][0]["present"]


def test_explain(filled: list[Activity]) -> None:
    """A reason for each feed."""
    found = run_json(shapes.Explanations, "explain", "bob", filled[0].id)
    assert [(each["feed"], each["present"], each["why"]) for each in found["feeds"]] == [
        ("home", True, "SHOWN"),
        ("news", True, "MERGED"),
        ("notifications", False, "NOT_RECIPIENT"),
    ]
    assert failed_json("explain", "bob", "nonsense", code=1)["kind"] == "ActivityError"


def test_rebuild(filled: list[Activity]) -> None:
    """The feeds are what they should be, and the command says how long it took."""
    ShopHome("bob").delete()
    assert run("rebuild", "bob").startswith("TownManager: done in ")
    assert len(ShopHome("bob")[:]) == 2
    found = run_json(shapes.Rebuilt, "rebuild", "bob", "--manager", "TownManager")
    assert found["user"] == "bob" and found["rebuilt"]["finished"]


def test_not_waiting_for_a_rebuild(box: FakeBroker) -> None:
    """The fan-out is told, and whoever waits for workers that are not there is told so in time."""
    started = run_json(shapes.Rebuilt, "rebuild", "bob", "--no-wait")["rebuilt"]
    assert not started["finished"] and started["fanout"].startswith("TownManager:")
    assert "started as fan-out TownManager:" in run("rebuild", "bob", "--no-wait")
    error = failed_json("rebuild", "bob", "--timeout", "0.2", code=1)
    assert error["kind"] == "FanoutTimeout" and "goes on without this command" in error["message"]
    assert invoke("rebuild", "bob", "--timeout", "0").exit_code == 2


def test_a_user_is_deleted(filled: list[Activity]) -> None:
    """After a yes; a no, or nobody who answers, deletes nothing."""
    for answer in ("n\n", ""):
        refused = invoke("delete-user", "ann", stdin=answer)
        assert refused.exit_code == 1 and "Aborted!" in refused.output and len(ShopOwn("ann")[:]) == 2
    assert "Delete user 'ann': all that they did, and their feeds, in TownManager?" in refused.stderr
    assert "nobody can be asked" in failed_json("delete-user", "ann", code=2)["message"]
    assert len(ShopOwn("ann")[:]) == 2
    done = invoke("delete-user", "ann", stdin="y\n")
    assert done.exit_code == 0 and "TownManager: done in " in done.stdout and len(ShopOwn("ann")[:]) == 0
    found = run_json(shapes.UserDeleted, "delete-user", "ann", "--yes", "--about-them")
    assert [each["manager"] for each in found["deleted"]] == ["TownManager"]


def test_nothing_is_deleted_where_it_cannot_be_whole(second: FakeBroker) -> None:
    """A manager without an index of activities is named before any other has deleted anything."""
    manager.add_activity(Activity("ann", Love, 1))
    second.work()
    error = failed_json("delete-user", "ann", "--yes", code=1)
    assert error["message"].startswith("SecondManager.removal_index is False") and len(ShopOwn("ann")[:]) == 1
    found = run_json(shapes.UserDeleted, "delete-user", "ann", "--yes", "--manager", "TownManager", "--no-wait")
    assert not found["deleted"][0]["finished"] and len(ShopOwn("ann")[:]) == 0


def test_a_deletion_that_is_given_up(prompt: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fan-out that became a dead letter, or was cancelled, is a failure with its reason."""
    from feedmill.fanout.handle import Fanout, FanoutStatus

    for status, text in (
        (
            FanoutStatus(1, 0, 0, True, 1.0, dead="1-1", error="OSError: no"),
            "failed: OSError: no; it is dead letter 1-1",
        ),
        (FanoutStatus(1, 0, 0, True, 1.0, cancelled=True), "was cancelled"),
    ):
        monkeypatch.setattr(Fanout, "status", lambda self, status=status: status)
        assert text in failed_json("rebuild", "bob", code=1)["message"]


def test_an_app_s_own_error_is_told_whole(prompt: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the app's code raises has its traceback on standard error, and is JSON where that is wanted."""

    def fails(self: TownManager, user_id: object, activity: object) -> None:
        raise RuntimeError("the app's")

    monkeypatch.setattr(TownManager, "explain", fails)
    error = failed_json("explain", "bob", "x", code=1)
    assert error == {"kind": "RuntimeError", "message": "the app's", "exit_code": 1}
    assert "Traceback" in invoke("explain", "bob", "x", "--json").stderr


def test_a_storage_that_fails_is_status_3(prompt: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """And its error is one line."""

    def fails(*_: object) -> None:
        raise StorageError("it is away")

    monkeypatch.setattr(TownManager, "rebuild", fails)
    result = invoke("rebuild", "bob")
    assert (result.exit_code, result.output) == (3, "Error: it is away\n")
    assert failed_json("rebuild", "bob", code=3)["kind"] == "StorageError"
