"""The example site on FastAPI."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from examples.fastapi.app import app
from examples.shared.contract import Ask, SiteContract


def browser() -> Callable[..., httpx.Response]:
    """Asks the app, without a server, and keeps cookies."""
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://site")

    def request(method: str, path: str, body: Any = None) -> httpx.Response:
        return asyncio.run(client.request(method, path, json=body))

    return request


class TestFastApi(SiteContract):
    """All of the contract."""

    @pytest.fixture
    def person(self) -> Callable[[str], Ask]:
        """A browser for each person."""

        def logged_in(id: str) -> Ask:
            request = browser()
            if id:
                assert request("POST", "/api/login", {"person": id}).status_code == 200

            def ask(method: str, path: str, body: Any = None) -> tuple[int, Any]:
                answer = request(method, f"/api{path}", body)
                return answer.status_code, answer.json()

            return ask

        return logged_in

    def test_the_page(self) -> None:
        """The page and what it needs are served."""
        request = browser()
        assert [request("GET", path).status_code for path in ("/", "/static/app.js", "/static/style.css")] == [200] * 3
