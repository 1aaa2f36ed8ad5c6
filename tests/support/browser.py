"""A real browser for tests: Debian's Chromium, driven from the environment that has playwright."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import until

_TOOLS = Path(__file__).parents[2] / ".tools/venv/bin/python"
_DRIVER = Path(__file__).with_name("browser_driver.py")


def missing() -> str:
    """What this machine lacks for a browser; empty where there is one."""
    if not shutil.which("chromium"):
        return "there is no chromium on this machine"
    if not _TOOLS.exists():
        return "there is no .tools/venv (make .tools/venv/.stamp)"
    return ""


def needs(lack: str) -> None:
    """Skip for what this machine lacks; with CI=true that is a failure."""
    if lack and os.environ.get("CI") == "true":
        pytest.fail(lack)
    if lack:
        pytest.skip(lack)


class Browser:
    """One tab. Calls raise AssertionError where the browser refuses."""

    def __init__(self) -> None:
        chromium = shutil.which("chromium")
        assert chromium
        self._child = subprocess.Popen(
            [str(_TOOLS), str(_DRIVER), chromium],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        assert self._child.stdin
        assert self._child.stdout
        self._child.stdin.close()
        self._child.wait(30)
        self._child.stdout.close()

    def open(
        self,
        url: str,
        width: int = 1280,
        height: int = 900,
        scheme: str = "light",
        script: str = "",
        stopped: bool = False,
    ) -> None:
        """Go there in a fresh profile; `script` runs before the page's own.

        Where the clock is `stopped`, the page's time passes only by `pass_seconds`.
        """
        self._ask("open", url=url, width=width, height=height, scheme=scheme, script=script, stopped=stopped)

    def pass_seconds(self, seconds: float) -> None:
        """Let the page's timers believe that it is so much later."""
        self._ask("pass_seconds", seconds=seconds)

    def reload(self) -> None:
        self._ask("reload")

    def run(self, script: str, argument: Any = None) -> Any:
        """What the JavaScript expression or function gives."""
        return self._page("evaluate", script, argument)

    def click(self, selector: str) -> None:
        self._page("click", selector)

    def fill(self, selector: str, text: str) -> None:
        self._page("fill", selector, text)

    def choose(self, selector: str, value: str) -> None:
        self._page("select_option", selector, value)

    def hover(self, selector: str) -> None:
        self._page("hover", selector)

    def resize(self, width: int, height: int) -> None:
        self._page("set_viewport_size", {"width": width, "height": height})

    def press(self, key: str) -> None:
        self._ask("press", key=key)

    def picture(self, path: Path, **how: Any) -> None:
        self._page("screenshot", path=str(path), **how)

    def said(self) -> list[str]:
        """What the console and broken scripts said."""
        return list(self._ask("said"))

    def hosts(self) -> list[str]:
        """Whom the page asked for anything."""
        return list(self._ask("hosts"))

    def text(self, selector: str) -> str:
        """The text that is seen there; empty where it is hidden."""
        script = (
            "s => { const n = document.querySelector(s); return n && n.checkVisibility() ? n.innerText : '' }"
        )
        return str(self.run(script, selector))

    def until_text(self, selector: str, wanted: str, seconds: float = 20) -> str:
        """Wait until what is seen there has these words."""
        return until(
            lambda: (seen := self.text(selector)) if wanted in self.text(selector) else "",
            seconds,
            f"{wanted!r} in {selector}",
        )

    def _page(self, method: str, *arguments: Any, **named: Any) -> Any:
        return self._ask("page", method=method, arguments=arguments, named=named)

    def _ask(self, command: str, **given: Any) -> Any:
        assert self._child.stdin
        assert self._child.stdout
        self._child.stdin.write(f"{json.dumps([command, given])}\n")
        self._child.stdin.flush()
        answer = self._child.stdout.readline()
        assert answer, f"the browser ended with {self._child.poll()}"
        found = json.loads(answer)
        assert "error" not in found, found["error"]
        return found["ok"]
