"""What the page does for a person: actions, asked for first, and the look at one entry; in a real browser."""

import json
from typing import Any

import pytest

from tests.support import page_states as states
from tests.support.browser import Browser
from tests.support.page_stub import PageStub
from tests.support.waiting import until

PRESSED = """() => [...document.querySelectorAll("main button")]
  .filter(button => button.checkVisibility() && !button.matches(".info, #lookup *")).length"""


def opened(browser: Browser, stub: PageStub) -> None:
    browser.open(stub.url)
    browser.until_text("#fresh", "updated")


def test_a_read_only_server_offers_nothing_to_press(browser: Browser, stub: PageStub) -> None:
    """And says so."""
    opened(browser, stub)
    assert browser.text("#readonly") == "read-only"
    assert browser.run(PRESSED) == 0


@pytest.mark.parametrize(
    ("button", "named", "body"),
    [
        (
            "[data-items=broken] tr:nth-child(3) button:nth-child(1)",
            "all poison letters",
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
    assert named in browser.text("#sure")
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
    (asked,) = [path for path in stub.asked if path.startswith("/lookup")]
    assert asked == "/lookup?q=%7B%22text%22%3A+%22a%26b%3Dc%22%7D"
    browser.click("#reveal")
    shown = browser.until_text("#result", "secret")
    assert "9007199254740993" in shown
    assert json.loads(shown) == entry["result"]
    stub.looked_up = 400, {"error": "<i>neither a key nor JSON</i>"}
    browser.fill("#query", "{")
    browser.press("Enter")
    browser.until_text("#not-found", "<i>neither a key nor JSON</i>")
    assert browser.text("#found") == ""
