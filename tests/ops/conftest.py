"""A browser, and a server for the page that says what a test wants."""

from collections.abc import Iterator

import pytest

from tests.support import page_states as states
from tests.support.browser import Browser, missing, needs
from tests.support.page_stub import PageStub


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests; each opens a page of its own."""
    needs(missing())
    with Browser() as opened:
        yield opened


@pytest.fixture
def stub() -> Iterator[PageStub]:
    """A server for the page; its state is that of a fleet at work."""
    served = PageStub(states.working())
    yield served
    served.stop()
