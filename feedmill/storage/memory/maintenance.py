"""The doctor's view of the storage in memory."""

from __future__ import annotations

from collections.abc import Sequence

from feedmill.ids import ID_SIZE
from feedmill.keys import GROUPS, PRESENT, activity_key, due_key, fanout_record_key
from feedmill.records.layout import HAS_OVERFLOW
from feedmill.storage.maintenance import FANOUT_RECORD, HASH, STRING, ZSET, Maintenance, StoredFeed, StoredFlat
from feedmill.storage.memory.data import DATA, Groups, atomic, journal_time
from feedmill.storage.operations import Steps


class MemoryMaintenance(Maintenance):
    """See :class:`feedmill.storage.maintenance.Maintenance`. Nothing in here can be of a wrong type."""

    def _keys(self) -> dict[bytes, str]:
        with DATA.guard:
            keys = dict.fromkeys((key.encode() for key in DATA.flat), STRING)
            keys.update(dict.fromkeys((activity_key(raw_id) for raw_id in DATA.bodies), STRING))
            keys.update(dict.fromkeys((key.encode() for key in DATA.counts), STRING))
            keys.update(dict.fromkeys((fanout_record_key(name).encode() for name in DATA.fanout_records), HASH))
            keys.update((due_key(manager).encode(), ZSET) for manager, due in DATA.due.items() if due)
            for key, held in DATA.groups.items():
                hash_key = (key + GROUPS).encode()
                keys[hash_key] = HASH
                keys.update(dict.fromkeys((hash_key + b":" + group for group in held.overflows), HASH))
        return keys

    @atomic
    def size(self) -> int:
        return len(self._keys())

    @atomic
    def scan(self, cursor: int) -> tuple[int, list[bytes]]:
        return 0, list(self._keys())

    @atomic
    def types(self, keys: Sequence[bytes]) -> list[str]:
        held = self._keys()
        return [held.get(key, "none") for key in keys]

    @atomic
    def number(self, keys: Sequence[bytes]) -> int:
        return len(self._keys().keys() & set(keys))

    @atomic
    def expires(self, keys: Sequence[str] | Sequence[bytes]) -> list[bool]:
        return [True] * len(keys)

    @atomic
    def feed(self, key: str, count_key: str, groups: Sequence[bytes] = ()) -> StoredFeed:
        count = DATA.counts.get(count_key)
        stored = None if count is None else b"%d %d %d" % count
        held = DATA.groups.get(key)
        if held is None:
            return StoredFeed({}, {}, {}, b"", None, b"", {}, stored)
        named = [group for group, record in held.records.items() if record and record[0] & HAS_OVERFLOW]
        overflows = {group: len(held.overflows.get(group, ())) for group in (*named, *groups)}
        lock = held.deadline if held.lock else None
        return StoredFeed({}, dict(held.scores), dict(held.records), held.state, lock, held.pending, overflows, stored)

    def overflow_sizes(self, overflows: Sequence[tuple[str, bytes]]) -> Steps[list[int]]:
        found = yield from self.overflows(overflows)
        return [len(overflow) for _, overflow, _ in found]

    @atomic
    def overflows(
        self, overflows: Sequence[tuple[str, bytes]]
    ) -> list[tuple[bytes | None, dict[bytes, bytes], bytes | None]]:
        feeds = [(DATA.groups.get(key, Groups()), group) for key, group in overflows]
        records = [feed.records.get(group) for feed, group in feeds]
        held = [dict(feed.overflows.get(group, {})) for feed, group in feeds]
        return list(zip(records, held, records))

    @atomic
    def flats(self, keys: Sequence[bytes]) -> list[StoredFlat | None]:
        found = [DATA.flat.get(key.decode()) for key in keys]
        return [None if ids is None else StoredFlat(b"".join(ids)) for ids in found]

    @atomic
    def flat_put(self, key: str, before: StoredFlat, after: bytes) -> bool:
        if b"".join(DATA.flat.get(key, ())) != before.text:
            return False
        DATA.flat[key] = [after[at : at + ID_SIZE] for at in range(0, len(after), ID_SIZE)]
        return True

    @atomic
    def overdue(self, manager: str, seconds: float) -> int:
        latest = journal_time() - seconds * 1000
        return sum(at <= latest for at in DATA.due.get(manager, {}).values())

    @atomic
    def fanout_records(self, ids: Sequence[str], *, body: bool = False) -> list[dict[str, bytes]]:
        fields = {*FANOUT_RECORD, "body"} if body else {*FANOUT_RECORD}
        return [
            {
                n: v if type(v) is bytes else str(v).encode()
                for n, v in DATA.fanout_records.get(name, {}).items()
                if n in fields
            }
            for name in ids
        ]

    @atomic
    def due_at(self, manager: str, fanout_id: str) -> float | None:
        return DATA.due.get(manager, {}).get(fanout_id)

    @atomic
    def due_put(self, manager: str, fanout_id: str) -> None:
        DATA.due.setdefault(manager, {})[fanout_id] = journal_time()

    @atomic
    def due_drop(self, manager: str, fanout_id: str) -> None:
        DATA.due.get(manager, {}).pop(fanout_id, None)

    @atomic
    def forget(self, key: str | bytes, seconds: int = 0) -> None:
        for name in [each for each in DATA.fanout_records if fanout_record_key(each) == key and not seconds]:
            del DATA.fanout_records[name]
        if not seconds:
            DATA.present.pop((key if isinstance(key, str) else key.decode()).removesuffix(PRESENT), None)

    @atomic
    def unlock(self, key: str, lock: float) -> None:
        held = DATA.groups.get(key)
        if held is not None and held.lock and held.deadline == lock:
            held.lock = b""

    @atomic
    def clear(self, key: str, count_key: str) -> None:
        return None

    @atomic
    def set_aside(self, key: str, wanted: str) -> None:
        return None

    @atomic
    def facts(self) -> dict[str, str]:
        return {}

    @atomic
    def option(self, name: str, value: str = "") -> str:
        return value
