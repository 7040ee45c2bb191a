"""The tests of an example site, whatever it is made with: a subclass says how to ask it. See README.md for the contract."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

#: Status and JSON of a request: method, path below ``/api``, and the body.
Ask = Callable[..., tuple[int, Any]]

#: What is refused: method, path, body, and the status of the answer.
NONSENSE = [
    ("POST", "/posts", {"text": "  "}, 400),
    ("POST", "/posts", {"text": 5}, 400),
    ("POST", "/posts", {"text": "x" * 501}, 400),
    ("POST", "/posts", {"text": "x", "link": "javascript:alert(1)"}, 400),
    ("PUT", "/posts/99/like", None, 404),
    ("POST", "/posts/99/comments", {"text": "x"}, 404),
    ("GET", "/posts/99999999999999999999", None, 404),
]


class SiteContract:
    """What every example site does. Feeds are in memory, the database is a new file for each test."""

    @pytest.fixture(autouse=True)
    def _new_site(self, feedmill_memory: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EXAMPLE_DB", str(tmp_path / "example.sqlite3"))

    @pytest.fixture
    def person(self) -> Callable[[str], Ask]:
        """A browser of somebody who is logged in; of nobody for an empty id."""
        raise NotImplementedError

    def test_who_is_there(self, person: Callable[[str], Ask]) -> None:
        """Before somebody logs in there are people to choose from; afterwards it is known who it is."""
        status, found = person("")("GET", "/me")
        assert status == 200 and found["me"] is None and len(found["people"]) > 3
        _, found = person("ann")("GET", "/me")
        assert found["me"] == {"id": "ann", "name": "Ann Alder"}
        assert {each["id"] for each in found["people"] if each["followed"]} == {"bob", "cleo"}
        assert person("")("POST", "/login", {"person": "nobody"})[0] == 401
        assert person("")("GET", "/home")[0] == 401

    def test_a_post(self, person: Callable[[str], Ask]) -> None:
        """It comes into the home feeds of followers and of nobody else; who likes or comments on it notifies its author."""
        ann, bob, dan, eve = map(person, ("ann", "bob", "dan", "eve"))
        status, post = ann("POST", "/posts", {"text": " Hello ", "link": "https://example.org/a.png"})
        assert status == 201 and post["text"] == "Hello" and post["author"]["id"] == "ann"
        for reader in (bob, dan):
            (item,) = reader("GET", "/home")[1]["items"]
            assert item["post"]["id"] == post["id"] and item["because"][0]["verb"] == "shared"
        assert eve("GET", "/home")[1]["items"] == []
        assert bob("PUT", f"/posts/{post['id']}/like")[1]["likes"] == 1
        assert bob("PUT", f"/posts/{post['id']}/like")[1]["likes"] == 1
        dan("PUT", f"/posts/{post['id']}/like")
        status, post = bob("POST", f"/posts/{post['id']}/comments", {"text": "Nice"})
        assert status == 201 and [each["text"] for each in post["all_comments"]] == ["Nice"] and post["liked"]
        items = ann("GET", "/notifications")[1]["items"]
        assert [(item["verb"], item["actor_count"]) for item in items] == [("commented", 1), ("liked", 2)]
        assert [each["id"] for each in items[1]["people"]] == ["dan", "bob"] and not items[1]["is_seen"]
        (item,) = eve("GET", "/home")[1]["items"]  # who follows bob sees why it is there
        assert {each["verb"]: [who["id"] for who in each["people"]] for each in item["because"]} == {
            "commented": ["bob"],
            "liked": ["bob"],
        }

    def test_a_like_taken_back(self, person: Callable[[str], Ask]) -> None:
        """It never happened: neither in a feed nor in a notification; taking it back again does nothing."""
        ann, bob, eve = map(person, ("ann", "bob", "eve"))
        number = ann("POST", "/posts", {"text": "Hello"})[1]["id"]
        bob("PUT", f"/posts/{number}/like")
        assert len(ann("GET", "/notifications")[1]["items"]) == len(eve("GET", "/home")[1]["items"]) == 1
        for _ in range(2):
            assert bob("DELETE", f"/posts/{number}/like")[1]["liked"] is False
        assert ann("GET", "/notifications")[1]["items"] == eve("GET", "/home")[1]["items"] == []

    def test_following(self, person: Callable[[str], Ask]) -> None:
        """What somebody has shared comes and goes with following them, and they are notified."""
        ann, eve = person("ann"), person("eve")
        ann("POST", "/posts", {"text": "Hello"})
        people = eve("PUT", "/people/ann/follow")[1]["people"]
        assert {each["id"] for each in people if each["followed"]} == {"ann", "bob"}
        assert len(eve("GET", "/home")[1]["items"]) == 1
        (item,) = ann("GET", "/notifications")[1]["items"]
        assert item["verb"] == "followed" and item["people"][0]["id"] == "eve" and item["post"] is None
        eve("DELETE", "/people/ann/follow")
        assert eve("GET", "/home")[1]["items"] == []
        assert [eve("PUT", f"/people/{whom}/follow")[0] for whom in ("eve", "nobody")] == [400, 400]

    def test_more_pages(self, person: Callable[[str], Ask]) -> None:
        """Cursors lead through all posts, each once, whatever comes meanwhile; one that was changed is refused."""
        ann, bob = person("ann"), person("bob")
        for number in range(15):
            ann("POST", "/posts", {"text": str(number)})
        page = bob("GET", "/home")[1]
        ann("POST", "/posts", {"text": "meanwhile"})
        rest = bob("GET", f"/home?cursor={page['next']}")[1]
        assert [item["post"]["text"] for item in page["items"] + rest["items"]] == [*map(str, reversed(range(15)))]
        assert rest["next"] is None
        status, problem = bob("GET", "/home?cursor=x")
        assert status == 400 and problem["error"] == "CursorError"

    def test_marking(self, person: Callable[[str], Ask]) -> None:
        """What was shown is seen, and what came meanwhile is not."""
        ann, bob, dan = map(person, ("ann", "bob", "dan"))
        number = ann("POST", "/posts", {"text": "Hello"})[1]["id"]
        bob("PUT", f"/posts/{number}/like")
        revision = ann("GET", "/notifications")[1]["revision"]
        dan("POST", f"/posts/{number}/comments", {"text": "Hi"})
        assert ann("POST", "/notifications/seen", {"revision": revision})[1]["unseen"] == 1
        assert ann("POST", "/notifications/seen", {"revision": "x"})[0] == 400

    @pytest.mark.parametrize(("method", "path", "body", "status"), NONSENSE)
    def test_nonsense(self, person: Callable[[str], Ask], method: str, path: str, body: Any, status: int) -> None:
        """It is refused, with problem details that the page can show."""
        found, problem = person("ann")(method, path, body)
        assert found == status and problem["detail"] and problem["status"] == status
