"""What holds for every request: idempotency keys, limits, malformed input, a storage that is away, and pages of other origins."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

import feedmill
from feedmill import verbs
from feedmill.activity import Activity
from feedmill.errors import NewerRecord, StorageError
from feedmill.storage.memory import DATA
from feedmill.storage.registry import backend
from feedmill.web import access, route
from feedmill.web.options import Options
from feedmill.web.refusals import Refused
from tests.http_service.samples import Client, PlainManager, WebManager, client, loved, prompt

SITE = "/v1/WebManager"
ACTIVITIES = f"{SITE}/activities"


def problem_of(answer: httpx.Response, status: int) -> Any:
    """What problem details say."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert found["status"] == status and found["title"] and found["detail"] and found["error"] and found["type"]
    return found


def post(web: Client, key: str, body: Any, token: str = "", place: str = ACTIVITIES) -> httpx.Response:
    return web.ask("POST", place, token, json=body, headers={"Idempotency-Key": key})


# -- idempotency keys


def test_the_same_key_is_the_same_answer(web: Client) -> None:
    """Once it was answered, nothing is done again; a key in quotes is the same as without."""
    first = post(web, '"order-66"', loved())
    time.sleep(0.002)  # without a key it would be another activity
    again = [post(web, key, loved()) for key in ('"order-66"', "order-66")]
    assert {(each.status_code, each.text, each.headers["location"]) for each in again} == {
        (first.status_code, first.text, first.headers["location"])
    }
    assert [each.headers.get("Idempotent-Replayed") for each in (first, *again)] == [None, "true", "true"]
    assert len(web.ask("GET", f"{SITE}/users/bob/feeds/home").json()["items"]) == 1


def test_another_request_with_the_key(web: Client) -> None:
    """Another body, path, query or method is refused; another caller's key is another key."""
    place = f"{SITE}/users/ann/activities"
    body = {"verb": "love", "object": 1}
    ann, bob = (web.token(name, "write") for name in ("ann", "bob"))
    first = post(web, "k", body, ann, place)
    assert problem_of(post(web, "k", {**body, "object": 2}, ann, place), 422)["error"] == "IdempotencyKeyReused"
    for method, other in (("DELETE", f"{place}/{first.json()['id']}"), ("DELETE", f"{place}/{'0' * 32}")):
        problem_of(web.ask(method, other, ann, headers={"Idempotency-Key": "k"}), 422)
    assert post(web, "k", body, bob, f"{SITE}/users/bob/activities").status_code == 202
    assert post(web, "k", body, "", place).headers.get("Idempotent-Replayed") is None
    assert web.ask("GET", place, web.token("ann", "read"), headers={"Idempotency-Key": "k"}).status_code == 200


def test_refusals_are_answers_too(web: Client) -> None:
    """What was not there stays so for the key."""
    first, again = (web.ask("DELETE", f"{ACTIVITIES}/{'0' * 32}", headers={"Idempotency-Key": "b"}) for _ in range(2))
    assert first.status_code == 404 and first.text == again.text
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["content-type"] == first.headers["content-type"]


def test_refusals_that_are_not_kept(web: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of malformed requests nothing is kept, nor are long refusals: nothing was done."""

    async def refusing(self: Any, activity: Activity) -> Any:
        raise Refused(404, "x" * route.LONGEST_KEPT)

    monkeypatch.setattr(WebManager, "aadd_activity", refusing)
    for key, body, status in (("a", {"actor": "ann"}, 400), ("b", loved(), 404)):
        first, again = post(web, key, body), post(web, key, body)
        assert first.status_code == status and first.text == again.text
        assert "Idempotent-Replayed" not in again.headers


def test_two_at_once(web: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one is being carried out, others with its key are told to come again; then they get its answer."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(self: Any, activity: Activity) -> Any:
        begun.set()
        await go_on.wait()
        return await plain(self, activity)

    plain = WebManager.aadd_activity
    monkeypatch.setattr(WebManager, "aadd_activity", slow)

    async def both() -> tuple[httpx.Response, httpx.Response, httpx.Response]:
        ask = {"json": loved(), "headers": {"Idempotency-Key": "k"}}
        first = asyncio.ensure_future(web.aask("POST", ACTIVITIES, **ask))
        await begun.wait()
        second = await web.aask("POST", ACTIVITIES, **ask)
        go_on.set()
        return await first, second, await web.aask("POST", ACTIVITIES, **ask)

    first, second, third = web.run(both())
    assert problem_of(second, 409)["error"] == "IdempotencyKeyInUse" and second.headers["Retry-After"] == "1"
    assert first.status_code == 202 and third.text == first.text


def test_what_failed_is_carried_out_anew(web: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking again after a failure does it, and makes the activity of the same moment: if it was accepted, it is the same one."""
    plain, made = WebManager.aadd_activity, list[Activity]()

    async def failing(self: Any, activity: Activity) -> Any:
        made.append(activity)
        await plain(self, activity)
        raise StorageError("the answer was lost")

    monkeypatch.setattr(WebManager, "aadd_activity", failing)
    problem_of(post(web, "k", loved()), 503)
    monkeypatch.setattr(WebManager, "aadd_activity", plain)
    time.sleep(0.002)
    again = post(web, "k", loved())
    assert again.status_code == 202 and again.json()["id"] == made[0].id
    assert len(web.ask("GET", f"{SITE}/users/bob/feeds/home").json()["items"]) == 1


def test_a_process_that_died(web: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it had begun can be begun again when its time is over, and is then of the moment when it came first."""
    monkeypatch.setattr(route, "HELD_LONGER", -30_000 + 1)

    async def dying(*_: Any) -> None:
        raise KeyboardInterrupt

    log = backend().auxiliary.request_log
    with monkeypatch.context() as patch:
        patch.setattr(type(log), "end", lambda *_: iter(()))  # as if it had died before this
        first = post(web, "k", loved())
    time.sleep(0.02)
    again = post(web, "k", loved())
    assert again.text == first.text and "Idempotent-Replayed" not in again.headers
    assert post(web, "k", loved()).headers["Idempotent-Replayed"] == "true"


def test_what_is_begun_is_not_forgotten(memory: None, keyed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """However short answers are kept, what is being carried out is known for longer than it is held."""
    left = list[int]()

    async def looking(self: Any, activity: Activity) -> Any:
        left.extend(each.kept_until - each.held_until for each in DATA.requests.values())
        return await plain(self, activity)

    plain = WebManager.aadd_activity
    monkeypatch.setattr(WebManager, "aadd_activity", looking)
    with prompt(monkeypatch), client(Options(answers_kept=1)) as web:
        assert post(web, "k", loved()).status_code == 202
    assert len(left) == 1 and left[0] >= 1_000_000


@pytest.mark.parametrize("key", ["", " ", '"', '""', "a b", "x" * 256, '"x', "a\\b", "é".encode("latin-1")])
def test_keys_that_are_none(web_memory: Client, key: Any) -> None:
    """They are refused."""
    problem_of(web_memory.ask("POST", ACTIVITIES, json=loved(), headers={"Idempotency-Key": key}), 400)


def test_answers_name_nobody(web: Client) -> None:
    """Neither the name under which an answer is kept nor a rate limit names the caller."""
    names = [access.hashed(found, "key") for found in (access.Caller("ann", frozenset({"read"}), 0.0),)]
    assert all("ann" not in each and len(each) == 32 for each in names)


# -- limits


@pytest.fixture
def strict(backend_kind: str, keyed: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A service with low limits."""
    options = Options(user_rate=0.001, user_burst=3, server_rate=0.001, server_burst=200, max_body=500, user_streams=1)
    with prompt(monkeypatch), client(options) as found:
        yield found


def test_the_rate_of_a_user(strict: Client) -> None:
    """A burst, then no more, whatever is asked for; other callers have limits of their own."""
    ann, bob = (strict.token(name, "read", "write") for name in ("ann", "bob"))
    counts = f"{SITE}/users/ann/notifications/counts"
    assert strict.ask("GET", counts, ann).status_code == 200
    assert strict.ask("GET", f"{SITE}/users/ann/feeds/home", ann).status_code == 200
    assert strict.ask("POST", f"{SITE}/users/ann/activities", ann, json={"verb": 3, "object": 1}).status_code == 202
    for method, place, body in (
        ("GET", counts, None),
        ("GET", f"{SITE}/users/ann/feeds/home", None),
        ("GET", f"{SITE}/users/ann/feeds/news", None),
        ("GET", f"{SITE}/users/ann/notifications", None),
        ("GET", f"{SITE}/users/ann/stream", None),
        ("POST", f"{SITE}/users/ann/notifications/mark", {}),
        ("POST", f"{SITE}/users/ann/activities", {"verb": 3, "object": 2}),
    ):
        answer = strict.ask(method, place, ann, **({} if body is None else {"json": body}))
        problem_of(answer, 429)
        assert 900 < int(answer.headers["Retry-After"]) <= 1000
    assert strict.ask("GET", f"{SITE}/users/bob/notifications/counts", bob).status_code == 200
    assert len(strict.ask("GET", f"{SITE}/users/bob/feeds/home").json()["items"]) == 1


def test_every_operation_counts(strict: Client) -> None:
    """Whatever operation a server calls, once its burst is used up it is told to wait."""
    answers = 0
    while strict.ask("GET", f"{SITE}/users/bob/notifications/counts").status_code == 200:
        answers += 1
    assert answers == 200
    for place, operations in strict.app.openapi()["paths"].items():
        for method, operation in operations.items():
            if operation[route.ACCESS] != "anybody":
                filled = place.replace("{activity}", "0" * 32).replace("{manager}", "WebManager")
                filled = filled.replace("{feed}", "news").replace("{", "").replace("}", "")
                options = {"json": {}} if "requestBody" in operation else {}
                answer = strict.ask(method.upper(), filled, **options)
                assert answer.status_code == 429, (method, place, answer.text)


@pytest.mark.parametrize("place", ["feeds/none", "feeds/home?cursor=x", "feeds/home?limit=0", "feeds/home?limt=1"])
def test_what_is_wrong_counts(backend_kind: str, keyed: None, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Whoever asks for what is not there, or makes no sense, uses up their burst."""
    with prompt(monkeypatch), client(Options(user_rate=0.001, user_burst=2)) as web:
        ann = web.token("ann", "read")
        statuses = [web.ask("GET", f"{SITE}/users/ann/{place}", ann).status_code for _ in range(6)]
    assert set(statuses[:2]) <= {400, 404} and statuses[2:] == [429] * 4


def test_large_bodies(strict: Client) -> None:
    """What is too large is refused before it is read: by its declared length, or as soon as it is too long."""
    read = 0

    async def chunks(count: int) -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(count):
            read += 1
            yield b"x" * 100

    kind = {"Content-Type": "application/json"}
    answer = strict.ask("POST", ACTIVITIES, content=chunks(1000), headers={**kind, "Content-Length": "100000"})
    assert problem_of(answer, 413)["error"] == "TooLarge" and answer.headers["Connection"] == "close" and read <= 1
    read = 0
    problem_of(strict.ask("POST", ACTIVITIES, content=chunks(1000), headers=kind), 413)
    assert read <= 7
    for declared in ("9" * 30, "501"):
        problem_of(strict.ask("POST", ACTIVITIES, content=b"", headers={**kind, "Content-Length": declared}), 413)
    assert strict.ask("POST", ACTIVITIES, json=loved(extra_context={"x": "y" * 300})).status_code == 202
    problem_of(strict.ask("POST", ACTIVITIES, "wrong", content=chunks(1000), headers=kind), 401)


@pytest.fixture
def hasty(memory: None, keyed: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A service that gives requests no time."""
    with prompt(monkeypatch), client(Options(timeout=0.3)) as found:
        yield found


def test_slow_requests(hasty: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A body that does not come is given up, and so is an operation that does not end, whatever it waits for."""

    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(600)

    begun = time.monotonic()
    problem_of(hasty.ask("POST", ACTIVITIES, content=never(), headers={"Content-Type": "application/json"}), 408)

    async def sleeping(*_: Any) -> None:
        await asyncio.sleep(600)

    def gives_up(method: str, place: str, **options: Any) -> None:
        caplog.clear()
        answer = hasty.ask(method, place, **options)
        assert problem_of(answer, 503)["error"] == "Timeout" and answer.headers["Retry-After"]
        assert "was not answered within" in caplog.text

    monkeypatch.setattr(WebManager, "aadd_activity", sleeping)
    gives_up("POST", ACTIVITIES, json=loved())
    monkeypatch.setattr(WebManager, "afollow", sleeping)
    gives_up("PUT", f"{SITE}/users/bob/following/ann")
    monkeypatch.setattr(access, "count", sleeping)  # a storage that is slow before the body is read
    gives_up("POST", ACTIVITIES, json=loved())
    assert time.monotonic() - begun < 60


def test_streams_of_one_user(strict: Client) -> None:
    """Beyond the limit they are refused; one that is closed makes room."""
    gate, ann = strict.app.state.gate, access.Caller("ann", frozenset({"read"}), 0.0)
    with gate.streaming(ann):
        with pytest.raises(Refused, match="1 streams are open"), gate.streaming(ann):
            pass
        with gate.streaming(ann._replace(subject="bob")), gate.streaming(ann._replace(scopes=frozenset({"server"}))):
            pass
        problem_of(strict.ask("GET", f"{SITE}/users/ann/stream", strict.token("ann", "read")), 429)
    with gate.streaming(ann):
        pass
    assert not gate._streams


def test_streams_at_once(memory: None, keyed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several that are asked for at once no more are opened than may be; the others are refused."""
    monkeypatch.setattr("feedmill.web.feeds.STREAM_LIFETIME", 1.0)
    with prompt(monkeypatch), client(Options(user_streams=1)) as web:
        ann = web.token("ann", "read")

        async def three() -> list[httpx.Response]:
            return await asyncio.gather(*(web.aask("GET", f"{SITE}/users/ann/stream", ann) for _ in range(3)))

        one, *others = sorted(web.run(three()), key=lambda each: each.status_code)
        assert one.status_code == 200 and "event: counts" in one.text
        for each in others:
            problem_of(each, 429)
            assert each.headers["Retry-After"]


def test_a_badge_costs_one_round_trip(redis_url: str, keyed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The count of the request travels with what it reads: the badge, and a page of notifications, are one round trip each."""
    with prompt(monkeypatch), client() as web:
        ann = web.token("ann", "read")
        places = [
            f"{SITE}/users/ann/notifications/counts",
            f"{SITE}/users/ann/notifications",
            f"{SITE}/users/ann/feeds/news",
        ]
        for token in (ann, web.server):
            for place in places:
                web.ask("GET", place, token)
                before = backend().round_trips  # type: ignore[attr-defined]
                assert web.ask("GET", place, token).status_code == 200
                assert backend().round_trips - before == 1, place  # type: ignore[attr-defined]


# -- malformed requests

_JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"null", b"[]", b"1", b'"x"', b"\xff\xfe", b"\xef\xbb\xbf{}", b"\0", b"NaN", b"{}x"),
        *(
            b"[" * 100_000,
            b'{"a":' * 50_000,
            b'{"actor": NaN, "verb": 1, "object": 1}',
            b'{"actor": "a", "verb": 1e400, "object": 1}',
        ),
        b'{"actor": ' + b"9" * 5000 + b', "verb": 1, "object": 1}',
        *(b'{"actor": "\\ud800", "verb": 1, "object": 1}', b'{"actor": "a\\u0000b", "verb": 1, "object": 1}'),
        b'{"actor": "a", "verb": 1, "object": 1, "extra_context": {"x": "\\udfff\\udfff"}}',
        b'{"actor": "a", "verb": 1, "object": 1, "extra_context": {"\\ud800": 1}}',
        b'{"actor": "a", "verb": 1, "object": 1, "extra_context": {"x": 1e999}}',
        b'{"actor": "a", "verb": 1, "object": 1, "extra_context": {"x": 99999999999999999999999}}',
        b'{"actor": "a", "verb": 1, "object": 1, "extra_context": {"x": ' + b"[" * 40 + b"]" * 40 + b"}}",
        *(
            b'{"actor": 18446744073709551616, "verb": 1, "object": 1}',
            b'{"actor": -9223372036854775809, "verb": 1, "object": 1}',
        ),
        *(
            b'{"actor": 1.0, "verb": 1, "object": 1}',
            b'{"actor": true, "verb": 1, "object": 1}',
            b'{"actor": "", "verb": 1, "object": 1}',
        ),
        b'{"actor": "' + b"x" * 256 + b'", "verb": 1, "object": 1}',
        *(
            b'{"actor": "a", "verb": 99, "object": 1}',
            b'{"actor": "a", "verb": "Love", "object": 1}',
            b'{"actor": "a", "verb": null, "object": 1}',
        ),
        b'{"actor": "a", "verb": 1, "object": 1, "extra_context": [1]}',
        b'{"actor": "a", "verb": 1, "object": 1, "unknown": 1}',
        b'{"actor": {"id": 1}, "verb": 1, "object": 1}',
    ],
    ids=lambda body: body[:60].decode(errors="replace"),
)
def test_malformed_bodies(web_memory: Client, body: bytes) -> None:
    """Each is refused with what is wrong, and nothing is written."""
    problem_of(web_memory.ask("POST", ACTIVITIES, content=body, headers=_JSON), 400)
    assert web_memory.ask("GET", f"{SITE}/users/bob/feeds/home").json()["items"] == []


def test_what_is_said_of_long_bodies(web_memory: Client) -> None:
    """However many fields are wrong, and however long their names, a few are named in a short answer."""
    body = loved(**{f"{number}" + "x" * 1000: 1 for number in range(500)})
    answer = post(web_memory, "k", body)
    (place,) = problem_of(answer, 400)["errors"]
    assert place["where"] == "body" and "'0xxx" in place["reason"] and "499x" not in answer.text
    assert len(answer.content) < 2000 and not any(each.answer for each in DATA.requests.values())
    bulk = web_memory.ask("POST", f"{ACTIVITIES}/bulk", json={"activities": [body, loved()]})
    assert [each["status"] for each in bulk.json()["items"]] == ["refused", "accepted"] and len(bulk.content) < 2000
    marks = web_memory.ask("POST", f"{SITE}/users/ann/notifications/mark", json={"groups": [5] * 1000})
    assert len(problem_of(marks, 400)["errors"]) == 10


def test_a_pair_of_surrogates_is_a_character(web_memory: Client) -> None:
    """JSON spells what is beyond the basic plane with two escapes."""
    body = b'{"actor": "\\ud83d\\ude00", "verb": 1, "object": 1}'
    assert web_memory.ask("POST", ACTIVITIES, content=body, headers=_JSON).status_code == 202
    assert web_memory.ask("GET", f"{SITE}/users/bob/feeds/home").json()["items"][0]["actor_id"] == "\U0001f600"


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "a/b; application/json"]
)
def test_other_types_of_bodies(web_memory: Client, kind: str) -> None:
    """A body must say that it is JSON: no form of another site can send that."""
    problem_of(web_memory.ask("POST", ACTIVITIES, content=b"{}", headers={"Content-Type": kind}), 415)


@pytest.mark.parametrize(
    "place",
    [
        *("/users/%FF/feeds/home", "/users/%C3%28/feeds/home", "/users/%00/feeds/home", "/users/a%0Ab/feeds/home"),
        *("/users/" + "x" * 256 + "/feeds/home", "/users/x/feeds/home?limit=1&limt=2", "/users/x/feeds/home?%00=1"),
        *("/activities/xyz", "/activities/" + "0" * 31, "/activities/" + "٠" * 32, "/users/x/notifications?seen=maybe"),
    ],
)
def test_malformed_paths(web_memory: Client, place: str) -> None:
    """Each is refused with what is wrong."""
    problem_of(web_memory.ask("GET", SITE + place), 400)


@pytest.mark.parametrize(
    "place",
    [
        "/",
        "/v1/",
        "/v1//users/x/feeds/home",
        "/v1/WebManager/users//feeds/home",
        "/v1/WebManager/us%65rs/x/activities",
        "/docs",
        "/redoc",
        "/v2",
    ],
)
def test_other_paths(web_memory: Client, place: str) -> None:
    """There is nothing, and no redirection."""
    problem_of(web_memory.ask("GET", place), 404)
    problem_of(web_memory.ask("DELETE", "/v1"), 405)


def test_a_verb_that_two_have(web_memory: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name says not which; its id does."""

    class Fancy(verbs.Verb):
        id = 4711
        infinitive = "love"
        past_tense = "fancied"

    monkeypatch.setitem(verbs._verbs, 4711, Fancy)
    assert "several verbs" in problem_of(web_memory.ask("POST", ACTIVITIES, json=loved()), 400)["detail"]
    assert web_memory.ask("POST", ACTIVITIES, json=loved(verb=4711)).status_code == 202


def test_tokens_are_not_logged(web_memory: Client, caplog: pytest.LogCaptureFixture) -> None:
    """Neither a right one nor a wrong one, nor what is wrong with values."""
    caplog.set_level(logging.DEBUG)
    for token in (web_memory.server, "secret.secret.secret"):
        answer = web_memory.ask("GET", f"{SITE}/users/x/feeds/home?cursor=x", token)
        assert token not in caplog.text and token not in answer.text
    assert "sekrit" not in web_memory.ask("POST", ACTIVITIES, json=loved(actor={"sekrit": 1})).text


# -- what goes wrong inside


def test_a_storage_that_is_away(keyed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is asked for, it passes: 503, and when to come again; the answer names no server."""
    feedmill.configure(redis_url="redis://127.0.0.1:1/0?socket_connect_timeout=0.1")
    monkeypatch.setattr("feedmill.storage.redis.client.RETRIES", 0)
    with prompt(monkeypatch), client() as web:
        for token in (web.server, web.token("ann", "read", "write")):
            for method, place, body in (
                ("GET", "/users/ann/notifications/counts", None),
                ("POST", "/users/ann/activities", {"verb": 3, "object": 1}),
            ):
                for more in ({}, {"Idempotency-Key": "k"}):
                    answer = web.ask(
                        method, SITE + place, token, headers=more, **({} if body is None else {"json": body})
                    )
                    problem_of(answer, 503)
                    assert int(answer.headers["Retry-After"]) > 0 and "127.0.0.1" not in answer.text
        ready = web.ask("GET", "/health/ready", None)
        assert ready.status_code == 503 and ready.json()["storage"] is False and "127" not in ready.text
        assert web.ask("GET", "/health/live", None).status_code == 200


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError("secret"), 500), (NewerRecord("newer"), 503), (verbs.UnknownVerb("x"), 500)]
)
def test_errors_of_the_app(
    web_memory: Client, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """What the app's own code raises is logged, and told to nobody."""

    def failing(self: Any, activity: Activity) -> Any:
        raise error

    async def afailing(self: Any, activity: Activity) -> Any:
        raise error

    monkeypatch.setattr(WebManager, "aadd_activity", afailing)
    assert "secret" not in str(problem_of(web_memory.ask("POST", ACTIVITIES, json=loved()), status))
    assert str(error) in caplog.text


def test_pages_of_other_origins(web_memory: Client, keyed: None) -> None:
    """By default no page of another origin may call; those that the operator names may, with a token."""
    asks = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }
    place = f"{SITE}/users/x/feeds/home"
    assert web_memory.ask("OPTIONS", place, None, headers=asks).status_code == 405
    assert "access-control-allow-origin" not in web_memory.ask("GET", place, headers=asks).headers
    with client(Options(allowed_origins=("https://app.example",))) as web:
        answer = web.ask("OPTIONS", place, None, headers=asks)
        assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == "https://app.example"
        assert "access-control-allow-credentials" not in answer.headers
        assert web.ask("GET", place, headers=asks).headers["access-control-allow-origin"] == "https://app.example"
        assert web.ask("OPTIONS", place, None, headers={**asks, "Origin": "https://evil.example"}).status_code == 400


def test_a_manager_of_its_own_storage(web_memory: Client) -> None:
    """Whatever a manager lacks, others have it: the plain one reads its one feed."""
    assert web_memory.ask("GET", f"/v1/{PlainManager.name}/users/bob/feeds/home").json() == {
        "items": [],
        "next": None,
        "shown": None,
    }


def test_options() -> None:
    """What makes no sense is refused by name."""
    for wrong in (
        {"user_rate": -1},
        {"timeout": 0},
        {"max_body": 0},
        {"user_burst": 1.5},
        {"allowed_origins": "x"},
        {"server_rate": float("inf")},
    ):
        with pytest.raises(feedmill.errors.SettingsError, match=next(iter(wrong))):
            Options(**wrong)  # type: ignore[arg-type]
