"""Commands about dead letters."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import click

from feedmill.cli import shapes
from feedmill.cli.command import OK, PROBLEM, Group, Result, error_shape, examples, table, tell
from feedmill.errors import FeedmillError, StorageError
from feedmill.storage.journal import MAX_DEAD_LETTERS, DeadLetter
from feedmill.worker import dead_letters


@click.group(cls=Group, epilog=examples("feedmill dead list", "feedmill dead retry --all"))
def dead() -> None:
    """List, show, retry or delete dead letters.

    A dead letter is work that could not be processed.
    """


@dead.command("list", epilog=examples("feedmill dead list", "feedmill dead list --limit 1000 --json"))
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1), help="Maximum number of dead letters.")
def list_(limit: int) -> Result:
    """List dead letters, newest first."""
    found = dead_letters.newest(limit)
    if not found:
        tell("no dead letters")
    else:
        rows = [(each.id, _since(each), each.kind, each.manager, each.reason) for each in found]
        table(("id", "since", "kind", "manager", "reason"), rows)
    return Result(shapes.DeadLetters(list(map(_shape, found))))


@dead.command(epilog=examples("feedmill dead show 1764259200000-0"))
@click.argument("dead_letter", metavar="ID")
def show(dead_letter: str) -> Result:
    """Show one dead letter with its reason and its content.

    ID is one that `feedmill dead list` lists.
    """
    found = dead_letters.get(dead_letter)
    tell(f"{found.kind} {found.id}, since {_since(found)}")
    if found.manager:
        tell(f"manager: {found.manager}")
    tell(f"reason: {found.reason}")
    content = dead_letters.content(found)
    for value in content:
        tell(f"holds: {value!r}")
    return Result(shapes.DeadLetterContent(_shape(found), content))


_ALL = click.option("--all", "every", is_flag=True, help="Select all dead letters.")


@dead.command(epilog=examples("feedmill dead retry 1764259200000-0", "feedmill dead retry --all"))
@click.argument("ids", metavar="[ID]…", nargs=-1)
@_ALL
def retry(ids: tuple[str, ...], every: bool) -> Result:
    """Retry dead letters from the beginning.

    If one fails, continue with the others, and exit with status 1.
    """
    retried, errors = list[shapes.Retried](), list[shapes.Error]()
    chosen = _chosen(ids, every)
    for name in chosen:
        try:
            done = dead_letters.retry(name)
        except StorageError:
            raise
        except FeedmillError as error:
            errors.append(error_shape(error))
            tell(f"Error: {error}", error=True)
        else:
            retried.append(shapes.Retried(name, done))
            tell(done)
    if not chosen:
        tell("no dead letters")
    return Result(shapes.Retries(retried, errors), PROBLEM if errors else OK)


@dead.command(epilog=examples("feedmill dead delete 1764259200000-0", "feedmill dead delete --all"))
@click.argument("ids", metavar="[ID]…", nargs=-1)
@_ALL
def delete(ids: tuple[str, ...], every: bool) -> Result:
    """Delete dead letters together with their fan-outs."""
    chosen = _chosen(ids, every)
    for name in chosen:
        dead_letters.get(name)
    deleted = dead_letters.delete(chosen)
    tell(f"{deleted} deleted")
    return Result(shapes.Deletions(deleted))


def _chosen(ids: Sequence[str], every: bool) -> Sequence[str]:
    if bool(ids) == every:
        raise click.UsageError("name the ids of dead letters, or use --all, not both")
    return [dead_letter.id for dead_letter in dead_letters.newest(10 * MAX_DEAD_LETTERS)] if every else ids


def _shape(found: DeadLetter) -> shapes.DeadLetter:
    return shapes.DeadLetter(found.id, _time(found), found.kind, found.manager, found.reason, found.fanout)


def _time(found: DeadLetter) -> dt.datetime:
    return dt.datetime.fromtimestamp(found.seconds, dt.timezone.utc)


def _since(found: DeadLetter) -> str:
    return _time(found).strftime("%Y-%m-%d %H:%M:%S UTC")
