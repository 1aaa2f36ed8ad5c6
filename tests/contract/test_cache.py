"""What the result cache promises: an answer or CacheDown, by its deadline, whatever the server does."""

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.support.proxy import Mode, Proxy
from tests.support.servers import ValkeyServer
from tests.support.waiting import until
from worker.breaker import Breaker
from worker.cache import CacheDown, RedisCache, Write
from worker.cache_link import CacheLink

DEADLINE = 0.2
LATE = 1.0  # a busy machine; a server that has its way takes far longer
Opener = Callable[..., RedisCache]


class Observed:
    """Keeps what a cache tells of itself."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def cache_operation(self, operation: str, seconds: float) -> None:
        self.told.append(operation)

    def cache_error(self, operation: str) -> None:
        self.told.append(f"{operation} error")

    def cache_stored(self, size: int) -> None:
        self.told.append(f"stored {size}")


@pytest.fixture
def observed() -> Observed:
    return Observed()


@pytest.fixture
def opened(observed: Observed) -> Iterator[Opener]:
    """Opens caches that are closed afterwards; their breaker never opens."""
    with ExitStack() as stack:

        def open_one(port: int, url: str = "redis://127.0.0.1:{}/1", seconds: float = DEADLINE) -> RedisCache:
            breaker = Breaker(10_000, 0.0, time.monotonic, lambda _: None)
            connect = partial(CacheLink, url.format(port))
            cache = RedisCache(connect, breaker, observed, deadline_seconds=seconds)
            stack.callback(cache.close)
            return cache

        yield open_one


def value(name: str, body: bytes, seconds: float) -> Write:
    return Write(name, body, seconds, 0.0, f"{name}.lease", "nobody's")


def is_down(ask: Callable[[], object]) -> None:
    begun = time.monotonic()
    with pytest.raises(CacheDown):
        ask()
    assert time.monotonic() - begun < DEADLINE + LATE


def test_what_was_written_is_read(opened: Opener, valkey: ValkeyServer, observed: Observed) -> None:
    """In the order of the names, None where there is nothing; nothing is asked for nothing."""
    cache = opened(valkey.port)
    assert cache.read(["a"]) == [None]
    assert cache.write([value("a", b"1", 60), value("b", b"\x00\r\n", 0.0001)]) == 0
    until(lambda: cache.read(["a", "b", "c"]) == [b"1", None, None], what="the end of b")
    assert (cache.read([]), cache.write([])) == ([], 0)
    assert observed.told[:4] == ["lookup", "write", "stored 1", "stored 3"]


def test_a_value_that_is_refused_costs_no_other(
    opened: Opener, valkey: ValkeyServer, observed: Observed
) -> None:
    """One answer for each, in place; the same connection goes on."""
    cache = opened(valkey.port)
    with valkey.client() as client:
        client.config_set("maxmemory", "1")
        try:
            assert cache.write([value("a", b"1", 60), value("b", b"2", 60)]) == 2
        finally:
            client.config_set("maxmemory", "0")
    assert cache.write([value("a", b"1", 60)]) == 0
    assert cache.read(["a"]) == [b"1"]
    assert observed.told.count("write error") == 2


@pytest.mark.parametrize("mode", ["silent", "trickle", "blackhole", "up-drop", "down-blackhole"])
@pytest.mark.parametrize("connected", [True, False])
def test_a_server_that_takes_its_time_is_down_at_the_deadline(
    opened: Opener, proxy: Proxy, mode: Mode, connected: bool
) -> None:
    """In the middle of an answer or before it, on a new connection and an old one; then it is asked anew."""
    cache = opened(proxy.port)
    if connected:
        cache.write([value("a", b"x" * 100, 60)])
    proxy.mode = mode
    for _ in range(2):
        is_down(lambda: cache.read(["a"]))
    is_down(lambda: cache.write([value("b", b"late", 60)]))
    proxy.mode = "pass"
    until(lambda: not fails(lambda: cache.read(["a"])), what="its return")
    assert cache.read(["a"]) == [b"x" * 100 if connected else None]


def fails(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except CacheDown:
        return True
    return False


def test_half_an_answer_is_none(opened: Opener, proxy: Proxy) -> None:
    """The rest never comes, or the connection is reset: a later question never meets what is left of it."""
    cache = opened(proxy.port)
    cache.write([value("a", b"a" * 5000, 60), value("b", b"b", 60)])
    proxy.cut_after = ("down", 3000)
    proxy.chunk = 1000
    is_down(lambda: cache.read(["a"]))
    proxy.cut_after = None
    assert cache.read(["b"]) == [b"b"]


def test_a_server_that_reads_nothing_does_not_hold_a_write(opened: Opener, proxy: Proxy) -> None:
    """More than all buffers between take: the sending itself has to end."""
    cache = opened(proxy.port)
    cache.read(["a"])
    proxy.mode = "up-blackhole"
    writes = [value(f"{n}", bytes(1 << 20), 60) for n in range(32)]
    is_down(lambda: cache.write(writes))


def test_a_name_that_cannot_be_looked_up_is_left_behind(
    opened: Opener, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resolver knows no time-out; it is asked on another thread."""
    hangs = threading.Event()
    look_up = socket.getaddrinfo

    def hang(*arguments: object) -> object:
        hangs.wait(30)
        return look_up(*arguments)  # type: ignore[arg-type]

    cache = opened(valkey.port)
    with monkeypatch.context() as resolver:
        resolver.setattr(socket, "getaddrinfo", hang)
        is_down(lambda: cache.read(["a"]))
    hangs.set()
    assert cache.read(["a"]) == [None]


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for this machine, and its key."""
    files = tmp_path / "certificate", tmp_path / "key"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    names = ["-out", str(files[0]), "-keyout", str(files[1])]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *names],
        check=True,
        capture_output=True,
    )
    return files


def test_tls_keeps_to_the_deadline_too(
    opened: Opener, valkey: ValkeyServer, certificate: tuple[Path, Path]
) -> None:
    """Large values pass; records that trickle, and a write that nobody reads, end with the deadline."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    proxy = Proxy(valkey.port, tls=context)
    try:
        cache = opened(proxy.port, f"rediss://127.0.0.1:{{}}/1?ssl_ca_certs={certificate[0]}", 5.0)
        assert cache.write([value("a", b"x" * 3_000_000, 60)]) == 0
        assert cache.read(["a", "b"]) == [b"x" * 3_000_000, None]
        cache._seconds = DEADLINE
        proxy.mode = "trickle"
        is_down(lambda: cache.read(["a"]))
        proxy.mode = "pass"
        until(lambda: not fails(lambda: cache.read(["b"])), what="its return")
        proxy.mode = "up-blackhole"
        is_down(lambda: cache.write([value("a", bytes(32 << 20), 60)]))
    finally:
        proxy.close()


def test_a_unix_socket_keeps_to_the_deadline_too(tmp_path: Path, opened: Opener) -> None:
    """A server that accepts and says nothing."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        cache = opened(0, f"unix://{path}?db=1")
        is_down(lambda: cache.read(["a"]))
