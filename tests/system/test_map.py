"""`map` from file to file: real processes, real broker, real worker."""

import contextlib
import datetime
import decimal
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from rows.source import open_source
from tests.support.rig import Rig
from tests.support.stub_model import echo, status
from tests.support.waiting import until
from tests.system.test_producer_cli import begin, run

MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.UTC)
TEXTS = ["caf\u00e9 \U0001f642", 'two\nlines, "quoted"', "", None, " 007 "]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def mapped(place: Path, rig: Rig, *arguments: str, code: int = 0) -> str:
    found, _, said = run(place, rig, "map", *arguments)
    assert found == code, said
    return said


def numbers(place: Path, count: int) -> None:
    (place / "in.jsonl").write_text("".join(f'{{"n":{n}}}\n' for n in range(count)))


def test_csv_there_and_back(redis_rig: Rig, place: Path) -> None:
    """Text, null, quotes and newlines stay what they are; a bad record is an error with its line."""
    redis_rig.work()
    data = 'id,text,n\n007,"café 🙂\n""x"", y",1\n8,,2.50\nbad\n9,"",\n10,x,y,z\n11,"a, b",-3\n'
    (place / "in.csv").write_text(data, "utf-8")
    said = mapped(
        place, redis_rig, "in.csv", "-o", "out.csv", "--payload", "text,n", "--types", "n:number", code=1
    )
    assert "4 miss · 2 invalid = 6 rows" in said
    rows = [row.value for row in open_source(str(place / "out.csv"), types={"result": "json"}).rows()]
    assert [(row["id"], row["text"], row["n"], row["line"]) for row in rows] == [
        ("007", 'café 🙂\n"x", y', "1", "2"),
        ("8", None, "2.5", "4"),
        ("9", "", None, "6"),
        ("11", "a, b", "-3", "8"),
    ]
    assert [row["result"]["echo"] for row in rows] == [
        {"text": 'café 🙂\n"x", y', "n": 1},
        {"text": None, "n": 2.5},
        {"text": "", "n": None},
        {"text": "a, b", "n": -3},
    ]
    assert [(row["line"], row["input"]) for row in lines(place / "out.csv.errors.jsonl")] == [
        (5, "bad"),
        (7, "10,x,y,z"),
    ]


def table() -> Any:
    return pa.table(
        {
            "text": pa.array(TEXTS),
            "small": pa.array([1, None, -3, 4, 5], pa.int8()),
            "large": pa.array([2**64 - 1, 0, None, 1, 2], pa.uint64()),
            "price": pa.array([decimal.Decimal("1.10"), None, *[decimal.Decimal("-2.00")] * 3]),
            "at": pa.array([MOMENT, None, MOMENT, MOMENT, MOMENT], pa.timestamp("ns", "Europe/Paris")),
            "raw": pa.array([b"\xff\x00", None, b"", b"x", b"y"]),
            "tags": pa.array([["a"], [], None, ["b", None], ["c"]]),
            "kind": pa.array(["x", "y", "x", None, "y"]).dictionary_encode(),
        }
    )


def test_parquet_there_and_back(redis_rig: Rig, place: Path) -> None:
    """All columns come back in their own types and order, what JSON cannot carry included."""
    redis_rig.work()
    redis_rig.model.behave = lambda p: (
        status(422)(p) if p["small"] == 4 else (200, json.dumps(p).encode(), {})
    )
    pa.parquet.write_table(table(), place / "in.parquet", row_group_size=2)
    payload = "text,small,price,at,tags,kind"
    mapped(place, redis_rig, "in.parquet", "-o", "out.parquet", "--payload", payload, "--flatten", code=1)
    found = pa.parquet.read_table(place / "out.parquet")
    expected = table().take([0, 1, 2, 4])
    assert found.select(expected.column_names).equals(expected)
    assert found.schema.field("at").type == pa.timestamp("ns", "Europe/Paris")
    assert found["line"].to_pylist() == [1, 2, 3, 5]
    assert found["outcome"].to_pylist() == ["miss"] * 4
    assert found["result.text"].to_pylist() == [TEXTS[n] for n in (0, 1, 2, 4)]
    assert (found.schema.field("result.small").type, found["result.small"][2].as_py()) == (pa.int64(), -3)
    assert found["result.price"].to_pylist() == ["1.10", None, "-2.00", "-2.00"]
    assert found["result.at"][0].as_py() == "2026-01-02 04:04:05.000006000+0100"
    assert [row["line"] for row in lines(place / "out.parquet.errors.jsonl")] == [4]


@pytest.mark.parametrize("end", ["jsonl", "csv"])
def test_a_table_of_another_form(redis_rig: Rig, place: Path, end: str) -> None:
    """From lines to a table and from a table to lines; what is kept keeps its name."""
    redis_rig.work()
    (place / "in.jsonl").write_text('{"q":"a","outcome":1,"x":[1]}\n{"q":"b","y":null}\n')
    mapped(place, redis_rig, "in.jsonl", "-o", "t.parquet", "--payload", "q", "--keep", "q,outcome,x")
    found = pa.parquet.read_table(place / "t.parquet").to_pylist()
    assert [row["q"] for row in found] == ["a", "b"]
    assert [(row["outcome"], row["reply_outcome"], row["x"]) for row in found] == [
        (1, "miss", "[1]"),
        (None, "miss", None),
    ]
    assert json.loads(found[0]["result"]) == {"echo": {"q": "a"}}
    mapped(place, redis_rig, "t.parquet", "-o", f"out.{end}", "--payload", "q", "--keep", "q")
    rows = [row.value for row in open_source(str(place / f"out.{end}")).rows()]
    assert [row["row"] if end == "jsonl" else {"q": row["q"]} for row in rows] == [{"q": "a"}, {"q": "b"}]


def undisturbed(row: dict[str, Any]) -> dict[str, Any]:
    """What does not depend on when a row was asked about."""
    return {name: row[name] for name in ("index", "line", "result", "row") if name in row}


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_killed_at_any_moment_the_same_command_goes_on(
    redis_rig: Rig, place: Path, seed: int, name: str
) -> None:
    """kill -9 four times, Ctrl-C once: every row once, as in a run that nobody disturbed."""
    redis_rig.work()
    redis_rig.model.behave = lambda p: (200, json.dumps(p).encode(), {})
    numbers(place, 4000)
    command = ("map", "in.jsonl", "-o", name, "--payload", "n", "--in-flight", "200", "--report", "run.json")
    partial, rng = place / f"{name}.partial", random.Random(seed)
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGKILL, signal.SIGKILL, signal.SIGKILL):
        before = partial.stat().st_size if partial.exists() else 0
        child = begin(place, redis_rig, *command)
        until(
            lambda b=before, c=child: (
                c.poll() is not None or (partial.exists() and partial.stat().st_size > b)
            ),  # type: ignore[misc]
            what="more rows",
        )
        time.sleep(rng.random() / 20)  # at any moment, not just after a write
        child.send_signal(number)
        _, said = child.communicate(timeout=30)
        if child.returncode == 0:
            break
        assert not (place / name).exists(), said
        with partial.open("ab") as file:
            file.write(b'{"index":')  # as a write that was cut leaves it
    code, _, said = run(place, redis_rig, *command)
    assert code == 0, said
    report = json.loads((place / "run.json").read_text())
    assert (report["rows"], report["failed"], sum(report["outcomes"].values())) == (4000, 0, 4000)
    again = f"again{Path(name).suffix}"
    mapped(place, redis_rig, "in.jsonl", "-o", again, "--payload", "n")
    kinds: Any = {"result": "json"} if name.endswith(".csv") else {}
    found, expected = (
        sorted(
            (undisturbed(row.value) for row in open_source(str(place / n), types=kinds).rows()),
            key=lambda r: int(r["line"]),
        )
        for n in (name, again)
    )
    assert len(found) == 4000
    assert found == expected
    assert sorted(path.name for path in place.iterdir() if path.name.startswith("out")) == [name]


def hang_on(rig: Rig, place: Path, *command: str) -> None:
    """A run that is killed while its eighth row is under way."""
    rig.model.behave = lambda p: rig.model.hang(p) if p == {"n": 7} else (200, b"1", {})
    child = begin(place, rig, *command, "--in-flight", "1")
    partial = place / "out.jsonl.partial"
    until(lambda: partial.exists() and partial.read_bytes().count(b"\n") == 7, what="seven rows")
    child.kill()
    child.communicate(timeout=30)
    rig.model.released.set()
    rig.model.behave = echo


def reworded(place: Path) -> None:
    numbers(place, 21)


def gone(place: Path) -> None:
    (place / "out.jsonl.manifest").unlink()


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        (reworded, [], "input is another, or has changed"),
        (gone, [], "cannot be read"),
        (None, ["--refresh"], "refresh was false and is true"),
        (None, ["--keep", "n"], 'keep was null and is ["n"]'),
        (None, ["--model", "m"], 'model was null and is "m"'),
    ],
)
def test_what_has_changed_is_not_mixed(
    redis_rig: Rig, place: Path, change: Callable[[Path], None] | None, options: list[str], said: str
) -> None:
    """Refused with what is different; what was there stays until --restart is given."""
    redis_rig.work()
    numbers(place, 20)
    hang_on(redis_rig, place, "map", "in.jsonl", "-o", "out.jsonl")
    kept = (place / "out.jsonl.partial").read_bytes()
    if change is not None:
        change(place)
    told = mapped(place, redis_rig, "in.jsonl", "-o", "out.jsonl", *options, code=2)
    assert said in told
    assert "--restart" in told
    assert (place / "out.jsonl.partial").read_bytes() == kept
    mapped(place, redis_rig, "in.jsonl", "-o", "out.jsonl", *options, "--restart")
    assert len(lines(place / "out.jsonl")) == len((place / "in.jsonl").read_text().splitlines())


def test_two_runs_do_not_write_one_file(redis_rig: Rig, place: Path) -> None:
    """The second one is refused while the first is at work."""
    redis_rig.work()
    redis_rig.model.behave = redis_rig.model.hang
    numbers(place, 1)
    first = begin(place, redis_rig, "map", "in.jsonl", "-o", "out.jsonl")
    until(lambda: redis_rig.model.calls, what="a call")
    assert "another run" in mapped(place, redis_rig, "in.jsonl", "-o", "out.jsonl", code=2)
    first.kill()
    first.communicate(timeout=30)


def test_only_what_failed_is_sent_again(redis_rig: Rig, place: Path) -> None:
    """To a new file; what fails again is in its errors file, and nothing else was asked."""
    redis_rig.work()
    numbers(place, 30)
    redis_rig.model.behave = lambda p: status(400)(p) if p["n"] % 10 == 3 else (200, b"1", {})
    mapped(place, redis_rig, "in.jsonl", "-o", "out.jsonl", code=1)
    redis_rig.model.behave = lambda p: status(400)(p) if p["n"] == 13 else (200, b"2", {})
    before = redis_rig.model.calls
    again = ["in.jsonl", "--only-failed", "out.errors.jsonl"]
    assert "out.jsonl is there" in mapped(place, redis_rig, *again, "-o", "out.jsonl", code=2)
    said = mapped(place, redis_rig, *again, "-o", "again.jsonl", "--ordered", code=1)
    assert "= 3 rows" in said
    assert redis_rig.model.calls == before + 3
    assert [(row["index"], row["line"], row["result"]) for row in lines(place / "again.jsonl")] == [
        (3, 4, 2),
        (23, 24, 2),
    ]
    assert [row["index"] for row in lines(place / "again.errors.jsonl")] == [13]
    wrong = ["in.jsonl", "--only-failed", "out.jsonl", "-o", "third.jsonl"]
    assert "no row of an errors file" in mapped(place, redis_rig, *wrong, code=2)
    (place / "in.jsonl").write_text('{"n":0}\n' * 30)
    assert "expected the same input" in mapped(place, redis_rig, *again, "-o", "third.jsonl", code=2)
    assert not list(place.glob("third*"))
    numbers(place, 5)
    assert "the input has 5 rows" in mapped(place, redis_rig, *again, "-o", "third.jsonl", code=2)


def test_errors_go_where_they_are_wanted(redis_rig: Rig, place: Path) -> None:
    """On a pipe they are among the rows, unless they have a file; a run without any leaves no file behind."""
    redis_rig.work()
    (place / "in.jsonl").write_text("1\nnope\n")
    code, out, _ = run(place, redis_rig, "map", "in.jsonl", "-o", "-")
    assert (code, len(out.splitlines())) == (1, 2)
    code, out, _ = run(place, redis_rig, "map", "in.jsonl", "-o", "-", "--errors", "e.jsonl")
    assert (code, len(out.splitlines()), lines(place / "e.jsonl")[0]["line"]) == (1, 1, 2)
    mapped(place, redis_rig, "in.jsonl", "-o", "out.jsonl", code=1)
    assert (place / "out.errors.jsonl").exists()
    (place / "in.jsonl").write_text("1\n")
    mapped(place, redis_rig, "in.jsonl", "-o", "out.jsonl")
    assert not (place / "out.errors.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["in.csv", "-o", "in.csv"], "is the input and the output"),
        (["in.csv", "-o", "out.csv", "--errors", "out.csv"], "is the output and the errors"),
        (["in.csv", "-o", "out.csv", "--payload", "a,nope"], "has no column 'nope'; it has a, b"),
        (["in.csv", "-o", "out.csv", "--keep", "c"], "has no column 'c'"),
        (["in.csv", "-o", "out.csv", "--types", "a:float"], "expected COLUMN:TYPE"),
        (["in.csv", "-o", "out.jsonl.gz"], "cannot be written packed"),
        (["in.csv", "-o", "."], "is a directory"),
        (["in.csv", "-o", "out.csv", "--payload", "a", "--requests"], "cannot both be set"),
        (["in.jsonl", "-o", "out.csv", "--types", "a:json"], "types are for"),
        (["no.parquet", "-o", "out.csv"], "no.parquet"),
        (["in.parquet", "-o", "out.csv"], "is no Parquet file"),
    ],
)
def test_what_does_not_go_together_is_explained(
    redis_rig: Rig, place: Path, arguments: list[str], said: str
) -> None:
    """Exit 2 before anything is sent, and no file is left."""
    (place / "in.csv").write_text("a,b\n1,2\n")
    (place / "in.jsonl").write_text("1\n")
    (place / "in.parquet").write_text("PAR1")
    assert said in mapped(place, redis_rig, *arguments, code=2)
    assert sorted(path.name for path in place.iterdir()) == ["in.csv", "in.jsonl", "in.parquet"]


def test_enqueue_reads_the_same_files(redis_rig: Rig, place: Path) -> None:
    """A table's columns make the payloads; what has none is not sent."""
    redis_rig.work()
    (place / "in.csv").write_text("a,b\n1,2\nx\n")
    code, _, said = run(
        place, redis_rig, "enqueue", "in.csv", "--payload", "b", "--types", "b:integer", "--run", "r"
    )
    assert (code, "enqueued 1 requests" in said, "line 3 has 1 cells" in said) == (1, True, True)
    (reply,) = redis_rig.producer.collect(run="r", timeout=3)
    assert reply.result == {"echo": {"b": 2}}


def test_a_queue_is_filled_no_further_than_was_said(redis_rig: Rig, place: Path) -> None:
    """By enqueue and by map, while nobody works; then all of it is sent."""
    numbers(place, 400)
    commands = (["map", "in.jsonl", "-o", "out.jsonl"], ["enqueue", "in.jsonl", "--no-reply"])
    sending = [begin(place, redis_rig, *command, "--queue-max", "5") for command in commands]
    with contextlib.closing(redis_rig.broker()) as broker:
        until(lambda: broker.depth()[redis_rig.names.requests] >= 5, what="a full queue")
        assert [child.poll() for child in sending] == [None, None]
        assert broker.depth()[redis_rig.names.requests] <= 10
    redis_rig.work()
    for child in sending:
        _, said = child.communicate(timeout=60)
        assert child.returncode == 0, said
    assert len(lines(place / "out.jsonl")) == 400


def test_a_rate_ends_like_any_other_run(redis_rig: Rig, place: Path) -> None:
    """All rows, and a number that is none is said."""
    redis_rig.work()
    numbers(place, 50)
    mapped(place, redis_rig, "in.jsonl", "-o", "out.jsonl", "--rate", "200", "--ordered")
    assert [row["index"] for row in lines(place / "out.jsonl")] == list(range(50))
    for flag, value, said in (
        ("rate", "0", "above 0"),
        ("rate", "nan", "above 0"),
        ("queue-max", "0", "at least 1"),
    ):
        assert said in mapped(place, redis_rig, "in.jsonl", "-o", "x", f"--{flag}", value, code=2)


def test_a_row_that_nests_too_deep_fails_alone(redis_rig: Rig, place: Path) -> None:
    """As payload, carried along, and as a result: orjson reads deeper than it writes."""
    redis_rig.work()
    deep = json.dumps([json.loads("[" * 252 + "]" * 252)])
    redis_rig.model.behave = lambda p: (200, deep.encode() if p == {"a": 2} else b"1", {})
    wide = "[" * 300 + "]" * 300
    (place / "in.jsonl").write_text(
        f'{{"a":1}}\n{{"a":{wide}}}\n{{"a":2}}\n{{"a":1,"b":{wide}}}\n{{"a":3}}\n'
    )
    mapped(
        place,
        redis_rig,
        "in.jsonl",
        "-o",
        "out.jsonl",
        "--payload",
        "a",
        "--keep",
        "a,b",
        "--ordered",
        code=1,
    )
    assert [row["line"] for row in lines(place / "out.jsonl")] == [1, 3, 4, 5]
    assert lines(place / "out.jsonl")[1]["result"] == json.loads(deep)
    assert [row["line"] for row in lines(place / "out.errors.jsonl")] == [2]
    again = ["--payload", "a", "--keep", "a,b", "--only-failed", "out.errors.jsonl"]
    mapped(place, redis_rig, "in.jsonl", "-o", "again.jsonl", *again, code=1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["in.jsonl", "-o", "out.jsonl", "--report", "out.jsonl"], "is the output and --report"),
        (["in.jsonl", "-o", "out.jsonl", "--report", "in.jsonl"], "is the input and --report"),
        (["out.jsonl.partial", "-o", "out.jsonl"], "is the input and what a run writes meanwhile"),
        (["out.jsonl.manifest", "-o", "out.jsonl"], "is the input and what a run writes meanwhile"),
        (["in.jsonl", "-o", "out.jsonl", "--errors", "nowhere/x"], "in a directory that is there"),
        (["in.jsonl", "-o", "out.jsonl", "--errors", "-"], "expected the name of a file"),
        (["in.jsonl", "-o", "out.jsonl", "--flatten"], "--flatten makes columns"),
        (["in.jsonl", "-o", "out.jsonl", "--requests", "--keep", "a"], "--keep and --requests"),
        (["-", "-o", "out.jsonl", "--only-failed", "in.jsonl"], "not standard input"),
        (["in.parquet.gz", "-o", "out.jsonl"], "packed within"),
    ],
)
def test_no_file_is_taken_for_another(redis_rig: Rig, place: Path, arguments: list[str], said: str) -> None:
    """Before anything is sent or written: what is there stays as it is."""
    for name in ("in.jsonl", "out.jsonl.partial", "out.jsonl.manifest", "in.parquet.gz"):
        (place / name).write_text(f'"{name}"\n')
    assert said in mapped(place, redis_rig, *arguments, code=2)
    for name in ("in.jsonl", "out.jsonl.partial", "out.jsonl.manifest"):
        assert (place / name).read_text() == f'"{name}"\n'


def test_errors_go_through_a_link_or_into_a_pipe(redis_rig: Rig, place: Path) -> None:
    """Neither is renamed over: as root that would take /dev/null from the whole machine."""
    redis_rig.work()
    (place / "in.jsonl").write_text("1\nnope\n")
    (place / "link").symlink_to(place / "real")
    mapped(place, redis_rig, "in.jsonl", "-o", "out.jsonl", "--errors", "link", code=1)
    assert (place / "link").is_symlink()
    assert [row["line"] for row in lines(place / "real")] == [2]
    mapped(place, redis_rig, "in.jsonl", "-o", "out.jsonl", "--errors", "/dev/fd/2", code=1)
    os.mkfifo(place / "pipe")
    reading = os.open(place / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    mapped(place, redis_rig, "in.jsonl", "-o", "out.jsonl", "--errors", "pipe", code=1)
    assert json.loads(os.read(reading, 9999))["line"] == 2
    os.close(reading)
    assert (place / "pipe").is_fifo()


def test_an_input_that_changes_meanwhile_is_not_mixed(redis_rig: Rig, place: Path) -> None:
    """The columns of a table come from the input: nothing gets its name where that is another by then."""
    redis_rig.work()
    redis_rig.model.behave = redis_rig.model.hang
    for name, values in (("in", [1, 2]), ("other", [2, 1])):
        pa.parquet.write_table(pa.table({"n": values}), place / f"{name}.parquet")
    child = begin(place, redis_rig, "map", "in.parquet", "-o", "out.parquet", "--payload", "n")
    until(lambda: redis_rig.model.calls, what="a call")
    (place / "other.parquet").replace(place / "in.parquet")
    redis_rig.model.behave = echo
    redis_rig.model.released.set()
    _, said = child.communicate(timeout=60)
    assert child.returncode == 2
    assert "in.parquet has changed while it was read" in said
    assert not (place / "out.parquet").exists()


def test_a_stream_leaves_no_manifest_of_another_run(redis_rig: Rig, place: Path) -> None:
    """Else a run of that other input would go on with the stream's rows."""
    redis_rig.work()
    numbers(place, 20)
    hang_on(redis_rig, place, "map", "in.jsonl", "-o", "out.jsonl")
    redis_rig.model.released.clear()
    redis_rig.model.behave = lambda p: redis_rig.model.hang(p) if p == 7 else (200, b"1", {})
    stream = begin(
        place,
        redis_rig,
        "map",
        "/dev/stdin",
        "-o",
        "out.jsonl",
        "--restart",
        "--in-flight",
        "1",
        stdin=subprocess.PIPE,
    )
    assert stream.stdin is not None
    stream.stdin.write("".join(f"{n}\n" for n in range(20)))
    stream.stdin.close()
    stream.stdin = None
    partial = place / "out.jsonl.partial"
    manifest = place / "out.jsonl.manifest"
    until(
        lambda: not manifest.exists() and b'"index":6' in partial.read_bytes(),
        what="seven rows of the stream",
    )
    stream.kill()
    stream.communicate(timeout=30)
    redis_rig.model.released.set()
    redis_rig.model.behave = echo
    assert "cannot be read" in mapped(place, redis_rig, "in.jsonl", "-o", "out.jsonl", code=2)
    assert "expected another OUT" not in mapped(place, redis_rig, "in.jsonl", "-o", "out.jsonl", "--restart")


def test_a_collect_does_not_write_into_a_map(redis_rig: Rig, place: Path) -> None:
    """Both call it OUT.partial."""
    redis_rig.work()
    numbers(place, 20)
    hang_on(redis_rig, place, "map", "in.jsonl", "-o", "out.jsonl")
    kept = (place / "out.jsonl.partial").read_bytes()
    code, _, said = run(place, redis_rig, "collect", "-o", "out.jsonl", "--timeout", "1")
    assert (code, "is of a map" in said) == (2, True)
    assert (place / "out.jsonl.partial").read_bytes() == kept


def test_numbers_and_names_of_a_table(redis_rig: Rig, place: Path) -> None:
    """No integer is rounded, no field is lost, and the output of a run is the input of the next."""
    redis_rig.work()
    values = [9007199254740993, 0.5, {"a.b": 1, "a": {"b": 2}}, {}]
    (place / "in.jsonl").write_text("".join(json.dumps({"q": n}) + "\n" for n in range(4)))
    redis_rig.model.behave = lambda p: (200, json.dumps(values[p["q"]]).encode(), {})
    mapped(place, redis_rig, "in.jsonl", "-o", "one.parquet", "--payload", "q")
    assert pa.parquet.read_table(place / "one.parquet")["result"].to_pylist() == [
        json.dumps(v, separators=(",", ":")) for v in values
    ]
    mapped(place, redis_rig, "one.parquet", "-o", "two.csv", "--payload", "q", "--flatten")
    mapped(place, redis_rig, "two.csv", "-o", "three.parquet", "--payload", "q", "--types", "q:integer")
    names = pa.parquet.read_schema(place / "three.parquet").names
    assert len(set(names)) == len(names)
    assert {'reply_result."a.b"', "reply_result.a.b", "reply_reply_line"} <= {*names} | {
        f"reply_{name}" for name in names
    }
