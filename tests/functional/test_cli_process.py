"""`parcelq process`."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from parcelq_cli.stopping import Stopped, Stopper

if TYPE_CHECKING:
    from cli_fixtures import Cli

pytest_plugins = ["cli_fixtures"]


@pytest.fixture
def topics(cli: Cli) -> tuple[str, str]:
    for name in ("in", "out"):
        cli.ok("topics", "create", name, "--max-receive-count", "1")
    return "in", "out"


@pytest.fixture
def upper(tmp_path: Path) -> tuple[str, ...]:
    settings = tmp_path / "settings.yaml"
    settings.write_text("filter: true\narguments: [a-z, A-Z]\n")
    return "--step", "tr", "--settings", str(settings)


def upload(cli: Cli, tmp_path: Path, text: str, parcel_size: int) -> None:
    file = tmp_path / "input"
    file.write_text(text)
    cli.ok("upload", "in", file, "--parcel-size", str(parcel_size))


def results(cli: Cli, least: int) -> list[dict[str, Any]]:
    return cli.ok("pull", "out", "--min", str(least), "--json").documents


def test_process_runs_the_step_over_every_message(
    cli: Cli, topics: tuple[str, str], upper: tuple[str, ...], tmp_path: Path
) -> None:
    upload(cli, tmp_path, "a\nb\nc\n", parcel_size=1)
    options = ("--timeout", "0", "--batch-size", "1", "--workflow-id", "wf-7", "--json")
    done = cli.ok("process", *topics, *upper, *options)
    counts = {"messages_processed": 3, "entries_processed": 3, "messages_published": 3, "failed": 0, "dead": 0}
    assert done.document.items() >= counts.items()
    assert "processing: " in done.err
    messages = results(cli, 3)
    assert sorted(one["body"] for one in messages) == ["A\n", "B\n", "C\n"]
    assert {one["attributes"]["Workflow"] for one in messages} == {"wf-7"}


def test_process_prints_a_summary_that_people_can_read(
    cli: Cli, topics: tuple[str, str], upper: tuple[str, ...], tmp_path: Path
) -> None:
    upload(cli, tmp_path, "a\n" * 1500, parcel_size=1500)
    done = cli.ok("process", *topics, *upper, "--timeout", "0", "--batch-size", "1500", "--parcel-size", "500", "-q")
    assert done.text.splitlines() == [
        "rounds              1",
        "messages processed  1",
        "entries processed   1,500",
        "messages published  3",
        "failed              0",
        "dead                0",
    ]
    assert done.err == ""


def test_a_message_with_too_many_entries_is_re_parcelled(
    cli: Cli, topics: tuple[str, str], upper: tuple[str, ...], tmp_path: Path
) -> None:
    upload(cli, tmp_path, "a\nb\nc\nd\n", parcel_size=4)
    done = cli.ok("process", *topics, *upper, "--timeout", "0", "--batch-size", "2", "--json")
    assert done.document["messages_processed"] == 3
    assert done.document["entries_processed"] == 4
    assert sorted(one["body"] for one in results(cli, 2)) == ["A\nB\n", "C\nD\n"]


def test_process_takes_topics_by_their_urls(cli: Cli, topics: tuple[str, str], upper: tuple[str, ...]) -> None:
    urls = [cli.ok("topics", "show", topic, "--json").document["url"] for topic in topics]
    cli.ok("publish", "in", "a")
    cli.ok("process", *urls, *upper, "--timeout", "0")
    assert [one["body"] for one in results(cli, 1)] == ["A"]


def test_an_entry_that_fails_permanently_leaves_a_dead_letter_and_a_tombstone(
    cli: Cli, topics: tuple[str, str], tmp_path: Path
) -> None:
    upload(cli, tmp_path, "a\n", parcel_size=1)
    options = ("--step", "false", "--timeout", "1", "--back-off-seconds", "0", "--json")
    done = cli.ok("process", *topics, *options)
    assert (done.document["dead"], done.document["entries_processed"]) == (1, 0)
    assert "warning: step 'false' exited with 1 (file://" in done.err
    [letter] = cli.ok("pull", "in-dead-letter", "--json").documents
    assert (letter["body"], letter["attributes"]["Reason"]) == ("a\n", "step 'false' exited with 1")
    [tombstone] = results(cli, 1)
    assert (tombstone["body"], tombstone["attributes"]["Dead"]) == ("a\n", "step 'false' exited with 1")


def test_an_output_that_is_too_large_for_a_message_overflows_into_the_bucket(
    cli: Cli, topics: tuple[str, str], upper: tuple[str, ...], tmp_path: Path, overflow_bucket: str
) -> None:
    file = tmp_path / "large"
    file.write_bytes(b"x" * 2_000_000 + b"\n")
    cli.ok("upload", "in", file, "--bucket", overflow_bucket)
    cli.ok("process", *topics, *upper, "--timeout", "0", "--bucket", overflow_bucket)
    assert cli.ok("pull", "out").out == b"X" * 2_000_000 + b"\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--step", "cat 'a b"), "step cat 'a b: there is no such file; its quote has no end"),
        (("--step", "no-such-step"), "step no-such-step: there is no such file, and no such program on the PATH"),
        (("--step", "tr", "--settings", "nowhere.yaml"), "settings file nowhere.yaml: it cannot be read"),
        (("--step", "tr", "--settings", "bad.yaml"), "unknown key 'filtre'"),
        (("--step", "./plain.txt"), "it is not executable"),
    ],
)
def test_a_bad_step_is_refused_before_any_message_is_pulled(
    cli: Cli, topics: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: Any, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text("filtre: true\n")
    Path("plain.txt").write_text("cat\n")
    cli.ok("publish", "in", "a")
    assert said in cli.fails("process", *topics, *options, "--timeout", "0")
    assert cli.ok("pull", "in", "--json").document["receive_count"] == 1


@pytest.mark.parametrize("missing", ["out", "in-dead-letter"])
def test_a_missing_topic_is_an_error_before_any_message_is_pulled(
    cli: Cli, topics: tuple[str, str], upper: tuple[str, ...], missing: str
) -> None:
    cli.ok("publish", "in", "a")
    cli.ok("topics", "delete", missing, "--yes")
    assert f"topic '{missing}': there is no topic" in cli.fails("process", *topics, *upper, "--timeout", "0")
    assert cli.ok("pull", "in", "--json").document["receive_count"] == 1


def finish(running: subprocess.Popen[str]) -> tuple[str, str]:
    out, err = running.communicate(timeout=30)
    assert "Traceback" not in err
    return out, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_waiting_ends_it_with_the_summary(
    cli: Cli, topics: tuple[str, str], upper: tuple[str, ...], number: signal.Signals
) -> None:
    running = cli.start("process", *topics, *upper, "--json")
    assert running.stderr is not None
    assert "Ctrl-C stops" in running.stderr.readline()
    running.send_signal(number)
    out, err = finish(running)
    assert running.returncode == 0
    assert "stopped\n" in err
    assert '"messages_processed": 0' in out


@pytest.fixture
def gate(tmp_path: Path) -> tuple[tuple[str, ...], Path, Path]:
    """A step that opens one pipe when it starts, and ends when another is opened."""
    started, go_on = tmp_path / "started", tmp_path / "go-on"
    os.mkfifo(started)
    os.mkfifo(go_on)
    step = tmp_path / "gate.sh"
    step.write_text(f"#!/bin/sh\n: > {started}\n: < {go_on}\ncat\n")
    step.chmod(0o755)
    settings = tmp_path / "gate.yaml"
    settings.write_text("filter: true\n")
    return ("--step", str(step), "--settings", str(settings)), started, go_on


def wait_until_asleep(pid: int) -> None:
    """Until the main thread waits: a signal that comes just before that is only looked at when the round has ended."""
    stat = Path(f"/proc/{pid}/stat")
    seen = 0
    while stat.exists() and seen < 20:
        seen = seen + 1 if stat.read_text().rpartition(")")[2].split()[0] == "S" else 0
        time.sleep(0.01)


def test_a_signal_during_a_round_lets_it_finish(
    cli: Cli, topics: tuple[str, str], gate: tuple[tuple[str, ...], Path, Path]
) -> None:
    options, started, go_on = gate
    cli.ok("publish", "in", "a")
    running = cli.start("process", *topics, *options, "--json")
    started.read_bytes()
    wait_until_asleep(running.pid)
    running.send_signal(signal.SIGTERM)
    assert running.stderr is not None
    assert any("stopping after the messages that are being processed" in line for line in running.stderr)
    go_on.write_bytes(b"")
    out, err = finish(running)
    assert running.returncode == 0
    assert '"messages_processed": 1' in out
    assert "stopped\n" in err
    assert [one["body"] for one in results(cli, 1)] == ["a"]


def test_a_second_signal_gives_the_messages_up(
    cli: Cli, topics: tuple[str, str], gate: tuple[tuple[str, ...], Path, Path]
) -> None:
    options, started, go_on = gate
    cli.ok("publish", "in", "a")
    running = cli.start("process", *topics, *options)
    started.read_bytes()
    wait_until_asleep(running.pid)
    assert running.stderr is not None
    running.send_signal(signal.SIGINT)
    assert any("stopping after the messages that are being processed" in line for line in running.stderr)
    running.send_signal(signal.SIGINT)
    with suppress(OSError):  # nobody reads it if the step has ended already
        os.close(os.open(go_on, os.O_WRONLY | os.O_NONBLOCK))
    out, _ = finish(running)
    assert (running.returncode, out) == (130, "")
    assert cli.ok("topics", "show", "in", "--json").document["approximate_counts"]["in_flight"] == 1


def test_a_process_command_that_is_killed_loses_nothing_and_doubles_nothing(cli: Cli, tmp_path: Path) -> None:
    for name in ("in", "out"):
        cli.ok("topics", "create", name)
    sqs = boto3.client("sqs")  # so that the messages that it held are delivered again soon
    sqs.set_queue_attributes(
        QueueUrl=sqs.get_queue_url(QueueName="in")["QueueUrl"], Attributes={"VisibilityTimeout": "2"}
    )
    text = "".join(f"line {number}\n" for number in range(300))
    upload(cli, tmp_path, text, parcel_size=10)
    runs, step = tmp_path / "runs", tmp_path / "slow.sh"
    step.write_text(f'#!/bin/sh\necho >> {runs}\nsleep 0.1\ntr a-z A-Z < "$2" > "$4"\n')
    step.chmod(0o755)
    options = ("--step", str(step), "--batch-size", "10", "--timeout", "5", "--back-off-seconds", "0")
    running = cli.start("process", "in", "out", *options)
    deadline = time.monotonic() + 60
    while not (runs.exists() and len(runs.read_text()) > 10) and time.monotonic() < deadline:
        time.sleep(0.02)
    running.kill()
    running.communicate()
    begun = len(runs.read_text())
    assert 10 < begun < 30
    cli.ok("process", "in", "out", *options)
    assert len(runs.read_text()) >= 30
    cli.ok("download", "out", tmp_path / "result", "--timeout", "1")
    assert (tmp_path / "result").read_text() == text.upper()


def test_after_its_work_the_stopper_restores_the_handlers_of_signals() -> None:
    before = signal.getsignal(signal.SIGTERM)
    stopper = Stopper(lambda: None)
    with stopper.listening():
        stopper.begin_waiting()
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_stopper_lets_only_the_first_signal_wait_for_the_end_of_a_round() -> None:
    stopper = Stopper(lambda: None)
    with stopper.listening():
        stopper.begin_round()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Stopped):
            stopper.begin_waiting()
        stopper.begin_round()
        with pytest.raises(KeyboardInterrupt) as ended:
            signal.raise_signal(signal.SIGINT)
        assert not isinstance(ended.value, Stopped)


WARM = """
import os
from parcelq.steps.function import step

@step
def run(entries):
    return [f"{entry} {os.getpid()}" for entry in entries]

if __name__ == "__main__":
    run.main()
"""


def test_the_processes_of_a_warm_step_serve_many_messages_and_end_with_the_command(
    cli: Cli, topics: tuple[str, str], tmp_path: Path
) -> None:
    upload(cli, tmp_path, "".join(f"{number}\n" for number in range(30)), parcel_size=1)
    step, settings = tmp_path / "step.py", tmp_path / "warm.yaml"
    step.write_text(WARM)
    settings.write_text("warm: true\n")
    options = ("--step", str(step), "--settings", str(settings), "--timeout", "0", "--batch-size", "1", "--json")
    assert cli.ok("process", *topics, *options).document["entries_processed"] == 30
    said = dict(one["body"].split() for one in results(cli, 30))
    assert len(said) == 30
    assert len(set(said.values())) <= (os.cpu_count() or 1)
    assert not [pid for pid in said.values() if Path(f"/proc/{pid}").exists()]


@pytest.mark.parametrize("output", ["in", "in-dead-letter"])
def test_the_output_does_not_go_back_to_the_topic_that_it_came_from(cli: Cli, output: str) -> None:
    cli.ok("topics", "create", "in")
    said = cli.fails("process", "in", output, "--step", "cat", "--timeout", "0", code=2)
    assert f"OUTPUT_TOPIC is '{output}', but must not be INPUT_TOPIC or its dead-letter topic" in said


def test_wrong_settings_are_an_error_before_any_message_is_pulled(
    cli: Cli, topics: tuple[str, str], tmp_path: Path
) -> None:
    upload(cli, tmp_path, "a\n", parcel_size=1)
    (tmp_path / "settings.yaml").write_text("filtre: true\n")
    settings = tmp_path / "settings.yaml"
    assert "unknown key 'filtre'" in cli.fails("process", *topics, "--step", "tr", "--settings", settings)
    assert "/nowhere/step: there is no such file" in cli.fails("process", *topics, "--step", "/nowhere/step")
    assert cli.ok("topics", "count", "in", "--json").document["approximate_count"] == 1


def test_emulate_refuses_wrong_settings_before_anything_is_started(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("filtre: true\n")
    (tmp_path / "lines").write_text("a\n")
    output = tmp_path / "results"
    arguments = ("emulate", tmp_path / "lines", "--step", "tr", "--output", output)
    assert "unknown key 'filtre'" in cli.fails(*arguments, "--settings", tmp_path / "settings.yaml")
    assert not output.exists()


@pytest.mark.parametrize(("options", "bodies"), [((), ["bad\n"]), (("--no-halving",), ["a\nbad\nc\n"])])
def test_an_option_of_process_switches_halving_off(
    cli: Cli, topics: tuple[str, str], tmp_path: Path, options: tuple[str, ...], bodies: list[str]
) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("filter: true\narguments: ['/bad/ { exit 3 } { print }']\n")
    upload(cli, tmp_path, "a\nbad\nc\n", parcel_size=3)
    cli.ok(
        *("process", *topics, "--step", "awk", "--settings", settings),
        *("--timeout", "1", "--back-off-seconds", "0", *options),
    )
    letters = cli.ok("pull", "in-dead-letter", "--json").documents
    assert [one["body"] for one in letters] == bodies


@pytest.mark.parametrize(("options", "seconds"), [((), 5), (("--back-off-seconds", "0"), 0)])
def test_an_option_of_process_sets_how_late_a_failed_message_is_delivered_again(
    cli: Cli, tmp_path: Path, options: tuple[str, ...], seconds: int
) -> None:
    for name in ("in", "out"):
        cli.ok("topics", "create", name)
    upload(cli, tmp_path, "a\n", parcel_size=1)
    done = cli.ok("process", "in", "out", "--step", "false", "--timeout", "1", "--json", *options)
    # Only a message that is delivered again within the second is run once more, and dies.
    assert (done.document["failed"], done.document["dead"]) == (0, 0 if seconds else 1)


@pytest.mark.parametrize("wrong", ["-1", "901", "soon"])
def test_a_back_off_that_sqs_would_not_take_is_refused(cli: Cli, wrong: str) -> None:
    assert "--back-off-seconds" in cli.fails(
        "process", "in", "out", "--step", "false", "--back-off-seconds", wrong, code=2
    )
