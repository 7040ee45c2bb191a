"""What an activity storage keeps of one activity: its body, and whether readers are shown it.

A value is the body alone where nothing else is to be said, as of nearly all activities. Otherwise it is a mark that begins no
msgpack value, a letter, and bodies, each behind its size (4 bytes): the body in force, then former ones (newest first) whose
places in feeds may differ from its own. A small letter: there are users who were notified of it by name, or taken back so.
The changes are made by ``activity_change.lua`` on Redis and by :func:`changed` in memory.
"""

from __future__ import annotations

import math
import struct
import time
from typing import NamedTuple

from feedmill import settings
from feedmill.ids import id_microseconds

#: In the feeds of followers and recipients; the same, but nobody is notified; known only to who was notified by name; a
#: tombstone: it is to be nowhere.
LIVE, IMPORTED, NOTIFIED_ONLY, REMOVED = "L", "I", "N", "R"
#: What can become of an activity: it is added or imported (what is live keeps its body); somebody is notified of it by name,
#: or taken back so; its body is replaced; it is removed.
ADDED, IMPORT, NOTIFY, UNNOTIFY, UPDATED, REMOVE = "add", "import", "notify", "unnotify", "update", "remove"
#: Its tombstone goes; what is no tombstone stays.
FORGET = "forget"
#: The first byte of a value that is more than a body.
MARK = b"\xc1"
#: Former bodies that are kept: those of the last times it was removed and added again with another context.
MOST_FORMERS = 15

#: Seconds by which a body outlives the entries of feeds that show it: clocks differ.
MARGIN = 3600

_LETTERS = LIVE + IMPORTED + NOTIFIED_ONLY + REMOVED


class Kept(NamedTuple):
    """A value, taken apart."""

    #: One of the kinds above.
    kind: str
    #: Whether users were notified of it, or taken back, by name.
    notified: bool
    #: The body in force.
    body: bytes
    formers: tuple[bytes, ...] = ()


def decode(data: bytes) -> Kept:
    """What *data* says; what makes no sense is taken for a body, which a reader finds damaged."""
    if data[:1] != MARK:
        return Kept(LIVE, False, data)
    letter = data[1:2].decode("latin-1")
    if letter and letter.upper() in _LETTERS:
        bodies, at = list[bytes](), 2
        while at + 4 <= len(data):
            (size,) = struct.unpack_from(">I", data, at)
            bodies.append(data[at + 4 : at + 4 + size])
            at += 4 + size
        if bodies and at == len(data):
            return Kept(letter.upper(), letter.islower(), bodies[0], tuple(bodies[1:]))
    return Kept(LIVE, False, data)


def encode(kept: Kept) -> bytes:
    """The value that says *kept*."""
    if kept.kind == LIVE and not kept.notified and not kept.formers and kept.body[:1] != MARK:
        return kept.body
    letter = kept.kind.lower() if kept.notified else kept.kind
    bodies = [struct.pack(">I", len(body)) + body for body in (kept.body, *kept.formers)]
    return b"".join([MARK, letter.encode(), *bodies])


def seconds_kept(raw_id: bytes, open_ttl: int) -> int:
    """Seconds from now for which the activity of *raw_id* is kept, which is neither removed nor known by notifications alone.

    By ``FEEDMILL_ACTIVITY_TTL``, but *open_ttl* at least: for so long a fan-out may need it. 0: for ever.
    """
    ttl = settings.current().activity_ttl
    if not ttl:
        return 0
    return max(open_ttl, math.ceil(id_microseconds(raw_id) / 1e6 + ttl - time.time()) + MARGIN)


def kind_of(data: bytes) -> str:
    """The kind that a value says."""
    return decode(data).kind if data[:1] == MARK else LIVE


def shown(data: bytes | None) -> bytes | None:
    """The body that a reader is shown of a value; None for what is not live."""
    if data is None or data[:1] != MARK:
        return data
    kept = decode(data)
    return kept.body if kept.kind in (LIVE, IMPORTED) else None


def changed(was: bytes | None, change: str, body: bytes) -> bytes | None:
    """The value after *change*; None if there is nothing to keep. *body*: the new one, or empty where none is needed."""
    if not was:
        kind = {ADDED: LIVE, IMPORT: IMPORTED, NOTIFY: NOTIFIED_ONLY, UNNOTIFY: REMOVED, REMOVE: REMOVED}.get(change)
        return encode(Kept(kind, change in (NOTIFY, UNNOTIFY), body)) if kind and body else None
    kept = decode(was)
    if change in (ADDED, IMPORT, NOTIFY) and kept.kind == REMOVED:
        formers = (kept.body, *kept.formers)
        kept = kept._replace(body=body, formers=tuple(each for each in formers if each != body)[:MOST_FORMERS])
    if change == ADDED:
        kept = kept._replace(kind=LIVE)
    elif change == IMPORT and kept.kind != LIVE:
        kept = kept._replace(kind=IMPORTED)
    elif change in (NOTIFY, UNNOTIFY):
        notified_only = change == NOTIFY and kept.kind == REMOVED
        kept = kept._replace(kind=NOTIFIED_ONLY if notified_only else kept.kind, notified=True)
    elif change == UPDATED and kept.kind != REMOVED:
        kept = kept._replace(body=body)
    elif change == REMOVE:
        kept = kept._replace(kind=REMOVED)
    return encode(kept)
