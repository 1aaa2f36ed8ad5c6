"""`python -m worker`, as an operator meets it."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import run
from tests.support.rig import Rig
from tests.support.waiting import free_port, until


def worker(place: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return run(place, "worker", *arguments, **settings)


def set_up(rig: Rig) -> dict[str, str]:
    return rig.settings


def test_help_opens_with_what_to_type(place: Path) -> None:
    """Every command is named; examples are given."""
    done = worker(place, "--help")
    assert done.returncode == 0
    for command in ("run", "check", "config", "key", "cache", "queue"):
        assert command in done.stdout
    assert "examples:" in done.stdout


def test_the_key_of_a_payload_needs_no_server(place: Path) -> None:
    """Canonical form, digest and Redis key, as JSON."""
    done = worker(place, "key", '{"b":1,"a":2}', "--model", "sentiment", "--model-version", "1")
    found = json.loads(done.stdout)
    assert found["canonical"] == '["k1","default","sentiment","1",0,{"a":2,"b":1}]'
    assert found["digest"] == "79d757679fcf87551d78111f04e737662b4bd84b7506ab67c0ee5bcc707c359f"
    assert found["redis_key"] == f"recollect:k1:sentiment:1:{{{found['digest']}}}"


@pytest.mark.parametrize("payload", ["nope", '{"a":NaN}', "18446744073709551616", "[" * 300 + "]" * 300])
def test_a_payload_without_a_key_is_explained(place: Path, payload: str) -> None:
    """Exit 2 and a sentence, never a traceback."""
    done = worker(place, "key", payload, "--model", "m")
    assert done.returncode == 2
    assert done.stderr.startswith("error: payload")
    assert "Traceback" not in done.stderr


def test_without_urls_nothing_starts_and_the_choice_is_printed(place: Path) -> None:
    """A forgotten variable must not give each pod an empty queue of its own."""
    done = worker(place, "run")
    assert done.returncode == 2
    assert "RECOLLECT_BROKER_URL=embedded:" in done.stderr
    assert "RECOLLECT_BROKER_URL=redis://host:6379/0" in done.stderr


def test_all_wrong_settings_are_said_at_once(place: Path) -> None:
    """File with line, environment and flag; the nearest right word; nothing is started."""
    (place / "recollect.toml").write_text(
        'broker_url = "embedded:"\ncache_url = "embedded:"\n[models.m]\ntarget = "gopher://x"\nattemps = 3\n'
    )
    done = worker(place, "run", "--http-port", "99999", DRAIN_SECOND="1")
    assert done.returncode == 2
    for said in (
        "recollect.toml:4: `models.m.target`",
        "recollect.toml:5: unknown setting `models.m.attemps`; did you mean `attempts`?",
        "flag --http-port: `http_port` is '99999'",
        "environment RECOLLECT_DRAIN_SECOND: unknown setting `drain_second`; did you mean `drain_seconds`?",
        "4 problems; nothing was started",
    ):
        assert said in done.stderr
    assert not (place / ".recollect").exists()


def test_config_shows_where_each_value_comes_from_and_no_secret(place: Path) -> None:
    """flag > environment > file > default; passwords and headers are masked."""
    (place / "recollect.toml").write_text(
        'prefix = "fromfile"\nnamespace = "fromfile"\nhttp_host = "fromfile"\n'
        '[models.m]\ntarget = "http://u:canary@h/p"\nheaders = { Authorization = "canary" }\n'
    )
    urls = {"BROKER_URL": "redis://:canary@h/0", "CACHE_URL": "redis://:canary@h/1"}
    done = worker(place, "config", "--json", "--prefix", "fromflag", PREFIX="env", NAMESPACE="env", **urls)
    shown = json.loads(done.stdout)
    assert shown["prefix"] == {"value": "fromflag", "origin": "flag --prefix"}
    assert shown["namespace"] == {"value": "env", "origin": "environment RECOLLECT_NAMESPACE"}
    assert shown["http_host"] == {"value": "fromfile", "origin": "recollect.toml"}
    assert shown["in_flight"] == {"value": 256, "origin": "default"}
    assert "canary" not in done.stdout + worker(place, "config", **urls).stdout


def test_check_says_what_is_well_and_what_is_not(rig: Rig, place: Path) -> None:
    """Broker, cache and model, each with a verdict; a hint is a command or a setting."""
    done = worker(place, "check", **set_up(rig))
    assert done.returncode == 0, done.stdout
    for what in ("settings", "broker", "cache", "model"):
        assert what in done.stdout
    assert "maxmemory is not set" in done.stdout
    assert "workers   none alive" in done.stdout
    rig.work()
    rig.call(1)

    def is_counted() -> bool:
        return "workers   1 alive" in worker(place, "check", **set_up(rig)).stdout

    until(is_counted, 30, "the worker among those alive")
    down = worker(place, "check", **{**set_up(rig), "CACHE_URL": f"redis://127.0.0.1:{free_port()}/0"})
    assert down.returncode == 3
    assert "fail  cache" in down.stdout


def test_cache_stats_and_purge(redis_rig: Rig, place: Path) -> None:
    """Entries are counted by model; a purge forgets them, also for workers that run."""
    rig = redis_rig
    rig.work()
    list(rig.producer.map(range(25)))
    stats = json.loads(worker(place, "cache", "stats", "--json", **set_up(rig)).stdout)
    assert stats["entries"] == {"m": 25}
    purged = json.loads(worker(place, "cache", "purge", "--model", "m", "--yes", **set_up(rig)).stdout)
    assert purged == {"model": "m", "purged": 25}
    assert rig.call(3).outcome == "miss"
    assert worker(place, "cache", "purge", **set_up(rig)).returncode == 2


def test_queue_stats_and_purge(rig: Rig, place: Path) -> None:
    """What waits is counted; dropping it must be said twice."""
    rig.producer.enqueue(range(3), pack=1)
    stats = json.loads(worker(place, "queue", "stats", "--json", **set_up(rig)).stdout)
    assert stats[rig.names.requests] == 3
    refused = worker(place, "queue", "purge", "--queue", "requests", **set_up(rig))
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    done = worker(place, "queue", "purge", "--queue", "requests", "--yes", **set_up(rig))
    assert json.loads(done.stdout) == {"queue": rig.names.requests, "purged": 3}


def test_no_retry_gives_up_at_once(place: Path) -> None:
    """For scripts: exit 3."""
    port = free_port()
    urls = {"BROKER_URL": f"redis://127.0.0.1:{port}/0", "CACHE_URL": f"redis://127.0.0.1:{port}/1"}
    done = worker(place, "run", "--no-retry", MODELS__M__TARGET="http://127.0.0.1:1/", **urls)
    assert done.returncode == 3
    assert "broker unreachable" in done.stderr


def test_a_python_model_that_cannot_be_loaded_is_named(rig: Rig, place: Path) -> None:
    """Before anything is consumed."""
    done = worker(place, "run", **{**set_up(rig), "MODELS__M__TARGET": "python:nowhere.to:be_found"})
    assert done.returncode == 2
    assert "python:nowhere.to:be_found cannot be loaded" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "url"), [("BROKER_URL", "nope"), ("BROKER_URL", "kafka://h"), ("CACHE_URL", "pyamqp://h")]
)
def test_urls_of_another_kind_are_explained(rig: Rig, place: Path, name: str, url: str) -> None:
    """A sentence and exit 2, never a traceback."""
    done = worker(place, "run", **{**set_up(rig), name: url})
    assert done.returncode == 2
    assert "error:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_explained(rig: Rig, place: Path) -> None:
    """The address is in use, says the error."""
    running = rig.work()
    port = str(running.address("")).rpartition(":")[2]
    done = worker(place, "run", **{**set_up(rig), "HTTP_PORT": port})
    assert done.returncode == 2
    assert "in use" in done.stderr


def test_metrics_are_as_prometheus_likes_them(redis_rig: Rig, require_promtool: str) -> None:
    """promtool check metrics is silent on a worker that has seen every kind of request."""
    rig = redis_rig
    running = rig.work()
    rig.call("p")
    rig.call("p")
    rig.call("p", model="nobody")
    done = subprocess.run(
        [require_promtool, "check", "metrics"],
        input=running.get("/metrics")[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_sum_over_outcomes_is_what_was_sent(rig: Rig) -> None:
    """Exactly one outcome for every request, whatever became of it."""
    running = rig.work()
    payloads = [n % 40 for n in range(200)]
    assert len(list(rig.producer.map(payloads, pack=7))) == 200
    rig.call("p", bypass=True)
    rig.call("p", refresh=True)
    rig.call("p", model="nobody")
    # A reply can be here before its settlement is counted there.
    until(lambda: sum(running.outcomes().values()) == 203, what="the count of outcomes")
    outcomes = running.outcomes()
    assert (outcomes["bypass"], outcomes["refresh"], outcomes["invalid"]) == (1, 1, 1)
    assert outcomes["hit"] + outcomes["miss"] + outcomes["coalesced"] == 200
    assert rig.model.calls == outcomes["miss"] + 2


def test_http_answers_only_what_it_knows(redis_rig: Rig) -> None:
    """/livez and /readyz are 200 on a working worker; other paths are named."""
    running = redis_rig.work()
    assert running.get("/livez") == (200, "ok\n")
    assert running.get("/readyz") == (200, "ok\n")
    assert running.get("/nope")[0] == 404


@pytest.fixture
def require_promtool() -> str:
    import os

    found = shutil.which("promtool")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("promtool is not installed, and CI=true")
        pytest.skip("promtool is not installed")
    return found
