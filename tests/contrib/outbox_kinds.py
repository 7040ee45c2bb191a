"""The kinds of outboxes that keep :mod:`tests.contrib.outbox_contract`.

As a program: ``python -m tests.contrib.outbox_kinds DATABASE`` sets up Django with a database, as JSON, runs all checks, and prints
what was wrong with each as JSON.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import Any

from tests.contrib.outbox_contract import CHECKS, Kind, run


def begin_by_itself(engine: Any) -> None:
    """What SQLAlchemy's page on SQLite says for savepoints: the driver does not begin, SQLAlchemy does."""
    from sqlalchemy import event

    @event.listens_for(engine, "connect")
    def connect(connection: Any, record: Any) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA synchronous = OFF")  # no power is cut here

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


class SqlalchemyKind(Kind):
    """SQLAlchemy, with sessions of threads."""

    def __init__(self, url: str) -> None:
        from sqlalchemy import create_engine
        from sqlalchemy.orm import sessionmaker

        from feedmill.contrib.sqlalchemy import Outbox

        self.engine = create_engine(url, connect_args={"timeout": 30} if url.startswith("sqlite") else {})
        if self.engine.dialect.name == "sqlite":
            begin_by_itself(self.engine)
        self.outbox = Outbox(self.engine, name=self.engine.dialect.name)
        self.outbox.metadata.create_all(self.engine)
        self._maker = sessionmaker(self.engine)
        self._local = threading.local()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        with self._maker.begin() as session, self.outbox.bind(session):  # type: ignore[attr-defined]
            self._local.session = session
            yield

    @contextlib.contextmanager
    def savepoint(self) -> Iterator[None]:
        with self._local.session.begin_nested():
            yield

    @contextlib.contextmanager
    def outside(self) -> Iterator[bool]:
        yield False

    def close(self) -> None:
        self.engine.dispose()


class DjangoKind(Kind):
    """Django."""

    def __init__(self) -> None:
        from feedmill.contrib.outbox import named

        self.outbox = named("django")

    def transaction(self) -> Any:
        from django.db import transaction

        return transaction.atomic()

    savepoint = transaction

    @contextlib.contextmanager
    def outside(self) -> Iterator[bool]:
        yield True

    def leave_thread(self) -> None:
        from django.db import connections

        connections.close_all()


def _set_up_django(database: dict[str, Any]) -> None:
    import django
    from django.conf import settings
    from django.core.management import call_command
    from django.db.backends.signals import connection_created

    settings.configure(
        SECRET_KEY="x",
        USE_TZ=True,
        INSTALLED_APPS=["feedmill.contrib.django", "feedmill.contrib.django.outbox"],
        DATABASES={"default": database},
        FEEDMILL={"REDIS_URL": "memory://"},
    )
    django.setup()
    connection_created.connect(_hurry)
    call_command("migrate", verbosity=0)


def _hurry(connection: Any, **_: Any) -> None:
    if connection.vendor == "sqlite":
        connection.cursor().execute("PRAGMA synchronous = OFF")  # no power is cut here


def main(database: dict[str, Any]) -> None:
    """Run all checks on Django."""
    _set_up_django(database)
    kind, found = DjangoKind(), {}
    for name in CHECKS:
        try:
            run(kind, name)
            found[name] = ""
        except Exception:
            found[name] = traceback.format_exc()
    print(json.dumps(found))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
