"""A step and its runner: what the one cannot read of the other, and what cannot outlive a run."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest
from parcelq.errors import StepError
from parcelq.steps.find import Step
from parcelq.steps.settings import StepSettings
from step_runs import run_step

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are separated by means of Linux")

SNOOP = """#!/bin/sh
{
for pid in "$1" $PPID; do
    for name in environ mem maps; do
        head -c 65536 "/proc/$pid/$name" > "$TMPDIR/$name" && echo "read $name"
    done
    ls "/proc/$pid/fd" > "$TMPDIR/fd" && echo "read fd"
    tr '\\0' '\\n' < "$TMPDIR/environ" | grep SECRET
done
env
} >&2
exit 7
"""

RUNNER = """
import ctypes, os, sys, tempfile
from pathlib import Path
from parcelq.steps import containment
from contextlib import closing
from parcelq.errors import StepError
from parcelq.steps.run import Runner
from parcelq.steps.settings import StepSettings
from parcelq.steps.find import Step

_, folder, shielded = sys.argv
tempfile.tempdir = folder
if shielded == "no":
    containment.shield = lambda: None
if os.geteuid() == 0:
    # As in Lambda, where a function is not root: root may look into every process. The change itself would close it.
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
try:
    step = Step(Path(folder) / "snoop", StepSettings(arguments=(str(os.getpid()),)), "wf")
    with closing(Runner(step)) as runner, runner.run([]):
        pass
except StepError as error:
    print(error.stderr_tail)
"""


@pytest.mark.parametrize("shielded", ["yes", "no"])
def test_a_step_reads_neither_environment_nor_memory_of_its_runner(shielded):
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "snoop").write_text(SNOOP)
        (folder / "snoop").chmod(0o755)
        runner = subprocess.run(
            [sys.executable, "-c", RUNNER, name, shielded],
            env={**os.environ, "AWS_SECRET_ACCESS_KEY": "of the function"},
            capture_output=True,
            text=True,
            check=False,
        )
    if shielded == "yes":
        assert "of the function" not in runner.stdout
        assert "Permission denied" in runner.stdout
        assert "read" not in runner.stdout.split()
    else:  # what would be seen without
        assert "AWS_SECRET_ACCESS_KEY=of the function" in runner.stdout


DAEMON = textwrap.dedent("""
    import os, sys, time
    pids, output = sys.argv[1], sys.argv[sys.argv.index("--output") + 1]

    def daemon(depth):
        if os.fork():
            return
        os.setsid()
        if os.fork():
            os._exit(0)  # so that the process that follows has no parent left in the step
        if depth:
            daemon(depth - 1)
        with open(pids, "a") as file:
            file.write(f"{os.getpid()}\\n")
        time.sleep(600)

    daemon(2)
    while not os.path.exists(pids) or open(pids).read().count("\\n") < 3:
        time.sleep(0.01)
    open(output, "w").close()
""")


@pytest.mark.parametrize("ending", ["", "sys.exit(1)", "time.sleep(600)", "os.kill(os.getpid(), 9)"])
def test_daemons_that_left_the_session_of_a_step_end_with_it(make_step, tmp_path, ending):
    pids = tmp_path / "pids"
    step = Step(make_step(DAEMON + ending, "step.py"), StepSettings(arguments=[str(pids)]), "wf")
    with pytest.raises(StepError) if ending else nullcontext(), run_step(step, [], 5 if "sleep" in ending else 60):
        pass
    left = [pid for pid in pids.read_text().split() if Path(f"/proc/{pid}").exists()]
    assert len(pids.read_text().split()) == 3
    assert left == []


def test_the_end_of_a_step_leaves_other_running_steps_alone(make_step, tmp_path):
    slow = Step(make_step('sleep 1; cp "$2" "$4"', "slow"), StepSettings(), "wf")
    fast = Step(make_step('cp "$2" "$4"', "fast"), StepSettings(), "wf")

    def run(step: Step) -> bytes:
        with run_step(step, [b"a\n"], 60) as output:
            return output.output.read_bytes()

    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(run, [slow, *[fast] * 20, slow]))
    assert results == [b"a\n"] * 22


def test_a_step_that_fills_the_disk_fails_alone(make_step, tmp_path, monkeypatch):
    """Here `/tmp` is a file system of 4 MiB; of a function it is one of 512 MiB or more."""
    program = textwrap.dedent("""
        import sys, tempfile
        from contextlib import closing
        from pathlib import Path
        tempfile.tempdir = sys.argv[1]
        from parcelq.errors import StepError
        from parcelq.steps.run import Runner
        from parcelq.steps.settings import StepSettings
        from parcelq.steps.find import Step
        full, fine = (Step(Path(path), StepSettings(), "wf") for path in sys.argv[2:])
        for _ in range(2):
            try:
                with closing(Runner(full)) as runner, runner.run([b"a\\n"]):
                    print("passed")
            except StepError as error:
                print(error)
            with closing(Runner(fine)) as runner, runner.run([b"a\\n"]) as output:
                print(output.output.read_bytes().decode().strip())
            print([path.name for path in Path(sys.argv[1]).iterdir()])
    """)
    full = make_step('cat /dev/zero > "$4"', "full")
    fine = make_step('cp "$2" "$4"', "fine")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size=4m none {disk} && exec "$@"'
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount, "sh", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    told = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount, "sh", sys.executable, "-c", program, str(disk), str(full), str(fine)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert len(told) % 3 == 0
    assert "No space left on device" in "\n".join(told)
    assert [line for line in told if line in ("a", "[]")] == ["a", "[]"] * 2
