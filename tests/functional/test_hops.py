"""Several runs of a step that go to it at once: each is a run by itself, and a failure is that of one of them alone."""

from __future__ import annotations

import contextlib
import os
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from parcelq.errors import StepError
from parcelq.process.apply import Route
from parcelq.process.processor import Processor
from parcelq.process.rules import Rules
from parcelq.steps.containment import HOP_SECONDS
from parcelq.steps.data import Given
from parcelq.steps.find import Step
from parcelq.steps.run import Runner
from parcelq.steps.settings import StepSettings
from parcelq.topics.attributes import FAILURES
from parcelq.topics.memory import MemoryTopic
from parcelq.topics.message import Message

HEAD = "import os, subprocess, sys, time\nfrom parcelq.step import reject, step\n"
TAIL = "\nif __name__ == '__main__':\n    run.main()\n"
LOUD = """
@step
def run(entries):
    for entry in entries:
        if entry == "bad":
            {0}
        yield f"{{entry.upper()}} {{os.getpid()}}"
"""
Make = Callable[..., Runner]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where all temporary folders go; every test leaves it empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def make(make_step: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes runners whose runs all go to the step at once, however slow the machine is."""
    monkeypatch.setattr(Runner, "together", 16)
    with contextlib.ExitStack() as runners:

        def made(function: str, **more: object) -> Runner:
            path = make_step(HEAD + textwrap.dedent(function) + TAIL, "step.py")
            return runners.enter_context(contextlib.closing(Runner(Step(path, StepSettings(**more)))))

        yield made


def results(runner: Runner, *bodies: bytes) -> list[str]:
    """Run a step over bodies at once, and those that did not begin again, and return what came of each in order."""
    found: list[str] = []
    while len(found) < len(bodies):
        for ran in runner.run_all([Given([body]) for body in bodies[len(found) :]], 60):
            if isinstance(ran, StepError):
                found.append(str(ran))
            else:
                with ran.held:
                    found.append(ran.output.read_bytes().decode())
    return found


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("how", ["raise ValueError('why')", "os._exit(3)", "os.kill(os.getpid(), 9)"])
def test_a_run_that_fails_among_others_fails_alone(make: Make, how: str, warm: bool) -> None:
    found = results(make(LOUD.format(how), warm=warm), b"a\n", b"b\n", b"bad\n", b"c\n", b"d\n")
    assert [one.split()[0] for one in found[:2] + found[3:]] == ["A", "B", "C", "D"]
    assert "exited with" in found[2] or "was ended by SIGKILL" in found[2]


def test_runs_that_succeed_share_one_process_and_one_request(make: Make) -> None:
    runner = make(LOUD.format("pass"))
    results(runner, b"first\n")
    ran = runner.run_all([Given([b"%d\n" % number]) for number in range(4)], 60)
    outputs = [one.output.read_bytes().split() for one in ran]
    assert [one[0] for one in outputs] == [b"0", b"1", b"2", b"3"][: len(outputs)]
    assert len({one[1] for one in outputs}) == 1


def test_files_that_one_run_leaves_are_gone_for_the_next(make: Make) -> None:
    runner = make(
        "@step\ndef run(entries):\n    list(entries)\n"
        "    yield str(os.listdir()) + str(os.listdir(os.environ['TMPDIR']))\n"
        "    open('left', 'w').close()\n    os.makedirs(os.environ['TMPDIR'] + '/left')\n"
    )
    assert results(runner, b"a\n", b"b\n", b"c\n") == ["[][]\n"] * 3


def test_processes_that_one_run_starts_end_before_the_next_begins(make: Make) -> None:
    runner = make(
        "@step\ndef run(entries):\n    for entry in entries:\n        if entry != 'start':\n"
        "            yield str(os.path.exists('/proc/' + entry))\n            return\n"
        "        yield str(subprocess.Popen(['sleep', '600'], start_new_session=True).pid)\n"
    )
    (pid, other) = results(runner, b"start\n", b"start\n")
    assert results(runner, pid.encode(), other.encode()) == ["False\n"] * 2
    assert not any(os.path.exists(f"/proc/{one.strip()}") for one in (pid, other))


def test_each_run_has_its_own_rejects_and_its_own_printed_text(make: Make) -> None:
    runner = make(
        "@step(each=True)\ndef run(entry):\n    print(entry)\n"
        "    return reject(entry, 'no') if entry == 'x' else entry\n"
    )
    given = [Given([body], 2) for body in (b"a\nx\n", b"b\nc\n", b"x\nd\n")]
    ran = []
    while len(ran) < len(given):
        ran += runner.run_all(given[len(ran) :], 60)
    assert [one.output.read_bytes() for one in ran] == [b"a\n", b"b\nc\n", b"d\n"]
    assert [[reject.entry for reject in one.rejects] for one in ran] == [[1], [], [0]]
    assert [one.printed for one in ran] == ["a\nx\n", "b\nc\n", "x\nd\n"]


def test_a_large_output_among_small_ones_is_whole(make: Make) -> None:
    runner = make(
        "@step\ndef run(entries):\n    for entry in entries:\n        yield entry * (6 << 20 if entry == 'x' else 1)\n"
    )
    bodies = b"a\n", b"x\n", b"b\n", b"x\n"
    assert [len(one) for one in results(runner, *bodies)] == [2, (6 << 20) + 1] * 2
    assert results(runner, *bodies[:3:2]) == ["a\n", "b\n"]


def test_an_output_above_the_limit_fails_alone_even_after_others(make: Make) -> None:
    runner = make(
        "@step\ndef run(entries):\n    for entry in entries:\n        yield entry * 900\n", max_output_bytes=1000
    )
    assert [len(one) for one in results(runner, b"a\n", b"b\n")] == [901, 901]
    found = results(runner, b"a\n", b"bb\n", b"c\n")
    assert "wrote more than 1000 bytes" in found[1]
    assert [len(found[0]), len(found[2])] == [901, 901]


@pytest.mark.parametrize("name", ["output", "rejects"])
@pytest.mark.parametrize("instead", ["", "; open({0}, 'w').write('x' * 99)", "; os.symlink('/etc/passwd', {0})"])
def test_a_run_that_takes_the_file_of_outputs_away_costs_no_other_its_output(
    make: Make, name: str, instead: str
) -> None:
    path = f"os.environ['PARCELQ_RUN'] + '/{name}'"
    runner = make(LOUD.format(f"os.remove({path}){instead.format(path)}"))
    found = [one.split()[0] for one in results(runner, b"a\n", b"bad\n", b"c\n", b"d\n")]
    assert found[0::2] + found[3:] == ["A", "C", "D"]
    assert found[1] in {"BAD", "step"}  # that run has its output, or fails


def test_no_run_begins_when_those_before_it_took_too_long(make: Make) -> None:
    runner = make(f"@step\ndef run(entries):\n    time.sleep({HOP_SECONDS})\n    yield from entries\n")
    results(runner, b"first\n")
    (ran,) = runner.run_all([Given([b"a\n"]), Given([b"b\n"])], 60)
    assert ran.output.read_bytes() == b"a\n"


@pytest.mark.parametrize("warm", [True, False])
def test_a_message_that_fails_in_a_hop_is_the_only_one_with_a_failure(make: Make, warm: bool) -> None:
    runner = make(LOUD.format("os._exit(3)"), warm=warm)
    topics = {name: MemoryTopic(name) for name in ("in", "following", "dead", "output")}
    topics["in"].publish([Message(one, {}) for one in (b"a\n", b"bad\n", b"c\n", b"d\n")])
    route = Route(topics["in"], topics["following"], topics["dead"], topics["output"])
    rules = Rules(batch_size=1, parcel_size=1, back_off_seconds=0)
    with contextlib.closing(Processor(route, runner.step, rules, workers=1, together=16)) as processor:
        outcome = processor.handle(topics["in"].pull(4, 4, 0), acknowledges=True)
    assert (len(outcome.done), len(outcome.ended), outcome.failed) == (4, 3, [])
    published = [one.message() for one in topics["following"].pull(3, 10, 0)]
    assert [one.body.split()[0] for one in published] == [b"A", b"C", b"D"]
    again = [one.message() for one in topics["in"].pull(1, 10, 0)]
    assert [(one.body, one.attributes[FAILURES]) for one in again] == [(b"bad\n", "1")]


def test_runs_that_could_not_go_to_the_step_together_go_alone_and_the_log_says_why(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runner, run_all = make(LOUD.format("pass")), Runner.run_all

    def refuse(own: Runner, given: list[Given], timeout: float | None = None) -> list[object]:
        if len(given) > 1:
            raise RuntimeError("no two at once")
        return run_all(own, given, timeout)  # type: ignore[return-value]

    monkeypatch.setattr(Runner, "run_all", refuse)
    topics = {name: MemoryTopic(name) for name in ("in", "following", "dead", "output")}
    topics["in"].publish([Message(one, {}) for one in (b"a\n", b"b\n", b"c\n")])
    route = Route(topics["in"], topics["following"], topics["dead"], topics["output"])
    rules = Rules(batch_size=1, parcel_size=1, back_off_seconds=0)
    with contextlib.closing(Processor(route, runner.step, rules, workers=1, together=16)) as processor:
        outcome = processor.handle(topics["in"].pull(3, 3, 0), acknowledges=True)
    assert (len(outcome.ended), outcome.failed) == (3, [])
    (logged,) = [one for one in caplog.records if one.message.startswith("groups could not run together")]
    assert "no two at once" in str(logged.exc_info)
