"""What the demo needs to leave nothing behind: signals that wait for a good moment, children, the server."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from broker.base import BrokerUnreachable
from broker.embedded import join

_START_SECONDS = 30.0
_STOP_SECONDS = 10.0


class DemoError(Exception):
    """Why the demo did not go as it should."""


class Interrupted(BaseException):
    """A signal asked for the end; `number` is its number."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Signals:
    """SIGINT, SIGTERM and SIGHUP raise Interrupted, once, and never between a start and its registration.

    Set explicitly: a shell gives its background commands an ignored SIGINT, which Python would leave so.
    """

    def __init__(self) -> None:
        self._held = False
        self._pending = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._take)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        self._pending = self._pending or number
        if not self._held:
            self.ignore()
            raise Interrupted(self._pending)

    def ignore(self) -> None:
        """From now on a signal only is remembered: tidying up must not stop half-way."""
        self._held = True

    @contextlib.contextmanager
    def later(self) -> Iterator[None]:
        """A signal that comes inside is raised at the end."""
        self._held = True
        yield
        self._held = False
        if self._pending:
            self.ignore()
            raise Interrupted(self._pending)


class Child:
    """A Python process in a session of its own: Ctrl-C in the terminal reaches the demo alone.

    Its output goes to `log`, or to the terminal where that is None.
    """

    def __init__(self, name: str, place: Path, environ: dict[str, str], *arguments: str, log: bool) -> None:
        self.name = name
        self._log = place / f"{name}.log"
        with self._log.open("wb") as file:
            output = file if log else None
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=place,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait_for(self, found: Callable[[list[str]], str | None]) -> str:
        """What `found` makes of the lines it wrote. Raises DemoError after 30 s, or when it ended."""
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            value = found(self._lines())
            if value is not None:
                return value
            time.sleep(0.05)
        state = "did not start" if self._process.returncode is None else f"ended ({self._process.returncode})"
        raise DemoError(f"{self.name} {state}; it said:\n{''.join(self._lines())}")

    def wait(self, seconds: float) -> int:
        """Its exit code. Raises DemoError where it runs longer."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise DemoError(f"{self.name} was not done after {seconds:.0f} s") from None

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it: politely, and after 10 s with SIGKILL."""
        if self._process.poll() is not None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _lines(self) -> list[str]:
        """Complete lines only: the last may be half-written."""
        lines = self._log.read_text("utf-8", "replace").splitlines(keepends=True)
        return [line for line in lines if line.endswith("\n")]


class Server:
    """The embedded server. The demo is its first and its last user: the workers' ends cannot orphan it.

    Raises DemoError where it cannot be started.
    """

    def __init__(self, state: Path) -> None:
        try:
            self._held = join(f"embedded:{state}")
        except BrokerUnreachable as error:
            raise DemoError(str(error)) from None
        self._pid = int((state / "valkey.pid").read_text())

    def stop(self) -> None:
        """Leave, which stops it. Raises DemoError where it did not; then it is killed."""
        self._held.close()
        if _is_alive(self._pid):
            os.kill(self._pid, signal.SIGKILL)
            raise DemoError("the embedded server outlived its last user and was killed")
        if self._held.socket_path.exists():
            raise DemoError(f"the embedded server left {self._held.socket_path}")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
