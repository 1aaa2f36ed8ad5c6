"""The deep example with its real model, through a real worker: over HTTP and as a Python target.

Skips where .deep/venv was not made, and fails there with CI=true.
"""

import contextlib
import itertools
import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from bench.deep import HOME, WORKLOAD, texts
from bench.plan import smallest
from bench.process import Child
from bench.rerun import AGAIN, FIRST
from bench.results import Results
from bench.stage import Stage
from bench.suite import play, write
from tests.support.processes import ROOT
from tests.support.rig import Rig

PYTHON = str(HOME / "bin" / "python")
BATCHING = {"MODELS__M__BATCH_SIZE": "32", "MODELS__M__BATCH_WAIT_MS": "50", "MODELS__M__CONCURRENCY": "2"}


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    if not (HOME / ".stamp").exists():
        if os.environ.get("CI") == "true":
            pytest.fail("the deep example is not installed, and CI=true (make .deep/venv/.stamp)")
        pytest.skip("the deep example is not installed (make .deep/venv/.stamp)")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The HTTP service; its URL."""
    command = [PYTHON, "-m", "examples.deep.serve", "--port=0"]
    with Child("deep-model", command, tmp_path_factory.mktemp("deep"), {}) as child:
        child.wait_until(lambda: "model ready " in child.said and child.said.endswith("\n"), 60, "model")
        yield child.said.split()[-1]


class Start(Protocol):
    """Starts a worker in front of the model."""

    def __call__(self, rig: Rig) -> None: ...


@pytest.fixture(params=["http", "python"])
def start(request: pytest.FixtureRequest) -> Start:
    """Each way to have the model in turn, with 32 rows a call."""

    def over_http(rig: Rig) -> None:
        rig.work(MODELS__M__TARGET=request.getfixturevalue("service"), **BATCHING)

    def in_the_worker(rig: Rig) -> None:
        rig.work(python=PYTHON, MODELS__M__TARGET="python:examples.deep.model:embed_batch", **BATCHING)

    return over_http if request.param == "http" else in_the_worker


def direct(rows: list[Any]) -> list[list[float]]:
    """What the library says of each text, asked for one at a time and without this project."""
    done = subprocess.run(
        [PYTHON, "-m", "tests.support.direct_vectors"],
        cwd=ROOT,
        input=json.dumps([row["text"] for row in rows]),
        capture_output=True,
        text=True,
        check=True,
    )
    return list(json.loads(done.stdout))


def alike(one: list[float], other: list[float]) -> float:
    """The cosine of two vectors of length 1."""
    return sum(a * b for a, b in zip(one, other, strict=True))


def rows_asked(rig: Rig) -> float:
    """How many rows the worker has called the model for."""
    lines = rig.workers[0].get("/metrics")[1].splitlines()
    return sum(
        float(line.split()[-1]) for line in lines if line.startswith("recollect_model_attempts_total{")
    )


def calls(service: str) -> int:
    with contextlib.closing(urllib.request.urlopen(service.replace("/predict", "/calls"))) as answer:
        return int(json.load(answer)["calls"])


def test_answers_are_the_librarys_and_the_second_pass_asks_nothing(redis_rig: Rig, start: Start) -> None:
    """The same vectors as one text at a time without padding; then hits only."""
    start(redis_rig)
    rows = [json.loads(line) for line in texts(0, 64)]
    first = list(redis_rig.producer.map(rows, ordered=True, reply_timeout=60))
    assert {reply.outcome for reply in first} == {"miss"}
    for reply, expected in zip(first, direct(rows), strict=True):
        assert alike(reply.result["vector"], expected) > 0.999
    asked = rows_asked(redis_rig)
    second = list(redis_rig.producer.map(rows, ordered=True, reply_timeout=60))
    assert {reply.outcome for reply in second} == {"hit"}
    assert [reply.result for reply in second] == [reply.result for reply in first]
    assert rows_asked(redis_rig) == asked == len(rows)


def test_texts_of_like_meaning_are_near(redis_rig: Rig, start: Start) -> None:
    """Whatever their words: so the weights are those of a trained model."""
    start(redis_rig)
    said = ["the battery dies after an hour", "it needs to be charged all the time", "my aunt paints horses"]
    replies = list(redis_rig.producer.map([{"text": text} for text in said], ordered=True, reply_timeout=60))
    near, far, other = (
        alike(a.result["vector"], b.result["vector"]) for a, b in itertools.combinations(replies, 2)
    )
    assert near > far + 0.2
    assert near > other + 0.2


def test_a_bad_row_fails_alone(redis_rig: Rig, start: Start) -> None:
    """Its neighbours have their vectors, and the model is asked about each row once."""
    start(redis_rig)
    payloads = [
        {"text": "fine"},
        {"txt": "typo"},
        {"text": ""},
        {"text": None},
        "bare",
        {"text": "fine, too"},
    ]
    replies = list(redis_rig.producer.map(payloads, ordered=True, reply_timeout=60))
    assert [reply.ok for reply in replies] == [True, False, True, False, False, True]
    assert {reply.error["kind"] for reply in replies if reply.error} == {"model_rejected"}
    assert rows_asked(redis_rig) == len(payloads)


def test_many_rows_share_a_call(redis_rig: Rig, service: str) -> None:
    """64 rows in far fewer calls, by the service's own count."""
    before = calls(service)
    redis_rig.work(MODELS__M__TARGET=service, **BATCHING)
    rows = [json.loads(line) for line in texts(1, 64)]
    assert all(reply.ok for reply in redis_rig.producer.map(rows, reply_timeout=60))
    assert calls(service) - before < 16


def test_the_model_is_also_called_without_batches(redis_rig: Rig) -> None:
    """`embed` takes one payload."""
    redis_rig.work(python=PYTHON, MODELS__M__TARGET="python:examples.deep.model:embed")
    assert len(redis_rig.call({"text": "fine"}).result["vector"]) == 384
    reply = redis_rig.call({"txt": "typo"})
    assert reply.error is not None
    assert 'expected {"text": "..."}' in reply.error["message"]


def test_the_benchmark_re_runs_on_it(place: Path) -> None:
    """As small as it gets: a first run and a re-run, and their rows in the page."""
    results = Results()
    with Stage(place / "run", smallest(), results, say=lambda _: None) as stage:
        play(stage, ["deep"])
        write(stage, place / "page.md")
    assert results.failures == []
    assert results.contestants(WORKLOAD) == [FIRST, AGAIN]
    assert (place / "page.md").read_text().count(f"| {WORKLOAD} |") == 2
