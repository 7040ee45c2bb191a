"""What a backend keeps beside feeds, activities and the journal."""

from __future__ import annotations

import dataclasses

from feedmill.storage.notified_users import Notices
from feedmill.storage.pending_index import Left
from feedmill.storage.unfollows import Partings


@dataclasses.dataclass(frozen=True)
class Auxiliary:
    """The three of a backend."""

    pending_index: Left
    unfollows: Partings
    notified_users: Notices
