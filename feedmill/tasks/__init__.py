"""The Celery tasks, and the app for those who have none: ``celery -A feedmill.tasks worker``."""

from feedmill.tasks import checks as checks
from feedmill.tasks import enduring as enduring
from feedmill.tasks.application import app
from feedmill.tasks.fanout import deliver, fan_out, follow, rebuild, sweep, unfollow

__all__ = ["app", "deliver", "fan_out", "follow", "rebuild", "sweep", "unfollow"]
