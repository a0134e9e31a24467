"""What `parcelq run` takes as files: folders, patterns, pipes, and many files with one result."""

from __future__ import annotations

import gzip
import os
import shutil
import threading
import time
from pathlib import Path

import pytest
from local_world import FAILS_ON_BAD, UPPER, World, lines_of
from parcelq.errors import ParcelqError
from parcelq.local.files import FileState, LocalFile, LocalSource
from parcelq.local.inputs import find_inputs
from parcelq.local.spool import spooled
from parcelq.local.state import LocalRecord, StateFolder


class TestFolders:
    def test_a_folder_stands_for_all_its_files_and_results_keep_the_folders_below_it(self, world: World) -> None:
        for name in ("data/b.txt", "data/a.txt", "data/sub/a.txt", "data/.hidden", "data/.git/x"):
            world.write(name, f"{name}\n", 0o644)
        done = world.run("data", "--step", world.write("upper", UPPER))
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["results/a.txt", "results/b.txt", "results/sub/a.txt"]
        assert world.read("sub/a.txt") == "DATA/SUB/A.TXT\n"
        assert not world.state.exists()

    def test_the_folder_of_results_is_no_input_although_it_lies_in_the_folder_that_is_one(self, world: World) -> None:
        world.write("data/a.txt", "a\n", 0o644)
        step = world.write("upper", UPPER)
        for _ in range(2):
            done = world.run("data", "--step", step, "--output", "data/results")
            assert (done.returncode, done.stdout) == (0, "data/results/a.txt\n")

    def test_run_refuses_a_folder_without_files(self, world: World) -> None:
        world.write("data/.hidden", "a\n", 0o644)
        world.write("data/.git/x", "a\n", 0o644)
        done = world.run("data", "--step", "cat")
        assert done.returncode == 1
        assert "folder 'data' has no files; files and folders whose names begin with a dot do not count" in done.stderr
        assert not world.results.exists()

    def test_a_link_in_a_folder_that_leads_nowhere_is_named(self, world: World) -> None:
        world.write("data/a.txt", "a\n", 0o644)
        (world.folder / "data" / "b.txt").symlink_to("nowhere")
        done = world.run("data", "--step", "cat")
        assert done.returncode == 1
        assert "data/b.txt" in done.stderr
        assert "there is no such file" in done.stderr

    def test_two_files_with_one_result_are_refused_with_both_names(self, world: World) -> None:
        for name in ("a/x.txt", "b/x.txt"):
            world.write(name, "x\n", 0o644)
        done = world.run("a", "b/x.txt", "--step", "cat")
        assert done.returncode == 1
        assert "'b/x.txt'" in done.stderr
        assert "'a/x.txt'" in done.stderr
        assert not world.results.exists()

    def test_a_file_where_a_result_needs_a_folder_is_named_before_anything_runs(self, world: World) -> None:
        world.write("data/sub/a.txt", "a\n", 0o644)
        world.write("results/sub", "a file\n", 0o644)
        done = world.run("data", "--step", "cat")
        assert done.returncode == 1
        assert "needs a folder 'results/sub'" in done.stderr
        assert world.read("sub") == "a file\n"


class TestPatterns:
    def test_a_pattern_in_quotes_stands_for_the_files_that_match(self, world: World) -> None:
        for name in ("data/a.txt", "data/b.csv", "data/sub/c.txt"):
            world.write(name, "x\n", 0o644)
        found = find_inputs([f"{world.folder}/data/**/*.txt"], world.results)
        assert [one.name for one in found] == ["a.txt", "c.txt"]
        assert [one.name for one in find_inputs([f"{world.folder}/data/*"], world.results)] == ["a.txt", "b.csv"]

    def test_a_pattern_leaves_out_the_folder_of_results(self, world: World) -> None:
        for name in ("a.txt", "results/a.txt", "results/sub/b.txt"):
            world.write(name, "x\n", 0o644)
        found = find_inputs([f"{world.folder}/**/*.txt"], world.results)
        assert [one.path for one in found] == [world.folder / "a.txt"]
        with pytest.raises(ParcelqError, match="matches no file outside the folder of results"):
            find_inputs([f"{world.results}/*"], world.results)
        assert len(find_inputs([f"{world.results}/*"], world.folder / "other")) == 1

    def test_a_pattern_may_begin_with_a_folder_below_the_folder_of_results(self, world: World) -> None:
        world.write("data/a.txt", "x\n", 0o644)
        found = find_inputs([f"{world.folder}/data/*.txt"], world.folder)
        assert [one.path for one in found] == [world.folder / "data/a.txt"]

    def test_an_object_in_s3_and_the_folder_of_an_unknown_user_are_refused_by_name(self, world: World) -> None:
        with pytest.raises(ParcelqError, match="only parcelq run --stack NAME reads objects in S3"):
            find_inputs(["s3://bucket/key"], world.results)
        with pytest.raises(ParcelqError, match="'~no-such-user/x' cannot be read: there is no such file"):
            find_inputs(["~no-such-user/x"], world.results)

    def test_a_file_that_has_a_star_in_its_name_is_that_file(self, world: World) -> None:
        world.write("a*.txt", "x\n", 0o644)
        world.write("ab.txt", "x\n", 0o644)
        assert [one.name for one in find_inputs([world.folder / "a*.txt"], world.results)] == ["a*.txt"]

    def test_a_pattern_that_matches_no_file_is_refused(self, world: World) -> None:
        done = world.run("data/*.smi", "--step", "cat")
        assert done.returncode == 1
        assert "'data/*.smi' matches no file" in done.stderr


class TestPipes:
    def test_the_standard_input_is_a_file_called_stdin(self, world: World) -> None:
        done = world.run("-", "--step", world.write("upper", UPPER), data=lines_of(100).encode())
        assert (done.returncode, done.stdout) == (0, "results/stdin\n")
        assert world.read("stdin") == lines_of(100).upper()
        assert not world.state.exists()

    def test_a_name_says_what_the_records_of_the_standard_input_are(self, world: World) -> None:
        step = world.write("step.py", "import sys\nopen(sys.argv[4], 'w').write(open(sys.argv[2]).read())\n")
        arguments = ["-", "--name", "deep/x.csv", "--step", step, "--batch-size", "1"]
        done = world.run(*arguments, data=b'id,text\n1,"a\nb"\n2,c\n')
        assert (done.returncode, done.stdout) == (0, "results/deep/x.csv\n"), done.stderr
        assert world.read("deep/x.csv") == 'id,text\n1,"a\nb"\n2,c\n'
        assert world.report("deep/x.csv")["entries"]["read"] == 2

    def test_the_same_input_goes_on_where_it_stopped_and_another_one_does_not(self, world: World) -> None:
        step = world.write("step", FAILS_ON_BAD)
        data = b"good 1\nbad\ngood 2\n"
        assert world.run("-", "--step", step, data=data).returncode == 1
        assert [one["line"] for one in world.dead("stdin")] == [2]
        _, log = world.logging_step()
        step.write_text((world.folder / "logging").read_text())
        assert world.run("-", "--step", step, "--continue", data=data).returncode == 1
        assert log.read_text() == ""  # nothing but dead entries was left, and those need redrive
        done = world.run("-", "--step", step, data=b"other\n")
        assert done.returncode == 0, done.stderr
        assert "'stdin' is the result of job " in done.stderr
        assert world.read("stdin") == "OTHER\n"
        assert not world.state.exists()

    def test_a_named_pipe_is_read_to_its_end(self, world: World) -> None:
        pipe = world.folder / "pipe.csv"
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_bytes, args=(b"id\n1\n2\n",))
        writer.start()
        done = world.run(pipe, "--step", world.write("copy", '#!/bin/sh\ncat "$2" > "$4"\n'), "--batch-size", 1)
        writer.join()
        assert done.returncode == 0, done.stderr
        assert world.read("pipe.csv") == "id\n1\n2\n"
        assert world.report("pipe.csv")["format"] == "csv"

    def test_a_file_that_has_more_bytes_than_it_says_is_read_to_its_end(self, world: World) -> None:
        done = world.run("/proc/self/status", "--step", world.write("copy", '#!/bin/sh\ncat "$2" > "$4"\n'))
        assert done.returncode == 0, done.stderr
        assert "Name:" in world.read("status")

    @pytest.mark.parametrize(("path", "kind"), [("/dev/null", "a device"), ("missing", "there is no such file")])
    def test_run_refuses_what_cannot_be_read_to_an_end_and_says_what_it_is(
        self, world: World, path: str, kind: str
    ) -> None:
        done = world.run(path, "--step", "cat")
        assert done.returncode == 1
        assert path in done.stderr
        assert kind in done.stderr

    def test_a_file_without_the_right_to_read_it_is_named_before_anything_runs(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = world.write("secret", "x\n", 0o200)
        monkeypatch.setattr(os, "access", lambda *_: False)  # the user who runs the tests may read everything
        with pytest.raises(Exception, match=r"'.*secret' cannot be read: Permission denied"):
            FileState.of(path)

    def test_a_pipe_is_kept_once_however_often_it_gives_the_same(self, tmp_path: Path) -> None:
        def read(data: bytes, name: str = "x") -> LocalFile:
            source = tmp_path / "source"
            source.write_bytes(data)
            with source.open("rb") as pipe:
                return spooled(pipe, name, tmp_path / "spool", "command")

        one, same, other, named = read(b"a"), read(b"a"), read(b"b"), read(b"a", "y")
        assert one == same
        assert len({one.identity, other.identity, named.identity}) == 3
        assert len(list((tmp_path / "spool").iterdir())) == 3


class TestNames:
    def test_run_refuses_the_option_name_for_several_files(self, world: World) -> None:
        for name in ("a", "b"):
            world.write(name, "x\n", 0o644)
        done = world.run("a", "b", "--name", "x", "--step", "cat")
        assert done.returncode == 2
        assert "--name is 'x', but must be given for one file only, not for 2" in done.stderr

    @pytest.mark.parametrize("option", ["--name", "--combine"])
    @pytest.mark.parametrize("name", ["../x", "/x", "a//b", "."])
    def test_a_name_does_not_lead_out_of_the_folder_of_results(self, world: World, option: str, name: str) -> None:
        world.write("a", "x\n", 0o644)
        done = world.run("a", option, name, "--step", "cat")
        assert done.returncode == 2
        assert f"{option} is {name!r}, but must be the name of a file" in done.stderr

    def test_a_combined_result_does_not_overwrite_one_of_its_files(self, world: World) -> None:
        world.write("results/a", "x\n", 0o644)
        done = world.run("results/a", "--combine", "a", "--step", "cat")
        assert done.returncode == 1
        assert "would be overwritten" in done.stderr


class TestCombined:
    def test_combined_files_have_one_result_in_the_order_given_and_one_report_that_names_each(
        self, world: World
    ) -> None:
        world.write("b.txt", "b1\nb2", 0o644)
        world.write("a.txt.gz", gzip.compress(b"a1\na2\n"), 0o644)
        world.write("empty.txt", "", 0o644)
        step = world.write("upper", UPPER)
        done = world.run("b.txt", "a.txt.gz", "empty.txt", "b.txt", "--combine", "all.txt", "--step", step)
        assert (done.returncode, done.stdout) == (0, "results/all.txt\n"), done.stderr
        assert world.read("all.txt") == "B1\nB2\nA1\nA2\nB1\nB2"
        report = world.report("all.txt")
        assert [(one["file"], one["entries"]) for one in report["files"]] == [
            ("b.txt", 2),
            ("a.txt.gz", 2),
            ("empty.txt", 0),
            ("b.txt", 2),
        ]
        assert sum(one["bytes"] for one in report["files"]) == report["bytes_read"] == 18 - 1
        assert (report["complete"], report["entries"]["read"]) == (True, 6)
        assert not world.state.exists()

    def test_dead_entries_of_combined_files_are_listed_with_their_file_and_their_numbers_in_it(
        self, world: World
    ) -> None:
        world.write("data/a.csv", "id,text\n1,good\n2,bad\n", 0o644)
        world.write("data/b.csv", 'id,text\n3,"good\n\n"\n4,bad\n5,good\n', 0o644)
        world.write("data/c.csv", "id,text\n", 0o644)
        done = world.run("data", "--combine", "all.csv", "--step", world.write("step", FAILS_ON_BAD))
        assert done.returncode == 1
        assert world.read("all.csv") == 'id,text\n1,good\n3,"good\n\n"\n5,good\n'
        assert [(one["file"], one["record"], one["line"], one["entry"]) for one in world.dead("all.csv")] == [
            ("data/a.csv", 2, 3, "2,bad\n"),
            ("data/b.csv", 2, 5, "4,bad\n"),
        ]
        assert "data/b.csv, record 2: ValueError: bad entry" in done.stderr
        assert [one["entries"] for one in world.report("all.csv")["files"]] == [2, 3, 0]

    def test_an_entry_that_dies_in_a_later_step_names_a_file_only_if_it_is_known_which(self, world: World) -> None:
        world.write("a.txt", "good\n", 0o644)
        world.write("b.txt", "bad\n", 0o644)
        steps = ["--step", "cat", "--step", world.write("step", FAILS_ON_BAD)]
        assert world.run("a.txt", "b.txt", "--combine", "together.txt", *steps).returncode == 1
        (dead,) = world.dead("together.txt")
        assert (dead["entry"], dead.get("file"), dead.get("record")) == ("bad\n", None, None)
        apart = ["--combine", "apart.txt", "--parcel-size", 1, "--batch-size", 1]
        assert world.run("a.txt", "b.txt", *apart, *steps).returncode == 1
        (dead,) = world.dead("apart.txt")
        assert (dead["entry"], dead["file"]) == ("bad\n", "b.txt")

    def test_a_combined_job_that_is_killed_goes_on_with_the_right_numbers(self, world: World) -> None:
        texts = [f"{'bad' if number % 40 == 7 else 'good'} {number}\n" for number in range(400)]
        files = []
        for number in range(8):
            data = "".join(texts[number * 50 : number * 50 + 50]).encode()
            files.append(world.write(f"{number}.txt.gz", gzip.compress(data), 0o644))
        step = world.write("step", "#!/bin/sh\nsleep 0.05\n" + FAILS_ON_BAD.removeprefix("#!/bin/sh\n"))
        arguments = [*files, "--combine", "all.txt", "--step", step, "--batch-size", 5, "--parcel-size", 5]
        first = world.start(*arguments)
        deadline = time.monotonic() + 60
        while not world.stored("".join(texts).encode()) and time.monotonic() < deadline:
            time.sleep(0.1)
        first.kill()
        first.wait()
        done = world.run(*arguments)
        assert done.returncode == 1, done.stderr
        assert world.read("all.txt") == "".join(one for one in texts if "bad" not in one)
        assert [(one["file"], one["record"]) for one in world.dead("all.txt")] == [
            (f"{world.folder}/{number // 50}.txt.gz", number % 50 + 1)
            for number, one in enumerate(texts)
            if "bad" in one
        ]

    def test_files_of_different_formats_are_refused_with_both_names(self, world: World) -> None:
        world.write("a.csv", "x\n", 0o644)
        world.write("b.fasta", ">x\n", 0o644)
        done = world.run("a.csv", "b.fasta", "--combine", "all", "--step", "cat")
        assert done.returncode == 1
        assert "'a.csv' is csv and 'b.fasta' is fasta" in done.stderr

    def test_a_combined_run_names_the_file_whose_header_differs(self, world: World) -> None:
        world.write("a.csv", "x,y\n1,2\n", 0o644)
        world.write("b.csv", "x,z\n1,2\n", 0o644)
        done = world.run("a.csv", "b.csv", "--combine", "all.csv", "--step", world.write("upper", UPPER))
        assert done.returncode == 1
        assert "b.csv cannot be processed: its header differs from that of 'a.csv'" in done.stdout
        assert not world.state.exists()


def test_numbers_of_dead_entries_are_right_in_every_format_after_resuming(world: World) -> None:
    """What is done is done with one parcel size, what is left with another one."""
    cases: dict[str, tuple[str, list[tuple[int, int]]]] = {
        "x.csv": ('id,t\n1,"g\ng"\n2,bad\n3,good\n4,bad\n', [(2, 4), (4, 6)]),
        "x.fasta": (">good\nAC\n>bad1\nGT\nGT\n>good\nA\n>bad2\nC\n", [(2, 3), (4, 8)]),
        "x.sdf": ("good\n\n$$$$\nbad\n$$$$\ngood\n$$$$\nbad\n$$$$\n", [(2, 4), (4, 8)]),
    }
    dies = world.write("step", FAILS_ON_BAD)
    for name, (text, wanted) in cases.items():
        world.write(name, text, 0o644)
        # The first run stops at its first dead entry, wherever that is.
        world.run(name, "--step", dies, "--batch-size", 1, "--parcel-size", 1, "--max-dead", 0)
        done = world.run(name, "--step", dies, "--batch-size", 2, "--parcel-size", 3)
        assert done.returncode == 1, done.stderr
        assert [(one["record"], one["line"]) for one in world.dead(name)] == wanted, name


def test_a_thousand_files_of_one_line_take_a_few_runs(world: World) -> None:
    for number in range(1000):
        world.write(f"data/{number}.txt", f"line {number}\n", 0o644)
    runs = world.folder / "runs"
    step = world.write("step", f'#!/bin/sh\necho run >> {runs}\ncat "$2" > "$4"\n')
    done = world.run("data", "--combine", "all.txt", "--step", step)
    assert done.returncode == 0, done.stderr
    assert len(world.read("all.txt").splitlines()) == 1000
    assert len(runs.read_text().splitlines()) < 20


class TestSameFile:
    def test_a_file_under_two_names_has_two_results(self, world: World) -> None:
        world.write("a.txt", "a\n", 0o644)
        (world.folder / "link.txt").symlink_to("a.txt")
        done = world.run("a.txt", "link.txt", "--step", "cat")
        assert (done.returncode, done.stdout.split()) == (0, ["results/a.txt", "results/link.txt"])
        assert (world.read("a.txt"), world.read("link.txt")) == ("a\n", "a\n")

    def test_a_file_is_another_source_under_another_name(self, world: World) -> None:
        file = LocalFile("a.txt", FileState.of(world.write("a.txt", "a\n")))
        assert LocalSource.of_file(file, "p").source == LocalSource.of_file(file, "p").source
        assert LocalSource.of_file(file, "p").source != LocalSource.of_file(file, "q\udcff").source

    def test_the_copy_of_a_pipe_stays_until_no_job_needs_it(self, tmp_path: Path) -> None:
        copy = tmp_path / "copy"
        copy.touch()
        state, file = StateFolder(tmp_path / "results"), LocalFile("stdin", FileState.of(copy), "digest")
        first, second = (LocalRecord(name * 6, name, "", name, (file,)) for name in "ab")
        state.write([first, second])
        state.remove(first)
        assert copy.exists()
        state.remove(second)
        assert not copy.exists()


def test_a_result_never_overwrites_the_step_or_its_settings(world: World) -> None:
    world.write("a.txt", "a\n", 0o644)
    for name, options in (
        ("step", ["--step", "results/step"]),
        ("own", ["--step", "cat", "--settings", "results/own"]),
    ):
        file = world.write(f"results/{name}", UPPER if name == "step" else "filter: true\n")
        before = file.read_bytes()
        done = world.run("a.txt", "--name", name, *options)
        assert done.returncode == 1
        assert f"'results/{name}' is the file of a step '{file}' and would be overwritten" in done.stderr
        assert file.read_bytes() == before


def test_names_that_are_not_utf8_are_in_reports_and_lists_as_the_system_gives_them(world: World) -> None:
    name = "a\udcff.txt"
    world.write(name, "bad\n", 0o644)
    world.write("b.txt", "good\n", 0o644)
    done = world.run(name, "b.txt", "--combine", "all.txt", "--step", world.write("s\udcff", FAILS_ON_BAD))
    assert done.returncode == 1
    assert world.report("all.txt")["files"][0]["file"] == name
    assert [(one["file"], one["entry"]) for one in world.dead("all.txt")] == [(name, "bad\n")]
    assert world.read("all.txt") == "good\n"


def test_a_pattern_follows_no_links_that_lead_in_circles(world: World) -> None:
    for name in ("p/a/b/one.txt", "p/two.txt", "p/[x]/three.txt", "p/.hidden/four.txt"):
        world.write(name, "a\n", 0o644)
    (world.folder / "p/self").symlink_to(".")
    (world.folder / "p/a/up").symlink_to("..")
    wanted = ["one.txt", "three.txt", "two.txt"]
    for pattern in ("p/**/*.txt", "**/*.txt", world.folder / "p/**"):
        done = world.run(pattern, "--step", "cat", "--fresh")
        assert done.returncode == 0, done.stderr
        assert sorted(path.name for path in world.results.glob("*.txt")) == wanted
        shutil.rmtree(world.results)
