"""The arithmetic of `parcelq estimate`: by hand, against the library's own parcelling, and by properties."""

from __future__ import annotations

import random
from dataclasses import replace
from io import BytesIO
from math import ceil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parcelq.aws.batching import sized_batches
from parcelq.limits import KIB, MAX_REQUEST_BYTES, MAX_REQUEST_MESSAGES, MIB
from parcelq.records.parcels import cut_for_messages
from parcelq.upload.files import MAX_BODY_BYTES
from parcelq_cli.estimate.costs import ALARMS, Till, file_costs, idle_costs, keeping_costs, total
from parcelq_cli.estimate.distributed_map import map_costs
from parcelq_cli.estimate.duration import COLLECT_SECONDS, LONGEST_SECONDS, VCPU_MB, duration, ramp_seconds, run_seconds
from parcelq_cli.estimate.known import Line, Measured
from parcelq_cli.estimate.options import cheapest, option, options, warnings
from parcelq_cli.estimate.prices import Price, Prices, load_prices
from parcelq_cli.estimate.traffic import Requests, publish, receive, s3, sqs, units
from parcelq_cli.estimate.work import MESSAGES_PER_INVOCATION, Setup, again, in_invocation, parcels, work
from parcelq_emulator.template import load
from samtranslator.yaml_helper import yaml_parse

TEMPLATE = Path(__file__).parents[2] / "template.yaml"
# A million lines of 50 bytes, of which a run takes 0.1 s and 0.1 ms a line, all of it calculating.
KNOWN = Measured(
    name="lines.txt",
    size=50_000_000,
    lines=1_000_000,
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
    attributes_in=200,
    attributes_out=300,
)
SETUP = Setup()
PRICES = load_prices()


def grown(lines: int, known: Measured = KNOWN) -> Measured:
    """The same file with so many lines."""
    return replace(known, lines=lines, size=round(lines * known.line_bytes))


def usd(known: Measured, setup: Setup = SETUP) -> float:
    return option(known, setup, PRICES).usd


# ---- Requests.


@pytest.mark.parametrize(
    ("size", "billed"), [(0, 1), (1, 1), (64 * KIB, 1), (64 * KIB + 1, 2), (256 * KIB, 4), (MIB, 16)]
)
def test_every_64_kib_of_a_payload_are_billed(size: int, billed: int) -> None:
    assert units(size) == billed


def test_publishing_by_hand() -> None:
    # 52,200 bytes: ten make 522,000, which is 7.97 units.
    assert publish(1000, 52_200) == Requests(100, 800)
    # 300 KiB: three fit into a request; 900 KiB are 15 units, and the tenth has 5 of its own.
    assert publish(10, 300 * KIB) == Requests(4, 50)
    assert publish(0, 100) == Requests(0, 0)


@given(full=st.integers(0, 100), size=st.integers(1, MAX_REQUEST_BYTES), share=st.floats(0, 1), has_last=st.booleans())
def test_publishing_fills_requests_as_the_library_does(full: int, size: int, share: float, has_last: bool) -> None:
    last = max(1, int(share * size)) if has_last else 0
    sizes = [size] * full + [last] * bool(last)
    batches = list(sized_batches(sizes, lambda one: one, MAX_REQUEST_MESSAGES, MAX_REQUEST_BYTES))
    assert publish(full, size, last) == Requests(len(batches), sum(units(sum(batch)) for batch in batches))


def test_receiving_by_hand() -> None:
    # 25 messages of 64 KiB, ten an invocation: 3 receives of 10, 10 and 5 units, and 3 requests that delete.
    assert receive(25, 64 * KIB, 10) == Requests(6, 28)


@given(lines=st.integers(1, 5000), length=st.integers(1, 3000), entries=st.integers(1, 3000), parts=st.integers(1, 3))
def test_parcels_are_cut_as_the_library_does(lines: int, length: int, entries: int, parts: int) -> None:
    known = replace(KNOWN, lines=lines * parts, size=lines * parts * length)
    found = parcels(known, entries, parts)
    cut = list(cut_for_messages(BytesIO((b"x" * (length - 1) + b"\n") * lines), entries, MAX_BODY_BYTES))
    assert found.count == len(cut) * parts
    sizes = [len(one.data) + known.attributes_in for one in cut]
    assert sizes == [found.size] * found.full + [found.last] * bool(found.last)
    assert found.entries == cut[0].entries


def test_a_line_that_sqs_refuses_makes_its_parcel_larger() -> None:
    all_illegal = parcels(replace(KNOWN, illegal=1.0), 1000, 1)
    assert all_illegal.size == ceil(50_000 * 4 / 3) + 200
    one_in_ten_thousand = parcels(replace(KNOWN, illegal=0.0001), 1000, 1)
    assert one_in_ten_thousand.size == pytest.approx(50_200 + 0.0952 * 50_000 / 3, rel=0.001)


def test_an_event_has_as_many_messages_as_fit_into_6_mb() -> None:
    assert in_invocation(KNOWN, 50_200) == 10
    assert in_invocation(KNOWN, MIB) == 5
    assert in_invocation(replace(KNOWN, escaped=2.0), MIB) == 2


def test_the_requests_of_a_file_by_hand() -> None:
    known = replace(KNOWN, size=500_000_000, lines=10_000_000)
    of_file = work(known, SETUP)
    took = duration(of_file)
    asked = sqs(of_file, took)
    # Two ranges of 5,000 parcels, each of 50,200 bytes; ten in a request of 8 units.
    assert (of_file.ranges, of_file.run.count, of_file.invocations) == (2, 10_000, 1000)
    assert asked["range topic"] == Requests(1 + 2 * 2, 1 + 2 * 2)
    assert asked["input topic, publish"] == Requests(1000, 8000)
    assert asked["input topic, receive and delete"] == Requests(2000, 8000 + 1000)
    # Each run puts out 100,300 bytes; ten of them are 15.3 units.
    assert asked["output topic, publish"] == Requests(1000, 16_000)
    # 300 asked by each of 100 processors, 1 by the uploader at the put and at every range, 2 by every downloader.
    assert asked["looking up topics"].requests == 3 + 4 * 100 + 2 * took.collections
    puts, _ = s3(of_file, took)
    # Notes, segments of 168 messages and what four receivers have in the end, 60 parts of the result, report and lists.
    # Of the result's note, a look and another note.
    assert (took.turns, took.writers) == (1, 1)
    assert puts == 2 + 60 + 4 * took.collections + 62 + 2 + 1 + took.collections + 2


# ---- Failures.


def test_one_bad_line_in_a_message_costs_about_two_runs_for_each_halving() -> None:
    # One of 1,024 on average; now and then there are two, and often none.
    found = again(1 / 1024, 1024)
    assert found.dead == pytest.approx(1.0)
    assert 10 < found.runs < 2 * 10 + 1


@pytest.mark.parametrize(("failing", "entries"), [(0.01, 64), (0.2, 16), (1.0, 8), (0.5, 1)])
def test_failures_are_those_of_halving_by_chance(failing: float, entries: int) -> None:
    chance = random.Random(1)
    runs = over = failures = dead = 0

    def run(lines: list[bool]) -> None:
        nonlocal runs, over, failures, dead
        runs, over = runs + 1, over + len(lines)
        if not any(lines):
            return
        failures += 1
        if len(lines) == 1:
            runs, over, dead = runs + 1, over + 1, dead + 1
            return
        middle = len(lines) // 2
        run(lines[:middle])
        run(lines[middle:])

    times = 3000
    for _ in range(times):
        run([chance.random() < failing for _ in range(entries)])
    found = again(failing, entries)
    assert found.runs == pytest.approx(runs / times - 1, rel=0.1)
    assert found.entries == pytest.approx(over / times - entries, rel=0.1)
    assert found.failures == pytest.approx(failures / times, rel=0.1)
    assert found.dead == pytest.approx(dead / times, rel=0.1)


def test_failures_cost_and_take_more() -> None:
    bad = replace(KNOWN, failing=0.001)
    assert usd(bad) > usd(KNOWN)
    assert duration(work(bad, SETUP)).processed > duration(work(KNOWN, SETUP)).processed
    assert again(0.0, 1000).runs == 0


# ---- Time.


def test_the_line_through_two_measurements() -> None:
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
def test_how_long_a_run_takes(wall: float, cpu: float, vcpus: float, seconds: float) -> None:
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


def test_a_job_by_hand() -> None:
    # Ten runs of 0.2 s on one vCPU, and moving ten times 50,200 and 100,300 bytes at 78 MB/s, and a request.
    took = duration(work(KNOWN, SETUP))
    assert took.run == pytest.approx(0.2)
    assert took.invocation == pytest.approx(2.0 + 1_505_000 / 78e6 + 0.02)
    assert took.busy == pytest.approx(100 * took.invocation + 100 * 1.0)
    assert took.assembly == pytest.approx(2 * 100_000_000 / 78e6)
    # Waiting does not need a processor, but runs wait side by side only as many as there are.
    waits = replace(KNOWN, cpu=Line(0, 0))
    assert duration(work(waits, SETUP)).invocation == pytest.approx(took.invocation - 1.0)


def test_a_warm_step_starts_once_for_every_run_that_goes_on_at_a_time() -> None:
    took, warm = (duration(work(replace(KNOWN, start=start), SETUP)) for start in (0.0, 3.0))
    # A hundred instances, on each of which two runs go on.
    assert warm.busy == pytest.approx(took.busy + 100 * 2 * 3.0)


def test_a_slower_processor_is_like_less_memory() -> None:
    half = duration(work(KNOWN, replace(SETUP, memory=VCPU_MB // 2)))
    slow = duration(work(KNOWN, SETUP), slowdown=2.0)
    assert slow.run == pytest.approx(half.run, rel=0.01) == pytest.approx(0.4, rel=0.01)


# ---- Costs.


def test_the_bill_of_a_job_by_hand() -> None:
    prices = Prices("nowhere", {name: Price(0.0, None, "") for name in PRICES.of})

    def only(name: str, price: float) -> float:
        one = Prices("nowhere", {**prices.of, name: Price(price, None, "")})
        return total(file_costs(of_file, took, one))

    of_file = work(KNOWN, SETUP)
    took = duration(of_file)
    # The uploader once, the processor 100 times, and the downloader.
    assert only("lambda_requests", 1.0) == 1 + 100 + took.collections
    seconds = took.busy + took.upload + took.collections * 20 + took.assembly + 2 * 100_000_000 / 78e6
    assert only("lambda_gb_seconds", 1.0) == pytest.approx(seconds * 1769 / 1024)
    assert only("lambda_storage_gb_seconds", 1.0) == pytest.approx(took.busy * 1.5)
    assert only("sqs_requests", 1.0) == sum(one.units for one in sqs(of_file, took).values())
    assert only("log_gb", 1.0) == pytest.approx((101 + took.collections) * 1500 / 1e9)
    assert total(file_costs(of_file, took, prices)) == 0
    assert total(keeping_costs(of_file, PRICES)) == pytest.approx(0.15 * 0.023)


def test_an_idle_stack_by_hand() -> None:
    rows = {(row.service, row.what, row.unit): row.quantity for row in idle_costs(PRICES)}
    # Two mappings with five pollers, three times a minute; the downloader twelve times an hour, for 20 s.
    assert rows["SQS", "Lambda looking for messages", "requests"] == 2 * 5 * 3 * 60 * 24 * 30
    assert rows["Lambda", "downloader, on its schedule", "requests"] == 8640
    assert rows["Lambda", "downloader, on its schedule", "gb seconds"] == pytest.approx(8640 * 20 * 1769 / 1024)


def test_the_template_is_as_reckoned() -> None:
    resources = load(TEMPLATE, {})["Resources"].values()
    kinds = [one["Type"] for one in resources]
    assert kinds.count("AWS::CloudWatch::Alarm") == ALARMS
    assert kinds.count("AWS::CloudWatch::Dashboard") == 1
    mappings = [one["Properties"] for one in resources if one["Type"] == "AWS::Lambda::EventSourceMapping"]
    assert len(mappings) == 2
    assert all("ScalingConfig" in one for one in mappings)
    functions = [one["Properties"] for one in resources if one["Type"] == "AWS::Lambda::Function"]
    collected = {one["MemorySize"] for one in functions if one["Timeout"] == LONGEST_SECONDS}
    assert collected == {1769}
    assert [one["EphemeralStorage"] for one in functions if "EphemeralStorage" in one] == [{"Size": 2048}]
    defaults = {
        name: one.get("Default") for name, one in yaml_parse(TEMPLATE.read_text(encoding="utf-8"))["Parameters"].items()
    }
    of_setup = {"ParcelSize": "parcel_size", "BatchSize": "batch_size", "ProcessorMemory": "memory"}
    of_setup |= {"Concurrency": "concurrency", "ProcessorTimeout": "timeout", "RangeBytes": "range_bytes"}
    assert {name: int(defaults[name]) for name in of_setup} == {
        name: getattr(SETUP, field) for name, field in of_setup.items()
    }
    assert defaults["MessagesPerInvocation"] == MESSAGES_PER_INVOCATION
    assert defaults["CollectSchedule"] == f"rate({COLLECT_SECONDS // 60} minutes)"


@given(lines=st.integers(1, 10**9), more=st.integers(1, 10**9))
def test_more_lines_never_cost_or_take_less(lines: int, more: int) -> None:
    few, many = (option(grown(count), SETUP, PRICES) for count in (lines, lines + more))
    assert few.usd <= many.usd * 1.001
    assert few.duration.busy <= many.duration.busy * 1.001


def test_ten_times_the_lines_cost_about_ten_times_as_much_where_the_job_is_large() -> None:
    assert usd(grown(10**8)) == pytest.approx(10 * usd(grown(10**7)), rel=0.2)


@given(
    failing=st.floats(0, 1),
    memory=st.integers(128, 10_240),
    parcel=st.integers(1, 100_000),
    batch=st.integers(1, 100_000),
    concurrency=st.integers(1, 1000),
    out=st.floats(0, 10_000),
)
def test_no_numbers_break_it(
    failing: float, memory: int, parcel: int, batch: int, concurrency: int, out: float
) -> None:
    known = replace(KNOWN, failing=failing, out_bytes=out, out_entries=out / 100)
    one = option(known, Setup(parcel, batch, memory, concurrency), PRICES)
    assert 0 < one.usd < float("inf")
    assert 0 < one.duration.processed < one.duration.latest < float("inf")
    assert all(row.quantity >= 0 for row in one.rows)
    assert all(total(variant.rows) > 0 or variant.impossible for variant in map_costs(known, one.setup, PRICES))
    assert all(list(warnings(one, known)) for _ in range(not one.fits))


def test_small_parcels_and_re_parcelling_cost_more() -> None:
    assert usd(KNOWN, replace(SETUP, parcel_size=10, batch_size=10)) > usd(KNOWN)
    assert usd(KNOWN, replace(SETUP, parcel_size=10_000, batch_size=1000)) > usd(KNOWN)


def test_the_chosen_one_and_the_cheapest_are_among_the_options() -> None:
    every = options(KNOWN, SETUP, PRICES, 1.0, batches_follow=True)
    assert [one.setup for one in every if one.chosen] == [SETUP]
    assert {one.setup.parcel_size for one in every} == {100, 1000, 10_000}
    assert all(one.setup.parcel_size == one.setup.batch_size for one in every)
    best = cheapest(every)
    assert best
    assert best.usd == min(one.usd for one in every)
    kept = options(KNOWN, SETUP, PRICES, 1.0, batches_follow=False)
    assert {one.setup.batch_size for one in kept} == {1000}


def test_what_does_not_fit_into_an_invocation_is_never_the_cheapest() -> None:
    slow = replace(KNOWN, wall=Line(0.0, 0.1), cpu=Line(0.0, 0.1))  # 1,000 lines take 100 s, 10,000 take 1,000 s
    every = options(slow, SETUP, PRICES, 1.0, batches_follow=True)
    assert {one.setup.parcel_size for one in every if not one.fits and one.setup.memory >= VCPU_MB} == {10_000}
    best = cheapest(every)
    assert best
    assert best.setup.parcel_size < 10_000
    slower = replace(KNOWN, wall=Line(400.0, 0.0), cpu=Line(400.0, 0.0))
    every = options(slower, SETUP, PRICES, 1.0, batches_follow=True)
    assert cheapest(every) is None
    [chosen] = [one for one in every if one.chosen]
    assert "a run takes 400 seconds" in next(iter(warnings(chosen, slower)))


def test_a_large_result_is_written_by_several_invocations_one_after_another_and_side_by_side() -> None:
    took = replace(duration(work(KNOWN, SETUP)), processed=600.0, assembly=790.0)
    assert (took.turns, took.writers, took.collections) == (1, 3, 6)
    assert took.latest == 600 + 300 + 20 + 790
    longer = replace(took, assembly=800.0)
    assert (longer.turns, longer.writers) == (2, 3)
    assert longer.latest == 600 + 2 * 300 + 20 + 800
    short = replace(took, assembly=299.0)
    assert (short.turns, short.writers) == (1, 1)
    of_file = work(grown(10**8), SETUP)
    assert all(more > few for more, few in zip(s3(of_file, longer), s3(of_file, short), strict=True))


def test_a_sample_that_says_little_is_told() -> None:
    little = replace(KNOWN, sampled=10)
    said = list(warnings(option(little, SETUP, PRICES), little))
    assert len(said) == 2
    assert all("--sample" in one for one in said)


# ---- Distributed Map.


def test_a_distributed_map_by_hand() -> None:
    standard, express, single, single_express = map_costs(KNOWN, SETUP, PRICES)
    assert [(one.name, one.batch, one.children) for one in (standard, express)] == [
        ("Standard", 1000, 1000),
        ("Express", 1000, 1000),
    ]

    def transitions(rows: object) -> float:
        return sum(row.quantity for row in rows if row.unit == "transitions")  # type: ignore[attr-defined]

    assert transitions(standard.rows) == 2 + 2 * 1000
    assert transitions(express.rows) == 2 + 1000
    # 0.2 s and a request are billed as 0.3 s of 64 MB.
    memory = next(row for row in express.rows if row.unit == "express gb seconds")
    assert memory.quantity == pytest.approx(1000 * 0.3 * 64 / 1024)
    assert (single.batch, single.children) == (1, 1_000_000)
    # 2,000,002 transitions alone are $50.
    assert sum(row.usd for row in single.rows if row.service == "Step Functions") == pytest.approx(50.0, rel=0.001)
    assert total(single_express.rows) < total(single.rows)


def test_a_batch_of_a_distributed_map_has_at_most_256_kib() -> None:
    standard, *_ = map_costs(KNOWN, replace(SETUP, batch_size=10_000), PRICES)
    assert standard.batch == 256 * KIB // 53
    large = replace(KNOWN, size=300 * KIB * 1000, lines=1000)
    assert all("256 KiB" in one.impossible and not one.rows for one in map_costs(large, SETUP, PRICES))


def test_an_express_child_has_five_minutes() -> None:
    slow = replace(KNOWN, wall=Line(301.0, 0.0), cpu=Line(0.0, 0.0))
    standard, express, *_ = map_costs(slow, SETUP, PRICES)
    assert standard.rows
    assert not express.rows
    assert "a run takes 301 seconds" in express.impossible


# ---- Prices.


def test_every_price_has_a_source_and_some_have_a_day() -> None:
    assert PRICES.region == "us-east-1"
    assert all(price.source.startswith("https://") and price.usd > 0 for price in PRICES.of.values())
    assert PRICES.days
    assert PRICES.days[0] <= PRICES.days[1]
    assert PRICES.of["sqs_requests"].usd == pytest.approx(0.4e-6)


def test_every_price_is_used() -> None:
    of_file = work(replace(KNOWN, failing=0.01), SETUP)
    asked: set[str] = set()

    class Noting(dict[str, Price]):
        def __getitem__(self, name: str) -> Price:
            asked.add(name)
            return super().__getitem__(name)

    prices = Prices("nowhere", Noting(PRICES.of))
    file_costs(of_file, duration(of_file), prices)
    idle_costs(prices)
    keeping_costs(of_file, prices)
    map_costs(KNOWN, SETUP, prices)
    assert asked == set(PRICES.of)


def test_a_row_of_a_bill() -> None:
    row = Till(PRICES).row("SQS", "something", "sqs_requests", 2_500_000)
    assert (row.unit, row.usd) == ("requests", pytest.approx(1.0))
