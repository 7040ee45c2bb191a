"""The outbox, on each kind of database and of library: what :mod:`tests.contrib.outbox_contract` says holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.celery_local.postgres import create_database, url_of
from tests.contrib.outbox_contract import CHECKS, Kind, run
from tests.documents import ROOT

sqlalchemy = pytest.importorskip("sqlalchemy")


def _url(request: pytest.FixtureRequest, folder: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{folder}/app.db"
    facts = request.getfixturevalue("postgres_server")
    create_database(facts, "outbox")
    return url_of(facts, database="outbox")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def sqlalchemy_kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kind]:
    """An outbox of SQLAlchemy."""
    from tests.contrib.outbox_kinds import SqlalchemyKind

    kind = SqlalchemyKind(_url(request, tmp_path_factory.mktemp("database")))
    yield kind
    kind.close()


@pytest.mark.parametrize("name", CHECKS)
def test_sqlalchemy(sqlalchemy_kind: Kind, name: str) -> None:
    """The outbox of SQLAlchemy keeps the contract."""
    run(sqlalchemy_kind, name)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def django_results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """What came of each check of the outbox of Django, which a process can set up but once; empty for what held."""
    database: dict[str, object] = {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": {"timeout": 30}}
    if request.param == "sqlite":
        database["NAME"] = f"{tmp_path_factory.mktemp('database')}/app.db"
    else:
        facts = request.getfixturevalue("postgres_server")
        create_database(facts, "django_outbox")
        database = {"ENGINE": "django.db.backends.postgresql", "NAME": "django_outbox", "USER": facts["user"]}
        database |= {"HOST": facts["host"], "PORT": facts["port"]}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FEEDMILL_", "DJANGO_"))}
    done = subprocess.run(
        [sys.executable, "-m", "tests.contrib.outbox_kinds", json.dumps(database)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", CHECKS)
def test_django(django_results: Mapping[str, str], name: str) -> None:
    """The outbox of Django keeps the contract."""
    assert django_results[name] == ""
