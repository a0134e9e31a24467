"""The arithmetic of `parcelq estimate`: by hand, against the library's own parcelling, and by properties."""

from __future__ import annotations

import random
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parcelq.limits import KIB, MAX_REQUEST_BYTES, MIB
from parcelq.prices import Price, Prices, load_prices
from parcelq.records import LINES
from parcelq.upload.parcels import MAX_BODY_BYTES, cut_for_messages
from parcelq_cli.estimate.bill import Row, bill, billed, idle, keeping, s3, sqs, total, units, usd
from parcelq_cli.estimate.collecting import Result
from parcelq_cli.estimate.facts import VCPU_MB
from parcelq_cli.estimate.measure import Line, Measured
from parcelq_cli.estimate.model import Estimate, ramp_seconds, run_seconds
from parcelq_cli.estimate.setups import cheapest, neighbours, warnings
from parcelq_cli.estimate.stack import Setup, StackFacts
from parcelq_emulator.template import load
from samtranslator.yaml_helper import yaml_parse

TEMPLATE = Path(__file__).parents[2] / "template.yaml"
# A million lines of 50 bytes; a run takes 0.1 s and 0.1 ms a line, all of it calculating.
KNOWN = Measured(
    name="lines.txt",
    format="lines",
    size=50_000_000,
    stored=50_000_000,
    one_stream=False,
    records=1_000_000,
    counted=True,
    sampled=1000,
    failing=0.0,
    reason="",
    wall=Line(0.1, 0.0001),
    cpu=Line(0.1, 0.0001),
    start=0.0,
    out_entries=1.0,
    out_bytes=100.0,
    illegal=0.0,
    escaped=1.0,
)
SETUP = Setup()
PRICES = load_prices()


def job(known: Measured = KNOWN, prices: Prices = PRICES, **setup: int) -> Estimate:
    return Estimate(known, replace(SETUP, **setup), prices)


def grown(lines: int, known: Measured = KNOWN) -> Measured:
    """The same file with another number of lines."""
    return replace(known, records=lines, size=round(lines * known.record_bytes))


# ---- Requests.


@pytest.mark.parametrize(
    ("size", "expected"), [(0, 1), (1, 1), (64 * KIB, 1), (64 * KIB + 1, 2), (256 * KIB, 4), (MIB, 16)]
)
def test_every_64_kib_of_a_payload_are_billed(size: int, expected: int) -> None:
    assert units(size) == expected


def test_ten_messages_or_a_mebibyte_share_a_request() -> None:
    assert billed(1000, 52_200) == 100 * 8  # ten are 522,000 bytes, which is 7.97 units
    assert billed(9, 300 * KIB) == 3 * 15  # three fit
    assert billed(1, MAX_REQUEST_BYTES) == 16
    assert billed(20, 100, together=5) == 4
    assert billed(0, 100) == 0


@given(lines=st.integers(1, 5000), length=st.integers(1, 3000), entries=st.integers(1, 3000))
def test_parcels_are_cut_as_the_library_cuts_them(lines: int, length: int, entries: int) -> None:
    found = job(replace(KNOWN, records=lines, size=lines * length), parcel_size=entries, batch_size=entries)
    cut = list(cut_for_messages(BytesIO((b"x" * (length - 1) + b"\n") * lines), LINES, entries, MAX_BODY_BYTES))
    assert (found.uploaded, found.parcel) == (len(cut), cut[0].entries)


def test_parcels_have_a_whole_batch_where_that_is_more_and_are_cut_again_where_it_is_less() -> None:
    large = job(parcel_size=100, batch_size=1000)
    assert (large.parcel, large.entries, large.uploaded, large.runs) == (1000, 1000, 1000, 1000)
    small = job(parcel_size=1000, batch_size=100)
    assert (small.parcel, small.entries, small.uploaded, small.runs) == (1000, 100, 1000, 10_000)
    assert "input topic, re-parcel" in sqs(small)
    assert "input topic, re-parcel" not in sqs(large)
    assert usd(small) > usd(large)


def test_a_line_that_sqs_refuses_makes_its_parcel_travel_as_base64() -> None:
    lines = MAX_BODY_BYTES // 50
    assert job(parcel_size=10**6, batch_size=10**6).parcel == lines
    assert job(replace(KNOWN, illegal=1.0), parcel_size=10**6, batch_size=10**6).parcel == pytest.approx(
        lines * 3 / 4, abs=1
    )


def test_an_event_has_as_many_messages_as_fit_into_6_mb() -> None:
    assert job().together == 10
    assert job(parcel_size=10**6, batch_size=10**6).together == 6
    assert job(replace(KNOWN, escaped=2.0), parcel_size=10**6, batch_size=10**6).together == 3


def test_the_requests_of_a_file_are_those_that_were_counted_by_hand() -> None:
    of_file = job(replace(KNOWN, size=500_000_000, records=10_000_000))
    asked = sqs(of_file)
    # Two ranges of 5,000 parcels, each of 50,200 bytes; ten in a request of 8 units.
    assert (of_file.ranges, of_file.runs, of_file.invocations) == (2, 10_000, 1000)
    assert asked["range topic"] == 1 + 2 * 2
    assert asked["input topic, publish"] == 8000
    assert asked["input topic, receive and delete"] == 8000 + 1000
    # Each run writes 100,300 bytes; ten of them are 15.3 units.
    assert asked["output topic, publish"] == 16_000
    puts, gets = s3(of_file)
    assert 1e9 / (16 * MIB) < puts < 1000
    assert gets > 1e9 / (8 * MIB)


# ---- Failures.


@pytest.mark.parametrize(("failing", "entries"), [(0.01, 64), (0.2, 16), (1.0, 8), (0.5, 1)])
def test_the_runs_for_failures_are_those_of_halving_by_chance(failing: float, entries: int) -> None:
    chance = random.Random(1)
    runs = over = dead = 0

    def run(lines: list[bool], left: int) -> None:
        nonlocal runs, over, dead
        runs, over = runs + 1, over + len(lines)
        if not any(lines):
            return
        if left:
            run(lines, left - 1)
        elif len(lines) == 1:
            dead += 1
        else:
            middle = len(lines) // 2
            run(lines[:middle], 0)
            run(lines[middle:], 0)

    times = 3000
    for _ in range(times):
        run([chance.random() < failing for _ in range(entries)], 1)
    known = replace(KNOWN, failing=failing, records=entries * times, size=entries * times * 50)
    found = job(known, parcel_size=entries, batch_size=entries).again
    assert found[0] == pytest.approx(runs - times, rel=0.1)
    assert found[1] == pytest.approx(over - times * entries, rel=0.1)
    assert found[2] == pytest.approx(dead, rel=0.1)


def test_a_job_with_failures_costs_more_and_takes_longer() -> None:
    bad = job(replace(KNOWN, failing=0.001))
    assert usd(bad) > usd(job())
    assert bad.processed > job().processed
    assert job().again == (0, 0, 0)


# ---- Time.


def test_the_time_of_a_run_and_of_a_line_follows_from_two_measurements() -> None:
    line = Line.through(100, 0.2, 1000, 1.1)
    assert (line.fixed, line.each) == (pytest.approx(0.1), pytest.approx(0.001))
    assert line(10_000) == pytest.approx(10.1)
    assert Line.through(100, 0.5, 1000, 0.4) == Line(0.5, 0.0)  # noise never makes more lines take less time
    assert Line.through(100, 0.1, 1000, 1.9).fixed == 0.0
    assert Line.through(1, 0.3, 1, 0.3) == Line(0.3, 0.0)


@pytest.mark.parametrize(
    ("wall", "cpu", "vcpus", "seconds"),
    [
        (2, 2, 1, 2),
        (2, 2, 0.5, 4),  # half a processor takes twice as long
        (2, 2, 4, 2),  # but four are no use to one thread
        (2, 0, 0.5, 2),  # waiting takes as long as ever
        (2, 1, 0.5, 3),
        (2, 8, 1, 8),  # four threads on one processor
        (2, 8, 2, 4),
    ],
)
def test_the_time_of_a_run_follows_from_its_calculating_its_waiting_and_the_processors(
    wall: float, cpu: float, vcpus: float, seconds: float
) -> None:
    assert run_seconds(wall, cpu, vcpus) == pytest.approx(seconds)


def test_invocations_grow_from_five_by_five_a_second() -> None:
    assert ramp_seconds(5, 1, 5) == 1
    assert ramp_seconds(500, 1, 5) == 100
    # From 5 to 105 in 20 s, in which 1,100 s are done; the rest by 105 at a time.
    assert ramp_seconds(1100 + 1050, 1, 105) == pytest.approx(30)
    # In 4 s there are 5 to 25, which is 60 s.
    assert ramp_seconds(60, 1, 105) == pytest.approx(4)
    assert ramp_seconds(10, 8, 105) == 8  # never less than one takes
    assert ramp_seconds(10, 1, 1) == 10


def test_the_duration_of_a_job_is_the_one_that_was_calculated_by_hand() -> None:
    # Ten runs of 0.2 s on one vCPU, moving ten times 50,200 and 100,300 bytes at 78 MB/s, a request.
    of_file = job()
    assert of_file.run == pytest.approx(0.2)
    assert of_file.invocation == pytest.approx(2.0 + 1_505_000 / 78e6 + 0.02)
    assert of_file.busy == pytest.approx(100 * of_file.invocation + 5 * 1.0)
    # S3's event, a cold start, two requests for the record; then the file in and out, one request to S3, two to SQS.
    assert of_file.upload == pytest.approx(1.0 + 1.0 + 0.2 + 100_000_000 / 78e6 + 0.14)
    assert of_file.processed == pytest.approx(2.24 + of_file.busy / 5)
    # 1,000 messages of 100,300 bytes in and out; then a result of 100 MB in 6 parts.
    assert of_file.draining == pytest.approx(1000 * 2 * 100_300 / 78e6)
    assert (of_file.result.parts, of_file.result.is_large) == (6, False)
    assert of_file.latest == pytest.approx(of_file.processed + 2 + of_file.result.busy)
    # Waiting needs no processor, but only two runs wait side by side.
    assert job(replace(KNOWN, cpu=Line(0, 0))).invocation == pytest.approx(of_file.invocation - 1.0)


def test_a_large_result_is_written_by_several_invocations_side_by_side() -> None:
    of_file = job(grown(10**8), collects=50)
    result = of_file.result
    assert result.is_large
    assert (result.parts, result.in_task, result.side_by_side) == (597, 8, 4)
    assert result.tasks == 75
    assert result.seconds(50) < result.seconds(5) < result.seconds(1)
    # The more ranges are uploaded at once, the more requests it takes to read a part, up to one a message.
    gets = [Result(result.size, result.messages, mixed).gets for mixed in (1, 10, 100, 10_000)]
    assert gets == sorted(gets)
    assert gets[-1] == pytest.approx(1 + result.messages / result.parts)


def test_a_warm_step_starts_once_for_every_run_that_goes_on_side_by_side() -> None:
    # Five instances with two runs at a time each.
    assert job(replace(KNOWN, start=3.0)).busy == pytest.approx(job().busy + 5 * 2 * 3.0)


def test_a_slower_processor_is_like_less_memory() -> None:
    slow = Estimate(KNOWN, SETUP, PRICES, slowdown=2.0)
    assert slow.run == pytest.approx(job(memory=VCPU_MB // 2).run, rel=0.01) == pytest.approx(0.4, rel=0.01)


# ---- Costs.


def test_the_bill_of_a_job_is_the_one_that_was_calculated_by_hand() -> None:
    free = Prices("nowhere", {name: Price(0.0) for name in PRICES.of})

    def only(name: str) -> float:
        return total(bill(job(prices=Prices("nowhere", {**free.of, name: Price(1.0)}))))

    of_file = job()
    # The uploader once, the processor 100 times, and the downloader.
    drains = 1
    assert only("lambda_requests") == 1 + 100 + of_file.looks + drains
    looks = of_file.looks * 0.6 + 2 * 1.0  # two cold starts
    seconds = of_file.busy + of_file.publishing + 1.0 + of_file.draining + looks + of_file.result.busy
    assert only("lambda_gb_seconds") == pytest.approx(seconds * 1769 / 1024)
    assert only("lambda_storage_gb_seconds") == pytest.approx(of_file.busy * 1.5)
    assert only("sqs_fair_requests") == 800 + 1600  # 100 requests of 8 units, and as many of 15.3
    assert only("sqs_requests") == pytest.approx(sum(sqs(of_file).values()))
    assert only("log_gb") == pytest.approx((101 + of_file.looks + drains) * 1500 / 1e9)
    assert usd(job(prices=free)) == 0
    assert total(keeping(of_file)) == pytest.approx(0.15 * 0.023)


def test_the_bill_of_an_idle_stack_is_the_one_that_was_calculated_by_hand() -> None:
    rows = {(one.service, one.what, one.unit): one.quantity for one in idle(StackFacts(), PRICES)}
    # Three mappings with five pollers, three times a minute; the downloader once an hour, for 2 s.
    assert rows["SQS", "Lambda polling the topics", "requests"] == 3 * 5 * 3 * 60 * 24 * 30
    assert rows["Lambda", "downloader, on its schedule", "requests"] == 720
    assert rows["Lambda", "downloader, on its schedule", "gb seconds"] == pytest.approx(720 * 2 * 1769 / 1024)
    off = idle(replace(StackFacts(), collect_seconds=float("inf")), PRICES)
    assert {one.service for one in off if one.usd} == {"SQS", "CloudWatch"}


def test_an_idle_stack_costs_at_most_two_and_a_half_dollars_a_month_beside_alarms_and_dashboard() -> None:
    rows = [one for one in idle(StackFacts(), PRICES) if one.what not in {"alarms", "dashboard"}]
    assert {one.service for one in rows} >= {"SQS", "Lambda", "S3", "CloudWatch"}
    assert 0.5 < total(rows) <= 2.50
    daily = job(known=grown(100_000))
    assert total(rows) + 30 * usd(daily) <= 2.50


def test_the_estimate_assumes_what_the_template_of_this_version_has() -> None:
    template = load(TEMPLATE, {"Stages": "step"})
    properties = {name: one["Properties"] for name, one in template["Resources"].items()}
    kinds = [one["Type"] for one in template["Resources"].values()]
    defaults = {name: one.get("Default") for name, one in yaml_parse(TEMPLATE.read_text())["Parameters"].items()}
    assert StackFacts() == StackFacts(
        alarms=kinds.count("AWS::CloudWatch::Alarm"),
        dashboards=kinds.count("AWS::CloudWatch::Dashboard"),
        mappings=kinds.count("AWS::Lambda::EventSourceMapping"),
        collect_seconds=60 * int(defaults["CollectSchedule"].removeprefix("rate(").split()[0]),
        uploader_mb=properties["Uploader"]["MemorySize"],
        downloader_mb=properties["Downloader"]["MemorySize"],
        disk_gb=int(defaults["ProcessorStorage"]) / 1024,
        range_bytes=int(defaults["RangeBytes"]),
        together=int(defaults["MessagesPerInvocation"]),
    )
    names = "ParcelSize", "BatchSize", "ProcessorMemory", "Concurrency", "ProcessorTimeout"
    wanted = (SETUP.parcel_size, SETUP.batch, SETUP.memory, SETUP.concurrency, SETUP.timeout)
    assert wanted == tuple(int(defaults[name]) for name in names)


def test_a_source_that_is_one_stream_has_no_ranges_and_its_upload_takes_long() -> None:
    large = replace(KNOWN, size=5_000_000_000, stored=5_000_000_000, records=100_000_000)
    stream = job(replace(large, one_stream=True, stored=1_000_000_000))
    assert (job(large).ranges, stream.ranges) == (19, 0)
    assert stream.publishing > 10 * job(large).publishing
    assert total(keeping(stream)) < total(keeping(job(large)))


@given(lines=st.integers(1, 10**9), more=st.integers(1, 10**9))
def test_more_lines_never_cost_or_take_less(lines: int, more: int) -> None:
    few, many = (job(grown(count)) for count in (lines, lines + more))
    assert usd(few) <= usd(many) * 1.001
    assert few.busy <= many.busy * 1.001


def test_ten_times_the_lines_cost_about_ten_times_as_much_where_the_job_is_large() -> None:
    assert usd(job(grown(10**8))) == pytest.approx(10 * usd(job(grown(10**7))), rel=0.2)


@given(
    failing=st.floats(0, 1),
    memory=st.integers(128, 10_240),
    parcel=st.integers(1, 100_000),
    batch=st.integers(1, 100_000),
    concurrency=st.integers(1, 1000),
    out=st.floats(0, 10_000),
)
def test_the_estimate_is_finite_and_positive_whatever_the_numbers(
    failing: float, memory: int, parcel: int, batch: int, concurrency: int, out: float
) -> None:
    known = replace(KNOWN, failing=failing, out_bytes=out, out_entries=out / 100)
    one = job(known, parcel_size=parcel, batch_size=batch, memory=memory, concurrency=concurrency)
    assert 0 < usd(one) < float("inf")
    assert 0 < one.processed < one.latest < float("inf")
    assert all(row.quantity >= 0 for row in bill(one))
    assert all(list(warnings(one)) for _ in range(not one.fits))


def test_a_job_of_small_parcels_costs_more() -> None:
    assert usd(job(parcel_size=10, batch_size=10)) > usd(job())


def test_the_chosen_setup_and_the_cheapest_one_are_among_the_options() -> None:
    every = neighbours(job())
    assert SETUP in [one.setup for one in every]
    assert {one.setup.parcel_size for one in every} == {100, 1000, 10_000}
    assert all(one.setup.parcel_size == one.setup.batch for one in every)
    best = cheapest(every)
    assert best
    assert usd(best) == min(usd(one) for one in every)
    assert {one.setup.batch for one in neighbours(job(batch_size=1000))} == {1000}


def test_a_setup_that_does_not_fit_into_an_invocation_is_never_the_cheapest() -> None:
    slow = replace(KNOWN, wall=Line(0.0, 0.1), cpu=Line(0.0, 0.1))  # 1,000 lines take 100 s, 10,000 take 1,000 s
    every = neighbours(job(slow))
    assert {one.setup.parcel_size for one in every if not one.fits and one.setup.memory >= VCPU_MB} == {10_000}
    best = cheapest(every)
    assert best
    assert best.setup.parcel_size < 10_000
    every = neighbours(job(replace(KNOWN, wall=Line(400.0, 0.0), cpu=Line(400.0, 0.0))))
    assert cheapest(every) is None
    [chosen] = [one for one in every if one.setup == SETUP]
    assert "a run takes 400 seconds" in next(iter(warnings(chosen)))


def test_a_sample_that_says_little_is_warned_of() -> None:
    said = list(warnings(job(replace(KNOWN, sampled=10))))
    assert len(said) == 2
    assert all("--sample" in one for one in said)


# ---- Prices.


def test_every_price_has_a_source_and_some_have_a_day() -> None:
    assert PRICES.region == "us-east-1"
    assert all(price.source.startswith("https://") and price.usd > 0 for price in PRICES.of.values())
    assert PRICES.days
    assert PRICES.days[0] <= PRICES.days[1]
    assert PRICES.of["sqs_requests"].usd == pytest.approx(0.4e-6)


def test_the_estimate_uses_every_price() -> None:
    asked: set[str] = set()

    class Noting(dict[str, Price]):
        def __getitem__(self, name: str) -> Price:
            asked.add(name)
            return super().__getitem__(name)

    of_file = job(replace(KNOWN, failing=0.01), prices=Prices("nowhere", Noting(PRICES.of)))
    assert [*bill(of_file), *keeping(of_file), *idle(of_file.stack, of_file.prices)]
    assert asked == set(PRICES.of)


def test_a_row_of_a_bill_has_the_number_and_the_price() -> None:
    one = Row.of(PRICES, "SQS", "something", "sqs_requests", 2_500_000)
    assert (one.unit, one.usd) == ("requests", pytest.approx(1.0))
