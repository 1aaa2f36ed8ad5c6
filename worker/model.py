"""What a model is to the worker: a target that is given a payload and answers with JSON, or says why not.

ModelError
├── TransientFailure   worth another attempt (408, 429, 5xx, refused, reset, TransientError)
│   └── TimedOut       no answer in time
├── DeadlinePassed     nobody waits any more: it was not called
├── Rejection          the model's verdict on the payload (other 4xx, redirects, an exception it raised)
└── BadResult          an answer that cannot be kept or sent on (not JSON, NaN, too large)
"""

import json
from collections.abc import Sequence
from typing import Any, Protocol

import orjson

from wire.errors import ErrorKind, InvalidRequest, TransientError
from wire.values import refuse_nan
from worker.retry import RETRY_AFTER_MAX_SECONDS

_SHOWN_CHARS = 200


class ModelError(Exception):
    """A call that brought no result. `kind` is what the reply says, `reason` what the retry metric says."""

    kind = ErrorKind.INTERNAL
    reason = "rejected"
    splits = True  # whether a call for many requests is worth splitting, to find the one to blame


class TransientFailure(ModelError):
    """Worth another attempt, `retry_after` seconds from now at the earliest. `hold_seconds`: for how long the
    model wants to be left alone by everybody."""

    kind = ErrorKind.MODEL_UNAVAILABLE

    def __init__(self, message: str, reason: str = "transient", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after
        self.hold_seconds = min(retry_after or 0.0, RETRY_AFTER_MAX_SECONDS)


class TimedOut(TransientFailure):
    """No answer in time."""

    kind = ErrorKind.MODEL_TIMEOUT

    def __init__(self, seconds: float) -> None:
        super().__init__(f"model gave no answer within {seconds:g} s", "timeout")


class DeadlinePassed(ModelError):
    """The request's deadline passed while it waited: the model was not called."""

    kind = ErrorKind.DEADLINE_EXCEEDED
    reason = "deadline"

    def __init__(self) -> None:
        super().__init__("its deadline passed while it waited for the model, which was not called")


class Rejection(ModelError):
    """The model refuses this payload, or, without `splits`, any; asking again would change nothing."""

    kind = ErrorKind.MODEL_REJECTED

    def __init__(self, message: str, *, splits: bool = True) -> None:
        super().__init__(message)
        self.splits = splits


class BadResult(ModelError):
    """The model answered with something that is no result."""

    kind = ErrorKind.BAD_RESULT


class Target(Protocol):
    """One model behind one address. `call` is used by many threads at once."""

    def warm(self) -> None:
        """Make ready for calls; raises whatever makes it useless."""

    def call(self, payload: bytes, traceparent: str | None = None) -> bytes:
        """The result as JSON text in one line. `traceparent` says which trace the call belongs to, for models
        that can be told. Raises ModelError."""

    def call_batch(
        self, payloads: Sequence[bytes], traceparent: str | None = None
    ) -> list[bytes | ModelError]:
        """The result of each, or what is wrong with that one. Raises ModelError for the call as a whole."""


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


def results_from_json(text: bytes, count: int, max_bytes: int) -> list[bytes | ModelError]:
    """A model's JSON array of `count` answers, each checked alone; `{"error": …}` is no result.

    Raises BadResult where it is no such array.
    """
    try:
        values = orjson.loads(text)
        _check_array(values, count)
        results = [orjson.dumps(value) for value in values]
    except orjson.JSONDecodeError as error:
        raise BadResult(f"result is not JSON: {error}") from None
    except TypeError:
        raise BadResult("result nests deeper than 254 levels") from None
    # An integer beyond 64 bits has become a float: the slower parser keeps it, and only it is asked then.
    if any(b"e+" in result for result in results):
        results = [json.dumps(value, separators=(",", ":")).encode() for value in json.loads(text)]
    return [
        _said_error(value) or _bounded(result, max_bytes)
        for value, result in zip(values, results, strict=True)
    ]


def results_from_python(values: Any, count: int, max_bytes: int) -> list[bytes | ModelError]:
    """The same of the list that a Python model returned; an exception in it is that row's."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    _check_array(values, count)
    return [_one_from_python(value, max_bytes) for value in values]


def _check_array(values: Any, count: int) -> None:
    if not isinstance(values, list | tuple) or len(values) != count:
        found = f"{len(values)} results" if isinstance(values, list | tuple) else type(values).__name__
        raise BadResult(f"model answered a batch of {count} with {found}; expected an array of {count}")


def _said_error(value: Any) -> ModelError | None:
    if isinstance(value, dict) and value.keys() == {"error"} and value["error"] is not None:
        return Rejection(f"model answered an error: {str(value['error'])[:_SHOWN_CHARS]}")
    return None


def _bounded(result: bytes, max_bytes: int) -> bytes | ModelError:
    return result if len(result) <= max_bytes else BadResult(f"result has more than {max_bytes} bytes")


def _one_from_python(value: Any, max_bytes: int) -> bytes | ModelError:
    if isinstance(value, ModelError):
        return value
    if isinstance(value, TransientError):
        return TransientFailure(f"model failed: {value}", "transient", value.retry_after)
    if isinstance(value, Exception):
        return Rejection(f"model raised {type(value).__name__}: {value}")
    try:
        return _said_error(value) or result_from_python(value, max_bytes)
    except BadResult as bad:
        return bad


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


def named(error: ModelError | None) -> str:
    """How the metric of attempts calls this end of one."""
    if error is None:
        return "ok"
    if isinstance(error, TimedOut):
        return "timeout"
    return "transient" if isinstance(error, TransientFailure) else "permanent"


def said(error: ModelError, rows: int) -> str:
    """What the reply says of an error that `rows` requests share: where they are several it is without the
    model's own words, which may be about another's payload."""
    return str(error) if rows == 1 else f"{str(error).partition(': ')[0]}, for {rows} requests"
