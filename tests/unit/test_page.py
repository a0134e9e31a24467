"""The page of a report: what it says, that it stays small, and that no record can change it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from page_world import dead_at, figures_from, report_of
from parcelq.amounts import duration, percent, size
from parcelq.collect.deaths import kind_of
from parcelq.collect.page.rates import rate_of
from parcelq.collect.page.render import MOST_BYTES, report_page
from parcelq.collect.page.verdict import verdict
from parcelq.collect.source_map import CELLS, SourceMap

HOSTILE = [
    b"</script><script>alert(1)</script>",
    b"<!--<script>",
    b"]]><img src=x onerror=alert(1)>",
    b"\" onmouseover=\"alert(1)' x='",
    b"\x00\x07\x1b[31m\x9b\r\nSet-Cookie: a=b",
    "\u202edrow\u2066 \u2028\u2029".encode(),
    b"\xff\xfe\xc0\x80",
    b"&lt;b&gt; &amp;#x3c;",
    b"x" * (10 << 20),
    b"",
]
DOUBTFUL = (
    "All 7 records went through the step, "
    "but the result may differ from what the step would write for the whole source."
)
BEGIN = datetime(2026, 11, 26, 10, tzinfo=UTC)


class Reader(HTMLParser):
    """Reads a page: its elements, the text that people see, and the scripts."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.shown: list[str] = []
        self._in = ""
        self.feed(page.decode())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._in = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._in = ""

    def handle_data(self, data):
        if self._in == "script":
            self.scripts[-1] += data
        elif self._in != "style":
            self.shown.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.shown).split())


def data_of(page: bytes):
    return json.loads(Reader(page).scripts[0])


class TestMap:
    def test_the_parts_of_a_map_follow_one_another_from_the_first_byte_to_the_last(self):
        cells = SourceMap(1_000_003).cells()
        assert len(cells) == CELLS
        assert (cells[0].start, cells[-1].end) == (0, 1_000_003)
        assert all(one.end == other.start for one, other in pairwise(cells))

    @pytest.mark.parametrize("total", [0, 1, 2, 239, 240, 241, 10**15])
    def test_dead_and_missing_bytes_of_a_map_add_up_for_any_size(self, total):
        found = SourceMap(total)
        third = total // 3
        found.add_dead(0, third, 5)
        found.add_missing(third, total)
        cells = found.cells()
        assert sum(cell.dead_bytes for cell in cells) == third
        assert sum(cell.missing_bytes for cell in cells) == total - third
        assert sum(cell.dead for cell in cells) == 5

    def test_a_dead_entry_shows_in_every_part_that_it_touches_and_counts_once(self):
        found = SourceMap(240)
        assert list(found.add_dead(3, 6, 1)) == [3, 4, 5]
        cells = found.cells()
        assert [cell.kind for cell in cells[2:7]] == ["done", "dead", "dead", "dead", "done"]
        assert [cell.dead for cell in cells[3:6]] == [1, 0, 0]

    def test_a_part_of_a_map_may_be_dead_and_missing_at_once(self):
        found = SourceMap(10_000)
        found.add_dead(0, 10, 1)
        found.add_missing(20, 30)
        assert found.cells()[0].kind == "both"
        assert found.cells()[0].holes == ((20, 30),)


class TestGroups:
    def test_reasons_that_differ_in_what_they_quote_are_of_one_kind(self):
        rest = " (step 'score.py' exited with 1): Traceback (most recent call last):"
        assert kind_of(f"ValueError: bad SMILES 'CX' at 17{rest}") == "ValueError: bad SMILES … at …"
        assert kind_of(f"ValueError: bad SMILES 'CY' at -3.5{rest}") == kind_of(f"ValueError: bad SMILES '' at 2{rest}")

    @pytest.mark.parametrize(
        "reason",
        [
            "exited with 3",
            "killed by signal 9",
            "[Errno 28] No space",
            "HTTP status 404",
            "Error: x: step.py, line 9, in f",
        ],
    )
    def test_groups_of_reasons_keep_exit_codes_and_the_like(self, reason):
        assert kind_of(reason) == reason

    def test_the_largest_group_of_reasons_comes_first_and_names_its_first_and_last_record(self):
        dead = [dead_at(number, "rare" if number == 5 else f"bad 'x{number}'") for number in range(1, 8)]
        groups = figures_from(1000, dead).groups
        assert [(one.reason, one.entries, one.first, one.last) for one in groups] == [
            ("bad …", 6, "1", "7"),
            ("rare", 1, "5", "5"),
        ]

    def test_reasons_without_end_take_bounded_memory_and_are_counted(self):
        names = ["".join(chr(97 + int(digit)) for digit in str(number)) for number in range(5_000)]
        figures = figures_from(10**6, [dead_at(number, f"{name}Error") for number, name in enumerate(names)])
        assert len(figures.groups) == 40
        assert figures.other_entries + sum(one.entries for one in figures.groups) == 5_000


class TestRate:
    def test_the_rate_adds_up_to_all_entries_and_spreads_them_over_the_time_between_segments(self):
        rate = rate_of([(BEGIN + timedelta(seconds=10 * number), 100) for number in (1, 2, 3, 4)], BEGIN)
        assert rate is not None
        assert (rate.seconds, rate.entries) == (10.0, (100.0, 100.0, 100.0, 100.0))

    def test_the_rate_takes_segments_in_any_order_and_of_the_same_moment(self):
        times = [(BEGIN + timedelta(seconds=one), 10) for one in (9, 3, 3, 6, 3)]
        rate = rate_of([*times, (None, 7)], BEGIN)
        assert rate is not None
        assert sum(rate.entries) == pytest.approx(50)

    @pytest.mark.parametrize("seconds", [(), (5, 9), (0.1, 0.2, 0.3)])
    def test_there_is_no_rate_where_it_would_say_nothing(self, seconds):
        assert rate_of([(BEGIN + timedelta(seconds=one), 10) for one in seconds], BEGIN) is None
        assert rate_of([(BEGIN + timedelta(seconds=one), 10) for one in (1, 2, 3)], None) is None


class TestVerdict:
    @pytest.mark.parametrize(
        ("numbers", "sentence"),
        [
            ({"read": 20_000}, "All 20,000 records are in the result."),
            ({"read": 1}, "The record is in the result."),
            ({"read": 0}, "The source has no records."),
            ({"read": None}, "Every byte of the source is accounted for in the result."),
            ({"read": 10, "dead": 1}, "1 of 10 records failed; the other 9 are in the result."),
            ({"read": 2, "dead": 1}, "1 of 2 records failed; the other one is in the result."),
            ({"read": 2, "dead": 2}, "2 of 2 records failed; none is in the result."),
            ({"read": None, "dead": 3}, "3 records failed."),
            ({"read": None, "dead": None}, "Some records failed."),
            ({"read": 9, "holes": ((5, 9),)}, "1 part of the source (4 bytes) is missing."),
            (
                {"read": 7, "doubts": ("runs of single records gave nothing",)},
                DOUBTFUL,
            ),
            (
                {"read": 9, "dead": 1, "holes": ((5, 9), (20, 29))},
                "2 parts of the source (13 bytes) are missing and 1 of 9 records failed.",
            ),
        ],
    )
    def test_the_verdict_says_in_a_sentence_what_became_of_how_many_records(self, numbers, sentence):
        assert verdict(report_of(100, **numbers)).sentence == sentence

    def test_only_a_report_that_is_complete_is_called_whole(self):
        assert verdict(report_of(100, read=5)).kind == "whole"
        assert verdict(report_of(100, read=5, complete=False)).kind == "missing"


class TestPage:
    def test_the_page_says_the_same_as_the_report(self):
        dead = [dead_at(2, "ValueError: bad SMILES 'XX' (step 's.py' exited with 1)", b"XX bad\n")]
        warnings = ("gzip: trailing garbage ignored",)
        page = report_page(report_of(100, dead, read=10, warnings=warnings), figures_from(100, dead))
        shown = Reader(page).text
        for part in ("1 of 10 records failed", "ValueError: bad SMILES", "XX bad", warnings[0], "m.smi.dead.jsonl"):
            assert part in shown
        assert data_of(page)["records"] == [
            {
                "record": "2", "line": 2, "entry": "XX bad",
                "reason": "ValueError: bad SMILES 'XX' (step 's.py' exited with 1)",
            }
        ]  # fmt: skip

    def test_every_part_with_a_problem_leads_to_its_records(self):
        dead = [dead_at(number, "why") for number in range(0, 1000, 7)]
        figures = figures_from(10_000, dead, [(5_000, 5_100)])
        page = report_page(report_of(10_000, dead, read=1000, holes=((5_000, 5_100),)), figures)
        buttons = [some for name, some in Reader(page).elements if name == "button"]
        bad = {some["data-part"] for some in buttons if some["class"] != "cell done"}
        parts = data_of(page)["parts"]
        assert bad == set(parts)
        assert all(one["records"] or one.get("missing") for one in parts.values())

    def test_the_page_loads_nothing_and_runs_only_its_own_script(self):
        page = report_page(report_of(100, read=10), figures_from(100, []))
        reader = Reader(page)
        (policy,) = [
            some["content"] for _, some in reader.elements if some.get("http-equiv") == "Content-Security-Policy"
        ]
        assert policy.startswith("default-src 'none'; script-src 'sha256-")
        assert "unsafe" not in policy
        assert not re.search(rb"https?://", page)
        assert not [some for _, some in reader.elements if {"src", "style", "onclick"} & set(some)]

    @pytest.mark.parametrize("entry", HOSTILE, ids=range(len(HOSTILE)))
    def test_no_record_or_reason_can_change_the_page(self, entry):
        reason = entry[:2000].decode("utf-8", "surrogateescape")
        plain, hostile = (
            report_page(report_of(100, dead, read=10, warnings=(why,)), figures_from(100, dead))
            for why, dead in (("why", [dead_at(2, "why", b"x")]), (reason, [dead_at(2, reason, entry)]))
        )
        names = [[name for name, _ in Reader(page).elements] for page in (plain, hostile)]
        assert names[0] == names[1]
        assert [sorted(some) for _, some in Reader(plain).elements] == [
            sorted(some) for _, some in Reader(hostile).elements
        ]
        assert len(hostile) < len(plain) + 20_000
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]", hostile.decode())
        assert data_of(hostile)["records"][0]["record"] == "2"

    @pytest.mark.parametrize("content", [b"<" * 300, "\u65e5".encode() * 300, b"\x00" * 300])
    def test_the_page_stays_small_with_a_billion_records_and_many_failures(self, content):
        total = 40 * 10**9
        dead = [
            dead_at(number * 50_000, f"{content.decode()} {name}Error: {content.decode()}", content, size=40)
            for number, name in enumerate("abcdefghij" * 2_000)
        ]
        page = report_page(report_of(total, dead, read=10**9), figures_from(total, dead))
        assert len(page) <= MOST_BYTES
        assert "20,000 of 1,000,000,000 records failed" in Reader(page).text

    def test_a_source_whose_size_is_not_known_yet_is_not_called_empty(self):
        report = report_of(0, read=None, complete=False)._replace(bytes_read=None)
        shown = Reader(report_page(report, figures_from(0, []))).text
        assert "empty" not in shown
        assert "needs the size of the source" in shown

    def test_the_page_cuts_names_of_any_length(self):
        report = report_of(100, read=10, name="x" * 100_000, warnings=("y" * 10**6,) * 500)
        assert len(report_page(report, figures_from(100, []))) < 60_000


def test_amounts_read_well_and_never_round_to_nothing_or_everything():
    assert [size(one) for one in (1, 999, 1000, 40_000_000_000)] == ["1 byte", "999 bytes", "1.0 kB", "40.0 GB"]
    assert [duration(one) for one in (0, 0.0018, 0.0994, 0.42)] == ["0 s", "1.8 ms", "99 ms", "0.42 s"]
    assert [duration(one) for one in (59.4, 60, 7_800)] == ["59 s", "1 min 00 s", "2 h 10 min"]
    shares = [percent(0, 9), percent(1, 10**9), percent(10**9 - 1, 10**9), percent(9, 9), percent(1, 3)]
    assert shares == ["0 %", "almost 0 %", "almost 100 %", "100 %", "33.3 %"]
