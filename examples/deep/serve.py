"""The deep model over HTTP: POST a payload `{"text": "..."}` to /predict, or an array of them.

    python -m examples.deep.serve --port 8000

An array is answered by one of the same length and order, in which `{"error": "..."}` stands for what is no
payload. GET /calls says how often the model was asked, and about how many texts.
"""

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

import orjson
import waitress

EXPECTED = 'expected {"text": "..."} or an array of such'
_STATUS = {200: "200 OK", 400: "400 Bad Request", 404: "404 Not Found", 405: "405 Method Not Allowed"}
_PATHS = {"/predict": "POST", "/calls": "GET", "/healthz": "GET"}
_THREADS = 4


class Service:
    """The WSGI application. `embed_batch` answers a list of payloads, each with a result or an exception.

    `calls` and `texts` count what that function was asked.
    """

    def __init__(self, embed_batch: Callable[[list[Any]], list[Any]]) -> None:
        self._embed_batch = embed_batch
        self._lock = threading.Lock()
        self.calls = self.texts = 0

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Called by the server."""
        status, value = self._answer(environ)
        body = orjson.dumps(value)
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        if status == 405:
            headers.append(("Allow", _PATHS[environ["PATH_INFO"]]))
        start_response(_STATUS[status], headers)
        return [body]

    def _answer(self, environ: dict[str, Any]) -> tuple[int, Any]:
        path = environ["PATH_INFO"]
        if path not in _PATHS:
            return 404, {"error": "expected POST /predict, GET /calls or GET /healthz"}
        if environ["REQUEST_METHOD"] != _PATHS[path]:
            return 405, {"error": f"expected {_PATHS[path]} {path}"}
        if path == "/healthz":
            return 200, {"status": "ok"}
        if path == "/calls":
            return 200, {"calls": self.calls, "texts": self.texts}
        return self._predict(environ["wsgi.input"].read())

    def _predict(self, body: bytes) -> tuple[int, Any]:
        try:
            value = orjson.loads(body)
        except ValueError as error:
            return 400, {"error": f"the body is not JSON ({error}); {EXPECTED}"}
        if isinstance(value, list):
            return 200, [_shown(result) for result in self._embed(value)]
        result = self._embed([value])[0]
        return (400 if isinstance(result, Exception) else 200), _shown(result)

    def _embed(self, payloads: list[Any]) -> list[Any]:
        with self._lock:
            self.calls += 1
            self.texts += len(payloads)
        return self._embed_batch(payloads)


def _shown(result: Any) -> Any:
    return {"error": str(result)} if isinstance(result, Exception) else result


def main() -> int:
    """Serve until SIGTERM or SIGINT."""
    # Here, so that the service can be had without the weights: its tests run in any environment.
    from examples.deep.model import embed_batch, encoder

    parser = argparse.ArgumentParser(prog="python -m examples.deep.serve", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0: any free one, printed")
    options = parser.parse_args()
    encoder()
    server = waitress.create_server(
        Service(embed_batch), host=options.host, port=options.port, threads=_THREADS
    )
    # waitress ends its loop on SystemExit, after what it is answering.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    print(f"model ready http://{server.effective_host}:{server.effective_port}/predict", flush=True)
    server.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
