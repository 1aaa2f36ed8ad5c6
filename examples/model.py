"""A model service: POST {"text": "..."} to /predict. The scores are real, the latency is set.

    python -m examples.model --port 8000 --latency-ms 50

`--latency-ms` stands in for the time a deep model takes, `--fail-rate` for how unstable its service is.
GET /calls says how often it was asked, which is how the demo knows what the cache saved.
"""

import argparse
import json
import random
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from textblob import TextBlob


def score(payload: Any) -> dict[str, Any]:
    """The sentiment of `payload["text"]`. Raises ValueError for any other payload."""
    text = payload.get("text") if isinstance(payload, dict) else None
    if not isinstance(text, str):
        raise ValueError('expected {"text": "..."}')  # noqa: TRY004 - answered 400, like any wrong value
    polarity, subjectivity = TextBlob(text).sentiment
    label = "positive" if polarity > 0.05 else "negative" if polarity < -0.05 else "neutral"
    return {"label": label, "polarity": round(polarity, 4), "subjectivity": round(subjectivity, 4)}


class ModelServer(ThreadingHTTPServer):
    """The service; `calls` counts the payloads it was asked about."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, latency_seconds: float, fail_rate: float, seed: int = 0) -> None:
        super().__init__((host, port), _Handler)
        self.latency_seconds, self.fail_rate = latency_seconds, fail_rate
        self.random = random.Random(seed)
        self.calls = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where to POST."""
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}/predict"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that went away is no error of ours."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def fails_now(self) -> bool:
        """Count a call, and decide whether it is one of the unlucky."""
        with self.lock:
            self.calls += 1
            return self.random.random() < self.fail_rate


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ModelServer

    def setup(self) -> None:
        super().setup()
        # Small answers on kept-alive connections: without this each waits for the last one's acknowledgement.
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_GET(self) -> None:
        answers: dict[str, dict[str, Any]] = {
            "/calls": {"calls": self.server.calls},
            "/healthz": {"status": "ok"},
        }
        found = answers.get(self.path)
        self._answer(
            200 if found else 404, found or {"error": "expected GET /calls, GET /healthz or POST /predict"}
        )

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            self.close_connection = True  # where this body ends is unknown, so what follows is too
            self._answer(411, {"error": "expected a Content-Length"})
            return
        body = self.rfile.read(int(length))
        if self.path != "/predict":
            self._answer(404, {"error": "expected POST /predict"})
            return
        fails = self.server.fails_now()
        time.sleep(self.server.latency_seconds)
        if fails:
            self._answer(500, {"error": "out of luck (--fail-rate)"})
            return
        try:
            self._answer(200, score(json.loads(body)))
        except ValueError as error:
            self._answer(400, {"error": str(error)})

    def _answer(self, status: int, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        head = (
            f"HTTP/1.1 {status} {'OK' if status == 200 else 'Error'}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        # Head and body in one write: two would wait for each other's acknowledgement.
        self.wfile.write(head.encode() + body)

    def log_message(self, *_: Any) -> None:
        """Silent: the caller's log is the one to read."""


def main() -> int:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m examples.model", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0: any free one, printed")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--fail-rate", type=float, default=0.0, help="share of calls answered 500")
    options = parser.parse_args()
    score({"text": "warm up: the first text loads the lexicon"})
    server = ModelServer(options.host, options.port, options.latency_ms / 1000, options.fail_rate)

    def stop(*_: Any) -> None:
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print(f"model ready {server.url}", flush=True)
    server.serve_forever()
    server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
