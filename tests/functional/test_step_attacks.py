"""What a run may do: daemons of any kind, gigabytes, thousands of folders. It is that run's failure alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from parcelq.errors import StepError
from parcelq.steps import folder as folders
from parcelq.steps.data import Given
from parcelq.steps.find import Step
from parcelq.steps.run import Runner
from parcelq.steps.settings import StepSettings
from step_runs import run_step

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="descendants are found by means of Linux")

MIB = 1 << 20


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where all temporary folders go; every test leaves it empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def python(make_step, program: str, name: str = "step.py", **settings: object) -> Step:
    head = "import os, sys, time\nif '--output' in sys.argv: output = sys.argv[sys.argv.index('--output') + 1]\n"
    return Step(make_step(head + textwrap.dedent(program), name), StepSettings(**settings), "wf")


def alive(pids: Path) -> list[int]:
    return [int(pid) for pid in pids.read_text().split() if Path(f"/proc/{pid}").exists()]


# Each starts a process that outlives it, and writes its number to the file PIDS.
DAEMONS = {
    "a session of its own": "os.fork() or (os.setsid(), left())",
    "a double fork": "os.fork() or (os.setsid(), os.fork() and os._exit(0), left())",
    "an emptied environment": "os.fork() or (os.setsid(), os.fork() and os._exit(0), "
    "os.execve('/bin/sh', ['sh', '-c', 'echo $$ >> PIDS; exec sleep 600'], {}))",
    "an environment that is overwritten": "os.fork() or (os.setsid(), overwrite(), left())",
    "a process that is not dumpable": "os.fork() or (os.setsid(), undumpable(), left())",
    "a program that changes its name": "renamed()",
    "a process with another name and title": "os.fork() or (os.setsid(), titled(), overwrite(), left())",
    "a helper that ends before the step": "os.system('setsid -f sh -c \"echo \\$\\$ >> PIDS; exec sleep 600\"')",
}
TOOLS = """
def left():
    with open(PIDS, "a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(600)
    os._exit(0)

def undumpable():
    import ctypes
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)

def titled():
    import ctypes
    ctypes.CDLL(None).prctl(15, b"another", 0, 0, 0)

def renamed():
    import subprocess
    program = 'fork and exit; setsid(); $0 = "x" x 5000; open(F, ">>", $ARGV[0]); print F "$$\\n"; close F; sleep 600'
    subprocess.run(["perl", "-MPOSIX=setsid", "-e", program, PIDS], check=True)

def overwrite():
    import ctypes
    with open("/proc/self/stat") as file:
        start, end = map(int, file.read().rpartition(")")[2].split()[47:49])
    ctypes.memset(start, 0, end - start)

def wait():
    until = time.time() + 20
    while not (os.path.exists(PIDS) and open(PIDS).read().endswith("\\n")) and time.time() < until:
        time.sleep(0.01)
"""


@pytest.mark.skipif(not shutil.which("perl"), reason="there is no Perl")
@pytest.mark.parametrize("daemon", DAEMONS.values(), ids=DAEMONS.keys())
@pytest.mark.parametrize("ending", ["", "sys.exit(1)", "os.kill(os.getpid(), 9)"])
def test_every_daemon_ends_with_its_run(make_step, tmp_path, daemon, ending):
    pids = tmp_path / "pids"
    text = f"PIDS = {str(pids)!r}\n{TOOLS}\n{daemon.replace('PIDS', str(pids))}\nwait()\nopen(output, 'w')\n{ending}\n"
    step = python(make_step, text)
    with contextlib.suppress(StepError), run_step(step, [], 60):
        pass
    assert pids.read_text()
    assert alive(pids) == []


@pytest.mark.parametrize("warm", [True, False])
def test_daemons_of_a_function_end_with_its_run_and_the_next_run_is_fine(make_step, tmp_path, warm):
    pids = tmp_path / "pids"
    program = f"""
    from parcelq.step import step
    PIDS = {str(pids)!r}
    {textwrap.indent(TOOLS, "    ").strip()}
    @step
    def run(entries):
        os.fork() or (os.setsid(), os.fork() and os._exit(0), undumpable(), left())
        wait()
        yield from entries
    if __name__ == "__main__":
        run.main()
    """
    with contextlib.closing(Runner(python(make_step, program, warm=warm))) as runner:
        for number in range(3):
            with runner.run([b"a\n"], 60) as ran:
                assert ran.output.read_bytes() == b"a\n", number
            assert alive(pids) == []


@pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler")
@pytest.mark.parametrize("session", ["setsid();", ""])
def test_a_fast_chain_of_processes_that_start_the_next_and_end_is_caught(make_step, tmp_path, session):
    source = tmp_path / "chain.c"
    source.write_text(
        "#include <unistd.h>\n#include <stdlib.h>\n#include <time.h>\n"
        "int main(int n, char **a) { time_t end = time(0) + 400; close(0); close(1); close(2);"
        f" while (time(0) < end) {{ pid_t p = fork(); if (p > 0) _exit(0); {session} }} return 0; }}"
    )
    chain = tmp_path / "chain-of-processes"
    subprocess.run(["cc", "-O1", "-o", str(chain), str(source)], check=True)
    with run_step(Step(make_step(f'{chain} & sleep 0.2; > "$4"')), [], 60):
        pass
    assert subprocess.run(["pgrep", "-f", str(chain)], check=False, capture_output=True).stdout == b""


def test_a_step_that_kills_its_supervisor_fails_alone_and_is_ended(make_step, tmp_path):
    pids = tmp_path / "pids"
    step = Step(make_step(f'echo $$ >> {pids}; [ -s "$2" ] && kill -9 $PPID && exec sleep 600; cp "$2" "$4"'))
    with contextlib.closing(Runner(step)) as runner:
        with pytest.raises(StepError, match="killed the process that supervises it"), runner.run([b"a\n"], 60):
            pass
        with runner.run([], 60) as ran:
            assert ran.output.read_bytes() == b""
    until = time.monotonic() + 10
    while alive(pids) and time.monotonic() < until:
        time.sleep(0.01)
    assert alive(pids) == []


def test_of_several_runs_only_the_one_that_kills_its_supervisor_fails_and_is_ended(make_step, tmp_path):
    pids = tmp_path / "pids"
    script = f'grep -q bad "$2" && echo $$ >> {pids} && kill -9 $PPID && exec sleep 600; cp "$2" "$4"'
    given = [Given([body]) for body in (b"a\n", b"bad\n", b"c\n")]
    came: list[object] = []
    with contextlib.closing(Runner(Step(make_step(script)))) as runner:
        while len(came) < len(given):
            for one in runner.run_all(given[len(came) :], 60):
                came.append(str(one) if isinstance(one, StepError) else one.output.read_bytes())
                if not isinstance(one, StepError):
                    one.held.close()
    assert came[0] == b"a\n"
    assert "killed the process that supervises it" in str(came[1])
    assert came[2] == b"c\n"
    until = time.monotonic() + 10
    while alive(pids) and time.monotonic() < until:
        time.sleep(0.01)
    assert alive(pids) == []


def test_a_command_with_a_nul_is_refused_and_the_next_run_goes_on(make_step):
    step = Step(make_step('cp "$2" "$4"'), workflow_id="a\0b")
    with contextlib.closing(Runner(step)) as runner:
        for _ in range(2):
            with pytest.raises(StepError, match="could not be started"), runner.run([b"a\n"], 60):
                pass


def test_runs_side_by_side_end_only_their_own(make_step, tmp_path):
    """Each run has a daemon that it needs until its end; many others end meanwhile."""
    script = 'setsid -f sleep 600; setsid sh -c "sleep 0.5; echo done > here" & sleep 0.1; wait; cp here "$4"'
    slow, fast = Step(make_step(script, "slow")), Step(make_step('setsid -f sleep 600; cp "$2" "$4"', "fast"))

    with contextlib.closing(Runner(slow)) as one, contextlib.closing(Runner(fast)) as other:

        def run(runner: Runner) -> bytes:
            with runner.run([b"done\n"], 60) as ran:
                return ran.output.read_bytes()

        with ThreadPoolExecutor(4) as threads:
            assert set(threads.map(run, [one, *[other] * 20, one, *[other] * 20])) == {b"done\n"}


def test_processes_of_the_user_are_left_alone(make_step):
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        with run_step(Step(make_step('setsid -f true; > "$4"')), [], 60):
            pass
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
def test_everything_ends_when_the_process_that_runs_steps_is_killed(make_step, tmp_path, how, folder):
    pids = tmp_path / "pids"
    step = make_step(f'setsid -f sh -c "echo \\$\\$ >> {pids}; exec sleep 600"; echo $$ >> {pids}; exec sleep 600')
    program = f"""
import tempfile
from contextlib import closing
from pathlib import Path
from parcelq.steps.find import Step
from parcelq.steps.run import Runner
tempfile.tempdir = {str(folder)!r}
with closing(Runner(Step(Path({str(step)!r})))) as runner, runner.run([]):
    pass
"""
    process = subprocess.Popen([sys.executable, "-c", program])
    until = time.monotonic() + 30
    while not (pids.exists() and pids.read_text().count("\n") == 2) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.Signals[how])
    process.wait()
    while alive(pids) and time.monotonic() < until:
        time.sleep(0.02)
    assert alive(pids) == []
    # What it left in the folder goes when another process makes its first run.
    assert len(list(folder.iterdir())) == 1
    folders.remove_abandoned.cache_clear()
    folders.remove_abandoned(str(folder))


class TestOutput:
    @pytest.mark.parametrize("settings", [{}, {"filter": True}])
    def test_an_output_without_end_is_stopped_while_it_grows(self, make_step, settings):
        step = Step(
            make_step('[ -n "$4" ] && exec > "$4"; exec cat /dev/zero'), StepSettings(max_output_bytes=MIB, **settings)
        )
        with pytest.raises(StepError, match="wrote more than 1048576 bytes of output"), run_step(step, [], 60):
            pass

    def test_the_output_without_end_of_a_function_is_stopped_while_it_grows(self, make_step):
        program = """
        from parcelq.step import step
        @step
        def run(entries):
            while True:
                yield "x" * 1000
        if __name__ == "__main__":
            run.main()
        """
        step = python(make_step, program, max_output_bytes=MIB)
        with pytest.raises(StepError, match="wrote more than 1048576 bytes of output"), run_step(step, [], 60):
            pass

    def test_an_output_with_one_byte_too_many_is_too_large_however_fast_it_was_written(self, make_step):
        step = Step(make_step('head -c 1001 /dev/zero > "$4"'), StepSettings(max_output_bytes=1000))
        with pytest.raises(StepError, match="wrote more than 1000 bytes"), run_step(step, [], 60):
            pass
        with run_step(Step(step.path, StepSettings(max_output_bytes=1001)), [], 60) as ran:
            assert ran.output.stat().st_size == 1001

    @pytest.mark.parametrize("make", ['mkfifo "$4"', 'mkdir "$4"', 'ln -s /dev/zero "$4"', 'ln -s nowhere "$4"'])
    def test_an_output_that_is_no_file_fails_the_run(self, make_step, make):
        with pytest.raises(StepError, match="wrote no output file"), run_step(Step(make_step(make)), [], 60):
            pass


class TestFolders:
    def test_thousands_of_nested_folders_are_removed(self, make_step):
        program = """
        os.chdir(os.environ["TMPDIR"])
        for number in range(3000):
            os.mkdir("d")
            open("file", "w").close()
            os.chdir("d")
        open(output, "w").close()
        """
        with run_step(python(make_step, program), [], 60):
            pass

    def test_folders_that_may_not_be_entered_and_hidden_files_are_removed(self, tmp_path):
        top = tmp_path / "top"
        deep = top / "a" / ".parcelq-removed-1" / "b"
        deep.mkdir(parents=True)
        (top / ".parcelq-removed-1").mkdir()
        (top / ".parcelq-removed-1" / "x").write_text("x")
        (top / ".parcelq-removed-2").write_text("x")
        (top / "link").symlink_to("/")
        for path in (deep, deep.parent, top / "a"):
            path.chmod(0)
        folders.remove(top)
        assert not top.exists()
        assert Path("/bin").exists()

    def test_the_folder_of_a_run_has_an_absolute_path_although_that_for_temporary_files_has_none(
        self, folder, monkeypatch
    ):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(tempfile, "tempdir", ".")
        with folders.locked_folder() as mine:
            assert mine.parent == folder

    def test_folders_of_processes_that_run_are_left_alone(self, folder):
        with folders.locked_folder() as mine:
            program = f"from parcelq.steps import folder as f; f.remove_abandoned({str(folder)!r})"
            subprocess.run([sys.executable, "-c", program], check=True)
            assert mine.is_dir()
        abandoned = folder / f"{folders.PREFIX}abandoned"
        (abandoned / "work").mkdir(parents=True)
        subprocess.run([sys.executable, "-c", program], check=True)
        assert not abandoned.exists()


def measured() -> tuple[int, int, int]:
    """Files that are open, processes below this one, and memory in KiB."""
    status = Path("/proc/self/status").read_text()
    memory = int(status.partition("VmRSS:")[2].split()[0])
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    return len(os.listdir("/proc/self/fd")), len(children.read_text().split()) if children.exists() else 0, memory


def test_200_warm_runs_with_failures_and_time_outs_leave_nothing_behind(make_step, folder):
    program = """
    from parcelq.step import step
    @step
    def run(entries):
        for entry in entries:
            if entry == "raise":
                raise ValueError(entry)
            if entry == "exit":
                os._exit(3)
            if entry == "daemon":
                os.fork() or (os.setsid(), time.sleep(600))
            if entry == "sleep":
                time.sleep(600)
            yield entry
    if __name__ == "__main__":
        run.main()
    """
    kinds = ["good", "raise", "good", "exit", "good", "daemon", "good", "good", "good", "good"]
    with contextlib.closing(Runner(python(make_step, program))) as runner:
        before = None
        for number in range(200):
            kind = "sleep" if number % 50 == 49 else kinds[number % 10]
            with (
                contextlib.suppress(StepError),
                runner.run([kind.encode() + b"\n"], 1 if kind == "sleep" else 60) as ran,
            ):
                assert kind in {"good", "daemon"}
                assert ran.output.read_bytes() == kind.encode() + b"\n"
            if number == 20:
                before = measured()
        files, processes, memory = measured()
        assert len(list(folder.iterdir())) <= 1
    assert files <= before[0] + 6
    assert processes <= before[1] + 1
    assert memory <= before[2] + 8 * 1024
