"""What a run has measured: figures by workload, contestant and name, and what failed."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.stats import Summary, summarise


@dataclass
class Results:
    """Raw figures, one for each round, kept in the order they came.

    `failures` say which contestant did not run through, in which workload, and why; `skipped` why a section
    is missing; `facts` describe machine and settings.
    """

    figures: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    failures: list[dict[str, str]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def add(self, workload: str, contestant: str, name: str, value: float) -> None:
        """One round's figure."""
        self.figures.setdefault(workload, {}).setdefault(contestant, {}).setdefault(name, []).append(value)

    def fail(self, workload: str, contestant: str, error: object) -> None:
        """A contestant did not run through; said once for each error."""
        said = {"workload": workload, "contestant": contestant, "error": str(error)[-500:]}
        if said not in self.failures:
            self.failures.append(said)

    def summary(self, workload: str, contestant: str, name: str) -> Summary | None:
        """The summary of a figure; None where it was not measured."""
        return summarise(self.figures.get(workload, {}).get(contestant, {}).get(name, []))

    def contestants(self, workload: str) -> list[str]:
        """Who has a figure there, in the order they first ran."""
        return list(self.figures.get(workload, {}))

    def best(
        self, workload: str, name: str, among: Iterable[str], *, least: bool = False
    ) -> tuple[str, Summary] | None:
        """Who of these has the highest median (or the lowest), and that; None where nobody has one."""
        found = [(who, summary) for who in among if (summary := self.summary(workload, who, name))]
        if not found:
            return None
        return (min if least else max)(found, key=lambda pair: pair[1].median)

    def save(self, path: Path) -> None:
        """Write everything as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(vars(self), indent=1) + "\n", "utf-8")

    @classmethod
    def load(cls, path: Path) -> "Results":
        """What `save` wrote. Raises OSError or ValueError."""
        return cls(**json.loads(path.read_text("utf-8")))
