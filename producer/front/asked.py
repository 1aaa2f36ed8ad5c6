"""What an HTTP request asks for: its payload, and the options of `call`. No I/O, no framework."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from producer.front.answer import Problem
from wire.errors import ErrorKind, InvalidRequest
from wire.trace import TRACEPARENT, is_traceparent
from wire.values import parse

BODY_MAX_BYTES = (1 << 20) - 1024  # a request of the contract may have 1 MiB, its directives included
_JSON = re.compile(r"application/(?:[a-z0-9.!#$&^_+-]+\+)?json", re.IGNORECASE)
_FLAGS = {"no-cache": "refresh", "no-store": "no_store", "only-if-cached": "only_if_cached"}
_SECONDS = {"max-age": "max_age", "stale-if-error": "stale_if_error"}
_DIGITS = re.compile(r'"?([0-9]{1,10})"?', re.ASCII)


def check_headers(headers: Mapping[str, str]) -> None:
    """Raises Problem where the body would not be read: by its type, its coding or the size it announces."""
    kind = headers.get("content-type", "").partition(";")[0].strip()
    if _JSON.fullmatch(kind) is None:
        raise Problem(415, "unsupported_media_type", f"content-type is {kind!r}; expected application/json")
    coding = headers.get("content-encoding", "identity")
    if coding.lower() != "identity":
        raise Problem(415, "unsupported_media_type", f"content-encoding is {coding!r}; expected none")
    length = headers.get("content-length", "0")
    if length.isdecimal() and int(length) > BODY_MAX_BYTES:
        raise too_large()


def too_large() -> Problem:
    """The body is."""
    return Problem(413, "body_too_large", f"at most {BODY_MAX_BYTES} bytes are taken")


def asked(
    body: bytes, headers: Mapping[str, str], query: Iterable[tuple[str, str]], model: str | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The payload, and the options of `call`. `model` is the one where the query names none.

    Raises Problem.
    """
    try:
        payload = parse(body, "the body")
    except InvalidRequest as error:
        raise _invalid(str(error)) from None
    if not isinstance(payload, dict):
        raise _invalid(f"the body is {type(payload).__name__}; expected a JSON object")
    options = directives(headers.get("cache-control", ""))
    if "bypass" in payload:
        options["bypass"] = payload.pop("bypass")
    options["model"] = _model(query, model)
    traceparent = headers.get(TRACEPARENT)
    if is_traceparent(traceparent):  # else who asked has made a mistake that costs them their trace
        options[TRACEPARENT] = traceparent
    return payload, options


def directives(cache_control: str) -> dict[str, Any]:
    """Ours for those of the header; what it has beside them says nothing to us. Raises Problem."""
    found: dict[str, Any] = {}
    for part in cache_control.lower().split(",") if cache_control else ():
        name, _, value = (text.strip() for text in part.partition("="))
        if name in _FLAGS:
            found[_FLAGS[name]] = True
        elif name in _SECONDS:
            digits = _DIGITS.fullmatch(value)
            if digits is None:
                raise _invalid(
                    f"cache-control: {name} is {value[:20]!r}; expected seconds, such as {name}=60"
                )
            found[_SECONDS[name]] = int(digits[1])
    return found


def _model(query: Iterable[tuple[str, str]], model: str | None) -> str | None:
    given = [value for name, value in query if name == "model"]
    for name, _ in query:
        if name != "model":
            raise _invalid(f"parameter {name[:40]!r} is unknown; expected model, or none")
    if len(given) > 1:
        raise _invalid(f"parameter model is there {len(given)} times; expected it once")
    return given[0] if given else model


def _invalid(why: str) -> Problem:
    return Problem(400, ErrorKind.INVALID_REQUEST.value, why)
