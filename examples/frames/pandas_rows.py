"""pandas: a result beside every row of a file. `python pandas_rows.py rows.jsonl scored.jsonl`"""

import os
import sys

import pandas as pd

from recollect import Producer, map_frame

rows = pd.read_json(sys.argv[1], lines=True)
with Producer(
    os.environ["RECOLLECT_BROKER_URL"], prefix=os.environ.get("RECOLLECT_PREFIX", "recollect")
) as p:
    scored = map_frame(rows, payload=["text"], producer=p, flatten=True)
scored.to_json(sys.argv[2], orient="records", lines=True)
print(scored["outcome"].value_counts())
