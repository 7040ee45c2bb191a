"""Requests that schemathesis makes of the service's own description: valid ones, and ones that are wrong in all ways it knows.

``python -m tests.http_service.fuzz`` makes more than ten thousand, in memory: no answer is a server error, each is one that the description
has, and what is malformed is refused.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

import feedmill
from feedmill.storage.memory import DATA
from feedmill.web import feeds
from tests.http_service.samples import KEY, Client, WebManager, client, loved, prompt

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
#: Operations that refuse items of a body one by one, and answer 202.
ONE_BY_ONE = ("POST /v1/{manager}/activities/bulk",)
#: What random text would hardly ever name.
KNOWN = {"manager": WebManager.name, "feed": "news", "user": "bob"}
#: Names of parts of paths that are known, by turns; in the last turn none is.
TURNS = (("manager", "feed", "user"), ("manager", "feed"), ("manager",), ())


class Fuzzer:
    """Sends generated requests, and counts answers by operation and status."""

    def __init__(self, web: Client) -> None:
        self.web = web
        self.answers: dict[str, Counter[int]] = {}
        document = json.loads(json.dumps(web.app.openapi()))
        self.operations = [each.ok() for each in schemathesis.openapi.from_dict(document).get_all_operations()]

    def run(self, count: int, seed: int = 0) -> None:
        """About *count* requests, the same each time for a *seed*: most of them malformed."""
        for operation in self.operations:
            each = max(1, count // len(self.operations))
            for turn, names in enumerate(TURNS):
                known = {
                    name: value for name, value in KNOWN.items() if name in names and f"{{{name}}}" in operation.path
                }
                for mode, share in ((GenerationMode.NEGATIVE, 0.8), (GenerationMode.POSITIVE, 0.2)):
                    self._send(operation, known, mode, max(1, round(each * share / len(TURNS))), seed + turn)

    def _send(self, operation: Any, known: dict[str, str], mode: GenerationMode, count: int, seed: int) -> None:
        strategy = operation.as_strategy(generation_mode=mode, path_parameters=known or None)

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(strategy)
        def send(case: Any) -> None:
            self._ask(operation.label, case)

        with contextlib.suppress(hypothesis.errors.Unsatisfiable):  # nothing of it can be wrong
            send()

    def _ask(self, label: str, case: Any) -> None:
        kwargs = case.as_transport_kwargs(
            base_url="http://service", headers={"Authorization": f"Bearer {self.web.server}"}
        )
        answer = self.web.run(self._request(kwargs))
        self.answers.setdefault(label, Counter())[answer.status_code] += 1
        # What is wrong with headers is not sent, since ours has the token; and parameters without a value are none.
        wrong = {each for each, info in case.meta.components.items() if info.mode is GenerationMode.NEGATIVE}
        refuses = label not in ONE_BY_ONE and bool(wrong & {ParameterLocation.BODY, ParameterLocation.PATH})
        case.validate_response(answer, checks=CHECKS + ([negative_data_rejection] if refuses else []))

    async def _request(self, kwargs: dict[str, Any]) -> httpx.Response:
        options = {name: kwargs[name] for name in ("method", "url", "params", "json") if name in kwargs}
        headers = dict(kwargs.get("headers") or {})
        if cookies := kwargs.get("cookies"):
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        if kwargs.get("data") is not None:
            options["content"] = kwargs["data"]
        return await self.web._http.request(headers=headers, **options)


def prepared(patch: pytest.MonkeyPatch) -> Iterator[Fuzzer]:
    """The service in memory, with something in its feeds; streams end soon."""
    feedmill.configure(redis_url="memory://", token_keys=KEY)
    DATA.clear()
    patch.setattr(feeds, "STREAM_LIFETIME", 0.25)
    with prompt(patch), client() as web:
        web.ask("POST", "/v1/WebManager/activities", json=loved(target="bob"))
        yield Fuzzer(web)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=12_000, help="about so many; some operations take few kinds")
    parser.add_argument("--seed", type=int, default=0, help="others than those of the last time")
    given, begun = parser.parse_args(), time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        for fuzzer in prepared(patch):
            fuzzer.run(given.requests, given.seed)
            for label, statuses in fuzzer.answers.items():
                print(f"{label}: " + ", ".join(f"{number} × {status}" for status, number in sorted(statuses.items())))
            total = sum(fuzzer.answers.values(), Counter())
            print(
                f"{sum(total.values()):,} requests in {time.monotonic() - begun:,.0f} s: {dict(sorted(total.items()))}"
            )


if __name__ == "__main__":
    main()
