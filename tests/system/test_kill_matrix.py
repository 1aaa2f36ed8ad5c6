"""Nothing is lost, wherever a worker dies: at every step of its work, and at any moment.

Three workers, each started again when it dies, and a ledger that asks for nothing twice. The same run on
kombu's own Redis transport loses requests: that is what proves that it can see a loss.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.fleet import LEASE_SECONDS, SHORT_LEASE, Fleet
from tests.support.ledger import Ledger
from tests.support.mortal import LABELS, died, make_room
from tests.support.servers import ValkeyServer
from tests.support.waiting import until
from wire.names import Names

WORKERS = 3
REQUESTS = 10_000
PACK = 20
DEATHS = 6  # at each label
LATEST_PASSING = 8  # a life ends at one of the first so many passings of its label
KILLS = 100
KILL_WITHIN_SECONDS = 0.2
KILLS_END = 0.9  # of the work; the rest shows that whoever comes after the last one finishes
MOST_WAITING = 500  # while kills are left: a queue that is full would be worked off between two of them
IN_FLIGHT = 64
QUIET_SECONDS = 20.0  # after which what has not come is lost: several leases, and a worker's start
QUIET_ON_PLAIN_SECONDS = 6.0
BURIED_SECONDS = 60.0
ANY_MOMENT = "any_moment"


class Run:
    """One fleet, one ledger, and the deaths between them; a context manager."""

    def __init__(
        self, place: Path, url: str, cache: ValkeyServer, prefix: str, label: str, seed: int
    ) -> None:
        self.label, self.seed = label, seed
        self.rng = random.Random(f"{seed} {label}")
        self.names = Names(prefix)
        self.deaths = place / "deaths"
        make_room(self.deaths, 0 if label == ANY_MOMENT else DEATHS)
        settings = {
            "BROKER_URL": url,
            "CACHE_URL": f"redis://127.0.0.1:{cache.port}/1",
            "PREFIX": prefix,
            "IN_FLIGHT": str(IN_FLIGHT),
            "MODELS__M__TARGET": "python:tests.support.python_models:tallied",
            "MODELS__M__CONCURRENCY": "4",
            **SHORT_LEASE,
        }
        self.ledger = Ledger(url, self.names, lease_seconds=LEASE_SECONDS)
        self.fleet = Fleet(place / "fleet", WORKERS, settings, module=self._module)
        self.begun = time.monotonic()
        self._kills_left = KILLS if label == ANY_MOMENT else 0
        self._next_kill: float | None = None

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        self.fleet.close()
        self.ledger.close()

    def _module(self, number: int, life: int) -> Sequence[str]:
        if self.label == ANY_MOMENT:
            return "worker", "run"
        passing = random.Random(f"{self.seed} {number} {life}").randint(1, LATEST_PASSING)
        return "tests.support.mortal", self.label, str(passing), str(self.deaths), "run"

    def work(self, quiet_seconds: float) -> None:
        """Send everything while workers work and die, until all is answered or nothing comes any more."""
        self.fleet.start()
        for sizes in _messages(REQUESTS):
            self.ledger.send(sizes)
            self.ledger.listen(0.01)
            self._kill_when_due()
            while self._next_kill is not None or (self._kills_left and self.ledger.lost > MOST_WAITING):
                self.ledger.listen(0.01)
                self._kill_when_due()
        self.ledger.settle(quiet_seconds, self._kill_when_due)

    def _kill_when_due(self) -> None:
        """Spread over the work that is done, not over time: each kill then finds somebody at work."""
        now = time.monotonic()
        if self._next_kill is not None:
            if now >= self._next_kill and self.fleet.kill_random(self.rng) is not None:
                self._next_kill = None
            return
        given = KILLS - self._kills_left
        if self._kills_left and len(self.ledger.replies) >= given * KILLS_END * REQUESTS / KILLS:
            self._kills_left -= 1
            self._next_kill = now + self.rng.uniform(0, KILL_WITHIN_SECONDS)

    @property
    def accidents(self) -> int:
        """How many workers were killed, or killed themselves."""
        return self.fleet.kills + died(self.deaths)

    @property
    def calls(self) -> int:
        """How often the model was asked."""
        return sum(path.read_bytes().count(b"\n") for path in self.fleet.place.glob("*/calls"))

    def figures(self, kind: str) -> str:
        """The run in a line."""
        ledger = self.ledger
        return (
            f"kill-matrix: broker={kind} label={self.label} seed={self.seed} requests={ledger.sent} "
            f"replies={sum(ledger.replies.values())} lost={ledger.lost} unexpected={len(ledger.unexpected)} "
            f"duplicates={ledger.duplicates} poison={ledger.kinds['poison']} calls={self.calls} "
            f"deaths={died(self.deaths)} kills={self.fleet.kills} restarts={self.fleet.restarts} "
            f"seconds={time.monotonic() - self.begun:.1f}"
        )


def _messages(requests: int) -> Iterator[list[int]]:
    """The sizes of the messages to send at once: packs, and single ones between them."""
    left = requests
    while left:
        sizes: list[int] = []
        for size in [PACK, 1, PACK, 1, PACK, PACK, 1]:
            sizes.append(min(size, left))
            left -= sizes[-1]
        yield [size for size in sizes if size]


@pytest.fixture
def run_of(
    tmp_path: Path, valkey: ValkeyServer, prefix: str, seed: int
) -> Iterator[Callable[[str, str], Run]]:
    """Makes the run of a label on a broker; it is ended with the test."""
    made: list[Run] = []

    def make(url: str, label: str) -> Run:
        made.append(Run(tmp_path, url, valkey, prefix, label, seed))
        return made[0]

    yield make
    for run in made:
        run.__exit__()


@pytest.mark.parametrize("label", [*LABELS, ANY_MOMENT])
def test_nothing_is_lost(
    run_of: Callable[[str, str], Run],
    valkey: ValkeyServer,
    real_broker_url: str,
    label: str,
    figures: Callable[[str], None],
) -> None:
    """Every request is answered by what it asked for; twice at most where a death came between the two
    halves of a commit, which on Redis has none; nothing stays behind."""
    run = run_of(real_broker_url, label)
    kind = "redis" if real_broker_url.startswith("redis") else "rabbit"
    run.work(QUIET_SECONDS)
    line = run.figures(kind)
    figures(line)
    ledger, expected = run.ledger, KILLS if label == ANY_MOMENT else DEATHS
    assert (ledger.lost, ledger.unexpected, ledger.wrong, ledger.resent) == (0, [], [], set()), line
    assert run.accidents == expected, line
    # A message can hold PACK requests, and a worker that knows no sizes yet takes IN_FLIGHT of them.
    most_at_hand = run.accidents * IN_FLIGHT * PACK
    assert ledger.duplicates <= (0 if kind == "redis" else most_at_hand), line
    assert REQUESTS - ledger.kinds["poison"] <= run.calls <= REQUESTS + most_at_hand, line
    # Nobody is guilty here, but who was alone at several deaths must look so: at most one for each.
    assert ledger.kinds.keys() <= {"poison"}, ledger.kinds
    assert ledger.kinds["poison"] <= run.accidents, line
    if kind == "redis":
        assert_the_dead_are_buried(run, valkey)
    run.fleet.stop()
    assert_nothing_stays(run, valkey if kind == "redis" else None)


def test_the_plain_redis_transport_loses(
    run_of: Callable[[str, str], Run], valkey: ValkeyServer, figures: Callable[[str], None]
) -> None:
    """The same run on kombu's own transport: what a dead worker held does not come back within the hour."""
    run = run_of(f"kombu+{valkey.url}", "after_claim")
    run.work(QUIET_ON_PLAIN_SECONDS)
    figures(run.figures("kombu+redis"))
    assert run.ledger.lost > 0
    assert run.ledger.depth()[run.names.requests] == 0, "it is not merely late"


def assert_the_dead_are_buried(run: Run, valkey: ValkeyServer) -> None:
    """The living end the leases of those who died, also where these held nothing."""
    with valkey.client() as client:
        until(lambda: client.zcard(run.names.leases) <= WORKERS + 1, BURIED_SECONDS, "the last reaping")


def assert_nothing_stays(run: Run, valkey: ValkeyServer | None) -> None:
    """Queues, in-flight hashes and leases are empty once everybody has left."""
    letters = run.ledger.letters()
    assert {letter.headers["reason"] for letter in letters} <= {"poison"}
    until(lambda: not any(run.ledger.depth().values()), what="empty queues")
    run.ledger.close()
    if valkey is not None:
        with valkey.client() as client:
            assert list(client.scan_iter(f"{run.names.in_flight('')}*")) == []
            assert client.zrange(run.names.leases, 0, -1) == []
