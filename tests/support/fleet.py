"""Workers under a supervisor that starts each one again that dies, as an orchestrator would."""

import contextlib
import os
import random
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.support.processes import WorkerProcess
from tests.support.waiting import until
from worker.settings import Settings

LEASE_SECONDS = 2.0
# A worker refuses a setting that it does not know, so this is given only where there is one.
SHORT_LEASE = {"LEASE_SECONDS": f"{LEASE_SECONDS:g}"} if "lease_seconds" in Settings.model_fields else {}
_LOOK_SECONDS = 0.02
_MOST_SURPRISES = 20
Arguments = Callable[[int, int], Sequence[str]]


def _ordinary(_: int, __: int) -> Sequence[str]:
    return ("worker", "run")


class Fleet:
    """`count` workers with the same settings, each life of each in a directory of its own.

    `module` gives what to run in place of `worker run`, by the number of the worker and of its life. A death
    by SIGKILL is an accident; any other end is a surprise, which `stop` complains of unless its code is
    `forgiven`. A context manager: whatever happens, nothing is left running.
    """

    def __init__(
        self,
        place: Path,
        count: int,
        settings: Mapping[str, str],
        *,
        module: Arguments = _ordinary,
        forgiven: Sequence[int] = (),
    ) -> None:
        self.place, self._count, self._settings = place, count, dict(settings)
        self._module, self._accidents = module, {-signal.SIGKILL, *forgiven}
        self.surprises: list[tuple[str, int]] = []
        self.restarts = self.kills = 0
        self._lives = [0] * count
        self.workers: list[WorkerProcess] = []
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def prefix(self) -> str:
        return self._settings["PREFIX"]

    def start(self) -> "Fleet":
        """All of them, ready for work, and supervised from now on."""
        self.workers = [self._launch(number) for number in range(self._count)]
        self.until_ready()
        self._supervisor.start()
        return self

    def until_ready(self) -> None:
        """Wait until every one is ready, also those that have just been started again."""
        try:
            until(lambda: all(_is_ready(worker) for worker in list(self.workers)), 60, "a fleet at work")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self._last_words()}") from None

    def kill(self, number: int, with_signal: int = signal.SIGKILL) -> None:
        """Send one of them a signal; one that is dead already has been lucky."""
        with self._lock:
            self.kills += with_signal == signal.SIGKILL
            with contextlib.suppress(ProcessLookupError):
                self.workers[number].child.send_signal(with_signal)

    def kill_random(self, rng: random.Random, with_signal: int = signal.SIGKILL) -> int | None:
        """Send a signal to any that is ready for work; which one, or None where none is."""
        for number in rng.sample(range(self._count), self._count):
            if _is_ready(self.workers[number]):
                self.kill(number, with_signal)
                return number
        return None

    def stop(self) -> None:
        """SIGTERM to all. Raises AssertionError unless each drains and ends with 0, and none ended before."""
        self.until_ready()
        self._end_supervision()
        for worker in self.workers:
            worker.child.send_signal(signal.SIGTERM)
        codes = [worker.child.wait(60) for worker in self.workers]
        assert not any(codes), f"exit codes {codes}:\n{self._last_words()}"
        assert not self.surprises, f"ended by themselves: {self.surprises}\n{self._last_words()}"

    def close(self) -> None:
        """SIGKILL to whatever is left."""
        self._end_supervision()
        for worker in self.workers:
            if worker.child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(worker.child.pid, signal.SIGKILL)
                worker.child.wait(20)

    def _end_supervision(self) -> None:
        self._ending.set()
        if self._supervisor.is_alive():
            self._supervisor.join(60)

    def _supervise(self) -> None:
        while not self._ending.wait(_LOOK_SECONDS) and len(self.surprises) < _MOST_SURPRISES:
            for number in range(self._count):
                code = self.workers[number].child.poll()
                if code is not None:
                    self._bury(number, code)

    def _bury(self, number: int, code: int) -> None:
        if code not in self._accidents:
            self.surprises.append((f"worker {number}, life {self._lives[number]}", code))
        with self._lock:
            self.restarts += 1
            self._lives[number] += 1
            self.workers[number] = self._launch(number)

    def _launch(self, number: int) -> WorkerProcess:
        life = self._lives[number]
        return WorkerProcess(
            self.place / f"w{number}.{life}",
            ready=False,
            module=self._module(number, life),
            **{"LOG_LEVEL": "info", **self._settings},
        )

    def _last_words(self) -> str:
        return "\n".join(worker.said[-2000:] for worker in self.workers)


def _is_ready(worker: WorkerProcess) -> bool:
    if worker.child.poll() is not None:
        return False  # its successor will be asked
    try:
        return worker.get("/readyz")[0] == 200
    except (OSError, ValueError):  # it died while it was asked, or while it wrote
        return False
