"""The e-mail digest of the examples, with a mail server of its own: one message a user and period, about what they have not seen."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

import feedmill
from examples.digest import mail, store
from examples.digest.feeds import DigestManager, Notifications
from feedmill import Activity
from feedmill.verbs import Comment, Love
from feedmill.worker import drain
from tests.conftest import free_port, needed
from tests.fake_broker import FakeBroker, replaced

manager = DigestManager()


class Mailbox:
    """What a mail server was given."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        #: What it answers instead of taking the next.
        self.refusal = ""

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # aiosmtpd's name
        """A message."""
        if self.refusal:
            return self.refusal
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))  # type: ignore[arg-type]
        return "250 OK"


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Mailbox]:
    """A mail server, and a database that is empty."""
    try:
        from aiosmtpd.controller import Controller
    except ImportError:
        needed(None, "no aiosmtpd; pip install 'feedmill[dev]'")
    held = Mailbox()
    controller = Controller(held, hostname="127.0.0.1", port=free_port())
    monkeypatch.setenv("DIGEST_SMTP", f"127.0.0.1:{controller.port}")
    monkeypatch.setenv("DIGEST_DB", str(tmp_path / "digest.sqlite3"))
    monkeypatch.setenv("DIGEST_SECRET", "for tests")
    monkeypatch.setenv("DIGEST_FROM", "digest@example.org")
    controller.start()
    try:
        store.add_reader("ann", "ann@example.org")
        yield held
    finally:
        controller.stop()


@pytest.fixture
def box(backend_kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBroker]:
    """Each backend in turn, with a broker by hand."""
    with replaced(monkeypatch) as fake_broker:
        yield fake_broker


def notified(box: FakeBroker, *actors: str, thing: str = "picture:1", verb: Any = Love, user: str = "ann") -> None:
    """*actors* did something that concerns *user*, who is notified of it."""
    for actor in actors:
        manager.add_activity(Activity(actor, verb, thing, target=user))
    box.work()


def tomorrow() -> float:
    """When the period is over in which all of this happened."""
    return time.time() + mail.PERIOD


def texts(one: EmailMessage) -> tuple[str, str]:
    """The text and the HTML of a message."""
    plain, rich = one.get_body(("plain",)), one.get_body(("html",))
    assert plain is not None and rich is not None
    return plain.get_content(), rich.get_content()


def test_one_message_for_all(box: FakeBroker, mailbox: Mailbox) -> None:
    """What came in a period is in one message at its end, as text and as HTML, with groups as the feed has them."""
    notified(box, "bob", "carl", "<dora>")
    notified(box, "bob", thing="picture:2", verb=Comment)
    assert mail.send_due() == 0 and not mailbox.mails  # the period is not over
    assert mail.send_due(tomorrow()) == 1
    (one,) = mailbox.mails
    assert (one["To"], one["From"], one["Subject"]) == ("ann@example.org", "digest@example.org", "2 new notifications")
    plain, rich = texts(one)
    assert "<dora>, carl and 1 other loved picture:1" in plain and "bob commented picture:2" in plain
    assert "&lt;dora&gt;, carl and 1 other loved picture:1" in rich


def test_nobody_gets_it_twice(box: FakeBroker, mailbox: Mailbox) -> None:
    """A hook that is called again, and a digest that is sent for again, send nothing more; the next period begins anew."""
    notified(box, "bob")
    collected = [(row, "ann", "x", time.time()) for row in keys()]
    store.collect(collected)
    assert mail.send_due(tomorrow()) == 1
    store.collect(collected)  # late, once more: the group x is no group
    assert mail.send_due(tomorrow()) == mail.send_due(tomorrow() + 60) == 0
    assert len(mailbox.mails) == 1


def keys() -> list[str]:
    """What was collected."""
    with store.database() as tables:
        return [key for (key,) in tables.execute("SELECT key FROM collected")]


def test_who_has_looked_gets_none(box: FakeBroker, mailbox: Mailbox) -> None:
    """Who saw everything meanwhile gets no message, and who saw a part is told the rest; what was removed is not told."""
    notified(box, "bob")
    Notifications("ann").mark_all(seen=True)
    assert mail.send_due(tomorrow()) == 0 and not keys()
    notified(box, "carl")  # one more in the same group, which is unseen again
    taken_back = Activity("bob", Love, "picture:2", target="ann")
    manager.add_activity(taken_back)
    box.work()
    manager.remove_activity(taken_back)
    box.work()
    assert mail.send_due(tomorrow()) == 1
    assert mailbox.mails[0]["Subject"] == "1 new notification" and "carl" in texts(mailbox.mails[0])[0]


def test_unsubscribing(box: FakeBroker, mailbox: Mailbox) -> None:
    """The link in each message ends them for its user, and no other link does."""
    notified(box, "bob")
    mail.send_due(tomorrow())
    link = mailbox.mails[0]["List-Unsubscribe"].strip("<>")
    assert (
        link in texts(mailbox.mails[0])[0] and mailbox.mails[0]["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    )
    asked = {name: value for name, (value,) in parse_qs(urlsplit(link).query).items()}
    assert not mail.unsubscribe("carl", asked["token"])
    assert mail.unsubscribe(**asked)
    notified(box, "carl", thing="picture:3")
    assert mail.send_due(tomorrow()) == 0 and not keys() and len(mailbox.mails) == 1


def test_a_mail_server_that_refuses(box: FakeBroker, mailbox: Mailbox) -> None:
    """What was not taken is sent later, under the same Message-ID; what was begun by who died is sent again."""
    notified(box, "bob")
    mailbox.refusal = "451 later"
    assert mail.send_due(tomorrow()) == 0
    mailbox.refusal = ""
    assert mail.send_due(tomorrow() + 1) == 0  # whoever began it may still be at it
    assert mail.send_due(tomorrow() + mail.PATIENCE + 1) == 1
    expected = mail.message("ann", "x@example.org", int(tomorrow() // mail.PERIOD), [])["Message-ID"]
    assert [one["Message-ID"] for one in mailbox.mails] == [expected]


def test_a_worker_that_dies_in_the_hook(box: FakeBroker, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is away when the hook is called loses nothing: the hook is called again."""
    collect = store.collect
    with monkeypatch.context() as patch:
        patch.setattr(store, "collect", lambda rows: 1 / 0)
        patch.setattr("feedmill.worker.hook_calls.FIRST_PAUSE", 0.1)
        notified(box, "bob")
    assert store.collect is collect and not keys()
    time.sleep(1.2)  # the pause, and the time of the wake-up message
    drain.sweep()
    box.work()
    assert len(keys()) == 1 and mail.send_due(tomorrow()) == 1


def test_the_whole_way(mailbox: Mailbox, memory: None) -> None:
    """In the in-memory mode, without any message by hand: notified, collected, sent."""
    feedmill.configure(celery_app="feedmill.tasks:app")
    manager.add_activity(Activity("bob", Love, "picture:9", target="ann"))
    assert mail.send_due(tomorrow()) == 1 and "bob loved picture:9" in texts(mailbox.mails[0])[0]
