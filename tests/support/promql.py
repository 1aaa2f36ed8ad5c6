"""What a PromQL expression is of, told by a real parser, which lives in .tools/venv."""

import json
import os
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_PYTHON = _ROOT / ".tools/venv/bin/python"


Metrics = dict[str, dict[str, list[str]]]


@cache
def metrics_in_all(expressions: Sequence[str]) -> list[Metrics]:
    """For each expression its metrics, each with the labels that it is matched or grouped by and their
    values. Fails the test for an expression that is none; skips it without .tools/venv, and fails it then
    with CI=true.
    """
    if not _PYTHON.exists():
        if os.environ.get("CI") == "true":
            pytest.fail("make .tools/venv/.stamp has not been run, and CI=true")
        pytest.skip("needs make .tools/venv/.stamp")
    done = subprocess.run(
        [_PYTHON, Path(__file__).with_name("promql_reader.py")],
        input=json.dumps(expressions),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{expressions}: {done.stderr}"
    return list(json.loads(done.stdout))
