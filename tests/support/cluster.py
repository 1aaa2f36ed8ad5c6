"""RabbitMQ nodes that can be killed, frozen and started again, alone or as a cluster of their own."""

import contextlib
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.servers import RABBIT, RabbitServer
from tests.support.waiting import accepts, free_port, until

_START_SECONDS = 120
_CONF = """\
vm_memory_high_watermark.absolute = 1GiB
disk_free_limit.absolute = 50MB
"""
_CLUSTER_CONF = """\
cluster_formation.peer_discovery_backend = classic_config
cluster_partition_handling = pause_minority
"""


class RabbitNode(RabbitServer):
    """A node that keeps what it has on disk from one start to the next."""

    def __init__(self, place: Path, name: str, peers: Sequence[str] = (), epmd: int | None = None) -> None:
        super().__init__(place)
        self._name, self._peers = name, peers
        self._epmd = epmd or self._epmd

    @property
    def name(self) -> str:
        return self._name

    def start(self) -> "RabbitNode":
        self.launch()
        self.until_ready()
        return self

    def launch(self) -> None:
        """Start, and do not wait."""
        if not (self._place / "home").exists():
            self._prepare()
        with (self._place / "out").open("ab") as output:
            self._child = subprocess.Popen(
                [str(RABBIT)],
                env=self._environment(),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def until_ready(self) -> None:
        until(lambda: accepts(self.port), _START_SECONDS, f"{self._name} ready")

    def send_signal(self, number: int) -> None:
        """To the node itself: no shell stands before it."""
        assert self._child is not None
        self._child.send_signal(number)

    def kill(self) -> None:
        """kill -9, and gone when this returns. Its epmd stays."""
        if self._child is not None:
            self._child.send_signal(signal.SIGKILL)
            self._child.wait(20)
            self._child = None

    def close(self) -> None:
        """Kill it, and the epmd that it started."""
        self.kill()
        subprocess.run(["epmd", "-port", str(self._epmd), "-kill"], capture_output=True, check=False)

    def _prepare(self) -> None:
        (self._place / "home").mkdir(parents=True)
        cookie = self._place / "home" / ".erlang.cookie"
        cookie.write_text("recollect-tests")
        cookie.chmod(0o400)
        (self._place / "plugins").write_text("[].")
        peers = [f"cluster_formation.classic_config.nodes.{n} = {p}\n" for n, p in enumerate(self._peers, 1)]
        conf = _CONF + (_CLUSTER_CONF + "".join(peers) if peers else "")
        (self._place / "rabbitmq.conf").write_text(conf)

    def _environment(self) -> Mapping[str, str]:
        # Under systemd the start script becomes the node instead of waiting for it: a signal then reaches it.
        return {**super()._environment(), "RUNNING_UNDER_SYSTEMD": "true"}


class RabbitCluster:
    """`size` nodes with an epmd of their own; a context manager. Nodes are numbered from 0."""

    def __init__(self, place: Path, size: int = 3) -> None:
        self._epmd_port = free_port()
        names = [f"node{n}@localhost" for n in range(size)]
        self.nodes = [
            RabbitNode(place / f"n{n}", name, names, self._epmd_port) for n, name in enumerate(names)
        ]
        self._epmd: subprocess.Popen[bytes] | None = None
        self._timers: list[threading.Timer] = []

    def __enter__(self) -> "RabbitCluster":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Any of them will do."""
        return ";".join(node.url() for node in self.nodes)

    def start(self) -> "RabbitCluster":
        self._epmd = subprocess.Popen(
            ["epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            until(lambda: accepts(self._epmd_port), what="epmd")
            for node in self.nodes:
                node.launch()
            for node in self.nodes:
                node.until_ready()
        except BaseException:
            self.close()
            raise
        return self

    def ctl(self, number: int, *arguments: str) -> str:
        """rabbitmqctl on one node."""
        return self.nodes[number].ctl(*arguments)

    def leader_of(self, queue: str) -> int:
        """The node that leads a queue."""
        listed = self.ctl(0, "list_queues", "name", "leader", "--silent")
        leaders = dict(line.split("\t") for line in listed.splitlines() if "\t" in line)
        return [node.name for node in self.nodes].index(leaders[queue])

    def freeze(self, number: int, seconds: float) -> threading.Timer:
        """SIGSTOP one node, and SIGCONT it after so long; `join` what is returned to wait for that."""
        node = self.nodes[number]
        node.send_signal(signal.SIGSTOP)
        timer = threading.Timer(seconds, node.send_signal, [signal.SIGCONT])
        timer.daemon = True
        timer.start()
        self._timers.append(timer)
        return timer

    def close(self) -> None:
        """Kill every node and epmd."""
        for timer in self._timers:
            timer.cancel()
        for node in self.nodes:
            node.kill()
        if self._epmd is not None:
            with contextlib.suppress(ProcessLookupError):
                self._epmd.kill()
            self._epmd.wait(20)
            self._epmd = None
