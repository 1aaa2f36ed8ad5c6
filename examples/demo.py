"""The whole system on real texts, twice: `make demo`.

Starts the embedded server, a model service and two workers, sends every text through them two times, and
takes everything down again, also after Ctrl-C.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

TEXTS = Path(__file__).with_name("texts.jsonl")
LATENCY_MS = 50
CONCURRENCY = 8


class DemoError(Exception):
    """Why the demo did not go as it should."""


class Pass(NamedTuple):
    """What one pass over the texts took."""

    seconds: float
    replies: int
    model_calls: int


class Process:
    """A child in a session of its own, so that Ctrl-C reaches the demo alone and it can tidy up."""

    def __init__(self, name: str, log: Path, environ: dict[str, str], *arguments: str) -> None:
        self.name, self._log = name, log
        with log.open("wb") as output:
            self._child = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=log.parent,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        """What it wrote so far."""
        return self._log.read_text("utf-8", "replace")

    def wait_for(self, found: Callable[[str], str | None]) -> str:
        """What `found` finds in its output, or DemoError after 30 s."""
        end = time.monotonic() + 30
        while time.monotonic() < end and self._child.poll() is None:
            value = found(self.said)
            if value is not None:
                return value
            time.sleep(0.05)
        raise DemoError(f"{self.name} did not start:\n{self.said}")

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for one that does not listen."""
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(10)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()


def main() -> int:
    """Run the demo; 0 if every request was answered twice and the second pass asked the model nothing."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with ExitStack() as stack:
            return _demo(stack)
    except DemoError as error:
        print(f"demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo interrupted; everything it started is gone", file=sys.stderr)
        return 130


def _demo(stack: ExitStack) -> int:
    place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="recollect-demo-")))
    environ = _environment(place)
    stack.callback(_check_gone, place)
    model, calls_url = _start_model(stack, place, environ)
    environ["RECOLLECT_MODELS__SENTIMENT__TARGET"] = model
    environ["RECOLLECT_MODELS__SENTIMENT__CONCURRENCY"] = str(CONCURRENCY)
    metrics = [_start_worker(stack, place, environ, number) for number in (1, 2)]
    requests = sum(1 for line in TEXTS.open("rb") if line.strip())
    print(f"{requests:,} texts · 2 workers · real sentiment scores (textblob)")
    print(f"{LATENCY_MS} ms are added to each model call: they stand in for a deep model")
    first = _run_pass(place, environ, calls_url, "first")
    second = _run_pass(place, environ, calls_url, "second")
    print("\nMetrics  " + "  ".join(metrics))
    speedup = first.seconds / second.seconds
    print(
        f"demo: requests={requests} replies={first.replies + second.replies} "
        f"first_model_calls={first.model_calls} second_model_calls={second.model_calls} speedup={speedup:.1f}"
    )
    if not first.replies == second.replies == requests:
        raise DemoError(f"{requests} requests a pass, but {first.replies} and {second.replies} results")
    if second.model_calls:
        raise DemoError(f"the second pass called the model {second.model_calls} times")
    return 0


def _environment(place: Path) -> dict[str, str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RECOLLECT_")}
    server = f"embedded:{place / 'state'}"
    return {
        **environ,
        "RECOLLECT_BROKER_URL": server,
        "RECOLLECT_CACHE_URL": server,
        "RECOLLECT_HTTP_PORT": "0",
        "RECOLLECT_LOG_FORMAT": "json",
        "PYTHONPATH": str(TEXTS.parent.parent),
    }


def _start_model(stack: ExitStack, place: Path, environ: dict[str, str]) -> tuple[str, str]:
    model = Process(
        "model",
        place / "model.log",
        environ,
        "-m",
        "examples.model",
        "--port=0",
        f"--latency-ms={LATENCY_MS}",
    )
    stack.callback(model.stop)
    url = model.wait_for(lambda said: said.split()[2] if said.startswith("model ready") else None)
    return url, url.replace("/predict", "/calls")


def _start_worker(stack: ExitStack, place: Path, environ: dict[str, str], number: int) -> str:
    worker = Process(f"worker {number}", place / f"worker{number}.log", environ, "-m", "worker", "run")
    stack.callback(worker.stop)
    url = worker.wait_for(_listening)
    worker.wait_for(lambda _: url if _is_ready(url.replace("/metrics", "/readyz")) else None)
    return url


def _listening(said: str) -> str | None:
    for line in said.splitlines():
        if '"event":"listening"' in line:
            return str(json.loads(line)["url"])
    return None


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False


def _run_pass(place: Path, environ: dict[str, str], calls_url: str, name: str) -> Pass:
    print(f"\n{name} pass: python -m producer map {TEXTS.name} -o {name}.jsonl", flush=True)
    output = place / f"{name}.jsonl"
    before, begun = _calls(calls_url), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "producer", "map", str(TEXTS), "-o", str(output)],
        cwd=place,
        env=environ,
        check=False,
    )
    seconds = time.monotonic() - begun
    if done.returncode:
        raise DemoError(f"the producer ended with {done.returncode}")
    rows = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    replies = len({row["index"] for row in rows if row["status"] == "ok"})
    return Pass(seconds, replies, _calls(calls_url) - before)


def _calls(url: str) -> int:
    with urllib.request.urlopen(url, timeout=5) as answer:
        found: dict[str, Any] = json.load(answer)
    return int(found["calls"])


def _check_gone(place: Path) -> None:
    """The last process to leave stops the embedded server; believing that is not enough here."""
    end = time.monotonic() + 10
    while (place / "state" / "valkey.pid").exists():
        if time.monotonic() > end:
            raise DemoError(f"the embedded server in {place} is still there")
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
