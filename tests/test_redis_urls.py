"""Every Redis URL that is accepted works for the feeds and, where no other is named, for the broker; others are refused."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from kombu import Connection

import feedmill
from feedmill import settings
from feedmill.errors import SettingsError
from feedmill.redis_urls import parsed
from feedmill.storage.registry import backend
from feedmill.tools.local_servers import broker_of
from tests.conftest import redis_executable
from tests.feeds.samples import Home, on_day
from tests.test_host_app_lookup import Folder

#: What may stand behind the question mark, and what kombu is told of it.
ACCEPTED = {
    "socket_timeout=5": {"socket_timeout": 5.0},
    "socket_connect_timeout=2.5": {"socket_connect_timeout": 2.5},
    "socket_keepalive=true": {"socket_keepalive": True},
    "socket_keepalive=no": {"socket_keepalive": False},
    "health_check_interval=10": {"health_check_interval": 10},
    "client_name=site": {"client_name": "site"},
    "max_connections=500": {},
    "protocol=2": {},
    "db=3": {},
    "socket_timeout=5&client_name=a-b": {"socket_timeout": 5.0, "client_name": "a-b"},
}
#: What may not, and what its error names.
REFUSED = {
    "decode_responses=True": "the option 'decode_responses', which Feedmill does not have",
    "ssl=1": "the option 'ssl', which Feedmill does not have",
    "timeout=5": "the option 'timeout', which Feedmill does not have; did you mean 'socket_timeout'",
    "encoding=latin-1": "the option 'encoding'",
    "protocol=3": "the option protocol=3; it takes 2",
    "ssl_cert_reqs=none": "the option 'ssl_cert_reqs', which is about TLS; use rediss://",
    "socket_timeout=soon": "the option socket_timeout=soon; it takes a positive number of seconds",
    "socket_timeout=0": "the option socket_timeout=0;",
    "socket_timeout=nan": "the option socket_timeout=nan;",
    "max_connections=0": "the option max_connections=0; it takes a positive whole number",
    "max_connections=-1": "the option max_connections=-1;",
    "socket_keepalive=perhaps": "the option socket_keepalive=perhaps; it takes true or false",
    "db=two": "the option db=two; it takes a number",
    "client_name=": "the option client_name=; it takes a name",
    "client_name=a%20b": "the option client_name=a b; it takes a name",
    "socket_timeout=5&socket_timeout=6": "the option 'socket_timeout' twice",
    "virtual_host=/x": "the option 'virtual_host'",
}


@pytest.mark.parametrize("options", ACCEPTED)
def test_an_accepted_option_works_everywhere(redis_url: str, options: str) -> None:
    """redis-py and kombu both connect with it, to the same database."""
    current = feedmill.configure(redis_url=f"{redis_url}?{options}")
    Home(1).add(on_day(1))
    assert Home(1).count() == 1
    assert current.broker_options == ACCEPTED[options]
    with Connection(current.effective_broker_url, transport_options=current.broker_options) as broker:
        broker.default_channel.client.lpush("notified", "x")
    database = redis.Redis.from_url(redis_url[:-1] + ("3" if options == "db=3" else "0"))
    assert database.llen("notified") == 1
    assert database.exists(Home(1).key)


@pytest.mark.parametrize("setting", ["redis_url", "broker_url"])
@pytest.mark.parametrize("options", REFUSED)
def test_a_senseless_option_is_refused_at_once(redis_url: str, setting: str, options: str) -> None:
    """By the name of the setting and of the option, when it is set."""
    with pytest.raises(SettingsError) as caught:
        feedmill.configure(**{setting: f"{redis_url}?{options}"})
    assert f"FEEDMILL_{setting.upper()} is " in str(caught.value) and REFUSED[options] in str(caught.value)


MALFORMED = [
    "redis://u:secret@[::1:6379/0",
    "redis://u:secret@host:6379x/0",
    "redis://u:secret@host:99999/0",
    "redis://u:secret@host:0/0",
    "redis://u:sec/ret@host:6379/0",
    "redis://u:secret@host:6379/feeds",
    "redis://u:secret@host:6379/0#secret",
    "rediss://u:secret@[::1:6379/0",
    "unix://u:secret@",
    "unix://u:secret@relative/path",
]


@pytest.mark.parametrize("setting", ["redis_url", "broker_url"])
@pytest.mark.parametrize("url", MALFORMED)
def test_a_malformed_url_is_refused_at_once(setting: str, url: str) -> None:
    """No bare ValueError, and nothing of the password."""
    with pytest.raises(SettingsError, match=f"FEEDMILL_{setting.upper()} is ") as caught:
        feedmill.configure(**{setting: url})
    assert "sec" not in str(caught.value).replace("second", "")
    assert caught.value.__cause__ is None or "sec" not in str(caught.value.__cause__)


@pytest.mark.parametrize(
    "url", ["amqp://u:secret@[::1//", "amqp://u:secret@host/?no_such_option=1", "amqp://u:secret@host:port/"]
)
def test_a_broker_that_celery_refuses_is_refused_at_once(url: str) -> None:
    """The same of brokers that are no Redis."""
    with pytest.raises(SettingsError, match="FEEDMILL_BROKER_URL is ") as caught:
        feedmill.configure(broker_url=url)
    assert "secret" not in str(caught.value)


#: How kombu is told what redis-py is told.
SPELLED = {
    "redis://host": "redis://host/0",
    "REDIS://host:6380/2": "redis://host:6380/2",
    "redis://u:p%2Fw%40@host:6380/2": "redis://u:p%2Fw%40@host:6380/2",
    "redis://:pw@host/1": "redis://:pw@host/1",
    "redis://host/1?username=u&password=p%26w": "redis://u:p%26w@host/1",
    "redis://[::1]:6380/2": "redis://[::1]:6380/2",
    "redis://host/1?db=4": "redis://host/4",
    "rediss://host/1": "rediss://host/1?ssl_cert_reqs=required",
    "rediss://host/1?ssl_cert_reqs=none&ssl_ca_certs=/a%20b.pem": "rediss://host/1?ssl_cert_reqs=none&ssl_ca_certs=%2Fa%20b.pem",
    "rediss://host/1?ssl_check_hostname=0": "rediss://host/1?ssl_check_hostname=false&ssl_cert_reqs=required",
    "unix:///run/redis.sock": "redis+socket:///run/redis.sock?virtual_host=0",
    "unix:///run/redis.sock?db=2": "redis+socket:///run/redis.sock?virtual_host=2",
    "unix://u:p%2Fw@/run/redis.sock?db=2": "redis+socket://u:p%2Fw@/run/redis.sock?virtual_host=2",
    "memory://": "memory://",
}


@pytest.mark.parametrize("url", SPELLED)
def test_the_broker_is_spelled_for_celery(url: str) -> None:
    """What is accepted for feeds is what Celery connects to, as a derived broker or as one of its own."""
    assert feedmill.configure(redis_url=url).effective_broker_url == SPELLED[url]
    feedmill.configure(redis_url="memory://", broker_url=f"amqp://host//;{url}")
    assert settings.current().effective_broker_url == f"amqp://host//;{SPELLED[url]}"


def test_kombu_reads_what_is_meant() -> None:
    """User, password, host, port, database and TLS arrive where kombu has them."""
    feedmill.configure(redis_url="rediss://u:p%2Fw%40@[::1]:6380/2?ssl_ca_certs=/ca.pem&ssl_check_hostname=false")
    broker = Connection(settings.current().effective_broker_url)
    assert (broker.userid, broker.password, broker.hostname, broker.port) == ("u", "p/w@", "::1", 6380)
    assert broker.virtual_host == "2"
    assert broker.ssl["ssl_ca_certs"] == "/ca.pem" and broker.ssl["ssl_check_hostname"] is False
    assert broker.ssl["ssl_cert_reqs"].name == "CERT_REQUIRED"


def test_the_broker_beside_a_server() -> None:
    """The next database, wherever the URL names the first; other options stay."""
    assert broker_of("redis://:pw@host:1/4") == "redis://:pw@host:1/5"
    assert broker_of("redis://host/?db=4&socket_timeout=5") == "redis://host/5?socket_timeout=5.0"
    assert parsed("it", broker_of("unix:///run/redis.sock?db=4")).database == 5
    assert broker_of("memory://") == "memory://"


@pytest.fixture(scope="module")
def socket_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that listens on a socket in the file system alone, and wants a password."""
    path = tmp_path_factory.mktemp("socket") / "redis.sock"
    command = [redis_executable(), "--port", "0", "--unixsocket", str(path), "--requirepass", "p/w", "--save", ""]
    server = subprocess.Popen(command, cwd=path.parent, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not path.exists():
            assert time.monotonic() < deadline and server.poll() is None
            time.sleep(0.02)
        yield f"unix://:p%2Fw@{path}?db=2"
    finally:
        server.kill()
        server.wait()


def test_feeds_and_broker_on_a_socket(socket_url: str, tmp_path: Path) -> None:
    """With a unix:// URL alone, what a process adds is delivered by a worker, and no password stands in its log."""
    folder = Folder(tmp_path, socket_url, FEEDMILL_MODULES="friends", FEEDMILL_CELERY_APP="feedmill.tasks:app")
    command = [sys.executable, "-m", "celery", "-A", "feedmill.tasks", "worker", "-P", "solo", "-l", "INFO"]
    with open(tmp_path / "log", "wb") as log:
        worker = subprocess.Popen(command, cwd=tmp_path, env=folder.env, stdout=log, stderr=log)
    try:
        said = folder.run(
            "from friends import Activity, Love, manager\n"
            "print(manager.add_activity(Activity('ann', Love, 1)).wait(60).finished, len(manager.get_feeds('bob')['home']))"
        )
        assert said == "True 1"
        assert "healthy" in folder.command("doctor").stdout or "appendonly" in folder.command("doctor").stdout
    finally:
        worker.terminate()
        worker.wait(60)
    text = (tmp_path / "log").read_text()
    assert "p/w" not in text and "p%2Fw" not in text
    feedmill.configure(redis_url=socket_url)
    assert backend().run(iter_ping()) == b"PONG"


def iter_ping() -> Iterator[list[tuple[str]]]:  # type: ignore[misc]
    """An operation that says PING."""
    (answer,) = yield [("PING",)]
    return answer  # type: ignore[return-value]


def test_every_documented_url_is_accepted() -> None:
    """The URLs of the documentation are."""
    root = Path(__file__).parent.parent
    texts = [path.read_text(encoding="utf-8") for path in (root / "docs").rglob("*.md")]
    urls = {
        shlex.split(line.strip().removeprefix("export "))[0].split("=", 1)[1].replace("PASSWORD", "secret")
        for text in texts
        for line in text.splitlines()
        if line.strip().removeprefix("export ").startswith(("FEEDMILL_REDIS_URL=", "FEEDMILL_BROKER_URL="))
    }
    assert urls
    for url in urls:
        feedmill.configure(redis_url=url)
    assert os.environ.get("FEEDMILL_REDIS_URL") is None


@pytest.mark.parametrize("command", [["doctor"], ["fanouts"], ["dead", "list"]])
@pytest.mark.parametrize("modules", ["", "tests.feeds.samples"])
def test_the_command_line_says_in_one_line_what_is_wrong(command: list[str], modules: str) -> None:
    """A setting that cannot be is an error message and no traceback, although it is read when feeds are declared."""
    environ = {**os.environ, "FEEDMILL_REDIS_URL": "redis://localhost/feeds", "FEEDMILL_MODULES": modules}
    done = subprocess.run(
        [sys.executable, "-m", "feedmill", *command], env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ") and "FEEDMILL_REDIS_URL is 'redis://localhost/feeds', whose port or" in line


def test_a_feed_is_not_declared_with_settings_that_cannot_be() -> None:
    """A web app whose environment is wrong is told when it starts, not by its first reader."""
    environ = {**os.environ, "FEEDMILL_REDIS_URL": "redis://localhost/feeds"}
    done = subprocess.run(
        [sys.executable, "-c", "import tests.feeds.samples"], env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and "FEEDMILL_REDIS_URL is 'redis://localhost/feeds'" in done.stderr
