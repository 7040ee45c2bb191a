"""Instances that tests give in place of ids."""

from __future__ import annotations

from typing import Any


class Instance:
    """What has an id; *key* is its ``id``, and *more* what else it has."""

    def __init__(self, key: Any, **more: Any) -> None:
        self.id = key
        vars(self).update(more)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"


class User(Instance):
    """Whose ids are plain, because of the name."""


class Club(Instance):
    """Does things as users do, and may have the id of one; nothing is said of it."""


class Team(Instance):
    """Has feeds beside those of users."""

    feedmill_type = "team"


class Photo(Instance):
    """A thing."""


class Remark(Instance):
    """Another thing."""
