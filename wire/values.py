"""Values that JSON, or orjson's reading of it, would change without a word."""

import json
import math
import re
from typing import Any

import orjson

from wire.errors import InvalidRequest

# The shortest integer beyond 64 bits is -2^63 - 1.
_LONG_INTEGER = re.compile(rb"[0-9]{19}")
_INTEGER_MIN, _INTEGER_MAX = -(2**63), 2**64 - 1


def refuse_nan(value: Any, where: str) -> None:
    """orjson writes NaN and the infinities as null: a wrong value, not a wrong format.

    Raises InvalidRequest that names the place.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidRequest(f"{where} is {value}, which JSON cannot carry; send null or a string")
    if isinstance(value, dict):
        for name, item in value.items():
            refuse_nan(item, f"{where}.{name}")
    elif isinstance(value, list | tuple):
        for n, item in enumerate(value):
            refuse_nan(item, f"{where}[{n}]")


def refuse_large_integers(text: bytes, written: bytes) -> None:
    """orjson reads an integer beyond 64 bits as a float, and writes every such float with `e+`.

    Only where `written`, orjson's writing of what it read in `text`, has an `e+` is the text worth a second,
    slower reading. Raises InvalidRequest.
    """
    # `+` alone first: looking for two bytes takes as long as the parse did.
    if b"+" in written and b"e+" in written:
        json.loads(text, parse_int=_refuse_large_integer)


def parse(text: bytes, where: str) -> Any:
    """The value of a JSON text. Raises InvalidRequest that says `where`, also for an integer beyond 64 bits.

    orjson alone would read such an integer as a float, and a wrong payload would be sent.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"{where} is not JSON: {error}") from None
    if _LONG_INTEGER.search(text):
        try:
            refuse_large_integers(text, orjson.dumps(value))
        except InvalidRequest as error:
            raise InvalidRequest(f"{where}: {error}") from None
    return value


def dump(value: Any, *, sort: bool = False) -> bytes:
    """`value`, which orjson has read, as JSON. Raises RecursionError beyond some 900 levels.

    orjson reads deeper than it writes (254 levels), and a row is around what was read.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS if sort else None)
    except TypeError:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=sort).encode()


def _refuse_large_integer(digits: str) -> int:
    # The length comes first: int() is quadratic in it, and refuses 4,300 digits with an error of its own.
    if len(digits) > 20 or not _INTEGER_MIN <= int(digits) <= _INTEGER_MAX:
        shown = digits if len(digits) <= 24 else f"{digits[:24]}…"
        raise InvalidRequest(f"payload has the integer {shown}, which is beyond 64 bits; send it as a string")
    return 0
