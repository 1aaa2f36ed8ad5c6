"""`python -m producer serve` as a process."""

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.processes import ROOT, clean_environment
from tests.support.waiting import until

_ADDRESS = re.compile(r"serving (http://\S+)/analysis")


class Answered(NamedTuple):
    """What came back."""

    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class FrontProcess:
    """On a port of its own, with its log in `place`. A context manager."""

    def __init__(
        self, place: Path, broker_url: str, prefix: str, *arguments: str, ready: bool = True
    ) -> None:
        self._log = place / "front.log"
        with self._log.open("wb") as output:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "producer", "serve", "--port=0", *arguments],
                cwd=place,
                env={"PYTHONPATH": ROOT, **clean_environment(BROKER_URL=broker_url, PREFIX=prefix)},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.address = until(self._address, 30, "the address")
        if ready:
            until(lambda: self.get("/readyz").status == 200, 30, f"a ready front\n{self.said}")

    def _address(self) -> str:
        assert self.child.poll() is None, f"the front ended with {self.child.poll()}:\n{self.said}"
        found = _ADDRESS.search(self.said)
        return found[1] if found else ""

    @property
    def said(self) -> str:
        return self._log.read_text("utf-8", "replace")

    def get(self, path: str) -> Answered:
        return self._ask(urllib.request.Request(self.address + path))

    def post(self, payload: Any, path: str = "/analysis", **headers: str) -> Answered:
        """`payload` as JSON, or as it is where it is bytes; `headers` with underscores."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._ask(
            urllib.request.Request(
                self.address + path, body, {"content-type": "application/json", **named}, method="POST"
            )
        )

    def _ask(self, request: urllib.request.Request) -> Answered:
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Answered(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answered(error.code, error.headers, error.read())

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        if self.child.poll() is None:
            self.child.terminate()
        return self.child.wait(60)

    def __enter__(self) -> "FrontProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
