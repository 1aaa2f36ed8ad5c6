"""What a worker does with messages, between its queue and its models: all but receiving and settling."""

import math
from collections.abc import Callable, Collection, Sequence

from broker.base import Message
from worker.calls import Answered, Calls
from worker.delivery import Delivery
from worker.flight import Flights, News
from worker.handler import Handler
from worker.job import Job
from worker.lane import Lane


class Work:
    """Belongs to the loop's thread. `clock` is monotonic, `wall_clock` Unix seconds."""

    def __init__(
        self,
        handler: Handler,
        calls: Calls,
        flights: Flights,
        lane: Lane,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._handler, self._calls, self._flights, self._lane = handler, calls, flights, lane
        self._clock, self._wall_clock = clock, wall_clock

    def credit(self, held: Collection[Delivery]) -> int:
        """How many messages to take from the misses queue while so many deliveries are held."""
        return self._lane.credit(held)

    def interactive_credit(self) -> int:
        """How many messages to take from the interactive queue."""
        return self._lane.interactive_credit()

    def is_overfull(self, held: Collection[Delivery]) -> bool:
        """Whether nothing more is to be taken from any queue."""
        return self._lane.is_overfull(held)

    def begin(self, messages: Sequence[Message], held: Collection[Delivery]) -> list[Delivery]:
        """Answer what is remembered, call for the rest, or have it wait. `held` are those of before."""
        batch = self._handler.handle(messages, self._clock())
        jobs = self._lane.admit(batch.calls, held) if batch.calls else []
        self._lane.learn(batch.deliveries)
        if batch.renewals:
            jobs += self._lane.renewable(batch.renewals, jobs)
        if jobs:
            self._follow(self._flights.begin(jobs))
        return batch.deliveries

    def open_alone(self, message: Message) -> tuple[Delivery, list[Job]]:
        """Answer what is remembered of a message that runs alone; the rest is for `start`, one by one."""
        batch = self._handler.handle([message], self._clock())
        (delivery,) = batch.deliveries
        return delivery, batch.calls

    def start(self, job: Job, *, alone: bool = False) -> None:
        """Begin a call, whatever else is under way."""
        deadline = job.request.deadline
        ends_at = math.inf if deadline is None else self._clock() + deadline - self._wall_clock()
        self._calls.start(
            job.model.name,
            job.request.payload,
            job,
            alone=alone,
            ends_at=ends_at,
            attempts=job.attempts,
            traceparent=job.delivery.traceparent,
            is_interactive=job.delivery.is_interactive,
        )

    def go_on(self) -> list[Answered]:
        """Answer what the models and other workers answered; whatever ended."""
        answers = self._flights.land(self._calls.advance())
        self._handler.finish(answers)
        self._flights.give_up(answers)
        self._follow(self._flights.look())
        return answers

    @property
    def is_idle(self) -> bool:
        """Whether no call is under way, also none for which nobody waits."""
        return self._calls.is_idle

    def lost_model(self) -> str | None:
        """The model that has lost half of its threads or more, where there is one."""
        return self._calls.exhausted()

    def next_due_seconds(self) -> float | None:
        """How long until there is something to do by the clock; None where there is not."""
        due = self._calls.next_due_seconds(), self._flights.next_due_seconds()
        return min([seconds for seconds in due if seconds is not None], default=None)

    def let_go(self) -> None:
        """Somebody else will make the calls that are under way."""
        self._flights.close()

    def close(self) -> None:
        """Let the threads end."""
        self._calls.close()

    def _follow(self, news: News) -> None:
        for job in [*news.calls, *self._flights.begin_alone(self._handler.coalesce(news.found))]:
            self.start(job)
