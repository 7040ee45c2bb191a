"""Settings: from :func:`configure` or from ``FEEDMILL_…`` in the environment, read and checked once."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import math
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from feedmill import cassandra_urls
from feedmill.errors import SettingsError
from feedmill.redis_urls import SCHEMES as _REDIS
from feedmill.redis_urls import RedisUrl, is_redis, parsed, without_secrets
from feedmill.spelling import instead_of

#: What the names of settings begin with in the environment, and in the config of a framework.
ENV = "FEEDMILL_"

#: Schemes of ``FEEDMILL_REDIS_URL`` that backends are registered for in this process.
backend_schemes = {*_REDIS, "memory"}
#: The group of entry points by which installed packages name more.
ENTRY_POINTS = "feedmill.backends"
#: Seconds of the longest lifetime: about 200 years.
LONGEST_LIFETIME = 200 * 366 * 86_400
#: Characters that a signing key has at least.
SHORTEST_KEY = 16
#: Characters that a key for tokens has at least, as HS256 asks for.
SHORTEST_TOKEN_KEY = 32
#: Origins of a value, see :attr:`Settings.origins`.
ENVIRONMENT, CONFIGURE, DJANGO, COMMAND_LINE = "environment", "configure()", "Django setting", "command line"


def _has_backend(url: str) -> bool:
    """Whether some package makes the backend that *url* names."""
    scheme, colon, _ = url.partition(":")
    if colon and scheme.lower() in backend_schemes:
        return True
    from importlib.metadata import entry_points

    return bool(colon) and bool(entry_points(group=ENTRY_POINTS, name=scheme.lower()))


def _check_broker(url: str) -> None:
    """Refuse a broker that Celery cannot make anything of, before anything is written that waits for it."""
    from kombu.connection import Connection
    from kombu.transport import TRANSPORT_ALIASES

    shown = f"FEEDMILL_BROKER_URL is {without_secrets(url)!r}"
    usual = "use redis://host:port/db or amqp://user:password@host//"
    kind = url.partition("://")[0].partition("+")[0].lower()
    if kind not in TRANSPORT_ALIASES and "." not in kind:
        raise SettingsError(f"{shown}; {usual}")
    try:
        Connection(url)  # type: ignore[no-untyped-call]  # it takes the URL apart and connects to nothing
    except (TypeError, ImportError, KeyError) as error:  # an option, or a client that is not installed
        raise SettingsError(f"{shown}, which Celery refuses: {error}") from error
    except ValueError:  # its text may hold a piece of the password
        raise SettingsError(f"{shown}, which is not a URL; percent-encode special characters of the password") from None


@dataclasses.dataclass(frozen=True)
class Settings:
    """What can be set; each field is also the environment variable ``FEEDMILL_<NAME>``."""

    #: Where the values come from that are not defaults, by the names of their settings.
    origins: ClassVar[Mapping[str, str]] = MappingProxyType({})

    #: Where feeds are stored: ``redis://host:port/db``, ``memory://`` for the in-memory mode, or the URL of another backend.
    redis_url: str = dataclasses.field(default="redis://127.0.0.1:6379/0", repr=False)
    #: URL of Celery's broker. Empty: the server of ``redis_url``.
    broker_url: str = dataclasses.field(default="", repr=False)
    #: The cluster of feeds that are stored on Cassandra: ``cassandra://user:password@host1,host2:9042/keyspace``. Empty: there are
    #: none.
    cassandra_url: str = dataclasses.field(default="", repr=False)
    #: How many replicas must have read or written for it to count: ``LOCAL_QUORUM``, ``QUORUM`` or ``ALL``.
    cassandra_consistency: str = "LOCAL_QUORUM"
    #: Who agrees on the writes of groups: ``LOCAL_SERIAL``, the nearest data center, or ``SERIAL``, all of them.
    cassandra_serial_consistency: str = "LOCAL_SERIAL"
    #: Prefix of every Redis key.
    key_prefix: str = "fm:"
    #: Seconds after which another writer takes over the lock of a feed, because its holder may have died.
    lock_ttl: float = 10.0
    #: Comma-separated modules that declare managers and verbs. Workers import them when they start.
    modules: str = ""
    #: The Celery app that sends the tasks, as ``celery -A`` takes it: ``module:attribute``, or the module of the app. Empty: the
    #: current app of the process, or Feedmill's own app if there is none.
    celery_app: str = ""
    #: Seconds for which the status of a finished fan-out is kept.
    receipt_ttl: float = 3600.0
    #: Secret key with which task messages are signed. While you change it, write several, separated by commas: the first one
    #: signs, and all are accepted. Empty: messages are not signed.
    signing_key: str = dataclasses.field(default="", repr=False)
    #: Seconds after which work that a worker has claimed, or that was sent to a worker, is considered lost and given to another
    #: worker.
    fanout_lease: float = 60.0
    #: Approximate maximum number of messages in a queue. Work beyond it waits in the journal until there is room. 0: no
    #: limit.
    queue_limit: int = 50_000
    #: Maximum number of connections that a process, and each event loop in it, opens to the server of the feeds. When all are
    #: in use, callers wait. All subscriptions share one more. ``?max_connections=`` in ``redis_url`` overrides this.
    max_connections: int = 100
    #: Maximum number of seconds that the time of an activity may be ahead of the clock of the writing process. An activity
    #: that is further ahead is refused.
    max_future: float = 3600.0
    #: Whether an activity that is further ahead than ``max_future`` is dated now instead of being refused. It is then another
    #: activity with another id.
    clamp_future: bool = False
    #: Seconds for which an activity is kept from when it happened; feeds whose activities are stored apart show nothing older.
    #: 0: until it is removed. :func:`configure` takes a timedelta as well.
    activity_ttl: float = 0.0
    #: Secret keys of the tokens that the HTTP service accepts, separated by commas: the first one signs what ``feedmill token``
    #: makes, and all are accepted. The service does not start without one.
    token_keys: str = dataclasses.field(default="", repr=False)
    #: The audience (``aud``) that a token must name to be accepted by the HTTP service.
    token_audience: str = "feedmill"  # noqa: S105  # no secret

    def __post_init__(self) -> None:
        if is_redis(self.redis_url):
            parsed("FEEDMILL_REDIS_URL", self.redis_url)
        elif not _has_backend(self.redis_url):
            known = ", ".join(f"{scheme}://" for scheme in sorted(backend_schemes))
            raise SettingsError(
                f"FEEDMILL_REDIS_URL is {without_secrets(self.redis_url)!r}; use redis://host:port/db, or another scheme of {known},"
                " or first install or import the package that registers this backend"
            )
        cassandra_urls.check_levels(self.cassandra_consistency, self.cassandra_serial_consistency)
        if self.broker_url:
            for url in self.broker_url.split(";"):  # Celery takes several, and tries one after the other
                if is_redis(url):
                    parsed("FEEDMILL_BROKER_URL", url)
                else:
                    _check_broker(url)
        if self.max_connections < 1:
            raise SettingsError(f"FEEDMILL_MAX_CONNECTIONS is {self.max_connections}; use a positive whole number")
        if any(0 < len(key) < SHORTEST_KEY for key in map(str.strip, self.signing_key.split(","))):
            raise SettingsError(
                f"FEEDMILL_SIGNING_KEY holds a key of fewer than {SHORTEST_KEY} characters (commas separate keys), which could be guessed;"
                " make one with: openssl rand -hex 32"
            )
        if any(0 < len(key) < SHORTEST_TOKEN_KEY for key in map(str.strip, self.token_keys.split(","))):
            raise SettingsError(
                f"FEEDMILL_TOKEN_KEYS holds a key of fewer than {SHORTEST_TOKEN_KEY} characters (commas separate keys), which could"
                " be guessed; make one with: openssl rand -hex 32"
            )
        for name in ("lock_ttl", "receipt_ttl", "fanout_lease"):
            if getattr(self, name) <= 0:
                raise SettingsError(f"{ENV}{name.upper()} is {getattr(self, name)}; use a positive number of seconds")
        if self.cassandra_url:
            timeout = cassandra_urls.parsed("FEEDMILL_CASSANDRA_URL", self.cassandra_url).timeout
            if timeout >= self.fanout_lease / 3:
                raise SettingsError(
                    f"FEEDMILL_CASSANDRA_URL has the timeout {timeout:g}; use less than a third of FEEDMILL_FANOUT_LEASE, which is"
                    f" {self.fanout_lease:g}, so that a worker that waits loses nothing it has claimed"
                )
        if self.max_future < 0:
            raise SettingsError(f"FEEDMILL_MAX_FUTURE is {self.max_future}; use a number of seconds, or 0 for none")
        if not 0 <= self.activity_ttl <= LONGEST_LIFETIME:
            raise SettingsError(
                f"FEEDMILL_ACTIVITY_TTL is {self.activity_ttl}; use a number of seconds of at most 200 years, or 0 to keep"
                " activities until they are removed"
            )
        if self.queue_limit < 0:
            raise SettingsError(
                f"FEEDMILL_QUEUE_LIMIT is {self.queue_limit}; use a number of messages, or 0 for no limit"
            )
        if "{" in self.key_prefix or "}" in self.key_prefix:
            raise SettingsError(
                f"FEEDMILL_KEY_PREFIX is {self.key_prefix!r}; do not use braces, they mark the hash tag of a key"
            )

    @property
    def server(self) -> RedisUrl:
        """``redis_url``, taken apart; :class:`~feedmill.errors.SettingsError` if it names no Redis."""
        return parsed("FEEDMILL_REDIS_URL", self.redis_url)

    @property
    def database(self) -> int:
        """The number of the feeds' database; 0 where they are not on Redis."""
        return self.server.database if is_redis(self.redis_url) else 0

    @functools.cached_property
    def deployment(self) -> str:
        """What tells this deployment from others on the same servers: the database of its feeds and their key prefix."""
        return f"{self.database}:{self.key_prefix}"

    @functools.cached_property
    def apart(self) -> bool:
        """Whether this is another deployment than the one in database 0 with the default prefix."""
        return self.deployment != f"0:{_FIELDS['key_prefix'].default}"

    @functools.cached_property
    def activity_lifetime(self) -> int:
        """``activity_ttl`` in µs; 0 for no limit."""
        return round(self.activity_ttl * 1e6)

    @property
    def effective_broker_url(self) -> str:
        """The broker, as Celery spells it: ``broker_url``, or the Redis server, or Celery's in-process broker."""
        given = self.broker_url or (self.redis_url if is_redis(self.redis_url) else "memory://")
        return ";".join(
            parsed("FEEDMILL_BROKER_URL", url).broker_url if is_redis(url) else url for url in given.split(";")
        )

    @property
    def broker_options(self) -> dict[str, Any]:
        """What Celery takes as ``broker_transport_options`` for this broker: options of its URL, and a prefix of its keys.

        Queues in Redis are set apart from those of other deployments, unless the deployment is the only one in its database
        of the broker that needs no prefix.
        """
        first = (self.broker_url or self.redis_url).partition(";")[0]
        if not is_redis(first):
            return {}
        options = parsed("FEEDMILL_BROKER_URL", first).transport_options
        apart = f"{self.database}:" if self.broker_url and self.database else ""
        apart += self.key_prefix if self.key_prefix != _FIELDS["key_prefix"].default else ""
        return {**options, "global_keyprefix": apart} if apart else options

    @property
    def module_names(self) -> list[str]:
        """``modules`` as a list."""
        return [name.strip() for name in self.modules.split(",") if name.strip()]


_FIELDS = {field.name: field for field in dataclasses.fields(Settings)}
_current: Settings | None = None


def _check_name(name: str, shown: str, known: list[str]) -> None:
    if name not in _FIELDS:
        raise SettingsError(f"no setting {shown!r}; {instead_of(shown, known)}")


#: What a setting that is true or false may be in the environment.
_BOOLS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _convert(name: str, value: object) -> object:
    if _FIELDS[name].type == "bool":
        known = value if isinstance(value, bool) else _BOOLS.get(str(value).strip().lower())
        if known is None:
            raise SettingsError(f"FEEDMILL_{name.upper()} is {value!r}; use 1 or 0, true or false")
        return known
    number = {"float": float, "int": int}.get(str(_FIELDS[name].type))
    if number is not None:
        whole = "whole " if number is int else ""
        refused = SettingsError(f"FEEDMILL_{name.upper()} is {value!r}; use a {whole}number")
        if isinstance(value, dt.timedelta) and number is float:
            value = value.total_seconds()
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
    values = _named({variable: text for variable, text in environ.items() if variable.startswith(ENV)})
    return _from(Settings(**values), dict.fromkeys(values, ENVIRONMENT))  # type: ignore[arg-type]


def _from(made: Settings, origins: Mapping[str, str]) -> Settings:
    """*made*, which then says where its values come from."""
    vars(made)["origins"] = MappingProxyType(dict(origins))
    return made


def _named(given: Mapping[str, object]) -> dict[str, object]:
    """Values of settings by their fields, from *given* by ``FEEDMILL_…``."""
    values: dict[str, object] = {}
    for variable, value in given.items():
        name = variable[len(ENV) :].lower()
        _check_name(name, variable, [ENV + known.upper() for known in _FIELDS])
        values[name] = _convert(name, value)
    return values


def current() -> Settings:
    """The settings in force."""
    global _current
    if _current is None:
        _current = from_environment()
    return _current


def check() -> None:
    """Raise :class:`~feedmill.errors.SettingsError` if the environment says something that cannot be; nothing is kept of it.

    What a program says after that, before it uses the first feed, counts as well.
    """
    if _current is None:
        from_environment()


def configure(**changes: object) -> Settings:
    """Change settings of this process, and return all settings. Call it before the first feed is used.

    Raises :class:`~feedmill.errors.SettingsError` for an unknown name or an invalid value.
    """
    return change(changes, CONFIGURE)


def change(changes: Mapping[str, object], origin: str, *, afresh: bool = False) -> Settings:
    """:func:`configure` for others than an app: *origin* says who set the values.

    *afresh*: what was changed before, and is not among *changes*, is the environment's again. If a value is refused, all stays
    as it was.
    """
    global _current
    for name in changes:
        _check_name(name, name, list(_FIELDS))
    values = {name: _convert(name, value) for name, value in changes.items()}
    before = from_environment() if afresh else current()
    made = dataclasses.replace(before, **values)  # type: ignore[arg-type]
    _current = _from(made, {**before.origins, **dict.fromkeys(values, origin)})
    return _current


def configure_named(given: Mapping[str, object]) -> Settings:
    """:func:`configure`, with ``FEEDMILL_…`` as names: what the config of a framework holds."""
    return configure(**_named(given))
