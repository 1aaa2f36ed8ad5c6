"""A model that is a Python callable: `python:package.module:callable`, payload in, result out."""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from wire.errors import TransientError
from worker.model import ModelError, Rejection, TransientFailure, result_from_python, results_from_python


class PythonTarget:
    """A callable in this process. `warm` imports it, and calls its `warm()` where it has one.

    It gets the payload alone: no traceparent, which would be an argument that it did not ask for.
    """

    def __init__(self, path: str, *, max_bytes: int) -> None:
        self._path, self._max_bytes = path, max_bytes
        self._function: Callable[[Any], Any] | None = None

    def warm(self) -> None:
        """Raises ValueError that names what could not be loaded."""
        self._function = load(self._path)
        warm = getattr(self._function, "warm", None)
        if callable(warm):
            warm()

    def call(self, payload: bytes, traceparent: str | None = None) -> bytes:  # noqa: ARG002
        """See worker.model.Target."""
        return result_from_python(self._value(orjson.loads(payload)), self._max_bytes)

    def call_batch(
        self,
        payloads: Sequence[bytes],
        traceparent: str | None = None,  # noqa: ARG002
    ) -> list[bytes | ModelError]:
        """See worker.model.Target. The callable gets a list and returns one."""
        values = self._value([orjson.loads(payload) for payload in payloads])
        return results_from_python(values, len(payloads), self._max_bytes)

    def _value(self, argument: Any) -> Any:
        if self._function is None:
            raise TransientFailure("model is not loaded yet")
        try:
            return self._function(argument)
        except TransientError as error:
            raise TransientFailure(f"model failed: {error}", "transient", error.retry_after) from None
        except ModelError:
            raise
        except Exception as error:
            raise Rejection(f"model raised {type(error).__name__}: {error}") from error


def load(path: str) -> Callable[[Any], Any]:
    """The callable at `package.module:callable`. Raises ValueError that names what is missing."""
    module_name, _, name = path.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise ValueError(f"python:{path} cannot be loaded: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ValueError(f"python:{path} is {type(found).__name__}; expected something that can be called")  # noqa: TRY004 - a setting's value
    return found  # type: ignore[no-any-return]
