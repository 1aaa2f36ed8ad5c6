"""When to call the model again: tenacity's rules, asked for a number rather than left to sleep.

A wait belongs to the loop's timers. A thread that sleeps through a back-off could be calling the model.
"""

from dataclasses import dataclass

import tenacity

RETRY_AFTER_MAX_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `attempts` calls and no wait that ends after `budget_seconds`; exponential with full jitter.

    The jitter is that of "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    attempts: int = 3
    budget_seconds: float = 120.0
    initial_seconds: float = 0.1
    max_seconds: float = 10.0

    def wait_seconds(self, attempt: int, elapsed_seconds: float, retry_after: float | None) -> float | None:
        """How long to wait after failed attempt number `attempt` (from 1); None where it was the last one.

        A model's own Retry-After is kept up to 60 s.
        """
        state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
        state.attempt_number = attempt
        state.start_time, state.outcome_timestamp = 0.0, elapsed_seconds
        backoff = tenacity.wait_random_exponential(multiplier=self.initial_seconds, max=self.max_seconds)
        asked = min(retry_after or 0.0, RETRY_AFTER_MAX_SECONDS)
        state.upcoming_sleep = max(backoff(state), asked)
        stop = tenacity.stop_after_attempt(self.attempts) | tenacity.stop_before_delay(self.budget_seconds)
        return None if stop(state) else state.upcoming_sleep
