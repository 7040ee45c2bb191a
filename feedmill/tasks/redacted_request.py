"""A task as a worker tells of it when it is asked, by Flower for one: the sentence, not the arguments."""

from __future__ import annotations

from typing import Any

from celery.worker.request import Request


class SentenceRequest(Request):  # type: ignore[misc]
    """Celery's request, whose arguments stay where they are."""

    def info(self, safe: bool = True) -> dict[str, Any]:
        """What is told of it: the representation of its arguments that was sent with them."""
        told: dict[str, Any] = super().info(safe=True)
        return told
