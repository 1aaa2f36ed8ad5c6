"""The requests of every contestant, ours and peers', and the model they stand for. Standard library only."""

import random
from typing import Any

KEYS = 1000  # distinct payloads in a run of hits
_WORDS = tuple("the model says this row is good bad new old large small red and so on".split())  # noqa: SIM905


def payload(number: int, size: int) -> dict[str, Any]:
    """Payload `number`, whose JSON has about `size` bytes. The same number and size, the same payload."""
    source = random.Random(number)
    fields = {"row": number, "lang": "en", "options": {"top": 3, "threshold": 0.5}, "text": ""}
    missing = size - 80 - len(str(number))
    words: list[str] = []
    while missing > 0:
        words.append(source.choice(_WORDS))
        missing -= len(words[-1]) + 1
    return {**fields, "text": " ".join(words)}


def analyse(request: Any) -> dict[str, Any]:
    """What a model would answer: about 150 bytes, at once."""
    score = (request["row"] % 100) / 100
    return {
        "label": "positive" if score > 0.5 else "negative",
        "score": score,
        "spans": [{"start": start, "end": start + 5, "kind": "entity"} for start in (0, 7, 19)],
    }
