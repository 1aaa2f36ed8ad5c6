"""`python -m worker plan`: what it says is what the run then reports."""

import errno
import gzip
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.support.rig import Rig
from tests.support.shell import Shell
from tests.support.waiting import free_port, until
from worker.plan.distinct import Distinct

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shell(
    redis_rig: Rig,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Shell:
    monkeypatch.chdir(place)
    return Shell(redis_rig, monkeypatch, capsys)


def mapped(shell: Shell, name: str, *more: str) -> Counter[str]:
    """The outcomes that `producer map` reports."""
    done = shell.run("producer", "map", name, "-o", "out.jsonl", "--report", "run.json", *more)
    assert done.returncode in (0, 1), done.stderr
    return Counter(json.loads(Path("run.json").read_text())["outcomes"])


def rows_of(name: str) -> None:
    """A file of that name and form, with equal rows, rows that cannot be read, and one that is too large."""
    rows = [{"text": f"row {n % 150}", "lang": "fr" if n % 2 else "en"} for n in range(400)]
    if name.endswith(".csv"):
        lines = ["text,lang", *(f"{row['text']},{row['lang']}" for row in rows), "one,cell,too many"]
        Path(name).write_text("\n".join(lines) + "\n")
        return
    if name.endswith(".parquet"):
        pa.parquet.write_table(pa.Table.from_pylist(rows), name)
        return
    lines = [*map(json.dumps, rows), "{", '{"text": NaN}', "36893488147419103232", json.dumps("x" * 2000)]
    with gzip.open(name, "wt") if name.endswith(".gz") else Path(name).open("w") as file:
        file.write("\n".join(lines) + "\n")


def volatile_rows(name: str) -> None:
    """Rows that are told apart by the time of their export, and by nothing else."""
    rows = [{"text": f"row {n % 40}", "exported_at": 1_700_000_000 + n} for n in range(400)]
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.csv", "rows.parquet", "volatile.jsonl"])
def test_what_a_plan_says_is_what_the_run_reports(shell: Shell, name: str) -> None:
    """Rows, invalid, remembered, calls and repeats; no model call before, and none left afterwards."""
    rig = shell.rig
    (volatile_rows if name.startswith("volatile") else rows_of)(name)
    limit = {"REQUEST_MAX_BYTES": "1500"}
    rig.work(2, **limit)
    known = ["row 7", "row 9"] if name.startswith("volatile") else ["row 8", "row 11"]
    for number, text in enumerate(known):
        second = {"lang": "fr" if number else "en"}
        if name.startswith("volatile"):
            second = {"exported_at": 1_700_000_000 + int(text[4:])}  # type: ignore[dict-item]
        rig.call({"text": text, **second})
    calls = rig.model.calls
    planned = shell.json("plan", name, "--json", **limit)
    model = planned["models"]["m"]
    assert rig.model.calls == calls
    found = mapped(shell, name)
    assert planned["rows"] == found.total()
    assert planned["invalid"] == found["invalid"]
    assert model["calls"] == found["miss"] == rig.model.calls - calls
    assert model["remembered"] + model["repeats"] == found["hit"] + found["coalesced"]
    assert model["distinct"] == model["calls"] + len(known)
    if name.startswith("volatile"):
        assert (model["distinct"], model["remembered"]) == (400, 2)
        assert model["volatile"]["setting"] == 'key_exclude = ["exported_at"]'
        assert model["volatile"]["distinct"] == 40
    else:
        assert model["volatile"] is None
    again = shell.json("plan", name, "--json", **limit)["models"]["m"]
    assert (again["calls"], again["repeats"]) == (0, 0)
    assert again["remembered"] == planned["rows"] - planned["invalid"]


def test_the_setting_that_a_plan_names_does_what_it_says(shell: Shell) -> None:
    """With it, the rows cost as many calls as was said, and the plan has nothing more to advise."""
    volatile_rows("rows.jsonl")
    text = shell.run("worker", "plan", "rows.jsonl").stdout
    assert "400 rows · 400 distinct · 0 remembered → 400 model calls" in text
    assert "! `exported_at` differs in nearly every row. Without: 40 distinct." in text
    assert 'set key_exclude = ["exported_at"] under [models.m]' in text
    mended = {"MODELS__M__KEY_EXCLUDE": "exported_at"}
    said = shell.json("plan", "rows.jsonl", "--json", **mended)["models"]["m"]
    assert (said["distinct"], said["calls"], said["volatile"]) == (40, 40, None)
    shell.rig.work(**mended)
    assert mapped(shell, "rows.jsonl")["miss"] == 40


def test_requests_are_counted_by_what_their_directives_do(shell: Shell) -> None:
    """As the handler treats them, in the order of the file, one after the other."""
    rig = shell.rig
    rig.work()
    rig.call("known")
    requests: list[Any] = [
        {"payload": "known"},
        {"payload": "known", "max_age": 0},
        {"payload": "known", "max_age": 3600},
        {"payload": "known", "bypass": True},
        {"payload": "known", "refresh": True},
        {"payload": "fresh", "only_if_cached": True},
        {"payload": "late", "deadline": 1000.5},
        {"payload": "other", "no_store": True},
        {"payload": "other", "by_pass": True},
        {"payload": "other", "model": "nobody"},
        {"no": "payload"},
        7,
    ]
    Path("requests.jsonl").write_text("".join(json.dumps(request) + "\n" for request in requests))
    planned = shell.json("plan", "requests.jsonl", "--requests", "--json")
    model = planned["models"]["m"]
    assert (planned["rows"], planned["invalid"], model["rows"]) == (12, 4, 8)
    assert model["outcomes"] == {"hit": 2, "not_cached": 1, "expired": 1}
    assert (model["calls"], model["repeats"]) == (4, 0)
    found = mapped(shell, "requests.jsonl", "--requests", "--in-flight", "1")
    assert found["invalid"] == 4
    assert (found["hit"], found["not_cached"], found["expired"]) == (2, 1, 1)
    assert found["miss"] + found["bypass"] + found["refresh"] == model["calls"]


@pytest.mark.parametrize(
    "directives",
    [
        (),
        ("--refresh",),
        ("--bypass",),
        ("--no-store",),
        ("--max-age", "0"),
        ("--only-if-cached",),
        ("--ttl", "9", "--max-age", "3600", "--stale-if-error", "9", "--deadline", "600"),
    ],
)
def test_directives_of_a_run_are_those_of_its_plan(shell: Shell, directives: tuple[str, ...]) -> None:
    """With rows that say otherwise, and rows that are equal, one after the other."""
    rig = shell.rig
    rig.work()
    rig.call("known")
    rows: list[Any] = [
        {"payload": "new", "refresh": True},
        {"payload": "new"},
        {"payload": "known"},
        {"payload": "new", "max_age": 3600},
        {"payload": "other", "no_store": True},
        {"payload": "other"},
        {"payload": "other", "no_store": True},
    ]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = shell.json("plan", "rows.jsonl", "--requests", "--json", *directives)["models"]["m"]
    calls = rig.model.calls
    found = mapped(shell, "rows.jsonl", "--requests", "--in-flight", "1", *directives)
    assert model["calls"] == rig.model.calls - calls
    assert model["remembered"] + model["repeats"] + model["outcomes"].get("not_cached", 0) == (
        found["hit"] + found["not_cached"]
    )


def test_a_model_with_a_rule_needs_at_least_so_many_calls(shell: Shell) -> None:
    """What the rule refuses is not remembered: equal rows ask for it again."""
    Path("rows.jsonl").write_text("1\n1\n")
    rule = {"MODELS__M__CACHEABLE": '{"field":"status","equals":"ok"}'}
    assert "→ at least 1 model call" in shell.run("worker", "plan", "rows.jsonl", **rule).stdout
    assert shell.json("plan", "rows.jsonl", "--json", **rule)["models"]["m"]["calls_at_least"] is True
    assert shell.json("plan", "rows.jsonl", "--json")["models"]["m"]["calls_at_least"] is False


def test_columns_make_the_payload(shell: Shell) -> None:
    """From standard input, too; a row without one of them is refused by its line."""
    lines = [{"text": "a", "id": n} for n in range(5)] + [{"id": 6}]
    stdin = "".join(json.dumps(line) + "\n" for line in lines).encode()
    done = shell.run("worker", "plan", "-", "--payload", "text", stdin=stdin)
    assert done.stdout.startswith(
        "5 rows · 1 distinct · 0 remembered → 1 model call\n  how long that takes is unknown"
    )
    assert "4 rows are answered by the call of an equal one" in done.stdout
    assert "1 of 6 rows invalid\n  line 6: has no field 'text'" in done.stdout


def test_the_time_is_that_of_the_models_measured_speed(shell: Shell) -> None:
    """Unknown before any call, then by the calls of the last hour."""
    Path("rows.jsonl").write_text("".join(f"{n}\n" for n in range(100, 120)))
    before = shell.json("plan", "rows.jsonl", "--json")["models"]["m"]
    assert (before["calls"], before["seconds"]) == (20, None)
    shell.rig.work()
    list(shell.rig.producer.map(range(20)))

    def measured() -> Any:
        return shell.json("plan", "rows.jsonl", "--json")["models"]["m"]["seconds"]

    assert 0 < until(measured, 30, "the figures of the calls") < 3600
    assert "model calls, about " in shell.run("worker", "plan", "rows.jsonl").stdout


def test_problems_are_told_in_the_order_of_the_lines(shell: Shell) -> None:
    """By the name that the errors file has for it, once, whoever found them."""
    Path("rows.jsonl").write_text('{"model":"x","payload":1}\n{\n7\n{"payload":1,"id":7}\n')
    done = shell.run("worker", "plan", "rows.jsonl", "--requests")
    assert done.returncode == 1
    shown = done.stdout.splitlines()[1:]
    assert [line.replace(":", " ").split()[:2] for line in shown] == [["line", str(at)] for at in (1, 2, 3)]
    problems = shell.json("plan", "rows.jsonl", "--requests", "--json", code=1)["problems"]
    assert [one["line"] for one in problems] == [1, 2, 3, 4]
    named = [one["problem"].replace(":", " ").split().count("line") for one in problems if one["line"] != 2]
    assert named == [1, 1, 1]
    assert not problems[1]["problem"].startswith("line 2: line 2")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("absent.jsonl",), 2, "absent.jsonl"),
        (("rows.jsonl", "--payload", "a,,b"), 2, "expected names of columns"),
        (("rows.jsonl", "--payload", "a", "--requests"), 2, "give one"),
        (("rows.csv", "--payload", "other"), 2, "has no column 'other'"),
        (("rows.csv", "--types", "text:colour"), 2, "expected COLUMN:TYPE"),
        (("rows.jsonl", "--max-age", "-1"), 2, "max_age"),
        (("absent.jsonl", "--model", "nobody"), 2, "--model nobody: expected one of: m"),
        (("rows.jsonl", "--model", ""), 2, "--model (empty): expected one of: m"),
    ],
)
def test_what_cannot_be_planned_is_explained(
    shell: Shell, arguments: tuple[str, ...], code: int, said: str
) -> None:
    """Usage, or that no row could be sent."""
    Path("rows.jsonl").write_text('{"a":1}\n')
    Path("rows.csv").write_text("text\na\n")
    done = shell.run("worker", "plan", *arguments)
    assert done.returncode == code
    assert said in done.stdout + done.stderr


def test_a_plan_that_is_ended_leaves_nothing_behind(shell: Shell, place: Path) -> None:
    """Its counts are files of a temporary directory."""
    temporary = place / "temporary"
    temporary.mkdir()
    settings = {f"RECOLLECT_{name}": value for name, value in shell.rig.settings.items()}
    child = subprocess.Popen(
        [sys.executable, "-m", "worker", "plan", "-"],
        stdin=subprocess.PIPE,
        env={**os.environ, **settings, "TMPDIR": str(temporary), "PYTHONPATH": str(ROOT)},
    )
    try:
        until(lambda: list(temporary.iterdir()), 30, "its directory")
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 128 + signal.SIGTERM
    finally:
        child.kill()
        child.communicate()
    assert list(temporary.iterdir()) == []


def test_a_full_temporary_directory_is_named(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is none of the reader's, nor of the cache's doing."""

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Distinct, "add", full)
    Path("rows.jsonl").write_text("1\n")
    done = shell.run("worker", "plan", "rows.jsonl")
    assert done.returncode == 2
    assert f"no room is left in {tempfile.gettempdir()}" in done.stderr
    assert "set TMPDIR" in done.stderr


def test_without_its_cache_nothing_is_planned(shell: Shell) -> None:
    """Exit 3, before the file is read: what is remembered is half of the answer."""
    Path("rows.jsonl").write_text("1\n")
    done = shell.run("worker", "plan", "rows.jsonl", CACHE_URL=f"redis://127.0.0.1:{free_port()}/0")
    assert done.returncode == 3
    assert "error: cache redis://127.0.0.1:" in done.stderr
