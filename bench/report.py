"""The page: tables from the results, nothing that was not measured."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.baselines import BARE, ECHO, SWAP
from bench.contestants import OURS, peers
from bench.endurance import WORKLOAD as MEMORY
from bench.growth import ENTRIES, PAYLOADS, WORKERS
from bench.misses import CONCURRENCIES
from bench.misses import workload as misses
from bench.results import Results
from bench.stats import Summary, short
from bench.targets import targets
from bench.visit import LATENCY, START, hits

HOW = Path(__file__).with_name("how.md")
Row = Sequence[str]


def page(results: Results, pictures: dict[str, str]) -> str:
    """The whole of it. `pictures` are titles by file name, relative to the page."""
    parts = [
        "# Benchmarks",
        _opening(results),
        _targets(results),
        _ahead(results),
        *_failures(results),
        *_hits(results),
        *_rest(results),
        *(f"![{title}]({name})" for name, title in pictures.items()),
        HOW.read_text("utf-8").strip(),
        _settings(results),
        _machine(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _opening(results: Results) -> str:
    facts = results.facts
    return (
        f"Made by `make bench` on {facts.get('date')}: {facts.get('rounds')} alternating rounds on "
        f"{facts.get('cores')} cores ({facts.get('cpu')}). Figures of one machine and one run: compare them "
        "with each other, not with those of another page."
    )


def _targets(results: Results) -> str:
    rows = []
    for target in targets():
        value = target.measured(results)
        wanted = f"{'at most' if target.at_most else 'at least'} {short(target.wanted)}"
        rows.append((target.says, "-" if value is None else short(value), wanted, target.verdict(results)))
    return "## What was to be shown\n\n" + table(("", "measured", "wanted", ""), rows)


def _ahead(results: Results) -> str:
    """Every peer that beats us on its own broker, in any figure that both have."""
    found = []
    for workload, name, least in (
        *_RACES,
        *((w, "rate", False) for w in results.figures if w.startswith("hits")),
    ):
        for ours, kind in zip(OURS, ("redis", "rabbit"), strict=True):
            own = results.summary(workload, ours, name)
            for peer in peers():
                theirs = results.summary(workload, peer.name, name)
                if own and theirs and peer.kind == kind and (theirs.median < own.median) == least:
                    found.append(
                        f"{peer.name}: {workload}, {name} {short(theirs.median)} (ours {short(own.median)})"
                    )
    if not found:
        return "No peer is ahead of us in any figure of this page."
    return "A peer is ahead of us here:\n\n" + "\n".join(f"- {line}" for line in found)


_RACES = (
    (LATENCY, "p50", True),
    (LATENCY, "p99", True),
    (START, "seconds", True),
    (START, "idle MB", True),
    (hits(400, False), "enqueued", False),
)


def _failures(results: Results) -> Iterable[str]:
    if results.skipped:
        yield "\n".join(f"Skipped: {name}. {why}." for name, why in results.skipped.items())
    if results.failures:
        rows = [(f["workload"], f["contestant"], _one_line(f["error"])) for f in results.failures]
        yield "## Failures\n\n" + table(("workload", "contestant", "error"), rows)


def _hits(results: Results) -> Iterable[str]:
    columns = (
        ("rate", "hits/s"),
        ("worker_cpu", "worker CPU s per 1,000"),
        ("server_cpu", "servers' CPU s per 1,000"),
        ("rss", "MB after"),
    )
    for workload in results.figures:
        if workload.startswith("hits"):
            yield f"## {workload.capitalize()}-request messages\n\n" + _by(results, workload, columns, "rate")
    yield "## Enqueued, single-request messages\n\n" + _by(
        results, hits(400, False), (("enqueued", "requests/s"),), "enqueued"
    )


def _rest(results: Results) -> Iterable[str]:
    yield "## One request in flight\n\n" + _by(
        results, LATENCY, (("p50", "p50, ms"), ("p99", "p99, ms")), "p50", least=True
    )
    yield "## Start\n\n" + _by(
        results, START, (("seconds", "to the first reply, s"), ("idle MB", "idle, MB")), "seconds", least=True
    )
    for concurrency in CONCURRENCIES:
        if misses(concurrency) in results.figures:
            yield f"## {misses(concurrency).capitalize()}, model of 50 ms\n\n" + _by(
                results, misses(concurrency), (("rate", "requests/s"),), "rate"
            )
    yield _reruns(results)
    if MEMORY in results.figures:
        names = list(next(iter(results.figures[MEMORY].values())))
        yield "## Memory\n\n" + _by(results, MEMORY, [(name, name) for name in names], names[0])
    for workload, what in ((PAYLOADS, "bytes"), (ENTRIES, "entries"), (WORKERS, "workers")):
        if workload in results.figures:
            rows = [
                (f"{int(n):,}", _shown(results.summary(workload, n, "rate")))
                for n in results.figures[workload]
            ]
            yield f"## As the number of {what} grows\n\n" + table((what, "requests/s"), rows)
    on, off = (results.summary("cache", which, "rate") for which in ("on", "off"))
    if on and off:
        yield (
            "## Cache on against cache off\n\n"
            + table(("cache", "requests/s"), (("on", _shown(on)), ("off", _shown(off))))
        ) + f"\n\nThe demo's two workers and its model, 90 % repeats: {short(on.median / off.median)} times."


def _reruns(results: Results) -> str:
    rows = []
    for workload, runs in results.figures.items():
        if workload.startswith("re-run"):
            for which, figures in runs.items():
                rows.append(
                    (workload, which, *(_shown(results.summary(workload, which, name)) for name in figures))
                )
    header = ("", "", "whole command, s", "producer's clock, s")
    return "## The same file again\n\n" + table(header, rows) if rows else ""


def _by(
    results: Results, workload: str, columns: Sequence[tuple[str, str]], order: str, *, least: bool = False
) -> str:
    """A table of all contestants that have the figure, the best first."""
    ranked = [
        (summary.median, who)
        for who in results.contestants(workload)
        if (summary := results.summary(workload, who, order))
    ]
    rows = []
    for _, who in sorted(ranked, reverse=not least):
        name = f"**{who}**" if who in OURS else f"*{who}*" if who in (BARE, ECHO, SWAP) else who
        rows.append((name, *(_shown(results.summary(workload, who, figure)) for figure, _ in columns)))
    return table(("", *(title for _, title in columns)), rows)


def _settings(results: Results) -> str:
    rows = [(name, said, promise) for name, (said, promise) in results.facts.get("settings", {}).items()]
    return "## Settings of the peers\n\n" + table(("", "settings", "promise"), rows) if rows else ""


def _machine(results: Results) -> str:
    rows = []
    for name, value in results.facts.items():
        if name == "settings":
            continue
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        rows.append((name, shown))
    return "## Machine and versions\n\n" + table(("", ""), rows)


def table(header: Row, rows: Iterable[Row]) -> str:
    """A table; what has no figure shows a dash."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _shown(summary: Summary | None) -> str:
    if summary is None:
        return "-"
    if summary.rounds == 1:
        return short(summary.median)
    return f"{short(summary.median)} ({short(summary.least)}-{short(summary.most)})"


def _one_line(text: str) -> str:
    return " ".join(text.split())[-300:]
