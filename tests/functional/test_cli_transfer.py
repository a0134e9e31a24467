"""`parcelq upload` and `parcelq download`."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cli_fixtures import Cli

pytest_plugins = ["cli_fixtures"]


@pytest.fixture
def topic(cli: Cli) -> str:
    cli.ok("topics", "create", "t")
    return "t"


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "lines.txt"
    path.write_text("".join(f"{number}\n" for number in range(25)))
    return path


def test_upload_makes_parcels_with_a_lineage_of_a_file(cli: Cli, topic: str, lines: Path) -> None:
    done = cli.ok("upload", topic, lines, "--parcel-size", "10", "--json")
    assert done.document == {"messages": 3, "files": [{"file": str(lines), "messages": 3, "format": "lines"}]}
    messages = cli.ok("pull", topic, "--min", "3", "--json").documents
    messages.sort(key=lambda one: int(one["attributes"]["Lineage"].partition("-")[0]))
    assert "".join(one["body"] for one in messages) == lines.read_text()
    assert [one["attributes"]["Entries"] for one in messages] == ["10", "10", "5"]
    assert all(one["attributes"]["Source"].startswith(f"file://{lines}?put=") for one in messages)


def test_upload_takes_several_files_one_after_another(cli: Cli, topic: str, lines: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.touch()
    done = cli.ok("upload", topic, lines, empty)
    assert done.text == "published 2 messages from 2 files\n"
    assert done.err == "uploading: 1 of 2 files, 1 message\n"


def test_a_file_that_is_not_there_leaves_nothing_half_done(cli: Cli, topic: str, lines: Path) -> None:
    assert "file 'nowhere' cannot be read" in cli.fails("upload", topic, lines, "nowhere")
    assert cli.ok("topics", "count", topic, "--json").document["approximate_count"] == 0


def test_an_entry_too_large_needs_a_bucket(cli: Cli, topic: str, tmp_path: Path, overflow_bucket: str) -> None:
    large = tmp_path / "large.txt"
    large.write_bytes(b"x" * 3_000_000 + b"\n")
    assert "no bucket was given" in cli.fails("upload", topic, large)
    cli.ok("upload", topic, large, "--bucket", overflow_bucket)
    assert cli.ok("pull", topic).out == large.read_bytes()


def test_download_writes_what_was_uploaded_in_its_order(cli: Cli, topic: str, lines: Path, tmp_path: Path) -> None:
    cli.ok("upload", topic, lines, "--parcel-size", "2")
    target = tmp_path / "target"
    done = cli.ok("download", topic, target, "--timeout", "0", "--json")
    assert done.document == {"file": str(target), "messages": 13, "entries": 25, "sources": 1, "incomplete": []}
    assert target.read_bytes() == lines.read_bytes()
    left = cli.ok("topics", "show", topic, "--json").document["approximate_counts"]
    assert left == {"available": 0, "in_flight": 0, "delayed": 0}


def test_download_prints_how_many_messages_and_entries_it_wrote(
    cli: Cli, topic: str, lines: Path, tmp_path: Path
) -> None:
    cli.ok("upload", topic, lines)
    target = tmp_path / "target"
    done = cli.ok("download", topic, target, "--timeout", "0")
    assert done.text == f"wrote 25 entries of 1 source to {target}\n"
    assert done.err == "downloading: 1 message, 25 entries\n"


def test_download_writes_messages_without_a_lineage_too(cli: Cli, topic: str, tmp_path: Path) -> None:
    cli.ok("publish", topic, "by hand")
    target = tmp_path / "target"
    assert cli.ok("download", topic, target, "--timeout", "0", "--json").document["sources"] == 0
    assert target.read_bytes() == b"by hand"


def test_download_fetches_an_entry_that_overflowed_into_the_bucket(
    cli: Cli, topic: str, tmp_path: Path, overflow_bucket: str
) -> None:
    large, target = tmp_path / "large.txt", tmp_path / "target"
    large.write_bytes(b"x" * 3_000_000 + b"\n")
    cli.ok("upload", topic, large, "--bucket", overflow_bucket)
    cli.ok("download", topic, target, "--timeout", "0")
    assert target.read_bytes() == large.read_bytes()


def test_a_download_names_what_is_missing_and_another_download_adds_it(
    cli: Cli, topic: str, lines: Path, tmp_path: Path
) -> None:
    cli.ok("upload", topic, lines, "--parcel-size", "10")
    target = tmp_path / "target"
    taken = cli.ok("pull", topic, "--max", "1", "--acknowledge", "--json").document
    done = cli("download", topic, target, "--timeout", "0", "--json")
    assert done.code == 1
    assert done.document["incomplete"] == [taken["attributes"]["Source"]]
    assert f"parcelq: {target} is incomplete: records of file://{lines}" in done.err
    attributes = [f"--attribute={name}={value}" for name, value in taken["attributes"].items()]
    cli.ok("publish", topic, taken["body"], *attributes)
    cli.ok("download", topic, target, "--timeout", "0")
    assert target.read_bytes() == lines.read_bytes()


def test_a_download_does_not_overwrite_an_existing_file(cli: Cli, topic: str, lines: Path) -> None:
    before = lines.read_bytes()
    assert "already exists" in cli.fails("download", topic, lines, "--timeout", "0")
    assert lines.read_bytes() == before


def test_a_folder_that_cannot_be_written_to_is_named(cli: Cli, topic: str, lines: Path) -> None:
    error = cli.fails("download", topic, lines / "target", "--timeout", "0")
    assert error == f"parcelq: the folder of FILE is '{lines}', but must be a folder; it is a file\n"


def test_upload_reads_a_pipe_to_its_end(cli: Cli, topic: str, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(pipe.write_bytes, b"a\nb\nc\n")
        assert cli.ok("upload", topic, pipe, "--parcel-size", "2").text == "published 2 messages from 1 file\n"
    messages = cli.ok("pull", topic, "--min", "2", "--json").documents
    assert {one["attributes"]["Lineage"] for one in messages} == {"0-4/*", "4-6/6"}
    assert all(one["attributes"]["Source"].startswith(f"file://{pipe}?put=") for one in messages)


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_upload_reads_the_standard_input_to_its_end(cli: Cli, topic: str, name: str) -> None:
    running = cli.start("upload", topic, name)
    out, err = running.communicate("a\nb\n", timeout=30)
    assert (running.returncode, out) == (0, "published 1 message from 1 file\n"), err
    assert cli.ok("pull", topic, "--json").document["attributes"]["Source"].startswith("file:///dev/stdin?put=")


def test_a_file_of_the_kernel_is_uploaded_with_the_size_that_it_has(cli: Cli, topic: str) -> None:
    cli.ok("upload", topic, "/proc/version")
    message = cli.ok("pull", topic, "--json").document
    size = len(Path("/proc/version").read_bytes())
    assert message["attributes"]["Lineage"] == f"0-{size}/{size}"


def test_upload_refuses_what_is_no_file_and_says_what_it_is(cli: Cli, topic: str, tmp_path: Path) -> None:
    assert "cannot be read: it is a folder" in cli.fails("upload", topic, tmp_path)
    assert "cannot be read: it is a device" in cli.fails("upload", topic, "/dev/zero")
    assert "cannot be read: it is a folder" in cli.fails("publish", topic, "--file", tmp_path)


def test_a_download_into_a_folder_or_under_too_long_a_name_is_refused_before_it_begins(
    cli: Cli, topic: str, tmp_path: Path
) -> None:
    cli.ok("publish", topic, "a")
    assert "but must not be a folder" in cli.fails("download", topic, tmp_path, "--timeout", "0")
    long = tmp_path / ("n" * 250)
    assert "its name must have at most 249 bytes" in cli.fails("download", topic, long, "--timeout", "0")
    assert cli.ok("pull", topic).out == b"a\n"


def test_a_file_whose_name_is_not_utf8_is_uploaded_and_its_name_is_escaped(
    cli: Cli, topic: str, tmp_path: Path
) -> None:
    path = tmp_path / "caf\udce9.txt"
    path.write_bytes(b"a\n")
    assert cli.ok("upload", topic, path, "--json").document["files"] == [
        {"file": str(path), "messages": 1, "format": "lines"}
    ]
    assert r"caf\udce9.txt" in cli.fails("download", topic, path, "--timeout", "0")


def test_an_error_names_the_file_when_the_disk_has_no_room(cli: Cli, topic: str, tmp_path: Path) -> None:
    cli.ok("publish", topic, "x" * 100_000)
    target = tmp_path / "target"
    done = cli.shell('ulimit -f 8; exec "$@"', "download", topic, str(target), "--timeout", "0", "--quiet")
    assert done.returncode == 1
    assert str(target) in done.stderr.decode()
    assert b"File too large" in done.stderr
    assert done.stderr.count(b"\n") == 1
