"""Bodies: what feeds show has a body, and every body can be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from feedmill.doctor.report import Finding
from feedmill.errors import CorruptRecord, FeedmillError
from feedmill.feeds.removal import remove_matching
from feedmill.ids import id_microseconds
from feedmill.iteration import batched
from feedmill.storage.operations import Steps

#: Newest entries of a feed whose bodies are looked for, and how many of them, or which part, may lack one while they are
#: removed: a removed activity loses its body at once and its entries a little later.
LOOKED_AT, FEW, PART = 25, 2, 4
#: Bodies that are read in one round trip, and ids that are remembered to have one: most are in many feeds.
PIECE, REMEMBERED = 1000, 50_000


class KnownBodies:
    """Looks for the bodies of what feeds hold."""

    def __init__(self) -> None:
        #: Ids that have a body, by the class that keeps it.
        self._known: dict[Any, set[bytes]] = {}

    def forget(self, raw_id: bytes) -> None:
        """The body of *raw_id* is gone."""
        for known in self._known.values():
            known.discard(raw_id)

    def missing(self, held: Sequence[tuple[Any, Sequence[bytes]]]) -> Steps[list[tuple[Any, Finding]]]:
        """A finding for each of the feeds (place, ids, newest first) of which some of the newest entries lead nowhere."""
        for storage_class in {info.feed_class.activity_storage_class for info, _ in held}:
            yield from self._look(storage_class, held)
        found = []
        for info, ids in held:
            known, newest = self._known[info.feed_class.activity_storage_class], ids[:LOOKED_AT]
            if horizon := info.feed_class.horizon():  # what is too old is shown to nobody, with or without a body
                newest = [raw_id for raw_id in newest if id_microseconds(raw_id) >= horizon]
            missing = [raw_id for raw_id in newest if raw_id not in known]
            if missing and (finding := (yield from _finding(info, missing, len(newest)))):
                found.append((info, finding))
        return found

    def _look(self, storage_class: Any, held: Sequence[tuple[Any, Sequence[bytes]]]) -> Steps[None]:
        """Know the ids of the feeds that have a body in *storage_class*."""
        known = self._known.setdefault(storage_class, set())
        if len(known) > REMEMBERED:
            known.clear()
        feeds = [(info, ids) for info, ids in held if info.feed_class.activity_storage_class is storage_class]
        unknown = list({raw_id for _, ids in feeds for raw_id in ids[:LOOKED_AT]} - known)
        if unknown:
            known.update(set(unknown).difference((yield from without_body(feeds[0][0].feed_class, unknown))))


def _finding(info: Any, missing: Sequence[bytes], number: int) -> Steps[Finding | None]:
    """What to say of the feed at *info*, of whose newest *number* entries those of *missing* have no body."""
    text = f"{len(missing)} of the newest {number} entries have no body, so readers do not see them"
    if len(missing) > max(FEW, number // PART):  # then it is not just a removal on its way
        return Finding("missing bodies", info.key, text)
    kept = yield from info.feed_class.activities().states(missing)
    alone = {raw_id for raw_id, value in zip(missing, kept) if value is None}  # else a tombstone says why
    if not alone:
        return None
    everything = yield from info.feed_class.all_members(info.user_id)  # once more, in case they were removed meanwhile
    still = alone.intersection(member.raw_id for _, member in everything)
    still.intersection_update((yield from without_body(info.feed_class, list(still))))
    return Finding("entries without body", info.key, f"{text}, and no removal is pending") if still else None


def without_body(feed_class: Any, ids: Sequence[bytes]) -> Steps[list[bytes]]:
    """Those of *ids* that no body is stored for."""
    missing: list[bytes] = []
    for piece in batched(ids, PIECE):
        bodies = yield from feed_class.activities().get(piece)
        missing += [raw_id for raw_id, body in zip(piece, bodies) if body is None]
    return missing


def forget_members(feed_class: Any, user_id: str, wait: float) -> Steps[None]:
    """Take what has no body out of a feed of any shape; *wait*: seconds to wait for its writer.

    What got its body back meanwhile, added again, is put back.
    """
    everything = yield from feed_class.all_members(user_id)
    missing = set((yield from without_body(feed_class, [member.raw_id for _, member in everything])))
    yield from remove_matching(feed_class, user_id, missing.__contains__, wait=wait)
    again = yield from feed_class.hydrate(list(missing))
    if again:
        yield from feed_class.deliver([user_id], list(again.values()), wait=wait)


def damaged_bodies(
    feed_classes: Iterable[Any], ids: Sequence[bytes]
) -> Steps[tuple[list[tuple[bytes, Finding]], list[bytes]]]:
    """The bodies of *ids* that none of *feed_classes* can read; and the ids of which nothing was found to read."""
    by_storage = {feed.activity_storage_class: feed for feed in feed_classes if feed.activity_storage_class is not None}
    found, nothing = list[tuple[bytes, Finding]](), set(ids)
    for feed_class in by_storage.values():
        bodies = yield from feed_class.activities().get(ids)
        loads = feed_class.activity_serializer().loads
        for raw_id, body in zip(ids, bodies):
            if body is None:
                continue
            nothing.discard(raw_id)
            error = _unreadable(loads, raw_id, body)
            if error is not None:
                text = f"{error}; readers skip the activity, --fix deletes it"
                found.append((raw_id, Finding("damaged body", f"activity {raw_id.hex()}", text)))
    return found, list(nothing)


def _unreadable(loads: Callable[[bytes], Any], raw_id: bytes, body: bytes) -> str | None:
    try:
        activity = loads(body)
        activity.extra_context  # noqa: B018  # worked out when it is asked for
    except CorruptRecord as error:
        return str(error)
    except FeedmillError:  # a verb that is not registered here: nothing is wrong with the body
        return None
    return None if activity.raw_id == raw_id else "it is the body of another activity"
