"""Structured logs: readable on a terminal, one JSON object a line otherwise. Never a payload.

Event names are constants and fields are the words of the design; what identifies a request is its key (a
hash) or its message's correlation id.
"""

import logging
from typing import Any, TextIO

import orjson
import structlog

Log = structlog.typing.FilteringBoundLogger
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def build_log(stream: TextIO, form: str = "auto", level: str = "info") -> Log:
    """A logger that writes to `stream`. `form`: auto, text or json; auto is text on a terminal.

    Nothing global is configured: two workers in one process can log differently.
    """
    as_text = form == "text" or (form == "auto" and stream.isatty())
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    if as_text:
        # The renderer looks for the time under its own name.
        shared[1] = structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
        shared.append(structlog.dev.ConsoleRenderer(colors=stream.isatty(), pad_event_to=14))
    else:
        shared += [structlog.processors.format_exc_info, _first_things_first]
        shared.append(structlog.processors.JSONRenderer(_as_json))
    logger: Log = structlog.wrap_logger(
        structlog.PrintLogger(stream),
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
    )
    return logger


def quiet_libraries() -> None:
    """Keep libraries from writing by themselves: what they have to say reaches us as exceptions."""
    for name in ("kombu", "amqp", "urllib3", "waitress", "waitress.queue"):
        library = logging.getLogger(name)
        library.addHandler(logging.NullHandler())
        library.propagate = False


def _first_things_first(_: Any, __: str, event: Any) -> Any:
    """Time, level and event open the line: a person greps by them."""
    first = {name: event.pop(name) for name in ("time", "level", "event")}
    return {**first, **event}


def _as_json(event: Any, **_: Any) -> str:
    return orjson.dumps(event, default=str).decode()
