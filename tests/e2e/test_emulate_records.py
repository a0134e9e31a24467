"""Records of several formats through the deployed functions, by `parcelq emulate`."""

from __future__ import annotations

import bz2
import csv
import gzip
import sys
from pathlib import Path

from test_emulate import emulate, report_of

UPPER_CSV = f"""#!{sys.executable}
import csv, sys
with open(sys.argv[2], newline="") as file, open(sys.argv[4], "w", newline="") as out:
    rows = csv.DictReader(file)
    writer = csv.DictWriter(out, [*rows.fieldnames, "length"])
    writer.writeheader()
    for row in rows:
        writer.writerow({{**row, "length": sum(map(len, row.values()))}})
"""
LENGTHS = f"""#!{sys.executable}
import sys
from Bio import SeqIO
with open(sys.argv[4], "w") as out:
    for one in SeqIO.parse(sys.argv[2], "fasta"):
        out.write(f"{{one.id}} {{len(one)}}\\n")
"""


def step(folder: Path, text: str) -> Path:
    path = folder / "step"
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_csv_in_ranges_gives_every_row_with_one_header(tmp_path: Path) -> None:
    file, out = tmp_path / "orders.csv", tmp_path / "out"
    rows = [[str(n), ("plain", 'a "quoted"\nword', "x\r\n\r\ny", "")[n % 4], "ä,ö"] for n in range(400)]
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([["id", "note", "more"], *rows])
    ranges = ["--range-bytes", "1024", "--parcel-size", "25", "--batch-size", "25"]
    emulate(file, "--step", step(tmp_path, UPPER_CSV), *ranges, "--output", out)
    with (out / "orders.csv").open(newline="") as stream:
        found = list(csv.reader(stream))
    assert found == [["id", "note", "more", "length"], *([*row, str(sum(map(len, row)))] for row in rows)]
    report = report_of(out / "orders.csv")
    assert (report["complete"], report["format"], report["entries"]["read"]) == (True, "csv", 400)


def test_fasta_in_ranges_gives_what_biopython_reads(tmp_path: Path) -> None:
    file, out, settings = tmp_path / "proteins.fasta", tmp_path / "out", tmp_path / "settings.yaml"
    file.write_text("".join(f">p{n} some\n{'MKVLAT' * 10}\n" + "GG\n" * (n % 50) for n in range(200)))
    settings.write_text("output: lines\n")
    options = ["--settings", settings, "--range-bytes", "2048", "--parcel-size", "15"]
    emulate(file, "--step", step(tmp_path, LENGTHS), *options, "--output", out)
    assert (out / "proteins.fasta").read_text() == "".join(f"p{n} {60 + 2 * (n % 50)}\n" for n in range(200))
    assert report_of(out / "proteins.fasta")["format"] == "fasta"


def test_compressed_csv_and_a_given_format(tmp_path: Path) -> None:
    text = b"id,note\n" + b"".join(b'%d,"a\nb"\n' % number for number in range(50))
    files = {"a.csv.gz": gzip.compress(text), "b.csv.bz2": bz2.compress(text), "c.dat": text}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    copy = step(tmp_path, '#!/bin/sh\nhead -n 1 "$2" | grep -q ^id,note || exit 3\ncp "$2" "$4"\n')
    options = ["--format", "csv", "--parcel-size", "7", "--output", tmp_path / "out"]
    emulate(*(tmp_path / name for name in files), "--step", copy, *options)
    results = [path for path in (tmp_path / "out").iterdir() if path.is_file() and path.suffix != ".json"]
    assert len(results) == 3
    assert all(path.read_bytes() == text for path in results)
    assert all(report_of(path)["entries"]["read"] == 50 for path in results)
