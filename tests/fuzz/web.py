"""The example's HTTP interface, called without a network."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from feedmill.errors import FeedmillError

PATHS = [
    "/api/login",
    "/api/join",
    "/api/posts",
    "/api/posts/1/like",
    "/api/posts/1",
    "/api/people/ben/follow",
    "/api/me",
]
PATHS += [
    "/api/home",
    "/api/network",
    "/api/notifications",
    "/api/notifications/mark",
    "/api/notifications/who",
    "/api/x/who",
]
PATHS += ["/api/fanouts", "/", "/static/app.js", "/api/{user}/home", "/nowhere"]
#: What a stream of events is asked for: it has no end.
STREAM = "/api/live"


class HttpError(FeedmillError):
    """The app refused the request, as it should."""


class Web:
    """Runs requests through the app on an event loop of its own."""

    def __init__(self) -> None:
        from examples.live.app import app

        self.app: Any = app
        self.loop = asyncio.new_event_loop()

    def __call__(self, rng: random.Random, data: bytes) -> None:
        path = rng.choice(PATHS) if rng.random() < 0.9 else "/" + data.decode("latin-1")
        method = rng.choice(("POST", "POST", "GET", "GET", "PUT", "DELETE"))
        if path.startswith(STREAM) or (path, method) == ("/api/fanouts", "POST"):  # that has thousands of deliveries
            method = "PUT"
        status = self.loop.run_until_complete(self._status(method, path, data))
        assert status < 500, f"{method} {path} gave {status}"
        if status >= 400:
            raise HttpError(str(status))

    async def _status(self, method: str, path: str, body: bytes) -> int:
        found: list[int] = []
        pieces = [body[: len(body) // 2], body[len(body) // 2 :]]

        async def receive() -> dict[str, Any]:
            if not pieces:
                await asyncio.sleep(0.001)
                return {"type": "http.disconnect"}
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                found.append(message["status"])

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(errors="replace"),
            "root_path": "",
            "query_string": b"cursor=" + body[:200] + b"&group=" + body[:200],
            "headers": [(b"content-type", b"application/json"), (b"host", b"x"), (b"cookie", b"person=ada")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
        }
        await self.app(scope, receive, send)
        return found[0]

    def close(self) -> None:
        """End the loop."""
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
