"""A real Prometheus, with our rules in a hurry, sees what a fault does to a real fleet.

The tests share one fleet and run in this order: each causes a fault, waits for its alert, takes the fault
away and waits until the alert is over.
"""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.fleet import SHORT_LEASE, Fleet
from tests.support.load import Load, Make, familiar, known, unknown
from tests.support.prometheus import RULES, Prometheus, hurried, require
from tests.support.proxy import Proxy
from tests.support.servers import ValkeyServer
from tests.support.stub_model import Answer, StubModel, echo, status
from tests.support.waiting import free_port, until
from wire.names import Names
from worker.queues import set_paused

RANGES = {"5m": "4s", "15m": "5s", "30m": "12s", "1h": "5s", "1d": "12s"}
THRESHOLDS = {
    'requests"} > 120': 'requests"} > 1.5',
    'misses"} > 900': 'misses"} > 2',
    'misses"} > 1000': 'misses"} > 20',
    "p95_rate5m > 60": "p95_rate5m > 1",
    "            > 300": "            > 3",
    ") > 60": ") > 1.5",
}
_SECONDS = 40.0
_HANGS = 'recollect_model_calls_in_progress{model="stuck"} 1.0'


@dataclass
class System:
    """Everything that can be broken. The second worker has the broker behind `proxy`."""

    names: Names
    broker: ValkeyServer
    cache: ValkeyServer
    proxy: Proxy
    model: StubModel
    fleet: Fleet
    load: Load
    prometheus: Prometheus

    def fires(self, *alerts: str) -> None:
        """Wait until all of them do."""
        until(lambda: self.prometheus.firing() >= set(alerts), _SECONDS, f"{alerts} firing")

    def is_over(self, *alerts: str) -> None:
        """Wait until none of them fires any more."""
        until(lambda: not self.prometheus.firing() & set(alerts), _SECONDS, f"the end of {alerts}")

    def send(self, count: int, pack: int, make: Make) -> None:
        with self.load.broker() as broker:
            for sent in range(0, count, 100):
                broker.send(self.names.requests, self.load.messages(min(count - sent, 100), pack, make))


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    require("prometheus")
    place, names, ports = tmp_path_factory.mktemp("live"), Names("live"), [free_port(), free_port()]
    rules = place / "rules"
    rules.mkdir()
    for name in ("recording.rules.yml", "alerts.rules.yml"):
        thresholds = THRESHOLDS if name.startswith("alerts") else {}
        (rules / name).write_text(hurried((RULES / name).read_text(), RANGES, thresholds, "1s"))
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(ValkeyServer(place / "broker", appendfsync="always"))
        cache = stack.enter_context(ValkeyServer(place / "cache"))
        model = stack.enter_context(StubModel())
        proxy = Proxy(broker.port)
        stack.callback(proxy.close)
        urls = [broker.url, f"redis://127.0.0.1:{proxy.port}/0"]

        def module(number: int, _: int) -> list[str]:
            return ["worker", "run", "--http-port", str(ports[number]), "--broker-url", urls[number]]

        settings = _settings(names, cache, model)
        fleet = stack.enter_context(Fleet(place, 2, settings, module=module)).start()
        load = Load(broker.url, names).start()
        stack.callback(load.close)
        targets = [f"127.0.0.1:{port}" for port in ports]
        prometheus = stack.enter_context(Prometheus(rules, targets))
        yield System(names, broker, cache, proxy, model, fleet, load, prometheus)


@pytest.fixture(autouse=True)
def calm(system: System) -> None:
    """No test sees an alert of the one before, nor what waits because of it."""
    waits = 'job_queue:recollect_queue_messages:max{queue="live.misses"} > 0'
    left = set[str]()

    def is_calm() -> bool:
        left.clear()
        left.update(system.prometheus.firing())
        return not left and not system.prometheus.query(waits)

    with contextlib.suppress(AssertionError):
        until(is_calm, 60)
    assert is_calm(), left


def _settings(names: Names, cache: ValkeyServer, model: StubModel) -> dict[str, str]:
    return {
        "CACHE_URL": cache.url,
        "CACHE_BREAKER_SECONDS": "0.2",
        "PREFIX": names.prefix,
        "IN_FLIGHT": "64",
        "DEFAULT_MODEL": "m",
        "MODELS__M__TARGET": model.url,
        "MODELS__M__CONCURRENCY": "4",
        "MODELS__M__TIMEOUT_SECONDS": "1",
        "MODELS__M__WAIT_INITIAL_SECONDS": "0.01",
        "MODELS__M__WAIT_MAX_SECONDS": "0.02",
        "MODELS__M__BREAKER_SECONDS": "0.5",
        "MODELS__DEADLY__TARGET": "python:tests.support.python_models:deadly",
        "MODELS__STUCK__TARGET": "python:tests.support.python_models:stuck",
        "MODELS__STUCK__TIMEOUT_SECONDS": "10",
        "MODELS__STUCK__ATTEMPTS": "1",
        **SHORT_LEASE,
    }


@contextlib.contextmanager
def asked(system: System, make: Make) -> Iterator[None]:
    """Other requests for a while."""
    system.load.make = make
    try:
        yield
    finally:
        system.load.make = familiar


@contextlib.contextmanager
def behaving(system: System, behave: Callable[[Any], Answer]) -> Iterator[None]:
    """A model that behaves so, and is asked all the time, for a while."""
    system.model.behave = behave
    try:
        with asked(system, unknown):
            yield
    finally:
        system.model.behave = echo


def often(answer: Callable[[Any], Answer]) -> Callable[[Any], Answer]:
    """Like this two times of three: too seldom in a row for the breaker."""
    turn = itertools.count()
    return lambda payload: answer(payload) if next(turn) % 3 else echo(payload)


def slow(payload: Any) -> Answer:
    time.sleep(0.3)
    return echo(payload)


def late(payload: Any) -> Answer:
    time.sleep(1.5)
    return echo(payload)


def test_all_rules_evaluate_and_a_healthy_fleet_is_silent(system: System) -> None:
    """Under load, from the first scrape of both until every range is full and every `for` over."""
    prometheus = system.prometheus
    until(lambda: len(prometheus.query("recollect_build_info")) == 2, what="both workers scraped")
    # A slow machine has Prometheus miss them before they are there.
    until(lambda: not prometheus.firing(), what="the end of what was said before they were there")
    fired = set[str]()
    hits = 'job_model:recollect_hits_per_request:ratio_rate1h{model="m"}'
    past = f"count_over_time(({hits} > 0.8)[12s:500ms] offset 5s) > 20"

    def is_settled() -> bool:
        fired.update(prometheus.firing())
        return bool(prometheus.query(past))

    until(is_settled, _SECONDS, "a past to compare with")
    assert fired == set()
    rules = system.prometheus.rules()
    assert {rule["health"] for rule in rules} == {"ok"}, [rule for rule in rules if rule["health"] != "ok"]
    for rule in rules:
        if rule["type"] == "recording":
            found = system.prometheus.query(rule["name"])
            assert found, f"{rule['name']} has no series"
            levels = {frozenset(one["metric"].keys() - {"__name__"}) for one in found}
            assert levels == {frozenset(rule["name"].split(":")[0].split("_"))}, rule["name"]


def test_forgetting_everything_is_a_collapse_of_the_hit_ratio(system: System) -> None:
    with asked(system, unknown):
        system.fires("RecollectHitRatioCollapse")
    system.is_over("RecollectHitRatioCollapse")


def test_a_stopped_cache(system: System) -> None:
    system.cache.stop()
    system.fires("RecollectCacheDown")
    system.cache.start()
    system.is_over("RecollectCacheDown")


def test_a_full_cache(system: System) -> None:
    """It refuses what is to be remembered, and does not count as down."""
    with system.cache.client() as client, asked(system, unknown):
        client.config_set("maxmemory", "1")
        system.fires("RecollectCacheErrors")
        assert "RecollectCacheDown" not in system.prometheus.firing()
        client.config_set("maxmemory", "0")
    system.is_over("RecollectCacheErrors")


def test_a_model_that_fails_always(system: System) -> None:
    """Its breaker opens; what waits for it grows old."""
    with behaving(system, lambda _: None):
        system.fires("RecollectModelDown", "RecollectMissesOld")
    system.is_over("RecollectModelDown", "RecollectMissesOld")


def test_a_model_that_fails_often(system: System) -> None:
    with behaving(system, often(status(503))):
        system.fires("RecollectRetryStorm")
    system.is_over("RecollectRetryStorm")


def test_a_model_that_comes_back_late(system: System) -> None:
    with behaving(system, often(late)):
        system.fires("RecollectModelTimeouts")
    system.is_over("RecollectModelTimeouts")


def test_a_model_that_is_slower_than_its_requests(system: System) -> None:
    with behaving(system, slow):
        system.fires("RecollectMissesGrowing")
    system.is_over("RecollectMissesGrowing")


def test_a_model_that_refuses(system: System) -> None:
    with behaving(system, status(400)):
        system.fires("RecollectFailures")
    system.is_over("RecollectFailures")


def test_producers_that_send_what_is_no_request(system: System) -> None:
    with asked(system, lambda number: {"payload": number, "by_pass": True}):
        system.fires("RecollectInvalidRequests")
    system.is_over("RecollectInvalidRequests")


def test_replies_to_a_queue_that_is_not_there(system: System) -> None:
    """They become dead letters, and stay until somebody decides."""
    with system.load.broker() as broker:
        alerts = {"RecollectDeadLetters", "RecollectDeadLettersWaiting"}

        def both() -> bool:
            broker.send(
                system.names.requests, system.load.messages(1, 1, familiar, reply_to="live.replies.nobody")
            )
            return system.prometheus.firing() >= alerts

        until(both, _SECONDS, "dead letters noticed")
        system.is_over("RecollectDeadLetters")
        broker.purge(system.names.dead)
    system.is_over("RecollectDeadLettersWaiting")


def test_more_requests_than_anybody_can_take(system: System) -> None:
    """All of them hits, and more of them until both alerts have been seen."""
    alerts, seen = {"RecollectRequestsNotTaken", "RecollectQueueWait"}, set[str]()

    def both() -> bool:
        if not system.prometheus.query('job_queue:recollect_queue_messages:max{queue="live.requests"} > 300'):
            system.send(600, 100, known)
        seen.update(system.prometheus.firing() & alerts)
        return seen == alerts

    until(both, 60, "requests that wait")
    until(lambda: not system.prometheus.firing() & alerts, 60, "a queue that is worked off")


def test_somebody_pauses(system: System) -> None:
    """And what waits then is no fault."""
    with system.load.broker() as broker:
        set_paused(broker, system.names, is_paused=True)
        old = 'job_queue:recollect_queue_oldest_seconds:max{queue="live.requests"} > 4'
        until(lambda: system.prometheus.query(old), _SECONDS, "requests that wait")
        system.fires("RecollectPaused")
        assert "RecollectRequestsNotTaken" not in system.prometheus.firing()
        set_paused(broker, system.names, is_paused=False)
    system.is_over("RecollectPaused")


def test_one_worker_without_the_broker(system: System) -> None:
    system.proxy.mode = "refuse"
    system.proxy.cut()
    system.fires("RecollectWorkerCutOff")
    assert "RecollectBrokerDown" not in system.prometheus.firing()
    system.proxy.mode = "pass"
    system.is_over("RecollectWorkerCutOff")


def test_a_stopped_broker(system: System) -> None:
    system.broker.stop()
    system.fires("RecollectBrokerDown")
    assert "RecollectWorkerCutOff" not in system.prometheus.firing()
    system.broker.start()
    system.is_over("RecollectBrokerDown")


def test_a_request_that_kills_its_worker(system: System) -> None:
    """It is found guilty; on the way there messages are delivered again."""
    seen = set[str]()
    alerts = {"RecollectPoison", "RecollectRedeliveries"}
    system.send(1, 1, lambda _: {"payload": "die", "model": "deadly"})

    def both() -> bool:
        seen.update(system.prometheus.firing() & alerts)
        return seen == alerts

    until(both, 60, "a condemned request")
    system.fleet.until_ready()
    with system.load.broker() as broker:
        broker.purge(system.names.dead)


def test_a_worker_that_hangs_in_a_request_on_trial(system: System) -> None:
    """It was in flight at two deaths, so it runs alone; meanwhile nobody takes what waits."""
    system.proxy.mode = "refuse"
    system.proxy.cut()
    system.send(1, 1, lambda _: {"payload": 0, "model": "stuck"})

    def hangs() -> bool:
        with contextlib.suppress(OSError):
            return _HANGS in system.fleet.workers[0].get("/metrics")[1]
        return False

    for _ in range(2):
        until(hangs, _SECONDS, "the call")
        system.fleet.kill(0)
        until(lambda: not hangs(), what="its end")
    system.fires("RecollectWorkerStalled", "RecollectRequestsNotTaken")
    system.proxy.mode = "pass"
    until(lambda: not hangs(), what="its time-out")  # a death now would make it poison


def test_a_worker_that_dies_again_and_again(system: System) -> None:
    """Three new starts of one and the same."""

    def fired() -> bool:
        if "RecollectWorkerRestarts" in system.prometheus.firing():
            return True
        begun = 'process_start_time_seconds{job="recollect"}'
        seen = {found["value"][1] for found in system.prometheus.query(begun)}
        system.fleet.kill(0)
        system.fleet.until_ready()
        until(
            lambda: {found["value"][1] for found in system.prometheus.query(begun)} - seen,
            what="the new worker scraped",
        )
        return False

    until(fired, 60, "restarts noticed")


def test_nobody_is_left(system: System) -> None:
    """The end of the fleet, and the last test."""
    system.fleet.close()
    system.fires("RecollectNoWorkers", "RecollectWorkerDown")
