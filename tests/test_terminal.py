"""What is stored, or stands in a file, never reaches a terminal as anything but signs to be read."""

from __future__ import annotations

import ast
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner

import feedmill
from feedmill import Activity, registry
from feedmill.cli.main import main
from feedmill.cli.terminal import printable, progress
from feedmill.fanout.handle import fanout_id
from feedmill.keys import dead_letters_key, due_key, fanout_record_key
from feedmill.msgpack_codec import pack
from feedmill.storage.registry import backend
from feedmill.verbs import Love
from feedmill.worker import dead_letters
from tests.social import HomeFeed, SocialManager

#: A title for the window, a new line that looks like one of ours, a line that is written over, an answer-back, the
#: eight-bit form of an escape, text that runs backwards, other ends of lines, half of a character.
NASTY = "a\x1b]0;owned\x07\nno dead letters\rb\x9b31m\u202egnp.exe\u2066\u2028c\x85d\x00e\x7f\x0bf\ufeff\U000e0041"


FANOUT = f"{SocialManager.name}:{NASTY}"


def harmless(output: str) -> bool:
    """Whether nothing in it does anything but end lines of ours."""
    return all(sign == "\n" or unicodedata.category(sign) not in ("Cc", "Cf", "Zl", "Zp", "Cs") for sign in output)


def test_every_character() -> None:
    """Of all characters there are, those that a terminal acts on are escaped, and all others stay as they are."""
    for number in range(sys.maxunicode + 1):
        sign = chr(number)
        shown = printable(sign)
        if sign in "\u200c\u200d":
            assert shown == sign
        elif unicodedata.category(sign) in ("Cc", "Cf", "Zl", "Zp", "Cs"):
            assert shown.isascii() and shown.isprintable() and len(shown) > 1
        else:
            assert shown == sign
    assert printable("Zoë, 王, 👩\u200d🚀") == "Zoë, 王, 👩\u200d🚀"
    assert printable("a\nb\x1b") == "a\\nb\\x1b"


def test_there_is_one_way_to_the_terminal() -> None:
    """No module but one prints."""
    root = Path(feedmill.__file__).parent
    for path in root.rglob("*.py"):
        if path.name == "terminal.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in ("print", "click.echo", "click.secho", "sys.stdout.write"), path


@pytest.fixture
def told(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> redis.Redis:
    """A server on which everything has a nasty name, and one manager that knows nothing of it."""
    monkeypatch.setattr(registry, "_managers", {SocialManager.name: SocialManager})
    run, server = backend().run, redis.Redis.from_url(redis_url)
    letter: dict[Any, Any] = {"kind": NASTY, "reason": NASTY, "payload": pack([NASTY, [NASTY]]), "manager": NASTY}
    server.xadd(dead_letters_key(), letter)
    dead_letters.keep_message(NASTY, [NASTY], NASTY)
    body, good = Activity(1, Love, 2).raw_id, fanout_id(SocialManager.name, b"good")
    letter |= {"kind": "fanout", "payload": pack(["add", body, FANOUT + "3"]), "manager": SocialManager.name}
    server.xadd(dead_letters_key(), letter)
    run(backend().journal.open(SocialManager.name, good, "add", body))
    for name in (good, FANOUT):
        server.hset(fanout_record_key(name), mapping={"error": NASTY, "op": NASTY})
    server.zadd(due_key(SocialManager.name), {FANOUT + "2": 1})
    server.lpush(HomeFeed.key_of(NASTY), NASTY)
    server.hset(fanout_record_key(FANOUT + "4"), mapping={"generation": NASTY, "manager": NASTY, "op": NASTY})
    return server


def test_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar says how much of how much is done and how fast, on a terminal alone."""
    with progress("fan-out") as seen:
        seen(1, 2)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress("fan-out") as seen:
        for done in (0, 10, 5, 40):
            seen(done, 40)
    out, bar = capsys.readouterr()
    assert not out and "fan-out" in bar and "10/40" in bar and "40/40" in bar and "/s" in bar


def test_no_command_passes_anything_on(told: redis.Redis, capfd: pytest.CaptureFixture[str]) -> None:
    """Reasons, names, ids and keys, in what each command prints and in what is refused."""
    third, second, first = (letter.id for letter in dead_letters.newest())
    for words in (
        *(("dead", "list"), ("dead", "show", first), ("dead", "show", second), ("dead", "show", NASTY)),
        *(("dead", "retry", second, third), ("dead", "delete", NASTY), ("fanouts",), ("explain", NASTY, NASTY)),
        *(("explain", "1", "2", "--manager", NASTY), ("doctor",), ("doctor", "--fix"), ("sweep",)),
    ):
        result = CliRunner().invoke(main, words)
        assert not isinstance(result.exception, Exception), (words, result.exception)
        assert result.output and harmless(result.output), (words, result.output)
        if words[-1] != NASTY:
            assert "owned" in result.output or words[0] in ("sweep", "doctor"), words
    assert harmless(capfd.readouterr().err)
