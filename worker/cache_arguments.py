"""The arguments of `python -m worker cache`."""

import argparse
from typing import Any

_HELP = """examples:
  python -m worker cache stats                                    what is stored now
  python -m worker cache stats --since 24h                        what it was good for, and how long to keep
  python -m worker cache explain '{"text":"ok"}'                  is it remembered, and if not, why?
  python -m worker cache explain '{"text":"ok","at":1}' '{"text":"ok","at":2}'
  python -m worker cache purge --model sentiment --version 1      says how many, and asks

exit codes: 0 done, 1 not agreed to, 2 usage, 3 the cache is unreachable"""


def add_cache(sub: Any, common: argparse.ArgumentParser) -> None:
    """The arguments of all three."""
    form = argparse.RawDescriptionHelpFormatter
    cache = sub.add_parser("cache", help="the remembered results", epilog=_HELP, formatter_class=form)
    actions = cache.add_subparsers(dest="action", required=True, metavar="stats|explain|purge")
    stats = actions.add_parser("stats", parents=[common], help="how many, how large; what they were good for")
    stats.add_argument(
        "--since", metavar="SPAN", help="what came of the requests since: 90m, 24h, at most 7d"
    )
    stats.add_argument("--model", help="of this model")
    stats.add_argument("--json", action="store_true")
    _add_explain(actions, common)
    _add_purge(actions, common)


def _add_explain(actions: Any, common: argparse.ArgumentParser) -> None:
    explain = actions.add_parser(
        "explain", parents=[common], help="is a payload remembered, and why not; what makes two differ"
    )
    explain.add_argument("payload", help="JSON, or a key; - reads it from standard input")
    explain.add_argument("other", nargs="?", help="a second one (- -: two lines of standard input)")
    explain.add_argument("--model", help="where several are served")
    explain.add_argument("--json", action="store_true")


def _add_purge(actions: Any, common: argparse.ArgumentParser) -> None:
    purge = actions.add_parser("purge", parents=[common], help="forget results")
    purge.add_argument("--model", help="all of this model; with --key or --payload: the one it is of")
    purge.add_argument("--version", help="only those of this version of it")
    one = purge.add_mutually_exclusive_group()
    one.add_argument("--key", metavar="DIGEST", help="only the one under this key")
    one.add_argument(
        "--payload", metavar="JSON", help="only the one for this payload; - reads standard input"
    )
    purge.add_argument("--yes", action="store_true", help="without asking")
    purge.add_argument(
        "--dry-run", action="store_true", help="say what would be forgotten, and forget nothing"
    )
