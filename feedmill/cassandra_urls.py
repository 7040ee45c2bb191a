"""URLs of Cassandra clusters: what may stand in one."""

from __future__ import annotations

import dataclasses
import functools
import re
from urllib.parse import parse_qsl, unquote, urlsplit

from feedmill.errors import SettingsError
from feedmill.redis_urls import without_secrets
from feedmill.spelling import instead_of

#: The port of CQL's protocol where a URL names none.
PORT = 9042
#: What counts as written or read. With less than a quorum a replica that lags could show old rows of a group under a new version.
CONSISTENCIES = ("LOCAL_QUORUM", "QUORUM", "ALL")
#: Who agrees on a conditional write: the nodes of the nearest data center, or those of all.
SERIAL_CONSISTENCIES = ("LOCAL_SERIAL", "SERIAL")
#: Names that CQL takes without quotes.
_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")
#: Hosts, of which an IPv6 address is in brackets, and a port.
_HOST = r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])"
_PLACE = re.compile(rf"({_HOST}(?:,{_HOST})*)(?::([0-9]{{1,6}}))?")
_SPELLING = "cassandra://user:password@host1,host2:9042/keyspace"


@dataclasses.dataclass(frozen=True)
class CassandraUrl:
    """A URL that was understood."""

    #: Nodes to begin with; the cluster tells of the others.
    hosts: tuple[str, ...]
    port: int
    keyspace: str
    username: str
    password: str = dataclasses.field(repr=False)
    #: The nearest data center; empty for that of the hosts.
    datacenter: str
    #: Seconds for which an answer is waited for; 0 for the usual ones.
    timeout: float
    #: The version of the native protocol; 0 for the newest that the cluster speaks.
    protocol_version: int

    @property
    def place(self) -> str:
        """Hosts, port and keyspace, as they may stand in errors."""
        return f"{','.join(self.hosts)}:{self.port}/{self.keyspace}"


@functools.lru_cache(maxsize=64)
def parsed(variable: str, url: str) -> CassandraUrl:
    """*url*, the value of the setting *variable*, taken apart; :class:`~feedmill.errors.SettingsError` if it makes no sense."""
    shown = f"{variable} is {without_secrets(url)!r}"
    try:
        parts = urlsplit(url)
    except ValueError:
        raise SettingsError(f"{shown}, which is no URL; use {_SPELLING}") from None
    secret, _, place = parts.netloc.rpartition("@")
    match = _PLACE.fullmatch(place)
    keyspace = parts.path.strip("/")
    if parts.scheme != "cassandra" or parts.fragment or match is None:
        raise SettingsError(f"{shown}; use {_SPELLING}, with the port once, behind the last host")
    names = tuple(host.strip("[]") for host in match[1].split(","))
    number = PORT if match[2] is None else int(match[2])
    if not 1 <= number <= 65535:
        raise SettingsError(f"{shown}, whose port is not from 1 to 65535; use {_SPELLING}")
    if not _NAME.fullmatch(keyspace):
        raise SettingsError(
            f"{shown}, which names the keyspace {keyspace!r}; use small letters, digits and underscores, as in {_SPELLING}"
        )
    username, _, password = secret.partition(":")
    options = _options(shown, parts.query)
    return CassandraUrl(
        names,
        number,
        keyspace,
        unquote(username),
        unquote(password),
        options.get("datacenter", ""),
        float(options.get("timeout", "0")),
        int(options.get("protocol_version", "0")),
    )


def check_levels(consistency: str, serial_consistency: str) -> None:
    """Raise :class:`~feedmill.errors.SettingsError` for a consistency level that cannot be used."""
    for name, level, known in (
        ("FEEDMILL_CASSANDRA_CONSISTENCY", consistency, CONSISTENCIES),
        ("FEEDMILL_CASSANDRA_SERIAL_CONSISTENCY", serial_consistency, SERIAL_CONSISTENCIES),
    ):
        if level not in known:
            raise SettingsError(f"{name} is {level!r}; use one of {', '.join(known)}")


#: What stands behind the question mark: what it takes, as a pattern and in words.
_OPTIONS = {
    "datacenter": (r"[!-~]+", "the name of a data center"),
    "timeout": (r"(?=.*[1-9])[0-9]{1,5}(\.[0-9]{1,6})?", "a positive number of seconds"),
    "protocol_version": (r"[3-5]", "3, 4 or 5"),
}


def _options(shown: str, query: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in _OPTIONS:
            raise SettingsError(
                f"{shown} with the option {name!r}, which Feedmill does not have; {instead_of(name, _OPTIONS)}"
            )
        pattern, words = _OPTIONS[name]
        if name in given or not re.fullmatch(pattern, text):
            raise SettingsError(f"{shown} with the option {name}={text}; it takes {words}, once")
        given[name] = text
    return given
