"""How the page asks, waits, heals and acts, in a real browser; time passes there when a test says so."""

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
NO_STORAGE = """Object.defineProperty(window, "localStorage", {
  get() { throw new DOMException("denied", "SecurityError"); }
});"""

FIND_CONTROLS = """() => {
  window.wanted = [...document.querySelectorAll("a[href], button, select, input, summary, [tabindex='0']")]
    .filter(n => n.checkVisibility() && !n.disabled && !(n.type === "radio" && !n.checked));
  window.nameless = wanted.filter(n => !n.labels?.length && !n.ariaLabel && !n.textContent.trim())
    .map(n => n.outerHTML);
  window.met = new Set();
  window.dull = [];
}"""
MEET_FOCUS = """() => {
  const n = document.activeElement, shown = n.type === "radio" ? n.closest("label") : n;
  met.add(n);
  if (n !== document.body && getComputedStyle(shown).outlineStyle === "none") dull.push(n.outerHTML);
}"""


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
    stub.state = states.falling_behind()
    browser.run(HIDE, False)
    browser.until_text("#verdict", "Falling behind")
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
    """Each control has the focus once on a way through the page, shows it, and has a name."""
    stub.state = states.falling_behind() | {"allows_actions": True}
    opened(browser, stub)
    browser.run(FIND_CONTROLS)
    for _ in range(browser.run("() => wanted.length") + 2):
        browser.press("Tab")
        browser.run(MEET_FOCUS)
    assert browser.run("() => wanted.length") > 20
    assert browser.run("() => wanted.filter(n => !met.has(n)).map(n => n.outerHTML)") == []
    assert browser.run("() => dull") == []
    assert browser.run("() => nameless") == []
