"""What is particular to the outbox of SQLAlchemy: asyncio, sessions of all kinds, its tables, wrong arguments."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy")

from sqlalchemy import MetaData, create_engine, event, inspect, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

import feedmill
from feedmill.contrib.sqlalchemy import Outbox
from feedmill.errors import ArgumentError
from tests.celery_local.postgres import create_database, url_of
from tests.contrib.outbox_contract import Undo, act, away, club, home
from tests.contrib.outbox_kinds import begin_by_itself
from tests.documents import ROOT


class Base(DeclarativeBase):
    pass


class Like(Base):
    __tablename__ = "likes"
    id: Mapped[int] = mapped_column(primary_key=True)
    user: Mapped[str]


@pytest.fixture(autouse=True)
def _in_memory() -> None:
    feedmill.configure(celery_app="feedmill.tasks:app")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database for an async engine."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/app.db"
    facts = request.getfixturevalue("postgres_server")
    create_database(facts, "async_outbox")
    return url_of(facts, database="async_outbox")


@contextlib.contextmanager
def metadata() -> Iterator[MetaData]:
    """The metadata of an app, which the tables of an outbox are added to."""
    own = MetaData()
    for table in Base.metadata.tables.values():
        table.to_metadata(own)
    yield own


async def _async_app(url: str) -> None:
    engine = create_async_engine(url)
    with metadata() as own:
        outbox = Outbox(engine, own, name="async")
    async with engine.begin() as connection:
        await connection.run_sync(own.create_all)
    maker = async_sessionmaker(engine)
    async with maker.begin() as session, session.begin_nested():
        with outbox.bind(session):
            session.add(Like(user="ann"))
            handle = await club.aadd_activity(act(1))
            assert not (await handle.astatus()).finished and home() == []
    await asyncio.wait_for(handle, 10)
    assert home() == [("ann", 1)]
    with contextlib.suppress(Undo):
        async with maker.begin() as session:
            with outbox.bind(session):
                lost = await club.aadd_activity(act(2))
                raise Undo
    assert (await lost.astatus()).cancelled and await outbox.arelay() == 0
    with away():
        async with maker.begin() as session:
            with outbox.bind(session):
                many = await club.aadd_activities([act(3), act(4, "bob")])
                assert await (await club.afollow("zoe", "ann")).acancel()
        await outbox.aclose()
    assert not (await many.astatus()).finished and len(home()) == 1
    await asyncio.sleep(1.1)
    assert await outbox.arelay() == 2 and (await many).reached == 4
    async with maker.begin() as session:
        with outbox.bind(session):
            with pytest.raises(ArgumentError, match="await the coroutine, such as manager.aadd_activity"):
                club.add_activity(act(5))
            await club.aremove_activity(act(3))
    await outbox.aclose()
    assert home() == [("bob", 4), ("ann", 1)]
    async with maker() as session:
        assert list(await session.scalars(select(Like.user))) == ["ann"]
        with away(), outbox.bind(session):
            await club.aadd_activity(act(6, "cleo"))
            await session.commit()
            await outbox.aclose()
    await engine.dispose()


def test_async_sessions(url: str) -> None:
    """Coroutines write in the transaction of an AsyncSession, and are relayed behind its commit; a sweep of a worker does the rest."""
    asyncio.run(_async_app(url))
    from feedmill.contrib.outbox import named

    outbox = named("async")
    assert outbox.counts().waiting == 1
    with pytest.MonkeyPatch.context() as patch:
        clock = outbox._clock
        patch.setattr(outbox, "_clock", lambda db: clock(db) + 60)
        assert outbox.relay() == 1 and home()[0] == ("cleo", 6)


def test_an_async_engine_that_its_url_does_not_tell(tmp_path: Path) -> None:
    """Workers and commands relay by the sync engine that is given beside it."""
    import aiosqlite

    async def connect() -> Any:
        return await aiosqlite.connect(tmp_path / "app.db")

    engine, sync_engine = (
        create_async_engine("sqlite+aiosqlite://", async_creator=connect),
        create_engine(f"sqlite:///{tmp_path}/app.db"),
    )
    outbox = Outbox(engine, name="created", sync_engine=sync_engine)

    async def write() -> None:
        async with engine.begin() as connection:
            await connection.run_sync(outbox.metadata.create_all)
        async with async_sessionmaker(engine).begin() as session:
            with away(), outbox.bind(session):
                await club.aadd_activity(act(1, "hans"))
                await session.commit()
                await outbox.aclose()
        await engine.dispose()

    asyncio.run(write())
    assert outbox.counts().waiting == 1
    with pytest.MonkeyPatch.context() as patch:
        clock = outbox._clock
        patch.setattr(outbox, "_clock", lambda db: clock(db) + 60)
        assert outbox.relay() == 1 and outbox.counts().waiting == 0
    sync_engine.dispose()
    for wrong, why in (
        (engine, "use what create_engine returns"),
        (create_engine("sqlite://"), "for an AsyncEngine only"),
    ):
        with pytest.raises(ArgumentError, match=why):
            Outbox(sync_engine if "only" in why else engine, name="created", sync_engine=wrong)  # type: ignore[arg-type]
    postgres = create_engine("postgresql+psycopg://")
    with pytest.raises(ArgumentError, match="is one of 'postgresql' and engine of 'sqlite'"):
        Outbox(engine, name="created", sync_engine=postgres)


def test_many_calls_in_one_statement(url: str) -> None:
    """Many calls are one round trip to PostgreSQL; everywhere the ids of their rows, and of their handles, are in their order."""
    engine = create_engine(url.replace("+aiosqlite", ""))
    outbox = Outbox(engine, name="many")
    outbox.metadata.create_all(engine)
    inserts: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def count(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        inserts.extend([statement] if statement.startswith("INSERT INTO feedmill_outbox ") else [])

    with away():
        with Session(engine) as session, outbox.bind(session):
            first = club.add_activity(act(0))
            many = club.add_activities([act(number) for number in range(1, 21)])
            session.commit()
        assert (
            len(inserts) == 2 or engine.dialect.name == "sqlite"
        )  # whose rows SQLAlchemy sends one by one, to no server
        rows = outbox.rows()
    handles: list[Any] = [first, *many]
    assert [row.id for row in rows] == [handle.row_id for handle in handles]
    assert all(f"ann loved {number}," in str(row) for number, row in enumerate(rows))
    engine.dispose()


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    """An outbox in a file, of an engine that begins by itself."""
    engine = create_engine(f"sqlite:///{tmp_path}/app.db")
    begin_by_itself(engine)
    with metadata() as own:
        found = Outbox(engine, own, name="sync")
    own.create_all(engine)
    yield found
    engine.dispose()


def test_kinds_of_sessions(outbox: Outbox) -> None:
    """A plain session, one of a scoped_session, one that is used for several transactions, and a coroutine with a plain session."""
    engine: Any = outbox.engine
    with Session(engine, info={"mine": 1}) as session:
        for number in range(3):
            with outbox.bind(session):
                club.add_activity(act(number))
            assert len(home()) == number
            session.commit()
            with outbox.bind(session):
                club.add_activity(act(100 + number))
            session.rollback()
    scoped = scoped_session(sessionmaker(engine))
    with outbox.bind(scoped):
        club.add_activity(act(3))
    scoped.commit()
    scoped.remove()
    assert [thing for _, thing in home()] == [3, 2, 1, 0]

    async def coroutine() -> None:
        with Session(engine) as session, outbox.bind(session):
            await club.aadd_activity(act(4))
            session.commit()

    asyncio.run(coroutine())
    assert home()[0] == ("ann", 4) and outbox.counts()[:2] == (0, 0)


def test_two_outboxes_in_one_session(outbox: Outbox, tmp_path: Path) -> None:
    """A session of another database is refused, and nothing is written."""
    other = create_engine(f"sqlite:///{tmp_path}/other.db")
    refused = pytest.raises(ArgumentError, match="the session writes to .*other.db.* and the outbox is in")
    with Session(other) as session, outbox.bind(session), refused:
        club.add_activity(act(1))
    with Session(binds={Base: other}) as session, outbox.bind(session):
        club.add_activity(act(1))
        session.commit()
    other.dispose()
    assert home() == [("ann", 1)]


def test_outside_of_a_block_nothing_is_deferred(outbox: Outbox) -> None:
    """A call that no session is bound for is a direct one."""
    with Session(outbox.engine) as session:  # type: ignore[arg-type]
        club.add_activity(act(1))
        assert home() == [("ann", 1)]
        session.rollback()


def test_the_tables(outbox: Outbox) -> None:
    """They are created with those of the app, and rows that were deleted never give their ids to others."""
    names = inspect(outbox.engine).get_table_names()  # type: ignore[union-attr]
    assert sorted(names) == ["feedmill_outbox", "feedmill_outbox_claim", "likes"]
    ids = []
    for number in range(3):
        with Session(outbox.engine) as session, outbox.bind(session):  # type: ignore[arg-type]
            ids.append(club.add_activity(act(number)).row_id)  # type: ignore[attr-defined]
            session.commit()
    assert ids == [1, 2, 3]


def test_beside_django(tmp_path: Path) -> None:
    """Nothing in the database has a name of what Django's outbox makes there: both may be in one."""
    django = ROOT / "feedmill/contrib/django/outbox/migrations/0001_outbox.py"
    taken = re.findall(r'name="(feedmill_outbox\w*)"', django.read_text())
    engine = create_engine(f"sqlite:///{tmp_path}/both.db")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE feedmill_outbox_outboxrow (id integer)")
        for name in taken:
            connection.exec_driver_sql(f"CREATE INDEX {name} ON feedmill_outbox_outboxrow (id)")
    Outbox(engine, name="both").metadata.create_all(engine)
    assert len(taken) == 3 and "feedmill_outbox" in inspect(engine).get_table_names()
    engine.dispose()


def test_wrong_arguments(outbox: Outbox) -> None:
    """Each is told what to give instead."""
    for engine, why in (("sqlite://", "use what create_engine or create_async_engine returns"),):
        with pytest.raises(ArgumentError, match=why):
            Outbox(engine)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="use a Session or an AsyncSession"):
        outbox.bind(outbox.engine)  # type: ignore[arg-type]
    assert isinstance(AsyncSession(), AsyncSession)
