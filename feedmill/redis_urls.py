"""URLs of Redis servers: what may stand in one, and how redis-py and kombu (Celery's broker) are told the same."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from feedmill.errors import SettingsError
from feedmill.spelling import instead_of

#: What names a Redis server.
SCHEMES = ("redis", "rediss", "unix")
_TRUE, _FALSE = ("1", "true", "t", "yes", "y", "on"), ("0", "false", "f", "no", "n", "off")


def without_secrets(url: str) -> str:
    """*url* as it may stand in errors and logs: without user, password and options."""
    scheme, slashes, rest = url.rpartition("://")
    place, _, options = rest.partition("?")
    if "@" in options and "@" not in place:  # a password that should have been quoted
        place = "…"
    return scheme + slashes + place.rpartition("@")[2].partition("#")[0]


def _yes(text: str) -> bool:
    return text.lower() in _TRUE


class _Option(NamedTuple):
    """An option behind the question mark."""

    #: What it takes, as a pattern of the whole text and in words.
    pattern: str
    words: str
    read: Callable[[str], Any] = str


_WHOLE, _POSITIVE, _ANYTHING = "[0-9]{1,9}", "0{0,9}[1-9][0-9]{0,9}", "(?s:.+)"
_SECONDS = _Option(r"(?=.*[1-9])[0-9]{0,9}\.?[0-9]{0,9}", "a positive number of seconds", float)
_BOOLEAN = _Option(f"(?i:{'|'.join(_TRUE + _FALSE)})", "true or false", _yes)
_FILE = _Option(_ANYTHING, "the path of a file")
_OPTIONS = {
    "db": _Option(_WHOLE, "a number", int),
    "username": _Option(_ANYTHING, "a name"),
    "password": _Option(_ANYTHING, "a text"),
    "socket_timeout": _SECONDS,
    "socket_connect_timeout": _SECONDS,
    "socket_keepalive": _BOOLEAN,
    "health_check_interval": _Option(_WHOLE, "a whole number of seconds", int),
    "max_connections": _Option(_POSITIVE, "a positive whole number", int),
    "client_name": _Option("[!-~]+", "a name of ASCII letters, without spaces"),
    "protocol": _Option("2", "2, the protocol that Feedmill speaks"),
}
_TLS = {
    "ssl_cert_reqs": _Option("required|optional|none", "required, optional or none"),
    "ssl_check_hostname": _BOOLEAN,
    "ssl_ca_certs": _FILE,
    "ssl_certfile": _FILE,
    "ssl_keyfile": _FILE,
    "ssl_ca_path": _Option(_ANYTHING, "the path of a folder"),
    "ssl_password": _Option(_ANYTHING, "the password of the key's file"),
    "ssl_ciphers": _Option(_ANYTHING, "a list of ciphers"),
}
#: Those that kombu takes as transport options; the others are about our own connections, or are spelled elsewhere.
_TRANSPORT = ("socket_timeout", "socket_connect_timeout", "socket_keepalive", "health_check_interval", "client_name")
#: What a socket in the file system has no use for.
_NETWORK = ("socket_keepalive",)
OUT_OF_RANGE = "whose port is not from 1 to 65535"
#: An IPv6 address that lacks its brackets.
_BARE_IPV6 = re.compile(r"[0-9A-Fa-f]*(:[0-9A-Fa-f]*){2,}")


@dataclasses.dataclass(frozen=True)
class RedisUrl:
    """A URL that was understood."""

    scheme: str
    #: Host and port as they stand in the URL, without user and password; empty for a socket.
    place: str
    #: Path of a socket; else empty.
    path: str
    username: str
    password: str = dataclasses.field(repr=False)
    database: int
    #: The other options, by their names in redis-py.
    options: Mapping[str, Any]

    def on_database(self, number: int) -> str:
        """The same server's URL with database *number*."""
        return self._url(self.scheme, number, self.options)

    @property
    def client_url(self) -> str:
        """How redis-py is told, without what is about the pool."""
        ours = ("max_connections", "protocol")
        kept = {name: value for name, value in self.options.items() if name not in ours}
        return self._url(self.scheme, self.database, kept)

    @property
    def broker_url(self) -> str:
        """How kombu spells it."""
        tls = {name: value for name, value in self.options.items() if name in _TLS}
        if self.scheme == "rediss":  # kombu would not look at certificates, redis-py does
            tls.setdefault("ssl_cert_reqs", "required")
        return self._url("redis+socket" if self.path else self.scheme, self.database, tls)

    @property
    def transport_options(self) -> dict[str, Any]:
        """What kombu takes as options of its transport and not in a URL."""
        return {name: self.options[name] for name in _TRANSPORT if name in self.options}

    def _url(self, scheme: str, database: int, options: Mapping[str, Any]) -> str:
        user = quote(self.username, safe="")
        secret = ":" + quote(self.password, safe="") if self.password else ""
        given = {name: str(value).lower() if isinstance(value, bool) else value for name, value in options.items()}
        path = f"/{database}"
        if self.path:
            path = quote(self.path)
            given = {"virtual_host" if scheme == "redis+socket" else "db": database, **given}
        place = f"{user}{secret}@{self.place}" if user or secret else self.place
        return f"{scheme}://{place}{path}" + ("?" + urlencode(given, quote_via=quote) if given else "")


def is_redis(url: str) -> bool:
    """Whether *url* names a Redis server as redis-py does."""
    return url.partition("://")[0].lower() in SCHEMES


@functools.lru_cache(maxsize=64)
def parsed(variable: str, url: str) -> RedisUrl:
    """*url*, the value of the setting *variable*, taken apart.

    Raises :class:`~feedmill.errors.SettingsError` for a URL or an option that makes no sense, before anything is done
    with it.
    """
    shown = f"{variable} is {without_secrets(url)!r}"
    spelling = "redis://host:port/db, and write a password's special characters in percent: %2F for a slash"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:  # its text may quote a piece of the password
        host = url.partition("://")[2].rpartition("@")[2].partition("/")[0]
        if _BARE_IPV6.fullmatch(host):
            raise SettingsError(f"{shown}; put an IPv6 address into brackets, as in redis://[::1]:6379/0") from None
        wrong = "which is no URL" if "IPv6" in str(error) else "whose port or database is no number"
        wrong = OUT_OF_RANGE if "out of range" in str(error) else wrong
        raise SettingsError(f"{shown}, {wrong}; use {spelling}") from None
    network = parts.scheme != "unix"
    if port == 0:
        raise SettingsError(f"{shown}, {OUT_OF_RANGE}; use {spelling}")
    if (network and not (parts.path.strip("/") or "0").isdecimal()) or parts.fragment:
        raise SettingsError(f"{shown}, whose port or database is no number; use {spelling}")
    if not network and (parts.hostname or not parts.path.strip("/")):
        raise SettingsError(f"{shown}, which names no socket; use unix:///path/of/the/socket?db=0")
    options = _options(shown, parts.scheme, parts.query)
    path_database = int(parts.path.strip("/") or 0) if network else 0
    host = parts.netloc.rpartition("@")[2]
    return RedisUrl(
        parts.scheme,
        host,
        "" if network else unquote(parts.path),
        options.pop("username", None) or unquote(parts.username or ""),
        options.pop("password", None) or unquote(parts.password or ""),
        options.pop("db", path_database),
        MappingProxyType(options),
    )


def _options(shown: str, scheme: str, query: str) -> dict[str, Any]:
    known = _OPTIONS if scheme != "rediss" else {**_OPTIONS, **_TLS}
    read: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name in _TLS and name not in known:
            raise SettingsError(f"{shown} with the option {name!r}, which is about TLS; use rediss:// for that")
        if name not in known:
            advice = instead_of(name, known)
            raise SettingsError(f"{shown} with the option {name!r}, which Feedmill does not have; {advice}")
        if name in _NETWORK and scheme == "unix":
            raise SettingsError(
                f"{shown} with the option {name!r}, which means nothing for a socket file; leave it out"
            )
        if name in read:
            raise SettingsError(f"{shown} with the option {name!r} twice; name it once")
        option = known[name]
        if not re.fullmatch(option.pattern, text):
            value = "" if name.endswith("password") else f"={text}"
            raise SettingsError(f"{shown} with the option {name}{value}; it takes {option.words}")
        read[name] = option.read(text)
    return read


__all__ = ["SCHEMES", "RedisUrl", "is_redis", "parsed", "without_secrets"]
