"""What can go wrong with a request, as the reply says it.

ErrorKind                 retryable   made where
├── invalid_request       no          decoding a message
├── unknown_model         no          choosing a model
├── model_rejected        no          the model answered 4xx, or raised
├── bad_result            no          the model's answer is not JSON, has NaN, is too large
├── model_unavailable     yes         refused, reset, 408, 429, 5xx: attempts or budget spent
├── model_timeout         yes         no answer in time: attempts or budget spent
├── deadline_exceeded     yes         the request's own deadline has passed
├── not_cached            yes         only_if_cached, and it was not
├── poison                no          workers died of it
└── internal              yes         a fault of recollect's own
"""

from dataclasses import dataclass
from enum import StrEnum

MESSAGE_MAX_CHARS = 500


class ErrorKind(StrEnum):
    """The closed set of `error.kind`."""

    INVALID_REQUEST = "invalid_request"
    UNKNOWN_MODEL = "unknown_model"
    MODEL_REJECTED = "model_rejected"
    BAD_RESULT = "bad_result"
    MODEL_UNAVAILABLE = "model_unavailable"
    MODEL_TIMEOUT = "model_timeout"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    NOT_CACHED = "not_cached"
    POISON = "poison"
    INTERNAL = "internal"

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed when it is sent again later."""
        return self in _RETRYABLE


_RETRYABLE = frozenset(
    {
        ErrorKind.MODEL_UNAVAILABLE,
        ErrorKind.MODEL_TIMEOUT,
        ErrorKind.DEADLINE_EXCEEDED,
        ErrorKind.NOT_CACHED,
        ErrorKind.INTERNAL,
    }
)


class Outcome(StrEnum):
    """How a reply came about: a closed set, alike in replies, logs and metric labels, one per request."""

    HIT = "hit"
    MISS = "miss"
    REFRESH = "refresh"
    BYPASS = "bypass"
    COALESCED = "coalesced"
    STALE = "stale"
    UNAVAILABLE = "unavailable"
    UNCACHEABLE = "uncacheable"
    INVALID = "invalid"
    FAILED = "failed"
    EXPIRED = "expired"
    NOT_CACHED = "not_cached"

    # An Enum's own hash is a Python function, and outcomes are counted for every request.
    __hash__ = str.__hash__

    @property
    def ok(self) -> bool:
        """Whether a reply with this outcome has status `ok`."""
        return self not in _FAILED


_COST_A_CALL = frozenset(
    {Outcome.MISS, Outcome.REFRESH, Outcome.BYPASS, Outcome.UNAVAILABLE, Outcome.UNCACHEABLE}
)


def outcome_of_copy(outcome: str) -> str:
    """What an equal request beside one with `outcome` would have had, for who sends it once: `coalesced`
    where there was a model call to join, and else the same."""
    return Outcome.COALESCED.value if outcome in _COST_A_CALL else outcome


_FAILED = frozenset({Outcome.INVALID, Outcome.FAILED, Outcome.EXPIRED, Outcome.NOT_CACHED})


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as a reply carries it. `message` is cut to 500 characters; `attempts` counts model calls."""

    kind: ErrorKind
    message: str
    attempts: int = 0

    def as_dict(self) -> dict[str, str | bool | int]:
        """The JSON object under `error`."""
        return {
            "kind": self.kind.value,
            "message": cut(self.message),
            "retryable": self.kind.retryable,
            "attempts": self.attempts,
        }


def cut(text: str) -> str:
    """`text` with at most 500 characters, and none that JSON cannot carry."""
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= MESSAGE_MAX_CHARS else text[: MESSAGE_MAX_CHARS - 1] + "…"


class InvalidRequest(ValueError):
    """A request that the contract refuses; its text names the field and what was expected."""


class TransientError(Exception):
    """Raised by a Python model to say that the same payload may succeed later: the call is retried.

    Any other exception is the model's verdict on the payload and is never retried. `retry_after` is the least
    wait in seconds, of which at most 60 are kept.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
