"""Much that is removed in one call, while workers die and messages are lost."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from feedmill import Activity
from feedmill.keys import activity_key
from feedmill.storage import activity_state
from tests.chaos.harness import Harness
from tests.chaos.network import AUTHORS, OwnFeed

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]


def actors_of_bodies(harness: Harness) -> set[object]:
    """Who did what is kept in the feed store, tombstones included."""
    client, found = harness.feeds.client, set[object]()
    for key in client.scan_iter(match=activity_key(b"") + b"*", count=1000):
        value = client.get(key)
        if value is not None:
            found.add(Activity.unpack(activity_state.decode(value).body).actor_id)
    return found


@pytest.mark.short
@pytest.mark.scenario("kill -9 of workers while everything about an object is removed")
def test_remove_object(harness: Harness, verify: Callable[[], object]) -> None:
    """What is about an object leaves every feed, whoever did it and whatever dies meanwhile; what is added afterwards stays."""
    workers = harness.hire(2)
    harness.add(40)
    for number, thing in enumerate((0, 1, 2)):
        harness.remove_object(thing)
        harness.add(6)
        time.sleep(0.1 * number)
        workers[number % 2].kill()
        harness.fault()
        harness.supervise()
    harness.forget_messages()
    harness.fault()
    verify()


@pytest.mark.short
@pytest.mark.scenario("kill -9 of workers while a user is deleted")
def test_delete_user(harness: Harness, verify: Callable[[], object]) -> None:
    """All that a user did leaves every feed, and nothing of it is kept, whatever dies meanwhile; what others did stays."""
    workers, user = harness.hire(2), AUTHORS[0]
    harness.add(40)
    harness.notify((9_100, 9_101), harness.activity(actor=user))
    harness.delete_user(user)
    for number in range(3):
        time.sleep(0.2 * number)
        workers[number % 2].kill()
        harness.fault()
        harness.supervise()
        harness.add(2, actor=AUTHORS[1])
    harness.forget_messages()
    harness.fault()
    verify()
    assert user not in actors_of_bodies(harness) and AUTHORS[1] in actors_of_bodies(harness)
    assert not harness.feeds.client.exists(OwnFeed(user).key)
