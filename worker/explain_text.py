"""What `cache explain` found, for people."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from worker.catalog import Model
from worker.console import printable
from worker.differences import WHOLE, Difference, differences
from worker.durations import ago, span
from worker.explain import DIGEST, Unanswerable, payload_of

_SHOWN = 40  # characters of a value
_MOST = 50  # differences


class Comparison(NamedTuple):
    """What makes two payloads differ, whether they have one key, what else they have in common, and the
    setting that would make their keys one, where there is any."""

    differ: list[Difference]
    same: list[str]
    is_one_key: bool
    hint: str | None

    def as_dict(self) -> dict[str, Any]:
        """As JSON can carry it."""
        differ = [one._asdict() for one in self.differ]
        return {"same_key": self.is_one_key, "differ": differ, "same": self.same, "hint": self.hint}

    @property
    def why(self) -> str:
        """One sentence."""
        if not self.differ:
            return "these are one payload: the order of fields and the spaces do not count"
        deciding = ", ".join(dict.fromkeys(one.field or WHOLE for one in self.differ if one.in_key))
        if self.is_one_key:
            return "these have one key: what differs is not part of it"
        return f"these are two keys, because of {printable(deciding)}"


def compared(first: str, second: str, model: Model) -> Comparison:
    """Two payloads as this model's keys see them. Raises Unanswerable."""
    if any(DIGEST.fullmatch(one.strip()) for one in (first, second)):
        raise Unanswerable("expected two JSON payloads to compare; a key does not tell what it was made of")
    payloads = payload_of(first), payload_of(second)
    values = [orjson.loads(payload) for payload in payloads]
    differ = differences(values[0], values[1], model.selection)
    changed = {one.field for one in differ}
    deciding = sorted({one.field for one in differ if one.in_key and one.field is not None})
    same = [name for name in values[0] if name not in changed] if None not in changed else []
    return Comparison(
        differ,
        same if all(isinstance(value, dict) for value in values) else [],
        model.key(payloads[0]) == model.key(payloads[1]),
        model.leaving_out(deciding).selection_line() if deciding else None,
    )


def as_text(found: Sequence[Mapping[str, Any]], comparison: Comparison | None) -> str:
    """A few lines for each payload, and what makes them differ."""
    lines = [line for one in found for line in _lines(one)]
    if comparison is not None:
        lines += _difference_lines(comparison, str(found[0]["model"]))
    return "\n".join(lines)


def _lines(found: Mapping[str, Any]) -> list[str]:
    fields = found["fields"]
    chosen = "all" if fields is None else orjson.dumps(fields).decode()
    head = (
        f"{'HIT ' if found['is_hit'] else 'MISS'}   {found['key']}\n"
        f"       model {found['model']} · version {found['version']} · generation {found['generation']} · "
        f"recipe {found['recipe']} · fields: {chosen}"
    )
    lines = [printable(line) for line in head.split("\n")]
    if found["is_stored"]:
        ttl = found["ttl_seconds"]
        left = f"expires in {span(ttl)}" if ttl > 0 else f"expired {ago(-ttl)}"
        lines.append(
            f"       stored {ago(found['age_seconds'])}, {span(found['model_seconds'])} of model time, "
            f"{found['size_bytes']:,} bytes, {left}"
        )
    return lines if found["is_hit"] else [*lines, printable(f"why    {found['why']}")]


def _difference_lines(comparison: Comparison, model: str) -> list[str]:
    lines = [
        printable(
            f"differ {one.path}  {_short(one.first)} / {_short(one.second)}"
            + ("" if one.in_key else "   (not part of the key)")
        )
        for one in comparison.differ[:_MOST]
    ]
    if len(comparison.differ) > _MOST:
        lines.append(f"       and {len(comparison.differ) - _MOST:,} more; --json shows all")
    if comparison.same:
        lines.append(printable(f"same   {', '.join(comparison.same)}"))
    lines.append(f"why    {comparison.why}")
    if comparison.hint is not None and not comparison.is_one_key:
        lines.append(
            printable(f"hint   if the model does not read it: {comparison.hint} under [models.{model}]")
        )
    return lines


def _short(text: str | None) -> str:
    if text is None:
        return "(absent)"
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
