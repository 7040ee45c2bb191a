"""What was asked for: the handle of a fan-out, its receipt, and the messages that tell workers."""

from __future__ import annotations

from feedmill.fanout.fanouts import Fanouts
from feedmill.fanout.receipts import Fanout, FanoutStatus, FanoutTimeout

__all__ = ["Fanout", "FanoutStatus", "FanoutTimeout", "Fanouts"]
