"""What a model is to the worker: a target that is given a payload and answers with JSON, or says why not.

ModelError
├── TransientFailure   worth another attempt (408, 429, 5xx, refused, reset, TransientError)
│   └── TimedOut       no answer in time
├── Rejection          the model's verdict on the payload (other 4xx, redirects, an exception it raised)
└── BadResult          an answer that cannot be kept or sent on (not JSON, NaN, too large)
"""

import json
from typing import Any, Protocol

import orjson

from wire.errors import ErrorKind, InvalidRequest
from wire.values import refuse_nan


class ModelError(Exception):
    """A call that brought no result. `kind` is what the reply says, `reason` what the retry metric says."""

    kind = ErrorKind.INTERNAL
    reason = "transient"


class TransientFailure(ModelError):
    """Worth another attempt, `retry_after` seconds from now at the earliest."""

    kind = ErrorKind.MODEL_UNAVAILABLE

    def __init__(self, message: str, reason: str = "transient", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after


class TimedOut(TransientFailure):
    """No answer in time."""

    kind = ErrorKind.MODEL_TIMEOUT

    def __init__(self, seconds: float) -> None:
        super().__init__(f"model gave no answer within {seconds:g} s", "timeout")


class Rejection(ModelError):
    """The model refuses this payload; asking again would change nothing."""

    kind = ErrorKind.MODEL_REJECTED


class BadResult(ModelError):
    """The model answered with something that is no result."""

    kind = ErrorKind.BAD_RESULT


class Target(Protocol):
    """One model behind one address. `call` is used by many threads at once."""

    def warm(self) -> None:
        """Make ready for calls; raises whatever makes it useless."""

    def call(self, payload: bytes) -> bytes:
        """The result as JSON text in one line. Raises ModelError."""


def result_from_json(text: bytes, max_bytes: int) -> bytes:
    """A model's JSON answer in one line, checked. Raises BadResult."""
    if len(text) > max_bytes:
        raise BadResult(f"result has more than {max_bytes} bytes")
    try:
        value = orjson.loads(text)
        result = orjson.dumps(value)
    except orjson.JSONDecodeError as error:
        raise BadResult(f"result is not JSON: {error}") from None
    except TypeError:
        raise BadResult("result nests deeper than 254 levels") from None
    # An integer beyond 64 bits has become a float: the slower parser keeps it, and only it is asked then.
    if b"e+" in result:
        return json.dumps(json.loads(text), separators=(",", ":")).encode()
    return result


def result_from_python(value: Any, max_bytes: int) -> bytes:
    """The value a Python model returned as JSON text, checked. Raises BadResult."""
    try:
        result = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        raise BadResult(f"result cannot be written as JSON: {error}") from None
    if len(result) > max_bytes:
        raise BadResult(f"result has {len(result)} bytes; at most {max_bytes} are taken")
    if b"null" in result:
        try:
            refuse_nan(value, "result")
        except InvalidRequest as error:
            raise BadResult(str(error)) from None
    return result
