"""`map_frame`: an answer beside every row of a Polars or pandas frame."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from producer.client import Producer
from producer.tables import table_of
from rows.columns import flat
from wire.errors import outcome_of_copy
from wire.reply import Reply

Frame = TypeVar("Frame")

_RESULT = "result"
_OTHERS = ("outcome", "age_seconds", "error")
_NOT_FOR_A_FRAME = {
    "id": "it would be that of every row; rows are known by their order",
    "whole_requests": "a row is a payload; expected columns as payload, and directives",
}


def map_frame(
    frame: Frame,
    *,
    payload: Sequence[str] | str,
    producer: Producer | None = None,
    url: str | None = None,
    model: str | None = None,
    flatten: bool = False,
    **options: Any,
) -> Frame:
    """`frame` with the columns `result`, `outcome`, `age_seconds` and `error` behind its own.

    A row's payload is an object of the columns that `payload` names. Rows keep their order, and a pandas
    frame its index; `frame` itself stays as it is, and all of it is in memory. Missing values are null; dates
    and times are sent as ISO 8601 text, decimals as text.

    Equal payloads are sent once, and all their rows get the answer. The outcome of the first is that of the
    reply; of the others it is `coalesced` where the reply cost a model call, and else the same: that is what
    they would have been. A row that got no result has its `error` as `kind: message`; where there is one,
    `error` is null.

    With `flatten` the members of results that are objects become columns `result.NAME`, those of objects
    within them `result.NAME.NAME`; what is no object stays in `result`, which is there only if there is any.
    A column whose values have no type in common is JSON text in Polars, of Python's objects in pandas.

    `options` are those of `Producer.map`: `in_flight`, `pack`, `reply_timeout` and the directives, not `id`
    and `whole_requests`. Either `producer` or the `url` for one is given. Raises TypeError for what is no
    frame, ValueError for another option, for a column that is not there, is there twice, or holds what JSON
    cannot (bytes, durations), and where the frame already has a column of the names above; nothing is sent
    then. Otherwise raises as `Producer.map` does.
    """
    for name in _NOT_FOR_A_FRAME.keys() & options.keys():
        raise ValueError(f"map_frame takes no {name}: {_NOT_FOR_A_FRAME[name]}")
    table = table_of(frame)
    names = [payload] if isinstance(payload, str) else list(payload)
    _check(table.names, names, flatten=flatten)
    columns = [table.column(name) for name in names]
    payloads = [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)]
    with _producer(producer, url) as asked:
        replies = _ask(asked, payloads, {"model": model, **options})
    results = {_RESULT: [reply.result for reply in replies]}
    return table.plus(  # type: ignore[no-any-return]  # of the library that it came from
        _flattened(results[_RESULT]) if flatten else results,
        {
            "outcome": [str(reply.outcome) for reply in replies],
            "age_seconds": [reply.age_seconds for reply in replies],
            "error": [_error(reply) for reply in replies],
        },
    )


def _check(columns: Sequence[Any], names: Sequence[Any], *, flatten: bool) -> None:
    if not names or len(set(names)) < len(names):
        raise ValueError(f"payload is {list(names)}; expected names of columns, each once")
    for name in names:
        found = columns.count(name)
        if not isinstance(name, str) or found == 0:
            has = ", ".join(map(repr, columns)) or "none"
            raise ValueError(f"payload names {name!r}, and the frame has no such column; it has {has}")
        if found > 1:
            raise ValueError(f"payload names {name!r}, and the frame has {found} columns of that name")
    for name in columns:
        is_flat = flatten and isinstance(name, str) and name.startswith(f"{_RESULT}.")
        if name in (_RESULT, *_OTHERS) or is_flat:
            raise ValueError(f"the frame has a column {name!r} already; rename or drop it")


@contextlib.contextmanager
def _producer(given: Producer | None, url: str | None) -> Iterator[Producer]:
    if (given is None) == (url is None):
        raise ValueError("map_frame takes a producer, or the url for one: one of the two")
    if given is not None:
        yield given
    else:
        with Producer(url) as opened:
            yield opened


def _ask(producer: Producer, payloads: Sequence[Any], options: dict[str, Any]) -> list[Reply]:
    """A reply for each payload; equal ones are sent once."""
    # json's text, for orjson writes NaN as it writes null: a row with the one would be answered by the other.
    keys = [json.dumps(payload) for payload in payloads]
    places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    distinct = dict(zip(keys, payloads, strict=True))
    answers: dict[int, Reply] = {}
    for reply in producer.map((distinct[key] for key in places), whole_requests=False, **options):
        answers[reply.index] = reply
    replies, seen = list[Reply](), set[str]()
    for key in keys:
        reply = answers[places[key]]
        replies.append(_copy(reply) if key in seen else reply)
        seen.add(key)
    return replies


def _copy(reply: Reply) -> Reply:
    return dataclasses.replace(reply, outcome=outcome_of_copy(reply.outcome))


def _error(reply: Reply) -> str | None:
    if reply.ok:
        return None
    error = reply.error or {}
    return f"{error.get('kind')}: {error.get('message')}"


def _flattened(results: Sequence[Any]) -> dict[str, list[Any]]:
    """A column for each member that any result has, in the order in which they come."""
    columns: dict[str, list[Any]] = {}
    for row, result in enumerate(results):
        members = [] if result is None else list(flat(result, _RESULT))
        if len(dict(members)) < len(members):
            raise ValueError(f"flatten: two members of the result of row {row} (from 0) get the same name")
        for name, value in members:
            if name not in columns:
                columns[name] = [None] * len(results)
            columns[name][row] = value
    return columns or {_RESULT: [None] * len(results)}
