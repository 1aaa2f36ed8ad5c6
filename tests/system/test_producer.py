"""The producer, in Python and on the command line."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer.client import Producer
from recollect import Producer as Exported
from tests.support.processes import run, start
from tests.support.rig import Rig
from tests.support.stub_model import status
from tests.support.waiting import free_port, until
from wire.errors import InvalidRequest


def command(
    place: Path, rig: Rig | None, *arguments: str, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    settings = {} if rig is None else {"BROKER_URL": rig._broker_url, "PREFIX": rig.names.prefix}
    return run(place, "producer", *arguments, stdin=stdin, **settings)


def test_the_three_lines_of_the_readme(rig: Rig) -> None:
    """`from recollect import Producer` is all that a pipeline imports."""
    rig.work()
    with Exported(rig._broker_url, prefix=rig.names.prefix) as producer:
        results = {reply.index: reply.result for reply in producer.map(["a", "b"], model="m")}
    assert results == {0: {"echo": "a"}, 1: {"echo": "b"}}


def test_map_is_lazy_and_bounded(redis_rig: Rig) -> None:
    """No more of the input is read than may be in flight."""
    redis_rig.work()
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    replies = redis_rig.producer.map(endless(), in_flight=20, pack=5)
    assert taken == 0
    for _ in range(50):
        assert next(replies).ok
    assert taken <= 50 + 20
    replies.close()
    assert redis_rig.call("after an abandoned map").result == {"echo": "after an abandoned map"}


def test_ordered_keeps_the_order_within_bounds(redis_rig: Rig) -> None:
    """The slow first row holds back the rest, and no more than in_flight of them are read meanwhile."""
    rig = redis_rig
    rig.model.behave = lambda p: (
        rig.model.hang(p) if p == 0 and not rig.model.released.is_set() else (200, b"1", {})
    )
    rig.work()
    read: list[int] = []

    def rows() -> Iterator[int]:
        for n in range(200):
            read.append(n)
            if n == 39:
                rig.model.released.set()
            yield n

    indexes = [reply.index for reply in rig.producer.map(rows(), in_flight=40, pack=4, ordered=True)]
    assert indexes == list(range(200))


def test_a_payload_that_cannot_be_sent_fails_in_its_place(redis_rig: Rig) -> None:
    """NaN, a set, an integer beyond 64 bits: an error reply for each, and the rest goes on."""
    redis_rig.work()
    payloads = [1, float("nan"), {1, 2}, 2**64, 2]
    replies = list(redis_rig.producer.map(payloads, ordered=True))
    assert [reply.ok for reply in replies] == [True, False, False, False, True]
    assert {reply.error["kind"] for reply in replies if reply.error} == {"invalid_request"}


def test_a_directive_that_is_none_is_refused_at_once(redis_rig: Rig) -> None:
    """Before anything is sent."""
    with pytest.raises(InvalidRequest, match="did you mean `bypass`"):
        redis_rig.producer.map([1], by_pass=True)


def test_a_call_without_workers_says_what_to_check(redis_rig: Rig) -> None:
    """TimeoutError with the command to type."""
    with pytest.raises(TimeoutError, match="python -m worker run"):
        redis_rig.producer.call(1, timeout=0.2)


def test_a_producer_without_a_url_prints_the_choice() -> None:
    """Never a silent default."""
    with pytest.raises(ValueError, match="embedded:"):
        Producer()


def test_runs_are_kept_apart(rig: Rig) -> None:
    """Two pipelines never take each other's replies."""
    rig.work()
    assert rig.producer.enqueue(["a", "b"], run="one") == 2
    assert rig.producer.enqueue(["c"], run="two") == 1
    assert [r.result for r in rig.producer.collect(run="two", timeout=3)] == [{"echo": "c"}]
    assert {r.result["echo"] for r in rig.producer.collect(run="one", timeout=3)} == {"a", "b"}


def test_map_a_file(rig: Rig, place: Path) -> None:
    """A row for every row, a summary whose counts add up; the second time all is remembered."""
    rig.work()
    (place / "in.jsonl").write_text("".join(f'{{"n":{n}}}\n' for n in range(50)))
    done = command(place, rig, "map", "in.jsonl", "-o", "out.jsonl", "--ordered")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (place / "out.jsonl").read_text().splitlines()]
    assert [(row["index"], row["result"]) for row in rows] == [(n, {"echo": {"n": n}}) for n in range(50)]
    assert "50 miss = 50 rows" in done.stderr
    assert not (place / "out.jsonl.partial").exists()
    again = command(place, rig, "map", "-", "-o", "-", stdin=(place / "in.jsonl").read_text())
    assert len(again.stdout.splitlines()) == 50
    assert "50 hit = 50 rows" in again.stderr
    assert "TOTAL RECALL" in again.stderr


def test_bad_lines_fail_alone_and_are_grouped(redis_rig: Rig, place: Path) -> None:
    """Exit 1; a line that is no JSON is named by its number."""
    redis_rig.work()
    redis_rig.model.behave = lambda p: status(404)(p) if p == "bad" else (200, b"1", {})
    (place / "in.jsonl").write_text('1\nnot json\n\n"bad"\n2\n')
    done = command(place, redis_rig, "map", "in.jsonl", "-o", "out.jsonl", "--ordered")
    assert done.returncode == 1
    rows = [json.loads(line) for line in (place / "out.jsonl").read_text().splitlines()]
    failed = [json.loads(line) for line in (place / "out.errors.jsonl").read_text().splitlines()]
    assert [(row["index"], row["line"], row["status"]) for row in rows] == [(0, 1, "ok"), (3, 5, "ok")]
    assert [(row["line"], row["input"]) for row in failed] == [(2, "not json"), (4, "bad")]
    assert "line 2 is not JSON" in failed[0]["error"]["message"]
    assert "Output   out.jsonl 2 rows · out.errors.jsonl 2 rows" in done.stderr
    assert "1 model_rejected" in done.stderr


def test_whole_requests_from_a_file(redis_rig: Rig, place: Path) -> None:
    """--requests: each line has its own directives."""
    redis_rig.work()
    lines = '{"payload":1,"bypass":true,"id":"mine"}\n{"payload":1}\n'
    done = command(place, redis_rig, "map", "-", "-o", "-", "--requests", "--ordered", stdin=lines)
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["outcome"], first["id"], second["outcome"]) == ("bypass", "mine", "miss")


def test_call_enqueue_and_collect(redis_rig: Rig, place: Path) -> None:
    """The other verbs, one after the other."""
    redis_rig.work()
    assert json.loads(command(place, redis_rig, "call", '{"a":1}').stdout)["result"] == {"echo": {"a": 1}}
    assert command(place, redis_rig, "call", "nope").returncode == 2
    (place / "in.jsonl").write_text("1\n2\n")
    assert "enqueued 2 requests" in command(place, redis_rig, "enqueue", "in.jsonl", "--run", "n").stderr
    got = command(place, redis_rig, "collect", "--run", "n", "-o", "-", "--timeout", "3")
    assert len(got.stdout.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["map", "nowhere.jsonl", "-o", "out"], 2, "nowhere.jsonl"),
        (["map", "in", "-o", "out", "--in-flight", "0"], 2, "at least 1"),
        (["map"], 2, "usage"),
        (["enqueue", "in", "--run", "a/b"], 2, "reply queue name"),
        (["call", "1", "--broker-url", "nope"], 2, "expected embedded:"),
        (["call", "1", "--ttl", "-1"], 2, "ttl is -1"),
    ],
)
def test_wrong_use_is_explained(
    redis_rig: Rig, place: Path, arguments: list[str], code: int, said: str
) -> None:
    """Exit 2 and a sentence, never a traceback."""
    (place / "in").write_text("1\n")
    done = command(place, redis_rig, *arguments)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_broker(place: Path) -> None:
    """No URL: the choice, exit 2. Nobody there: exit 3 for those who do not want to wait."""
    none = command(place, None, "call", "1")
    assert none.returncode == 2
    assert "RECOLLECT_BROKER_URL=embedded:" in none.stderr
    url = f"redis://127.0.0.1:{free_port()}/0"
    away = command(place, None, "call", "1", "--broker-url", url, "--no-retry")
    assert away.returncode == 3
    assert "Traceback" not in away.stderr


def test_ctrl_c_keeps_what_arrived(redis_rig: Rig, place: Path) -> None:
    """Exit 130; the file keeps its unfinished name."""
    redis_rig.work()
    redis_rig.model.behave = lambda p: redis_rig.model.hang(p) if p == 99 else (200, b"1", {})
    (place / "in.jsonl").write_text("".join(f"{n}\n" for n in range(100)))
    settings = {"BROKER_URL": redis_rig._broker_url, "PREFIX": redis_rig.names.prefix}
    child = start(place, "producer", "map", "in.jsonl", "-o", "out.jsonl", settings=settings)
    until(lambda: redis_rig.model.calls == 100, what="the calls")
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "kept in out.jsonl.partial" in said
    assert not (place / "out.jsonl").exists()
