"""Lineage: one text for each, exact arithmetic, and nothing that text from elsewhere could break."""

from __future__ import annotations

from hashlib import sha256
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parcelq.errors import LineageError
from parcelq.lineage.lineage import (
    MAX_DEPTH,
    MAX_LENGTH,
    MAX_POSITION,
    Lineage,
    RunOutput,
    Span,
    digest,
    digest_of,
    joined,
)

ONE, OTHER = "aaaaaaaa", "bbbbbbbb"
parse = Lineage.parse


@st.composite
def spans(draw: st.DrawFn, most: int = 60) -> Span:
    start, end, total = sorted(draw(st.tuples(*[st.integers(0, most)] * 3)))
    return Span(start, end, draw(st.sampled_from([total, None])))


OUTPUTS = st.lists(st.builds(RunOutput, spans(), st.sampled_from([ONE, OTHER])), max_size=3).map(tuple)
LINEAGES = st.builds(Lineage, spans(), OUTPUTS)


class TestText:
    @given(LINEAGES)
    def test_the_text_of_a_lineage_reads_as_the_same_lineage(self, lineage: Lineage) -> None:
        assert parse(str(lineage)) == lineage

    @given(st.text("0129-/*>:{},ab ", max_size=24))
    def test_any_text_is_refused_or_is_the_one_text_of_its_lineage(self, text: str) -> None:
        try:
            lineage = parse(text)
        except LineageError:
            return
        assert str(lineage) == text

    @given(LINEAGES, st.data())
    def test_one_character_more_or_less_never_reads_as_the_same(self, lineage: Lineage, data: st.DataObject) -> None:
        text = str(lineage)
        at = data.draw(st.integers(0, len(text) - 1))
        inserted = data.draw(st.sampled_from("0-/*>:{},a"))
        for other in (text[:at] + text[at + 1 :], text[:at] + inserted + text[at:]):
            try:
                assert parse(other) != lineage
            except LineageError:
                continue

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "0-5",
            "0-5/",
            " 0-5/10",
            "0-5/10 ",
            "0-5/10\n",
            "00-5/10",
            "+0-5/10",
            "0-\u0665/10",
            "5-3/10",
            "0-11/10",
            f"0-5/{MAX_POSITION + 1}",
            "0-5/10>",
            "0-5/10>0-1/2",
            "0-5/10>0-1/2:",
            "0-5/10>0-1/2:aaaaaaa",
            "0-5/10>0-1/2:AAAAAAAA",
            "0-5/10>0-1/2:" + "a" * 65,
            "0-5/10>3-1/2:aaaaaaaa",
            "0-1/9,2-3/9",
            "{0-1/9,2-3/9}",
            f"{{0-1/9,2-3/9}}>0-1/1:{'a' * 8}",
        ],
    )
    def test_a_text_that_does_not_follow_the_grammar_exactly_is_refused(self, text: str) -> None:
        with pytest.raises(LineageError):
            parse(text)

    @pytest.mark.parametrize(
        "text",
        ["0-5/10", "0-0/0", "5-5/*", f"0-{MAX_POSITION}/{MAX_POSITION}", "0-9/9>0-1/*:" + "0123456789abcdef" * 4],
    )
    def test_a_text_that_follows_the_grammar_is_read(self, text: str) -> None:
        assert str(parse(text)) == text

    def test_an_error_about_a_long_lineage_shows_its_beginning(self) -> None:
        with pytest.raises(LineageError) as caught:
            parse("0-5/10>" + "x" * 5000)
        assert "0-5/10>xxx" in str(caught.value)
        assert len(str(caught.value)) < 300

    def test_a_text_longer_than_any_lineage_is_refused_before_it_is_read(self) -> None:
        with pytest.raises(LineageError, match="characters"):
            parse("0-1/9" + f">0-1/9:{ONE}" * (MAX_LENGTH // 10))

    def test_a_lineage_of_the_greatest_length_is_read(self) -> None:
        longest = Lineage(Span(MAX_POSITION, MAX_POSITION, MAX_POSITION))
        for _ in range(MAX_DEPTH):
            longest = longest.child(longest.root, "f" * 64)
        assert parse(str(longest)) == longest

    def test_a_lineage_of_more_steps_than_the_limit_is_refused(self) -> None:
        assert len(parse("0-1/9" + f">0-1/9:{ONE}" * MAX_DEPTH).outputs) == MAX_DEPTH
        with pytest.raises(LineageError, match="steps"):
            parse("0-1/9" + f">0-1/9:{ONE}" * (MAX_DEPTH + 1))


class TestBuilding:
    @pytest.mark.parametrize(("start", "end", "total"), [(-1, 2, 3), (2, 1, 3), (0, 4, 3), (0, MAX_POSITION + 1, None)])
    def test_a_span_that_does_not_lie_within_its_total_is_refused(
        self, start: int, end: int, total: int | None
    ) -> None:
        with pytest.raises(LineageError):
            Span(start, end, total)

    def test_a_child_is_a_slice_of_the_output_of_a_step(self) -> None:
        child = parse("0-5/10").child(Span(0, 2, 4), ONE)
        assert str(child) == f"0-5/10>0-2/4:{ONE}"
        assert child.span == Span(0, 2, 4)

    def test_the_digest_is_of_the_whole_output_and_16_hexadecimals_long(self) -> None:
        in_blocks = digest_of([b"some ", b"output"])
        assert in_blocks == digest(b"some output") == sha256(b"some output").hexdigest()[:16]
        assert len(digest(b"")) == 16


class TestCut:
    @given(LINEAGES, st.data())
    def test_cutting_a_lineage_twice_is_the_same_as_cutting_it_once(
        self, lineage: Lineage, data: st.DataObject
    ) -> None:
        start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(lineage.span))] * 2)))
        inner_start, inner_end = sorted(data.draw(st.tuples(*[st.integers(0, end - start)] * 2)))
        cut = lineage.cut(start, end)
        assert len(cut.span) == end - start
        assert cut.cut(inner_start, inner_end) == lineage.cut(start + inner_start, start + inner_end)

    @given(LINEAGES, st.lists(st.integers(0, 60), max_size=4))
    def test_pieces_that_were_cut_join_to_the_same_lineage(self, lineage: Lineage, places: list[int]) -> None:
        size = len(lineage.span)
        cuts = sorted({place % size for place in places} | {0, size}) if size else [0, 0]
        whole = lineage.cut(cuts[0], cuts[1])
        for start, end in pairwise(cuts[1:]):
            longer = joined(whole, lineage.cut(start, end))
            assert longer is not None
            whole = longer
        assert whole == lineage

    def test_cutting_a_lineage_cuts_only_its_last_span(self) -> None:
        assert str(parse(f"10-50/90>20-60/*:{ONE}").cut(5, 15)) == f"10-50/90>25-35/*:{ONE}"
        assert str(parse("10-50/90").cut(5, 40)) == "15-50/90"

    @pytest.mark.parametrize(("start", "end"), [(-1, 2), (0, 41), (3, 2)])
    def test_a_cut_that_does_not_lie_within_the_body_is_refused(self, start: int, end: int) -> None:
        with pytest.raises(LineageError, match="40 bytes"):
            parse("10-50/90").cut(start, end)


class TestJoined:
    @pytest.mark.parametrize(
        ("one", "other", "both"),
        [
            ("0-5/9", "5-9/9", "0-9/9"),
            ("0-5/*", "5-9/*", "0-9/*"),
            (f"0-5/9>0-1/3:{ONE}", f"0-5/9>1-3/3:{ONE}", f"0-5/9>0-3/3:{ONE}"),
            (f"0-5/9>0-3/3:{ONE}>0-1/9:{ONE}", f"0-5/9>0-3/3:{ONE}>1-2/9:{ONE}", f"0-5/9>0-3/3:{ONE}>0-2/9:{ONE}"),
        ],
    )
    def test_neighbours_in_the_source_or_in_one_output_are_joined(self, one: str, other: str, both: str) -> None:
        assert joined(parse(one), parse(other)) == parse(both)
        assert joined(parse(other), parse(one)) is None

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("0-5/9", "6-9/9"),
            ("0-5/9", "4-9/9"),
            ("0-5/9", "0-5/9"),
            ("0-5/9", "5-9/*"),
            ("0-5/9", f"5-9/9>0-2/4:{ONE}"),
            (f"0-5/9>0-1/3:{ONE}", f"0-5/9>1-3/3:{OTHER}"),
            (f"0-5/9>0-3/3:{ONE}", f"5-9/9>0-2/4:{OTHER}"),
            (f"0-5/9>0-1/3:{ONE}", f"0-6/9>1-3/3:{ONE}"),
        ],
    )
    def test_pieces_that_do_not_touch_or_are_of_different_things_are_not_joined(self, one: str, other: str) -> None:
        assert joined(parse(one), parse(other)) is None


class TestOrder:
    @given(st.lists(LINEAGES, min_size=2, max_size=2))
    def test_the_order_of_lineages_is_total_and_separates_any_two(self, pair: list[Lineage]) -> None:
        one, other = pair
        assert (one.order == other.order) == (one == other)
        assert (one.order < other.order) or (other.order < one.order) or one == other

    def test_messages_sort_in_the_order_of_their_bodies_in_the_result(self) -> None:
        texts = [
            f"0-9/50>0-5/9:{ONE}",
            f"0-9/50>5-9/9:{ONE}>0-2/4:{ONE}",
            f"0-9/50>5-9/9:{ONE}>2-4/4:{ONE}",
            f"10-30/50>0-1/1:{ONE}",
            "30-40/50",
        ]
        assert [str(one) for one in sorted(map(parse, reversed(texts)), key=lambda one: one.order)] == texts
