"""Measures the time that the processor needs in addition to running the step, from receiving messages to publishing
outputs.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from parcelq.lineage.lineage import Lineage, Span
from parcelq.process.apply import Route
from parcelq.process.processor import Processor
from parcelq.process.rules import Rules
from parcelq.steps.find import local_step
from parcelq.steps.settings import StepSettings
from parcelq.topics.attributes import ENTRIES, LINEAGE, SOURCE
from parcelq.topics.message import Message, Pulled
from parcelq.topics.sqs import SqsTopic
from parcelq.upload.parcels import MAX_BODY_BYTES

from benchmarks.clients import our_sqs
from benchmarks.data import LINE_BYTES, lines
from benchmarks.harness import Bench, Figure, Spread, at_most, side_by_side
from benchmarks.stub import stub_server

_MESSAGES: Final = 5
"""How many messages of 1 MiB Lambda gives to an invocation."""
_OVERHEAD_MS: Final = 25


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure the case."""
    body = lines(MAX_BODY_BYTES // LINE_BYTES)[:MAX_BODY_BYTES]
    body = body[: body.rfind(b"\n") + 1]
    pulled = messages([body] * _MESSAGES)
    entries = body.count(b"\n")
    files = _files(bench.folder, [body] * _MESSAGES)
    with stub_server() as url:
        processor = filter_processor(url, "cat", entries)
        ours, theirs = partial(handle, processor, pulled), partial(_bare, files)
        pairs = side_by_side(ours, theirs, bench.size(31, 3))
    one, other = pairs.medians(lambda sample: sample.seconds * 1000)
    yield Figure(
        f"processor, {_MESSAGES} messages of 1 MiB through `cat`: time",
        "`cat` as a bare subprocess from a file into a file of the same bytes, once for each message",
        pairs.ratio(lambda sample: sample.seconds),
        f"{one:.0f} beside {other:.0f} ms",
    )
    over = [
        (mine.seconds - bare.seconds) * 1000 / _MESSAGES for mine, bare in zip(pairs.ours, pairs.theirs, strict=True)
    ]
    yield Figure(
        "processor: what it adds to each of them: time",
        f"{_OVERHEAD_MS} ms",
        Spread.of(one / _OVERHEAD_MS for one in over),
        f"{Spread.of(over).median:.1f} ms",
        at_most(1),
    )


def filter_processor(url: str, program: str, entries: int) -> Processor:
    """Return a processor that runs a filter over one message after another, and publishes to the stub at `url`."""
    step = local_step(program)._replace(settings=StepSettings(filter=True))
    return Processor(route_of(url), step, Rules(batch_size=entries, parcel_size=entries), workers=1)


def route_of(url: str) -> Route:
    """Return the topics of the stub at `url`."""
    return Route(*(SqsTopic(our_sqs(url), f"{url}/000000000000/{name}") for name in ("in", "out", "dead", "out")))


def messages(bodies: Sequence[bytes]) -> list[Pulled]:
    """Return messages of one source in the form in which Lambda delivers messages."""
    total = sum(map(len, bodies))
    made = []
    at = 0
    for number, body in enumerate(bodies):
        lineage = Lineage(Span(at, at + len(body), total))
        at += len(body)
        told = {
            SOURCE: "s3://bucket/inbox/lines.txt?etag=0&put=0",
            LINEAGE: str(lineage),
            ENTRIES: str(body.count(b"\n")),
        }
        made.append(Pulled(str(number), f"receipt-{number}", 1, Message(body, told).wire()))
    return made


def handle(processor: Processor, pulled: Sequence[Pulled]) -> float:
    """Process messages, check that all succeeded, and return how many there were."""
    outcome = processor.handle(pulled)
    if len(outcome.done) != len(pulled):
        raise AssertionError(f"only {len(outcome.done)} of {len(pulled)} messages are done: {outcome.failed}")
    return len(pulled)


def _files(folder: Path, bodies: Sequence[bytes]) -> list[Path]:
    """Write the bodies into files, as for a step, and return the files' paths."""
    files = [folder / f"input-{number}" for number in range(len(bodies))]
    for file, body in zip(files, bodies, strict=True):
        file.write_bytes(body)
    return files


def _bare(files: Sequence[Path]) -> float:
    for file in files:
        with file.open("rb") as stdin, file.with_name("output").open("wb") as stdout:
            subprocess.run(["cat"], stdin=stdin, stdout=stdout, check=True)
    return len(files)
