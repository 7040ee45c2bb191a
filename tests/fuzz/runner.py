"""Runs targets and counts what becomes of their inputs."""

from __future__ import annotations

import dataclasses
import random
import resource
import time
import traceback
from collections import Counter
from collections.abc import Callable

from feedmill import settings
from feedmill.errors import FeedmillError
from tests.fuzz.mutate import mutated
from tests.fuzz.targets import Target

#: Failures of a target that are shown.
SHOWN = 3
#: Seconds of the processor that reading one input may take.
SLOW = 2.0


@dataclasses.dataclass
class Outcome:
    """What became of one target's inputs."""

    name: str
    inputs: int = 0
    read: int = 0
    refused: Counter[str] = dataclasses.field(default_factory=Counter)
    #: What must not be: with the input that did it.
    failures: int = 0
    shown: list[str] = dataclasses.field(default_factory=list)
    slowest: float = 0.0

    def failed(self, data: bytes, why: str) -> None:
        """Note a failure."""
        self.failures += 1
        if len(self.shown) < SHOWN:
            self.shown.append(f"{self.name}: {data[:200].hex()}\n{why}")


def run(target: Target, inputs: int, seed: int, tick: Callable[[], None] = lambda: None) -> Outcome:
    """Give *target* so many malformed inputs."""
    rng, outcome = random.Random(f"{seed} {target.name}"), Outcome(target.name)
    for _ in range(inputs):
        data = mutated(rng, target.samples)
        began = time.process_time()
        outcome.inputs += 1
        try:
            target.call(rng, data)
            outcome.read += 1
        except FeedmillError as error:
            outcome.refused[type(error).__name__] += 1
            if not str(error):
                outcome.failed(data, "an error without words")
        except Exception:
            outcome.failed(data, traceback.format_exc(limit=-6))
        outcome.slowest = max(outcome.slowest, time.process_time() - began)
        tick()
    if outcome.slowest > SLOW:
        outcome.failed(b"", f"one input took {outcome.slowest:.1f} s")
    return outcome


def megabytes() -> float:
    """The most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def signed(target: Target) -> bool:
    """Whether *target* runs with a signing key; and see that it does."""
    wanted = target.name == "signatures"
    settings.configure(signing_key="a key of the fuzzer that is long enough" if wanted else "")
    return wanted
