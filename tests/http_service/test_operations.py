"""Each operation of the HTTP service, on both backends."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from tests.http_service.samples import Client, loved, path

SITE = "/v1/WebManager"


def added(web: Client, **body: Any) -> dict[str, Any]:
    answer = web.ask("POST", f"{SITE}/activities", json=loved(**body))
    assert answer.status_code == 202, answer.text
    return answer.json()  # type: ignore[no-any-return]


def items(web: Client, place: str) -> list[Any]:
    answer = web.ask("GET", f"{SITE}{place}")
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]  # type: ignore[no-any-return]


def test_an_activity_comes_into_all_feeds(web: Client) -> None:
    """What is added is in flat and aggregated feeds, in the author's own, in notifications, and can be read by its id."""
    made = added(web, target="cleo", time="2026-02-03T04:05:06.5+01:00", extra_context={"text": "hé\0", "n": [1, None]})
    (home,) = items(web, "/users/bob/feeds/home")
    assert home["id"] == made["id"] and home["time"] == "2026-02-03T03:05:06.500000+00:00"
    assert home["extra_context"] == {"text": "hé\0", "n": [1, None]} and home["verb"]["name"] == "love"
    (group,) = items(web, "/users/5/feeds/news")
    assert group["group"] == "about/7" and group["activities"] == [home]
    assert items(web, "/users/a%2Fb/feeds/home") == items(web, "/users/ann/activities") == [home]
    (note,) = items(web, "/users/cleo/notifications")
    assert note["activities"] == [home] and not note["is_seen"]
    assert web.ask("GET", f"{SITE}/activities/{made['id'].upper()}").json() == home
    status = web.ask("GET", web.ask("POST", f"{SITE}/activities", json=loved()).headers["Location"]).json()
    assert status["finished"] and status["op"] == "add" and status["reached"] == 3


def test_ids_are_numbers_or_texts(web: Client) -> None:
    """A number comes back as one, also the largest, and a text as a text; a number in a path is the user's."""
    added(web, actor=2**64 - 1, object="post:5", target=-(2**63))
    (note,) = items(web, f"/users/{-(2**63)}/notifications")
    assert (note["actor_ids"], note["object_ids"]) == ([2**64 - 1], ["post:5"])
    web.ask("POST", f"{SITE}/users/5/activities", json={"verb": 3, "object": "6"})
    assert items(web, "/users/5/activities")[0]["actor_id"] == 5


def test_bulk(web: Client) -> None:
    """Each item has a result in its place; a wrong one says what is wrong with it, and harms no other."""
    wrong = [
        {},
        None,
        [],
        loved(actor=1.5),
        loved(actor=True),
        loved(verb="fly"),
        loved(more=1),
        loved(time="2026-02-03"),
    ]
    wrong += [loved(about=""), loved(about="a\0b"), loved(actor=2**64), loved(extra_context={"x": 2**70})]
    wrong += [loved(time="2999-01-01T00:00:00Z"), loved(extra_context={"x": "y" * 70_000})]
    good = [loved(about=1), loved(about=2, actor="bo"), loved(about=1)]
    answer = web.ask("POST", f"{SITE}/activities/bulk", json={"activities": [good[0], *wrong, *good[1:]]}).json()
    assert (answer["accepted"], answer["refused"]) == (3, len(wrong))
    assert [each["status"] for each in answer["items"]] == [
        "accepted",
        *["refused"] * len(wrong),
        "accepted",
        "accepted",
    ]
    assert all(bool(each["reason"]) == (each["fanout"] is None) == (each["id"] is None) for each in answer["items"])
    assert answer["items"][0]["id"] == answer["items"][-1]["id"], "the same at the same time is the same"
    assert len(items(web, "/users/bob/feeds/home")) == 2
    assert web.ask("POST", f"{SITE}/activities/bulk", json={"activities": []}).status_code == 400
    assert web.ask("POST", f"{SITE}/activities/bulk", json={"activities": [loved()] * 1001}).status_code == 400


def test_change_and_remove(web: Client) -> None:
    """A context is replaced wherever it is shown; what is removed is gone, and removing it twice is no harm."""
    made = added(web, target="cleo", extra_context={"text": "one"})
    answer = web.ask("PATCH", f"{SITE}/activities/{made['id']}", json={"extra_context": {"text": "two"}})
    assert answer.status_code == 202 and answer.json()["id"] == made["id"]
    assert items(web, "/users/cleo/notifications")[0]["activities"][0]["extra_context"] == {"text": "two"}
    for _ in range(2):
        answer = web.ask("DELETE", f"{SITE}/activities/{made['id']}")
        assert answer.status_code == 202 and answer.json()["id"] == made["id"]
    assert items(web, "/users/bob/feeds/home") == items(web, "/users/cleo/notifications") == []
    for method, more in (("GET", {}), ("PATCH", {"json": {"extra_context": {}}}), ("DELETE", {})):
        assert web.ask(method, f"{SITE}/activities/{'0' * 32}", **more).status_code == 404


def test_ones_own_activities(web: Client) -> None:
    """A user adds, changes and removes in their own name alone; what others did is as if it were not there."""
    ann, bob = (web.token(name, "read", "write") for name in ("ann", "bob"))
    made = web.ask("POST", f"{SITE}/users/ann/activities", ann, json={"verb": "love", "object": 7}).json()
    other = f"{SITE}/users/bob/activities/{made['id']}"
    assert web.ask("PATCH", other, bob, json={"extra_context": {"a": 1}}).status_code == 404
    assert web.ask("DELETE", other, bob).status_code == 404
    mine = f"{SITE}/users/ann/activities/{made['id']}"
    assert web.ask("PATCH", mine, ann, json={"extra_context": {"a": 1}}).status_code == 202
    assert items(web, "/users/ann/activities")[0]["extra_context"] == {"a": 1}
    body = {"verb": "love", "object": 7, "actor": "bob"}
    assert web.ask("POST", f"{SITE}/users/ann/activities", ann, json=body).status_code == 400
    for _ in range(2):  # the second completes what the first had begun, if that died
        assert web.ask("DELETE", mine, ann).status_code == 202
    assert items(web, "/users/ann/activities") == []
    assert web.ask("DELETE", f"{SITE}/users/ann/activities/{'0' * 32}", ann).status_code == 404


def test_remove_by_object_actor_and_user(web: Client) -> None:
    """All about an object goes, all of an actor out of one user's feeds, and all of a user."""
    for actor in ("ann", "bo"):
        added(web, actor=actor, about="post:1")
        added(web, actor=actor, about=2, target="post:1")
    web.ask("DELETE", f"{SITE}/objects/post%3A1")
    assert {each["object_id"] for each in items(web, "/users/bob/feeds/home")} == {2}
    web.ask("DELETE", f"{SITE}/users/bob/actors/bo")
    assert {each["actor_id"] for each in items(web, "/users/bob/feeds/home")} == {"ann"}
    assert len(items(web, "/users/5/feeds/home")) == 2
    assert web.ask("DELETE", f"{SITE}/users/ann").json()["fanout"]["op"] == "delete_user"
    assert items(web, "/users/bob/feeds/home") == items(web, "/users/ann/activities") == []
    web.ask("DELETE", f"{SITE}/objects/post%3A1?as_target=true")
    assert items(web, "/users/5/feeds/home") == []


@pytest.mark.parametrize(
    "place", ["/users/bob/feeds/home", "/users/bob/feeds/news", "/users/ann/activities", "/users/cleo/notifications"]
)
def test_pages(web: Client, place: str) -> None:
    """From page to page each item is shown once; a cursor of another feed, or none at all, is refused."""
    bodies = [loved(about=number, target="cleo", time=f"2026-02-03T04:05:{number:02}Z") for number in range(7)]
    web.ask("POST", f"{SITE}/activities/bulk", json={"activities": bodies})
    seen, cursor = [], None
    while True:
        answer = web.ask("GET", f"{SITE}{place}", params={"limit": 3, **({"cursor": cursor} if cursor else {})}).json()
        seen += [each.get("id") or each["group"] for each in answer["items"]]
        cursor = answer["next"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 7
    for wrong in ("x", "A" * 4000, "A" * 5000, "\0"):
        assert web.ask("GET", f"{SITE}{place}", params={"cursor": wrong}).status_code == 400
    for limit in ("0", "101", "1e3", "x", "", "9" * 5000):
        assert web.ask("GET", f"{SITE}{place}", params={"limit": limit}).status_code == 400


def test_actors_of_a_group(web: Client) -> None:
    """All who did what a group shows, in pages; a group that is not there has none, and a flat feed has no groups."""
    actors = [f"user{number}" for number in range(40)]
    bodies = [loved(actor=actor, target="cleo") for actor in actors]
    web.ask("POST", f"{SITE}/activities/bulk", json={"activities": bodies})
    (note,) = items(web, "/users/cleo/notifications?activities=1")
    assert len(note["activities"]) == 1 and note["actor_count"] == 40
    for place in (
        path("/users/bob/feeds/news/groups/{group}/actors", group="about/7"),
        path("/users/cleo/notifications/groups/{group}/actors", group=note["group"]),
    ):
        first = web.ask("GET", f"{SITE}{place}?limit=30").json()
        rest = web.ask("GET", f"{SITE}{place}", params={"limit": 30, "cursor": first["next"]}).json()
        assert sorted(first["items"] + rest["items"]) == sorted(actors) and rest["next"] is None
        assert items(web, place.replace("about", "other").replace(note["group"], "other")) == []
    assert web.ask("GET", f"{SITE}/users/bob/feeds/home/groups/x/actors").status_code == 404
    assert web.ask("GET", f"{SITE}/users/bob/feeds/news/groups/%00/actors").status_code == 400


def test_marks_and_counts(web: Client) -> None:
    """What was shown is marked, and nothing that came later; one group, all of them, and back."""

    def counts() -> tuple[int, int]:
        answer = web.ask("GET", f"{SITE}/users/cleo/notifications/counts").json()
        return answer["unseen"], answer["unread"]

    def mark(**body: Any) -> int:
        return web.ask("POST", f"{SITE}/users/cleo/notifications/mark", json=body).status_code

    for number in range(3):
        added(web, about=number, target="cleo")
    page = web.ask("GET", f"{SITE}/users/cleo/notifications").json()
    added(web, about=9, target="cleo")
    assert counts() == (4, 4)
    assert mark(until=page["revision"]) == 204 and counts() == (1, 4)
    assert mark(groups=page["items"][:1], seen=None, read=True) == 204 and counts() == (1, 3)
    assert mark(groups=[page["items"][1]["group"]], read=True) == 204 and counts() == (1, 2)
    assert (
        mark(groups=[{"group": page["items"][1]["group"], "revision": page["items"][1]["revision"]}], read=False) == 204
    )
    assert counts() == (1, 3)
    assert len(items(web, "/users/cleo/notifications?seen=false")) == 1
    assert len(items(web, "/users/cleo/notifications?read=true&seen=true")) == 1
    assert mark() == 204 and counts() == (0, 3)
    assert mark(seen=False, read=True) == 204 and counts() == (4, 0)
    for wrong in (
        {"seen": 1},
        {"seen": "true"},
        {"groups": "x"},
        {"groups": [1]},
        {"groups": [{}]},
        {"until": "x"},
        {"all": True},
    ):
        assert mark(**wrong) == 400, wrong
    assert mark(groups=[{"group": "x", "revision": "y"}]) == mark(groups=["\0"]) == 400
    assert mark(groups=[]) == 204 and counts() == (4, 0)


def test_follow_and_unfollow(web: Client) -> None:
    """The newest of whom one follows come, and go; nobody follows themselves."""
    for number in range(3):
        added(web, about=number, time=f"2026-02-03T04:05:0{number}Z")
    answer = web.ask("PUT", f"{SITE}/users/eve/following/ann?limit=2")
    assert answer.status_code == 202 and answer.json()["fanout"]["op"] == "follow" and answer.json()["id"] is None
    assert [each["object_id"] for each in items(web, "/users/eve/feeds/home")] == [2, 1]
    assert web.ask("DELETE", f"{SITE}/users/eve/following/ann").json()["fanout"]["op"] == "unfollow"
    assert items(web, "/users/eve/feeds/home") == []
    assert web.ask("PUT", f"{SITE}/users/ann/following/ann").status_code == 400
    assert web.ask("PUT", f"{SITE}/users/5/following/5").status_code == 400


def test_fanouts(web: Client) -> None:
    """The status of one that is done; nothing of one that never was, or that is another manager's."""
    made = added(web)["fanout"]["id"]
    found = web.ask("GET", path(SITE + "/fanouts/{fanout}", fanout=made)).json()
    assert found["id"] == made and found["finished"] and not found["cancelled"]
    assert web.ask("DELETE", path(SITE + "/fanouts/{fanout}", fanout=made)).json() == {"cancelled": False}
    for wrong in (
        "x",
        "WebManager:",
        "WebManager:none",
        "PlainManager:none",
        "WebManager:a:b",
        "WebManager:}",
        ":",
        "é\n",
    ):
        assert web.ask("GET", path(SITE + "/fanouts/{fanout}", fanout=wrong)).status_code == 404, wrong
    assert web.ask("DELETE", path(SITE + "/fanouts/{fanout}", fanout="PlainManager:none")).status_code == 404
    assert web.ask("GET", path("/v1/PlainManager/fanouts/{fanout}", fanout=made)).status_code == 404


def test_what_a_manager_does_not_have(web: Client) -> None:
    """Each is not found, and says what is missing."""
    plain = "/v1/PlainManager"
    for method, place in (
        ("GET", "/users/bob/notifications"),
        ("GET", "/users/bob/notifications/counts"),
        ("GET", "/users/bob/notifications/groups/x/actors"),
        ("GET", "/users/bob/activities"),
        ("GET", "/users/bob/feeds/none"),
        ("GET", "/users/bob/stream"),
        ("GET", "/users/bob/stream?feed=home&shown=x"),
        ("PUT", "/users/bob/following/ann"),
        ("DELETE", "/users/bob/following/ann"),
        ("DELETE", "/objects/5"),
        ("DELETE", "/users/bob"),
    ):
        answer = web.ask(method, plain + place)
        assert answer.status_code == 404 and answer.json()["detail"], (method, place, answer.text)
    assert web.ask("GET", "/v1/None/users/bob/feeds/home").status_code == 404


def test_the_description_of_managers(web: Client) -> None:
    """Names of managers, feeds and verbs that paths and bodies may have."""
    found = web.ask("GET", "/v1").json()
    assert [each["name"] for each in found["managers"]] == ["PlainManager", "WebManager"]
    assert found["managers"][1] == {
        "name": "WebManager",
        "feeds": ["home", "news"],
        "notifications": True,
        "activities": True,
    }
    assert {"id": 3, "name": "love", "past_tense": "loved"} in found["verbs"]


def test_health(web: Client) -> None:
    """A probe needs no token, and learns no addresses; the status is what the command prints."""
    assert web.ask("GET", "/health/live", None).json() == {"ok": True, "storage": True, "broker": True}
    assert web.ask("GET", "/health/ready", None).json() == {"ok": True, "storage": True, "broker": True}
    assert {"healthy", "problems", "storage", "queues"} <= set(web.ask("GET", "/v1/status").json())


def test_what_a_stream_refuses(web: Client) -> None:
    """Feeds that are named twice, that publish nothing, or of which the page is no page."""
    stream = f"{SITE}/users/bob/stream"
    shown = web.ask("GET", f"{SITE}/users/bob/feeds/home").json()["shown"]
    assert shown and web.ask("GET", f"{SITE}/users/bob/feeds/news").json()["shown"] is None
    for query, status in (
        ({"feed": "home"}, 400),
        ({"shown": shown}, 400),
        ({"feed": ["home", "home"], "shown": [shown, shown]}, 400),
        ({"feed": "home", "shown": "x"}, 400),
        ({"feed": "news", "shown": shown}, 404),
        ({"feed": "none", "shown": shown}, 404),
        ({"feeds": "home"}, 400),
    ):
        assert web.ask("GET", stream, params=query).status_code == status, query


def test_times_of_all_kinds(web: Client) -> None:
    """A time has its offset and makes sense; what is none is refused before anything is written."""
    for time in ("2026-02-03T04:05:06Z", "2026-02-03T04:05:06.123456-11:30", None):
        assert web.ask("POST", f"{SITE}/activities", json=loved(time=time)).status_code == 202
    for time in (
        "2026-02-03T04:05:06",
        "now",
        "",
        5,
        1.5,
        True,
        "1969-12-31T23:59:59Z",
        "0001-01-01T00:00:00+14:00",
        "1770091506",
    ):
        assert web.ask("POST", f"{SITE}/activities", json=loved(time=time)).status_code == 400, time
    ahead = (dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=2)).isoformat()
    assert web.ask("POST", f"{SITE}/activities", json=loved(time=ahead)).status_code == 400
    assert len(items(web, "/users/bob/feeds/home")) == 3
