"""The page over HTTP: `/`, `/status.json`, `/lookup`, `/actions`. One WSGI callable."""

import ipaddress
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

import orjson
import redis

from broker.base import BrokerError
from worker.explain import Explainer, Unanswerable
from worker.logs import Log
from worker.page.actions import Actions
from worker.page.view import WINDOWS, View

Start = Callable[..., Any]
Query = Mapping[str, list[str]]

PATHS = ("/", "/status.json", "/lookup", "/actions")
_BODY_BYTES, _FIELDS = 65_536, 20
_PATIENCE_SECONDS = 0.1
_UNAVAILABLE, _FAULT = "503 Service Unavailable", "500 Internal Server Error"
_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ALWAYS = [
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
]


class Refused(Exception):
    """A request that is not served: its status line and why."""

    def __init__(self, status: str, why: str) -> None:
        super().__init__(why)
        self.status = status


class PageApp:
    """`actions` is None where nothing may be done. `host` is what the server was told to listen on.

    What can change something, or shows a result, is answered only under a name that no stranger can point at
    this address: else any web page could, through its reader's browser (DNS rebinding).
    """

    def __init__(self, view: View, lookup: Explainer, actions: Actions | None, log: Log, host: str) -> None:
        self._view, self._lookup, self._actions, self._log, self._host = view, lookup, actions, log, host
        self._page = files("worker.page").joinpath("page.html").read_text("utf-8")
        self._looking_up, self._acting = threading.Lock(), threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        try:
            return self._serve(environ, start)
        except Refused as refused:
            return _json(start, {"error": str(refused)}, refused.status)
        except Unanswerable as error:
            return _json(start, {"error": str(error)}, "400 Bad Request")
        except (BrokerError, redis.RedisError, OSError) as error:
            return _json(start, {"error": str(error) or type(error).__name__}, _UNAVAILABLE)
        except Exception as fault:  # noqa: BLE001 - the server would answer, and say nothing of it
            self._log.error("fault", exc_info=fault)
            return _json(start, {"error": f"{type(fault).__name__}: see the log"}, _FAULT)

    def close(self) -> None:
        """Hang up."""
        self._view.close()

    def _serve(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        path, method = environ.get("PATH_INFO", "/"), environ["REQUEST_METHOD"]
        query = _query(environ)
        if path == "/actions":
            return self._act(environ, start)
        if method not in ("GET", "HEAD"):
            raise Refused("405 Method Not Allowed", "only GET and HEAD")
        if path == "/":
            return self._show(start)
        if path == "/status.json":
            return _json(start, self._view.status(_window(query), _one(query, "model")))
        return self._look_up(environ, query, start)

    def _show(self, start: Start) -> Iterable[bytes]:
        nonce = secrets.token_urlsafe(16)
        policy = ("Content-Security-Policy", _POLICY.format(nonce=nonce))
        body = self._page.replace("__NONCE__", nonce).encode()
        return _answer(start, "200 OK", body, "text/html; charset=utf-8", policy)

    def _look_up(self, environ: dict[str, Any], query: Query, start: Start) -> Iterable[bytes]:
        shows_result = _one(query, "show") == "1"
        if shows_result:
            self._check_host(environ)
        asked = _one(query, "q")
        if not asked:
            raise Unanswerable("q is missing: expected a key (64 hexadecimal digits) or a JSON payload")
        with _alone(self._looking_up, "look-up"):
            found = self._lookup.find(asked, _one(query, "model"), shows_result=shows_result)
        return _json(start, found)

    def _act(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        if self._actions is None:
            raise Refused("405 Method Not Allowed", "read-only: start it with --allow-actions")
        if environ["REQUEST_METHOD"] != "POST":
            raise Refused("405 Method Not Allowed", "only POST")
        self._check_host(environ)
        _check_origin(environ)
        asked = _body(environ)
        with _alone(self._acting, "action"):
            done = self._actions.do(asked)
        self._log.warning(
            "action", action=asked.get("action"), by=environ.get("REMOTE_ADDR"), said=done["said"]
        )
        return _json(start, done)

    def _check_host(self, environ: dict[str, Any]) -> None:
        name = _host_of(environ)
        if name not in ("localhost", self._host) and not _is_address(name):
            raise Refused(
                "403 Forbidden",
                f"not under the name {name[:80]!r}: expected an address, localhost or http_host",
            )


@contextmanager
def _alone(lock: threading.Lock, what: str) -> Iterator[None]:
    """One at a time, and nobody waits: each holds one of few threads, which probes need, too, for as long as
    a server takes that may be hanging."""
    if not lock.acquire(timeout=_PATIENCE_SECONDS):
        raise Refused(_UNAVAILABLE, f"another {what} is under way")
    try:
        yield
    finally:
        lock.release()


def _query(environ: dict[str, Any]) -> Query:
    try:
        return parse_qs(environ.get("QUERY_STRING", ""), max_num_fields=_FIELDS)
    except ValueError:
        raise Unanswerable(f"expected at most {_FIELDS} parameters") from None


def _window(query: Query) -> int:
    asked = _one(query, "window") or str(WINDOWS[0])
    if asked not in map(str, WINDOWS):
        raise Unanswerable(f"window {asked[:20]!r}: expected one of {', '.join(map(str, WINDOWS))} (seconds)")
    return int(asked)


def _one(query: Query, name: str) -> str | None:
    return query[name][-1] if name in query else None


def _host_of(environ: dict[str, Any]) -> str:
    return _split(f"//{environ.get('HTTP_HOST', '')}").hostname or ""


def _split(address: str) -> SplitResult:
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _check_origin(environ: dict[str, Any]) -> None:
    """Only our own page: browsers send the origin, and no other page can send this header unasked."""
    origin = _split(environ.get("HTTP_ORIGIN", "")).netloc
    site = environ.get("HTTP_SEC_FETCH_SITE", "same-origin")
    if origin != environ.get("HTTP_HOST") or site != "same-origin" or environ.get("HTTP_X_RECOLLECT") != "1":
        raise Refused("403 Forbidden", "only from the page itself: Origin, and the header X-Recollect: 1")


def _body(environ: dict[str, Any]) -> dict[str, Any]:
    length = environ.get("CONTENT_LENGTH") or "0"
    if not length.isdigit() or int(length) > _BODY_BYTES:
        raise Refused("413 Content Too Large", f"expected at most {_BODY_BYTES} bytes")
    try:
        asked = orjson.loads(environ["wsgi.input"].read(int(length)))
    except orjson.JSONDecodeError:
        raise Unanswerable("the body is not JSON") from None
    if not isinstance(asked, dict):
        raise Unanswerable("expected a JSON object")
    return asked


def _json(start: Start, value: Any, status: str = "200 OK") -> list[bytes]:
    return _answer(start, status, orjson.dumps(value), "application/json")


def _answer(
    start: Start, status: str, body: bytes, content_type: str, *headers: tuple[str, str]
) -> list[bytes]:
    length = ("Content-Length", str(len(body)))
    start(status, [("Content-Type", content_type), length, *_ALWAYS, *headers])
    return [body]
