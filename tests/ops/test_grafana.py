"""The dashboard: every expression is of metrics that a worker exports, and every panel says what it shows."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.exported import Exported
from tests.support.promql import metrics_in_all
from worker.metrics import Metrics

FOLDER = Path(__file__).parents[2] / "deploy/grafana"
QUESTIONS = [
    "Is it working?",
    "Is it fast?",
    "Is the cache paying?",
    "Is it saturated?",
    "What is broken?",
]
_ADDED = {"job", "instance"}  # by the scrape
_VARIABLES = {"$__rate_interval": "5m", "$__range": "3h", "$job": "recollect", "$model": "m"}


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    return dict(json.loads((FOLDER / "recollect.json").read_text()))


@pytest.fixture(scope="module")
def exported() -> dict[str, set[str]]:
    """Every series of a worker, with its labels."""
    metrics = Metrics(["m"], "1")
    metrics.ages("recollect.requests", lambda: 0)
    metrics.serves("m", 1, lambda: 0)
    metrics.queue_depth.labels("recollect.requests").set(0)
    found: dict[str, set[str]] = {"up": set()}
    for family in metrics.registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions(dashboard: dict[str, Any]) -> Iterator[str]:
    for panel in panels(dashboard):
        yield from (target["expr"] for target in panel["targets"])
    yield from (note["expr"] for note in dashboard["annotations"]["list"])


def plain(expression: str) -> str:
    """With a value in the place of each variable."""
    for variable, value in _VARIABLES.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression, expression
    return expression


def test_every_expression_is_of_what_is_exported(
    dashboard: dict[str, Any], exported: dict[str, set[str]]
) -> None:
    """A metric or a label that is renamed in the code leaves an empty panel, which nobody notices."""
    count = 0
    known = tuple(map(plain, expressions(dashboard)))
    for expression, found in zip(known, metrics_in_all(known), strict=True):
        assert found, expression
        for name, labels in found.items():
            assert name in exported, f"{name} in {expression}"
            assert labels.keys() <= exported[name] | _ADDED, f"{labels} of {name} in {expression}"
            count += 1
    assert count > 40


def test_every_metric_is_on_the_dashboard(dashboard: dict[str, Any], exported: dict[str, set[str]]) -> None:
    """What is worth exporting is worth a look; but for what only says when."""
    found = metrics_in_all(tuple(map(plain, expressions(dashboard))))
    shown = {name for metrics in found for name in metrics}
    families = {re.sub(r"_(bucket|count|sum|total)$", "", name) for name in shown}
    wanted = {re.sub(r"_(bucket|count|sum|total)$", "", name) for name in exported if name.startswith("rec")}
    assert wanted - families == {"recollect_last_request_timestamp_seconds", "recollect_replies"}


def test_label_values_are_among_those_that_a_worker_shows(dashboard: dict[str, Any]) -> None:
    """An outcome that no reply has is an empty line."""
    Exported([]).check([plain(expression) for expression in expressions(dashboard)])


def test_what_all_workers_see_alike_is_never_summed(dashboard: dict[str, Any]) -> None:
    """Ten workers would make one message ten."""
    summed = re.compile(r"sum[^()]*(\([\w, ]+\))? ?\(recollect_(queue_(messages|oldest)|paused)")
    assert summed.search("sum by (queue) (recollect_queue_messages)")
    assert not [expression for expression in expressions(dashboard) if summed.search(expression)]


def test_variables_ask_for_metrics_that_exist(
    dashboard: dict[str, Any], exported: dict[str, set[str]]
) -> None:
    """Data source, job and model."""
    variables = {one["name"]: one for one in dashboard["templating"]["list"]}
    assert list(variables) == ["datasource", "job", "model"]
    for name in ("job", "model"):
        found = re.fullmatch(r"label_values\((\w+)(?:\{.*\})?, (\w+)\)", variables[name]["query"]["query"])
        assert found is not None
        assert found[1] in exported
        assert found[2] in exported[found[1]] | _ADDED


def test_rows_are_the_questions_in_their_order(dashboard: dict[str, Any]) -> None:
    """From whether it works to what is broken."""
    assert [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"] == QUESTIONS


def test_panels_say_what_they_show(dashboard: dict[str, Any]) -> None:
    """A title, a sentence, a unit, and the data source that was chosen; none covers another."""
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in panels(dashboard):
        assert panel["title"]
        assert panel["description"].endswith((".", "`.")), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells)
        taken |= cells


def test_it_can_be_put_anywhere(dashboard: dict[str, Any]) -> None:
    """Nothing of the instance that it was made on."""
    assert dashboard["id"] is None
    assert dashboard["uid"] == "recollect"
    assert "://" not in (FOLDER / "recollect.json").read_text()


def test_provisioning_finds_it(dashboard: dict[str, Any]) -> None:
    """A Prometheus as the default data source, and a folder of dashboards."""
    folder = FOLDER / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources/recollect.yaml").read_text())["datasources"]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    (provider,) = yaml.safe_load((folder / "dashboards/recollect.yaml").read_text())["providers"]
    assert provider["type"] == "file"
