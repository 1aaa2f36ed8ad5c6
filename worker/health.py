"""A worker's HTTP: /metrics, /livez, /readyz, and its page. One WSGI callable on a small server with threads
of its own."""

import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import waitress
from prometheus_client import CollectorRegistry, make_wsgi_app

_THREADS = 6  # the page holds three at most: a status, a look-up, an action; probes must not wait for it
# Slow clients cost a descriptor each and no thread: so many may be slow before a probe waits, and half of the
# usual 1,024 descriptors are left. Who says nothing is hung up on. waitress's own bounds are 100 links, two
# minutes, and a body of 1 GiB.
_LINKS = 500
_SILENT_SECONDS = 15
_HEADER_BYTES, _BODY_BYTES = 1 << 16, 1 << 17
_LAST_SECONDS = 1.0  # for answers being made when all is closed

Check = Callable[[], str | None]
Start = Callable[..., Any]


class Heartbeat:
    """When the loop last turned, by a monotonic `clock`. No broker is asked: its outage is not our death."""

    def __init__(self, clock: Callable[[], float], longest_seconds: float = 30.0) -> None:
        self._clock, self._longest = clock, longest_seconds
        self._last = clock()

    def beat(self) -> None:
        """The loop has turned."""
        self._last = self._clock()

    def wrong(self) -> str | None:
        """What is wrong, if anything is."""
        age = self._clock() - self._last
        return f"the loop has not turned for {age:.1f} s" if age > self._longest else None


class Readiness:
    """Why a worker is not ready yet; None once it consumes and its models are warm."""

    def __init__(self) -> None:
        self.reason: str | None = "starting"

    def wrong(self) -> str | None:
        """What is missing, if anything is."""
        return self.reason


App = Callable[[dict[str, Any], Start], Iterable[bytes]]


def health_app(
    registry: CollectorRegistry, livez: Check, readyz: Check, pages: Mapping[str, App] | None = None
) -> App:
    """The WSGI callable. A check answers None, or the reason for a 503. `pages` are served at other paths,
    and see to their own methods."""
    metrics = make_wsgi_app(registry)
    checks = {"/livez": livez, "/readyz": readyz}
    others = dict(pages or {})
    there = ", ".join([*others, "/metrics", *checks])

    def get(environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "/")
        if path == "/metrics":
            return metrics(environ, start)  # type: ignore[no-any-return]
        if path not in checks:
            return _answer(start, "404 Not Found", f"there are {there}")
        wrong = checks[path]()
        return _answer(start, "200 OK" if wrong is None else "503 Service Unavailable", wrong or "ok")

    def app(environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        method, page = environ["REQUEST_METHOD"], others.get(environ.get("PATH_INFO", "/"))
        if page is None and method not in ("GET", "HEAD"):
            return _answer(start, "405 Method Not Allowed", "only GET and HEAD", ("Allow", "GET, HEAD"))
        body = page(environ, start) if page else get({**environ, "REQUEST_METHOD": "GET"}, start)
        # waitress sends what it is given, and a body after HEAD would begin the next answer.
        return [] if method == "HEAD" else body

    return app


def _answer(start: Start, status: str, text: str, *headers: tuple[str, str]) -> list[bytes]:
    body = f"{text}\n".encode()
    start(
        status,
        [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body))), *headers],
    )
    return [body]


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket. waitress would make its own, but one for each address of a name, all on other ports
    where `port` is 0, and leaves it open where it cannot be bound."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # Who asks `localhost` for metrics mostly asks 127.0.0.1.
        family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _unusable(error, host, port, "expected 127.0.0.1, 0.0.0.0 or a name of this machine") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        raise _unusable(error, host, port, "set http_port to a free one, or to 0 for any") from None
    return listener


def _unusable(error: OSError, host: str, port: int, hint: str) -> OSError:
    return OSError(f"http_host {host!r}, http_port {port}: {error.strerror}; {hint}")


class HealthServer:
    """Serves `app` in a daemon thread until closed.

    Raises OSError, naming the settings, where the address is taken or is none of this machine's.
    waitress buffers slow clients, which a thread per connection does not.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]], host: str, port: int) -> None:
        listener = _listen(host, port)
        self._watched: dict[int, Any] = {}
        self._server = waitress.create_server(
            app,
            map=self._watched,
            sockets=[listener],
            threads=_THREADS,
            ident="recollect",
            connection_limit=_LINKS,
            channel_timeout=_SILENT_SECONDS,
            cleanup_interval=_SILENT_SECONDS // 3,
            max_request_header_size=_HEADER_BYTES,
            max_request_body_size=_BODY_BYTES,
        )
        self.port = int(self._server.effective_port)
        self.url = f"http://{host if ':' not in host else f'[{host}]'}:{self.port}"
        self._thread = threading.Thread(target=self._server.run, name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving and hang up on everybody; nothing where it is closed already."""
        if not self._thread.is_alive():
            return
        # The loop ends where it has nothing to look at. Nothing is closed under its select, for a descriptor
        # may be somebody else's by then; and the trigger last, for an answer being made may still pull it.
        self._server.trigger.pull_trigger(self._watched.clear)
        self._thread.join(_LAST_SECONDS)
        for link in list(self._server.active_channels.values()):
            link.handle_close()
        self._server.task_dispatcher.shutdown(timeout=_LAST_SECONDS)
        self._server.close()
