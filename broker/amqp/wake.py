"""A pipe that ends a wait, from any thread and from signal handlers."""

import contextlib
import os


class Waker:
    """`wake` takes no lock and never blocks: a signal handler may interrupt the very code that waits."""

    def __init__(self) -> None:
        self._ends: tuple[int, int] | None = None
        self.open()

    def open(self) -> None:
        """Have a pipe; a wake-up that has not been noticed stays."""
        if self._ends is None:
            self._ends = os.pipe()
            for end in self._ends:
                os.set_blocking(end, False)

    def fileno(self) -> int:
        """The end to wait for."""
        assert self._ends is not None
        return self._ends[0]

    def wake(self) -> None:
        """End the wait that is under way, or else the next one."""
        ends = self._ends
        if ends is not None:
            # A full pipe wakes just as well; a closed one has nobody waiting.
            with contextlib.suppress(OSError):
                os.write(ends[1], b"\0")

    def clear(self) -> None:
        """The wake-ups so far have been noticed."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.fileno(), 4096):
                pass

    def close(self) -> None:
        """Let go of the pipe."""
        # Forgotten first: a wake from another thread must not write to a number that is somebody else's now.
        ends, self._ends = self._ends, None
        for end in ends or ():
            os.close(end)
