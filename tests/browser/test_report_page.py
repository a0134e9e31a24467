"""The page of a report in a real browser: its figures, its map by mouse and keyboard, and that it stays what it is."""

from __future__ import annotations

import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from page_world import dead_at, figures_from, report_of
from parcelq.collect.page.rates import rate_of
from parcelq.collect.page.render import report_page

PROGRAM = [sys.executable, "-P", "-c", "from parcelq_cli.main import main; main()"]
STEP = """import sys
from parcelq.step import step
@step(each=True)
def score(line):
    if "bad" in line:
        raise ValueError(f"cannot parse {line.strip()!r}")
    return line.upper()
if __name__ == "__main__":
    score.main()
"""
BEGIN = datetime(2026, 11, 26, 10, tzinfo=UTC)


@pytest.fixture
def run(tmp_path):
    """Runs a file of entries, and returns the address of the report's page."""

    def ran(entries):
        (tmp_path / "lines.txt").write_bytes(b"".join(entries))
        (tmp_path / "step.py").write_text(STEP)
        command = [*PROGRAM, "run", "lines.txt", "--step", "step.py", "--quiet"]
        subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=200)
        return (tmp_path / "results/lines.txt.report.html").as_uri()

    return ran


class TestReportsOfRealRuns:
    def test_one_that_is_whole(self, run, visit):
        opened = visit(run([b"line %d\n" % number for number in range(3000)]))
        assert opened.text("#verdict") == "Whole. All 3,000 records are in the result."
        counts = {
            "Records read": "3,000",
            "Done": "3,000",
            "Failed": "0",
            "Missing": "0",
            "Records in the result": "3,000",
        }
        assert opened.counts() == counts
        assert set(opened.kinds()) == {"done"}
        assert opened.choose(7).endswith("all done Nothing failed here.")
        opened.check()

    def test_one_with_dead_records(self, run, visit):
        entries = [b"line %04d\n" % number for number in range(3000)]
        entries[17], entries[2990] = b"bad <b>one\n", b"bad \x1b[31mtwo\n"
        opened = visit(run(entries))
        assert opened.text("#verdict") == "Not whole. 2 of 3,000 records failed; the other 2,998 are in the result."
        assert opened.counts()["Failed"] == "2"
        bad = [number for number, kind in enumerate(opened.kinds()) if kind != "done"]
        assert bad[0] == 1
        assert bad[-1] == 239
        shown = opened.choose(bad[0])
        assert "18" in shown
        assert "bad <b>one" in shown
        assert "ValueError: cannot parse" in shown
        assert r"bad \x1b[31mtwo" in opened.choose(239)
        (row,) = opened.page.locator("#reasons tbody tr").all_inner_texts()
        assert row.split("\t")[1] == "2"
        assert "ValueError: cannot parse …" in row
        opened.page.locator("#reasons summary").click()
        assert "Record 2,991" in opened.text("#reasons")
        opened.check()

    def test_one_of_an_empty_source(self, run, visit):
        opened = visit(run([]))
        assert opened.text("#verdict") == "Whole. The source has no records."
        assert opened.counts()["Records read"] == "0"
        opened.check()


class TestOtherReports:
    def test_one_with_holes(self, show):
        holes = ((5_000, 6_000), (9_990, 10_000))
        dead = [dead_at(1)]
        opened = show(report_page(report_of(10_000, dead, read=1_000, holes=holes), figures_from(10_000, dead, holes)))
        assert "2 parts of the source (1.0 kB) are missing and 1 of 1,000 records failed" in opened.text("#verdict")
        kinds = opened.kinds()
        assert kinds[0] == "dead"
        assert set(kinds[120:144]) == {"missing"}
        assert kinds[-1] == "missing"
        assert opened.choose(130).endswith("missing Missing: bytes 5,000 to 5,999.")
        rows = opened.page.locator("#holes tbody tr").all_inner_texts()
        assert [row.split("\t")[0] for row in rows] == ["5,000 to 5,999", "9,990 to 9,999"]
        opened.check()

    def test_one_of_a_billion_records_with_a_hundred_thousand_failures(self, show):
        chance = random.Random(1)
        records = sorted(chance.sample(range(1, 10**9), 100_000))
        dead = [
            dead_at(record, f"{'Value' if record % 3 else 'Key'}Error: bad {record}", b"CCO\n", 40)
            for record in records
        ]
        rate = rate_of([(BEGIN + timedelta(seconds=8 * number), 10**6) for number in range(1, 1001)], BEGIN)
        page = report_page(report_of(40 * 10**9, dead, read=10**9), figures_from(40 * 10**9, dead, rate=rate))
        opened = show(page)
        assert opened.counts()["Records read"] == "1,000,000,000"
        assert opened.counts()["Failed"] == "100,000"
        assert len(opened.kinds()) == 240
        first = f"{records[0]:,}"
        assert first in opened.choose(0)
        groups = [row.split("\t")[1] for row in opened.page.locator("#reasons tbody tr").all_inner_texts()]
        assert sum(int(one.replace(",", "")) for one in groups) == 100_000
        assert opened.page.locator("#rate svg .bar").count() == 60
        assert "125,000 records a second on average" in opened.text("#rate")
        opened.check()

    def test_one_of_ten_records(self, show):
        dead = [dead_at(2, "ValueError: no", b"CX\n")]
        opened = show(report_page(report_of(100, dead, read=10), figures_from(100, dead)))
        assert opened.kinds().count("dead much") == 10
        assert "CX" in opened.choose(19)
        opened.check()

    @pytest.mark.parametrize(
        "entry",
        [
            b"</script><script>document.title='changed'</script>",
            b"<!--<script><img src=x onerror=\"document.title='changed'\">",
            b"\x00\x1b]0;changed\x07\r\n\x9b" + "\u202e\u2066\u2028".encode(),
            b"\xff\xfe" * 50,
            b"<b>" * (10 << 20),
        ],
        ids=["script", "comment", "control characters", "bytes", "30 MB"],
    )
    def test_no_record_changes_it_or_breaks_out(self, show, entry):
        text = entry[:3000].decode("utf-8", "surrogateescape")
        dead = [dead_at(2, text, entry)]
        page = report_page(report_of(100, dead, read=10, warnings=(text,), name=text[:200]), figures_from(100, dead))
        assert len(page) < 60_000
        opened = show(page)
        title = opened.page.title()
        opened.choose(15)
        opened.page.locator("#reasons summary").click()
        assert opened.page.title() == title
        assert opened.page.locator("main script, main img, main b").count() == 1  # the block of data
        assert opened.page.locator("#verdict").count() == 1
        opened.check()


def test_the_check_notices_a_page_that_not_everybody_can_use_or_that_asks_for_something(show):
    opened = show(b"<html><body><img src='other.png'><button></button></body></html>")
    assert any("button-name" in one for one in opened.violations())
    with pytest.raises(AssertionError):
        opened.check()


class TestKeyboard:
    def test_the_map_is_one_stop_and_arrows_move_in_it(self, show):
        dead = [dead_at(number) for number in (100, 900)]
        opened = show(report_page(report_of(10_000, dead, read=1000), figures_from(10_000, dead)))
        page = opened.page
        assert page.locator('#map button[tabindex="0"]').count() == 1

        def focused() -> int:
            return int(page.evaluate("document.activeElement.dataset.part ?? -1"))

        page.locator('#map button[tabindex="0"]').focus()
        seen = []
        columns = page.evaluate(
            "getComputedStyle(document.getElementById('map')).gridTemplateColumns.split(' ').length"
        )
        for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "PageDown", "PageDown", "PageUp", "End", "Home"):
            page.keyboard.press(key)
            seen.append(focused())
        assert seen == [1, 1 + columns, columns, 0, 23, 215, 23, 239, 0]
        page.keyboard.press("PageDown")
        page.keyboard.press("Enter")
        assert "1 record failed" in opened.text("#chosen")
        assert page.get_attribute('#map button[data-part="23"]', "aria-pressed") == "true"

    def test_tab_goes_down_the_page_and_every_stop_is_seen(self, show):
        dead, holes = [dead_at(100), dead_at(900)], ((5_000, 6_000),)
        page = show(
            report_page(report_of(10_000, dead, read=1000, holes=holes), figures_from(10_000, dead, holes))
        ).page
        stops = []
        for _ in range(6):
            page.keyboard.press("Tab")
            stops.append(
                page.evaluate(
                    """() => {
                        const one = document.activeElement, style = getComputedStyle(one);
                        const seen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
                        const top = one.getBoundingClientRect().top + scrollY;
                        return [one.closest("[id]")?.id ?? one.tagName, seen, top];
                    }"""
                )
            )
        assert [one for one, _, _ in stops] == ["map", "reasons", "reasons", "A", "holes", "BODY"]
        assert all(seen for _, seen, _ in stops[:-1])
        places = [top for _, _, top in stops[:-1]]
        assert places == sorted(places)

    def test_what_is_chosen_is_read_aloud(self, show):
        opened = show(report_page(report_of(100, read=10), figures_from(100, [])))
        assert opened.page.get_attribute("#chosen", "aria-live") == "polite"


def test_it_prints_on_paper_without_losing_its_map(show):
    dead = [dead_at(100)]
    opened = show(report_page(report_of(10_000, dead, read=1000), figures_from(10_000, dead)))
    opened.page.emulate_media(media="print")
    assert opened.page.locator("#map").is_visible()
    assert opened.page.locator("#reasons li").is_visible()
    assert not opened.page.get_by_text("Arrow keys move").is_visible()
    assert len(opened.page.pdf()) > 10_000


def test_without_scripts_it_still_says_everything(browser, tmp_path):
    dead = [dead_at(2, "ValueError: no", b"CX\n")]
    path = tmp_path / "page.html"
    path.write_bytes(report_page(report_of(100, dead, read=10), figures_from(100, dead)))
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(path.as_uri())
    assert "1 of 10 records failed" in page.inner_text("#verdict")
    page.locator("#reasons summary").click()
    assert "CX" in page.inner_text("#reasons")
    context.close()
