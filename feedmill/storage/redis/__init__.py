"""Storage on Redis: timelines and activities, one script a file."""

from __future__ import annotations

from feedmill.storage.redis.activities import RedisActivityStorage
from feedmill.storage.redis.timelines import RedisTimelineStorage

__all__ = ["RedisActivityStorage", "RedisTimelineStorage"]
