"""Bodies: what feeds show has a body, and every body can be read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from feedmill.doctor.findings import Finding
from feedmill.errors import CorruptRecord, FeedmillError
from feedmill.feeds.sweep import held, sweep
from feedmill.storage.steps import Steps

#: Newest entries of a feed whose bodies are looked for, and how many of them, or which part, may lack one. A few always
#: do: a removed activity loses its body at once and its entries a little later.
LOOKED_AT, FEW, PART = 25, 2, 4
#: Bodies that are read in one round trip.
PIECE = 1000


def gone_bodies(feed_class: Any, key: str, ids: Sequence[bytes]) -> Steps[list[Finding]]:
    """A finding if many of the newest of *ids*, oldest first, have no body: then it is not just a removal on its way."""
    newest = ids[-LOOKED_AT:]
    missing = len((yield from without_body(feed_class, newest)))
    if missing <= max(FEW, len(newest) // PART):
        return []
    text = f"{missing} of the newest {len(newest)} entries have no body, so readers do not see them"
    return [Finding("bodies gone", key, text)]


def without_body(feed_class: Any, ids: Sequence[bytes]) -> Steps[list[bytes]]:
    """Those of *ids* that no body is stored for."""
    missing: list[bytes] = []
    for start in range(0, len(ids), PIECE):
        piece = ids[start : start + PIECE]
        bodies = yield from feed_class.activities().get(piece)
        missing += [raw_id for raw_id, body in zip(piece, bodies) if body is None]
    return missing


def forget_members(feed_class: Any, user_id: str, wait: float) -> Steps[None]:
    """Take what has no body out of a feed of any shape; *wait*: seconds to wait for its writer."""
    everything = yield from held(feed_class, user_id)
    gone = set((yield from without_body(feed_class, [member.raw_id for _, member in everything])))
    yield from sweep(feed_class, user_id, gone.__contains__, wait=wait)


def damaged_bodies(feed_classes: Iterable[Any], ids: Sequence[bytes]) -> Steps[list[tuple[bytes, Finding]]]:
    """The bodies of *ids* that none of *feed_classes* can read."""
    by_storage = {feed.activity_storage_class: feed for feed in feed_classes if feed.activity_storage_class is not None}
    found = []
    for feed_class in by_storage.values():
        bodies = yield from feed_class.activities().get(ids)
        for raw_id, body in zip(ids, bodies):
            error = None if body is None else _unreadable(feed_class, raw_id, body)
            if error is not None:
                text = f"{error}; readers leave the activity out, --fix forgets it"
                found.append((raw_id, Finding("damaged body", f"activity {raw_id.hex()}", text)))
    return found


def _unreadable(feed_class: Any, raw_id: bytes, body: bytes) -> str | None:
    try:
        activity = feed_class.activity_serializer().loads(body)
        activity.extra_context  # noqa: B018  # worked out when it is asked for
    except CorruptRecord as error:
        return str(error)
    except FeedmillError:  # a verb that is not registered here: nothing is wrong with the body
        return None
    return None if activity.raw_id == raw_id else "it is the body of another activity"
