"""What was asked for: the handle of a fan-out, its record, and the messages that tell workers."""

from __future__ import annotations

from feedmill.fanout.deferred import DeferredFanout, DeferredFanouts
from feedmill.fanout.handle import Fanout, FanoutStatus, FanoutTimeout
from feedmill.fanout.handles import Fanouts

__all__ = ["DeferredFanout", "DeferredFanouts", "Fanout", "FanoutStatus", "FanoutTimeout", "Fanouts"]
