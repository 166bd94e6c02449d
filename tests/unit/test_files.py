"""Files that are whole or not there, and errors that say what to do."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError

from harkback import files
from harkback.errors import HarkbackError
from harkback.files import digest, fingerprint, read_arrays, read_json, sweep, whole, write_arrays, write_json


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "file.txt"
    with whole(path) as beside:
        assert beside.parent == path.parent  # Else the move would not be one step.
        beside.write_text("half")
        assert not path.exists()
        beside.write_text("whole")
    assert path.read_text() == "whole"
    assert listing(path.parent) == ["file.txt"]


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    for failure in (RuntimeError("no"), KeyboardInterrupt(), OSError(errno.ENOSPC, "full")):
        with pytest.raises((RuntimeError, KeyboardInterrupt, HarkbackError)), whole(path) as beside:
            beside.write_text("half of the new")
            raise failure
        assert path.read_text() == "old"
        assert listing(tmp_path) == ["file.txt"]


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HarkbackError), whole(tmp_path / "file.txt"):
        pass
    assert listing(tmp_path) == []


def test_the_old_file_is_there_until_the_new_one_is(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    write_json(path, {"a": 1})
    with path.open() as held:
        write_json(path, {"a": 2})
        assert json.load(held) == {"a": 1}  # Whoever reads the old one goes on reading it.
    assert read_json(path) == {"a": 2}


@pytest.mark.parametrize(
    ("number", "mend"), [(errno.ENOSPC, "free some space"), (errno.EACCES, "permissions"), (errno.EROFS, "written to")]
)
def test_a_disk_that_refuses_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, mend: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    path = tmp_path / "facts.json"
    write_json(path, [1])
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(HarkbackError) as caught:
        write_json(path, [2])
    assert str(path) in str(caught.value)
    assert os.strerror(number) in str(caught.value)
    assert mend in str(caught.value)
    assert read_json(path) == [1]
    assert listing(tmp_path) == ["facts.json"]


def test_safetensors_hides_the_number_of_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise SafetensorError('I/O error: Os { code: 28, kind: StorageFull, message: "No space left on device" }')

    monkeypatch.setattr(files, "save_file", full)
    with pytest.raises(HarkbackError, match=r"No space left on device; free some space"):
        write_arrays(tmp_path / "a.safetensors", {"x": torch.zeros(1)})
    assert listing(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_disk_that_really_is_full(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    with pytest.raises(HarkbackError, match="free some space"), whole(path) as beside:
        beside.symlink_to("/dev/full")
        beside.write_text("x")
    assert listing(tmp_path) == []


def test_a_file_in_the_way_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "in the way").write_text("")
    with pytest.raises(HarkbackError, match="a file stands in the way"):
        write_json(tmp_path / "in the way" / "facts.json", [])


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(HarkbackError, match="choose a shorter name"):
        write_json(tmp_path / ("x" * 300), [])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(JSON)
def test_facts_come_back(tmp_path_factory: pytest.TempPathFactory, facts: object) -> None:
    path = tmp_path_factory.getbasetemp() / "facts.json"
    write_json(path, facts)
    assert read_json(path) == facts


def test_numbers_that_json_does_not_have_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "facts.json", {"x": float("nan")})
    assert listing(tmp_path) == []


def test_facts_with_names_that_are_no_text(tmp_path: Path) -> None:
    """A path as Python gives it where its bytes are not UTF-8."""
    facts = {"sources": {"clips/caf\udce9.mp4": 1}}
    write_json(tmp_path / "facts.json", facts)
    assert read_json(tmp_path / "facts.json") == facts


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b"[1, 2"])
def test_damaged_facts(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "facts.json"
    path.write_bytes(damage)
    with pytest.raises(HarkbackError, match="is damaged") as caught:
        read_json(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("ask", [read_json, read_arrays])
def test_missing_files(tmp_path: Path, ask: Callable[[Path], object], request: pytest.FixtureRequest) -> None:
    with pytest.raises(HarkbackError, match="check the path"):
        ask(tmp_path / "none")


def test_arrays_come_back_bit_for_bit(tmp_path: Path) -> None:
    arrays = {
        "half": torch.tensor([1.5, -0.0, torch.inf, torch.nan]).half(),
        "none": torch.zeros(0, 3, 2),
        "one": torch.tensor(7),
        "flags": torch.tensor([True, False]),
        "bytes": torch.arange(5, dtype=torch.uint8),
    }
    path = tmp_path / "a.safetensors"
    write_arrays(path, arrays)
    found = read_arrays(path)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].numpy().tobytes() == array.numpy().tobytes()


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"\xff" * 100])
def test_damaged_arrays(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(damage)
    with pytest.raises(HarkbackError, match="is damaged") as caught:
        read_arrays(path)
    assert str(path) in str(caught.value)


def test_cut_off_arrays(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_arrays(path, {"x": torch.arange(100)})
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(HarkbackError, match="is damaged"):
        read_arrays(path)


def test_digest_is_sha_256(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert digest(path) == hashlib.sha256(b"abc").hexdigest()
    assert digest(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_equal_facts_have_equal_names_and_others_do_not() -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    names = {fingerprint(*facts) for facts in ([1], ["1"], [[1]], [1, 2], [[1, 2]], [{"a": 1}], [None], [])}
    assert len(names) == 8
    assert all(len(name) == 16 for name in names)


def test_whatever_a_killed_process_has_begun_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the file that safetensors begins by itself, under a name of its own."""
    seen: list[str] = []

    def killed(arrays: object, path: Path) -> None:
        (path.parent / ".tmpAbCdEf").write_bytes(b"half of it")
        seen.extend(each.relative_to(tmp_path).as_posix() for each in tmp_path.rglob("*") if each.is_file())
        shutil.copytree(tmp_path, tmp_path.with_name("as it was left"))
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "save_file", killed)
    monkeypatch.setattr(os, "getpid", lambda: 2**22 + 1)  # No process has such a number.
    with pytest.raises(KeyboardInterrupt):
        write_arrays(tmp_path / "a.safetensors", {"x": torch.zeros(1)})
    assert listing(tmp_path) == [] and len(seen) == 2
    left = tmp_path.with_name("as it was left")
    assert len(listing(left)) == 2
    sweep(left)
    assert listing(left) == []


def test_arrays_may_be_read_by_whoever_may_read_text(tmp_path: Path) -> None:
    write_arrays(tmp_path / "arrays.safetensors", {"a": torch.zeros(1)})
    write_json(tmp_path / "facts.json", {})
    assert (tmp_path / "arrays.safetensors").stat().st_mode == (tmp_path / "facts.json").stat().st_mode
