"""Warm steps, as real processes: what is kept from run to run, what is not, and what ends them."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parcelq.errors import StepError
from parcelq.steps.containment import marked
from parcelq.steps.find import Step
from parcelq.steps.processes import TAIL_BYTES
from parcelq.steps.run import Runner
from parcelq.steps.settings import StepSettings, read_settings
from step_runs import run_step

HEAD = "import os, sys, time, signal, subprocess\nfrom parcelq.step import step\n"
TAIL = "\nif __name__ == '__main__':\n    run.main()\n"
UPPER = "@step\ndef run(entries):\n    for entry in entries:\n        yield entry.upper()\n"
PID = "@step\ndef run(entries):\n    yield str(os.getpid())\n"
SLEEP = "@step\ndef run(entries):\n    time.sleep(600)\n"
FAILS_ON_BAD = """
@step
def run(entries):
    for entry in entries:
        if entry == "bad":
            {0}
        yield str(os.getpid())
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where all temporary folders go; every test leaves it empty, and none of the processes that had theirs there."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def write(make_step):
    """Writes the file of a step around a function."""
    return lambda function: make_step(HEAD + textwrap.dedent(function) + TAIL, "step.py")


@pytest.fixture
def warm(write):
    """Makes runners of warm steps around a function."""
    with contextlib.ExitStack() as runners:

        def make(function: str, **more: object) -> Runner:
            runner = Runner(Step(write(function), StepSettings(warm=True, **more), "wf-1"))
            runners.callback(runner.close)
            return runner

        yield make


def output_of(runner: Runner, *bodies: bytes, timeout: float | None = 60) -> bytes:
    with runner.run(bodies, timeout) as output:
        return output.output.read_bytes()


def failure_of(runner: Runner, *bodies: bytes, timeout: float | None = 60) -> StepError:
    with pytest.raises(StepError) as caught, runner.run(bodies, timeout):
        pass
    return caught.value


def only_failure_of(step: Step) -> StepError:
    with contextlib.closing(Runner(step)) as runner:
        return failure_of(runner)


def is_gone(pid: int) -> bool:
    until = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        time.sleep(0.01)
    return not Path(f"/proc/{pid}").exists()


class TestKept:
    def test_one_warm_process_serves_run_after_run(self, warm):
        runner = warm(PID)
        assert len({output_of(runner) for _ in range(5)}) == 1

    def test_a_warm_process_keeps_what_it_has_in_memory(self, warm):
        runner = warm("count = 0\n@step\ndef run(entries):\n    global count\n    count += 1\n    yield str(count)\n")
        assert [output_of(runner) for _ in range(3)] == [b"1\n", b"2\n", b"3\n"]

    def test_there_are_as_many_warm_processes_as_runs_go_on_at_once(self, warm):
        runner = warm("@step\ndef run(entries):\n    time.sleep(0.3)\n    yield str(os.getpid())\n")
        with ThreadPoolExecutor(3) as threads:
            told = list(threads.map(lambda _: output_of(runner), range(9)))
        assert len(set(told)) == 3

    def test_a_step_that_is_not_warm_gets_a_process_a_run(self, write):
        runner = Runner(Step(write(PID), StepSettings(warm=False), "wf-1"))
        with contextlib.closing(runner):
            assert output_of(runner) != output_of(runner)

    def test_a_warm_process_lives_on_when_the_thread_that_started_it_ends(self, warm):
        runner = warm(PID)
        with ThreadPoolExecutor(1) as threads:
            first = threads.submit(output_of, runner).result()
        assert output_of(runner) == first

    def test_text_that_a_warm_run_prints_is_given_and_is_not_that_of_another_run(self, warm):
        runner = warm(
            "@step\ndef run(entries):\n    for one in entries:\n        print('saw', one)\n        yield one\n"
        )
        for word in ("first", "second"):
            with runner.run([word.encode()]) as ran:
                assert (ran.stdout_tail, ran.output.read_bytes().decode()) == (f"saw {word}\n", f"{word}\n")

    def test_closing_a_runner_ends_its_warm_process_and_all_that_it_started(self, warm, folder):
        runner = warm("helper = subprocess.Popen(['sleep', '600'])\n" + PID)
        pid = int(output_of(runner))
        (home,) = [one for one in folder.iterdir() if marked(str(one))]
        assert len(marked(str(home))) == 2
        runner.close()
        assert is_gone(pid)
        assert marked(str(home)) == []

    def test_a_warm_process_survives_being_frozen_between_runs(self, warm):
        runner = warm(PID)
        pid = int(output_of(runner))
        os.kill(pid, signal.SIGSTOP)
        os.kill(pid, signal.SIGCONT)
        assert int(output_of(runner, timeout=30)) == pid

    def test_time_between_runs_does_not_count_for_the_timeout(self, warm, monkeypatch):
        runner = warm(PID, timeout=30)
        pid = output_of(runner)
        hours = time.monotonic() + 7 * 3600
        monkeypatch.setattr("parcelq.steps.run.time.monotonic", lambda: hours)
        assert output_of(runner) == pid

    def test_a_warm_process_that_died_between_runs_is_no_failure_of_a_run(self, warm):
        runner = warm(PID)
        pid = int(output_of(runner))
        os.kill(pid, signal.SIGKILL)
        assert is_gone(pid)
        assert int(output_of(runner)) != pid


class TestEntriesAndBytes:
    @pytest.mark.parametrize(
        ("given_bytes", "expected"),
        [
            (b"", b""),
            (b"a\nb\n", b"A\nB\n"),
            (b"a\n\nb", b"A\n\nB\n"),
            (b"a\r\nb\x0cc\x85\n", b"A\r\nB\x0cC\x85\n"),
            ("ü\u2028ß\n".encode(), "Ü\u2028SS\n".encode()),
            (b"\xff\xfe\x00\n", b"\xff\xfe\x00\n"),
        ],
    )
    def test_a_warm_function_gets_lines_without_their_end(self, warm, given_bytes, expected):
        assert output_of(warm(UPPER), given_bytes) == expected

    def test_a_warm_function_may_return_a_list(self, warm):
        assert output_of(warm("@step\ndef run(entries):\n    return sorted(entries)\n"), b"b\na\n") == b"a\nb\n"

    def test_a_raw_warm_function_turns_bytes_into_bytes(self, warm):
        runner = warm("@step(raw=True)\ndef run(data):\n    return data[::-1]\n")
        assert output_of(runner, b"a\xff\n", b"b\0") == b"\0b\n\xffa"

    def test_a_warm_function_gives_any_bytes_back_as_they_are(self, warm):
        entries = warm("@step\ndef run(entries):\n    return entries\n")

        @given(st.binary())
        @settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
        def check(data: bytes) -> None:
            ended = data if not data or data.endswith(b"\n") else data + b"\n"
            assert output_of(entries, data) == ended

        check()

    def test_a_warm_function_takes_and_gives_megabytes(self, warm):
        runner = warm("@step\ndef run(entries):\n    for entry in entries:\n        yield entry\n        yield entry\n")
        lines = [b"%d %s\n" % (number, b"x" * 100) for number in range(300_000)]
        assert output_of(runner, *lines) == b"".join(line + line for line in lines)

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            ("return None", "TypeError: run must return or yield entries, not NoneType"),
            ("return 'text'", "TypeError: run must return or yield entries, not str"),
            ("return {'a': 1}", "TypeError: run must return or yield entries, not dict"),
            ("return [b'x']", "TypeError: an entry must be a str, but b'x' is a bytes"),
            ("yield 'x\\n'", r"ValueError: an entry is one line without its line end, but 'x\n' has one"),
        ],
    )
    def test_a_warm_function_that_returns_no_entries_fails_and_says_so(self, warm, body, reason):
        assert failure_of(warm(f"@step\ndef run(entries):\n    {body}\n")).stderr_tail.strip() == reason

    def test_a_raw_function_that_returns_no_bytes_fails_and_says_so(self, warm):
        error = failure_of(warm("@step(raw=True)\ndef run(data):\n    return 'x'\n"))
        assert error.stderr_tail == "TypeError: run must return bytes, not str\n"


class TestWhatItMayAskFor:
    @pytest.fixture
    def told(self, write, tmp_path):
        def run(signature: str, body: str, times: int = 1) -> list[bytes]:
            path = tmp_path / "settings.yaml"
            path.write_text("warm: true\nstep: {own: [1, 2]}\n")
            runner = Runner(Step(write(f"@step\ndef run({signature}):\n    {body}\n"), read_settings(path), "wf-1"))
            with contextlib.closing(runner):
                return [output_of(runner) for _ in range(times)]

        return run

    def test_a_warm_function_may_ask_for_its_settings_and_the_workflow(self, told):
        assert told("entries, settings, workflow_id", "yield f'{settings} {workflow_id}'") == [
            b"{'own': [1, 2]} wf-1\n"
        ]
        assert told("entries, *, workflow_id", "yield workflow_id") == [b"wf-1\n"]

    def test_a_warm_function_that_changes_its_settings_changes_nothing_for_the_next_run(self, told):
        assert told("entries, settings", "yield str(settings.pop('own'))", times=2) == [b"[1, 2]\n"] * 2

    def test_a_warm_function_without_a_settings_file_gets_no_settings(self, warm):
        assert output_of(warm("@step\ndef run(entries, settings):\n    yield str(settings)\n")) == b"None\n"


class TestEachRunByItself:
    def test_each_warm_run_has_an_empty_folder_that_is_removed_after_it(self, warm, folder):
        runner = warm(
            """
            @step
            def run(entries):
                import tempfile
                yield str(os.listdir())
                yield str(os.listdir(tempfile.gettempdir()))
                yield os.getcwd()
                open("left", "w").close()
                tempfile.mkstemp()
                os.chdir("/")
                tempfile.tempdir = "/nowhere"
            """
        )
        told = [output_of(runner).decode().splitlines() for _ in range(2)]
        assert [one[:2] for one in told] == [["[]", "[]"]] * 2
        assert told[0][2] != told[1][2]
        assert len(list(folder.iterdir())) == 1  # the process's own

    def test_each_warm_run_begins_with_the_same_environment(self, warm):
        runner = warm(
            """
            @step
            def run(entries):
                yield f"{os.environ.get('LEFT')} {'PATH' in os.environ} {os.environ['LEVEL']}"
                os.environ["LEFT"] = os.environ["LEVEL"] = "changed"
                del os.environ["PATH"]
            """,
            environment={"LEVEL": "3"},
        )
        assert [output_of(runner) for _ in range(2)] == [b"None True 3\n"] * 2

    def test_a_tmpdir_in_the_settings_goes_before_that_of_the_run(self, warm, tmp_path):
        runner = warm(
            "@step\ndef run(entries):\n    yield os.environ['TMPDIR']\n", environment={"TMPDIR": str(tmp_path)}
        )
        assert [output_of(runner) for _ in range(2)] == [f"{tmp_path}\n".encode()] * 2

    def test_a_warm_function_gets_credentials_only_when_it_asks_for_them(self, warm, monkeypatch):
        monkeypatch.setenv("PARCELQ_BUCKET", "hidden")
        function = "import json\n@step\ndef run(entries):\n    yield json.dumps(dict(os.environ))\n"
        told = json.loads(output_of(warm(function)))
        assert not [name for name in told if name.startswith("AWS_") or name == "PARCELQ_BUCKET"]
        assert "AWS_SECRET_ACCESS_KEY" in json.loads(output_of(warm(function, aws_credentials=True)))

    def test_text_that_a_warm_run_prints_belongs_to_that_run(self, warm):
        runner = warm(
            """
            import threading

            @step
            def run(entries):
                name, *_ = entries
                print("printed by", name, file=sys.stderr)
                if name == "late":
                    threading.Timer(0.2, lambda: os.write(2, b"printed late\\n")).start()
                if name == "third":
                    sys.exit(3)
                return []
            """
        )
        assert output_of(runner, b"first\n") == output_of(runner, b"late\n") == b""
        time.sleep(0.5)
        assert failure_of(runner, b"third\n").stderr_tail == "printed by third\n"

    def test_a_warm_function_may_print_and_read_stdin_without_harm(self, warm):
        runner = warm(
            """
            @step
            def run(entries):
                print('{"input": 1}')
                os.write(1, b"free\\n")
                subprocess.run(["echo", "free"])
                yield repr(sys.stdin.read())
                yield from entries
            """
        )
        assert [output_of(runner, b"a\n") for _ in range(2)] == [b"''\na\n"] * 2

    def test_processes_that_a_warm_function_starts_do_not_get_its_descriptors(self, warm):
        runner = warm(
            "@step\ndef run(entries):\n"
            "    yield subprocess.run('ls /proc/self/fd | wc -l', shell=True, close_fds=False, text=True,"
            " stdout=subprocess.PIPE).stdout.strip()\n"
        )
        assert int(output_of(runner)) <= 5  # the standard three, the end of the lifeline, and the one that lists them


class TestFailure:
    def assert_fails_alone(self, runner: Runner, **expected: object) -> StepError:
        """The bad run fails, the ones before and after it do not, and they are of different processes."""
        before = output_of(runner, b"good\n")
        error = failure_of(runner, b"good\nbad\n", timeout=expected.pop("timeout", 60))
        after = output_of(runner, b"good\n")
        assert before != after
        assert is_gone(int(before))
        assert {name: getattr(error, name) for name in expected} == expected
        return error

    def test_an_exception_of_a_warm_function_is_shown_without_frames_of_parcelq(self, warm):
        error = self.assert_fails_alone(warm(FAILS_ON_BAD.format("raise ValueError(f'no good: {entry}')")), exit_code=1)
        lines = error.stderr_tail.splitlines()
        assert lines[0] == "ValueError: no good: bad"
        assert lines[1] == "Traceback (most recent call last):"
        assert error.stderr_tail.count("File ") == 1
        assert "step.py" in lines[2]
        assert "in run" in lines[2]

    def test_the_end_of_a_deep_traceback_and_both_ends_of_a_long_exception_are_shown(self, warm):
        function = """
        def deep(depth):
            if depth == 0:
                raise ValueError("begins " + "x" * 1_000_000 + " ends")
            deep(depth - 1) if depth % 2 else deep(depth - 1)

        @step
        def run(entries):
            deep(100)
        """
        error = failure_of(warm(function))
        first = error.stderr_tail.splitlines()[0]
        assert first.startswith("ValueError: begins x")
        assert first.endswith("x ends")
        assert len(error.stderr_tail.encode()) < TAIL_BYTES

    def test_the_cause_of_an_exception_is_shown_too(self, warm):
        function = FAILS_ON_BAD.format(
            "\n            ".join(["try: int(entry)", "except ValueError as e: raise KeyError('k') from e"])
        )
        tail = failure_of(warm(function), b"bad\n").stderr_tail
        assert "invalid literal" in tail
        assert tail.startswith("KeyError: 'k'\n")
        assert "parcelq/step.py" not in tail

    @pytest.mark.parametrize(
        ("statement", "code", "tail"),
        [
            ("sys.exit(3)", 3, ""),
            ("sys.exit('why')", 1, "why\n"),
            ("sys.exit()", 1, "sys.exit() was called before the step had finished\n"),
            ("os._exit(4)", 4, ""),
            ("os._exit(0)", 0, ""),
        ],
    )
    def test_a_warm_function_that_exits_fails_whatever_the_code(self, warm, statement, code, tail):
        self.assert_fails_alone(warm(FAILS_ON_BAD.format(statement)), exit_code=code, stderr_tail=tail)

    @pytest.mark.parametrize("name", ["SIGSEGV", "SIGKILL", "SIGTERM"])
    def test_a_warm_process_that_a_signal_ends_fails_with_the_name_of_the_signal(self, warm, name):
        function = FAILS_ON_BAD.format(f"os.kill(os.getpid(), signal.{name})")
        self.assert_fails_alone(warm(function), reason=f"was ended by {name}")

    def test_memory_that_is_touched_wrongly_is_a_segmentation_fault(self, warm):
        function = FAILS_ON_BAD.format("import ctypes; ctypes.string_at(0)")
        self.assert_fails_alone(warm(function), reason="was ended by SIGSEGV")

    def test_a_warm_function_that_hangs_is_killed_with_all_that_it_started(self, warm, tmp_path):
        pids = tmp_path / "pids"
        statement = f"subprocess.run('sleep 600 & echo $! > {pids}; wait', shell=True)"
        error = self.assert_fails_alone(warm(FAILS_ON_BAD.format(statement)), timeout=1, timed_out=True)
        assert error.reason == "timed out after 1 s and was killed"
        assert is_gone(int(pids.read_text()))

    def test_the_timeout_of_a_warm_step_counts_where_it_is_shorter(self, warm):
        assert "after 0.5 s" in failure_of(warm(SLEEP, timeout=0.5), timeout=60).reason

    def test_threads_that_a_warm_function_leaves_running_do_not_delay_it(self, warm):
        statement = "import threading; threading.Thread(target=time.sleep, args=(600,)).start(); raise KeyError('k')"
        self.assert_fails_alone(warm(FAILS_ON_BAD.format(statement)), exit_code=1)

    @pytest.mark.parametrize("then", ["", "time.sleep(600)"])
    def test_a_warm_function_that_closes_all_descriptors_fails_its_run(self, warm, then):
        self.assert_fails_alone(warm(FAILS_ON_BAD.format(f"os.closerange(0, 256); {then}")))

    def test_a_warm_function_that_closes_stderr_succeeds_and_gets_a_new_process(self, warm):
        runner = warm("@step\ndef run(entries):\n    os.close(2)\n    yield str(os.getpid())\n")
        assert output_of(runner) != output_of(runner)

    def test_gigabytes_that_a_warm_function_prints_neither_block_nor_fill_memory(self, warm):
        statement = "[os.write(fd, b'x' * (1 << 20)) for fd in (1, 2) for _ in range(200)]; sys.exit('the end')"
        runner = warm(FAILS_ON_BAD.format(statement))
        tracemalloc.start()
        try:
            error = failure_of(runner, b"bad\n")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert error.stderr_tail.endswith("the end\n")
        assert len(error.stderr_tail) <= TAIL_BYTES
        assert peak < 1 << 20

    def test_an_error_of_the_caller_does_not_end_the_warm_process(self, warm):
        runner = warm(PID)
        pid = output_of(runner)
        with pytest.raises(KeyError), runner.run([]):
            raise KeyError
        assert output_of(runner) == pid


class TestStart:
    def test_an_error_in_the_file_of_a_warm_step_is_the_reason_of_its_failure(self, warm):
        error = failure_of(warm("raise ValueError('at import')\n"))
        assert error.exit_code == 1
        assert error.stderr_tail.startswith("ValueError: at import\n")

    def test_a_warm_process_whose_start_takes_too_long_is_killed(self, warm):
        assert failure_of(warm("time.sleep(600)\n"), timeout=0.5).timed_out

    def test_a_file_that_does_not_go_on_says_what_it_must_be(self, make_step):
        step = Step(make_step("", "step.py"), StepSettings(warm=True))
        assert "a warm step must be a function of parcelq.step that main() runs" in only_failure_of(step).reason

    def test_a_program_without_the_function_fails_with_its_own_words(self, make_step):
        step = Step(make_step("echo 'what is --warm?' >&2; exit 2"), StepSettings(warm=True))
        assert str(only_failure_of(step)).endswith("exited with 2: what is --warm?")

    def test_a_warm_process_that_cannot_be_started_fails_with_the_reason(self, tmp_path):
        assert "could not be started" in only_failure_of(Step(tmp_path / "none", StepSettings(warm=True))).reason

    def test_a_warm_step_need_not_be_called_py(self, write, make_step):
        program = f'exec "{sys.executable}" "{write(PID)}" "$@"'
        runner = Runner(Step(make_step(program, "wrapper"), StepSettings(warm=True)))
        with contextlib.closing(runner):
            assert output_of(runner) == output_of(runner)

    def test_a_warm_process_imports_nothing_but_the_standard_library(self):
        program = (
            "import sys, parcelq.step; print([m for m in sys.modules if m.partition('.')[0] in ('boto3', 'yaml')])"
        )
        library = str(Path(Runner.run_all.__code__.co_filename).parents[2])
        told = subprocess.run(
            [sys.executable, "-S", "-c", program],
            env={"PYTHONPATH": library},
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stdout == "[]\n"


class TestWhatItStarts:
    @pytest.mark.parametrize("daemon", ["", ", start_new_session=True"])
    def test_a_warm_process_whose_run_leaves_a_process_running_is_replaced(self, warm, tmp_path, caplog, daemon):
        pids = tmp_path / "pids"
        runner = warm(
            f"@step\ndef run(entries):\n    child = subprocess.Popen(['sleep', '600']{daemon})\n"
            f"    open({str(pids)!r}, 'a').write(f'{{child.pid}}\\n')\n    yield str(os.getpid())\n"
        )
        with caplog.at_level(logging.WARNING, "parcelq"):
            assert output_of(runner) != output_of(runner)
        assert all(is_gone(int(pid)) for pid in pids.read_text().split())
        assert "left processes running" in caplog.text

    def test_processes_that_a_warm_step_starts_with_its_imports_stay(self, warm):
        runner = warm(
            "cat = subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n@step\ndef run(entries):\n"
            "    cat.stdin.write(b'%d\\n' % os.getpid())\n    cat.stdin.flush()\n"
            "    yield cat.stdout.readline().decode().strip()\n"
        )
        assert output_of(runner) == output_of(runner)

    def test_children_of_a_warm_process_that_ended_leave_no_zombie(self, warm):
        runner = warm(
            "@step\ndef run(entries):\n    yield str(os.getpid())\n    if os.fork() == 0:\n        os._exit(0)\n"
            "    time.sleep(0.2)\n"
        )
        pid = int(output_of(runner))
        assert int(output_of(runner)) == pid
        assert Path(f"/proc/{pid}/task/{pid}/children").read_text() == ""

    def test_a_fork_that_falls_out_of_the_function_does_not_answer(self, warm):
        runner = warm(
            "@step\ndef run(entries):\n    child = os.fork()\n    if child:\n        os.waitpid(child, 0)\n"
            "        time.sleep(0.3)\n        yield str(os.getpid())\n"
        )
        pids = [int(output_of(runner)) for _ in range(2)]
        assert pids[0] == pids[1]


WORKER = """
import sys, tempfile, threading, time
from pathlib import Path
from parcelq.steps.settings import StepSettings
from parcelq.steps.find import Step
from parcelq.steps.run import Runner
_, path, folder, busy = sys.argv
tempfile.tempdir = folder
runner = Runner(Step(Path(path), StepSettings(warm=True)))
with runner.run([b"idle\\n"]) as output:
    print(output.output.read_bytes().decode().strip(), flush=True)
if busy:
    with runner.run([b"busy\\n"]):
        pass
time.sleep(600)
"""
HANG_IN_C = "ctypes.PyDLL(None).pause()"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends it by means of Linux")
@pytest.mark.parametrize("busy", ["", "sleeps", "never lets go of the interpreter"])
def test_a_worker_that_is_killed_takes_its_warm_processes_with_it(write, tmp_path, busy):
    started = tmp_path / "started"
    hang = HANG_IN_C if "interpreter" in busy else "time.sleep(600)"
    path = write(
        f"import ctypes\nhelper = subprocess.Popen(['sleep', '600'])\n@step\ndef run(entries):\n"
        f"    yield f'{{os.getpid()}} {{helper.pid}}'\n    if 'busy' in entries:\n"
        f"        open({str(started)!r}, 'w').close()\n        {hang}\n"
    )
    with (
        tempfile.TemporaryDirectory(dir=tmp_path) as home,
        subprocess.Popen([sys.executable, "-c", WORKER, path, home, busy], stdout=subprocess.PIPE, text=True) as worker,
    ):
        pids = [int(pid) for pid in worker.stdout.readline().split()]
        while busy and not started.exists():
            time.sleep(0.01)
        assert len(pids) == 2
        worker.kill()
        worker.wait()
        assert all(map(is_gone, pids))


@pytest.mark.parametrize(
    "function",
    [
        UPPER,
        "@step(raw=True)\ndef run(data):\n    return data.upper()\n",
        (
            "@step\ndef run(entries):\n    print('noise')\n    os.system('echo noise')\n    input_ = sys.stdin.read()\n"
            "    return [entry + input_ for entry in entries]\n"
        ),
    ],
)
def test_the_same_file_is_an_executable_and_a_filter(write, warm, function):
    data = b"a\xff\nb\r\n\n\0c"
    step = Step(write(function), StepSettings(), "wf-1")
    filtered = Step(step.path, StepSettings(filter=True))
    with run_step(step, [data]) as one, run_step(filtered, [data]) as other:
        assert one.output.read_bytes() == other.output.read_bytes() == output_of(warm(function), data)
        assert one.output.read_bytes().startswith((b"A", b"a"))


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize(
    ("statement", "code"), [("raise KeyError('k')", 1), ("sys.exit()", 1), ("sys.exit(0)", 1), ("sys.exit(5)", 5)]
)
def test_a_warm_step_fails_as_an_executable_in_the_same_way(write, statement, code, filtered):
    step = Step(write(FAILS_ON_BAD.format(statement)), StepSettings(filter=filtered))
    with pytest.raises(StepError) as caught, run_step(step, [b"good\nbad\n"]):
        pass
    assert caught.value.exit_code == code
    assert "parcelq/step.py" not in caught.value.stderr_tail
