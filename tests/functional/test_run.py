"""Running steps, as real processes: how they end, what they see, and that they leave nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from pathlib import Path

import pytest
from parcelq.errors import StepError
from parcelq.steps import data
from parcelq.steps.data import write_bodies
from parcelq.steps.find import Step
from parcelq.steps.processes import TAIL_BYTES
from parcelq.steps.run import Runner
from parcelq.steps.settings import StepSettings
from step_runs import run_step

COPY = 'cp "$2" "$4"'  # --input FILE --output FILE


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where temporary folders of steps go; every test leaves it empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def shell(make_step):
    """A step that is a shell script."""

    def make(script: str, **settings: object) -> Step:
        return Step(make_step(script), StepSettings(**settings), "wf-1")

    return make


@pytest.fixture
def python(make_step):
    """A step that is a Python program; its arguments are in `sys.argv`, the output file is `output`."""

    def make(program: str, **settings: object) -> Step:
        head = "import json, os, sys\noutput = sys.argv[sys.argv.index('--output') + 1]\n"
        return Step(make_step(head + program, "step.py"), StepSettings(**settings), "wf-1")

    return make


def output_of(step: Step, *bodies: bytes, timeout: float | None = 60) -> bytes:
    with run_step(step, bodies, timeout) as output:
        return output.output.read_bytes()


def failure_of(step: Step, *bodies: bytes, timeout: float | None = 60) -> StepError:
    with pytest.raises(StepError) as caught, run_step(step, bodies, timeout):
        pass
    return caught.value


def is_alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def is_gone(pid: int) -> bool:
    """Whether a process is gone, or will be in a moment: killing is not waited for where it is another's child."""
    until = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    return not is_alive(pid)


class TestInputAndOutput:
    def test_bodies_become_a_file_and_the_output_file_is_given(self, shell):
        assert output_of(shell(COPY), b"a\nb\n", b"c\n") == b"a\nb\nc\n"

    def test_entries_of_different_bodies_stay_lines_of_their_own(self, shell):
        assert output_of(shell(COPY), b"a", b"", b"b\n", b"\n", b"c") == b"a\nb\n\nc"

    def test_a_step_gets_every_byte_of_a_body_as_it_is(self, shell):
        data = bytes(range(256)) + b"\r\n\n" + "😀".encode()
        assert output_of(shell(COPY), data) == data

    def test_a_run_without_bodies_gets_an_empty_input_file(self, shell):
        assert output_of(shell(COPY)) == b""

    def test_an_output_file_may_be_empty_but_must_be_there(self, shell):
        assert output_of(shell('> "$4"'), b"a\n") == b""
        error = failure_of(shell("exit 0"), b"a\n")
        assert (error.exit_code, error.timed_out) == (0, False)
        assert error.reason == (
            "exited with 0 but wrote no output file; "
            "a program that reads stdin and writes stdout needs filter: true in its settings"
        )

    def test_a_python_file_that_never_calls_its_functions_gets_a_hint(self, make_step):
        step = Step(make_step("def main():\n    print('never')\n", "step.py"))
        with pytest.raises(StepError) as error, run_step(step, [b"a\n"]):
            pass
        assert error.value.reason == (
            "exited with 0 but wrote no output file; step.py defines functions, but calls none of them"
        )

    def test_the_error_of_a_python_file_that_never_calls_its_step_says_how_to_end_the_file(self, make_step):
        text = "from parcelq.step import step\n@step(each=True)\ndef shout(entry):\n    return entry.upper()\n"
        with pytest.raises(StepError) as error, run_step(Step(make_step(text, "step.py")), [b"a\n"]):
            pass
        assert error.value.reason.endswith("but calls none of them; end it with shout.main()")

    def test_a_folder_in_the_place_of_the_output_file_fails_the_run(self, shell):
        assert "no output file" in str(failure_of(shell('mkdir "$4"')))

    def test_a_filter_reads_stdin_and_writes_stdout(self):
        step = Step(Path("/usr/bin/tr"), StepSettings(filter=True, arguments=("a-z", "A-Z")))
        assert output_of(step, b"abc\n", b"d") == b"ABC\nD"

    def test_a_filter_that_prints_nothing_has_an_empty_output(self, shell):
        assert output_of(shell("cat > /dev/null", filter=True), b"a\n") == b""

    def test_a_filter_that_reads_nothing_succeeds(self, shell):
        assert output_of(shell("echo done", filter=True), b"x" * 5_000_000) == b"done\n"

    def test_a_step_that_is_no_filter_gets_an_empty_stdin(self, shell):
        assert output_of(shell('cat > "$4"'), b"a\n") == b""

    def test_an_error_of_the_caller_is_raised_and_no_file_of_the_run_is_left(self, shell):
        with pytest.raises(KeyError), run_step(shell(COPY), [b"a\n"]):
            raise KeyError


class TestCommand:
    def test_a_step_gets_its_files_its_workflow_and_its_settings(self, python, tmp_path):
        step = python("open(output, 'w').write(json.dumps(sys.argv[1:]))", path=tmp_path / "s.yaml", arguments=("-v",))
        told = json.loads(output_of(step))
        assert told[:2] == ["-v", "--input"]
        assert told[3] == "--output"
        assert told[5:] == ["--workflow-id", "wf-1", "--settings", str(tmp_path / "s.yaml")]

    def test_a_python_step_runs_on_the_current_interpreter_and_can_import_the_library(self, python):
        step = python("import parcelq.limits; open(output, 'w').write(sys.executable)")
        step.path.chmod(0o644)
        assert output_of(step) == sys.executable.encode()

    def test_a_step_starts_in_an_empty_working_directory_of_its_own(self, python, folder):
        told = json.loads(output_of(python("json.dump([os.getcwd(), os.listdir()], open(output, 'w'))")))
        assert told[0].startswith(str(folder))
        assert told[1] == []

    def test_files_that_a_step_leaves_in_its_working_directory_are_removed(self, shell, folder):
        script = 'mkdir a; echo x > a/b; chmod 500 a; mktemp; ln -s / root; echo x > "$TMPDIR/y"; > "$4"'
        with run_step(shell(script), []):
            assert len(list(folder.iterdir())) == 1
        assert list(folder.iterdir()) == []
        assert Path("/bin").exists()

    @pytest.mark.parametrize(
        "left",
        [
            "touch file",
            "mkdir folder",
            'touch "$TMPDIR/file"',
            'rm -r "$TMPDIR"; mkdir "$TMPDIR"',
            'rm -r "$TMPDIR"; ln -s / "$TMPDIR"',
            "chmod 500 .",
            "chmod 777 ..",
            "mkdir ../folder",
            "touch ../rejects.old",
            ":",
        ],
    )
    def test_a_run_finds_nothing_that_another_left(self, shell, folder, left):
        look = 'ls -lAd .. . "$TMPDIR" | cut -c1-10; ls -A .. . "$TMPDIR"'
        # The output is written when all is looked at, or it would be there or not, as the shell likes.
        step = shell(f'found=$({{ {look}; }} | sed "s|$PARCELQ_RUN|RUN|"); echo "$found" > "$4"; {left}')
        with contextlib.closing(Runner(step)) as runner:
            outputs = []
            for _ in range(3):
                with runner.run([]) as ran:
                    outputs.append(ran.output.read_bytes().decode())
        assert outputs[0] == outputs[1] == outputs[2]
        assert list(folder.iterdir()) == []

    def test_a_run_that_writes_no_output_does_not_give_that_of_the_run_before_it(self, shell, tmp_path):
        step = shell(f'[ -e {tmp_path}/again ] || echo x > "$4"; touch {tmp_path}/again')
        with contextlib.closing(Runner(step)) as runner:
            with runner.run([]) as ran:
                assert ran.output.read_bytes().decode() == "x\n"
            with pytest.raises(StepError, match="wrote no output file"), runner.run([]):
                pass


class TestEnvironment:
    @pytest.fixture
    def environment_of(self, python, monkeypatch):
        for name in ("AWS_LAMBDA_RUNTIME_API", "AWS_LAMBDA_FUNCTION_NAME", "PARCELQ_BUCKET", "SECRET", "_HANDLER"):
            monkeypatch.setenv(name, "hidden")
        monkeypatch.setenv("LC_ALL", "C.UTF-8")
        monkeypatch.setenv("TZ", "UTC")

        def read(**settings: object) -> dict[str, str]:
            return json.loads(output_of(python("json.dump(dict(os.environ), open(output, 'w'))", **settings)))

        return read

    def test_the_environment_of_a_step_has_only_the_variables_that_are_allowed(self, environment_of):
        told = environment_of()
        allowed = {"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "PYTHONPATH", "TMPDIR", "PARCELQ_RUN"}
        assert {name for name in told if not name.startswith("LC_")} <= allowed
        assert (told["LC_ALL"], told["TZ"], told["PATH"]) == ("C.UTF-8", "UTC", os.environ["PATH"])

    def test_temporary_files_of_a_step_are_removed_with_its_run(self, environment_of, folder):
        assert environment_of()["TMPDIR"].startswith(str(folder))

    def test_settings_add_to_the_environment_of_a_step_and_have_the_last_word(self, environment_of):
        told = environment_of(environment={"LEVEL": "3", "TZ": "CET"})
        assert (told["LEVEL"], told["TZ"]) == ("3", "CET")

    def test_a_step_gets_credentials_only_when_it_asks_for_them(self, environment_of):
        assert not [name for name in environment_of() if name.startswith("AWS_")]
        told = environment_of(aws_credentials=True)
        wanted = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION"}
        assert wanted <= set(told)
        assert not [name for name in told if name.startswith("AWS_LAMBDA_")]
        assert "hidden" not in told.values()

    @pytest.mark.parametrize(
        "name", ["PATH", "HOME", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "LC_ALL", "LC_NUMERIC"]
    )
    def test_the_variables_that_the_documentation_names_pass_as_they_are(self, shell, monkeypatch, name):
        value = f"/here:{os.environ.get('PATH')}" if name == "PATH" else "/tmp"
        monkeypatch.setenv(name, value)
        assert output_of(shell(f'printf %s "${name}" > "$4"')).decode() == value

    def test_a_relative_pythonpath_means_the_folder_of_the_command(self, python, monkeypatch, tmp_path):
        (tmp_path / "lib").mkdir()
        (tmp_path / "lib/mine.py").write_text("WORD = 'found'")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PYTHONPATH", "lib")
        assert output_of(python("import mine; open(output, 'w').write(mine.WORD)")) == b"found"

    def test_a_step_has_only_its_own_files_open(self, python):
        program = "json.dump(sorted(map(int, os.listdir('/proc/self/fd'))), open(output, 'w'))"
        with tempfile.TemporaryFile():
            # the standard three, the output file, and the one that lists them
            assert len(json.loads(output_of(python(program)))) <= 5


class TestFailure:
    @pytest.mark.parametrize("code", [1, 2, 127, 255])
    def test_any_other_exit_code_than_zero_fails_with_the_end_of_stderr(self, shell, code):
        error = failure_of(shell(f'> "$4"; echo why >&2; exit {code}'), b"a\n")
        assert (error.exit_code, error.stderr_tail, error.timed_out) == (code, "why\n", False)
        assert str(error) == f"step 'step' exited with {code}: why"

    @pytest.mark.parametrize(("signal", "name"), [(9, "SIGKILL"), (11, "SIGSEGV"), (15, "SIGTERM"), (40, "signal 40")])
    def test_a_run_that_a_signal_ends_fails_with_the_name_of_the_signal(self, shell, signal, name):
        error = failure_of(shell(f"echo why >&2; kill -{signal} $$"))
        assert (error.exit_code, error.reason, error.stderr_tail) == (-signal, f"was ended by {name}", "why\n")

    def test_text_that_a_step_prints_to_stdout_is_no_reason_for_its_failure(self, shell):
        assert failure_of(shell("echo chatter; exit 1")).stderr_tail == ""

    def test_stderr_that_is_not_utf8_is_still_readable(self, shell):
        assert failure_of(shell(r"printf 'a\377b' >&2; exit 1")).stderr_tail == "a\ufffdb"

    @pytest.mark.parametrize("text", ["\x7fELF", "#!/no/such/interpreter\n", ""])
    def test_a_step_that_cannot_be_started_fails_with_the_reason(self, tmp_path, text):
        path = tmp_path / "step"
        path.write_text(text)
        path.chmod(0o755)
        error = failure_of(Step(path))
        assert error.reason.startswith("could not be started: ")
        assert (error.exit_code, error.timed_out) == (None, False)

    def test_a_step_whose_file_is_gone_fails_with_the_reason(self, tmp_path):
        assert "could not be started" in str(failure_of(Step(tmp_path / "none")))

    def test_a_run_without_room_for_its_input_fails_with_the_reason(self, shell, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(data, "write_bodies", full)
        assert "could not be given its input" in str(failure_of(shell(COPY), b"a\n"))


class TestOutputOfGigabytes:
    @pytest.mark.parametrize("stream", ["stdout", "stderr"])
    def test_gigabytes_that_a_step_prints_neither_block_it_nor_fill_memory(self, python, stream):
        program = f"""
block = b"x" * (1 << 20)
for _ in range(200):
    os.write({1 if stream == "stdout" else 2}, block)
os.write(2, b"the end")
sys.exit(1)
"""
        tracemalloc.start()
        try:
            error = failure_of(python(program))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert error.stderr_tail.endswith("the end")
        assert len(error.stderr_tail) <= TAIL_BYTES
        assert peak < 1 << 20

    def test_a_step_that_closes_its_streams_early_is_waited_for(self, python):
        program = "import time; os.close(1); os.close(2); time.sleep(0.3); open(output, 'w').write('late')"
        assert output_of(python(program)) == b"late"


class TestTime:
    def test_a_step_is_killed_when_its_time_is_up(self, shell):
        error = failure_of(shell("echo busy >&2; exec sleep 600"), timeout=0.5)
        assert (error.timed_out, error.exit_code, error.stderr_tail) == (True, None, "busy\n")
        assert error.reason == "timed out after 0.5 s and was killed"

    @pytest.mark.parametrize(("timeout", "own"), [(600, 0.3), (0.3, 600), (None, 0.3)])
    def test_the_shorter_of_its_own_time_and_what_is_left_counts(self, shell, timeout, own):
        assert "after 0.3 s" in str(failure_of(shell("exec sleep 600", timeout=own), timeout=timeout))

    def test_a_step_that_closes_its_streams_is_still_killed_when_its_time_is_up(self, shell):
        assert failure_of(shell("exec sleep 600 >&- 2>&-"), timeout=0.3).timed_out

    def test_a_step_that_ignores_signals_is_still_killed_when_its_time_is_up(self, shell):
        script = "trap '' TERM INT HUP; while :; do sleep 1; done"
        assert failure_of(shell(script), timeout=0.3).timed_out

    def test_the_descendants_of_a_step_are_killed_with_it(self, shell, tmp_path):
        pids = tmp_path / "pids"
        script = f"sh -c 'sleep 600 & echo $! >> {pids}; echo $$ >> {pids}; wait' & echo $$ >> {pids}; wait"
        assert failure_of(shell(script), timeout=1).timed_out
        numbers = [int(line) for line in pids.read_text().split()]
        assert len(numbers) == 3
        assert all(map(is_gone, numbers))

    def test_processes_that_a_step_leaves_running_are_not_waited_for_and_are_killed(self, shell, tmp_path):
        pid = tmp_path / "pid"
        assert output_of(shell(f'sleep 600 & echo $! > {pid}; echo done > "$4"')) == b"done\n"
        assert is_gone(int(pid.read_text()))

    def test_an_interruption_of_the_caller_ends_a_run(self, shell, tmp_path):
        pid = tmp_path / "pid"

        def interrupt():
            while not (pid.exists() and pid.read_text().endswith("\n")):
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt), run_step(shell(f"echo $$ > {pid}; exec sleep 600"), []):
            pass
        thread.join()
        assert is_gone(int(pid.read_text()))


@pytest.mark.parametrize("script", ['> "$4"', "exit 3", "kill -9 $$", "exec sleep 600", "sleep 600 & exit 1"])
def test_a_run_leaves_no_zombie_however_it_ends(shell, script, tmp_path):
    pid = tmp_path / "pid"
    with contextlib.suppress(StepError), run_step(shell(f"echo $$ > {pid}; {script}"), [], 0.3):
        pass
    assert not Path(f"/proc/{int(pid.read_text())}").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere another process waits for them")
@pytest.mark.parametrize("start", ["", "setsid sh -c 'true & exec "])
def test_processes_that_a_run_left_running_leave_no_zombie(shell, start, tmp_path):
    pids = tmp_path / "pids"
    left = f"{start}sleep 600{chr(39) if start else ''} >&- 2>&- &"
    step = shell(f'for _ in 1 2 3 4 5; do {left} echo $! >> {pids}; done; sleep 0.1; > "$4"')
    for _ in range(4):
        with run_step(step, []):
            pass
    found = [int(line) for line in pids.read_text().split()]
    assert len(found) == 20
    assert [pid for pid in found if Path(f"/proc/{pid}").exists()] == []


def test_the_bodies_of_a_run_are_written_one_after_another(tmp_path):
    with (tmp_path / "file").open("wb") as file:
        write_bodies(file, iter([b"", b"a\n", b"b", b"", b"c", b"\n"]))
    assert (tmp_path / "file").read_bytes() == b"a\nb\nc\n\n"
    assert subprocess.run(["wc", "-l", str(tmp_path / "file")], capture_output=True, check=True).stdout[:1] == b"4"


def test_threads_that_begin_at_the_same_time_run_one_copy_of_a_step(shell, monkeypatch):
    step, both, copied = shell(COPY)._replace(copied=True), threading.Barrier(2), []

    def copy(source: Path, target: Path) -> Path:
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.2)  # a second thread that copied too would come here
        copied.append(source)
        target.write_bytes(source.read_bytes())
        target.chmod(0o755)
        return target

    monkeypatch.setattr(shutil, "copy", copy)
    with contextlib.closing(Runner(step)) as runner:
        threads = [threading.Thread(target=runner.prepare) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert copied == [step.path]
