"""What strangers may send, for a while; `make soak` goes on for twenty minutes."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.fuzz import fuzz

SECONDS = 30.0 if os.environ.get("CI") == "true" else 5.0


@pytest.mark.parametrize("kind", ["redis", "rabbit"])
def test_whatever_is_sent_is_answered_or_set_aside(
    request: pytest.FixtureRequest, place: Path, kind: str, seed: int, figures: Callable[[str], None]
) -> None:
    """No worker dies, no neighbour goes unanswered, and no mistake of our own comes to light."""
    if kind == "rabbit":
        request.getfixturevalue("rabbit_installed")
    line, wrong = fuzz(place, kind, seed, SECONDS)
    figures(line)
    assert wrong == []
