"""A circuit breaker: stop asking what does not answer, and find out with one probe when it does again."""

from collections.abc import Callable


class Breaker:
    """Closed until `failures` in a row; then open for `seconds`; then one probe decides.

    After Nygard, "Release It!", 2007. Belongs to one thread. `on_change` is told `True` when it opens and
    `False` when it closes: once per change, however many failures there are.
    """

    def __init__(
        self,
        failures: int,
        seconds: float,
        clock: Callable[[], float],
        on_change: Callable[[bool], None],
    ) -> None:
        self._failures, self._seconds, self._clock, self._on_change = failures, seconds, clock, on_change
        self._in_a_row = 0
        self._probe_at: float | None = None
        self._opened_at = 0.0

    @property
    def open_seconds(self) -> float:
        """How long it has been open; 0 where it is closed."""
        return 0.0 if self._probe_at is None else self._clock() - self._opened_at

    @property
    def is_open(self) -> bool:
        """Whether it has opened and no probe has succeeded since."""
        return self._probe_at is not None

    @property
    def is_due(self) -> bool:
        """Whether `allows` would say yes."""
        return self._probe_at is None or self._clock() >= self._probe_at

    def allows(self) -> bool:
        """Whether to try now. True once per `seconds` while open: that try is the probe."""
        if not self.is_due:
            return False
        if self._probe_at is not None:
            self._probe_at = self._clock() + self._seconds
        return True

    def succeeded(self) -> None:
        """A try went well."""
        self._in_a_row = 0
        if self._probe_at is not None:
            self._probe_at = None
            self._on_change(False)

    def failed(self) -> None:
        """A try did not."""
        self._in_a_row += 1
        if self._probe_at is not None:
            self._probe_at = self._clock() + self._seconds
        elif self._in_a_row >= self._failures:
            self._opened_at = self._clock()
            self._probe_at = self._opened_at + self._seconds
            self._on_change(True)
