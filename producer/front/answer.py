"""What HTTP says of a reply: status, headers, body. No I/O, no framework.

`Cache-Status` has the words of RFC 9211, problems the members of RFC 9457.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import orjson

from wire.errors import ErrorKind, Outcome
from wire.reply import Reply

JSON, PROBLEM = "application/json", "application/problem+json"
STATUS: dict[str, int] = {
    ErrorKind.INVALID_REQUEST: 400,
    ErrorKind.UNKNOWN_MODEL: 404,
    ErrorKind.MODEL_REJECTED: 422,
    ErrorKind.BAD_RESULT: 502,
    ErrorKind.MODEL_UNAVAILABLE: 502,
    ErrorKind.MODEL_TIMEOUT: 504,
    ErrorKind.DEADLINE_EXCEEDED: 504,
    ErrorKind.NOT_CACHED: 504,
    ErrorKind.POISON: 502,
    ErrorKind.INTERNAL: 502,
}
_SAID: dict[str, str] = {
    Outcome.HIT: "hit",
    Outcome.MISS: "fwd=miss; stored",
    Outcome.REFRESH: "fwd=request; stored",
    Outcome.BYPASS: "fwd=bypass",
    Outcome.COALESCED: "fwd=miss; collapsed",
    Outcome.STALE: "hit",
    Outcome.UNAVAILABLE: "fwd=miss; detail=unavailable",
    Outcome.UNCACHEABLE: "fwd=miss; detail=uncacheable",
    Outcome.FAILED: "fwd=miss; detail=failed",
    Outcome.EXPIRED: "detail=expired",
    Outcome.NOT_CACHED: "detail=not_cached",
}


class Answer(NamedTuple):
    """An HTTP response."""

    status: int
    body: bytes
    headers: dict[str, str]
    media_type: str = JSON


class Problem(Exception):
    """What is answered instead of a result. `more` are further members of the body."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self._status, self._headers = status, dict(headers or {})
        title = HTTPStatus(status).phrase
        self._body = {"status": status, "title": title, "detail": detail, "kind": kind, **more}

    def answer(self) -> Answer:
        """The response."""
        return Answer(self._status, orjson.dumps(self._body), self._headers, PROBLEM)


def answer(reply: Reply, asked: Mapping[str, Any]) -> Answer:
    """The response that `reply` makes to what was `asked`, the options of the call."""
    headers = {}
    status = cache_status(reply, asked)
    if status:
        headers["Cache-Status"] = status
    if not reply.ok:
        return _problem(reply, headers).answer()
    if reply.age_seconds is not None:
        headers["Age"] = str(max(0, int(reply.age_seconds)))
    return Answer(200, orjson.dumps(reply.result), headers)


def cache_status(reply: Reply, asked: Mapping[str, Any]) -> str:
    """How the cache took part; empty where nothing came to it."""
    said = _SAID.get(reply.outcome)
    if said is None:
        return ""
    if asked.get("no_store"):
        said = said.removesuffix("; stored")
    if reply.outcome == Outcome.FAILED and (asked.get("bypass") or asked.get("refresh")):
        said = said.replace("fwd=miss", "fwd=bypass" if asked.get("bypass") else "fwd=request")
    ttl = "" if reply.ttl_seconds is None else f"; ttl={int(reply.ttl_seconds)}"
    return f"recollect; {said}{ttl if said == 'hit' else ''}"


def _problem(reply: Reply, headers: Mapping[str, str]) -> Problem:
    error = reply.error or {}
    kind = str(error.get("kind"))
    status = STATUS.get(kind, 502)
    more = {name: error.get(name) for name in ("retryable", "attempts")}
    return Problem(status, kind, str(error.get("message")), headers, **more)
