"""What an HTTP service remembers of requests, on Redis: a string for each caller, and a hash for each request. Timed by the server."""

from __future__ import annotations

from feedmill.keys import caller_key, request_key
from feedmill.storage.operations import Steps
from feedmill.storage.redis.timelines import call_script
from feedmill.storage.request_log import BegunRequest, RequestLog, RequestState


class RedisRequestLog(RequestLog):
    """One script for each operation."""

    def take(self, caller: str, fill: int, holds: int) -> Steps[int]:
        (wait,) = yield [call_script("request_take", [caller_key(caller)], fill, holds)]
        return int(wait)

    def begin(self, name: str, fingerprint: bytes, token: bytes, lease: int, seconds: int) -> Steps[BegunRequest]:
        (found,) = yield [call_script("request_begin", [request_key(name)], fingerprint, token, lease, seconds)]
        state, first, answer = found
        return BegunRequest(RequestState(state.decode()), int(first), answer)

    def end(self, name: str, token: bytes, answer: bytes, seconds: int) -> Steps[None]:
        yield [call_script("request_end", [request_key(name)], token, answer, seconds)]


__all__ = ["RedisRequestLog"]
