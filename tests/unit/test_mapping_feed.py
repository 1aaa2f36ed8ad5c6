"""What is remembered of a row while its reply is out."""

import math
import sys
from pathlib import Path

import pytest

from producer.lines import refusal
from producer.mapping.feed import Failed, Feed
from producer.mapping.lines import row_line
from rows.payload import picker
from rows.source import open_source


def test_who_hears_at_once_or_never_has_nothing_kept(tmp_path: Path) -> None:
    """`enqueue` of ten million rows must not hold them all; one that is refused is still told by its line."""
    path = tmp_path / "in.jsonl"
    path.write_text("1\nnope\n" * 500)
    feed = Feed(open_source(str(path)), picker(None), recent=4)
    for index, payload in enumerate(feed):
        if math.isnan(payload):
            row = feed.row(refusal("not a number", index))
            assert (row["line"], row["input"]) == (index + 1, "nope")
            with pytest.raises(KeyError):
                feed.row(refusal("asked twice", index))
        if index > 8:
            with pytest.raises(KeyError):
                feed.row(refusal("long gone", index - 5))


def test_a_row_that_is_too_deep_to_be_written_is_known_again(tmp_path: Path) -> None:
    """Read by a parser that goes deeper than any writer: its errors row says null."""
    deep = "[" * 1000 + "]" * 1000
    (tmp_path / "in.jsonl").write_text(f"{deep}\n")
    (row,) = open_source(str(tmp_path / "in.jsonl")).rows()
    value = row[1]
    if isinstance(value, str):
        pytest.fail("expected a row that can be read")
    limit = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(600)
        (tmp_path / "errors").write_bytes(row_line({"index": 0, "status": "error", "input": value}))
        assert Failed(str(tmp_path / "errors")).has(0, value)
    finally:
        sys.setrecursionlimit(limit)
