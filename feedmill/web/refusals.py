"""Why a request is refused, for what no error of Feedmill's says already."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from feedmill.contrib.problems import Problem, described

#: Places of a request that are said to be wrong, and characters of each place, and of what is wrong there.
MOST_PLACES, LONGEST_PLACE, LONGEST_REASON = 10, 200, 400


class Refused(Exception):
    """Ends a request with problem details: *status*, what is wrong and what to do, and perhaps more headers."""

    def __init__(self, status: int, detail: str, error: str = "", **headers: str) -> None:
        super().__init__(detail)
        #: The HTTP status.
        self.status = status
        #: The name of the error; the title without spaces if there is none of its own.
        self.error = error or HTTPStatus(status).phrase.replace(" ", "").replace("-", "")
        self._headers = {name.replace("_", "-"): value for name, value in headers.items()}

    @property
    def problem(self) -> Problem:
        """The answer."""
        return described(self.status, HTTPStatus(self.status).phrase, str(self), self.error, self._headers)


def wrong(errors: Sequence[Any]) -> list[dict[str, str]]:
    """Where a request is wrong and why, of *errors* of pydantic. Both may quote what was sent: there is no more of them than fits an answer."""
    return [
        {
            "where": ".".join(map(str, each.get("loc", ())))[:LONGEST_PLACE],
            "reason": str(each.get("msg", ""))[:LONGEST_REASON],
        }
        for each in errors[:MOST_PLACES]
    ]


def too_many(milliseconds: int) -> Refused:
    """The caller must wait."""
    seconds = max(1, -(-milliseconds // 1000))
    return Refused(429, f"too many requests; try again in {seconds} s", Retry_After=str(seconds))


__all__ = ["Refused", "too_many", "wrong"]
