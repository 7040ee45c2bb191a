"""The outbox in the database that Django's router names for :class:`OutboxRow`."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from django.db import OperationalError, ProgrammingError, connections, router, transaction
from django.db.models import Min, Q

from feedmill.contrib.django.outbox.models import OutboxClaim, OutboxRow
from feedmill.contrib.outbox import Claimed, Outbox, Row, RowCounts
from feedmill.fanout.deferred import DeferredFanout
from feedmill.manager.deferral import Call
from feedmill.storage import procedures
from feedmill.storage.procedures import Procedure, either

#: What commands call it.
NAME = "django"
#: What databases say of a table or a column that is not there.
_MISSING = re.compile(
    r"no such (table|column)|has no column|doesn't exist|does not exist|unknown column", re.IGNORECASE
)
#: How databases are asked what time it is, where CURRENT_TIMESTAMP is that of the transaction's begin, or of the session's time zone.
_NOW = {"postgresql": "clock_timestamp()", "mysql": "UTC_TIMESTAMP(6)"}


class DjangoOutbox(Outbox):
    """See :mod:`feedmill.contrib.django.outbox`."""

    def __init__(self) -> None:
        super().__init__(NAME)

    @property
    def using(self) -> str:
        """The alias of the database that has the rows."""
        return str(router.db_for_write(OutboxRow))

    # -- writing

    def record(self, calls: Sequence[Call]) -> Procedure[list[DeferredFanout]]:
        """Write *calls* in the open transaction; outside one, in one of their own, and then they are relayed at once."""
        return either(self._record, _in_thread(self._record), calls)

    def _record(self, calls: Sequence[Call]) -> list[DeferredFanout]:
        using = self.using
        connection = connections[using]
        with _migrated(), transaction.atomic(using=using, savepoint=False):
            ids = self._insert(using, calls, self._clock(using))
            handles = self._handles(ids, calls)
            lanes: set[str] = vars(connection).setdefault("feedmill_outbox_lanes", set())
            lanes.update(call.lane for call in calls)
            # A savepoint that is rolled back takes its callbacks along: each marks its own handles, and the first relays all.
            transaction.on_commit(partial(self._committed, connection, handles), using=using, robust=True)
        return handles

    def _committed(self, connection: Any, handles: Sequence[DeferredFanout]) -> None:
        for handle in handles:
            handle.committed = True
        lanes: set[str] = vars(connection).pop("feedmill_outbox_lanes", set())
        if lanes:
            procedures.run(self.after_commit(lanes))

    # -- the database

    def _ask(self, function: Callable[..., Any], *args: Any) -> Procedure[Any]:
        return either(self._asked, _in_thread(self._asked), function, *args)

    def _asked(self, function: Callable[..., Any], *args: Any) -> Any:
        using = self.using
        with _migrated(), transaction.atomic(using=using):
            return function(using, *args)

    def _clock(self, db: Any) -> float:
        vendor = connections[db].vendor
        if vendor == "sqlite":  # whose clients are all on one machine
            return time.time()
        now = _NOW.get(vendor, "CURRENT_TIMESTAMP")
        source = " FROM DUAL" if vendor == "oracle" else ""
        with connections[db].cursor() as cursor:
            cursor.execute(f"SELECT {now}{source}")  # of constants
            found: dt.datetime = cursor.fetchone()[0]
        return (found if found.tzinfo else found.replace(tzinfo=dt.timezone.utc)).timestamp()

    def _insert(self, db: Any, calls: Sequence[Call], now: float) -> list[int]:
        rows = [
            OutboxRow(
                manager=call.manager,
                method=call.method,
                payload=call.payload,
                lane=call.lane,
                subject=call.subject,
                created=now,
                due=now,
            )
            for call in calls
        ]
        if len(rows) > 1 and connections[db].features.can_return_rows_from_bulk_insert:
            OutboxRow.objects.using(db).bulk_create(rows)
        else:
            for row in rows:
                row.save(using=db, force_insert=True)
        return [row.pk for row in rows]

    def _insert_claims(self, db: Any, lanes: Sequence[str], token: str, until: float) -> None:
        claims = [OutboxClaim(lane=lane, token=token, until=until) for lane in lanes]
        OutboxClaim.objects.using(db).bulk_create(claims, ignore_conflicts=True)

    def _claims(self, db: Any, lanes: Sequence[str]) -> list[Claimed]:
        found = OutboxClaim.objects.using(db).filter(lane__in=lanes)
        return [Claimed(*each) for each in found.values_list("lane", "token", "until")]

    def _delete_claims(self, db: Any, lanes: Sequence[str], token: str | None, before: float | None) -> None:
        found = OutboxClaim.objects.using(db).filter(lane__in=lanes)
        found = found if token is None else found.filter(token=token)
        found = found if before is None else found.filter(until__lt=before)
        found.delete()

    def _extend_claims(self, db: Any, token: str, until: float) -> int:
        return int(OutboxClaim.objects.using(db).filter(token=token).update(until=until))

    def _rows(self, db: Any, lanes: Sequence[str], limit: int) -> list[Row]:
        found = OutboxRow.objects.using(db).filter(lane__in=lanes, dead=False)
        return [_row(each) for each in found.order_by("id")[:limit]]

    def _first(self, db: Any, scope: str, even: Sequence[str]) -> int | None:
        found = OutboxRow.objects.using(db).filter(lane__startswith=scope, dead=False)
        failing = found.filter(attempts__gt=0).values("lane")
        found = found.filter(~Q(lane__in=failing) | Q(lane__in=even))
        first: int | None = found.aggregate(first=Min("id"))["first"]
        return first

    def _heads(self, db: Any, after: int, limit: int, lanes: Sequence[str] | None) -> list[tuple[int, str]]:
        found = OutboxRow.objects.using(db).filter(dead=False)
        found = found if lanes is None else found.filter(lane__in=lanes)
        heads = found.values("lane").annotate(first=Min("id")).filter(first__gt=after).order_by("first")
        return [(each["first"], each["lane"]) for each in heads[:limit]]

    def _delete(self, db: Any, ids: Sequence[int], replaced: Sequence[tuple[int, str, str, Sequence[str]]]) -> None:
        rows = OutboxRow.objects.using(db)
        rows.filter(pk__in=ids).delete()
        if replaced and rows.filter(dead=True).exists():
            for below, manager, subject, methods in replaced:
                rows.filter(dead=True, pk__lt=below, manager=manager, subject=subject, method__in=methods).delete()

    def _fail(self, db: Any, row_id: int, attempts: int, error: str, due: float, dead: bool) -> None:
        OutboxRow.objects.using(db).filter(pk=row_id).update(attempts=attempts, error=error, due=due, dead=dead)

    def _row(self, db: Any, row_id: int) -> Row | None:
        found = OutboxRow.objects.using(db).filter(pk=row_id).first()
        return None if found is None else _row(found)

    def _list(self, db: Any, dead: bool, limit: int) -> list[Row]:
        return [_row(each) for each in OutboxRow.objects.using(db).filter(dead=dead).order_by("id")[:limit]]

    def _count(self, db: Any, now: float) -> RowCounts:
        rows = OutboxRow.objects.using(db)
        waiting = rows.filter(dead=False)
        oldest = waiting.aggregate(oldest=Min("created"))["oldest"]
        return RowCounts(
            waiting.count(), rows.filter(dead=True).count(), 0.0 if oldest is None else max(0.0, now - oldest)
        )

    def _revive(self, db: Any, ids: Sequence[int] | None, due: float) -> list[str]:
        found = OutboxRow.objects.using(db).filter(dead=True)
        found = found if ids is None else found.filter(pk__in=ids)
        lanes = dict(found.values_list("pk", "lane"))
        OutboxRow.objects.using(db).filter(pk__in=[*lanes]).update(dead=False, attempts=0, due=due)
        return [*lanes.values()]

    def _drop(self, db: Any, row_id: int, now: float) -> bool:
        held = OutboxClaim.objects.using(db).filter(until__gte=now).values("lane")
        unclaimed = OutboxRow.objects.using(db).filter(Q(dead=True) | ~Q(lane__in=held), pk=row_id)
        return bool(unclaimed.delete()[0])


@contextlib.contextmanager
def _migrated() -> Iterator[None]:
    """Have an error of the database that says that a table or column is not there say what makes it."""
    try:
        yield
    except (OperationalError, ProgrammingError) as error:
        if "feedmill_outbox_" not in str(error) or not _MISSING.search(str(error)):
            raise
        hint = "the tables of the outbox are not up to date: run manage.py migrate feedmill_outbox"
        raise type(error)(f"{str(error).strip()}; {hint}") from error


def _row(found: Any) -> Row:
    return Row(
        found.pk,
        found.manager,
        found.method,
        bytes(found.payload),
        found.lane,
        found.subject,
        found.created,
        found.due,
        found.attempts,
        found.error,
        found.dead,
    )


def _in_thread(function: Callable[..., Any]) -> Callable[..., Any]:
    """*function* from a coroutine: in the thread that has the coroutine's connections."""
    from asgiref.sync import sync_to_async

    return sync_to_async(function, thread_sensitive=True)


__all__ = ["NAME", "DjangoOutbox"]
