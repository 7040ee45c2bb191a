"""The commands of the HTTP service: run it, and make tokens for those who call it."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import signal
from typing import Any

import click

from feedmill.cli import shapes
from feedmill.cli.command import Command, Failure, Result, examples, tell
from feedmill.errors import ArgumentError

_DURATION = re.compile(r"(\d{1,9})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_LEAST = click.IntRange(1)


class Duration(click.ParamType[float]):
    """A number with a unit: ``90s``, ``15m``, ``8h``, ``30d``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        if isinstance(value, (int, float)):
            return value
        found = _DURATION.fullmatch(str(value))
        if found is None or not int(found[1]):
            self.fail(f"{value!r} is no duration; use a number and s, m, h or d, such as 15m", param, ctx)
        return dt.timedelta(**{_UNITS[found[2]]: int(found[1])}).total_seconds()


def _web() -> Any:
    """The package of the service; a :class:`Failure` without what it needs."""
    try:
        import uvicorn  # noqa: F401

        from feedmill.web import app
    except ImportError as error:
        raise Failure(f"{error}; the HTTP service needs an extra: pip install 'feedmill[web]'") from error
    return app


@click.command(cls=Command, epilog=examples("feedmill serve", "feedmill -A proj serve --host 0.0.0.0 --port 8080"))
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Address to serve at.")
@click.option("--port", type=click.IntRange(0, 65535), default=8700, show_default=True, help="Port to serve at.")
@click.option(
    "--user-rate",
    type=click.FloatRange(0),
    default=20.0,
    show_default=True,
    help="Requests per second of one user in the long run. 0: no limit.",
)
@click.option(
    "--user-burst", type=_LEAST, default=100, show_default=True, help="Requests that a user may make at once."
)
@click.option(
    "--server-rate",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Requests per second of one server token in the long run. 0: no limit.",
)
@click.option(
    "--server-burst", type=_LEAST, default=1000, show_default=True, help="Requests that a server may make at once."
)
@click.option("--user-streams", type=_LEAST, default=20, show_default=True, help="Open streams of one user.")
@click.option("--max-body", type=_LEAST, default=1_048_576, show_default=True, help="Bytes of the largest body.")
@click.option("--timeout", type=Duration(), default="30s", show_default=True, help="Time that a request may take.")
@click.option(
    "--answers-kept",
    type=Duration(),
    default="1d",
    show_default=True,
    help="How long the answer to a request with an idempotency key is kept.",
)
@click.option(
    "--allow-origin",
    multiple=True,
    metavar="ORIGIN",
    help="Origin of pages that may call the service from a browser (CORS). May be repeated. By default there is none.",
)
@click.option("--access-log", is_flag=True, help="Log each request. Paths name users; tokens are never logged.")
def serve(
    host: str,
    port: int,
    timeout: float,
    answers_kept: float,
    allow_origin: tuple[str, ...],
    access_log: bool,
    **limits: Any,
) -> Result:
    """Serve feeds over HTTP, until the command is stopped.

    For programs in any language: adding and removing activities, reading feeds, marks, counts, streams. Who calls shows a token that
    `feedmill token` makes; set FEEDMILL_TOKEN_KEYS to a secret first. The operations are described at /openapi.json. It needs the extra
    web.
    """
    app = _web()
    import uvicorn

    from feedmill.web.options import Options

    options = Options(**limits, timeout=timeout, answers_kept=answers_kept, allowed_origins=allow_origin)
    service = app.create_app(options)
    tell(f"serving http://{host}:{port}/openapi.json")
    config = uvicorn.Config(
        service,
        host=host,
        port=port,
        access_log=access_log,
        log_level="info" if access_log else "warning",
        lifespan="on",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=10,
    )
    server = uvicorn.Server(config)
    # The server raises the signal again when it has stopped as it should; that shall not end the command before its last line.
    before = signal.signal(signal.SIGTERM, server.handle_exit)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            server.run()
    except SystemExit as error:  # as uvicorn ends where it cannot listen; its log says why
        raise Failure(f"http://{host}:{port} cannot be served; the log says why") from error
    finally:
        signal.signal(signal.SIGTERM, before)
    if not server.started:
        raise Failure(f"http://{host}:{port} cannot be served; the log says why")
    return Result(shapes.Served(host, port))


@click.command(
    cls=Command, epilog=examples("feedmill token --server web --expires 30d", "feedmill token --user ann --write")
)
@click.option("--server", metavar="NAME", help="Make a token for a server, which may do everything.")
@click.option("--user", metavar="ID", help="Make a token for a user, who may read, mark and listen to their own feeds.")
@click.option("--write", is_flag=True, help="With --user: they may also add, change and remove what they do.")
@click.option("--expires", type=Duration(), default="1h", show_default=True, help="How long it is good for.")
def token(server: str | None, user: str | None, write: bool, expires: float) -> Result:
    """Make a token for the HTTP service, signed with the first key of FEEDMILL_TOKEN_KEYS.

    Whoever holds it may do what it is for until it expires. It is a JSON Web Token (HS256), which any program can make that knows the
    key.
    """
    _web()
    from feedmill.web import tokens

    if (server is None) == (user is None):
        raise click.UsageError("use either --server or --user")
    if write and user is None:
        raise click.UsageError("--write goes with --user: a server may do everything")
    subject = server if server is not None else user or ""
    scopes = [tokens.SERVER] if server is not None else [tokens.READ, *([tokens.WRITE] if write else [])]
    try:
        made = tokens.make(subject, scopes, expires)
    except ArgumentError as error:
        raise click.UsageError(str(error)) from error
    until = dt.datetime.now(dt.timezone.utc) + dt.timedelta(seconds=expires)
    tell(made)
    return Result(shapes.Token(made, subject, scopes, until))


__all__ = ["serve", "token"]
