"""A TCP proxy that misbehaves on demand."""

import contextlib
import socket
import threading
import time


class Proxy:
    """Stands before a port. `mode`: pass, refuse, silent (never answers), trickle (a byte at a time)."""

    def __init__(self, target: int) -> None:
        self.mode = "pass"
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._closing = threading.Event()
        self._links: list[socket.socket] = []
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self._closing.is_set():
                near, _ = self._listener.accept()
                if self.mode == "refuse":
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._target))
                self._links += [near, far]
                threading.Thread(target=self._pump, args=(near, far, False), daemon=True).start()
                threading.Thread(target=self._pump, args=(far, near, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, down: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.mode == "silent" and down:
                    continue
                if self.mode == "trickle" and down:
                    for byte in data:
                        sink.sendall(bytes([byte]))
                        self._closing.wait(0.05)
                    continue
                sink.sendall(data)
        for link in (source, sink):
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Break every connection, now."""
        links, self._links = self._links, []
        for link in links:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
            link.close()

    def close(self) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        time.sleep(0)
