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


def metrics_in(expression: str) -> dict[str, set[str]]:
    """Each metric in an expression with the labels that it is matched or grouped by. Fails the test for an
    expression that is none; skips it without .tools/venv, and fails it then with CI=true."""
    return metrics_in_all((expression,))[0]


@cache
def metrics_in_all(expressions: Sequence[str]) -> list[dict[str, set[str]]]:
    """The same of many, by one process."""
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
    return [{name: set(labels) for name, labels in found.items()} for found in json.loads(done.stdout)]
