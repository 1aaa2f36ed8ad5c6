"""One real Valkey for all processes of a machine, started by the first and stopped by the last.

Three lock files in the state directory, whose locks the kernel drops with the process, whatever it died of:
`users.lock` is shared by all users: who leaves and gets it alone stops the server. `start.lock` is taken to
join and to leave: two who come at once start one server, and nobody joins what is being stopped.
`server.lock` is the server's own, inherited from its starter: it alone says whether the server lives. A PING
does not (one that loads or hangs is silent, and a second server on the same append-only file would ruin it),
nor does a pid (after a kill -9 the number may be somebody else's).
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import redis

from broker.embedded_server import (
    EmbeddedError,
    Server,
    connect_to,
    find_binary,
    open_lock,
    remove,
    take_lock,
)


class EmbeddedServer:
    """A user's hold on the server of the state directory `state`; `close` (or the end of `with`) lets go.

    `socket_path` is where it listens. Raises EmbeddedError.
    """

    def __init__(self, state: Path) -> None:
        self._hold: int | None = None
        self._binary = find_binary()
        self._state = _made(state)
        self._server = Server(self._state)
        with self._alone():
            try:
                self._hold = self._user()
                self.socket_path = self._serving()
            except BaseException:
                self._leave()
                raise

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
            lock = open_lock(self._state / "start.lock")
        except OSError as error:
            raise _not_writable(self._state, error) from error
        try:
            take_lock(lock)
            yield
        finally:
            os.close(lock)

    def _user(self) -> int:
        hold = open_lock(self._state / "users.lock")
        take_lock(hold, shared=True)
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
                with contextlib.suppress(redis.RedisError, OSError), connect_to(self.socket_path) as client:
                    client.shutdown(nosave=True)
                remove(self.socket_path)
        finally:
            self._let_go()

    def _held_alone(self) -> bool:
        return self._hold is not None and take_lock(self._hold, wait=False)

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
