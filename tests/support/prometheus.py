"""A real Prometheus with the rules of deploy/, which are made to hurry."""

import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from tests.support.processes import ROOT
from tests.support.waiting import free_port, until

RULES = Path(ROOT) / "deploy/prometheus"


def require(tool: str) -> str:
    """Where a tool of Prometheus is; without it the test is skipped, and with CI=true it fails."""
    found = shutil.which(tool)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{tool} is not installed, and CI=true")
        pytest.skip(f"{tool} is not installed")
    return found


def hurried(text: str, ranges: Mapping[str, str], thresholds: Mapping[str, str], wait: str) -> str:
    """Rules with other durations. Raises AssertionError where one of them is not there to be replaced."""
    for old, new in thresholds.items():
        assert old in text, f"no rule says {old!r}"
        text = text.replace(old, new)
    text = re.sub(r"^( +for: )\w+$", rf"\g<1>{wait}", text, flags=re.MULTILINE)
    return re.sub(r"(?<=\[)\w+(?=\])|(?<=offset )\w+", lambda found: ranges[found[0]], text)


class Prometheus:
    """Scrapes `targets` twice a second, as the job of deploy/, and applies the rule files in `place`."""

    def __init__(self, place: Path, targets: Sequence[str]) -> None:
        self._place = place
        self._url = f"http://127.0.0.1:{free_port()}"
        config = yaml.safe_load((RULES / "prometheus.yml").read_text())
        config["global"] = dict.fromkeys(
            ("scrape_interval", "scrape_timeout", "evaluation_interval"), "500ms"
        )
        (job,) = (one for one in config["scrape_configs"] if one["job_name"] == "recollect")
        static = [{"targets": list(targets)}]
        config["scrape_configs"] = [{"job_name": job["job_name"], "static_configs": static}]
        (place / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Prometheus":
        with (self._place / "prometheus.log").open("wb") as output:
            self._child = subprocess.Popen(
                [
                    require("prometheus"),
                    f"--config.file={self._place / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._place / 'data'}",
                    f"--web.listen-address={self._url.removeprefix('http://')}",
                ],
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        until(self._is_ready, 30, "Prometheus")
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            self._child.terminate()
            self._child.wait(30)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The vector that an expression gives now."""
        found = self._ask(f"query?query={quote(expression)}")
        return list(found["result"])

    def rules(self) -> list[dict[str, Any]]:
        """Every rule with its state, its health and its alerts."""
        return [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        return {rule["name"] for rule in self.rules() if rule.get("state") == "firing"}

    def _ask(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self._url}/api/v1/{path}", timeout=10) as answer:
            said: dict[str, Any] = json.load(answer)["data"]
            return said

    def _is_ready(self) -> bool:
        assert self._child is not None
        assert self._child.poll() is None, (self._place / "prometheus.log").read_text()
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
