"""An activity by its id: as it is stored, whatever feeds still show of it."""

from __future__ import annotations

from typing import Any

import pytest

from feedmill import Activity, Verb, register
from feedmill.errors import ActivityError, ArgumentError, CorruptRecord, UnknownActivity, UnknownVerb
from feedmill.storage.registry import backend
from feedmill.verbs import _verbs
from tests.manager.friends import Friends, Home, Notes, home, love


class Telling(Friends):
    """The same friends, with notifications alone: no feed keeps bodies."""

    feed_classes = {}
    user_feed_class = None


@pytest.mark.parametrize("manager", [Friends, Telling])
def test_one(at_once: None, manager: Any) -> None:
    """It comes with what was stored, by its id or by an equal activity, also when no feed shows it."""
    manager().add_activity(love(1, target=11, more=[1]))
    for asked in (love(1, target=11).id, love(1, target=11), love(1, target=11).id.upper()):
        found = manager().get_activity(asked)
        assert found == love(1, target=11)
        assert found.extra_context == {"more": [1]}
    for feed in (Home(10), Notes(11)):
        feed.delete()
    assert manager().get_activity(love(1, target=11).id) == found
    manager().update_activity(love(1, target=11, more=[2]))
    assert manager().get_activity(found.id).extra_context == {"more": [2]}


def test_missing(at_once: None) -> None:
    """One that was never added, or was removed, is an error; added again it is there again."""
    activity = love(1)
    with pytest.raises(UnknownActivity, match=f"Friends has no activity {activity.id}: it was never added"):
        Friends().get_activity(activity.id)
    Friends().add_activity(activity)
    Friends().remove_activity(activity)
    with pytest.raises(UnknownActivity, match="or was removed"):
        Friends().get_activity(activity)
    Friends().add_activity(activity)
    assert Friends().get_activity(activity.id) == activity


def test_imported_and_notified(at_once: None) -> None:
    """What was imported, or only notified, is known as well; what was taken back from users before it was added is not."""
    Friends().batch_import(1, [love(1)])
    Friends().notify([11], love(2))
    Friends().unnotify([11], love(3))
    assert home(10) == [1]
    assert set(Friends().get_activities([love(1), love(2), love(3)])) == {love(1).id, love(2).id}


def test_many(at_once: None) -> None:
    """Many come in the order asked, each once, in one round trip, without those that are not there."""
    Friends().add_activities(love(number) for number in range(5))
    Friends().remove_activity(love(3))
    asked = [love(4).id, love(3).id, love(9).id, love(0), love(4), love(2).id]
    before = backend().round_trips  # type: ignore[attr-defined]
    found = Friends().get_activities(iter(asked))
    assert backend().round_trips - before <= 1  # type: ignore[attr-defined]
    assert list(found.items()) == [(love(number).id, love(number)) for number in (4, 0, 2)]
    assert Friends().get_activities([]) == {}


def test_what_cannot_be_read(at_once: None) -> None:
    """An unknown verb and a damaged body are errors of their own for one, and harm no other among many."""

    @register
    class Hum(Verb):
        id = 31001
        infinitive, past_tense = "hum", "hummed"

    hummed = Activity(1, Hum, 5)
    Friends().add_activities([hummed, love(1), love(2)])
    del _verbs[Hum.id]
    backend().run(Home.activities().remove([love(2).raw_id]))
    backend().run(Home.activities().add({love(2).raw_id: b"\x93nonsense"}))
    with pytest.raises(UnknownVerb, match="unknown verb 31001"):
        Friends().get_activity(hummed.id)
    with pytest.raises(CorruptRecord, match=f"activity {love(2).id} is damaged; feedmill doctor"):
        Friends().get_activity(love(2).id)
    assert Friends().get_activities([hummed.id, love(1).id, love(2).id]) == {love(1).id: love(1)}


@pytest.mark.parametrize("wrong", ["", "abc", "g" * 32, 5, None, b"short"])
def test_no_id(at_once: None, wrong: Any) -> None:
    """What is no id is refused as such, alone and among many."""
    with pytest.raises(ActivityError, match="activity"):
        Friends().get_activity(wrong)
    with pytest.raises(ActivityError, match="activity"):
        Friends().get_activities([love(1), wrong])


@pytest.mark.parametrize("wrong", ["0" * 32, love(1), None, {"a": 1}])
def test_one_for_many(at_once: None, wrong: Any) -> None:
    """One thing where many belong is refused."""
    with pytest.raises(ArgumentError, match="use a list of"):
        Friends().get_activities(wrong)
