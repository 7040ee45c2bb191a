"""Which settings are in force, and from where; nothing that is secret is shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import feedmill
from feedmill import settings
from feedmill.cli import shapes
from feedmill.cli.show_settings import HIDDEN
from feedmill.errors import SettingsError
from tests.cli.samples import invoke, run, run_json
from tests.test_host_app_lookup import Folder


def named(found: dict[str, object]) -> dict[str, dict[str, object]]:
    return {each["name"]: each for each in found["settings"]}  # type: ignore[attr-defined,index]


def test_each_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    """A default, the environment, a call, and whoever speaks last has it."""
    for name in [name for name in os.environ if name.startswith("FEEDMILL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FEEDMILL_LOCK_TTL", "7")
    monkeypatch.setenv("FEEDMILL_QUEUE_LIMIT", "9")
    monkeypatch.setattr(settings, "_current", None)
    feedmill.configure(queue_limit=11, redis_url="memory://", celery_app="feedmill.tasks:app")
    found = named(run_json(shapes.Settings, "settings"))
    for name, shown in {
        "lock_ttl": (7.0, "environment", "FEEDMILL_LOCK_TTL"),
        "queue_limit": (11, "configure()", "configure(queue_limit=…)"),
        "clamp_future": (False, "default", ""),
    }.items():
        assert tuple(found[name][key] for key in ("value", "origin", "spelled")) == shown
    assert "FEEDMILL_LOCK_TTL" in run("settings") and "(empty)" in run("settings")
    changed = settings.change({"lock_ttl": 8}, settings.DJANGO, afresh=True)
    assert (changed.lock_ttl, changed.queue_limit) == (8.0, 9)
    assert dict(changed.origins) == {"lock_ttl": "Django setting", "queue_limit": "environment"}
    with pytest.raises(SettingsError):
        settings.change({"lock_ttl": -1}, settings.DJANGO, afresh=True)
    assert settings.current() is changed


SECRET = "open-sesame-0123456789"


def test_secrets_are_hidden() -> None:
    """Passwords of URLs, also as options, and signing keys."""
    feedmill.configure(
        redis_url=f"redis://u:{SECRET}@127.0.0.1:1/0?password={SECRET}",
        broker_url=f"amqp://u:{SECRET}@one//;redis://:{SECRET}@two:1/3",
        signing_key=SECRET,
        celery_app="feedmill.tasks:app",
    )
    for words in (["settings"], ["settings", "--json"]):
        result = invoke(*words)
        assert result.exit_code == 0 and SECRET not in result.output, result.output
    found = named(run_json(shapes.Settings, "settings"))
    assert found["signing_key"]["value"] == HIDDEN and found["redis_url"]["value"] == "redis://127.0.0.1:1/0"
    assert found["broker_url"]["value"] == "amqp://one//;redis://two:1/3"


def test_what_makes_no_sense(tmp_path: Path, redis_url: str) -> None:
    """A setting that does not exist, or a bad value, is one line that names it."""
    for name, value, text in (
        ("FEEDMILL_RADIS_URL", "x", "no setting 'FEEDMILL_RADIS_URL'; did you mean 'FEEDMILL_REDIS_URL'?"),
        ("FEEDMILL_LOCK_TTL", "soon", "FEEDMILL_LOCK_TTL is 'soon'; use a number"),
    ):
        folder = Folder(tmp_path, redis_url, **{name: value})
        for words in (["settings"], ["ping"], ["dead", "list"]):
            done = folder.command(*words)
            assert (done.returncode, done.stderr) == (1, f"Error: {text}\n"), done


def test_the_app_and_its_broker(tmp_path: Path, redis_url: str) -> None:
    """The project's Celery app is named with its broker, and so is what --app says."""
    folder = Folder(tmp_path, redis_url)
    done = folder.command("-A", "proj", "settings")
    assert done.returncode == 0, done.stderr
    assert f"Celery app 'proj', broker {redis_url.replace('/0', '/1')}" in done.stdout
    assert any(line.split() == ["celery_app", "--app", "proj"] for line in done.stdout.splitlines())
    folder.write("deaf.py", "from celery import Celery\napp = Celery('deaf', broker='nonsense://')\n")
    done = folder.command("-A", "deaf", "settings")
    assert done.returncode == 0 and "problem: the Celery app 'deaf' does not accept msgpack" in done.stdout, done.stderr
