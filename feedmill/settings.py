"""Settings: from :func:`configure` or from ``FEEDMILL_…`` in the environment, read once, checked at once."""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from feedmill.errors import SettingsError

_ENV = "FEEDMILL_"
_SCHEMES = ("redis", "rediss", "unix", "memory")


#: Characters that a signing key has at least.
SHORTEST_KEY = 16


def without_secrets(url: str) -> str:
    """*url* as it may stand in errors and logs: without user, password and options."""
    scheme, slashes, rest = url.rpartition("://")
    place, _, options = rest.partition("?")
    if "@" in options and "@" not in place:  # a password that should have been quoted
        place = "…"
    return scheme + slashes + place.rpartition("@")[2]


def _check_url(variable: str, url: str) -> None:
    """Refuse a Redis URL whose port or database is no number: clients take what they like for it."""
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss"):
        return
    try:
        right = parts.port is None or parts.port > 0
    except ValueError:
        right = False
    if not right or not (parts.path.strip("/") or "0").isdecimal():
        raise SettingsError(
            f"{variable} is {without_secrets(url)!r}, whose port or database is no number; use redis://host:port/db, and"
            " write a password's special characters in percent: %2F for a slash"
        )


def _check_transport(url: str) -> None:
    """Refuse a broker of a kind that Celery does not know, before anything is written that waits for it."""
    from kombu.transport import TRANSPORT_ALIASES

    kind = urlsplit(url).scheme.partition("+")[0]
    if kind not in TRANSPORT_ALIASES and "." not in kind:
        raise SettingsError(
            f"FEEDMILL_BROKER_URL is {without_secrets(url)!r}; use redis://host:port/db or amqp://user:password@host//"
        )


@dataclasses.dataclass(frozen=True)
class Settings:
    """What can be set; each field is also the environment variable ``FEEDMILL_<NAME>``."""

    #: Where feeds live: ``redis://host:port/db``, or ``memory://`` for the embedded mode.
    redis_url: str = dataclasses.field(default="redis://127.0.0.1:6379/0", repr=False)
    #: Celery's broker; empty means the same server as ``redis_url``.
    broker_url: str = dataclasses.field(default="", repr=False)
    #: Put in front of every key.
    key_prefix: str = "fm:"
    #: Seconds after which the lock of a writer that died is taken over.
    lock_ttl: float = 10.0
    #: Comma-separated modules that declare managers and verbs; workers import them at start.
    modules: str = ""
    #: The Celery app that sends the tasks, as ``module:attribute``; empty means the process' current app, else ours.
    celery_app: str = ""
    #: Seconds that a receipt of a finished fan-out is kept.
    receipt_ttl: float = 3600.0
    #: Secret with which task messages are signed; several, separated by commas, while they are changed: the first signs,
    #: all are accepted. Empty: messages are not signed.
    signing_key: str = dataclasses.field(default="", repr=False)
    #: Seconds after which work that a worker took, or that was sent to one, counts as lost and is given out again.
    fanout_lease: float = 60.0
    #: Messages that a queue holds at most, about; what is accepted beyond waits in the journal until there is room. 0: no
    #: limit.
    queue_limit: int = 50_000

    def __post_init__(self) -> None:
        if urlsplit(self.redis_url).scheme not in _SCHEMES:
            raise SettingsError(
                f"FEEDMILL_REDIS_URL is {without_secrets(self.redis_url)!r}; use redis://host:port/db, rediss://, unix:// or memory://"
            )
        _check_url("FEEDMILL_REDIS_URL", self.redis_url)
        if self.broker_url:
            for url in self.broker_url.split(";"):  # Celery takes several, and tries one after the other
                _check_transport(url)
                _check_url("FEEDMILL_BROKER_URL", url)
        if any(0 < len(key) < SHORTEST_KEY for key in map(str.strip, self.signing_key.split(","))):
            raise SettingsError(
                f"FEEDMILL_SIGNING_KEY holds a key of fewer than {SHORTEST_KEY} characters (commas separate keys), which could be guessed;"
                " make one with: openssl rand -hex 32"
            )
        if self.lock_ttl <= 0:
            raise SettingsError(f"FEEDMILL_LOCK_TTL is {self.lock_ttl}; use a positive number of seconds")
        if self.receipt_ttl <= 0:
            raise SettingsError(f"FEEDMILL_RECEIPT_TTL is {self.receipt_ttl}; use a positive number of seconds")
        if self.fanout_lease <= 0:
            raise SettingsError(f"FEEDMILL_FANOUT_LEASE is {self.fanout_lease}; use a positive number of seconds")
        if self.queue_limit < 0:
            raise SettingsError(
                f"FEEDMILL_QUEUE_LIMIT is {self.queue_limit}; use a number of messages, or 0 for no limit"
            )
        if "{" in self.key_prefix or "}" in self.key_prefix:
            raise SettingsError(f"FEEDMILL_KEY_PREFIX is {self.key_prefix!r}; braces are Redis Cluster's hash tag")

    @property
    def embedded(self) -> bool:
        """Whether everything lives in this process."""
        return self.redis_url.startswith("memory:")

    @property
    def effective_broker_url(self) -> str:
        """The broker: ``broker_url``, or the Redis server, or Celery's in-process broker in the embedded mode."""
        return self.broker_url or ("memory://" if self.embedded else self.redis_url)

    @property
    def module_names(self) -> list[str]:
        """``modules`` as a list."""
        return [name.strip() for name in self.modules.split(",") if name.strip()]


_FIELDS = {field.name: field for field in dataclasses.fields(Settings)}
_current: Settings | None = None


def _check_name(name: str, shown: str, known: list[str]) -> None:
    if name not in _FIELDS:
        near = difflib.get_close_matches(shown, known, n=1)
        raise SettingsError(
            f"no setting {shown!r}; " + (f"did you mean {near[0]!r}?" if near else "use " + ", ".join(known))
        )


def _convert(name: str, value: object) -> object:
    number = {"float": float, "int": int}.get(str(_FIELDS[name].type))
    if number is not None:
        whole = "whole " if number is int else ""
        refused = SettingsError(f"FEEDMILL_{name.upper()} is {value!r}; use a {whole}number")
        try:
            converted = number(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise refused from error
        cut = isinstance(value, float) and converted != value
        if cut or isinstance(value, bool) or not math.isfinite(converted):
            raise refused
        return converted
    if not isinstance(value, str):
        raise SettingsError(f"FEEDMILL_{name.upper()} is a {type(value).__name__}; use a str")
    return value


def from_environment(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from ``FEEDMILL_…`` variables; :class:`~feedmill.errors.SettingsError` for one that does not exist."""
    environ = os.environ if environ is None else environ
    values: dict[str, object] = {}
    for variable, text in environ.items():
        if variable.startswith(_ENV):
            name = variable[len(_ENV) :].lower()
            _check_name(name, variable, [_ENV + known.upper() for known in _FIELDS])
            values[name] = _convert(name, text)
    return Settings(**values)  # type: ignore[arg-type]


def current() -> Settings:
    """The settings in force."""
    global _current
    if _current is None:
        _current = from_environment()
    return _current


def configure(**changes: object) -> Settings:
    """Change settings of this process; call it before the first feed is used. Returns what is now in force.

    Raises :class:`~feedmill.errors.SettingsError` for a name that does not exist or a value that makes no sense.
    """
    global _current
    for name in changes:
        _check_name(name, name, list(_FIELDS))
    values = {name: _convert(name, value) for name, value in changes.items()}
    _current = dataclasses.replace(current(), **values)  # type: ignore[arg-type]
    return _current
