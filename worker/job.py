"""What stands between a request and its model call."""

from wire.errors import Outcome
from wire.message import Request
from worker.catalog import Model
from worker.delivery import Delivery

# One request on its way through a batch: its delivery and position, itself, its model. A bare tuple, because
# a batch of hits has hundreds, and nothing else is made for them.
Ask = tuple[Delivery, int, Request, Model]

_ALL = 1_000_000  # of which there is always one left


class Job:
    """One request that needs its model. `outcome` is what it will be if the model answers; `key` is None for
    a bypass; others wait for it where it `has_lease`.

    `seen` is when the call behind the entry began that was found and is of no use (Unix seconds; 0 where
    there is none): only a later one is worth waiting for. `is_last`: another worker has made all attempts but
    this one. For one that is `in_background` nobody waits: its request has been answered, and its delivery is
    never settled.
    """

    __slots__ = (
        "delivery", "has_lease", "in_background", "is_last", "key", "model", "outcome", "position", "request",
        "seen",
    )  # fmt: skip

    def __init__(
        self,
        ask: Ask,
        outcome: Outcome,
        key: str | None,
        seen: float = 0.0,
        *,
        in_background: bool = False,
    ) -> None:
        self.delivery, self.position, self.request, self.model = ask
        self.outcome, self.key, self.seen = outcome, key, seen
        self.has_lease = self.is_last = False
        self.in_background = in_background

    @property
    def joins(self) -> bool:
        """Whether it takes the answer of a call that began before it: not where only a new one will do."""
        return not self.request.refresh and self.request.max_age != 0

    @property
    def may_be_stale(self) -> bool:
        """Whether any entry past its time may stand in where the model fails."""
        return self.model.policy.stale_if_error_for(self.request.stale_if_error) > 0

    @property
    def attempts(self) -> int:
        """How many attempts count as made."""
        return _ALL if self.is_last else self.delivery.attempts.get(self.position, 0)

    def may_wait(self, now: float, down_seconds: float) -> bool:
        """Whether it goes on waiting, as of Unix seconds `now`, for a model that has been down so long.

        Only what it waited while the model was down counts: an earlier wait, for room or in an earlier
        outage, has nothing to do with this one. A suspect does not wait: what is known of it would be lost on
        the way.
        """
        if self.in_background or self.delivery.is_suspect:
            return False
        since = self.delivery.waits_since
        waited = 0.0 if since is None else min(now - since, down_seconds)
        return waited < self.model.policy.budget

    def wait(self, attempts: int) -> None:
        """Have its message wait for a model that is down; so many attempts were made."""
        self.delivery.found_down = True
        if attempts and not self.is_last:
            self.delivery.attempts[self.position] = attempts
        self.delivery.postpone()
