"""Run by the interpreter of .tools/venv: a JSON array of PromQL expressions on standard input, and for each
the labels that it uses of each metric, with the values that it asks for, on standard output. Exits with 1
where one cannot be parsed."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import promql_parser

_INNER = ("lhs", "rhs", "expr", "args", "vector_selector", "param")


def selectors(node: Any, grouped: frozenset[str] = frozenset()) -> Iterator[tuple[str, str, str | None]]:
    """Each metric in an expression, with each label that it is matched or grouped by, and the value that it
    is to have. Of a pattern each alternative is one."""
    kind = type(node).__name__
    if kind == "VectorSelector":
        yield node.name, "", None
        yield from ((node.name, label, None) for label in grouped)
        for matcher in node.matchers.matchers:
            values = matcher.value.split("|") if "Re" in str(matcher.op) else [matcher.value]
            yield from ((node.name, matcher.name, value) for value in values)
        return
    if kind == "AggregateExpr" and node.modifier is not None:
        grouped |= frozenset(node.modifier.labels)
    for name in _INNER:
        inner = getattr(node, name, None)
        for part in inner if isinstance(inner, list) else [inner]:
            if part is not None:
                yield from selectors(part, grouped)


def read(expression: str) -> dict[str, dict[str, list[str]]]:
    """The labels of each metric, each with its values."""
    found: dict[str, dict[str, list[str]]] = {}
    for name, label, value in selectors(promql_parser.parse(expression)):
        labels = found.setdefault(name, {})
        if label:
            labels.setdefault(label, []).extend([] if value is None else [value])
    return found


if __name__ == "__main__":
    json.dump([read(expression) for expression in json.load(sys.stdin)], sys.stdout)
