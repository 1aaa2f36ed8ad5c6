"""The Dag of examples/airflow by `airflow dags test`, with a real worker; and its steps without Airflow."""

import fcntl
import importlib.util
import json
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support.environments import python_of
from tests.support.processes import ROOT, clean_environment
from tests.support.rig import Rig
from tests.support.stub_model import Answer, echo, status
from tests.support.waiting import until
from wire.names import Names

EXAMPLE = Path(ROOT, "examples", "airflow")


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An Airflow of its own: a home, a database in it, the example's folders."""
    home = tmp_path_factory.mktemp("airflow")
    environment = {
        **clean_environment(),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLE / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(EXAMPLE / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    subprocess.run(
        [python_of("airflow"), "-m", "airflow", "db", "migrate"],
        env=environment,
        cwd=home,
        capture_output=True,
        check=True,
        timeout=120,
    )
    return environment


def reach(rig: Rig) -> dict[str, str]:
    """What the example needs to know of a rig."""
    return clean_environment(BROKER_URL=rig.settings["BROKER_URL"], PREFIX=rig.names.prefix)


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_dag_runs_and_defers_while_it_waits(redis_rig: Rig, place: Path, airflow: dict[str, str]) -> None:
    """The model answers only when the trigger has looked in vain. Then every row has its reply, in both
    files; equal rows are asked once, and the second task asks the model nothing."""
    looked = threading.Event()

    def behave(payload: Any) -> Answer:
        looked.wait(60)
        return echo(payload) if payload != {"text": "bad"} else status(422)(payload)

    redis_rig.model.behave = behave
    redis_rig.work(MODELS__M__TIMEOUT_SECONDS="60")
    rows = [{"text": f"text {n % 80}"} for n in range(100)]
    rows[7] = {"text": "bad"}
    target = str(place / "out.jsonl")
    conf = {"source": write(place / "rows.jsonl", rows), "target": target, "may_fail": 1}
    log = place / "airflow.log"
    with log.open("wb") as out:
        child = subprocess.Popen(
            [python_of("airflow"), "-m", "airflow", "dags", "test", "score_texts", "-c", json.dumps(conf)],
            env={**airflow, **reach(redis_rig)},
            cwd=place,
            stdout=out,
            stderr=out,
        )
    try:
        until(lambda: child.poll() is not None or " 0 of 3 messages" in log.read_text(), 90, "a look in vain")
        assert not (place / "out.jsonl").exists()
        looked.set()
        assert child.wait(60) == 0, log.read_text()
    finally:
        looked.set()
        child.kill()
        child.wait()
    said = log.read_text()
    assert "state=success" in said, said
    assert said.count("running trigger in line") >= 1
    for name in ("out.jsonl", "out.jsonl.again"):
        found = read(place / name)
        assert [reply["row"] for reply in found] == list(range(100))
        assert [reply["result"] for reply in found if reply["row"] != 7] == [
            {"echo": row} for row in rows if row != {"text": "bad"}
        ]
        assert found[7]["error"]["kind"] == "model_rejected"
    assert {reply["outcome"] for reply in read(place / "out.jsonl.again")} == {"hit", "failed"}
    assert sorted(map(str, redis_rig.model.payloads)) == sorted(
        [*{str(row) for row in rows}, str({"text": "bad"})]
    )
    assert list(place.glob("*.partial")) == []


TWICE = """
import asyncio, importlib
from recollect_airflow import RepliesThere
from recollect_run import depth

async def fire():
    path, known = RepliesThere("q", 2, 4e9, 0.1).serialize()
    module, name = path.rsplit(".", 1)
    trigger = getattr(importlib.import_module(module), name)(**known)
    return [event.payload async for event in trigger.run()]

async def main():
    print(await asyncio.gather(fire(), fire()), depth("q"))

asyncio.run(main())
"""


def test_a_trigger_that_runs_twice_takes_nothing(
    redis_rig: Rig, place: Path, airflow: dict[str, str]
) -> None:
    """Made again from what it says of itself, beside itself, and all replies still there."""
    redis_rig.work()
    redis_rig.producer.enqueue([1, 2, 3], run="q", pack=1)
    until(lambda: redis_rig.producer.depth(run="q") == 3, what="three replies")
    done = subprocess.run(
        [python_of("airflow"), "-c", TWICE],
        env={**airflow, **reach(redis_rig), "PYTHONPATH": str(EXAMPLE / "plugins")},
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    fired = {"waiting": 3, "end": 4e9}
    assert done.stdout.splitlines()[-1:] == [f"[{[fired]}, {[fired]}] 3"], done.stderr
    assert len(list(redis_rig.producer.collect(run="q", timeout=1))) == 3


VERDICTS = """
from pathlib import Path
from airflow.sdk.exceptions import AirflowException
from recollect_airflow import _verdicts, map_file
from recollect_run import RowsFailed

def bad():
    Path("rows.jsonl").write_text("no")
    map_file("rows.jsonl", "out.jsonl")

def failed(in_vain):
    with _verdicts():
        raise RowsFailed("so many", in_vain=in_vain)

for does in (bad, lambda: failed(True), lambda: failed(False)):
    try:
        does()
    except AirflowException as error:
        print(type(error).__name__, error)
"""


def test_only_what_a_retry_may_mend_is_retried(place: Path, airflow: dict[str, str]) -> None:
    """A row that is no JSON, and failures for good, are final to Airflow."""
    done = subprocess.run(
        [python_of("airflow"), "-c", VERDICTS],
        env={**airflow, "PYTHONPATH": str(EXAMPLE / "plugins")},
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    said = done.stdout.splitlines()[-3:]
    assert [line.split()[0] for line in said] == ["AirflowFailException"] * 2 + ["AirflowException"], (
        done.stderr
    )
    assert "rows.jsonl:1 is not JSON" in said[0]


QUEUES = """
from types import SimpleNamespace
from recollect_airflow import MapFile

task = MapFile(task_id="t", source="s", target="t", run_name="score-texts")
first = {"dag_id": "d", "task_id": "t", "run_id": "manual__2024-01-01T00:00:00+00:00", "map_index": 0}
for other in ({}, {"dag_id": "e"}, {"task_id": "u" * 250}, {"run_id": "r"}, {"map_index": 1}, {}):
    print(task.reply_queue({"ti": SimpleNamespace(**{**first, **other})}))
try:
    MapFile(task_id="t", source="s", target="t", run_name="a.b")
except ValueError as error:
    print(error)
"""


@pytest.fixture
def steps(redis_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """recollect_run.py, which needs no Airflow, in front of a real worker."""
    redis_rig.work()
    for name, value in reach(redis_rig).items():
        monkeypatch.setenv(name, value)
    spec = importlib.util.spec_from_file_location("recollect_run", EXAMPLE / "plugins" / "recollect_run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "recollect_run", module)
    spec.loader.exec_module(module)
    return module


def test_a_run_that_dies_anywhere_goes_on(redis_rig: Rig, place: Path, steps: ModuleType) -> None:
    """After asking, after collecting, in the middle of a row of the partial file: the next try asks only for
    what has no reply, what another run left is nobody's, and each row gets one reply."""
    rows = [*range(40), 3, 3, 2**70]
    source, target = write(place / "rows.jsonl", rows), str(place / "out.jsonl")
    redis_rig.producer.enqueue([{"id": "of another run", "payload": 1}], run="q", whole_requests=True)

    def run() -> Any:
        return steps.Run(source, target, run_name="q", key="monday")

    assert run().ask() == 40  # one cannot be sent, two are there already
    assert run().ask() == 40  # died before it could say so
    until(lambda: steps.depth("q") == 5, what="the replies to both, and the stranger's")
    run().collect()
    assert run().missing() == []
    partial = Path(f"{target}.partial")
    partial.write_bytes(partial.read_bytes()[:-9])
    assert len(run().missing()) == 1
    assert run().ask() == 1
    until(lambda: steps.depth("q") == 1, what="the last reply")
    run().collect()
    outcomes = run().finish(may_fail=1)
    assert outcomes.pop("invalid") == 1
    assert sum(outcomes.values()) == 42
    assert outcomes.keys() <= {"miss", "hit", "coalesced"}
    found = read(Path(target))
    assert [reply["row"] for reply in found] == list(range(43))
    assert [reply["result"] for reply in found[:42]] == [{"echo": row} for row in rows[:42]]
    assert found[42]["error"]["kind"] == "invalid_request"
    assert redis_rig.model.calls == 40  # each row once; the other run asked for one of them
    assert len(steps.Run(source, target, run_name="q", key="tuesday").missing()) == 41


def test_a_run_with_failed_rows_fails_and_the_next_try_asks_again(
    redis_rig: Rig, place: Path, steps: ModuleType
) -> None:
    """Only for those that may succeed later; what the model rejected stays, and makes a retry vain."""
    ill = threading.Event()
    ill.set()

    def behave(payload: Any) -> Answer:
        if payload == "bad":
            return status(422)(payload)
        return status(503)(payload) if payload == "later" and ill.is_set() else echo(payload)

    redis_rig.model.behave = behave
    source, target = write(place / "rows.jsonl", ["fine", "later", "bad"]), place / "out.jsonl"

    def once(may_fail: int) -> Any:
        run = steps.Run(source, str(target), run_name="q", key="monday")
        run.collect()
        run.forget_failures()
        asked = run.ask()
        until(lambda: steps.depth("q") == 1, what="the replies")
        run.collect()
        with pytest.raises(steps.RowsFailed) as failed:
            run.finish(may_fail=may_fail)
        assert not target.exists()
        return asked, failed.value.in_vain, str(failed.value)

    asked, in_vain, said = once(may_fail=1)
    assert (asked, in_vain) == (3, False)
    assert said.startswith(
        "2 rows failed, 1 of them for good, and 1 may (may_fail); the first is row 1 (from 0)"
    )
    assert once(may_fail=0)[:2] == (1, True)
    ill.clear()
    run = steps.Run(source, str(target), run_name="q", key="monday")
    run.forget_failures()
    assert run.ask() == 1
    until(lambda: steps.depth("q") == 1, what="the reply")
    run.collect()
    assert sum(run.finish(may_fail=1).values()) == 3
    assert [reply["result"] for reply in read(target)] == [{"echo": "fine"}, {"echo": "later"}, None]


def test_the_calls_of_a_run_can_be_counted(redis_rig: Rig, place: Path, steps: ModuleType) -> None:
    """A row that equals an earlier one is no miss: it is `coalesced`, as with `map`."""
    source, target = write(place / "rows.jsonl", [1, 2, 1, 1]), str(place / "out.jsonl")
    run = steps.Run(source, target, run_name="q", key="monday")
    run.ask()
    until(lambda: steps.depth("q") == 1, what="the replies")
    run.collect()
    assert run.finish() == {"miss": 2, "coalesced": 2}
    assert [reply["outcome"] for reply in read(Path(target))] == ["miss", "miss", "coalesced", "coalesced"]
    assert redis_rig.model.calls == 2


def test_each_task_has_a_queue_of_its_own(place: Path, airflow: dict[str, str]) -> None:
    """Mapped tasks, two operators of one Dag, two runs, two Dags with one `run_name`; every try the same."""
    done = subprocess.run(
        [python_of("airflow"), "-c", QUEUES],
        env={**airflow, "PYTHONPATH": str(EXAMPLE / "plugins")},
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    *names, again, refused = done.stdout.splitlines()[-7:]
    assert len(set(names)) == 5, done.stderr
    assert again == names[0]
    assert all(Names().replies_for(name) and name.startswith("score-texts-") for name in names)
    assert refused == "run_name 'a.b' must be 1 to 31 of A-Z a-z 0-9 _ -"


def test_a_try_that_was_given_up_and_lives_is_kept_out(place: Path, steps: ModuleType) -> None:
    """Of two that write to one target, the second is refused before it takes a reply."""
    source, target = write(place / "rows.jsonl", [1]), str(place / "out.jsonl")
    run = steps.Run(source, target, run_name="q", key="monday")
    run.ask()
    until(lambda: steps.depth("q") == 1, what="the reply")
    with Path(f"{target}.partial").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for step in (run.collect, run.ask, lambda: steps.map_file(source, target)):
            with pytest.raises(RuntimeError, match=r"out\.jsonl\.partial is in use"):
                step()
        assert steps.depth("q") == 1
    run.collect()
    assert run.missing() == []


def test_map_file_with_failed_rows_fails(redis_rig: Rig, place: Path, steps: ModuleType) -> None:
    """Its file has its name only where no more failed than may."""
    redis_rig.model.behave = lambda payload: echo(payload) if payload != "bad" else status(422)(payload)
    source, target = write(place / "rows.jsonl", ["fine", "bad"]), place / "out.jsonl"
    with pytest.raises(steps.RowsFailed, match=r"1 rows failed.*row 1 .*model_rejected") as failed:
        steps.map_file(source, str(target))
    assert failed.value.in_vain
    assert not target.exists()
    assert steps.map_file(source, str(target), may_fail=1) == {"hit": 1, "failed": 1}
    assert len(read(target)) == 2


def test_a_row_that_is_no_json_is_named(redis_rig: Rig, place: Path, steps: ModuleType) -> None:
    """With its line, before anything is asked; by both ways, and blank lines are no rows to either."""
    source, target = place / "rows.jsonl", place / "out.jsonl"
    for line in ("no", "[" * 100_000, "\udcff"):
        source.write_bytes(f"1\n\n{line}\n".encode(errors="surrogateescape"))
        with pytest.raises(ValueError, match=r"rows\.jsonl:3 is not JSON"):
            steps.Run(str(source), str(target), run_name="q", key="k")
        with pytest.raises(ValueError, match=r"rows\.jsonl:3 is not JSON"):
            steps.map_file(str(source), str(target))
    assert redis_rig.model.calls == 0
    source.write_text("1\n\n \t\r\n2\r\n\n")
    assert steps.map_file(str(source), str(target)) == {"miss": 2}
    assert [(reply["row"], reply["result"]) for reply in read(target)] == [(0, {"echo": 1}), (1, {"echo": 2})]
    assert len(steps.Run(str(source), str(target), run_name="q", key="k").missing()) == 2
