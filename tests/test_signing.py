"""Signed messages: workers do what a key's owner sent, and nothing else."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import feedmill
from feedmill import signing
from feedmill.errors import MessageError, SettingsError, StorageError
from feedmill.keys import chunks_key, fanout_record_key
from feedmill.manager import Priority
from feedmill.msgpack_codec import pack
from feedmill.storage.registry import backend
from feedmill.tasks import deliver, sweep
from feedmill.worker import dead_letters
from feedmill.worker.planned_chunks import planned_chunk
from tests.feeds.samples import on_day
from tests.social import FOLLOWERS, HomeFeed, SocialManager

KEY, OTHER = "a key of thirty-two characters!!", "quite another key of such length"
F1 = f"{SocialManager.name}:f1"
ARGS = [SocialManager.name, "add", on_day(1).raw_id, F1, 1, 0]


@pytest.fixture
def signed(redis_url: str) -> str:
    """Messages are signed."""
    feedmill.configure(signing_key=KEY)
    return redis_url


def run(args: list[Any], headers: dict[str, str] | None) -> Any:
    """What the task gives for such a message."""
    return deliver.apply(args, headers=headers)


def written() -> bool:
    return bool(HomeFeed(7)[:] or HomeFeed(8)[:])


def wanted() -> None:
    """The journal wants the chunk that the message is about."""
    backend().run(backend().journal.open(SocialManager.name, F1, "add", on_day(1).raw_id, sent=True))
    client = backend().client  # type: ignore[attr-defined]
    client.hset(fanout_record_key(F1), "generation", 1)  # as in what was signed
    client.hset(chunks_key(F1), "1.0", pack(planned_chunk("followers", Priority.HIGH, [7, 8])))


def test_what_a_keys_owner_sent_is_done(signed: str) -> None:
    """A message with our signature is delivered."""
    wanted()
    HomeFeed.insert_activity(on_day(1))
    assert run(ARGS, signing.headers("feedmill.deliver", ARGS)).get() == 2
    assert HomeFeed(7)[:] == [on_day(1)]


FORGED: dict[str, Any] = {
    "no header at all": None,
    "no signature": {"lang": "py"},
    "empty signature": {signing.HEADER: ""},
    "text that is not ASCII": {signing.HEADER: "ü" * 64},
    "bytes": {signing.HEADER: b"x"},
    "another key's": {signing.HEADER: signing._signature(signing._secrets(OTHER)[0], "feedmill.deliver", ARGS)},
    "another task's": {signing.HEADER: signing._signature(signing._secrets(KEY)[0], "feedmill.follow", ARGS)},
    "other arguments'": {
        signing.HEADER: signing._signature(signing._secrets(KEY)[0], "feedmill.deliver", [*ARGS[:-1], 1])
    },
}


@pytest.mark.parametrize("headers", FORGED.values(), ids=FORGED)
def test_what_is_forged_is_refused(signed: str, headers: dict[str, str] | None) -> None:
    """Nothing is written, and the message is kept as a dead letter with the reason."""
    wanted()
    with pytest.raises(MessageError, match="not signed|signed with no key"):
        run(ARGS, headers).get()
    assert not written()
    (letter,) = dead_letters.newest()
    assert letter.kind == dead_letters.MESSAGE
    assert "FEEDMILL_SIGNING_KEY" in letter.reason and KEY not in letter.reason


def test_without_a_key_nothing_changes(redis_url: str) -> None:
    """Without a key messages carry no signature, and none is asked for."""
    assert signing.HEADER not in signing.headers("feedmill.deliver", ARGS)
    signing.check("feedmill.deliver", ARGS, None)


def test_keys_are_rotated_without_a_gap(signed: str) -> None:
    """A worker that knows the old and the new key takes messages of both; later only those of the new one."""
    old = signing.headers("feedmill.deliver", ARGS)
    feedmill.configure(signing_key=f"{OTHER}, {KEY}")
    new = signing.headers("feedmill.deliver", ARGS)
    assert new != old
    signing.check("feedmill.deliver", ARGS, old)
    signing.check("feedmill.deliver", ARGS, new)
    feedmill.configure(signing_key=OTHER)
    signing.check("feedmill.deliver", ARGS, new)
    with pytest.raises(MessageError):
        signing.check("feedmill.deliver", ARGS, old)


def test_the_clock_needs_no_key(signed: str) -> None:
    """The sweep, which celery beat sends unsigned, says nothing and is done."""
    assert sweep.apply([]).get() == 0


def test_the_in_memory_mode_signs_too(memory: None) -> None:
    """With a key, what runs right here is signed and checked as well."""
    feedmill.configure(signing_key=KEY, celery_app="feedmill.tasks:app")
    SocialManager().add_activity(on_day(1)).wait(5)
    assert HomeFeed(FOLLOWERS[0])[:] == []  # day 1's actor has no followers; what counts is that nothing was refused
    assert dead_letters.newest() == []


def test_a_short_key_is_refused() -> None:
    """A key that could be guessed is an error, which does not show it."""
    with pytest.raises(SettingsError, match="fewer than 16 characters .commas separate") as caught:
        feedmill.configure(signing_key=f"{KEY},hunter2")
    assert "hunter2" not in str(caught.value)


URL = "redis://s3cret-user:s3cret-pass@127.0.0.1:1/0?client_name=s3cret-query"


def test_secrets_are_in_no_repr_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """Settings, errors and logs show where a server is, and nothing of user, password, options or keys."""
    caplog.set_level(logging.DEBUG)
    current = feedmill.configure(redis_url=URL, broker_url=URL, signing_key="s3cret-signing-key")
    shown = [repr(current), str(current)]
    for call in (
        lambda: HomeFeed(1)[:],
        lambda: feedmill.configure(redis_url=URL.replace("redis:", "http:")),
        lambda: feedmill.configure(redis_url=URL.replace("redis://", "")),
        lambda: feedmill.configure(redis_url="http://127.0.0.1?password=s3cret-p@ss"),
        lambda: feedmill.configure(redis_url="redis://:s3cret/s3cret@127.0.0.1/0"),
        lambda: feedmill.configure(broker_url="nonsense://:s3cret@127.0.0.1/0"),
        lambda: feedmill.configure(signing_key=["s3cret-signing-key"]),
        lambda: feedmill.configure(signing_key="s3cret"),
    ):
        with pytest.raises((StorageError, SettingsError)) as caught:
            call()
        shown.append(str(caught.value))
    shown += [record.getMessage() for record in caplog.records]
    assert "127.0.0.1:1/0" in shown[2]
    assert [text for text in shown if "s3cret" in text] == []
