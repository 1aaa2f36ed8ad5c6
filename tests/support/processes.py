"""Real workers, and commands of ours, as processes."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.support.waiting import until

ROOT = str(Path(__file__).parents[2])


def clean_environment(**settings: str) -> dict[str, str]:
    """Nothing but what a process needs, and these settings."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**kept, **{f"RECOLLECT_{name}": value for name, value in settings.items()}}


def run(
    place: Path,
    *words: str,
    stdin: str = "",
    environment: Mapping[str, str] | None = None,
    **settings: str,
) -> subprocess.CompletedProcess[str]:
    """`python -m` these words in `place`, to its end. `environment` is for what is no setting of ours."""
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=place,
        env={**(environment or {}), **clean_environment(**settings)},
        capture_output=True,
        text=True,
        input=stdin,
        timeout=120,
        check=False,
    )


def start(place: Path, *words: str, settings: Mapping[str, str], **options: Any) -> "subprocess.Popen[str]":
    """The same, under way, in a session of its own. `options` are Popen's; what is said goes into pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=place,
        env=clean_environment(**settings),
        text=True,
        start_new_session=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )


class WorkerProcess:
    """`python -m worker run` with the given settings, ready for work.

    Its models may be those of tests.support; `module` stands in for `worker`, with arguments of its own, and
    `python` for the interpreter of these tests.
    """

    def __init__(
        self,
        place: Path,
        *,
        ready: bool = True,
        module: Sequence[str] = ("worker", "run"),
        python: str = sys.executable,
        **settings: str,
    ) -> None:
        place.mkdir(parents=True, exist_ok=True)
        self.log = place / "worker.log"
        with self.log.open("wb") as output:
            self.child = subprocess.Popen(
                [python, "-m", *module],
                cwd=place,
                env={
                    "PYTHONPATH": ROOT,
                    **clean_environment(**{"LOG_FORMAT": "json", "LOG_LEVEL": "debug", **settings}),
                },
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        if ready:
            until(self.is_ready, 30, f"a ready worker\n{self.said}")

    @property
    def said(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def events(self, name: str) -> list[dict[str, object]]:
        lines = [json.loads(line) for line in self.said.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    def address(self, path: str) -> str | None:
        found = self.events("listening")
        return str(found[0]["url"]).replace("/metrics", path) if found else None

    def get(self, path: str) -> tuple[int, str]:
        address = self.address(path)
        if address is None:
            return 0, ""
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def is_ready(self) -> bool:
        assert self.child.poll() is None, f"the worker ended with {self.child.poll()}:\n{self.said}"
        return self.get("/readyz")[0] == 200

    def outcomes(self) -> Counter[str]:
        """Requests by outcome, from /metrics."""
        found: Counter[str] = Counter()
        for family in text_string_to_metric_families(self.get("/metrics")[1]):
            for sample in family.samples:
                if sample.name == "recollect_requests_total" and sample.value:
                    found[sample.labels["outcome"]] += int(sample.value)
        return found

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.child.poll() is None:
            self.child.send_signal(number)
        return self.child.wait(60)
