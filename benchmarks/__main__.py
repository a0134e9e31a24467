"""`python -m benchmarks [--quick] [CASE...]`: run benchmarks, save their figures, and print the table."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks import report
from benchmarks.cases import CASES
from benchmarks.harness import Bench, Figure, MissingToolError, failed, not_measured
from benchmarks.tools import ROOT

_TRIAL: Final = ROOT / "build" / "benchmarks"


@dataclass(slots=True)
class _Outcome:
    """The outcome of a case.

    Attributes:
        figures: the rows of the table that the case measured.
        left_out: whether the case could not be measured, because a tool is missing.
        failed: whether the case ended with an error.
    """

    figures: list[Figure] = field(default_factory=list)
    left_out: bool = False
    failed: bool = False


def main() -> None:
    """Run benchmarks from the command line. The exit code is 1 if a case failed, but not if a target was missed."""
    given = _given()
    folder = _TRIAL if given.quick else report.RESULTS
    results = report.load(folder)
    wrong = False
    files: list[Path] = []
    misses: list[Figure] = []
    for name in given.cases or CASES:
        began = time.monotonic()
        outcome = _run(name, quick=given.quick)
        _tell(f"# {name}: {time.monotonic() - began:.0f} s")
        wrong |= outcome.failed
        misses += report.missed(outcome.figures)
        report.add(results, name, outcome.figures, left_out=outcome.left_out)
        files = report.save(results, folder)
    _tell(f"wrote {' and '.join(str(path.relative_to(ROOT)) for path in files)}")
    wrong |= not _drawn(folder)
    for one in misses:
        _tell(f"missed: {report.line(one)}")
    print(report.markdown(results), end="")
    if not given.quick:
        report.quote(results)
    sys.exit(wrong)


def _given() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure how fast Parcelq is, compared with other tools."
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"what to measure; all by default: {', '.join(CASES)}")
    parser.add_argument("--quick", action="store_true", help="try the cases on little data, without saving figures")
    given = parser.parse_args()
    if unknown := [name for name in given.cases if name not in CASES]:
        parser.error(f"there is no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    return given


def _run(name: str, *, quick: bool) -> _Outcome:
    """Measure a case, and print each figure as soon as it is known."""
    outcome = _Outcome()

    def add(figure: Figure) -> None:
        _tell(report.line(figure))
        outcome.figures.append(figure)

    what = f"the case `{name}`"
    with TemporaryDirectory(prefix="parcelq-bench-", ignore_cleanup_errors=True) as folder:
        try:
            for figure in importlib.import_module(f"benchmarks.cases.{name}").measure(Bench(quick, Path(folder))):
                add(figure)
        except MissingToolError as error:
            outcome.left_out = not outcome.figures
            add(not_measured(what, "", str(error)))
        except Exception as error:  # noqa: BLE001 - the table shows the error, and all other cases run
            outcome.failed = True
            add(failed(what, error))
    return outcome


def _drawn(folder: Path) -> bool:
    """Draw the picture, and return whether that worked. If matplotlib is not installed, the picture stays as it is."""
    try:
        picture = report.draw(folder)
    except MissingToolError as error:
        _tell(f"the picture was not drawn: {error}")
    except RuntimeError as error:
        _tell(report.line(failed("the picture", error)))
        return False
    else:
        _tell(f"wrote {picture.relative_to(ROOT)}")
    return True


def _tell(text: str) -> None:
    """Print a text to stderr, because stdout gets only the table."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
