"""The command ``feedmill``: demo and replay, and for operators fan-outs, the sweep, dead letters, explain, the doctor."""

from __future__ import annotations

import datetime as dt
import importlib
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from feedmill import registry, settings
from feedmill._version import VERSION
from feedmill.cli import outbox
from feedmill.cli.terminal import LogFormatter, printable, progress, say
from feedmill.errors import FeedmillError, SettingsError, StorageError, UnknownName, WrongType
from feedmill.fanout import publisher
from feedmill.fanout.handle import Fanout
from feedmill.ids import as_id
from feedmill.keys import due_key, is_fanout_name, split_fanout
from feedmill.storage.journal import DeadLetter
from feedmill.storage.registry import backend
from feedmill.worker import dead_letters, drain

logger = logging.getLogger(__name__)


class Group(click.Group):
    """A group whose commands end with a message instead of a traceback when Feedmill refuses something."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FeedmillError as error:
            raise click.ClickException(printable(error)) from error


@click.group(cls=Group)
@click.version_option(VERSION)
@click.pass_context
def main(ctx: click.Context) -> None:
    """Operate the activity feeds and notification feeds of an app.

    Set these environment variables: FEEDMILL_REDIS_URL (where feeds are stored), FEEDMILL_BROKER_URL (the Celery broker),
    and FEEDMILL_MODULES (the modules that declare your managers). Modules are also imported from the current directory.
    """
    from celery.utils.imports import cwd_in_path

    # While the command runs, as for a worker: what a manager imports when it is asked, and the app, may be here as well.
    ctx.with_resource(cwd_in_path())
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(LogFormatter())


def load_managers() -> list[str]:
    """Import what ``FEEDMILL_MODULES`` names, as workers do; the names of the managers.

    The Celery app that ``FEEDMILL_CELERY_APP`` names comes first, and Django is set up where one of them wants it.
    """
    if app := settings.current().celery_app:
        publisher.app_named(app)  # which may say where Django's settings are
    _set_up_django()
    for name in settings.current().module_names:
        try:
            importlib.import_module(name)
        except Exception as error:
            detail = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
            raise SettingsError(f"FEEDMILL_MODULES names {name!r}, which cannot be imported: {detail}") from error
    if not registry.manager_names():
        raise SettingsError("no manager is known; name the modules that declare managers in FEEDMILL_MODULES")
    return registry.manager_names()


def _set_up_django() -> None:
    """Load Django's apps, as ``manage.py`` does, if its settings are named and it is there: models need them."""
    name = os.environ.get("DJANGO_SETTINGS_MODULE")
    try:
        django = importlib.import_module("django") if name else None
    except ImportError:
        return
    try:
        if django is not None:
            django.setup()
    except Exception as error:
        raise SettingsError(
            f"DJANGO_SETTINGS_MODULE is {name!r}, with which Django cannot be set up: {type(error).__name__}: {error}"
        ) from error


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print *rows* in columns; the last one may be as long as it likes."""
    texts = [[printable(value) for value in row] for row in [heads, *rows]]
    widths = [max(len(row[column]) for row in texts) for column in range(len(heads) - 1)]
    for row in texts:
        say("  ".join([*(text.ljust(width) for text, width in zip(row, widths)), row[-1]]).rstrip())


@main.command()
@click.option("--people", default=3000, show_default=True, type=click.IntRange(2), help="Number of users.")
@click.option("--activities", default=3000, show_default=True, type=click.IntRange(1), help="Number of activities.")
@click.option("--redis-url", default="", help="Redis server to use instead of a private one.")
def demo(people: int, activities: int, redis_url: str) -> None:
    """Deliver activities of a generated social network.

    Start real workers for it, and print the feeds.
    """
    from feedmill.tools.demo import demo as play

    play(people, activities, say, redis_url)


def _columns(ctx: click.Context, parameter: click.Parameter, value: str) -> list[str]:
    names = [name.strip() for name in value.split(",") if name.strip()]
    if len(names) == 1:
        raise click.BadParameter(f"{value!r} names one column; name at least two, separated by commas")
    return names


EVENTS = (
    "TSV or CSV file of events (who did what), oldest first, with a header. Verbs: add, comment, follow, listen, love. Without"
    " a verb column every event is a listen."
)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@main.command()
@click.option(
    "--follows", required=True, type=_FILE, help="TSV or CSV file of follows (who follows whom), with a header."
)
@click.option("--events", required=True, type=_FILE, help=EVENTS)
@click.option(
    "--follow-columns",
    default="",
    callback=_columns,
    metavar="FOLLOWER,FOLLOWEE",
    help="Column names, if they cannot be guessed from the header.",
)
@click.option(
    "--event-columns",
    default="",
    callback=_columns,
    metavar="ACTOR,OBJECT[,TIME][,VERB]",
    help="Column names, if they cannot be guessed from the header.",
)
@click.option(
    "--recipients",
    type=click.Choice(["co-actors", "none"]),
    default="co-actors",
    show_default=True,
    help="Users to notify: those who acted on the same object, or nobody.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=os.cpu_count() or 2,
    show_default="CPUs",
    help="Number of worker processes.",
)
@click.option(
    "--redis-url",
    default="",
    help="Redis server to use instead of a private one. The broker uses the next database of this server.",
)
@click.option("--limit", type=click.IntRange(1), help="Maximum number of events to read.")
@click.option("--sample", metavar="USER", help="Print the feeds of this user.")
@click.option(
    "--verify",
    is_flag=True,
    help="Compute every timeline in plain Python and compare. Fail if they differ, or if a line could not be read.",
)
@click.option("--strict", is_flag=True, help="Refuse files with unreadable lines instead of skipping those lines.")
def replay(sample: str | None, **options: Any) -> None:
    """Deliver events to the followers in a follow graph.

    Start real workers for it, and print the rate of deliveries.
    """
    from feedmill.tools.replay.play import Options
    from feedmill.tools.replay.play import replay as play

    play(Options(sample=None if sample is None else as_id(sample), **options), say)


@main.command()
@click.option(
    "--limit", default=50, show_default=True, type=click.IntRange(1), help="Maximum number of fan-outs per manager."
)
def fanouts(limit: int) -> None:
    """List unfinished fan-outs with their progress.

    The columns are chunks done and planned, users reached, seconds, retries, failures and the last error.
    """
    rows, wrong = [], list[WrongType]()
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
                chunks = f"{at.done}/{at.planned}" if at.planned else "waiting"
                facts = (chunks, at.reached, f"{at.seconds:.1f}", at.retried, at.failed, at.error)
                rows.append((name, at.op, *facts))
    if rows:
        table(("fan-out", "op", "chunks", "people", "seconds", "retried", "failed", "last error"), rows)
    elif not wrong:
        say("no fan-out is running")
    for each in wrong:
        say(f"Error: {each}", error=True)
    if wrong:
        raise SystemExit(1)


@main.command()
def sweep() -> None:
    """Wake workers for overdue fan-outs, once.

    `celery beat` does this every ten seconds.
    """
    load_managers()
    say(f"{drain.sweep()} overdue")


@main.group()
def dead() -> None:
    """List, show, retry or delete dead letters.

    A dead letter is work that could not be processed.
    """


@dead.command("list")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1), help="Maximum number of dead letters.")
def list_(limit: int) -> None:
    """List dead letters, newest first."""
    found = dead_letters.newest(limit)
    if not found:
        say("no dead letters")
        return
    table(("id", "since", "kind", "manager", "reason"), [(x.id, _since(x), x.kind, x.manager, x.reason) for x in found])


@dead.command()
@click.argument("dead_letter", metavar="ID")
def show(dead_letter: str) -> None:
    """Show one dead letter with its reason and its content."""
    found = dead_letters.get(dead_letter)
    say(f"{found.kind} {found.id}, since {_since(found)}")
    if found.manager:
        say(f"manager: {found.manager}")
    say(f"reason: {found.reason}")
    for value in dead_letters.content(found):
        say(f"holds: {value!r}")


_ALL = click.option("--all", "every", is_flag=True, help="Select all dead letters.")


@dead.command()
@click.argument("ids", metavar="[ID]…", nargs=-1)
@_ALL
def retry(ids: tuple[str, ...], every: bool) -> None:
    """Retry dead letters from the beginning.

    If one fails, continue with the others.
    """
    left = 0
    for name in _chosen(ids, every):
        try:
            say(dead_letters.retry(name))
        except StorageError:
            raise
        except FeedmillError as error:
            left += 1
            say(f"Error: {error}", error=True)
    if left:
        raise SystemExit(1)


@dead.command()
@click.argument("ids", metavar="[ID]…", nargs=-1)
@_ALL
def delete(ids: tuple[str, ...], every: bool) -> None:
    """Delete dead letters together with their fan-outs."""
    chosen = _chosen(ids, every)
    for name in chosen:
        dead_letters.get(name)
    say(f"{dead_letters.delete(chosen)} deleted")


def _chosen(ids: Sequence[str], every: bool) -> Sequence[str]:
    if bool(ids) == every:
        raise click.UsageError("name the ids of dead letters, or use --all, not both")
    return [dead_letter.id for dead_letter in dead_letters.newest(1_000_000)] if every else ids


def _since(dead_letter: DeadLetter) -> str:
    return dt.datetime.fromtimestamp(dead_letter.seconds, dt.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


@main.command()
@click.argument("user")
@click.argument("activity")
@click.option("--manager", "name", default="", help="Name of the manager. Required if there are several.")
def explain(user: str, activity: str, name: str) -> None:
    """Explain why an activity is, or is not, in the feeds of a user.

    ACTIVITY is the id of the activity.
    """
    known = load_managers()
    if not name and len(known) > 1:
        raise UnknownName(f"there are several managers: {', '.join(known)}; name one with --manager")
    found = registry.get_manager(name or known[0])().explain(as_id(user), activity)
    table(("feed", "present", "reason"), [(each.feed, "yes" if each.present else "no", each.text) for each in found])


@main.command()
@click.option("--fix", is_flag=True, help="Repair what can be repaired. Safe while app and workers run.")
@click.option("--growth", is_flag=True, help="List also how much is stored of each kind, and what bounds it.")
@click.pass_context
def doctor(ctx: click.Context, fix: bool, growth: bool) -> None:
    """Check stored data and settings.

    Exit with status 1 if a problem remains.
    """
    from feedmill.doctor import examine
    from feedmill.doctor.checks.growth import growing
    from feedmill.doctor.checks.settings import unheard
    from feedmill.doctor.report import lines

    load_managers()
    began = time.monotonic()
    with progress("checking all keys") as seen:
        report = examine(fix=fix, seen=seen)
        for finding in unheard():
            report.add(finding, False)
    for line in (*lines(report, fix), *(growing(report.bodies, report.kinds) if growth else ())):
        say(line)
    scope = f"{_count(report.keys, 'key')}, {_count(report.feeds, 'feed')}, {time.monotonic() - began:.1f} s"
    scope += f"; {_count(report.unknown_keys, 'key')} of unknown managers" if report.unknown_keys else ""
    scope += f"; {_count(report.dead_letters, 'dead letter')}, run: feedmill dead list" if report.dead_letters else ""
    scope += "; memory:// can be checked only in the process that wrote it" if backend().in_process else ""
    if not report.found:
        say(f"healthy ({scope})")
        return
    fixed = f", {report.fixed.total():,} fixed" if fix else "; --fix repairs what can be repaired"
    say(f"{_count(report.found.total(), 'finding')}{fixed} ({scope})")
    ctx.exit(1 if report.remaining else 0)


main.add_command(outbox.commands(load_managers, Group))


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
