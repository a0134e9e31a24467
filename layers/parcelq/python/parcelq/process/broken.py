"""Distinguishes a broken step from bad data if the first runs of a job all fail. Pure: the caller runs the step.

Bad entries become dead entries one by one. A step that cannot work at all would make every entry of a job dead. So if
the first messages of a job all fail, a few of their entries are run alone. If all of these entries fail, the step is
broken.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice, zip_longest
from typing import Final, NamedTuple

from parcelq.records import LINES, Format, cut_bytes

MOST_SAMPLES: Final = 8
"""How many single entries are run alone, at most."""
LEAST_MESSAGES: Final = 3
"""The single entries come from at least this many messages."""


class BrokenStep(NamedTuple):
    """The conclusion that a step fails on every input.

    Attributes:
        reason: why the last of the sampled entries failed; the first line is a summary.
        entries: how many single entries were run.
    """

    reason: str
    entries: int

    def __str__(self) -> str:
        first = next(iter(self.reason.splitlines()), "")
        return f"the step failed in each of {self.entries} runs with a single record, so it is broken: {first}"


class FirstRuns(NamedTuple):
    """The outcomes of the first runs of a job. Start with `FirstRuns()`, and add every run with `after` until `is_over`
    is true.

    Attributes:
        failed: the bodies of the messages that failed.
        format: the record format of the failed messages.
        works: whether a run succeeded. If so, the step is not broken, even if later runs fail.
        sampled: whether sampled entries have already been run alone.
    """

    failed: tuple[bytes, ...] = ()
    format: Format = LINES
    works: bool = False
    sampled: bool = False

    def after(self, body: bytes, *, succeeded: bool) -> FirstRuns:
        """Add the outcome of a run of the message with this body, and return all outcomes."""
        if succeeded or self.is_over:
            return self._replace(works=self.works or succeeded, failed=())
        return self._replace(failed=(*self.failed, body))

    @property
    def is_over(self) -> bool:
        """Whether later runs cannot change whether the step counts as broken."""
        return self.works or self.sampled

    @property
    def are_suspicious(self) -> bool:
        """Whether enough runs failed and no run succeeded. If so, pass the outcomes of `samples` to `judged`."""
        return not self.is_over and len(self.failed) >= LEAST_MESSAGES

    def samples(self) -> list[bytes]:
        """Return single entries to run alone, the same number from each message."""
        return sample(self.failed, self.format)

    def judged(self, failures: Sequence[str | None]) -> tuple[FirstRuns, BrokenStep | None]:
        """Return the outcomes after the runs of the samples; and a `BrokenStep` if all samples failed, otherwise None.

        Args:
            failures: for each sample that was run, the reason why the sample failed, or None if it succeeded.
        """
        reasons = [failure for failure in failures if failure is not None]
        works = len(reasons) < len(failures)
        verdict = BrokenStep(reasons[-1], len(reasons)) if reasons and not works else None
        return self._replace(works=works, sampled=True, failed=()), verdict


def sample(bodies: Iterable[bytes], fmt: Format = LINES, most: int = MOST_SAMPLES) -> list[bytes]:
    """Return single entries of messages: the first entry of each message, then the second of each, and so on."""
    entries = ((parcel.data for parcel in cut_bytes(body, fmt, 1, 1)) for body in bodies)
    rounds = zip_longest(*(islice(one, most) for one in entries))
    return list(islice((entry for one in rounds for entry in one if entry is not None), most))
