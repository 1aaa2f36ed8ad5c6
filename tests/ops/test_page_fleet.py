"""The page in a real browser, with real workers behind it."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.browser import Browser
from tests.support.processes import WorkerProcess
from tests.support.rig import Rig
from tests.support.servers import ValkeyServer
from tests.support.stub_model import StubModel, echo, status
from tests.support.waiting import until

OUTCOMES = """() => Object.fromEntries([...document.querySelectorAll("#legend [data-figure]")]
  .map(node => [node.dataset.figure.replace("outcome_", ""), Number(node.dataset.value)]))"""

WAITING = "() => document.querySelector('[data-figure=waiting]').dataset.value"
PAUSE = """() => fetch("actions", {
  method: "POST", headers: { "X-Recollect": "1" }, body: JSON.stringify({ action: "pause" })
}).then(reply => reply.status)"""


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server for the queue alone, which may be stopped and started."""
    server = ValkeyServer(tmp_path / "broker").start()
    yield server
    server.stop()


def visit(browser: Browser, worker: WorkerProcess) -> None:
    address = worker.address("/")
    assert address is not None
    browser.open(address)
    browser.until_text("#fresh", "updated")


def saved(worker: WorkerProcess) -> float:
    families = text_string_to_metric_families(worker.get("/metrics")[1])
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == "recollect_saved_model_seconds_total"
    )


def test_figures_are_the_sum_of_the_workers(browser: Browser, redis_rig: Rig) -> None:
    """Whichever worker shows them; and no complaint under the server's own policy."""
    workers = [redis_rig.work(), redis_rig.work()]
    for payload in [*range(30), *range(30)]:
        redis_rig.call(payload)
    for worker in workers:
        visit(browser, worker)

        def agreed() -> bool:
            counted: Counter[str] = sum((one.outcomes() for one in workers), Counter())
            return bool(counted.total() == 60 and browser.run(OUTCOMES) == dict(counted))

        until(agreed, what="the sum of the workers' figures")
        shown = float(
            browser.run("() => document.querySelector('[data-figure=saved_seconds]').dataset.value")
        )
        assert shown == pytest.approx(sum(map(saved, workers)))
        assert browser.text("[data-figure=hit_ratio]") == "50.0 %"
        until(lambda: "2 working" in browser.text("#sum-workers"), what="both workers")
        assert browser.said() == []
        assert len(browser.hosts()) == 1


def test_a_broker_that_goes_and_comes_back(
    browser: Browser,
    tmp_path: Path,
    own_broker: ValkeyServer,
    valkey: ValkeyServer,
    model: StubModel,
    prefix: str,
) -> None:
    """The page says so with its address, and heals without a reload."""
    rig = Rig(tmp_path, own_broker.url, valkey, model, prefix)
    try:
        visit(browser, rig.work())
        until(lambda: browser.text("#verdict").startswith("○\nReady"), what="a fleet at rest")
        own_broker.stop()
        said = browser.until_text("#no-broker", "cannot be reached")
        assert f"redis://127.0.0.1:{own_broker.port}/0" in said
        assert "The broker does not answer" in browser.text("#verdict")
        assert browser.run(WAITING) == ""
        own_broker.start()
        until(lambda: browser.text("#no-broker") == "", what="healing")
        until(lambda: "Ready" in browser.text("#verdict"), what="a fleet at rest again")
        assert browser.run(WAITING) == "0"
        assert browser.said() == []
    finally:
        rig.close()


def test_a_worker_that_serves_it_may_be_restarted(browser: Browser, redis_rig: Rig, tmp_path: Path) -> None:
    """While it is away the page says so; its successor at the same address is found."""
    first = redis_rig.work()
    address = first.address("")
    assert address is not None
    visit(browser, first)
    first.stop()
    browser.until_text("#away", "does not answer")
    redis_rig.work(HTTP_PORT=address.rstrip("/").rpartition(":")[2])
    until(lambda: browser.text("#away") == "", what="healing")


def test_a_read_only_worker_refuses(browser: Browser, redis_rig: Rig) -> None:
    """Not only the page: the server."""
    visit(browser, redis_rig.work())
    assert browser.text("#readonly") == "read-only"
    assert browser.run(PAUSE) == 405


def test_a_dead_letter_is_replayed(browser: Browser, redis_rig: Rig, model: StubModel) -> None:
    """From the row that shows it, after a question; then it is answered."""
    model.behave = status(400)
    worker = redis_rig.work(DEAD_LETTER_FAILED="true", ALLOW_ACTIONS="true")
    assert redis_rig.call("never seen").status == "error"
    visit(browser, worker)
    browser.until_text("[data-items=broken]", "dead letter")
    browser.until_text("[data-figure=dead_letters]", "1")
    model.behave = echo
    browser.click("[data-items=broken] button[aria-label^='Replay']")
    assert "Replay all failed letters?" in browser.text("#sure")
    browser.click("#yes")
    browser.until_text("#said-broken", "1 sent back")
    until(lambda: browser.run(OUTCOMES).get("miss") == 1, what="the answer")
    until(lambda: browser.text("[data-figure=dead_letters]") == "0", what="no dead letter")


def test_a_fleet_is_paused_and_resumed(browser: Browser, redis_rig: Rig) -> None:
    """And says what a click would do next."""
    visit(browser, redis_rig.work(ALLOW_ACTIONS="true"))
    for button, said in (("Pause the workers", "Paused"), ("Resume the workers", "Ready")):
        browser.until_text("#rest", button)
        browser.click("#rest")
        browser.click("#yes")
        browser.until_text("#verdict", said)


def test_an_entry_is_found_by_its_payload(browser: Browser, redis_rig: Rig) -> None:
    """As a producer would send it; the result only when it is asked for."""
    worker = redis_rig.work()
    reply = redis_rig.call({"text": "a secret"})
    visit(browser, worker)
    browser.fill("#query", '{"text": "a secret"}')
    browser.press("Enter")
    assert str(reply.key) in browser.until_text("#found", "remembered")
    assert "secret" not in browser.text("#found")
    browser.click("#reveal")
    browser.until_text("#result", "a secret")
    browser.fill("#query", "{")
    browser.press("Enter")
    browser.until_text("#not-found", "expected a key")
