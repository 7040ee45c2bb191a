"""Tokens: who they let in, and everything with which somebody may try to make one."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
import pytest

import feedmill
from feedmill.errors import ArgumentError, SettingsError
from feedmill.web import tokens
from feedmill.web.refusals import Refused
from tests.http_service.samples import KEY

pytestmark = pytest.mark.usefixtures("keyed")
RIGHT = {"sub": "ann", "aud": "feedmill", "scope": "read", "exp": 4_000_000_000}


def signed(key: str = KEY, algorithm: str = "HS256", headers: Any = None, **changes: Any) -> str:
    """A token with claims that are right but for *changes*; None takes one away."""
    claims = {name: value for name, value in {**RIGHT, **changes}.items() if value is not None}
    return jwt.api_jws.encode(json.dumps(claims).encode(), key, algorithm, headers=headers)


def test_what_is_made_is_read() -> None:
    """A user with scopes and an end; a server."""
    caller = tokens.read(tokens.make("ann", ["read", "write"], 60))
    assert caller.subject == "ann" and caller.scopes == {"read", "write"} and 50 < caller.expires - time.time() <= 60
    assert not caller.is_server and caller.is_user("ann") and not caller.is_user("bob")
    server = tokens.read(tokens.make("ann", ["server"], 60))
    assert server.is_server and not server.is_user("ann")
    assert tokens.read(signed()).subject == "ann"
    assert tokens.read(signed(aud=["other", "feedmill"], scope="email read profile")).scopes == {"read"}


@pytest.mark.parametrize(
    "token",
    [
        *("", "x", "..", "a.b.c", "é", "x" * 5000, "\ud800"),
        *(signed("another-key-of-another-service-" * 2), signed(algorithm="HS384"), signed(algorithm="HS512")),
        *(signed(exp=1_000_000_000), signed(exp=None), signed(exp="soon"), signed(exp=[1]), signed(nbf=4_000_000_000)),
        signed(exp=10**400),
        *(
            signed(aud="other"),
            signed(aud=None),
            signed(aud=5),
            signed(sub=None),
            signed(sub=5),
            signed(sub=""),
            signed(sub="x" * 300),
        ),
        *(
            signed(scope=None),
            signed(scope=""),
            signed(scope="admin"),
            signed(scope=["server"]),
            signed(scope="Server"),
        ),
        *(signed(headers={"crit": ["x"], "x": 1}),),
    ],
)
def test_what_is_refused(token: str) -> None:
    """Whatever is wrong, it is 401, and the answer does not repeat it."""
    with pytest.raises(Refused) as refused:
        tokens.read(token)
    assert refused.value.status == 401 and (len(token) < 3 or token not in str(refused.value))
    assert refused.value.__cause__ is None


def test_a_token_without_a_signature() -> None:
    """The algorithm that a token names does not count, neither "none" nor one of another kind of key."""

    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    for header in ({"alg": "none"}, {"alg": "None"}, {"alg": "RS256"}, {"alg": "HS256"}, {}, [], {"alg": 5}):
        for signature in ("", "AAAA"):
            with pytest.raises(Refused):
                tokens.read(f"{part(header)}.{part(RIGHT)}.{signature}")
    deep = base64.urlsafe_b64encode(b"[" * 2500).rstrip(b"=").decode()
    with pytest.raises(Refused):
        tokens.read(f"{deep}.{part(RIGHT)}.AAAA")
    with pytest.raises(Refused):
        tokens.read(signed(exp=float("inf")))


def test_keys_are_rotated() -> None:
    """The first key signs, all are accepted, and one that is no longer listed is not."""
    old = tokens.make("ann", ["read"], 60)
    feedmill.configure(token_keys=f"{'n' * 40}, {KEY}")
    new = tokens.make("ann", ["read"], 60)
    assert tokens.read(old) == tokens.read(old) and tokens.read(new).subject == "ann"
    feedmill.configure(token_keys="n" * 40)
    assert tokens.read(new)
    with pytest.raises(Refused, match="another key"):
        tokens.read(old)


def test_settings() -> None:
    """Short keys are refused, and without a key nobody is let in; keys are not shown."""
    with pytest.raises(SettingsError, match="TOKEN_KEYS"):
        feedmill.configure(token_keys=f"{KEY},short")
    assert KEY not in repr(feedmill.settings.current())
    feedmill.configure(token_audience="shop")
    assert tokens.read(tokens.make("ann", ["read"], 60))
    with pytest.raises(Refused, match="audience"):
        tokens.read(signed())
    feedmill.configure(token_keys=" , ")
    for call in (lambda: tokens.make("ann", ["read"], 60), lambda: tokens.read("x")):
        with pytest.raises(SettingsError, match="FEEDMILL_TOKEN_KEYS is empty"):
            call()


@pytest.mark.parametrize(
    ("subject", "scopes", "seconds"),
    [
        ("", ["read"], 60),
        ("ann", [], 60),
        ("ann", ["admin"], 60),
        ("ann", ["server", "read"], 60),
        ("ann", ["read"], 0),
        ("ann", ["read"], 1e99),
    ],
)
def test_tokens_that_make_no_sense(subject: str, scopes: list[str], seconds: float) -> None:
    """They are not made."""
    with pytest.raises(ArgumentError):
        tokens.make(subject, scopes, seconds)
