"""The run: sections in order, results kept after each, the page at the end."""

from collections.abc import Callable
from pathlib import Path

from bench import machine
from bench.baselines import yardsticks
from bench.contestants import peers_python
from bench.deep import deep
from bench.endurance import endurance
from bench.growth import growth
from bench.http_front import http_front
from bench.misses import misses
from bench.pictures import draw
from bench.process import ours, run_json
from bench.report import page
from bench.rerun import reruns
from bench.stage import Stage
from bench.targets import targets
from bench.visit import Visits, chosen_peers

_NO_PEERS = "the peers' environment is not there (make bench makes it)"
SECTIONS = ("hits", "misses", "reruns", "deep", "growth", "memory", "cache", "http")


def play(
    stage: Stage, sections: list[str], libraries: list[str] | None = None, *, rabbit: bool = True
) -> None:
    """Run these sections; with `libraries`, only those peers. Results are on disk after each section."""
    rabbit = rabbit and "hits" in sections and stage.start_rabbit()
    results, plan = stage.results, stage.plan
    results.facts.update(machine.describe(stage, rabbit), rounds=plan.rounds, settings=machine.settings())
    steps: dict[str, Callable[[], None]] = {
        "hits": lambda: _hits(stage, ["redis", *(["rabbit"] if rabbit else [])], libraries),
        "misses": lambda: misses(stage),
        "reruns": lambda: reruns(stage),
        "deep": lambda: deep(stage),
        "growth": lambda: growth(stage),
        "memory": lambda: endurance(stage),
        "cache": lambda: _cache(stage),
        "http": lambda: http_front(stage),
    }
    for section in SECTIONS:
        if section in sections:
            stage.say(f"section {section}")
            steps[section]()
            results.save(stage.place / "results.json")


def _hits(stage: Stage, kinds: list[str], libraries: list[str] | None) -> None:
    chosen = [p for p in chosen_peers(stage.plan, kinds) if libraries is None or p.library in libraries]
    if chosen and not peers_python().exists():
        stage.results.skipped["Peers"] = _NO_PEERS
        chosen = []
    visits = Visits(stage, kinds, chosen)
    visits.warm_up()
    for number in range(stage.plan.rounds):
        stage.say(f"round {number + 1} of {stage.plan.rounds}")
        yardsticks(stage, stage.results)
        visits.round()
        stage.results.save(stage.place / "results.json")


def _cache(stage: Stage) -> None:
    if not stage.plan.cache_rows:
        return
    try:
        arguments = (f"--rows={stage.plan.cache_rows}", f"--rounds={stage.plan.rounds}")
        said = run_json(ours("-m", "bench.cache", *arguments), {})
    except Exception as error:
        stage.results.fail("cache", "recollect, Redis", error)
        return
    for which in ("on", "off"):
        for value in said[which]:
            stage.results.add("cache", which, "rate", value)


def write(stage: Stage, target: Path) -> None:
    """The page, and its plots beside it; plots of an earlier page go."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for old in target.parent.glob(f"{target.stem}-*.svg"):
        old.unlink()
    target.write_text(page(stage.results, draw(stage.results, target.parent, target.stem)), "utf-8")


def verdicts(stage: Stage) -> list[str]:
    """A line for each thing to show."""
    return [target.line(stage.results) for target in targets()]
