"""The whole system on real texts, twice: `make demo`.

Starts the embedded server, a model service and two workers, sends every text through them two times, and
takes everything down again, also after Ctrl-C. The last line says what came of it: `requests` is the number
of texts, `replies` how many of them were answered in both passes; model calls are the model's own count.
"""

import sys

from examples.passes import TEXTS, Outcome, Stage, counted_by, perform

LATENCY_MS = 50
WORKERS = 2
CONCURRENCY = 8


def _play(stage: Stage) -> dict[str, Outcome]:
    texts = TEXTS.read_bytes().count(b"\n")
    print(f"{texts:,} real texts, {WORKERS} workers, and a model service: sentiment scores by textblob.")
    print(
        f"The scores are real; {LATENCY_MS} ms of latency on each call stand in for a deep model.", flush=True
    )
    url = stage.start_model("examples.model", f"--latency-ms={LATENCY_MS}")
    stage.set(MODELS__SENTIMENT__TARGET=url, MODELS__SENTIMENT__CONCURRENCY=str(CONCURRENCY))
    print("\nMetrics  " + "\n         ".join(stage.start_workers(WORKERS)))
    return {"demo": stage.run_both(counted_by(url.replace("/predict", "/calls")))}


if __name__ == "__main__":
    sys.exit(perform(_play))
