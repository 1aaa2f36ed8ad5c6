"""All benchmarks in one run on this machine: `make bench`, or `make bench QUICK=1` in under five minutes.

Writes docs/benchmarks.md with its plots (QUICK: .bench/quick.md) and every round's raw figures to
.bench/full/results.json (.bench/quick/…). The last lines say what was to be shown, and whether it is.
"""

import argparse
import signal
import sys
from pathlib import Path
from typing import Any

from bench.plan import full, quick
from bench.process import ROOT
from bench.results import Results
from bench.stage import Stage
from bench.suite import SECTIONS, play, verdicts, write

_HOME = ROOT / ".bench"


def main() -> int:
    """Run it. 0 when it ran through, whatever it showed; 1 when a contestant failed."""
    options = _parser().parse_args()
    make = quick if options.quick else full
    plan = make(options.rounds) if options.rounds else make()
    name = "quick" if options.quick else "full"
    partial = bool(options.only or options.peers is not None)
    page = Path(options.out) if options.out else _page(options.quick or partial, name)
    # SIGTERM must unwind like Ctrl-C: servers and workers live in sessions of their own.
    signal.signal(signal.SIGTERM, _interrupt)
    results = Results()
    try:
        with Stage(_HOME / name, plan, results) as stage:
            play(stage, options.only or list(SECTIONS), options.peers)
            write(stage, page)
            print("\n".join(verdicts(stage)))
    except KeyboardInterrupt:
        print("interrupted: everything it started is gone", file=sys.stderr)
        return 130
    for failure in results.failures:
        print(
            f"failed: {failure['workload']}: {failure['contestant']}: {failure['error'][-200:]}",
            file=sys.stderr,
        )
    print(f"page: {page}", file=sys.stderr)
    return 1 if results.failures else 0


def _page(aside: bool, name: str) -> Path:
    """A run that is not all of it never replaces the page of one that was."""
    return _HOME / f"{name}.md" if aside else ROOT / "docs" / "benchmarks.md"


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, help="instead of 5, or 3 with --quick")
    parser.add_argument("--only", choices=SECTIONS, action="append", help="this section; may be given again")
    parser.add_argument("--peers", nargs="*", help="only these libraries, such as celery; none: ours alone")
    parser.add_argument("--out", help="where the page goes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
