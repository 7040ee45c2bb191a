"""What a worker tells of a task that it tries again: the sentence that was sent with it, never its arguments."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

import feedmill
from feedmill import Activity
from feedmill.fanout import publisher
from feedmill.verbs import Love
from tests.celery_local.nodes import LocalRedis
from tests.test_host_app_lookup import Folder
from tests.test_two_deployments import until, working

SENTENCE = "deliver 1 activity to 1 home feeds"


def test_a_retried_task_keeps_its_description(
    tmp_path: Path, redis_url: str, default_redis_broker: LocalRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events and ``celery inspect`` show it of each try; of the arguments, which hold a context, nothing."""
    broker = f"redis://127.0.0.1:{default_redis_broker.port}/0"
    folder = Folder(tmp_path, redis_url, FEEDMILL_MODULES="friends", FEEDMILL_BROKER_URL=broker)
    app = Celery("watcher", broker=broker, set_as_current=False)
    app.conf.update(accept_content=["json", "msgpack"], task_serializer="msgpack")
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(publisher, "celery_app", lambda: app)
    feedmill.configure(broker_url=broker)
    with working(folder, "feedmill.tasks", "-E"), app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": told.append})
        ended = threading.Event()

        def hear() -> None:
            for _ in receiver.itercapture(limit=None, timeout=None, wakeup=False):
                if ended.is_set():
                    return

        ear = threading.Thread(target=hear, daemon=True)
        ear.start()
        until(lambda: app.control.ping(timeout=1))
        try:  # a manager that only the next release knows: that is tried again
            body = Activity("ann", Love, 1, extra_context={"secret": "CONTEXT"}).pack()
            args = ["NotYetKnown", "add", body, "0" * 24, 1, 0]
            publisher.send("feedmill.deliver", args, queue="fanout.high", description=SENTENCE)
            scheduled = until(
                lambda: any((asked := app.control.inspect(timeout=1).scheduled() or {}).values()) and asked
            )
            until(lambda: sum(event["type"] == "task-received" for event in list(told)) > 2, 20)
        finally:
            ended.set()
    received = [event for event in told if event["type"] == "task-received"]
    assert {event["args"] for event in received} == {SENTENCE}
    assert {event["kwargs"] for event in received} == {""}
    assert any(event["type"] == "task-retried" for event in told)
    for text in (str(told), str(scheduled)):
        for secret in ("CONTEXT", b"CONTEXT".hex(), "bob-the", b"bob-the".hex()):
            assert secret not in text
    assert SENTENCE in str(scheduled)


def test_a_task_that_is_called_by_hand_shows_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who calls a task without a sentence has no arguments shown either."""
    from feedmill.tasks import app

    sent: dict[str, Any] = {}
    monkeypatch.setattr(type(app), "send_task", lambda self, name, args, kwargs, **options: sent.update(options))
    app.tasks["feedmill.rebuild"].apply_async(["Friends", b"secret", "f", 1])
    assert (sent["argsrepr"], sent["kwargsrepr"]) == ("feedmill.rebuild", "")
