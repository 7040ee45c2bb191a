"""How every request of the service is answered: who calls, the limits, the body, idempotency keys, and errors.

The order: the token, the parts of the path, the rate, unknown parameters, the body (never more of it than is allowed), the idempotency key;
then the operation. Whatever ends it is answered with problem details, and counts for the rate.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from hashlib import blake2b
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from feedmill.contrib.problems import Problem, described, problem
from feedmill.errors import FeedmillError, StorageError
from feedmill.msgpack_codec import pack, unpack
from feedmill.storage.registry import backend
from feedmill.storage.request_log import RequestState
from feedmill.web import access
from feedmill.web.access import USER, Access, Gate
from feedmill.web.refusals import Refused, wrong
from feedmill.web.tokens import Caller

logger = logging.getLogger(__name__)

#: Where an operation says in its description who may call it.
ACCESS = "x-feedmill-access"
#: Milliseconds for which a request is held beyond the time that it may take.
HELD_LONGER = 5000
#: Answers of requests that did nothing, and may be carried out another time: they are not kept.
PASSING = frozenset((400, 401, 403, 408, 409, 413, 415, 429))
#: Bytes of the longest refusal that is kept. What was done is answered with no more than the results of a bulk request.
LONGEST_KEPT = 65_536
#: Methods that change nothing.
READING = frozenset(("GET", "HEAD", "OPTIONS"))
#: The header with an idempotency key, and that of an answer which was given before.
KEY, REPLAYED = "Idempotency-Key", "Idempotent-Replayed"
#: A key, as structured headers spell texts, or bare: visible ASCII.
_KEY = re.compile(r'"([\x21\x23-\x5b\x5d-\x7e]{1,255})"|([\x21\x23-\x5b\x5d-\x7e]{1,255})')
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def may(who: Access) -> dict[str, Any]:
    """What a route is declared with, so that *who* may call it."""
    return {"openapi_extra": {ACCESS: who.value}}


def named(route: APIRoute) -> str:
    """What an operation is called in the description, and by clients that are generated from that."""
    return route.name


def counts_itself(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """Mark an endpoint that counts its request with what it reads, in one round trip: with :func:`~feedmill.web.access.read`."""
    endpoint.counts_itself = True  # type: ignore[attr-defined]
    return endpoint


def takes_cookie(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """Mark an endpoint whose token may be in a cookie: a browser's EventSource sends no header."""
    endpoint.takes_cookie = True  # type: ignore[attr-defined]
    return endpoint


class ServiceRequest(Request):
    """A request whose body is read no further than it may be long, and is JSON as the standard has it."""

    #: Whether the rest of the body is being waited for.
    is_coming = False

    async def body(self) -> bytes:
        """The body; :class:`Refused` with 413 as soon as it is too long."""
        if not hasattr(self, "_body"):
            most = self.app.state.gate.options.max_body
            declared = self.headers.get("content-length", "")
            if declared.isascii() and declared.isdigit() and (len(declared) > 18 or int(declared) > most):
                raise _too_large(most)
            parts, size = list[bytes](), 0
            self.is_coming = True  # and stays so if this is interrupted
            async for part in self.stream():
                size += len(part)
                if size > most:
                    raise _too_large(most)
                parts.append(part)
            self.is_coming = False
            self._body = b"".join(parts)
        return self._body

    async def json(self) -> Any:
        """The body as JSON; :class:`HTTPException`, which passes through FastAPI, for what is none."""
        body = await self.body()
        try:
            value = json.loads(body.decode(), parse_constant=_no_number, parse_float=_finite)
            if _SURROGATE.search(body):  # half of a pair is no character, and cannot be stored
                json.dumps(value, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise HTTPException(400, f"the body is no JSON: {_shown(error)}") from error
        return value


def _too_large(most: int) -> Refused:
    return Refused(413, f"the body is larger than {most:,} bytes; send less at once", "TooLarge", Connection="close")


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large a number")
    return number


def _shown(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return "it holds half of a surrogate pair" if isinstance(error, UnicodeEncodeError) else str(error)[:200]


class ServiceRoute(APIRoute):
    """An operation of the service. Its declaration says who may call it: see :func:`may`."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        who = Access((options.get("openapi_extra") or {}).get(ACCESS, ""))
        if who in (Access.READER, Access.WRITER) and f"{{{USER}}}" not in path:
            raise ValueError(f"{path} takes tokens of users, and must name the {{{USER}}}")
        #: Who may call it.
        self.access = who
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Handler:
        """What answers a request."""
        handle: Handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            gate: Gate = request.app.state.gate
            request = ServiceRequest(request.scope, request.receive)
            request.state.first = time.time_ns() // 1000
            try:
                response = await asyncio.wait_for(self._answered(gate, request, handle), gate.options.timeout)
                if isinstance(response, Response):
                    response.headers.setdefault("Cache-Control", "no-store")
                return response
            except asyncio.TimeoutError:
                return as_response(_slow(request, gate.options.timeout).problem)
            except ClientDisconnect:
                return Response(status_code=400)  # which nobody reads
            except Exception as error:
                return answer_to(error)

        return answer

    async def _answered(self, gate: Gate, request: Request, handle: Handler) -> Response:
        request.scope["path_params"] = access.decoded(request.path_params)
        cookie = getattr(self.endpoint, "takes_cookie", False)
        caller = request.state.caller = gate.admit(request, self.access, cookie=cookie)
        request.state.count = gate.counting(caller)
        if not getattr(self.endpoint, "counts_itself", False):
            await access.count(request)
        try:
            return await self._carried_out(gate, request, caller, handle)
        except StorageError:
            raise
        except Exception:  # before it was counted, perhaps
            await access.count(request)
            raise

    async def _carried_out(self, gate: Gate, request: Request, caller: Caller | None, handle: Handler) -> Response:
        known = {field.alias for field in self.dependant.query_params}
        for name in request.query_params:
            if name not in known:
                raise Refused(400, f"no parameter {name[:80]!r}; known: {', '.join(sorted(known)) or 'none'}")
        if self.body_field is not None and (await request.body()) and not _is_json(request):
            raise Refused(415, "send the body as application/json")
        key = request.headers.get(KEY)
        if key is None or caller is None or request.method in READING:
            return await handle(request)
        return await self._once(gate, request, access.hashed(caller, _checked_key(key)), handle)

    async def _once(self, gate: Gate, request: Request, name: str, handle: Handler) -> Response:
        """The answer to a request with an idempotency key: what was answered before, if that is known."""
        log, token = backend().auxiliary.request_log, secrets.token_bytes(16)
        kept = max(1, round(gate.options.answers_kept))
        held = round(gate.options.timeout * 1000) + HELD_LONGER
        body = await request.body() if self.body_field is not None else b""
        lasting = max(kept, held // 1000 + 2)  # what is being carried out is known for longer than it is held
        begun = await backend().arun(log.begin(name, _fingerprint(request, body), token, held, lasting))
        if begun.state is RequestState.OTHER:
            raise Refused(
                422, "the idempotency key was used for another request; use a new one", "IdempotencyKeyReused"
            )
        if begun.state is RequestState.RUNNING:
            raise Refused(
                409,
                "a request with this idempotency key is being carried out; try again",
                "IdempotencyKeyInUse",
                Retry_After="1",
            )
        if begun.state is RequestState.DONE:
            return _replayed(begun.answer)
        request.state.first = begun.first
        try:
            response = await handle(request)
        except Exception as error:
            response = answer_to(error)
        await backend().arun(log.end(name, token, _kept(response) if _is_final(response) else b"", kept))
        return response


def _fingerprint(request: Request, body: bytes) -> bytes:
    """What tells one request from another."""
    parts = (request.method, request.url.path, request.url.query)
    return blake2b("\0".join(parts).encode(errors="replace") + b"\0" + body, digest_size=16).digest()


def _checked_key(text: str) -> str:
    found = _KEY.fullmatch(text)
    if found is None:
        raise Refused(400, f"{KEY} must be 1 to 255 visible ASCII characters, which may stand in quotes")
    return found[1] or found[2]


def _is_final(response: Response) -> bool:
    """Whether this is the answer to the same request from now on."""
    if response.status_code < 300:
        return True
    return response.status_code < 500 and response.status_code not in PASSING and len(response.body) <= LONGEST_KEPT


def _kept(response: Response) -> bytes:
    headers = {
        name: response.headers[name] for name in ("content-type", "location", "retry-after") if name in response.headers
    }
    return pack([response.status_code, headers, bytes(response.body)])


def _replayed(answer: bytes) -> Response:
    status, headers, body = unpack(answer)
    return Response(body, status, {**headers, REPLAYED: "true"})


def _is_json(request: Request) -> bool:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _slow(request: ServiceRequest, seconds: float) -> Refused:
    if request.is_coming:
        return Refused(408, f"the body did not come within {seconds:g} s", Connection="close")
    logger.warning("%s %s was not answered within %g s", request.method, request.url.path, seconds)
    return Refused(503, f"the request was not carried out within {seconds:g} s; try again", "Timeout", Retry_After="5")


def answer_to(error: Exception) -> Response:
    """The answer to whatever ended a request."""
    if isinstance(error, Refused):
        return as_response(error.problem)
    if isinstance(error, RequestValidationError):
        return as_response(_invalid(error))
    if isinstance(error, HTTPException):
        headers = {name.replace("-", "_"): value for name, value in (error.headers or {}).items()}
        return as_response(Refused(error.status_code, str(error.detail), **headers).problem)
    if isinstance(error, FeedmillError) and (answer := problem(error)) is not None:
        return as_response(answer)
    logger.error("a request failed: %s: %s", type(error).__name__, error, exc_info=error)
    return as_response(Refused(500, "the service failed; its log says why").problem)


def as_response(answer: Problem) -> Response:
    """Problem details as a response."""
    return Response(json.dumps(answer.body), answer.status, answer.headers)


def _invalid(error: RequestValidationError) -> Problem:
    """What is wrong with the values of a request; none of them is shown, since they may hold anything."""
    places = wrong(error.errors())
    first = "; ".join(f"{each['where']}: {each['reason']}" for each in places[:3])
    answer = described(400, "Bad Request", f"the request is not valid: {first}", "InvalidRequest", {})
    answer.body["errors"] = places
    return answer


class RawPaths:
    """Matches routes against the path as it was sent, so that ``%2F`` in an id is not taken for a slash."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        raw = scope.get("raw_path")
        if scope["type"] == "http" and raw is not None:
            # Bytes that are not ASCII should have been encoded; what they become here is in no route.
            scope = {**scope, "path": raw.partition(b"?")[0].decode("latin-1")}
        await self._app(scope, receive, send)


__all__ = ["ServiceRoute", "counts_itself", "may", "named", "takes_cookie"]
