"""Writes the sentence at the top of a page that describes the outcome of a source."""

from __future__ import annotations

from typing import NamedTuple

from parcelq.amounts import amount, listed, size
from parcelq.collect.report import Report


class Verdict(NamedTuple):
    """The outcome of a source.

    Attributes:
        kind: `whole`; `dead` if records failed; `missing` if records have no result; `doubtful` if all records were
            processed but counts show that the result may be wrong.
    """

    kind: str
    word: str
    sentence: str


def verdict(report: Report) -> Verdict:
    """Describe the outcome of a source, from the report alone."""
    entries = report.entries
    if report.complete and not entries.dead and not report.holes:
        if entries.read is None:
            return Verdict("whole", "Whole", "Every byte of the source is accounted for in the result.")
        if not entries.read:
            return Verdict("whole", "Whole", "The source has no records.")
        all_of = "The record is" if entries.read == 1 else f"All {amount(entries.read, 'record')} are"
        return Verdict("whole", "Whole", f"{all_of} in the result.")
    problems = []
    if report.holes:
        missing = sum(end - start for start, end in report.holes)
        verb = "is" if len(report.holes) == 1 else "are"
        problems.append(f"{amount(len(report.holes), 'part')} of the source ({size(missing)}) {verb} missing")
    if entries.dead is None:
        problems.append("some records failed")
    elif entries.dead:
        of = f" of {entries.read:,}" if entries.read is not None else ""
        problems.append(f"{entries.dead:,}{of} {'record' if entries.dead == 1 and not of else 'records'} failed")
    if report.doubts and not problems:
        all_of = "All records" if entries.read is None else f"All {amount(entries.read, 'record')}"
        return Verdict(
            "doubtful",
            "Doubtful",
            f"{all_of} went through the step, but the result may differ from what the step would write for the "
            "whole source.",
        )
    sentence = listed(problems or ["the result is not finished"])
    if report.problem:
        sentence = f"the job was stopped: {report.problem}; {sentence}"
    if entries.done is not None and not report.holes:
        rest = f"the other {entries.done:,} are" if entries.done != 1 else "the other one is"
        sentence += f"; {rest} in the result" if entries.done else "; none is in the result"
    return Verdict(
        "missing" if report.holes else "dead" if problems else "missing",
        "Not whole",
        sentence[0].upper() + sentence[1:] + ".",
    )
