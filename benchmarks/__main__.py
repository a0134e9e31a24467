"""`python -m benchmarks [--quick] [CASE...]`: measure, print the table, and keep it."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import report
from benchmarks.cases import CASES
from benchmarks.harness import Bench, Figure, MissingToolError, not_measured

_TRIAL = report.ROOT / "build" / "benchmarks"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed, beside what else people use.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"what to measure; all by default: {', '.join(CASES)}")
    parser.add_argument("--quick", action="store_true", help="try the cases out on little data, and keep nothing of it")
    given = parser.parse_args()
    if unknown := [name for name in given.cases if name not in CASES]:
        parser.error(f"there is no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    folder = _TRIAL if given.quick else report.RESULTS
    results = report.load(folder)
    misses: list[Figure] = []
    for name in given.cases or CASES:
        began = time.monotonic()
        figures = list(_measured(name, quick=given.quick))
        print(f"# {name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        misses += report.missed(figures)
        report.add(results, name, figures)
    if not given.quick:
        report.quote(results)
    files = report.save(results, folder)
    print("\n".join(f"wrote {path.relative_to(report.ROOT)}" for path in files), file=sys.stderr)
    for one in misses:
        print(f"missed: {report.line(one)}", file=sys.stderr)


def _measured(name: str, *, quick: bool) -> Iterator[Figure]:
    """The figures of a case, each printed as it comes."""
    case = importlib.import_module(f"benchmarks.cases.{name}")
    with tempfile.TemporaryDirectory(prefix="parcelq-bench-") as folder:
        try:
            for figure in case.measure(Bench(quick, Path(folder))):
                print(report.line(figure), flush=True)
                yield figure
        except MissingToolError as error:
            figure = not_measured(f"the case {name!r}", "", str(error))
            print(report.line(figure), flush=True)
            yield figure


if __name__ == "__main__":
    main()
