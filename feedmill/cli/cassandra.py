"""``feedmill cassandra``: the schema of feeds on Cassandra."""

from __future__ import annotations

import re

import click

from feedmill import settings
from feedmill.cassandra_urls import parsed
from feedmill.cli import shapes
from feedmill.cli.command import OK, PROBLEM, Failure, Group, Result, examples, tell
from feedmill.storage.cassandra.session import CassandraSession

#: What a replication may be made of: names of data centers, numbers and the name of the strategy.
_DATACENTER = re.compile(r"([A-Za-z0-9_.-]+)=([1-9][0-9]?)")


@click.group(cls=Group, epilog=examples("feedmill cassandra init --replication dc1=3", "feedmill cassandra check"))
def cassandra() -> None:
    """Make or check the schema of feeds on Cassandra.

    FEEDMILL_CASSANDRA_URL names the cluster and the keyspace.
    """


def _session() -> CassandraSession:
    current = settings.current()
    if not current.cassandra_url:
        raise Failure("FEEDMILL_CASSANDRA_URL is empty; use cassandra://user:password@host1,host2:9042/keyspace")
    url = parsed("FEEDMILL_CASSANDRA_URL", current.cassandra_url)
    return CassandraSession(url, current.cassandra_consistency, current.cassandra_serial_consistency)


@cassandra.command(epilog=examples("feedmill cassandra init --replication dc1=3,dc2=3"))
@click.option(
    "--replication",
    required=True,
    metavar="DATACENTER=COPIES,…",
    help="How many copies each data center keeps; or a number alone, for a cluster that knows no data centers, as in development.",
)
def init(replication: str) -> Result:
    """Make the keyspace and the tables. What is there stays as it is, so it may run with each deployment."""
    session = _session()
    session.create(replication_map(replication))
    return _told(session)


@cassandra.command(epilog=examples("feedmill cassandra check"))
def check() -> Result:
    """Check that the keyspace and the tables are there, with all columns."""
    return _told(_session())


def _told(session: CassandraSession) -> Result:
    problems = session.problems()
    for problem in problems:
        tell(problem, error=True)
    if not problems:
        tell(f"the keyspace {session.url.keyspace} has all tables")
    return Result(shapes.CassandraSchema(session.url.keyspace, problems), PROBLEM if problems else OK)


def replication_map(given: str) -> str:
    """What CQL takes as replication, from ``3`` or ``dc1=3,dc2=2``."""
    if re.fullmatch("[1-9][0-9]?", given):
        return f"{{'class': 'SimpleStrategy', 'replication_factor': {given}}}"
    found: dict[str, str] = {}
    for part in given.split(","):
        match = _DATACENTER.fullmatch(part.strip())
        if match is None or match[1] in found:
            raise click.BadParameter(
                f"{given!r}; use copies by data center, as in dc1=3,dc2=3, or a number", param_hint="--replication"
            )
        found[match[1]] = match[2]
    copies = ", ".join(f"'{name}': {number}" for name, number in found.items())
    return f"{{'class': 'NetworkTopologyStrategy', {copies}}}"
