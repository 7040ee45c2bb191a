"""The web app, and what it counts at a port of its own: ``METRICS_PORT=9464 uvicorn examples.live.watched:app``"""

from __future__ import annotations

from prometheus_client import start_http_server

from examples.live.app import app
from examples.live.metrics import HOST, PORT
from feedmill.contrib import prometheus

if PORT:
    start_http_server(PORT, HOST, prometheus.exposition())

__all__ = ["app"]
