"""Managers that not every worker knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from feedmill import Priority
from feedmill.verbs import Verb, register
from tests.chaos.network import ChaosManager, HomeFeed, NewsFeed, PinsFeed, followers_of


@register
class Poke(Verb):
    """A verb that the new release brings."""

    id = 1_500
    infinitive = "poke"
    past_tense = "poked"


class NextManager(ChaosManager):
    """A manager that the new release brings."""

    feed_classes = {"home": HomeFeed, "news": NewsFeed, "pins": PinsFeed}


class LargeAudienceManager(ChaosManager):
    """All followers are in no hurry."""

    def get_user_follower_ids(self, user_id: Any) -> Mapping[Priority, Iterable[Any]]:
        """All of them in the low queue."""
        return {Priority.LOW: iter(followers_of(user_id))}
