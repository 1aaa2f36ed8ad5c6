"""Which plots are made of a run, and where they go."""

from collections.abc import Iterator
from pathlib import Path

from bench.contestants import OURS
from bench.growth import ENTRIES, PAYLOADS, WORKERS
from bench.plots import bars, curve
from bench.results import Results
from bench.visit import LATENCY, hits

_CURVES = (
    (PAYLOADS, "Hits as the payload grows", "bytes of payload"),
    (ENTRIES, "Hits as the cache grows", "entries in the cache"),
    (WORKERS, "Misses as workers are added, model of 50 ms, 8 calls at once each", "workers"),
)


def draw(results: Results, place: Path, stem: str = "benchmarks") -> dict[str, str]:
    """Write the plots into `place`, names beginning with `stem`; their titles by file name."""
    titles = {}
    for kind, title, drawn in _all(results):
        name = f"{stem}-{kind}.svg"
        (place / name).write_text(drawn, "utf-8")
        titles[name] = title
    return titles


def _all(results: Results) -> Iterator[tuple[str, str, str]]:
    races = (
        (hits(400, False), "rate", "hits", "Hits, one request in a message, 400 B", "hits/s"),
        (LATENCY, "p50", "latency", "One request in flight: p50", "ms"),
    )
    for workload, figure, kind, title, unit in races:
        rows = [
            (who, summary)
            for who in results.contestants(workload)
            if (summary := results.summary(workload, who, figure))
        ]
        if rows:
            rows.sort(key=lambda row: row[1].median, reverse=figure == "rate")
            yield kind, title, bars(title, unit, rows, OURS)
    for workload, title, across in _CURVES:
        points = [
            (float(x), summary)
            for x in results.contestants(workload)
            if (summary := results.summary(workload, x, "rate"))
        ]
        if len(points) > 1:
            yield workload.split()[0], title, curve(title, "requests/s", points, across)
