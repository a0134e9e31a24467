"""The command line as a whole: its streams, exit codes and errors."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from parcelq_cli import clients
from parcelq_cli.commands import app
from typer import Typer

if TYPE_CHECKING:
    from cli_fixtures import Cli

pytest_plugins = ["cli_fixtures"]


def commands(app: Typer, *names: str) -> list[tuple[str, ...]]:
    found = [(*names, one.name or one.callback.__name__) for one in app.registered_commands if one.callback]
    for group in app.registered_groups:
        assert group.typer_instance
        assert group.name
        found += commands(group.typer_instance, *names, group.name)
    return found


def test_starting_the_command_imports_no_slow_module() -> None:
    slow = {"boto3", "botocore", "moto", "samtranslator", "cfnlint", "yaml", "pydantic"}
    program = f"import sys, parcelq_cli.main; sys.exit(', '.join({slow} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).stderr == b"\n"


def without_emulator(*words: str) -> subprocess.CompletedProcess[str]:
    """Call `parcelq` as if the packages of `parcelq emulate` were not installed."""
    program = (
        "import importlib.util, sys; found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name == 'moto' else found(name, *more)\n"
        "from parcelq_cli.main import main; main()"
    )
    return subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("words", [("x", "--step", "tr"), ("--help",), ()])
def test_without_its_packages_emulate_says_how_to_install_them(words: tuple[str, ...]) -> None:
    done = without_emulator("emulate", *words)
    assert done.returncode == 1
    assert done.stderr == "parcelq: emulate needs more packages; install them with: pip install 'parcelq[emulate]'\n"


def test_without_its_packages_emulate_is_listed_with_what_to_install() -> None:
    listed = " ".join(without_emulator("--help").stdout.split())
    assert "emulate Run the deployed functions here; first pip install 'parcelq[emulate]'." in listed


def test_the_option_version_prints_the_version(cli: Cli) -> None:
    assert cli.ok("--version").text.count(".") == 2


COMMANDS = commands(app())
GROUPS: list[tuple[str, ...]] = [(), ("topics",)]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_and_has_the_common_options(cli: Cli, command: tuple[str, ...]) -> None:
    text = cli.ok(*command, "--help").text
    assert f"Usage: parcelq {' '.join(command)} " in text
    assert all(option in text for option in ("--json", "--quiet", "--verbose"))


def test_a_command_is_the_same_whether_it_is_imported_alone_or_with_all_others(cli: Cli) -> None:
    listed = cli.ok("--help").text
    for name, *more in COMMANDS:
        if not more and name != "emulate":
            (alone,) = commands(app([name]))
            assert alone == (name,)
            assert re.search(rf"^  {name}( |$)", listed, re.MULTILINE)


def test_a_command_imports_no_other_and_no_pydantic() -> None:
    program = (
        "import sys; from parcelq_cli.main import main; sys.argv = ['parcelq', 'run', 'none', '--step', 'cat']\n"
        "try: main()\n"
        "except SystemExit: print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "file 'none' cannot be read" in done.stderr
    modules = set(done.stdout.split())
    assert "parcelq_cli.run" in modules
    assert not modules & {"pydantic", "boto3", "parcelq_cli.messages", "parcelq_emulator.command", "moto"}


@pytest.mark.parametrize("delay", [0.02, 0.1, 0.25, 1.0])
@pytest.mark.parametrize("command", ["pull", "run", "try", "process"])
def test_ctrl_c_at_any_moment_prints_one_sentence_at_most(cli: Cli, tmp_path: Path, command: str, delay: float) -> None:
    for topic in ("in", "out", "in-letters"):
        cli.ok("topics", "create", topic)
    (tmp_path / "step").write_text("#!/bin/sh\nsleep 60\n")
    (tmp_path / "step").chmod(0o755)
    (tmp_path / "lines").write_text("a\n" * 10)
    step, lines, results = "--step", str(tmp_path / "lines"), str(tmp_path / "results")
    arguments = {
        "pull": ["in", "--timeout", "60"],
        "run": [lines, step, str(tmp_path / "step"), "--output", results],
        "try": [lines, step, str(tmp_path / "step")],
        "process": ["in", "out", step, "cat"],
    }[command]
    program = "import parcelq_cli.main; print('up', flush=True); parcelq_cli.main.main()"
    words = [sys.executable, "-c", program, command, *arguments]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "up\n"
        time.sleep(delay)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=30)
    assert "Traceback" not in err
    assert running.returncode in {130, -signal.SIGINT} or (command == "process" and running.returncode == 0), err
    assert len([line for line in err.splitlines() if "interrupted" in line]) <= 1


@pytest.mark.parametrize("arguments", [(), ("topics",)])
def test_parcelq_without_a_command_shows_its_help_and_ends_with_wrong_usage(
    cli: Cli, arguments: tuple[str, ...]
) -> None:
    done = cli(*arguments)
    assert done.code == 2
    assert "Usage: parcelq" in done.text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nonsense",), "nonsense"),
        (("pull",), "TOPIC"),
        (("pull", "t", "--nonsense"), "--nonsense"),
        (("pull", "t", "--max", "many"), "--max"),
        (("pull", "t", "--min", "0"), "'--min': 0 is not a whole number of at least 1"),
        (("estimate", "f", "--memory", "x"), "'--memory': x is not a whole number from 128 to 10,240"),
        (("pull", "t", "--timeout", "1e"), "'--timeout': 1e is not a number of at least 0"),
        (("pull", "t", "--timeout", "-1"), "--timeout"),
        (("pull", "t", "--timeout", "nan"), "--timeout"),
        (("pull", "t", "--min", "5", "--max", "3"), "--max is 3, but must be at least --min (5)"),
        (("pull", "t", "--quiet", "--verbose"), "--quiet or --verbose"),
        (("publish", "t"), "BODY"),
        (("publish", "t", ""), "BODY"),
        (("publish", "t", "a", "-"), "-"),
        (("publish", "t", "a", "--file", "f"), "--file"),
        (("publish", "t", "a", "--attribute", "lonely"), "--attribute is 'lonely', but must be NAME=VALUE"),
        (("run", "", "--step", "cat"), "no FILE may be empty"),
        (("status",), "give either --stack or --bucket"),
        (("publish", "t", "a", "--attribute", "a=1", "--attribute", "a=2"), "'a' twice"),
        (("upload", "t"), "FILE"),
        (("upload", "t", "f", "--parcel-size", "0"), "--parcel-size"),
        (("download", "t"), "FILE"),
        (("process", "a", "b"), "--step"),
        (("process", "a", "b", "--step", "tr", "--batch-size", "-5"), "--batch-size"),
        (("topics", "create", "t", "--max-receive-count", "0"), "--max-receive-count"),
        (("topics", "clear"), "PREFIX or --all"),
        (("upload", "t", "f", "--bucket", "s3://my-bucket/x"), "but must be the name alone: my-bucket"),
        (("publish", "t", "a", "--bucket", "my bucket"), "but must be 3 to 63 lower-case letters"),
        (("process", "a", "b", "--step", "tr", "--bucket", "x"), "--bucket is 'x', but must be"),
        (("status", "--bucket", "s3://"), "but must be a name alone"),
        (("repair", "x", "--bucket", "a\nb"), "--bucket is 'a\\nb', but must be"),
        (("publish", "t", "a", "--attribute", "a=\udcff"), "but must be UTF-8"),
        (("topics", "clear", "t", "--all"), "PREFIX or --all"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(cli: Cli, arguments: tuple[str, ...], said: str) -> None:
    assert said in cli.fails(*arguments, code=2)


def test_a_file_that_begins_with_a_hyphen_is_an_error_that_says_how_to_name_it(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "for the file" not in cli.fails("run", "-x.txt", "--step", "cat", code=2)
    Path("-x.txt").write_text("a\n")
    assert cli.fails("run", "-x.txt", "--step", "cat", code=2).endswith("; for the file of this name, give ./-x.txt\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("topics", "show", "nowhere"),
        ("topics", "count", "nowhere"),
        ("topics", "delete", "nowhere", "--yes"),
        ("publish", "nowhere", "a"),
        ("publish", "nowhere", "a", "b"),
        ("pull", "nowhere", "--timeout", "0"),
        ("upload", "nowhere", "/dev/null"),
        ("process", "nowhere", "nowhere", "--step", "cat", "--timeout", "0"),
    ],
)
def test_an_error_names_the_topic_that_does_not_exist(cli: Cli, arguments: tuple[str, ...]) -> None:
    assert "topic 'nowhere': there is no topic of that name" in cli.fails(*arguments)


def test_a_url_without_a_topic_means_that_the_topic_does_not_exist(cli: Cli, moto_url: str) -> None:
    url = f"{moto_url}/123456789012/nowhere"
    for command in (("topics", "count"), ("topics", "delete", "--yes"), ("pull", "--timeout", "0")):
        assert "topic 'nowhere': there is no topic of that name" in cli.fails(*command, url)


@pytest.mark.parametrize(
    ("missing", "said"),
    [("AWS_DEFAULT_REGION", "You must specify a region"), ("AWS_ACCESS_KEY_ID", "Unable to locate credentials")],
)
def test_missing_aws_configuration_is_an_error_of_one_sentence(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, missing: str, said: str
) -> None:
    monkeypatch.delenv(missing)
    assert said in cli.fails("topics", "list")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AWS_PROFILE", "nobody", "The config profile (nobody) could not be found"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1", "Could not connect to the endpoint"),
        ("AWS_ENDPOINT_URL", "nonsense", "Invalid endpoint: nonsense"),
        ("AWS_DEFAULT_REGION", "no where", "no where"),
        ("AWS_MAX_ATTEMPTS", "many", "check AWS_DEFAULT_REGION, AWS_ENDPOINT_URL, AWS_MAX_ATTEMPTS"),
        ("AWS_CONFIG_FILE", "/etc/passwd", "Unable to parse config file: /etc/passwd"),
    ],
)
def test_invalid_aws_configuration_is_an_error_of_one_sentence(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    assert said in cli.fails("topics", "list")


def _breaks(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def topics() -> None:
        raise error

    monkeypatch.setattr(clients, "topics", topics)


def test_a_fault_of_the_program_is_an_error_of_one_sentence(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    _breaks(monkeypatch, ZeroDivisionError("by zero"))
    assert cli.fails("topics", "list") == "parcelq: bug in parcelq, ZeroDivisionError: by zero; --verbose shows where\n"


def test_an_error_that_follows_from_ctrl_c_is_no_fault_of_the_program(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = RuntimeError("cannot join thread before it is started")
    error.__context__ = ValueError()
    error.__context__.__context__ = KeyboardInterrupt()
    _breaks(monkeypatch, error)
    done = cli("topics", "list")
    assert (done.code, done.err) == (130, "parcelq: interrupted\n")


def test_verbose_shows_where_a_fault_of_the_program_is(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    _breaks(monkeypatch, ZeroDivisionError("by zero"))
    done = cli("topics", "list", "--verbose")
    assert done.code == 1
    assert "Traceback" in done.err
    assert done.err.endswith("parcelq: bug in parcelq, ZeroDivisionError: by zero; --verbose shows where\n")


def test_verbose_shows_no_traceback_of_an_error_that_is_no_fault_of_the_program(cli: Cli) -> None:
    done = cli("topics", "show", "nowhere", "--verbose")
    assert done.code == 1
    assert "Traceback" not in done.err


def test_an_error_of_the_system_names_the_file(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    _breaks(monkeypatch, PermissionError(13, "Permission denied", "/secret"))
    assert cli.fails("topics", "list") == "parcelq: /secret: Permission denied\n"


def test_a_command_that_ctrl_c_ends_exits_with_130_and_prints_nothing(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    _breaks(monkeypatch, KeyboardInterrupt())
    done = cli("topics", "list")
    assert (done.code, done.out, done.err) == (130, b"", "")


def test_ctrl_c_ends_a_command_during_a_long_poll(cli: Cli) -> None:
    cli.ok("topics", "create", "t")
    running = cli.start("pull", "t", "--timeout", "60", "--verbose")
    assert running.stderr is not None
    for line in running.stderr:  # the client is made once its endpoint is found
        if "endpoint" in line:
            break
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=20)
    assert (running.returncode, out) == (130, "")
    assert "Traceback" not in err


def test_a_closed_pipe_ends_a_command_silently_and_messages_that_it_did_not_take_are_not_acknowledged(cli: Cli) -> None:
    cli.ok("topics", "create", "t")
    cli.ok("publish", "t", "a", "b")
    running = cli.start("pull", "t", "--acknowledge")
    assert running.stdout is not None
    running.stdout.close()
    assert running.stdin is not None
    running.stdin.close()
    assert running.stderr is not None
    assert running.stderr.read() == ""
    assert running.wait(20) == 1
    assert cli.ok("topics", "show", "t", "--json").document["approximate_counts"]["in_flight"] == 2


def test_the_option_quiet_leaves_only_results_on_stdout(cli: Cli) -> None:
    cli.ok("topics", "create", "t")
    done = cli.ok("publish", "t", "-", "--quiet", stdin=b"a\nb\n")
    assert (done.text, done.err) == ("published 2 messages\n", "")


def test_the_option_verbose_logs_on_stderr_only(cli: Cli) -> None:
    cli.ok("topics", "create", "t")
    done = cli.ok("topics", "list", "t", "--verbose")
    assert done.text == "t\nt-dead-letter\n"
    assert "info: Found endpoint for sqs" in done.err


@pytest.mark.parametrize("command", [*COMMANDS, *GROUPS])
def test_every_help_has_the_short_option_and_an_example(cli: Cli, command: tuple[str, ...]) -> None:
    text = cli.ok(*command, "-h").text
    assert "-h, --help" in text
    assert f"Example: parcelq {' '.join(command)}".rstrip() in " ".join(text.split())


def test_no_help_line_of_a_command_is_cut_off(cli: Cli) -> None:
    for group in ((), ("topics",)):
        lines = cli.ok(*group, "--help").text.splitlines()
        assert [line for line in lines if line.endswith("...") and not line.startswith("Usage:")] == []


def test_the_shell_completes_the_names_of_commands(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_PARCELQ_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "parcelq up")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert cli("").text.split() == ["upload"]


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("topics", "list")])
def test_a_full_disk_behind_stdout_is_an_error_of_one_sentence(cli: Cli, arguments: tuple[str, ...]) -> None:
    cli.ok("topics", "create", "t")
    done = cli.shell('"$@" >/dev/full', *arguments)
    assert done.returncode == 1
    assert re.fullmatch(rb"parcelq: (stdout:|cannot write to stdout:) No space left on device\n", done.stderr)


def test_a_closed_stdout_is_an_error_of_one_sentence(cli: Cli) -> None:
    done = cli.shell('"$@" >&-', "topics", "list")
    assert (done.returncode, done.stderr) == (1, b"parcelq: stdout is closed, so results cannot be printed\n")


def test_a_closed_stdin_is_an_error_of_one_sentence(cli: Cli) -> None:
    cli.ok("topics", "create", "t")
    done = cli.shell('"$@" <&-', "publish", "t", "-")
    assert (done.returncode, done.stderr) == (1, b"parcelq: stdin is closed, so no lines can be read from it\n")
    done = cli.shell('"$@" <&-', "topics", "delete", "t")
    assert done.returncode == 1
    assert b"there is no terminal for asking you" in done.stderr


@pytest.mark.parametrize("shell", ['"$@" 2>&-', '"$@" | head -c 1 >/dev/null; exit ${PIPESTATUS[0]}'])
def test_a_closed_stderr_or_a_short_reader_causes_no_traceback(cli: Cli, shell: str) -> None:
    done = cli.shell(shell, "--help")
    assert done.returncode in {0, 1}
    assert done.stderr == b""


def test_a_topic_whose_name_is_not_utf8_is_an_error_of_one_sentence(cli: Cli) -> None:
    assert "\\udcff" in cli.fails("topics", "count", "\udcff")
    assert "\\udcff" in cli.fails("topics", "create", "\udcff")


@pytest.mark.parametrize("command", ["run", "emulate"])
class TestResultsAndSources:
    """Both commands refuse results that would overwrite a source or each other before anything runs."""

    @pytest.mark.parametrize(
        ("names", "said"),
        [
            (["a/x", "b/x"], "both results would have the name 'x'"),
            (["out/x"], "is a source and would be overwritten"),
            (["r", "out/r.report.json"], "is a source and would be overwritten"),
            (["r", "out/r.dead.jsonl"], "is a source and would be overwritten"),
        ],
    )
    def test_two_sources_with_one_result_are_refused(
        self, cli: Cli, tmp_path, monkeypatch, command, names, said
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for name in (Path(name) for name in names):
            name.parent.mkdir(exist_ok=True)
            name.write_text("a\n")
        assert said in cli.fails(command, *names, "--step", "cat", "--output", "out")
        assert not Path("out/.parcelq").exists()

    @pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
    def test_a_source_is_not_overwritten_through_a_link(self, cli: Cli, tmp_path, command, link) -> None:
        file, out = tmp_path / "data", tmp_path / "out"
        file.write_text("a\n")
        out.mkdir()
        getattr(out / "data", link)(file)
        said = cli.fails(command, str(file), "--step", "cat", "--output", str(out))
        assert f"is the source '{file}' and would be overwritten" in said
        assert file.read_text() == "a\n"

    def test_an_output_that_is_a_file_is_refused(self, cli: Cli, tmp_path, command) -> None:
        (tmp_path / "data").write_text("a\n")
        (tmp_path / "out").write_text("")
        said = cli.fails(command, str(tmp_path / "data"), "--step", "cat", "--output", str(tmp_path / "out"))
        assert "a folder; it is a file" in said
