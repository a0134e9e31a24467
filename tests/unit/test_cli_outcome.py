"""The outcome of files, as `parcelq run` and `parcelq wait` print it."""

from __future__ import annotations

from pathlib import Path

import pytest
from parcelq.collect.seeing import SourceState
from parcelq.errors import ParcelqError
from parcelq.local.finish import FileResult
from parcelq.result_names import result_names
from parcelq_cli.output import Output
from parcelq_cli.running import report_of


@pytest.mark.parametrize("is_there", [False, True])
def test_a_stopped_job_of_a_stack_says_that_an_old_result_here_is_not_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], is_there: bool
) -> None:
    one = FileResult("m.smi", "0" * 24, result_names("m.smi"), SourceState("", 0, None, 0, 1), problem="it is broken")
    if is_there:
        (tmp_path / "m.smi").write_text("old\n")
    with pytest.raises(ParcelqError, match="1 file of 1 without a complete result"):
        report_of(Output(), [one], tmp_path, 1.0, " --stack s")
    printed = capsys.readouterr()
    assert printed.out == "m.smi: no result: it is broken\n"
    assert (f"{tmp_path}/m.smi is the result of another run\n" in printed.err) == is_there
