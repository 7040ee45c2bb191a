"""The digests themselves: what is in one, and how it is sent."""

from __future__ import annotations

import hashlib
import hmac
import html
import logging
import os
import smtplib
import time
from collections.abc import Sequence
from email.message import EmailMessage
from urllib.parse import urlencode

from examples.digest import store
from examples.digest.feeds import Notifications
from feedmill import AggregatedActivity

logger = logging.getLogger(__name__)

#: Seconds of a period: who has notifications gets one message in each at most.
PERIOD = 86_400
#: Seconds after which a digest that somebody began to send, and never said was sent, is sent again.
PATIENCE = 600.0
#: Groups that a digest shows; of more it says how many.
SHOWN = 10


def send_due(now: float | None = None) -> int:
    """Send the digests of the periods that are over; how many. To be called by cron or beat, as often as you like."""
    now = time.time() if now is None else now
    period = int(now // PERIOD)
    until, number = float(period * PERIOD), 0
    users = store.waiting(until)
    if not users:
        return 0
    with _server() as server:
        for user in users:
            try:
                number += _send(server, user, period, until, now)
            except smtplib.SMTPException as error:  # it is still collected, and tried again later
                logger.warning("the digest of %s was not sent: %s", user, error)
    return number


def _send(server: smtplib.SMTP, user: str, period: int, until: float, now: float) -> bool:
    address = store.address_of(user)
    groups = unseen(user, store.groups(user, until)) if address is not None else []
    if address is None or not groups:  # they want no mail, or have looked meanwhile
        store.done(user, period, until, None)
        return False
    if not store.begin(user, period, now, PATIENCE):
        return False
    server.send_message(message(user, address, period, groups))
    store.done(user, period, until, now)
    return True


def unseen(user: str, names: Sequence[str]) -> list[AggregatedActivity]:
    """Those of the groups *names* that are still in the feed of *user*, and that they have not seen."""
    feed = Notifications(user)
    found = [feed.find_group(name) for name in names]
    return [group for group in found if group is not None and not group.is_seen]


def message(user: str, address: str, period: int, groups: Sequence[AggregatedActivity]) -> EmailMessage:
    """The digest of one user and period, as text and as HTML. It is the same message each time: same period, same Message-ID."""
    sender, link = os.environ.get("DIGEST_FROM", "digest@localhost"), unsubscribe_link(user)
    lines = [sentence(group) for group in groups[:SHOWN]]
    if len(groups) > SHOWN:
        lines.append(f"and {len(groups) - SHOWN} more")
    mail = EmailMessage()
    mail["From"], mail["To"] = sender, address
    mail["Subject"] = f"{len(groups)} new notification{'s' if len(groups) > 1 else ''}"
    name = hashlib.sha256(f"{user} {period}".encode()).hexdigest()[:32]
    mail["Message-ID"] = f"<{name}@{sender.rpartition('@')[2]}>"
    mail["List-Unsubscribe"] = f"<{link}>"
    mail["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    mail.set_content("\n".join([*lines, "", f"No more of these: {link}", ""]))
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    mail.add_alternative(f'<ul>{items}</ul><p><a href="{html.escape(link)}">No more of these</a></p>', subtype="html")
    return mail


def sentence(group: AggregatedActivity) -> str:
    """What a group says."""
    actors = [str(actor) for actor in group.actor_ids[:2]]
    others = group.actor_count - len(actors)
    who = f"{', '.join(actors)} and {others} other{'s' if others > 1 else ''}" if others > 0 else " and ".join(actors)
    return f"{who} {group.verb.past_tense} {group.object_ids[0]}"


# -- who wants no mail


def unsubscribe_link(user: str) -> str:
    """The link by which *user* gets no digest any more, without logging in; nobody else can make one."""
    base = os.environ.get("DIGEST_URL", "http://localhost:8000/unsubscribe")
    return f"{base}?{urlencode({'user': user, 'token': _token(user)})}"


def unsubscribe(user: str, token: str) -> bool:
    """What the page behind the link does on POST; False for a token that is not of this user."""
    if not hmac.compare_digest(token, _token(user)):
        return False
    store.set_wants_mail(user, wants=False)
    return True


def _token(user: str) -> str:
    secret = os.environ["DIGEST_SECRET"].encode()
    return hmac.new(secret, user.encode(), "sha256").hexdigest()


def _server() -> smtplib.SMTP:
    host, _, port = os.environ.get("DIGEST_SMTP", "localhost:25").partition(":")
    return smtplib.SMTP(host, int(port or 25), timeout=30)
