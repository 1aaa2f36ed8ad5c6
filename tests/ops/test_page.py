"""The page of a fleet, in a real browser, against a server that says what a test wants."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.support import page_states as states
from tests.support.browser import Browser, needs
from tests.support.page_stub import PAGE, PageStub
from wire.errors import Outcome
from worker.metrics import Metrics

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"
ALL = {
    "working": states.working,
    "falling behind": states.falling_behind,
    "broker down": states.broker_down,
    "cache down": states.cache_down,
    "empty": states.empty,
    "nothing known": states.nothing_known,
    "hostile": lambda: states.hostile(HOSTILE),
    "huge": states.huge,
    "week": states.week,
}
FIGURES = """() => [...document.querySelectorAll("[data-figure]")]
  .map(node => [node.dataset.figure, node.dataset.of ?? null, node.dataset.value])"""


def seen(browser: Browser, stub: PageStub, **how: Any) -> dict[tuple[str, str | None], str]:
    """Open the page and wait for its figures: (figure, of what) to the value as it stands in the page."""
    browser.open(stub.url, **how)
    browser.until_text("#fresh", "updated")
    return figures(browser)


def figures(browser: Browser) -> dict[tuple[str, str | None], str]:
    return {(name, of): value for name, of, value in browser.run(FIGURES)}


@pytest.mark.parametrize("name", ALL)
def test_every_state_is_shown_without_a_complaint(browser: Browser, stub: PageStub, name: str) -> None:
    """No error, no breach of the policy, nobody else asked, nothing of a stranger run, nothing sticks out."""
    stub.state = ALL[name]() | {"allows_actions": True}
    seen(browser, stub)
    browser.run("() => { for (const part of document.querySelectorAll('details')) part.open = true; }")
    for width in (1280, 800, 360):
        browser.resize(width, 900)
        assert browser.run("() => document.documentElement.scrollWidth") <= width
    assert browser.said() == []
    assert browser.hosts() == [stub.url.split("/")[2]]
    assert browser.run("() => document.querySelectorAll('img, main script').length") == 0


@pytest.mark.parametrize(
    "name", ["working", "falling behind", "broker down", "cache down", "huge", "nothing known"]
)
def test_figures_are_those_of_the_server(browser: Browser, stub: PageStub, name: str) -> None:
    """Each number of the JSON stands in the page as it came."""
    state = stub.state = ALL[name]()
    shown = seen(browser, stub)

    def same(value: float | None, figure: str, of: str | None = None) -> None:
        found = shown[figure, of]
        assert (float(found) if found else None) == (None if value is None else float(value)), figure

    for total in set(state["totals"]) - {"outcomes"}:
        same(state["totals"][total], total)
    for outcome, count in (state["totals"]["outcomes"] or {}).items():
        if count:
            same(count, f"outcome_{outcome}")
    for kind, of, keys in (
        ("queue", "name", ("messages", "oldest_seconds")),
        (
            "model",
            "name",
            ("calls_per_second", "p50_seconds", "p99_seconds", "attempts_per_call", "busy", "workers_down"),
        ),
        ("worker", "id", ("busy", "in_progress", "requests_per_second", "rss_bytes", "seen_seconds_ago")),
    ):
        for item in state[f"{kind}s"]:
            for key in keys:
                same(item[key], f"{kind}_{key}", item[of])
    for key in ("memory_bytes", "maxmemory_bytes", "evicted"):
        same(state["services"]["cache"][key], f"services.cache.{key}")
    assert browser.text("#verdict").endswith(state["verdict"]["text"])
    assert (
        browser.run("() => document.querySelector('[role=status]').textContent") == state["verdict"]["text"]
    )


def test_numbers_are_written_as_people_read_them(browser: Browser, stub: PageStub) -> None:
    """Units that fit, and a ratio that is not quite all is never called all."""
    stub.state = states.working()
    stub.state["totals"] |= {"saved_seconds": 824400.0, "hit_ratio": 0.99999, "failed_ratio": 0.0001}
    seen(browser, stub)
    written = {
        name: browser.text(f"[data-figure={name}]")
        for name in (
            "saved_seconds",
            "hit_ratio",
            "failed_ratio",
            "waiting",
            "oldest_seconds",
            "empty_in_seconds",
        )
    }
    assert written == {
        "saved_seconds": "229 h",
        "hit_ratio": "> 99.99 %",
        "failed_ratio": "0.01 %",
        "waiting": "12,418",
        "oldest_seconds": "3.2 s",
        "empty_in_seconds": "3 s",
    }
    assert browser.text("[data-figure=model_p50_seconds]") == "180 ms"
    assert browser.text("[data-figure='services.cache.memory_bytes']") == "611 MiB"


def test_a_change_is_shown_at_the_next_poll(browser: Browser, stub: PageStub) -> None:
    """Two seconds later, without a reload."""
    seen(browser, stub)
    changed = states.falling_behind()
    changed["models"][0]["workers_down"] = 1
    stub.state = changed
    browser.until_text("#verdict", "Falling behind")
    assert float(figures(browser)["waiting", None]) == changed["totals"]["waiting"]
    assert "open on 1 of 3" in browser.text("[data-items=models]")
    assert browser.run("() => document.title").startswith("▲ Falling behind")


def test_outcomes_differ_by_more_than_colour(browser: Browser, stub: PageStub) -> None:
    """Each outcome of the contract has a hatching of its own, a name and a number."""
    stub.state["totals"]["outcomes"] = {outcome.value: 5 for outcome in Outcome}
    stub.state["series"]["outcomes"] = {outcome.value: [1] * 15 for outcome in Outcome}
    seen(browser, stub)
    hatched = browser.run(
        "() => [...document.querySelectorAll('pattern')].map(p => [p.id, p.lastChild.getAttribute('d')])"
    )
    assert {name for name, _ in hatched} == {f"p-{outcome.value}" for outcome in Outcome}
    assert len({path for _, path in hatched}) == len(Outcome)
    legend = browser.text("#legend")
    assert all(outcome.value.replace("_", " ") in legend for outcome in Outcome)
    assert browser.run("() => document.querySelectorAll('#chart-outcomes g rect').length") == 15 * len(
        Outcome
    )


def test_a_chart_is_read_by_keys_and_as_a_table(browser: Browser, stub: PageStub) -> None:
    """The numbers behind a bar are there for those who do not see it or point at it."""
    seen(browser, stub)
    browser.run("() => document.getElementById('chart-outcomes').focus()")
    browser.press("ArrowLeft")
    hits = stub.state["series"]["outcomes"]["hit"]
    assert f"hit {hits[-2]:,}" in browser.text("#read-outcomes")
    browser.click("#numbers summary")
    rows = browser.run(
        "() => [...document.querySelectorAll('#numbers tbody tr')].map(r => r.cells[1].textContent)"
    )
    assert rows == [f"{count:,}" for count in reversed(hits)]
    assert browser.text("#marks").endswith("sentiment version 2")


def test_colours_can_be_read(browser: Browser, stub: PageStub) -> None:
    """Every text has the contrast of WCAG AA to what is behind it, light and dark."""
    script = (Path(__file__).parent / "contrast.js").read_text()
    for scheme in ("light", "dark"):
        for state in (states.working(), states.falling_behind(), states.broker_down(), states.empty()):
            stub.state = state | {"allows_actions": True}
            seen(browser, stub, scheme=scheme)
            assert browser.run(script) == [], scheme


@pytest.mark.parametrize("model", ["", 'a"b\\c'])
def test_what_a_tooltip_says_can_be_asked(
    browser: Browser, stub: PageStub, model: str, tmp_path: Path
) -> None:
    """Its PromQL parses, for any model's name, and names only metrics that a worker has."""
    needs("" if shutil.which("promtool") else "there is no promtool on this machine")
    browser.open(f"{stub.url}#{urlencode({'model': model})}")
    browser.until_text("#fresh", "updated")
    asked = browser.run("() => [...document.querySelectorAll('.tip code')].map(n => n.textContent)")
    assert len(asked) >= 6
    rules = [{"record": f"page:figure:{number}", "expr": query} for number, query in enumerate(asked)]
    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"groups": [{"name": "page", "rules": rules}]}))
    subprocess.run(["promtool", "check", "rules", str(file)], check=True, capture_output=True)
    known = {family.name for family in Metrics(["m"], "1").registry.collect()}
    for name in re.findall(r"recollect_\w+", " ".join(asked)):
        assert name.removesuffix("_total") in known


def test_the_page_asks_nobody_else_for_anything() -> None:
    """One file: no address of another host, nothing to fetch, no handler or style in the markup."""
    text = PAGE.read_text()
    assert set(re.findall(r"https?://[^\s\"')]+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<[^>]+\s(on\w+|style|src)=", text.split("<script")[0].split("</style>")[1])
    assert "innerHTML" not in text
    assert "insertAdjacentHTML" not in text
    assert text.count("__NONCE__") == 2
