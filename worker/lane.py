"""The hit lane: what needs a model that has no room for it now makes way for what does not.

Its message is forwarded to the misses queue, as it came, and read from there at the model's speed. So hits
never stand behind misses, nothing is held through an outage, and the length of that queue says what the
models lack.

A message goes as a whole: position joins its requests and replies. It is decided before its first call, so
none of them is made twice; only where the model is found to be down in the middle of it are some.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from worker.calls import Answered, Callee, Calls, deferred
from worker.delivery import Delivery
from worker.flight import Flights
from worker.intake import Intake
from worker.job import Job

# Twice what runs, so that a thread that is free finds its next call here. What has waited already is taken
# once more: else the misses of new messages could keep it waiting for ever.
_ROUNDS, SECOND_ROUNDS = 2, 4
# Of what is interactive, beside all others: it goes before them, and must not fill a worker without end.
INTERACTIVE_ROUNDS = 8
_SHARE = 4  # of `most_bytes`, for what is interactive
_LOOKS = 256
_FOLLOWERS = 4  # who waits for the call of another takes no thread, and would only come back for the same
_REST_SECONDS, _SHORT_REST_SECONDS = 1.0, 0.05


class Lane:
    """Decides which messages wait. `clock` is monotonic; `finish` is given what is not called now.

    At most four times `in_flight` requests, or what the models can do in a few rounds, if that is more, and
    `most_bytes` of messages are held for a model, and what came with the last of them. Beyond that, so that
    nobody waits for a bulk run: what a model can do in eight rounds, and a quarter of the bytes, of what is
    interactive.
    """

    def __init__(
        self,
        callees: Mapping[str, Callee],
        calls: Calls,
        flights: Flights,
        finish: Callable[[Sequence[Answered]], None],
        clock: Callable[[], float],
        *,
        in_flight: int,
        most_bytes: int,
    ) -> None:
        self._callees, self._calls, self._flights, self._clock = callees, calls, flights, clock
        self._finish = finish
        rows = sum(callee.most_rows for callee in callees.values())
        self._most, self._most_bytes = max(_FOLLOWERS * in_flight, SECOND_ROUNDS * rows), most_bytes
        self._intake = Intake(_ROUNDS * rows, self._most_bytes)
        self._interactive = Intake(in_flight, most_bytes // _SHARE)
        self._rests_until = 0.0

    def interactive_credit(self) -> int:
        """How many messages to take from the interactive queue: no more than the model with the most room can
        begin. What is too much stays there, before the bulk; in the misses queue it would stand behind it.
        What asks for a model that is left alone needs no room."""
        served = [name for name in self._callees if not self._is_left_alone(name)]
        if not served:
            return self._interactive.credit()
        return self._interactive.messages(max(map(self._interactive_room, served)))

    def credit(self, held: Collection[Delivery]) -> int:
        """How many messages to take from the misses queue while so many deliveries are held."""
        if self._clock() < self._rests_until or not self._is_free(held):
            return 0
        if not self._serves_any():
            # Nothing of it begins: it is looked through for what is answered by now, or has waited too long.
            return _LOOKS if any(map(self._is_left_alone, self._callees)) else 0
        return self._intake.credit([delivery for delivery in held if delivery.is_second])

    def admit(self, jobs: Sequence[Job], held: Collection[Delivery]) -> list[Job]:
        """Which of these calls begin. The messages of the others wait, with all that is open in them; what
        asks for a model that is left alone may have a stale entry instead, or an error in the end."""
        alone = {job for job in jobs if self._is_left_alone(job.model.name)}
        if alone:
            self._finish([self._deferred(job) for job in alone])
        begun: list[Job] = []
        is_free, taken, keys = self._is_free(held), Counter[str](), set[str]()
        for delivery, group in _by_delivery(jobs).items():
            its = [job for job in group if job not in alone]
            new = [job for job in its if not (self._flights.covers(job) or (job.joins and job.key in keys))]
            has_room = self._have_room(new, taken, delivery, is_free=is_free)
            if delivery.is_postponed or not (has_room or self._goes_before(new, taken, delivery, held)):
                for _ in its:
                    delivery.postpone()
            else:
                taken.update(job.model.name for job in new)
                keys.update(job.key for job in new if job.key is not None)
                begun += its
        return begun

    def learn(self, deliveries: Iterable[Delivery]) -> None:
        """What was taken, after it was admitted: where much of what came from the misses queue has to wait
        on, that queue is left alone for a while."""
        deliveries = list(deliveries)
        self._interactive.learn([delivery for delivery in deliveries if delivery.is_interactive])
        seconds = [delivery for delivery in deliveries if delivery.is_second]
        if seconds:
            self._intake.learn(seconds)
            again = sum(delivery.is_postponed for delivery in seconds)
            rest = _SHORT_REST_SECONDS if self._serves_any() else _REST_SECONDS
            self._rests_until = self._clock() + rest * again / len(seconds)

    def renewable(self, jobs: Iterable[Job], begun: Iterable[Job]) -> list[Job]:
        """Those for which there is room beside what has just `begun`: nobody waits for them."""
        taken, found = Counter(job.model.name for job in begun), list[Job]()
        for job in jobs:
            name = job.model.name
            if not self._is_left_alone(name) and self._has_room(name, taken[name], _ROUNDS):
                taken[name] += 1
                found.append(job)
        return found

    def is_overfull(self, held: Collection[Delivery]) -> bool:
        """Whether nothing more is to be taken at all: what comes again after a death is not sent on, and a
        whole fleet may have died."""
        return sum([len(d.requests) for d in held if d.message.deliveries > 1]) >= 2 * self._most

    def _serves_any(self) -> bool:
        """Whether there is a model for which something may stand behind what has to wait on."""
        return any(
            not self._is_left_alone(name) and self._has_room(name, 0, _ROUNDS) for name in self._callees
        )

    def _deferred(self, job: Job) -> Answered:
        return deferred(job, self._callees[job.model.name].gate, job.attempts)

    def _is_left_alone(self, name: str) -> bool:
        return self._callees[name].gate.is_shut

    def _has_room(self, name: str, taken: int, rounds: int) -> bool:
        return self._calls.under_way(name) + taken < rounds * self._callees[name].most_rows

    def _have_room(
        self, jobs: Iterable[Job], taken: Mapping[str, int], delivery: Delivery, *, is_free: bool
    ) -> bool:
        # One that was in flight at a death is not sent on: the count of its deliveries would begin anew.
        if delivery.message.deliveries > 1:
            return True
        rounds = SECOND_ROUNDS if delivery.is_second else _ROUNDS
        names = {job.model.name for job in jobs}
        return is_free and all(self._has_room(name, taken[name], rounds) for name in names)

    def _goes_before(
        self, jobs: Iterable[Job], taken: Mapping[str, int], delivery: Delivery, held: Collection[Delivery]
    ) -> bool:
        """Whether it is interactive, and there is room for what is."""
        if not delivery.is_interactive:
            return False
        names = {job.model.name for job in jobs}
        size = sum([len(other.message.body) for other in held if other.is_interactive])
        return size < self._most_bytes // _SHARE and all(
            taken[name] < self._interactive_room(name) for name in names
        )

    def _interactive_room(self, name: str) -> int:
        return INTERACTIVE_ROUNDS * self._callees[name].most_rows - self._calls.interactive(name)

    def _is_free(self, held: Collection[Delivery]) -> bool:
        requests = sum([len(delivery.requests) for delivery in held])
        return requests < self._most and sum([len(d.message.body) for d in held]) < self._most_bytes


def _by_delivery(jobs: Iterable[Job]) -> dict[Delivery, list[Job]]:
    sorted_out: dict[Delivery, list[Job]] = {}
    for job in jobs:
        sorted_out.setdefault(job.delivery, []).append(job)
    return sorted_out
