"""Messages that were in flight at several deaths, and the trial of each.

Whoever was there is not guilty yet: its neighbours were there, too. So from its third delivery on a message
runs with nothing else in the process, a packed one request by request, and the broker is told beforehand whom
to blame. Only a death in that state makes a request `poison`. Rejected: a count of deliveries alone, which
condemned fifty innocent neighbours with each culprit; trial by cache (the first request that is not
remembered must be it), which is blind for `bypass` and when the cache is down.
"""

from collections import deque
from collections.abc import Collection, Iterable, Sequence

from broker.base import WHOLE, Broker, Message
from worker.calls import Answered
from worker.delivery import SUSPECT_DELIVERIES, Delivery
from worker.job import Job
from worker.work import Work


class Suspects:
    """One message at a time on trial; true while there is any."""

    def __init__(self, broker: Broker, work: Work) -> None:
        self._broker, self._work = broker, work
        self._waiting: deque[Message] = deque()
        self._jobs: deque[Job] = deque()
        self._on_trial: Delivery | None = None
        self._running: Job | None = None

    def __bool__(self) -> bool:
        return bool(self._waiting) or self._on_trial is not None or self._running is not None

    def put_aside(self, messages: Sequence[Message]) -> list[Message]:
        """Keep the suspects among `messages` for later; returns the others."""
        self._waiting.extend(m for m in messages if m.deliveries >= SUSPECT_DELIVERIES)
        return [m for m in messages if m.deliveries < SUSPECT_DELIVERIES]

    def finished(self, answers: Iterable[Answered]) -> None:
        """These calls have ended."""
        if any(answer.tag is self._running for answer in answers):
            self._running = None

    def acquit(self) -> None:
        """What is answered does not run any more: a death in its commit is nobody's doing.

        Raises BrokerLost.
        """
        if self._on_trial is not None and self._on_trial.is_answered:
            self._broker.blame(self._on_trial.message, None)
            self._on_trial = None

    def step(self, held: Collection[Delivery]) -> Delivery | None:
        """Run the next request, or open the next message where nothing else is held and no call is under way.

        Raises BrokerLost.
        """
        if self._running is not None:
            return None
        if self._jobs:
            self._run(self._jobs[0])
            return None
        is_alone = not held and self._work.is_idle
        return self._open(self._waiting[0]) if self._waiting and is_alone else None

    def waiting(self) -> list[Message]:
        """Those whose trial has not begun."""
        return list(self._waiting)

    def forget_waiting(self) -> None:
        """They are somebody else's now."""
        self._waiting.clear()

    def end_trial(self) -> Delivery | None:
        """Have it wait again, without a verdict; returns its delivery, which will not be answered.

        A call that runs is waited for all the same.
        """
        on_trial, self._on_trial = self._on_trial, None
        self._jobs.clear()
        if on_trial is None or on_trial.is_answered:
            return None
        self._waiting.appendleft(on_trial.message)
        return on_trial

    def _run(self, job: Job) -> None:
        self._broker.blame(job.delivery.message, job.position)
        self._running = self._jobs.popleft()
        self._work.start(job, alone=True)

    def _open(self, message: Message) -> Delivery:
        # Decoding may be what kills: 16 MB of hostile JSON are parsed before any request is known.
        self._broker.blame(message, WHOLE)
        self._on_trial, jobs = self._work.open_alone(self._waiting.popleft())
        self._jobs.extend(jobs)
        return self._on_trial
