"""The command that tells what is stored as numbers, once or for Prometheus."""

from __future__ import annotations

import signal
import threading

import click

from feedmill.cli import shapes
from feedmill.cli.command import OK, UNREACHABLE, Command, Failure, Result, examples, table, tell
from feedmill.cli.loading import load_managers
from feedmill.metrics import STORAGE_UP
from feedmill.worker.figures import figures


@click.command(cls=Command, epilog=examples("feedmill metrics", "feedmill -A proj metrics --serve 9464 --host 0.0.0.0"))
@click.option(
    "--serve", type=click.IntRange(1, 65535), metavar="PORT", help="Serve the numbers to Prometheus at this port."
)
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Address to serve at.")
def metrics(serve: int | None, host: str) -> Result:
    """Show what is stored, as numbers for monitoring.

    Unfinished fan-outs, deliveries and messages that wait, dead letters, pending writes, and the last sweep. With --serve they are read at
    each scrape, until the command is stopped; one such process serves a deployment. It needs the extra prometheus. What processes count is
    served by these.
    """
    load_managers()
    if serve is not None:
        return _serve(serve, host)
    found = [
        shapes.Figure(each.metric.name, dict(zip(each.metric.labels, each.labels)), each.value) for each in figures()
    ]
    table(
        ("metric", "labels", "value"),
        [
            (each.name, ",".join(f"{key}={text}" for key, text in each.labels.items()), f"{each.value:g}")
            for each in found
        ],
    )
    up = any(each.name == STORAGE_UP.name and each.value for each in found)
    return Result(shapes.Figures(found), OK if up else UNREACHABLE)


def _serve(port: int, host: str) -> Result:
    try:
        from feedmill.contrib import prometheus
    except ImportError as error:
        raise Failure(str(error)) from error
    try:
        server, thread = prometheus.serve_stored(port, host)
    except OSError as error:
        raise Failure(
            f"metrics cannot be served on {host}:{port}: {error}; choose another port with --serve"
        ) from error
    # The first process of a container is ended by no signal that it does not handle.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda number, frame: server.shutdown())
    tell(f"serving http://{host}:{port}/metrics")
    thread.join()
    return Result(shapes.Figures([]))


__all__ = ["metrics"]
