"""The example site on Flask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from examples.flask.app import create_app
from examples.shared.contract import Ask, SiteContract


class TestFlask(SiteContract):
    """All of the contract."""

    @pytest.fixture
    def person(self, feedmill_memory: None) -> Callable[[str], Ask]:
        """Through Flask's test client."""
        app = create_app(TESTING=True)

        def browser(id: str) -> Ask:
            client = app.test_client()
            if id:
                assert client.post("/api/login", json={"person": id}).status_code == 200

            def ask(method: str, path: str, body: Any = None) -> tuple[int, Any]:
                answer = client.open(f"/api{path}", method=method, json=body)
                return answer.status_code, answer.get_json(force=True)

            return ask

        return browser

    def test_the_page(self) -> None:
        """The page and what it needs are served."""
        client = create_app().test_client()
        for path in ("/", "/static/app.js", "/static/style.css"):
            with client.get(path) as answer:
                assert answer.status_code == 200
