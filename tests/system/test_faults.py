"""What may go wrong around a worker, and what must hold all the same. The original post's checks are here."""

import signal
import threading
import time
from pathlib import Path

import pytest

from producer.client import Producer
from tests.support.processes import WorkerProcess
from tests.support.proxy import Proxy
from tests.support.rig import Rig
from tests.support.servers import RabbitServer, ValkeyServer
from tests.support.stub_model import StubModel, body, status
from tests.support.waiting import free_port, until


def test_a_failing_model_caches_nothing_and_the_next_call_is_computed(redis_rig: Rig) -> None:
    """The post's second check: a wrong address, then 500; nothing is kept, and the next call is computed."""
    rig = redis_rig
    port = free_port()
    rig.work(MODELS__M__TARGET=f"http://127.0.0.1:{port}/predict", MODELS__M__ATTEMPTS="2")
    reply = rig.call("p")
    assert (reply.outcome, reply.error and reply.error["kind"]) == ("failed", "model_unavailable")
    assert rig.entries() == {}
    with StubModel(status(500), port) as model:
        assert rig.call("p").error == {
            "kind": "model_unavailable",
            "message": 'model answered 500: {"error":"stub"}',
            "retryable": True,
            "attempts": 2,
        }
        assert (model.calls, rig.entries()) == (2, {})
        model.behave = body(b"1")
        assert [rig.call("p").outcome for _ in range(2)] == ["miss", "hit"]


def test_with_the_cache_switched_off_every_request_is_answered(
    tmp_path_factory: pytest.TempPathFactory, rig: Rig
) -> None:
    """The post's third check: off in the middle of a run, all answered; on again, hits return."""
    other = ValkeyServer(tmp_path_factory.mktemp("cache")).start()
    worker = rig.work(CACHE_URL=other.url, CACHE_BREAKER_SECONDS="0.2")
    assert [rig.call("p").outcome for _ in range(2)] == ["miss", "hit"]
    replies = rig.producer.map(range(400), in_flight=20, pack=4)
    seen = [next(replies) for _ in range(40)]
    other.stop(signal.SIGKILL)
    seen += list(replies)
    assert sorted(reply.index for reply in seen) == list(range(400))
    assert all(reply.ok for reply in seen)
    assert {reply.outcome for reply in seen} == {"miss", "unavailable"}
    other.start()
    until(lambda: rig.call("p").outcome in ("hit", "miss"), what="the cache's return")
    assert rig.call("p").outcome == "hit"
    assert len(worker.events("cache down")) == 1, "one log line per change of state"
    other.stop()


@pytest.mark.parametrize("mode", ["refuse", "silent", "trickle"])
def test_a_sick_cache_costs_calls_never_answers(redis_rig: Rig, mode: str) -> None:
    """Refused, hanging or trickling: a hard deadline, then the model."""
    rig = redis_rig
    proxy = Proxy(rig.cache_server.port)
    rig.work(CACHE_URL=f"redis://127.0.0.1:{proxy.port}/1", CACHE_BREAKER_SECONDS="30")
    assert rig.call("p").outcome == "miss"
    proxy.mode = mode
    proxy.cut()
    begun = time.monotonic()
    replies = list(rig.producer.map(range(50), pack=1))
    assert {reply.outcome for reply in replies} <= {"unavailable", "miss"}
    assert all(reply.ok for reply in replies)
    # Not a speed: a server that trickles would hold each of these look-ups for seconds.
    assert time.monotonic() - begun < 20
    assert rig.call("p").outcome == "unavailable"
    proxy.close()


def test_a_full_cache_answers_and_keeps_nothing(
    tmp_path_factory: pytest.TempPathFactory, redis_rig: Rig
) -> None:
    """OOM is a write that was refused, not an outage."""
    full = ValkeyServer(tmp_path_factory.mktemp("full"), maxmemory="1mb", appendonly="no").start()
    rig = redis_rig
    worker = rig.work(CACHE_URL=full.url)
    with full.client() as client:
        client.config_set("maxmemory", "1")
    assert [rig.call("p").outcome for _ in range(3)] == ["miss"] * 3
    assert 'recollect_cache_errors_total{operation="write"} 3.0' in worker.get("/metrics")[1]
    full.stop()


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda value: value[:-1], "miss"),
        (lambda value: b"", "miss"),
        (lambda value: b"garbage", "miss"),
        (lambda value: value.replace(b'"k1"', b'"k9"'), "miss"),
        (lambda value: value[:7] + b"0" * 64 + value[71:], "miss"),
        (lambda value: value.replace(b'["k1"', b'["k1",1'), "miss"),
        (lambda value: value, "hit"),
    ],
)
def test_a_damaged_entry_is_a_counted_miss(redis_rig: Rig, damage: object, expected: str) -> None:
    """An entry is believed only under its own key, and whole."""
    rig = redis_rig
    worker = rig.work()
    rig.call("p")
    ((name, value),) = rig.entries().items()
    rig.cache.set(name, damage(value))  # type: ignore[operator]
    assert rig.call("p").outcome == expected
    count = 0 if expected == "hit" else 1
    assert f'recollect_cache_errors_total{{operation="lookup"}} {count}.0' in worker.get("/metrics")[1]


@pytest.mark.parametrize(
    ("behave", "kind", "calls"),
    [
        (status(500), "model_unavailable", 3),
        (status(503, Retry_After="0"), "model_unavailable", 3),
        (status(408), "model_unavailable", 3),
        (status(429), "model_unavailable", 3),
        (lambda _: None, "model_unavailable", 3),
        (status(404), "model_rejected", 1),
        (status(400), "model_rejected", 1),
        (status(302, Location="http://127.0.0.1:1/"), "model_rejected", 1),
        (body(b"not json"), "bad_result", 1),
        (body(b'{"a":NaN}'), "bad_result", 1),
        (body(b""), "bad_result", 1),
        (body(b'"' + b"x" * 5000 + b'"'), "bad_result", 1),
        (body(b"[" * 300 + b"]" * 300), "bad_result", 1),
    ],
)
def test_every_failure_of_a_model_has_its_kind(redis_rig: Rig, behave: object, kind: str, calls: int) -> None:
    """Transient ones are retried and then said; a verdict is never asked for twice; nothing is kept."""
    rig = redis_rig
    rig.model.behave = behave  # type: ignore[assignment]
    rig.work(RESULT_MAX_BYTES="4096")
    reply = rig.call("p")
    assert reply.error is not None
    assert (reply.error["kind"], reply.error["attempts"], rig.model.calls) == (kind, calls, calls)
    assert reply.error["retryable"] == (kind == "model_unavailable")
    assert rig.entries() == {}


def test_a_hanging_model_is_a_timeout(redis_rig: Rig) -> None:
    """model_timeout after the attempts; the neighbours of another model's thread go on."""
    rig = redis_rig
    rig.model.behave = lambda payload: rig.model.hang(payload) if payload == "hang" else (200, b"1", {})
    rig.work(MODELS__M__TIMEOUT_SECONDS="0.3", MODELS__M__ATTEMPTS="2")
    replies = {r.index: r for r in rig.producer.map(["hang", "a", "b"], pack=1)}
    assert replies[0].error is not None
    assert (replies[0].error["kind"], replies[0].error["attempts"]) == ("model_timeout", 2)
    assert replies[1].ok
    assert replies[2].ok


def test_a_transient_failure_is_retried_until_it_succeeds(redis_rig: Rig) -> None:
    """Two failures and a success are a success."""
    rig = redis_rig
    rig.model.behave = lambda _: (200, b"1", {}) if rig.model.calls > 2 else (503, b"", {})
    worker = rig.work()
    reply = rig.call("p")
    assert (reply.outcome, reply.result, rig.model.calls) == ("miss", 1, 3)
    assert 'recollect_model_retries_total{model="m",reason="status"} 2.0' in worker.get("/metrics")[1]


def test_sigterm_under_load_leaves_no_request_unanswered(rig: Rig) -> None:
    """A worker told to stop finishes what it holds; what it does not hold goes to the other."""
    rig.model.behave = lambda _: (time.sleep(0.02), (200, b"1", {}))[1]
    first, _ = rig.work(), rig.work()
    replies = rig.producer.map(range(600), in_flight=100, pack=5)
    seen = [next(replies) for _ in range(100)]
    first.child.send_signal(signal.SIGTERM)
    seen += list(replies)
    # Waited for, not stopped: a second SIGTERM could meet the interpreter after it has put its handlers away.
    assert first.child.wait(60) == 0
    assert sorted(reply.index for reply in seen) == list(range(600))
    assert all(reply.ok for reply in seen)
    assert first.events("drained")[0]["released_messages"] == 0
    assert rig.model.calls == 600, "nothing was computed twice"


def test_a_second_sigterm_gives_back_at_once(redis_rig: Rig) -> None:
    """Whoever cannot wait loses nothing."""
    rig = redis_rig
    rig.model.behave = rig.model.hang
    first = rig.work()
    replies = rig.producer.map(["p"], pack=1)
    rig.producer.connect()
    found: list[object] = []
    waiter = threading.Thread(target=lambda: found.extend(replies))
    waiter.start()
    until(lambda: rig.model.calls == 1, what="the call")
    first.child.send_signal(signal.SIGTERM)
    until(lambda: first.events("draining"), what="the drain")
    first.child.send_signal(signal.SIGTERM)
    assert first.child.wait(20) == 0
    assert first.events("drained")[0]["released_messages"] == 1
    rig.model.behave = body(b"1")
    rig.work()
    waiter.join(30)
    assert len(found) == 1


def test_a_broker_that_is_away_at_the_start_is_waited_for(
    tmp_path_factory: pytest.TempPathFactory, redis_rig: Rig
) -> None:
    """The worker says so, is not ready, and begins when the broker comes; --no-retry is for scripts."""
    late = ValkeyServer(tmp_path_factory.mktemp("late"))
    process = WorkerProcess(
        tmp_path_factory.mktemp("w"),
        ready=False,
        BROKER_URL=late.url,
        CACHE_URL=late.url,
        MODELS__M__TARGET=redis_rig.model.url,
    )
    until(lambda: process.events("broker lost"), what="the complaint")
    assert process.get("/readyz")[0] == 503
    assert process.get("/livez")[0] == 200
    late.start()
    until(process.is_ready, what="readiness")
    process.stop()
    late.stop()


def test_a_broker_lost_in_the_middle_is_found_again(
    tmp_path_factory: pytest.TempPathFactory, redis_rig: Rig
) -> None:
    """Killed and restarted with its append-only file: every request is answered."""
    broker = ValkeyServer(tmp_path_factory.mktemp("b"), appendfsync="always").start()
    redis_rig.model.behave = lambda _: (time.sleep(0.01), (200, b"1", {}))[1]
    worker = WorkerProcess(
        tmp_path_factory.mktemp("w"),
        BROKER_URL=broker.url,
        CACHE_URL=f"redis://127.0.0.1:{redis_rig.cache_server.port}/1",
        MODELS__M__TARGET=redis_rig.model.url,
    )
    with Producer(broker.url) as producer:
        replies = producer.map(range(300), in_flight=50, pack=5, reply_timeout=2)
        seen = [next(replies) for _ in range(50)]
        broker.stop(signal.SIGKILL)
        broker.start()
        seen += list(replies)
    assert sorted(reply.index for reply in seen) == list(range(300))
    assert all(reply.ok for reply in seen)
    assert worker.events("broker connected again")
    worker.stop()
    broker.stop()


def test_rabbitmq_closing_every_connection_is_survived(
    rabbit_server: RabbitServer, tmp_path: Path, valkey: ValkeyServer, model: StubModel, prefix: str
) -> None:
    """Worker and producer come back with new channels, acknowledge nothing old, and all is answered."""
    model.behave = lambda _: (time.sleep(0.01), (200, b"1", {}))[1]
    rig = Rig(tmp_path, rabbit_server.url(), valkey, model, prefix)
    worker = rig.work()
    replies = rig.producer.map(range(300), in_flight=50, pack=5, reply_timeout=5)
    seen = [next(replies) for _ in range(50)]
    rabbit_server.ctl("close_all_connections", "a test")
    seen += list(replies)
    assert sorted(reply.index for reply in seen) == list(range(300))
    assert all(reply.ok for reply in seen)
    assert worker.events("broker connected again")
    rig.close()
