"""`check` and `run` on servers that can keep a queue, and on those that cannot."""

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.base import Message
from broker.urls import open_broker
from tests.support.processes import WorkerProcess
from tests.support.rig import Rig
from tests.support.servers import RabbitServer, ValkeyServer
from tests.support.waiting import until
from tests.system.test_worker_cli import worker
from wire.names import Names

Start = Callable[..., ValkeyServer]


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts a Valkey with these options."""
    started: list[ValkeyServer] = []

    def begin(**options: str) -> ValkeyServer:
        server = ValkeyServer(
            tmp_path_factory.mktemp("own"),
            **{name.replace("_", "-"): value for name, value in options.items()},
        )
        started.append(server)
        return server.start()

    yield begin
    for server in started:
        server.stop(signal.SIGKILL)


def set_up(queue: ValkeyServer, cache: ValkeyServer, **settings: str) -> dict[str, str]:
    """Settings for a worker whose model costs nothing to load."""
    urls = {"BROKER_URL": queue.url, "CACHE_URL": cache.url}
    return {**urls, "MODELS__M__TARGET": "python:builtins:len", **settings}


EVICTING = {"maxmemory": "100mb", "maxmemory_policy": "allkeys-lru"}


@pytest.mark.parametrize(
    ("options", "settings", "said"),
    [
        (EVICTING, {}, "the server evicts queues when its memory is full"),
        ({"replicaof": "127.0.0.1 1"}, {}, "the server is a replica"),
        ({"appendonly": "no"}, {"DURABILITY": "strict"}, "it keeps no append-only file"),
    ],
)
def test_a_server_that_must_lose_messages_is_refused(
    start: Start,
    valkey: ValkeyServer,
    place: Path,
    options: dict[str, str],
    settings: dict[str, str],
    said: str,
) -> None:
    """By run with exit 2, before anything is received; check says the same, with a hint."""
    queue = start(**options)
    asked = set_up(queue, valkey, **settings)
    done = worker(place, "run", **asked)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "hint: " in done.stderr
    assert done.stderr.endswith("(nothing was started)\n")
    assert "Traceback" not in done.stderr
    checked = worker(place, "check", **asked)
    assert checked.returncode in (1, 3), checked.stdout
    (line,) = [line for line in checked.stdout.splitlines() if said in line]
    assert line.startswith("fail  queue ")
    assert "\n      hint      " in checked.stdout


@pytest.mark.parametrize(
    ("options", "settings", "verdict", "said"),
    [
        (EVICTING, {"ALLOW_QUEUE_EVICTION": "true"}, "warn", "allow_queue_eviction lets it"),
        ({"appendonly": "no"}, {}, "warn", "a restart of the server loses what waits"),
        ({"appendonly": "no", "save": "3600 1"}, {}, "warn", "snapshots only"),
        ({"appendfsync": "no"}, {}, "warn", "a power loss costs about 30 s"),
        ({}, {}, "ok", "a power loss costs at most 1 s"),
        ({}, {"DURABILITY": "strict"}, "ok", "confirmed means on disk"),
        ({"appendfsync": "always"}, {"DURABILITY": "strict"}, "ok", "confirmed means on disk"),
    ],
)
def test_what_may_be_lost_is_said(
    start: Start,
    valkey: ValkeyServer,
    place: Path,
    options: dict[str, str],
    settings: dict[str, str],
    verdict: str,
    said: str,
) -> None:
    """By check, and by run in its log, which works all the same."""
    asked = set_up(start(**options), valkey, **settings)
    checked = worker(place, "check", **asked)
    assert checked.returncode == 0, checked.stdout
    (line,) = [line for line in checked.stdout.splitlines() if said in line]
    assert line.startswith(f"{verdict:<5} queue ")
    running = WorkerProcess(place / "w", **asked)
    told = [
        event for event in running.events("queue audit") if said in str(event.get("wrong") or event["said"])
    ]
    assert [event["level"] for event in told] == ["warning" if verdict == "warn" else "info"]
    assert running.stop() == 0


def test_a_server_that_forbids_config_is_taken_at_its_info(
    start: Start, valkey: ValkeyServer, place: Path
) -> None:
    """What cannot be read is said; INFO forbidden, too, is a warning and no more."""
    queue = start()
    with queue.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-config")
    checked = worker(place, "check", **set_up(queue, valkey))
    assert checked.returncode == 0, checked.stdout
    assert "appendfsync cannot be read" in checked.stdout
    with queue.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-info")
    checked = worker(place, "check", **set_up(queue, valkey))
    assert "warn  queue     the server could not be asked" in checked.stdout
    running = WorkerProcess(place / "w", **set_up(queue, valkey))
    assert running.events("queue audit")[0]["asked"] is False
    assert running.stop() == 0


def test_the_embedded_server_keeps_a_queue(place: Path, valkey: ValkeyServer) -> None:
    """Its files are flushed at every write."""
    settings = {**set_up(valkey, valkey, DURABILITY="strict"), "BROKER_URL": "embedded:"}
    checked = worker(place, "check", **settings)
    assert checked.returncode == 0, checked.stdout
    assert "volatile-lfu: confirmed means on disk" in checked.stdout


def test_check_and_run_show_the_timeline(redis_rig: Rig, place: Path) -> None:
    """A line a model; a drain that is too short is a warning with the setting's name."""
    settings = {**redis_rig.settings, "MODELS__M__ATTEMPTS": "1"}
    checked = worker(place, "check", **settings)
    assert (
        "warn  timeline  m  1 x 30 s + 0 s of waits: held 30 s at most · drain 25 s · lease 30 s; "
        "a drain gives back what takes longer\n      hint      drain_seconds"
    ) in checked.stdout
    running = redis_rig.work(MODELS__M__ATTEMPTS="1")
    (told,) = running.events("timeline audit")
    assert (told["level"], "drain_seconds" in str(told["hint"])) == ("warning", True)


@pytest.mark.parametrize(("value", "said"), [("0.5", "lease_seconds"), ("safe", "durability")])
def test_nonsense_is_refused(redis_rig: Rig, place: Path, value: str, said: str) -> None:
    """A lease below a second; a durability that there is not."""
    done = worker(place, "check", **{**redis_rig.settings, said.upper(): value})
    assert done.returncode == 2
    assert said in done.stderr


def test_check_sees_that_rabbitmq_dead_letters_by_itself(
    rabbit_server: RabbitServer, tmp_path: Path, valkey: ValkeyServer, model: Any, prefix: str
) -> None:
    """A warning with the reason; the letters stay where they are."""
    names = Names(prefix)
    policy = {"message-ttl": 1, "dead-letter-exchange": "", "dead-letter-routing-key": names.dead}
    rabbit_server.ctl("set_policy", prefix, f"^{prefix}\\.replies$", json.dumps(policy))
    rig = Rig(tmp_path, rabbit_server.url(), valkey, model, prefix)
    broker = open_broker(rabbit_server.url(), names)
    broker.connect()
    assert "dead-letters by itself" not in worker(tmp_path, "check", **rig.settings).stdout
    broker.send(names.replies, [Message(b"{}"), Message(b"{}")])
    until(lambda: broker.depth()[names.dead] == 2, what="RabbitMQ's own dead letters")
    slow = {"MODELS__M__TIMEOUT_SECONDS": "200", "MODELS__M__BUDGET_SECONDS": "1000"}
    checked = worker(tmp_path, "check", **rig.settings, **slow)
    assert checked.returncode == 0, checked.stdout
    assert (
        "warn  queue     the broker dead-letters by itself: 2 letters, such as broker:expired"
        in checked.stdout
    )
    assert "RabbitMQ closes the channel after 30 min" in checked.stdout
    until(lambda: broker.depth()[names.dead] == 2, what="both letters back")
    rabbit_server.ctl("clear_policy", prefix)
    broker.close()
    rig.close()
