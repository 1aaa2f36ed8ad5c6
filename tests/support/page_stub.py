"""A server that stands in for a worker's: it serves the page, and says what a test wants it to say."""

import json
import secrets
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.quiet_http import Quiet, QuietServer

PAGE = Path(__file__).parents[2] / "worker/page/page.html"
POLICY = (
    "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class PageStub:
    """`state` is what /status.json answers: JSON, or a number for a status code, or bytes for a raw body.

    `asked` holds the paths of all requests to it, `posted` what was sent to /actions. While `hangs`, polls
    get no answer. `looked_up` is (code, JSON) of /lookup.
    """

    def __init__(self, state: Any) -> None:
        self.state, self.hangs = state, False
        self.asked: list[str] = []
        self.posted: list[dict[str, Any]] = []
        self.looked_up: tuple[int, Any] = (404, {"error": "no such thing"})
        self.most_at_once = self._at_once = 0
        self._lock, self._free = threading.Lock(), threading.Event()
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> "PageStub":
        """Serve, on the port of the last time."""
        self._free.clear()
        self._server = QuietServer(("127.0.0.1", self.port), partial(_Handler, self))
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Be away."""
        self._free.set()
        self._server.shutdown()
        self._server.server_close()

    def polls(self) -> list[str]:
        """The questions for figures, so far."""
        return [path for path in self.asked if path.startswith("/status.json")]

    def answer(self, path: str) -> tuple[int, bytes]:
        if path.startswith("/lookup"):
            code, found = self.looked_up
            if code == 200 and parse_qs(urlsplit(path).query).get("show") != ["1"]:
                found = {**found, "result": None}
            return code, json.dumps(found).encode()
        if not path.startswith("/status.json"):
            return 404, b"{}"
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        if self.hangs:
            self._free.wait(60)
        with self._lock:
            self._at_once -= 1
        if isinstance(self.state, int):
            return self.state, b"{}"
        return 200, self.state if isinstance(self.state, bytes) else json.dumps(self.state).encode()


class _Handler(Quiet, BaseHTTPRequestHandler):
    def __init__(self, stub: PageStub, *of_the_server: Any) -> None:
        self._stub = stub
        super().__init__(*of_the_server)

    def do_GET(self) -> None:
        self._stub.asked.append(self.path)
        if self.path != "/":
            return self._reply(*self._stub.answer(self.path), "application/json")
        nonce = secrets.token_urlsafe(16)
        page = PAGE.read_text().replace("__NONCE__", nonce)
        return self._reply(200, page.encode(), "text/html; charset=utf-8", POLICY.format(nonce))

    def do_POST(self) -> None:
        stub, headers = self._stub, self.headers
        body = json.loads(self.rfile.read(int(headers["Content-Length"])))
        stub.asked.append(self.path)
        stub.posted.append({**body, "header": headers["X-Recollect"], "origin": headers["Origin"]})
        if isinstance(stub.state, dict) and stub.state["allows_actions"]:
            code, said = 200, b'{"done":12,"refused":0,"said":"12 letters replayed"}'
        else:
            code, said = 405, b'{"error":"read-only"}'
        self._reply(code, said, "application/json")

    def _reply(self, code: int, body: bytes, kind: str, policy: str = "") -> None:
        try:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if policy:
                self.send_header("Content-Security-Policy", policy)
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True
