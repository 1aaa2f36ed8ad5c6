"""Reading from a py-amqp connection without ever waiting, and many frames at a time.

Stock py-amqp asks the socket for each part of each frame (nine calls a delivery) and, once a frame has begun,
spins until the rest of it has come. Here a call takes what has arrived; only whole frames are passed on, and
the beginning of another one stays in the transport's own buffer, where stock reading would look for it, too.
What the shortcut knows it takes by itself.
"""

import ssl
import struct
from typing import Any

from amqp.exceptions import UnexpectedFrame

from broker.amqp.shortcut import Shortcut

_CHUNK_BYTES = 256 * 1024
_MOST_BYTES = 8 * 1024 * 1024  # of one turn: then others may have one
_HEADER = struct.Struct(">BHI")
_OVERHEAD = _HEADER.size + 1
_FRAME_END = 0xCE


class Reader:
    """Takes frames from `transport` to `dispatch`, which may raise and must not read, or by the shortcut."""

    def __init__(self, transport: Any, dispatch: Any, shortcut: Shortcut) -> None:
        self._transport, self._dispatch, self._shortcut = transport, dispatch, shortcut
        self._is_plain = not isinstance(transport.sock, ssl.SSLSocket)
        # Not recv, which would ask the kernel for memory of this size, and give it back, each time.
        self._space = memoryview(bytearray(_CHUNK_BYTES))
        self.methods = 0

    def read(self) -> None:
        """Pass on every frame that has arrived. Raises what `dispatch` raises; OSError for a lost link."""
        arrived = self._receive()
        buffer: bytes = self._transport._read_buffer
        self._pass_on(buffer + arrived if buffer else arrived)

    def read_left_over(self) -> bool:
        """Pass on whole frames that an exception left behind; whether there were any."""
        buffer: bytes = self._transport._read_buffer
        if not buffer:
            return False
        self._pass_on(buffer)
        return len(self._transport._read_buffer) < len(buffer)

    def _receive(self) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while size < _MOST_BYTES or self._has_decrypted():
            try:
                count = self._transport.sock.recv_into(self._space)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            if not count:
                if chunks:
                    break  # what came before the end may say why it ended
                raise ConnectionResetError("the server closed the connection")
            chunks.append(bytes(self._space[:count]))
            size += count
            if count < _CHUNK_BYTES and self._is_plain:
                break  # that was all; TLS gives a record at a time
        return b"".join(chunks)

    def _has_decrypted(self) -> bool:
        # What TLS has decrypted already is invisible to poll: it has to be taken now.
        return not self._is_plain and self._transport.sock.pending() > 0

    def _pass_on(self, buffer: bytes) -> None:
        offset, end = 0, len(buffer)
        try:
            while end - offset >= _OVERHEAD:
                offset, taken = self._shortcut.take(buffer, offset)
                self.methods += taken
                if end - offset < _OVERHEAD:
                    break
                kind, channel, size = _HEADER.unpack_from(buffer, offset)
                after = offset + _OVERHEAD + size
                if after > end:
                    break
                if buffer[after - 1] != _FRAME_END:
                    raise UnexpectedFrame(f"a frame ends in {buffer[after - 1]:#04x} instead of 0xce")
                payload = buffer[offset + _HEADER.size : after - 1]
                offset = after
                if self._dispatch((kind, channel, payload)):
                    self.methods += 1
        finally:
            self._transport._read_buffer = buffer[offset:]
