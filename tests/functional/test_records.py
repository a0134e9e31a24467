"""Records of every format: what comes out for a file is what the step gives on the whole file."""

from __future__ import annotations

import base64
import bz2
import gzip
import lzma
from pathlib import Path

import pytest
from parcelq.collect.download import download
from parcelq.errors import SourceError
from parcelq.process.apply import Route
from parcelq.process.processor import Processor
from parcelq.process.rules import Rules
from parcelq.process.worker import process
from parcelq.records import parse
from parcelq.topics.memory import MemoryTopic
from parcelq.topics.message import FORMAT, HEADER
from parcelq.upload.files import upload_files
from record_world import COPY, LENGTHS, MOLECULES, ORDERS, PICKY_SDF, PROTEINS, READS, UPPER_CSV, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


class TestCsv:
    @pytest.mark.parametrize("seed", [None, 1, 2])
    def test_rows_come_out_as_the_step_writes_them_for_the_whole_file(self, world: World, seed: int | None) -> None:
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

    def test_an_empty_file_gives_what_the_step_gives(self, world: World) -> None:
        world.step(UPPER_CSV)
        result = world.run("empty.csv", b"")
        assert result.report["complete"]
        assert result.body == world.whole(b"")

    def test_headers_go_through_several_steps(self, world: World) -> None:
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

    def test_lines_can_become_csv(self, world: World) -> None:
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

    def test_a_run_with_another_header_fails_and_nothing_is_eaten(self, world: World) -> None:
        world.step("import sys\nopen(sys.argv[4], 'w').writelines(open(sys.argv[2]).readlines()[1:])\n")
        data = b"a,b\n" + b"".join(b"%d,x\n" % number for number in range(8))
        result = world.run("rows.csv", data)
        assert result.state.dead > 0
        assert {one.attributes["Reason"].partition(" (")[0] for one in world.dead}
        assert all(
            "writes no header, or another one; set output_header: false" in one.attributes["Reason"]
            for one in world.dead
        )
        dead = b"".join(one.body for one in world.dead)
        assert sorted((result.body + dead).splitlines()) == sorted(data.splitlines()[1:])

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
        topic = MemoryTopic.create("t")
        with pytest.raises(SourceError, match=r"unclosed\.csv cannot be uploaded: csv: record 1 \(line 2; byte 8\)"):
            upload_files(topic, [tmp_path / "unclosed.csv"], 10)
        assert topic.counts().visible == 0


class TestOtherFormats:
    @pytest.mark.parametrize(("name", "data", "fmt"), [("p.fasta", PROTEINS, "fasta"), ("r.fastq", READS, "fastq")])
    @pytest.mark.parametrize("seed", [None, 3])
    def test_sequences_are_those_of_biopython_on_the_whole_file(
        self, world: World, name: str, data: bytes, fmt: str, seed: int | None
    ) -> None:
        world.seed = seed
        world.step(LENGTHS.replace("FORMAT", repr(fmt)), output=parse("lines"))
        result = world.run(name, data)
        assert result.body == world.whole(data)
        assert result.report["complete"]
        assert result.report["format"] == fmt

    def test_a_bad_molecule_dies_alone(self, world: World) -> None:
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

    def test_own_formats_are_given(self, world: World) -> None:
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
    def test_compressed_files_are_decompressed(self, world: World, name: str, data: bytes) -> None:
        world.parcel_size = world.batch_size = 100
        world.step(COPY)
        result = world.run(name, data)
        assert (result.body, result.report["complete"]) == (self.LINES, True)

    def test_compressed_csv_has_its_header(self, world: World) -> None:
        world.step(UPPER_CSV)
        result = world.run("orders.csv.gz", gzip.compress(ORDERS))
        assert result.body == world.whole(ORDERS)
        only_header = gzip.compress(b"a,b\n")
        assert world.run("only.csv.gz", only_header).report["complete"]

    def test_broken_files_end_with_their_reasons_and_fail_alone(self, tmp_path: Path) -> None:
        data = gzip.compress(self.LINES)
        files = {"cut.txt.gz": data[:-20], "not.txt.gz": b"plain\n", "good.txt": self.LINES}
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        topic, done = MemoryTopic.create("t"), []
        with pytest.raises(SourceError, match=r"(?s)cut\.txt\.gz.*ends too early.*not\.txt\.gz.*is not gzip"):
            upload_files(
                topic, [tmp_path / name for name in files], 100, on_file=lambda path, _: done.append(path.name)
            )
        assert done == ["good.txt"]

    def test_other_bytes_after_gzip_data_are_a_warning(self, tmp_path: Path) -> None:
        (tmp_path / "garbage.txt.gz").write_bytes(gzip.compress(self.LINES) + b"garbage")
        warnings: list[str] = []
        topic = MemoryTopic.create("t")
        upload_files(
            topic, [tmp_path / "garbage.txt.gz"], 100, on_file=lambda _, uploaded: warnings.extend(uploaded.warnings)
        )
        assert len(warnings) == 1
        assert topic.counts().visible == 5


class TestPlainTopics:
    """Topics that no stack belongs to: nobody keeps objects, so messages bring all that is needed."""

    def test_csv_that_is_uploaded_and_downloaded_is_the_same_file(self, tmp_path: Path) -> None:
        (tmp_path / "orders.csv").write_bytes(ORDERS)
        topic = MemoryTopic.create("t")
        upload_files(topic, [tmp_path / "orders.csv"], 7)
        done = download(topic, tmp_path / "out", receive_message_timeout=0)
        assert (tmp_path / "out").read_bytes() == ORDERS
        assert (done.entries, done.incomplete) == (40, ())

    def test_csv_that_a_worker_processed_is_downloaded_with_its_header(self, world: World, tmp_path: Path) -> None:
        world.step(UPPER_CSV)
        (tmp_path / "orders.csv").write_bytes(ORDERS)
        topic, after, dead = map(MemoryTopic.create, ("t", "after", "dead"))
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
        topic, after, dead = map(MemoryTopic.create, ("t", "after", "dead"))
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
