"""Lineage: one text for each, exact arithmetic, and nothing that text from elsewhere could break."""

from __future__ import annotations

from hashlib import blake2b
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from parcelq.errors import LineageError
from parcelq.lineage.lineage import (
    MAX_DEPTH,
    MAX_GROUP_LENGTH,
    MAX_LENGTH,
    MAX_POSITION,
    Lineage,
    Output,
    Span,
    digest,
    disjoint,
    follows,
    new_digest,
    together,
)

ONE, OTHER = "aaaaaaaa", "bbbbbbbb"
parse = Lineage.parse


@st.composite
def spans(draw: st.DrawFn, most: int = 60) -> Span:
    start, end, total = sorted(draw(st.tuples(*[st.integers(0, most)] * 3)))
    return Span(start, end, draw(st.sampled_from([total, None])))


OUTPUTS = st.lists(st.builds(Output, spans(), st.sampled_from([ONE, OTHER])), max_size=3).map(tuple)


def _grouped(members: st.SearchStrategy[Lineage]) -> st.SearchStrategy[Lineage]:
    several = st.lists(members, min_size=2, max_size=3, unique_by=lambda one: one.order)
    ordered = several.map(lambda those: tuple(sorted(those, key=lambda one: one.order)))
    return st.builds(Lineage, ordered, OUTPUTS.filter(bool))


LINEAGES = st.recursive(st.builds(Lineage, spans(), OUTPUTS), _grouped, max_leaves=6)


class TestText:
    @given(LINEAGES)
    def test_what_str_gives_reads_as_the_same(self, lineage: Lineage) -> None:
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
            "{}",
            "{0-1/9}",
            "{0-1/9,}",
            "{0-1/9,2-3/9",
            "0-1/9,2-3/9",
            "{2-3/9,0-1/9}",
            "{0-1/9,0-1/9}",
            "{{0-1/9,2-3/9},4-5/9}",
        ],
    )
    def test_what_is_not_exactly_the_grammar_is_refused(self, text: str) -> None:
        with pytest.raises(LineageError):
            parse(text)

    @pytest.mark.parametrize(
        "text",
        ["0-5/10", "0-0/0", "5-5/*", f"0-{MAX_POSITION}/{MAX_POSITION}", "0-9/9>0-1/*:" + "0123456789abcdef" * 4],
    )
    def test_what_is_within_the_grammar_is_read(self, text: str) -> None:
        assert str(parse(text)) == text

    def test_the_error_shows_the_beginning_of_a_long_text(self) -> None:
        with pytest.raises(LineageError) as caught:
            parse("0-5/10>" + "x" * 5000)
        assert "0-5/10>xxx" in str(caught.value)
        assert len(str(caught.value)) < 300

    def test_a_text_longer_than_any_lineage_is_refused(self) -> None:
        members = ",".join(f"{start}-{start + 1}/*" for start in range(0, MAX_LENGTH, 2))
        with pytest.raises(LineageError, match="characters"):
            parse("{" + members + "}")

    @pytest.mark.parametrize("text", ["{" * 60_000, "{0-1/9," * 8_000, "0-1/9" + f">0-1/9:{ONE}" * (MAX_DEPTH + 1)])
    def test_a_text_that_goes_too_deep_is_refused(self, text: str) -> None:
        with pytest.raises(LineageError):
            parse(text)

    def test_a_text_may_go_as_deep_as_the_limit(self) -> None:
        assert parse("0-1/9" + f">0-1/9:{ONE}" * MAX_DEPTH).depth == MAX_DEPTH

    def test_a_span_is_read_alone(self) -> None:
        assert Span.parse("3-7/*") == Span(3, 7, None)
        assert len(Span.parse("3-7/10")) == 4
        with pytest.raises(LineageError, match="no span"):
            Span.parse(f"3-7/10>0-1/1:{ONE}")


class TestBuilding:
    @pytest.mark.parametrize(("start", "end", "total"), [(-1, 2, 3), (2, 1, 3), (0, 4, 3), (0, MAX_POSITION + 1, None)])
    def test_a_span_lies_within_its_total(self, start: int, end: int, total: int | None) -> None:
        with pytest.raises(LineageError):
            Span(start, end, total)

    def test_a_group_is_in_order_and_of_several_messages(self) -> None:
        first, second = parse("0-1/9"), parse("2-3/9")
        assert str(Lineage((first, second))) == "{0-1/9,2-3/9}"
        for members in [(), (first,), (second, first), (first, first), (first, Lineage((first, second)))]:
            with pytest.raises(LineageError):
                Lineage(members)

    def test_a_child_is_a_slice_of_what_a_step_put_out(self) -> None:
        child = parse("0-5/10").child(Span(0, 2, 4), ONE)
        assert str(child) == f"0-5/10>0-2/4:{ONE}"
        assert child.span == Span(0, 2, 4)

    def test_a_bare_group_has_no_body(self) -> None:
        group = parse("{0-1/9,2-3/9}")
        assert group.is_group
        with pytest.raises(LineageError, match="group"):
            _ = group.span
        assert not group.child(Span(0, 1, 1), ONE).is_group

    def test_the_digest_is_of_the_whole_output_and_16_hexadecimals_long(self) -> None:
        hasher = new_digest()
        for part in (b"some ", b"output"):
            hasher.update(part)
        assert hasher.hexdigest() == digest(b"some output") == blake2b(b"some output", digest_size=8).hexdigest()
        assert len(digest(b"")) == 16


class TestCut:
    @given(LINEAGES, st.data())
    def test_cutting_a_cut_is_cutting_once(self, lineage: Lineage, data: st.DataObject) -> None:
        start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(lineage.span))] * 2)))
        inner_start, inner_end = sorted(data.draw(st.tuples(*[st.integers(0, end - start)] * 2)))
        cut = lineage.cut(start, end)
        assert len(cut.span) == end - start
        assert cut.cut(inner_start, inner_end) == lineage.cut(start + inner_start, start + inner_end)

    @given(LINEAGES, st.lists(st.integers(0, 60), max_size=4))
    def test_what_was_cut_up_is_one_again_together(self, lineage: Lineage, places: list[int]) -> None:
        assume(disjoint([lineage]))
        size = len(lineage.span)
        cuts = sorted({place % size for place in places} | {0, size}) if size else [0, 0]
        pieces = [lineage.cut(start, end) for start, end in pairwise(cuts)]
        assert together(reversed(pieces)) == lineage
        assert disjoint(pieces)
        assert all(follows(one, other) for one, other in pairwise(pieces))

    def test_only_the_last_span_is_cut(self) -> None:
        assert str(parse(f"10-50/90>20-60/*:{ONE}").cut(5, 15)) == f"10-50/90>25-35/*:{ONE}"
        assert str(parse("10-50/90").cut(5, 40)) == "15-50/90"

    @pytest.mark.parametrize(("start", "end"), [(-1, 2), (0, 41), (3, 2)])
    def test_a_cut_lies_within_the_body(self, start: int, end: int) -> None:
        with pytest.raises(LineageError, match="40 bytes"):
            parse("10-50/90").cut(start, end)


class TestTogether:
    @given(st.permutations(["0-2/30", "2-5/30", "7-9/30", "9-11/30", "20-30/30"]))
    def test_neighbours_are_merged_in_whatever_order_they_come(self, texts: list[str]) -> None:
        assert str(together(map(parse, texts))) == "{0-5/30,7-11/30,20-30/30}"

    def test_neighbours_in_one_output_are_merged(self) -> None:
        texts = [f"{{0-1/9,3-4/9}}>2-4/4:{ONE}", f"{{0-1/9,3-4/9}}>0-2/4:{ONE}"]
        assert str(together(map(parse, texts))) == f"{{0-1/9,3-4/9}}>0-4/4:{ONE}"

    @pytest.mark.parametrize(
        "texts",
        [
            [f"0-5/9>0-2/4:{ONE}", f"5-9/9>2-4/4:{ONE}"],
            ["0-5/9", f"5-9/9>0-2/4:{ONE}"],
            ["0-5/9", "5-9/*"],
        ],
    )
    def test_what_lies_in_different_things_is_not_merged(self, texts: list[str]) -> None:
        assert str(together(map(parse, texts))) == "{" + ",".join(texts) + "}"

    def test_one_alone_stays_itself(self) -> None:
        assert together([parse("3-4/9")]) == parse("3-4/9")

    @pytest.mark.parametrize(
        "texts",
        [
            ["0-5/9", "0-5/9"],
            ["0-5/9", "4-6/9"],
            ["0-9/9", f"0-9/9>0-1/3:{ONE}"],
            [f"0-5/9>0-1/3:{ONE}", f"0-5/9>1-2/3:{OTHER}"],
            [f"0-5/9>0-2/3:{ONE}", f"0-5/9>1-3/3:{ONE}"],
            [f"{{0-1/9,3-4/9}}>0-1/1:{ONE}", "3-4/9"],
            [f"{{0-1/9,3-4/9}}>0-1/1:{ONE}", f"{{3-4/9,6-7/9}}>0-1/1:{ONE}"],
            [f"{{0-1/9,3-4/9}}>0-1/2:{ONE}", f"{{0-1/9,3-4/9}}>1-2/2:{OTHER}"],
            [f"{{0-1/9,7-8/9}}>0-1/1:{ONE}", "3-4/9", "7-8/9"],
        ],
    )
    def test_what_cannot_be_in_one_result_is_refused(self, texts: list[str]) -> None:
        assert not disjoint(map(parse, texts))
        with pytest.raises(LineageError, match="same bytes"):
            together(map(parse, texts))

    @pytest.mark.parametrize(
        "texts",
        [
            [],
            ["0-5/9", "5-9/9"],
            [f"0-5/9>0-1/3:{ONE}", f"0-5/9>1-2/3:{ONE}", f"5-9/9>0-1/1:{OTHER}"],
            [f"{{0-1/9,3-4/9}}>0-1/2:{ONE}", f"{{0-1/9,3-4/9}}>1-2/2:{ONE}", "1-3/9"],
        ],
    )
    def test_what_can_is_disjoint(self, texts: list[str]) -> None:
        assert disjoint(map(parse, texts))

    @given(st.lists(st.builds(Lineage, spans(12), OUTPUTS), max_size=5))
    def test_those_that_are_disjoint_are_so_two_by_two(self, lineages: list[Lineage]) -> None:
        pairs = [(one, other) for at, one in enumerate(lineages) for other in lineages[at + 1 :]]
        assert disjoint(lineages) == all(disjoint(pair) for pair in pairs)

    def test_nothing_cannot_be_put_together(self) -> None:
        with pytest.raises(LineageError, match="no lineage"):
            together([])

    def test_a_group_that_would_be_too_long_is_refused_and_one_that_is_not_leaves_room(self) -> None:
        many = [parse(f"{start}-{start + 1}/{10**6}") for start in range(0, 10**4, 2)]
        with pytest.raises(LineageError, match="longer"):
            together(many)
        some = together(many[:800])
        assert len(str(some)) <= MAX_GROUP_LENGTH
        for _ in range(MAX_DEPTH - some.depth):
            some = some.child(Span(0, MAX_POSITION, MAX_POSITION), "f" * 64)
        assert parse(str(some)) == some


class TestFollows:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("0-5/9", "5-9/9"),
            (f"0-5/9>0-1/3:{ONE}", f"0-5/9>1-3/3:{ONE}"),
            (f"0-5/9>1-3/3:{ONE}", f"5-9/9>0-2/4:{OTHER}"),
            (f"0-5/9>1-3/3:{ONE}>4-6/6:{ONE}", f"5-9/9>0-2/4:{OTHER}>0-1/2:{ONE}"),
        ],
    )
    def test_what_comes_right_after_follows_and_not_the_other_way(self, one: str, other: str) -> None:
        assert follows(parse(one), parse(other))
        assert not follows(parse(other), parse(one))

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("0-5/9", "6-9/9"),
            ("0-5/9", "0-5/9"),
            (f"0-5/9>0-1/3:{ONE}", f"0-5/9>1-3/3:{OTHER}"),
            (f"0-5/9>0-1/3:{ONE}", f"5-9/9>0-2/4:{OTHER}"),
            (f"0-5/9>1-3/3:{ONE}", f"5-9/9>1-2/4:{OTHER}"),
            (f"0-5/9>1-3/3:{ONE}", "5-9/9"),
        ],
    )
    def test_what_has_something_in_between_or_is_of_another_run_does_not(self, one: str, other: str) -> None:
        assert not follows(parse(one), parse(other))


class TestOrder:
    @given(st.lists(LINEAGES, min_size=2, max_size=2))
    def test_it_is_total_and_tells_any_two_apart(self, pair: list[Lineage]) -> None:
        one, other = pair
        assert (one.order == other.order) == (one == other)
        assert (one.order < other.order) or (other.order < one.order) or one == other

    def test_messages_sort_as_their_bodies_lie_in_the_result(self) -> None:
        texts = [
            f"0-9/50>0-5/9:{ONE}",
            f"0-9/50>5-9/9:{ONE}>0-2/4:{ONE}",
            f"0-9/50>5-9/9:{ONE}>2-4/4:{ONE}",
            f"{{9-10/50,40-50/50}}>0-3/6:{ONE}",
            f"{{9-10/50,40-50/50}}>3-6/6:{ONE}",
            f"10-30/50>0-1/1:{ONE}",
            "30-40/50",
        ]
        assert [str(one) for one in sorted(map(parse, reversed(texts)), key=lambda one: one.order)] == texts
