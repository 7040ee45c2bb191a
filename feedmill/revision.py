"""Revisions: how much of a notification feed a reader was shown, as a short text that is safe in a URL.

A feed numbers what arrives in it, and a group has the number of what arrived in it last (``feedmill.grouping.feed_state``).
The number of a group, or of a whole feed when it was read, therefore says of everything in the feed whether it came later.

Bytes, in base64url: version (1), number (6), checksum (4). A revision grants nothing and hides nothing: the checksum finds
damage, it does not keep anybody out.
"""

from __future__ import annotations

from hashlib import blake2b

from feedmill import urlsafe
from feedmill.errors import RevisionError

#: The version that is written; another one is refused.
VERSION = 1
#: Bytes of a number, and of the checksum.
NUMBER_SIZE, _CHECK_SIZE = 6, 4
_READ_AGAIN = "pass `revision` of a group or a page unchanged, or read the feed again"


def encode(number: int) -> str:
    """The revision that says: what arrived up to *number*."""
    data = bytes([VERSION]) + number.to_bytes(NUMBER_SIZE, "big")
    return urlsafe.encode(data + _check(data))


def decode(revision: object) -> int:
    """The number of a *revision*; :class:`~feedmill.errors.RevisionError` unless :func:`encode` made it."""
    if not isinstance(revision, str):
        raise RevisionError(f"a revision is a str, not {type(revision).__name__}; {_READ_AGAIN}")
    data = urlsafe.decode(revision)
    if data is None or len(data) != 1 + NUMBER_SIZE + _CHECK_SIZE:
        raise RevisionError(f"{revision[:80]!r} is not a revision; {_READ_AGAIN}")
    if _check(data[:-_CHECK_SIZE]) != data[-_CHECK_SIZE:]:
        raise RevisionError(f"revision {revision!r} was changed; {_READ_AGAIN}")
    if data[0] != VERSION:
        raise RevisionError(f"revision {revision!r} is of version {data[0]}, not {VERSION}; {_READ_AGAIN}")
    return int.from_bytes(data[1:-_CHECK_SIZE], "big")


def _check(data: bytes) -> bytes:
    return blake2b(data, digest_size=_CHECK_SIZE, person=b"revision").digest()
