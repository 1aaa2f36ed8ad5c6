"""Drives Chromium for tests.support.browser: a JSON command a line on standard input, an answer a line.

Runs in an environment that has playwright, and needs nothing of this repository.
"""

import json
import os
import sys
from typing import Any

from playwright.sync_api import BrowserContext, Error, Page, sync_playwright


class Driver:
    """One page at a time, in a context of its own; `open` begins another."""

    def __init__(self, browser: Any) -> None:
        self._browser = browser
        self._context: BrowserContext | None = None
        self._page: Page | None = None
        self._said: list[str] = []
        self._hosts: set[str] = set()

    def open(self, url: str, width: int, height: int, scheme: str, script: str, stopped: bool) -> None:
        if self._context:
            self._context.close()
        self._said, self._hosts = [], set()
        self._context = self._browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, timezone_id="America/New_York"
        )
        page = self._page = self._context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda said: self._said.append(f"{said.type}: {said.text}"))
        page.on("pageerror", lambda error: self._said.append(f"error: {error}"))
        page.on("dialog", lambda box: (self._said.append(f"dialog: {box.message}"), box.dismiss()))
        page.on(
            "request", lambda asked: self._hosts.add(asked.url.split("/")[2] if "//" in asked.url else "data")
        )
        if script:
            page.add_init_script(script)
        if stopped:
            page.clock.install(time="2025-11-28T14:00:00Z")
        page.goto(url)
        if stopped:
            page.clock.pause_at("2025-11-28T15:00:00Z")

    def page(self, method: str, arguments: list[Any], named: dict[str, Any]) -> Any:
        return getattr(self._page, method)(*arguments, **named)

    def pass_seconds(self, seconds: float) -> None:
        assert self._page
        self._page.clock.run_for(int(seconds * 1000))

    def reload(self) -> None:
        assert self._page
        self._page.reload()

    def press(self, key: str) -> None:
        assert self._page
        self._page.keyboard.press(key)

    def said(self) -> list[str]:
        return self._said

    def hosts(self) -> list[str]:
        return sorted(self._hosts)


def main() -> None:
    arguments = ["--disable-gpu", "--force-color-profile=srgb"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=sys.argv[1], args=arguments)
        driver = Driver(browser)
        for line in sys.stdin:
            command, given = json.loads(line)
            try:
                answer = {"ok": getattr(driver, command)(**given)}
            except Error as error:
                answer = {"error": str(error)}
            print(json.dumps(answer, default=lambda _: None), flush=True)
        browser.close()


if __name__ == "__main__":
    main()
