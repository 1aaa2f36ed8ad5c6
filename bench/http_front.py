"""`python -m producer serve` and the post's own service, Flask with Flask-Caching, with the cache off and on.

wrk asks both in turn. With the cache off every request says `bypass`; with it on all payloads are remembered,
and the model is stopped meanwhile, so that a miss would be an error. Both may have eight calls at once.
"""

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import orjson

from bench.contestants import PEERS_HOME
from bench.entrants import OwnEntrant
from bench.misses import start_model
from bench.payloads import payload
from bench.process import Child, Failed, ours, run_json
from bench.stage import Stage
from tests.support.waiting import free_port

OFF, ON = "HTTP, cache off", "HTTP, cache on"
FRONT, FLASK = "recollect, Redis", "Flask, Flask-Caching"
CALLS_AT_ONCE = 8
_PROCESSES, _CONNECTIONS, _KEYS, _SIZE = 2, 64, 200, 400
_NO_WRK = "wrk is not installed (on Debian: apt-get install wrk)"
_NO_FLASK = "the peers' environment is not there (make bench makes it)"
_SCRIPT = """
local bodies = { %s }
local requests, n = {}, 0
init = function(args)
  for i, body in ipairs(bodies) do
    requests[i] = wrk.format("POST", "/analysis", {["Content-Type"] = "application/json"}, body)
  end
end
request = function() n = n %% #requests + 1; return requests[n] end
done = function(summary, latency, _)
  local errors = summary.errors
  io.write(string.format('{"rate":%%f,"p50":%%f,"p99":%%f,"errors":%%d}\\n',
    summary.requests / summary.duration * 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


def http_front(stage: Stage) -> None:
    """Warm-up and rounds; skipped where wrk is not there, and Flask where its environment is not."""
    if not stage.plan.http_seconds:
        return
    if shutil.which("wrk") is None:
        stage.results.skipped["HTTP"] = _NO_WRK
        return
    try:
        _rounds(stage)
    except Exception as error:
        stage.results.fail("HTTP", FRONT, error)
        stage.say(f"HTTP: FAILED, {error}")


def _rounds(stage: Stage) -> None:
    scripts = _write_scripts(stage.place / "wrk")
    model, url = start_model(stage)
    port = int(url.rpartition(":")[2].partition("/")[0])
    with ExitStack() as services:
        services.enter_context(model)
        addresses = {FRONT: services.enter_context(_front(stage, url))}
        if (PEERS_HOME / "bin" / "gunicorn").exists():
            addresses[FLASK] = services.enter_context(_flask(stage, url))
        else:
            stage.results.skipped["Flask"] = _NO_FLASK
        for address in addresses.values():
            _remember(address)
        for _ in range(stage.plan.rounds):
            for who, address in addresses.items():
                _measure(stage, OFF, who, address, scripts[OFF])
            model.kill()
            for who, address in addresses.items():
                _measure(stage, ON, who, address, scripts[ON])
            model = services.enter_context(start_model(stage, port)[0])


def _measure(stage: Stage, workload: str, who: str, address: str, script: Path) -> None:
    seconds = stage.plan.http_seconds
    options = [f"-c{_CONNECTIONS}", "-t1", f"-d{seconds}s", "--timeout=30s", "--latency", "-s", str(script)]
    said: dict[str, Any] = run_json(["wrk", *options, f"{address}/analysis"], {}, seconds + 60)
    if said["errors"]:
        raise Failed(f"{who}: {workload}: {said['errors']} errors")
    for name in ("rate", "p50", "p99"):
        stage.results.add(workload, who, name, said[name])
    stage.say(f"{who}: {workload} {said['rate']:,.0f}/s, p50 {said['p50']:.1f} ms, p99 {said['p99']:.1f} ms")


@contextmanager
def _front(stage: Stage, model_url: str) -> Iterator[str]:
    settings = {"MODELS__M__TARGET": model_url, "MODELS__M__CONCURRENCY": str(CALLS_AT_ONCE)}
    entrant = OwnEntrant(stage, FRONT, "redis", **settings)
    where = (f"--broker-url={stage.queue_url('redis')}", f"--prefix={entrant.prefix}")
    port = free_port()
    serving = ours("-m", "producer", "serve", f"--port={port}", *where)
    with entrant.start(), Child("front", serving, stage.place / "logs", {}) as front:
        address = f"http://127.0.0.1:{port}"
        front.wait_until(lambda: _answers(f"{address}/readyz"), 30, "front")
        yield address
    entrant.close()


@contextmanager
def _flask(stage: Stage, model_url: str) -> Iterator[str]:
    port = free_port()
    shape = (f"--workers={_PROCESSES}", f"--threads={CALLS_AT_ONCE // _PROCESSES}")
    gunicorn = [str(PEERS_HOME / "bin" / "gunicorn"), *shape, f"--bind=127.0.0.1:{port}"]
    settings = {"BENCH_CACHE_URL": stage.cache_url, "BENCH_MODEL_URL": model_url}
    with Child("flask", [*gunicorn, "bench.peers.flask_app:app"], stage.place / "logs", settings) as flask:
        address = f"http://127.0.0.1:{port}"
        flask.wait_until(lambda: _answers(f"{address}/nowhere"), 30, "service")
        yield address


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        return error.code == 404
    except OSError:
        return False


def _remember(address: str) -> None:
    """Each payload once."""
    for number in range(_KEYS):
        asked = urllib.request.Request(
            f"{address}/analysis", orjson.dumps(payload(number, _SIZE)), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=30) as answer:
            json.load(answer)


def _write_scripts(place: Path) -> dict[str, Path]:
    place.mkdir(parents=True)
    scripts = {}
    for workload, more in ((OFF, {"bypass": True}), (ON, {})):
        bodies = [orjson.dumps({**payload(number, _SIZE), **more}).decode() for number in range(_KEYS)]
        scripts[workload] = place / f"{'bypass' if more else 'plain'}.lua"
        scripts[workload].write_text(_SCRIPT % ", ".join(f"[==[{body}]==]" for body in bodies), "utf-8")
    return scripts
