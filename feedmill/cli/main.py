"""The command ``feedmill``."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import click

from feedmill._version import VERSION
from feedmill.cli.commands import COMMANDS
from feedmill.cli.terminal import LogFormatter, printable, say
from feedmill.errors import FeedmillError
from feedmill.ids import as_id


class Group(click.Group):
    """A group whose commands end with a message instead of a traceback when Feedmill refuses something."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FeedmillError as error:
            raise click.ClickException(printable(error)) from error


def _columns(ctx: click.Context, parameter: click.Parameter, value: str) -> list[str]:
    names = [name.strip() for name in value.split(",") if name.strip()]
    if len(names) == 1:
        raise click.BadParameter(f"{value!r} names one column; name at least two, with a comma between them")
    return names


@click.group(cls=Group)
@click.version_option(VERSION)
@click.pass_context
def main(ctx: click.Context) -> None:
    """Operate activity feeds and notification feeds that Celery workers fill.

    Configured by the environment: FEEDMILL_REDIS_URL, FEEDMILL_BROKER_URL, and FEEDMILL_MODULES, the modules that
    declare your managers. The current directory is on the import path.
    """
    from celery.utils.imports import cwd_in_path

    # While the command runs, as for a worker: what a manager imports when it is asked, and the app, may be here as well.
    ctx.with_resource(cwd_in_path())
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(LogFormatter())


@main.command()
@click.option("--people", default=3000, show_default=True, type=click.IntRange(2), help="Number of users.")
@click.option("--activities", default=3000, show_default=True, type=click.IntRange(1), help="Number of activities.")
@click.option("--redis-url", default="", help="Redis server to use instead of a private one.")
def demo(people: int, activities: int, redis_url: str) -> None:
    """Play a generated social network through real workers and print the feeds."""
    from feedmill.tools.demo import demo as play

    play(people, activities, say, redis_url)


for _command in COMMANDS:
    main.add_command(_command)

EVENTS = (
    "TSV or CSV file with a header: who did what, oldest first. Verbs: add, comment, follow, listen, love; without a verb"
    " column every event is a listen."
)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@main.command()
@click.option("--follows", required=True, type=_FILE, help="TSV or CSV file with a header: who follows whom.")
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
    "--workers", type=click.IntRange(1), default=os.cpu_count() or 2, show_default="CPUs", help="Number of processes."
)
@click.option(
    "--redis-url",
    default="",
    help="Redis server to use instead of a private one; its next database is used as the broker.",
)
@click.option("--limit", type=click.IntRange(1), help="Maximum number of events to play.")
@click.option("--sample", metavar="USER", help="Print the feeds of this user.")
@click.option(
    "--verify",
    is_flag=True,
    help="Recompute every timeline in plain Python and compare; fail if a line could not be played.",
)
@click.option("--strict", is_flag=True, help="Refuse files with unreadable lines instead of skipping those lines.")
def replay(sample: str | None, **options: Any) -> None:
    """Play a follow graph and a list of events through real workers."""
    from feedmill.tools.replay.play import Options
    from feedmill.tools.replay.play import replay as play

    play(Options(sample=None if sample is None else as_id(sample), **options), say)
