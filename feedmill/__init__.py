"""Feedmill: a Celery fan-out system for activity feeds and notification feeds."""

from __future__ import annotations

from feedmill._version import VERSION
from feedmill.activity import Activity
from feedmill.aggregated_activity import AggregatedActivity
from feedmill.errors import FeedmillError
from feedmill.id_types import register_type
from feedmill.manager import FanoutPriority, Manager, Priority
from feedmill.settings import configure
from feedmill.storage.procedures import aclose
from feedmill.verbs import Verb, register

__version__ = VERSION
__all__ = [
    "Activity",
    "AggregatedActivity",
    "FanoutPriority",
    "FeedmillError",
    "Manager",
    "Priority",
    "Verb",
    "aclose",
    "configure",
    "register",
    "register_type",
]
