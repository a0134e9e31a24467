"""A step that fails on everything is distinguished from data in which much is bad."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest
from parcelq.errors import StepError
from parcelq.lineage.lineage import Lineage, Span
from parcelq.process.broken import BrokenStep, FirstFailures
from parcelq.process.plan import Work
from parcelq.process.runs import Run
from parcelq.steps.data import HeldOutput
from parcelq.steps.ran import Ran
from parcelq.steps.rejects import Reject
from parcelq.topics.attributes import ENTRIES, FAILURES, LINEAGE, SOURCE
from parcelq.topics.message import Message, Pulled

ERROR = StepError("step", "exited with 1", exit_code=1, stderr_tail="no module 'x'\n")


def work(start: int, entries: int, *, source: str = "s", failures: int = 0) -> Work:
    """A message with entries of two bytes."""
    body = b"x\n" * entries
    attributes = {SOURCE: source, LINEAGE: str(Lineage(Span(start, start + len(body), None))), ENTRIES: str(entries)}
    message = Message(body, attributes | ({FAILURES: str(failures)} if failures else {}))
    return Work.of(Pulled("id", "receipt", 1, message), message)


class Step:
    """A step that succeeds only with some single entries, which the bytes before them in the source identify."""

    def __init__(self, good: Collection[int] = ()) -> None:
        self.good = good
        self.alone: list[int] = []
        self.first = FirstFailures()

    def run_alone(self, _work: Work, samples: Sequence[Work]) -> list[Run]:
        starts = [one.lineage.span.start for one in samples if one.lineage]
        self.alone += starts
        return [succeeded(one) if at in self.good else failed(one) for one, at in zip(samples, starts, strict=True)]

    def stops(self, run: Run) -> str:
        return self.first.stops(run, self.run_alone) if self.first.is_suspicious(run) else ""


def failed(*group: Work) -> Run:
    return Run(group, group[0].lineage, error=ERROR)


def succeeded(*group: Work, rejects: int = 0) -> Run:
    bad = tuple(Reject(number, None, "bad") for number in range(rejects))
    return Run(group, group[0].lineage, ran=Ran(HeldOutput(b""), bad))


def test_a_step_is_broken_if_the_first_middle_and_last_entries_of_three_messages_fail_alone_too() -> None:
    step = Step()
    assert [step.stops(failed(work(at, 10))) for at in (0, 20)] == ["", ""]
    assert step.stops(failed(work(40, 10))) == (
        "the step failed in each of 9 runs with a single record, so it is broken: "
        "no module 'x' (step 'step' exited with 1)"
    )
    assert step.alone == [0, 10, 18, 20, 30, 38, 40, 50, 58]
    assert isinstance(step.first.verdict, BrokenStep)
    assert step.first.verdict.reason.splitlines()[1] == "no module 'x'"


def test_a_step_works_if_one_single_entry_succeeds_however_many_messages_fail_later() -> None:
    step = Step(good=[30])
    assert [step.stops(failed(work(20 * number, 10))) for number in range(20)] == [""] * 20
    assert step.first.verdict is None
    assert step.alone == [0, 10, 18, 20, 30, 38]


def test_a_step_works_if_the_run_of_a_whole_message_succeeded() -> None:
    step = Step()
    assert not step.first.is_suspicious(succeeded(work(0, 10), rejects=9))
    assert [step.stops(failed(work(20 * number, 10))) for number in range(1, 20)] == [""] * 19
    assert step.alone == []


def test_a_step_that_rejects_every_entry_is_broken_without_further_runs() -> None:
    step = Step()
    reasons = [step.stops(succeeded(work(20 * number, 10), rejects=10)) for number in range(3)]
    assert reasons[2].endswith("so it is broken: bad")
    assert step.alone == []


def test_after_the_conclusion_no_more_entries_are_run_alone() -> None:
    step = Step()
    reasons = [step.stops(failed(work(20 * number, 10))) for number in range(9)]
    assert len(set(reasons[2:])) == 1
    assert len(step.alone) == 9


def test_messages_that_failed_together_are_not_suspicious_before_each_ran_alone() -> None:
    assert not Step().first.is_suspicious(failed(work(0, 10), work(20, 10)))


def test_one_message_that_fails_again_is_not_enough_but_its_halves_are() -> None:
    step = Step()
    assert [step.stops(failed(work(0, 5, failures=number))) for number in range(4)] == [""] * 4
    assert step.stops(failed(work(0, 2, failures=1))) == ""
    assert step.stops(failed(work(4, 3, failures=1))).startswith("the step failed in each of 5 runs")


@pytest.mark.parametrize("entries", [1, 2, 5])
def test_small_files_show_together_that_a_step_is_broken(entries: int) -> None:
    step = Step()
    reasons = [step.stops(failed(work(0, entries, source=f"file {number}"))) for number in range(3)]
    assert [bool(one) for one in reasons] == [False, False, True]


def test_a_step_is_not_called_broken_if_no_entry_could_be_run_alone() -> None:
    first = FirstFailures()
    assert [first.stops(failed(work(20 * number, 10)), lambda *_: []) for number in range(9)] == [""] * 9


def test_a_message_whose_attribute_names_entries_that_its_body_lacks_has_no_samples() -> None:
    message = Message(b"", {SOURCE: "s", LINEAGE: str(Lineage(Span(0, 2, None))), ENTRIES: "1"})
    step = Step()
    assert step.stops(failed(Work.of(Pulled("id", "receipt", 1, message), message))) == ""
    assert step.alone == []
