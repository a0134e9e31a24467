"""Bodies of waiting messages take no more memory than they are allowed."""

from pathlib import Path

from parcelq_emulator.bodies import Bodies


def files(folder: Path) -> int:
    return len(list(folder.iterdir()))


def test_bodies_that_no_longer_fit_into_memory_are_in_files(tmp_path):
    bodies = Bodies(str(tmp_path), most_bytes=10)
    kept = [bodies.keep(bytes([number]) * 4) for number in range(5)]
    assert files(tmp_path) == 3
    assert [bytes(one) for one in kept] == [bytes([number]) * 4 for number in range(5)]


def test_a_file_is_gone_with_its_body(tmp_path):
    bodies = Bodies(str(tmp_path), most_bytes=0)
    kept = bodies.keep(b"body")
    assert files(tmp_path) == 1
    del kept
    assert files(tmp_path) == 0


def test_memory_that_is_free_again_is_used_again(tmp_path):
    bodies = Bodies(str(tmp_path), most_bytes=4)
    first = bodies.keep(b"body")
    del first
    second = bodies.keep(b"next")
    assert files(tmp_path) == 0
    assert bytes(second) == b"next"


def test_without_a_folder_all_bodies_are_in_memory():
    bodies = Bodies(None, most_bytes=0)
    assert bytes(bodies.keep(b"body")) == b"body"
