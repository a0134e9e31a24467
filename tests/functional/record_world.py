"""Files that go through steps to results on one machine: topics in memory, and a store in a folder."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parcelq.collect.drain import Drainer
from parcelq.collect.finish import Finisher
from parcelq.collect.seeing import SourceState
from parcelq.lineage.source import Source
from parcelq.local_files import opened
from parcelq.names import RESULTS
from parcelq.process.apply import Route
from parcelq.process.processor import Processor
from parcelq.process.rules import Rules
from parcelq.records import Format
from parcelq.result_names import result_names
from parcelq.steps.find import Step
from parcelq.steps.settings import StepSettings
from parcelq.store.folder import FolderStore
from parcelq.topics.memory import MemoryTopic
from parcelq.topics.message import Message
from parcelq.upload.notes import note_upload
from parcelq.upload.sources import upload_source

ORDERS = b'order,"customer, name",note\r\n' + b"".join(
    b"%d,%s,%s\r\n"
    % (
        number,
        (b"Ann", b'"C, D"', b'"Bo ""the"" B"')[number % 3],
        (b"", b"ok", b'"late\nand wet"', b'"\r\n"')[number % 4],
    )
    for number in range(40)
)
PROTEINS = b"".join(b">p%d some protein\n%s" % (n, b"MKVLATTG\n" * (1 + n % 4)) for n in range(25))
READS = b"".join(b"@r%d\nACGTN\n+\n%sIII!\n" % (n, b"@" if n % 2 else b"+") for n in range(30))
MOLECULES = b"".join(
    b"m%d\n  made by hand\n\n%s\nM  END\n$$$$\n" % (n, b"broken" if n == 7 else b"atom\n" * (1 + n % 3))
    for n in range(12)
)

UPPER_CSV = """
import csv, sys
with open(sys.argv[2], newline="", encoding="utf-8") as file, open(sys.argv[4], "w", newline="") as out:
    rows = csv.DictReader(file)
    writer = csv.DictWriter(out, [*(rows.fieldnames or []), "length"])
    writer.writeheader()
    for row in rows:
        row["length"] = str(sum(len(value or "") for value in row.values()))
        writer.writerow({name: value.upper() for name, value in row.items()})
"""
LENGTHS = """
import sys
from Bio import SeqIO
with open(sys.argv[4], "w") as out:
    for one in SeqIO.parse(sys.argv[2], FORMAT):
        out.write(f"{one.id} {len(one)}\\n")
"""
PICKY_SDF = """
import sys
data = open(sys.argv[2]).read()
if "broken" in data:
    sys.exit("ValueError: bad molecule")
open(sys.argv[4], "w").write(data.replace("atom", "ATOM"))
"""
COPY = "import shutil, sys\nshutil.copy(sys.argv[2], sys.argv[4])\n"


@dataclass
class Result:
    """What came of a file."""

    state: SourceState
    body: bytes
    report: dict[str, Any]


@dataclass
class World:
    """One machine.

    Attributes:
        folder: for files, steps and the store.
        steps: the steps in a row.
        parcel_size: most entries of a message.
        batch_size: most entries of a run.
        seed: in which order messages are processed, and which of them twice.
        workers: how many runs go on side by side.
    """

    folder: Path
    steps: list[Step] = field(default_factory=list)
    parcel_size: int = 4
    batch_size: int = 4
    seed: int | None = None
    workers: int = 2

    def __post_init__(self) -> None:
        self.store = FolderStore(self.folder / "store")
        self.output = MemoryTopic("output")

    def step(self, text: str, **settings: Any) -> None:
        """Add a step: a program in Python."""
        path = self.folder / f"step{len(self.steps)}"
        path.write_text(f"#!{sys.executable}\n{text}")
        path.chmod(0o755)
        self.steps.append(Step(path, StepSettings(**settings)))

    def whole(self, data: bytes) -> bytes:
        """What the steps give on a whole file."""
        for step in self.steps:
            before, after = self.folder / "whole-input", self.folder / "whole-output"
            before.write_bytes(data)
            subprocess.run([step.path, "--input", before, "--output", after], check=True)
            data = after.read_bytes()
        return data

    def run(self, name: str, data: bytes, fmt: Format | None = None) -> Result:
        """Take a file through the steps to its result."""
        path = self.folder / name
        path.write_bytes(data)
        topics = [MemoryTopic(f"stage{number}") for number in range(len(self.steps))]
        first = topics[0]
        with opened(path) as file:
            source = Source.of_file(file.path, "1")
            uploaded = upload_source(
                first, file.stream, source, self.parcel_size, size=file.size, fmt=fmt, store=self.store
            )
        note_upload(self.store, str(source), 0, uploaded, total=uploaded.end)
        following = [*topics[1:], self.output]
        self.dead: list[Message] = []
        for topic, after, step in zip(topics, following, self.steps, strict=True):
            self._process(topic, after, step)
        Drainer(self.output, self.store).drain(0)
        (state,) = Finisher(self.store, "output").finish_all()
        names = result_names(name, RESULTS)
        there = self.store.stat(names.result) is not None
        report = json.loads(self.store.read(names.report)) if there else {}
        return Result(state, self.store.read(names.result) if there else b"", report)

    def _process(self, topic: MemoryTopic, after: MemoryTopic, step: Step) -> None:
        dead = MemoryTopic(f"{topic.name}-dead-letter")
        rules = Rules(self.batch_size, self.parcel_size, back_off_seconds=0, joins=False)
        processor = Processor(Route(topic, after, dead, self.output), step, rules, self.store, workers=self.workers)
        chance = random.Random(self.seed)
        while pulled := topic.pull(1, 100, 0):
            if self.seed is not None:
                chance.shuffle(pulled)
                again = [one for one in pulled if chance.random() < 0.2]
                processor.handle(again)  # its answer is lost, so all of it is done once more
            topic.acknowledge(processor.handle(pulled).done)
        processor.close()
        self.dead += [topic.read(one) for one in dead.pull(1, 1000, 0)]
