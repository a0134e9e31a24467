"""Every example does what it says, run as its first comment says."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlparse

import pytest
from Bio import SeqIO
from Bio.SeqUtils import molecular_weight
from rdkit import Chem

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
WORKFLOWS = sorted(path.parent.name for path in EXAMPLES.glob("*/workflow.yaml"))
PARCELQ = Path(sys.executable).with_name("parcelq")


def run(name: str, out: Path, file: Path | None = None, code: int = 0) -> Path:
    """Run an example over the file that its comment names, and return the result."""
    (named,) = re.findall(
        rf"parcelq run (\S+) --workflow examples/{name}\n", (EXAMPLES / name / "workflow.yaml").read_text()
    )
    source = file or ROOT / ("examples/molecules.smi" if named == "FILE" else named)
    command = [PARCELQ, "run", source, "--workflow", EXAMPLES / name, "--output", out]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == code, done.stderr
    return out / source.name


def test_every_folder_of_examples_is_a_workflow_that_is_tested() -> None:
    tested = {"api", "flowers", "protein-weight", "rdkit", "upper", "vat", "weigh", "words"}
    assert {path.name for path in EXAMPLES.iterdir() if path.is_dir()} == set(WORKFLOWS) <= tested


def test_all_molecules_of_the_examples_are_valid() -> None:
    lines = (EXAMPLES / "molecules.smi").read_text().splitlines()
    assert len(lines) == 5000
    assert [line for line in lines if Chem.MolFromSmiles(line.split()[0]) is None] == []


def test_the_example_of_a_filter_changes_every_line(tmp_path: Path) -> None:
    assert run("upper", tmp_path).read_text() == (EXAMPLES / "molecules.smi").read_text().upper()


def test_the_example_that_splits_records_makes_several_of_one(tmp_path: Path) -> None:
    assert run("words", tmp_path).read_text().split("\n")[:-1] == (EXAMPLES / "molecules.smi").read_text().split()


def test_the_example_of_a_function_weighs_molecules(tmp_path: Path) -> None:
    weights = [json.loads(line) for line in run("weigh", tmp_path).read_text().splitlines()]
    assert len(weights) == 5000
    assert weights[0] == {"name": "aspirin", "weight": 172.09}


def test_the_example_for_csv_adds_a_column(tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run("vat", tmp_path).read_text())))
    orders = list(csv.DictReader(io.StringIO((EXAMPLES / "orders.csv").read_text())))
    assert [{**row, "gross": None} for row in rows] == [{**order, "gross": None} for order in orders]
    assert all(
        float(row["gross"]) == pytest.approx(1.2 * int(row["quantity"]) * float(row["price"]), abs=0.006)
        for row in rows
    )


def test_the_example_for_fasta_weighs_proteins(tmp_path: Path) -> None:
    lines = run("protein-weight", tmp_path).read_text().splitlines()
    proteins = list(SeqIO.parse(EXAMPLES / "proteins.fasta", "fasta"))
    assert [line.split("\t")[0] for line in lines] == [one.id for one in proteins]
    weights = [molecular_weight(one.seq, "protein") for one in proteins]
    assert [float(line.split("\t")[1]) for line in lines] == pytest.approx(weights, rel=1e-4)


def test_a_protein_with_unknown_amino_acids_is_dead_alone(tmp_path: Path) -> None:
    file = tmp_path / "two.fasta"
    file.write_text(">good\nMKV\n>bad\nMK!\n")
    result = run("protein-weight", tmp_path / "out", file, code=1)
    assert result.read_text() == "good\t376.51\n"
    assert json.loads(Path(f"{result}.dead.jsonl").read_text())["reason"] == "unknown amino acids !"


@contextmanager
def weather() -> Iterator[str]:
    """An API that is busy at first, and does not know one place."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            query = parse_qs(urlparse(self.path).query)
            status = 503 if len(asked) == 1 else 404 if query["latitude"] == ["59.91"] else 200
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps({"celsius": len(query["longitude"][0])}).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/weather"
    finally:
        server.shutdown()
        server.server_close()


def test_the_example_of_an_api_asks_about_every_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "api"
    folder.mkdir()
    for path in (EXAMPLES / "api").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    with weather() as url:
        settings = folder / "settings.yaml"
        settings.write_text(re.sub(r"url: \S+", f"url: {url}", settings.read_text()))
        command = [PARCELQ, "run", EXAMPLES / "cities.jsonl", "--workflow", folder, "--output", tmp_path / "out"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    answers = [json.loads(line) for line in (tmp_path / "out" / "cities.jsonl").read_text().splitlines()]
    assert [one["city"] for one in answers] == ["Vienna", "Lagos", "Lima", "Osaka", "Perth", "Quito", "Tunis"]
    assert answers[0]["answer"] == {"celsius": 5}
    dead = json.loads((tmp_path / "out" / "cities.jsonl.dead.jsonl").read_text())
    assert (dead["record"], dead["reason"]) == (6, "the API refused it: 404 Not Found")


def test_the_example_of_a_model_names_the_species_of_flowers(tmp_path: Path) -> None:
    flowers = [json.loads(line) for line in run("flowers", tmp_path).read_text().splitlines()]
    assert len(flowers) == 300
    assert {one["species"] for one in flowers if one["petal_length"] < 2} == {"setosa"}
    assert {one["species"] for one in flowers} == {"setosa", "versicolor", "virginica"}


def test_the_example_with_rdkit_describes_molecules(tmp_path: Path) -> None:
    few = tmp_path / "few.smi"
    few.write_text("CCO ethanol\nCC(C ring that never closes\nc1ccccc1 benzene\n")
    result = run("rdkit", tmp_path / "out", few, code=1)
    ethanol, benzene = (json.loads(line) for line in result.read_text().splitlines())
    assert (ethanol["formula"], benzene["formula"]) == ("C2H6O", "C6H6")
    assert ethanol["weight"] == pytest.approx(46.07, abs=0.01)
    dead = json.loads(Path(f"{result}.dead.jsonl").read_text())
    assert (dead["record"], dead["reason"]) == (2, "RDKit cannot read the SMILES 'CC(C'")
