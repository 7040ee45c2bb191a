"""The commands of the HTTP service: tokens, and what they refuse. The service itself: tests/http_service."""

from __future__ import annotations

import datetime as dt
import sys

import pytest

import feedmill
from feedmill.cli import shapes
from feedmill.web import tokens
from tests.cli.samples import failed_json, invoke, run, run_json
from tests.http_service.samples import KEY


@pytest.fixture(autouse=True)
def _keyed(memory: None) -> None:
    feedmill.configure(token_keys=KEY)


def test_tokens() -> None:
    """A token of a server and two of users, which the service takes; it is all that is printed."""
    found = run_json(shapes.Token, "token", "--user", "ann")
    assert (found["subject"], found["scopes"]) == ("ann", ["read"])
    left = dt.datetime.fromisoformat(found["expires"]) - dt.datetime.now(dt.timezone.utc)
    assert dt.timedelta(minutes=58) < left <= dt.timedelta(hours=1)
    assert tokens.read(run("token", "--user", "ann", "--write").strip()).scopes == {"read", "write"}
    caller = tokens.read(run("token", "--server", "web", "--expires", "30d").strip())
    assert caller.is_server and caller.subject == "web"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--user", "a", "--server", "b"],
        ["--server", "a", "--write"],
        ["--user", ""],
        ["--user", "a", "--expires", "5"],
        ["--user", "a", "--expires", "0m"],
    ],
)
def test_tokens_that_make_no_sense(words: list[str]) -> None:
    """They are not made: exit status 2."""
    assert failed_json("token", *words, code=2)["kind"] == "UsageError"


def test_without_a_key() -> None:
    """What to set is said, and no key of a token is ever shown."""
    feedmill.configure(token_keys="")
    assert "FEEDMILL_TOKEN_KEYS" in failed_json("token", "--user", "ann", code=1)["message"]
    assert "FEEDMILL_TOKEN_KEYS" in failed_json("serve", code=1)["message"]
    feedmill.configure(token_keys=KEY)
    assert KEY not in run("settings") and "(hidden)" in run("settings")


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install is said."""
    for name in [name for name in sys.modules if name.startswith("feedmill.web")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert "feedmill[web]" in failed_json("token", "--user", "ann", code=1)["message"]


def test_options_that_make_no_sense() -> None:
    """They are refused before anything is served."""
    assert invoke("serve", "--timeout", "soon").exit_code == 2
    assert invoke("serve", "--max-body", "0").exit_code == 2
