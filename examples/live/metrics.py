"""Counts for Prometheus where ``METRICS_PORT`` is set: workers that import this serve them at the port."""

from __future__ import annotations

import os

#: Where to serve, as the environment says; 0 is nowhere.
PORT, HOST = int(os.environ.get("METRICS_PORT", "0")), os.environ.get("METRICS_HOST", "127.0.0.1")

if PORT:
    from feedmill.contrib import prometheus

    prometheus.install(port=PORT, host=HOST)
