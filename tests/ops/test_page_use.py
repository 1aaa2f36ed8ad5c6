"""How the page asks, waits, heals and acts, in a real browser; time passes there when a test says so."""

import json
from typing import Any

import pytest

from tests.support import page_states as states
from tests.support.browser import Browser
from tests.support.page_stub import PageStub
from tests.support.waiting import until

HIDE = """hidden => {
  Object.defineProperty(document, "hidden", { get: () => hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
NO_STORAGE = "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('denied', 'SecurityError'); } });"


def opened(browser: Browser, stub: PageStub, **how: Any) -> None:
    browser.open(stub.url, **how)
    browser.until_text("#fresh", "updated")


def asked(stub: PageStub, more_than: int) -> int:
    """How often it has been asked, once that is more than so often."""
    return until(lambda: len(stub.polls()) if len(stub.polls()) > more_than else 0, what="another poll")


def test_it_asks_every_two_seconds_while_somebody_looks(browser: Browser, stub: PageStub) -> None:
    """Not while its tab is hidden, at once when it is seen again, and not while it is told to pause."""
    opened(browser, stub, stopped=True)
    before = len(stub.polls())
    browser.pass_seconds(2)
    before = asked(stub, before)
    browser.run(HIDE, True)
    browser.pass_seconds(600)
    browser.run("() => fetch('lookup')")  # whatever was asked before this has arrived
    assert len(stub.polls()) == before
    browser.run(HIDE, False)
    before = asked(stub, before)
    browser.click("#hold")
    browser.pass_seconds(600)
    browser.run("() => fetch('lookup')")
    assert len(stub.polls()) == before
    assert browser.text("#fresh") == "paused, updated 10 min ago"
    assert browser.run("() => document.body.className").split() == ["is-stale"]
    assert browser.run("() => document.getElementById('hold').getAttribute('aria-pressed')") == "true"
    browser.click("#hold")
    asked(stub, before)
    browser.until_text("#fresh", "updated 0 s ago")


def test_a_question_that_hangs_is_given_up_before_the_next(browser: Browser, stub: PageStub) -> None:
    """One at a time, five seconds each; the figures turn grey, and it says whose they are."""
    opened(browser, stub, stopped=True)
    stub.hangs = True
    before = len(stub.polls())
    browser.pass_seconds(2)
    before = asked(stub, before)
    browser.pass_seconds(4.9)
    browser.run("() => fetch('lookup')")
    assert len(stub.polls()) == before
    assert browser.text("#away") == ""
    browser.pass_seconds(0.2)
    assert "no answer within 5 s" in browser.until_text("#away", "does not answer")
    assert "those of 14:02:45 UTC" in browser.text("#away")
    assert "is-stale" in browser.run("() => document.body.className")
    stub.hangs = False
    browser.pass_seconds(2)
    until(lambda: browser.text("#away") == "", what="healing")


def test_it_heals_when_its_server_is_back(browser: Browser, stub: PageStub) -> None:
    """A worker that is gone is said to be gone; nobody has to reload."""
    opened(browser, stub)
    stub.stop()
    said = browser.until_text("#away", "does not answer")
    assert f"Tried 127.0.0.1:{stub.port}: no connection" in said
    assert "Trying again every 2 s" in said
    assert browser.text("[data-figure=waiting]") == "12,418"
    stub.state = states.falling_behind()
    stub.start()
    browser.until_text("#verdict", "Falling behind")
    assert browser.text("#away") == ""
    assert "is-stale" not in browser.run("() => document.body.className")


@pytest.mark.parametrize(
    ("state", "said"), [(503, "it answered 503"), (b"<html>", "something else than JSON")]
)
def test_an_answer_of_another_kind_is_said(browser: Browser, stub: PageStub, state: Any, said: str) -> None:
    """A proxy's error page in between, say."""
    stub.state = state
    browser.open(stub.url)
    browser.until_text("#away", said)
    stub.state = states.working()
    browser.until_text("#verdict", "Working, keeping up")
    assert browser.text("#away") == ""


@pytest.mark.parametrize(
    ("state", "box", "said"),
    [
        (states.broker_down, "#no-broker", ["redis://queue:6379/0", "Connection refused", "not running"]),
        (
            states.cache_down,
            "#no-cache",
            ["redis://cache:6379/0", "Timeout connecting", "costs a model call"],
        ),
    ],
)
def test_a_service_that_is_away_is_a_page(
    browser: Browser, stub: PageStub, state: Any, box: str, said: list[str]
) -> None:
    """What was tried, the likely causes, that it is tried again; and it goes when it is over."""
    opened(browser, stub)
    assert browser.text(box) == ""
    stub.state = state()
    text = browser.until_text(box, "cannot be reached")
    assert all(words in text for words in [*said, "Likely causes", "Trying again every 2 s"])
    stub.state = states.working()
    until(lambda: browser.text(box) == "", what="healing")


def test_an_empty_fleet_says_what_to_run(browser: Browser, stub: PageStub) -> None:
    """Two commands, and no word of them once something has happened."""
    stub.state = states.empty()
    opened(browser, stub)
    text = browser.text("#first")
    assert "python -m worker run" in text
    assert "python -m producer call" in text
    stub.state = states.working()
    until(lambda: browser.text("#first") == "", what="figures")


@pytest.mark.parametrize("script", ["", NO_STORAGE])
def test_what_is_looked_at_is_kept(browser: Browser, stub: PageStub, script: str) -> None:
    """In the address, and where the browser allows it also for a visit without one."""
    opened(browser, stub, script=script)
    browser.click("#window input[value='3600']")
    browser.choose("#model", "language")
    until(lambda: stub.polls()[-1] == "/status.json?window=3600&model=language", what="the question")
    assert browser.run("() => location.hash") == "#window=3600&model=language"
    assert 'model="language"' in browser.run("() => document.querySelector('.tip code').textContent")
    browser.reload()
    until(lambda: stub.asked[-2:] == ["/", "/status.json?window=3600&model=language"], what="the same again")
    browser.run("() => { location.hash = ''; location.reload(); }")
    kept = "/status.json?window=3600&model=language" if not script else "/status.json?window=900"
    until(lambda: stub.asked[-2:] == ["/", kept], what="what storage keeps")
    assert browser.said() == []


def test_the_keyboard_reaches_everything(browser: Browser, stub: PageStub) -> None:
    """Each control has the focus once on a way through the page, and shows it."""
    stub.state = states.falling_behind() | {"allows_actions": True}
    opened(browser, stub)
    browser.run("""() => {
      window.wanted = [...document.querySelectorAll("a[href], button, select, input, summary, [tabindex='0']")]
        .filter(n => n.checkVisibility() && !n.disabled && !(n.type === "radio" && !n.checked));
      window.met = new Set(); window.dull = [];
    }""")
    mark = """() => {
      const n = document.activeElement, shown = n.type === "radio" ? n.closest("label") : n;
      window.met.add(n);
      if (n !== document.body && getComputedStyle(shown).outlineStyle === "none") window.dull.push(n.outerHTML);
    }"""
    for _ in range(browser.run("() => wanted.length") + 2):
        browser.press("Tab")
        browser.run(mark)
    assert browser.run("() => wanted.filter(n => !met.has(n)).map(n => n.outerHTML)") == []
    assert browser.run("() => dull") == []
    assert (
        browser.run(
            "() => wanted.filter(n => n.matches('button, input, select') && !n.labels?.length && !n.ariaLabel && !n.textContent.trim()).length"
        )
        == 0
    )


def test_a_read_only_server_offers_nothing_to_press(browser: Browser, stub: PageStub) -> None:
    """And says so."""
    opened(browser, stub)
    assert browser.text("#readonly") == "read-only"
    assert (
        browser.run(
            "() => [...document.querySelectorAll('main button')].filter(b => b.checkVisibility() && !b.matches('.info, #lookup *')).length"
        )
        == 0
    )


@pytest.mark.parametrize(
    ("button", "named", "body"),
    [
        (
            "[data-items=broken] tr:nth-child(3) button:nth-child(1)",
            "Replay the poison",
            {"action": "replay", "reason": "poison"},
        ),
        (
            "[data-items=broken] tr:nth-child(3) button:nth-child(2)",
            "never answered",
            {"action": "purge_dead", "reason": "poison"},
        ),
        ("#letters button:nth-child(1)", "There are 4 now", {"action": "replay", "reason": None}),
        ("#letters button:nth-child(2)", "There are 4 now", {"action": "purge_dead", "reason": None}),
        (
            "[data-items=models] tr:nth-child(1) button",
            "costs a model call",
            {"action": "purge_cache", "model": "sentiment"},
        ),
        ("#rest", "nothing is lost", {"action": "pause"}),
    ],
)
def test_an_action_is_asked_for_first(
    browser: Browser, stub: PageStub, button: str, named: str, body: dict[str, Any]
) -> None:
    """The question names what and how many; only a yes sends it, as one from this page."""
    stub.state = states.falling_behind() | {"allows_actions": True}
    opened(browser, stub)
    browser.click(button)
    assert named in browser.text("#sure") or named.lower() in browser.text("#sure").lower()
    browser.press("Escape")
    browser.click(button)
    browser.press("Enter")  # the focus is on Cancel
    assert browser.text("#sure") == ""
    assert stub.posted == []
    browser.click(button)
    browser.click("#yes")
    until(lambda: stub.posted, what="the action")
    assert stub.posted == [{**body, "header": "1", "origin": stub.url.rstrip("/")}]
    until(lambda: "12 letters replayed" in browser.text("main"), what="what was done")


def test_a_paused_fleet_can_be_resumed(browser: Browser, stub: PageStub) -> None:
    """The button says what it would do."""
    stub.state = states.working() | {"allows_actions": True, "is_paused": True}
    opened(browser, stub)
    assert browser.text("#rest") == "Resume the workers"
    browser.click("#rest")
    browser.click("#yes")
    until(lambda: stub.posted, what="the action")
    assert stub.posted[0]["action"] == "resume"


def test_a_refusal_is_said(browser: Browser, stub: PageStub) -> None:
    """The server has the last word."""
    stub.state = states.working() | {"allows_actions": True}
    opened(browser, stub)
    browser.click("#rest")
    stub.state = states.working()
    browser.click("#yes")
    browser.until_text("#said-workers", "Not done: read-only")


def test_an_entry_is_looked_up_and_its_result_shown_when_asked(browser: Browser, stub: PageStub) -> None:
    """What is in a cache may be somebody's secret; and a large integer keeps its digits."""
    entry = {
        "key": "a" * 64,
        "model": "sentiment",
        "version": "1",
        "redis_key": "recollect:k1:sentiment:1:{a}",
        "is_stored": True,
        "age_seconds": 12.0,
        "ttl_seconds": 80000.0,
        "model_seconds": 0.18,
        "size_bytes": 120,
        "result": {"id": 9007199254740993, "score": 1.0, "text": "<b>secret</b>"},
    }
    stub.looked_up = 200, entry
    opened(browser, stub)
    browser.fill("#query", '{"text": "a&b=c"}')
    browser.press("Enter")
    text = browser.until_text("#found", "remembered")
    assert "22 h 13 min" in text
    assert "secret" not in text
    assert (
        stub.asked[-1].split("?")[1].startswith("q=%7B%22text%22%3A+%22a%26b%3Dc%22%7D")
        or "/status.json" in stub.asked[-1]
    )
    browser.click("#reveal")
    shown = browser.until_text("#result", "secret")
    assert "9007199254740993" in shown
    assert json.loads(shown) == entry["result"]
    stub.looked_up = 400, {"error": "<i>neither a key nor JSON</i>"}
    browser.fill("#query", "{")
    browser.press("Enter")
    browser.until_text("#not-found", "<i>neither a key nor JSON</i>")
    assert browser.text("#found") == ""
