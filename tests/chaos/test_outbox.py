"""Web processes that write to an outbox, in real databases: they are killed, and the Redis of the feeds is away for minutes."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from feedmill import Activity
from feedmill.fanout import publisher
from feedmill.fanout.publisher import HIGH_QUEUE
from feedmill.msgpack_codec import unpack
from tests.celery_local.postgres import create_database, url_of
from tests.celery_local.process import LocalProcess
from tests.chaos.harness import Harness, carrying
from tests.chaos.outbox_site import WHERE
from tests.chaos.proxied import Proxied, digests
from tests.chaos.workers import ROOT

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(600),
    pytest.mark.parametrize("broker", ["redis"]),  # web processes that use an outbox know as little of it as others
]

#: Seconds for which Redis is away.
AWAY = float(os.environ.get("CHAOS_AWAY", "120"))
#: Seconds for which it is away in the short form.
SHORTLY = 12.0
#: Seconds that a transaction of a web process may take at most, whatever is away.
PATIENCE = 8.0


class Site:
    """The app under test: its database, and its web processes behind a proxy of their own."""

    def __init__(self, harness: Harness, kind: str, database: str, pause: float) -> None:
        self.harness, self.database = harness, database
        self.folder = harness.folder / "site"
        self.folder.mkdir()
        self.proxy: Proxied = harness.another_proxy()
        url = f"{harness.feeds_url(self.proxy.port)}?socket_timeout=1&socket_connect_timeout=1"
        where = {WHERE: json.dumps({"kind": kind, "database": database}), "CHAOS_PAUSE": str(pause)}
        self.environment = {**harness.environment, **where, "PYTHONPATH": str(ROOT)}
        self.webs: list[LocalProcess] = []
        self._run("from tests.chaos.outbox_site import site; site.create()").process.wait(60)
        self.environment["FEEDMILL_REDIS_URL"] = url
        modules = "tests.chaos.network,tests.chaos.outbox_site"
        harness.hire(2, modules=modules, environment=where)

    def _run(self, program: str) -> LocalProcess:
        return LocalProcess([sys.executable, "-c", program], self.folder, self.environment, "web")

    def start(self, count: int = 3) -> None:
        """Start web processes, and wait until they work."""
        new = [self._run(f"from tests.chaos.outbox_site import main; main({len(self.webs) + n})") for n in range(count)]
        self.webs += new
        deadline = time.monotonic() + 60
        while not all((self.folder / f"slowest.{web.process.pid}").exists() for web in new):
            assert time.monotonic() < deadline, new[0].logs().decode()[-3000:]
            time.sleep(0.05)

    def kill(self) -> int:
        """Kill all with -9; how many there were."""
        living = [web for web in self.webs if web.status == "running"]
        for web in living:
            web.kill()
        assert living, self.webs[-1].logs().decode()[-3000:]
        return len(living)

    def stop(self) -> None:
        """Have all end when they have done what they do."""
        (self.folder / "stop").touch()
        for web in self.webs:
            assert web.process.wait(60) in (0, -9), web.logs().decode()[-3000:]

    def close(self) -> None:
        """Kill all."""
        for web in self.webs:
            web.kill()

    def query(self, statement: str) -> list[Any]:
        """Rows of the app's database, of tables of its own."""
        import sqlalchemy

        engine = sqlalchemy.create_engine(self.database)
        with engine.connect() as connection:
            found = [tuple(row) for row in connection.exec_driver_sql(statement)]
        engine.dispose()
        return found

    @property
    def waiting(self) -> int:
        """Rows that are not relayed."""
        table = "feedmill_outbox_outboxrow" if "django" in self.environment[WHERE] else "feedmill_outbox"
        return int(self.query(f"SELECT COUNT(*) FROM {table}")[0][0])

    def relay_all(self) -> None:
        """Have beat send sweeps until nothing waits; and let workers deliver."""
        deadline = time.monotonic() + 120
        while self.waiting:
            assert time.monotonic() < deadline, f"{self.waiting} rows wait after 120 s"
            publisher.send("feedmill.sweep", [], queue=HIGH_QUEUE, description="sweep")
            time.sleep(0.5)
        self.harness.rest()

    def believe(self) -> int:
        """Tell the model what was committed, in the order in which it was; how many changes that were."""
        model, live, contexts = self.harness.model, set[Activity](), 0
        rows = self.query("SELECT op, body FROM log ORDER BY id")
        for op, body in rows:
            values = unpack(bytes(body))
            if op in ("follow", "unfollow"):
                getattr(model, op)(*values)
            elif op == "notify":
                model.notify(values[0], Activity.unpack(values[1]))
            elif op == "update":
                model.update(carrying(Activity.unpack(values[0]), {"words": values[1]}))
                contexts += 1
            else:
                activity = Activity.unpack(values)
                if op == "add" and activity not in live:
                    live.add(activity)
                    model.add(activity)
                elif op == "remove" and activity in live:
                    live.discard(activity)
                    model.remove(activity)
        return len(rows)

    @property
    def slowest(self) -> float:
        """Seconds of the longest transaction of any web process."""
        texts = [path.read_text() for path in self.folder.glob("slowest.*")]
        return max(float(text.split()[0]) for text in texts if text)  # one may have been killed while it wrote


@pytest.fixture
def site(request: pytest.FixtureRequest, harness: Harness, tmp_path: Path) -> Iterator[Site]:
    """The app, with that kind of outbox and database."""
    kind, server, pause = request.param
    database = f"sqlite:///{tmp_path}/app.db"
    if server == "postgresql":
        facts = request.getfixturevalue("postgres_server")
        create_database(facts, "chaos")
        database = url_of(facts, database="chaos")
    made = Site(harness, kind, database, pause)
    yield made
    made.close()


def of(kind: str, server: str, fault: str, pause: float, *marks: pytest.MarkDecorator) -> Any:
    """A scenario on one kind of outbox and database."""
    name = f"{fault} ({ {'django': 'Django', 'sqlalchemy': 'SQLAlchemy'}[kind] }, { {'sqlite': 'SQLite', 'postgresql': 'PostgreSQL'}[server] })"
    return pytest.param((kind, server, pause), marks=[pytest.mark.scenario(name), *marks], id=f"{kind}-{server}")


KILLED = "kill -9 of web processes that use the outbox"
GONE, SHORTLY_GONE = (f"Redis away for {long} while web processes use the outbox" for long in ("minutes", "seconds"))


@pytest.mark.parametrize(
    "site",
    [
        of("django", "postgresql", KILLED, 0.06, pytest.mark.short),
        of("django", "sqlite", KILLED, 0.06),
        of("sqlalchemy", "postgresql", KILLED, 0.06),
        of("sqlalchemy", "sqlite", KILLED, 0.06),
    ],
    indirect=True,
)
def test_web_killed(harness: Harness, site: Site, verify: Callable[[], object]) -> None:
    """What a web process committed is delivered once and in order, and what was rolled back never happened, wherever the process
    was killed: in a transaction, behind the commit, or between relaying and deleting a row.
    """
    for number in range(6):
        site.start()
        time.sleep(1)
        if number % 3:
            held = site.proxy.hits + 1
            site.proxy.rule(digests(["journal_open"]), side=("answer", "request")[number % 2], action="hold")
            site.proxy.wait_hits(held)
            site.proxy.forget()
        harness.fault(site.kill())
        site.proxy.release()
    site.start()
    site.stop()
    committed = site.believe()
    harness.remark = f"{committed:,} committed changes"
    site.relay_all()
    assert committed > 60
    verify()


@pytest.mark.parametrize(
    ("site", "seconds"),
    [
        pytest.param(*each.values, seconds, marks=each.marks, id=f"{each.id}-{number}")
        for number, (each, seconds) in enumerate(
            [
                (of("django", "postgresql", GONE, 0.6), AWAY),
                (of("sqlalchemy", "sqlite", GONE, 0.6), AWAY),
                (of("django", "sqlite", GONE, 0.6), AWAY),
                (of("sqlalchemy", "postgresql", GONE, 0.6), AWAY),
                (of("sqlalchemy", "sqlite", SHORTLY_GONE, 0.2, pytest.mark.short), SHORTLY),
            ]
        )
    ],
    indirect=["site"],
)
def test_redis_away(harness: Harness, site: Site, seconds: float, verify: Callable[[], object]) -> None:
    """While the Redis of the feeds is away, or answers nothing, web processes commit and are killed. Afterwards sweeps deliver all that
    was committed, once and in order.
    """
    for number in range(3):
        site.start()
        time.sleep(1)
        switch = {"refusing": True} if number % 2 == 0 else {"dropping": True}
        site.proxy.set(**switch)
        site.proxy.cut()
        time.sleep(seconds / 3)
        harness.fault(1 + site.kill())
        site.proxy.set(**dict.fromkeys(switch, False))
    site.start()
    waiting = site.waiting
    site.stop()
    committed = site.believe()
    harness.remark = (
        f"away for {seconds:.0f} s; {committed:,} committed changes, of which {waiting:,} waited; the longest transaction of a web"
        f" process took {site.slowest:.1f} s"
    )
    site.relay_all()
    assert committed > 50 and waiting and site.slowest < PATIENCE
    verify()
