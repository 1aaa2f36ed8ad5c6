"""A model over HTTP that only waits: `python -m bench.model_server --latency-ms 50`. Prints its URL.

One event loop, keep-alive, requests told apart by their Content-Length and nothing more: it has to answer
thousands a second without being what is measured.
"""

import argparse
import asyncio
import contextlib
import re

_BODY = b'{"label":"positive","score":0.75,"spans":[{"start":0,"end":5,"kind":"entity"}]}'
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(_BODY),
    _BODY,
)
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Waits(asyncio.Protocol):
    """One connection."""

    def __init__(self, latency_seconds: float) -> None:
        self._latency, self._held = latency_seconds, b""
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every whole request after the latency."""
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._held, 0, end)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._held) < whole:
                return
            self._held = self._held[whole:]
            self._loop.call_later(self._latency, self._answer)

    def _answer(self) -> None:
        if isinstance(self._transport, asyncio.WriteTransport) and not self._transport.is_closing():
            self._transport.write(_ANSWER)


async def serve(latency_seconds: float, port: int) -> None:
    """Until the process ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Waits(latency_seconds), "127.0.0.1", port, backlog=1024)
    print(f"ready http://127.0.0.1:{server.sockets[0].getsockname()[1]}/predict", flush=True)
    await server.serve_forever()


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(prog="python -m bench.model_server", description=__doc__)
    parser.add_argument("--latency-ms", type=float, default=50.0)
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(arguments.latency_ms / 1000, arguments.port))


if __name__ == "__main__":
    main()
