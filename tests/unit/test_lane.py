"""Which messages wait for their model, told apart by what is under way and what they are."""

from dataclasses import replace

import pytest

from broker.base import JSON, NDJSON, Message
from tests.unit.test_handler import Store
from wire.errors import ErrorKind, Failure
from wire.message import Limits
from wire.names import Names
from worker.breaker import Breaker
from worker.calls import Answered, Callee, Calls
from worker.catalog import Catalog, Model, Policy
from worker.delivery import Delivery
from worker.flight import Flights
from worker.gate import Gate
from worker.handler import Handler
from worker.job import Job
from worker.lane import Lane
from worker.model import Target, TransientFailure
from worker.retry import RetryPolicy

NAMES = Names()


class Underway:
    """Calls that are only counted."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.interactive_counts: dict[str, int] = {}

    def interactive(self, model: str) -> int:
        return self.interactive_counts.get(model, 0)

    def under_way(self, model: str) -> int:
        return self.counts.get(model, 0)


class Desk:
    """A lane for models `m` and `n` of two threads each, with everything around it that it asks."""

    def __init__(self, in_flight: int = 100) -> None:
        self.now = 0.0
        self.calls = Underway()
        self.gates = {name: self._gate() for name in "mn"}
        callees = {name: self._callee(gate) for name, gate in self.gates.items()}
        models = {name: Model(name, "1", policy=Policy(budget=10.0)) for name in "mn"}
        self.handler = Handler(
            Catalog(models), Store(), NAMES, Limits(), lambda: 1000.0 + self.now, lambda: None, self._fault
        )
        flights = Flights(Store(), NAMES, "t", lambda: self.now, lease_seconds=10.0)
        calls: Calls = self.calls  # type: ignore[assignment]
        self.lane = Lane(
            callees,
            calls,
            flights,
            self.handler.finish,
            lambda: self.now,
            in_flight=in_flight,
            most_bytes=1 << 20,
        )

    def _gate(self) -> Gate:
        return Gate(Breaker(1, 5.0, lambda: self.now, lambda _: None), lambda: self.now)

    @staticmethod
    def _callee(gate: Gate) -> Callee:
        target: Target = None  # type: ignore[assignment]
        return Callee(target, RetryPolicy(), 2, 30.0, gate)

    @staticmethod
    def _fault(error: Exception) -> None:
        raise error

    def receive(
        self, *messages: Message, held: tuple[Delivery, ...] = ()
    ) -> tuple[list[Delivery], list[Job]]:
        batch = self.handler.handle(messages, 0.0)
        begun = self.lane.admit(batch.calls, held)
        self.lane.learn(batch.deliveries)
        return batch.deliveries, begun

    def shut(self, name: str) -> None:
        self.gates[name].ended(TransientFailure("away", "connection"))


def single(number: int, model: str = "m", **more: object) -> Message:
    body = b'{"payload":%d,"model":"%b"}' % (number, model.encode())
    return Message(body, JSON, str(number), queue=NAMES.requests, **more)  # type: ignore[arg-type]


def packed(*models: str, queue: str = NAMES.requests) -> Message:
    lines = [b'{"payload":%d,"model":"%b"}' % (n, model.encode()) for n, model in enumerate(models)]
    return Message(b"\n".join(lines), NDJSON, "p", queue=queue)


def sent_on(delivery: Delivery) -> Message:
    """The message that a delivery leaves in the misses queue, as it comes out of it."""
    (out,) = delivery.settlement(NAMES, Limits(), 1000.0).outgoing
    assert (out.queue, out.message.body) == (NAMES.misses, delivery.message.body)
    return replace(out.message, queue=out.queue)


def postponed(deliveries: list[Delivery]) -> list[bool]:
    return [delivery.is_postponed for delivery in deliveries]


def test_twice_what_runs_is_taken_and_the_rest_waits() -> None:
    """Two threads: four calls; equal requests take one place."""
    desk = Desk()
    deliveries, begun = desk.receive(*[single(n) for n in (1, 1, 1, 2, 3, 4, 5, 5)])
    assert postponed(deliveries) == [False] * 6 + [True] * 2
    assert len(begun) == 6


def test_one_model_that_is_full_leaves_the_other_alone() -> None:
    """Each has its own room; a message of both waits for both, before its first call."""
    desk = Desk()
    desk.calls.counts = {"m": 4}
    deliveries, begun = desk.receive(single(1, "m"), single(2, "n"), packed("n", "m"))
    assert postponed(deliveries) == [True, False, True]
    assert [job.model.name for job in begun] == ["n"]
    assert deliveries[2].is_answered


def test_a_packed_message_is_not_cut_in_two() -> None:
    """Where there is room for some of it all of it begins."""
    deliveries, begun = Desk().receive(packed(*["m"] * 50))
    assert (postponed(deliveries), len(begun)) == ([False], 50)


def test_what_reads_and_what_does_not_wait_together() -> None:
    """In a message of both: the calls of the one are not made before the other finds no room."""
    desk = Desk()
    first = Message(b'{"payload":1,"model":"m","bypass":true}\n{"payload":2,"model":"n"}', NDJSON, "p")
    desk.calls.counts = {"n": 4}
    deliveries, begun = desk.receive(first, packed("m", "m"), single(3))
    assert postponed(deliveries) == [True, False, False]
    assert {job.delivery for job in begun} == set(deliveries[1:])


def test_what_has_waited_is_taken_up_to_twice_the_room() -> None:
    """Else the misses of new messages could keep it waiting for ever."""
    desk = Desk()
    for under_way, waits in ((4, False), (7, False), (8, True)):
        desk.calls.counts = {"m": under_way}
        deliveries, _ = desk.receive(packed("m", queue=NAMES.misses))
        assert postponed(deliveries) == [waits], under_way


def test_what_was_in_flight_at_a_death_is_not_sent_on() -> None:
    """The count of its deliveries would begin anew, and a culprit never be found."""
    desk = Desk()
    desk.calls.counts = {"m": 100}
    deliveries, _ = desk.receive(single(1, deliveries=2), single(2))
    assert postponed(deliveries) == [False, True]


def test_what_is_held_is_bounded() -> None:
    """Followers take no thread, but their messages take room."""
    desk = Desk(in_flight=4)
    (held,), _ = desk.receive(packed(*["n"] * 16))
    deliveries, _ = desk.receive(single(1), held=(held,))
    assert postponed(deliveries) == [True]
    assert desk.lane.credit([held]) == 0


def test_a_model_that_is_left_alone_has_its_requests_wait_since_then() -> None:
    """The message says since when, and who has waited as long as it may gets an error instead."""
    desk = Desk()
    desk.shut("m")
    (delivery,), begun = desk.receive(single(1))
    assert (delivery.is_postponed, begun) == (True, [])
    again = sent_on(delivery)
    desk.now = 4.0
    (delivery,), _ = desk.receive(again)
    assert (delivery.is_postponed, delivery.waits_since) == (True, 1000.0)
    desk.now = 9.0
    desk.shut("m")
    desk.now = 11.0
    (delivery,), _ = desk.receive(again)
    assert delivery.outcomes == [("m", "failed")]


def test_only_this_outage_counts_against_who_waits() -> None:
    """Not an earlier one, nor hours in the queue for want of room."""
    desk = Desk()
    desk.shut("m")
    (delivery,), _ = desk.receive(single(1))
    again = sent_on(delivery)
    desk.gates["m"].ended(None)
    desk.now = 600.0
    desk.shut("m")
    desk.now = 601.0
    (delivery,), _ = desk.receive(again)
    assert delivery.is_postponed
    desk.now = 609.9
    desk.shut("m")
    desk.now = 610.1
    (delivery,), _ = desk.receive(again)
    assert delivery.outcomes == [("m", "failed")]


def test_attempts_are_counted_across_waits() -> None:
    """Or a row that makes its model fail would go round for ever."""
    desk = Desk()
    (delivery,), (job,) = desk.receive(single(1))
    failure = Failure(ErrorKind.MODEL_UNAVAILABLE, "away", 2)
    desk.handler.finish([Answered(job, None, failure, 0.0, 1.0, is_deferred=True)])
    message = sent_on(delivery)
    (again,), (job,) = desk.receive(message)
    assert (again.attempts, again.waits_since, job.attempts) == ({0: 2}, 1000.0, 2)
    for wrong in ("", "0", "0:x", "0:2,", 2, None, "0:9999"):
        message.headers["attempts"] = wrong
        (again,), _ = desk.receive(message)
        assert again.attempts == {}, wrong


def test_a_wait_for_room_is_not_held_against_anybody() -> None:
    """A worker that is cut off from its model must not fail what others keep waiting for room."""
    desk = Desk()
    desk.calls.counts = {"m": 4}
    (delivery,), _ = desk.receive(single(1))
    assert "waits_since" not in sent_on(delivery).headers


def test_renewals_take_what_room_is_left() -> None:
    """Nobody waits for them: each takes a place, and so does what has just begun."""
    desk = Desk()
    batch = desk.handler.handle([single(n) for n in range(9)], 0.0)
    assert desk.lane.renewable(batch.calls, batch.calls[:1]) == batch.calls[:3]


def test_what_comes_again_after_deaths_is_bounded_too() -> None:
    """It is never sent on, so the worker takes no more than twice its bound."""
    desk = Desk(in_flight=4)
    held, _ = desk.receive(*[single(n, deliveries=2) for n in range(31)])
    assert postponed(held) == [False] * 31
    assert not desk.lane.is_overfull(held)
    more, _ = desk.receive(single(99, deliveries=2))
    assert desk.lane.is_overfull([*held, *more])
    large, _ = desk.receive(packed(*["n"] * 3000))
    assert not desk.lane.is_overfull(large), "hits do not stand behind one large message"


def test_a_probe_is_let_through_when_it_is_due() -> None:
    """Whoever comes next."""
    desk = Desk()
    desk.shut("m")
    desk.now = 5.0
    (delivery,), begun = desk.receive(single(1))
    assert (delivery.is_postponed, len(begun)) == (False, 1)


def test_the_misses_are_left_alone_for_a_while_when_they_have_to_wait_on() -> None:
    """As long as they were many: what waits for a model that is down must not go round and round."""
    desk = Desk()
    assert desk.lane.credit([]) > 0
    desk.shut("m")
    assert desk.lane.credit([]) > 0, "they are looked at: one may be answered by now, or has waited too long"
    misses = [packed("m", queue=NAMES.misses), packed("n", queue=NAMES.misses)]
    desk.receive(*misses)
    assert desk.lane.credit([]) == 0
    desk.now = 0.03
    assert desk.lane.credit([]) > 0, "the other model may be waited for behind them"
    desk.calls.counts = {"n": 4}
    desk.receive(*misses)
    desk.now = 0.5
    assert desk.lane.credit([]) == 0
    desk.now = 0.6
    assert desk.lane.credit([]) > 0


def test_misses_are_taken_while_there_is_room_for_any_of_them() -> None:
    """Not before."""
    desk = Desk()
    desk.calls.counts = {"m": 4, "n": 4}
    assert desk.lane.credit([]) == 0
    desk.calls.counts = {"m": 3, "n": 4}
    assert desk.lane.credit([]) > 0


@pytest.mark.parametrize("deliveries", [1, 3])
def test_a_suspect_whose_model_is_left_alone_is_told_so(deliveries: int) -> None:
    """What is known of it would be lost on the way; any other waits."""
    desk = Desk()
    batch = desk.handler.handle([single(1, deliveries=deliveries)], 0.0)
    (job,) = batch.calls
    failure = desk.lane._deferred(job)
    assert isinstance(failure, Answered)
    desk.handler.finish([failure])
    assert batch.deliveries[0].is_postponed == (deliveries == 1)


def test_what_is_interactive_begins_where_the_bulk_finds_no_room() -> None:
    """Eight rounds of its own, beside whatever the others hold; past that it waits like everybody else."""
    desk = Desk(in_flight=4)
    (full,), _ = desk.receive(packed(*["n"] * 16))
    desk.calls.counts = {"m": 100}
    for interactive, waits in ((0, False), (15, False), (16, True)):
        desk.calls.interactive_counts = {"m": interactive}
        messages = single(1), replace(single(2), queue=NAMES.interactive)
        deliveries, begun = desk.receive(*messages, held=(full,))
        assert postponed(deliveries) == [True, waits], interactive
        assert [job.delivery for job in begun] == [d for d in deliveries[1:] if not waits]


def test_no_more_is_taken_of_what_is_interactive_than_there_is_room_for() -> None:
    """The rest stays where it is read first. The model with most room counts, one that is down does not."""
    desk = Desk()
    messages = [replace(single(n), queue=NAMES.interactive) for n in range(16)]
    for _ in range(30):
        desk.receive(messages[0])  # messages of one request are what is expected then
    for m, n, credit in ((0, 16, 16), (10, 16, 6), (16, 16, 0), (20, 16, 0), (16, 4, 12)):
        desk.calls.interactive_counts = {"m": m, "n": n}
        assert desk.lane.interactive_credit() == credit
    desk.shut("n")
    assert desk.lane.interactive_credit() == 0
    desk.shut("m")
    assert desk.lane.interactive_credit() > 0, "all of it is told so"


def test_a_message_of_many_is_taken_where_there_is_room_for_any() -> None:
    """It would wait for ever otherwise; beside others only as many as are expected to fit."""
    desk = Desk()
    desk.receive(packed(*["m"] * 8, queue=NAMES.interactive))
    for under_way, credit in ((0, 1), (15, 1), (16, 0)):
        desk.calls.interactive_counts = {"m": under_way, "n": 16}
        assert desk.lane.interactive_credit() == credit


def test_what_is_interactive_and_asks_for_a_model_that_is_down_waits_as_all_do() -> None:
    """In the misses queue, where it is one of many."""
    desk = Desk()
    desk.shut("m")
    (delivery,), begun = desk.receive(replace(single(1), queue=NAMES.interactive))
    assert begun == []
    (delivery,), _ = desk.receive(sent_on(delivery))
    assert (delivery.is_second, delivery.is_interactive, delivery.is_postponed) == (True, False, True)
