"""The doctor's view of the storage in memory."""

from __future__ import annotations

from collections.abc import Sequence

from feedmill.ids import ID_SIZE
from feedmill.keys import GROUPS, activity_key, due_key, receipt_key
from feedmill.records.layout import SPILLED
from feedmill.storage.maintenance import HASH, RECEIPT, STRING, ZSET, Maintenance, StoredFeed
from feedmill.storage.memory.data import DATA, Groups, journal_time
from feedmill.storage.operations import Steps


class MemoryMaintenance(Maintenance):
    """See :class:`feedmill.storage.maintenance.Maintenance`. Nothing in here can be of a wrong type."""

    def _keys(self) -> dict[bytes, str]:
        with DATA.guard:
            keys = dict.fromkeys((key.encode() for key in DATA.flat), STRING)
            keys.update(dict.fromkeys((activity_key(raw_id) for raw_id in DATA.bodies), STRING))
            keys.update(dict.fromkeys((key.encode() for key in DATA.counts), STRING))
            keys.update(dict.fromkeys((receipt_key(name).encode() for name in DATA.receipts), HASH))
            keys.update((due_key(manager).encode(), ZSET) for manager, due in DATA.due.items() if due)
            for key, held in DATA.groups.items():
                hash_key = (key + GROUPS).encode()
                keys[hash_key] = HASH
                keys.update(dict.fromkeys((hash_key + b":" + group for group in held.spills), HASH))
        return keys

    def size(self) -> Steps[int]:
        yield from ()
        return len(self._keys())

    def scan(self, cursor: int) -> Steps[tuple[int, list[bytes]]]:
        yield from ()
        return 0, list(self._keys())

    def types(self, keys: Sequence[bytes]) -> Steps[list[str]]:
        yield from ()
        held = self._keys()
        return [held.get(key, "none") for key in keys]

    def number(self, keys: Sequence[bytes]) -> Steps[int]:
        yield from ()
        return len(self._keys().keys() & set(keys))

    def expire(self, keys: Sequence[str]) -> Steps[list[bool]]:
        yield from ()
        return [True] * len(keys)

    def feed(self, key: str, count_key: str, groups: Sequence[bytes] = ()) -> Steps[StoredFeed]:
        yield from ()
        with DATA.guard:
            count = DATA.counts.get(count_key)
            stored = None if count is None else b"%d %d %d" % count
            held = DATA.groups.get(key)
            if held is None:
                return StoredFeed({}, {}, {}, b"", None, b"", {}, stored)
            named = [group for group, record in held.records.items() if record and record[0] & SPILLED]
            spills = {group: len(held.spills.get(group, ())) for group in (*named, *groups)}
            lock = held.deadline if held.lock else None
            return StoredFeed({}, dict(held.scores), dict(held.records), held.state, lock, held.inbox, spills, stored)

    def spill_sizes(self, spills: Sequence[tuple[str, bytes]]) -> Steps[list[int]]:
        found = yield from self.spills(spills)
        return [len(spill) for _, spill, _ in found]

    def spills(
        self, spills: Sequence[tuple[str, bytes]]
    ) -> Steps[list[tuple[bytes | None, dict[bytes, bytes], bytes | None]]]:
        yield from ()
        with DATA.guard:
            feeds = [(DATA.groups.get(key, Groups()), group) for key, group in spills]
            records = [feed.records.get(group) for feed, group in feeds]
            held = [dict(feed.spills.get(group, {})) for feed, group in feeds]
        return list(zip(records, held, records))

    def strings(self, keys: Sequence[bytes]) -> Steps[list[bytes | None]]:
        yield from ()
        with DATA.guard:
            found = [DATA.flat.get(key.decode()) for key in keys]
        return [None if ids is None else b"".join(ids) for ids in found]

    def flat_put(self, key: str, before: bytes, after: bytes) -> Steps[bool]:
        yield from ()
        with DATA.guard:
            if b"".join(DATA.flat.get(key, ())) != before:
                return False
            DATA.flat[key] = [after[at : at + ID_SIZE] for at in range(0, len(after), ID_SIZE)]
            return True

    def overdue(self, manager: str, seconds: float) -> Steps[int]:
        yield from ()
        with DATA.guard:
            latest = journal_time() - seconds * 1000
            return sum(at <= latest for at in DATA.due.get(manager, {}).values())

    def receipts(self, ids: Sequence[str]) -> Steps[list[dict[str, bytes]]]:
        yield from ()
        with DATA.guard:
            found = [DATA.receipts.get(name, {}) for name in ids]
            return [
                {name: str(value).encode() for name, value in receipt.items() if name in RECEIPT} for receipt in found
            ]

    def body(self, fanout_id: str) -> Steps[bytes]:
        yield from ()
        with DATA.guard:
            body: bytes = DATA.receipts.get(fanout_id, {}).get("body", b"")
            return body

    def due(self, manager: str, start: int, limit: int) -> Steps[list[tuple[str, float]]]:
        yield from ()
        with DATA.guard:
            found = sorted(DATA.due.get(manager, {}).items(), key=lambda item: (item[1], item[0]))
        return found[start : start + limit]

    def due_at(self, manager: str, fanout_id: str) -> Steps[float | None]:
        yield from ()
        with DATA.guard:
            return DATA.due.get(manager, {}).get(fanout_id)

    def due_put(self, manager: str, fanout_id: str) -> Steps[None]:
        yield from ()
        with DATA.guard:
            DATA.due.setdefault(manager, {})[fanout_id] = journal_time()

    def due_drop(self, manager: str, fanout_id: str) -> Steps[None]:
        yield from ()
        with DATA.guard:
            DATA.due.get(manager, {}).pop(fanout_id, None)

    def forget(self, key: str) -> Steps[None]:
        yield from ()
        with DATA.guard:
            gone = [name for name in DATA.receipts if receipt_key(name) == key]
            for name in gone:
                del DATA.receipts[name]

    def unlock(self, key: str, lock: float) -> Steps[None]:
        yield from ()
        with DATA.guard:
            held = DATA.groups.get(key)
            if held is not None and held.lock and held.deadline == lock:
                held.lock = b""

    def set_aside(self, key: str, wanted: str) -> Steps[None]:
        yield from ()

    def facts(self) -> Steps[dict[str, str]]:
        yield from ()
        return {}

    def option(self, name: str) -> Steps[str]:
        yield from ()
        return ""

    def set_option(self, name: str, value: str) -> Steps[None]:
        yield from ()
