"""Files of rows: what was written is what is read, and a bad row harms no other."""

import datetime
import decimal
import gzip
import io
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from rows.cells import Type, types_of, write_cell
from rows.payload import NoPayload, check_names, names_of, picker
from rows.row import BadRow, Row
from rows.source import open_source

CSV = b'id,text,n\r\n007,"a, ""b""\nc",1.50\n8,,\n9,"",-2e3\n'


def read(path: Path, **options: Any) -> list[Row | BadRow]:
    return list(open_source(str(path), **options).rows())


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["in", "in.jsonl", "in.ndjson.gz"])
def test_values_and_what_is_none(tmp_path: Path, name: str) -> None:
    """Empty lines are no rows and still counted where a line is named."""
    path = written(tmp_path / name, b'1\n\n  \nnope\n"a"')
    first, second, third = read(path)
    assert (first, third) == (Row(1, 1), Row(5, "a"))
    assert isinstance(second, BadRow)
    assert second.problem.startswith("line 4 is not JSON")
    assert second[::2] == (4, "nope")
    assert open_source(str(path)).count() == 3


@pytest.mark.parametrize(
    ("line", "fits"),
    [
        ("18446744073709551615", True),
        ("-9223372036854775808", True),
        ("18446744073709551616", False),
        ("-9223372036854775809", False),
        ('{"a":[99999999999999999999999]}', False),
        ('{"a":"99999999999999999999999"}', True),
        ("1.0000000000000000000000001", True),
        ("1e300", True),
    ],
)
def test_an_integer_beyond_64_bits_is_no_float(tmp_path: Path, line: str, fits: bool) -> None:
    """The parser would change it without a word, and another payload would be asked about."""
    (row,) = read(written(tmp_path / "in", line.encode() + b"\n"))
    assert isinstance(row, Row) is fits
    assert fits or "line 1: payload has the integer" in str(row)


def test_a_line_without_end_is_not_kept(tmp_path: Path) -> None:
    """What no message could carry is passed over, and the next line is read."""
    big, after = read(written(tmp_path / "in", b"[" + b"1," * (17 << 19) + b"1]\n7\n"))
    assert isinstance(big, BadRow)
    assert big.number == 1
    assert "more than 16777216 bytes" in big.problem
    assert len(big.text or "") == 1000
    assert after == Row(2, 7)


def test_a_pipe_is_not_counted_away(tmp_path: Path) -> None:
    """`map <(zcat rows.gz)`: to count the rows would be to lose them."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_bytes(b"1\n2\n"))
    assert open_source(str(path)).count() is None
    writer.start()
    assert read(path) == [Row(1, 1), Row(2, 2)]
    writer.join()


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON lines; and it stays open."""
    given = io.BytesIO(b"1\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(given))
    source = open_source("-")
    assert (source.is_stream, source.count(), list(source.rows())) == (True, None, [Row(1, 1)])
    assert not given.closed


@pytest.mark.parametrize("name", ["in.csv", "in.CSV", "in.csv.gz"])
def test_csv_is_text_unless_told(tmp_path: Path, name: str) -> None:
    """Leading zeros stay, newlines too; an empty cell is null, an empty text is not."""
    path = written(tmp_path / name, b"\xef\xbb\xbf" + CSV)
    assert read(path) == [
        Row(2, {"id": "007", "text": 'a, "b"\nc', "n": "1.50"}),
        Row(4, {"id": "8", "text": None, "n": None}),
        Row(5, {"id": "9", "text": "", "n": "-2e3"}),
    ]
    assert open_source(str(path)).columns == ["id", "text", "n"]
    typed = read(path, types=types_of("id:json , n:number"))
    assert [row.value["n"] for row in typed if isinstance(row, Row)] == [None, -2000.0]
    assert isinstance(typed[0], BadRow)
    assert typed[0].problem == "line 2 has id '007'; expected json"


@pytest.mark.parametrize(
    ("cell", "kind", "value"),
    [
        ("1", "integer", 1),
        ("1.0", "integer", None),
        ("true", "integer", None),
        ("1", "number", 1),
        ("1.0", "number", 1.0),
        ("NaN", "number", None),
        ("18446744073709551616", "number", None),
        ("TRUE", "boolean", True),
        ("1", "boolean", None),
        ('"[1, null]"', "json", [1, None]),
        ("x", "json", None),
    ],
)
def test_types_of_cells(tmp_path: Path, cell: str, kind: Type, value: Any) -> None:
    """A cell that is none of its type makes a bad row, which says what was expected."""
    (row,) = read(written(tmp_path / "in.csv", f"a\n{cell}\n".encode()), types={"a": kind})
    if value is None:
        assert isinstance(row, BadRow)
        assert f"expected {kind}" in row.problem
    else:
        assert isinstance(row, Row)
        assert (row.value, type(row.value["a"])) == ({"a": value}, type(value))


def test_bad_rows_of_a_csv_file(tmp_path: Path) -> None:
    """Each with its line; a quote that is never closed costs its own line, not all that follow."""
    data = b'a,b\n1,2,3\n\n"x,2\n5,6\n7,\xff\n8\n9,"y"z\n"10\n",11\n"never'
    rows = read(written(tmp_path / "in.csv", data))
    bad = {row.number: row.problem for row in rows if isinstance(row, BadRow)}
    assert [row for row in rows if isinstance(row, Row)] == [
        Row(5, {"a": "5", "b": "6"}),
        Row(9, {"a": "10\n", "b": "11"}),
    ]
    assert bad.pop(2) == "line 2 has 3 cells; expected 2 as in the header"
    assert bad.pop(7) == "line 7 has 1 cells; expected 2 as in the header"
    assert bad.pop(6) == "line 6 is not UTF-8"
    assert sorted(bad) == [4, 8, 11]
    assert all("is no CSV" in problem for problem in bad.values())


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"", "it is empty"), (b"a,a\n", "a name twice"), (b"a,\n", "an empty name"), (b"\xff\n", "not UTF-8")],
)
def test_a_header_is_needed(tmp_path: Path, data: bytes, said: str) -> None:
    """Without one nothing could be named."""
    with pytest.raises(ValueError, match=said):
        read(written(tmp_path / "in.csv", data))


def test_cells_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Text, and what is empty; other values are JSON."""
    values = ["a", "", None, ' b"', "c,d", "\r\n", "\t", "é", "007", "-", '""']
    line = ",".join(map(write_cell, values))
    names = ",".join("abcdefghijk")
    (row,) = read(written(tmp_path / "in.csv", f"{names}\n{line}\n".encode()))
    assert isinstance(row, Row)
    assert list(row.value.values()) == values
    assert [write_cell(value) for value in (1, 1.5, True, [1], {"a": "b"})] == [
        "1", "1.5", "true", "[1]", '"{""a"":""b""}"',
    ]  # fmt: skip


def test_parquet_is_json(tmp_path: Path) -> None:
    """Dates, times and decimals as text; what is not asked for may hold anything."""
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.UTC)
    table = pa.table(
        {
            "i": pa.array([1, None], pa.int8()),
            "s": ["caf\u00e9\n", ""],
            "d": [decimal.Decimal("1.10"), None],
            "t": pa.array([moment, None], pa.timestamp("ns", "UTC")),
            "c": pa.array(["x", "y"]).dictionary_encode(),
            "n": [{"a": [1, 2]}, {"a": None}],
            "b": [b"\xff", None],
        }
    )
    path = tmp_path / "in.parquet"
    pa.parquet.write_table(table, path)
    with pytest.raises(ValueError, match=r"column 'b' is binary.*--payload"):
        read(path)
    first, second = read(path, columns=frozenset("isdtcn"))
    assert first == Row(
        1,
        {
            "i": 1,
            "s": "caf\u00e9\n",
            "d": "1.10",
            "t": "2026-01-02 03:04:05.000006000Z",
            "c": "x",
            "n": {"a": [1, 2]},
        },
    )
    assert second == Row(2, {"i": None, "s": "", "d": None, "t": None, "c": "y", "n": {"a": None}})
    assert open_source(str(path)).count() == 2
    assert open_source(str(path)).columns == list("isdtcnb")


@pytest.mark.parametrize("name", ["in.jsonl.gz", "in.csv.gz", "in.parquet"])
def test_a_file_that_is_cut_or_none_says_so(tmp_path: Path, name: str) -> None:
    """And names itself; never a stack trace of a library's own error."""
    path = tmp_path / name
    whole = gzip.compress(b"a\n" + os.urandom(9999).hex().encode())
    path.write_bytes(whole[:5000])
    with pytest.raises((OSError, ValueError), match=name):
        read(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises((OSError, ValueError), match=name):
        read(path)
    path.write_bytes(whole[:2000] + b"\0" * 2000 + whole[4000:])
    with pytest.raises((OSError, ValueError), match=name):
        read(path)


def test_payloads_of_rows() -> None:
    """The fields that are named; a row without them says which is missing."""
    pick = picker(names_of("text, lang"))
    assert pick({"lang": "fr", "id": 1, "text": None}) == {"text": None, "lang": "fr"}
    assert picker(None)([1]) == [1]
    for row, said in (({"text": 1}, "no field 'lang'"), ([1], "is list; expected an object with text, lang")):
        with pytest.raises(NoPayload, match=said):
            pick(row)
    for bad in ("a,,b", "a,a", ""):
        with pytest.raises(ValueError, match="each once"):
            names_of(bad)
    with pytest.raises(ValueError, match="no column 'c'; it has a, b"):
        check_names(["a", "c"], ["a", "b"], "in.csv")
    check_names(["c"], None, "in.jsonl")


@pytest.mark.parametrize("text", ["a", "a:int", ":text", "a:text,"])
def test_types_that_are_none(text: str) -> None:
    """Said with what was expected."""
    with pytest.raises(ValueError, match="expected COLUMN:TYPE"):
        types_of(text)


def test_types_are_for_csv_and_its_columns(tmp_path: Path) -> None:
    """Never silently ignored."""
    with pytest.raises(ValueError, match="types are for"):
        open_source(str(tmp_path / "in.jsonl"), types={"a": "integer"})
    with pytest.raises(ValueError, match="no column 'b'; it has a"):
        read(written(tmp_path / "in.csv", b"a\n1\n"), types={"b": "integer"})
