"""Logs: one line each, JSON for machines and text for people; nothing that is logged can end a worker."""

import io
import json
import logging
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from worker.logs import build_log, quiet_libraries


class Terminal(io.StringIO):
    """A stream that a person reads."""

    def isatty(self) -> bool:
        return True


def logged(form: str, stream: io.StringIO | None = None, **fields: Any) -> str:
    """What one warning writes."""
    stream = stream or io.StringIO()
    build_log(stream, form).warning("cache down", **fields)
    return stream.getvalue()


def test_json_is_one_object_a_line_with_time_level_and_event() -> None:
    """The time is UTC, so that lines of two machines can be merged."""
    stream = io.StringIO()
    log = build_log(stream, "json")
    log.info("first", count=1)
    log.bind(model="m").warning("second", error="a\nb")
    first, second = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert first.keys() == {"event", "level", "time", "count"}
    assert (first["event"], first["level"], first["count"]) == ("first", "info", 1)
    assert (second["level"], second["model"], second["error"]) == ("warning", "m", "a\nb")
    time = datetime.fromisoformat(first["time"])
    assert time.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - time) < timedelta(minutes=5)


def test_auto_is_text_on_a_terminal_and_json_elsewhere() -> None:
    """A person and a log collector each get theirs without a setting."""
    assert json.loads(logged("auto"))["event"] == "cache down"
    text = logged("auto", Terminal(), model="sentiment")
    assert not text.startswith("{")
    for word in ("cache down", "warning", "model", "sentiment"):
        assert word in text


def test_text_into_a_file_has_no_colours() -> None:
    """Escape sequences are for terminals."""
    assert "\x1b" not in logged("text", model="m")
    assert "\x1b" in logged("text", Terminal(), model="m")


@pytest.mark.parametrize(("level", "expected"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_only_what_reaches_the_level_is_written(level: str, expected: int) -> None:
    """Each level holds those above it."""
    stream = io.StringIO()
    log = build_log(stream, "json", level)
    log.debug("d")
    log.info("i")
    log.warning("w")
    log.error("e")
    assert len(stream.getvalue().splitlines()) == expected


@pytest.mark.parametrize(
    "value",
    [
        "a\ud800b",
        2**70,
        {"\udfff": 1},
        {1: 2},
        {(1, 2): 3},
        [float("nan")],
        b"\xff",
        object(),
        {"x": ["\udc00"]},
    ],
)
@pytest.mark.parametrize("form", ["json", "text"])
def test_no_value_ends_a_worker(form: str, value: object) -> None:
    """A stranger's correlation id may be a lone surrogate; one readable line comes of it."""
    text = logged(form, correlation_id=value)
    assert text.count("\n") == 1
    assert "cache down" in text
    if form == "json":
        assert "correlation_id" in json.loads(text.encode("utf-8"))


@pytest.mark.parametrize(
    "value", ["a\nb", "a\rb", "\x1b[2J", "a b\n12:00:00 [info] forged", "\u2028", "\x9b1m"]
)
@pytest.mark.parametrize("form", ["json", "text"])
def test_no_value_begins_a_line_or_moves_a_cursor(form: str, value: str) -> None:
    """What strangers send cannot look like a line of ours."""
    text = logged(form, correlation_id=value)
    assert len(text.splitlines()) == 1 or form == "json"
    assert text.endswith("\n")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\x80-\x9f]", text) or form == "json"
    assert text.count("\n") == 1


def test_nothing_global_is_configured() -> None:
    """Two workers in one process log differently."""
    one, other = io.StringIO(), io.StringIO()
    loud, quiet = build_log(one, "json", "debug"), build_log(other, "text", "error")
    loud.debug("a")
    quiet.debug("b")
    assert (one.getvalue().count("\n"), other.getvalue()) == (1, "")


@pytest.mark.parametrize(
    "name", ["kombu", "kombu.connection", "amqp", "urllib3.connectionpool", "waitress.queue"]
)
def test_libraries_do_not_write_by_themselves(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Their words reach us as exceptions; a line that is no JSON breaks a log collector."""
    kept = list(logging.root.handlers)
    logging.root.handlers = [logging.StreamHandler()]
    try:
        quiet_libraries()
        logging.getLogger(name).error("canary")
    finally:
        logging.root.handlers = kept
    assert "canary" not in "".join(capfd.readouterr())


def test_quieting_twice_is_quieting_once() -> None:
    """Workers started again in one process do not pile up handlers."""
    quiet_libraries()
    before = list(logging.getLogger("kombu").handlers)
    quiet_libraries()
    assert logging.getLogger("kombu").handlers == before
