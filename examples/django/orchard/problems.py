"""What is answered where a request cannot be done, in the shape in which Feedmill's errors are answered."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse


class Refused(Exception):
    """What was asked for cannot be done; the answer has the status and the text."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


class RefusedMiddleware:
    """Answers to :class:`Refused`."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """The answer to *error*; None leaves it to Django."""
        if not isinstance(error, Refused):
            return None
        body = {"type": "about:blank", "title": "Refused", "status": error.status, "detail": error.detail}
        return JsonResponse(body, status=error.status, content_type="application/problem+json")
