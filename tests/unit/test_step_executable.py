"""What the system would refuse to start is refused before the first run, and what it would not, is not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from parcelq.steps.executable import why_not_executable, why_nothing_is_called


@pytest.fixture
def program(tmp_path):
    def make(content: bytes | str, name: str = "tool", mode: int = 0o755) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)
        return path

    return make


def starts(path: Path) -> bool:
    """Whether the system starts it: the judge of all that is said here."""
    try:
        subprocess.run([path], cwd=path.parent, check=False, capture_output=True, timeout=20)
    except OSError:
        return False
    return True


ELF = Path(sys.executable).resolve().read_bytes()


def patched(at: int, value: bytes) -> bytes:
    return ELF[:at] + value + ELF[at + len(value) :]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"#!/bin/sh\r\necho\r\n", "ends in a carriage return"),
        (b"#!/bin/sh -e\r\necho\r\n", "ends in a carriage return"),
        (b"#!/usr/bin/env python3\r\n", "ends in a carriage return"),
        (b"#!\n", "names the interpreter ''"),
        (b"#! \t \necho", "names the interpreter ''"),
        (b"#!/nowhere/sh\n", "'/nowhere/sh', which does not exist"),
        (b"#!bin/sh\n", "'bin/sh', which must be a path from the root"),
        (b"#!./sh\n", "must be a path from the root"),
        (b"#!/usr\n", "'/usr', which cannot be started: it is a folder"),
        (b"#!/etc/passwd\n", "'/etc/passwd', which cannot be started: it is not executable"),
        (b"#!/" + b"x" * 400 + b"\n", "its first line is too long"),
        (b"#!/usr/bin/env no-such-program-anywhere\n", "'no-such-program-anywhere', which is not on PATH"),
        (b"", "it is empty"),
        (b"echo one\n", "names its interpreter, such as #!/bin/sh"),
        (b"\xef\xbb\xbf#!/bin/sh\n", "names its interpreter, such as #!/bin/sh"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "neither ELF nor a text"),
        (b"MZ\x90\0\3\0\0\0", "neither ELF nor a text"),
        (ELF[:20], "truncated"),
        (ELF[:60], "truncated"),
        (ELF[:100], "truncated"),
        (patched(18, b"\xb7\0"), "built for another processor (aarch64)"),
        (patched(18, b"\x08\0"), "built for another processor (MIPS)"),
        (patched(16, b"\x01\0"), "not a program"),
        (patched(56, b"\0\0"), "that contains no program"),
    ],
)
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the files are made from a program for this processor")
def test_a_reason_names_what_the_kernel_refuses_to_start(program, content, problem):
    path = program(content)
    assert problem in why_not_executable(path)
    if b"env" not in content and b" -e" not in content:  # those start, and then fail at once
        assert not starts(path)


def test_a_loader_that_is_not_there_is_named(program):
    path = program(ELF.replace(b"/lib64/ld-linux-x86-64.so.2", b"/lib64/ld-nowhere-86-64.so.2"))
    if b"ld-nowhere" not in path.read_bytes():
        pytest.skip("this Python has another loader")
    assert "needs the loader '/lib64/ld-nowhere-86-64.so.2'" in why_not_executable(path)
    assert not starts(path)


@pytest.mark.parametrize(
    "content",
    [
        b"#!/bin/sh\nexit 0\n",
        b"#! /bin/sh -e\nexit 0\n",
        b"#!/bin/sh",
        b"#!\t/bin/sh\t-e\n",
        b"#!/usr/bin/env sh\n",
        b"#!/usr/bin/env -S sh -e\n",
        b"#!/bin/sh " + b"x" * 400 + b"\n",
        ELF,
    ],
)
def test_a_file_that_the_kernel_starts_is_not_refused(program, content):
    path = program(content)
    assert why_not_executable(path) == ""
    assert starts(path)


def test_a_script_may_be_run_by_a_script_up_to_a_depth(program, tmp_path):
    program("#!/bin/sh\n", "0")
    for depth in range(1, 8):
        path = program(f"#!{tmp_path}/{depth - 1}\n", str(depth))
        assert bool(why_not_executable(path)) == (not starts(path)), depth


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o000])
def test_a_file_that_is_not_executable_is_named(program, mode):
    assert "it is not executable; chmod +x" in why_not_executable(program("#!/bin/sh\n", mode=mode))


def test_folders_pipes_and_what_is_not_there_are_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert why_not_executable(tmp_path) == "it is a folder"
    assert why_not_executable(tmp_path / "pipe") == "it is not a regular file"
    assert why_not_executable(tmp_path / "none").startswith("it cannot be examined")


def test_a_file_system_mounted_noexec_is_named(tmp_path):
    """In a namespace of its own, where such a file system can be mounted."""
    program = "import sys; from pathlib import Path; from parcelq.steps.executable import why_not_executable as why\n"
    program += "tool = Path(sys.argv[1], 'tool'); tool.write_text('#!/bin/sh\\n'); tool.chmod(0o755); print(why(tool))"
    mount = f'mount -t tmpfs -o noexec none {tmp_path} && exec "$@"'
    command = ["unshare", "-rm", "sh", "-c", mount, "sh", sys.executable, "-c", program, str(tmp_path)]
    if not shutil.which("unshare"):
        pytest.skip("there is no unshare")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    assert done.stdout == "it is on a file system that is mounted noexec\n"


MAIN = "import re, sys\nWORD = re.compile('w')\n\ndef main():\n    helper()\n\ndef helper(): pass\n"


@pytest.mark.parametrize("more", ["", "if __name__ == '__main__':\n    pass\n", "class Tool:\n    main()\n"])
def test_a_python_file_that_only_defines_functions_is_recognised(program, more):
    assert why_nothing_is_called(program(MAIN + more, "tool.py"))


@pytest.mark.parametrize(
    "more", ["main()\n", "if __name__ == '__main__':\n    sys.exit(main())\n", "done = main()\n", "print('x')\n", "(\n"]
)
def test_a_python_file_that_calls_something_or_is_no_python_is_not_blamed(program, more):
    assert not why_nothing_is_called(program(MAIN + more, "tool.py"))


def test_only_python_files_with_functions_can_lack_a_call(program):
    assert not why_nothing_is_called(program("x = 1\n", "tool.py"))
    assert not why_nothing_is_called(program(MAIN, "tool"))
    assert not why_nothing_is_called(Path("/nowhere/tool.py"))
