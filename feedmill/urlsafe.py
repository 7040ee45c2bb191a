"""Bytes as text that is safe in a URL: base64url without the padding."""

from __future__ import annotations

import base64
import binascii


def encode(data: bytes) -> str:
    """*data* as text."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes | None:
    """The bytes that :func:`encode` made *text* of; None if it made no such text."""
    try:
        raw = text.encode("ascii")
        data = base64.urlsafe_b64decode(raw + b"=" * (-len(raw) % 4))
    except (UnicodeEncodeError, binascii.Error, ValueError):
        return None
    # The decoder passes over characters that are not of its alphabet.
    return data if encode(data) == text else None
