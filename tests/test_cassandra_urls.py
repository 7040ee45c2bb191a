"""What may name a Cassandra cluster, and what is said without one, or without its driver."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import click
import pytest

import feedmill
from feedmill.cassandra_urls import parsed
from feedmill.cli.cassandra import replication_map
from feedmill.errors import DeclarationError, SettingsError
from feedmill.feeds import CassandraAggregatedFeed, CassandraFeed, CassandraNotificationFeed, Feed
from feedmill.storage.cassandra.session import BATCH, CONDITIONAL, _rounds
from feedmill.storage.registry import backend
from tests.cli.samples import failed_json
from tests.feeds.samples import held, on_day


class Home(CassandraFeed):
    key_format = "urls:home:%(user_id)s"


class News(CassandraAggregatedFeed):
    key_format = "urls:news:%(user_id)s"


class Notes(CassandraNotificationFeed):
    key_format = "urls:notes:%(user_id)s"
    count_format = "urls:notes:%(user_id)s:count"


def test_a_url() -> None:
    """All parts, with a password that is quoted; defaults for what is left out; no secret in what is shown."""
    url = parsed("X", "cassandra://me:p%40ss@one,two:9043/feeds?datacenter=dc1&timeout=2.5&protocol_version=3")
    assert (url.hosts, url.port, url.keyspace, url.username, url.password) == (
        ("one", "two"),
        9043,
        "feeds",
        "me",
        "p@ss",
    )
    assert (url.datacenter, url.timeout, url.protocol_version, url.place) == ("dc1", 2.5, 3, "one,two:9043/feeds")
    short = parsed("X", "cassandra://one/feeds")
    assert (short.port, short.username, short.datacenter, short.timeout, short.protocol_version) == (
        9042,
        "",
        "",
        0,
        0,
    )
    assert parsed("X", "cassandra://[::1],10.0.0.1:9042/feeds").hosts == ("::1", "10.0.0.1")
    assert "p@ss" not in repr(url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://one/feeds", "use cassandra://"),
        ("cassandra:///feeds", "use cassandra://"),
        ("cassandra://one:x/feeds", "with the port once"),
        ("cassandra://one:1,two:2/feeds", "with the port once"),
        ("cassandra://one:70000/feeds", "from 1 to 65535"),
        ("cassandra://one/", "small letters"),
        ("cassandra://one/Feeds", "names the keyspace 'Feeds'"),
        ("cassandra://one/feeds?timeot=3", "did you mean 'timeout'"),
        ("cassandra://one/feeds?timeout=0", "a positive number of seconds"),
        ("cassandra://one/feeds?protocol_version=9", "3, 4 or 5"),
        ("cassandra://me:secret@one/Feeds", "keyspace 'Feeds'"),
    ],
)
def test_a_wrong_url(url: str, words: str) -> None:
    """It is refused when it is set, with what to write instead, and without the password."""
    with pytest.raises(SettingsError, match=words) as caught:
        feedmill.configure(cassandra_url=url)
    assert "secret" not in str(caught.value) and str(caught.value).startswith("FEEDMILL_CASSANDRA_URL is ")


@pytest.mark.parametrize("name", ["cassandra_consistency", "cassandra_serial_consistency"])
@pytest.mark.parametrize("level", ["MOST", "ONE", "LOCAL_ONE", "TWO", "THREE", "EACH_QUORUM"])
def test_a_wrong_level(name: str, level: str) -> None:
    """A consistency level that does not exist, or is no quorum, is refused, with those that can be used."""
    with pytest.raises(SettingsError, match=f"FEEDMILL_{name.upper()} is '{level}'; use one of .*LOCAL_"):
        feedmill.configure(**{name: level})


def test_a_long_timeout() -> None:
    """A timeout in which a worker could lose what it has claimed is refused."""
    with pytest.raises(
        SettingsError, match="has the timeout 20; use less than a third of FEEDMILL_FANOUT_LEASE, which is 60"
    ):
        feedmill.configure(cassandra_url="cassandra://one/feeds?timeout=20")
    feedmill.configure(cassandra_url="cassandra://one/feeds?timeout=19")
    with pytest.raises(SettingsError, match="third of FEEDMILL_FANOUT_LEASE, which is 30"):
        feedmill.configure(fanout_lease=30)


@pytest.mark.parametrize("kind", [CassandraFeed, CassandraAggregatedFeed])
def test_no_expire_idle(kind: type[Feed]) -> None:
    """A feed that could be emptied while it is in use is refused."""
    with pytest.raises(DeclarationError, match="Bad.expire_idle is set, but CassandraTimelineStorage .* use max_age"):
        type("Bad", (kind,), {"expire_idle": 5, "__module__": __name__})


def test_in_memory() -> None:
    """In the in-memory mode the feeds need neither a server nor the name of one."""
    for feed in (Home(1), News(1), Notes(1)):
        assert feed.add(on_day(1)) == 1 and held(feed[:]) == [on_day(1)]
    assert backend().in_process


def test_without_the_driver(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who names a cluster and has no driver is told how to get it."""
    monkeypatch.setitem(sys.modules, "cassandra", None)
    feedmill.configure(cassandra_url="cassandra://127.0.0.1:1/none")
    with pytest.raises(ImportError, match=r"pip install 'feedmill\[cassandra\]'"):
        Home(1).add(on_day(1))


def test_the_driver_is_not_imported() -> None:
    """Feedmill, its feeds and its command do without it."""
    code = "import sys, feedmill.feeds, feedmill.cli.main, feedmill.tasks; print([m for m in sys.modules if m.split('.')[0] == 'cassandra'])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_commands_about_one_feed_wait_for_each_other() -> None:
    """Those about one feed are sent in their order; of others so many at a time as are good for the server."""
    commands: list[Any] = [("cql", name, key, ()) for name, key in enumerate(["a", "b", "a", "c", "a"])]
    assert list(_rounds(commands, len)) == [[[0], [1], [3]], [[2]], [[4]]]
    many: list[Any] = [("cql", number, number, ()) for number in range(300)]
    rounds = list(_rounds(many, len))
    assert [each for some in rounds for each in some] == [[number] for number in range(300)]
    assert max(map(len, rounds)) <= 128


def test_small_commands_go_together() -> None:
    """The same question about feeds of one node is one statement, and so are small writes, of ten feeds at most; what has a condition goes
    alone, and so do large writes.
    """
    node: dict[str, str] = {"a": "x", "b": "x", "c": "y", "d": "x"}
    same: list[Any] = [("cql", "rows", key, (key, [1, 2])) for key in "abc"]
    other: list[Any] = [("cql", "rows", "d", ("d", [1])), ("cql", "rows", "a", ("a", [1, 2]))]
    assert list(_rounds([*same, *other], node.__getitem__)) == [[[0, 1], [2], [3]], [[4]]]
    writes: list[Any] = [("cql", BATCH, str(key), [("put", ())] * 2) for key in range(25)]
    ((*groups,),) = _rounds(writes, lambda key: None)
    assert [*map(len, groups)] == [10, 10, 5]
    for alone in (CONDITIONAL, BATCH):
        lonely: list[Any] = [("cql", alone, str(key), [("put", ())] * 9) for key in range(3)]
        assert list(_rounds(lonely, lambda key: None)) == [[[0], [1], [2]]]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("3", "{'class': 'SimpleStrategy', 'replication_factor': 3}"),
        ("dc1=3", "{'class': 'NetworkTopologyStrategy', 'dc1': 3}"),
        ("eu-1=3, us=2", "{'class': 'NetworkTopologyStrategy', 'eu-1': 3, 'us': 2}"),
    ],
)
def test_replication(given: str, words: str) -> None:
    """Copies by data center, or a number."""
    assert replication_map(given) == words


@pytest.mark.parametrize("given", ["", "0", "dc1", "dc1=0", "dc1=3,dc1=2", "dc1=3;DROP KEYSPACE x", "d'c=3"])
def test_a_wrong_replication(given: str) -> None:
    """It is refused before anything is asked of the cluster."""
    with pytest.raises(click.BadParameter, match="copies by data center"):
        replication_map(given)


def test_commands_without_a_cluster() -> None:
    """They say which setting is empty."""
    for words in (["check"], ["init", "--replication", "1"]):
        assert "FEEDMILL_CASSANDRA_URL is empty" in failed_json("cassandra", *words, code=1)["message"]
