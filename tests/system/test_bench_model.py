"""`python -m worker bench-model`: what concurrency saturates a model."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ROOT, run
from tests.support.stub_model import StubModel, echo, status
from worker.bench_model import Step, chosen, climb

NOWHERE = "redis://127.0.0.1:1/0"


def bench(place: Path, target: str, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """The command; broker and cache are where nothing listens."""
    settings = {"BROKER_URL": NOWHERE, "CACHE_URL": NOWHERE, "MODELS__M__TARGET": target, **more}
    words = ("worker", "bench-model", "m", "--seconds", "0.3", *arguments)
    return run(place, *words, environment={"PYTHONPATH": ROOT}, **settings)


def step(concurrency: int, rate: float, errors: float = 0.0) -> Step:
    return Step(concurrency, rate, 1, 2, 3, errors)


def test_the_limit_of_a_model_is_recognised(place: Path) -> None:
    """A model that does four at once: eight bring nothing, so four is the setting."""
    done = bench(place, "python:tests.support.python_models:four_at_once", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert [s["concurrency"] for s in found["steps"]] == [1, 2, 4, 8]
    assert found["concurrency"] == 4
    for one in found["steps"]:
        assert 0 < one["p50"] <= one["p95"] <= one["p99"]
        assert one["errors"] == 0


def test_the_best_batch_of_a_model_is_found_first(place: Path) -> None:
    """20 ms a call and 1 ms a row: long arrays bring most of what there is to gain, by many times."""
    done = bench(place, "python:tests.support.python_models:batched", "--json", MODELS__M__BATCH_SIZE="2")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["batch_size"] >= 32
    rates = {s["batch_size"]: s["rate"] for s in found["steps"] if s["concurrency"] == 1}
    assert rates[32] > 5 * rates[1]
    assert {s["batch_size"] for s in found["steps"] if s["concurrency"] > 1} == {found["batch_size"]}


def test_a_person_gets_a_table_and_the_setting_to_paste(place: Path) -> None:
    """An HTTP model, called with the payload that was given."""

    def behave(payload: Any) -> Any:
        time.sleep(0.01)
        return echo(payload)

    with StubModel(behave) as model:
        done = bench(place, model.url, "--payload", '{"b":1,"a":2}')
        assert model.payloads[0] == {"a": 2, "b": 1}
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["concurrency", "calls/s", "p50", "ms", "p95", "ms", "p99", "ms", "failed"]
    assert lines[1].split()[0] == "1"
    assert lines[-2] == "[models.m]"
    assert lines[-1].startswith("concurrency = ")


def test_a_model_that_only_fails_is_said_so(place: Path) -> None:
    """Exit 1, one step, and what the model said."""
    with StubModel(status(500)) as model:
        done = bench(place, model.url)
    assert done.returncode == 1
    assert "model answered 500" in done.stderr


@pytest.mark.parametrize("arguments", [("--payload", "nope"), ("--payloads", "nowhere"), ("--seconds", "0")])
def test_what_cannot_be_tried_is_refused(place: Path, arguments: tuple[str, str]) -> None:
    """Exit 2, a sentence, no traceback."""
    done = bench(place, "http://127.0.0.1:1/", *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_it_stops_where_more_brings_no_more() -> None:
    """Less than 5 % more, or more errors, is no gain; the last gain is the setting."""
    rates = {1: step(1, 10), 2: step(2, 20), 4: step(4, 20.9), 8: step(8, 99)}
    steps = list(climb(rates.__getitem__))
    assert [s.concurrency for s in steps] == [1, 2, 4]
    assert chosen(steps) is steps[1]
    assert chosen(found := [step(1, 10), step(2, 20, errors=0.2)]) is found[0]
    assert chosen([step(1, 0, errors=1.0)]) is None
