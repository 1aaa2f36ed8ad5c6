"""Python models for tests: named in settings as python:tests.support.python_models:NAME."""

import os
import signal
import threading
import time
from typing import Any

from recollect import TransientError

_seen: set[str] = set()


def double(payload: Any) -> Any:
    """A model that understands numbers."""
    return payload * 2


def moody(payload: Any) -> Any:
    """Fails once for every payload, in the way that may be retried."""
    if str(payload) not in _seen:
        _seen.add(str(payload))
        raise TransientError("not now")
    return payload


def broken(payload: Any) -> Any:
    """Always raises."""
    raise KeyError("weights")


def nan(_: Any) -> Any:
    """Returns what JSON cannot carry."""
    return {"score": float("nan")}


def stuck(payload: Any) -> Any:
    """Never comes back for 0."""
    if payload == 0:
        time.sleep(3600)
    return payload


def is_positive(result: Any) -> bool:
    """A rule for what is worth keeping."""
    return bool(result > 0)


_tally: list[int] = []


def tallied(payload: Any) -> Any:
    """Echoes, and leaves a line per call in `calls`, in the worker's own directory."""
    if not _tally:
        _tally.append(os.open("calls", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644))
    # One write: it is whole in the file or not there, wherever the process dies.
    os.write(_tally[0], b"%d\n" % payload["n"])
    return payload


def deadly(payload: Any) -> Any:
    """Kills its process for "die"."""
    if payload == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return payload


_four = threading.Semaphore(4)


def four_at_once(payload: Any) -> Any:
    """Takes 20 ms, and never does more than four payloads at a time."""
    with _four:
        time.sleep(0.02)
    return payload


_two = threading.Semaphore(2)


def batched(payloads: list[Any]) -> list[Any]:
    """Two calls at once, each 20 ms and 1 ms a row; says how many shared the call.

    "raise" fails the whole call, and so does "short", by an answer that lacks one.
    """
    with _two:
        time.sleep(0.02 + 0.001 * len(payloads))
    if "raise" in payloads:
        raise KeyError("a bad row")
    answers: list[Any] = [_row(payload, len(payloads)) for payload in payloads]
    return answers[1:] if "short" in payloads else answers


def _row(payload: Any, rows: int) -> Any:
    strange = {"error": {"error": "no words"}, "exception": ValueError("no words"), "nan": float("nan")}
    return (
        strange.get(payload, {"row": payload, "rows": rows}) if isinstance(payload, str) else {"rows": rows}
    )


def gentle(payload: Any) -> Any:
    """Takes whatever comes, and answers with how it was written."""
    return {"seen": type(payload).__name__}


def quotes(payload: Any) -> Any:
    """Says what it was asked, in its error."""
    raise ValueError(f"cannot read {payload!r}")
