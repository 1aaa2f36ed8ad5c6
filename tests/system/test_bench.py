"""The benchmarks themselves, as small as they get: our worker on Redis, one round."""

from pathlib import Path

from bench.outage import outage
from bench.plan import smallest
from bench.results import Results
from bench.stage import Stage
from bench.suite import play, verdicts, write
from bench.visit import LATENCY, START, hits


def test_the_smallest_run_measures_and_writes_its_page(place: Path) -> None:
    """Hits on Redis without peers: rates, latency, start, CPU, the yardsticks, the page with its plots."""
    results = Results()
    with Stage(place / "run", smallest(), results, say=lambda _: None) as stage:
        play(stage, ["hits"], libraries=[], rabbit=False)
        write(stage, place / "page.md")
        lines = verdicts(stage)
    assert results.failures == []
    ours = "recollect, Redis"
    for workload, name in (
        (hits(400, False), "rate"),
        (hits(400, True), "rate"),
        (hits(400, False), "enqueued"),
        (LATENCY, "p99"),
        (START, "seconds"),
    ):
        summary = results.summary(workload, ours, name)
        assert summary is not None, (workload, name)
        assert summary.least > 0
    assert any(
        line.startswith("bench: hits-bare ratio=") and line.endswith(("met", "missed")) for line in lines
    )
    assert "recollect, Redis" in (place / "page.md").read_text()
    assert (place / "page-hits.svg").exists()
    assert Results.load(place / "run" / "results.json").figures == results.figures


def test_the_smallest_outage_loses_nothing_and_says_what_it_saw(place: Path) -> None:
    """All that was sent is answered, hits and misses both, and no figure is missing."""
    with Stage(place / "run", smallest(), Results(), say=lambda _: None) as stage:
        said = outage(stage, before=3.0, seconds=4.0, rate=500.0, misses=0.4)
    assert said["sent"] == said["answered"] > 0
    assert said["outcomes"].keys() == {"hit", "miss"}
    assert said["hits_p99_ms_before"] > 0
    assert said["hits_p99_ms_during"] > 0
    assert said["probes"] <= said["intervals"] + 1
