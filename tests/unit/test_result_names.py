"""Names of results: what a user expects, never those of another source, and never too long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parcelq.errors import InvalidValueError
from parcelq.lineage.source import Source
from parcelq.result_names import ENDINGS, FOLDERS, check_distinct, result_names

# Names made of the very pieces that the rule is about, so that two of them are likely to meet.
PIECES = st.sampled_from(["x", "r", "/", "~", ".", "é", "\udcff", "x" * 200, *ENDINGS, *FOLDERS, ".result", ".GZ"])
NAMES = st.lists(PIECES, min_size=1, max_size=8).map("".join)


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("molecules.smi", "molecules.smi"),
        ("parcelq-step/molecules.smi", "parcelq-step/molecules.smi"),
        ("logs", "logs"),
        ("x", "x"),
        ("x.gz", "x.gz.result"),
        ("X.GZ", "X.GZ.result"),
        (".gz", ".gz.result"),
        ("x.smi.zst", "x.smi.zst.result"),
        ("r.report.json", "r.report.json.result"),
        ("r.report.html", "r.report.html.result"),
        ("r.dead.jsonl", "r.dead.jsonl.result"),
        ("r.part", "r.part.result"),
        ("r.parts", "r.parts.result"),
        ("r.result", "r.result.result"),
        (".parcelq", ".parcelq.result"),
        (".parcelq/logs", ".parcelq.result/logs"),
        (".store/lock", ".store.result/lock"),
        ("without-lineage/topic/x", "without-lineage.result/topic/x"),
        ("elsewhere/x", "elsewhere.result/x"),
        ("topic/elsewhere/x", "topic/elsewhere/x"),
        ("a.gz/x", "a.gz/x"),
        ("a.result/x", "a.result.result/x"),
    ],
)
def test_a_result_is_called_like_its_source_unless_that_name_is_taken(name, result):
    names = result_names(name, "results/")
    assert names.result == f"results/{result}"
    assert names == (
        f"results/{result}",
        f"results/{result}.report.json",
        f"results/{result}.report.html",
        f"results/{result}.dead.jsonl",
        f"results/{result}.steps.log",
    )


@given(NAMES, NAMES)
def test_two_sources_never_get_the_same_name_for_their_results(one, other):
    if one != other:
        assert not set(result_names(one)) & set(result_names(other))


@given(NAMES)
def test_every_name_has_room_for_what_is_added_to_it(name):
    names = result_names(name, "results/")
    for one in names:
        unfinished = f"{one}.{'f' * 16}-{'f' * 16}-{'f' * 14}"
        assert len(unfinished.encode()) <= 1024
        assert all(len(part.encode()) <= 255 for part in unfinished.split("/"))


@given(NAMES)
def test_no_source_reaches_into_the_folders_of_parcelq(name):
    first = result_names(name).result.partition("/")[0]
    assert first not in FOLDERS


@pytest.mark.parametrize(
    "name", ["n" * 255, "é" * 127, "a/" + "n" * 255, "n" * 255 + "/a", "/".join(["n" * 200] * 5), "x" * 1018]
)
def test_a_name_that_is_too_long_keeps_its_beginning(name):
    result = result_names(name, "results/").result.removeprefix("results/")
    assert result.startswith(name[:75])
    assert result != name
    assert result == result_names(name, "results/").result.removeprefix("results/")
    assert result != result_names(name[:-1] + "b", "results/").result.removeprefix("results/")


def test_a_name_that_is_not_utf8_becomes_one_that_is():
    one, other = result_names("caf\udce9.txt").result, result_names("caf\udcea.txt").result
    assert one.startswith("caf_.txt~")
    assert one.encode()
    assert one != other


def test_a_prefix_without_room_for_names_is_refused():
    assert result_names("x", "results/" + "d" * 690 + "/").result.endswith("/x")
    with pytest.raises(InvalidValueError, match=r"folder of results is .*, but must be a prefix of at most 705 bytes"):
        result_names("x", "results/" + "d" * 800 + "/")


def test_files_of_one_name_are_refused_with_both_paths():
    check_distinct(["a/x", "a/y", "b/z", "x.gz"])
    with pytest.raises(InvalidValueError, match="'b/x', but must be a file with another name than 'a/x'"):
        check_distinct(["a/x", "b/x"])
    with pytest.raises(InvalidValueError, match="'a/x', but must be given only once"):
        check_distinct(["a/x", "a/x"])
    with pytest.raises(InvalidValueError, match=r"results would have the name 'x\.gz\.result'"):
        check_distinct(["a/x.gz", "b/x.gz"])


@pytest.mark.parametrize("folder", ["x", "x.report.json", "x.report.html", "x.dead.jsonl", "x.steps.log", "x/y"])
def test_a_result_whose_folder_is_a_file_of_another_result_is_refused_with_both_names(folder):
    names = [f"{folder}/z", "x"]
    wanted = "a folder with another name: the result of 'd/x' needs a file 'x"
    with pytest.raises(InvalidValueError, match=f"file is 'd/{folder}/z', but must be in {wanted}"):
        check_distinct([f"d/{name}" for name in names], names)
    check_distinct(["d/x1/z", "d/x"], ["x1/z", "x"])


@pytest.mark.parametrize(
    ("source", "result"),
    [
        (Source.of_object("stack", "inbox/a b.smi", etag="e", put="1"), "a b.smi"),
        (Source.of_object("stack", "inbox/elsewhere/x", etag="e", put="1"), "elsewhere.result/x"),
        (Source.of_object("stack", "x", etag="e", put="1"), "elsewhere/s3/stack/x"),
        (Source.of_object("other", "inbox/x", etag="e", put="1"), "elsewhere/s3/other/inbox/x"),
        (Source.of_file("/home/me/x", "1"), "elsewhere/file/home/me/x"),
        (Source.of_file("/home/me/x.gz", "1"), "elsewhere/file/home/me/x.gz.result"),
    ],
)
def test_a_source_that_is_not_in_the_inbox_has_its_result_elsewhere(source, result):
    assert source.names("stack").result == f"results/{result}"
    assert source.names("stack", "results/mine/").report == f"results/mine/{result}.report.json"
