"""Two deployments on one server, apart by a key prefix or a database: neither takes what is the other's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

import feedmill
from feedmill import settings, signing
from feedmill.fanout import publisher
from feedmill.keys import channel_name
from feedmill.tasks import foreign_messages
from tests.celery_local.rabbit import LocalRabbit
from tests.feeds.samples import Notes, in_group, on_day
from tests.test_host_app_lookup import Folder

pytestmark = pytest.mark.slow

ADD = """
from friends import Activity, Love, manager
fanout = manager.add_activity(Activity("ann", Love, {number}))
"""
WAIT = "print(fanout.wait(90).finished, len(manager.get_feeds('bob')['home']))"


def until(found: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What *found* finds, as soon as it finds something."""
    deadline = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.1)
    return result


@contextmanager
def working(folder: Folder, app: str, *more: str) -> Iterator[Path]:
    """A worker of *app* in *folder*, while the block runs; the path of its log."""
    log = folder.path / f"log-{time.monotonic_ns()}"
    command = [sys.executable, "-m", "celery", "-A", app, "worker", "-P", "solo", "-l", "INFO", *more]
    command += ["-Q", publisher.QUEUES, "--without-gossip", "--without-mingle", "-n", f"{log.name}@here"]
    with open(log, "wb") as file:
        worker = subprocess.Popen(command, cwd=folder.path, env=folder.env, stdout=file, stderr=file)
    try:
        until(lambda: " ready." in log.read_text())
        yield log
    finally:
        worker.terminate()
        worker.wait(60)


def site(tmp_path: Path, name: str, redis_url: str, **env: str) -> Folder:
    """A project of its own, whose workers are Feedmill's or its own."""
    (tmp_path / name).mkdir()
    return Folder(tmp_path / name, redis_url, FEEDMILL_MODULES="friends", **env)


@pytest.fixture
def prefixed(tmp_path: Path, redis_url: str) -> tuple[Folder, Folder]:
    """Two sites with Feedmill's own app on one server and database, apart by their prefixes."""
    first, second = (site(tmp_path, name, redis_url, FEEDMILL_KEY_PREFIX=f"{name}:") for name in ("a", "b"))
    return first, second


def test_queues_in_redis_have_the_prefix(prefixed: tuple[Folder, Folder], redis_url: str) -> None:
    """What a site sends lies in a queue of its own, whose length it knows: the limit to queues holds there, too."""
    site_a, site_b = prefixed
    use = "from feedmill.tasks import app\n"
    site_a.run(use + ADD.format(number=1) + "manager.follow('bob', 'ann'); manager.follow('cleo', 'ann')")
    look = use + "from feedmill.fanout import publisher\nprint(publisher.length('fanout.high'))"
    assert (site_a.run(look), site_b.run(look)) == ("3", "0")
    client = redis.Redis.from_url(redis_url)
    assert (client.llen("a:fanout.high"), client.llen("fanout.high")) == (3, 0)


def test_other_sites_workers_never_see_a_message(prefixed: tuple[Folder, Folder], redis_url: str) -> None:
    """With the other site's worker alone nothing is taken; with its own all is delivered, and pings stay at home."""
    site_a, site_b = prefixed
    with working(site_b, "feedmill.tasks") as log_b:
        site_a.run(ADD.format(number=1))
        ping = "from feedmill.tasks import app\nprint(len(app.control.ping(timeout=1)))"
        until(lambda: site_b.run(ping) == "1")
        assert site_a.run(ping) == "0"
        assert redis.Redis.from_url(redis_url).llen("a:fanout.high") == 1
        with working(site_a, "feedmill.tasks"):
            assert site_a.run(ADD.format(number=2) + WAIT) == "True 2"
        assert "received" not in log_b.read_text()


@pytest.fixture(params=["redis", "rabbitmq"])
def shared_broker(request: pytest.FixtureRequest, redis_url: str) -> str:
    """One broker for the host apps of two sites."""
    if request.param == "redis":
        return redis_url[:-1] + "5"
    rabbit: LocalRabbit = request.getfixturevalue("default_rabbitmq_broker")
    return rabbit.url


@pytest.fixture
def sharing(tmp_path: Path, redis_url: str, shared_broker: str) -> tuple[Folder, Folder]:
    """Two sites with apps of their own on one broker, whose feeds are in two databases."""
    first = site(tmp_path, "one", redis_url)
    second = site(tmp_path, "two", redis_url[:-1] + "2")
    for folder in (first, second):
        text = (folder.path / "proj.py").read_text()
        (folder.path / "proj.py").write_text(
            f"{text}app.conf.broker_url = {shared_broker!r}\napp.conf.worker_prefetch_multiplier = 1\n"
            "app.conf.beat_schedule = {'s': {'task': 'feedmill.sweep', 'schedule': 0.2, 'options': {'queue': 'fanout.high'}}}\n"
        )
    return first, second


def test_a_message_of_another_deployment_is_put_back(sharing: tuple[Folder, Folder]) -> None:
    """Its worker finds it in the shared queue; the other one says loudly, once, what is wrong and what to do."""
    mine, theirs = sharing
    with working(theirs, "proj") as log:
        mine.run("import proj\n" + ADD.format(number=1))
        until(lambda: "is for deployment '0:fm:', and this worker is of deployment '2:fm:'" in log.read_text())
        with working(mine, "proj"):
            assert mine.run("import proj\n" + ADD.format(number=2) + WAIT) == "True 2"
            assert theirs.run("import proj\n" + ADD.format(number=3) + WAIT) == "True 1"
            mine.env["FEEDMILL_CELERY_APP"] = "proj:app"
            told = until(lambda: "shared queues" in (said := mine.command("doctor").stdout) and said)
            assert "belong to another deployment, '2:fm:'" in told and foreign_messages.ADVICE in told
        assert log.read_text().count("this worker is of deployment '2:fm:'") == 1
        assert "is for deployment" in log.read_text() and "Traceback" not in log.read_text()


def test_what_nobody_takes_is_left_to_the_journal(memory: None, caplog: pytest.LogCaptureFixture) -> None:
    """A message that was put back often enough is dropped with a word, and nothing of it is done here."""
    from feedmill.tasks import app

    headers = {signing.FOR: "9:other:", foreign_messages.BACK: foreign_messages.MOST}
    assert app.tasks["feedmill.fanout"].apply(["NoSuchManager"], headers=headers).get() == 0
    assert "for deployment '9:other:' found no worker of its own" in caplog.text


def test_every_message_says_for_whom_it_is(redis_url: str) -> None:
    """Also those of beat, and of who calls a task by hand; a message of an older release is for whoever gets it."""
    from celery import Celery

    import feedmill.tasks

    app = Celery("sender", broker=redis_url, set_as_current=False)
    app.conf.accept_content = ["msgpack"]
    app.finalize()
    feedmill.tasks.sweep.bind(app)
    app.tasks["feedmill.sweep"].apply_async(queue="looked-at")
    message = json.loads(redis.Redis.from_url(redis_url).rpop("looked-at"))  # type: ignore[arg-type]
    assert message["headers"][signing.FOR] == "0:fm:"
    assert signing.headers("feedmill.fanout", ["M"])[signing.FOR] == "0:fm:"
    assert (
        signing.other_deployment({signing.FOR: "0:fm:"})
        == signing.other_deployment({})
        == signing.other_deployment(None)
        == ""
    )
    assert signing.other_deployment({signing.FOR: "1:fm:"}) == "1:fm:"


# -- published counts


@pytest.mark.parametrize(
    ("change", "called"),
    [
        ({}, "juggernaut"),
        ({"key_prefix": "a:"}, "0:a:juggernaut"),
        ({"database": 1}, "1:fm:juggernaut"),
        ({"database": 1, "key_prefix": ""}, "1:juggernaut"),
    ],
)
def test_what_a_channel_is_called(redis_url: str, change: dict[str, Any], called: str) -> None:
    """The name at the server: as it is declared in the usual place, else with database and prefix."""
    change = dict(change)
    feedmill.configure(redis_url=f"{redis_url[:-1]}{change.pop('database', 0)}", **change)
    assert Notes.channel() == called == channel_name("juggernaut")
    client = redis.Redis.from_url(redis_url)
    listener = client.pubsub(ignore_subscribe_messages=True)
    listener.psubscribe("*")
    listener.get_message(timeout=60)
    Notes(1).add(in_group(1, 1))
    message = until(lambda: listener.get_message(timeout=1))
    assert message["channel"].decode() == f"{called}:{Notes.key_of(1)}" == Notes.channel_of(1)
    listener.close()
    client.close()


@pytest.mark.parametrize("apart", [{"redis_url": "1"}, {"key_prefix": "b:"}], ids=["database", "prefix"])
def test_a_subscriber_hears_its_own_deployment(redis_url: str, apart: dict[str, str]) -> None:
    """The counts of the same user in another deployment are not told to who listens in this one."""
    if "redis_url" in apart:
        apart = {"redis_url": redis_url[:-1] + "1"}
    here = settings.current()
    with ExitStack() as stack:
        counts = stack.enter_context(Notes(1).subscribe())
        assert counts.get(timeout=60) == (0, 0, 0)
        feedmill.configure(**apart)
        for number in range(3):
            Notes(1).add(on_day(number + 1))
        theirs = Notes(1).get_denormalized_counts()
        assert theirs.unseen == 3
        settings._current = here
        Notes(1).add(in_group(9, 9))
        assert counts.get(timeout=60) == (1, 1, 1)
        assert counts.get(timeout=0.2) is None


def test_declarations_read_no_settings(tmp_path: Path) -> None:
    """Feeds and managers may be declared before anybody has said where Redis is: what counts is what is said by the first use."""
    script = tmp_path / "late.py"
    script.write_text(
        "import os\n"
        "import tests.social\n"
        "class SameFeeds(tests.social.SocialManager):\n"
        "    name = 'same'\n"
        "os.environ['FEEDMILL_REDIS_URL'] = 'redis://elsewhere:7000/3'\n"
        "os.environ['FEEDMILL_KEY_PREFIX'] = 'shop:'\n"
        "from feedmill import keys, settings\n"
        "print(settings.current().redis_url, keys.feed_key(tests.social.HomeFeed.key_format, 5))\n"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FEEDMILL_")}
    root = str(Path(__file__).parent.parent)
    run = subprocess.run(
        [sys.executable, script], env=clean | {"PYTHONPATH": root}, capture_output=True, text=True, timeout=60
    )
    assert run.stdout == "redis://elsewhere:7000/3 shop:social:home:{5}\n", run.stderr
