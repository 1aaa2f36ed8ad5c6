"""The misbehaving proxy does what its modes say: otherwise a fault test proves nothing."""

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.support.proxy import Proxy
from tests.support.waiting import free_port, until


class Echo:
    """Answers every byte with itself, and remembers what it was asked."""

    def __init__(self) -> None:
        self.heard = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        with link:
            try:
                while data := link.recv(65536):
                    self.heard += data
                    link.sendall(data)
            except OSError:
                return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    stands = Proxy(echo.port)
    yield stands
    stands.close()


@pytest.fixture
def link(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as opened:
        yield opened


def ask(link: socket.socket, data: bytes) -> bytes:
    link.sendall(data)
    return answer(link, len(data))


def answer(link: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size and (data := link.recv(size - len(found))):
        found += data
    return found


def read_on(link: socket.socket, found: bytearray) -> None:
    while data := link.recv(100):
        found += data


def knock(proxy: Proxy) -> None:
    """The reset may come before or after the connection is made."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as link:
        link.recv(1)


def says_nothing(link: socket.socket) -> bool:
    link.settimeout(0.2)
    try:
        return link.recv(1) == b"?"
    except TimeoutError:
        return True
    finally:
        link.settimeout(5)


def test_pass_chunk_and_delay_change_no_byte(proxy: Proxy, link: socket.socket) -> None:
    """In pieces of one byte, late, and whole."""
    assert ask(link, b"abc" * 50_000) == b"abc" * 50_000
    proxy.chunk, proxy.delay = 1, 0.001
    assert ask(link, b"one by one") == b"one by one"


def test_refuse_resets_new_connections_only(proxy: Proxy, link: socket.socket) -> None:
    """What was open stays open."""
    assert ask(link, b"a") == b"a"
    proxy.mode = "refuse"
    with pytest.raises(ConnectionResetError):
        knock(proxy)
    assert ask(link, b"b") == b"b"


@pytest.mark.parametrize("mode", ["silent", "down-drop"])
def test_a_dropped_answer_was_executed(echo: Echo, proxy: Proxy, link: socket.socket, mode: str) -> None:
    """The server has heard it, and the answer never comes, not even later."""
    proxy.mode = mode  # type: ignore[assignment]
    link.sendall(b"lost")
    until(lambda: echo.heard == b"lost", what="the question")
    assert says_nothing(link)
    proxy.mode = "pass"
    assert ask(link, b"new") == b"new"


def test_a_dropped_question_is_never_heard(echo: Echo, proxy: Proxy, link: socket.socket) -> None:
    """up-drop: the server knows nothing of it."""
    proxy.mode = "up-drop"
    link.sendall(b"lost")
    assert says_nothing(link)
    proxy.mode = "pass"
    assert ask(link, b"new") == b"new"
    assert echo.heard == b"new"


@pytest.mark.parametrize(
    ("mode", "heard"), [("blackhole", b""), ("up-blackhole", b""), ("down-blackhole", b"held")]
)
def test_what_a_blackhole_holds_comes_late(
    echo: Echo, proxy: Proxy, link: socket.socket, mode: str, heard: bytes
) -> None:
    """Held questions are executed after all, held answers arrive, once it is lifted."""
    assert ask(link, b"") == b""
    proxy.mode = mode  # type: ignore[assignment]
    link.sendall(b"held")
    assert says_nothing(link)
    assert echo.heard == heard
    proxy.mode = "pass"
    assert answer(link, 4) == b"held"


def test_a_held_question_is_executed_after_the_asker_has_left(echo: Echo, proxy: Proxy) -> None:
    """What makes it dangerous to ask again: the first asking is still under way."""
    proxy.mode = "up-blackhole"
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as asker:
        until(lambda: proxy.links == 2, what="the link")
        asker.sendall(b"late")
        assert says_nothing(asker)
    proxy.mode = "pass"
    until(lambda: echo.heard == b"late", what="the late question")


def test_trickle_brings_everything_in_the_end(proxy: Proxy, link: socket.socket) -> None:
    """A byte at a time: the first piece is one byte long."""
    proxy.mode = "trickle"
    link.sendall(b"slow")
    assert link.recv(100) == b"s"
    assert answer(link, 3) == b"low"


@pytest.mark.parametrize("size", [0, 1, 5])
@pytest.mark.parametrize("way", ["up", "down"])
def test_cut_after_so_many_bytes(echo: Echo, proxy: Proxy, link: socket.socket, way: str, size: int) -> None:
    """So many bytes pass that way, then the connection is reset."""
    proxy.cut_after = (way, size)  # type: ignore[assignment]
    link.sendall(b"question")
    found = bytearray()
    with pytest.raises(ConnectionResetError):
        read_on(link, found)
    passed = echo.heard if way == "up" else found
    # A reset also destroys what the receiver has not read yet.
    assert b"question"[:size].startswith(bytes(passed))


def test_reset_is_a_reset_and_cut_is_none(proxy: Proxy) -> None:
    """Both end every connection, now; only one of them with RST."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as link:
        ask(link, b"a")
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            link.recv(1)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as link:
        ask(link, b"a")
        proxy.cut()
        assert link.recv(1) == b""


def test_a_server_that_is_away_may_come_back(echo: Echo) -> None:
    """A connection is reset while it is away; the proxy itself lives on."""
    proxy = Proxy(free_port())
    with pytest.raises(ConnectionResetError):
        knock(proxy)
    proxy._target = echo.port
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as link:
        assert ask(link, b"back") == b"back"
    proxy.close()
    proxy.close()
