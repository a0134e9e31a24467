"""Whatever goes wrong at whichever call to AWS, the result is exact, and nothing is left behind."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import MISSING, dataclass, fields
from functools import partial
from itertools import chain, count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from crash_faults import EVERY_FAULT, Fault, Killed, killed_after, killed_before
from crash_world import KEY, Clients, World
from parcelq.errors import StepError
from parcelq.jobs.jobs import Jobs
from parcelq.lineage.lineage import Lineage
from parcelq.names import SEGMENTS
from parcelq.process.dead import KILLED
from parcelq.process.job_failures import JobFailures
from parcelq.steps.data import Given
from parcelq.steps.ran import Ran
from parcelq.steps.run import Runner
from parcelq.topics.attributes import LINEAGE, REASON
from parcelq.topics.sqs import SqsTopic
from parcelq_emulator.leftovers import end_processes_below
from parcelq_emulator.sqs_operations import ON_QUEUES

pytestmark = pytest.mark.filterwarnings(
    "ignore:No application metrics", "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)

BAD = b"bad delta\n"
LINES = [b"alpha\n", b"beta skip\n", b"gamma\n", b"epsilon\n", b"zeta\n", BAD, b"eta"]
WHOLE = b"".join(LINES)
RESULT = "results/molecules.smi"
PARTS = 4
"""So many tests share the calls of one kind of fault; the first takes calls 1, 5, 9, …"""
EVERY = "PARCELQ_THOROUGH" in os.environ
"""Whether each fault happens at every call, as `make thorough` has it; otherwise at those of one part.

Kinds beside each other, such as killed before and killed after, have parts beside each other, so that together they
strike everywhere.
"""
SPARED = {"killed before", "throttled", "unreachable three times"}
"""Faults that the second pipeline is spared, to save time: to AWS, before a call is just after the one before, and it
retries by the same code as the first."""


@dataclass(frozen=True)
class Home:
    """Where temporary files are made, and nowhere else."""

    folder: Path

    def left(self) -> list[Any]:
        """Temporary files, children and processes of steps that are still there."""
        left: list[Any] = sorted(self.folder.iterdir())
        with suppress(ChildProcessError):  # whatever a step leaves behind becomes a child of this process
            left.append(os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) or "a child that runs")
            left += end_processes_below(self.folder)  # which takes time where there are many others, so only then
        return left


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return Home(folder)


@pytest.fixture
def make_world(
    functions: Mapping[str, ModuleType], clients: Clients, monkeypatch: pytest.MonkeyPatch, home: Home
) -> Callable[..., World]:
    """Makes a new world, in the place of the one before."""
    drainer, processor = functions["downloader"].Drainer, functions["processor"].Processor

    def make(fault: Fault, **options: Any) -> World:
        world = World(functions, clients, fault, **options)
        monkeypatch.setattr(functions["downloader"], "Drainer", partial(drainer, receivers=1, clock=world.clock))
        for name in ("uploader", "downloader"):
            monkeypatch.setattr(functions[name], "Jobs", partial(Jobs, now=world.clock))
        monkeypatch.setattr(functions["processor"], "Processor", partial(processor, now=world.clock))
        monkeypatch.setattr(functions["processor"], "JobFailures", lambda store, _: JobFailures(store, world.clock))
        own = {"clock": world.clock, "sleep": world.clock.pass_by}
        defaults = {one.name: one.default for one in fields(SqsTopic) if one.default is not MISSING}
        assert own.keys() <= defaults.keys()
        monkeypatch.setattr(SqsTopic.__init__, "__defaults__", tuple({**defaults, **own}.values()))
        return world

    monkeypatch.setattr("parcelq.topics.deployed.sqs_client", lambda: clients.sqs)
    monkeypatch.setattr("parcelq.topics.deployed.s3_client", lambda: clients.s3)
    for function in functions.values():
        monkeypatch.setattr(function, "sqs_client", lambda: clients.sqs, raising=False)
        monkeypatch.setattr(function, "other_client", lambda _service: clients.events, raising=False)
    monkeypatch.setattr("parcelq.collect.drain.PULLED_TOGETHER", 10)  # more are asked for by many polls at once
    return make


@pytest.fixture(scope="session")
def serial(step_folder: Path) -> Callable[[bytes], bytes]:
    """What the step makes of lines, run over all of them at once."""

    def run(data: bytes) -> bytes:
        return subprocess.run([step_folder / "step" / "step"], input=data, check=True, capture_output=True).stdout

    return run


def shares(faults: Iterable[str]) -> list[tuple[str, int]]:
    """The faults that are tried, each with the parts of the calls that it happens at."""
    own = {fault: number % PARTS for number, fault in enumerate(EVERY_FAULT)}
    return [(fault, part) for fault in faults for part in range(PARTS) if EVERY or part == own[fault]]


def every_call(fault: str, part: int) -> Iterator[Fault]:
    """The faults at a part's share of the calls, until there are no more."""
    for at in count(part + 1, PARTS):
        one = EVERY_FAULT[fault]()
        one.at = at
        yield one
        if not one.struck:
            return


@contextmanager
def told(fault: Fault) -> Iterator[None]:
    """Have a failure name the fault that causes it."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"at call {fault.at} of {fault.seen}, {fault.told}: {error}") from error


def check_result(world: World, expected: bytes, dead: bytes = b"", reason: str = "") -> None:
    """The result lacks the dead line and nothing else, and all that is said of it is right."""
    data = world.object(KEY) or b""
    assert world.object(RESULT) == expected
    report = json.loads(world.object(RESULT + ".report.json") or b"{}")
    lines = data.count(b"\n") + (not data.endswith(b"\n"))
    place = {"start": data.index(dead), "end": data.index(dead) + len(dead), "entries": 1}
    assert [{**one, "reason": ""} for one in report["dead"]] == ([{**place, "reason": ""}] if dead else [])
    assert all(reason in one["reason"] for one in report["dead"])
    assert report["entries"] == {
        "read": lines,
        "done": lines - bool(dead),
        "dead": int(bool(dead)),
        "missing": 0,
        "written": expected.count(b"\n"),
    }
    assert (report["bytes_read"], report["bytes_written"]) == (len(data), len(expected))
    assert report["complete"] is not bool(dead)
    assert f">{report['state']}<".encode() in (world.object(RESULT + ".report.html") or b"")
    letters = world.letters()
    assert list(letters) == (["parcelq-step-dead-letter"] if dead else [])
    for letter in chain.from_iterable(letters.values()):
        assert letter.message().body == dead
        span = Lineage.parse(letter.attributes[LINEAGE]).span
        assert (span.start, span.end, span.total) == (place["start"], place["end"], len(data))
        assert reason in letter.attributes[REASON]
    # Where it is not known whether a dead letter was published, it is published again.
    assert sum(map(len, letters.values())) <= 1 + max(1, world.fault.hits)


def check_nothing_left(world: World, home: Home, *, dead: bool) -> None:
    """Nothing is under way any more, and what is kept is what is needed should the dead line come to life."""
    assert world.waiting() == {}
    folders = {key.split("/")[1] for key in world.keys(SEGMENTS)}
    assert folders == ({"parcelq-output", ".uploads"} if dead else set())
    assert world.open_uploads() <= may_be_abandoned(world.fault)
    world.end()  # instances that wait for more keep a process for it
    assert home.left() == []


def may_be_abandoned(fault: Fault) -> bool:
    """Whether nobody could abort the multipart upload of a result; the bucket's lifecycle rule does it then."""
    ended = fault.strike in (killed_before, killed_after) or fault.lasts == float("inf")
    # GetObject reads what the next part is made of, and PutObject puts the plan that names the upload.
    between = {"GetObject", "PutObject", "UploadPart", "CompleteMultipartUpload"}
    return fault.told == "CreateMultipartUpload" or (ended and fault.told in between)


def without(line: bytes, lines: list[bytes] = LINES) -> bytes:
    return b"".join(one for one in lines if one != line)


@pytest.mark.parametrize(("fault", "part"), shares(EVERY_FAULT))
def test_with_one_bad_line_and_a_fault_at_any_call_the_result_is_exact_and_nothing_is_left(
    make_world: Callable[..., World], home: Home, serial: Callable[[bytes], bytes], fault: str, part: int
) -> None:
    expected = serial(without(BAD))
    for one in every_call(fault, part):
        world = make_world(one)
        world.put(WHOLE)
        with told(one):
            world.run()
            check_result(world, expected, BAD, "no molecule: bad delta (step 'step' exited with 3)")
            check_nothing_left(world, home, dead=True)


@pytest.mark.parametrize(("fault", "part"), shares(fault for fault in EVERY_FAULT if fault not in SPARED))
def test_a_large_object_whose_event_comes_twice_has_an_exact_result_with_a_fault_at_any_call(
    make_world: Callable[..., World],
    home: Home,
    serial: Callable[[bytes], bytes],
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    part: int,
) -> None:
    """It is uploaded by ranges, and its result is written by parts; where an entry fails, it is listed only once."""
    data = without(BAD)
    expected = serial(data)
    monkeypatch.setenv("PARCELQ_RANGE_BYTES", str(len(data) // 2 + 1))
    sizes = {"collect.drain.PULLED_TOGETHER": 2, "collect.drain.SEGMENT_MESSAGES": 2, "store.store._PART_BYTES": 16}
    sizes |= {"collect.large.LARGE": 16, "collect.large.TASK_BYTES": 32}
    for name, value in sizes.items():
        monkeypatch.setattr(f"parcelq.{name}", value)
    for one in every_call(fault, part):
        world = make_world(one)
        # Told of again, it would be made good by that what an entry that failed left out.
        world.put(data, deliveries=1 if one.concerns else 2)
        with told(one):
            world.run()
            check_result(world, expected)
            check_nothing_left(world, home, dead=False)


def test_of_a_step_that_never_does_the_same_twice_the_result_has_one_run_or_the_other(
    make_world: Callable[..., World], home: Home, monkeypatch: pytest.MonkeyPatch, make_step: Callable[..., Path]
) -> None:
    """Of two runs over one line, each of several messages, the result has either the one or the other."""
    step = make_step('read -r line; for _ in 0 1 2 3 4 5 6 7 8 9; do printf "%s %010d\\n" "$line" $$; done')
    (step.parent / "settings.yaml").write_text("filter: true\n")
    for name, value in (("FOLDERS", step.parent), ("PATH", step.name)):
        monkeypatch.setenv(f"PARCELQ_STEP_{name}", str(value))
    monkeypatch.setenv("PARCELQ_SETTINGS_FILE", "settings.yaml")
    for one in chain.from_iterable(every_call(*share) for share in shares(["last entry fails to the end"])):
        world = make_world(one)
        world.put(b"line\n")
        with told(one):
            world.run()
            lines = (world.object(RESULT) or b"").splitlines()
            assert len(lines) == 10
            assert len(set(lines)) == 1
            check_nothing_left(world, home, dead=False)


@pytest.fixture
def deadly(monkeypatch: pytest.MonkeyPatch) -> Callable[[World, bytes], None]:
    """Lets a step take the function down as soon as it gets a line."""
    run_all = Runner.run_all

    def let(world: World, line: bytes) -> None:
        def run(runner: Runner, given: Sequence[Given], timeout: float | None = None) -> list[Ran | StepError]:
            if any(line in body for one in given for body in one.bodies):
                world.invocation.dead = True
                raise Killed
            return run_all(runner, given, timeout)

        monkeypatch.setattr(Runner, "run_all", run)

    return let


@pytest.mark.parametrize("number", range(1, 12))
def test_a_line_that_takes_the_function_down_dies_alone(
    make_world: Callable[..., World],
    home: Home,
    serial: Callable[[bytes], bytes],
    deadly: Callable[[World, bytes], None],
    number: int,
) -> None:
    """Even with others around it, each in a message of its own."""
    lines = [b"line %d\n" % one for one in range(1, 12)]
    line = lines[number - 1]
    world = make_world(Fault(killed_before))
    deadly(world, line)
    world.put(b"".join(lines))
    world.run()
    check_result(world, serial(without(line, lines)), line, KILLED)
    check_nothing_left(world, home, dead=True)


def test_a_message_that_sqs_itself_moves_to_the_dead_letters_is_healed_three_times_and_then_the_job_is_stopped(
    make_world: Callable[..., World], deadly: Callable[[World, bytes], None]
) -> None:
    """Which is the last net, on a topic that gives messages out so rarely that marks have no time to count."""
    world = make_world(Fault(killed_before), given_out=2)
    deadly(world, b"deadly")
    world.put(b"deadly\n")
    world.run()
    letters = world.letters()["parcelq-step-dead-letter"]
    assert [(one.message().body, REASON in one.attributes) for one in letters] == [(b"deadly\n", False)] * 4
    assert world.object(RESULT) is None
    report = json.loads(world.object(RESULT + ".report.json") or b"")
    assert (report["complete"], report["holes"], "healings" in report["problem"]) == (False, [[0, 7]], True)
    (told,) = world.told
    job = told["job"]
    assert (job["state"], job["healings"], job["holes"], told["complete"]) == ("stopped", 3, [[0, 7]], False)
    assert job["problem"] == "7 bytes of it are missing after 3 healings"


def test_a_message_that_is_lost_once_is_published_again_and_counted(
    make_world: Callable[..., World], home: Home, serial: Callable[[bytes], bytes]
) -> None:
    world = make_world(Fault(killed_before))
    world.put(without(BAD))
    while world.events:
        world.deliver_event(world.events.pop(0))
    (message, *_) = ON_QUEUES["ReceiveMessage"](world.queues["parcelq-step"], {})["Messages"]
    world.queues["parcelq-step"].delete(message["ReceiptHandle"])
    world.run()
    check_result(world, serial(without(BAD)))
    assert json.loads(world.object(RESULT + ".report.json") or b"")["healings"] == 1
    check_nothing_left(world, home, dead=False)
