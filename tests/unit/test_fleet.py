"""Figures of a whole fleet: how they are kept until they can be written, read back, and judged."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import Outcome
from worker.fleet.buckets import HOUR, MINUTE, Buckets
from worker.fleet.figures import Figures, add, decode, difference, encode, read
from worker.fleet.reader import Fleet, Step
from worker.metrics import CALL_SECONDS, Metrics
from worker.page.quantile import quantile
from worker.page.status import of_figures
from worker.page.verdict import Situation, verdict

HIT, MISS = ("requests", "m", "hit"), ("requests", "m", "miss")


def test_figures_are_those_of_the_metrics() -> None:
    """The page and /metrics cannot differ: what is counted once is read twice."""
    metrics = Metrics(["m"], "1")
    assert read(metrics) == {}, "nothing at the start: zeros need not travel"
    metrics.requests.labels("m", Outcome.HIT.value).inc(3)
    metrics.attempts.labels("m", "ok").inc(2)
    metrics.failed.labels("none", "invalid_request").inc()
    metrics.dead_letters.labels("poison").inc()
    metrics.call_seconds.observe(0.02, "m", count=2)
    metrics.call_seconds.observe(500, "m")
    metrics.count_hits([("m", 0.5, 59.0), ("m", 1.0, 99e6)])
    metrics.count_sampled("m", "version")
    assert read(metrics) == {
        HIT: 3,
        ("saved", "m"): 1.5,
        ("attempts", "m", "ok"): 2,
        ("failed", "none", "invalid_request"): 1,
        ("dead", "poison"): 1,
        ("calls", "m", "0.025"): 2,
        ("calls", "m", "+Inf"): 1,
        ("spent", "m"): pytest.approx(500.04),
        ("ages", "m", "60.0"): 1,
        ("ages", "m", "+Inf"): 1,
        ("misses", "m", "version"): 1,
    }


_KEYS = st.one_of(
    st.tuples(st.sampled_from(["requests", "attempts", "failed"]), st.text(), st.text()),
    st.tuples(st.sampled_from(["saved", "dead"]), st.text()),
    st.tuples(st.just("calls"), st.text(), st.sampled_from(["0.005", "120.0", "+Inf"])),
)


@given(st.dictionaries(_KEYS, st.floats(0, 1e9)))
def test_figures_travel(figures: Figures) -> None:
    """Whatever a model is called."""
    assert decode(encode(figures)) == figures


@pytest.mark.parametrize(
    "stored",
    [
        *(b"", b"{", b"7", b'{"a":1}', b'[["a"]]', b"[[1,2]]", b'[["a","b"]]', b"[[]]", b"[7]"),
        *(b'[["requests",5]]', b'[["attempts",5]]', b'[["calls","m",5]]', b'[["calls","m","x",5]]'),
        *(b'[["",5]]', b'[["saved","m",true]]', b'[["saved","m",-5]]', b'[["saved","m",1e308]]'),
        *(b'[["saved","m","n",5]]', b'[["other","m",5]]', b'[["saved","m",null]]'),
    ],
)
def test_what_strangers_store_counts_for_nothing(stored: bytes) -> None:
    """Others may write to that server, too."""
    assert decode(stored) == {}


class Counted:
    """Buckets of a worker whose figures and clock a test sets."""

    def __init__(self) -> None:
        self.figures: Figures = {}
        self.buckets = Buckets(lambda: dict(self.figures))
        self.stored: dict[tuple[str, int, int], Figures] = {}

    def report(self, now: float, *, is_lost: bool = False, **more: float) -> None:
        add(self.figures, {("requests", "m", outcome): value for outcome, value in more.items()})
        pending = self.buckets.count(now)
        if not is_lost:
            for (unit, number, life), kept in pending.items():
                self.stored[unit.name, number, life] = dict(kept)
            self.buckets.written(now)

    def total(self, unit: str) -> Figures:
        total: Figures = {}
        for (name, _, _), figures in self.stored.items():
            if name == unit:
                add(total, figures)
        return total


def test_what_comes_in_a_minute_is_in_its_bucket() -> None:
    """And in its hour's."""
    worker = Counted()
    worker.report(0, hit=1)
    worker.report(59, hit=2)
    worker.report(61, hit=4, miss=1)
    assert worker.stored[("minute", 0, 0)] == {HIT: 3}
    assert worker.stored[("minute", 1, 0)] == {HIT: 4, MISS: 1}
    assert worker.stored[("hour", 0, 0)] == {HIT: 7, MISS: 1}


def test_nothing_is_lost_while_it_cannot_be_written() -> None:
    """It is written later, into the minutes that it belongs to."""
    worker = Counted()
    worker.report(0, hit=1)
    for minute in range(1, 30):
        worker.report(minute * 60, is_lost=True, hit=minute)
    worker.report(1800, hit=100)
    assert worker.stored[("minute", 7, 0)] == {HIT: 7}
    assert worker.total("minute") == worker.total("hour") == worker.figures


def test_writing_twice_changes_nothing() -> None:
    """An answer that was lost makes a worker write again what is there already."""
    worker = Counted()
    worker.report(0, hit=5)
    worker.report(1)
    worker.report(2)
    assert worker.total("minute") == {HIT: 5}


def test_a_clock_that_goes_back_takes_nothing_with_it() -> None:
    """What is counted then is kept beside what was written for that minute, and replaces nothing."""
    worker = Counted()
    times = (600, 658, 661, 658, 600, 662, 3599, 3601, 3590)
    for hits, now in enumerate(times, 1):
        worker.report(now, hit=hits)
        assert worker.total("minute") == worker.total("hour") == worker.figures
    assert worker.stored[("minute", 10, 0)] == {HIT: 1 + 2}
    assert worker.stored[("minute", 10, 1)] == {HIT: 4 + 5}


def test_what_would_be_too_old_to_keep_is_not_kept() -> None:
    """Days without a server do not fill the worker's memory."""
    worker = Counted()
    for minute in range(20_000):
        worker.report(minute * 60, is_lost=True, hit=1)
    assert len(worker.buckets._pending) <= MINUTE.kept_seconds / 60 + HOUR.kept_seconds / 3600 + 4


@given(st.lists(st.tuples(st.integers(-200, 200), st.booleans(), st.integers(0, 5)), max_size=60))
def test_the_buckets_hold_what_was_counted(steps: list[tuple[int, bool, int]]) -> None:
    """Whatever was lost in between, once a report gets through."""
    worker, now = Counted(), 100_000
    for seconds, is_lost, hits in steps:
        now += seconds
        worker.report(now, is_lost=is_lost, hit=hits)
    worker.report(now)
    wanted = {key: value for key, value in worker.figures.items() if value}
    assert worker.total("hour") == wanted


def test_a_difference_is_what_has_come() -> None:
    """A series that is new counts from 0."""
    assert difference({HIT: 5, MISS: 2}, {HIT: 3}) == {HIT: 2, MISS: 2}
    assert difference({HIT: 3}, {HIT: 3}) == {}


def test_quantiles_are_those_of_prometheus() -> None:
    """By hand, after the documentation of histogram_quantile: linear within the bucket."""
    bounds = (1.0, 2.0, 4.0)
    assert quantile(0.5, {}, bounds) is None
    assert quantile(0.5, {"1.0": 10}, bounds) == pytest.approx(0.5)
    assert quantile(0.5, {"2.0": 10}, bounds) == pytest.approx(1.5)
    assert quantile(0.75, {"1.0": 2, "4.0": 2}, bounds) == pytest.approx(3.0)
    assert quantile(0.99, {"1.0": 1, "+Inf": 99}, bounds) == 4.0, "no more can be said than beyond the last"
    assert quantile(1.0, {"1.0": 1}, bounds) == 1.0


def fleet(figures: Figures, *, workers: dict[str, Any] | None = None, now: float = 1000.0) -> Fleet:
    steps = [Step(840.0, {}), Step(900.0, figures), Step(960.0, {})]
    rates = {key: value / 100 for key, value in figures.items()}
    return Fleet(now, steps, 60, rates, {}, workers or {}, {("m", "2"): 950.0, ("m", "1"): 5.0}, {})


FIGURES: Figures = {
    HIT: 90,
    MISS: 6,
    ("requests", "m", "failed"): 2,
    ("requests", "other", "miss"): 2,
    ("saved", "m"): 45.0,
    ("failed", "m", "model_timeout"): 2,
    ("dead", "poison"): 1,
    ("attempts", "m", "ok"): 6,
    ("attempts", "m", "timeout"): 6,
    ("calls", "m", "0.05"): 12,
}


def test_totals_add_up() -> None:
    """The sum over outcomes equals the requests."""
    shown = of_figures(fleet(FIGURES), None)
    totals = shown["totals"]
    assert totals["requests"] == sum(totals["outcomes"].values()) == 100
    assert totals["hit_ratio"] == pytest.approx(0.9)
    assert totals["failed_ratio"] == pytest.approx(0.02)
    assert totals["saved_seconds"] == 45
    assert totals["requests_per_second"] == pytest.approx(1.0)
    assert shown["series"]["times"] == [840, 900, 960]
    assert shown["series"]["outcomes"] == {"hit": [0, 90, 0], "miss": [0, 8, 0], "failed": [0, 2, 0]}


def test_one_model_is_shown_alone() -> None:
    """What died of what is known, but not of which model: dead letters stay."""
    shown = of_figures(fleet(FIGURES), "other")
    assert shown["totals"]["outcomes"] == {"miss": 2}
    assert [row["name"] for row in shown["models"]] == []
    assert [row["what"] for row in shown["broken"]] == ["dead letter"]
    assert of_figures(fleet(FIGURES), "m")["totals"]["requests"] == 98


def test_models_are_told_by_their_calls_and_their_workers() -> None:
    """Of workers that are alive; attempts are shared out over what was called for."""
    said = {"models": {"m": {"version": "2", "busy": 3, "slots": 8, "is_down": True}}, "seen": 995.0}
    late = {**said, "seen": 900.0}
    (row,) = of_figures(fleet(FIGURES, workers={"a": said, "b": said, "c": late}), None)["models"]
    assert (row["workers"], row["workers_down"], row["busy"], row["slots"]) == (2, 2, 6, 16)
    assert row["version"] == "2"
    assert row["attempts_per_call"] == pytest.approx(12 / 8)
    assert row["p50_seconds"] == pytest.approx(0.0375)


def test_marks_are_of_this_window() -> None:
    """A version that was there before explains nothing now."""
    assert of_figures(fleet({}), None)["marks"] == [{"time": 950.0, "text": "m version 2"}]


@pytest.mark.parametrize("said", [{}, {"models": 7}, {"models": {"m": 7}, "seen": "x"}, {"busy": math.nan}])
def test_a_worker_that_says_nonsense_is_shown_all_the_same(said: dict[str, Any]) -> None:
    """As far as it can be."""
    (row,) = of_figures(fleet({}, workers={"w": said}), None)["workers"]
    assert row["id"] == "w"
    assert row["state"] == "late"


@pytest.mark.parametrize(
    ("situation", "level", "words"),
    [
        (Situation(broker_error="x", cache_error="y"), "bad", "Neither"),
        (Situation(broker_error="x", workers=3), "bad", "broker"),
        (Situation(cache_error="x", waiting=5), "bad", "cache"),
        (Situation(waiting=7, late=2, is_full=True), "bad", "memory is full: 2 workers cannot report"),
        (Situation(workers=2, late=1, requests=9), "warn", "no word lately from 1 worker."),
        (
            Situation(workers=2, waiting=9, oldest_seconds=90.0),
            "warn",
            "Behind: the oldest request is 90 s",
        ),
        (Situation(waiting=7), "bad", "No worker is alive, and 7 messages wait"),
        (Situation(waiting=0), "idle", "No worker"),
        (Situation(workers=2, is_paused=True, waiting=1, down={"m": 1}), "warn", "Paused"),
        (Situation(workers=3, down={"m": 2}, waiting=9), "bad", "m (on 2 of 3)"),
        (Situation(workers=3, states={"broker lost": 1}), "warn", "1 of 3 workers"),
        (Situation(workers=3, waiting=9, oldest_seconds=240.0, growth=120.0), "warn", "4.0 min old, +120/s"),
        (Situation(workers=3, waiting=9, oldest_seconds=240.0, growth=-3.0), "warn", "Catching up"),
        (
            Situation(workers=1, waiting=9, oldest_seconds=90.0, growth=9.0, is_saturated=True),
            "warn",
            "Falling behind: the oldest request is 90 s old, +9/s; the model has no room left.",
        ),
        (Situation(workers=3, requests=9, failed_ratio=0.2, most_common_error="e"), "warn", "20% of"),
        (
            Situation(workers=1, waiting=2, oldest_seconds=3.2, requests=9),
            "ok",
            "1 worker, oldest request 3.2 s",
        ),
        (Situation(workers=3, requests=9, failed_ratio=0.01), "ok", "3 workers."),
        (Situation(workers=3, waiting=0, failed_ratio=None), "idle", "nothing to do"),
    ],
)
def test_the_verdict_names_what_matters_most(situation: Situation, level: str, words: str) -> None:
    """One sentence, by the first rule that applies."""
    said = verdict(situation)
    assert said["level"] == level
    assert words in said["text"]


def test_the_bounds_of_calls_are_those_of_the_metric() -> None:
    """A quantile needs all of them, also those of empty buckets."""
    metrics = Metrics(["m"], "1")
    for bound in CALL_SECONDS:
        metrics.call_seconds.observe(bound, "m")
    assert {key[2] for key in read(metrics) if key[0] == "calls"} == {str(bound) for bound in CALL_SECONDS}
