"""``feedmill outbox``: what waits in the outboxes of the app's databases, and what was given up."""

from __future__ import annotations

import datetime as dt

import click

from feedmill.cli import shapes
from feedmill.cli.command import Group, Result, examples, tell
from feedmill.cli.loading import load_managers
from feedmill.contrib import outbox as outboxes
from feedmill.contrib.outbox import Outbox, Row
from feedmill.errors import UnknownName

_NAME = click.option("--name", default="", metavar="NAME", help="Name of the outbox. Required if there are several.")


@click.group(cls=Group, epilog=examples("feedmill -A proj outbox status", "feedmill -A proj outbox list --dead"))
def outbox() -> None:
    """List, relay, retry or drop rows of the transactional outbox.

    A row is a call of a manager that was made in a transaction of the app's database.
    """


def _found(name: str) -> Outbox:
    load_managers()
    known = outboxes.outboxes()
    if name or not known:
        return outboxes.named(name)
    if len(known) > 1:
        raise UnknownName(f"there are several outboxes: {', '.join(each.name for each in known)}; name one with --name")
    return known[0]


@outbox.command(epilog=examples("feedmill -A proj outbox status"))
def status() -> Result:
    """Show for each outbox how many rows wait, since when, and how many were given up."""
    load_managers()
    found = []
    for each in outboxes.outboxes():
        counts = each.counts()
        found.append(shapes.OutboxCounts(each.name, counts.waiting, counts.dead, counts.oldest))
        oldest = f", the oldest for {counts.oldest:,.0f} s" if counts.waiting else ""
        tell(f"{each.name}: {counts.waiting:,} waiting{oldest}; {counts.dead:,} given up")
    if not found:
        tell("no outbox is in use")
    return Result(shapes.Outboxes(found))


@outbox.command("list", epilog=examples("feedmill -A proj outbox list", "feedmill -A proj outbox list --dead --json"))
@_NAME
@click.option("--dead", is_flag=True, help="List rows that were given up.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1), help="Maximum number of rows.")
def list_(name: str, dead: bool, limit: int) -> Result:
    """List rows that wait, oldest first: id, time, failed attempts, call and last error."""
    rows = _found(name).rows(dead, limit)
    for row in rows:
        tell(_shown(row))
    if not rows:
        tell("nothing was given up" if dead else "nothing is waiting")
    return Result(shapes.OutboxRows(list(map(_shape, rows))))


@outbox.command(epilog=examples("feedmill -A proj outbox relay"))
@_NAME
def relay(name: str) -> Result:
    """Relay what waits and is due, once.

    The sweep that `celery beat` sends does this every ten seconds.
    """
    relayed = _found(name).relay()
    tell(f"{relayed:,} relayed")
    return Result(shapes.OutboxRelayed(relayed))


@outbox.command(epilog=examples("feedmill -A proj outbox retry 17 18", "feedmill -A proj outbox retry --all"))
@_NAME
@click.option("--all", "every", is_flag=True, help="Retry all rows that were given up.")
@click.argument("ids", metavar="[ID]…", nargs=-1, type=int)
def retry(name: str, every: bool, ids: tuple[int, ...]) -> Result:
    """Relay rows that were given up, by id."""
    if every == bool(ids):
        raise click.UsageError("give ids, or --all")
    retried = _found(name).retry(None if every else ids)
    tell(f"{retried:,} retried")
    return Result(shapes.OutboxRetried(retried))


@outbox.command(epilog=examples("feedmill -A proj outbox drop 17"))
@_NAME
@click.argument("ids", metavar="ID…", nargs=-1, type=int, required=True)
def drop(name: str, ids: tuple[int, ...]) -> Result:
    """Delete rows for good, by id: what they ask for is never done."""
    place = _found(name)
    dropped = sum(place.discard(each) for each in ids)
    tell(f"{dropped:,} dropped")
    return Result(shapes.OutboxDropped(dropped))


def _shown(row: Row) -> str:
    counted = f" {row.attempts}" if row.attempts else ""
    failed = f"{counted} failed: {row.error}" if row.error else ""
    return f"{row.id} {_time(row).strftime('%Y-%m-%d %H:%M:%S')} {row}{failed}"


def _shape(row: Row) -> shapes.OutboxRow:
    return shapes.OutboxRow(
        row.id, _time(row), row.manager, row.method, str(row), row.attempts, row.error, bool(row.dead)
    )


def _time(row: Row) -> dt.datetime:
    return dt.datetime.fromtimestamp(row.created, dt.timezone.utc)
