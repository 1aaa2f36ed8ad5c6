"""Where a peer beats us: in any figure that both have, on the same broker."""

from collections.abc import Iterator

from bench.contestants import OURS, peers
from bench.results import Results
from bench.stats import short
from bench.visit import LATENCY, START

_LEAST = {
    "p50": "ms",
    "p99": "ms",
    "seconds": "s to the first reply",
    "idle MB": "MB idle",
    "worker_cpu": "CPU s of the worker per 1,000",
    "server_cpu": "CPU s of the servers per 1,000",
    "rss": "MB after",
}
_MOST = {"rate": "/s", "enqueued": "/s"}


def ahead(results: Results) -> str:
    """Each with both medians; or that there is none."""
    if not results.figures:
        return ""
    found = [f"- {line}" for line in _lines(results)]
    if not found:
        return "No peer is ahead of us in any figure that it has."
    return "A peer is ahead of us here:\n\n" + "\n".join(found)


def _lines(results: Results) -> Iterator[str]:
    for workload in results.figures:
        if workload in (LATENCY, START) or workload.startswith("hits"):
            for ours, kind in zip(OURS, ("redis", "rabbit"), strict=True):
                for peer in (peer.name for peer in peers() if peer.kind == kind):
                    yield from _beaten(results, workload, ours, peer)


def _beaten(results: Results, workload: str, ours: str, peer: str) -> Iterator[str]:
    for name, unit in {**_LEAST, **_MOST}.items():
        own, theirs = (results.summary(workload, who, name) for who in (ours, peer))
        if own is None or theirs is None:
            continue
        if theirs.median < own.median if name in _LEAST else theirs.median > own.median:
            yield f"{peer}: {workload}, {name} {short(theirs.median)} {unit} (ours {short(own.median)})"
