"""The service of the original post: Flask, and Flask-Caching with Redis in front of `POST /analysis`.

`gunicorn bench.peers.flask_app:app`. The JSON fields of the body are the request; `bypass` among them asks
the model anew. One more thing than such a service mostly has: a connection to the model that is kept.
"""

import json
import os
from hashlib import blake2b
from typing import Any

import urllib3
from flask import Flask, request
from flask_caching import Cache

app = Flask(__name__)
cache = Cache(
    app,
    config={
        "CACHE_TYPE": "RedisCache",
        "CACHE_REDIS_URL": os.environ["BENCH_CACHE_URL"],
        "CACHE_DEFAULT_TIMEOUT": 86_400,
        "CACHE_KEY_PREFIX": "flask:",
    },
)
_MODEL = os.environ["BENCH_MODEL_URL"]
_POOL = urllib3.PoolManager(maxsize=64, retries=False, timeout=30)


def _asked() -> dict[str, Any]:
    return {name: value for name, value in request.get_json().items() if name != "bypass"}


def _key(*_: Any, **__: Any) -> str:
    return blake2b(json.dumps(_asked(), sort_keys=True).encode(), digest_size=32).hexdigest()


@app.post("/analysis")
@cache.cached(make_cache_key=_key, unless=lambda: request.get_json().get("bypass") is True)
def analysis() -> Any:
    """The model's answer, or the remembered one."""
    answer = _POOL.request("POST", _MODEL, json=_asked())
    if answer.status != 200:
        raise RuntimeError(f"the model answered {answer.status}")
    return answer.json()
