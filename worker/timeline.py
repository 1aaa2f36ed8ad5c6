"""How long one message may be held, next to everything that ends a hold before its time. Pure.

A hold is that of a message whose call begins at once: every attempt takes its whole timeout, and every wait
its longest, which is what a model asks for by Retry-After. A message that stands behind others in its worker
is held longer by their calls. The lease bounds nothing here: it is renewed while the loop turns, however long
a call takes, and is shown to be compared with.
"""

from dataclasses import dataclass

from worker.lane import SECOND_ROUNDS
from worker.probe import Line
from worker.retry import RETRY_AFTER_MAX_SECONDS
from worker.settings import ModelSettings, Settings

# RabbitMQ's default; nothing in AMQP says what it is.
CONSUMER_TIMEOUT_SECONDS = 1800.0
_AMQP = ("amqp", "pyamqp", "amqps")


@dataclass(frozen=True, slots=True)
class Hold:
    """The longest hold for one model. `rounds` is how often its threads must be free for a full worker."""

    model: str
    attempts: int
    timeout_seconds: float
    waits_seconds: float
    budget_seconds: float
    rounds: int

    @property
    def longest_seconds(self) -> float:
        """Of a message that is called for at once. The budget ends waits, never a call that has begun."""
        whole = self.attempts * self.timeout_seconds + self.waits_seconds
        return min(whole, self.budget_seconds + self.timeout_seconds)

    @property
    def full_seconds(self) -> float:
        """Of the last of as many messages as a worker may hold, where every call takes its longest."""
        return self.rounds * self.longest_seconds


def hold_of(name: str, model: ModelSettings) -> Hold:
    """The hold that these settings allow."""
    waits = sum(
        max(RETRY_AFTER_MAX_SECONDS, min(model.wait_max_seconds, model.wait_initial_seconds * 2.0**n))
        for n in range(model.attempts - 1)
    )
    return Hold(name, model.attempts, model.timeout_seconds, waits, model.budget_seconds, SECOND_ROUNDS)


def timeline(settings: Settings) -> list[Line]:
    """A line of `check` for each model, its figures aligned."""
    holds = [hold_of(name, model) for name, model in settings.models.items()]
    cells = [_cells(hold) for hold in holds]
    widths = [max(len(row[column]) for row in cells) for column in range(4)] if cells else []
    bounds = f"drain {seconds(settings.drain_seconds)} · lease {seconds(settings.lease_seconds)}"
    lines: list[Line] = []
    for hold, row in zip(holds, cells, strict=True):
        name, calls, waits, longest = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        wrong, hint = _wrong(hold, settings)
        said = f"{name}  {calls} + {waits} of waits: held {longest} at most · {bounds}"
        lines.append(("warn" if wrong else "ok", "timeline", "; ".join([said, *wrong]), hint))
    return lines


def _cells(hold: Hold) -> list[str]:
    calls = f"{hold.attempts} x {seconds(hold.timeout_seconds)}"
    return [hold.model, calls, seconds(hold.waits_seconds), seconds(hold.longest_seconds)]


def _wrong(hold: Hold, settings: Settings) -> tuple[list[str], str]:
    wrong, hints = [], []
    if hold.longest_seconds > settings.drain_seconds:
        wrong.append("a drain gives back what takes longer")
        hints.append(f"drain_seconds, or a smaller models.{hold.model}.budget_seconds or timeout_seconds")
    if settings.broker_url.partition(":")[0] in _AMQP and hold.full_seconds > CONSUMER_TIMEOUT_SECONDS:
        one = hold.longest_seconds > CONSUMER_TIMEOUT_SECONDS
        whose = "one message" if one else "a full worker"
        held = seconds(hold.longest_seconds if one else hold.full_seconds)
        wrong.append(f"{whose} may hold for {held}, and RabbitMQ closes the channel after 30 min")
        hints.append(
            f"consumer_timeout in rabbitmq.conf, or models.{hold.model}.budget_seconds"
            + ("" if one else f" or models.{hold.model}.timeout_seconds")
        )
    return wrong, "; ".join(hints)


def seconds(value: float) -> str:
    """Seconds, or minutes where there are many, to at most three figures."""
    return f"{value / 60:.3g} min" if value >= 600 else f"{value:.3g} s"
