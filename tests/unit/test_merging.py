"""The collector: a result is exact or what it lacks is named, whatever came, how often and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import reduce

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_store import Objects
from parcelq.collect import merge, runs
from parcelq.collect.assembly import SegmentReader, parts_of
from parcelq.collect.deaths import Dead, dead_of
from parcelq.collect.resolution import Collected, Resolution
from parcelq.collect.runs import indexes_of, read_record, tidy
from parcelq.collect.segments import JobKey, key_in, segment_keys, time_of, write_segment
from parcelq.lineage.lineage import Lineage, Span, digest, joined
from parcelq.records import LINES as PLAIN_LINES
from parcelq.topics.pieces import Piece

WHEN = datetime(2026, 11, 26, tzinfo=UTC)
SOURCE = "s3://bucket/inbox/a?put=1"


@pytest.fixture(autouse=True, scope="module", params=["as shipped", "row by row", "merged in twos"])
def merging(request: pytest.FixtureRequest) -> Iterator[None]:
    """How much is read at a time, and how early indexes are merged, must make no difference."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param != "as shipped":
            patch.setattr(merge, "_FEWEST", 1)
            patch.setattr(merge.merged, "__defaults__", (1 if request.param == "row by row" else 7,))
        if request.param == "merged in twos":
            patch.setattr(runs, "FEWEST", 2)
            patch.setattr(runs, "FEWEST_RUNS", 2)
        yield


@dataclass
class Bodies:
    """Messages that were collected, in segments of so many."""

    in_segment: int = 1
    pieces: list[Piece] = field(default_factory=list)

    def add(self, lineage: Lineage | str, body: bytes = b"", dead: str = "", entries: int | None = None) -> None:
        count = PLAIN_LINES.count(body) if entries is None else entries
        self.pieces.append(Piece(str(lineage), body, count, dead))

    def collected(self) -> Collected:
        store = Objects()
        for at in range(0, len(self.pieces), self.in_segment):
            some = self.pieces[at : at + self.in_segment]
            write_segment(store, "topic", JobKey(SOURCE), some, [], WHEN, WHEN + timedelta(microseconds=at))
            for keys in segment_keys(store, "topic").values():
                tidy(store, "topic", keys, WHEN)
        keys = [key for some in segment_keys(store, "topic").values() for key in some]
        return Collected(store, indexes_of(store, keys, read_record(store, keys)))

    def resolve(self) -> Resolution:
        return self.collected().resolve()

    def dead(self) -> list[Dead]:
        return list(dead_of(self.collected(), []))

    def result(self) -> bytes:
        collected = self.collected()
        result = b"".join(parts_of(SegmentReader(collected.store, collected.segments), collected.extents(), 5))
        assert len(result) == collected.resolve().size
        return result


@dataclass(frozen=True)
class Sent:
    """A message: its lineage and its bytes."""

    lineage: Lineage
    body: bytes


def cut_up(data: bytes, places: Iterable[int], lineage_of: Callable[[int, int], Lineage]) -> list[Sent]:
    """Data cut at the line ends next to these places."""
    ends = sorted({data.find(b"\n", place % max(1, len(data))) + 1 for place in places} - {0} | {len(data)})
    starts = [0, *ends[:-1]]
    return [Sent(lineage_of(start, end), data[start:end]) for start, end in zip(starts, ends, strict=True)]


def upload(data: bytes, places: Iterable[int]) -> list[Sent]:
    return cut_up(data, places, lambda start, end: Lineage(Span(start, end, len(data))))


def run(step: Callable[[bytes], bytes], group: Sequence[Sent], places: Iterable[int]) -> list[Sent]:
    """What a run of a step over messages together publishes."""
    ordered = sorted(group, key=lambda one: one.lineage.order)
    parent = reduce(lambda one, other: joined(one, other) or one, (one.lineage for one in ordered))
    output = step(b"".join(one.body for one in ordered))
    named = digest(output)
    return cut_up(output, places, lambda start, end: parent.child(Span(start, end, len(output)), named))


def each_line(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda data: b"".join(change(line) for line in data.splitlines(keepends=True))


STEPS = {
    "expanding": each_line(lambda line: line * (1 + line[0] % 3)),
    "filtering": each_line(lambda line: line if line[0] % 2 else b""),
    "changing": each_line(lambda line: b"<" + line),
}
LINE = st.binary(max_size=4).map(lambda line: b"x" + line.replace(b"\n", b".").replace(b"\r", b".") + b"\n")
LINES = st.lists(LINE, max_size=9)
PLACES = st.lists(st.integers(0, 60), max_size=4)
GROUPED = st.lists(st.integers(0, 3), min_size=40, max_size=40)


def step_over(
    step: Callable[[bytes], bytes], sent: Sequence[Sent], grouped: Sequence[int], places: Iterable[int]
) -> list[tuple[list[Sent], list[Sent]]]:
    """A step run over messages that touch, in groups; each group with the messages of its output."""
    groups: list[list[Sent]] = []
    for number, one in enumerate(sorted(sent, key=lambda one: one.lineage.order)):
        same = number and grouped[number % len(grouped)] == grouped[(number - 1) % len(grouped)]
        if same and joined(groups[-1][-1].lineage, one.lineage):
            groups[-1].append(one)
        else:
            groups.append([one])
    return [(group, run(step, group, places)) for group in groups]


class TestAnyDelivery:
    @settings(deadline=None)
    @given(st.data(), LINES, PLACES, st.sampled_from(sorted(STEPS)), st.integers(1, 3))
    def test_a_result_is_exact_whatever_was_grouped_doubled_and_shuffled(
        self, data: st.DataObject, lines: list[bytes], places: list[int], name: str, levels: int
    ) -> None:
        source = b"".join(lines)
        sent = upload(source, places)
        for _ in range(levels):
            runs = step_over(STEPS[name], sent, data.draw(GROUPED), data.draw(PLACES))
            sent = [one for _, led_to in runs for one in led_to]
        twice = data.draw(st.permutations(sent + data.draw(st.lists(st.sampled_from(sent), max_size=5))))
        bodies = Bodies()
        for one in twice:
            bodies.add(one.lineage, one.body)
        resolution = bodies.resolve()
        assert resolution.whole
        assert resolution.total == resolution.covered == len(source)
        expected = source
        for _ in range(levels):
            expected = STEPS[name](expected)
        assert sorted(bodies.result().splitlines()) == sorted(expected.splitlines())
        assert resolution.entries == expected.count(b"\n")
        assert bodies.resolve().duplicates == len(twice) - len(sent)

    @settings(deadline=None)
    @given(st.data(), LINES, PLACES, st.sampled_from(sorted(STEPS)))
    def test_without_groups_the_result_reads_as_if_the_step_had_run_over_the_file(
        self, data: st.DataObject, lines: list[bytes], places: list[int], name: str
    ) -> None:
        source = b"".join(lines)
        alone = list(range(40))
        sent = [one for _, led_to in step_over(STEPS[name], upload(source, places), alone, [3, 9]) for one in led_to]
        bodies = Bodies()
        for one in data.draw(st.permutations(sent)):
            bodies.add(one.lineage, one.body)
        assert bodies.resolve().whole
        assert bodies.result() == STEPS[name](source)

    @settings(deadline=None)
    @given(st.data(), LINES, PLACES, GROUPED, PLACES, st.sampled_from(sorted(STEPS)))
    def test_the_output_of_a_group_lies_where_its_first_message_does(
        self, data: st.DataObject, lines: list[bytes], places: list[int], grouped: list[int], cut: list[int], name: str
    ) -> None:
        runs = step_over(STEPS[name], upload(b"".join(lines), places), grouped, cut)
        bodies = Bodies()
        for one in data.draw(st.permutations([one for _, led_to in runs for one in led_to])):
            bodies.add(one.lineage, one.body)
        in_order = sorted(runs, key=lambda one: min(member.lineage.span.start for member in one[0]))
        assert bodies.result() == b"".join(one.body for _, led_to in in_order for one in led_to)

    @settings(deadline=None)
    @given(st.data(), LINES, PLACES, st.sampled_from(sorted(STEPS)), st.booleans())
    def test_messages_run_whole_or_halved_or_both_make_what_one_run_makes(
        self, data: st.DataObject, lines: list[bytes], places: list[int], name: str, lossy: bool
    ) -> None:
        numbered = [b"%d:" % number + line for number, line in enumerate(lines)]
        source, step = b"".join(numbered), STEPS[name]
        everything: list[Sent] = []
        for one in upload(source, places):
            how = data.draw(st.sampled_from(["whole", "halved", "both"]))
            if how != "halved":
                everything += run(step, [one], data.draw(PLACES))
            if how != "whole":
                for half in cut_up(one.body, data.draw(PLACES), one.lineage.cut):
                    everything += run(step, [half], data.draw(PLACES))
        came = data.draw(st.permutations(everything))
        came = came[: data.draw(st.integers(0, len(came)))] if lossy else came
        bodies = Bodies()
        for one in came:
            bodies.add(one.lineage, one.body)
        resolution = bodies.resolve()
        if len(came) == len(everything):
            assert resolution.whole
        if resolution.total is not None:
            assert resolution.covered + sum(end - start for start, end in resolution.holes) == len(source)
        there = source
        for start, end in reversed(resolution.holes if resolution.total is not None else [(0, len(source))]):
            there = there[:start] + there[end:]
        assert bodies.result() == step(there)

    @settings(deadline=None)
    @given(st.data(), LINES, PLACES, st.sampled_from(sorted(STEPS)))
    def test_a_source_whose_size_only_the_last_message_knows_lacks_just_what_is_lost(
        self, data: st.DataObject, lines: list[bytes], places: list[int], name: str
    ) -> None:
        """As where it is compressed."""
        source, step = b"".join(lines), STEPS[name]
        *before, last = upload(source, places)
        sent = [*(Sent(Lineage(replace(one.lineage.span, total=None)), one.body) for one in before), last]
        there = data.draw(st.lists(st.sampled_from(sent), unique_by=id))
        bodies = Bodies()
        for one in there:
            for led_to in run(step, [one], data.draw(PLACES)):
                bodies.add(led_to.lineage, led_to.body)
        resolution = bodies.resolve()
        assert resolution.total == (len(source) if last in there else None)
        kept = [one for one in sent if one in there]
        assert bodies.result() == b"".join(step(one.body) for one in kept)
        covered = {at for one in kept for at in range(one.lineage.span.start, one.lineage.span.end)}
        missing = {at for start, end in resolution.holes for at in range(start, end)}
        known = len(source) if last in there else max(covered, default=-1) + 1
        assert missing == set(range(known)) - covered

    @settings(deadline=None)
    @given(st.data(), LINES, PLACES, GROUPED, PLACES, st.sampled_from(sorted(STEPS)))
    def test_lost_messages_make_holes_of_exactly_their_bytes(
        self,
        data: st.DataObject,
        lines: list[bytes],
        places: list[int],
        grouped: list[int],
        output_places: list[int],
        name: str,
    ) -> None:
        source = b"".join(lines)
        runs = step_over(STEPS[name], upload(source, places), grouped, output_places)
        everything = [one for _, led_to in runs for one in led_to]
        lost = {id(one) for one in data.draw(st.lists(st.sampled_from(everything), max_size=3))}
        bodies = Bodies()
        for one in data.draw(st.permutations([one for one in everything if id(one) not in lost])):
            bodies.add(one.lineage, one.body)
        torn = [group for group, led_to in runs if any(id(one) in lost for one in led_to)]
        expected = sorted((one.lineage.span.start, one.lineage.span.end) for group in torn for one in group)
        resolution = bodies.resolve()
        if resolution.total is None:
            assert len(lost) == len(everything)
            return
        missing = {at for start, end in resolution.holes for at in range(start, end)}
        assert missing == {at for start, end in expected for at in range(start, end)}
        assert resolution.covered == len(source) - len(missing)
        assert resolution.finished == (not expected)
        kept = [one for group, led_to in runs if group not in torn for one in led_to]
        assert sorted(bodies.result().splitlines()) == sorted(b"".join(one.body for one in kept).splitlines())

    @settings(deadline=None)
    @given(st.data(), LINES, PLACES, GROUPED, GROUPED)
    def test_two_runs_over_other_groups_never_double_a_byte(
        self, data: st.DataObject, lines: list[bytes], places: list[int], grouped: list[int], again: list[int]
    ) -> None:
        source = b"".join(lines)
        sent = upload(source, places)
        step = STEPS["changing"]
        first, second = (step_over(step, sent, one, [5, 11]) for one in (grouped, again))
        bodies = Bodies()
        everything = [one for _, led_to in [*first, *second] for one in led_to]
        for one in data.draw(st.permutations(everything)):
            bodies.add(one.lineage, one.body)
        resolution = bodies.resolve()
        got = sorted(bodies.result().splitlines())
        expected = sorted(step(source).splitlines())
        left = list(expected)
        for line in got:
            left.remove(line)  # raises if there is one too many
        assert resolution.covered + sum(end - start for start, end in resolution.holes) == len(source)
        assert (not left) == resolution.whole or not source

    @settings(deadline=None)
    @given(st.data(), LINES, PLACES, st.lists(st.integers(0, 2), min_size=40, max_size=40))
    def test_bytes_that_are_covered_and_missing_add_up_whatever_comes(
        self, data: st.DataObject, lines: list[bytes], places: list[int], fates: list[int]
    ) -> None:
        source = b"".join(lines)
        bodies = Bodies()
        told = False
        dead = set()
        for number, one in enumerate(data.draw(st.permutations(upload(source, places)))):
            if fates[number] == 0:
                continue
            told = True
            if fates[number] == 1:
                bodies.add(one.lineage, dead="why", entries=PLAIN_LINES.count(one.body))
                dead.add((one.lineage.span.start, one.lineage.span.end))
            else:
                bodies.add(one.lineage, one.body)
        resolution = bodies.resolve()
        assert (resolution.total is not None) == told
        if told:
            assert {(one.start, one.end) for one in bodies.dead()} == dead
            lengths = [end - start for start, end in [*resolution.holes, *dead]]
            assert resolution.covered + sum(lengths) == len(source)
            entries = resolution.dead
            lacking = sum(source[start:end].count(b"\n") for start, end in resolution.holes)
            assert resolution.entries + entries + lacking == len(lines)


class TestSegments:
    @settings(deadline=None)
    @given(st.data(), LINES, PLACES, st.sampled_from(sorted(STEPS)), st.integers(0, 2), st.booleans())
    def test_the_result_is_the_same_however_messages_lie_in_segments(
        self, data: st.DataObject, lines: list[bytes], places: list[int], name: str, levels: int, total_known: bool
    ) -> None:
        source = b"".join(lines)
        sent = upload(source, places)
        if not total_known:
            sent = [Sent(Lineage(replace(one.lineage.span, total=None)), one.body) for one in sent]
        dead = [
            Piece(str(one.lineage), b"", 1, "why") for one in data.draw(st.lists(st.sampled_from(sent), max_size=2))
        ]
        for _ in range(levels):
            grouped = data.draw(st.one_of(st.just(list(range(40))), GROUPED))
            sent = [one for _, led_to in step_over(STEPS[name], sent, grouped, data.draw(PLACES)) for one in led_to]
        results = [
            Piece(str(one.lineage), one.body, PLAIN_LINES.count(one.body))
            for one in data.draw(st.lists(st.sampled_from(sent)))
        ]
        came = data.draw(st.permutations([*results, *dead]))
        one_by_one, together = Bodies(1, came), Bodies(data.draw(st.integers(2, 9)), came)
        assert one_by_one.resolve() == together.resolve()
        assert one_by_one.resolve().state == together.resolve().state
        assert one_by_one.result() == together.result()
        assert one_by_one.dead() == together.dead()

    def test_totals_that_differ_are_no_reason_to_lose_a_message(self) -> None:
        bodies = Bodies()
        bodies.add("0-4/*", b"one\n")
        bodies.add("4-8/8", b"two\n")
        assert bodies.resolve().whole
        bodies.add("8-12/12", b"end\n")
        bodies.add("0-4/8", b"one\n")
        assert bodies.resolve().whole
        assert bodies.resolve().duplicates == 1

    def test_messages_beyond_the_end_of_the_source_count_for_nothing(self) -> None:
        bodies = Bodies()
        bodies.add("0-4/4", b"one\n")
        bodies.add("0-40/*", b"forty\n")
        bodies.add("4-8/*", b"two\n")
        assert bodies.resolve().whole
        assert bodies.result() == b"one\n"

    def test_a_body_without_a_line_end_does_not_swallow_the_next_one(self) -> None:
        bodies = Bodies(2)
        for start, body in ((0, b"one"), (4, b""), (8, b"two\n"), (12, b"end")):
            bodies.add(f"{start}-{start + 4}/16", body)
        assert bodies.result() == b"one\ntwo\nend"


ONE, OTHER = "aaaaaaaa", "bbbbbbbb"


class TestRuns:
    def test_slices_of_runs_that_differ_are_never_mixed(self) -> None:
        bodies = Bodies()
        bodies.add(f"0-9/9>0-4/8:{ONE}", b"one\n")
        bodies.add(f"0-9/9>4-8/8:{OTHER}", b"two\n")
        assert bodies.resolve().holes == ((0, 9),)
        assert bodies.result() == b""

    @pytest.mark.parametrize("late", [f"0-9/9>4-8/8:{ONE}", f"0-9/9>4-8/8:{OTHER}"])
    def test_of_two_runs_the_one_that_is_whole_counts(self, late: str) -> None:
        bodies = Bodies()
        bodies.add(f"0-9/9>0-4/8:{ONE}", b"one\n")
        bodies.add(f"0-9/9>0-4/8:{OTHER}", b"two\n")
        bodies.add(late, b"end\n")
        assert bodies.resolve().whole
        assert bodies.result() == (b"one\nend\n" if ONE in late else b"two\nend\n")

    def test_the_first_run_that_is_whole_stays_in_the_result(self) -> None:
        bodies = Bodies()
        bodies.add(f"0-9/9>0-4/4:{ONE}", b"one\n")
        bodies.add(f"0-9/9>0-4/4:{OTHER}", b"two\n")
        assert bodies.result() == b"one\n"
        assert bodies.resolve().duplicates == 1

    def test_halves_that_came_and_the_whole_that_came_after_all_count_once(self) -> None:
        bodies = Bodies()
        bodies.add(f"0-4/9>0-4/4:{ONE}", b"one\n")
        bodies.add(f"0-9/9>0-8/8:{OTHER}", b"one\ntwo\n")
        assert bodies.resolve().whole
        assert bodies.result() == b"one\ntwo\n"
        bodies.add(f"4-9/9>0-4/4:{ONE}", b"two\n")
        assert bodies.result() == b"one\ntwo\n"

    def test_of_pieces_that_overlap_those_that_cover_most_are_chosen(self) -> None:
        bodies = Bodies()
        bodies.add(f"0-6/12>0-2/2:{ONE}", b"a\n")
        bodies.add(f"4-8/12>0-2/2:{ONE}", b"b\n")
        bodies.add(f"6-12/12>0-2/2:{ONE}", b"c\n")
        assert bodies.resolve().whole
        assert bodies.result() == b"a\nc\n"

    def test_a_message_that_is_not_of_the_last_level_counts_as_it_is(self) -> None:
        bodies = Bodies()
        bodies.add("0-4/8", b"abc\n")
        bodies.add(f"4-8/8>0-2/2:{ONE}>0-3/3:{OTHER}", b"xy\n")
        assert bodies.resolve().whole
        assert bodies.result() == b"abc\nxy\n"

    def test_of_three_levels_every_one_must_be_covered(self) -> None:
        bodies = Bodies()
        bodies.add(f"0-9/9>0-4/8:{ONE}>0-3/3:{OTHER}", b"ab\n")
        assert bodies.resolve().holes == ((0, 9),)
        bodies.add(f"0-9/9>4-8/8:{ONE}>0-2/4:{OTHER}", b"c\n")
        assert bodies.resolve().holes == ((0, 9),)
        bodies.add(f"0-9/9>4-8/8:{ONE}>2-4/4:{OTHER}", b"d\n")
        assert bodies.resolve().whole
        assert bodies.result() == b"ab\nc\nd\n"

    def test_a_total_that_only_the_last_message_tells_is_unknown_until_then(self) -> None:
        bodies = Bodies()
        bodies.add("0-4/*", b"one\n")
        resolution = bodies.resolve()
        assert (resolution.total, resolution.covered, resolution.finished) == (None, 4, False)
        bodies.add("8-12/12", b"end\n")
        assert bodies.resolve().holes == ((4, 8),)
        bodies.add("4-8/*", b"two\n")
        assert bodies.resolve().whole
        assert bodies.result() == b"one\ntwo\nend\n"


class TestNothing:
    @pytest.mark.parametrize("told", ["0-0/0", f"0-0/0>0-0/0:{ONE}"])
    def test_an_empty_source_without_messages_is_whole(self, told: str) -> None:
        bodies = Bodies()
        bodies.add(told)
        assert bodies.resolve().whole
        assert bodies.result() == b""

    def test_a_step_may_make_something_of_an_empty_source(self) -> None:
        bodies = Bodies()
        bodies.add(f"0-0/0>0-4/4:{ONE}", b"one\n")
        assert bodies.resolve().whole
        assert bodies.result() == b"one\n"

    def test_an_empty_output_message_covers_its_input(self) -> None:
        bodies = Bodies()
        bodies.add(f"0-4/8>0-0/0:{ONE}")
        assert bodies.resolve().holes == ((4, 8),)
        bodies.add(f"4-8/8>0-0/0:{ONE}")
        assert bodies.resolve().whole
        assert bodies.result() == b""

    def test_empty_outputs_of_two_steps_cover_the_input(self) -> None:
        bodies = Bodies()
        bodies.add(f"0-4/4>0-0/0:{ONE}>0-0/0:{OTHER}")
        assert bodies.resolve().whole


class TestDeath:
    def test_a_source_with_dead_entries_is_finished_and_not_whole(self) -> None:
        bodies = Bodies()
        bodies.add(f"0-4/8>0-4/4:{ONE}", b"one\n")
        bodies.add("4-8/8", dead="exit code 3", entries=1)
        resolution = bodies.resolve()
        assert (resolution.finished, resolution.whole, resolution.covered) == (True, False, 4)
        assert bodies.dead() == [Dead(4, 8, 1, "exit code 3")]
        assert bodies.result() == b"one\n"

    @pytest.mark.parametrize("stone_first", [True, False])
    def test_a_result_takes_the_place_of_a_tombstone(self, stone_first: bool) -> None:
        bodies = Bodies()
        if stone_first:
            bodies.add("0-4/4", dead="why", entries=1)
        bodies.add(f"0-4/4>0-4/4:{ONE}", b"one\n")
        if not stone_first:
            bodies.add("0-4/4", dead="why", entries=1)
        resolution = bodies.resolve()
        assert resolution.whole
        assert not bodies.dead()
        assert bodies.result() == b"one\n"

    def test_a_result_that_is_torn_leaves_the_tombstone(self) -> None:
        bodies = Bodies()
        bodies.add("0-4/4", dead="why", entries=1)
        bodies.add(f"0-4/4>0-2/4:{ONE}", b"a\n")
        assert [one.reason for one in bodies.dead()] == ["why"]
        assert bodies.result() == b""

    def test_a_redriven_entry_that_dies_again_has_its_newest_reason_and_is_no_duplicate(self) -> None:
        bodies = Bodies()
        for reason in ("why", "or why", "or why"):
            bodies.add("0-4/4", dead=reason, entries=1)
        assert [one.reason for one in bodies.dead()] == ["or why"]
        assert bodies.resolve().duplicates == 0
        for _ in range(2):
            bodies.add("0-4/4", b"one\n")
        assert (bodies.result(), bodies.resolve().duplicates) == (b"one\n", 1)

    def test_an_entry_that_died_in_the_second_step_is_named_by_its_place_in_the_source(self) -> None:
        bodies = Bodies()
        bodies.add(f"0-9/20>0-4/8:{ONE}>0-4/4:{OTHER}", b"one\n")
        bodies.add(f"0-9/20>4-8/8:{ONE}", dead="why", entries=2)
        resolution = bodies.resolve()
        assert bodies.dead() == [Dead(0, 9, 2, "why", of_source=False)]
        assert resolution.holes == ((9, 20),)
        assert bodies.result() == b"one\n"
        bodies.add(f"0-9/20>4-8/8:{ONE}>0-4/4:{OTHER}", b"two\n")
        assert not bodies.dead()
        assert bodies.result() == b"one\ntwo\n"

    def test_a_run_that_is_whole_goes_before_one_with_dead_entries(self) -> None:
        bodies = Bodies()
        bodies.add(f"0-9/9>0-4/4:{ONE}", dead="why", entries=1)
        assert bodies.dead()
        bodies.add(f"0-9/9>0-4/4:{OTHER}", b"one\n")
        assert bodies.resolve().whole

    def test_halves_of_a_dead_message_go_before_its_tombstone(self) -> None:
        bodies = Bodies()
        bodies.add("0-8/8", dead="killed", entries=2)
        bodies.add(f"0-4/8>0-4/4:{ONE}", b"one\n")
        bodies.add("4-8/8", dead="why", entries=1)
        resolution = bodies.resolve()
        assert resolution.finished
        assert bodies.dead() == [Dead(4, 8, 1, "why")]
        assert bodies.result() == b"one\n"


class TestState:
    def test_another_choice_is_another_state_though_the_same_entries_are_dead(self) -> None:
        states = set()
        for run in (ONE, OTHER):
            bodies = Bodies()
            bodies.add("0-4/8", dead="why", entries=1)
            bodies.add(f"4-8/8>0-4/4:{run}", b"one\n")
            states.add(bodies.resolve().state)
        assert len(states) == 2

    def test_other_reasons_or_entries_are_another_state(self) -> None:
        states = set()
        for reason, entry in (("why", b"abc\n"), ("or why", b"abc\n"), ("why", b"xyz\n")):
            bodies = Bodies()
            bodies.add("0-4/4", entry, dead=reason, entries=1)
            states.add(bodies.resolve().state)
        assert len(states) == 3


class TestExtents:
    def test_neighbours_in_one_segment_are_one_extent(self) -> None:
        bodies = Bodies(2)
        for start in (4, 0, 8):
            bodies.add(f"{start}-{start + 4}/12>0-2/2:{ONE}", b"x\n")
        assert [(one.segment, one.size) for one in bodies.collected().extents()] == [(0, 4), (1, 2)]


@pytest.mark.parametrize("microsecond", [0, 7, 999_999])
def test_the_key_of_a_segment_says_when_its_last_message_was_pulled(microsecond: int) -> None:
    when = datetime(2026, 12, 31, 23, 59, 59, microsecond, tzinfo=UTC)
    assert time_of(key_in("segments/output/job/", when, 12, ".seg")) == when
    assert time_of("segments/output/job/other-name") is None
