"""What stand-ins for HTTP services are made of: nothing of it writes by itself to where tests report."""

from http.server import ThreadingHTTPServer
from typing import Any


class QuietServer(ThreadingHTTPServer):
    """Does not mind clients that leave."""

    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        pass


class Quiet:
    """For a handler: what it is asked is nobody's business."""

    def log_message(self, *_: Any) -> None:
        pass
