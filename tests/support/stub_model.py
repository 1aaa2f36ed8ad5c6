"""An HTTP model whose behaviour a test sets, and changes while it runs."""

import json
import threading
from collections.abc import Callable
from email.message import Message
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.quiet_http import Quiet, QuietServer

Answer = tuple[int, bytes, dict[str, str]] | None


def echo(payload: Any) -> Answer:
    """The payload back."""
    return 200, json.dumps({"echo": payload}).encode(), {}


def status(code: int, **headers: str) -> Callable[[Any], Answer]:
    """Always this status."""
    return lambda _: (code, b'{"error":"stub"}', {k.replace("_", "-"): v for k, v in headers.items()})


def body(raw: bytes) -> Callable[[Any], Answer]:
    """Always this body with 200."""
    return lambda _: (200, raw, {})


class StubModel:
    """`behave` decides each answer; None closes the connection without one. `payloads` are what was asked,
    `headers` those of each."""

    def __init__(self, behave: Callable[[Any], Answer] = echo, port: int = 0) -> None:
        self.behave = behave
        self.payloads: list[Any] = []
        self.headers: list[Message] = []
        self.released, self._writing = threading.Event(), threading.Lock()
        self._server = QuietServer(("127.0.0.1", port), partial(_Handler, self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def answer(self, headers: Message, payload: Any) -> Answer:
        """Note what is asked, and behave."""
        with self._writing:
            self.headers.append(headers)
            self.payloads.append(payload)
        return self.behave(payload)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/predict"

    @property
    def calls(self) -> int:
        return len(self.payloads)

    def hang(self, _: Any) -> Answer:
        """A behaviour: no answer until `released` is set."""
        self.released.wait(60)
        return None

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> "StubModel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Handler(Quiet, BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, stub: StubModel, *of_the_server: Any) -> None:
        self._stub = stub
        super().__init__(*of_the_server)

    def do_POST(self) -> None:
        payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = self._stub.answer(self.headers, payload)
        if answer is None:
            self.close_connection = True
            return
        code, raw, headers = answer
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {code} X\r\nContent-Length: {len(raw)}\r\n{lines}\r\n"
        try:
            self.wfile.write(head.encode() + raw)
        except OSError:
            self.close_connection = True
