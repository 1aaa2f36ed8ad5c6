"""Every text of a file through the whole system, two times: what `make demo` and `make deep` have in common.

The embedded server, a model service, workers, the producer's command line; all of it is taken down again,
also after Ctrl-C.
"""

import json
import os
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from examples.stage import Child, DemoError, Interrupted, Server, Signals

TEXTS = Path(__file__).with_name("texts.jsonl")
PASS_SECONDS = 300.0


class Pass(NamedTuple):
    """What one pass over the texts took; `answered` holds the indexes of the texts with a result."""

    seconds: float
    answered: frozenset[int]
    model_calls: int


class Outcome(NamedTuple):
    """Both passes over so many requests; `requests` is the number of texts."""

    requests: int
    first: Pass
    second: Pass

    @property
    def replies(self) -> int:
        """Requests answered in both passes."""
        return len(self.first.answered & self.second.answered)

    def line(self) -> str:
        """All of it, for a script to read. Model calls are the model's own count."""
        return (
            f"requests={self.requests} replies={self.replies} "
            f"first_model_calls={self.first.model_calls} second_model_calls={self.second.model_calls} "
            f"speedup={self.first.seconds / self.second.seconds:.1f}"
        )

    def complaint(self) -> str | None:
        """What should not be so."""
        if self.replies != self.requests:
            return f"{self.requests - self.replies:,} of {self.requests:,} requests were not answered twice"
        if self.second.model_calls:
            return f"the second pass called the model {self.second.model_calls:,} times"
        return None


class Stage:
    """Runs the parts in a directory of their own, so that every demo begins with an empty cache."""

    def __init__(self, stack: ExitStack, signals: Signals) -> None:
        self._stack, self._signals = stack, signals
        with signals.later():
            directory = tempfile.TemporaryDirectory(prefix="recollect-demo-")
            self.place = Path(stack.enter_context(directory))
            stack.callback(Server(self.place / "state").stop)
        self._environ = _environment(self.place / "state")

    def set(self, **settings: str) -> None:
        """Settings of the workers that start from now on, without RECOLLECT_."""
        self._environ.update({f"RECOLLECT_{name}": value for name, value in settings.items()})

    def start(self, name: str, *arguments: str, log: bool = True, end: int = signal.SIGTERM) -> Child:
        """A child that is stopped with `end`, whatever happens."""
        with self._signals.later():
            child = Child(name, self.place, self._environ, *arguments, log=log)
            self._stack.callback(child.stop, end)
        return child

    def start_model(self, module: str, *arguments: str) -> str:
        """A model service on any free port; its URL."""
        return self.start("model", "-m", module, "--port=0", *arguments).wait_for(_model_url)

    def start_workers(self, count: int) -> list[str]:
        """So many workers, ready for work; the URLs of their metrics."""
        names = [f"worker-{number}" for number in range(1, count + 1)]
        return [_ready_url(worker) for worker in [self.start(name, "-m", "worker", "run") for name in names]]

    def run_both(self, count_calls: Callable[[], int], model: str | None = None) -> Outcome:
        """Every text through the producer's command line, and once more. Raises DemoError."""
        requests = sum(1 for line in TEXTS.read_bytes().splitlines() if line.strip())
        return Outcome(requests, *(self._pass(name, count_calls, model) for name in ("first", "second")))

    def _pass(self, name: str, count_calls: Callable[[], int], model: str | None) -> Pass:
        output = self.place / (f"{name}-{model}.jsonl" if model else f"{name}.jsonl")
        which = ("--model", model) if model else ()
        shown = " ".join(("python -m producer map", TEXTS.name, "-o", output.name, *which))
        print(f"\n{name} pass: {shown}", flush=True)
        before, begun = count_calls(), time.monotonic()
        arguments = ("-m", "producer", "map", str(TEXTS), "-o", str(output), *which)
        # SIGINT is the signal on which the producer leaves the terminal as it was.
        code = self.start(f"{name}-producer", *arguments, log=False, end=signal.SIGINT).wait(PASS_SECONDS)
        seconds = time.monotonic() - begun
        if code not in (0, 1):
            raise DemoError(f"the producer ended with {code}")
        calls = count_calls() - before
        print(f"Model    {calls:,} calls, by its own count", flush=True)
        return Pass(seconds, _answered(output), calls)


def perform(play: Callable[[Stage], Mapping[str, Outcome]]) -> int:
    """Play it, and print a line for each outcome under its name.

    0 if every request was answered twice and no second pass asked the model anything.
    """
    signals = Signals()
    try:
        with ExitStack() as stack:
            try:
                outcomes = play(Stage(stack, signals))
            finally:
                signals.ignore()
    except Interrupted as interrupted:
        print("\ndemo interrupted: everything it started is gone", file=sys.stderr)
        return 128 + interrupted.number
    except (DemoError, OSError) as error:
        print(f"\ndemo failed: {error}", file=sys.stderr)
        return 1
    complaints = [said for outcome in outcomes.values() if (said := outcome.complaint())]
    for said in complaints:
        print(f"\ndemo failed: {said}", file=sys.stderr, flush=True)
    print("\n" + "\n".join(f"{name}: {outcome.line()}" for name, outcome in outcomes.items()))
    return 1 if complaints else 0


def counted_by(url: str) -> Callable[[], int]:
    """Asks a model service how often it was called. The call raises DemoError where it does not answer."""

    def count_calls() -> int:
        try:
            return int(json.loads(_get(url))["calls"])
        except OSError as error:
            raise DemoError(f"the model service does not answer {url}: {error}") from None

    return count_calls


def _environment(state: Path) -> dict[str, str]:
    """Ours for every child: the user's own settings and server stay out of it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RECOLLECT_")}
    return {
        **kept,
        "RECOLLECT_BROKER_URL": f"embedded:{state}",
        "RECOLLECT_CACHE_URL": f"embedded:{state}",
        "RECOLLECT_HTTP_PORT": "0",
        "RECOLLECT_LOG_FORMAT": "json",
        "PYTHONPATH": str(TEXTS.parent.parent),
    }


def _model_url(lines: list[str]) -> str | None:
    return next((line.split()[2] for line in lines if line.startswith("model ready ")), None)


def _ready_url(worker: Child) -> str:
    url = worker.wait_for(_metrics_url)
    worker.wait_for(lambda _: url if _is_ready(url.replace("/metrics", "/readyz")) else None)
    return url


def _metrics_url(lines: list[str]) -> str | None:
    events = (json.loads(line) for line in lines if line.startswith("{"))
    return next((str(event["url"]) for event in events if event.get("event") == "listening"), None)


def _is_ready(url: str) -> bool:
    try:
        return bool(_get(url))
    except OSError:
        return False


def _get(url: str) -> bytes:
    """A local page: the proxies of the environment do not know this machine's ports. Raises OSError."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=5) as answer:
        return bytes(answer.read())


def _answered(output: Path) -> frozenset[int]:
    rows: list[dict[str, Any]] = [json.loads(line) for line in output.read_bytes().splitlines()]
    return frozenset(row["index"] for row in rows if row["status"] == "ok")
