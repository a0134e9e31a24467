"""Shows the progress of a job: a live line on a terminal, otherwise a plain line every few seconds; then a summary."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from parcelq.amounts import amount, duration
from parcelq.escaping import one_line

from parcelq_cli.source_map import map_line

if TYPE_CHECKING:
    from parcelq.local.progress import Progress
    from rich.text import Text

    from parcelq_cli.output import Output

_SECONDS_BETWEEN_LINES: Final = 5.0
_REFRESHES_PER_SECOND: Final = 8
_REASON_CHARACTERS: Final = 60
_BAR_CHARACTERS: Final = 20

Show = Callable[["Progress"], None]


def text_of(progress: Progress) -> str:
    """Return the progress line: percent (100 only if all is done), speed, time left, dead entries, newest reason."""
    parts = [f"{int(progress.share * 100):3} %", amount(progress.entries, "record")]
    if progress.entries_per_second:
        parts.append(f"{progress.entries_per_second:,.0f}/s")
    if progress.seconds_left is not None and progress.share < 1:
        parts.append(f"{duration(round(progress.seconds_left))} left")
    if progress.dead:
        reason = one_line(progress.reason.partition("\n")[0])[:_REASON_CHARACTERS].rstrip()
        parts.append(f"{progress.dead:,} dead" + (f" ({reason})" if reason else ""))
    return ", ".join(parts)


def summary_of(progress: Progress, seconds: float) -> str:
    """Return the summary that is shown at the end: the numbers of records and dead entries, the time and the speed."""
    took = f"{seconds:,.1f} s" if seconds < 60 else duration(round(seconds))
    parts = [f"{amount(progress.entries, 'record')} done in {took}"]
    if seconds > 0 and progress.entries:
        parts.append(f"{progress.entries / seconds:,.0f}/s")
    parts.append(f"{progress.dead:,} dead")
    return ", ".join(parts)


@contextmanager
def shown(output: Output, clock: Callable[[], float] = time.monotonic) -> Iterator[Show]:
    """Yield a Python function that shows the progress of a job. Print a summary when the context ends."""
    began = clock()
    last: Progress | None = None
    with _shown(output, clock) as show:

        def keep(progress: Progress) -> None:
            nonlocal last
            last = progress
            show(progress)

        yield keep
    if last is not None and (last.entries or last.dead):
        output.note(summary_of(last, last.seconds or clock() - began))


@contextmanager
def _shown(output: Output, clock: Callable[[], float]) -> Iterator[Show]:
    if output.quiet:
        yield lambda _progress: None
    elif output.stderr.is_terminal:
        from rich.live import Live

        # A transient line is removed at the end, so that the next output begins on a new line.
        with Live(console=output.stderr, transient=True, refresh_per_second=_REFRESHES_PER_SECOND) as live:
            yield lambda progress: live.update(_line(progress))
    else:
        due = clock() + _SECONDS_BETWEEN_LINES

        def show(progress: Progress) -> None:
            nonlocal due
            if clock() >= due:
                due = clock() + _SECONDS_BETWEEN_LINES
                output.note(f"{text_of(progress)} {map_line(progress.map)}".rstrip())

        yield show


def _line(progress: Progress) -> Text:
    from rich.text import Text

    done = int(progress.share * _BAR_CHARACTERS)
    bar = Text.assemble(("━" * done, "green"), ("━" * (_BAR_CHARACTERS - done), "bright_black"))
    line = Text.assemble(bar, " ", text_of(progress), no_wrap=True, overflow="ellipsis")
    return line.append("\n").append_text(map_line(progress.map)) if progress.map else line
