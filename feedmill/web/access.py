"""Who may call an operation, and the limits that hold for them: asked before anything else of a request is looked at."""

from __future__ import annotations

import enum
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any, TypeVar
from urllib.parse import unquote

from starlette.requests import Request

from feedmill.errors import ActivityError
from feedmill.feeds.flat import Feed
from feedmill.feeds.reading import Readable
from feedmill.ids import EntityId, as_id
from feedmill.storage.operations import Steps, together
from feedmill.storage.registry import backend
from feedmill.web import tokens
from feedmill.web.options import Options
from feedmill.web.refusals import Refused, too_many
from feedmill.web.tokens import Caller

T = TypeVar("T")


class Access(str, enum.Enum):
    """Whose tokens an operation takes. Of a user only where the path names that user."""

    #: None is needed.
    ANYBODY = "anybody"
    #: With the scope ``read``, and those of servers.
    READER = tokens.READ
    #: With the scope ``write``, and those of servers.
    WRITER = tokens.WRITE
    #: Of servers alone.
    SERVER = tokens.SERVER


#: The part of a path that names the user whose token is taken.
USER = "user"


class Count:
    """The count of one request, which is made once. *take*: the operation that makes it; None where nothing is counted."""

    def __init__(self, take: Callable[[], Steps[int]] | None) -> None:
        self._take = take
        self._wait: int | None = None

    @property
    def is_due(self) -> bool:
        """Whether it is yet to be made."""
        return self._take is not None and self._wait is None

    def steps(self) -> Steps[None]:
        """Make it, perhaps together with other operations; then :meth:`check`."""
        if self._take is not None:
            self._wait = yield from self._take()

    def check(self) -> None:
        """Raise :class:`Refused` with 429 if the caller must wait."""
        if self._wait:
            raise too_many(self._wait)


class Gate:
    """Admits callers of one process of the service."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._streams: Counter[str] = Counter()

    def admit(self, request: Request, access: Access, *, cookie: bool) -> Caller | None:
        """Who calls; None where everybody may. Raises :class:`Refused` with 401 or 403. *cookie*: whether one may hold the token."""
        if access is Access.ANYBODY:
            return None
        caller = tokens.read(_token(request, cookie=cookie))
        if caller.is_server:
            return caller
        user = request.path_params.get(USER)
        if access is Access.SERVER or access.value not in caller.scopes or user is None:
            raise Refused(
                403, f"this needs a token with the scope {access.value}" if user else "this needs a server token"
            )
        if not caller.is_user(path_id(user)):
            raise Refused(403, "the token is another user's")
        return caller

    def counting(self, caller: Caller | None) -> Count:
        """The count of a request of *caller*."""
        if caller is None:
            return Count(None)
        chosen = self.options
        rate, burst = (
            (chosen.server_rate, chosen.server_burst) if caller.is_server else (chosen.user_rate, chosen.user_burst)
        )
        if not rate:
            return Count(None)
        fill = max(1, round(1_000_000 / rate))
        log, name = backend().auxiliary.request_log, hashed(caller)
        return Count(lambda: log.take(name, fill, fill * burst))

    @contextmanager
    def streaming(self, caller: Caller | None) -> Iterator[None]:
        """Count an open stream of a user; :class:`Refused` with 429 if they have too many."""
        if caller is None or caller.is_server:
            yield
            return
        if self._streams[caller.subject] >= self.options.user_streams:
            raise Refused(429, f"{self.options.user_streams} streams are open already; close one", Retry_After="5")
        self._streams[caller.subject] += 1
        try:
            yield
        finally:
            self._streams[caller.subject] -= 1
            if not self._streams[caller.subject]:
                del self._streams[caller.subject]


def hashed(caller: Caller, *more: str) -> str:
    """A name for what is kept of a caller, and of *more* of theirs: no key on a server names a user."""
    kind = tokens.SERVER if caller.is_server else USER
    return blake2b("\0".join((kind, caller.subject, *more)).encode(), digest_size=16).hexdigest()


def _token(request: Request, *, cookie: bool) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == tokens.SCHEME.lower() and token.strip():
        return token.strip()
    if cookie and (kept := request.cookies.get(tokens.COOKIE)):
        return kept
    raise Refused(401, "send a token: Authorization: Bearer …", WWW_Authenticate=tokens.SCHEME)


def path_id(text: str) -> EntityId:
    """The id that a part of a path stands for; :class:`Refused` with 400 for none."""
    try:
        return as_id(text)
    except ActivityError as error:
        raise Refused(400, str(error)) from error


def decoded(path_params: dict[str, Any]) -> dict[str, Any]:
    """Parts of a path that was matched as it was sent, percent-decoded: a slash in an id is no slash of the path."""
    try:
        return {name: unquote(value, errors="strict") for name, value in path_params.items()}
    except UnicodeDecodeError as error:
        raise Refused(400, "a part of the path is no UTF-8") from error


async def read(request: Request, feed: Readable, operation: Steps[T]) -> T:
    """What *operation* reads of *feed*; where requests are counted, that shares its first round trip."""
    counted: Count = request.state.count
    run = feed._feed._arun
    if not counted.is_due or _backend_of(feed._feed) is not backend():
        await count(request)
        return await run(operation)  # type: ignore[no-any-return]
    both: list[Steps[Any]] = [counted.steps(), operation]
    _, found = await run(together(both))
    counted.check()
    return found  # type: ignore[no-any-return]


def _backend_of(feed: Feed) -> Any:
    return feed._backend()


async def count(request: Request) -> None:
    """Count the request, unless that was done; :class:`Refused` with 429 if the caller must wait."""
    counted: Count = request.state.count
    if counted.is_due:
        await backend().arun(counted.steps())
    counted.check()


def seconds_left(caller: Caller | None) -> float:
    """How long the token is good for."""
    return float("inf") if caller is None else caller.expires + tokens.LEEWAY - time.time()


__all__ = ["Access", "Gate"]
