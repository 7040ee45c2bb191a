"""``feedmill outbox``: what waits in the outboxes of the app's databases, and what was given up."""

from __future__ import annotations

import time
from collections.abc import Callable

import click

from feedmill.cli.terminal import say
from feedmill.contrib import outbox as outboxes
from feedmill.contrib.outbox import Outbox, Row
from feedmill.errors import UnknownName

_NAME = click.option("--name", default="", help="Name of the outbox. Required if there are several.")


def commands(load: Callable[[], object], group: type[click.Group]) -> click.Group:
    """The group of commands, of class *group*; *load* imports what makes the outboxes."""

    @click.group(cls=group, name="outbox")
    def outbox() -> None:
        """List, relay, retry or drop rows of the transactional outbox.

        A row is a call of a manager that was made in a transaction of the app's database.
        """

    def found(name: str) -> Outbox:
        load()
        known = outboxes.outboxes()
        if name or not known:
            return outboxes.named(name)
        if len(known) > 1:
            raise UnknownName(
                f"there are several outboxes: {', '.join(each.name for each in known)}; name one with --name"
            )
        return known[0]

    @outbox.command()
    def status() -> None:
        """Show for each outbox how many rows wait, since when, and how many were given up."""
        load()
        for each in outboxes.outboxes():
            counts = each.counts()
            oldest = f", the oldest for {counts.oldest:,.0f} s" if counts.waiting else ""
            say(f"{each.name}: {counts.waiting:,} waiting{oldest}; {counts.dead:,} given up")
        if not outboxes.outboxes():
            say("no outbox is in use")

    @outbox.command("list")
    @_NAME
    @click.option("--dead", is_flag=True, help="List rows that were given up.")
    @click.option("--limit", default=100, show_default=True, type=click.IntRange(1), help="Maximum number of rows.")
    def list_(name: str, dead: bool, limit: int) -> None:
        """List rows that wait, oldest first: id, time, failed attempts, call and last error."""
        rows = found(name).rows(dead, limit)
        for row in rows:
            say(_shown(row))
        if not rows:
            say("nothing was given up" if dead else "nothing is waiting")

    @outbox.command()
    @_NAME
    def relay(name: str) -> None:
        """Relay what waits and is due, once.

        The sweep that `celery beat` sends does this every ten seconds.
        """
        say(f"{found(name).relay():,} relayed")

    @outbox.command()
    @_NAME
    @click.option("--all", "all_", is_flag=True, help="Retry all rows that were given up.")
    @click.argument("ids", nargs=-1, type=int)
    def retry(name: str, all_: bool, ids: tuple[int, ...]) -> None:
        """Relay rows that were given up, by id."""
        if all_ == bool(ids):
            raise click.UsageError("give ids, or --all")
        say(f"{found(name).retry(None if all_ else ids):,} retried")

    @outbox.command()
    @_NAME
    @click.argument("ids", nargs=-1, type=int, required=True)
    def drop(name: str, ids: tuple[int, ...]) -> None:
        """Delete rows for good, by id: what they ask for is never done."""
        place = found(name)
        say(f"{sum(place.discard(each) for each in ids):,} dropped")

    return outbox


def _shown(row: Row) -> str:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(row.created))
    failed = f" {row.attempts} failed: {row.error}" if row.attempts else ""
    return f"{row.id} {at} {row}{failed}"
