"""The line that shows how far a job is: live on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rich.text import Text

from parcelq_cli.output import amount

if TYPE_CHECKING:
    from parcelq.local.progress import Progress

    from parcelq_cli.output import Output

_SECONDS_BETWEEN_LINES: Final = 5.0
_REASON_CHARACTERS: Final = 60
_BAR_CHARACTERS: Final = 20

Show = Callable[["Progress"], None]


def text_of(progress: Progress) -> str:
    """Return the line: percent, entries a second, time left, dead entries and the newest reason."""
    parts = [f"{progress.share:4.0%}", f"{amount(progress.entries, 'entry')}"]
    if progress.entries_per_second:
        parts.append(f"{progress.entries_per_second:,.0f}/s")
    if progress.seconds_left is not None:
        parts.append(f"{_duration(progress.seconds_left)} left")
    if progress.dead:
        reason = " ".join(progress.reason.split())[:_REASON_CHARACTERS]
        parts.append(f"{progress.dead:,} dead" + (f" ({reason})" if reason else ""))
    return ", ".join(parts)


@contextmanager
def shown(output: Output, clock: Callable[[], float] = time.monotonic) -> Iterator[Show]:
    """Give a function that shows a job's progress. What it shows never goes backwards."""
    if output.quiet:
        yield lambda _progress: None
    elif output.stderr.is_terminal:
        from rich.live import Live

        with Live(console=output.stderr, transient=True, refresh_per_second=8) as live:
            yield lambda progress: live.update(_line(progress))
    else:
        due = clock() + _SECONDS_BETWEEN_LINES

        def show(progress: Progress) -> None:
            nonlocal due
            if clock() >= due:
                due = clock() + _SECONDS_BETWEEN_LINES
                output.note(text_of(progress))

        yield show


def _line(progress: Progress) -> Text:
    done = int(progress.share * _BAR_CHARACTERS)
    bar = Text.assemble(("━" * done, "green"), ("━" * (_BAR_CHARACTERS - done), "bright_black"))
    return Text.assemble(bar, " ", text_of(progress), no_wrap=True, overflow="ellipsis")


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
