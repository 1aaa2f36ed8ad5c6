"""Which entries may answer a request: the decision table of docs/contract.md. Pure.

The directives are those of HTTP caches (RFC 9111 and, for stale answers, RFC 5861), in seconds, and 0 is a
number like any other.
"""

from enum import Enum

from wire.message import Request
from worker.catalog import Policy
from worker.entry import Entry


class Use(Enum):
    """What an entry is good for at look-up: an answer, an answer while the model is asked again, nothing."""

    HIT = "hit"
    STALE = "stale"
    NONE = "none"


def use_of(entry: Entry, request: Request, policy: Policy, now: float) -> Use:
    """What `entry` is to a request that reads (no `bypass`, no `refresh`). `now` is Unix seconds.

    `max_age` 0 takes nothing, also where a clock that is ahead makes an age of 0.
    """
    if request.max_age is not None and age_of(entry, now) >= request.max_age:
        return Use.NONE
    if now < entry.expires:
        return Use.HIT
    return Use.STALE if now < entry.expires + policy.stale_while_revalidate else Use.NONE


def may_stand_in(entry: Entry, request: Request, policy: Policy, now: float) -> bool:
    """Whether `entry` may answer where the model has failed for a while.

    That goes for a `refresh`, too: something fresh, or else what there is. Never for a `bypass`.
    """
    window = policy.stale_if_error_for(request.stale_if_error)
    if request.bypass or window <= 0 or now >= entry.expires + window:
        return False
    return request.max_age is None or age_of(entry, now) < request.max_age + window


def age_of(entry: Entry, now: float) -> float:
    """Seconds since the model call behind `entry` began; 0 where a clock is ahead."""
    return max(0.0, now - entry.created)
