"""What the page is made of: the figures of a real fleet, on both brokers, by any of its processes."""

import contextlib
import json
import signal
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from broker.base import Message
from tests.support.processes import WorkerProcess
from tests.support.rig import Rig
from tests.support.servers import ValkeyServer
from tests.support.stub_model import StubModel, echo, status
from tests.support.waiting import until
from wire.names import Names


def shown(process: WorkerProcess, window: int = 900, **query: str) -> dict[str, Any]:
    more = "".join(f"&{name}={quote(value)}" for name, value in query.items())
    code, body = process.get(f"/status.json?window={window}{more}")
    assert code == 200, body
    return dict(json.loads(body))


def ask(
    process: WorkerProcess, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, Any]]:
    """The answer to a request with these headers; underscores stand for hyphens."""
    address = process.address(path)
    assert address is not None
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urllib.request.urlopen(urllib.request.Request(address, body, named), timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def act(process: WorkerProcess, **asked: Any) -> tuple[int, dict[str, Any]]:
    """As the page does it."""
    address = process.address("")
    assert address is not None
    netloc = urlsplit(address).netloc
    headers = {"Origin": f"http://{netloc}", "X_Recollect": "1", "Sec_Fetch_Site": "same-origin"}
    return ask(process, "/actions", json.dumps(asked).encode(), **headers)


def call_once(rig: Rig, page: WorkerProcess) -> None:
    """The first request there is, and its figures."""
    rig.call(1)
    until(lambda: shown(page)["totals"]["requests"] == 1, what="the figures")


@pytest.fixture
def page(rig: Rig) -> WorkerProcess:
    """A page of the fleet by a process that does no work."""
    return dashboard(rig)


def dashboard(rig: Rig, *more: str) -> WorkerProcess:
    return rig.work(module=("worker", "dashboard", *more))


@pytest.fixture
def own_cache(rig: Rig, tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server for the cache alone."""
    server = ValkeyServer(tmp_path / "cache").start()
    rig.settings["CACHE_URL"] = server.url
    yield server
    server.stop()


def test_the_fleet_is_the_sum_of_its_workers(rig: Rig, page: WorkerProcess) -> None:
    """Whoever is asked: each worker and the dashboard say what the workers' /metrics add up to."""
    workers = [rig.work(), rig.work()]
    for payload in [*range(40), *range(40)]:
        rig.call(payload)
    rig.ask(Message(b'{"payload":1,"ttl":-1}'))

    def counted() -> Counter[str]:
        return workers[0].outcomes() + workers[1].outcomes()

    until(lambda: counted().total() == 81, what="the counts of all")
    assert counted() == {"miss": 40, "hit": 40, "invalid": 1}
    for process in (*workers, page):
        until(lambda p=process: shown(p)["totals"]["outcomes"] == counted(), what="the figures")
        found = shown(process)
        assert found["totals"]["requests"] == 81
        assert found["totals"]["hit_ratio"] == pytest.approx(40 / 81)
        assert found["totals"]["waiting"] == 0
        assert {row["state"] for row in found["workers"]} == {"working"}
        assert len(found["workers"]) == 2, "the dashboard itself is no worker"
        assert all(row["rss_bytes"] > 10e6 for row in found["workers"])
        assert [row["kind"] for row in found["broken"]] == ["invalid_request"]
        assert found["services"]["cache"]["is_ok"]
        assert found["services"]["broker"]["is_ok"]
        assert shown(process, 86_400)["totals"]["outcomes"] == found["totals"]["outcomes"]
        assert shown(process, model="m")["totals"]["requests"] == 80
    (model,) = shown(page)["models"]
    assert (model["name"], model["workers"], model["workers_down"]) == ("m", 2, 0)
    assert model["attempts_per_call"] == 1


def test_figures_outlive_the_workers_that_made_them(rig: Rig, page: WorkerProcess) -> None:
    """Of one that ends all, of one that is killed what it had reported; and who is gone is told."""
    gone, killed = rig.work(), rig.work()
    for n in range(20):
        rig.call(n)
    until(lambda: shown(page)["totals"]["requests"] == 20, what="the figures")
    gone.stop()
    killed.child.kill()
    until(lambda: len(shown(page)["workers"]) == 1, what="the goodbye of the one that ended")
    until(lambda: shown(page)["workers"][0]["state"] == "late", 30, what="the silence of the other")
    assert shown(page)["totals"]["requests"] == 20
    assert "No worker is alive" in shown(page)["verdict"]["text"]
    rig.work()
    rig.call("again")
    until(lambda: shown(page)["totals"]["requests"] == 21, what="the new one's")


def test_a_model_that_is_down_is_on_the_page(rig: Rig, page: WorkerProcess) -> None:
    """With how many workers found it so, and what waits."""
    rig.work(MODELS__M__BREAKER_FAILURES="2", MODELS__M__ATTEMPTS="50", MODELS__M__BREAKER_SECONDS="0.3")
    rig.model.behave = status(503)
    broker = rig.broker()
    broker.send(rig.names.requests, [Message(b'{"payload":%d}' % n) for n in range(30)])
    until(lambda: shown(page)["verdict"]["text"].startswith("A model is down: m (on 1 of 1)"), what="it")
    assert shown(page)["verdict"]["level"] == "bad"
    rig.model.behave = echo
    until(lambda: shown(page)["verdict"]["level"] == "ok", what="its return")
    until(lambda: shown(page)["totals"]["outcomes"] == {"miss": 30}, what="all of them")
    broker.close()


def test_a_cache_that_is_down_is_said_and_its_figures_come_back(rig: Rig, own_cache: ValkeyServer) -> None:
    """What was counted meanwhile is written once it answers again."""
    page, worker = dashboard(rig), rig.work()
    call_once(rig, page)
    own_cache.stop()
    until(lambda: not shown(page)["services"]["cache"]["is_ok"], 30, what="the page to notice")
    found = shown(page)
    assert found["verdict"]["level"] == "bad"
    assert "cache does not answer" in found["verdict"]["text"]
    assert found["totals"]["requests"] is None
    assert found["totals"]["waiting"] == 0, "the broker is there"
    assert rig.call(2).outcome == "unavailable"
    own_cache.start()
    until(lambda: shown(page)["services"]["cache"]["is_ok"], 30, what="the cache")
    until(lambda: worker.outcomes().total() == 2, what="the count")
    until(lambda: "unavailable" in shown(page)["totals"]["outcomes"], what="the figures")


def test_a_broker_that_is_down_is_said_and_comes_back(
    tmp_path: Path, valkey: ValkeyServer, model: StubModel, prefix: str
) -> None:
    """The page goes on, with the fleet's figures and without lengths of queues."""
    server = ValkeyServer(tmp_path / "broker").start()
    rig = Rig(tmp_path, server.url, valkey, model, prefix)
    try:
        page, _ = dashboard(rig), rig.work()
        call_once(rig, page)
        server.stop()
        until(lambda: not shown(page)["services"]["broker"]["is_ok"], 30, what="the page to notice")
        found = shown(page)
        assert found["verdict"]["level"] == "bad"
        assert "broker does not answer" in found["verdict"]["text"]
        assert found["totals"]["waiting"] is None
        assert found["totals"]["requests"] == 1
        assert {row["messages"] for row in found["queues"]} == {None}
        until(lambda: shown(page)["workers"][0]["state"] == "broker lost", 30, what="the worker's word")
        server.start()
        until(lambda: shown(page)["verdict"]["level"] in ("ok", "idle"), 60, what="the broker")
    finally:
        rig.close()
        server.stop()


def test_a_cache_that_hangs_holds_up_no_probe(rig: Rig, own_cache: ValkeyServer) -> None:
    """However many look at the page meanwhile."""
    worker = rig.work()
    is_over = threading.Event()

    def look() -> None:
        while not is_over.is_set():
            with contextlib.suppress(OSError):
                worker.get("/status.json?window=900")

    watchers = [threading.Thread(target=look) for _ in range(8)]
    own_cache.send_signal(signal.SIGSTOP)
    try:
        for watcher in watchers:
            watcher.start()
        for _ in range(10):
            assert worker.get("/livez")[0] == 200
            assert worker.get("/metrics")[0] == 200
    finally:
        is_over.set()
        own_cache.send_signal(signal.SIGCONT)
        for watcher in watchers:
            watcher.join()
    until(lambda: shown(worker)["services"]["cache"]["is_ok"], 30, what="the cache")


def test_what_strangers_put_under_our_names_costs_only_itself(redis_rig: Rig) -> None:
    """Another type, another form, a worker from the future: the page goes on, and says what is left."""
    page, worker, cache = dashboard(redis_rig), redis_rig.work(), redis_rig.cache
    call_once(redis_rig, page)
    names = redis_rig.names
    minute = int(cache.time()[0]) // 60
    cache.hset(
        names.figures("minute", minute - 3), "x", b'[["calls","m","x",5],["requests",7],["saved","m",-9]]'
    )
    cache.set(names.figures("minute", minute - 4), "a string")
    cache.hset(names.workers, mapping={"a": b"[]", "b": b'{"seen":9e18}', "c": b"{", "d": b'{"seen":"x"}'})
    cache.delete(names.versions)
    cache.set(names.versions, "a string")
    for window in (900, 3600, 86_400):
        for query in ({}, {"model": "m"}):
            found = shown(page, window, **query)
            assert found["totals"]["requests"] == 1
            assert [row["pid"] for row in found["workers"]] == [worker.child.pid]
            assert found["services"]["cache"]["is_ok"]
    until(lambda: worker.events("figures refused"), what="a line about it")
    redis_rig.call(2)
    until(lambda: shown(page)["totals"]["requests"] == 2, what="the next figures")
    assert len(worker.events("figures refused")) == 1


def test_a_payload_or_key_is_looked_up(redis_rig: Rig) -> None:
    """Whether it is remembered, for how long; the result only when asked for."""
    page = dashboard(redis_rig)
    redis_rig.work()
    reply = redis_rig.call({"b": 1, "a": 2})
    payload = quote('{"a":2,"b":1}')
    code, found = ask(page, f"/lookup?q={payload}")
    assert (code, found["key"], found["is_stored"]) == (200, reply.key, True)
    assert found["size_bytes"] > 0
    assert found["ttl_seconds"] > 0
    assert "result" not in found
    assert ask(page, f"/lookup?q={reply.key}&show=1")[1]["result"] == reply.result
    assert ask(page, f"/lookup?q={quote('[7]')}")[1]["is_stored"] is False
    assert ask(page, f"/lookup?q={payload}&show=1", Host="evil.example:80")[0] == 403


def test_a_question_that_makes_no_sense_is_explained(redis_rig: Rig) -> None:
    """400 with a sentence."""
    page = dashboard(redis_rig)
    for path, words in (
        ("/lookup", "q is missing"),
        ("/lookup?q=nope", "expected a key (64 hexadecimal digits) or a JSON payload"),
        ("/lookup?q=18446744073709551616", "64 bits"),
        ("/lookup?q=1&model=other", "model `other`"),
        ("/status.json?window=7", "expected one of 900, 3600"),
        ("/status.json?" + "&".join(f"a{n}=1" for n in range(30)), "at most 20 parameters"),
    ):
        code, found = ask(page, path)
        assert code == 400, path
        assert words in found["error"]


def test_the_page_is_read_only_unless_told_otherwise(redis_rig: Rig) -> None:
    """Refused by the server: buttons that are not there keep nobody out."""
    page = dashboard(redis_rig)
    worker = redis_rig.work()
    for process in (worker, page):
        code, found = act(process, action="pause")
        assert code == 405
        assert "--allow-actions" in found["error"]
        assert shown(process)["allows_actions"] is False
    assert redis_rig.call(1).outcome == "miss"


def test_actions_are_done_where_they_are_allowed(rig: Rig) -> None:
    """Replay, purge, pause: what was done is said, and logged."""
    allowed = dashboard(rig, "--allow-actions")
    rig.work(DEAD_LETTER_FAILED="true", MODELS__M__ATTEMPTS="1")
    rig.model.behave = status(400)
    assert rig.call(1).outcome == "failed"
    until(lambda: shown(allowed)["totals"]["dead_letters"] == 1, what="the dead letter")
    rig.model.behave = echo
    assert act(allowed, action="replay", reason="poison")[1]["done"] == 0
    assert act(allowed, action="replay", reason="failed")[1] == {
        "done": 1,
        "refused": 0,
        "said": "1 sent back",
    }
    until(lambda: rig.entries(), what="its result")
    assert act(allowed, action="purge_cache", model="m")[1]["done"] == 1
    assert rig.entries() == {}
    assert act(allowed, action="pause")[0] == 200
    until(lambda: shown(allowed)["is_paused"], what="the pause")
    assert act(allowed, action="resume")[0] == 200
    until(lambda: rig.call(2).outcome == "miss", what="work")
    assert [event["action"] for event in allowed.events("action")] == [
        "replay", "replay", "purge_cache", "pause", "resume",
    ]  # fmt: skip


def test_a_page_that_others_reach_and_may_act_from_is_warned_of(redis_rig: Rig) -> None:
    """Once, at the start; on this machine alone it is what was asked for."""
    own, others = (
        dashboard(redis_rig, "--allow-actions"),
        dashboard(redis_rig, "--allow-actions", "--http-host", "0.0.0.0"),
    )
    assert not own.events("open page")
    (said,) = others.events("open page")
    assert "replay, purge and pause" in str(said["said"])


def test_only_the_page_itself_may_act(redis_rig: Rig) -> None:
    """Any web page can make its reader's browser send a request here; none can make it look like ours."""
    allowed = dashboard(redis_rig, "--allow-actions")
    address = allowed.address("")
    assert address is not None
    own = {"Origin": address, "X_Recollect": "1"}
    body = b'{"action":"pause"}'
    assert ask(allowed, "/actions", body, **own)[0] == 200
    refused: list[dict[str, str]] = [
        {},
        {"X_Recollect": "1"},
        {"Origin": address},
        {**own, "Origin": "http://evil.example"},
        {**own, "Origin": "null"},
        {**own, "Origin": "http://["},
        {**own, "Sec_Fetch_Site": "cross-site"},
        {**own, "Origin": "http://evil.example", "Host": "evil.example"},
    ]
    for headers in refused:
        code, found = ask(allowed, "/actions", b'{"action":"resume"}', **headers)
        assert code == 403, headers
        assert found["error"]
    assert ask(allowed, "/actions")[0] == 405
    for wrong in (b"", b"[]", b'{"action":"drop"}', b'{"action":"purge_cache"}', b'{"action":7}'):
        assert ask(allowed, "/actions", wrong, **own)[0] == 400, wrong
    until(lambda: shown(allowed)["is_paused"], what="still paused")


def test_names_of_the_fleet_are_under_the_prefix() -> None:
    """Two installations on one server do not mix."""
    names = Names("other")
    for name in (names.figures("minute", 5), names.workers, names.versions):
        assert name.startswith("other:")
