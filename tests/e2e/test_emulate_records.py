"""Records of several formats through the deployed functions, by one `parcelq emulate`, and by `parcelq run`.

One step reads and writes each format with the tools that people use: Python's csv, Biopython and RDKit. What comes out
must be what the same step writes for the whole file, in ranges and compressed, too.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from Bio import SeqIO
from parcelq.result_names import result_names
from test_emulate import PARCELQ, emulate

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STEP = f"""#!{sys.executable}
import csv, sys
data = open(sys.argv[2], encoding="utf-8", newline="").read()
out = open(sys.argv[4], "w", encoding="utf-8", newline="")
if data[:1] in (">", "@"):
    from Bio import SeqIO
    kind = "fasta" if data[0] == ">" else "fastq"
    for one in SeqIO.parse(sys.argv[2], kind):
        one.description += f" length={{len(one)}}"
        SeqIO.write(one, out, kind)
elif data.startswith("line"):  # takes it for a header, and leaves it out
    out.writelines(data.splitlines(keepends=True)[1:])
elif "$$$$" in data:
    from rdkit import Chem, RDLogger
    RDLogger.DisableLog("rdApp.*")
    for one in Chem.ForwardSDMolSupplier(open(sys.argv[2], "rb")):
        if one is None:
            sys.exit("ValueError: RDKit cannot read the molecule")
        # SDWriter would number the molecules of each run anew.
        out.write(f"{{Chem.MolToMolBlock(one)}}>  <ATOMS>\\n{{one.GetNumAtoms()}}\\n\\n$$$$\\n")
else:
    dialect = "excel-tab" if "\\t" in data.partition("\\n")[0] else "excel"
    rows = csv.DictReader(data.splitlines(keepends=True), dialect=dialect)
    writer = csv.DictWriter(out, [*rows.fieldnames, "length"], dialect=dialect)
    writer.writeheader()
    for row in rows:
        writer.writerow({{**row, "length": sum(map(len, row.values()))}})
"""
BROKEN = b"m17\n  by hand\n\n  9  9  0  0\nno atom\nM  END\n$$$$\n"
OPTIONS = ["--parcel-size", "40", "--batch-size", "40"]


def table(delimiter: str) -> bytes:
    notes = ("plain", 'a "quoted"\nword', "x\r\n\r\ny", "", "tab\t, comma")
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerows([["id", "note, or\nmore", "ä,ö"], *([n, notes[n % 5], "ü" * (n % 7)] for n in range(160))])
    return text.getvalue().encode()


def molecules() -> bytes:
    from rdkit import Chem

    made = []
    for number in range(60):
        molecule = Chem.MolFromSmiles("C" * (1 + number % 9) + "O")
        molecule.SetProp("_Name", f"m{number}")
        made.append(f"{Chem.MolToMolBlock(molecule)}>  <ID>\n{number}\n\n$$$$\n".encode())
    made[17] = BROKEN
    return b"".join(made)


def files() -> dict[str, bytes]:
    """Files by their names, before compression."""
    fasta = "".join(f">p{n} some @ protein\n{'MKVLAT' * 10}\n" + "GG\n" * (n % 50) for n in range(130)).encode()
    fastq = "".join(f"@r{n} first\n{'ACGTN' * (1 + n % 9)}\n+\n{'@+I>~' * (1 + n % 9)}\n" for n in range(130)).encode()
    whole = {"csv": table(","), "tsv": table("\t"), "fasta": fasta, "fastq": fastq, "sdf": molecules()}
    suffixes = {"csv": ".gz", "tsv": "", "fasta": ".bz2", "fastq": ".xz", "sdf": ".zst"}
    return {
        **{f"ranged.{kind}": data for kind, data in whole.items()},
        **{f"coded.{kind}{suffixes[kind]}": data for kind, data in whole.items() if suffixes[kind]},
    }


DOUBTFUL = b"".join(b"line %d\n" % number for number in range(160))


def compressed(name: str, data: bytes) -> bytes:
    half = len(data) // 2
    match Path(name).suffix:
        case ".gz":  # of two members
            return gzip.compress(data[:half]) + gzip.compress(data[half:])
        case ".bz2":
            return bz2.compress(data)
        case ".xz":
            return lzma.compress(data)
        case ".zst":
            return zstd.compress(data)
    return data


class Ran:
    """What came of all files."""

    def __init__(self, folder: Path, out: Path) -> None:
        self.folder, self.out = folder, out

    def result(self, name: str) -> bytes:
        return (self.out / result_names(name).result).read_bytes()

    def report(self, name: str) -> dict:
        return json.loads((self.out / result_names(name).report).read_bytes())

    def whole(self, data: bytes) -> bytes:
        """What the step writes for a whole file, without the broken molecule."""
        before, after = (self.folder / f"whole-{what}-{os.getpid()}" for what in ("input", "output"))
        before.write_bytes(data.replace(BROKEN, b""))
        subprocess.run([self.folder / "step", "--input", before, "--output", after], check=True)
        return after.read_bytes()


@pytest.fixture
def ran(once: Callable[[Callable[[Path], dict[str, Ran]]], dict[str, Ran]]) -> dict[str, Ran]:
    """All files by `parcelq emulate`, and by `parcelq run`; once for all processes of the tests."""
    return once(run_everything)


def run_everything(folder: Path) -> dict[str, Ran]:
    (folder / "step").write_text(STEP)
    (folder / "step").chmod(0o755)
    for name, data in files().items():
        (folder / name).write_bytes(compressed(name, data))
    (folder / "doubtful.txt").write_bytes(DOUBTFUL)
    paths = [folder / name for name in [*files(), "doubtful.txt"]]
    ranges = ["--range-bytes", "2048"]
    done = emulate(*paths, "--step", folder / "step", *OPTIONS, *ranges, "--output", folder / "emulated", expected=1)
    assert "2 entries failed for good" in done.stderr
    assert "doubtful.txt: warning: each of 4 runs wrote 1 record fewer than it got" in done.stderr
    command = [*PARCELQ, "run", *paths, "--step", folder / "step", *OPTIONS, "--output", folder / "here"]
    assert subprocess.run(command, capture_output=True, check=False, timeout=120, cwd=folder).returncode == 1
    return {"emulate": Ran(folder, folder / "emulated"), "run": Ran(folder, folder / "here")}


@pytest.mark.parametrize("how", ["emulate", "run"])
@pytest.mark.parametrize("name", files())
def test_the_result_is_what_the_step_writes_for_the_whole_file(ran: dict[str, Ran], how: str, name: str) -> None:
    data, found = files()[name], ran[how]
    assert found.result(name) == found.whole(data)
    report = found.report(name)
    broken = data.count(BROKEN)
    assert (report["complete"], report["entries"]["dead"], report["doubts"]) == (not broken, broken, [])
    assert report["format"] == name.split(".")[1]
    assert report["format_chosen_by"] == "name"
    codings = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
    coding = codings.get(Path(name).suffix)
    # On one machine nothing is cut into ranges.
    assert report["one_stream"] == (f"it is compressed ({coding})" if coding and how == "emulate" else "")


@pytest.mark.parametrize("name", ["ranged.csv", "ranged.tsv", "coded.csv.gz"])
def test_every_row_is_there_as_pythons_csv_module_reads_it(ran: dict[str, Ran], name: str) -> None:
    delimiter = "\t" if "tsv" in name else ","
    before = list(csv.reader(io.StringIO(files()[name].decode(), newline=""), delimiter=delimiter))
    after = list(csv.reader(io.StringIO(ran["emulate"].result(name).decode(), newline=""), delimiter=delimiter))
    assert [row[:-1] for row in after] == before
    assert ran["emulate"].report(name)["entries"]["read"] == len(before) - 1 == 160


@pytest.mark.parametrize("name", ["ranged.fasta", "coded.fasta.bz2", "ranged.fastq", "coded.fastq.xz"])
def test_every_sequence_is_there_as_biopython_reads_it(ran: dict[str, Ran], name: str) -> None:
    kind = name.split(".")[1]
    before = list(SeqIO.parse(io.StringIO(files()[name].decode()), kind))
    after = list(SeqIO.parse(io.StringIO(ran["emulate"].result(name).decode()), kind))
    assert [(one.id, one.seq, one.letter_annotations) for one in after] == [
        (one.id, one.seq, one.letter_annotations) for one in before
    ]
    assert ran["emulate"].report(name)["entries"]["read"] == len(before)


@pytest.mark.parametrize("how", ["emulate", "run"])
@pytest.mark.parametrize("name", ["ranged.sdf", "coded.sdf.zst"])
def test_every_molecule_that_rdkit_reads_is_there_and_the_broken_one_is_named(
    ran: dict[str, Ran], how: str, name: str
) -> None:
    from rdkit import Chem, RDLogger

    RDLogger.DisableLog("rdApp.*")
    after = list(Chem.ForwardSDMolSupplier(io.BytesIO(ran[how].result(name))))
    assert [one.GetProp("_Name") for one in after] == [f"m{number}" for number in range(60) if number != 17]
    assert all(int(one.GetProp("ATOMS")) == one.GetNumAtoms() for one in after)
    (dead,) = [json.loads(line) for line in (ran[how].out / result_names(name).dead).read_text().splitlines()]
    assert (dead["record"], dead["entry"].encode()) == (18, BROKEN)
    assert dead["reason"].startswith("ValueError: RDKit cannot read the molecule")


@pytest.mark.parametrize("how", ["emulate", "run"])
def test_a_result_that_lacks_a_record_of_every_run_does_not_count_as_complete(ran: dict[str, Ran], how: str) -> None:
    report = ran[how].report("doubtful.txt")
    assert report["entries"] == {"read": 160, "done": 160, "dead": 0, "missing": 0, "written": 156}
    assert report["complete"] is False
    assert "each of 4 runs wrote 1 record fewer than it got" in report["doubts"][0]
