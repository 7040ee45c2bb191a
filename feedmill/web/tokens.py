"""Tokens: JSON Web Tokens (RFC 7519), signed with HS256, that say who calls and what they may do.

``sub`` is a user, or the name of a server; ``scope`` holds what the token is for, between spaces: :data:`SERVER`, or :data:`READ` and
:data:`WRITE` of that user. ``exp`` and ``aud`` must be there.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any, NamedTuple

import jwt

from feedmill import settings
from feedmill.errors import ArgumentError, SettingsError
from feedmill.ids import EntityId, as_id, id_problem
from feedmill.keys import user_tag
from feedmill.web.refusals import Refused

#: What a token may be for: everything; what a user reads, marks and listens to; what a user does.
SERVER, READ, WRITE = "server", "read", "write"
SCOPES = (SERVER, READ, WRITE)
#: The one algorithm that is accepted.
ALGORITHM = "HS256"
#: Seconds by which the clock of whoever made a token may differ.
LEEWAY = 10
#: Characters of the longest token that is looked at.
MAX_LENGTH = 4096
#: Scheme of the header, and the cookie that streams accept in its place.
SCHEME, COOKIE = "Bearer", "feedmill_token"


class Caller(NamedTuple):
    """Who calls."""

    #: The user, as text, or the name of the server.
    subject: str
    scopes: frozenset[str]
    #: When the token expires, seconds since 1970.
    expires: float

    @property
    def is_server(self) -> bool:
        """Whether the caller may do everything."""
        return SERVER in self.scopes

    def is_user(self, user_id: EntityId) -> bool:
        """Whether the caller is this user: 5 and "5" are one."""
        return not self.is_server and user_tag(as_id(self.subject)) == user_tag(user_id)


def keys() -> list[str]:
    """The keys in force, of which the first one signs; :class:`~feedmill.errors.SettingsError` if there is none."""
    found = [key.strip() for key in settings.current().token_keys.split(",") if key.strip()]
    if not found:
        raise SettingsError(
            "FEEDMILL_TOKEN_KEYS is empty, and nothing could tell whose tokens are right; set it to a secret, the same for all"
            " processes of the service: openssl rand -hex 32"
        )
    return found


def make(subject: str, scopes: Collection[str], seconds: float) -> str:
    """A token of *subject* with *scopes* that expires in *seconds*.

    Raises :class:`~feedmill.errors.ArgumentError` for values that make no token, :class:`~feedmill.errors.SettingsError` without
    a key.
    """
    if problem := id_problem(subject):
        raise ArgumentError(f"the subject of the token {problem}")
    if not scopes or not set(scopes) <= set(SCOPES) or (SERVER in scopes and len(set(scopes)) > 1):
        raise ArgumentError(f"the scopes are {sorted(scopes)}; use {SERVER} alone, or {READ} and {WRITE}")
    if not 0 < seconds <= settings.LONGEST_LIFETIME:
        raise ArgumentError(f"the token would expire in {seconds!r} seconds; use a positive number")
    now = int(time.time())
    claims = {
        "sub": subject,
        "aud": settings.current().token_audience,
        "scope": " ".join(sorted(scopes)),
        "iat": now,
        "exp": now + max(1, int(seconds)),
    }
    return jwt.encode(claims, keys()[0], algorithm=ALGORITHM)


def read(token: str) -> Caller:
    """Who calls with *token*; :class:`~feedmill.web.refusals.Refused` with 401 for one that is not right. It is in no message."""
    if len(token) > MAX_LENGTH:
        raise _refused("the token is too long")
    claims: dict[str, Any] | None = None
    expires = 0.0
    for key in keys():
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=settings.current().token_audience,
                leeway=LEEWAY,
                options={"require": ["exp", "aud", "sub"]},
            )
            expires = float(claims["exp"])
            break
        except jwt.InvalidSignatureError:
            continue
        except jwt.ExpiredSignatureError:
            raise _refused("the token has expired") from None
        except jwt.InvalidAudienceError:
            raise _refused("the token is for another audience (aud)") from None
        except jwt.MissingRequiredClaimError:
            raise _refused("the token lacks a claim; it must have sub, aud, exp and scope") from None
        except Exception:  # whatever somebody sends; what is wrong with it may quote it
            raise _refused("the token is not valid") from None
    if claims is None:
        raise _refused("the token is signed with another key")
    subject, scope = claims["sub"], claims.get("scope")
    scopes = frozenset(scope.split() if isinstance(scope, str) else ()) & frozenset(SCOPES)
    if not isinstance(subject, str) or id_problem(subject) or not scopes:
        raise _refused("the token must have sub, a text, and scope: server, or read and write")
    return Caller(subject, scopes, expires)


def _refused(detail: str) -> Refused:
    return Refused(401, detail, WWW_Authenticate=f'{SCHEME} error="invalid_token"')


__all__ = ["Caller", "make", "read"]
