"""Metrics: the names and labels of the design, all there from the start, as Prometheus likes them."""

import os
import shutil
import subprocess

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from wire.errors import ErrorKind, Outcome
from worker.metrics import Metrics

MODELS = ["sentiment", 'topic, "quoted"\\']
LABELS = {
    "recollect_requests": {"model", "outcome"},
    "recollect_request_duration_seconds": {"model", "outcome"},
    "recollect_failed_requests": {"model", "kind"},
    "recollect_queue_wait_seconds": set(),
    "recollect_requests_in_progress": set(),
    "recollect_cache_operation_duration_seconds": {"operation"},
    "recollect_cache_errors": {"operation"},
    "recollect_cache_value_bytes": set(),
    "recollect_saved_model_seconds": {"model"},
    "recollect_model_attempts": {"model", "result"},
    "recollect_model_call_duration_seconds": {"model"},
    "recollect_model_retries": {"model", "reason"},
    "recollect_model_down": {"model"},
    "recollect_model_calls_in_progress": {"model"},
    "recollect_model_concurrency": {"model"},
    "recollect_cache_down": set(),
    "recollect_broker_down": set(),
    "recollect_queue_oldest_seconds": {"queue"},
    "recollect_postponed_requests": {"reason"},
    "recollect_queue_messages": set(),  # no series before the first look
    "recollect_paused": set(),
    "recollect_replies": {"status"},
    "recollect_dead_letters": {"reason"},
    "recollect_redeliveries": set(),
    "recollect_reconnects": {"service"},
    "recollect_last_request_timestamp_seconds": set(),
    "recollect_build_info": {"version"},
}
Sample = tuple[str, frozenset[tuple[str, str]]]


def samples(metrics: Metrics) -> dict[Sample, float]:
    """Every series of the exposition with its value."""
    text = generate_latest(metrics.registry).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.startswith("process_")
    }


def series(name: str, **labels: str) -> Sample:
    return name, frozenset(labels.items())


def test_names_and_labels_are_those_of_the_design() -> None:
    """No more, no less: dashboards and alerts are written against them."""
    metrics = Metrics(MODELS, "1.2.3")
    metrics.ages("recollect.requests", lambda: 1.5)
    metrics.serves(MODELS[0], 8, lambda: 3)
    text = generate_latest(metrics.registry).decode()
    found = {
        family.name: {name for sample in family.samples for name in sample.labels} - {"le"}
        for family in text_string_to_metric_families(text)
        if not family.name.startswith("process_")
    }
    assert found == LABELS


def test_everything_known_starts_at_zero() -> None:
    """A series that appears with its first error has no rate at that moment."""
    found = samples(Metrics(MODELS, "1"))
    for model in [*MODELS, "none"]:
        for outcome in Outcome:
            assert found[series("recollect_requests_total", model=model, outcome=outcome.value)] == 0
            name = "recollect_request_duration_seconds_count"
            assert found[series(name, model=model, outcome=outcome.value)] == 0
    for model in MODELS:
        for result in ("ok", "transient", "permanent", "timeout"):
            assert found[series("recollect_model_attempts_total", model=model, result=result)] == 0
        for reason in ("timeout", "status", "connection", "transient"):
            assert found[series("recollect_model_retries_total", model=model, reason=reason)] == 0
        assert found[series("recollect_saved_model_seconds_total", model=model)] == 0
        assert found[series("recollect_model_call_duration_seconds_count", model=model)] == 0
    for operation in ("lookup", "write"):
        assert found[series("recollect_cache_errors_total", operation=operation)] == 0
        assert found[series("recollect_cache_operation_duration_seconds_count", operation=operation)] == 0
    for reason in ("undecodable", "undeliverable", "failed", "poison"):
        assert found[series("recollect_dead_letters_total", reason=reason)] == 0
    for status in ("ok", "error"):
        assert found[series("recollect_replies_total", status=status)] == 0
    for service in ("broker", "cache"):
        assert found[series("recollect_reconnects_total", service=service)] == 0
    assert found[series("recollect_redeliveries_total")] == 0
    assert found[series("recollect_build_info", version="1")] == 1
    assert sum(found.values()) == 1, "nothing but the build is there at the start"


def test_every_kind_of_error_starts_at_zero() -> None:
    """For each model, and where none was chosen."""
    found = samples(Metrics(MODELS, "1"))
    for model in [*MODELS, "none"]:
        for kind in ErrorKind:
            assert found[series("recollect_failed_requests_total", model=model, kind=kind.value)] == 0


def test_what_is_asked_at_a_scrape_is_as_of_the_scrape() -> None:
    """The age of what waits grows while nobody looks at the queue; calls come and go between two looks."""
    metrics, now = Metrics(["m"], "1"), {"age": 1.0, "calls": 2}
    metrics.ages("recollect.requests", lambda: now["age"])
    metrics.serves("m", 8, lambda: now["calls"])
    now |= {"age": 7.5, "calls": 0}
    found = samples(metrics)
    assert found[series("recollect_queue_oldest_seconds", queue="recollect.requests")] == 7.5
    assert found[series("recollect_model_calls_in_progress", model="m")] == 0
    assert found[series("recollect_model_concurrency", model="m")] == 8


def test_the_process_is_measured_too() -> None:
    """Memory and CPU under the standard names, as every dashboard knows them."""
    text = generate_latest(Metrics(["m"], "1").registry).decode()
    assert "process_resident_memory_bytes" in text
    assert "process_cpu_seconds_total" in text


def test_two_workers_in_one_process_count_apart() -> None:
    """Each has its registry, given or its own; the global one stays empty of ours."""
    given = CollectorRegistry()
    one, other = Metrics(["m"], "1", given), Metrics(["m"], "1")
    one.redeliveries.inc(3)
    assert one.registry is given
    assert samples(one)[series("recollect_redeliveries_total")] == 3
    assert samples(other)[series("recollect_redeliveries_total")] == 0


def test_a_model_may_take_two_minutes() -> None:
    """Buckets reach as far as calls and queues do: quantiles beyond the last one cannot be told."""
    found = samples(Metrics(["m"], "1"))

    def bounds(name: str) -> set[float]:
        return {float(dict(labels)["le"]) for found_name, labels in found if found_name == f"{name}_bucket"}

    assert {0.005, 120.0} <= bounds("recollect_model_call_duration_seconds")
    assert {0.05, 1800.0} <= bounds("recollect_queue_wait_seconds")
    assert {0.0002, 1.0} <= bounds("recollect_cache_operation_duration_seconds")
    assert 300.0 in bounds("recollect_request_duration_seconds")
    assert 4.0**10 in bounds("recollect_cache_value_bytes"), "the default of entry_max_bytes"


@pytest.fixture
def promtool() -> str:
    """Prometheus's own checker."""
    found = shutil.which("promtool")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("promtool is not installed, and CI=true")
        pytest.skip("promtool is not installed")
    return found


def test_promtool_has_nothing_to_say(promtool: str) -> None:
    """Neither of an idle worker nor of one that has seen something."""
    metrics = Metrics(MODELS, "1.2.3")
    for _ in range(2):
        done = subprocess.run(
            [promtool, "check", "metrics"],
            input=generate_latest(metrics.registry),
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        metrics.requests.labels(MODELS[1], Outcome.HIT.value).inc()
        metrics.request_seconds.observe(0.01, MODELS[1], Outcome.HIT.value)
        metrics.value_bytes.observe(5e9)
