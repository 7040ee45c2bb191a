"""What readers do about damage: they leave out what cannot be read, say so once, and show the rest."""

from __future__ import annotations

import functools
import logging
from typing import Any

from feedmill.activity import Activity
from feedmill.errors import CorruptRecord, UnknownVerb

logger = logging.getLogger(__name__)


@functools.lru_cache(maxsize=1024)
def left_out(what: str, why: str) -> None:
    """Log that *what* is left out. A page is read again and again: the same is said once in a process."""
    logger.error("%s cannot be read and is left out: %s; `feedmill doctor` names what is damaged", what, why)


class Loads:
    """Reads bodies for a feed class; what cannot be read here is a :class:`~feedmill.errors.CorruptRecord`."""

    def __init__(self, feed_class: Any) -> None:
        self._loads = feed_class.activity_serializer(feed_class.activity_class).loads

    def __call__(self, body: bytes) -> Activity:
        try:
            activity: Activity = self._loads(body)
        except (CorruptRecord, UnknownVerb) as error:
            left_out("an activity", str(error))
            raise CorruptRecord(str(error)) from error
        return activity
