"""The worker's command line: `python -m worker`, or `recollect-worker`."""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from broker.base import BrokerError, BrokerUnreachable
from worker import commands
from worker.app import run, version
from worker.bench_arguments import add_bench_model
from worker.bench_model import bench_model
from worker.cache_arguments import add_cache
from worker.cache_commands import cache
from worker.check import check
from worker.console import UsageError
from worker.dead_arguments import add_dead
from worker.dead_commands import dead
from worker.logs import build_log
from worker.page.dashboard import dashboard
from worker.plan.command import add_plan, plan
from worker.sources import Loaded, SettingsError, load

USAGE, UNREACHABLE = 2, 3
_EXAMPLES = """examples:
  python -m worker run --broker-url embedded: --cache-url embedded: \\
      --set models.sentiment.target=http://127.0.0.1:8000/predict
  python -m worker config                      what is in force, and where each value comes from
  python -m worker dashboard --http-port 8080  the page of the whole fleet
  python -m worker check                       are broker, cache and models there?
  python -m worker key '{"b":1,"a":2}' --model sentiment --model-version 1
  python -m worker cache explain '{"b":1}'      is it remembered, and if not, why; cache --help has more
  python -m worker plan rows.jsonl             what these rows would cost; calls no model
  python -m worker bench-model sentiment       what concurrency saturates it, and the setting to paste
  python -m worker dead list                   what nobody could be answered for; dead --help has more

settings: flag > environment (RECOLLECT_*) > recollect.toml > default; the list is in docs/settings.md
exit codes: 0 well, 1 something failed, 2 usage or settings, 3 a service is unreachable, 130 interrupted"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that is not UTF-8 is no reason to stop
    arguments = _parser().parse_args(argv)
    try:
        if arguments.command == "key":
            return commands.key(arguments)
        loaded = _load(arguments)
        return int(_COMMANDS[arguments.command](arguments, loaded))
    except (SettingsError, UsageError) as error:
        print(error, file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader has seen enough; the interpreter's own flush at exit must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(arguments: argparse.Namespace, loaded: Loaded) -> int:
    settings = loaded.settings
    if not settings.models:
        raise UsageError(
            "error: no model is set; for example\n"
            "    RECOLLECT_MODELS__SENTIMENT__TARGET=http://127.0.0.1:8000/predict\n(nothing was started)"
        )
    log = build_log(sys.stderr, settings.log_format, settings.log_level)
    try:
        return run(settings, log, retry=not arguments.no_retry)
    except BrokerUnreachable as error:
        print(f"error: {error}", file=sys.stderr)
        return UNREACHABLE
    except (ValueError, OSError, BrokerError) as error:
        raise UsageError(f"error: {error}\n(nothing was started)") from None


_COMMANDS = {
    "run": _run,
    "check": check,
    "dashboard": dashboard,
    "bench-model": bench_model,
    "config": commands.config,
    "cache": cache,
    "plan": plan,
    "queue": commands.queue,
    "dead": dead,
}


def _load(arguments: argparse.Namespace) -> Loaded:
    config = arguments.config or os.environ.get("RECOLLECT_CONFIG")
    flags: dict[str, Any] = {
        name: getattr(arguments, name)
        for name in ("broker_url", "cache_url", "prefix", "http_host", "http_port", "log_format", "log_level")
        if getattr(arguments, name) is not None
    }
    if getattr(arguments, "allow_actions", False):
        flags["allow_actions"] = True
    for item in arguments.set:
        name, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"error: --set {item}: expected NAME=VALUE, such as in_flight=512")
        flags["\x1f".join(name.strip().split("."))] = value
    return load(flags, os.environ, Path.cwd(), Path(config) if config else None)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m worker",
        description="Takes analysis requests from a queue; remembers what the model answered.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"recollect {version()}")
    common = _common()
    sub = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    start = sub.add_parser("run", parents=[common], help="work until SIGTERM")
    start.add_argument("--no-retry", action="store_true", help="give up (3) if the broker is not there")
    page = sub.add_parser("dashboard", parents=[common], help="the page of the whole fleet; does no work")
    for command in (start, page):
        command.add_argument("--allow-actions", action="store_true", help="the page may replay, purge, pause")
    sub.add_parser("check", parents=[common], help="are broker, cache and models there?")
    show = sub.add_parser("config", parents=[common], help="settings in force and their origins")
    show.add_argument("--json", action="store_true")
    _add_key(sub)
    add_bench_model(sub, common)
    add_cache(sub, common)
    add_plan(sub, common)
    queue = sub.add_parser("queue", parents=[common], help="the waiting messages")
    queue.add_argument("action", choices=["stats", "purge", "pause", "resume"])
    queue.add_argument("--queue", help="purge: interactive, requests, misses, replies, dead, or a full name")
    queue.add_argument("--yes", action="store_true", help="purge without asking")
    queue.add_argument("--json", action="store_true")
    add_dead(sub, common)
    return parser


def _add_key(sub: Any) -> None:
    key = sub.add_parser("key", help="the key of a payload; needs no server")
    key.add_argument("payload", help="JSON, or - for standard input")
    key.add_argument("--model", required=True)
    key.add_argument("--model-version", default="1")
    key.add_argument("--namespace", default="default")
    key.add_argument("--generation", type=int, default=0)
    key.add_argument("--prefix", default="recollect")
    key.add_argument("--key-include", help="comma-separated top-level fields")
    key.add_argument("--key-exclude", help="comma-separated top-level fields")


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", metavar="PATH", help="settings file (default recollect.toml)")
    common.add_argument("--broker-url", metavar="URL")
    common.add_argument("--cache-url", metavar="URL")
    common.add_argument("--prefix")
    common.add_argument("--http-host", metavar="HOST")
    common.add_argument("--http-port", metavar="PORT", help="0: any free one, printed")
    common.add_argument("--log-format", metavar="auto|text|json")
    common.add_argument("--log-level", metavar="debug|info|warning|error")
    common.add_argument("--set", metavar="NAME=VALUE", action="append", default=[], help="any other setting")
    return common


if __name__ == "__main__":
    sys.exit(main())
