"""Who is tried, in what order, and what becomes of the guilty."""

import orjson
import pytest

from broker.base import JSON, NDJSON, WHOLE, BrokerLost, Message
from tests.unit.test_handler import Store, build
from wire.message import Limits
from wire.names import Names
from worker.calls import Answered
from worker.delivery import Delivery
from worker.handler import Handler
from worker.job import Job
from worker.suspects import Suspects


class Court:
    """Writes down whom it is told to blame, and fails when it is told to."""

    def __init__(self) -> None:
        self.blamed: list[tuple[bytes, int | None]] = []
        self.lost = False

    def blame(self, message: Message, position: int | None) -> None:
        if self.lost:
            raise BrokerLost("gone")
        self.blamed.append((message.body, position))


class Bench:
    """The work of one who calls no model: it writes down what is begun."""

    def __init__(self, handler: Handler, started: list[Job]) -> None:
        self._handler, self._started, self.is_idle = handler, started, True

    def open_alone(self, message: Message) -> tuple[Delivery, list[Job]]:
        batch = self._handler.handle([message], 0.0)
        return batch.deliveries[0], batch.calls

    def start(self, job: Job, *, alone: bool) -> None:
        assert alone
        self._started.append(job)


def suspects(handler: Handler, court: Court, started: list[Job]) -> Suspects:
    return Suspects(court, Bench(handler, started))  # type: ignore[arg-type]


def packed(*payloads: int, deliveries: int = 3, blamed: frozenset[int] = frozenset()) -> Message:
    body = b"\n".join(b'{"payload":%d}' % payload for payload in payloads)
    return Message(body, NDJSON, "c", deliveries=deliveries, blamed=blamed)


def end(handler: Handler, trial: Suspects, job: Job) -> None:
    answers = [Answered(job, b"1", None, 999.0, 0.25)]
    handler.finish(answers)
    trial.finished(answers)
    trial.acquit()


def outgoing(delivery: Delivery, queue: str) -> list[Message]:
    settlement = delivery.settlement(Names(), Limits(), 1000.0)
    return [out.message for out in settlement.outgoing if out.queue == queue]


def test_the_third_delivery_makes_a_suspect() -> None:
    """The first two go their ordinary way."""
    handler, _ = build(Store())
    trial = suspects(handler, Court(), [])
    ordinary = [Message(b"1", deliveries=1), Message(b"2", deliveries=2)]
    assert trial.put_aside([*ordinary, Message(b"3", deliveries=3)]) == ordinary
    assert trial.waiting() == [Message(b"3", deliveries=3)]
    assert trial


def test_one_message_and_one_request_at_a_time() -> None:
    """Blamed before it begins; the next begins when it has ended and nothing else is held."""
    handler, _ = build(Store())
    court, started = Court(), list[Job]()
    trial = suspects(handler, court, started)
    trial.put_aside([packed(1, 2), packed(3)])
    assert trial.step({object()}) is None, "others are at work"  # type: ignore[arg-type]
    assert not court.blamed
    first = trial.step(set())
    assert first is not None
    for position in (0, 1):
        assert trial.step({first}) is None
        assert trial.step({first}) is None, "it runs"
        assert court.blamed[-1][1] == position
        assert len(started) == position + 1
        end(handler, trial, started[-1])
    assert first.is_answered
    second = trial.step(set())
    assert second is not None
    assert second is not first
    assert [position for _, position in court.blamed] == [WHOLE, 0, 1, None, WHOLE]
    trial.step({second})
    end(handler, trial, started[-1])
    trial.step(set())
    assert not trial


def test_a_death_in_the_commit_is_nobodys_doing() -> None:
    """All of it was remembered: nothing runs, and the blame for its decoding is taken back before that."""
    handler, _ = build(Store())
    court, started = Court(), list[Job]()
    trial = suspects(handler, court, started)
    trial.put_aside([packed(1), packed(1)])
    first = trial.step(set())
    trial.step({first})  # type: ignore[arg-type]
    end(handler, trial, started[-1])
    again = trial.step(set())
    assert again is not None
    assert again.is_answered
    trial.acquit()
    assert court.blamed[-2:] == [(again.message.body, WHOLE), (again.message.body, None)]
    assert not trial


def test_the_guilty_are_answered_and_set_aside_and_their_neighbours_are_not() -> None:
    """One error reply of kind poison, one dead letter with that request alone."""
    handler, _ = build(Store())
    started: list[Job] = []
    trial = suspects(handler, Court(), started)
    trial.put_aside([packed(1, 2, 3, blamed=frozenset({1}))])
    delivery = trial.step(set())
    assert delivery is not None
    while not delivery.is_answered:
        trial.step({delivery})
        end(handler, trial, started[-1])
    (reply,) = outgoing(delivery, Names().replies)
    rows = [orjson.loads(line) for line in reply.body.splitlines()]
    assert [row["status"] for row in rows] == ["ok", "error", "ok"]
    assert (rows[1]["error"]["kind"], rows[1]["outcome"]) == ("poison", "failed")
    (letter,) = outgoing(delivery, Names().dead)
    assert (letter.body, letter.content_type) == (b'{"payload":2}', JSON)
    assert letter.headers["reason"] == "poison"
    assert [job.position for job in started] == [0, 2]


def test_a_message_that_kills_before_it_is_read_is_not_read_again() -> None:
    """Its one reply is for all of it, its dead letter is the whole."""
    handler, _ = build(Store())
    trial = suspects(handler, Court(), [])
    message = packed(1, 2, blamed=frozenset({WHOLE}))
    trial.put_aside([message])
    delivery = trial.step(set())
    assert delivery is not None
    assert delivery.is_answered
    (reply,) = outgoing(delivery, Names().replies)
    assert orjson.loads(reply.body)["error"]["kind"] == "poison"
    (letter,) = outgoing(delivery, Names().dead)
    assert letter.body == message.body


@pytest.mark.parametrize("opened", [False, True])
def test_a_lost_connection_leaves_the_suspect_waiting(opened: bool) -> None:
    """Before or in the middle of its trial: it can still be given back."""
    handler, _ = build(Store())
    court, started = Court(), list[Job]()
    trial = suspects(handler, court, started)
    message = packed(1)
    trial.put_aside([message])
    delivery = trial.step(set()) if opened else None
    court.lost = True
    with pytest.raises(BrokerLost):
        trial.step(set() if delivery is None else {delivery})
    assert not started
    assert trial.end_trial() is delivery
    assert trial.waiting() == [message]


def test_a_call_that_still_runs_keeps_the_next_trial_waiting() -> None:
    """Two trials at once prove nothing, even when the first was given up."""
    handler, _ = build(Store())
    started: list[Job] = []
    trial = suspects(handler, Court(), started)
    trial.put_aside([packed(1), packed(2)])
    delivery = trial.step(set())
    trial.step({delivery})  # type: ignore[arg-type]
    trial.end_trial()
    trial.forget_waiting()
    trial.put_aside([packed(3)])
    assert trial.step(set()) is None
    end(handler, trial, started[0])
    assert trial.step(set()) is not None
