"""Single flight among real workers: equal requests cost one call, whoever takes them and whoever dies."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.mortal import died, make_room
from tests.support.rig import Rig
from tests.support.stub_model import Answer, echo, status

REQUESTS, WORKERS = 1000, 3
LEASE = 2.0


def all_of(rig: Rig, payload: Any) -> list[str]:
    """The outcomes of that many equal requests, one to a message."""
    replies = list(rig.producer.map([payload] * REQUESTS, pack=1, in_flight=REQUESTS, reply_timeout=120))
    assert sorted(reply.index for reply in replies) == list(range(REQUESTS))
    return [reply.outcome for reply in replies]


def slowly(seconds: float) -> Any:
    def behave(payload: Any) -> Answer:
        time.sleep(seconds)
        return echo(payload)

    return behave


def test_equal_requests_on_several_workers_cost_one_call(redis_rig: Rig) -> None:
    """Cold, twenty times: whatever of it a worker gets, and whenever."""
    redis_rig.model.behave = slowly(0.1)
    redis_rig.work(WORKERS)
    for number in range(20):
        outcomes = all_of(redis_rig, {"row": number})
        assert redis_rig.model.payloads.count({"row": number}) == 1
        assert outcomes.count("miss") == 1
        assert set(outcomes) <= {"miss", "coalesced", "hit"}


def test_a_leader_that_is_killed_costs_a_lease_and_one_more_call(redis_rig: Rig, place: Path) -> None:
    """Dead with the result in its hands: the others go on when its lease has run out, with one call."""
    make_room(place / "deaths", 1)
    redis_rig.model.behave = slowly(0.5)
    lease = {"FLIGHT_LEASE_SECONDS": str(LEASE), "LEASE_SECONDS": str(LEASE)}
    for _ in range(WORKERS):
        redis_rig.work(
            module=("tests.support.mortal", "after_model", "1", str(place / "deaths"), "run"), **lease
        )
    outcomes = all_of(redis_rig, "row")
    assert died(place / "deaths") == 1
    assert redis_rig.model.calls == 2
    assert set(outcomes) <= {"miss", "coalesced", "hit"}


@pytest.mark.parametrize("code", [400, 503])
def test_the_failure_of_a_leader_is_heard_at_once(redis_rig: Rig, code: int) -> None:
    """Nobody waits for a lease to end; each worker asks once for all it holds, not each request in turn."""
    redis_rig.model.behave = status(code)
    settings = {"FLIGHT_LEASE_SECONDS": "60", "MODELS__M__ATTEMPTS": "1"}
    redis_rig.work(WORKERS, MODELS__M__BREAKER_FAILURES="100000", **settings)
    assert set(all_of(redis_rig, "row")) == {"failed"}
    assert redis_rig.model.calls < REQUESTS / 2
