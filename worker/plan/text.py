"""A plan for people and for programs."""

from collections.abc import Mapping, Sequence
from typing import Any

from wire.errors import Outcome
from worker.console import printable
from worker.durations import span
from worker.plan.planner import ModelPlan, Planner
from worker.plan.speed import Speed
from worker.plan.volatile import Volatile

_REMEMBERED = (Outcome.HIT, Outcome.STALE)
_SHOWN = 3  # problems


def as_dict(
    planner: Planner, plans: Sequence[ModelPlan], speeds: Mapping[str, Speed | None]
) -> dict[str, Any]:
    """As JSON can carry it; `seconds` is null where the model's speed is not known."""
    return {
        "rows": planner.rows,
        "invalid": planner.invalid,
        "problems": [{"line": number, "problem": problem} for number, problem in planner.problems],
        "models": {plan.name: _model(plan, speeds[plan.name]) for plan in plans},
    }


def _model(plan: ModelPlan, speed: Speed | None) -> dict[str, Any]:
    volatile = plan.volatile
    return {
        "rows": plan.rows,
        "distinct": plan.distinct,
        "remembered": remembered(plan),
        "outcomes": {outcome.value: count for outcome, count in plan.outcomes.items()},
        "calls": plan.calls,
        "calls_at_least": plan.has_rule,
        "renewals": plan.renewals,
        "repeats": plan.repeats,
        "seconds": None if speed is None else plan.calls / speed.per_second,
        "calls_per_second": None if speed is None else speed.per_second,
        "measured": None if speed is None else speed.source,
        "seconds_at_best": None if speed is None or not speed.at_best else plan.calls / speed.at_best,
        "volatile": None
        if volatile is None
        else {
            "fields": list(volatile.fields),
            "distinct": volatile.distinct,
            "judged_by_rows": volatile.judged_by,
            "setting": volatile.setting,
        },
    }


def remembered(plan: ModelPlan) -> int:
    """How many rows are answered from the cache."""
    return sum(plan.outcomes[outcome] for outcome in _REMEMBERED)


def as_text(planner: Planner, plans: Sequence[ModelPlan], speeds: Mapping[str, Speed | None]) -> str:
    """A line or two for each model, and what is wrong with rows."""
    lines = [line for plan in plans for line in _lines(plan, speeds[plan.name], named=len(plans) > 1)]
    if planner.invalid or not plans:
        lines.append(f"{planner.invalid:,} of {planner.rows:,} rows invalid" if planner.rows else "no rows")
    lines += [f"  {printable(said)}" for _, said in planner.problems[:_SHOWN]]
    return "\n".join(lines)


def _lines(plan: ModelPlan, speed: Speed | None, *, named: bool) -> list[str]:
    name = f"{printable(plan.name)}: " if named else ""
    lines = [
        f"{name}{plan.rows:,} rows · {plan.distinct:,} distinct · {remembered(plan):,} remembered → "
        f"{'at least ' if plan.has_rule and plan.calls else ''}{_calls(plan.calls, speed)}"
    ]
    if plan.calls:
        lines += _known_by(plan.calls, speed)
    if plan.has_rule and plan.calls:
        lines.append("  at least: what `cacheable` refuses is not remembered, and asked for again")
    if plan.repeats:
        lines.append(f"  {plan.repeats:,} rows are answered by the call of an equal one")
    others = [(o, n) for o, n in plan.outcomes.items() if o not in _REMEMBERED and n]
    lines += [f"  {count:,} would end as {outcome.value}" for outcome, count in others]
    return lines if plan.volatile is None else [*lines, *_advice(plan, plan.volatile, speed)]


def _calls(count: int, speed: Speed | None) -> str:
    calls = f"{count:,} model {'call' if count == 1 else 'calls'}"
    if not count or speed is None:
        return calls
    return f"{calls}, about {span(max(1.0, count / speed.per_second))} at {_rate(speed.per_second)}"


def _rate(per_second: float) -> str:
    return f"{per_second:,.0f}/s" if per_second >= 10 else f"{per_second:.2g}/s"


def _known_by(count: int, speed: Speed | None) -> list[str]:
    if speed is None:
        return ["  how long that takes is unknown: no call was measured in the last hour"]
    lines = [f"  measured: {speed.source}"]
    if speed.at_best is not None:
        lines.append(
            f"  the model was not busy then: at best {span(max(1.0, count / speed.at_best))} at "
            f"{_rate(speed.at_best)}, if {speed.how} is what it can do"
        )
    return lines


def _advice(plan: ModelPlan, volatile: Volatile, speed: Speed | None) -> list[str]:
    """Keys are made with their selection: what a change would find remembered is nothing, and it is said."""
    fields = " and ".join(f"`{printable(name)}`" for name in volatile.fields)
    few = f" (judged by the first {volatile.judged_by:,})" if volatile.judged_by < plan.rows else ""
    one = len(volatile.fields) == 1
    verb = "differs" if one else "differ"
    return [
        f"! {fields} {verb} in nearly every row{few}. Without: {volatile.distinct:,} distinct. A changed "
        f"setting makes new keys. The first time: {_calls(volatile.distinct, speed)}; "
        "later: none for equal rows",
        f"  hint: if the model does not read {'it' if one else 'them'}, "
        f"set {volatile.setting} under [models.{printable(plan.name)}]",
    ]
