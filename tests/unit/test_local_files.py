"""Files of this machine: read by what they are, and never overwritten by a result."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from parcelq.errors import InvalidValueError, ParcelqError
from parcelq.limits import KIB
from parcelq.lineage.source import Source
from parcelq.local_files import check_folder, check_free, check_readable, check_targets, naming, opened
from parcelq.result_names import result_names

LARGE = b"0123456\n" * (16 * KIB)


def read(path: Path, block: int = 1000) -> bytes:
    with opened(path) as found:
        return b"".join(iter(lambda: found.stream.read(block), b""))


@pytest.mark.parametrize("data", [b"", b"a", b"x" * 64 * KIB, b"x" * (64 * KIB + 1), LARGE])
def test_a_regular_file_is_read_whole_and_its_size_is_known(tmp_path, data):
    path = tmp_path / "file"
    path.write_bytes(data)
    assert read(path) == data
    with opened(path) as found:
        assert (found.size, found.path) == (len(data), str(path))


def test_a_link_stands_for_the_file_that_it_leads_to(tmp_path):
    (tmp_path / "file").write_bytes(b"a")
    (tmp_path / "link").symlink_to("file")
    with opened(tmp_path / "link") as found:
        assert found.path == str(tmp_path / "file")


@pytest.mark.parametrize("name", ["/proc/version", "/proc/kallsyms", "/sys/devices/system/cpu/online"])
def test_a_file_of_the_kernel_is_read_to_its_end_whatever_size_it_says(name):
    path = Path(name)
    if not path.exists():
        pytest.skip(f"this machine has no {name}")
    data = path.read_bytes()
    assert len(data) != path.stat().st_size
    assert read(path) == data
    with opened(path) as found:
        assert found.size in {None, len(data)}


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.open("ab").write(b"more\n"),
        lambda path: os.truncate(path, 100_000),
        lambda path: os.truncate(path, 10),
        lambda path: (path.write_bytes(LARGE.upper()), os.utime(path, (1, 1))),
    ],
    ids=["grows", "shrinks", "shrinks-below-what-was-read", "is-rewritten"],
)
@pytest.mark.parametrize("read_before", [0, 1, 70_000])
def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path, change, read_before):
    path = tmp_path / "file"
    path.write_bytes(LARGE)
    with opened(path) as found:
        found.stream.read(read_before)
        change(path)
        with pytest.raises(ParcelqError, match=r"file '.*' changed while it was read \(it had 131,072 bytes and has"):
            list(iter(lambda: found.stream.read(10_000), b""))


def test_a_path_that_cannot_be_read_to_an_end_is_refused_by_what_it_is(tmp_path):
    with pytest.raises(ParcelqError, match="it is a folder"):
        check_readable(tmp_path)
    with pytest.raises(ParcelqError, match="it is a device"):
        check_readable(Path("/dev/zero"))
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "socket"))
        with pytest.raises(ParcelqError, match="it is a socket"):
            check_readable(tmp_path / "socket")
    with pytest.raises(ParcelqError, match="there is no such file"):
        check_readable(tmp_path / "none")
    (tmp_path / "nowhere").symlink_to("none")
    with pytest.raises(ParcelqError, match="there is no such file"):
        check_readable(tmp_path / "nowhere")
    with pytest.raises(ParcelqError, match="File name too long"):
        check_readable(tmp_path / ("n" * 300))
    with pytest.raises(ParcelqError, match="null"):
        check_readable(Path("a\0b"))


def test_a_pipe_has_no_size_and_is_named_by_its_own_path(tmp_path):
    reading, writing = os.pipe()
    os.write(writing, b"a\nb")
    os.close(writing)
    path = Path(f"/dev/fd/{reading}")
    with opened(path) as found:
        assert (found.size, found.path) == (None, str(path))
        assert found.stream.read(100) == b"a\nb"
        assert Source.of_file(found.path, "1").name == str(reading)
    os.close(reading)


def test_an_error_of_somebody_else_is_not_taken_for_one_of_reading(tmp_path):
    (tmp_path / "file").write_bytes(b"a")
    for error in (ValueError("mine"), OSError(5, "mine")):
        with pytest.raises(type(error), match="mine") as raised, opened(tmp_path / "file"):
            raise error
        assert raised.value is error


class TestTargets:
    @pytest.fixture(autouse=True)
    def inside(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("data.txt").write_bytes(b"a\n")
        Path("results").mkdir()

    @pytest.mark.parametrize("folder", [".", "results/..", "results/../results/.."])
    def test_the_folder_of_a_source_is_refused_under_any_name(self, folder):
        with pytest.raises(ParcelqError, match="would be overwritten"):
            check_targets([Path("data.txt")], [Path(folder) / "data.txt"])

    @pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
    @pytest.mark.parametrize("backwards", [False, True])
    def test_a_source_is_protected_through_links_in_both_directions(self, link, backwards):
        linked = Path("results/data.txt")
        link(linked, Path("data.txt").resolve())
        source, target = (linked, Path("data.txt")) if backwards else (Path("data.txt"), linked)
        with pytest.raises(ParcelqError, match=r"is the source .* and would be overwritten"):
            check_targets([source], [target])

    def test_a_source_is_protected_through_a_folder_that_is_a_link(self):
        Path("out").symlink_to(".")
        with pytest.raises(ParcelqError, match=r"'out/data\.txt' is the source 'data\.txt'"):
            check_targets([Path("data.txt")], [Path("out/data.txt")])

    def test_the_report_of_one_source_never_replaces_another_source(self):
        one, other = Path("results/r"), Path("results/r.report.json")
        one.write_bytes(b"a\n")
        other.write_bytes(b"{}\n")
        targets = [Path("results") / name for path in (one, other) for name in result_names(path.name)]
        with pytest.raises(ParcelqError, match="would be overwritten"):
            check_targets([one, other], targets)
        with pytest.raises(ParcelqError, match=r"'results/r\.report\.json' is a source"):
            check_targets([other], [Path("results/r.report.json")])

    def test_a_result_may_replace_any_other_file(self):
        Path("results/data.txt").write_bytes(b"an earlier result")
        check_targets([Path("data.txt")], [Path("results/data.txt"), Path("results/none")])

    def test_a_folder_is_refused_as_a_target(self):
        Path("results/data.txt").mkdir()
        with pytest.raises(ParcelqError, match="is a folder, not a file"):
            check_targets([Path("data.txt")], [Path("results/data.txt")])

    def test_an_output_folder_that_is_a_file_is_refused(self):
        check_folder(Path("results"), "--output")
        check_folder(Path("new/folder"), "--output")
        with pytest.raises(InvalidValueError, match=r"--output is 'data\.txt', but must be a folder; it is a file"):
            check_folder(Path("data.txt"), "--output")
        with pytest.raises(InvalidValueError, match=r"but must be a folder; 'data\.txt' is a file"):
            check_folder(Path("data.txt/deep/er"), "--output")

    def test_a_file_and_a_folder_of_one_name_are_refused_with_both_names(self):
        Path("results/x").write_bytes(b"")
        with pytest.raises(ParcelqError, match="'x/y' needs a folder 'results/x', but that is a file"):
            check_free(Path("results"), "x/y")
        Path("results/z").mkdir()
        check_free(Path("results"), "z/y")
        with pytest.raises(ParcelqError, match="'z' is to be a file, but 'results/z' is a folder"):
            check_free(Path("results"), "z")


def test_an_error_names_the_file_when_the_disk_is_full():
    path = Path("/dev/full")
    with pytest.raises(OSError, match="No space left on device") as raised, naming(path), path.open("wb", 0) as file:
        file.write(b"x")
    assert raised.value.filename == "/dev/full"


def test_the_error_for_a_wrong_bucket_name_has_no_regular_expression(s3):
    from parcelq.aws.clients import translated
    from parcelq.errors import AwsError

    with pytest.raises(AwsError, match='Invalid bucket name "a b"') as raised, translated():
        s3.head_bucket(Bucket="a b")
    assert "regex" not in str(raised.value)
    assert "[a-z" not in str(raised.value)
