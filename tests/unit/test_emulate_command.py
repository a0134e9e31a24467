"""`parcelq emulate`: how long it waits for results, and dead entries are shown as they are."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from parcelq.errors import SettingsError
from parcelq.topics.message import Message, Pulled
from parcelq.topics.overflow import Overflow
from parcelq_cli.output import Output
from parcelq_emulator.collecting import collect as collect_from
from parcelq_emulator.command import _steps, _summarise


class Stack:
    """A running stack: how many messages wait when it is asked, and the results that are there at the end."""

    def __init__(self, waiting: list[int], *reported: str, given_up: dict[str, str] | None = None) -> None:
        self.waits, self.refused = iter(waiting), given_up or {}
        self.results = SimpleNamespace(reported=lambda: frozenset(reported))

    def waiting(self) -> int:
        return next(self.waits)

    def given_up(self) -> dict[str, str]:
        return self.refused


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)


def collect(stack: Any, *names: str) -> frozenset[str]:
    return collect_from(stack, dict.fromkeys(names, 4), lambda *_: None)


@pytest.mark.parametrize("depends", ["inline metadata", "requirements.txt"])
def test_a_step_with_dependencies_is_refused_before_anything_runs(tmp_path: Path, depends: str) -> None:
    step = tmp_path / "step.py"
    metadata = '# /// script\n# dependencies = ["rdkit"]\n# ///\n' if depends == "inline metadata" else ""
    step.write_text(f"{metadata}import rdkit\n")
    if not metadata:
        (tmp_path / "requirements.txt").write_text("rdkit\n")
    with pytest.raises(SettingsError, match="it depends on packages, which the emulated functions do not have"):
        _steps([str(step)], [""], "", tmp_path)


def test_as_long_as_messages_wait_nothing_is_missing_for_good():
    assert collect(Stack([3, 1, 0], "a.txt"), "a.txt") == frozenset()


def test_a_file_without_a_result_when_nothing_waits_any_more_is_missing():
    assert collect(Stack([1, 0], "a.txt"), "a.txt", "b.txt") == {"b.txt"}


def test_a_file_that_failed_is_not_waited_for():
    stack = Stack([1, 1, 1], "b.txt", given_up={"a.txt": "broken"})
    assert collect(stack, "a.txt", "b.txt") == {"a.txt"}


def test_a_file_that_failed_does_not_end_the_waiting_for_others():
    stack = Stack([1, 1, 0], given_up={"a.txt": "broken"})
    assert collect(stack, "a.txt", "b.txt") == {"a.txt", "b.txt"}
    assert list(stack.waits) == []


def test_a_dead_entry_is_shown_as_it_is_whatever_it_travels_as(capsys: pytest.CaptureFixture[str]):
    letter = Pulled("id", "handle", 1, Message(b"nul \0\n", {"Reason": "why"}).wire())
    nowhere: Any = None
    _summarise(Output(), [], [letter], Overflow(nowhere, "bucket"), (), 1.0)
    assert capsys.readouterr().err.startswith(r"dead: 'nul \x00': why")
