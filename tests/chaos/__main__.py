"""Break everything that can break, for a time, and see that nothing is lost.

    python -m tests.chaos --seed 7 --seconds 60 --broker both
    python -m tests.chaos --soak --requests 1000000
    python -m tests.chaos --fuzz --seconds 600

Prints a line of figures per broker; 1 where anything is not as it must be. The seed replays the faults.
"""

import argparse
import random
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.fuzz import fuzz
from tests.chaos.run import chaos
from tests.chaos.servers import RabbitMqServer
from tests.chaos.soak import soak


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is asked for; the exit code."""
    options = _parser().parse_args(argv)
    # Like Ctrl-C: whatever was started is ended on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    kinds = ["redis", "rabbit"] if options.broker == "both" else [options.broker]
    failed = False
    for kind in kinds:
        if kind == "rabbit" and not RabbitMqServer.installed():
            print("rabbit: skipped, RabbitMQ is not installed on this machine", flush=True)
            continue
        with tempfile.TemporaryDirectory(prefix="recollect-chaos-", ignore_cleanup_errors=True) as place:
            if options.fuzz:
                line, wrong = fuzz(Path(place), kind, seed, options.seconds)
            elif options.soak:
                line, wrong = soak(Path(place), kind, seed, options.requests)
            else:
                line, wrong = chaos(Path(place), kind, seed, options.seconds)
        print(line, *(f"  violated: {what}" for what in wrong), sep="\n", flush=True)
        failed = failed or bool(wrong)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, help="of all faults; printed, random by default")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long things break, per broker")
    parser.add_argument("--broker", choices=["redis", "rabbit", "both"], default="both")
    parser.add_argument(
        "--soak", action="store_true", help="many requests instead, and what they leave behind"
    )
    parser.add_argument(
        "--fuzz", action="store_true", help="strange messages instead, and what becomes of their neighbours"
    )
    parser.add_argument("--requests", type=int, default=1_000_000, help="of a soak")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
