"""Who may do what, over every operation of the description: one that is added cannot be forgotten."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from feedmill.storage.memory import DATA
from feedmill.web.access import Access
from feedmill.web.app import application
from feedmill.web.options import Options
from feedmill.web.route import ACCESS, ServiceRoute
from tests.http_service.samples import Client, loved, path

SITE = "/v1/WebManager"
#: Every operation, from the document.
OPERATIONS = [
    (method.upper(), place, operation)
    for place, operations in application(Options()).openapi()["paths"].items()
    for method, operation in operations.items()
]
NAMES = [f"{method} {place}" for method, place, _ in OPERATIONS]
#: What stands in the paths: there is something of each.
PARTS = {
    "manager": "WebManager",
    "user": "victim",
    "feed": "news",
    "group": "about/7",
    "target": "ann",
    "actor": "ann",
    "object": 7,
}
#: Spellings by which somebody may hope to be taken for another user, given that victim's id.
TRICKS = (
    "{0}", "{0} ", " {0}", "{0}\t", "{0}/", "/{0}", "{0}/../{0}", "../{0}", "./{0}", "{0}/feeds", "x/../{0}", "{0}:", ":{0}", "x:{0}", "user:{0}",
    "{0}}}", "{{{0}}}", "%7B{0}%7D", "{0}%", "%2F{0}", "{0}%00", "{0}#x", "{0}?x", "{0};x", "+{0}", "{0}\u200b", "{0}\u0301",
)  # fmt: skip


@pytest.fixture
def crowd(web_memory: Client) -> Client:
    """The service, with something in all feeds of two victims, one of whom is a number."""
    for user in ("victim", 5):
        body = loved(actor=user, target=user, extra_context={"secret": f"of {user}"})
        assert web_memory.ask("POST", f"{SITE}/activities", json=body).status_code == 202
        web_memory.ask("PUT", f"{SITE}/users/{user}/following/{'victim' if user == 5 else 5}")
    return web_memory


def body_of(operation: dict[str, Any]) -> Any:
    """A body that the operation takes; None if it takes none."""
    if "requestBody" not in operation:
        return None
    (schema,) = re.findall(r"schemas/(\w+)", json.dumps(operation["requestBody"]))
    bodies: dict[str, Any] = {
        "ActivityIn": loved(actor="victim"),
        "OwnActivityIn": {"verb": "love", "object": 9},
        "ActivitiesIn": {"activities": [loved(actor="victim")]},
        "ContextIn": {"extra_context": {}},
        "MarkIn": {},
    }
    return bodies[schema]


def made_by_victim(web: Client) -> str:
    """The id of something that the victim did."""
    made = web.ask("GET", f"{SITE}/users/victim/activities").json()["items"]
    return str(made[0]["id"]) if made else "0" * 32


def tried(web: Client, method: str, place: str, operation: dict[str, Any], token: str | None, **parts: Any) -> Any:
    """The answer of an operation to *token*; a stream is not waited for where it would be opened."""
    if "activity" not in parts:
        parts["activity"] = made_by_victim(web)
    filled = path(place, **{**PARTS, "fanout": "WebManager:none", **parts})
    body = body_of(operation)
    return web.ask(method, filled, token, **({} if body is None else {"json": body}))


def test_all_operations_say_who_may_call_them() -> None:
    """Each has a level of access, and those that take tokens of users name the user; there are operations of all levels."""
    assert {operation[ACCESS] for _, _, operation in OPERATIONS} == {each.value for each in Access}
    for _, place, operation in OPERATIONS:
        if operation[ACCESS] in ("read", "write"):
            assert place.startswith("/v1/{manager}/users/{user}/"), place
        assert ("security" in operation) == (operation[ACCESS] != "anybody"), place
    assert [place for _, place, operation in OPERATIONS if operation[ACCESS] == "anybody"] == [
        "/health/live",
        "/health/ready",
    ]


@pytest.mark.parametrize(("method", "place", "operation"), OPERATIONS, ids=NAMES)
def test_without_a_token(crowd: Client, method: str, place: str, operation: dict[str, Any]) -> None:
    """Nothing is told or done for whoever shows no token, a wrong one, or one that has expired."""
    if operation[ACCESS] == "anybody":
        return
    before = everything()
    for token in (
        None,
        "x",
        "a.b.c",
        crowd.server[:-4] + "AAAA",
        crowd.token("web", "server", seconds=-1000 + 1001)[:-1],
    ):
        answer = tried(crowd, method, place, operation, token)
        assert answer.status_code == 401 and answer.headers["WWW-Authenticate"].startswith("Bearer"), token
        assert token is None or token == "x" or token not in answer.text
    assert everything() == before


def everything() -> Any:
    """All that is stored."""
    groups = {key: (dict(each.records), each.state) for key, each in DATA.groups.items()}
    return (
        dict(DATA.flat),
        groups,
        dict(DATA.counts),
        dict(DATA.bodies),
        sorted(DATA.fanout_records),
        dict(DATA.requests),
    )


@pytest.mark.parametrize("victim", ["victim", 5])
@pytest.mark.parametrize(("method", "place", "operation"), OPERATIONS, ids=NAMES)
def test_a_users_token_is_good_for_that_user_alone(
    crowd: Client, method: str, place: str, operation: dict[str, Any], victim: object
) -> None:
    """Nobody reads, marks, listens to or writes for another, however they spell themselves or the other."""
    if operation[ACCESS] == "anybody":
        return
    before, activity = everything(), made_by_victim(crowd)
    spelled = [each.format(victim) for each in TRICKS] + [
        "05",
        "5.0",
        "5e0",
        "0x5",
        "٥",
        "VICTIM",
        "vıctim",
        "victi",
        "4",
        "attacker",
    ]
    attackers = [each for each in spelled if each != str(victim)]
    for attacker in attackers:
        token = crowd.token(attacker, "read", "write")
        answer = tried(crowd, method, place, operation, token, user=victim, activity=activity)
        assert answer.status_code == 403, (attacker, answer.status_code, answer.text)
        assert "secret" not in answer.text
    token, body = crowd.token("attacker", "read", "write"), body_of(operation)
    for way in (
        "attacker/../{0}",
        "attacker%2F..%2F{0}",
        "{0}%2F..",
        "{0}/",
        "{0}/.",
        "{0}//",
        "{0};attacker",
        "{0}%00",
        "attacker/{0}",
    ):
        filled = path(place.replace("{user}", "§"), **{**PARTS, "activity": activity, "fanout": "WebManager:none"})
        filled = filled.replace("%C2%A7", way.format(victim)).replace("§", way.format(victim))
        answer = crowd.ask(method, filled, token, **({} if body is None else {"json": body}))
        assert answer.status_code in (400, 403, 404, 405) and "secret" not in answer.text, (filled, answer.text)
    assert everything() == before


@pytest.mark.parametrize(("method", "place", "operation"), OPERATIONS, ids=NAMES)
def test_scopes(crowd: Client, method: str, place: str, operation: dict[str, Any]) -> None:
    """A token for reading writes nothing, one for writing reads nothing, and neither is a server's, not even for its own user."""
    level = operation[ACCESS]
    for scope in ("read", "write"):
        token = crowd.token("victim", scope)
        if level == scope or level == "anybody":
            continue
        answer = tried(crowd, method, place, operation, token)
        assert answer.status_code == 403, (scope, answer.text)
    if level == "server":
        assert tried(crowd, method, place, operation, crowd.token("victim", "read", "write")).status_code == 403


@pytest.mark.parametrize(("method", "place", "operation"), OPERATIONS, ids=NAMES)
def test_what_the_tokens_are_good_for(crowd: Client, method: str, place: str, operation: dict[str, Any]) -> None:
    """Whoever may call an operation is not refused: a server all, a user what is theirs; so the tests above test something."""
    if place.endswith("/stream"):
        return  # opened in test_service.py
    allowed = [crowd.server] + (
        [crowd.token("victim", operation[ACCESS])] if operation[ACCESS] in ("read", "write") else []
    )
    for token in allowed:
        answer = tried(crowd, method, place, operation, token)
        assert answer.status_code in (200, 202, 204, 404), answer.text
        assert answer.status_code != 404 or "{fanout}" in place or "{activity}" in place, answer.text


def test_a_user_of_any_spelling_reads_their_own(crowd: Client) -> None:
    """5 and "5" are one, and an id may hold whatever it likes: each comes into their own feeds, and sees nobody else's."""
    for user in ("5", "a/b", "x:5", "%2F", "{5}", "é ü", "a?b#c", "a%2Fb", "+", "~"):
        token = crowd.token(user, "read", "write")
        crowd.ask("POST", path(SITE + "/users/{user}/activities", user=user), token, json={"verb": 3, "object": user})
        answer = crowd.ask("GET", path(SITE + "/users/{user}/activities", user=user), token)
        assert answer.status_code == 200 and answer.json()["items"][0]["object_id"] == user, (user, answer.text)
        assert str(answer.json()["items"][0]["actor_id"]) == user
    assert crowd.ask("GET", f"{SITE}/users/%35/activities", crowd.token("5", "read")).status_code == 200


def test_a_route_that_forgets_the_user_cannot_be_made() -> None:
    """A route that takes tokens of users and names none is refused where it is declared, and so is one without access."""

    async def endpoint() -> None:
        """Nothing."""

    with pytest.raises(ValueError, match="user"):
        ServiceRoute("/v1/all", endpoint, openapi_extra={ACCESS: "read"})
    with pytest.raises(ValueError, match="valid Access"):
        ServiceRoute("/v1/all", endpoint)
