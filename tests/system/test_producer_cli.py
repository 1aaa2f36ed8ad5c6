"""The command line where things go wrong: real processes, real broker."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import start
from tests.support.rig import Rig
from tests.support.waiting import free_port, until


def begin(place: Path, rig: Rig | None, *arguments: str, **options: object) -> subprocess.Popen[str]:
    settings = {} if rig is None else {"BROKER_URL": rig._broker_url, "PREFIX": rig.names.prefix}
    return start(place, "producer", *arguments, settings=settings, **options)


def run(place: Path, rig: Rig | None, *arguments: str, **options: object) -> tuple[int, str, str]:
    with begin(place, rig, *arguments, **options) as child:
        out, said = child.communicate(timeout=90)
    assert "Traceback" not in said
    return child.returncode, out, said


def test_rows_from_a_pipe_with_a_name(redis_rig: Rig, place: Path) -> None:
    """`map <(zcat rows.gz)` reads every row: counting them first must not use them up."""
    redis_rig.work()
    reading, writing = os.pipe()
    os.write(writing, b"1\n2\n3\n")
    os.close(writing)
    try:
        code, out, said = run(place, redis_rig, "map", f"/dev/fd/{reading}", "-o", "-", pass_fds=(reading,))
    finally:
        os.close(reading)
    assert code == 0, said
    assert sorted(json.loads(line)["result"]["echo"] for line in out.splitlines()) == [1, 2, 3]
    assert "3 rows" in said


def test_an_integer_beyond_64_bits_is_refused_and_not_changed(redis_rig: Rig, place: Path) -> None:
    """In a file it fails alone; as the only payload it is a wrong use."""
    redis_rig.work()
    (place / "in").write_text('{"id":18446744073709551616}\n{"id":1}\n')
    code, out, _ = run(place, redis_rig, "map", "in", "-o", "-", "--ordered")
    first, second = (json.loads(line) for line in out.splitlines())
    assert code == 1
    assert "line 1: payload has the integer 18446744073709551616" in first["error"]["message"]
    assert second["result"] == {"echo": {"id": 1}}
    code, _, said = run(place, redis_rig, "call", "18446744073709551616")
    assert code == 2
    assert "beyond 64 bits" in said


def test_enqueue_names_the_bad_lines_and_sends_the_rest(redis_rig: Rig, place: Path) -> None:
    """Exit 1; alike mistakes are one line."""
    redis_rig.work()
    (place / "in").write_text('1\nnope\n{"a":\n2\n')
    code, _, said = run(place, redis_rig, "enqueue", "in", "--run", "n")
    assert code == 1
    assert "enqueued 2 requests" in said
    assert "line 2 is not JSON" in said
    replies = redis_rig.producer.collect(run="n", timeout=5)
    assert sorted(next(replies).result["echo"] for _ in range(2)) == [1, 2]
    replies.close()


def test_an_interrupted_collect_goes_on(redis_rig: Rig, place: Path) -> None:
    """Killed or interrupted: what was acknowledged is in OUT.partial, and the same command adds the rest."""
    redis_rig.work()
    partial = place / "out.partial"
    for number, code, payload in ((signal.SIGKILL, -9, "killed"), (signal.SIGINT, 130, "interrupted")):
        redis_rig.producer.enqueue([payload], run="n")
        child = begin(place, redis_rig, "collect", "--run", "n", "-o", "out", "--timeout", "60")
        until(lambda p=payload: partial.exists() and p in partial.read_text(), what=payload)  # type: ignore[misc]
        child.send_signal(number)
        _, said = child.communicate(timeout=30)
        assert child.returncode == code
    assert "kept in out.partial" in said
    code, _, said = run(place, redis_rig, "collect", "--run", "n", "-o", "out", "--timeout", "3")
    assert code == 0, said
    assert "2 rows of out.partial stay" in said
    found = {json.loads(line)["result"]["echo"] for line in (place / "out").read_text().splitlines()}
    assert found == {"killed", "interrupted"}
    assert not partial.exists()


def test_a_reader_that_has_seen_enough(redis_rig: Rig, place: Path) -> None:
    """`map … -o - | head` ends in peace."""
    redis_rig.work()
    (place / "in").write_text("".join(f'{{"n":{n},"text":"{"x" * 500}"}}\n' for n in range(2000)))
    child = begin(place, redis_rig, "map", "in", "-o", "-")
    assert child.stdout is not None
    assert child.stderr is not None
    assert child.stdout.readline()
    child.stdout.close()
    said = child.stderr.read()
    child.stderr.close()
    assert child.wait(60) == 0, said
    assert "Traceback" not in said
    assert "BrokenPipe" not in said


@pytest.mark.parametrize("verb", ["map", "collect"])
def test_an_unreachable_broker_leaves_no_litter(place: Path, verb: str) -> None:
    """Exit 3, the address without its password, no empty OUT.partial."""
    (place / "in").write_text("1\n")
    url = f"pyamqp://user:secret@127.0.0.1:{free_port()}//"
    source = ["in"] if verb == "map" else []
    code, _, said = run(place, None, verb, *source, "-o", "out", "--broker-url", url, "--no-retry")
    assert code == 3
    assert "127.0.0.1" in said
    assert "secret" not in said
    assert [path.name for path in place.iterdir()] == ["in"]


def test_a_broker_that_comes_late_is_waited_for(place: Path) -> None:
    """It says so, keeps trying, and Ctrl-C ends it."""
    url = f"redis://127.0.0.1:{free_port()}/0"
    child = begin(place, None, "call", "1", "--broker-url", url)
    assert child.stderr is not None
    assert "trying again" in child.stderr.readline()
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said


def test_help_opens_every_door(place: Path) -> None:
    """Examples to paste and the exit codes."""
    code, out, _ = run(place, None, "--help")
    assert code == 0
    assert "producer map rows.jsonl" in out
    assert "130 interrupted" in out


def test_settings_come_from_the_file_last(redis_rig: Rig, place: Path) -> None:
    """flag > environment > recollect.toml."""
    redis_rig.work()
    toml = place / "recollect.toml"
    toml.write_text(f'broker_url = "{redis_rig._broker_url}"\nprefix = "{redis_rig.names.prefix}"\n')
    assert run(place, None, "call", "1")[0] == 0
    toml.write_text(f'broker_url = "redis://127.0.0.1:{free_port()}/0"\n')
    assert run(place, None, "call", "1", "--no-retry")[0] == 3
    assert run(place, redis_rig, "call", "1")[0] == 0
    toml.write_text("broker_url = \n")
    code, _, said = run(place, None, "call", "1")
    assert code == 2
    assert "recollect.toml" in said


def test_every_directive_has_its_flag(redis_rig: Rig, place: Path) -> None:
    """What it says comes with the reply; what contradicts itself, or cannot be meant, is a wrong use."""
    redis_rig.work()

    def outcome(*flags: str) -> tuple[int, str]:
        code, out, _ = run(place, redis_rig, "call", '{"a":1}', *flags)
        return code, json.loads(out)["outcome"]

    assert outcome("--only-if-cached") == (1, "not_cached")
    assert outcome("--deadline", "60", "--ttl", "60") == (0, "miss")
    assert outcome("--only-if-cached") == (0, "hit")
    assert outcome("--max-age", "0", "--stale-if-error", "5") == (0, "miss")
    assert outcome("--max-age", "3600", "--no-store") == (0, "hit")
    assert outcome("--bypass") == (0, "bypass")
    assert outcome("--deadline", "-1") == (1, "expired")
    for flags in (("--only-if-cached", "--refresh"), ("--max-age", "-1"), ("--stale-if-error", "nan")):
        code, _, said = run(place, redis_rig, "call", "1", *flags)
        assert code == 2, said
        assert said.startswith("error: "), said


def test_a_priority_is_said_on_the_command_line(redis_rig: Rig, place: Path) -> None:
    """`enqueue` sends in bulk unless told otherwise; a wrong word is a mistake that names the right ones."""
    (place / "rows.jsonl").write_text("1\n2\n")
    for more in ((), ("--priority", "interactive")):
        assert run(place, redis_rig, "enqueue", "rows.jsonl", *more)[0] == 0
    broker = redis_rig.broker()
    depth = broker.depth()
    broker.close()
    assert (depth[redis_rig.names.requests], depth[redis_rig.names.interactive]) == (1, 1)
    for command in (["enqueue", "rows.jsonl"], ["map", "rows.jsonl", "-o", "out.jsonl"], ["call", "1"]):
        code, _, said = run(place, redis_rig, *command, "--priority", "urgent")
        assert (code, "bulk" in said, "interactive" in said) == (2, True, True), said
