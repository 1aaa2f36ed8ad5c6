"""A worker's HTTP: three paths, two methods, and reasons in plain words."""

import gc
import http.client
import io
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from prometheus_client import CollectorRegistry, Gauge

from tests.support.waiting import accepts, until
from worker.health import HealthServer, Heartbeat, Readiness, health_app


class Page:
    """One request to the callable, without a socket, under wsgiref's check of the rules."""

    def __init__(self, app: Any, path: str, method: str = "GET", query: str = "") -> None:
        environ: dict[str, Any] = {}
        setup_testing_defaults(environ)
        environ |= {"PATH_INFO": path, "REQUEST_METHOD": method, "QUERY_STRING": query, "SCRIPT_NAME": ""}
        environ["wsgi.input"] = io.BytesIO()
        answer = validator(app)(environ, self._start)
        self.body = b"".join(answer).decode()
        answer.close()  # type: ignore[attr-defined]

    def _start(self, status: str, headers: list[tuple[str, str]], _: Any = None) -> Any:
        self.status, self.headers = int(status[:3]), dict(headers)
        return lambda data: None


class State:
    """What both checks answer."""

    def __init__(self) -> None:
        self.dead: str | None = None
        self.unready: str | None = None
        registry = CollectorRegistry()
        Gauge("recollect_canary", "A metric.", registry=registry).set(42)
        self.app = health_app(registry, lambda: self.dead, lambda: self.unready)


def test_a_check_is_ok_or_says_why_not() -> None:
    """Each has its own reason: not ready is not dead."""
    state = State()
    state.unready = "no broker yet"
    assert (Page(state.app, "/livez").status, Page(state.app, "/livez").body) == (200, "ok\n")
    page = Page(state.app, "/readyz")
    assert (page.status, page.body) == (503, "no broker yet\n")
    assert page.headers["Content-Type"].startswith("text/plain")
    state.dead, state.unready = "the loop has not turned for 40.0 s", None
    assert Page(state.app, "/livez").status == 503
    assert Page(state.app, "/readyz").status == 200


def test_metrics_are_those_of_the_registry() -> None:
    """In Prometheus's own text form."""
    page = Page(State().app, "/metrics")
    assert (page.status, page.headers["Content-Type"].split(";")[0]) == (200, "text/plain")
    assert "recollect_canary 42.0\n" in page.body


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/readyz", "/nope"])
def test_head_is_get_without_a_body(path: str) -> None:
    """A body after HEAD would begin the next answer on the connection."""
    state = State()
    get, head = Page(state.app, path), Page(state.app, path, "HEAD")
    assert (head.status, head.headers, head.body) == (get.status, get.headers, "")
    assert get.body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/metrics", "/livez"])
def test_nothing_can_be_changed(method: str, path: str) -> None:
    """405, with what is allowed."""
    page = Page(State().app, path, method)
    assert (page.status, page.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/", "", "/metrics/", "/livez/x", "/favicon.ico"])
def test_other_paths_name_the_three(path: str) -> None:
    """Who guesses wrong is told."""
    page = Page(State().app, path)
    assert page.status == 404
    for known in ("/metrics", "/livez", "/readyz"):
        assert known in page.body


@pytest.fixture
def server() -> Iterator[HealthServer]:
    """The callable on a free port."""
    running = HealthServer(State().app, "127.0.0.1", 0)
    yield running
    running.close()


def test_a_free_port_is_found_and_told(server: HealthServer) -> None:
    """0 is any; the address is one to open."""
    assert server.port > 0
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as answer:
        assert b"recollect_canary" in answer.read()


def test_one_connection_serves_many_requests(server: HealthServer) -> None:
    """Prometheus keeps its connection; HEAD must not put it out of step."""
    link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    link.connect()
    first = link.sock
    for method, path, expected in (
        ("HEAD", "/livez", b""),
        ("GET", "/livez", b"ok\n"),
        ("HEAD", "/readyz", b""),
        ("GET", "/readyz", b"ok\n"),
    ):
        link.request(method, path)
        assert link.getresponse().read() == expected
        assert link.sock is first, "not opened again in between"
    link.close()


def test_closing_frees_the_port_and_leaves_nothing_open() -> None:
    """Also while a client still holds its connection; an unclosed socket would be a warning, so an error."""
    running = HealthServer(State().app, "127.0.0.1", 0)
    link = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
    link.request("GET", "/livez")
    assert link.getresponse().read() == b"ok\n"
    running.close()
    assert not accepts(running.port)
    link.close()
    del running
    gc.collect()


def test_closing_hangs_up_on_clients_that_are_not_done_and_ends_every_thread() -> None:
    """On one that says nothing, one in the middle of a request, and one that waits for its answer."""
    before = set(threading.enumerate())
    is_asked, may_answer = threading.Event(), threading.Event()

    def slow() -> str | None:
        is_asked.set()
        may_answer.wait(60)
        return None

    running = HealthServer(health_app(CollectorRegistry(), slow, slow), "127.0.0.1", 0)
    links = [socket.create_connection(("127.0.0.1", running.port), timeout=10) for _ in range(3)]
    links[1].sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Slow: ")
    links[2].sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
    assert is_asked.wait(10)
    closing = threading.Thread(target=running.close)
    closing.start()
    for link in links:
        assert link.recv(1) == b""
        link.close()
    may_answer.set()
    closing.join()
    running.close()
    until(lambda: set(threading.enumerate()) <= before, what="the end of its threads")


def test_silent_clients_do_not_keep_others_out(server: HealthServer) -> None:
    """A probe must be answered although somebody connects and says nothing."""
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(10)]
    with urllib.request.urlopen(f"{server.url}/livez", timeout=10) as answer:
        assert answer.status == 200
    for link in silent:
        link.close()


def test_a_taken_port_names_the_setting(server: HealthServer) -> None:
    """What is wrong, and what to set."""
    with pytest.raises(OSError, match=rf"http_port {server.port}: Address already in use; set http_port"):
        HealthServer(State().app, "127.0.0.1", server.port)
    gc.collect()


def test_a_host_that_is_not_here_names_the_setting() -> None:
    """192.0.2.1 is nobody's."""
    with pytest.raises(OSError, match=r"http_host '192\.0\.2\.1'"):
        HealthServer(State().app, "192.0.2.1", 0)
    gc.collect()


def test_localhost_is_one_address() -> None:
    """It may resolve to two, of which one port is told."""
    running = HealthServer(State().app, "localhost", 0)
    assert accepts(running.port)
    running.close()


def test_a_loop_that_stands_still_is_not_alive() -> None:
    """By an injected clock: up to the longest turn all is well, then the age is told."""
    now = [100.0]
    heartbeat = Heartbeat(lambda: now[0], longest_seconds=30)
    assert heartbeat.wrong() is None
    now[0] = 130.0
    assert heartbeat.wrong() is None
    now[0] = 142.3
    assert heartbeat.wrong() == "the loop has not turned for 42.3 s"
    heartbeat.beat()
    assert heartbeat.wrong() is None


def test_a_worker_is_not_ready_until_it_says_so() -> None:
    """And again when it drains."""
    readiness = Readiness()
    assert readiness.wrong() == "starting"
    readiness.reason = None
    assert readiness.wrong() is None


def test_two_hundred_slow_clients_do_not_keep_others_out(server: HealthServer) -> None:
    """Each has begun a request and never ends it: more than waitress takes by default."""
    slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(200)]
    for link in slow:
        link.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Slow: ")
    with urllib.request.urlopen(f"{server.url}/livez", timeout=10) as answer:
        assert answer.status == 200
    for link in slow:
        link.close()


def test_a_request_larger_than_any_of_ours_is_refused(server: HealthServer) -> None:
    """Neither headers nor a body without end are kept in memory."""
    for request in (
        b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Large: " + b"x" * 70_000,
        b"POST /actions HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as link:
            link.sendall(request)
            status = link.recv(12)
        assert status in (b"HTTP/1.1 431", b"HTTP/1.1 413", b"HTTP/1.0 431", b"HTTP/1.0 413"), status


def test_a_fault_of_ours_shows_no_traceback() -> None:
    """Who asks learns that it is ours, not where it happened or on what."""

    def broken() -> str | None:
        raise RuntimeError("secret words")

    running = HealthServer(health_app(CollectorRegistry(), broken, broken), "127.0.0.1", 0)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{running.url}/livez", timeout=10)
    said = refused.value.read().decode()
    refused.value.close()
    running.close()
    assert refused.value.code == 500
    for word in ("secret", "Traceback", "RuntimeError", ".py"):
        assert word not in said
