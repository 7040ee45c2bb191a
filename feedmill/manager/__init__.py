"""The door for the web app: declares the feeds, knows the followers, starts the fan-out."""

from feedmill.manager.declared import FanoutPriority, Followers, Priority, UserFeeds
from feedmill.manager.door import Manager
from feedmill.manager.explaining import Explanation, Why

__all__ = ["Explanation", "FanoutPriority", "Followers", "Manager", "Priority", "UserFeeds", "Why"]
