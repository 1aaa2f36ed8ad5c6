"""Structured logs: readable on a terminal, one JSON object a line otherwise. Never a payload.

Event names are constants and fields are the words of the design; what identifies a request is its key (a
hash) or its message's correlation id.
"""

import json
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
        shared.append(_printable)
        shared.append(structlog.dev.ConsoleRenderer(colors=stream.isatty(), pad_event_to=14))
    else:
        shared += [structlog.processors.format_exc_info, _first_things_first]
        shared.append(structlog.processors.JSONRenderer(_as_json))
    logger: Log = structlog.wrap_logger(
        structlog.PrintLogger(stream),
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
    )
    return logger.bind()  # the proxy that it was would bind anew for every line


def quiet_libraries() -> None:
    """Keep libraries from writing by themselves: what they have to say reaches us as exceptions."""
    for name in ("kombu", "amqp", "urllib3", "waitress", "waitress.queue"):
        library = logging.getLogger(name)
        if not library.handlers:
            library.addHandler(logging.NullHandler())
        library.propagate = False


def _first_things_first(_: Any, __: str, event: Any) -> Any:
    """Time, level and event open the line: a person greps by them."""
    first = {name: event.pop(name) for name in ("time", "level", "event")}
    return {**first, **event}


def _printable(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """What strangers send must not move the cursor of a terminal, nor begin a line that looks like ours."""
    return {name: _escaped(value) if isinstance(value, str) else value for name, value in event.items()}


def _escaped(text: str) -> str:
    # Line ends are left to the renderer, which quotes a text that has any.
    return "".join(char if char.isprintable() or char in "\r\n\t" else ascii(char)[1:-1] for char in text)


def _as_json(event: Any, **_: Any) -> str:
    try:
        return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        # A lone surrogate or a huge integer, which any producer can send: a log line must not end a worker.
        return (
            json.dumps(event, default=str, skipkeys=True, ensure_ascii=False)
            .encode("utf-8", "replace")
            .decode()
        )
