"""A shell with the settings of a rig. Its commands run in this process, which is quicker."""

import io
import json
import os
from typing import Any, NamedTuple

import pytest

import producer.__main__
import worker.__main__
from tests.support.rig import Rig

_MAIN = {"worker": worker.__main__.main, "producer": producer.__main__.main}


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


class Shell:
    """`run` takes what stands behind `python -m`."""

    def __init__(self, rig: Rig, patch: pytest.MonkeyPatch, output: pytest.CaptureFixture[str]) -> None:
        self.rig, self._patch, self._output = rig, patch, output

    def run(self, program: str, *arguments: str, stdin: bytes = b"", **settings: str) -> Done:
        with self._patch.context() as patch:
            for name in [name for name in os.environ if name.startswith("RECOLLECT_")]:
                patch.delenv(name)
            for name, value in {**self.rig.settings, **settings}.items():
                patch.setenv(f"RECOLLECT_{name}", value)
            patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
            try:
                code = _MAIN[program](arguments)
            except SystemExit as ended:
                code = int(ended.code or 0)
        return Done(code, *self._output.readouterr())

    def json(self, *arguments: str, code: int = 0, **settings: str) -> Any:
        """What a command of the worker says, which must go well, or end with that code."""
        done = self.run("worker", *arguments, **settings)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)
