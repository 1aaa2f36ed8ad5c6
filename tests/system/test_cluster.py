"""A RabbitMQ cluster that loses the leader of the request queue, to death and to a stand-still."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cluster import RabbitCluster
from tests.support.fleet import SHORT_LEASE, Fleet
from tests.support.ledger import Ledger
from tests.support.servers import ValkeyServer
from tests.support.waiting import until
from wire.names import Names

REQUESTS = 3000
PACK = 10
FROZEN_SECONDS = 15.0
QUIET_SECONDS = 60.0


@pytest.fixture(scope="module")
def cluster(rabbit_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitCluster]:
    with RabbitCluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture
def fleet(tmp_path: Path, cluster: RabbitCluster, valkey: ValkeyServer, prefix: str) -> Iterator[Fleet]:
    settings = {
        "BROKER_URL": cluster.url,
        "CACHE_URL": f"redis://127.0.0.1:{valkey.port}/1",
        "PREFIX": prefix,
        "IN_FLIGHT": "64",
        "MODELS__M__TARGET": "python:tests.support.python_models:tallied",
        **SHORT_LEASE,
    }
    with Fleet(tmp_path, 2, settings) as workers:
        yield workers


@pytest.fixture
def ledger(cluster: RabbitCluster, prefix: str) -> Iterator[Ledger]:
    opened = Ledger(cluster.url, Names(prefix))
    yield opened
    opened.close()


def work(ledger: Ledger, requests: int) -> None:
    """Ask so much, hearing what comes meanwhile."""
    for _ in range(requests // (2 * PACK)):
        ledger.send([PACK, PACK])
        ledger.listen(0.01)


def test_the_death_of_the_leader(
    cluster: RabbitCluster, fleet: Fleet, ledger: Ledger, figures: Callable[[str], None]
) -> None:
    """Service goes on with two nodes, and with three again when the third is back; nothing is lost."""
    fleet.start()
    work(ledger, REQUESTS // 3)
    dead = cluster.leader_of(Names(fleet.prefix).requests)
    ledger.send([PACK] * 20)
    begun = time.monotonic()
    cluster.nodes[dead].kill()
    work(ledger, PACK * 2)
    assert ledger.settle(QUIET_SECONDS) == 0, "service goes on with two nodes"
    gap = time.monotonic() - begun
    work(ledger, REQUESTS // 3)
    cluster.nodes[dead].launch()
    work(ledger, REQUESTS // 3)
    cluster.nodes[dead].until_ready()
    work(ledger, PACK * 10)
    finish(ledger, fleet, figures, f"death gap={gap:.1f}")


def test_a_leader_that_stands_still(
    cluster: RabbitCluster, fleet: Fleet, ledger: Ledger, figures: Callable[[str], None]
) -> None:
    """Frozen for longer than any confirm takes, and alive again with what it knew then."""
    fleet.start()
    work(ledger, REQUESTS // 3)
    frozen = cluster.leader_of(Names(fleet.prefix).requests)
    ledger.send([PACK] * 20)
    begun = time.monotonic()
    thaw = cluster.freeze(frozen, FROZEN_SECONDS)
    work(ledger, PACK * 2)
    assert ledger.settle(QUIET_SECONDS) == 0, "service goes on, with a new leader or the old one"
    gap = time.monotonic() - begun
    work(ledger, REQUESTS // 3)
    thaw.join()
    work(ledger, REQUESTS // 3)
    finish(ledger, fleet, figures, f"freeze gap={gap:.1f}")


def finish(ledger: Ledger, fleet: Fleet, figures: Callable[[str], None], what: str) -> None:
    """Everything is answered, by what was asked for, and nobody has died of it."""
    ledger.settle(QUIET_SECONDS)
    line = (
        f"cluster: leader={what} requests={ledger.sent} replies={sum(ledger.replies.values())} "
        f"lost={ledger.lost} duplicates={ledger.duplicates} resent={len(ledger.resent)} "
        f"reconnects={ledger.reconnects}"
    )
    figures(line)
    assert (ledger.lost, ledger.unexpected, ledger.wrong) == (0, [], []), line
    assert not ledger.kinds, ledger.kinds
    until(lambda: not any(ledger.depth().values()), 30, "empty queues")
    fleet.stop()
    assert fleet.restarts == 0
