"""Records of every format: what comes out for a file is what the step gives on the whole file."""

from __future__ import annotations

import base64
import bz2
import csv
import gzip
import lzma
import re
import subprocess
import sys
from pathlib import Path

import pytest
from memory_store import Objects
from one_object import SOURCE, OneObject
from parcelq.collect.download import download
from parcelq.errors import SourceError
from parcelq.lineage.source import Source
from parcelq.process.apply import Route
from parcelq.process.processor import Processor
from parcelq.process.rules import Rules
from parcelq.process.worker import process
from parcelq.records import Format, by_name, parse
from parcelq.topics.attributes import FORMAT, HEADER
from parcelq.topics.memory import MemoryTopic
from parcelq.topics.message import Message
from parcelq.upload.files import upload_files
from parcelq.upload.notes import notes_of
from parcelq.upload.objects import ObjectUploader
from parcelq.upload.ranges import RangeTask, task_of
from parcelq_emulator.pipeline import noted_problems
from record_world import COPY, LENGTHS, MOLECULES, ORDERS, PICKY_SDF, PROTEINS, READS, UPPER_CSV, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


class TestCsv:
    @pytest.mark.parametrize("seed", [None, 1, 2])
    def test_csv_rows_come_out_as_the_step_writes_them_for_the_whole_file(self, world: World, seed: int | None) -> None:
        world.seed = seed
        world.step(UPPER_CSV)
        result = world.run("orders.csv", ORDERS)
        assert result.body == world.whole(ORDERS)
        assert (result.report["complete"], result.report["format"]) == (True, "csv")
        assert result.report["entries"]["read"] == result.report["entries"]["written"] == 40

    def test_a_byte_order_mark_belongs_to_the_header(self, world: World) -> None:
        world.step(COPY)
        data = b"\xef\xbb\xbfa;b\n" + b"".join(b"%d;x\n" % number for number in range(20))
        assert world.run("semicolon.csv", data).body == data

    @pytest.mark.parametrize("data", [b"a,b\r\n", b"a,b", b'"a\n",b\n'])
    def test_a_header_alone_gives_the_header_that_the_step_makes_of_it(self, world: World, data: bytes) -> None:
        world.step(UPPER_CSV)
        result = world.run("only-header.csv", data)
        assert result.body == world.whole(data)
        assert (result.report["complete"], result.report["entries"]["read"]) == (True, 0)

    def test_an_empty_csv_file_gives_what_the_step_makes_of_it(self, world: World) -> None:
        world.step(UPPER_CSV)
        result = world.run("empty.csv", b"")
        assert result.report["complete"]
        assert result.body == world.whole(b"")

    def test_a_csv_header_goes_through_several_steps(self, world: World) -> None:
        for _ in range(3):
            world.step(UPPER_CSV)
        result = world.run("orders.csv", ORDERS)
        assert result.body == world.whole(ORDERS)

    def test_a_long_header_goes_through_several_steps(self, world: World) -> None:
        world.step(COPY)
        world.step(COPY)
        data = b",".join(b"column%d" % number for number in range(300)) + b"\n" + b"1,2\n" * 30
        assert world.run("wide.csv", data).body == data

    def test_outputs_of_another_format_have_no_header_to_take_off(self, world: World) -> None:
        world.step(
            "import csv, sys\n"
            "rows = csv.DictReader(open(sys.argv[2], newline=''))\n"
            "open(sys.argv[4], 'w').writelines(f\"{row['order']}\\n\" for row in rows)\n",
            output=parse("lines"),
        )
        result = world.run("orders.csv", ORDERS)
        assert result.body == world.whole(ORDERS)
        assert result.report["entries"]["written"] == 40

    def test_a_step_may_write_rows_without_a_header(self, world: World) -> None:
        world.step(
            "import csv, sys\n"
            "rows = list(csv.reader(open(sys.argv[2], newline='')))[1:]\n"
            "csv.writer(open(sys.argv[4], 'w', newline='')).writerows(rows)\n",
            output_header=False,
        )
        result = world.run("orders.csv", ORDERS)
        assert result.body == world.whole(ORDERS)

    def test_a_step_can_turn_lines_into_csv(self, world: World) -> None:
        world.step(
            "import csv, sys\n"
            "out = csv.writer(open(sys.argv[4], 'w', newline=''))\n"
            "out.writerow(['name', 'size'])\n"
            "out.writerows([line.strip(), len(line)] for line in open(sys.argv[2]))\n",
            output=parse("csv"),
        )
        data = b"".join(b"line %d\n" % number for number in range(30))
        result = world.run("lines.txt", data)
        assert result.body == world.whole(data)

    def test_the_runs_of_a_step_that_drops_the_header_fail_and_no_record_is_lost(self, world: World) -> None:
        world.step("import sys\nopen(sys.argv[4], 'w').writelines(open(sys.argv[2]).readlines()[1:])\n")
        data = b"a,b\n" + b"".join(b"%d,x\n" % number for number in range(8))
        result = world.run("rows.csv", data)
        assert result.state.dead > 0
        reason = "writes nothing for a header without records; if this line is a record, set output_header: false"
        assert all(reason in one.attributes["Reason"] for one in world.dead)
        dead = b"".join(one.body for one in world.dead)
        assert sorted((result.body + dead).splitlines()) == sorted(data.splitlines()[1:])

    def test_a_filter_that_drops_the_header_loses_no_record_of_equal_ones(self, world: World) -> None:
        """The first lines of all runs are equal, so the first line of the first run could be taken for a header."""
        world.step("import sys\nopen(sys.argv[4], 'w').writelines(x for x in open(sys.argv[2]) if x[0] == 'A')\n")
        data = b"kind,n\n" + b"A,1\nB,2\n" * 8
        result = world.run("rows.csv", data)
        assert result.body == b""
        assert result.report["complete"] is False
        assert [one.body for one in world.dead] == [b"A,1\n"] * 8

    def test_a_dead_record_can_be_read_with_its_header(self, world: World) -> None:
        world.step(
            "import csv, sys\n"
            "rows = list(csv.DictReader(open(sys.argv[2], newline='')))\n"
            "if any(row['order'] == '7' for row in rows):\n"
            "    sys.exit('ValueError: order 7')\n" + UPPER_CSV
        )
        result = world.run("orders.csv", ORDERS)
        (dead,) = world.dead
        assert base64.b64decode(dead.attributes[HEADER]) == b'order,"customer, name",note\r\n'
        assert (dead.body, dead.attributes[FORMAT]) == (b'7,"C, D","\r\n"\r\n', "csv")
        (listed,) = result.report["dead"]
        assert listed["entries"] == 1
        line = world.store.read("results/orders.csv.dead.jsonl")
        assert b'"record": 8' in line
        rows = world.whole(ORDERS.replace(dead.body, b""))
        assert result.body == rows

    def test_an_unclosed_quote_is_an_error_that_names_the_place_and_nothing_is_published(self, tmp_path: Path) -> None:
        (tmp_path / "unclosed.csv").write_bytes(b'id,name\n1,"never closed\n' + b"2,x\n" * 100)
        topic = MemoryTopic("t")
        with pytest.raises(SourceError, match=r"unclosed\.csv cannot be processed: csv: record 1 \(line 2; byte 8\)"):
            upload_files(topic, [tmp_path / "unclosed.csv"], 10)
        assert topic.counts().visible == 0


FEW = """
import csv, sys
rows = list(csv.reader(open(sys.argv[2], newline="")))
kept = [row for row in rows[1:] if row[0] == "9"]
out = csv.writer(open(sys.argv[4], "w", newline=""))
if kept or ALWAYS:
    out.writerows([rows[0], *kept])
"""
DISAGREEING = """
import csv, sys
rows = list(csv.DictReader(open(sys.argv[2], newline="")))
names = ["id", "late"] if any(row["id"] == "9" for row in rows) else ["id"]
out = csv.DictWriter(open(sys.argv[4], "w", newline=""), names, extrasaction="ignore")
out.writeheader()
out.writerows({"late": "no", **row} for row in rows)
"""


class TestHeadersOfOutputs:
    ROWS = b"id,note\r\n" + b"".join(b'%d,"a\nb"\r\n' % number for number in range(20))

    @pytest.mark.parametrize("always", [True, False])
    @pytest.mark.parametrize("stages", [1, 3])
    def test_outputs_without_records_or_without_bytes_leave_the_header_once(
        self, world: World, always: bool, stages: int
    ) -> None:
        for _ in range(stages):
            world.step(FEW.replace("ALWAYS", str(always)))
        result = world.run("rows.csv", self.ROWS)
        assert result.body == b'id,note\r\n9,"a\nb"\r\n'
        assert (result.report["complete"], result.report["entries"]["written"]) == (True, 1)

    def test_if_no_run_writes_a_record_the_result_is_the_header(self, world: World) -> None:
        world.step(FEW.replace("ALWAYS", "True"))
        result = world.run("rows.csv", self.ROWS.replace(b"\n9,", b"\n8,"))
        assert (result.body, result.report["entries"]["written"]) == (b"id,note\r\n", 0)
        assert result.report["complete"] is True

    def test_if_no_run_writes_a_byte_the_result_is_empty(self, world: World) -> None:
        world.step(FEW.replace("ALWAYS", "False"))
        result = world.run("rows.csv", self.ROWS.replace(b"\n9,", b"\n8,"))
        assert (result.body, result.report["complete"]) == (b"", True)

    @pytest.mark.parametrize("stages", [1, 2])
    def test_a_run_whose_header_disagrees_fails_down_to_its_own_records(self, world: World, stages: int) -> None:
        for _ in range(stages - 1):
            world.step(COPY)
        world.step(DISAGREEING)
        world.workers = 1  # the run that ends first says what the header is
        result = world.run("rows.csv", self.ROWS)
        (dead,) = {one.body: one for one in world.dead}.values()
        assert dead.body == b'9,"a\nb"\r\n'
        reason = "writes no header, or a different one; set output_header: false"
        assert reason in dead.attributes["Reason"]
        assert base64.b64decode(dead.attributes[HEADER]) == b"id,note\r\n"
        assert result.body == b"id\r\n" + b"".join(b"%d\r\n" % number for number in range(20) if number != 9)
        assert result.report["complete"] is False

    def test_a_byte_order_mark_that_every_run_writes_is_in_the_result_once(self, world: World) -> None:
        world.step(
            "import sys\n"
            "data = open(sys.argv[2], encoding='utf-8-sig', newline='').read()\n"
            "open(sys.argv[4], 'w', encoding='utf-8-sig', newline='').write(data)\n"
        )
        result = world.run("rows.csv", self.ROWS)
        assert result.body == b"\xef\xbb\xbf" + self.ROWS


REFUSED = {
    "unclosed.csv": (b'id,name\n1,"never closed\n', r"csv: record 1 \(line 2; byte 8\) has a quote that is not closed"),
    "stray.csv": (
        b'id,name\n1,5" disk\n2,6" disk\n',
        r"csv: record 1 \(line 2; byte 8\) has a quote in the middle.* if no field has a line end in it",
    ),
    "three.fastq": (
        b"@r1\nAC\n+\nII\n@r2\nAC\n+\n",
        r"fastq: record 2 \(line 5; byte 12\) has only 3 of the four lines",
    ),
    "no-end.sdf": (b"m1\n\n$$$$\nm2\n\n", r"sdf: record 2 \(line 4; byte 9\) has no end line '\$\$\$\$'"),
    "no-start.fasta": (b"MKV\n>p1\nMKV\n", r"fasta: record 1 \(line 1; byte 0\) does not begin with '>'"),
    "cut.csv.gz": (gzip.compress(b"a,b\n" * 999)[:-9], "ends too early"),
}


class TestSourcesThatDoNotFitTheirFormat:
    def test_run_names_the_place_where_a_source_does_not_fit_its_format_and_the_others_come_out(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "good.csv").write_bytes(ORDERS)
        for name, (data, _) in REFUSED.items():
            (tmp_path / name).write_bytes(data)
        command = [sys.executable, "-P", "-c", "from parcelq_cli.main import main; main()", "run"]
        (tmp_path / "step").write_text('#!/bin/sh\ncp "$2" "$4"\n')
        (tmp_path / "step").chmod(0o755)
        files = [*REFUSED, "good.csv"]
        done = subprocess.run(
            [*command, *files, "--step", "./step"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        assert (tmp_path / "results/good.csv").read_bytes() == ORDERS
        for name, (_, reason) in REFUSED.items():
            assert re.search(f"{name}: no result: .*{reason}", done.stdout)
            assert not (tmp_path / "results" / name).exists()
        assert "6 files of 7 without a complete result" in done.stderr

    @pytest.mark.parametrize("name", [name for name in REFUSED if not name.endswith(".gz")])
    @pytest.mark.parametrize("range_bytes", [1, 5, 11, 1000])
    def test_a_range_that_does_not_fit_its_format_is_refused_too(self, name: str, range_bytes: int) -> None:
        data, _ = REFUSED[name]
        store = Objects()
        uploader = ObjectUploader(OneObject(data), store, 2, format=by_name(name))
        with pytest.raises(SourceError):
            upload_in_ranges(uploader, SOURCE, len(data), range_bytes)
        (problem,) = noted_problems(store).values()
        assert name.rpartition(".")[2] in problem


def upload_in_ranges(uploader: ObjectUploader, source: Source, size: int, range_bytes: int) -> None:
    topic, ranges = MemoryTopic("topic"), MemoryTopic("ranges")
    assert uploader.publish_ranges(ranges, source, topic, size, range_bytes)
    while pulled := ranges.pull(1, 10, 0):
        for one in pulled:
            task = task_of(one.wire.text)
            assert isinstance(task, RangeTask)
            uploader.upload_range(task, topic, ranges)
        ranges.acknowledge(pulled)


@pytest.mark.parametrize(("fmt", "count"), [(None, 1), (by_name("a.txt"), 0)])
@pytest.mark.parametrize(("name", "header"), [("a.txt", b""), ("a.csv", b"b,c\n")])
def test_a_source_with_nul_bytes_gets_a_warning_when_it_is_read_in_ranges(
    fmt: Format | None, count: int, name: str, header: bytes
) -> None:
    data = header + b"\0one\ntwo\n" * 100
    source = Source.of_object("bucket", f"inbox/{name}", etag="e", put="0055")
    store = Objects()
    uploader = ObjectUploader(OneObject(data), store, 2, format=fmt)
    upload_in_ranges(uploader, source, len(data), 300)
    warnings = {warning for note in notes_of(store, str(source)) for warning in note.warnings}
    assert len(warnings) == count
    assert all("has NUL bytes" in warning for warning in warnings)


class TestOtherFormats:
    @pytest.mark.parametrize(("name", "data", "fmt"), [("p.fasta", PROTEINS, "fasta"), ("r.fastq", READS, "fastq")])
    def test_sequences_are_those_of_biopython_on_the_whole_file(
        self, world: World, name: str, data: bytes, fmt: str
    ) -> None:
        world.seed = 3
        world.step(LENGTHS.replace("FORMAT", repr(fmt)), output=parse("lines"))
        result = world.run(name, data)
        assert result.body == world.whole(data)
        assert result.report["complete"]
        assert result.report["format"] == fmt

    def test_a_molecule_that_rdkit_cannot_read_dies_alone(self, world: World) -> None:
        world.step(PICKY_SDF)
        result = world.run("molecules.sdf", MOLECULES)
        (dead,) = world.dead
        assert dead.body.startswith(b"m7\n")
        assert dead.body.endswith(b"$$$$\n")
        assert dead.body.count(b"$$$$") == 1
        assert result.body == world.whole(MOLECULES.replace(dead.body, b""))
        assert result.report["entries"] == {"read": 12, "done": 11, "dead": 1, "missing": 0, "written": 11}
        assert b'"record": 8' in world.store.read("results/molecules.sdf.dead.jsonl")

    def test_named_bad_records_are_cut_out_in_the_format_of_input_and_output(self, world: World) -> None:
        world.step(
            "import csv, json, sys\n"
            "rows = csv.DictReader(open(sys.argv[2], newline=''))\n"
            "out = csv.DictWriter(open(sys.argv[4], 'w', newline=''), rows.fieldnames)\n"
            "out.writeheader()\n"
            "rejects = open(sys.argv[sys.argv.index('--rejects') + 1], 'w')\n"
            "written = 0\n"
            "for number, row in enumerate(rows):\n"
            "    if int(row['order']) % 5 == 0:\n"
            "        print(json.dumps({'entry': number, 'after': written, 'reason': 'five'}), file=rejects)\n"
            "    else:\n"
            "        out.writerow(row)\n"
            "        written += 1\n",
            rejects=True,
        )
        world.parcel_size = world.batch_size = 7
        result = world.run("orders.csv", ORDERS)
        assert len(world.dead) == 8
        assert {int(one.body.split(b",")[0]) % 5 for one in world.dead} == {0}
        good = ORDERS
        for one in world.dead:
            good = good.replace(one.body, b"")
        assert result.body == good
        assert result.report["entries"]["dead"] == 8

    def test_a_format_with_a_marker_of_its_own_is_read_and_written(self, world: World) -> None:
        world.step(COPY)
        data = b"".join(b"#%d\n" % number + b"x\n" * (number % 3) for number in range(20))
        result = world.run("own.txt", data, parse("starts=#"))
        assert (result.body, result.report["entries"]["read"], result.report["format"]) == (data, 20, 'starts="#"')


EACH = """
from parcelq.step import reject, step

@step(each=True)
def run(entry):
    if BAD in entry:
        reject(entry, "bad")
    return entry

if __name__ == "__main__":
    run.main()
"""


class TestFunctions:
    @pytest.mark.parametrize(
        ("name", "data", "bad", "count"),
        [
            ("orders.csv", ORDERS, "late\nand", 10),
            ("molecules.sdf", MOLECULES, "broken", 1),
            ("proteins.fasta", PROTEINS, "p7 ", 1),
            ("reads.fastq", READS, "@r1\n", 1),
            ("lines.jsonl", b"".join(b'{"n": %d}\n' % number for number in range(20)), "7}", 2),
        ],
    )
    def test_a_function_gets_whole_records_and_rejects_those(
        self, world: World, name: str, data: bytes, bad: str, count: int
    ) -> None:
        world.step(EACH.replace("BAD", repr(bad)), rejects=True)
        world.parcel_size = world.batch_size = 9
        result = world.run(name, data)
        assert len(world.dead) == count
        assert all(bad.encode() in one.body for one in world.dead)
        good = data
        for one in world.dead:
            good = good.replace(one.body, b"")
        assert result.body == good
        assert result.report["entries"]["dead"] == count

    @pytest.mark.parametrize("data", [b"a,b\n", ORDERS])
    def test_a_function_of_all_records_does_not_get_the_header(self, world: World, data: bytes) -> None:
        world.step(
            "from parcelq.step import step\n"
            "@step\n"
            "def run(entries):\n"
            "    for entry in entries:\n"
            "        yield entry.upper()\n"
            "if __name__ == '__main__':\n"
            "    run.main()\n"
        )
        header, _, rows = data.partition(b"\n")
        assert world.run("rows.csv", data).body == header + b"\n" + rows.upper()


class TestCompression:
    LINES = b"".join(b"line %d\n" % number for number in range(500))

    @pytest.mark.parametrize(
        ("name", "data"),
        [
            ("two.txt.gz", gzip.compress(LINES[:999]) + gzip.compress(LINES[999:])),
            ("one.txt.bz2", bz2.compress(LINES)),
            ("one.txt.xz", lzma.compress(LINES)),
            ("named-otherwise.txt", gzip.compress(LINES)),
        ],
    )
    def test_run_decompresses_compressed_files(self, world: World, name: str, data: bytes) -> None:
        world.parcel_size = world.batch_size = 100
        world.step(COPY)
        result = world.run(name, data)
        assert (result.body, result.report["complete"]) == (self.LINES, True)

    def test_compressed_csv_keeps_its_header(self, world: World) -> None:
        world.step(UPPER_CSV)
        result = world.run("orders.csv.gz", gzip.compress(ORDERS))
        assert result.body == world.whole(ORDERS)
        only_header = gzip.compress(b"a,b\n")
        assert world.run("only.csv.gz", only_header).report["complete"]

    def test_broken_compressed_files_fail_alone_with_their_reasons(self, tmp_path: Path) -> None:
        data = gzip.compress(self.LINES)
        files = {"cut.txt.gz": data[:-20], "not.txt.gz": b"plain\n", "good.txt": self.LINES}
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        topic, done = MemoryTopic("t"), []
        with pytest.raises(SourceError, match=r"(?s)cut\.txt\.gz.*ends too early.*not\.txt\.gz.*is not gzip"):
            upload_files(
                topic, [tmp_path / name for name in files], 100, on_file=lambda path, _: done.append(path.name)
            )
        assert done == ["good.txt"]

    def test_other_bytes_after_gzip_data_give_a_warning(self, tmp_path: Path) -> None:
        (tmp_path / "garbage.txt.gz").write_bytes(gzip.compress(self.LINES) + b"garbage")
        warnings: list[str] = []
        topic = MemoryTopic("t")
        upload_files(
            topic, [tmp_path / "garbage.txt.gz"], 100, on_file=lambda _, uploaded: warnings.extend(uploaded.warnings)
        )
        assert len(warnings) == 1
        assert topic.counts().visible == 5


class TestPlainTopics:
    """Topics that no stack belongs to: nobody keeps objects, so messages bring all that is needed."""

    def test_csv_that_is_uploaded_and_downloaded_is_the_same_file(self, tmp_path: Path) -> None:
        (tmp_path / "orders.csv").write_bytes(ORDERS)
        topic = MemoryTopic("t")
        upload_files(topic, [tmp_path / "orders.csv"], 7)
        done = download(topic, tmp_path / "out", receive_message_timeout=0)
        assert (tmp_path / "out").read_bytes() == ORDERS
        assert (done.entries, done.incomplete) == (40, ())

    @pytest.mark.parametrize("again", [1, 2, 6])
    def test_a_download_counts_the_entries_of_the_file_and_not_those_that_are_delivered_again(
        self, tmp_path: Path, again: int
    ) -> None:
        (tmp_path / "orders.csv").write_bytes(ORDERS)
        topic, twice = MemoryTopic("t"), MemoryTopic("twice")
        upload_files(topic, [tmp_path / "orders.csv"], 7)
        messages = [topic.read(one) for one in topic.pull(1, 10, 0)]
        twice.publish([*messages, *messages[:again], Message(b"alone\n")])
        done = download(twice, tmp_path / "out", receive_message_timeout=0)
        assert (tmp_path / "out").read_bytes() == ORDERS + b"alone\n"
        assert (done.messages, done.entries) == (len(messages) + again + 1, 41)

    def test_a_download_of_a_part_counts_the_entries_of_the_file_too(self, tmp_path: Path) -> None:
        (tmp_path / "orders.csv").write_bytes(ORDERS)
        topic, some = MemoryTopic("t"), MemoryTopic("some")
        upload_files(topic, [tmp_path / "orders.csv"], 7)
        header, first, _, *rest = [topic.read(one) for one in topic.pull(1, 10, 0)]
        some.publish([header, first, first, *rest])
        done = download(some, tmp_path / "out", receive_message_timeout=0)
        assert len(done.incomplete) == 1
        with (tmp_path / "out").open(newline="") as file:
            assert done.entries == 40 - 7 == sum(1 for _ in csv.reader(file)) - 1

    def test_csv_that_a_worker_processed_is_downloaded_with_its_header(self, world: World, tmp_path: Path) -> None:
        world.step(UPPER_CSV)
        (tmp_path / "orders.csv").write_bytes(ORDERS)
        topic, after, dead = map(MemoryTopic, ("t", "after", "dead"))
        upload_files(topic, [tmp_path / "orders.csv"], 7)
        processor = Processor(Route(topic, after, dead, after), world.steps[0], Rules(14, 7), None)
        process(processor, receive_message_timeout=0)
        processor.close()
        done = download(after, tmp_path / "out", receive_message_timeout=0)
        assert (tmp_path / "out").read_bytes() == world.whole(ORDERS)
        assert (done.entries, done.incomplete) == (40, ())

    def test_outputs_of_workers_that_disagree_about_the_header_are_not_mixed(
        self, world: World, tmp_path: Path
    ) -> None:
        (tmp_path / "rows.csv").write_bytes(b"a,b\n" + b"1,2\n" * 6)
        topic, after, dead = map(MemoryTopic, ("t", "after", "dead"))
        upload_files(topic, [tmp_path / "rows.csv"], 3)
        for name in ("one", "two"):
            world.step(f"import sys\nopen(sys.argv[4], 'w').write('{name}\\n' + open(sys.argv[2]).read())\n")
        for step, pulled in zip(world.steps, (topic.pull(1, 2, 0), topic.pull(1, 2, 0)), strict=True):
            processor = Processor(Route(topic, after, dead, after), step, Rules(3, 3), None)
            assert processor.handle(pulled, acknowledges=True).failed == []
            processor.close()
        done = download(after, tmp_path / "out", receive_message_timeout=0)
        assert len(done.incomplete) == 1
        assert (tmp_path / "out").read_bytes().count(b"\n") == 1 + 3 + 1
