"""The command ``feedmill``: its commands, by what they are about."""

from __future__ import annotations

import logging

import click

from feedmill._version import VERSION
from feedmill.cli.cassandra import cassandra
from feedmill.cli.command import Main, examples
from feedmill.cli.dead import dead
from feedmill.cli.doctor import doctor
from feedmill.cli.fanouts import cancel, fanouts, sweep
from feedmill.cli.health import ping, status
from feedmill.cli.loading import note_app
from feedmill.cli.metrics import metrics
from feedmill.cli.outbox import outbox
from feedmill.cli.play import demo, replay
from feedmill.cli.serve import serve, token
from feedmill.cli.show_settings import settings
from feedmill.cli.terminal import LogFormatter
from feedmill.cli.users import delete_user, explain, feeds, rebuild


@click.group(
    cls=Main,
    epilog=examples("feedmill demo", "feedmill -A proj status", "FEEDMILL_MODULES=pins feedmill fanouts --json"),
)
@click.option(
    "-A",
    "--app",
    metavar="APP",
    expose_value=False,
    callback=note_app,
    help="Celery app that sends the tasks, as `celery -A` takes it: module, module:attribute or package. It overrides FEEDMILL_CELERY_APP.",
)
@click.version_option(VERSION, help="Show the version and exit.")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Operate the activity feeds and notification feeds of an app.

    Name your Celery app with --app, or set these environment variables: FEEDMILL_REDIS_URL (where feeds are stored),
    FEEDMILL_BROKER_URL (the Celery broker), and FEEDMILL_MODULES (the modules that declare your managers). Modules are also imported
    from the current directory. In a Django project set DJANGO_SETTINGS_MODULE.

    Exit status: 0 done and healthy, 1 failed or a problem was found, 2 wrong arguments, 3 the storage or the broker cannot be
    reached.
    """
    from celery.utils.imports import cwd_in_path

    # While the command runs, as for a worker: what a manager imports when it is asked, and the app, may be here as well.
    ctx.with_resource(cwd_in_path())
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(LogFormatter())


for command in (
    *(demo, replay),
    *(status, ping, metrics, settings),
    *(fanouts, cancel, sweep, dead, outbox),
    *(feeds, explain, rebuild, delete_user),
    *(serve, token),
    *(doctor, cassandra),
):
    main.add_command(command)
