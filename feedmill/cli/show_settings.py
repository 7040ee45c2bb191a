"""The command that shows settings."""

from __future__ import annotations

import dataclasses

import click

from feedmill import settings as in_force
from feedmill.cli import shapes
from feedmill.cli.command import Command, Result, examples, table, tell
from feedmill.cli.health import broker_url
from feedmill.errors import FeedmillError
from feedmill.fanout import publisher
from feedmill.redis_urls import without_secrets

HIDDEN = "(hidden)"


@click.command(cls=Command, epilog=examples("feedmill settings", "feedmill -A proj settings --json"))
def settings() -> Result:
    """Show the settings in force, and where each comes from.

    Passwords, options of URLs, signing keys and keys of tokens are hidden. What the app sets with `configure()` is shown if a module that the
    command imports calls it, such as that of the Celery app.
    """
    current = in_force.current()
    shown = [_shape(field.name, current) for field in dataclasses.fields(current)]
    table(
        ("setting", "from", "value"),
        [(each.name, each.spelled or each.origin, "(empty)" if each.value == "" else each.value) for each in shown],
    )
    app = _celery_app()
    broker = f"broker {app.broker_url}" if app.broker_url else "no broker: tasks run in the process that calls"
    tell("")
    tell(f"problem: {app.problem}" if app.problem else f"Celery app {app.name!r}, {broker}")
    return Result(shapes.Settings(shown, app))


def _celery_app() -> shapes.CeleryApp:
    """The app that sends, or what is wrong with it: then above all one wants to see the settings."""
    try:
        app = publisher.celery_app()
        here = publisher.ready()
    except FeedmillError as error:
        return shapes.CeleryApp("", "", str(error))
    return shapes.CeleryApp(app.main or "", "" if here else broker_url(app), "")


def _shape(name: str, current: in_force.Settings) -> shapes.Setting:
    origin, value = current.origins.get(name, "default"), getattr(current, name)
    spelled = {
        in_force.ENVIRONMENT: f"FEEDMILL_{name.upper()}",
        in_force.DJANGO: f"FEEDMILL[{name.upper()!r}] of Django",
        in_force.CONFIGURE: f"configure({name}=…)",
        in_force.COMMAND_LINE: "--app",
    }.get(origin, "")
    if name in ("signing_key", "token_keys") and value:
        value = HIDDEN
    elif name.endswith("_url"):
        value = ";".join(map(without_secrets, value.split(";")))
    return shapes.Setting(name, value, origin, spelled)
