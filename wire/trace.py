"""The `traceparent` of a message (W3C Trace Context, level 1): taken in its exact form, or not at all.

It goes on to models, replies and logs, and strangers write it. So the further fields that a later version may
have are not taken either: nobody knows today what they hold.
"""

import re
from collections.abc import Mapping
from typing import Any

TRACEPARENT = "traceparent"
_FORM = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def traceparent_in(headers: Mapping[str, Any]) -> str | None:
    """The traceparent among the headers of a message, where there is one of the exact form."""
    value = headers.get(TRACEPARENT)
    return None if value is None or not is_traceparent(value) else value


def is_traceparent(value: Any) -> bool:
    """Whether it is `version-traceid-parentid-flags` in lower-case hex: a version other than ff, ids that are
    not all zeros."""
    return isinstance(value, str) and _FORM.fullmatch(value) is not None


def trace_id(traceparent: str) -> str:
    """The 32 digits that all of one trace have in common. `traceparent` must be of the exact form."""
    return traceparent[3:35]
