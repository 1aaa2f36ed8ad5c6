"""How long a message may be held, as a table of cases."""

from typing import Any

import pytest

from worker.settings import ModelSettings, Settings
from worker.timeline import CONSUMER_TIMEOUT_SECONDS, hold_of, seconds, timeline


def build(models: dict[str, dict[str, Any]], **settings: Any) -> Settings:
    """Settings with these models."""
    urls = {"broker_url": "redis://h/0", "cache_url": "redis://h/1"}
    built = {name: ModelSettings(target="http://h/p", **model) for name, model in models.items()}
    return Settings(**{**urls, **settings}, models=built)


@pytest.mark.parametrize(
    ("model", "waits", "longest"),
    [
        ({}, 120, 150),  # 3 x 30 and two Retry-Afters of 60, ended by the budget of 120 and one call
        ({"budget_seconds": 1000}, 120, 210),
        ({"attempts": 1}, 0, 30),
        ({"attempts": 1, "budget_seconds": 1}, 0, 30),
        ({"attempts": 1, "timeout_seconds": 600}, 0, 600),  # the budget ends no call that has begun
        ({"attempts": 2, "timeout_seconds": 0.5, "budget_seconds": 0.2}, 60, 0.7),
        ({"wait_initial_seconds": 100, "wait_max_seconds": 150, "budget_seconds": 1000}, 250, 340),
        ({"attempts": 100, "budget_seconds": 31_536_000}, 99 * 60, 100 * 30 + 99 * 60),
    ],
)
def test_the_longest_hold(model: dict[str, Any], waits: float, longest: float) -> None:
    """attempts x timeout + waits, and never longer than the budget and one timeout."""
    settings = build({"m": model})
    hold = hold_of("m", settings.models["m"])
    assert hold.waits_seconds == pytest.approx(waits)
    assert hold.longest_seconds == pytest.approx(longest)


@pytest.mark.parametrize(
    ("model", "settings", "said"),
    [
        ({"attempts": 1}, {"drain_seconds": 30}, []),
        ({"attempts": 1}, {"drain_seconds": 29}, ["a drain gives back what takes longer"]),
        ({}, {"drain_seconds": 150}, []),
        ({"timeout_seconds": 1800, "attempts": 1}, {"drain_seconds": 1800}, []),  # Redis has no such timeout
        (
            {"timeout_seconds": 1801, "attempts": 1},
            {"drain_seconds": 2000, "broker_url": "pyamqp://h//"},
            ["one message may hold for 30 min", "RabbitMQ closes the channel after 30 min"],
        ),
        (
            {"timeout_seconds": 200, "budget_seconds": 1000},
            {"drain_seconds": 800, "broker_url": "amqps://h//"},
            ["a full worker may hold for 48 min", "RabbitMQ closes"],
        ),
        ({}, {"drain_seconds": 200, "broker_url": "amqp://h//"}, []),
        (
            {"timeout_seconds": 2000},
            {"broker_url": "amqp://h//"},
            ["a drain gives back", "one message may hold for 35.3 min"],
        ),
    ],
)
def test_what_is_warned_of(model: dict[str, Any], settings: dict[str, Any], said: list[str]) -> None:
    """A drain that is too short, and RabbitMQ's consumer timeout; the hint names settings."""
    ((verdict, what, line, hint),) = timeline(build({"m": model}, **settings))
    assert (verdict, what) == ("warn" if said else "ok", "timeline")
    assert all(part in line for part in said), line
    assert bool(hint) == bool(said)
    assert ("drain_seconds" in hint) == ("a drain" in line)
    assert ("consumer_timeout in rabbitmq.conf" in hint) == ("RabbitMQ" in line)


def test_lines_are_aligned() -> None:
    """One a model; no models, no lines."""
    lines = timeline(build({"a": {}, "longer": {"attempts": 10, "timeout_seconds": 1.5}}, drain_seconds=500))
    assert [line for _, _, line, _ in lines] == [
        "a       3 x 30 s   + 120 s of waits: held 150 s at most · drain 500 s · lease 30 s",
        "longer  10 x 1.5 s + 540 s of waits: held 122 s at most · drain 500 s · lease 30 s",
    ]
    assert timeline(build({})) == []


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.1, "0.1 s"), (599, "599 s"), (CONSUMER_TIMEOUT_SECONDS, "30 min"), (90_000, "1.5e+03 min")],
)
def test_lengths_are_readable(value: float, said: str) -> None:
    """Seconds or minutes."""
    assert seconds(value) == said
