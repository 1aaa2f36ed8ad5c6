"""The environments that examples have of their own. A test of one skips where it was not made, and fails
there with CI=true."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT


def python_of(name: str) -> str:
    """The interpreter of `.NAME/venv`."""
    _need(Path(ROOT, f".{name}", "venv", ".stamp"))
    return str(Path(ROOT, f".{name}", "venv", "bin", "python"))


def borrow_packages_of(name: str) -> None:
    """Let this process import what is in `.NAME/venv` and not here."""
    _need(Path(ROOT, f".{name}", "venv", ".stamp"))
    lend_packages_of(name)


def lend_packages_of(name: str) -> None:
    """The same where that environment was made, and nothing where it was not."""
    for site in Path(ROOT, f".{name}", "venv", "lib").glob("python3*/site-packages"):
        if str(site) not in sys.path:
            sys.path.append(str(site))


def node() -> str:
    """The program that runs examples/node, whose library must be there, too."""
    _need(Path(ROOT, "examples", "node", "node_modules", ".stamp"))
    found = shutil.which("node")
    if found is None:
        _absent("node is not installed")
    return str(found)


def _need(stamp: Path) -> None:
    if not stamp.exists():
        _absent(f"{stamp.relative_to(ROOT)} was not made (make {stamp.relative_to(ROOT)})")


def _absent(why: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"{why}, and CI=true")
    pytest.skip(why)
