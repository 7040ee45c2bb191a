"""Commands that play something through servers and workers of their own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from feedmill.cli import shapes
from feedmill.cli.command import Command, Result, examples, tell
from feedmill.ids import as_id


@click.command(
    cls=Command, prepares=False, epilog=examples("feedmill demo", "feedmill demo --people 500 --activities 200")
)
@click.option("--people", default=3000, show_default=True, type=click.IntRange(2), help="Number of users.")
@click.option("--activities", default=3000, show_default=True, type=click.IntRange(1), help="Number of activities.")
@click.option("--redis-url", default="", metavar="URL", help="Redis server to use instead of a private one.")
def demo(people: int, activities: int, redis_url: str) -> Result:
    """Deliver activities of a generated social network.

    Start real workers for it, and print the feeds. Without a redis-server on PATH everything runs in one process.
    """
    from feedmill.tools.demo import demo as play

    return Result(shapes.Demo(**play(people, activities, tell, redis_url)._asdict()))


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


@click.command(
    cls=Command,
    prepares=False,
    epilog=examples(
        "feedmill replay --follows follows.tsv --events events.tsv --verify",
        "feedmill replay --follows follows.csv --follow-columns follower,followee --events events.csv --sample 42",
        "feedmill replay --follows follows.tsv --events events.tsv --manager BigSite --verify",
    ),
)
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
    metavar="URL",
    help="Redis server to use instead of a private one. The broker uses the next database of this server.",
)
@click.option(
    "--manager",
    default="",
    metavar="NAME",
    help="Name of a manager to whose feeds is delivered, under a prefix of their own. By default feeds that the command declares. Of"
    " the manager's hooks none is called.",
)
@click.option(
    "--cassandra-url",
    default="",
    metavar="URL",
    help="Cassandra cluster for feeds of the manager that are there. By default the one that FEEDMILL_CASSANDRA_URL names.",
)
@click.option("--limit", type=click.IntRange(1), help="Maximum number of events to read.")
@click.option("--sample", metavar="USER", help="Print the feeds of this user.")
@click.option(
    "--verify",
    is_flag=True,
    help="Compute every timeline in plain Python and compare. Fail if they differ, or if a line could not be read.",
)
@click.option("--strict", is_flag=True, help="Refuse files with unreadable lines instead of skipping those lines.")
def replay(sample: str | None, **options: Any) -> Result:
    """Deliver events to the followers in a follow graph.

    Start real workers for it, and print the rate of deliveries.
    """
    from feedmill.tools.replay.play import Options
    from feedmill.tools.replay.play import replay as play

    played = play(Options(sample=None if sample is None else as_id(sample), **options), tell)
    return Result(shapes.Replay(**played._asdict()))
