"""The page that `parcelq estimate --html` draws, in a real browser."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = [sys.executable, "-P", "-c", "from parcelq_cli.main import main; main()"]


def test_it_shows_cost_and_duration_of_each_setup(visit, tmp_path):
    (tmp_path / "lines.txt").write_bytes(b"".join(b"line %d\n" % number for number in range(5000)))
    (tmp_path / "step").write_text('#!/bin/sh\ntr a-z A-Z < "$2" > "$4"\n')
    (tmp_path / "step").chmod(0o755)
    command = [*PROGRAM, "estimate", "lines.txt", "--step", "./step", "--sample", "200", "--html", "page.html"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, timeout=100)
    opened = visit((tmp_path / "page.html").as_uri())
    assert opened.page.locator("svg").count() == 2
    assert opened.page.locator("svg .ring").count() == 2
    assert "Cheapest of these: parcels of" in opened.text(".verdict")
    heads = opened.page.locator("th").all_inner_texts()
    assert heads[:3] == ["Parcel", "512 MB", "1,024 MB"]
    assert opened.page.locator("tbody tr").first.inner_text().split("\t")[1].startswith("$")
    opened.check()
