"""One run of a file of payloads through a reply queue, in steps that may each be killed and repeated.

Nothing here knows Airflow. What is known of a run is in files: the rows in `source`, the replies so far in
`target.partial`, all of them, in the order of the rows, in `target`.
"""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from broker.base import BrokerUnreachable
from recollect import Producer, Reply
from wire.errors import outcome_of_copy

_SILENCE_SECONDS = 0.5


def producer(**options: Any) -> Producer:
    """The broker and prefix that the command line would take from the environment."""
    prefix = os.getenv("RECOLLECT_PREFIX", "recollect")
    return Producer(os.environ["RECOLLECT_BROKER_URL"], prefix=prefix, **options)


def queue_of(run_name: str, *of: object) -> str:
    """A name for the reply queue of what `of` tells from everything else. Raises ValueError for a `run_name`
    that leaves no room for a digest of it, or is none."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,31}", run_name):
        raise ValueError(f"run_name {run_name!r} must be 1 to 31 of A-Z a-z 0-9 _ -")
    return f"{run_name}-{hashlib.blake2b(json.dumps(of).encode(), digest_size=16).hexdigest()}"


class RowsFailed(Exception):
    """More rows failed than may. `in_vain` says whether so many would fail each time."""

    def __init__(self, message: str, *, in_vain: bool) -> None:
        super().__init__(message)
        self.in_vain = in_vain


def check_may_fail(rows: int) -> None:
    """Raises ValueError for what is no number of rows."""
    if rows < 0:
        raise ValueError(f"may_fail is {rows}; expected a number of rows, 0 or more")


class Tally:
    """What became of the rows, of which `may_fail` may fail."""

    def __init__(self, may_fail: int) -> None:
        check_may_fail(may_fail)
        self._may_fail, self._outcomes = may_fail, Counter[str]()
        self._failed, self._final, self._first = 0, 0, ""

    def add(self, row: int, reply: Mapping[str, Any]) -> None:
        """One more row."""
        self._outcomes[reply["outcome"]] += 1
        error = reply["error"]
        if error is not None:
            self._first = self._first or f"row {row} (from 0), {error['kind']}: {error['message']}"
            self._failed += 1
            self._final += not error["retryable"]

    def checked(self) -> dict[str, int]:
        """How many rows of each outcome. Raises RowsFailed."""
        if self._failed > self._may_fail:
            raise RowsFailed(
                f"{self._failed} rows failed, {self._final} of them for good, and {self._may_fail} may "
                f"(may_fail); the first is {self._first}",
                in_vain=self._final > self._may_fail,
            )
        return dict(self._outcomes)


def map_file(source: str, target: str, *, model: str | None = None, may_fail: int = 0) -> dict[str, int]:
    """A reply for every row, in their order; how many of each outcome. Waits for all of them.

    Blank lines are none. Raises ValueError for a row that is not JSON, before anything is asked, and
    RowsFailed where more than `may_fail` rows failed: `target` is then not made, and `target.partial` has all
    replies.
    """
    tally = Tally(may_fail)
    partial = Path(f"{target}.partial")
    for _ in _rows(source):
        pass
    with _sole(partial) as out, producer() as asked:
        out.truncate(0)
        for reply in asked.map((payload for _, payload in _rows(source)), model=model, ordered=True):
            tally.add(reply.index, reply.as_dict())
            out.write(json.dumps({"row": reply.index, **reply.as_dict()}).encode() + b"\n")
    outcomes = tally.checked()
    partial.replace(target)
    return outcomes


def _rows(source: str) -> Iterator[tuple[bytes, Any]]:
    """The lines that are not blank, and what each holds. Raises ValueError, with the place, for no JSON."""
    with Path(source).open("rb") as lines:
        for number, line in enumerate(lines, 1):
            text = line.strip()
            try:
                if text:
                    yield text, json.loads(text)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{source}:{number} is not JSON: {error}") from None


@contextlib.contextmanager
def _sole(partial: Path) -> Iterator[BinaryIO]:
    """To write at its end, while nobody else does. Raises RuntimeError where somebody does."""
    with partial.open("ab") as out:
        try:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(
                f"{partial} is in use: another try, or another task with this target"
            ) from None
        yield out


class Run:
    """`run_name` names the reply queue, which one run at a time may use; `key` is the same for every try of a
    run, and no other run's. Raises ValueError for a row that is not JSON.

    A request's id is made from `key` and its row: a second try knows the replies to the first, equal rows are
    asked once, and a reply that was left by another run is nobody's.
    """

    def __init__(self, source: str, target: str, *, run_name: str, key: str, pack: int = 32) -> None:
        self._target, self._partial = Path(target), Path(f"{target}.partial")
        self._run_name, self._pack = run_name, pack
        self._ids: list[str] = []
        self._payloads: dict[str, Any] = {}
        for line, payload in _rows(source):
            digest = hashlib.blake2b(key.encode() + b"\n" + line, digest_size=16).hexdigest()
            self._ids.append(digest)
            self._payloads[digest] = payload

    def missing(self) -> list[str]:
        """The ids that have no reply yet."""
        answered = self._answered()
        return [digest for digest in self._payloads if digest not in answered]

    def forget_failures(self) -> None:
        """Let what failed and may succeed later count as not answered: for the beginning of a try."""
        again = [digest for digest, reply in self._answered().items() if _may_succeed(reply)]
        with self._kept() as out:
            for digest in again:
                out.write(json.dumps({"id": digest, "again": True}).encode() + b"\n")

    def messages(self) -> int:
        """How many reply messages have still to come, at least."""
        return math.ceil(len(self.missing()) / self._pack)

    def ask(self, *, model: str | None = None) -> int:
        """Enqueue what has no reply yet; how many requests. Again after a crash: what was done is a hit."""
        missing = self.missing()
        refused: dict[str, Reply] = {}
        requests = ({"id": digest, "payload": self._payloads[digest]} for digest in missing)
        with self._kept() as out, producer() as asked:
            sent = asked.enqueue(
                requests,
                run=self._run_name,
                model=model,
                pack=self._pack,
                whole_requests=True,
                on_refused=lambda reply: refused.update({missing[reply.index]: reply}),
            )
            for digest, reply in refused.items():
                _keep(out, digest, reply)
        return sent

    def collect(self) -> None:
        """Take the replies that are there. Each is in the file before it leaves the queue."""
        answered = self._answered()
        # A failure that another try had may be followed by the answer to this one.
        wanted = {d for d in self._payloads if d not in answered or _may_succeed(answered[d])}
        with self._kept() as out, producer() as asked:
            for reply in asked.collect(run=self._run_name, timeout=_SILENCE_SECONDS):
                if reply.id in wanted:
                    if not _may_succeed(reply.as_dict()):
                        wanted.remove(reply.id)
                    _keep(out, reply.id, reply)

    def finish(self, *, may_fail: int = 0) -> dict[str, int]:
        """Give every row its reply and the file its name; how many rows of each outcome.

        Equal rows were asked once: the outcome of the others is `coalesced` where the reply cost a model
        call. Raises RowsFailed where more than `may_fail` rows failed: there is then no such file, and all
        replies stay in `target.partial`.
        """
        tally = Tally(may_fail)
        for row, reply in enumerate(self._replies()):
            tally.add(row, reply)
        outcomes = tally.checked()
        whole = self._target.with_name(f"{self._target.name}.whole")
        with whole.open("w") as out:
            for row, reply in enumerate(self._replies()):
                out.write(json.dumps({"row": row, **reply}) + "\n")
        whole.replace(self._target)
        self._partial.unlink(missing_ok=True)
        return outcomes

    def _replies(self) -> Iterator[dict[str, Any]]:
        answered, seen = self._answered(), set[str]()
        for digest in self._ids:
            reply = answered[digest]
            yield {**reply, "outcome": outcome_of_copy(reply["outcome"])} if digest in seen else reply
            seen.add(digest)

    @contextlib.contextmanager
    def _kept(self) -> Iterator[BinaryIO]:
        with _sole(self._partial) as out:
            out.write(b"\n")  # the line before may be one that a killed try did not write to its end
            yield out

    def _answered(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self._partial.exists():
            for line in self._partial.read_bytes().splitlines():
                try:
                    reply = json.loads(line)
                    found[reply["id"]] = reply
                    if "again" in reply:
                        del found[reply["id"]]
                except (ValueError, KeyError, TypeError):
                    continue  # torn, or empty: as good as not there, and asked again
        return found


def _may_succeed(reply: Mapping[str, Any]) -> bool:
    return reply["error"] is not None and bool(reply["error"]["retryable"])


def _keep(out: BinaryIO, digest: str, reply: Reply) -> None:
    out.write(json.dumps({**reply.as_dict(), "id": digest}).encode() + b"\n")
    out.flush()


def depth(run_name: str) -> int:
    """How many reply messages wait in a run's queue, none where the broker is away. Takes none."""
    with contextlib.suppress(BrokerUnreachable), producer(reconnect_seconds=5.0) as asked:
        return asked.depth(run=run_name)
    return 0
