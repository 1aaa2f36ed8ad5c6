"""The rules of deploy/prometheus: valid, in step with metrics and runbook, and proven alert by alert."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest

from tests.support.exported import Exported
from tests.support.processes import ROOT
from tests.support.prometheus import RULES, require
from worker.__main__ import _parser

RUNBOOK = Path(ROOT) / "docs/runbook.md"
SEVERITIES = {"critical", "warning", "info"}


def rules(name: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((RULES / f"{name}.rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS, RECORDS = rules("alerts"), rules("recording")
CASES = yaml.safe_load((RULES / "alerts.test.yml").read_text())["tests"]


def promtool(*arguments: str, given: bytes = b"") -> str:
    done = subprocess.run(
        [require("promtool"), *arguments], cwd=RULES, input=given, capture_output=True, check=False
    )
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, said
    return said


def test_the_configuration_and_the_rules_are_valid() -> None:
    """`promtool check config` follows `rule_files`, and calls twice the same rule a fault."""
    said = promtool("check", "config", "--lint=all", "--lint-fatal", "prometheus.yml")
    assert f"{len(ALERTS)} rules found" in said
    assert f"{len(RECORDS)} rules found" in said


def test_every_alert_fires_and_is_silent_as_its_test_says() -> None:
    assert "SUCCESS" in promtool("test", "rules", "alerts.test.yml")


@pytest.mark.parametrize("alert", [rule["alert"] for rule in ALERTS])
def test_every_alert_has_a_case_that_fires_and_one_that_does_not(alert: str) -> None:
    """It fires in a case of its own, not before its time there, and not in the healthy fleet."""
    healthy, *others = CASES
    assert healthy["name"] == "a healthy fleet"
    found = {case["name"]: expected for case in CASES if (expected := _expected(case, alert))}
    assert not any(found[healthy["name"]]), "silent in a healthy fleet"
    firing = [case["name"] for case in others if any(found.get(case["name"], ()))]
    assert len(firing) == 1
    assert firing[0].startswith(f"{alert}: ")
    assert not found[firing[0]][0], "not before its time"


def _expected(case: dict[str, Any], alert: str) -> list[list[dict[str, Any]]]:
    return [one["exp_alerts"] for one in case["alert_rule_test"] if one["alertname"] == alert]


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_says_what_whoever_is_woken_needs(rule: dict[str, Any]) -> None:
    """How long, how bad, what, and where to read on; it names no label that it has not."""
    assert re.fullmatch(r"Recollect([A-Z][a-z]+)+", rule["alert"])
    assert re.fullmatch(r"\d+[mh]", rule["for"])
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in SEVERITIES
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{rule['alert'].lower()}"
    used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["description"]))
    fired = [one["exp_labels"] for case in CASES for one in _fired(case, rule["alert"])]
    assert fired
    assert all(used <= labels.keys() for labels in fired)


def _fired(case: dict[str, Any], alert: str) -> list[dict[str, Any]]:
    return [one for expected in _expected(case, alert) for one in expected]


def test_the_runbook_has_a_section_for_each_alert_and_no_other() -> None:
    text = RUNBOOK.read_text()
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert list(sections) == [rule["alert"] for rule in ALERTS]
    for name, section in sections.items():
        for part in ("**What it means.**", "**How to look.**", "**What to do.**"):
            assert part in section, f"{name} {part}"
    anchors = {heading.lower() for heading in sections}
    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= anchors
    for page, anchor in re.findall(r"\]\((\w+\.md)#([\w-]+)\)", text):
        headings = re.findall(r"^#+ (.+)$", (RUNBOOK.parent / page).read_text(), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}, anchor


def test_every_command_of_the_runbook_is_one_of_ours() -> None:
    """As it stands there, it would start."""
    text = RUNBOOK.read_text()
    commands = re.findall(r"python -m worker ([^`\n#]+)", text)
    assert len(commands) > 15
    for command in commands:
        _parser().parse_args(shlex.split(command))


def test_rules_and_runbook_name_only_what_is_exported() -> None:
    """Metrics, labels and known label values; in the runbook, every piece of code that is PromQL."""
    exported = Exported([rule["record"] for rule in RECORDS])
    exported.check([rule["expr"] for rule in RECORDS + ALERTS])
    code = re.findall(r"```\n(.*?)```", RUNBOOK.read_text(), re.DOTALL)
    lines = [line for block in code for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"```\n.*?```", "", RUNBOOK.read_text(), flags=re.DOTALL))
    queries = [line for line in lines if re.search(r"\brecollect_\w|\bprocess_|\bup\{", line)]
    assert len(queries) > 25
    exported.check(queries)


def test_series_in_the_tests_of_rules_are_exported_ones() -> None:
    """A case with a misspelt series proves that an alert is silent, and nothing else."""
    exported = Exported([])
    exported.check([one["series"] for case in CASES for one in case["input_series"]])


def test_every_alert_is_caused_by_a_real_fault() -> None:
    """test_alerts_live.py names all of them and no other."""
    text = (Path(__file__).parent / "test_alerts_live.py").read_text()
    assert set(re.findall(r'"(Recollect\w+)"', text)) == {rule["alert"] for rule in ALERTS}


def test_a_workers_metrics_are_well_formed() -> None:
    """`promtool check metrics` on what a scrape would get: help, units, names."""
    said = promtool("check", "metrics", given=generate_latest(Exported([]).metrics.registry))
    assert said == ""
