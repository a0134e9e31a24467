"""Environments of Python steps: uv determines the exact versions of a step's dependencies once, and installs the
dependencies into a cached environment.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from parcelq.errors import SettingsError

REQUIREMENTS: Final = "requirements.txt"
_BLOCK: Final = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)[ \t]*$\s(?P<content>(^#(| .*)$\s)+)^# ///[ \t]*$")
"""https://packaging.python.org/en/latest/specifications/inline-script-metadata/"""
_COMPLETE: Final = ".complete"
_LIBRARY: Final = ".parcelq"
_HIDDEN: Final = ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME", "UV_PYTHON", "UV_PROJECT_ENVIRONMENT")
_SHOWN: Final = 600

Progress = Callable[[str], None]


class Dependencies(NamedTuple):
    """The dependencies of a step. `requirements` is the path of the `requirements.txt` beside the step, if it exists.
    `python` is empty, or the versions of Python that the step needs, such as `>=3.12`.
    """

    step: Path
    packages: tuple[str, ...] = ()
    requirements: Path | None = None
    python: str = ""

    def __bool__(self) -> bool:
        return bool(self.packages or self.requirements or self.python)


def dependencies_of(step: Path, packages: Sequence[str] = ()) -> Dependencies:
    """Return the dependencies of a Python file: those in its inline metadata (PEP 723) and in a `requirements.txt`
    beside it, and `packages`. Raises SettingsError if the inline metadata cannot be read.
    """
    metadata = _metadata(step)
    wanted, python = metadata.get("dependencies", []), metadata.get("requires-python", "")
    if isinstance(wanted, list) and all(isinstance(one, str) for one in wanted) and isinstance(python, str):
        beside = step.parent / REQUIREMENTS
        return Dependencies(step, (*wanted, *packages), beside if beside.is_file() else None, python)
    problems = []
    if not isinstance(wanted, list) or not all(isinstance(one, str) for one in wanted):
        problems.append(f"dependencies is {wanted!r:.100}, but must be a list of texts")
    if not isinstance(python, str):
        problems.append(f"requires-python is {python!r:.100}, but must be a text such as '>=3.12'")
    raise SettingsError(f"inline metadata of {step}", problems)


def environment_for(wanted: Dependencies, progress: Progress, cache: Path | None = None) -> tuple[Path, str]:
    """Return the interpreter of an environment with a step's dependencies, and the environment's lock. The environment
    is created if it does not exist.

    The lock is a text: a line with the Python version, and a line for each exact package. Several commands may call
    this function at the same time, and a command that is killed does no harm. Raises SettingsError if a package or
    version of Python does not exist, or there is no network.
    """
    cache = cache or cache_folder()
    tool = Uv(wanted.step, progress)
    python, version = tool.python(wanted.python)
    lock = locked(wanted, f"Python {version}", ("--python", python), cache / "locks", tool)
    library = Path(__file__).parents[1]
    folder = cache / "envs" / digest_of(lock, python, str(library))
    with alone(folder.with_suffix(".lock")):
        if not (folder / _COMPLETE).is_file():
            progress("installing the packages")
            shutil.rmtree(folder, ignore_errors=True)
            tool("venv", "--quiet", "--python", python, str(folder))
            listed = folder / "lock.txt"
            listed.write_text(lock, encoding="utf-8")
            tool("pip", "sync", "--allow-empty-requirements", "--python", str(folder / "bin/python"), str(listed))
            _add_library(folder, library)
            (folder / _COMPLETE).touch()
    return folder / "bin" / "python", lock


def script_blocks(text: str) -> Iterator[re.Match[str]]:
    """Find the blocks `script` of the inline metadata in the text of a program."""
    return (found for found in _BLOCK.finditer(text) if found["type"] == "script")


def _metadata(step: Path) -> Mapping[str, object]:
    """Return the block `script` of a file's inline metadata; empty if the file has no such block."""
    import tomllib

    where = f"inline metadata of {step}"
    try:
        text = step.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return {}
    except OSError as error:
        raise SettingsError(f"step {step}", [f"it cannot be read: {error.strerror}"]) from None
    blocks = [found["content"] for found in script_blocks(text)]
    if len(blocks) > 1:
        raise SettingsError(where, [f"it has {len(blocks)} blocks '# /// script', but must have one"])
    if not blocks:
        return {}
    lines = (line[2:] if line.startswith("# ") else line[1:] for line in blocks[0].splitlines(keepends=True))
    try:
        return tomllib.loads("".join(lines))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(where, [f"it is not TOML: {error}"]) from None


def cache_folder() -> Path:
    """Return the folder that contains cached locks, environments and bundles of packages."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "parcelq"


def locked(wanted: Dependencies, target: str, options: Sequence[str], locks: Path, tool: Uv) -> str:
    """Return the exact packages that satisfy dependencies, after a line with `target`: the Python version, and perhaps
    the platform. Later calls with the same arguments return the same packages. Raises SettingsError if packages do not
    exist for the target, or if there is no network.
    """
    beside = wanted.requirements.read_bytes() if wanted.requirements else b""
    path = locks / f"{digest_of(*wanted.packages, wanted.python, target, beside)}.txt"
    with alone(path.with_suffix(".lock")):
        if path.is_file():
            return path.read_text(encoding="utf-8")
        tool.progress("looking up the versions of the packages")
        files = [str(wanted.requirements)] if wanted.requirements else []
        more = ["-"] if wanted.packages or not files else []
        given = "\n".join(wanted.packages)
        text = tool("pip", "compile", "--no-header", "--no-annotate", *options, *files, *more, given=given)
        lock = f"# {target}\n{text}"
        written = path.with_suffix(f".{os.getpid()}")
        written.write_text(lock, encoding="utf-8")
        written.replace(path)
        return lock


def _add_library(folder: Path, library: Path) -> None:
    """Make `parcelq` and PyYAML importable in an environment, but no other packages that are installed beside them. The
    environment's own packages come first.
    """
    import yaml

    shown = folder / _LIBRARY
    shown.mkdir()
    for package in (library, Path(yaml.__file__).parent):
        (shown / package.name).symlink_to(package)
    for site in folder.glob("lib/python*/site-packages"):
        (site / "parcelq.pth").write_text(f"{shown}\n", encoding="utf-8")


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Hold a file lock, for which other processes wait. The kernel releases it when this process ends."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def digest_of(*parts: str | bytes) -> str:
    """Return a short digest of a list of texts. Different lists have different digests."""
    digest = sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(b"%d:%b" % (len(data), data))
    return digest.hexdigest()[:32]


class Uv:
    """Runs the program uv. If uv fails, a SettingsError about the step's dependencies shows the message of uv."""

    def __init__(self, step: Path, progress: Progress) -> None:
        self.where = f"dependencies of {step}"
        self._folder = step.parent
        self.progress = progress
        hidden = {name: value for name, value in os.environ.items() if name not in _HIDDEN}
        path = os.pathsep.join(filter(None, [str(Path(sys.base_prefix) / "bin"), hidden.get("PATH")]))
        self._environment = {**hidden, "PATH": path, "UV_PYTHON_PREFERENCE": "system"}

    def __call__(self, *arguments: str, given: str = "") -> str:
        """Run uv with arguments, and return what it writes to stdout."""
        command = [self._binary(), *arguments, "--color", "never", "--no-progress"]
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, check=False, env=self._environment, cwd=self._folder
        )
        if done.returncode:
            text = re.sub("[\\s\N{MULTIPLICATION SIGN}\u2500-\u257f\u25b6]+", " ", done.stderr).strip()
            text = text.replace(" cause: ", ": ").removeprefix("error: ") or f"uv exited with {done.returncode}"
            raise SettingsError(self.where, [text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"])
        for line in filter(None, map(str.strip, done.stderr.splitlines())):
            self.progress(line)
        return done.stdout

    def python(self, wanted: str) -> tuple[str, str]:
        """Return an interpreter that can run a step, and its version. The current interpreter is preferred."""
        if not wanted:
            base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
            return str(base if base.is_file() else Path(sys.executable)), ".".join(map(str, sys.version_info[:3]))
        found = self("python", "find", "--no-project", wanted).strip()
        command = [found, "-I", "-S", "-c", "import sys; print('.'.join(map(str, sys.version_info[:3])))"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return found, done.stdout.strip()

    def _binary(self) -> str:
        with contextlib.suppress(ImportError, FileNotFoundError):
            from uv import find_uv_bin

            return str(find_uv_bin())
        if found := shutil.which("uv"):
            return found
        raise SettingsError(self.where, ["uv, which installs dependencies, is not installed; run pip install uv"])
