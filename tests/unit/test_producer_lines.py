"""From payloads to the lines of a message."""

import orjson
import pytest

from producer.lines import common_fields, payload_line, waiting_fields, whole_line
from wire.errors import InvalidRequest


@pytest.mark.parametrize("model", [None, "m", 'quo"te}'])
@pytest.mark.parametrize("directives", [{}, {"ttl": 5, "bypass": True}, {"reply": False}, {"id": "mine"}])
@pytest.mark.parametrize("payload", [None, 0, "}", [], {}, {"payload": {"model": "x"}}])
def test_a_line_is_the_request_in_json(
    model: str | None, directives: dict[str, object], payload: object
) -> None:
    """However it is put together: payload first, then what all requests have in common."""
    line = payload_line(payload, common_fields(model, directives))
    named = {} if model is None else {"model": model}
    assert line.text == orjson.dumps({"payload": payload, **directives, **named})
    assert line.id == directives.get("id")


def test_what_a_request_says_itself_wins() -> None:
    """Over what is common to all."""
    fields = common_fields("m", {"ttl": 5, "id": None})
    line = whole_line({"ttl": 6, "id": "mine", "payload": 1}, fields, waits=True)
    assert orjson.loads(line.text) == {"payload": 1, "ttl": 6, "id": "mine", "model": "m"}
    assert line.id == "mine"


@pytest.mark.parametrize(
    "request_", [1, None, [], {}, {"payload": 1, "reply": False}, {"payload": 1, "modl": "m"}]
)
def test_a_whole_request_is_checked(request_: object) -> None:
    """An object with a payload and known fields; somebody waits for the reply."""
    with pytest.raises(InvalidRequest):
        whole_line(request_, common_fields(None, {}), waits=True)


def test_what_is_common_is_checked_once_for_all() -> None:
    """Before anything is read."""
    with pytest.raises(InvalidRequest, match="ttl is -1"):
        common_fields(None, {"ttl": -1})
    with pytest.raises(InvalidRequest, match="use enqueue"):
        waiting_fields(None, {"reply": False})
