"""A real deep model on real texts, twice over HTTP and twice as a Python target: `make deep`.

One worker serves both: `http` is examples/deep/serve.py in a process of its own, `python` the same model
inside the worker. No latency is added. The last lines say what came of it, as that of `make demo` does.
"""

import sys
from pathlib import Path
from typing import Any

from examples.deep.model import embed_batch, encoder
from examples.passes import TEXTS, Outcome, Stage, counted_by, perform

BATCH = 32
TALLY = Path("python-calls")


def counted(payloads: list[Any]) -> list[Any]:
    """The Python target: embed_batch, and a byte for each call in a file of the worker's own directory."""
    with TALLY.open("ab") as tally:
        tally.write(b".")
    return embed_batch(payloads)


counted.warm = encoder  # type: ignore[attr-defined]


def _play(stage: Stage) -> dict[str, Outcome]:
    texts = TEXTS.read_bytes().count(b"\n")
    print(f"{texts:,} real texts, a worker, and a deep model: sentence vectors by all-MiniLM-L6-v2.")
    print(f"Up to {BATCH} texts share a call; no latency is added.", flush=True)
    url = stage.start_model("examples.deep.serve")
    tally = stage.place / TALLY
    tally.touch()
    for name, target in (("HTTP", url), ("PYTHON", "python:examples.deep.demo:counted")):
        # Two calls at once: while one computes, the other's vectors become JSON.
        stage.set(**{f"MODELS__{name}__TARGET": target, f"MODELS__{name}__CONCURRENCY": "2"})
        stage.set(**{f"MODELS__{name}__BATCH_SIZE": str(BATCH)})
    print("\nMetrics  " + "\n         ".join(stage.start_workers(1)))
    return {
        "deep over HTTP": stage.run_both(counted_by(url.replace("/predict", "/calls")), "http"),
        "deep in the worker": stage.run_both(lambda: tally.stat().st_size, "python"),
    }


if __name__ == "__main__":
    sys.exit(perform(_play))
