"""Planning: every message has one place in a plan, and the plan keeps the rules."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parcelq.lineage.lineage import Lineage, Span
from parcelq.process.marks import receives_as_evidence
from parcelq.process.plan import Evidence, Plan, Work, lineage_of, make_plan, without_repeats
from parcelq.process.rules import Rules
from parcelq.topics.attributes import DEAD, ENTRIES, FAILURES, LINEAGE, SOURCE
from parcelq.topics.message import Message, Pulled, Wire


def work(
    entries: int,
    *,
    source: str = "s",
    start: int | None = 0,
    receive_count: int = 1,
    failures: int = 0,
    lineage: Lineage | None = None,
    name: str = "",
) -> Work:
    """A message with a number of entries of one character."""
    body = b"x\n" * entries
    attributes = {ENTRIES: str(entries)}
    if start is not None or lineage:
        place = lineage or Lineage(Span(start or 0, (start or 0) + len(body), None))
        attributes |= {SOURCE: source, LINEAGE: str(place)}
    if failures:
        attributes[FAILURES] = str(failures)
    name = name or f"{source}{start}"
    return Work.of(Pulled(name, f"h-{name}", receive_count, Wire("", attributes)), Message(body, attributes))


def plan(*works: Work, evidence: Evidence | None = None, batch_size: int = 10, joins: bool = True) -> Plan:
    return make_plan(works, evidence or Evidence(), batch_size, joins=joins)


class TestWork:
    def test_a_unit_of_work_knows_what_the_attributes_of_its_message_say(self) -> None:
        one = work(3, start=10, failures=2)
        assert (str(one.lineage), one.source, one.entries, one.failures) == ("10-16/*", "s", 3, 2)

    def test_a_message_without_lineage_has_no_source_and_is_named_by_its_id(self) -> None:
        one = work(3, start=None, name="id")
        assert (one.lineage, one.source, one.place) == (None, "", "id")

    @pytest.mark.parametrize(
        "attributes",
        [
            {LINEAGE: "0-4/4"},
            {SOURCE: "s"},
            {SOURCE: "s", LINEAGE: "nonsense"},
            {SOURCE: "s", LINEAGE: "0-3/4"},
            {SOURCE: "s", LINEAGE: "{0-4/4,4-8/8}"},
        ],
    )
    def test_a_unit_of_work_with_an_impossible_lineage_counts_as_one_without(self, attributes: dict[str, str]) -> None:
        one = Work.of(Pulled("i", "h", 1, Wire("a\nb\n", attributes)), Message(b"a\nb\n", attributes))
        assert (one.lineage, one.source) == (None, "")

    def test_a_tombstone_has_a_lineage_without_having_its_bytes(self) -> None:
        attributes = {SOURCE: "s", LINEAGE: "0-4/4", DEAD: "why"}
        one = Work.of(Pulled("i", "h", 1, Wire("\n", attributes)), Message(b"", attributes))
        assert one.place == "s 0-4/4"


class TestPlaces:
    def test_a_message_with_more_entries_than_a_batch_is_cut(self) -> None:
        one = work(11)
        assert plan(one) == Plan(too_large=(one,))

    def test_a_message_with_as_many_entries_as_a_batch_is_run(self) -> None:
        one = work(10)
        assert plan(one) == Plan(fresh=((one,),))

    @pytest.mark.parametrize("receive_count", [1, 2, 500])
    def test_a_message_that_failed_before_runs_alone_however_often_it_was_received(self, receive_count: int) -> None:
        one, other = work(2, failures=1, receive_count=receive_count), work(2, start=4)
        assert plan(one, other) == Plan(alone=(one,), fresh=((other,),))

    @pytest.mark.parametrize("receive_count", [2, 3, 999])
    def test_a_message_that_was_only_received_before_runs_like_others_but_watched(self, receive_count: int) -> None:
        one, other = work(2, receive_count=receive_count), work(2, start=4)
        assert plan(one, other) == Plan(watched=((one,),), fresh=((other,),))

    def test_a_message_that_may_have_killed_a_function_runs_alone(self) -> None:
        one, other = work(2, receive_count=2), work(2, start=4, receive_count=2)
        assert plan(one, other, evidence=Evidence(suspects=frozenset({one.place}))) == Plan(
            alone=(one,), watched=((other,),)
        )

    def test_a_message_that_killed_functions_too_often_is_not_run(self) -> None:
        one = work(20, receive_count=3, failures=1)
        assert plan(one, evidence=Evidence(killed={one.place: ("mark",)})) == Plan(killers=(one,))

    def test_messages_that_were_received_most_often_come_first(self) -> None:
        works = [work(2, start=4 * number, receive_count=number + 2) for number in range(3)]
        assert [group[0].receive_count for group in plan(*works, joins=False).watched] == [4, 3, 2]


class TestRunningTogether:
    def test_neighbours_run_together_until_they_fill_a_batch(self) -> None:
        works = [work(4, start=start) for start in range(0, 56, 8)]
        assert plan(*works).fresh == (tuple(works[:3]), tuple(works[3:6]), tuple(works[6:]))

    def test_messages_of_one_group_run_in_the_order_of_their_bytes(self) -> None:
        first, second, third = (work(2, start=start) for start in (0, 4, 8))
        assert plan(third, first, second).fresh == ((first, second, third),)

    def test_messages_that_do_not_touch_run_apart(self) -> None:
        one, other = work(2), work(2, start=8)
        assert plan(one, other).fresh == ((one,), (other,))

    def test_messages_of_different_sources_never_run_together(self) -> None:
        a, b, c = work(2, source="a"), work(2, source="b"), work(2, source="a", start=4)
        assert plan(a, b, c).fresh == ((a, c), (b,))

    def test_the_deployed_processor_joins_only_messages_without_lineage(self) -> None:
        a, b, c, d = work(2), work(2, start=4), work(2, start=None, name="c"), work(2, start=None, name="d")
        assert sorted(plan(a, b, c, d, joins=False).fresh, key=len) == [(a,), (b,), (c, d)]

    def test_outputs_of_two_runs_are_never_joined(self) -> None:
        parents = [Lineage(Span(start, start + 4, 8)).child(Span(0, 4, 4), "0123abcd") for start in (0, 4)]
        one, other = (work(2, lineage=lineage) for lineage in parents)
        assert plan(one, other).fresh == ((one,), (other,))

    def test_a_group_stands_for_the_bytes_of_all(self) -> None:
        assert str(lineage_of([work(2), work(2, start=4)])) == "0-8/*"
        assert lineage_of([work(2, start=None)]) is None


WORKS = st.lists(
    st.builds(
        lambda entries, source, start, receive_count, failures: work(
            entries, source=source, start=start, receive_count=receive_count, failures=failures
        ),
        st.integers(0, 25),
        st.sampled_from("ab"),
        st.integers(0, 1000),
        st.integers(1, 4),
        st.integers(0, 2),
    ),
    max_size=25,
)


@given(WORKS, st.integers(1, 30), st.booleans(), st.data())
def test_every_message_has_one_place_in_a_plan_that_keeps_the_rules(
    works: list[Work], batch_size: int, joins: bool, data: Any
) -> None:
    works = without_repeats(works)
    places = [one.place for one in works]
    some = st.frozensets(st.sampled_from(places)) if places else st.just(frozenset[str]())
    evidence = Evidence(dict.fromkeys(data.draw(some), ()), data.draw(some), data.draw(some))
    made = make_plan(works, evidence, batch_size, joins=joins)
    groups = [*made.watched, *made.fresh]
    placed = [*made.too_large, *made.killers, *made.put_back, *made.alone, *(one for group in groups for one in group)]
    assert sorted(map(id, placed)) == sorted(map(id, works))
    assert {one.place for one in made.killers} == evidence.killed.keys()
    assert all(one.entries > batch_size for one in made.too_large)
    for group in groups:
        assert len({one.source for one in group}) == 1
        assert not any(one.failures or one.place in evidence.suspects for one in group)
        assert sum(one.entries for one in group[:-1]) < batch_size
        assert joins or len(group) == 1
        assert lineage_of(group) is not None
    assert all(one.receive_count == 1 for group in made.fresh for one in group)
    assert all(one.receive_count > 1 for group in made.watched for one in group)


class TestReceivesInPlaceOfMarks:
    def test_a_message_that_was_received_before_counts_as_failed(self) -> None:
        one, fresh = work(4, receive_count=2), work(4, start=8)
        assert receives_as_evidence([one, fresh], Rules()) == Evidence({one.place: ()})

    def test_a_message_that_would_be_dead_by_its_receives_is_run_alone(self) -> None:
        works = [work(1, start=2 * number, receive_count=2, failures=1) for number in range(3)]
        evidence = receives_as_evidence(works, Rules())
        made = make_plan(works, evidence, 10)
        assert (evidence.killed, made.alone, made.put_back) == ({}, (works[0],), tuple(works[1:]))

    @pytest.mark.parametrize("rules", [Rules(halving=False, max_failures=1), Rules(max_failures=1)])
    def test_only_what_can_be_cut_counts_as_failed_for_the_last_time(self, rules: Rules) -> None:
        one = work(4, receive_count=2)
        assert (one.place in receives_as_evidence([one], rules).killed) is rules.halving


class TestRules:
    @pytest.mark.parametrize(("entries", "size"), [(2, 1), (3, 2), (9, 5), (10, 5), (15, 8), (30, 10)])
    def test_a_message_is_halved_and_no_part_is_above_a_batch(self, entries: int, size: int) -> None:
        assert Rules(batch_size=10).part_size(work(entries), killed=False) == size

    @pytest.mark.parametrize(("entries", "size"), [(2, 1), (10, 1), (11, 2), (1000, 100)])
    def test_a_message_that_killed_a_function_is_cut_into_ten(self, entries: int, size: int) -> None:
        assert Rules().part_size(work(entries), killed=True) == size

    @given(st.integers(2, 10**6), st.integers(1, 10**6), st.booleans())
    def test_cutting_a_message_always_makes_several_parts(self, entries: int, batch_size: int, killed: bool) -> None:
        one = Work(Message(b""), (), None, entries)
        assert 1 <= Rules(batch_size=batch_size).part_size(one, killed=killed) < entries


class TestRepeats:
    def test_messages_with_the_same_bytes_of_a_source_are_repeats(self) -> None:
        first, other, twin = work(2, name="1"), work(2, start=4), work(2, name="2", receive_count=7)
        kept = without_repeats([first, other, twin])
        assert [one.place for one in kept] == [first.place, other.place]
        assert (kept[0].deliveries, kept[0].receive_count) == ((first.pulled, twin.pulled), 7)

    @pytest.mark.parametrize("failures", [(0, 1), (1, 0)])
    def test_of_a_message_and_its_copy_the_one_with_more_failures_counts(self, failures: tuple[int, int]) -> None:
        (kept,) = without_repeats(work(2, failures=count, name=str(count)) for count in failures)
        assert (kept.failures, len(kept.deliveries)) == (1, 2)

    def test_a_message_with_the_same_span_of_another_source_is_no_repeat(self) -> None:
        works = [work(2, source="a"), work(2, source="b")]
        assert without_repeats(works) == works

    def test_a_message_without_lineage_is_never_a_repeat(self) -> None:
        works = [work(2, start=None, name="1"), work(2, start=None, name="2")]
        assert without_repeats(works) == works
