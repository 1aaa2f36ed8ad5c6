"""A soak must see what grows, and overlook what only wavers."""

from typing import Any

import pytest

from tests.chaos.soak import SLACK, Soak


def soaked(**samples: list[float]) -> list[str]:
    none: Any = None
    run = Soak(none, none, none, 0)
    run.samples = {name: samples.get(name, [100.0] * 80) for name in SLACK}
    return list(run.growth())


def test_what_only_wavers_is_no_growth() -> None:
    """A warm-up in the first quarter, a peak at the restart, a little noise."""
    warming = [50.0 + n for n in range(20)] + [70.0, 71.0, 70.0] * 20
    warming[40] = 500.0
    assert soaked(rss_kb=[1000 * value for value in warming]) == []


@pytest.mark.parametrize("name", SLACK)
def test_steady_growth_is_seen(name: str) -> None:
    """Slowly, but for ever: a third more in the last quarter than in the second."""
    (said,) = soaked(**{name: [20_000.0 + 400 * n for n in range(80)]})
    assert said.startswith(f"{name} grew from ")


@pytest.mark.parametrize("name", ["fds", "threads"])
def test_a_few_descriptors_or_threads_too_many_are_seen(name: str) -> None:
    """A leak of one for every tenth sample."""
    assert len(soaked(**{name: [10.0 + n // 10 for n in range(80)]})) == 1
