"""The description of the service (OpenAPI 3.1), made of its routes: nothing is said twice."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from feedmill._version import VERSION
from feedmill.contrib.problems import CONTENT_TYPE
from feedmill.web import schemas, tokens
from feedmill.web.access import Access
from feedmill.web.route import ACCESS, KEY, READING

_PROBLEM = "#/components/schemas/ProblemOut"
_SUMMARY = "Activity feeds and notification feeds: what people did is delivered to followers, and read back ready-made."
#: By status: what it means, and which operations may answer it.
_MEANINGS = {
    400: "The request is malformed, or its values make no sense.",
    401: "There is no token, or it is not right.",
    403: "The token is not for this.",
    404: "The path names something that is not there.",
    408: "The body did not come in time.",
    409: "A request with this idempotency key is being carried out.",
    413: "The body is too large.",
    415: "The body is no JSON.",
    422: "The idempotency key was used for another request.",
    429: "The caller must wait.",
    503: "The storage is away, or busy.",
}
_WITH_BODY, _WITH_KEY, _WITH_TOKEN = (408, 413, 415), (409, 422), (401, 403, 429)


def describe(app: FastAPI) -> dict[str, Any]:
    """The document."""
    found: dict[str, Any] = get_openapi(
        title="Feedmill", version=VERSION, summary=_SUMMARY, routes=app.routes, openapi_version="3.1.0"
    )
    components = found.setdefault("components", {})
    components.setdefault("schemas", {})["ProblemOut"] = schemas.ProblemOut.model_json_schema()
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    components["securitySchemes"] = {
        "token": {"type": "http", "scheme": tokens.SCHEME.lower(), "bearerFormat": "JWT"},
        "cookie": {"type": "apiKey", "in": "cookie", "name": tokens.COOKIE},
    }
    for operations in found["paths"].values():
        for method, operation in operations.items():
            _complete(method.upper(), operation)
    return found


def _complete(method: str, operation: dict[str, Any]) -> None:
    """Say of an operation what holds for all like it."""
    is_public = operation[ACCESS] == Access.ANYBODY.value
    is_stream = is_stream_of(operation)
    statuses = {400, 404, 503} if not is_public else set[int]()
    if not is_public:
        statuses.update(_WITH_TOKEN)
        operation["security"] = [{"token": []}, *([{"cookie": []}] if is_stream else [])]
        operation["description"] = f"{operation['description']}\n\nToken: {_WHOSE[operation[ACCESS]]}"
    if "requestBody" in operation:
        statuses.update(_WITH_BODY)
    if method not in READING:
        statuses.update(_WITH_KEY)
        key = {"name": KEY, "in": "header", "required": False, "schema": {"type": "string", "pattern": _KEY_PATTERN}}
        key["description"] = "Asking again with the same key gets the same answer, and does nothing twice."
        operation.setdefault("parameters", []).append(key)
    operation["responses"].pop("422", None)
    for status in sorted(statuses):
        if str(status) not in operation["responses"]:
            operation["responses"][str(status)] = {
                "description": f"{HTTPStatus(status).phrase}. {_MEANINGS[status]}",
                "content": {CONTENT_TYPE: {"schema": {"$ref": _PROBLEM}}},
            }


def is_stream_of(operation: dict[str, Any]) -> bool:
    """Whether an operation answers with events; then the description says so."""
    content = operation["responses"].get("200", {}).get("content", {})
    found = next(
        (each for each in content.values() if each.get("schema", {}).get("$ref", "").endswith("/EventOut")), None
    )
    if found is None:
        return False
    operation["responses"]["200"]["content"] = {"text/event-stream": found}
    return True


_KEY_PATTERN = r"^[!#-\[\]-~]{1,255}$"
_WHOSE = {
    Access.SERVER.value: "of a server (scope `server`).",
    Access.READER.value: "of the user in the path (scope `read`), or of a server.",
    Access.WRITER.value: "of the user in the path (scope `write`), or of a server.",
}

__all__ = ["describe"]
