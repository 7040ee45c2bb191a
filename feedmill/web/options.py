"""What an operator may choose of the HTTP service."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from feedmill.errors import SettingsError


@dataclasses.dataclass(frozen=True)
class Options:
    """Limits of the HTTP service. :class:`~feedmill.errors.SettingsError` for a value that makes no sense."""

    #: Requests per second of one user, in the long run; 0 for no limit.
    user_rate: float = 20.0
    #: Requests that a user may make at once before that applies.
    user_burst: int = 100
    #: Requests per second of one server token, in the long run; 0 for no limit.
    server_rate: float = 0.0
    #: Requests that such a token may make at once before that applies.
    server_burst: int = 1000
    #: Streams that one user may have open at one process.
    user_streams: int = 20
    #: Bytes that the body of a request may have.
    max_body: int = 1_048_576
    #: Seconds within which a body must have come, and a request must be answered.
    timeout: float = 30.0
    #: Seconds for which the answer to a request with an idempotency key is kept.
    answers_kept: float = 86_400.0
    #: Origins of pages that may call the service from a browser, such as ``https://example.com``. Empty: none (no CORS headers).
    allowed_origins: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("user_rate", "server_rate"):
            self._require(name, getattr(self, name), 0)
        for name in ("timeout", "answers_kept"):
            self._require(name, getattr(self, name), 0.001)
        for name in ("user_burst", "server_burst", "user_streams", "max_body"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise SettingsError(f"{name} is {value!r}; use a positive whole number")
        if isinstance(self.allowed_origins, str):
            raise SettingsError(f"allowed_origins is {self.allowed_origins!r}; use a list of origins")

    @staticmethod
    def _require(name: str, value: object, least: float) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < math.inf:
            raise SettingsError(f"{name} is {value!r}; use a number from {least:g}")


__all__ = ["Options"]
