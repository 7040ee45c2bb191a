"""What Feedmill traces: the steps of a fan-out, and the sink that makes spans of them.

A fan-out is asked for in one process and done by others, later, perhaps after some of these died. What connects them is a *trace
context*, a short text that is kept in the record of the fan-out: whoever works on it makes spans that belong to the trace of whoever
asked. Without a sink, which is the default, there is none, and nothing is called. A trace that is not sampled has no text either.

Names and kinds of steps follow the semantic conventions of OpenTelemetry for messaging; ``feedmill.contrib.opentelemetry`` is the sink.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, Union

#: What a span says of its step, by name.
Attributes = Mapping[str, Union[str, int, float, bool, Sequence[str]]]

#: Characters of a trace context, at most: a ``traceparent``, and the first entries of a ``tracestate``.
LONGEST_STATE = 512
LONGEST = 55 + 1 + LONGEST_STATE
#: A ``traceparent`` as W3C has it; what comes behind it, after a space, is a ``tracestate``.
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?: |$)", re.ASCII)


class Kind(enum.Enum):
    """What a step does with work, in the words of the conventions for messaging (``messaging.operation.type``)."""

    CREATE = "create"
    SEND = "send"
    RECEIVE = "receive"
    PROCESS = "process"
    SETTLE = "settle"


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of a fan-out."""

    #: Its name: spans are called by it and the name of the manager.
    name: str
    kind: Kind
    #: What it is, in one sentence.
    help: str


RECORD = Step("record", Kind.CREATE, "A call is written into an outbox.")
ACCEPT = Step("accept", Kind.SEND, "Fan-outs are written into the journal.")
CLAIM = Step("claim", Kind.RECEIVE, "A worker takes what is due, and does it: a round, of several fan-outs.")
PLAN = Step("plan", Kind.PROCESS, "A worker lists whom a fan-out concerns, and sends the chunks of a large one.")
DELIVER = Step("deliver", Kind.PROCESS, "A worker writes into feeds: a whole fan-out, or one chunk of it.")
DELIVER_TOGETHER = Step(
    "deliver_together", Kind.PROCESS, "A worker writes chunks of several fan-outs that are for the same users."
)
SETTLE = Step("settle", Kind.SETTLE, "An attempt at a fan-out has failed: it waits for the next one, or is given up.")
CALL = Step("call_hooks", Kind.PROCESS, "A worker calls a hook that is told what happened.")
#: All of them.
ALL: tuple[Step, ...] = (RECORD, ACCEPT, CLAIM, PLAN, DELIVER, DELIVER_TOGETHER, SETTLE, CALL)


class Span(Protocol):
    """A step that has begun."""

    @property
    def trace(self) -> str:
        """The trace context of what belongs to it; empty if it is not sampled."""

    def set(self, attributes: Attributes) -> None:
        """Say more of it."""

    def current(self) -> AbstractContextManager[None]:
        """While the block runs, what this thread or coroutine does belongs to it."""

    def end(self, error: BaseException | None = None) -> None:
        """It is over, and has failed with *error*. Called once."""


class Sink(Protocol):
    """What makes spans. Called by any thread; it must not raise and must not wait."""

    def begin(
        self,
        step: Step,
        manager: str,
        attributes: Attributes,
        *,
        trace: str | None = None,
        links: Sequence[str] = (),
        began: float | None = None,
    ) -> Span:
        """A step of *manager* begins, or *began* at that time of ``time.monotonic()``.

        *trace*: the trace context that it belongs to; then the span is linked to what is current. None: it belongs to what is current.
        *links*: trace contexts of what it is about.
        """

    def continued(self, trace: str) -> AbstractContextManager[None]:
        """While the block runs, what is done belongs to the trace context *trace*; to none that is sampled if that is empty."""

    def trace_id(self) -> str:
        """The id of the trace that is current, 32 hexadecimal digits; empty if there is none."""


#: Who makes spans of what this process does; None if nobody does.
sink: Sink | None = None
#: In place of a block that is traced, where nothing is.
NOTHING: AbstractContextManager[Any] = contextlib.nullcontext("")


def use(chosen: Sink | None) -> None:
    """Have *chosen* make spans of what this process, and what it forks, does from now on; None: nobody."""
    global sink
    sink = chosen


def id_of(trace: str) -> str:
    """The id of the trace that a trace context belongs to, 32 hexadecimal digits; empty for what is none."""
    found = _TRACEPARENT.match(trace)
    return found[1] if found else ""


def _begin(step: Step, manager: str, attributes: Attributes, **about: Any) -> Span:
    assert sink is not None, "who traces asks first whether there is a sink"
    return sink.begin(step, manager, attributes, **about)


@contextlib.contextmanager
def sending(step: Step, manager: str, attributes: Attributes) -> Iterator[str]:
    """Whoever asks for something: the block is a step in the current trace; the trace context of who does it."""
    span = _begin(step, manager, attributes)
    with _ended(span), span.current():
        yield span.trace


@contextlib.contextmanager
def working(step: Step, manager: str, trace: str, attributes: Attributes, began: float | None = None) -> Iterator[Span]:
    """Whoever does something of one fan-out: the block is a step in its *trace*, which may have *began* before the block."""
    span = _begin(step, manager, attributes, trace=trace, began=began)
    with _ended(span), span.current():
        yield span


@contextlib.contextmanager
def receiving(
    step: Step, manager: str, traces: Iterable[str], attributes: Attributes, began: float | None = None
) -> Iterator[Span]:
    """Whoever does something of several fan-outs: the block is a step of its own, linked to their *traces*."""
    span = _begin(step, manager, attributes, links=list(dict.fromkeys(filter(None, traces))), began=began)
    with _ended(span), span.current():
        yield span


@contextlib.contextmanager
def together(
    batch: Step,
    each: Step,
    manager: str,
    about: Sequence[tuple[str, Attributes]],
    attributes: Attributes,
    *,
    alone: bool = False,
    began: float | None = None,
) -> Iterator[None]:
    """Whoever does something at once that belongs to several traces: the block is a *batch*, linked to these, and then *each* in each.

    *about*: a trace, and what is said in it when the block ends, for each. *alone*: if that is one, the block is about nothing else,
    and is itself the step in the trace.
    """
    if alone and len(about) == 1:
        with working(each, manager, *about[0], began):
            yield
        return
    began, failed = time.monotonic() if began is None else began, None
    with receiving(batch, manager, [trace for trace, _ in about], attributes, began):
        try:
            yield
        except BaseException as error:
            failed = error
            raise
        finally:
            for trace, said in about:
                worked(each, manager, trace, said, began, failed)


def worked(
    step: Step,
    manager: str,
    trace: str,
    attributes: Attributes,
    began: float | None = None,
    error: BaseException | None = None,
) -> None:
    """A step of one fan-out is over that *began* then, or only now."""
    _begin(step, manager, attributes, trace=trace, began=began).end(error)


@contextlib.contextmanager
def _ended(span: Span) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        span.end(error)
        raise
    span.end()
