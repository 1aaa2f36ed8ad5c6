"""A short storm over each real broker; `make chaos` blows longer."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.run import chaos

SECONDS = 15.0


@pytest.mark.parametrize("kind", ["redis", "rabbit"])
def test_a_short_storm(
    kind: str, tmp_path: Path, seed: int, figures: Callable[[str], None], request: pytest.FixtureRequest
) -> None:
    """Killed workers, producers and servers, cut and held connections: then nothing is missing or left."""
    if kind == "rabbit":
        request.getfixturevalue("rabbit_installed")
    line, wrong = chaos(tmp_path, kind, seed, SECONDS)
    figures(line)
    assert not wrong, line
