"""What activities and groups hold, as values that the json module takes."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
import uuid
from typing import Any


def time_text(time: dt.datetime) -> str:
    """*time* in ISO 8601, UTC, always to the microsecond: such texts sort as the times do."""
    return time.astimezone(dt.timezone.utc).isoformat(timespec="microseconds")


def json_value(value: Any) -> Any:
    """*value*, which msgpack could carry, as JSON has it.

    A UUID becomes its text, a datetime :func:`time_text`, bytes Base64, a key its text, and a float that is no number None.
    """
    kind = type(value)
    if kind is dict:
        return {_key(key): json_value(each) for key, each in value.items()}
    if kind is list:
        return [json_value(each) for each in value]
    if kind is float:
        return value if math.isfinite(value) else None
    if kind is bytes:
        return base64.b64encode(value).decode()
    if isinstance(value, dt.datetime):
        return time_text(value)
    return str(value) if isinstance(value, uuid.UUID) else value


def _key(key: Any) -> str:
    plain = json_value(key)
    return plain if isinstance(plain, str) else json.dumps(plain)
