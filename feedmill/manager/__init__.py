"""The door for the web app: declares the feeds, knows the followers, starts the fan-out."""

from feedmill.manager.config import FanoutPriority, Followers, Priority, UserFeeds
from feedmill.manager.explain import Explanation, Why
from feedmill.manager.manager import Manager

__all__ = ["Explanation", "FanoutPriority", "Followers", "Manager", "Priority", "UserFeeds", "Why"]
