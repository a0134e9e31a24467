"""`parcelq emulate`: collecting is tried again, but not for ever; and dead entries are shown as they are."""

from __future__ import annotations

from itertools import repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from parcelq.errors import SettingsError
from parcelq.topics.message import Message, Pulled
from parcelq.topics.overflow import Overflow
from parcelq_cli.output import Output
from parcelq_emulator.collecting import Collected
from parcelq_emulator.collecting import collect as collect_from
from parcelq_emulator.command import _steps, _summarise
from parcelq_emulator.function import DIED, InvocationError

WRITTEN = SimpleNamespace(reports=lambda: {"a.txt": {"dead": []}})
ANSWER = {
    "drained": {"messages": 1},
    "finished_count": 1,
    "waiting": [],
}


def collect(*answers: Any) -> tuple[int, set[str]]:
    """What comes of a file, if the downloader answers, or fails, in turn like that."""
    waiting = iter(answers)

    def next_one(_quiet_seconds: float) -> Any:
        answer = next(waiting)
        if isinstance(answer, Exception):
            raise answer
        return answer

    pipeline: Any = SimpleNamespace(
        collect=next_one, waiting=lambda: 0, uncollected=lambda: 0, results=WRITTEN, given_up=dict
    )
    collected = collect_from(pipeline, {"a.txt": 4}, lambda *_: None)
    return collected.messages, set(collected.missing)


@pytest.mark.parametrize("depends", ["inline metadata", "requirements.txt"])
def test_a_step_with_dependencies_is_refused_before_anything_runs(tmp_path: Path, depends: str) -> None:
    step = tmp_path / "step.py"
    metadata = '# /// script\n# dependencies = ["rdkit"]\n# ///\n' if depends == "inline metadata" else ""
    step.write_text(f"{metadata}import rdkit\n")
    if not metadata:
        (tmp_path / "requirements.txt").write_text("rdkit\n")
    with pytest.raises(SettingsError, match="it depends on packages, which the functions here do not have"):
        _steps([str(step)], [""], "", tmp_path)


def test_a_downloader_that_keeps_dying_is_started_again():
    assert collect(*repeat(InvocationError("downloader", DIED, "killed"), 50), ANSWER) == (1, set())


def test_one_that_fails_a_few_times_is_tried_again():
    assert collect(*repeat(InvocationError("downloader", "AwsError", "busy"), 4), ANSWER) == (1, set())


def test_one_that_always_fails_is_an_error_that_says_why():
    with pytest.raises(InvocationError, match="is no segment"):
        collect(*repeat(InvocationError("downloader", "ParcelqError", "x is no segment"), 50))


class Quiet:
    """A pipeline in which nothing is left to do; counts what is asked of it."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers, self.asked, self.repairs = iter(answers), [], 0
        self.written: dict[str, Any] = {}
        self.results = SimpleNamespace(reports=lambda: self.written)

    def collect(self, quiet_seconds: float) -> dict[str, Any]:
        self.asked.append(quiet_seconds)
        answer = next(self.answers)
        if answer["finished_count"]:
            self.written = {"a.txt": {"dead": []}}
        return answer

    def given_up(self) -> dict[str, str]:
        return {}

    def waiting(self) -> int:
        return 0

    uncollected = waiting

    def repair(self) -> int:
        self.repairs += 1
        return self.repairs % 2


NOTHING: dict[str, Any] = {"drained": {"messages": 0}, "finished_count": 0, "waiting": []}


def test_what_is_missing_is_published_again_only_after_a_longer_look():
    pipeline: Any = Quiet(NOTHING, NOTHING, ANSWER)
    assert collect_from(pipeline, {"a.txt": 4}, lambda *_: None).missing == set()
    assert pipeline.asked[0] < pipeline.asked[1]
    assert pipeline.repairs == 1


def test_what_cannot_be_published_again_is_missing():
    pipeline: Any = Quiet(*repeat(NOTHING, 9))
    assert collect_from(pipeline, {"a.txt": 4}, lambda *_: None).missing == {"a.txt"}
    assert pipeline.repairs == 2


def test_nothing_is_collected_while_the_step_takes_its_time(monkeypatch: pytest.MonkeyPatch):
    waiting, slept = iter([1, 1, 1, 1, 0]), []
    monkeypatch.setattr("time.sleep", slept.append)
    answers = iter([NOTHING, ANSWER])
    pipeline: Any = SimpleNamespace(
        collect=lambda _: next(answers),
        waiting=lambda: next(waiting),
        uncollected=lambda: 0,
        results=WRITTEN,
        given_up=dict,
    )
    assert collect_from(pipeline, {"a.txt": 4}, lambda *_: None).missing == set()
    assert len(slept) == 3


def test_a_dead_entry_is_shown_as_it_is_whatever_it_travels_as(capsys: pytest.CaptureFixture[str]):
    letter = Pulled("id", "handle", 1, Message(b"nul \0\n", {"Reason": "why"}).wire())
    nowhere: Any = None
    _summarise(Output(), [], [letter], Overflow(nowhere, "bucket"), Collected(0, frozenset(), 0), 1.0)
    assert capsys.readouterr().err.startswith(r"dead: 'nul \x00': why")


def test_a_file_that_failed_is_not_waited_for():
    pipeline: Any = SimpleNamespace(given_up=lambda: {"a.txt": "broken"})
    assert collect_from(pipeline, {"a.txt": 4}, lambda *_: None).missing == {"a.txt"}


def test_hundreds_of_files_are_found_finished_whatever_the_answer_lists():
    names = [f"{number}.txt" for number in range(300)]
    results = SimpleNamespace(reports=lambda: {name: {"dead": []} for name in names})
    answer = {"drained": {"messages": 300}, "finished_count": 300, "waiting": []}
    pipeline: Any = SimpleNamespace(
        collect=lambda _: answer, waiting=lambda: 0, uncollected=lambda: 0, results=results, given_up=dict
    )
    assert collect_from(pipeline, dict.fromkeys(names, 1), lambda *_: None) == Collected(300, frozenset(), 0)
