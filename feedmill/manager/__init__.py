"""What a web app declares and calls: its feeds, its hooks, and the methods that start fan-outs. For packages above fanout."""

from feedmill.compat.stream_framework import FanoutPriority
from feedmill.manager.explain import Explanation, Why
from feedmill.manager.hook_values import FinishedFanout, Notification
from feedmill.manager.hooks import Followers, Priority
from feedmill.manager.manager import Manager, UserFeeds

__all__ = [
    "Explanation",
    "FanoutPriority",
    "FinishedFanout",
    "Followers",
    "Manager",
    "Notification",
    "Priority",
    "UserFeeds",
    "Why",
]
