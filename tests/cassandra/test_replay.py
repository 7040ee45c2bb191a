"""What `feedmill replay --verify` checks, with every feed on Cassandra: each timeline is as recomputed from the graph."""

from __future__ import annotations

import datetime as dt
import random
from pathlib import Path

import pytest

from feedmill.ids import EntityId
from feedmill.storage.cassandra.backend import CassandraBackend
from feedmill.tools.replay.play import activity_of
from feedmill.tools.replay.read import START, Event
from feedmill.tools.replay.social import CO_ACTORS, DIR, HomeFeed, SocialManager, save_graph
from feedmill.tools.replay.verify import verify
from feedmill.verbs import Comment, Love
from tests.fake_broker import replaced


def test_a_graph(all_on_cassandra: CassandraBackend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Twelve people who follow each other do eighty things: every feed and every badge is right, and a missing entry is seen."""
    dice = random.Random(16)
    people: list[EntityId] = [f"p{number}" for number in range(12)]
    followers = {each: dice.sample([other for other in people if other != each], 4) for each in people}
    events = [
        Event(
            number,
            dice.choice(people),
            f"y{number % 9}",
            START + dt.timedelta(minutes=number),
            dice.choice([Love, Comment]),
        )
        for number in range(80)
    ]
    doers: dict[EntityId, dict[EntityId, int]] = {}
    for event in events:
        doers.setdefault(event.object, {}).setdefault(event.actor, event.row)
    save_graph(tmp_path, followers, CO_ACTORS, doers)
    monkeypatch.setenv(DIR, str(tmp_path))
    activities = [activity_of(event) for event in events]
    with replaced(monkeypatch) as box:
        for activity in activities:
            SocialManager().add_activity(activity)
        box.work()
    found = verify(activities, followers, CO_ACTORS)
    assert found.good, found.shown
    assert not all_on_cassandra.client.keys("*home*")
    reader = followers[activities[-1].actor_id][0]
    assert HomeFeed(reader).remove(activities[-1]) == 1
    assert verify(activities, followers, CO_ACTORS).missing == 1
