"""`map_frame` on real Polars and pandas frames, from the environment of examples/frames.

The broker is one in memory that answers as a test says; the example, at the end, has a real worker.
"""

import datetime
import decimal
import importlib
import json
import math
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from broker.base import Message
from producer.client import Producer
from recollect import map_frame
from tests.support.environments import borrow_packages_of, python_of
from tests.support.processes import ROOT, clean_environment
from tests.support.rig import Rig
from tests.unit.test_producer_client import MemoryBroker
from wire.errors import ErrorKind, Failure, Outcome
from wire.message import Limits, Request, decode_requests
from wire.reply import Provenance, encode_failure, encode_result

Frames = Any  # polars or pandas: neither is installed where this file is checked


class AnsweringBroker(MemoryBroker):
    """Answers by `answer`, which returns a result or raises; and with `outcome`."""

    def __init__(self) -> None:
        super().__init__()
        self.answer: Callable[[Any], Any] = lambda payload: payload
        self.outcome = Outcome.MISS

    def _answer(self, message: Message) -> None:
        lines = []
        for request in decode_requests(message.body, message.content_type, message.correlation_id, Limits()):
            assert isinstance(request, Request)
            payload = orjson.loads(request.payload)
            self.served.append(payload)
            try:
                result = orjson.dumps(self.answer(payload))
                lines.append(encode_result(request.id, result, Provenance(self.outcome, age_seconds=2.5)))
            except RuntimeError as error:
                failure = Failure(ErrorKind.MODEL_REJECTED, str(error))
                lines.append(encode_failure(request.id, failure, Provenance(Outcome.FAILED)))
        body = b"\n".join(lines) + b"\n"
        answer = Message(body, message.content_type, message.correlation_id)
        self.queues[message.reply_to or "recollect.replies"].append(answer)


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    borrow_packages_of("frames")


@pytest.fixture(params=["polars", "pandas"])
def lib(request: pytest.FixtureRequest) -> Frames:
    return importlib.import_module(request.param)


@pytest.fixture
def pl() -> Frames:
    return importlib.import_module("polars")


@pytest.fixture
def pd() -> Frames:
    return importlib.import_module("pandas")


@pytest.fixture
def broker() -> AnsweringBroker:
    return AnsweringBroker()


@pytest.fixture
def producer(broker: AnsweringBroker) -> Iterator[Producer]:
    with Producer(broker=broker) as opened:
        yield opened


def values(frame: Any, name: str) -> list[Any]:
    """A column as Python values; what is missing is None."""
    column = frame[name]
    if hasattr(column, "to_list") and type(column).__module__.startswith("polars"):
        return list(column.to_list())
    return [
        None if gone is True else value for value, gone in zip(column.tolist(), column.isna(), strict=True)
    ]


def test_rows_keep_their_order_and_their_columns(lib: Frames, producer: Producer, broker: Any) -> None:
    """Whatever the order of the replies; the frame that was given stays as it was."""
    frame = lib.DataFrame({"n": list(range(100)), "text": [f"t{n}" for n in range(100)], "w": [0.5] * 100})
    broker.slow = {orjson.dumps({"n": 5, "text": "t5"})}
    made = map_frame(frame, payload=["n", "text"], producer=producer, in_flight=30, pack=3)
    assert type(made) is type(frame)
    assert list(made.columns) == ["n", "text", "w", "result", "outcome", "age_seconds", "error"]
    assert values(made, "result") == [{"n": n, "text": f"t{n}"} for n in range(100)]
    assert values(made, "outcome") == ["miss"] * 100
    assert values(made, "age_seconds") == [2.5] * 100
    assert values(made, "error") == [None] * 100
    assert list(frame.columns) == ["n", "text", "w"]


@pytest.mark.parametrize(
    ("outcome", "copies"),
    [
        (Outcome.MISS, "coalesced"),
        (Outcome.BYPASS, "coalesced"),
        (Outcome.COALESCED, "coalesced"),
        (Outcome.HIT, "hit"),
        (Outcome.STALE, "stale"),
    ],
)
def test_equal_payloads_are_sent_once(
    lib: Frames, producer: Producer, broker: AnsweringBroker, outcome: Outcome, copies: str
) -> None:
    """All their rows get the answer; no copy says that it cost a model call."""
    broker.outcome = outcome
    frame = lib.DataFrame({"text": ["b", "a", "b", "b"], "row": [0, 1, 2, 3]})
    made = map_frame(frame, payload="text", producer=producer)
    assert sorted(broker.served, key=str) == [{"text": "a"}, {"text": "b"}]
    assert values(made, "result") == [{"text": text} for text in "babb"]
    assert values(made, "outcome") == [outcome, outcome, copies, copies]
    assert values(made, "row") == [0, 1, 2, 3]


def test_values_that_are_nearly_equal_are_sent_apart(pl: Frames, producer: Producer, broker: Any) -> None:
    """1 and 1.0 and "1" and true have keys of their own, and a NaN is not null."""
    for cells in ([1], [1.0], ["1"], [True], [None]):
        map_frame(pl.DataFrame({"x": cells}), payload="x", producer=producer)
    assert [json.dumps(p["x"]) for p in broker.served] == ["1", "1.0", '"1"', "true", "null"]
    made = map_frame(pl.DataFrame({"x": [None, math.nan]}), payload="x", producer=producer)
    assert values(made, "outcome") == ["miss", "invalid"]
    assert "nan" in values(made, "error")[1]


def test_rows_that_fail_say_why_and_the_rest_go_on(
    lib: Frames, producer: Producer, broker: AnsweringBroker
) -> None:
    """One from the model, one that JSON cannot carry; copies of the first have its error."""

    def answer(payload: Any) -> float:
        if payload["x"] == 2:
            raise RuntimeError("no twos")
        return float(payload["x"]) / 2

    broker.answer = answer
    frame = lib.DataFrame({"x": [1.0, 2.0, math.inf, 2.0]})
    made = map_frame(frame, payload=["x"], producer=producer)
    assert values(made, "outcome") == ["miss", "failed", "invalid", "failed"]
    assert values(made, "result") == [0.5, None, None, None]
    errors = values(made, "error")
    assert errors[0] is None
    assert errors[1] == errors[3] == "model_rejected: no twos"
    assert errors[2].startswith("invalid_request: ")
    assert "inf" in errors[2]
    assert values(made, "age_seconds") == [2.5, None, None, None]


TIME = datetime.datetime(2024, 2, 29, 12, 30, 1, 5)


@pytest.mark.parametrize(
    ("cell", "sent"),
    [
        (TIME, "2024-02-29T12:30:01.000005"),
        (TIME.replace(tzinfo=datetime.UTC), "2024-02-29T12:30:01.000005+00:00"),
        (datetime.date(2024, 2, 29), "2024-02-29"),
        (datetime.time(1, 2, 3), "01:02:03"),
        (decimal.Decimal("12.50"), "12.50"),
        ([1, 2], [1, 2]),
        ([TIME], ["2024-02-29T12:30:01.000005"]),
        ({"a": {"b": [None, "x"]}}, {"a": {"b": [None, "x"]}}),
        (True, True),
        ("é\n\u2028", "é\n\u2028"),
    ],
)
def test_types_are_kept(lib: Frames, producer: Producer, broker: Any, cell: Any, sent: Any) -> None:
    """What JSON has arrives as it is, the rest as text; a missing cell is null beside each of them."""
    frame = lib.DataFrame({"x": [cell, None], "y": ["first", "second"]})
    map_frame(frame, payload=["x", "y"], producer=producer)
    by_name = {payload["y"]: payload["x"] for payload in broker.served}
    assert by_name == {"first": sent, "second": None}
    assert type(by_name["first"]) is type(sent)


def test_times_keep_their_nanoseconds(pl: Frames, producer: Producer, broker: Any) -> None:
    """Two rows that differ in nothing else are two payloads; alone, in lists, arrays and structs."""
    counts = [1_000_000_001_000, 1_000_000_001_001, None, -1]
    zone = pl.Datetime("ns", "Asia/Tokyo")
    times = pl.Series(counts, dtype=pl.Int64)
    lists = pl.Series([[1_001, None], [1_002, None], None, []], dtype=pl.List(pl.Int64))
    arrays = pl.Series([[1_001], [1_002], None, [None]], dtype=pl.Array(pl.Int64, 1))
    clock = pl.Series([1_000, 1_001, None, 86_399_999_999_999], dtype=pl.Int64).cast(pl.Time)
    frame = pl.DataFrame(
        {
            "row": [0, 1, 2, 3],
            "naive": times.cast(pl.Datetime("ns")),
            "zone": times.cast(zone),
            "clock": clock,
            "list": lists.cast(pl.List(pl.Datetime("ns"))),
            "array": arrays.cast(pl.Array(pl.Datetime("ns"), 1)),
            "struct": pl.DataFrame({"in": clock, "n": [[1], [2], None, []]}).to_struct(),
        }
    )
    map_frame(frame, payload=frame.columns, producer=producer)
    sent = sorted(broker.served, key=lambda payload: int(payload["row"]))
    assert [[payload[name] for name in frame.columns[1:]] for payload in sent] == [
        ["1970-01-01T00:16:40.000001", "1970-01-01T09:16:40.000001+09:00", "00:00:00.000001",
         ["1970-01-01T00:00:00.000001001", None], ["1970-01-01T00:00:00.000001001"],
         {"in": "00:00:00.000001", "n": [1]}],
        ["1970-01-01T00:16:40.000001001", "1970-01-01T09:16:40.000001001+09:00", "00:00:00.000001001",
         ["1970-01-01T00:00:00.000001002", None], ["1970-01-01T00:00:00.000001002"],
         {"in": "00:00:00.000001001", "n": [2]}],
        [None, None, None, None, None, {"in": None, "n": None}],
        ["1969-12-31T23:59:59.999999999", "1970-01-01T08:59:59.999999999+09:00", "23:59:59.999999999",
         [], [None], {"in": "23:59:59.999999999", "n": []}],
    ]  # fmt: skip


def test_integers_keep_all_their_digits(lib: Frames, producer: Producer, broker: Any) -> None:
    """And stay integers: 1 and 1.0 have keys of their own."""
    cells = [2**53 + 1, -(2**63), 2**63 - 1]
    map_frame(lib.DataFrame({"x": cells}), payload="x", producer=producer)
    assert [payload["x"] for payload in broker.served] == cells
    assert {type(payload["x"]) for payload in broker.served} == {int}


def test_what_pandas_calls_missing_is_null(pd: Frames, producer: Producer, broker: Any) -> None:
    """NaN, NaT, NA and None, in a column of any kind; and integers beside a missing one where it has them."""
    frame = pd.DataFrame(
        {
            "float": [1.5, math.nan],
            "time": pd.to_datetime(["2024-01-01T00:00:00", None]),
            "whole": pd.array([7, None], dtype="Int64"),
            "any": pd.Series([{"t": pd.NaT, "n": pd.NA}, None], dtype=object),
            "kind": pd.Categorical(["a", None]),
        }
    )
    map_frame(frame, payload=list(frame.columns), producer=producer)
    assert broker.served == [
        {
            "float": 1.5,
            "time": "2024-01-01T00:00:00",
            "whole": 7,
            "any": {"t": None, "n": None},
            "kind": "a",
        },
        dict.fromkeys(frame.columns),
    ]
    assert type(broker.served[0]["whole"]) is int


def test_what_is_missing_in_lists_of_pandas_is_null(pd: Frames, producer: Producer, broker: Any) -> None:
    """NaN as in a column, to whatever depth; such a row is not `invalid`."""
    numpy = importlib.import_module("numpy")
    cells = [[1.5, math.nan], {"a": [math.nan], "b": math.nan}, numpy.array([math.nan, 2.5])]
    made = map_frame(pd.DataFrame({"x": pd.Series(cells, dtype=object)}), payload="x", producer=producer)
    assert [payload["x"] for payload in broker.served] == [[1.5, None], {"a": [None], "b": None}, [None, 2.5]]
    assert values(made, "outcome") == ["miss"] * 3


def test_numpy_values_in_cells_are_what_they_hold(pd: Frames, producer: Producer, broker: Any) -> None:
    """Arrays, as Parquet gives lists; numbers; times, which numpy itself would turn into integers."""
    numpy = importlib.import_module("numpy")
    cells = [
        numpy.array([[1, 2], [3, 4]]),
        numpy.int16(5),
        numpy.float32(0.5),
        numpy.bool_(True),
        numpy.str_("s"),
        numpy.datetime64("2024-01-01T00:00:00", "ns"),
        numpy.array(["2024-01-01", "NaT"], dtype="datetime64[D]"),
        uuid.UUID(int=1),
    ]
    map_frame(pd.DataFrame({"x": pd.Series(cells, dtype=object)}), payload="x", producer=producer)
    assert [payload["x"] for payload in broker.served] == [
        [[1, 2], [3, 4]], 5, 0.5, True, "s", "2024-01-01T00:00:00.000000000", ["2024-01-01", None],
        str(uuid.UUID(int=1)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "cell", [b"bytes", datetime.timedelta(seconds=1), {1: "a"}, decimal.Decimal("Infinity"), object()]
)
def test_what_is_not_json_is_refused_before_anything_is_sent(
    pd: Frames, producer: Producer, broker: Any, cell: Any
) -> None:
    """The column, the row and what was expected."""
    frame = pd.DataFrame({"x": pd.Series(["fine", cell], dtype=object)})
    with pytest.raises(ValueError, match=r"column 'x', row 1 \(from 0\)"):
        map_frame(frame, payload="x", producer=producer)
    assert broker.served == []


def test_an_empty_frame_gets_its_columns(lib: Frames, producer: Producer, broker: Any) -> None:
    """And nothing is sent."""
    for flatten in (False, True):
        made = map_frame(lib.DataFrame({"x": []}), payload="x", producer=producer, flatten=flatten)
        assert list(made.columns) == ["x", "result", "outcome", "age_seconds", "error"]
        assert len(made) == 0
    assert broker.sent == []


def test_the_index_of_pandas_is_kept(pd: Frames, producer: Producer) -> None:
    """Also one that has a label twice, and one of several levels."""
    frame = pd.DataFrame({"x": [3, 1, 2]}, index=["b", "a", "b"])
    made = map_frame(frame, payload="x", producer=producer, flatten=True)
    assert made.index.tolist() == ["b", "a", "b"]
    assert made["result.x"].tolist() == [3, 1, 2]
    levels = frame.set_index(pd.MultiIndex.from_tuples([(1, "a"), (1, "b"), (2, "a")]))
    made = map_frame(levels, payload="x", producer=producer)
    assert made.index.equals(levels.index)
    assert [result["x"] for result in made["result"]] == [3, 1, 2]


def test_flatten_makes_columns_of_members(lib: Frames, producer: Producer, broker: AnsweringBroker) -> None:
    """To any depth, also of those that only some rows have; with types."""
    answers: dict[str, Any] = {
        "a": {"label": "pos", "score": {"mean": 1, "top": [1, 2]}},
        "b": {"label": "neg", "score": {"mean": 2.5}, "note": None},
        "c": 7,
        "d": None,
    }
    broker.answer = lambda payload: answers[payload["x"]]
    made = map_frame(lib.DataFrame({"x": list("abcd")}), payload="x", producer=producer, flatten=True)
    names = ["result.label", "result.score.mean", "result.score.top", "result.note", "result"]
    assert list(made.columns) == ["x", *names, "outcome", "age_seconds", "error"]
    assert values(made, "result.label") == ["pos", "neg", None, None]
    assert values(made, "result.score.mean") == [1.0, 2.5, None, None]
    assert values(made, "result.score.top") == [[1, 2], None, None, None]
    assert values(made, "result") == [None, None, 7, None]
    assert "loat64" in str(made["result.score.mean"].dtype)


@pytest.mark.parametrize(
    "results",
    [
        [{"a": 1}, {"b": 2}],
        [{"a": None}] * 150 + [{"a": 1, "b": [1, 2]}],
        [[1], [2.5]],
        [1, 2.5],
        [1, "1"],
        [True, 1],
        [{"a": [1]}, {"a": 3}],
        [1.5, 2**60 + 1],
        [{"a": 1}, {"a": "x"}],
        [{"a": 1}, 3],
        [None, {"a": {"b": []}}],
        [None, None],
        [0, False, None, "", [], {}],
    ],
)
def test_no_result_is_changed_by_its_column(
    lib: Frames, producer: Producer, broker: AnsweringBroker, results: list[Any]
) -> None:
    """Results of different forms in one column: each is there as it came, if need be as JSON text."""
    broker.answer = lambda payload: results[payload["n"]]
    made = map_frame(lib.DataFrame({"n": list(range(len(results)))}), payload="n", producer=producer)
    found = values(made, "result")
    if lib.__name__ == "polars" and made["result"].dtype == lib.String:
        found = [None if text is None else json.loads(text) for text in found]
    assert [without_nulls(one) for one in found] == [without_nulls(one) for one in results]
    assert len(made) == len(results)


def test_integers_of_pandas_stay_so_beside_rows_that_failed(
    pd: Frames, producer: Producer, broker: AnsweringBroker
) -> None:
    """With all their digits, as results and as members; what Int64 cannot hold stays an object."""

    def answer(payload: Any) -> Any:
        if payload["x"] is None:
            raise RuntimeError("no row")
        return payload["x"]

    broker.answer = answer
    for number, kind in ((7, "Int64"), (2**60 + 1, "Int64"), (2**63, "object")):
        frame = pd.DataFrame({"x": pd.Series([number, None], dtype=object)})
        made = map_frame(frame, payload="x", producer=producer)
        assert made["result"].dtype == kind
        assert type(made["result"].tolist()[0]) is int
        assert values(made, "result") == [number, None]
    broker.answer = lambda payload: {"n": answer(payload)}
    frame = pd.DataFrame({"x": pd.Series([3, None], dtype=object)})
    assert map_frame(frame, payload="x", producer=producer, flatten=True)["result.n"].dtype == "Int64"


def without_nulls(value: Any) -> Any:
    """A value by which JSON and the columns of frames can be compared: there a missing member is null, and an
    integer beside fractions is one of them."""
    if isinstance(value, dict):
        return {name: without_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return ("number", value) if type(value) in (int, float) else (type(value).__name__, value)


@pytest.mark.parametrize(
    ("columns", "options", "said"),
    [
        (["x"], {"payload": "y"}, "names 'y'.*it has 'x'"),
        (["x"], {"payload": []}, "each once"),
        (["x"], {"payload": ["x", "x"]}, "each once"),
        (["x", "outcome"], {"payload": "x"}, "'outcome' already"),
        (["x", "result.a"], {"payload": "x", "flatten": True}, "'result.a' already"),
    ],
)
def test_names_that_do_not_fit_are_refused(
    lib: Frames, producer: Producer, columns: list[str], options: dict[str, Any], said: str
) -> None:
    """Before anything is sent, with what there is."""
    with pytest.raises(ValueError, match=said):
        map_frame(lib.DataFrame({name: [1] for name in columns}), producer=producer, **options)


def test_other_mistakes_are_named(pl: Frames, pd: Frames, producer: Producer) -> None:
    """What is no frame; a name that two columns have; no producer, or two; options that nobody knows."""
    frame = pl.DataFrame({"x": [1]})
    with pytest.raises(TypeError, match="collect"):
        map_frame(frame.lazy(), payload="x", producer=producer)
    with pytest.raises(TypeError, match="got list"):
        map_frame([{"x": 1}], payload="x", producer=producer)
    with pytest.raises(ValueError, match="2 columns of that name"):
        map_frame(pd.DataFrame([[1, 2]], columns=["x", "x"]), payload="x", producer=producer)
    with pytest.raises(ValueError, match="one of the two"):
        map_frame(frame, payload="x")
    with pytest.raises(ValueError, match="one of the two"):
        map_frame(frame, payload="x", producer=producer, url="memory://")
    with pytest.raises(ValueError, match="by_pass"):
        map_frame(frame, payload="x", producer=producer, by_pass=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [({"id": "a"}, "no id: .* order"), ({"whole_requests": True}, "no whole_requests: .* columns")],
)
def test_options_that_are_not_for_a_frame_are_refused(
    lib: Frames, producer: Producer, broker: Any, options: dict[str, Any], said: str
) -> None:
    """By name, with what is expected, before anything is sent."""
    with pytest.raises(ValueError, match=said):
        map_frame(lib.DataFrame({"x": [1]}), payload="x", producer=producer, **options)
    assert broker.sent == []


def test_neither_library_is_imported_with_recollect() -> None:
    """They are extras of whoever has a frame."""
    code = "import sys, recollect; sys.exit(any(n in sys.modules for n in ('polars', 'pandas', 'numpy')))"
    python = python_of("frames")
    assert (
        subprocess.run([python, "-c", code], cwd=ROOT, env=clean_environment(), check=False).returncode == 0
    )


def test_the_example_runs(redis_rig: Rig, place: Path) -> None:
    """examples/frames, with both libraries, against a real worker: each text once, and then none."""
    redis_rig.work()
    settings = {"BROKER_URL": redis_rig.settings["BROKER_URL"], "PREFIX": redis_rig.names.prefix}
    rows = [json.dumps({"id": n, "text": f"text {n % 20}"}) for n in range(50)]
    (place / "rows.jsonl").write_text("\n".join(rows) + "\n")
    for name in ("polars_rows", "pandas_rows"):
        program = str(Path(ROOT, "examples", "frames", f"{name}.py"))
        done = subprocess.run(
            [python_of("frames"), program, "rows.jsonl", f"{name}.jsonl"],
            cwd=place,
            env=clean_environment(**settings),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found = [json.loads(line) for line in (place / f"{name}.jsonl").read_text().splitlines()]
        assert [row["id"] for row in found] == list(range(50))
        assert [row["result.echo.text"] for row in found] == [f"text {n % 20}" for n in range(50)]
        assert {row["error"] for row in found} == {None}
    assert redis_rig.model.calls == 20
