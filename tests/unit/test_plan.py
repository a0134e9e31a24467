"""What is done with pulled messages: split, run together, or run alone."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parcelq.lineage.lineage import Lineage, Span
from parcelq.process.plan import Split, Work, halves, make_plan, without_repeats
from parcelq.topics.message import ALONE, DEAD, ENTRIES, HALVED, LINEAGE, SOURCE, Message, Pulled, Wire

HANDLES = iter(range(10**9))


def work(
    entries: int,
    *,
    source: str = "s",
    start: int | None = 0,
    receive_count: int = 1,
    lineage: Lineage | None = None,
    halved: str | None = None,
    alone: bool = False,
) -> Work:
    """A message of that many entries of two bytes; without lineage where `start` is None."""
    body = b"a\n" * entries
    if start is not None:
        lineage = lineage or Lineage(Span(start, start + len(body), None))
    attributes = {SOURCE: source, LINEAGE: str(lineage), ENTRIES: str(entries)} if lineage else {}
    if halved is not None:
        attributes[HALVED] = halved
    if alone:
        attributes[ALONE] = "1"
    handle = f"handle-{next(HANDLES)}"
    pulled = Pulled("id", handle, receive_count, Wire(body.decode(), attributes))
    return Work.of(pulled, Message(body, attributes))


def plan(*messages: Work, batch_size: int = 10, max_receive_count: int = 2, halving: bool = True):
    made = make_plan(messages, batch_size, max_receive_count, halving=halving)
    return made.splits, made.groups


class TestReadingAMessage:
    def test_it_has_a_lineage_an_entry_count_and_a_place(self):
        one = work(3, source="s3://b/k?put=1", start=10)
        assert (one.lineage, one.entries, one.source) == (Lineage(Span(10, 16, None)), 3, "s3://b/k?put=1")
        assert one.place == "s3://b/k?put=1 10-16/*"

    def test_one_without_lineage_has_no_place(self):
        one = work(3, start=None)
        assert (one.lineage, one.source, one.place, one.entries) == (None, "", "", 3)

    @pytest.mark.parametrize(
        "attributes",
        [
            {LINEAGE: "0-4/4"},  # of what?
            {SOURCE: "s"},
            {SOURCE: "s", LINEAGE: "nonsense"},
            {SOURCE: "s", LINEAGE: "0-3/4"},  # not the body's length
            {SOURCE: "s", LINEAGE: "{0-4/4,4-8/8}"},  # the text of an earlier version
        ],
    )
    def test_a_lineage_that_cannot_be_right_counts_as_none(self, attributes):
        one = Work.of(Pulled("i", "h", 1, Wire("a\nb\n", attributes)), Message(b"a\nb\n", attributes))
        assert (one.lineage, one.source, one.place) == (None, "", "")

    def test_a_tombstone_has_a_lineage_without_having_its_bytes(self):
        attributes = {SOURCE: "s", LINEAGE: "0-4/4", DEAD: "why"}
        one = Work.of(Pulled("i", "h", 1, Wire("\n", attributes)), Message(b"", attributes))
        assert one.place == "s 0-4/4"


class TestSplitting:
    def test_more_entries_than_batch_size_are_split_into_parcels_of_it(self):
        one = work(11)
        assert plan(one) == ([Split(one, 10)], [])

    def test_as_many_entries_as_batch_size_are_run(self):
        one = work(10)
        assert plan(one) == ([], [[one]])

    @pytest.mark.parametrize(("entries", "size"), [(2, 1), (3, 2), (9, 5), (10, 5), (15, 8), (30, 10)])
    def test_the_last_time_it_is_halved_without_a_run_and_never_above_batch_size(self, entries, size):
        one = work(entries, receive_count=2)
        assert plan(one) == ([Split(one, size, halved=1)], [])

    def test_the_last_time_one_entry_is_run_since_it_cannot_be_halved(self):
        one = work(1, receive_count=2)
        assert plan(one) == ([], [[one]])

    def test_without_halving_the_last_time_is_a_run(self):
        one, large = work(5, receive_count=2), work(11, receive_count=2)
        assert plan(one, large, halving=False) == ([Split(large, 10)], [[one]])

    def test_before_the_last_time_it_is_run(self):
        one = work(5, receive_count=2)
        assert plan(one, max_receive_count=3) == ([], [[one]])

    def test_later_than_the_last_time_it_is_still_halved(self):
        one = work(4, receive_count=7)
        assert plan(one) == ([Split(one, 2, halved=1)], [])

    def test_where_the_first_time_is_the_last_it_is_run_since_nothing_speaks_against_it(self):
        one = work(5)
        assert plan(one, max_receive_count=1) == ([], [[one]])

    @pytest.mark.parametrize(("before", "times"), [("1", 2), ("9", 10), ("", 1), ("many", 1), ("9" * 5000, 1)])
    def test_it_is_counted_how_often_a_message_was_halved(self, before, times):
        one = work(4, receive_count=2, halved=before)
        assert plan(one) == ([Split(one, 2, halved=times)], [])

    @given(st.integers(2, 10**6), st.integers(1, 10**6))
    def test_the_first_half_is_the_larger_one_and_never_above_batch_size(self, entries, batch_size):
        attributes = {ENTRIES: str(entries)}
        one = Work.of(Pulled("i", "h", 2, Wire("", attributes)), Message(b"", attributes))
        size = halves(one, batch_size).size
        assert size == batch_size or size >= entries - size >= size - 1
        assert size <= batch_size


class TestRunning:
    def test_messages_run_together_until_they_reach_batch_size(self):
        messages = [work(4, start=start) for start in range(0, 56, 8)]
        assert plan(*messages)[1] == [messages[:3], messages[3:6], messages[6:]]

    def test_and_no_further_once_they_have_reached_it(self):
        messages = [work(5, start=start) for start in (0, 10, 20)]
        assert plan(*messages)[1] == [messages[:2], messages[2:]]

    def test_in_the_order_of_their_bytes(self):
        first, second, third = (work(2, start=start) for start in (0, 4, 8))
        assert plan(third, first, second)[1] == [[first, second, third]]

    def test_those_of_different_sources_never(self):
        a, b, c = work(2, source="a"), work(2, source="b"), work(2, source="a", start=4)
        assert plan(a, b, c)[1] == [[a, c], [b]]

    def test_those_without_lineage_only_with_one_another(self):
        a, b, c = work(2, start=None), work(2, source="s"), work(2, start=None)
        assert plan(a, b, c)[1] == [[a, c], [b]]

    def test_what_failed_before_runs_alone_and_first(self):
        fresh, failed, other = work(2), work(2, start=4, receive_count=2), work(2, start=8)
        assert plan(fresh, failed, other, max_receive_count=3)[1] == [[failed], [fresh], [other]]

    def test_half_of_what_failed_before_runs_alone_too(self):
        fresh, part, other = work(2), work(2, start=4, halved="1"), work(2, start=8)
        assert plan(fresh, part, other)[1] == [[part], [fresh], [other]]

    def test_messages_without_entries_are_run_too(self):
        empty, other = work(0), work(2)
        assert Counter(one.place for group in plan(empty, other)[1] for one in group) == {"s 0-0/*": 1, "s 0-4/*": 1}

    def test_nothing_is_nothing(self):
        assert plan() == ([], [])


MESSAGES = st.lists(
    st.builds(
        lambda entries, source, start, receive_count: work(
            entries, source=source, start=start, receive_count=receive_count
        ),
        st.integers(0, 25),
        st.sampled_from("ab"),
        st.one_of(st.none(), st.integers(0, 1000)),
        st.integers(1, 4),
    ),
    max_size=25,
)


@given(MESSAGES, st.integers(1, 30), st.integers(1, 4), st.booleans())
def test_every_message_has_one_place_in_a_plan_that_keeps_the_rules(messages, batch_size, max_receive_count, halving):
    made = make_plan(messages, batch_size, max_receive_count, halving=halving)
    splits, groups = made.splits, made.groups
    placed = [split.work for split in splits] + [one for group in groups for one in group] + made.suspects + made.lost
    assert sorted(map(id, placed)) == sorted(map(id, messages))
    assert all(one.pulled.receive_count == max_receive_count + 1 for one in made.suspects)
    assert all(one.pulled.receive_count > max_receive_count + 1 for one in made.lost)
    for split in splits:
        assert 1 <= split.size <= batch_size
        assert split.size < split.work.entries
    for group in groups:
        assert len({one.source for one in group}) == 1
        assert all(one.entries <= batch_size for one in group)
        assert sum(one.entries for one in group[:-1]) < batch_size
        assert len(group) == 1 or all(one.pulled.receive_count == 1 for one in group)


class TestWhatComesAfterItsLastTime:
    @pytest.mark.parametrize("max_receive_count", [1, 2, 3])
    def test_it_is_a_suspect_first_and_lost_then(self, max_receive_count):
        last, suspect, lost = (work(1, start=2 * more, receive_count=max_receive_count + more) for more in range(3))
        made = make_plan([last, suspect, lost], 10, max_receive_count, halving=True)
        assert (made.groups, made.suspects, made.lost, made.splits) == ([[last]], [suspect], [lost], [])

    def test_one_that_was_a_suspect_before_stays_one_and_is_lost_sooner(self):
        first, last, lost = (work(1, start=2 * count, receive_count=count, alone=True) for count in (1, 2, 3))
        made = make_plan([first, last, lost], 10, 2, halving=True)
        assert (made.suspects, made.lost, made.groups) == ([first, last], [lost], [])

    @pytest.mark.parametrize("receive_count", [3, 4, 9])
    def test_one_of_several_entries_is_halved_all_the_same(self, receive_count):
        one = work(4, receive_count=receive_count)
        made = make_plan([one], 10, 2, halving=True)
        assert [split.work for split in made.splits] == [one]
        assert not made.suspects + made.lost

    def test_without_halving_it_is_a_suspect_whole(self):
        one = work(4, receive_count=3)
        assert make_plan([one], 10, 2, halving=False).suspects == [one]


class TestRepeats:
    def test_messages_of_the_same_bytes_are_taken_once(self):
        first, other, twin, triplet = work(2), work(2, start=4), work(2), work(2)
        kept, repeats = without_repeats([first, other, twin, triplet])
        assert kept == [first, other]
        assert repeats == {first.pulled.receipt_handle: [twin.pulled, triplet.pulled]}

    def test_the_same_span_of_another_source_is_no_repeat(self):
        messages = [work(2, source="a"), work(2, source="b")]
        assert without_repeats(messages) == (messages, {})

    def test_without_lineage_nothing_is_a_repeat(self):
        messages = [work(2, start=None), work(2, start=None)]
        assert without_repeats(messages) == (messages, {})

    def test_outputs_of_two_runs_are_no_repeats(self):
        source = Lineage(Span(0, 9, 9))
        messages = [work(2, lineage=source.child(Span(0, 4, 4), run)) for run in ("0123abcd", "4567abcd")]
        assert without_repeats(messages) == (messages, {})
