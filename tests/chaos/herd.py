"""Pipelines as processes: one that is killed is replaced, and nobody waits any more for what it asked."""

import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.support.processes import ROOT, clean_environment
from tests.support.waiting import until


class PipelineProcess:
    """One life of one pipeline."""

    def __init__(self, place: Path, url: str, prefix: str, seed: int, lease_seconds: float) -> None:
        place.mkdir(parents=True)
        self._status, self._log = place / "status.json", place / "log"
        arguments = [url, prefix, str(self._status), str(seed), str(lease_seconds)]
        with self._log.open("wb") as output:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.producing", *arguments],
                cwd=place,
                env={"PYTHONPATH": ROOT, **clean_environment()},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def status(self) -> dict[str, Any]:
        """How far it has come; of one that was killed, half a second before."""
        found: dict[str, Any] = {
            "sent": 0,
            "answered": 0,
            "wrong": 0,
            "kinds": {},
            "inbox": None,
            "done": 0,
        }
        with contextlib.suppress(FileNotFoundError):
            found |= json.loads(self._status.read_text())
        return found

    def has_begun(self) -> bool:
        return bool(self.status["answered"]) or self.child.poll() is not None

    @property
    def said(self) -> str:
        return self._log.read_text("utf-8", "replace")


class Herd:
    """`count` pipelines. `dead` are those that were killed."""

    def __init__(
        self, place: Path, count: int, url: str, prefix: str, seed: int, lease_seconds: float
    ) -> None:
        self._place, self._url, self._prefix, self._seed = place, url, prefix, seed
        self._lease_seconds = lease_seconds
        self._born = 0
        self.dead: list[PipelineProcess] = []
        self.living = [self._bear() for _ in range(count)]

    def _bear(self) -> PipelineProcess:
        self._born += 1
        place = self._place / f"p{self._born}"
        seed = self._seed + self._born
        return PipelineProcess(place, self._url, self._prefix, seed, self._lease_seconds)

    def kill_random(self, rng: random.Random) -> None:
        """kill -9 of one, and another takes its place."""
        number = rng.randrange(len(self.living))
        victim = self.living[number]
        victim.child.kill()
        victim.child.wait(20)
        self.dead.append(victim)
        self.living[number] = self._bear()

    def stop(self) -> None:
        """Ask for nothing more."""
        for pipeline in self.living:
            # Before it has begun it could not know what SIGTERM means.
            until(pipeline.has_begun, 60, "a first reply")
            pipeline.child.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> list[str]:
        """What is wrong with the end of each."""
        wrong = []
        for number, pipeline in enumerate(self.living):
            try:
                code = pipeline.child.wait(seconds)
            except subprocess.TimeoutExpired:
                wrong.append(f"producer {number} still waits after {seconds:g} s: {pipeline.status}")
                continue
            status = pipeline.status
            if code != 0 or not status["done"]:
                wrong.append(f"producer {number} ended with {code}: {pipeline.said[-500:]}")
            elif status["sent"] != status["answered"] or status["wrong"]:
                wrong.append(f"producer {number}: {status}")
        return wrong

    def total(self, name: str) -> int:
        """Of all that there were."""
        return sum(int(pipeline.status[name]) for pipeline in [*self.dead, *self.living])

    def kinds(self) -> set[str]:
        """The kinds of error that somebody was answered."""
        return {kind for pipeline in [*self.dead, *self.living] for kind in pipeline.status["kinds"]}

    def left(self) -> dict[str, float]:
        """When each of the living left its private reply queue, in Unix seconds."""
        found = [pipeline.status for pipeline in self.living]
        return {str(status["inbox"]): float(status["done"] or time.time()) for status in found}

    def close(self) -> None:
        for pipeline in self.living:
            pipeline.child.kill()
            pipeline.child.wait(20)
