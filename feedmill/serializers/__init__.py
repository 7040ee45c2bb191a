"""The serializers, under the name that ports from Stream-Framework import them by."""

from __future__ import annotations

from feedmill.records import (
    ActivitySerializer,
    AggregatedActivitySerializer,
    NotificationSerializer,
)

__all__ = ["ActivitySerializer", "AggregatedActivitySerializer", "NotificationSerializer"]
