"""The Celery tasks, and the app for those who have none: ``celery -A feedmill.tasks worker``."""

from feedmill.tasks import broker_outages as broker_outages
from feedmill.tasks import startup_checks as startup_checks
from feedmill.tasks.application import app
from feedmill.tasks.tasks import (
    deliver,
    fan_out,
    follow,
    rebuild,
    refollow,
    sweep,
    unfollow,
)

__all__ = ["app", "deliver", "fan_out", "follow", "rebuild", "refollow", "sweep", "unfollow"]
