"""What is said of a run, and when."""

import io

import pytest

from producer.lines import refusal
from producer.progress import Progress, Tally
from wire.reply import Reply


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def hit() -> Reply:
    return Reply("a", "ok", 1, None, "hit", "m", "1", "k", 1.0, 2.0)


def failed(kind: str, message: str) -> Reply:
    error = {"kind": kind, "message": message, "retryable": False, "attempts": 1}
    return Reply("a", "error", None, error, "failed", "m", "1", None, None, None)


def test_the_counts_add_up_to_the_rows() -> None:
    """Only outcomes that occurred, and no claim of total recall where a row failed."""
    clock = Clock()
    tally = Tally(clock)
    for reply in [hit(), hit(), hit(), failed("model_timeout", "late")]:
        tally.add(reply)
    clock.now = 2.0
    said = "\n".join(tally.summary())
    assert "3 hit · 1 failed = 4 rows   hit 75.00%" in said
    assert "2.0 s, 2 rows/s" in said
    assert "miss" not in said
    assert "TOTAL RECALL" not in said


def test_total_recall() -> None:
    """When every row was a hit; not for no rows at all."""
    tally = Tally()
    assert "TOTAL RECALL" not in "\n".join(tally.summary())
    tally.add(hit())
    assert tally.summary()[-1].startswith(">>> TOTAL RECALL")


def test_errors_that_differ_in_a_number_are_one_group() -> None:
    """Most common first; a line number must not make a group of each line."""
    tally = Tally()
    tally.add(failed("model_timeout", "no answer"))
    for number in range(30):
        tally.add(refusal(f"line {number} is not JSON", number))
    first, second = tally.errors_shown()
    assert "30 invalid_request: such as line 0 is not JSON" in first
    assert "1 model_timeout: no answer" in second


def test_millions_of_different_errors_are_not_all_kept() -> None:
    """The groups are bounded, the lines shown too, and the counts still add up."""
    tally = Tally()
    for number in range(3000):
        text = "".join(chr(ord("a") + int(digit)) for digit in str(number))
        tally.add(failed("model_rejected", text))
    assert len(tally.errors) <= 1001
    assert sum(tally.errors.values()) == tally.failed == 3000
    assert len(tally.errors_shown()) <= 6


@pytest.mark.parametrize("error", [None, "text", 5, {}])
def test_an_error_of_another_shape_is_counted(error: object) -> None:
    """Whatever a worker of another make puts there."""
    tally = Tally()
    tally.add(Reply(None, "error", None, error, "failed", None, None, None, None, None))  # type: ignore[arg-type]
    assert tally.failed == 1
    assert tally.summary()


def test_lines_where_no_person_looks() -> None:
    """One every ten seconds, with what is left to do; nothing before."""
    clock, stream = Clock(), io.StringIO()
    tally = Tally(clock)
    progress = Progress(stream, tally, 4, clock=clock)
    tally.add(hit())
    progress.show()
    assert stream.getvalue() == ""
    clock.now = 10.0
    progress.show()
    progress.show()
    assert stream.getvalue() == "map rows=1/4 rate=0/s hit=1.000 failed=0 eta_s=30\n"


def test_silence_is_explained_once() -> None:
    """After five seconds without any reply: the command that would help."""
    clock, stream = Clock(), io.StringIO()
    progress = Progress(stream, Tally(clock), None, clock=clock)
    progress.show()
    clock.now = 5.0
    progress.show()
    progress.show()
    assert stream.getvalue().count("python -m worker run") == 1


def test_a_bar_only_on_a_terminal_that_can_draw_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """TERM=dumb gets lines; a terminal gets a bar without colour where NO_COLOR is set."""
    monkeypatch.setenv("TERM", "dumb")
    dumb = Terminal()
    Progress(dumb, Tally(), 1).close()
    assert dumb.getvalue() == ""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    terminal, tally = Terminal(), Tally()
    progress = Progress(terminal, tally, 1)
    tally.add(hit())
    progress.close()
    assert "hit 100.0%" in terminal.getvalue()
    assert "\x1b[3" not in terminal.getvalue()
