"""docs/security.md claims only what a test proves, and what it says of packages and defaults is so."""

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

from tests.support.committed import committed
from worker.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text("utf-8")
_NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows() -> list[list[str]]:
    """The cells of each row of the table of threats."""
    table = PAGE.partition("| threat | defence | proof |")[2]
    lines = [line for line in table.split("\n\n")[0].splitlines()[2:] if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@cache
def names_in(path: str) -> frozenset[str]:
    """The names of the tests in a file."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    names = (node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    return frozenset(name for name in names if name.startswith("test_"))


@pytest.mark.parametrize("row", rows(), ids=lambda row: re.sub(r"\W+", "-", row[0])[:50])
def test_a_row_has_a_test_that_exists_or_says_why_not(row: list[str]) -> None:
    """A renamed test is noticed here."""
    threat, defence, proof = row
    assert threat
    assert defence
    named = _NAMED.findall(proof)
    for path, name in named:
        assert (ROOT / path).is_file(), path
        assert name in names_in(path), f"{path}::{name}"
    if named:
        assert not _NAMED.sub("", proof).strip(), "nothing but names, so that none is misspelt"
    else:
        assert re.fullmatch(r"No test: .{40,}\.", proof), proof


def test_the_checklist_is_whole() -> None:
    """The threats that such systems have met, each by a word of its row."""
    threats = "\n".join(row[0] for row in rows())
    for word in (
        "Code in a message", "Code in the cache", "answer to another", "poisoned cache", "reply_to",
        "Strange names", "Decompression", "JSON bombs", "Hash flooding", "Lua", "TLS", "embedded",
        "Secrets and payloads", "SSRF", "callable", "replay", "Flooding", "HTTP port", "Slow", "page",
        "Supply chain",
    ):  # fmt: skip
        assert word in threats, word


def test_who_is_trusted_is_said() -> None:
    """Before any table of defences."""
    first = PAGE.partition("## Threats")[0]
    for word in (
        "write to the queue",
        "write to Redis",
        "read Redis",
        "0700",
        "HTTP port",
        "dead letters",
        "model",
    ):
        assert word in first, word


def test_it_is_found_from_the_readme() -> None:
    """A page that nobody finds protects nobody."""
    assert "(docs/security.md)" in (ROOT / "README.md").read_text("utf-8")


def test_hashes_stay_salted() -> None:
    """Nobody sets PYTHONHASHSEED: not the image, no manifest, no start script."""
    about = {Path(__file__), ROOT / "docs/security.md"}
    setting = [path for path in committed() if path not in about and b"PYTHONHASHSEED" in path.read_bytes()]
    assert setting == []


def test_every_package_is_pinned_by_hash() -> None:
    """Each package of each lock has its version and at least one sha256."""
    locks = [path for path in committed() if path.suffix == ".lock"]
    assert len(locks) >= 4
    for path in locks:
        packages = re.split(r"(?m)^(?=[A-Za-z0-9])", path.read_text("utf-8"))[1:]
        assert packages, path
        for package in packages:
            assert re.match(r"[\w.-]+(\[[\w,-]+\])?==\S+", package), f"{path.name}: {package[:60]}"
            assert "--hash=sha256:" in package, f"{path.name}: {package[:60]}"


def test_nothing_is_installed_without_hashes() -> None:
    """By Makefile and Dockerfile; what has no lock is our own wheel, or the scanner."""
    text = (ROOT / "Makefile").read_text("utf-8") + (ROOT / "deploy/Dockerfile").read_text("utf-8")
    installs = [line for line in text.splitlines() if "pip install" in line and not line.startswith("#")]
    assert len(installs) >= 6
    for line in installs:
        own = "--no-deps" in line or line.endswith(" pip-audit")
        assert "--require-hashes" in line or own, line


@pytest.mark.parametrize(
    ("package", "mended"),
    [
        ("orjson", (3, 11, 6)),  # CVE-2024-27454, CVE-2025-67221: nesting that ends the process
        ("urllib3", (2, 7, 0)),  # CVE-2025-66471, CVE-2026-21441, CVE-2026-44432: unpacking without bound
        ("waitress", (3, 0, 1)),  # CVE-2024-49768, CVE-2024-49769: pipelined requests, a loop on closed links
        ("redis", (4, 5, 5)),  # CVE-2023-28858, CVE-2023-28859: answers that are another's
    ],
)
def test_packages_with_known_holes_cannot_be_installed(package: str, mended: tuple[int, ...]) -> None:
    """Neither from the lock nor beside it."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    (line,) = (one for one in wanted if re.match(rf"{package}[\[><=]", one))
    (least,) = re.findall(r">=([\d.]+)", line)
    pinned = re.search(rf"(?m)^{package}==([\d.]+)", (ROOT / "requirements.lock").read_text("utf-8"))
    assert pinned is not None
    for version in (least, pinned[1]):
        numbers = [*map(int, version.split(".")), 0, 0]
        assert tuple(numbers[:3]) >= mended, version


def test_what_could_be_reached_from_outside_is_off_by_default() -> None:
    """The port is this machine's, and the page only shows."""
    assert Settings.model_fields["http_host"].default in ("127.0.0.1", "localhost")
    assert Settings.model_fields["allow_actions"].default is False
