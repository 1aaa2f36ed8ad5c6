"""Who runs: our worker and the peers', each with the settings that suit it best on two cores."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.process import ROOT

PEERS_HOME = ROOT / ".bench" / "venv"
OURS = ("recollect, Redis", "recollect, RabbitMQ")
_LATE = "acknowledged after the task"


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer's worker on one broker: `kind` redis or rabbit. `promise` is what it guarantees beside ours."""

    name: str
    library: str
    kind: str
    module: str
    command: tuple[str, ...]
    settings: str
    promise: str
    environ: Mapping[str, str] = field(default_factory=dict)
    quick: bool = False

    def command_line(self, url: str, queue: str) -> list[str]:
        """What starts its one worker process."""
        program, *rest = self.command
        filled = [part.replace("{url}", url).replace("{queue}", queue) for part in rest]
        return [str(PEERS_HOME / "bin" / program), *filled]


def _celery(kind: str, pool: str, concurrency: int, *, quick: bool) -> Peer:
    broker = "Redis" if kind == "redis" else "RabbitMQ"
    multiplier = 256 // concurrency
    return Peer(
        f"Celery {pool}, {broker}",
        "celery",
        kind,
        "bench.peers.celery_app",
        _words(
            "python -m celery -A bench.peers.celery_app worker --loglevel ERROR "
            "--without-gossip --without-mingle --without-heartbeat "
            f"--pool {pool} --concurrency {concurrency} --prefetch-multiplier {multiplier}"
        ),
        f"pool {pool}, concurrency {concurrency}, prefetch 256, acks_late; results, events, gossip, mingle, "
        "heartbeat and remote control off" + ("" if kind == "redis" else ", quorum queue, confirm_publish"),
        f"{_LATE}; " + ("a dead worker's messages after an hour" if kind == "redis" else "like ours"),
        quick=quick,
    )


def _dramatiq(kind: str, threads: int) -> Peer:
    broker = "Redis" if kind == "redis" else "RabbitMQ"
    return Peer(
        f"Dramatiq, {broker}",
        "dramatiq",
        kind,
        "bench.peers.dramatiq_app",
        _words(f"python -m dramatiq bench.peers.dramatiq_app --processes 1 --threads {threads}"),
        f"1 process, {threads} threads, dramatiq_queue_prefetch 256, only its Retries middleware"
        + ("" if kind == "redis" else ", confirm_delivery"),
        f"{_LATE}; " + ("like ours" if kind == "redis" else "classic queue: weaker than quorum"),
        {"dramatiq_queue_prefetch": "256"},
        quick=True,
    )


def _taskiq(kind: str) -> Peer:
    return Peer(
        "Taskiq, Redis stream" if kind == "redis" else "Taskiq, RabbitMQ",
        "taskiq",
        kind,
        "bench.peers.taskiq_app",
        (
            *["taskiq", "worker", "bench.peers.taskiq_app:broker", "--workers", "1", "--log-level", "ERROR"],
            *["--max-async-tasks", "32", "--max-prefetch", "256", "--ack-type", "when_saved", "--no-parse"],
        ),
        "1 worker, 32 tasks at once, prefetch 256, uvloop, hiredis, no results"
        + (", xread_count 256" if kind == "redis" else ", quorum queue, qos 256, confirmed publishes"),
        f"{_LATE}; " + ("a dead worker's messages after ten minutes" if kind == "redis" else "like ours"),
        quick=True,
    )


def _rq() -> Peer:
    return Peer(
        "RQ SimpleWorker, Redis",
        "rq",
        "redis",
        "bench.peers.rq_app",
        _words(
            "rq worker --worker-class rq.SimpleWorker --quiet --disable-job-desc-logging "
            "--results-ttl 60 --url {url} {queue}"
        ),
        "no fork for each job, results kept for 60 s (to delete each at once costs more), no job "
        "descriptions logged, enqueue_many",
        "weaker: the job of a dead worker is set aside as failed, not done again",
        quick=True,
    )


def _streaq() -> Peer:
    return Peer(
        "streaq, Redis stream",
        "streaq",
        "redis",
        "bench.peers.streaq_app",
        _words("streaq run bench.peers.streaq_app:worker"),
        "concurrency 64, prefetch 256, uvloop, hiredis, results off, silent, enqueue_many",
        f"{_LATE}, idle time-out 60 s; like ours",
        quick=True,
    )


def _faststream() -> Peer:
    return Peer(
        "FastStream, RabbitMQ",
        "faststream",
        "rabbit",
        "bench.peers.faststream_app",
        _words(
            "faststream run bench.peers.faststream_app:app --log-level error --loop uvloop:new_event_loop"
        ),
        "prefetch 256, quorum queue, uvloop, no pydantic on arguments, confirmed publishes",
        f"{_LATE}; like ours",
        quick=True,
    )


def peers() -> list[Peer]:
    """All of them, in the order they run."""
    return [
        *(_celery("redis", pool, n, quick=pool == "threads") for pool, n in _POOLS),
        _dramatiq("redis", 4),
        _taskiq("redis"),
        _rq(),
        _streaq(),
        *(_celery("rabbit", pool, n, quick=pool == "solo") for pool, n in _POOLS),
        _dramatiq("rabbit", 4),
        _taskiq("rabbit"),
        _faststream(),
    ]


_POOLS = (("solo", 1), ("threads", 4), ("prefork", 2))


def _words(command: str) -> tuple[str, ...]:
    return tuple(command.split())


def named(library: str, *, kind: str | None = None) -> list[str]:
    """The names of a library's contestants, on one kind of broker or all."""
    return [peer.name for peer in peers() if peer.library == library and kind in (None, peer.kind)]


def on(kind: str) -> list[str]:
    """The names of all peers on one kind of broker."""
    return [peer.name for peer in peers() if peer.kind == kind]


def peers_python() -> Path:
    """The interpreter that the peers run with."""
    return PEERS_HOME / "bin" / Path(sys.executable).with_name("python").name
