"""The line that shows how far a job is, on a terminal and elsewhere, and the summary."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from parcelq.local.progress import Progress, WorkMeter
from parcelq_cli.live import shown, summary_of, text_of
from parcelq_cli.output import Output
from rich.console import Console


def at(share: float, entries: int = 0, rate: float = 0.0, left: float | None = None, dead: int = 0, reason: str = ""):
    return Progress(share, entries, rate, left, dead, reason)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def printed(steps: Iterator[tuple[float, Progress]], *, terminal: bool, quiet: bool = False) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=100, soft_wrap=True, color_system=None)
    clock = Clock()
    output = Output(quiet=quiet)
    output.stderr = console
    with shown(output, clock) as show:
        for clock.now, progress in steps:
            show(progress)
    return text.getvalue()


def test_the_line_has_percent_entries_speed_time_left_and_the_newest_reason() -> None:
    text = text_of(at(0.4251, 1500, 310.4, 75.2, 3, "ValueError: bad SMILES 'x'\n  step.py, line 3"))
    assert text == " 42 %, 1,500 records, 310/s, 1 min 15 s left, 3 dead (ValueError: bad SMILES 'x')"


def test_the_line_of_progress_leaves_out_what_is_not_known() -> None:
    assert text_of(at(0.0)) == "  0 %, 0 records"


def test_a_hundred_percent_are_shown_only_when_all_is_done() -> None:
    assert text_of(at(0.9999, 1)).startswith(" 99 %")
    assert text_of(at(1.0, 1, 5.0, 0.0)) == "100 %, 1 record, 5/s"


def test_the_line_of_progress_shows_no_reason_that_could_change_the_terminal() -> None:
    assert "\x1b" not in text_of(at(0.5, 1, dead=1, reason="\x1b[2J"))


def test_without_a_terminal_there_is_a_plain_line_every_few_seconds() -> None:
    steps = ((float(second), at(second / 20, second * 10)) for second in range(21))
    lines = printed(steps, terminal=False).splitlines()
    assert [line.partition(" %")[0].strip() for line in lines[:-1]] == ["25", "50", "75", "100"]
    assert lines[-1] == "200 records done in 20.0 s, 10/s, 0 dead"


def test_a_short_job_prints_only_its_summary() -> None:
    assert printed(iter([(0.5, at(1.0, 10))]), terminal=False) == "10 records done in 0.5 s, 20/s, 0 dead\n"


def test_with_the_option_quiet_no_progress_is_shown() -> None:
    assert printed(iter([(9.0, at(1.0, 10))]), terminal=False, quiet=True) == ""


def test_a_terminal_shows_an_empty_bar_at_the_beginning_and_the_summary_begins_a_line() -> None:
    text = printed(iter([(0.0, at(0.0)), (1.0, at(0.5, 5)), (2.0, at(1.0, 10, dead=1))]), terminal=True)
    assert "  0 %, 0 records" in text or "100 %" in text  # the line is drawn a few times a second
    before, summary = text.rsplit("10 records done in", 1)
    assert before.endswith(("\x1b[2K", "\r", "\n", "\x1b[?25h"))
    assert summary == " 2.0 s, 5/s, 1 dead\n"


@pytest.mark.parametrize(("seconds", "said"), [(0.0, "0.0 s"), (61, "1 min 01 s"), (3700, "1 h 01 min")])
def test_the_summary_says_how_long_it_took(seconds: float, said: str) -> None:
    assert f" in {said}" in summary_of(at(1.0, 10), seconds)


def test_the_number_of_entries_that_are_done_never_goes_down() -> None:
    clock = Clock()
    meter = WorkMeter({"source": 100}, clock=clock)
    shares = []
    for done in (10, 50, -30, 20, 200, -5):
        clock.now += 1
        meter.add(done, 1)
        shares.append(meter.now().share)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
