"""Signatures of task messages: who can only write to the broker cannot forge a delivery.

With ``FEEDMILL_SIGNING_KEY`` set, every message carries a keyed hash of its task and arguments in a header, and workers
refuse one that carries none or a wrong one. Several keys, separated by commas, are for rotation: the first signs, all are
accepted. A signature does not hide a message, and does not keep anybody from deleting or repeating one; what is repeated
is done once.
"""

from __future__ import annotations

import functools
import hmac
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from feedmill import settings
from feedmill.errors import MessageError
from feedmill.msgpack_codec import pack

#: The message header that carries the signature: 64 hexadecimal digits.
HEADER = "feedmill-signature"
#: The message header that says for which deployment it is; what other senders say is for whoever gets it.
FOR = "feedmill-for"
_SIZE = 32


@functools.lru_cache(maxsize=8)
def _secrets(keys: str) -> tuple[bytes, ...]:
    """The secrets behind the setting: keys of any length become one of the length that BLAKE2b takes."""
    return tuple(blake2b(key.encode(), digest_size=64).digest() for key in map(str.strip, keys.split(",")) if key)


def _signature(secret: bytes, task: str, args: Sequence[Any]) -> str:
    return blake2b(pack([task, list(args)]), key=secret, digest_size=_SIZE).hexdigest()


def headers(task: str, args: Sequence[Any]) -> dict[str, str]:
    """The headers of a message: for which deployment it is and, if there is a key, the signature."""
    secrets = _secrets(settings.current().signing_key)
    return {**addressed(), HEADER: _signature(secrets[0], task, args)} if secrets else addressed()


def addressed() -> dict[str, str]:
    """The header of a message that says for which deployment it is."""
    return {FOR: settings.current().deployment}


def other_deployment(carried: Mapping[str, Any] | None) -> str:
    """The deployment for which a message with the headers *carried* is, if that is another than this one; or empty."""
    wanted = (carried or {}).get(FOR)
    return wanted if isinstance(wanted, str) and wanted != settings.current().deployment else ""


def check(task: str, args: Sequence[Any], carried: Mapping[str, Any] | None) -> None:
    """Refuse a message whose headers *carried* do not prove that a key's owner sent it.

    A message without arguments says nothing that could be forged, and is sent by the clock, which knows no key.
    """
    secrets = _secrets(settings.current().signing_key)
    if not secrets or not args:
        return
    signature = (carried or {}).get(HEADER)
    if not isinstance(signature, str):
        raise MessageError(f"the message of {task} is not signed; set FEEDMILL_SIGNING_KEY where it is sent")
    try:
        expected = [_signature(secret, task, args) for secret in secrets]
    except (TypeError, ValueError, OverflowError) as error:
        raise MessageError(f"the message of {task} holds what Feedmill never sends: {error}") from error
    if not any(hmac.compare_digest(signature.encode(), one.encode()) for one in expected):
        raise MessageError(f"the message of {task} is signed with no key of FEEDMILL_SIGNING_KEY, or was changed")
