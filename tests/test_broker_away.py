"""While the broker refuses connections no call of a manager keeps a web request waiting for long, whatever it sends."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery

from feedmill.fanout import publisher
from tests.celery_local.process import free_port
from tests.manager.friends import Friends, love

manager = Friends()
CALLS: dict[str, Callable[[], Any]] = {
    "add_activity": lambda: manager.add_activity(love(1)),
    "follow": lambda: manager.follow(10, 1),
    "follow_many": lambda: manager.follow_many(10, [2, 3, 4]),
    "unfollow": lambda: manager.unfollow(10, 1),
    "rebuild": lambda: manager.rebuild(10),
}


@pytest.mark.parametrize("transport", ["amqp", "redis"])
@pytest.mark.parametrize("name", CALLS)
def test_nobody_waits_for_long(
    redis_url: str, name: str, transport: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is accepted, the log names the setting of the app that sends, and pauses between tries come to less than two seconds."""
    app = Celery("mysite", broker=f"{transport}://127.0.0.1:{free_port()}//", accept_content=["json", "msgpack"])
    monkeypatch.setattr(publisher, "celery_app", lambda: app)
    slept: list[float] = []
    monkeypatch.setattr("kombu.utils.functional.sleep", slept.append)
    with caplog.at_level(logging.WARNING):
        CALLS[name]()
    assert sum(slept) < 2
    assert "waits in the journal" in caplog.text
    assert "Check broker_url of the Celery app 'mysite'" in caplog.text
