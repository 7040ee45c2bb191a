"""Stream-Framework's names: a manager that was written for it works after a change of imports."""

from __future__ import annotations

import pytest

from feedmill import FanoutPriority, Priority
from feedmill.errors import ActivityError
from tests.manager.circle import Circle, Home, Own, home, love, news
from tests.postbox import Postbox


class PinManager(Circle):
    """As its README writes them."""

    def get_user_follower_ids(self, user_id: object) -> dict[Priority, list[object]]:
        """Everyone in one queue."""
        return {FanoutPriority.HIGH: list(super().get_user_follower_ids(user_id))}


def test_all_names(box: Postbox) -> None:
    """Each name does what it does there, with the arguments it has there."""
    manager = PinManager()
    manager.add_user_activity(1, love(1, text="old"))
    manager.add_user_activity(2, love(2, actor=2))
    box.work()
    assert home(10) == [2, 1] == news(10)
    manager.update_user_activities([love(1, text="new")])
    manager.update_user_activity(love(2, actor=2, text="new"))
    assert [activity.extra_context["text"] for activity in manager.get_feeds(10)["home"][:]] == ["new", "new"]
    manager.follow_user(20, 1)
    manager.follow_many_users(21, [1, 2], async_=True)
    box.work()
    assert home(20) == [1] and home(21) == [2, 1]
    manager.unfollow_user(20, 1, async_=True)
    manager.unfollow_many_users(21, [1], async_=True)
    box.work()
    assert home(20) == [] and home(21) == [2]
    manager.batch_import(1, [love(3), love(4)], fanout=True, chunk_size=500)
    box.work()
    assert home(10) == [4, 3, 2, 1]
    manager.remove_user_activity(1, love(4))
    box.work()
    assert home(10) == [3, 2, 1] and manager.get_user_feed(1)[:] == [love(3), love(1)] == Own(1)[:]


def test_done_when_it_returns(at_once: None) -> None:
    """``async_=False`` waits until it is done, as it does there."""
    manager = PinManager()
    manager.add_user_activity(1, love(1))
    manager.follow_many_users(21, [1], async_=False)
    assert home(21) == [1]
    manager.unfollow_many_users(21, [1], async_=False)
    assert Home(21).count() == 0


def test_somebody_elses(at_once: None) -> None:
    """An activity of another actor than the user is refused, instead of landing in a feed where it does not belong."""
    with pytest.raises(ActivityError, match="the actor of .* is 1, not 2"):
        PinManager().add_user_activity(2, love(1))
    assert Own(2).count() == 0 == Own(1).count()
