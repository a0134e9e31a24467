"""Lines from all over a file: how they are chosen, what is worked out from them, and what is refused."""

from __future__ import annotations

import gzip
import lzma
import os
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from parcelq.errors import ParcelqError
from parcelq.prices import load_prices
from parcelq.records import by_name, cut
from parcelq.records.compression import begins_compressed
from parcelq_cli.estimate import sample
from parcelq_cli.estimate.sample import read_sample


def file_of(folder: Path, data: bytes, name: str = "lines.txt") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def test_a_sample_takes_a_small_file_whole(tmp_path: Path) -> None:
    found = read_sample(file_of(tmp_path, b"a\nbb\nccc"), 1000)
    assert found.records == (b"a\n", b"bb\n", b"ccc")
    assert (found.size, found.total, found.counted) == (8, 3, True)


def test_a_sample_takes_lines_from_all_over_the_file(tmp_path: Path) -> None:
    path = file_of(tmp_path, b"".join(b"%06d\n" % number for number in range(100_000)))
    found = read_sample(path, 1000)
    numbers = [int(line) for line in found.records]
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
    # Two blocks at each of a hundred places, and one at the beginning.
    assert read_bytes() - before < path.stat().st_size + 2 * 100 * 64 * 1024 + (2 << 20)
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
def test_a_sample_takes_lines_of_the_file_in_their_order(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], wanted: int, ended: bool
) -> None:
    data = b"\n".join(lines) + b"\n" * ended
    assume(data)
    file = file_of(tmp_path_factory.mktemp("sample"), data)
    assume(not begins_compressed(file))
    found = read_sample(file, wanted)
    whole = data.splitlines(keepends=True) if b"\r" not in data else None
    ends = data.count(b"\n") + (not data.endswith(b"\n"))
    assert found.total == ends
    assert 1 <= len(found.records) <= min(wanted, ends)
    if wanted >= ends:
        assert b"".join(found.records) == data
    rest = iter([one + b"\n" for one in data.split(b"\n")[:-1]] + [data.rpartition(b"\n")[2]])
    assert whole is None or all(any(one == other for other in rest) for one in found.records)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("empty.txt", b"", "has no records, so there is nothing to estimate"),
        ("head.csv", b"a,b\n", "has no records"),
        ("lines.gz", b"a", "is not gzip"),
        ("open.csv", b'a\n1,"x\n', "record 1 .line 2; byte 2. has a quote that is not closed"),
    ],
)
def test_a_file_that_cannot_be_sampled_is_refused(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    with pytest.raises(ParcelqError, match=said):
        read_sample(file_of(tmp_path, data, name), 10)


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ParcelqError, match="there is no such file"):
        read_sample(tmp_path / "nowhere", 10)
    with pytest.raises(ParcelqError, match="is not a regular file"):
        read_sample(tmp_path, 10)


def test_a_sample_doubts_a_record_that_is_larger_than_what_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "COUNTED_BYTES", 100)
    with pytest.raises(ParcelqError, match="is it lines"):
        read_sample(file_of(tmp_path, b"x" * 1000), 10)


FILES = {
    "rows.csv": b"id,note\n" + b"".join(b'%d,"a\nb"\n' % number for number in range(1000)),
    "p.fasta": b"".join(b">p%d\nMKV\nLL\n" % number for number in range(1000)),
    "r.fastq": b"".join(b"@r%d\nACGT\n+\n@III\n" % number for number in range(1000)),
    "m.sdf": b"".join(b"m%d\n\n$$$$\n" % number for number in range(1000)),
    "t.txt": b"".join(b"line %d\n" % number for number in range(1000)),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
@pytest.mark.parametrize("counted_bytes", [10**6, 5000])
def test_records_of_every_format_are_taken_whole_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, suffix: str, counted_bytes: int
) -> None:
    monkeypatch.setattr(sample, "COUNTED_BYTES", counted_bytes)
    data, fmt = FILES[name], by_name(name)
    code = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[suffix]
    path = file_of(tmp_path, code(data), name + suffix)
    found = read_sample(path, 50)
    header = b"id,note\n" if name == "rows.csv" else b""
    assert (found.format, found.header, found.one_stream) == (fmt, header, suffix != "")
    assert found.stored == path.stat().st_size
    assert 40 <= len(found.records) <= 50
    assert set(found.records) <= {one.data for one in cut(BytesIO(data[len(header) :]), fmt, 1, 100)}
    assert len(set(found.records)) == len(found.records)
    if counted_bytes > len(data):
        assert (found.total, found.size, found.counted) == (1000, len(data), True)
    else:
        assert not found.counted
        # How much of a small compressed file was read is known only by the block.
        assert found.total == pytest.approx(1000, rel=0.1) or suffix


def test_an_object_is_sampled_as_a_file_is(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_object(Bucket="bucket", Key="inbox/rows.csv", Body=FILES["rows.csv"])
    monkeypatch.setattr("parcelq_cli.clients.s3", lambda: s3)
    found = read_sample("s3://bucket/inbox/rows.csv", 50)
    assert (found.total, len(found.records), str(found.format)) == (1000, 50, "csv")
    monkeypatch.setattr(sample, "COUNTED_BYTES", 5000)
    s3.put_object(Bucket="bucket", Key="p.fasta", Body=FILES["p.fasta"])
    assert read_sample("s3://bucket/p.fasta", 50).total == pytest.approx(1000, rel=0.1)
    for key in ("", "nowhere"):
        with pytest.raises(ParcelqError, match="there is no object"):
            read_sample(f"s3://bucket/{key}", 50)


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
def test_mistakes_in_a_file_of_prices_are_errors(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ParcelqError) as error:
        load_prices(file_of(tmp_path, text.encode()))
    assert said in str(error.value)


def test_prices_that_are_missing_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ParcelqError, match="cannot be read"):
        load_prices(tmp_path / "nowhere")
