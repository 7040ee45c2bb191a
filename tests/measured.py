"""What the workers of tests/test_prometheus_server.py import: the managers of a known load, and metrics that are served."""

from __future__ import annotations

import os

from feedmill.contrib import prometheus
from tests.counting import CountedManager

prometheus.install(port=int(os.environ.get("METRICS_PORT", 0)))

__all__ = ["CountedManager"]
