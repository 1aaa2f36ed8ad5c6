"""Polars: a result beside every row of a file. `python polars_rows.py rows.jsonl scored.jsonl`"""

import os
import sys

import polars as pl

from recollect import Producer, map_frame

rows = pl.read_ndjson(sys.argv[1])
with Producer(
    os.environ["RECOLLECT_BROKER_URL"], prefix=os.environ.get("RECOLLECT_PREFIX", "recollect")
) as p:
    scored = map_frame(rows, payload=["text"], producer=p, flatten=True)
scored.write_ndjson(sys.argv[2])
print(scored.group_by("outcome").len())
