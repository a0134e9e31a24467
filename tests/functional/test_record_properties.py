"""For every format, whatever the content, the sizes, the failures and the order of delivery: the result is what the
step gives for the whole file, without exactly the bad records, which are named by number and line."""

from __future__ import annotations

import json
import logging
import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_store import Objects
from one_object import SOURCE, OneObject, after
from parcelq.collect.drain import Drainer
from parcelq.collect.finish import Finisher
from parcelq.errors import RecordError, SourceError, StepError
from parcelq.process import processor
from parcelq.process.apply import Route
from parcelq.process.processor import Processor
from parcelq.process.rules import Rules
from parcelq.records import Format, cut, parse, split_header
from parcelq.steps.data import Given, HeldOutput, write_bodies
from parcelq.steps.find import Step
from parcelq.steps.ran import Ran
from parcelq.steps.rejects import Reject
from parcelq.steps.settings import StepSettings
from parcelq.topics.memory import MemoryTopic
from parcelq.upload.objects import ObjectUploader
from parcelq.upload.ranges import StreamTask, task_of

from io import BytesIO  # isort: skip

TEXTS = (
    "lines",
    "lines header=2",
    "jsonl",
    "csv",
    "tsv",
    "csv header=0",
    "fasta",
    "fastq",
    "sdf",
    'starts="#"',
    'ends="//" header=1',
    "lines=3",
    "lines=2 header=1",
)
FIELDS = ["", "1", "ä,ö", '"a"', '"a,b"', '"a\nb"', '"\r\n"', '"say ""x"""', '""', "x y"]
ENDS = st.sampled_from(["\n", "\n", "\r\n"])


@dataclass
class FastRunner:
    """Takes the place of the processes that run a step: copies entries, leaves some out, and fails on bad ones.

    What is bad and what is left out follows from an entry's bytes alone, so it is the same in every run.
    """

    step: Step
    names_bad: bool = False

    chance = random.Random(0)
    fails_by_chance = False

    def run_all(self, given: Sequence[Given], timeout: float | None = None) -> list[Ran | StepError]:
        file, one = BytesIO(), given[0]
        write_bodies(file, one.bodies)
        if self.fails_by_chance and self.chance.random() < 0.15:
            return [StepError("step", "exited with 1", exit_code=1, stderr_tail="just so")]
        written, rejects = [], []
        for number, entry in enumerate(entries_of(file.getvalue(), one.format)):
            if is_bad(entry):
                if not self.step.settings.rejects:
                    return [StepError("step", "exited with 1", exit_code=1, stderr_tail="ValueError: bad")]
                rejects.append(Reject(number, len(written), "ValueError: bad"))
            elif not is_left_out(entry):
                written.append(entry)
        return [Ran(HeldOutput(one.header + b"".join(written)), tuple(rejects))]

    def close(self) -> None:
        pass


def is_bad(entry: bytes) -> bool:
    return zlib.crc32(entry.rstrip(b"\r\n")) % 9 == 0


def is_left_out(entry: bytes) -> bool:
    return zlib.crc32(entry.rstrip(b"\r\n")) % 5 == 0


def entries_of(data: bytes, fmt: Format) -> list[bytes]:
    return [one.data for one in cut(BytesIO(data), fmt, 1, 1 << 30, strict=False)]


@st.composite
def contents(draw: st.DrawFn, fmt: Format) -> bytes:
    """A file of the format; sometimes one that does not quite fit it."""
    end = draw(ENDS)
    count = draw(st.integers(0, 24))
    name = fmt.name or fmt.own_text().split("=")[0]
    entries = [draw(entry(name, number, end)) for number in range(count)]
    header = "".join(f"head{number}{end}" for number in range(fmt.header))
    if name in {"csv", "tsv"}:
        header = draw(st.sampled_from(["", "\ufeff"])) + draw(st.sampled_from(["id,note", 'id,"a\nb"', '"id"'])) + end
        header *= fmt.header
    text = header + "".join(entries)
    match draw(st.integers(0, 9)):
        case 0:
            text = text.removesuffix("\n").removesuffix("\r")
        case 1:
            text = ("" if fmt.header else "\ufeff") + text
        case 2:
            text += draw(st.sampled_from(["\n", "\n\n", '"', "x", ">", "$$$$", "@\n", '1,"2\n']))
        case 3:
            text = text[: draw(st.integers(0, len(text)))]
    data = text.encode()
    return data.replace(b"x", b"\xff\x00") if draw(st.integers(0, 5)) == 0 else data


def entry(name: str, number: int, end: str) -> st.SearchStrategy[str]:
    fields = st.lists(st.sampled_from(FIELDS), min_size=1, max_size=3)
    letters = st.text("ACGTN", max_size=5)
    match name:
        case "csv" | "tsv":
            return fields.map(lambda row: ",".join([str(number), *row]) + end)
        case "fasta":
            return st.lists(letters, max_size=3).map(lambda rows: f">p{number} x{end}" + "".join(r + end for r in rows))
        case "fastq":
            return st.tuples(letters, st.sampled_from("@+I")).map(
                lambda read: f"@r{number}{end}{read[0]}{end}+{end}{read[1] * len(read[0])}{end}"
            )
        case "sdf":
            return st.lists(st.sampled_from(["x", "", "$$$", "> <A>"]), max_size=4).map(
                lambda rows: f"m{number}{end}" + "".join(r + end for r in rows) + f"$$$${end}"
            )
        case "starts":
            return st.lists(letters, max_size=3).map(lambda rows: f"#{number}{end}" + "".join(r + end for r in rows))
        case "ends":
            return st.lists(letters, max_size=3).map(lambda rows: "".join(r + end for r in [*rows, f"//{number}"]))
    return st.text("ab x", max_size=8).map(lambda line: f"{line}{number % 7}{end}")


@dataclass(frozen=True)
class Way:
    """How a file goes through the pipeline."""

    parcel_size: int
    batch_size: int
    range_bytes: int
    stages: int
    rejects: bool
    hands_on_after: int
    by_chance: bool
    seed: int

    @property
    def fails_by_chance(self) -> bool:
        """Whether runs fail whatever they get. What dies of that in a second step has no number in the source."""
        return self.by_chance and self.stages == 1


WAYS = st.builds(
    Way,
    parcel_size=st.integers(1, 12),
    batch_size=st.integers(1, 12),
    range_bytes=st.sampled_from([7, 16, 50, 10_000]),
    stages=st.sampled_from([1, 1, 2]),
    rejects=st.booleans(),
    hands_on_after=st.integers(1, 4),
    by_chance=st.booleans(),
    seed=st.integers(0, 1000),
)


def through(data: bytes, fmt: Format, way: Way, store: Objects) -> dict[str, Any] | None:
    """Take a file through the pipeline, and return the report of its result; None if there is none.

    Raises SourceError if the file is refused.
    """
    chance = random.Random(way.seed)
    FastRunner.chance, FastRunner.fails_by_chance = chance, way.fails_by_chance
    stages = [MemoryTopic(f"stage{number}") for number in range(way.stages)]
    output, ranges = MemoryTopic("output"), MemoryTopic("ranges")
    uploader = ObjectUploader(OneObject(data), store, way.parcel_size, format=fmt)
    upload(uploader, data, stages[0], ranges, way, chance)
    rules = Rules(way.batch_size, max(way.parcel_size, way.batch_size), back_off_seconds=0, joins=False)
    for topic, following in zip(stages, [*stages[1:], output], strict=True):
        dead = MemoryTopic(f"{topic.name}-dead-letter")
        route = Route(topic, following, dead, output)
        step = Step(Path("step"), StepSettings(rejects=way.rejects))
        one = Processor(route, step, rules, store, workers=1)
        while pulled := topic.pull(1, 50, 0):
            chance.shuffle(pulled)
            one.handle(again for again in pulled if chance.random() < 0.2)  # its answer is lost
            topic.acknowledge(one.handle(pulled).done)
    Drainer(output, store, receivers=1).drain(0)
    (state,) = Finisher(store, "output").finish_all()
    return json.loads(store.read(f"{state.result}.report.json")) if state.result else None


def upload(
    uploader: ObjectUploader, data: bytes, topic: MemoryTopic, ranges: MemoryTopic, way: Way, chance: random.Random
) -> None:
    if (
        len(data) <= way.range_bytes
        or uploader.publish_ranges(ranges, SOURCE, topic, len(data), way.range_bytes) is None
    ):
        uploader.upload(SOURCE, topic, ranges, after(way.hands_on_after))
    while pulled := ranges.pull(1, 50, 0):
        chance.shuffle(pulled)
        for one in pulled:
            for _ in range(1 + (chance.random() < 0.2)):
                task = task_of(one.wire.text)
                if isinstance(task, StreamTask):
                    uploader.upload_rest(task, topic, ranges, after(way.hands_on_after))
                else:
                    uploader.upload_range(task, topic, ranges)
        ranges.acknowledge(pulled)


@pytest.fixture(scope="module", autouse=True)
def _fast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    logging.disable(logging.ERROR)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processor, "Runner", FastRunner)
        yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("text", TEXTS)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), way=WAYS)
def test_the_result_is_what_the_step_gives_for_the_whole_file(text: str, data: st.DataObject, way: Way) -> None:
    fmt = parse(text)
    check(data.draw(contents(fmt)), fmt, way)


def check(content: bytes, fmt: Format, way: Way) -> None:
    try:
        header, rest = split_header(BytesIO(content), fmt)
        list(cut(rest, fmt, 1, 1 << 30))
        fits = True
    except RecordError:
        fits = False
    store = Objects()
    try:
        report = through(content, fmt, way, store)
    except SourceError:
        assert not fits
        return
    # Ranges that are looked at one by one may not see that a file does not fit; they must not cut it wrongly then.
    if not fits:
        if report is None:
            return
        header, _ = split_header(BytesIO(content), fmt)
    assert report is not None
    entries = entries_of(content[len(header) :], fmt)
    body, dead = store.read(report["result"]), dead_of(store, report)
    if way.fails_by_chance:  # entries that failed just so are dead, and those alone
        gone = {one["record"] for one in dead if one.get("entries") != 0}  # or a header alone
    else:
        gone = {number for number, one in enumerate(entries, 1) if is_bad(one)}
        assert [one["record"] for one in dead] == sorted(gone)
    kept = [one for number, one in enumerate(entries, 1) if number not in gone]
    assert not any(map(is_bad, kept))
    wanted = b"".join(one for one in kept if not is_left_out(one))
    headed = header + (b"\n" if header and wanted and not header.endswith(b"\n") else b"") + wanted
    # If no record is left, a run that rejected its records wrote the header, and one that failed did not.
    possible = [headed] if kept or not (entries or dead) else [headed, b""]
    assert body.removesuffix(b"\n") in [one.removesuffix(b"\n") for one in possible]
    assert report["entries"]["read"] == len(entries)
    assert report["entries"]["dead"] == len(gone)
    assert report["complete"] == (not dead and not report["doubts"])
    starts = [content[: len(header)].count(b"\n") + 1]
    for one in entries:
        starts.append(starts[-1] + one.count(b"\n"))
    for one in (one for one in dead if one.get("entries") != 0):
        assert one["entry"].encode() == entries[one["record"] - 1] if "entry" in one else "entry_base64" in one
        assert one.get("line", starts[one["record"] - 1]) == starts[one["record"] - 1]


def dead_of(store: Objects, report: dict[str, Any]) -> list[dict[str, Any]]:
    if not report["dead_list"]:
        return []
    return [json.loads(line) for line in store.read(report["dead_list"]).splitlines()]
