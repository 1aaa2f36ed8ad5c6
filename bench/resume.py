"""A large file through `map`, killed with -9 at random moments and gone on with: `python -m bench.resume`.

Every row must be there once, and the result must be that of a run that nobody disturbed. The memory of each
run of `map` is its peak; that of a run over a hundredth of the file stands beside it. Prints JSON.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.entrants import OwnEntrant
from bench.plan import quick
from bench.process import environment
from bench.results import Results
from bench.stage import Stage

_FLOOR_SECONDS = 0.3  # a process that is not there yet cannot be killed in the middle of anything


def main() -> int:
    """Measure and print; 0 where nothing was lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 20))
    parser.add_argument("--form", choices=["jsonl", "csv", "parquet"], default="jsonl")
    arguments = parser.parse_args()
    with Stage(Path(".bench") / "resume", quick(), Results()) as stage:
        entrant = OwnEntrant(stage, "worker", "redis")
        with entrant.start() as worker:
            worker.wait_until(lambda: "consuming" in worker.said or _is_idle(entrant), 30, "worker")
            found = _Trial(stage, entrant, arguments).measure()
        entrant.close()
    print(json.dumps(found, indent=2))
    return 0 if found["equal"] and found["rows"] == arguments.rows else 1


def _is_idle(entrant: OwnEntrant) -> bool:
    return entrant.replies() == 0


class _Trial:
    def __init__(self, stage: Stage, entrant: OwnEntrant, arguments: argparse.Namespace) -> None:
        self._stage, self._arguments = stage, arguments
        self._place = (stage.place / "files").resolve()
        shutil.rmtree(self._place, ignore_errors=True)
        self._place.mkdir(parents=True)
        self._settings = {
            "RECOLLECT_BROKER_URL": stage.queue_url("redis"),
            "RECOLLECT_PREFIX": entrant.prefix,
        }
        self._rng = random.Random(arguments.seed)

    def measure(self) -> dict[str, Any]:
        rows, form = self._arguments.rows, self._arguments.form
        self._write("small.jsonl", rows // 100)
        self._write("in.jsonl", rows)
        small, _, _ = self._map("small.jsonl", f"little.{form}")
        whole, seconds, _ = self._map("in.jsonl", f"whole.{form}")
        self._stage.say(f"undisturbed: {seconds:.0f} s, {whole} MB")
        peaks = self._disturbed(f"out.{form}", self._map("in.jsonl", f"again.{form}")[1])
        return {
            "rows": self._count(f"out.{form}"),
            "kills": len(peaks) - 1,
            "seed": self._arguments.seed,
            "equal": self._digest(f"out.{form}") == self._digest(f"whole.{form}"),
            "left": sorted(path.name for path in self._place.glob("out.*") if path.name != f"out.{form}"),
            "undisturbed_seconds": round(seconds, 1),
            "peak_mb": {f"{rows // 100} rows": small, f"{rows} rows": whole, "runs that were killed": peaks},
        }

    def _disturbed(self, output: str, seconds: float) -> list[float]:
        """Kills at moments of a run that takes so many `seconds`; the last run ends by itself."""
        peaks = []
        for _ in range(self._arguments.kills):
            after = _FLOOR_SECONDS + self._rng.random() * 1.6 * seconds / (self._arguments.kills + 1)
            peak, _, code = self._map("in.jsonl", output, after)
            if code == 0:
                return [*peaks, peak]
            peaks.append(peak)
            self._stage.say(f"killed after {after:.1f} s")
        return [*peaks, self._map("in.jsonl", output)[0]]

    def _map(self, source: str, output: str, kill_after: float | None = None) -> tuple[float, float, int]:
        """The peak of its memory in MB, its seconds and its exit code."""
        command = [sys.executable, "-m", "producer", "map", source, "-o", output, "--model", "m", "-q"]
        begun = time.monotonic()
        child = subprocess.Popen(command, cwd=self._place, env=environment(self._settings))
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(child.pid, signal.SIGKILL)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = code = os.waitstatus_to_exitcode(status)
        assert code == 0 or (kill_after is not None and code == -signal.SIGKILL), code
        return round(used.ru_maxrss / 1024, 1), time.monotonic() - begun, code

    def _write(self, name: str, rows: int) -> None:
        with (self._place / name).open("w") as file:
            file.writelines(f'{{"row":{n},"text":"row number {n}"}}\n' for n in range(rows))

    def _count(self, name: str) -> int:
        return sum(1 for _ in self._results(name))

    def _digest(self, name: str) -> str:
        """Of what must not depend on disturbances, whatever the order."""
        total = 0
        for text in self._results(name):
            total ^= int.from_bytes(hashlib.blake2b(text, digest_size=32).digest())
        return f"{total:064x}"

    def _results(self, name: str) -> Any:
        from rows.source import open_source

        for row in open_source(str(self._place / name)).rows():
            value: Any = row[1]
            yield json.dumps([value.get("index"), value["line"], value["result"]]).encode()


if __name__ == "__main__":
    sys.exit(main())
