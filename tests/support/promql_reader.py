"""Run by the interpreter of .tools/venv: a JSON array of PromQL expressions on standard input, and for each
the labels that it uses of each metric on standard output. Exits with 1 where one cannot be parsed."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import promql_parser

_INNER = ("lhs", "rhs", "expr", "args", "vector_selector", "param")


def selectors(node: Any, grouped: frozenset[str] = frozenset()) -> Iterator[tuple[str, set[str]]]:
    """Each metric in an expression, with the labels that it is matched or grouped by."""
    kind = type(node).__name__
    if kind == "VectorSelector":
        yield node.name, grouped | {matcher.name for matcher in node.matchers.matchers}
        return
    if kind == "AggregateExpr" and node.modifier is not None:
        grouped |= frozenset(node.modifier.labels)
    for name in _INNER:
        inner = getattr(node, name, None)
        for part in inner if isinstance(inner, list) else [inner]:
            if part is not None:
                yield from selectors(part, grouped)


def read(expression: str) -> dict[str, list[str]]:
    """The labels of each metric."""
    found: dict[str, set[str]] = {}
    for name, labels in selectors(promql_parser.parse(expression)):
        found.setdefault(name, set()).update(labels)
    return {name: sorted(labels) for name, labels in found.items()}


if __name__ == "__main__":
    json.dump([read(expression) for expression in json.load(sys.stdin)], sys.stdout)
