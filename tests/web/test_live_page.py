"""The live page, as people use it: two windows beside each other, the keyboard, a telephone, and Redis that goes away."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.web.browser import NARROW, PATIENCE, WIDE, screenshot
from tests.web.live_page import ROOT, Person, Site, live, live_site, looking

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.web, pytest.mark.timeout(600)]
#: Followers of whom has many.
CROWD = 700
#: Where the README's screenshots are.
PICTURES = ROOT / "docs" / "live-page"

Look = Callable[..., AbstractContextManager[Person]]


@pytest.fixture(scope="module")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The page, on which nobody does anything by themselves. After the browser: without one nothing is started."""
    with live_site(tmp_path_factory.mktemp("live"), LIVE_BOTS="0", LIVE_FOLLOWERS=str(CROWD)) as found:
        yield found


@pytest.fixture
def look(browser: Browser, site: Site) -> Look:
    """``look("ada")`` is a window of Ada's."""
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE)
    return partial(looking, browser, site)


def expect(found: Any) -> Any:
    """What is there in the end."""
    from playwright.sync_api import expect

    return expect(found)


def test_two_people(look: Look) -> None:
    """What Ben posts waits behind a button on Ada's page; when she likes it, Ben's badge moves, and moves back."""
    with look("ada") as ada, look("ben") as ben:
        ben.see_all()
        before = ada.posts()
        ben.post("The tide is out")
        expect(ben.card("The tide is out")).to_be_visible()
        expect(ada["#new-posts"]).to_have_text("1 new post")
        assert ada.posts() == before
        ada["#new-posts"].click()
        expect(ada["#posts .text"].first).to_have_text("The tide is out")
        expect(ada["#new-posts"]).to_be_hidden()

        like = ada.card("The tide is out").locator(".like")
        began = time.monotonic()
        like.click()
        expect(ben["#badge"]).to_have_text("1")
        print(f"a like moves the badge of somebody else after {time.monotonic() - began:.2f} s")
        expect(ben["#open-notifications"]).to_have_attribute("aria-label", "Notifications, 1 new")
        expect(ben["#announcer"]).to_have_text("1 new notification")
        expect(like).to_have_attribute("aria-pressed", "true")
        like.click()
        expect(ben["#badge"]).to_be_hidden()
        expect(like).to_have_attribute("aria-pressed", "false")

        ben.card("The tide is out").get_by_role("button", name="Delete this post").click()
        expect(ben.card("The tide is out")).to_have_count(0)
        ada.page.reload()
        live(ada.page)
        assert "The tide is out" not in ada.posts()


def test_notifications(look: Look) -> None:
    """Opened they are seen; read is each by itself, or all; "who?" names everybody behind one."""
    with look("finn") as finn:
        expect(finn["#badge"]).to_be_visible()
        finn["#open-notifications"].click()
        items = finn["#notifications .stack"]
        expect(items.first).to_be_visible()
        expect(finn["#badge"]).to_be_hidden()
        unread = finn["#notifications .stack.unread"].count()
        assert 0 < unread < items.count()
        expect(finn["#unread"]).to_have_text(str(unread))

        items.first.get_by_role("button", name="Mark as read").click()
        expect(finn["#unread"]).to_have_text(str(unread - 1))
        expect(items.first.get_by_role("button", name="Mark as unread")).to_be_focused()
        items.first.get_by_role("button", name="Mark as unread").click()
        expect(finn["#unread"]).to_have_text(str(unread))

        crowd = items.filter(has_text="others liked your post").first
        total = int(re.findall(r"(\d+) others", crowd.inner_text())[0]) + 2
        crowd.get_by_role("button", name="Who?").click()
        expect(crowd.locator(".who li").first).to_be_visible()
        while crowd.get_by_role("button", name="Show more").is_visible():
            shown = crowd.locator(".who li").count()
            crowd.get_by_role("button", name="Show more").click()
            expect(crowd.locator(".who li").nth(shown)).to_be_visible()
        assert crowd.locator(".who li").count() == total

        finn["#tab-unread"].click()
        expect(items).to_have_count(unread)
        finn["#mark-all"].click()
        expect(finn["#notifications .empty"]).to_contain_text("All read")
        expect(finn["#mark-all"]).to_be_disabled()
        finn.page.keyboard.press("Escape")
        finn.page.reload()
        live(finn.page)
        finn["#open-notifications"].click()
        expect(items.first).to_be_visible()
        assert finn["#notifications .stack.unread"].count() == 0


def test_notifications_come_into_the_open_list(look: Look) -> None:
    """And are seen there; what is being read stays where it is."""
    with look("hana") as hana, look("elin") as elin:
        hana["#open-notifications"].click()
        expect(hana["#notifications .stack"].first).to_be_visible()
        hana.page.keyboard.press("Escape")
        hana.post("Two more cups")
        hana["#open-notifications"].click()
        expect(hana["#notifications .stack"].first).to_be_visible()
        elin["#new-posts"].click()
        elin.card("Two more cups").locator(".like").click()
        expect(hana["#notifications .stack"].first).to_contain_text("Elin Sørli")
        expect(hana["#notifications .stack"].first).to_have_class("stack unread")
        expect(hana["#badge"]).to_be_hidden()


def test_answers_may_overtake_each_other(look: Look) -> None:
    """An older list that arrives behind a newer one is not shown."""
    with look("hana") as hana, look("kofi") as kofi:
        hana.post("A blue bowl")
        kofi["#new-posts"].click()
        late: list[Any] = []

        def hold(route: Any) -> None:
            late.append((route, route.fetch()))

        hana.page.route("**/api/notifications?**", hold, times=1)
        hana["#open-notifications"].click()
        for _ in range(PATIENCE // 50):
            if late:
                break
            hana.page.wait_for_timeout(50)
        kofi.card("A blue bowl").locator(".like").click()
        expect(hana["#notifications .stack"].first).to_contain_text("Kofi Mensah")
        ((route, answer),) = late
        route.fulfill(response=answer)
        hana.page.wait_for_timeout(500)
        expect(hana["#notifications .stack"].first).to_contain_text("Kofi Mensah")


def test_following(look: Look) -> None:
    """Somebody who follows nobody sees why nothing is there; with a follow posts come by themselves, and go with the undo."""
    with look("zoe") as zoe, look("kofi") as kofi:
        kofi.see_all()
        expect(zoe["#feed-empty"]).to_contain_text("Follow somebody")
        zoe.page.get_by_role("button", name="Follow Kofi Mensah", exact=True).click()
        expect(zoe.card("Three crates of tomatoes")).to_be_visible()
        expect(zoe["#feed-empty"]).to_be_hidden()
        expect(kofi["#badge"]).to_have_text("1")
        zoe["#toasts"].get_by_role("button", name="Undo").click()
        expect(zoe.card("Three crates of tomatoes")).to_have_count(0)
        expect(zoe["#feed-empty"]).to_be_visible()
        expect(kofi["#badge"]).to_be_hidden()


def test_older_posts(look: Look, site: Site) -> None:
    """They come by the page, each once, whatever is posted meanwhile."""
    with look("ada") as ada, look("cleo") as cleo:
        first = ada.posts()
        cleo.post("Meanwhile")
        expect(ada["#new-posts"]).to_be_visible()
        while ada["#more-posts"].is_visible():
            before = len(ada.posts())
            ada["#more-posts"].click()
            expect(ada["#posts .text"].nth(before)).to_be_visible()
            ada.page.wait_for_function(
                "number => document.querySelectorAll('#posts .text').length > number", arg=before
            )
        texts = ada.posts()
        assert texts[: len(first)] == first and len(texts) > len(first) == len({*first})
        assert len(texts) == len({*texts}) and "Meanwhile" not in texts
        expect(ada["#feed-end"]).to_be_focused()
        cleo.post("Too soon")
        expect(cleo.card("Too soon")).to_be_visible()
        cleo["#toasts"].get_by_role("button", name="Undo").click()
        expect(cleo.card("Too soon")).to_have_count(0)


def test_text_is_never_html(look: Look) -> None:
    """Names and posts that look like HTML are shown as they are, to whoever sees them."""
    evil = "<img src=x onerror=\"document.title='evil'\"><script>document.title='evil'</script>"
    with look("zoe") as new, look("dev") as dev:
        new["#account"].click()
        new.page.get_by_label("Or somebody new").fill("<b onclick=alert(1)>Eve")
        new["#join button"].click()
        expect(new["#account"]).to_have_attribute("aria-label", re.compile("<b onclick=alert"))
        new.post(evil)
        expect(new["#posts .text"].first).to_have_text(evil)
        new.page.get_by_role("button", name="Follow Dev Raman", exact=True).click()
        expect(new["#toasts"]).to_contain_text("You follow Dev Raman")
        dev["#open-notifications"].click()
        expect(dev["#notifications .stack"].first).to_contain_text("<b onclick=alert(1)>Eve now follows you")
        for person in (new, dev):
            assert person["#posts img, #posts script, #notifications b, .people b"].count() == 0
            assert "evil" not in person.page.title()


def test_redis_restarts(look: Look, site: Site) -> None:
    """Nothing is missed: a like that is made while Redis is away arrives behind it, once, and so does one right afterwards."""
    with look("june") as june, look("ada") as ada, look("ben") as ben:
        june.see_all()
        ada.page.get_by_role("button", name="Follow June Adeyemi", exact=True).click()
        expect(june["#badge"]).to_have_text("1")
        june.post("Ebb and flow")
        for follower in (ada, ben):
            follower.page.reload()
            live(follower.page)
            while not follower.card("Ebb and flow").count():
                follower["#new-posts"].click()
        june.see_all()
        site.redis.kill()
        try:
            ada.card("Ebb and flow").locator(".like").click()
            expect(ada["#state"]).to_contain_text("Trying again")
            began = time.monotonic()
        finally:
            site.redis.start()
        ben.card("Ebb and flow").locator(".like").click()
        expect(june["#badge"]).to_have_text("1")
        june["#open-notifications"].click()
        expect(june["#notifications .stack"].first).to_contain_text("Ada Aldous")
        expect(june["#notifications .stack"].first).to_contain_text("Ben Okafor")
        print(f"two likes around a restart of Redis are there after {time.monotonic() - began:.2f} s")
        for person in (june, ada, ben):
            expect(person["#state"]).to_have_text("Live")
            refused = [
                text for text in person.errors if "503" not in text
            ]  # Chromium tells each, and they were tried again
            person.errors[:] = refused
        (found, *_) = site.ask("june", "/notifications")["items"]
        assert found["actor_count"] == 2


def test_the_keyboard(look: Look) -> None:
    """Everything can be reached in the order in which it stands there, opened, walked through with arrows, and left with Escape."""
    with look("lena") as lena:
        press = lena.page.keyboard.press
        order = [
            "Skip to the posts",
            "Dark mode",
            "Notifications",
            "Lena Fischer: be somebody else",
            "New post",
            "Post",
        ]
        for name in order:
            press("Tab")
            focused = lena.page.evaluate(
                "() => document.activeElement.ariaLabel ?? document.activeElement.textContent.trim()"
            )
            assert focused.startswith(name), f"{focused!r} instead of {name!r}"
        lena["#open-notifications"].focus()
        press("Enter")
        expect(lena["#notifications"]).to_be_visible()
        expect(lena["#notifications-title"]).to_be_focused()
        expect(lena["#open-notifications"]).to_have_attribute("aria-expanded", "true")
        lena["#tab-all"].focus()
        press("ArrowRight")
        expect(lena["#tab-unread"]).to_be_focused()
        expect(lena["#tab-unread"]).to_have_attribute("aria-selected", "true")
        press("ArrowRight")
        expect(lena["#tab-all"]).to_be_focused()
        press("Escape")
        expect(lena["#notifications"]).to_be_hidden()
        expect(lena["#open-notifications"]).to_be_focused()
        expect(lena["#open-notifications"]).to_have_attribute("aria-expanded", "false")

        lena["#compose textarea"].focus()
        lena.page.keyboard.type("By hand")
        press("Control+Enter")
        expect(lena["#posts .text"].first).to_have_text("By hand")
        like = lena["#posts .like"].nth(1)
        pressed = like.get_attribute("aria-pressed")
        like.focus()
        press("Space")
        expect(like).to_have_attribute("aria-pressed", "false" if pressed == "true" else "true")
        expect(like).to_be_focused()
        press("Space")
        lena["#posts .quiet"].first.focus()
        press("Enter")
        expect(lena.card("By hand")).to_have_count(0)
        expect(lena["#posts .like"].first).to_be_focused()


def test_a_fan_out_is_watched(look: Look) -> None:
    """Chunks, time and the plot, from the status of the fan-out."""
    with look("ada") as ada:
        expect(ada["#fanout-list li"]).not_to_have_count(0)
        seen = ada["#fanout-list li"].count()
        ada["#big-post"].click()
        expect(ada["#fanout-list li"]).to_have_count(min(5, seen + 1))
        expect(ada["#fanout-list li"].first).to_contain_text("Nova Vega")
        expect(ada["#fanout-list li"].first).to_contain_text(re.compile(r"([1-9]\d*) / \1 chunks · \d+\.\d\d s"))
        expect(ada["#chunks"]).to_have_text(re.compile(r"([1-9]\d*) / \1"))
        expect(ada["#running"]).to_be_hidden()
        expect(ada["#plot"]).to_have_attribute("aria-label", re.compile("[1-9][0-9]* at most"))
        expect(ada["#plot polyline"]).to_have_count(1)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_nothing_keeps_anybody_out(look: Look, size: tuple[int, int], dark: bool) -> None:
    """By the rules of axe, in light and dark, wide and narrow, with all that can be opened; and nothing is wider than the window."""
    with look("ivo", size=size, dark=dark) as ivo:
        found = ivo.axe()
        for view in ivo["#views button:visible"].all():
            view.click()
            found += ivo.axe()
            assert ivo.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        ivo["#open-notifications"].click()
        expect(ivo["#notifications .stack"].first).to_be_visible()
        ivo["#notifications"].get_by_role("button", name="Who?").first.click()
        expect(ivo["#notifications .who li"].first).to_be_visible()
        found += ivo.axe()
        ivo.page.keyboard.press("Escape")
        ivo["#account"].click()
        expect(ivo["#accounts .person"].first).to_be_visible()
        found += ivo.axe()
        assert found == []
        assert ivo.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_telephone(look: Look) -> None:
    """One part at a time, chosen at the bottom."""
    with look("ada", size=NARROW) as ada:
        for name, shown in (
            ("Network", "#network"),
            ("Deliveries", "#fanouts"),
            ("People", "#who-else"),
            ("Home", "#feed"),
        ):
            ada["#views"].get_by_role("button", name=name).click()
            expect(ada[shown]).to_be_visible()
            assert len(ada["main section:visible"].all()) == 1


def test_the_theme(look: Look) -> None:
    """It is the system's until somebody chooses, and then theirs."""
    ground = "() => getComputedStyle(document.body).backgroundColor"
    with look("ada", dark=True) as ada:
        dark = ada.page.evaluate(ground)
        expect(ada["#theme"]).to_have_attribute("aria-pressed", "true")
        ada["#theme"].click()
        assert ada.page.evaluate(ground) != dark
        ada.page.reload()
        expect(ada["#theme"]).to_have_attribute("aria-pressed", "false")
        assert ada.page.evaluate(ground) != dark
        ada["#theme"].click()
        assert ada.page.evaluate(ground) == dark


def test_screenshots(browser: Browser, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Those of the README, of a network in which something happens."""
    if not request.config.getoption("--screenshots"):
        pytest.skip("only with --screenshots: they change files of the repository")
    said = {
        ("wide", "light"): ("cleo", "The cat has sat on the crossword. The cat has solved it."),
        ("wide", "dark"): ("kofi", "There is now also a marrow. It is the size of Ben's boat."),
        ("narrow", "light"): ("ben", "Somebody asked whether the boat has a name. It does now: Thumb."),
        ("narrow", "dark"): ("elin", "Number twelve has a bird in it. It would not sit still, so it has three."),
    }
    with live_site(tmp_path, LIVE_BOTS="0") as site:
        for fan in ("cleo", "ben", "elin", "kofi"):
            site.ask(fan, "/posts/18/like", method="PUT")
        for _ in range(2):  # something to plot
            site.ask("ada", "/fanouts", {})
            time.sleep(12)
        for (width, colours), (author, text) in said.items():
            size, scale = (WIDE, 1) if width == "wide" else (NARROW, 1.5)
            with looking(browser, site, "ada", size=size, dark=colours == "dark", scale=scale) as found:
                if colours == "dark":
                    found["#open-notifications"].click()
                    found["#notifications .stack"].nth(1).wait_for()
                    if size == WIDE:
                        found["#notifications"].get_by_role("button", name="Mark as read").nth(1).click()
                    found["#notifications-title"].focus()
                site.ask("ada", "/fanouts", {})
                site.ask(author, "/posts", {"text": text})
                found["#new-posts"].get_by_text("2 new posts").wait_for()
                found.page.mouse.move(0, 400)
                found.page.wait_for_timeout(700)
                screenshot(found.page, PICTURES / f"{width}-{colours}.png")
