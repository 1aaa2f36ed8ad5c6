"""The page: tables from the results, nothing that was not measured."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.ahead import ahead
from bench.baselines import BARE, ECHO, SWAP
from bench.contestants import OURS
from bench.endurance import WORKLOAD as MEMORY
from bench.growth import ENTRIES, PAYLOADS, WORKERS
from bench.http_front import FLASK, FRONT, OFF, ON
from bench.misses import CONCURRENCIES, MODEL_MS
from bench.misses import workload as misses
from bench.results import Results
from bench.stats import Summary, ratio, short
from bench.targets import targets
from bench.visit import LATENCY, START

HOW = Path(__file__).with_name("how.md")
Row = Sequence[str]


def page(results: Results, pictures: dict[str, str]) -> str:
    """The whole of it. `pictures` are titles by file name, relative to the page."""
    parts = [
        "# Benchmarks",
        _opening(results),
        _targets(results),
        ahead(results),
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
    if not facts:
        return "Not measured yet: `make bench` writes this page."
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
            yield _section(f"{_titled(workload)} messages", _by(results, workload, columns, "rate"))
            if workload.endswith("single"):
                enqueued = _by(results, workload, (("enqueued", "requests/s"),), "enqueued")
                yield _section(f"Enqueued, {workload.removeprefix('hits ')} messages", enqueued)


def _rest(results: Results) -> Iterable[str]:
    latency = (("p50", "p50, ms"), ("p99", "p99, ms"))
    yield _section("One request in flight", _by(results, LATENCY, latency, "p50", least=True))
    start = (("seconds", "to the first reply, s"), ("idle MB", "idle, MB"))
    yield _section("Start", _by(results, START, start, "seconds", least=True))
    for workload in map(misses, CONCURRENCIES):
        found = _by(results, workload, (("rate", "requests/s"),), "rate")
        yield _section(f"{_titled(workload)}, model of {MODEL_MS} ms", found)
    yield _reruns(results)
    if MEMORY in results.figures:
        names = list(next(iter(results.figures[MEMORY].values())))
        yield _section("Memory", _by(results, MEMORY, [(name, name) for name in names], names[0]))
    yield from _growth(results)
    yield _cache(results)
    yield _http(results)


def _growth(results: Results) -> Iterable[str]:
    for workload, what in ((PAYLOADS, "bytes"), (ENTRIES, "entries"), (WORKERS, "workers")):
        rates = {
            number: results.summary(workload, number, "rate") for number in results.contestants(workload)
        }
        rows = [(f"{int(number):,}", _shown(rate)) for number, rate in rates.items()]
        yield _section(f"As the number of {what} grows", table((what, "requests/s"), rows) if rows else "")


def _cache(results: Results) -> str:
    on, off = (results.summary("cache", which, "rate") for which in ("on", "off"))
    if on is None or off is None:
        return ""
    found = table(("cache", "requests/s"), (("on", _shown(on)), ("off", _shown(off))))
    times = f"The demo's two workers and its model, 90 % repeats: {short(on.median / off.median)} times."
    return _section("Cache on against cache off", f"{found}\n\n{times}")


def _http(results: Results) -> str:
    if ON not in results.figures:
        return ""
    rows = []
    for who in (FRONT, FLASK):
        off, on = (results.summary(workload, who, "rate") for workload in (OFF, ON))
        if times := ratio(on, off):
            waits = [(where, name) for where in (OFF, ON) for name in ("p50", "p99")]
            late = [_shown(results.summary(where, who, name)) for where, name in waits]
            rows.append((who, _shown(off), _shown(on), short(times), *late))
    header = ("", "off, requests/s", "on, requests/s", "on to off")
    millis = tuple(f"{which}, {name} ms" for which in ("off", "on") for name in ("p50", "p99"))
    return _section("Over HTTP, cache off and on", table((*header, *millis), rows))


def _section(title: str, body: str) -> str:
    """With its heading; nothing where there is no body."""
    return f"## {title}\n\n{body}" if body else ""


def _titled(workload: str) -> str:
    return workload[0].upper() + workload[1:]


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
    return table(("", *(title for _, title in columns)), rows) if rows else ""


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
    return _section("Machine and versions", table(("", ""), rows) if rows else "")


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
