"""A TCP proxy that misbehaves on demand.

It runs on a loop in a thread of its own. Its knobs are attributes, read anew for every piece of data, so that
a test may change them while connections are open.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Coroutine
from typing import Any, Literal, TypeVar

T = TypeVar("T")
Way = Literal["up", "down"]
Mode = Literal[
    "pass",
    "refuse",  # every new connection is reset
    "silent",  # the same as down-drop
    "down-drop",  # answers are thrown away: executed, and nobody is told
    "up-drop",  # questions are thrown away
    "trickle",  # answers come a byte at a time
    "blackhole",  # both ways held, and delivered late when the mode is lifted
    "up-blackhole",
    "down-blackhole",
]
_TRICKLE_SECONDS = 0.05
_HOLD_SECONDS = 0.01
_LINGER_ZERO = struct.pack("ii", 1, 0)  # a close is then a reset


class Proxy:
    """Stands before a port of 127.0.0.1, which may be closed and come back.

    `mode` is one of Mode; `delay` in seconds is added to every piece, and `chunk` is the most bytes of one;
    `cut_after` is a way and a number of bytes: the connection that has passed so many that way is reset.
    With `tls` it speaks TLS to those who come, and not to its target.
    """

    def __init__(self, target: int, mode: Mode = "pass", tls: ssl.SSLContext | None = None) -> None:
        self.mode: Mode = mode
        self.delay = 0.0
        self.chunk = 65536
        self.cut_after: tuple[Way, int] | None = None
        self._target = target
        self._links: set[asyncio.StreamWriter] = set()
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._link, "127.0.0.1", 0, ssl=tls))
        self.port = int(self._server.sockets[0].getsockname()[1])

    @property
    def links(self) -> int:
        """How many connections there are, counting both ends of each."""
        return len(self._links)

    def cut(self) -> None:
        """Break every connection, now."""
        self._do(self._break(reset=False))

    def reset(self) -> None:
        """Break every connection with RST, now."""
        self._do(self._break(reset=True))

    def close(self) -> None:
        """Listen no more, and break what there is."""
        if self._closed:
            return
        self._closed = True
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, what: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(20)

    async def _end(self) -> None:
        self._server.close()
        await self._break(reset=False)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _break(self, *, reset: bool) -> None:
        links, self._links = self._links, set()
        for link in links:
            _abort(link, reset=reset)

    async def _link(self, near: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        if self.mode == "refuse":
            _abort(near_out, reset=True)
            return
        try:
            far, far_out = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            _abort(near_out, reset=True)
            return
        self._links |= {near_out, far_out}
        pumps = self._pump(near, far_out, "up"), self._pump(far, near_out, "down")
        await asyncio.gather(*pumps, return_exceptions=True)
        self._links -= {near_out, far_out}
        for writer in (near_out, far_out):
            writer.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, way: Way) -> None:
        seen = 0
        with contextlib.suppress(OSError):
            while data := await source.read(self.chunk):
                await asyncio.sleep(self.delay)
                while self.mode in ("blackhole", f"{way}-blackhole") and not sink.is_closing():
                    await asyncio.sleep(_HOLD_SECONDS)
                if self._drops(way):
                    continue
                left = self._left(way, seen)
                seen += len(data)
                await self._deliver(data if left is None else data[: max(0, left)], sink, way)
                if left is not None and len(data) >= left:
                    # A reset destroys what its receiver has not read: most of the time it now has.
                    await asyncio.sleep(_HOLD_SECONDS)
                    await self._break(reset=True)
        sink.close()

    def _drops(self, way: Way) -> bool:
        return self.mode == f"{way}-drop" or (self.mode == "silent" and way == "down")

    def _left(self, way: Way, seen: int) -> int | None:
        """How many bytes may still pass; None for any number."""
        cut = self.cut_after
        return cut[1] - seen if cut is not None and cut[0] == way else None

    async def _deliver(self, data: bytes, sink: asyncio.StreamWriter, way: Way) -> None:
        pieces = [data]
        if self.mode == "trickle" and way == "down":
            pieces = [data[n : n + 1] for n in range(len(data))]
        for piece in pieces:
            sink.write(piece)
            await sink.drain()
            if len(pieces) > 1:
                await asyncio.sleep(_TRICKLE_SECONDS)


def _abort(link: asyncio.StreamWriter, *, reset: bool) -> None:
    if reset:
        raw: socket.socket = link.get_extra_info("socket")
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    link.transport.abort()
