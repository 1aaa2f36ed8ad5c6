"""A hard deadline for a call that has none of its own, as a name look-up: it is left behind on a thread."""

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class DeadlinePassed(TimeoutError):
    """The call did not end in time; what it does from now on is ignored."""


class _Task(Generic[T]):
    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._done = threading.Event()
        self._value: list[T] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._value.append(self._call())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            self._error = error
        self._done.set()

    def result(self, seconds: float) -> T:
        if not self._done.wait(seconds):
            raise DeadlinePassed(f"no answer within {seconds * 1000:.0f} ms")
        if self._error is not None:
            raise self._error
        return self._value[0]


class DeadlineRunner:
    """Runs one call after another on one daemon thread; a thread that overran is replaced by a new one."""

    def __init__(self) -> None:
        self._tasks: SimpleQueue[_Task[object] | None] | None = None

    def run(self, call: Callable[[], T], seconds: float) -> T:
        """The value of `call()`, or what it raises. Raises DeadlinePassed after `seconds`."""
        if self._tasks is None:
            self._tasks = SimpleQueue()
            threading.Thread(target=_work, args=(self._tasks,), name="cache", daemon=True).start()
        task = _Task(call)
        self._tasks.put(task)  # type: ignore[arg-type]
        try:
            return task.result(seconds)
        except DeadlinePassed:
            self.close()
            raise

    def close(self) -> None:
        """Let the thread end when it comes back from its call."""
        if self._tasks is not None:
            self._tasks.put(None)
            self._tasks = None


def _work(tasks: "SimpleQueue[_Task[object] | None]") -> None:
    while (task := tasks.get()) is not None:
        task.run()
