"""The arguments of `python -m worker dead`."""

import argparse
from typing import Any

_HELP = """examples:
  python -m worker dead list                       what is there, grouped by reason
  python -m worker dead show 3f9a0c2b1d4e          all of one letter; the beginning of an id will do
  python -m worker dead replay --reason failed     send the requests again
  python -m worker dead list --reason failed -q --limit 0 | python -m worker dead purge --yes -

exit codes: 0 done, 1 nothing matched or something was refused, 2 usage, 3 the broker is unreachable"""


def add_dead(sub: Any, common: argparse.ArgumentParser) -> None:
    """The arguments of all four."""
    form = argparse.RawDescriptionHelpFormatter
    dead = sub.add_parser("dead", help="the dead letters", epilog=_HELP, formatter_class=form)
    actions = dead.add_subparsers(dest="action", required=True, metavar="list|show|replay|purge")
    listing = actions.add_parser("list", parents=[common], help="what is there; never a payload")
    listing.add_argument("--reason", metavar="REASON", help="only those of this reason")
    listing.add_argument("--limit", type=_count, default=50, metavar="N", help="so many (50); 0: all")
    listing.add_argument("--offset", type=_count, default=0, metavar="N", help="after the first N")
    listing.add_argument("--json", action="store_true")
    listing.add_argument("-q", "--quiet", action="store_true", help="only ids, one a line")
    show = actions.add_parser("show", parents=[common], help="everything about some, with the body")
    show.add_argument(
        "ids", nargs="+", metavar="ID", help="or its beginning; - reads ids from standard input"
    )
    show.add_argument("--json", action="store_true", help="one object a line")
    replay = actions.add_parser("replay", parents=[common], help="send the original messages back")
    where = replay.add_mutually_exclusive_group()
    where.add_argument("--reply-to", metavar="NAME", help="replies go to the reply queue NAME")
    where.add_argument("--no-reply-to", action="store_true", help="replies go to the shared reply queue")
    replay.add_argument("--dry-run", action="store_true", help="say what would be sent, and send nothing")
    for action in (replay, actions.add_parser("purge", parents=[common], help="drop them for good")):
        action.add_argument("ids", nargs="*", metavar="ID", help="or its beginning; - reads standard input")
        action.add_argument("--all", action="store_true", help="every letter")
        action.add_argument("--reason", metavar="REASON", help="those of this reason")
        action.add_argument("--yes", action="store_true", help="without asking")


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError("below 0")
    return value
