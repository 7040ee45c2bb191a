"""Traces with OpenTelemetry: one from the web request to the last chunk.

Call :func:`install` in a module that web processes and workers import. Spans are made by the tracer provider of the app, which says
where they go and which traces are sampled. How the steps of fan-outs become spans is told in ``docs/how-to/trace-with-opentelemetry.md``.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from celery import signals

try:
    from opentelemetry import context as contexts
    from opentelemetry import trace as api
    from opentelemetry.context import Context
    from opentelemetry.trace import (
        Link,
        NonRecordingSpan,
        SpanContext,
        SpanKind,
        Status,
        StatusCode,
        Tracer,
        TracerProvider,
    )
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise ImportError(
        "feedmill.contrib.opentelemetry needs opentelemetry-api: pip install 'feedmill[opentelemetry]'"
    ) from error

from feedmill import tracing
from feedmill._version import VERSION
from feedmill.errors import SettingsError
from feedmill.tracing import LONGEST_STATE, Attributes, Kind, Step

#: Seconds for which a process that ends waits until its spans are exported.
LAST_EXPORT = 5.0
#: Characters of an entry of a ``tracestate`` that is kept only if there is room for all of them, as W3C advises.
LONG_ENTRY = 128
#: The kinds of spans, as the conventions for messaging have them.
_KINDS = {
    Kind.CREATE: SpanKind.PRODUCER,
    Kind.SEND: SpanKind.PRODUCER,
    Kind.RECEIVE: SpanKind.CLIENT,
    Kind.PROCESS: SpanKind.CONSUMER,
    Kind.SETTLE: SpanKind.CLIENT,
}
_propagator = TraceContextTextMapPropagator()


class _Span:
    """A span of OpenTelemetry."""

    def __init__(self, span: api.Span) -> None:
        self._span = span

    @property
    def trace(self) -> str:
        """Its context, as it is kept in a record; empty if it is not sampled."""
        return _kept(self._span.get_span_context())

    def set(self, attributes: Attributes) -> None:
        """Set attributes."""
        self._span.set_attributes(attributes)

    def current(self) -> AbstractContextManager[None]:
        """Make it the current span for a block."""
        return _current(api.set_span_in_context(self._span))

    def end(self, error: BaseException | None = None) -> None:
        """End it. Of an error it says the class and not the text, which may hold anything."""
        if error is not None:
            kind = type(error)
            name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
            self._span.set_attribute("error.type", name)
            self._span.set_status(Status(StatusCode.ERROR, name))
        self._span.end()


@contextlib.contextmanager
def _current(context: Context) -> Iterator[None]:
    token = contexts.attach(context)
    try:
        yield
    finally:
        contexts.detach(token)


class OpenTelemetrySink:
    """Makes spans with *tracer*."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def begin(
        self,
        step: Step,
        manager: str,
        attributes: Attributes,
        *,
        trace: str | None = None,
        links: Sequence[str] = (),
        began: float | None = None,
    ) -> tracing.Span:
        """Start a span: a child of the current one, or of the one that *trace* names, linked to the current one."""
        now = api.get_current_span().get_span_context()
        about = [_read(each) for each in links]
        parent: Context | None = None
        if trace is not None:
            remote = _read(trace)
            parent = _within(remote)
            if now.span_id != remote.span_id:
                about.append(now)
        span = self._tracer.start_span(
            f"{step.name} {manager}",
            parent,
            _KINDS[step.kind],
            {
                "messaging.system": "feedmill",
                "messaging.operation.name": step.name,
                "messaging.operation.type": step.kind.value,
                "messaging.destination.name": manager,
                **attributes,
            },
            [Link(each) for each in about if each.trace_flags.sampled],
            None if began is None else time.time_ns() - int((time.monotonic() - began) * 1e9),
        )
        return _Span(span)

    def continued(self, trace: str) -> AbstractContextManager[None]:
        """Make the span that *trace* names the current one for a block; if it is empty, one that is not sampled."""
        return _current(_within(_read(trace)))

    def trace_id(self) -> str:
        """The id of the current trace, in hexadecimal digits; or empty."""
        context = api.get_current_span().get_span_context()
        return api.format_trace_id(context.trace_id) if context.is_valid else ""


def _kept(context: SpanContext) -> str:
    """What is kept of a span: its ``traceparent``, and as much of its ``tracestate`` as there is room for."""
    if not (context.is_valid and context.trace_flags.sampled):
        return ""
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, api.set_span_in_context(NonRecordingSpan(context), Context()))
    return f"{carrier['traceparent']} {_bounded(carrier.get('tracestate', ''))}".rstrip()


def _bounded(state: str) -> str:
    """The first entries of a ``tracestate``; if it is too long, those go first that are long."""
    if len(state) <= LONGEST_STATE:
        return state
    kept, size = list[str](), -1
    for entry in state.split(","):
        if len(entry) <= LONG_ENTRY and size + 1 + len(entry) <= LONGEST_STATE:
            kept.append(entry)
            size += 1 + len(entry)
    return ",".join(kept)


def _read(trace: str) -> SpanContext:
    """The span that :func:`_kept` made *trace* from; for anything else one that nobody follows."""
    if tracing.id_of(trace):
        parent, _, state = trace.partition(" ")
        carrier = {"traceparent": parent, "tracestate": state} if state else {"traceparent": parent}
        found = api.get_current_span(_propagator.extract(carrier, Context())).get_span_context()
        if found.is_valid:
            return found
    return SpanContext(random.getrandbits(128) or 1, random.getrandbits(64) or 1, is_remote=True)


def _within(span: SpanContext) -> Context:
    """The context in which *span* is current, and nothing else of what is current."""
    return api.set_span_in_context(NonRecordingSpan(span), Context())


def install(tracer_provider: TracerProvider | None = None) -> None:
    """Trace what this process does from now on, and what its children do that are forked later.

    *tracer_provider*: who makes the spans; without one it is the global one of OpenTelemetry, also if that is set later. Children of a
    prefork worker export what they have when they end. A second call takes the place of the first.
    Raises :class:`~feedmill.errors.SettingsError` for what is no tracer provider.
    """
    if tracer_provider is not None and not isinstance(tracer_provider, TracerProvider):
        raise SettingsError(
            f"install() was given {tracer_provider!r} as tracer_provider, which is none; give it a TracerProvider, or nothing to use"
            " that of opentelemetry.trace.set_tracer_provider()"
        )
    _provider.clear()
    if tracer_provider is not None:
        _provider.append(tracer_provider)
    tracing.use(OpenTelemetrySink(api.get_tracer("feedmill", VERSION, tracer_provider)))


#: The provider that was given to :func:`install`; none if it is the global one.
_provider: list[TracerProvider] = []


def _export(**_: Any) -> None:
    """Export what a child has, which ends without what Python does at the exit of a process."""
    if not isinstance(tracing.sink, OpenTelemetrySink):
        return
    flush = getattr(_provider[0] if _provider else api.get_tracer_provider(), "force_flush", None)
    if flush is not None:  # which may take as long as it tries to reach a collector that is away
        last = threading.Thread(target=flush, name="feedmill-last-spans", daemon=True)
        last.start()
        last.join(LAST_EXPORT)


signals.worker_process_shutdown.connect(_export)


__all__ = ["OpenTelemetrySink", "install"]
