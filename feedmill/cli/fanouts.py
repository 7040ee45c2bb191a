"""Commands about fan-outs."""

from __future__ import annotations

import logging

import click

from feedmill.cli import shapes
from feedmill.cli.command import OK, PROBLEM, Command, Result, error_shape, examples, table, tell
from feedmill.cli.loading import load_managers
from feedmill.errors import WrongType
from feedmill.fanout.handle import Fanout
from feedmill.keys import due_key, is_fanout_name, split_fanout
from feedmill.storage.registry import backend
from feedmill.worker import drain

logger = logging.getLogger(__name__)


@click.command(cls=Command, epilog=examples("feedmill fanouts", "feedmill fanouts --limit 500 --json"))
@click.option(
    "--limit", default=50, show_default=True, type=click.IntRange(1), help="Maximum number of fan-outs per manager."
)
def fanouts(limit: int) -> Result:
    """List unfinished fan-outs with their progress.

    The columns are chunks done and planned, users reached, seconds, retries, failures and the last error.
    """
    found, wrong = [], list[WrongType]()
    for manager in load_managers():
        try:
            due = backend().run(backend().journal.list_due(manager, limit=limit)).ids
        except WrongType as error:
            due, wrong = [], [*wrong, error]
        for name in due:
            if not is_fanout_name(unnamed := split_fanout(name)[1].encode(errors="surrogateescape")):
                logger.error("%s holds %s, which names no fan-out", due_key(manager), [unnamed])
                continue
            try:
                at = Fanout(name).status()
            except WrongType as error:
                wrong.append(error)
                continue
            if not at.finished:
                counts = at.planned, at.done, at.reached, at.seconds, at.retried, at.failed
                found.append(shapes.Fanout(name, manager, at.op, *counts, at.error))
    rows = [_row(each) for each in found]
    if rows:
        table(("fan-out", "op", "chunks", "people", "seconds", "retried", "failed", "last error"), rows)
    elif not wrong:
        tell("no fan-out is running")
    for each in wrong:
        tell(f"Error: {each}", error=True)
    return Result(shapes.Fanouts(found, [error_shape(each) for each in wrong]), PROBLEM if wrong else OK)


def _row(at: shapes.Fanout) -> tuple[object, ...]:
    chunks = f"{at.done}/{at.planned}" if at.planned else "waiting"
    return at.id, at.op, chunks, at.reached, f"{at.seconds:.1f}", at.retried, at.failed, at.error


@click.command(
    cls=Command,
    epilog=examples(
        "feedmill cancel PinManager:5e1c2f9a8b7d6e5f4a3b2c1d",
        "feedmill fanouts --json | jq -r '.fanouts[].id' | xargs feedmill cancel",
    ),
)
@click.argument("ids", metavar="FANOUT…", nargs=-1, required=True)
def cancel(ids: tuple[str, ...]) -> Result:
    """Cancel the work of fan-outs that has not begun.

    FANOUT is an id that `feedmill fanouts` lists. Deliveries that were made remain. Exit with status 1 if there was nothing
    left to cancel of one of them.
    """
    for name in ids:
        manager, unnamed = split_fanout(name)
        if not manager or not is_fanout_name(unnamed):
            raise click.BadParameter(
                f"{name!r} is no id of a fan-out; `feedmill fanouts` lists ids", param_hint="FANOUT"
            )
    done = [_cancelled(name) for name in ids]
    for each in done:
        tell(f"{each.id}: {each.text}", error=not each.cancelled)
    return Result(shapes.Cancellations(done), OK if all(each.cancelled for each in done) else PROBLEM)


def _cancelled(name: str) -> shapes.Cancelled:
    fanout = Fanout(name)
    before = fanout.status()
    if fanout.cancel():
        return shapes.Cancelled(name, True, f"cancelled, {before.done} of {before.planned} chunks were done")
    if not before.op:
        return shapes.Cancelled(name, False, "there is no such fan-out, or it ended long ago")
    return shapes.Cancelled(name, False, "it was finished already")


@click.command(cls=Command, epilog=examples("feedmill sweep"))
def sweep() -> Result:
    """Wake workers for overdue fan-outs, once.

    `celery beat` does this every ten seconds.
    """
    load_managers()
    overdue = drain.sweep()
    tell(f"{overdue} overdue")
    return Result(shapes.Sweep(overdue))
