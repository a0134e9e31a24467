"""What each format takes as an entry, beside the parsers that people use; and what it refuses."""

from __future__ import annotations

import csv
import io
import warnings
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parcelq.errors import RecordError
from parcelq.records import Format, cut, parse, split_header

FIELDS = st.text(st.sampled_from("ab5 ,;\t\"\n\r'é"), max_size=6)
ROWS = st.lists(st.lists(FIELDS, min_size=2, max_size=3), max_size=12)


def entries_in(data: bytes, fmt: Format, size: int = 1) -> list[bytes]:
    made = list(cut(BytesIO(data), fmt, size, 1 << 20))
    assert all(one.entries == size for one in made[:-1])
    return [one.data for one in made]


@settings(max_examples=400, deadline=None)
@given(ROWS, st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_csv_entries_are_the_rows_that_the_csv_module_of_python_reads(rows, delimiter, line_end, all_quoted):
    if not all_quoted:  # Python's writer does not always put quotes around a lone "\\r", which its reader then needs
        rows = [[field.replace("\r", "") for field in row] for row in rows]
    text = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if all_quoted else csv.QUOTE_MINIMAL
    csv.writer(text, delimiter=delimiter, lineterminator=line_end, quoting=quoting).writerows(rows)
    data = text.getvalue().encode()
    header, rest = split_header(BytesIO(data), parse("csv"))
    entries = [header] * bool(header) + [one.data for one in cut(rest, parse("csv"), 1, 1 << 20, start=len(header))]
    assert [
        row for entry in entries for row in csv.reader(io.StringIO(entry.decode(), newline=""), delimiter=delimiter)
    ] == rows
    assert len(entries) == len(rows)


@pytest.mark.parametrize(
    ("data", "record", "line", "why"),
    [
        (b'1,"never closed\n2,x\n3,y\n', 1, 2, "a quote that is not closed"),
        (b'1,x\n2,"a\nb"\n3,"y\n', 3, 5, "a quote that is not closed"),
        (b'1,x\n2,disk 5" wide\n3,disk 6" wide\n', 2, 3, "in the middle of a field"),
        (b'2,disk 5"\n3,"a\nb"\n4,"late\nand wet"\n5"\n', 1, 2, "in the middle of a field"),
        (b'1,"5\\" disk"\n2,"6\\" disk"\n', 1, 2, "in the middle of a field"),
    ],
)
def test_csv_that_does_not_fit_is_refused_with_its_place(data, record, line, why):
    fmt = parse("csv")
    with pytest.raises(RecordError, match=why) as caught:
        list(cut(BytesIO(data), fmt, 100, 1000, start=4, line=2))
    assert (caught.value.record, caught.value.line) == (record, line)
    assert f"record {record} (line {line}; byte {caught.value.offset})" in str(caught.value)


@pytest.mark.parametrize("row", [b'1,a 5" by 6" disk\n', b'he said "hi" to me,2\n', b'"abc"def,2\n', b'""""""\n'])
def test_an_even_number_of_quotes_in_one_line_does_no_harm_wherever_they_are(row):
    data = row + b'1,"late\nand wet"\n' + row
    assert entries_in(data, parse("csv")) == [row, b'1,"late\nand wet"\n', row]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.text("abc >|", max_size=5), st.text("ACGT", max_size=130)), min_size=1, max_size=12),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(1, 5),
)
def test_fasta_entries_are_the_records_that_biopython_reads(records, line_end, size):
    simple = pytest.importorskip("Bio.SeqIO.FastaIO").SimpleFastaParser
    text = ""
    for title, sequence in records:
        lines = [sequence[at : at + 60] for at in range(0, len(sequence), 60)]
        text += line_end.join([">x" + title, *lines]) + line_end
    whole = list(simple(io.StringIO(text)))
    made = entries_in(text.encode(), parse("fasta"), size)
    assert [record for entry in made for record in simple(io.StringIO(entry.decode()))] == whole
    assert parse("fasta").count(text.encode()) == len(whole) == len(records)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text("@+I>5", max_size=9), min_size=1, max_size=12),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", "\n", "\n\n\n"]),
    st.integers(1, 5),
)
def test_fastq_entries_are_the_records_that_biopython_reads(qualities, line_end, blank, size):
    general = pytest.importorskip("Bio.SeqIO.QualityIO").FastqGeneralIterator
    text = "".join(line_end.join(["@r", "ACGTNACGTN"[: len(one)], "+", one, ""]) for one in qualities) + blank
    whole = list(general(io.StringIO(text)))
    made = entries_in(text.encode(), parse("fastq"), size)
    assert "".join(entry.decode() for entry in made) == text
    assert [record for entry in made for record in general(io.StringIO(entry.decode()))] == whole
    assert parse("fastq").count(text.encode()) == len(whole) == len(qualities)


@pytest.mark.parametrize("tail", ["", "\n", "\n\n \n"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_sdf_entries_are_the_molecules_that_rdkit_reads(tail, line_end):
    pytest.importorskip("rdkit")
    from rdkit import Chem, RDLogger

    RDLogger.DisableLog("rdApp.*")
    whole = []
    for smiles in ("C", "CCO", "c1ccccc1", "not one"):
        molecule = Chem.MolFromSmiles(smiles) if smiles != "not one" else None
        block = Chem.MolToMolBlock(molecule) if molecule else "bad\n\n\n  1  x broken\nM  END\n"
        whole.append(block + ">  <ID>\n$$ 7 $$$$\n\n$$$$\n")
    data = ("".join(whole) + tail).replace("\n", line_end).encode()
    made = entries_in(data, parse("sdf"))
    assert b"".join(made) == data

    def read(text: bytes) -> list[str | None]:
        supplier = Chem.ForwardSDMolSupplier(BytesIO(text))
        return [None if one is None else Chem.MolToSmiles(one) for one in supplier]

    assert [read(one)[:1] for one in made] == [[one] for one in read(data)[:4]]
    assert len(made) == 4


@pytest.mark.parametrize(
    ("text", "data", "record", "line", "why"),
    [
        ("fasta", b"AC\n>a\nAC\n", 1, 1, "does not begin with '>'"),
        ("fasta", b"\n>a\nAC\n", 1, 1, "does not begin with '>'"),
        ("fastq", b"@a\nAC\n+\n@bb\nAC\n+\nII\n", 1, 1, "is a line missing"),
        ("fastq", b"@a\nAC\n+\nII\n@b\nAC\n+\n", 2, 5, "has only 3 of the four lines"),
        ("fastq", b"@a\nAC\nGT\n+\nIIII\n", 1, 1, "third line"),
        ("fastq", b"@a\n+\n+\nI\n", 1, 1, "a sequence that begins with '\\+'"),
        ("fastq", b"a\nAC\n+\nII\n", 1, 1, "does not begin with '@'"),
        ("sdf", b"m\n\n$$$$\nn\n$$$\n", 2, 4, r"no end line '\$\$\$\$'"),
        ('ends="//"', b"a\n//\nb\n //\n", 2, 3, "no end line '//'"),
        ("lines=3", b"a\nb\nc\nd\n", 2, 4, "has only 1 of 3 lines"),
        ('starts="@<TRIPOS>MOLECULE"', b"# by hand\n@<TRIPOS>MOLECULE\n", 1, 1, "does not begin with"),
    ],
)
def test_a_source_that_does_not_fit_its_format_is_refused_with_its_place(text, data, record, line, why):
    with pytest.raises(RecordError, match=why) as caught:
        list(cut(BytesIO(data), parse(text), 100, 1000))
    assert (caught.value.record, caught.value.line, caught.value.format) == (record, line, text)


def test_an_error_in_a_range_says_where_it_counts_from():
    with pytest.raises(RecordError, match=r"record 2 \(line 4, counted from byte 700; byte 709\)"):
        list(cut(BytesIO(b"m\n\n$$$$\nn\n"), parse("sdf"), 10, 100, start=701, counted_from=700))


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("fasta", b"\xef\xbb\xbf>a\nAC\n>b\n"),
        ("fastq", b"\xef\xbb\xbf@a\nAC\n+\nII\n@b\n\n+\n\n"),
        ("sdf", b"\xef\xbb\xbfm\n$$$$\nn\n$$$$"),
        ("lines", b"\xef\xbb\xbfa\nb"),
    ],
)
def test_without_a_header_a_byte_order_mark_belongs_to_the_first_entry(text, data):
    made = entries_in(data, parse(text))
    assert len(made) == 2
    assert made[0].startswith(b"\xef\xbb\xbf")


def test_a_bad_entry_that_is_whole_is_left_to_the_step():
    assert len(entries_in(b"@a\nACGT\n+\nI\n@b\nA\n+\nI\n", parse("fastq"))) == 2
    assert len(entries_in(b"not,enough\n1,2,3,4\n\n", parse("csv"))) == 3
    assert len(entries_in(b"m\nbroken\n$$$$\nn\n$$$$\n", parse("sdf"))) == 2


warnings.filterwarnings("ignore", category=DeprecationWarning, module="Bio")
