"""Models that are Python callables in the worker."""

from tests.support.rig import Rig
from tests.support.waiting import until

MODELS = "python:tests.support.python_models:"


def test_a_callable_is_a_model(redis_rig: Rig) -> None:
    """Called with the payload; what it returns is the result, remembered like any other."""
    redis_rig.work(MODELS__M__TARGET=f"{MODELS}double")
    assert [redis_rig.call(21).outcome for _ in range(2)] == ["miss", "hit"]
    assert redis_rig.call(21).result == 42


def test_transient_errors_are_retried_and_others_are_not(redis_rig: Rig) -> None:
    """TransientError is worth another attempt; any other exception is the model's verdict."""
    redis_rig.work(MODELS__M__TARGET=f"{MODELS}moody")
    assert redis_rig.call("x").ok
    redis_rig.workers[0].stop()
    redis_rig.work(MODELS__M__TARGET=f"{MODELS}broken")
    reply = redis_rig.call("y")
    assert reply.error is not None
    assert (reply.error["kind"], reply.error["attempts"]) == ("model_rejected", 1)
    assert "KeyError" in reply.error["message"]


def test_a_result_json_cannot_carry_is_a_bad_result(redis_rig: Rig) -> None:
    """NaN is never sent as null."""
    redis_rig.work(MODELS__M__TARGET=f"{MODELS}nan")
    reply = redis_rig.call("x")
    assert reply.error is not None
    assert reply.error["kind"] == "bad_result"


def test_a_predicate_decides_what_is_kept(redis_rig: Rig) -> None:
    """cacheable may be a callable over the result."""
    redis_rig.work(MODELS__M__TARGET=f"{MODELS}double", MODELS__M__CACHEABLE=f"{MODELS}is_positive")
    assert redis_rig.call(-1).outcome == "uncacheable"
    assert [redis_rig.call(1).outcome for _ in range(2)] == ["miss", "hit"]


def test_a_call_that_never_ends_is_answered_and_its_thread_written_off(redis_rig: Rig) -> None:
    """model_timeout, and the worker goes on; when half of the threads hang, it drains and exits."""
    worker = redis_rig.work(
        MODELS__M__TARGET=f"{MODELS}stuck",
        MODELS__M__TIMEOUT_SECONDS="0.2",
        MODELS__M__ATTEMPTS="1",
        MODELS__M__CONCURRENCY="4",
    )
    reply = redis_rig.call(0)
    assert reply.error is not None
    assert reply.error["kind"] == "model_timeout"
    assert redis_rig.call(1).ok
    assert redis_rig.call(0).error is not None
    until(lambda: worker.child.poll() is not None, what="the exit")
    assert worker.child.returncode == 1
    assert worker.events("model lost")
