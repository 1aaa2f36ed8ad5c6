"""Settings for people: each value and where it came from, secrets masked."""

from typing import Any

from broker.urls import mask
from worker.sources import Loaded


def as_rows(loaded: Loaded) -> list[tuple[str, Any, str]]:
    """Dotted name, value and origin of every setting in force."""
    rows: list[tuple[str, Any, str]] = []
    dumped = loaded.settings.model_dump(mode="json")
    for name, value in dumped.items():
        if name != "models":
            rows.append((name, _masked(name, value), loaded.origins.get(name, "default")))
    for model, fields in dumped["models"].items():
        for name, value in fields.items():
            origin = loaded.origins.get("\x1f".join(("models", model, name)), "default")
            rows.append((f"models.{model}.{name}", _masked(name, value), origin))
    return rows


def as_text(loaded: Loaded) -> str:
    """One aligned line each."""
    rows = [(name, _shown(value), origin) for name, value, origin in as_rows(loaded)]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(f"{n:<{widths[0]}}  {v:<{min(widths[1], 60)}}  {o}" for n, v, o in rows)


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)


def _masked(name: str, value: Any) -> Any:
    if name == "headers" and isinstance(value, dict):
        return dict.fromkeys(value, "***")
    if isinstance(value, str) and (name.endswith("_url") or name == "target"):
        return mask(value)
    return value
