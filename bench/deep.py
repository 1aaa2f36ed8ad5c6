"""The re-run on a real deep model: examples/deep over HTTP, many rows to a call, no latency added."""

import json
import re

import orjson

from bench.process import ROOT, Child
from bench.rerun import measure
from bench.stage import Stage

BATCH = 32
WORKLOAD = f"re-run on a deep model, {BATCH} rows a call"
HOME = ROOT / ".deep" / "venv"
_SKIPPED = "its environment is not there (make bench and make deep make it)"
_TEXTS = ROOT / "examples" / "texts.jsonl"
_URL = re.compile(r"model ready (http://\S+)")
_WARM_ROWS = 64


def deep(stage: Stage) -> None:
    """As many first runs and re-runs as the first cell of `reruns`; skipped where the model is not there."""
    if not stage.plan.deep_rows:
        return
    if not (HOME / ".stamp").exists():
        stage.results.skipped["The re-run on a deep model"] = _SKIPPED
        return
    try:
        _measure(stage)
    except Exception as error:
        stage.results.fail(WORKLOAD, "recollect, Redis", error)
        stage.say(f"{WORKLOAD}: FAILED, {error}")


def _measure(stage: Stage) -> None:
    command = [str(HOME / "bin" / "python"), "-m", "examples.deep.serve", "--port=0"]
    model = Child("deep-model", command, stage.place / "logs", {})
    try:
        model.wait_until(lambda: bool(_URL.findall(model.said)), 60, "model")
    except BaseException:
        model.stop()
        raise
    settings = {"TARGET": _URL.findall(model.said)[-1], "BATCH_SIZE": str(BATCH), "CONCURRENCY": "2"}
    rounds = stage.plan.rerun_first_rounds

    def lines(number: int | None) -> list[bytes]:
        return texts(rounds, _WARM_ROWS) if number is None else texts(number, stage.plan.deep_rows)

    measure(stage, WORKLOAD, model, settings, lines, rounds)


def texts(number: int, count: int) -> list[bytes]:
    """Rows of two real sentences each; no row of one number is among those of another."""
    known = [json.loads(line)["text"] for line in _TEXTS.read_bytes().splitlines()]
    return [
        orjson.dumps({"text": f"{known[first]} {known[(first + 1 + number) % len(known)]}"})
        for first in range(min(count, len(known)))
    ]
