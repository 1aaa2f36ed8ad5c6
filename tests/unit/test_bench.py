"""What the benchmarks make of raw figures: summaries, ratios, verdicts, the page, the plots."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bench.baselines import BARE
from bench.contestants import OURS, on, peers
from bench.http_front import FRONT, OFF, ON
from bench.machine import settings
from bench.payloads import analyse, payload
from bench.pictures import draw
from bench.plan import full, quick
from bench.plots import bars, curve
from bench.report import page, table
from bench.results import Results
from bench.stats import Summary, percentile, ratio, short, summarise
from bench.targets import Target, targets
from bench.visit import LATENCY, hits

SINGLE = hits(400, False)


def results() -> Results:
    """Three rounds, in which one peer is faster than us on RabbitMQ and another failed."""
    found = Results(facts={"date": "a day", "rounds": 3, "cores": 2, "cpu": "a CPU", "settings": settings()})
    rates = {OURS[0]: [30, 10, 20], OURS[1]: [5, 5, 5], BARE: [40, 40, 40], "FastStream, RabbitMQ": [6, 7, 8]}
    for who, values in rates.items():
        for value in values:
            found.add(SINGLE, who, "rate", value)
    found.add(LATENCY, OURS[0], "p50", 0.5)
    found.add("payload grows", "100", "rate", 900)
    found.add("payload grows", "1000", "rate", 300)
    found.fail("hits", "Celery solo, Redis", "Failed: it | said\nno")
    return found


def test_a_summary_is_the_median_with_its_range() -> None:
    assert summarise([3.0, 1.0, 2.0]) == Summary(2.0, 1.0, 3.0, 3)
    assert summarise([]) is None


@pytest.mark.parametrize(("share", "rank"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.0, 1), (0.001, 1)])
def test_a_percentile_is_a_value_that_was_measured(share: float, rank: int) -> None:
    """Nearest rank: no figure is made up between two."""
    assert percentile(list(range(100, 0, -1)), share) == rank


def test_a_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_a_ratio_needs_both() -> None:
    one, none = summarise([2.0]), summarise([0.0])
    assert ratio(one, one) == 1
    assert ratio(one, None) is None
    assert ratio(one, none) is None


def test_numbers_are_short() -> None:
    assert [short(n) for n in (0, 0.00012, 0.1234, 12.345, 12_345.6)] == [
        "0",
        "1.2e-04",
        "0.123",
        "12.3",
        "12,346",
    ]


def test_the_best_is_by_median_and_ties_are_not_hidden() -> None:
    """The highest median, or the lowest; whoever has no figure does not count."""
    best = results().best(SINGLE, "rate", [*OURS, "nobody"])
    assert best is not None
    assert best[0] == OURS[0]
    assert results().best(SINGLE, "rate", ["nobody"]) is None
    least = results().best(SINGLE, "rate", OURS, least=True)
    assert least is not None
    assert least[0] == OURS[1]


@pytest.mark.parametrize(
    ("value", "at_most", "verdict"),
    [
        (2.0, False, "met"),
        (1.9, False, "missed"),
        (2.0, True, "met"),
        (2.1, True, "missed"),
        (None, False, "not measured"),
    ],
)
def test_a_target_is_met_missed_or_not_measured(value: float | None, at_most: bool, verdict: str) -> None:
    """The edge belongs to met; what was not measured is never met."""
    line = Target("it", "it", lambda _: value, 2.0, at_most).line(Results())
    assert line.startswith("bench: it ratio=")
    assert line.endswith(f"wanted{'<=' if at_most else '>='}2 {verdict}")


def test_ratios_are_taken_from_medians_of_one_run() -> None:
    """20 of 40 is half of the bare loop; 5 of 7 is less than eight times the best peer."""
    found = {target.name: target for target in targets()}
    assert found["hits-bare"].measured(results()) == 0.5
    assert found["hits-rabbit"].measured(results()) == pytest.approx(5 / 7)
    assert found["hits-rabbit"].verdict(results()) == "missed"
    assert found["misses-8"].verdict(results()) == "not measured"


def test_what_is_stored_comes_back(tmp_path: Path) -> None:
    results().save(tmp_path / "deep" / "results.json")
    assert Results.load(tmp_path / "deep" / "results.json").figures == results().figures


def test_a_failure_is_kept_once() -> None:
    found = results()
    found.fail("hits", "Celery solo, Redis", "Failed: it | said\nno")
    assert len(found.failures) == 1


def test_the_page_hides_neither_failures_nor_faster_peers() -> None:
    """Who failed is there with the error, who is ahead of us is named, ranges are shown."""
    text = page(results(), {"benchmarks-hits.svg": "Hits"})
    assert "| hits | Celery solo, Redis | Failed: it / said no |" in text
    assert "- FastStream, RabbitMQ: hits 400 B single, rate 7 /s (ours 5)" in text
    assert "20 (10-30)" in text
    assert "![Hits](benchmarks-hits.svg)" in text
    for peer in peers():
        assert peer.settings in text


def test_the_page_compares_services_by_their_own_ratios() -> None:
    """Off, on, and one by the other; who was not measured is left out."""
    found = results()
    for workload, rate in ((OFF, 150.0), (ON, 3000.0)):
        for name, value in (("rate", rate), ("p50", 2.0), ("p99", 9.0)):
            found.add(workload, FRONT, name, value)
    assert "| recollect, Redis | 150 | 3,000 | 20 | 2 | 9 | 2 | 9 |" in page(found, {})
    named = {target.name: target for target in targets()}
    assert named["http-cache"].measured(found) == 20
    assert named["http-flask"].verdict(found) == "not measured"


def test_a_page_of_nothing_says_so() -> None:
    text = page(Results(), {})
    assert "Not measured yet" in text
    assert "not measured" in text


def test_a_table_keeps_its_columns() -> None:
    assert table(("a", "b"), [("1|2", "3")]) == "| a | b |\n| --- | --- |\n| 1/2 | 3 |"


def test_plots_are_small_and_well_formed(tmp_path: Path) -> None:
    """What there is no figure of has no plot."""
    titles = draw(results(), tmp_path)
    assert set(titles) == {"benchmarks-hits.svg", "benchmarks-latency.svg", "benchmarks-payload.svg"}
    for name in titles:
        text = (tmp_path / name).read_text()
        ET.fromstring(text)
        assert len(text) < 50_000


def test_a_plot_survives_equal_and_zero_values() -> None:
    same = Summary(0.0, 0.0, 0.0, 1)
    ET.fromstring(bars("<a>", "ms", [("x & y", same)], []))
    ET.fromstring(curve("a", "b", [(1, same), (1, same)], "c"))


def test_payloads_have_about_the_size_asked_for_and_are_the_same_every_time() -> None:
    import orjson

    for size in (100, 400, 16_384):
        assert abs(len(orjson.dumps(payload(7, size))) - size) < max(20, size * 0.03)
    assert payload(7, 400) == payload(7, 400)
    assert len(orjson.dumps(analyse(payload(7, 400)))) < 250


def test_every_peer_says_its_settings_and_its_promise() -> None:
    assert all(peer.settings and peer.promise for peer in peers())
    assert len({peer.name for peer in peers()}) == len(peers())
    assert {peer.library for peer in peers() if peer.quick} == {peer.library for peer in peers()}
    assert set(on("redis")) | set(on("rabbit")) == {peer.name for peer in peers()}


def test_a_full_run_alternates_five_times_and_a_quick_one_is_smaller() -> None:
    assert full().rounds >= 5
    assert quick().rounds == 3
    assert set(quick().sizes) < set(full().sizes)
