"""Documents that name settings, queues and commands must name those that exist."""

import json
import re
from pathlib import Path

import pytest

from broker import dead
from producer.front.answer import STATUS
from wire.errors import ErrorKind, Outcome
from wire.message import DIRECTIVES
from wire.names import Names
from worker.metrics import Metrics
from worker.settings import ModelSettings, Settings

ROOT = Path(__file__).parents[2]


def test_every_setting_is_documented_with_its_default() -> None:
    """docs/settings.md lists exactly what the code knows."""
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", (ROOT / "docs/settings.md").read_text(), re.MULTILINE)
    fields = {**Settings.model_fields, **ModelSettings.model_fields}
    assert {name for name, _ in rows} == fields.keys() - {"models"}
    for name, shown in rows:
        if (
            fields[name].default is not None
            and not fields[name].is_required()
            and not fields[name].default_factory
        ):
            expected = "all" if fields[name].default == DIRECTIVES else str(fields[name].default)
            assert shown == expected, name


def test_the_contract_names_every_kind_outcome_and_queue() -> None:
    """docs/contract.md is enough to write a producer from."""
    text = (ROOT / "docs/contract.md").read_text()
    names = Names()
    words = [kind.value for kind in ErrorKind] + [outcome.value for outcome in Outcome]
    for word in [*words, *DIRECTIVES, *names.queues]:
        assert f"`{word}" in text, word


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "examples/README.md",
        "examples/deep/README.md",
        *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md"))),
        "deploy/kubernetes/README.md",
    ],
)
def test_links_between_documents_lead_somewhere(page: str) -> None:
    """A relative link is a file of this repository."""
    for link in re.findall(r"\]\(([^)#]+)", (ROOT / page).read_text()):
        if not link.startswith("http"):
            assert ((ROOT / page).parent / link).exists(), link


def test_the_page_about_http_has_every_answer_and_every_outcome() -> None:
    """docs/http.md, as the front answers."""
    text = (ROOT / "docs/http.md").read_text()
    rows = dict(re.findall(r"^\| (\d{3}) .*\| (.*) \|$", text, re.MULTILINE))
    for kind, status in STATUS.items():
        assert f"`{ErrorKind(kind).value}`" in rows[str(status)], kind
    for outcome in set(Outcome) - {Outcome.INVALID}:
        assert re.search(rf"^\| .*`{outcome.value}`.* \| `(hit|fwd|detail)", text, re.MULTILINE), outcome


def test_every_reason_of_a_dead_letter_is_explained() -> None:
    """docs/operations.md says what each is and what a replay does."""
    text = (ROOT / "docs/operations.md").read_text()
    for reason in (dead.UNDECODABLE, dead.UNDELIVERABLE, dead.FAILED, dead.POISON, dead.UNKNOWN, dead.BROKER):
        assert f"| `{reason}" in text, reason


@pytest.mark.parametrize(
    "place", [".", "bench", "deploy", "examples/deep", "examples/airflow", "examples/frames"]
)
def test_a_lock_names_no_place_to_download_from(place: str) -> None:
    """Only names, versions and hashes."""
    text = (ROOT / place / "requirements.lock").read_text()
    assert "://" not in text
    assert "--hash=sha256:" in text


def test_the_lock_of_node_names_no_place_either() -> None:
    """But for the hash of each package; examples/node/.npmrc keeps it so."""
    packages = json.loads((ROOT / "examples/node/package-lock.json").read_text())["packages"]
    own = packages.pop("")
    assert packages.keys() == {f"node_modules/{name}" for name in own["dependencies"]}
    for package in packages.values():
        assert package["integrity"].startswith("sha512-")
        assert "://" not in json.dumps(package)


def test_every_metric_is_documented_with_its_type_and_labels() -> None:
    """docs/metrics.md lists exactly what a worker shows."""
    text = (ROOT / "docs/metrics.md").read_text()
    rows = re.findall(r"^\| `(recollect_\w+)` \| (\w+) \| ([\w, ]*?) ?\|", text, re.MULTILINE)
    documented = {
        name: (kind, {label for label in labels.split(", ") if label}) for name, kind, labels in rows
    }
    assert len(documented) == len(rows)
    metrics = Metrics(["m"], "1")
    metrics.ages("recollect.requests", lambda: 0)
    metrics.queue_depth.labels("recollect.requests").set(0)
    metrics.serves("m", 1, lambda: 0)
    shown = {
        f"{family.name}_total" if family.type == "counter" else family.name: (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in metrics.registry.collect()
        if family.name.startswith("recollect_")
    }
    assert documented == shown


def test_metrics_are_those_of_the_design() -> None:
    """Renaming one breaks dashboards: it is done on purpose or not at all."""
    names = {family.name for family in Metrics(["m"], "1").registry.collect()}
    names = {name for name in names if not name.startswith("process_")}
    assert names == {
        f"recollect_{name}"
        for name in (
            "requests",
            "failed_requests",
            "request_duration_seconds",
            "queue_wait_seconds",
            "requests_in_progress",
            "cache_operation_duration_seconds",
            "cache_errors",
            "cache_value_bytes",
            "saved_model_seconds",
            "model_attempts",
            "model_call_duration_seconds",
            "model_retries",
            "model_down",
            "model_calls_in_progress",
            "model_concurrency",
            "cache_down",
            "broker_down",
            "queue_oldest_seconds",
            "postponed_requests",
            "queue_messages",
            "paused",
            "replies",
            "dead_letters",
            "redeliveries",
            "reconnects",
            "last_request_timestamp_seconds",
            "build_info",
        )
    }
