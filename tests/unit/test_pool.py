"""The threads of one model: what happens to a call that is split while somebody loses patience with it."""

import threading
import time
from collections.abc import Sequence
from queue import SimpleQueue

from tests.support.waiting import until
from worker.attempt import Attempt, Line
from worker.model import ModelError, Rejection
from worker.pool import Batching, Pool


class Splitting:
    """Rejects whatever is more than one row; the first row alone hangs until it is released."""

    def __init__(self) -> None:
        self.calls: list[list[bytes]] = []
        self.released = threading.Event()

    def call_batch(
        self, payloads: Sequence[bytes], traceparent: str | None = None
    ) -> list[bytes | ModelError]:
        self.calls.append(list(payloads))
        if len(payloads) > 1:
            raise Rejection("too many")
        if payloads == [b"0"]:
            self.released.wait(60)
        return list(payloads)


def test_a_thread_that_is_written_off_calls_no_more() -> None:
    """Its rows are answered as late; the other half of its split is not tried, by it or anybody."""
    target, ended = Splitting(), SimpleQueue[Attempt]()
    pool = Pool("m", target, 1, ended.put, Batching(4, 5.0))  # type: ignore[arg-type]
    for number in range(4):
        pool.submit(Attempt(None, b"%d" % number))
    until(lambda: target.calls[-1:] == [[b"0"]], what="the hanging call")
    late = pool.overdue(time.monotonic() + 100, 1.0)
    assert sorted(attempt.payload for attempt in late) == [b"0", b"1", b"2", b"3"]
    assert pool.lost == 1
    target.released.set()
    until(lambda: pool.lost == 0, what="the end of the thread")
    assert target.calls == [[b"0", b"1", b"2", b"3"], [b"0", b"1"], [b"0"]]
    assert ended.empty()
    pool.submit(Attempt(None, b"4", alone=True))
    assert ended.get(timeout=20).result == b"4", "another thread took its place"
    pool.close()


def test_what_is_interactive_gets_the_next_free_thread() -> None:
    """Before all that waits, in the order of its coming; a thread ends when nothing waits any more."""
    line = Line()
    for name in ("a", "B", "c", "D"):
        attempt = Attempt(None, name.encode())
        attempt.is_interactive = name.isupper()
        line.put(attempt)
    line.put(None)
    taken = [line.take() for _ in range(3)]
    assert [attempt and attempt.payload for attempt in taken] == [b"B", b"D", b"a"]
    assert (line.first and line.first.payload, [a.payload for a in line.withdraw()]) == (b"c", [b"c"])
    assert (bool(line), line.take(), bool(line)) == (True, None, False)
