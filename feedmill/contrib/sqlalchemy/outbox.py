"""The outbox in a database that SQLAlchemy speaks to."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Union

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    NullPool,
    String,
    Table,
    Text,
    and_,
    delete,
    event,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_scoped_session, create_async_engine
from sqlalchemy.orm import Session, scoped_session

from feedmill.contrib import outbox
from feedmill.contrib.outbox import Claimed, Row, RowCounts
from feedmill.errors import ArgumentError
from feedmill.fanout import publisher
from feedmill.fanout.deferred import DeferredFanout, Waiting
from feedmill.manager import deferral
from feedmill.manager.deferral import Call
from feedmill.storage import procedures
from feedmill.storage.procedures import Procedure, either

#: Any session of SQLAlchemy.
AnySession = Union[Session, AsyncSession, "scoped_session[Any]", "async_scoped_session[Any]"]
#: Where a session keeps what this module knows of its transaction.
_INFO = "feedmill_outbox"
#: The databases whose way to insert "unless it is there" is known.
_DIALECTS = ("postgresql", "sqlite", "mysql", "mariadb")


def _tables(metadata: MetaData) -> tuple[Table, Table]:
    """The two tables. Neither they nor their indexes have a name that Django's outbox uses, which may be in the same database."""
    number = BigInteger().with_variant(Integer, "sqlite")  # which counts on only in a column of that very type
    rows = Table(
        "feedmill_outbox",
        metadata,
        Column("id", number, primary_key=True, autoincrement=True),
        Column("manager", Text, nullable=False),
        Column("method", String(40), nullable=False),
        Column("payload", LargeBinary(2**24), nullable=False),
        Column("lane", String(64), nullable=False),
        Column("subject", String(64), nullable=False),
        Column("created", Float(53), nullable=False),
        Column("due", Float(53), nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("error", Text, nullable=False),
        Column("dead", Boolean, nullable=False),
        Index("feedmill_outbox_by_lane", "dead", "lane", "id"),
        Index("feedmill_outbox_by_id", "dead", "id"),
        sqlite_autoincrement=True,  # else an id would be given again
    )
    claims = Table(
        "feedmill_outbox_claim",
        metadata,
        Column("lane", String(64), primary_key=True),
        Column("token", String(64), nullable=False),
        Column("until", Float(53), nullable=False),
        Index("feedmill_outbox_claim_by_token", "token"),
    )
    return rows, claims


class Outbox(outbox.Outbox):
    """The outbox of the database that *engine* connects to; make it once, where the engine is made.

    *engine*: an Engine or an AsyncEngine of PostgreSQL, SQLite, MySQL or MariaDB. *metadata*: where its two tables are declared,
    such as ``Base.metadata``, so that ``create_all`` and Alembic create them with those of the app; without it they are in
    ``outbox.metadata``. *name*: what commands call it; one name is one outbox in a process. *sync_engine*: beside an AsyncEngine, an
    Engine of the same database by which workers and commands, which have no event loop, relay rows. Without one they connect to the
    URL of *engine* and to nothing else that it was made with: give one if it has ``connect_args``, ``async_creator`` or listeners.

    Workers relay what a web process could not: import the module that makes the outbox there, too (``FEEDMILL_MODULES``).
    """

    def __init__(
        self,
        engine: Engine | AsyncEngine,
        metadata: MetaData | None = None,
        *,
        name: str = "sqlalchemy",
        sync_engine: Engine | None = None,
    ) -> None:
        if not isinstance(engine, (Engine, AsyncEngine)):
            raise ArgumentError(f"engine is {engine!r}; use what create_engine or create_async_engine returns")
        if engine.dialect.name not in _DIALECTS:
            raise ArgumentError(
                f"the outbox does not know the database {engine.dialect.name!r}; it knows {', '.join(_DIALECTS)}"
            )
        if sync_engine is not None:
            _check_sync_engine(sync_engine, engine)
        super().__init__(name)
        #: The engine by which rows are relayed.
        self.engine = engine
        self._sync_engine = engine if isinstance(engine, Engine) else sync_engine
        #: Where the two tables are declared.
        self.metadata = MetaData() if metadata is None else metadata
        self._table, self._claim_table = _tables(self.metadata)
        self._background: set[asyncio.Task[None]] = set()

    def bind(self, session: AnySession) -> AbstractContextManager[None]:
        """While the block runs, what managers are asked to write is written in the transaction of *session*.

        It is relayed when *session* commits, inside the block or behind it. With an AsyncSession call the coroutines of the
        manager: ``await manager.aadd_activity(...)``.
        """
        if isinstance(session, (scoped_session, async_scoped_session)):
            session = session()
        if not isinstance(session, (Session, AsyncSession)):
            raise ArgumentError(f"session is {session!r}; use a Session or an AsyncSession of SQLAlchemy")
        return deferral.bound(_InSession(self, session))

    async def aclose(self) -> None:
        """Wait for what is relayed in the background behind a commit; what an async app does before it ends."""
        mine = [task for task in self._background if task.get_loop() is asyncio.get_running_loop()]
        if mine:
            await asyncio.wait(mine)

    def _relay_behind(self, lanes: set[str]) -> None:
        """Relay *lanes*, which are committed: at once or, in an event loop, in the background."""
        if isinstance(self.engine, Engine):
            procedures.run(self.after_commit(lanes))
            return
        task = asyncio.get_running_loop().create_task(procedures.arun(self.after_commit(lanes)))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # -- the database

    def _ask(self, function: Callable[..., Any], *args: Any) -> Procedure[Any]:
        return either(self._asked, self._aasked, function, *args)

    def _asked(self, function: Callable[..., Any], *args: Any) -> Any:
        if self._sync_engine is not None:
            with self._sync_engine.begin() as connection:
                return function(connection, *args)
        return asyncio.run(self._asked_once(function, *args))

    async def _asked_once(self, function: Callable[..., Any], *args: Any) -> Any:
        """From a thread without an event loop: the connections of the engine are those of a loop."""
        engine = create_async_engine(self.engine.url, poolclass=NullPool)
        async with engine.begin() as connection:
            return await connection.run_sync(function, *args)

    async def _aasked(self, function: Callable[..., Any], *args: Any) -> Any:
        if isinstance(self.engine, AsyncEngine):
            async with self.engine.begin() as connection:
                return await connection.run_sync(function, *args)
        return await publisher.in_thread(self._asked, function, *args)

    def _clock(self, db: Any) -> float:
        name = db.dialect.name
        if name == "sqlite":  # whose clients are all on one machine
            return time.time()
        asked = select(func.clock_timestamp()) if name == "postgresql" else text("SELECT UTC_TIMESTAMP(6)")
        found: dt.datetime = db.execute(asked).scalar_one()
        return (found if found.tzinfo else found.replace(tzinfo=dt.timezone.utc)).timestamp()

    def _insert(self, db: Any, calls: Sequence[Call], now: float) -> list[int]:
        rows = [
            {
                "manager": call.manager,
                "method": call.method,
                "payload": call.payload,
                "lane": call.lane,
                "subject": call.subject,
                "created": now,
                "due": now,
                "attempts": 0,
                "error": "",
                "dead": False,
            }
            for call in calls
        ]
        statement = insert(self._table)
        # What a release does not know no dialect of it can do.
        if len(rows) > 1 and getattr(db.dialect, "insert_executemany_returning_sort_by_parameter_order", False):
            return list(db.execute(statement.returning(self._table.c.id, sort_by_parameter_order=True), rows).scalars())
        return [db.execute(statement, row).inserted_primary_key[0] for row in rows]

    def _insert_claims(self, db: Any, lanes: Sequence[str], token: str, until: float) -> None:
        values = [{"lane": lane, "token": token, "until": until} for lane in lanes]
        statement: Any
        if db.dialect.name == "postgresql":
            from sqlalchemy.dialects import postgresql

            statement = postgresql.insert(self._claim_table).on_conflict_do_nothing()
        elif db.dialect.name == "sqlite":
            from sqlalchemy.dialects import sqlite

            statement = sqlite.insert(self._claim_table).on_conflict_do_nothing()
        else:
            statement = insert(self._claim_table).prefix_with("IGNORE")
        db.execute(statement, values)

    def _claims(self, db: Any, lanes: Sequence[str]) -> list[Claimed]:
        claims = self._claim_table.c
        found = db.execute(select(claims.lane, claims.token, claims.until).where(claims.lane.in_(lanes)))
        return [Claimed(*each) for each in found]

    def _delete_claims(self, db: Any, lanes: Sequence[str], token: str | None, before: float | None) -> None:
        claims = self._claim_table.c
        statement = delete(self._claim_table).where(claims.lane.in_(lanes))
        statement = statement if token is None else statement.where(claims.token == token)
        db.execute(statement if before is None else statement.where(claims.until < before))

    def _extend_claims(self, db: Any, token: str, until: float) -> int:
        statement = update(self._claim_table).where(self._claim_table.c.token == token).values(until=until)
        return int(db.execute(statement).rowcount)

    def _found(self, db: Any, *where: Any, limit: int) -> list[Row]:
        table = self._table
        columns = [table.c[name] for name in Row._fields]
        return [Row(*each) for each in db.execute(select(*columns).where(*where).order_by(table.c.id).limit(limit))]

    def _rows(self, db: Any, lanes: Sequence[str], limit: int) -> list[Row]:
        return self._found(db, self._table.c.dead.is_(False), self._table.c.lane.in_(lanes), limit=limit)

    def _first(self, db: Any, scope: str, even: Sequence[str]) -> int | None:
        table, failing = self._table, self._table.alias()
        asked = select(func.min(table.c.id)).where(
            table.c.dead.is_(False),
            table.c.lane.startswith(scope),
            or_(
                table.c.lane.in_(even),
                table.c.lane.not_in(
                    select(failing.c.lane).where(
                        failing.c.dead.is_(False), failing.c.lane.startswith(scope), failing.c.attempts > 0
                    )
                ),
            ),
        )
        first: int | None = db.execute(asked).scalar_one()
        return first

    def _heads(self, db: Any, after: int, limit: int, lanes: Sequence[str] | None) -> list[tuple[int, str]]:
        table, first = self._table, func.min(self._table.c.id)
        asked = select(first, table.c.lane).where(table.c.dead.is_(False))
        asked = asked if lanes is None else asked.where(table.c.lane.in_(lanes))
        asked = asked.group_by(table.c.lane).having(first > after).order_by(first).limit(limit)
        return [(number, lane) for number, lane in db.execute(asked)]

    def _delete(self, db: Any, ids: Sequence[int], replaced: Sequence[tuple[int, str, str, Sequence[str]]]) -> None:
        rows = self._table.c
        db.execute(delete(self._table).where(rows.id.in_(ids)))
        if not replaced or db.execute(select(rows.id).where(rows.dead.is_(True)).limit(1)).first() is None:
            return
        for below, manager, subject, methods in replaced:
            what = rows.id < below, rows.manager == manager, rows.subject == subject, rows.method.in_(methods)
            db.execute(delete(self._table).where(rows.dead.is_(True), *what))

    def _fail(self, db: Any, row_id: int, attempts: int, error: str, due: float, dead: bool) -> None:
        values = {"attempts": attempts, "error": error, "due": due, "dead": dead}
        db.execute(update(self._table).where(self._table.c.id == row_id).values(values))

    def _row(self, db: Any, row_id: int) -> Row | None:
        return next(iter(self._found(db, self._table.c.id == row_id, limit=1)), None)

    def _list(self, db: Any, dead: bool, limit: int) -> list[Row]:
        return self._found(db, self._table.c.dead.is_(dead), limit=limit)

    def _count(self, db: Any, now: float) -> RowCounts:
        rows = self._table.c
        number, oldest = db.execute(select(func.count(), func.min(rows.created)).where(rows.dead.is_(False))).one()
        dead = db.execute(select(func.count()).select_from(self._table).where(rows.dead.is_(True))).scalar_one()
        return RowCounts(number, dead, 0.0 if oldest is None else max(0.0, now - oldest))

    def _revive(self, db: Any, ids: Sequence[int] | None, due: float) -> list[str]:
        rows = self._table.c
        chosen = rows.dead.is_(True) if ids is None else and_(rows.dead.is_(True), rows.id.in_(ids))
        lanes: dict[int, str] = {row.id: row.lane for row in db.execute(select(rows.id, rows.lane).where(chosen))}
        statement = update(self._table).where(rows.id.in_([*lanes])).values(dead=False, attempts=0, due=due)
        db.execute(statement)
        return [*lanes.values()]

    def _drop(self, db: Any, row_id: int, now: float) -> bool:
        rows, claims = self._table.c, self._claim_table.c
        held = select(claims.lane).where(claims.until >= now)
        statement = delete(self._table).where(rows.id == row_id, or_(rows.dead.is_(True), rows.lane.not_in(held)))
        return bool(db.execute(statement).rowcount)


def _check_sync_engine(sync_engine: Any, engine: Engine | AsyncEngine) -> None:
    if not isinstance(sync_engine, Engine):
        raise ArgumentError(f"sync_engine is {sync_engine!r}; use what create_engine returns")
    if isinstance(engine, Engine):
        raise ArgumentError("sync_engine is for an AsyncEngine only; by an Engine everything is done")
    if sync_engine.dialect.name != engine.dialect.name:
        raise ArgumentError(
            f"sync_engine is one of {sync_engine.dialect.name!r} and engine of {engine.dialect.name!r}; use one of the same database"
        )


class _InSession:
    """The outbox, for what is done in one session."""

    def __init__(self, outbox: Outbox, session: Session | AsyncSession) -> None:
        self.outbox, self.session = outbox, session

    def record(self, calls: Sequence[Call]) -> Procedure[list[DeferredFanout]]:
        """Write *calls* in the transaction of the session."""
        return self._ask(self._record, calls)

    def _ask(self, function: Callable[..., Any], *args: Any) -> Procedure[Any]:
        """Ask for *function*, which takes the session."""
        return either(self._asked, self._aasked, function, *args)

    def _asked(self, function: Callable[..., Any], *args: Any) -> Any:
        if isinstance(self.session, AsyncSession):
            raise ArgumentError(
                "the outbox is bound to an AsyncSession: await the coroutine, such as manager.aadd_activity(…) and astatus()"
            )
        return function(self.session, *args)

    async def _aasked(self, function: Callable[..., Any], *args: Any) -> Any:
        if isinstance(self.session, AsyncSession):
            return await self.session.run_sync(function, *args)
        return function(self.session, *args)  # a session is used by one thread: this

    def _record(self, session: Session, calls: Sequence[Call]) -> list[DeferredFanout]:
        connection = self._connection(session)
        ids = self.outbox._insert(connection, calls, self.outbox._clock(connection))
        place = _InTransaction(self)
        handles = self.outbox._handles(ids, calls, place)
        _written_in(session).add(place, handles, {call.lane for call in calls})
        return handles

    def _connection(self, session: Session) -> Connection:
        """What the session reaches the database of the outbox by."""
        engine = self.outbox.engine
        own = engine if isinstance(engine, Engine) else engine.sync_engine
        try:
            found = session.get_bind(clause=self.outbox._table)
        except UnboundExecutionError:  # it has one for each of some tables
            found = own
        if found.engine is not own and found.engine.url != own.url:
            raise ArgumentError(
                f"the session writes to {found.engine.url!r} and the outbox is in {own.url!r}: make an outbox for that engine,"
                " and bind the session to it"
            )
        return session.connection(bind_arguments={"bind": found})


class _InTransaction:
    """Where the rows of a handle are: as long as the transaction is open, only the session sees them."""

    def __init__(self, place: _InSession) -> None:
        self.outbox, self._place = place.outbox, place
        #: Whether the transaction is neither committed nor rolled back.
        self.open = True

    def waiting(self, row_id: int) -> Procedure[Waiting | None]:
        """How it stands with a row; None if there is none."""
        if not self.open:
            return self.outbox.waiting(row_id)
        return self._place._ask(self._find, row_id)

    def drop(self, row_id: int) -> Procedure[bool]:
        """Delete a row; whether there was one."""
        if not self.open:
            return self.outbox.drop(row_id)
        return self._place._ask(self._drop, row_id)

    def _find(self, session: Session, row_id: int) -> Waiting | None:
        connection = self._place._connection(session)
        return self.outbox._waiting(connection, row_id)

    def _drop(self, session: Session, row_id: int) -> bool:
        connection = self._place._connection(session)
        return self.outbox._dropped(connection, row_id)


class _Written:
    """What was written in the transaction of a session, and in which savepoint."""

    def __init__(self, session: Session) -> None:
        self.session, self.committed = session, False
        self._entries: list[tuple[Any, _InTransaction, Sequence[DeferredFanout], set[str]]] = []
        event.listen(session, "after_commit", self._after_commit)
        event.listen(session, "after_soft_rollback", self._after_soft_rollback)
        event.listen(session, "after_transaction_end", self._after_transaction_end)

    def add(self, place: _InTransaction, handles: Sequence[DeferredFanout], lanes: set[str]) -> None:
        transaction = self.session.get_nested_transaction() or self.session.get_transaction()
        self._entries.append((transaction, place, handles, lanes))

    def _after_commit(self, session: Session) -> None:
        self.committed = session.get_nested_transaction() is None

    def _after_soft_rollback(self, session: Session, transaction: Any) -> None:
        kept = []
        for entry in self._entries:
            if _is_within(entry[0], transaction):
                entry[1].open = False
            else:
                kept.append(entry)
        self._entries = kept

    def _after_transaction_end(self, session: Session, transaction: Any) -> None:
        """The connection was given back: relaying takes another one."""
        if transaction.parent is not None:
            return
        entries, self._entries = self._entries, []
        committed, self.committed = self.committed, False
        lanes: dict[Outbox, set[str]] = {}
        for _, place, handles, some in entries:
            place.open = False
            lanes.setdefault(place.outbox, set()).update(some)
            for handle in handles:
                handle.committed = committed
        for where, some in lanes.items() if committed else ():
            where._relay_behind(some)


def _is_within(transaction: Any, other: Any) -> bool:
    while transaction is not None:
        if transaction is other:
            return True
        transaction = transaction.parent
    return False


def _written_in(session: Session) -> _Written:
    found = session.info.get(_INFO)
    if not isinstance(found, _Written) or found.session is not session:  # the info may be shared by many
        found = session.info[_INFO] = _Written(session)
    return found


__all__ = ["Outbox"]
