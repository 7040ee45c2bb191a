"""Answers to errors of Feedmill, as other frameworks have them by exception handlers."""

from __future__ import annotations

import json
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse

from feedmill.contrib.problems import problem
from feedmill.errors import FeedmillError


class ProblemsMiddleware:
    """Add ``"feedmill.contrib.django.middleware.ProblemsMiddleware"`` to ``MIDDLEWARE``: errors that a view lets through are answered.

    The answers are those of :func:`feedmill.contrib.problems.problem`: 400 for a cursor that was changed, 404 for an activity that was
    never added, 503 while the storage is away. What is no fault of the request's, and does not pass, is a 500 as any other exception.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Any) -> None:
        self._get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """The response, or the coroutine that gives it."""
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """The answer to *error*; None leaves it to Django."""
        answer = problem(error) if isinstance(error, FeedmillError) else None
        if answer is None:
            return None
        return HttpResponse(json.dumps(answer.body), status=answer.status, headers=answer.headers)


__all__ = ["ProblemsMiddleware"]
