"""Feedmill in Flask: the extension :class:`Feedmill`, and :class:`LiveResponse`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
from flask import Flask, Response, has_request_context, json, request

from feedmill import settings
from feedmill.contrib import server_sent_events
from feedmill.contrib.celery_app import set_up, set_up_current
from feedmill.contrib.live_streams import LiveStream
from feedmill.contrib.problems import ANSWERED, problem
from feedmill.contrib.shutdown import SHUTDOWN
from feedmill.errors import FeedmillError
from feedmill.feeds.several import Watched

#: What keys of ``app.config`` begin with that are settings.
PREFIX = settings.ENV
#: Where Celery's page on Flask puts the app of the project.
CELERY = "celery"


class Feedmill:
    """The extension: ``Feedmill(app)``, or ``feedmill = Feedmill()`` and ``feedmill.init_app(app)`` in a factory.

    It takes settings over from ``app.config``, sets up the project's Celery app, answers to Feedmill's errors, and adds the
    command ``flask feedmill``. It keeps nothing for each request, so nothing has to be torn down.
    """

    def __init__(self, app: Flask | None = None) -> None:
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Set up *app*, once its config is complete and its Celery app is made.

        Settings are those of the process: with several apps those of the last one are in force. Raises
        :class:`~feedmill.errors.SettingsError` for a key ``FEEDMILL_...`` that is no setting, and for an invalid value.
        """
        settings.configure_named({name: value for name, value in app.config.items() if name.startswith(PREFIX)})
        if (celery := app.extensions.get(CELERY)) is not None:
            set_up(celery)
        else:
            set_up_current()
        handlers = app.error_handler_spec[None][None]
        for kind in ANSWERED:
            if kind not in handlers:
                app.register_error_handler(kind, answer_error)
        app.cli.add_command(_command)
        app.extensions["feedmill"] = self
        SHUTDOWN.watch()


def answer_error(error: FeedmillError) -> Response:
    """The error handler: problem details; raises *error* again where the answer is 500, as for any other exception."""
    answer = problem(error)
    if answer is None:
        raise error
    return Response(json.dumps(answer.body), answer.status, answer.headers)


class LiveResponse(Response):
    """A stream of server-sent events of *feeds* as a response: ``return LiveResponse({"badge": notifications})``.

    *feeds* and *options*: as for :class:`~feedmill.contrib.live_streams.LiveStream`, whose errors it raises at once.
    ``Last-Event-ID`` is taken from the request. The stream ends when the server is told to stop, and with the first event or
    heartbeat behind which the browser is gone. Each open stream takes a thread or a greenlet of the server.
    """

    def __init__(self, feeds: Mapping[str, Watched], **options: Any) -> None:
        last = request.headers.get(server_sent_events.LAST_EVENT_ID, "") if has_request_context() else ""
        stream = LiveStream(feeds, **{"last_event_id": last, **options})
        super().__init__(iter(stream), headers=server_sent_events.HEADERS)


@click.command(
    "feedmill",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    help="Operate feeds: the command line of Feedmill with this app's settings.",
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def _command(words: tuple[str, ...]) -> None:
    from feedmill.cli.main import main

    main.main(args=list(words), prog_name="flask feedmill")


__all__ = ["Feedmill", "LiveResponse", "answer_error"]
