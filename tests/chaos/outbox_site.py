"""A web app with an outbox, whose database tells what must have happened.

``CHAOS_OUTBOX`` is a JSON object: the kind of outbox ("django" or "sqlalchemy") and its database. A process makes transactions at
random until it is killed, or the file ``stop`` is in its folder. Each writes down what it asks for in the table ``log``, in the
transaction itself, and some are rolled back. Workers import the module for the sweep, and to ask who follows whom.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from feedmill import Activity
from feedmill.contrib.outbox import Outbox, named
from feedmill.msgpack_codec import pack, unpack
from feedmill.verbs import Comment, Love
from tests.chaos import edges
from tests.chaos.network import AUTHORS, NAMED, READERS, RECIPIENTS, ChaosManager

START = dt.datetime(2024, 3, 1, 12, tzinfo=dt.timezone.utc)
WHERE = "CHAOS_OUTBOX"


class Site:
    """The app: its database, and its transactions."""

    def __init__(self, kind: str, database: str) -> None:
        self.kind, self.postgres = kind, database.startswith("postgresql")
        number = "BIGSERIAL PRIMARY KEY" if self.postgres else "INTEGER PRIMARY KEY AUTOINCREMENT"
        self._schema = [
            f"CREATE TABLE log (id {number}, op VARCHAR(20) NOT NULL, body {'BYTEA' if self.postgres else 'BLOB'} NOT NULL)",
            "CREATE TABLE follows (reader INTEGER NOT NULL, author INTEGER NOT NULL, PRIMARY KEY (reader, author))",
            "CREATE TABLE locks (name VARCHAR(10) PRIMARY KEY)",
            "INSERT INTO locks VALUES ('all')",
        ]
        self.outbox: Outbox = getattr(self, f"_set_up_{kind}")(database)

    # -- the two kinds

    def _set_up_django(self, database: str) -> Outbox:
        import django
        from django.conf import settings

        engine: dict[str, Any] = {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {"timeout": 60}}
        if self.postgres:
            user, _, rest = database.partition("://")[2].partition("@")
            server, _, name = rest.partition("/")
            host, _, port = server.partition(":")
            engine = {"ENGINE": "django.db.backends.postgresql", "USER": user, "HOST": host, "PORT": port, "NAME": name}
        else:
            engine["NAME"] = database.partition(":///")[2]
        settings.configure(
            SECRET_KEY="x",
            USE_TZ=True,
            INSTALLED_APPS=["feedmill.contrib.django", "feedmill.contrib.django.outbox"],
            DATABASES={"default": engine},
        )
        django.setup()
        return named("django")

    def _set_up_sqlalchemy(self, database: str) -> Outbox:
        from sqlalchemy import create_engine, event
        from sqlalchemy.orm import sessionmaker

        from feedmill.contrib.sqlalchemy import Outbox

        self._engine = create_engine(database, connect_args={} if self.postgres else {"timeout": 60})
        if not self.postgres:

            @event.listens_for(self._engine, "connect")
            def connect(connection: Any, record: Any) -> None:
                connection.isolation_level = None

            @event.listens_for(self._engine, "begin")
            def begin(connection: Any) -> None:
                connection.exec_driver_sql("BEGIN IMMEDIATE")

        self._maker = sessionmaker(self._engine)
        return Outbox(self._engine)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Callable[..., list[Any]]]:
        """A transaction in which managers write to the outbox; what executes SQL in it."""
        if self.kind == "django":
            from django.db import connection, transaction

            with transaction.atomic(), connection.cursor() as cursor:

                def execute(statement: str, *values: Any) -> list[Any]:
                    cursor.execute(statement, values)
                    return cursor.fetchall() if cursor.description else []

                yield execute
            return
        with self._maker.begin() as session, self.outbox.bind(session):  # type: ignore[attr-defined]

            def run(statement: str, *values: Any) -> list[Any]:
                mark = "%s" if self.postgres else "?"
                done = session.connection().exec_driver_sql(statement.replace("%s", mark), values)
                return list(done) if done.returns_rows else []

            yield run

    def create(self) -> None:
        """Make all tables."""
        if self.kind == "django":
            from django.core.management import call_command

            call_command("migrate", verbosity=0)
        else:
            self.outbox.metadata.create_all(self._engine)  # type: ignore[attr-defined]
        with self.transaction() as execute:
            for statement in self._schema:
                execute(statement)

    def asked(self, statement: str, *values: Any) -> list[Any]:
        """The rows of a query."""
        with self.transaction() as execute:
            return execute(statement, *values)

    # -- what the app does

    def work(self, dice: random.Random, manager: ChaosManager) -> None:
        """One transaction: some changes, of which each is the last word on what it is about, or none of it."""
        keep = dice.random() > 0.2
        with contextlib.suppress(Undo), self.transaction() as execute:
            if self.postgres or self.kind == "django":  # who changes what others change, too, locks it first
                execute("UPDATE locks SET name = 'all'")
            for _ in range(dice.randint(1, 3)):
                self._change(dice, manager, execute)
            if not keep:
                raise Undo

    def _change(self, dice: random.Random, manager: ChaosManager, execute: Callable[..., list[Any]]) -> None:
        op = dice.choice(["add"] * 6 + ["remove", "remove", "again", "update", "notify", "follow", "unfollow"])
        known = [bytes(body) for (body,) in execute("SELECT body FROM log WHERE op = 'add' ORDER BY id DESC LIMIT 40")]
        if op in ("remove", "again", "update") and not known:
            op = "add"
        values: Any
        if op in ("follow", "unfollow"):
            reader, author = dice.choice(READERS), dice.choice(AUTHORS)
            execute("DELETE FROM follows WHERE reader = %s AND author = %s", reader, author)
            if op == "follow":
                execute("INSERT INTO follows VALUES (%s, %s)", reader, author)
            values = [reader, author]
            getattr(manager, op)(reader, author)
        elif op == "notify":
            users = dice.sample(NAMED, 3)
            activity = self._activity(dice, author=0)
            values = [users, activity.pack()]
            manager.notify(users, activity)
        else:
            activity = self._activity(dice) if op == "add" else Activity.unpack(unpack(dice.choice(known)))
            if op == "update":
                last = execute(
                    "SELECT op FROM log WHERE body = %s AND op IN ('add', 'remove') ORDER BY id DESC LIMIT 1",
                    pack(activity.pack()),
                )
                if last[0][0] == "remove":
                    return
                values = [activity.pack(), dice.randrange(1000)]
                manager.update_activity(activity.replace(extra_context={"words": values[1]}))
            else:
                op, values = ("remove", activity.pack()) if op == "remove" else ("add", activity.pack())
                # Added again it is as it was stored, or as it is given.
                (manager.remove_activity if op == "remove" else manager.add_activity)(activity)
        execute("INSERT INTO log (op, body) VALUES (%s, %s)", op, pack(values))

    @staticmethod
    def _activity(dice: random.Random, author: int | None = None) -> Activity:
        return Activity(
            dice.choice(AUTHORS) if author is None else author,
            Love if dice.random() < 0.6 else Comment,
            dice.randrange(4),
            dice.choice(RECIPIENTS) if author is None else None,
            START + dt.timedelta(microseconds=dice.randrange(10**10)),
        )


class Undo(Exception):
    """Rolls a transaction back."""


def _follows(wanted: str, by: str, user: object) -> list[int]:
    """Who follows whom, from the app's own database."""
    assert site is not None
    columns = {"user": "reader", "target": "author"}
    if not isinstance(user, int):
        return []
    return [number for (number,) in site.asked(f"SELECT {columns[wanted]} FROM follows WHERE {columns[by]} = %s", user)]


#: The app of this process, where there is one.
site: Site | None = None
if WHERE in os.environ:
    site = Site(**json.loads(os.environ[WHERE]))
    edges._asked = _follows


def main(seed: int) -> None:
    """Work until the file ``stop`` is there."""
    assert site is not None
    dice, manager, slowest, done = random.Random(seed), ChaosManager(), 0.0, 0
    while not Path("stop").exists():
        began = time.monotonic()
        site.work(dice, manager)
        slowest, done = max(slowest, time.monotonic() - began), done + 1
        Path(f"slowest.{os.getpid()}").write_text(f"{slowest} {done}")
        time.sleep(dice.random() * 2 * float(os.environ.get("CHAOS_PAUSE", "0.01")))
