"""Lines from all over a file: how they are chosen, what is worked out from them, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parcelq.errors import ParcelqError
from parcelq_cli.estimate import sample
from parcelq_cli.estimate.prices import load_prices
from parcelq_cli.estimate.sample import read_sample


def file_of(folder: Path, data: bytes, name: str = "lines.txt") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def test_a_small_file_is_taken_whole(tmp_path: Path) -> None:
    found = read_sample(file_of(tmp_path, b"a\nbb\nccc"), 1000)
    assert found.lines == (b"a\n", b"bb\n", b"ccc")
    assert (found.size, found.total, found.counted) == (8, 3, True)


def test_lines_come_from_all_over_the_file(tmp_path: Path) -> None:
    path = file_of(tmp_path, b"".join(b"%06d\n" % number for number in range(100_000)))
    found = read_sample(path, 1000)
    numbers = [int(line) for line in found.lines]
    assert len(numbers) == 1000
    assert numbers == sorted(set(numbers))
    assert found.total == 100_000
    tenths = [sum(number // 10_000 == tenth for number in numbers) for tenth in range(10)]
    assert tenths == [100] * 10


def test_a_large_file_is_not_read_whole_and_its_lines_are_worked_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "COUNTED_BYTES", 1000)
    # Every 200th line is a hundred times as long as the others.
    lines = [b"x" * (999 if number % 200 == 0 else 9) + b"\n" for number in range(100_000)]
    path = file_of(tmp_path, b"".join(lines))
    before = read_bytes()
    found = read_sample(path, 1000)
    assert not found.counted
    assert read_bytes() - before < path.stat().st_size * 0.8  # a block or two at each of a hundred places
    # A sample that took the line at each place would meet the long lines far too often.
    assert found.total == pytest.approx(100_000, rel=0.35)


def read_bytes() -> int:
    text = Path("/proc/self/io").read_text() if os.path.exists("/proc/self/io") else "rchar: 0"
    return int(text.split()[1])


@given(
    lines=st.lists(st.binary(max_size=20).map(lambda one: one.replace(b"\n", b"")), min_size=1, max_size=60),
    wanted=st.integers(1, 80),
    ended=st.booleans(),
)
def test_what_is_taken_are_lines_of_the_file_in_their_order(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], wanted: int, ended: bool
) -> None:
    data = b"\n".join(lines) + b"\n" * ended
    if not data:
        return
    found = read_sample(file_of(tmp_path_factory.mktemp("sample"), data), wanted)
    whole = data.splitlines(keepends=True) if b"\r" not in data else None
    ends = data.count(b"\n") + (not data.endswith(b"\n"))
    assert found.total == ends
    assert 1 <= len(found.lines) <= min(wanted, ends)
    if wanted >= ends:
        assert b"".join(found.lines) == data
    rest = iter([one + b"\n" for one in data.split(b"\n")[:-1]] + [data.rpartition(b"\n")[2]])
    assert whole is None or all(any(one == other for other in rest) for one in found.lines)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("empty.txt", b"", "is empty, so there is nothing to estimate"),
        ("lines.gz", b"a", "is compressed; give it decompressed"),
    ],
)
def test_what_cannot_be_sampled_is_refused(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    with pytest.raises(ParcelqError, match=said):
        read_sample(file_of(tmp_path, data, name), 10)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ParcelqError, match="No such file"):
        read_sample(tmp_path / "nowhere", 10)
    with pytest.raises(ParcelqError, match="it is a folder"):
        read_sample(tmp_path, 10)


def test_a_line_without_end_is_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "_LONGEST_LINE", 100)
    with pytest.raises(ParcelqError, match="is it a file of lines"):
        read_sample(file_of(tmp_path, b"x" * 1000), 10)


# ---- Prices of one's own.


def test_a_file_of_prices_changes_only_its_rows(tmp_path: Path) -> None:
    path = file_of(
        tmp_path, b"region: eu-west-1\nprices:\n  sqs_requests: {usd: 0.5, per: 1_000_000, date: 2026-01-02}\n"
    )
    prices = load_prices(path)
    assert prices.region == "eu-west-1"
    assert prices.of["sqs_requests"].usd == pytest.approx(0.5e-6)
    assert str(prices.of["sqs_requests"].dated) == "2026-01-02"
    assert prices.of["s3_puts"] == load_prices().of["s3_puts"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prices: {sqs: {usd: 1}}", "unknown key 'sqs'; there are sqs_requests"),
        ("prices: {sqs_requests: {usd: -1}}", "usd is -1, but must be a number of dollars"),
        ("prices: {sqs_requests: {usd: cheap}}", "usd is 'cheap'"),
        ("prices: {sqs_requests: {usd: .nan}}", "usd is nan"),
        ("prices: {sqs_requests: {usd: 1, per: 0}}", "per is 0, but must be a number above 0"),
        ("prices: {sqs_requests: {usd: 1, date: today}}", "date is 'today'"),
        ("prices: {sqs_requests: {euro: 1}}", "unknown key 'euro'; there are usd, per, date, source"),
        ("prices: 3", "must have the key 'prices'"),
        ("nothing", "must have the key 'prices'"),
        ("a: [", "are no YAML"),
    ],
)
def test_mistakes_in_prices_are_told(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ParcelqError) as error:
        load_prices(file_of(tmp_path, text.encode()))
    assert said in str(error.value)


def test_prices_that_are_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(ParcelqError, match="cannot be read"):
        load_prices(tmp_path / "nowhere")
