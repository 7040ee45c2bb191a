"""A Redis with TLS and users: the whole job runs on it with no right more than the documentation names."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from celery import Celery

import feedmill
from feedmill import Activity, signing
from feedmill.aggregators import NotificationAggregator
from feedmill.doctor import examine
from feedmill.errors import StorageError
from feedmill.fanout import handle
from feedmill.storage.registry import backend
from feedmill.verbs import Love
from feedmill.worker import chunk_tasks, dead_letters, drain
from tests.celery_local.nodes import LocalWorker
from tests.conftest import free_port, redis_executable
from tests.feeds.samples import in_group, on_day
from tests.social import AUTHOR, FOLLOWERS, HomeFeed, NewsFeed, NotificationFeed, SocialManager

#: Seconds in which what must come comes.
SOON = 60.0
ROOT = Path(__file__).parent.parent
#: One server with its certificates for all of them.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("tls")]
PASSWORD, KEY = "pass-word-of-the-test", "signing-key-of-the-test"


class Secure(NamedTuple):
    """A server with TLS."""

    port: int
    folder: Path
    #: As somebody who may do everything, and the server's documented users.
    admin: redis.Redis

    def url(self, user: str, ca: str = "ca", more: str = "", database: int = 0) -> str:
        """How *user* connects."""
        options = f"ssl_cert_reqs=required&ssl_ca_certs={self.folder / ca}.pem{more}"
        return f"rediss://{user}:{PASSWORD}@127.0.0.1:{self.port}/{database}?{options}"


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def make_certificates(folder: Path) -> None:
    """An authority with a server's and a client's certificate, and another authority."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    for name in ("ca", "other"):
        openssl(folder, "req", "-x509", *key, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("server", "client"):
        openssl(folder, "req", *key[:-2], "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.pem")


def documented(user: str) -> str:
    """The line that docs/security.md gives for *user*."""
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- acl: {user} -->\n```\n(.*)\n```", text)
    assert found is not None
    return found[1].replace("PASSWORD", PASSWORD)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    """A real redis-server that speaks nothing but TLS, with the documented users."""
    folder, port = tmp_path_factory.mktemp("tls"), free_port()
    make_certificates(folder)
    users = [f"user default on >{PASSWORD} ~* &* +@all", documented("feedmill"), documented("celery")]
    (folder / "users.acl").write_text("\n".join(users) + "\n")
    files = {"cert": "server.pem", "key": "server.key", "ca-cert": "ca.pem"}
    options = [part for name, file in files.items() for part in (f"--tls-{name}-file", str(folder / file))]
    command = [redis_executable(), "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", *options]
    command += ["--tls-auth-clients", "optional", "--aclfile", str(folder / "users.acl"), "--dir", str(folder)]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen([*command, "--appendonly", "no", "--save", "3600 1"], stdout=log, stderr=log)
    try:
        secure = Secure(port, folder, redis.Redis())
        admin = redis.Redis.from_url(secure.url("default"))
        for _ in range(500):
            try:
                admin.ping()
                break
            except redis.ConnectionError:
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.02)
        yield secure._replace(admin=admin)
        admin.close()
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def secure(server: Secure) -> Secure:
    """The server, empty, in force under the documented user."""
    server.admin.flushall()
    server.admin.acl_log_reset()
    feedmill.configure(redis_url=server.url("feedmill"), celery_app="feedmill.tasks:app")
    return server


def sending_to(broker: str) -> Celery:
    """The app of this process, with its broker there."""
    feedmill.configure(broker_url=broker, celery_app="")
    app = Celery("test", set_as_current=True)
    app.config_from_object("feedmill.tasks.celeryconfig")
    app.conf.update(broker_url=broker)
    app.set_default()
    return app


def test_the_whole_job_runs_with_the_documented_rights(secure: Secure) -> None:
    """Writing, fanning out, reading, marking, listening and the doctor need no command and no key beyond the line."""
    sending_to(secure.url("celery", database=1))
    manager, run = SocialManager(), backend().run
    f1, love = f"{manager.name}:f1", feedmill.Activity(1, feedmill.verbs.Love, 2, target=7)
    run(backend().journal.open(manager.name, f1, "add", in_group(1, AUTHOR).raw_id))
    run(backend().journal.open(manager.name, f"{manager.name}:f2", "add", love.raw_id))
    drain.drain(manager.name)
    NewsFeed.insert_activities([in_group(n) for n in range(40)])
    for feed in (HomeFeed(7), NewsFeed(7), NotificationFeed(7)):
        feed.add_many([in_group(n) for n in range(40)])
        feed.add(on_day(3))
        feed.remove(in_group(3))
        assert feed[:5] and len(feed) and feed.page(2).items
        assert feed.contains(on_day(3)) and feed.index_of(on_day(3)) == 0
        feed.trim(1)
    notes = NotificationFeed(7)
    notes.mark_all(read=True)
    notes.denormalize_count()
    notes.publish_count(notes.get_denormalized_count())
    chunk_tasks.deliver(manager.name, "add", on_day(4).raw_id, "f3", 1, 0)
    run(backend().journal.record_error(f1, 1, "reason"))
    handle.Fanout(f1).status()
    handle.Fanout(f1).cancel()
    letter = dead_letters.keep_message("feedmill.deliver", ["x"], "why")
    assert dead_letters.get(letter).reason == "why"
    dead_letters.delete([letter])
    secure.admin.delete(f"fm:{NewsFeed.key_format % {'user_id': '{7}'}}:groups")
    secure.admin.set(NotificationFeed(7).count_key, "many")
    secure.admin.lpush(HomeFeed(99).key, "x")
    assert examine(fix=True).remaining == 0
    assert asyncio.run(read_from_a_coroutine()) >= 0
    for feed in (HomeFeed(7), NewsFeed(7), NotificationFeed(7)):
        feed.delete()
    denied = [(entry["reason"], entry["object"]) for entry in secure.admin.acl_log()]
    assert [entry for entry in denied if entry[1] != "config|get"] == []


def commands_of_the_code(known: set[str]) -> set[str]:
    """Every command that the code can send or a script can call, as an ACL names it: whatever is spelled like one."""
    found: set[str] = set()
    storage = ROOT / "feedmill" / "storage" / "redis"
    for path in storage.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Tuple):
                first, second = ([*(getattr(part, "value", None) for part in node.elts), None, None])[:2]
                found.add(f"{first}|{second}".lower())
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isupper():
                found.add(node.value.lower())
    for path in storage.rglob("*.lua"):
        found |= {word.lower() for word in re.findall(r"""["']([A-Z]+)["']""", path.read_text(encoding="utf-8"))}
    found &= known
    return found - {name.partition("|")[0] for name in found if "|" in name}


#: What redis-py sends by itself, for a connection.
OF_THE_CLIENT = {"auth", "hello", "select"}
#: What the documented user may not do; the doctor says what it could not look at or set, and how to allow it.
NOT_ALLOWED = {"config|get", "config|set", "config|rewrite"}


def test_the_documented_rights_are_what_the_code_needs(server: Secure) -> None:
    """A command that is added to the code is missing in the documentation until it is named there; one that is no longer
    used is a right that nobody needs."""
    known: set[str] = set()
    for name, facts in server.admin.command().items():
        names = [str(sub[0].decode()) for sub in facts.get("subcommands", ())]
        known |= {name.lower(), *(each.lower() for each in names)}
    used = commands_of_the_code(known)
    assert len(used) > 40, "the code is not read any more"
    allowed = set(re.findall(r" \+(\S+)", documented("feedmill")))
    assert used - allowed == NOT_ALLOWED
    assert allowed - used == OF_THE_CLIENT


async def read_from_a_coroutine() -> int:
    from feedmill.storage.procedures import aclose

    try:
        return len(await HomeFeed(7).aread())
    finally:
        await aclose()


def test_every_operation_runs_with_the_documented_rights(secure: Secure, tmp_path: Path) -> None:
    """A web process, a worker, beat and the command line, each over TLS as the documented users: whatever an app can ask
    for is done, also in groups of more members than a record holds, and the server has refused nothing."""
    broker = secure.url("celery", database=1)
    sending_to(broker)
    environment = {
        "FEEDMILL_REDIS_URL": secure.url("feedmill"),
        "FEEDMILL_BROKER_URL": broker,
        "FEEDMILL_MODULES": "tests.social",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    worker = LocalWorker.launch(
        ["celery", "-A", "feedmill.tasks", "worker", "-l", "INFO", "-E", "-P", "solo", "-B"],
        tmp_path / "worker",
        environment,
    )
    try:
        worker.ready()
        every_operation()
        for words in (
            *(
                ("fanouts",),
                ("sweep",),
                ("dead", "list"),
                ("dead", "retry", "--all"),
                ("explain", "reader", "nothing"),
            ),
            *(("doctor",), ("doctor", "--fix"), ("doctor",)),
        ):
            done = subprocess.run(
                [sys.executable, "-m", "feedmill", *words],
                env={**os.environ, **environment},
                capture_output=True,
                text=True,
                timeout=100,
                check=False,
            )
            assert done.returncode in (0, 1) and "Traceback" not in done.stderr, (words, done.stderr)
            assert "permission" not in done.stdout + done.stderr, (words, done.stdout, done.stderr)
        assert "healthy" in done.stdout
        while b"feedmill.sweep" not in worker.logs().encode():
            time.sleep(0.1)
    finally:
        print(worker.logs()[-3000:], secure.admin.acl_log())
        worker.teardown()
    assert "NOPERM" not in worker.logs() and "no permissions" not in worker.logs()
    refused = {(entry["username"], entry["reason"], entry["object"]) for entry in secure.admin.acl_log()}
    assert refused <= {("feedmill", "command", "config|get")}


def later(actor: int, number: int) -> Activity:
    """What *actor* did some days after the others."""
    return Activity(actor, Love, 1_000 + number, time=on_day(number).time)


def every_operation() -> None:
    """Whatever an app can ask of a manager and of its feeds."""
    manager, timeout = SocialManager(), 60
    manager.batch_import(3, [in_group(n, 3) for n in range(45)]).wait(timeout)
    manager.add_activities([later(4, 2), later(4, 3)]).wait(timeout)
    first = in_group(100, AUTHOR)
    manager.add_activity(first).wait(timeout)
    manager.add_activity(Activity(9, Love, 10, target=7)).wait(timeout)
    changed = Activity(AUTHOR, Love, first.object_id, time=first.time, extra_context={"new": 1})
    manager.update_activity(changed).wait(timeout)
    manager.follow_many("reader", [3, 4]).wait(timeout)
    manager.rebuild("reader").wait(timeout)
    for n in range(45):
        manager.notify([7], in_group(n, 1_000 + n)).wait(timeout)
    manager.unnotify([7], in_group(0, 1_000)).wait(timeout)
    home, news, notes = HomeFeed("reader"), NewsFeed("reader"), NotificationFeed(7)
    assert len(home[:]) == 47 and news[0].activity_count and len(notes) == 2
    for feed in (home, news, notes):
        page = feed.page(1)
        assert page.items and feed.page(1, after=page.next) and feed.order_by("activity_id")[:3]
        assert (
            feed.filter(verb=Love)[:2] is not None and feed.count() and feed.contains(in_group(7, 3)) is (feed != notes)
        )
    for feed in (news, notes):
        for group in feed[:]:
            seen, page = set(), feed.actors(group, limit=10)
            while page.next:
                seen |= set(page.items)
                page = feed.actors(group, limit=10, after=page.next)
            assert len(seen | set(page.items)) == group.actor_count
            assert feed.find_group(group.group) is not None
        for dry_run in (True, False):
            feedmill.feeds.reaggregate(feed, NotificationAggregator, dry_run=dry_run)
    with notes.subscribe() as counts:
        assert counts.get(SOON) == notes.get_denormalized_counts()
        notes.mark([notes[0]], seen=True, read=True)
        assert counts.get(SOON) == notes.get_denormalized_counts()
        notes.mark_all(read=True)
        assert counts.get(SOON) == notes.get_denormalized_counts()
    assert [each.present for each in manager.explain("reader", in_group(7, 3))].count(True) >= 2
    fanout = manager.unfollow("reader", 3)
    fanout.wait(timeout)
    fanout.cancel()
    assert home[:] == [later(4, 3), later(4, 2)]
    manager.remove_activity(first).wait(timeout)
    manager.remove_activity(later(4, 3).id).wait(timeout)
    home.trim(1)
    news.remove_many_aggregated(news[:1])
    notes.denormalize_count()
    notes.publish_count(1)
    for feed in (home, news, notes):
        feed.delete()
    asyncio.run(read_from_a_coroutine())


@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",),
        ("KEYS", "*"),
        ("CONFIG", "GET", "*"),
        ("EVAL", "return 1", 0),
        ("GET", "fanout.high"),
        ("PUBLISH", "elsewhere", "x"),
        ("ACL", "LIST"),
    ],
    ids=lambda command: command[0],
)
def test_the_documented_user_can_do_no_more(secure: Secure, command: tuple[Any, ...]) -> None:
    """Other commands, other keys and other channels are denied."""
    client = redis.Redis.from_url(secure.url("feedmill"))
    with pytest.raises(redis.ResponseError, match="no permissions|NOPERM|can't access"):
        client.execute_command(*command)
    client.close()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (lambda s: s.url("feedmill", ca="other"), "certificate verify failed"),
        (lambda s: s.url("feedmill").replace("rediss://", "redis://").partition("?")[0], "."),
        (lambda s: s.url("feedmill").replace(PASSWORD, "wrong-password"), "invalid username-password"),
    ],
    ids=["another authority", "no TLS", "wrong password"],
)
def test_who_is_not_who_they_say_is_an_error(secure: Secure, url: Any, reason: str) -> None:
    """A server of another authority, a client without TLS, a wrong password: an error that holds no secret."""
    feedmill.configure(redis_url=url(secure))
    with pytest.raises(StorageError, match=reason) as caught:
        HomeFeed(1).count()
    assert f"127.0.0.1:{secure.port}/0" in str(caught.value)
    assert PASSWORD not in str(caught.value) and "wrong-password" not in str(caught.value)


def test_a_client_may_show_a_certificate(secure: Secure) -> None:
    """Where the server asks for a client's certificate, it is named in the URL."""
    secure.admin.config_set("tls-auth-clients", "yes")
    try:
        # Options of its own, so that no connection from before is taken.
        feedmill.configure(redis_url=secure.url("feedmill", more="&health_check_interval=9"))
        with pytest.raises(StorageError):
            HomeFeed(1).count()
        mine = f"&ssl_certfile={secure.folder / 'client.pem'}&ssl_keyfile={secure.folder / 'client.key'}"
        feedmill.configure(redis_url=secure.url("feedmill", more=mine))
        assert HomeFeed(1).count() == 0
    finally:
        secure.admin.config_set("tls-auth-clients", "optional")


def test_a_worker_over_tls_does_what_is_signed_and_tells_no_secret(secure: Secure, tmp_path: Path) -> None:
    """A real worker, broker and feeds over TLS as the documented users, signed messages: a pickled and an unsigned
    message change nothing and are kept as dead letters, what we send is delivered, and no secret is in the log,
    in what the worker answers when it is asked (all that Flower can know), or in what our own commands say."""
    broker = secure.url("celery", database=1)
    feedmill.configure(signing_key=KEY)
    app = sending_to(broker)
    environment = {
        "FEEDMILL_REDIS_URL": secure.url("feedmill"),
        "FEEDMILL_BROKER_URL": broker,
        "FEEDMILL_SIGNING_KEY": KEY,
        "FEEDMILL_MODULES": "tests.social",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    bad = tmp_path / "code-was-run"
    worker = LocalWorker.launch(
        ["celery", "-A", "feedmill.tasks", "worker", "-l", "DEBUG", "-E", "-P", "solo"],
        tmp_path / "worker",
        environment,
    )
    try:
        worker.ready()
        run = backend().run
        forged = f"{SocialManager.name}:forged"
        plan = run(backend().journal.open(SocialManager.name, forged, "add", on_day(5).raw_id, sent=True)).generation
        args = [SocialManager.name, "add", on_day(5).raw_id, forged, plan, 0]
        app.send_task("feedmill.deliver", args=args, queue="fanout.high", serializer="msgpack")
        app.send_task("feedmill.deliver", args=[Boom(str(bad))], queue="fanout.high", serializer="pickle")
        SocialManager().add_activity(in_group(2, AUTHOR)).wait(60)
        assert HomeFeed(FOLLOWERS[-1])[:] == [in_group(2, AUTHOR)]
        assert HomeFeed(1)[:] == [] and not bad.exists()
        unsigned, pickled = sorted(dead_letters.newest(), key=lambda letter: letter.reason)
        assert "is not signed" in unsigned.reason and dead_letters.content(unsigned) == ["feedmill.deliver", args]
        assert "untrusted content of type pickle" in pickled.reason
        app.send_task("feedmill.deliver", args=args, queue="fanout.high", countdown=90, argsrepr="waits for a while")
        inspect = app.control.inspect(timeout=10, limit=1)
        while "waits for a while" not in str(inspect.scheduled()):
            time.sleep(0.05)
        questions = (inspect.conf, inspect.stats, inspect.report, inspect.registered)
        questions = (*questions, inspect.scheduled, inspect.reserved, inspect.active)
        asked = [str(question()) for question in questions]
        assert all("celery@" in answer for answer in asked)
    finally:
        log = worker.logs()
        print(log, secure.admin.acl_log())  # for whoever reads why a test failed
        worker.teardown()
        app.close()
    assert "Refusing to deserialize" in log or "ContentDisallowed" in log
    asked += [told_by_the_command(environment, *words) for words in (("doctor",), ("fanouts",), ("dead", "list"))]
    for secret in (PASSWORD, KEY, signing._secrets(KEY)[0].hex()):
        assert [text for text in (log, *asked) if secret in text] == []
    assert [text for text in (log, *asked) if repr(on_day(5).raw_id)[2:-1] in text or "x0eE" in text] == []


def told_by_the_command(environment: dict[str, str], *words: str) -> str:
    """What ``feedmill`` says, of a server that is there and of one that refuses the password."""
    said = ""
    for url in (environment["FEEDMILL_REDIS_URL"], environment["FEEDMILL_REDIS_URL"].replace("feedmill:", "nobody:")):
        command = [sys.executable, "-m", "feedmill", *words]
        variables = {**os.environ, **environment, "FEEDMILL_REDIS_URL": url}
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)
        said += done.stdout + done.stderr
    assert "invalid username-password" in said
    return said


class Boom:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)
