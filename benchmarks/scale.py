"""`python -m benchmarks.scale`: simulates in virtual time how long jobs of 10 lines to 1 TB take on AWS.

The command prints a table, writes `results/scale.json`, and draws `docs/pictures/scale.png` if matplotlib is installed.
Nothing is measured: the numbers follow from `parcelq_cli.estimate.facts` and from the planning code of the product.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from parcelq.amounts import dollars
from parcelq.prices import load_prices
from parcelq_cli.estimate.bill import priced, total, usd
from parcelq_cli.estimate.measure import Line, Measured
from parcelq_cli.estimate.model import Estimate
from parcelq_cli.estimate.report import seconds
from parcelq_cli.estimate.stack import Setup
from parcelq_emulator.limits import MAX_IN_FLIGHT

from benchmarks.harness import MissingToolError
from benchmarks.report import RESULTS
from benchmarks.simulation.case import Case, Outcome
from benchmarks.simulation.flow import simulate
from benchmarks.tools import ROOT, python_with, run

LINE_BYTES: Final = 50
DEFAULTS: Final = Setup()
WIDE: Final = Setup(concurrency=1000, uploads=20, collects=100)
NEW_ACCOUNT: Final = 10
"""How many concurrent invocations a new account has; older accounts have 1,000 or more:
https://repost.aws/knowledge-center/lambda-concurrency-limit-increase
"""
_LARGE_ACCOUNT: Final = 3000
CASES: Final = (
    (10, DEFAULTS, NEW_ACCOUNT),
    (10**6, DEFAULTS, NEW_ACCOUNT),
    (10**6, WIDE, _LARGE_ACCOUNT),
    (10**9, WIDE, _LARGE_ACCOUNT),
    (2 * 10**10, WIDE, _LARGE_ACCOUNT),
)
"""The cases: the number of lines, the stack, and the concurrent invocations of the account."""
MB: Final = 1024 * 1024


def known(lines: int) -> Measured:
    """Return facts about a file of 50-byte lines. A run takes 0.1 s plus 0.1 ms per line, and writes as much as it
    reads.
    """
    size, line = lines * LINE_BYTES, Line(0.1, 0.0001)
    return Measured(
        name="lines.txt",
        format="lines",
        size=size,
        stored=size,
        one_stream=False,
        records=lines,
        counted=True,
        sampled=1000,
        failing=0.0,
        reason="",
        wall=line,
        cpu=line,
        start=0.0,
        out_entries=1.0,
        out_bytes=float(LINE_BYTES),
        illegal=0.0,
        escaped=1.0,
    )


@dataclass(frozen=True, slots=True)
class Simulated:
    """A simulated job and its outcome."""

    job: Estimate
    outcome: Outcome

    @property
    def usd(self) -> float:
        """The cost of the simulated job in dollars."""
        out = self.outcome
        invoked = {name: (one.invocations, one.seconds) for name, one in out.used.items()}
        requests = out.s3.puts, out.s3.gets
        return total(priced(self.job, {"requests": out.sqs}, out.fair, requests, invoked, out.result))

    def misses(self) -> Iterator[str]:
        """Yield sentences about work that exceeds an invocation's time or memory, or a limit of SQS."""
        yield from self.outcome.too_long
        for name, used in self.outcome.used.items():
            if used.memory > self.job.megabytes[name] * MB:
                yield f"the {name} needs {used.memory / MB:,.0f} MB and has {self.job.megabytes[name]:,}"
        if self.outcome.locked > MAX_IN_FLIGHT:
            yield f"{self.outcome.locked:,} messages of a topic are locked at a time; SQS allows {MAX_IN_FLIGHT:,}"
        if self.outcome.writing > max(self.outcome.processed, 60.0):
            took = seconds(self.outcome.writing), seconds(self.outcome.processed)
            yield f"writing the result takes {took[0]}, and processing {took[1]}"

    def document(self) -> dict[str, Any]:
        """Return the job and its outcome as JSON values."""
        used = {name: asdict(one) for name, one in self.outcome.used.items()}
        told = {name: getattr(self.outcome, name) for name in _TOLD}
        estimated = {"processed": self.job.processed, "result": self.job.latest, "usd": usd(self.job)}
        return {
            "lines": self.job.known.records,
            "setup": asdict(self.job.setup),
            **told,
            "usd": self.usd,
            "used": used,
            "estimated": estimated,
            "misses": list(self.misses()),
        }


_TOLD: Final = ("uploaded", "processed", "collected", "result", "looks", "healings", "locked", "throttled", "series")


def simulated(lines: int, setup: Setup, case: Case) -> Simulated:
    """Simulate a job of `lines` lines, and return its outcome."""
    job = Estimate(known(lines), setup, load_prices())
    return Simulated(job, simulate(job, case))


def table(every: Sequence[Simulated]) -> str:
    """Return the simulated jobs as a table in Markdown."""
    rows = [
        "| lines | Concurrency | processed | result | estimated | cost | estimated | invocations | most memory |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in every:
        used = one.outcome.used.values()
        cells = (
            f"{one.job.known.records:,}",
            f"{one.job.setup.concurrency:,}",
            seconds(one.outcome.processed),
            seconds(one.outcome.result),
            seconds(one.job.latest),
            dollars(one.usd),
            dollars(usd(one.job)),
            f"{sum(function.invocations for function in used):,}",
            f"{max(function.memory for function in used) / MB:,.0f} MB",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def main(folder: Path = RESULTS) -> int:
    """Simulate all cases; the exit code is 1 if a case exceeds a limit."""
    every = [simulated(lines, setup, Case(account)) for lines, setup, account in CASES]
    print(table(every))
    data, picture = folder / "scale.json", ROOT / "docs" / "pictures" / "scale.png"
    data.write_text(json.dumps([one.document() for one in every]) + "\n")
    try:
        drawing = Path(__file__).with_name("scale_picture.py")
        run([python_with("matplotlib"), str(drawing), str(data), str(picture)])
    except MissingToolError as error:
        print(f"the picture was not drawn: {error}", file=sys.stderr)
    missed = [(one, miss) for one in every for miss in one.misses()]
    for one, miss in missed:
        print(f"{one.job.known.records:,} lines: {miss}", file=sys.stderr)
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
