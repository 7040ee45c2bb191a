"""What is answered where a request cannot be done: problem details, which the page shows."""

from __future__ import annotations

import json
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse

from feedmill.contrib.problems import CONTENT_TYPE, problem
from feedmill.errors import FeedmillError


class Refused(Exception):
    """What was asked for cannot be done; the answer has the status and the text."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


class ProblemsMiddleware:
    """Answers to :class:`Refused`, and to errors of Feedmill: a changed cursor is a 400, a storage that is away a 503."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """The answer to *error*; None leaves it to Django."""
        if isinstance(error, Refused):
            body = {"type": "about:blank", "title": "Refused", "status": error.status, "detail": error.detail}
            return JsonResponse(body, status=error.status, content_type=CONTENT_TYPE)
        if isinstance(error, FeedmillError) and (answer := problem(error)):
            return HttpResponse(json.dumps(answer.body), status=answer.status, headers=answer.headers)
        return None
