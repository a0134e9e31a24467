"""`parcelq emulate`: collecting is tried again, but not for ever; and dead entries are shown as they are."""

from __future__ import annotations

from itertools import repeat
from types import SimpleNamespace
from typing import Any

import pytest
from parcelq.topics.message import Message, Pulled
from parcelq.topics.overflow import Overflow
from parcelq_cli.output import Output
from parcelq_emulator.command import _collect, _summarise
from parcelq_emulator.function import DIED, InvocationError

SOURCE = "s3://bucket/inbox/a.txt?etag=e&put=1"
ANSWER = {
    "drained": {"messages": 1},
    "finished": [{"source": SOURCE, "dead": 0, "covered": 4}],
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

    pipeline: Any = SimpleNamespace(collect=next_one, waiting=lambda: 0, uncollected=lambda: 0)
    return _collect(pipeline, {"a.txt": 4}, lambda *_: None)


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

    def collect(self, quiet_seconds: float) -> dict[str, Any]:
        self.asked.append(quiet_seconds)
        return next(self.answers)

    def waiting(self) -> int:
        return 0

    uncollected = waiting

    def repair(self) -> int:
        self.repairs += 1
        return self.repairs % 2


NOTHING: dict[str, Any] = {"drained": {"messages": 0}, "finished": [], "waiting": []}


def test_what_is_missing_is_published_again_only_after_a_longer_look():
    pipeline: Any = Quiet(NOTHING, NOTHING, ANSWER)
    assert _collect(pipeline, {"a.txt": 4}, lambda *_: None) == (1, set())
    assert pipeline.asked[0] < pipeline.asked[1]
    assert pipeline.repairs == 1


def test_what_cannot_be_published_again_is_missing():
    pipeline: Any = Quiet(*repeat(NOTHING, 9))
    assert _collect(pipeline, {"a.txt": 4}, lambda *_: None) == (0, {"a.txt"})
    assert pipeline.repairs == 2


def test_nothing_is_collected_while_the_step_takes_its_time(monkeypatch: pytest.MonkeyPatch):
    waiting, slept = iter([1, 1, 1, 1, 0]), []
    monkeypatch.setattr("time.sleep", slept.append)
    answers = iter([NOTHING, ANSWER])
    pipeline: Any = SimpleNamespace(
        collect=lambda _: next(answers), waiting=lambda: next(waiting), uncollected=lambda: 0
    )
    assert _collect(pipeline, {"a.txt": 4}, lambda *_: None) == (1, set())
    assert len(slept) == 3


def test_a_dead_entry_is_shown_as_it_is_whatever_it_travels_as(capsys: pytest.CaptureFixture[str]):
    letter = Pulled("id", "handle", 1, Message(b"nul \0\n", {"Reason": "why"}).wire())
    nowhere: Any = None
    _summarise(Output(), [], [letter], Overflow(nowhere, "bucket"), set(), 0, 1.0)
    assert capsys.readouterr().err.startswith(r"dead: 'nul \x00': why")
