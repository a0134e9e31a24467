"""Dependencies of steps: found, locked once, installed by uv into cached environments. The packages are made here."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from parcelq.errors import SettingsError
from parcelq.steps.environments import Dependencies, dependencies_of, environment_for
from parcelq.steps.find import local_program, local_step, with_environment
from parcelq.steps.settings import StepSettings
from step_runs import run_step

USES = """
from parcelq.step import step
import greeting

@step(each=True)
def greet(entry, settings):
    return f"{greeting.WORD} {entry} {settings}"

if __name__ == "__main__":
    greet.main()
"""
METADATA = '# /// script\n# requires-python = ">=3.11"\n# dependencies = ["greeting"]\n# ///\n'


def wheel(folder: Path, version: str, word: str) -> None:
    """A package `greeting` of this version."""
    about = f"greeting-{version}.dist-info"
    files = {
        "greeting.py": f"WORD = {word!r}\n",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: greeting\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in (*files, f"{about}/RECORD"))
    with zipfile.ZipFile(folder / f"greeting-{version}-py3-none-any.whl", "w") as file:
        for name, text in {**files, f"{about}/RECORD": record}.items():
            file.writestr(name, text)


class Quiet(SimpleHTTPRequestHandler):
    """A folder of packages, whose list of files is what pip and uv read."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def index(tmp_path, monkeypatch):
    """The folder of the package that uv finds, on the only index it is given."""
    folder = tmp_path / "index" / "greeting"
    folder.mkdir(parents=True)
    wheel(folder, "1.0", "hello")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder.parent))) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        for name, value in (
            ("UV_DEFAULT_INDEX", f"http://127.0.0.1:{server.server_port}/"),
            ("UV_NO_CACHE", "1"),
            ("NO_PROXY", "127.0.0.1"),
            ("XDG_CACHE_HOME", str(tmp_path / "cache")),
        ):
            monkeypatch.setenv(name, value)
        yield folder
        server.shutdown()


@pytest.fixture
def write(tmp_path):
    def to_file(text: str, name: str = "score.py") -> Path:
        path = tmp_path / "steps" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return to_file


def output_of(step) -> bytes:
    with run_step(step, [b"Ada\n"], 60) as ran:
        return ran.output.read_bytes()


def test_inline_metadata_gives_a_step_its_packages_and_the_library(write, tmp_path):
    settings = tmp_path / "settings.yaml"
    settings.write_text("step: {a: 1}\n")
    told: list[str] = []
    step = with_environment(local_program(str(write(METADATA + USES)), str(settings)), progress=told.append)
    assert step.lock.splitlines()[1:] == ["greeting==1.0"]
    assert step.warm
    assert output_of(step) == b"hello Ada {'a': 1}\n"
    assert told[0] == "looking up the versions of the packages"


@pytest.mark.parametrize("warm", [None, False])
def test_requirements_beside_the_step_and_packages_of_the_command_count_too(write, warm):
    path = write(USES)
    write("greeting<2\n", "requirements.txt")
    by_file = local_step(str(path))
    assert output_of(by_file) == b"hello Ada None\n"
    (path.parent / "requirements.txt").unlink()
    assert local_step(str(path)).python is None
    assert output_of(with_environment(local_program(str(path)), ["greeting==1.0"])) == b"hello Ada None\n"


def test_a_lock_stays_when_newer_versions_come_and_is_part_of_the_steps_version(write, index):
    path = write(METADATA + USES)
    first = local_step(str(path))
    wheel(index, "2.0", "good day")
    again = local_step(str(path))
    assert (again.lock, again.version) == (first.lock, first.version)
    newer = with_environment(local_program(str(path)), ["greeting>=2"])
    assert output_of(newer) == b"good day Ada None\n"
    assert newer.version != first.version


def test_nothing_else_that_is_installed_beside_the_library_can_be_imported(write):
    text = METADATA + USES.replace(
        "import greeting", "import greeting\ntry:\n    import pytest\nexcept ImportError: pass"
    )
    text = text.replace("{entry} {settings}", "{'pytest' in globals()}")
    assert output_of(local_step(str(write(text)))) == b"hello False\n"


def test_an_environment_that_was_not_finished_is_made_again(write, tmp_path):
    step = local_step(str(write(METADATA + USES)))
    # As a command leaves it that is killed.
    (home,) = (one for one in (tmp_path / "cache" / "parcelq" / "envs").iterdir() if one.is_dir())
    (home / ".complete").unlink()
    for path in home.glob("lib/python*/site-packages/greeting.py"):
        path.unlink()
    assert output_of(local_step(str(step.path))) == b"hello Ada None\n"


def test_commands_that_want_the_same_environment_at_once_all_get_it(write):
    path = write(METADATA + USES)
    with ThreadPoolExecutor(4) as threads:
        steps = list(threads.map(lambda _: local_step(str(path)), range(4)))
    assert len({step.python for step in steps}) == 1
    assert output_of(steps[0]) == b"hello Ada None\n"


@pytest.mark.parametrize("after", [0.05, 0.2, 0.5])
def test_a_command_that_is_killed_while_it_installs_does_not_hinder_the_next(write, after):
    path = write(METADATA + USES)
    program = f"from parcelq.steps.find import local_step; local_step({str(path)!r})"
    process = subprocess.Popen([sys.executable, "-c", program])
    time.sleep(after)
    process.kill()
    process.wait()
    assert output_of(local_step(str(path))) == b"hello Ada None\n"


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ('dependencies = ["no-such-package"]', "no-such-package"),
        ('dependencies = ["greeting==9"]', "greeting==9"),
        ('dependencies = ["greeting =! 1"]', "comparison"),
        ('requires-python = ">=3.99"', "No interpreter found for Python >=3.99"),
        ("dependencies = [", "it is not TOML"),
        ("dependencies = 3", "dependencies is 3, but must be a list of texts"),
        ("requires-python = 3", "requires-python is 3, but must be a text"),
    ],
)
def test_a_package_that_cannot_be_installed_is_an_error_of_one_sentence(write, metadata, problem):
    path = write(f"# /// script\n# {metadata}\n# ///\n" + USES)
    with pytest.raises(SettingsError, match=problem) as caught:
        local_step(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_step_with_two_blocks_of_metadata_is_refused(write):
    block = "# /// script\n# dependencies = []\n# ///\n\n"
    with pytest.raises(SettingsError, match="it has 2 blocks"):
        dependencies_of(write(block + block))


def test_an_error_says_that_there_is_no_network_for_packages(write, monkeypatch, tmp_path):
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    wanted = Dependencies(write(USES), ("greeting",))
    with pytest.raises(SettingsError, match="Connection refused"):
        environment_for(wanted, lambda _: None, tmp_path / "other")


def test_packages_for_what_is_no_python_file_are_refused(make_step):
    with pytest.raises(SettingsError, match=r"only steps that end in \.py can have packages"):
        with_environment(local_program(str(make_step("cat"))), ["greeting"])


def test_a_step_without_dependencies_runs_on_the_current_interpreter(write):
    step = local_step(str(write("print(1)")))
    assert (step.python, step.lock, step.settings) == (None, "", StepSettings())
