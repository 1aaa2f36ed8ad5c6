"""Child processes of a benchmark: each in a session of its own, which is measured, held and ended as one."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[1]
_STOP_SECONDS = 10.0


class Failed(Exception):
    """Why a contestant did not run through."""


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Nothing of the user's own RECOLLECT_* and proxies, this checkout's modules, and these settings."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **settings}


class Child:
    """A process with its children. A context manager: nothing of it is left afterwards."""

    def __init__(self, name: str, arguments: Sequence[str], place: Path, settings: Mapping[str, str]) -> None:
        place.mkdir(parents=True, exist_ok=True)
        self.name, self._log = name, place / f"{name.replace(' ', '-')}.log"
        self.begun = time.perf_counter()
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                list(arguments),
                cwd=place,
                env=environment(settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.session = self._process.pid

    def __enter__(self) -> "Child":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def said(self) -> str:
        """All that it printed."""
        return self._log.read_text("utf-8", "replace")

    def wait_until(self, found: Callable[[], bool], seconds: float, what: str, every: float = 0.002) -> float:
        """When `found` became true, by perf_counter. Raises Failed when it did not, or the process ended."""
        end = time.perf_counter() + seconds
        while not found():
            if self._process.poll() is not None:
                raise Failed(f"{self.name} ended with {self._process.returncode}: {self.said[-400:]}")
            if time.perf_counter() > end:
                raise Failed(f"{self.name}: no {what} within {seconds:.0f} s: {self.said[-400:]}")
            time.sleep(every)
        return time.perf_counter()

    def send_signal(self, number: int) -> None:
        """To all of the session."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.session, number)

    def kill(self) -> None:
        """End it without a goodbye."""
        self.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """End it politely, and after 10 s with SIGKILL; the session's stragglers too."""
        self.send_signal(signal.SIGCONT)
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
        self.send_signal(signal.SIGKILL)
        self._process.wait()


def run(
    arguments: Sequence[str], settings: Mapping[str, str], seconds: float = 600.0
) -> "subprocess.CompletedProcess[str]":
    """A command that is done. Raises Failed where it did not end with 0 in time."""
    try:
        done = subprocess.run(
            list(arguments),
            env=environment(settings),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(arguments[:4])}: not done after {seconds:.0f} s") from None
    if done.returncode:
        raise Failed(f"{' '.join(arguments[:4])} ended with {done.returncode}: {done.stderr[-400:]}")
    return done


def run_json(arguments: Sequence[str], settings: Mapping[str, str], seconds: float = 600.0) -> Any:
    """The JSON in the last line that a command printed. Raises Failed."""
    lines = run(arguments, settings, seconds).stdout.splitlines()
    try:
        return json.loads(lines[-1])
    except (IndexError, ValueError):
        raise Failed(f"{' '.join(arguments[:4])} printed no JSON: {lines[-1:]}") from None


def ours(*arguments: str) -> list[str]:
    """A command line in this project's own environment."""
    return [sys.executable, *arguments]
