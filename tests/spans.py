"""Spans of a test, kept in memory, and what they are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from feedmill import tracing
from feedmill.contrib import opentelemetry
from feedmill.storage.registry import backend


class Traces:
    """A tracer provider whose spans are kept, and what they are."""

    def __init__(self, manager: str) -> None:
        self.manager = manager
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("app")

    def spans(self, request: Any = None, name: str = "") -> list[ReadableSpan]:
        """The spans that have ended, in the order of their ends; only those of the trace of *request*, and of a step."""
        found = [each for each in self.exporter.get_finished_spans() if each.instrumentation_scope.name == "feedmill"]
        if request is not None:
            found = [each for each in found if each.context.trace_id == request.get_span_context().trace_id]
        return [each for each in found if not name or each.name == f"{name} {self.manager}"]

    def names(self, request: Any = None) -> list[str]:
        """Their names, without the manager's."""
        return [each.name.removesuffix(f" {self.manager}") for each in self.spans(request)]


@contextlib.contextmanager
def tracing_to_memory(manager: str) -> Iterator[Traces]:
    """While the block runs, spans are kept; names of steps are those of *manager*."""
    kept = Traces(manager)
    opentelemetry.install(kept.provider)
    try:
        yield kept
    finally:
        tracing.use(None)
        kept.provider.shutdown()


def said(span: ReadableSpan, name: str) -> Any:
    """An attribute of Feedmill's own."""
    return (span.attributes or {}).get(f"feedmill.{name}")


def stored(fanout: Any) -> str:
    """The trace context in the record of a fan-out."""
    return backend().run(backend().journal.traces([fanout.id]))[0]
