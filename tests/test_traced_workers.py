"""Traces of real prefork workers, as a collector gets them: one for each request, to the last chunk, whoever was killed meanwhile."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from opentelemetry import trace as api
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from feedmill import Activity, tracing
from feedmill.contrib import opentelemetry
from feedmill.fanout import publisher
from feedmill.fanout.handle import Fanout
from feedmill.verbs import Love
from feedmill.worker import drain
from tests import exporting
from tests.celery_local.nodes import LocalWorker
from tests.celery_local.sending import sending_app
from tests.exporting import CROWD, TracedManager

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
NAME = TracedManager.name
TIMEOUT = 60.0
manager = TracedManager()


class Span(NamedTuple):
    """A span as it came."""

    service: str
    name: str
    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    attributes: dict[str, Any]
    #: Ids of the spans that it is linked to.
    links: list[bytes]


class Collector:
    """Takes spans over OTLP/HTTP."""

    def __init__(self) -> None:
        spans: list[Span] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = ExportTraceServiceRequest()
                request.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
                spans.extend(_spans(request))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self.spans = spans
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server.server_port}/v1/traces"

    def of(self, request: Any, step: str = "") -> list[Span]:
        """The spans of Feedmill's in the trace of *request*; only of a step."""
        wanted = request.get_span_context().trace_id.to_bytes(16, "big")
        found = [each for each in list(self.spans) if each.trace_id == wanted and each.name.endswith(f" {NAME}")]
        return [each for each in found if not step or each.name == f"{step} {NAME}"]

    def names(self, request: Any) -> list[str]:
        """The names of their steps, sorted."""
        return sorted(each.name.partition(" ")[0] for each in self.of(request))

    def close(self) -> None:
        """Listen no more."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def _spans(request: Any) -> Iterator[Span]:
    for resource in request.resource_spans:
        (service,) = [each.value.string_value for each in resource.resource.attributes if each.key == "service.name"]
        for scope in resource.scope_spans:
            for each in scope.spans:
                said = {one.key: one.value.int_value or one.value.string_value for one in each.attributes}
                links = [link.span_id for link in each.links]
                yield Span(service, each.name, each.trace_id, each.span_id, each.parent_span_id, said, links)


class System(NamedTuple):
    """A collector, this process as a web server, and what starts workers."""

    collector: Collector
    tracer: Any
    #: Starts a worker, with variables.
    launch: Callable[..., LocalWorker]
    #: Whose file says that planning has begun.
    begun: Path


@pytest.fixture
def system(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    """A real Redis as broker and storage; short leases, so that what a dead worker held is soon done."""
    broker, collector, begun = redis_url[:-1] + "1", Collector(), tmp_path / "begun"
    monkeypatch.setenv(exporting.COLLECTOR, collector.url)
    monkeypatch.setenv(exporting.BEGUN, str(begun))
    app = sending_app(broker, TracedManager, monkeypatch, fanout_lease=3.0)
    environment = {
        "FEEDMILL_REDIS_URL": redis_url,
        "FEEDMILL_BROKER_URL": broker,
        "FEEDMILL_MODULES": "tests.exporting",
        "FEEDMILL_FANOUT_LEASE": "3",
        exporting.DELAY: "100",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    started: list[LocalWorker] = []

    def launch(**more: str) -> LocalWorker:
        command = ["celery", "-A", "feedmill.tasks", "worker", "-l", "INFO", "-c", "2", "-n", f"t{len(started)}@%h"]
        queues = ",".join(publisher.ALL_QUEUES)
        worker = LocalWorker.launch(
            [*command, "-Q", queues], tmp_path / f"worker{len(started)}", {**environment, **more}
        )
        started.append(worker)
        worker.ready()
        return worker

    provider = exporting.provider_of("web", 50)
    opentelemetry.install(provider)
    try:
        yield System(collector, provider.get_tracer("site"), launch, begun)
    finally:
        tracing.use(None)
        provider.shutdown()
        for each in started:
            each.teardown()
        collector.close()
        app.close()


def wait_for(done: Callable[[], Any], what: str) -> None:
    """Wait until *done*."""
    deadline = time.monotonic() + TIMEOUT
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def swept_until_done(*fanouts: Fanout) -> None:
    """Do what beat does until all are done."""

    def finished() -> bool:
        drain.sweep()
        return all(each.status().finished for each in fanouts)

    wait_for(finished, "it is not delivered")


#: The chunks of a post: of the crowd, and of the one who is notified.
CHUNKS = CROWD // exporting.CHUNK + 1


def check_large(collector: Collector, request: Any, attempt: int = 1) -> None:
    """A request that posted to a crowd is one trace, each step below the span that accepted it.

    On a machine that is very slow a lease may end, and a chunk be done twice.
    """

    def chunks() -> dict[int, int]:
        said = [each.attributes for each in collector.of(request, "deliver")]
        return {each["feedmill.chunk"]: each["feedmill.users"] for each in said if "feedmill.users" in each}

    def whole() -> bool:
        return len(chunks()) == CHUNKS and {"plan", "call_hooks"} <= {*collector.names(request)}

    wait_for(whole, f"there is only {collector.names(request)}")
    assert {*collector.names(request)} == {"accept", "plan", "deliver", "call_hooks"}
    (accept,) = collector.of(request, "accept")
    assert accept.service == "web" and accept.parent_id == request.get_span_context().span_id.to_bytes(8, "big")
    others = [each for each in collector.of(request) if each is not accept]
    assert {(each.service, each.parent_id) for each in others} == {("worker", accept.span_id)}
    assert sorted(chunks()) == list(range(1, CHUNKS + 1)) and sum(chunks().values()) == CROWD + 1
    assert max(each.attributes["feedmill.attempt"] for each in collector.of(request, "plan")) >= attempt


def test_one_trace_to_the_last_chunk(system: System) -> None:
    """A post to a crowd, through a web process and the children of a prefork worker, to the last chunk and the hook: one trace."""
    system.launch()
    with system.tracer.start_as_current_span("POST /posts") as request:
        fanout = manager.add_activity(Activity("ann", Love, 1))
    swept_until_done(fanout)
    check_large(system.collector, request)


def test_children_export_what_they_have_when_they_end(system: System) -> None:
    """Children that would send their spans much later send them when the worker is shut down."""
    worker = system.launch(**{exporting.DELAY: "600000"})
    with system.tracer.start_as_current_span("POST /posts") as request:
        fanout = manager.add_activity(Activity("ann", Love, 1))
    swept_until_done(fanout)
    wait_for(Path(f"{system.begun}{exporting.TOLD}").exists, "no hook is called")
    assert not [each for each in system.collector.spans if each.service == "worker"]
    worker._container.stop(30)
    check_large(system.collector, request)


def test_a_worker_is_killed(system: System) -> None:
    """The worker that plans is killed with -9; what another does after the sweep belongs to the same trace."""
    worker = system.launch()
    with system.tracer.start_as_current_span("POST /posts") as request:
        fanout = manager.add_activity(Activity("slow", Love, 1))
    wait_for(system.begun.exists, "nobody plans")
    worker.kill()
    system.launch()
    swept_until_done(fanout)
    check_large(system.collector, request, attempt=2)


def test_beside_the_instrumentation_of_celery(system: System) -> None:
    """Two authors whose posts one message announces: each trace has its own deliveries, and links lead to the task that did both."""
    instrumentor = CeleryInstrumentor()
    instrumentor.instrument(tracer_provider=api.NoOpTracerProvider())
    requests, fanouts = {}, []
    try:
        for author in ("writer1", "writer2"):
            with system.tracer.start_as_current_span("POST /posts") as requests[author]:
                fanouts.append(manager.add_activity(Activity(author, Love, 1)))
                assert api.get_current_span() is requests[author], "what was current is so again"
        system.launch(**{exporting.CELERY: "1"})
        swept_until_done(*fanouts)
        collector, wanted = system.collector, {"accept", "call_hooks", "deliver", "plan"}
        for author, request in requests.items():
            wait_for(lambda request=request: wanted <= {*collector.names(request)}, f"only {collector.names(request)}")
            delivered = collector.of(request, "deliver")[0]
            assert (delivered.attributes["feedmill.author"], delivered.attributes["feedmill.users"]) == (author, 3)
        wait_for(lambda: [each for each in collector.spans if each.name == f"claim {NAME}"], "no round")
        claims = [each for each in collector.spans if each.name == f"claim {NAME}"]
        accepted = {collector.of(each, "accept")[0].span_id for each in requests.values()}
        assert {link for each in claims for link in each.links} == accepted
        wait_for(
            lambda: {each.parent_id for each in claims} <= {each.span_id for each in collector.spans},
            "no task of a round",
        )
        tasks = {each.span_id: each.name for each in collector.spans}
        assert {tasks[each.parent_id] for each in claims} == {"run/feedmill.fanout"}
    finally:
        with contextlib.suppress(Exception):
            instrumentor.uninstrument()
