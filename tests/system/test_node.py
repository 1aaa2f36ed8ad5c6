"""The producer in another language (examples/node), on RabbitMQ, against a real worker."""

import contextlib
import itertools
import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.environments import node
from tests.support.processes import ROOT, clean_environment
from tests.support.proxy import Proxy
from tests.support.rig import Rig
from tests.support.servers import RabbitServer, ValkeyServer
from tests.support.stub_model import Answer, StubModel, echo, status
from tests.support.waiting import until

PROGRAM = str(Path(ROOT, "examples", "node", "producer.mjs"))
BIG = 2**53 + 1  # no number of JavaScript's


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    node()


@pytest.fixture
def rig(
    tmp_path: Path, rabbit_server: RabbitServer, valkey: ValkeyServer, model: StubModel, prefix: str
) -> Iterator[Rig]:
    built = Rig(tmp_path, rabbit_server.url(), valkey, model, prefix)
    yield built
    built.close()


def start(
    rig: Rig, place: Path, text: str, *arguments: str, url: str | None = None
) -> "subprocess.Popen[str]":
    """The program, with `text` as its input."""
    (place / "in.jsonl").write_text(text)
    settings = {"BROKER_URL": url or rig.settings["BROKER_URL"], "PREFIX": rig.names.prefix}
    with (place / "in.jsonl").open() as given:
        return subprocess.Popen(
            [node(), PROGRAM, *arguments],
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(**settings),
        )


def finish(child: "subprocess.Popen[str]", code: int = 0) -> list[dict[str, Any]]:
    """Its replies, in the order of their rows."""
    said, complaints = child.communicate(timeout=60)
    assert child.returncode == code, complaints
    return sorted(
        (json.loads(line) for line in said.removesuffix("\n").split("\n") if line),
        key=lambda reply: int(reply["row"]),
    )


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def what_counts(reply: dict[str, Any]) -> dict[str, Any]:
    """Of a reply: all but its own id, and its age."""
    return {name: reply[name] for name in ("status", "result", "error", "model", "version", "key")}


def test_every_row_gets_the_reply_that_map_gives(rig: Rig, place: Path) -> None:
    """1,000 rows, one of which the model rejects; the replies to a pack come in several parts."""
    rig.model.behave = lambda payload: echo(payload) if payload.get("n") != 500 else status(422)(payload)
    rig.work(REPLY_MAX_BYTES="4096")
    rows = [{"n": n, "text": f"é\u2028 {n}", "id": BIG} for n in range(1000)]
    found = finish(start(rig, place, lines(rows), "--model", "m"), code=1)
    assert [reply["row"] for reply in found] == list(range(1000))
    assert {reply["outcome"] for reply in found} == {"miss", "failed"}
    mapped = list(rig.producer.map(rows, model="m", ordered=True))
    assert [what_counts(reply) for reply in found] == [what_counts(reply.as_dict()) for reply in mapped]
    assert found[500]["error"]["kind"] == "model_rejected"
    assert found[1]["result"] == {"echo": rows[1]}
    # Each was a hit: so the keys, too, were those of the same payloads, to the last digit of `id`.
    assert [reply.outcome for reply in mapped if reply.index != 500] == ["hit"] * 999


@pytest.mark.parametrize("pack", ["1", "3"])
def test_what_is_no_json_is_refused_in_its_place(rig: Rig, place: Path, pack: str) -> None:
    """By the worker; its neighbours are answered, and empty lines are none."""
    rig.work()
    text = '1\n\nno json\n{"a":2}\n1,"bypass":true\nnull'
    found = finish(start(rig, place, text, "--pack", pack), code=1)
    assert [reply["status"] for reply in found] == ["ok", "error", "ok", "error", "ok"]
    assert [reply["result"] for reply in found if reply["status"] == "ok"] == [
        {"echo": 1}, {"echo": {"a": 2}}, {"echo": None},
    ]  # fmt: skip
    assert {reply["error"]["kind"] for reply in found if reply["error"]} == {"invalid_request"}


def test_a_message_that_is_refused_as_a_whole_answers_all_its_rows(rig: Rig, place: Path) -> None:
    """Too large for this worker: one reply message of one reply."""
    rig.work(MESSAGE_MAX_BYTES="1024", REQUEST_MAX_BYTES="1024")
    found = finish(start(rig, place, lines(["x" * 300] * 4), "--pack", "4"), code=1)
    assert [reply["row"] for reply in found] == [0, 1, 2, 3]
    assert {reply["error"]["kind"] for reply in found} == {"invalid_request"}


def test_a_lost_connection_costs_no_row(rig: Rig, place: Path, rabbit_server: RabbitServer) -> None:
    """What was unanswered is sent again; each row has one reply, and the reply queue goes at the end."""
    held, asked = threading.Event(), threading.Event()

    def behave(payload: Any) -> Answer:
        asked.set()
        held.wait(30)
        return echo(payload)

    rig.model.behave = behave
    rig.work()
    with contextlib.closing(Proxy(rabbit_server.port)) as proxy:
        url = f"pyamqp://guest:guest@127.0.0.1:{proxy.port}//"
        child = start(rig, place, lines(list(range(100))), url=url)
        assert asked.wait(30)
        proxy.cut()
        held.set()
        found = finish(child)
    assert [(reply["row"], reply["result"]) for reply in found] == [(n, {"echo": n}) for n in range(100)]
    queues = rabbit_server.ctl("list_queues", "name", "--silent").split()
    assert rig.names.requests in queues
    assert [name for name in queues if name.startswith(f"{rig.names.replies}.node-")] == []


def test_what_was_lost_with_no_connection_is_sent_again(rig: Rig, place: Path) -> None:
    """The requests are purged before a worker saw them: after a silence they go once more."""
    with contextlib.closing(rig.broker()) as broker:
        child = start(rig, place, lines(list(range(64))), "--reply-timeout", "0.5")
        until(lambda: broker.depth()[rig.names.requests] >= 2, what="both messages")
        assert broker.purge(rig.names.requests) >= 2
    rig.work()
    assert [reply["result"] for reply in finish(child)] == [{"echo": n} for n in range(64)]


def test_it_ends_quietly_when_its_reader_leaves(rig: Rig, place: Path, rabbit_server: RabbitServer) -> None:
    """As in `| head -1`: exit code 0, no complaint, and no reply queue is left behind."""
    rig.work()
    child = start(rig, place, lines(list(range(5000))), "--in-flight", "100")
    assert child.stdout is not None
    assert json.loads(child.stdout.readline())["status"] == "ok"
    child.stdout.close()
    assert child.wait(60) == 0
    assert child.stderr is not None
    assert child.stderr.read() == ""
    child.stderr.close()
    queues = rabbit_server.ctl("list_queues", "name", "--silent").split()
    assert [name for name in queues if name.startswith(f"{rig.names.replies}.node-")] == []


def test_it_asks_no_more_than_its_reader_takes(rig: Rig, place: Path) -> None:
    """Where nobody reads, the rest of the input waits; then every row has its reply."""
    rig.work()
    child = start(rig, place, lines([[n, "x" * 1000] for n in range(3000)]), "--in-flight", "64")
    numbers = itertools.count()

    def is_still() -> bool:
        before = asked()
        for _ in range(20):
            rig.call({"call": next(numbers)})
        return 0 < asked() == before

    def asked() -> int:
        return sum(isinstance(payload, list) for payload in rig.model.payloads)

    until(is_still, 60, "a standstill")
    assert asked() < 3000
    assert len(finish(child)) == 3000


@pytest.mark.parametrize(
    ("url", "got"),
    [("redis://h:6379/0", "redis://…"), ("h:5672", "no such URL"), ("amqp://[", "amqp://…")],
)
def test_a_url_that_is_none_of_amqp_is_refused(rig: Rig, place: Path, url: str, got: str) -> None:
    """Exit code 2, as a retry would not mend it."""
    child = start(rig, place, "1\n", url=url)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 2
    assert said == f"error: expected RECOLLECT_BROKER_URL=amqp://…, amqps://… or pyamqp://…; got {got}\n"


def test_without_a_broker_or_a_worker_it_says_so(rig: Rig, place: Path) -> None:
    """Exit code 3; 2 for a wrong option."""
    assert finish(start(rig, place, "1\n"), code=3) == []
    assert finish(start(rig, place, "1\n", url="amqp://127.0.0.1:1"), code=3) == []
    assert finish(start(rig, place, "1\n", "--in-flight", "0"), code=2) == []
