"""Lua scripts that the cache's server runs in one step; the files are beside this module."""

from collections.abc import Sequence
from functools import cached_property
from hashlib import sha1
from importlib.resources import files

Argument = str | bytes | int | float


class Script:
    """One script. The server knows it by its digest, once it has been loaded."""

    def __init__(self, name: str) -> None:
        self._name = name

    @cached_property
    def source(self) -> bytes:
        """Its text."""
        return files("worker").joinpath(f"{self._name}.lua").read_bytes()

    @cached_property
    def _digest(self) -> str:
        return sha1(self.source, usedforsecurity=False).hexdigest()

    def call(self, keys: Sequence[str], arguments: Sequence[Argument]) -> tuple[Argument, ...]:
        """The command that runs it."""
        return ("EVALSHA", self._digest, len(keys), *keys, *arguments)
