"""The OpenAPI document of the front, written by hand: two pages beat a generator and its models."""

from typing import Any

from producer.front.answer import JSON, PROBLEM, STATUS
from producer.front.asked import BODY_MAX_BYTES
from wire.errors import ErrorKind

_CACHE_CONTROL = (
    "no-cache: call the model and renew the entry. no-store: do not remember the result. max-age=N: take no "
    "entry older than N seconds. only-if-cached: never call the model. stale-if-error=N: where the model "
    "fails, an entry up to N seconds past its time will do. Anything else says nothing."
)
_ALL = {
    400: "The body, the header cache-control or a parameter is not what is expected",
    404: "No such model",
    408: "The body did not come in time",
    413: f"The body has more than {BODY_MAX_BYTES} bytes",
    415: "The body is not application/json, or is compressed",
    422: "The model rejected the payload",
    502: "The model failed, or its answer is none",
    503: "Too much is under way, or the queue is away: try again after Retry-After seconds",
    504: "No answer in time, or only-if-cached and there is no entry",
}


def document(version: str) -> dict[str, Any]:
    """OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "recollect", "version": version, "summary": "A slow model with a memory"},
        "paths": {
            "/analysis": {"post": _analysis()},
            "/livez": {"get": _check("Whether the process turns")},
            "/readyz": {"get": _check("Whether the queue is reached")},
            "/openapi.json": {"get": _simple("This document", JSON, {"type": "object"})},
        },
        "components": {"schemas": {"Problem": _problem()}},
    }


def _analysis() -> dict[str, Any]:
    return {
        "operationId": "analyse",
        "summary": "The model's result for a payload, remembered or new",
        "parameters": [
            _parameter("model", "query", "Where there are several, and none was chosen at the start"),
            _parameter("cache-control", "header", _CACHE_CONTROL),
            _parameter("traceparent", "header", "W3C Trace Context: goes on to the model"),
        ],
        "requestBody": {"required": True, "content": {JSON: {"schema": _payload()}}},
        "responses": {"200": _result(), **{str(status): _refusal(status) for status in _ALL}},
    }


def _payload() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "The payload. All of it is what the model sees, but for `bypass`",
        "properties": {
            "bypass": {"type": "boolean", "default": False, "description": "Neither read nor write the cache"}
        },
        "additionalProperties": True,
    }


def _result() -> dict[str, Any]:
    return {
        "description": "The result",
        "headers": {
            "Cache-Status": {"description": "RFC 9211", "schema": {"type": "string"}},
            "Age": {
                "description": "Seconds since the model was called, where the result was remembered",
                "schema": {"type": "integer", "minimum": 0},
            },
        },
        "content": {JSON: {"schema": {}}},
    }


def _refusal(status: int) -> dict[str, Any]:
    kinds = [kind.value for kind in ErrorKind if STATUS[kind] == status]
    also = f" ({', '.join(kinds)})" if kinds else ""
    said: dict[str, Any] = {
        "description": f"{_ALL[status]}{also}",
        "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if status == 503:
        said["headers"] = {"Retry-After": {"schema": {"type": "integer", "minimum": 1}}}
    return said


def _problem() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "RFC 9457",
        "required": ["status", "title", "detail", "kind"],
        "properties": {
            "status": {"type": "integer"},
            "title": {"type": "string"},
            "detail": {"type": "string"},
            "kind": {"type": "string"},
            "retryable": {"type": "boolean"},
            "attempts": {"type": "integer", "minimum": 0},
        },
    }


def _parameter(name: str, place: str, said: str) -> dict[str, Any]:
    return {"name": name, "in": place, "description": said, "schema": {"type": "string"}}


def _check(said: str) -> dict[str, Any]:
    text = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "summary": said,
        "responses": {
            "200": {"description": "It is so", "content": text},
            "503": {"description": "It is not, and why", "content": text},
        },
    }


def _simple(said: str, kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    content = {kind: {"schema": schema}}
    return {"summary": said, "responses": {"200": {"description": said, "content": content}}}
