"""`parcelq estimate`: what it measures by running real steps, what it prints, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from parcelq.errors import ParcelqError
from parcelq.steps.find import Step, local_step
from parcelq.steps.ran import Ran
from parcelq.steps.run import Runner
from parcelq.steps.settings import StepSettings
from parcelq_cli.estimate.measure import Measured, measure
from parcelq_cli.estimate.sample import Sample, read_sample

if TYPE_CHECKING:
    from cli_fixtures import Cli

pytest_plugins = ["cli_fixtures"]


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "words.txt"
    path.write_bytes(b"".join(b"word %05d\n" % number for number in range(2000)))
    return path


@pytest.fixture
def filter_step(tmp_path: Path) -> tuple[str, ...]:
    settings = tmp_path / "filter.yaml"
    settings.write_text("filter: true\narguments: [a-z, A-Z]\n")
    return "--step", "tr", "--settings", str(settings)


def known_of(file: Path, step: Step, sample: int = 200) -> Any:
    with closing(Runner(step)) as runs:
        return measure(file.name, read_sample(file, sample), runs)


def test_estimate_says_what_a_file_costs(cli: Cli, lines: Path, filter_step: tuple[str, ...]) -> None:
    done = cli.ok("estimate", lines, *filter_step, "--sample", "200")
    assert "words.txt: 22.0 kB, 2,000 records of lines (counted)" in done.text
    assert "Step, over 200 of them" in done.text
    assert "none of the records fails" in done.text
    for service in ("SQS", "Lambda", "S3", "CloudWatch", "X-Ray", "in all"):
        assert f"\n  {service}" in done.text
    assert sum(line.startswith(("*", "<")) for line in done.text.splitlines()) >= 2
    assert "for an idle stack" in done.text
    assert "List prices of us-east-1" in done.text
    assert "without the free tier" in done.text


def test_estimate_with_json_gives_the_same_numbers(cli: Cli, lines: Path, filter_step: tuple[str, ...]) -> None:
    options = ("--parcel-size", "100", "--memory", "1024", "--concurrency", "7", "--sample", "200", "--json")
    document = cli.ok("estimate", lines, *filter_step, *options).document
    chosen = document["chosen"]
    assert (chosen["parcel_size"], chosen["batch_size"], chosen["memory"], chosen["concurrency"]) == (100, 100, 1024, 7)
    assert (chosen["messages"], chosen["invocations"]) == (20, 2)
    assert chosen["usd"] == pytest.approx(sum(row["usd"] for row in chosen["bill"]))
    assert {one["memory"] for one in document["options"]} == {512, 1024, 1769, 3538}
    assert sum(one["cheapest"] for one in document["options"]) == 1
    assert document["file"]["out_bytes"] == pytest.approx(11.0)
    assert document["month"]["idle_stack_usd"] == pytest.approx(sum(row["usd"] for row in document["idle_stack"]))
    assert document["prices"]["of"]["sqs_requests"]["date"] == "2026-09-11"
    assert document["warnings"] == []


def test_a_file_of_other_prices_changes_the_bill(
    cli: Cli, lines: Path, filter_step: tuple[str, ...], tmp_path: Path
) -> None:
    free = tmp_path / "prices.yaml"
    free.write_text("region: nowhere\nprices:\n  lambda_gb_seconds: {usd: 0}\n  lambda_requests: {usd: 0}\n")
    document = cli.ok("estimate", lines, *filter_step, "--prices", free, "--sample", "50", "--json").document
    billed = {row["service"]: 0.0 for row in document["chosen"]["bill"]}
    for row in document["chosen"]["bill"]:
        billed[row["service"]] += row["usd"] * (row["what"] != "processor, disk")
    assert billed["Lambda"] == 0
    assert billed["SQS"] > 0
    assert document["prices"]["region"] == "nowhere"


def test_the_output_of_a_step_is_measured(lines: Path, make_step: Callable[..., Path]) -> None:
    doubles = make_step('cat "$2" "$2" > "$4"')
    known = known_of(lines, local_step(str(doubles)))
    assert (known.out_entries, known.out_bytes) == (2.0, 22.0)
    nothing = make_step(': > "$4"', "nothing")
    known = known_of(lines, local_step(str(nothing)))
    assert (known.out_entries, known.out_bytes) == (0.0, 0.0)


@dataclass
class Told:
    """Runs nothing, but takes a time that follows from the lines of a run, as its clock shows."""

    takes: Callable[[int], float]
    works: Callable[[int], float]
    clock: Any
    output: Path
    step: Step
    sizes: list[int] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)

    @contextmanager
    def run(self, bodies: Iterable[bytes], **about: Any) -> Iterator[Ran]:
        count = b"".join(bodies).count(b"\n")
        self.sizes.append(count)
        self.clock.now += self.takes(count)
        yield Ran(self.output, cpu_seconds=self.works(count))

    def close(self) -> None:
        self.closed.append(len(self.sizes))

    def measure(self, sample: Sample) -> Measured:
        return measure("words", sample, self, clock=self.clock)


def test_the_time_of_a_run_and_of_a_line_are_distinguished(lines: Path, clock: Any) -> None:
    # Half a second, a tenth of it work, and 2 ms a line, half of it work.
    told = Told(lambda n: 0.5 + 0.002 * n, lambda n: 0.1 + 0.001 * n, clock, lines, local_step("cat"))
    known = told.measure(read_sample(lines, 200))
    assert told.sizes == [200, *[20, 200] * 3]
    assert (known.wall.fixed, known.wall.each) == (pytest.approx(0.5), pytest.approx(0.002))
    assert (known.cpu.fixed, known.cpu.each) == (pytest.approx(0.1), pytest.approx(0.001))
    assert known.start == 0


def test_a_slow_step_is_run_less_often(lines: Path, clock: Any) -> None:
    told = Told(lambda _: 8, lambda _: 8, clock, lines, local_step("cat"))
    told.measure(read_sample(lines, 200))
    assert told.sizes == [200, 20, 200]


def test_the_start_of_a_warm_step_is_measured_by_itself(lines: Path, clock: Any) -> None:
    def takes(count: int) -> float:
        fresh = len(told.sizes) == 1 or told.closed == [len(told.sizes) - 1]
        return 3.0 * fresh + 0.01 + 0.002 * count

    step = local_step("cat")._replace(settings=StepSettings(warm=True))
    told = Told(takes, lambda _: 0.0, clock, lines, step)
    known = told.measure(read_sample(lines, 200))
    assert known.start == pytest.approx(3.0)
    assert (known.wall.fixed, known.wall.each) == (pytest.approx(0.01), pytest.approx(0.002))
    assert known.cpu == known.wall  # how much of it was work nobody knows
    assert told.sizes[-1] == 20


def test_a_real_warm_step_is_kept_from_run_to_run(cli: Cli, lines: Path, tmp_path: Path) -> None:
    step, settings, starts = tmp_path / "step.py", tmp_path / "warm.yaml", tmp_path / "starts"
    step.write_text(
        f"from parcelq.steps.function import step\nopen({str(starts)!r}, 'a').write('x')\n\n"
        "@step\ndef upper(entries):\n    return [entry.upper() for entry in entries]\n\n"
        "if __name__ == '__main__':\n    upper.main()\n"
    )
    settings.write_text("warm: true\n")
    options = ("--step", str(step), "--settings", str(settings), "--sample", "50", "--json")
    known = cli.ok("estimate", lines, *options).document["file"]
    assert starts.read_text() == "xx"  # and once more, to see how long that takes
    assert known["start"] > 0


def test_estimate_measures_what_a_real_step_calculates(lines: Path, tmp_path: Path) -> None:
    step = tmp_path / "step.py"
    step.write_text("import sys\nsum(range(3_000_000))\nopen(sys.argv[4], 'w').close()\n")
    known = known_of(lines, local_step(str(step)))
    assert 0 < known.cpu(200) <= known.wall(200) * 1.5


def test_estimate_counts_the_lines_of_the_sample_that_fail(lines: Path, make_step: Callable[..., Path]) -> None:
    picky = make_step('grep -q "7$" "$2" && { echo "no seven, please" >&2; exit 3; }; cp "$2" "$4"')
    known = known_of(lines, local_step(str(picky)), 100)
    bad = sum(line.endswith(b"7\n") for line in read_sample(lines, 100).records)
    assert bad
    assert known.failing == bad / 100
    assert "no seven, please" in known.reason


def test_a_step_that_fails_on_everything_is_an_error_with_its_reason(
    cli: Cli, lines: Path, make_step: Callable[..., Path]
) -> None:
    ran = lines.with_name("ran")
    hopeless = make_step(f'echo x >> {ran}; echo "cannot find my model" >&2; exit 4')
    said = cli.fails("estimate", lines, "--step", hopeless, "--quiet")
    assert (
        "the step fails on every record of the sample that was tried: step 'step' exited with 4: cannot find my model"
        in said
    )
    assert len(ran.read_text().splitlines()) < 50


def test_a_single_line_that_fails_is_reported(tmp_path: Path, make_step: Callable[..., Path]) -> None:
    file = tmp_path / "one.txt"
    file.write_text("a\n")
    with pytest.raises(ParcelqError, match="the step fails on every record of the sample that was tried"):
        known_of(file, local_step(str(make_step("exit 1"))))


def test_a_file_of_a_single_line_is_enough_for_an_estimate(
    cli: Cli, tmp_path: Path, filter_step: tuple[str, ...]
) -> None:
    file = tmp_path / "one.txt"
    file.write_text("a")
    document = cli.ok("estimate", file, *filter_step, "--json").document
    assert document["file"]["records"] == 1
    assert document["file"]["wall"]["each"] == 0


def test_lines_that_are_not_text_are_counted(tmp_path: Path, filter_step: tuple[str, ...]) -> None:
    file = tmp_path / "bytes"
    file.write_bytes(b"good\n\xff\xfe\x00\n" * 50)
    known = known_of(file, local_step(filter_step[1], filter_step[3]))
    assert known.illegal == 0.5


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("nowhere.txt", "--step", "cat"), 1, "file 'nowhere.txt' cannot be read: there is no such file"),
        (("empty.txt", "--step", "cat"), 1, "file 'empty.txt' has no records"),
        (
            ("words.txt", "--step", "no-such-step"),
            1,
            "step no-such-step: there is no such file, and no such program on the PATH",
        ),
        (("words.txt", "--step", "cat", "--sample", "0"), 2, "--sample"),
        (("words.txt", "--step", "cat", "--parcel-size", "-3"), 2, "--parcel-size"),
        (("words.txt", "--step", "cat", "--batch-size", "0"), 2, "--batch-size"),
        (("words.txt", "--step", "cat", "--memory", "0"), 2, "--memory"),
        (("words.txt", "--step", "cat", "--concurrency", "0"), 2, "--concurrency"),
        (("words.txt", "--step", "cat", "--timeout", "901"), 2, "--timeout"),
        (("words.txt", "--step", "cat", "--slowdown", "0"), 2, "--slowdown is 0.0, but must be a number above 0"),
        (("words.txt", "--step", "cat", "--slowdown", "nan"), 2, "--slowdown is nan"),
        (("words.txt", "--step", "cat", "--prices", "nowhere"), 1, "prices 'nowhere' cannot be read"),
        (("words.txt", "--step", "cat", "--format", "cvs"), 1, "format is 'cvs', but must be"),
    ],
)
def test_a_mistake_in_the_options_of_estimate_is_an_error_of_one_line(
    cli: Cli, lines: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], code: int, said: str
) -> None:
    monkeypatch.chdir(lines.parent)
    Path("empty.txt").touch()
    assert said in cli.fails("estimate", *options, code=code)


def test_estimate_prints_its_warnings(cli: Cli, tmp_path: Path, filter_step: tuple[str, ...]) -> None:
    file = tmp_path / "many.txt"
    file.write_bytes(b"x\n" * 50_000)
    done = cli.ok("estimate", file, *filter_step, "--sample", "20")
    assert "\n\nMind: a sample of 20 records is too small for a reliable estimate" in done.text
    assert json.loads(cli.ok("estimate", file, *filter_step, "--sample", "20", "--json").out)["warnings"]


def test_records_of_csv_are_run_with_their_header_and_what_comes_out_is_counted(
    cli: Cli, tmp_path: Path, make_step: Callable[..., Path]
) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(b"id,note\n" + b"".join(b'%d,"a\nb"\n' % number for number in range(500)))
    step = make_step('head -n 1 "$2" | grep -q "^id,note" || { echo "no header" >&2; exit 3; }; cp "$2" "$4"')
    known = cli.ok("estimate", file, "--step", step, "--sample", "100", "--json").document["file"]
    assert (known["format"], known["records"], known["sampled"]) == ("csv", 500, 100)
    assert (known["failing"], known["out_entries"]) == (0, 1)


def test_estimate_draws_the_setups_as_a_page(
    cli: Cli, lines: Path, filter_step: tuple[str, ...], tmp_path: Path
) -> None:
    page = tmp_path / "estimate.html"
    done = cli.ok("estimate", lines, *filter_step, "--sample", "200", "--memory", "777", "--html", page, "--json")
    drawn = page.read_text()
    assert drawn.count("<svg") == 2
    assert "<h1>Estimate for words.txt</h1>" in drawn
    assert "parcels of 1,000, 777 MB: $" in drawn
    chosen = done.document["chosen"]
    assert f">{chosen['parcel_size']:,}</td>" in drawn


def test_a_page_that_cannot_be_written_is_an_error_of_one_sentence(
    cli: Cli, lines: Path, filter_step: tuple[str, ...], tmp_path: Path
) -> None:
    page = tmp_path / "none" / "estimate.html"
    assert "No such file or directory" in cli.fails(
        "estimate", lines, *filter_step, "--sample", "20", "--html", page, "-q"
    )
