"""A model's folder: all of a change or nothing of it, versions to step back to, and nothing that is damaged is read."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from harkback import versions as module
from harkback.errors import HarkbackError
from harkback.files import digest, fingerprint, read_arrays, write_json
from harkback.vault import Vault
from harkback.versions import Contents, Version

FILES = ("model.json", "model.safetensors", "memory.safetensors", "ledger/0001.safetensors", "ledger/0003.safetensors")


def ledger_name(version: int) -> str:
    return f"ledger/{version:04d}.safetensors"


def contents(
    version: int, value: int | None = None, *, history: int = 3, changed: Sequence[int] | None = None
) -> Contents:
    """A version whose arrays all hold one number, by default its own. changed: files of the ledger that it writes."""
    value = version if value is None else value
    facts = {
        "format": 1,
        "version": version,
        "value": value,
        "history": history,
        "ledger": [ledger_name(each) for each in range(1, version + 1)],
    }
    arrays = {"x": torch.full((3,), value)}
    ledger = {ledger_name(each): arrays for each in ((version,) if changed is None else changed)}
    return Contents(facts, arrays, arrays, ledger, f"card of {value}\n")


def say(line: str) -> None:
    raise AssertionError(f"nothing should have to be said, but: {line}")


def commit(vault: Vault, *wanted: Contents) -> Vault:
    for each in wanted:
        with vault.changing(say):
            vault.commit(each)
    return vault


def undo(vault: Vault) -> None:
    with vault.changing(say):
        vault.undo()


@pytest.fixture
def three(tmp_path: Path) -> Vault:
    """A model after three sessions."""
    return commit(Vault(tmp_path / "model"), contents(1), contents(2), contents(3))


def values(version: Version) -> tuple[int, ...]:
    """What the facts and each array say."""
    found = [version.arrays(name)["x"] for name in ("model.safetensors", "memory.safetensors")]
    return version.facts["value"], *(int(x[0]) for x in found)


def ledger_values(version: Version) -> list[int]:
    return [int(version.arrays(name)["x"][0]) for name in version.ledgers]


def everything(folder: Path) -> dict[str, bytes]:
    """Every file but the lock."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    found.pop(".lock", None)
    return found


def own(folder: Path) -> dict[str, bytes]:
    """Every file but the versions before."""
    return {name: content for name, content in everything(folder).items() if not name.startswith("history/")}


def flip(path: Path, place: int = -1) -> None:
    spoilt = bytearray(path.read_bytes())
    spoilt[place] ^= 1
    path.write_bytes(spoilt)


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(HarkbackError) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def value_of(vault: Vault) -> int:
    """The one number of the present version; all its files are read."""
    found = vault.read(values)
    assert len(set(found)) == 1
    return found[0]


# ---- commit, undo, history ------------------------------------------------------------------------------------------


def test_what_is_committed_is_what_is_read(three: Vault) -> None:
    assert value_of(three) == 3
    assert three.read(ledger_values) == [1, 2, 3]
    assert (three.path / "README.md").read_text() == "card of 3\n"
    facts = json.loads((three.path / "model.json").read_text())
    assert facts["files"].keys() == {*FILES, "ledger/0002.safetensors"} - {"model.json"}
    assert all(digest(three.path / name) == sha for name, sha in facts["files"].items())
    assert sorted(path.name for path in three.path.iterdir()) == [
        ".lock", "README.md", "history", "ledger", "memory.safetensors", "model.json", "model.safetensors"
    ]  # fmt: skip


def test_undo_restores_every_byte(tmp_path: Path) -> None:
    vault = commit(Vault(tmp_path / "model"), contents(1))
    first = everything(vault.path)
    commit(vault, contents(2))
    second = everything(vault.path)
    commit(vault, contents(3))
    undo(vault)
    assert everything(vault.path) == second
    undo(vault)
    assert everything(vault.path) == first
    before = everything(vault.path)
    assert "keeps no version before this one" in refusal(lambda: undo(vault))
    assert everything(vault.path) == before


@pytest.mark.parametrize("bound", [0, 1, 3])
def test_so_many_versions_are_kept_and_no_more(tmp_path: Path, bound: int) -> None:
    vault = commit(Vault(tmp_path / "model"), *(contents(version, history=bound) for version in range(1, 6)))
    kept = [values(version) for version in vault.versions()]
    assert kept == [(version,) * 3 for version in range(6 - 1 - bound, 5)]
    assert len([name for name in everything(vault.path) if name.endswith("model.json")]) == 1 + bound
    for back in range(1, bound + 1):
        undo(vault)
        assert value_of(vault) == 5 - back
    assert "keeps no version" in refusal(lambda: undo(vault))


def test_a_smaller_bound_lets_go_of_the_oldest(three: Vault) -> None:
    assert [values(version)[0] for version in three.versions()] == [1, 2]
    commit(three, contents(4, history=1))
    assert [values(version)[0] for version in three.versions()] == [3]


def test_teaching_goes_on_after_undo_as_if_what_was_undone_had_not_been(tmp_path: Path) -> None:
    straight = commit(Vault(tmp_path / "straight"), contents(1), contents(2, 22))
    back = commit(Vault(tmp_path / "back"), contents(1), contents(2), contents(3))
    undo(back)
    undo(back)
    commit(back, contents(2, 22))
    assert everything(back.path) == everything(straight.path)


def test_the_ledger_of_what_was_undone_is_gone(three: Vault) -> None:
    undo(three)
    assert sorted(path.name for path in (three.path / "ledger").iterdir()) == ["0001.safetensors", "0002.safetensors"]
    assert three.read(ledger_values) == [1, 2]


def test_what_is_no_longer_named_is_swept_from_the_ledger(three: Vault) -> None:
    (three.path / "ledger" / "0009.safetensors").write_bytes(b"of nobody")
    with three.changing(say):
        pass
    assert len(list((three.path / "ledger").iterdir())) == 3


def test_versions_before_can_be_rewritten_with_the_ledger_they_share(three: Vault) -> None:
    with three.changing(say):
        three.commit(contents(4, 40, changed=(1, 3)), [contents(1, 10, changed=()), contents(2, 20, changed=())])
    assert value_of(three) == 40
    assert three.read(ledger_values) == [40, 2, 40]  # There is no fourth part: nothing was added.
    assert [values(version) for version in three.versions()] == [(10,) * 3, (20,) * 3]
    assert [ledger_values(version) for version in three.versions()] == [[40], [40, 2]]
    undo(three)
    assert value_of(three) == 20  # The version that was rewritten last, not that of before the change.
    assert b"card of 3" not in b"".join(everything(three.path).values())


def test_versions_before_can_be_given_up(three: Vault) -> None:
    with three.changing(say):
        three.commit(contents(4), [])
    assert three.versions() == []
    assert "keeps no version" in refusal(lambda: undo(three))


def test_a_disk_without_hard_links_keeps_the_same_versions(
    three: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    other = commit(Vault(tmp_path / "other"), contents(1), contents(2), contents(3))
    assert everything(other.path) == everything(three.path)
    undo(other)
    assert value_of(other) == 2


def test_a_version_before_shares_no_file_with_the_present_one(three: Vault) -> None:
    """Else a disk's fault in one would be one in both."""
    found = [path.stat().st_ino for path in three.path.rglob("*") if path.is_file()]
    assert len(found) == len(set(found))


def test_a_copy_of_a_version_before_is_not_taken_for_one(three: Vault) -> None:
    shutil.copytree(three.path / "history" / "0002", three.path / "history" / "0002 (copy)")
    assert [version.facts["value"] for version in three.versions()] == [1, 2]
    undo(three)
    assert value_of(three) == 2


def test_what_lies_besides_is_dropped(three: Vault) -> None:
    before = everything(three.path)
    (three.path / ".features").mkdir()
    (three.path / ".features" / "store.json").write_text("{}")
    with three.changing(say):
        three.drop(".features")
        three.drop(".features")  # It need not be there.
    assert everything(three.path) == before


# ---- all or nothing -------------------------------------------------------------------------------------------------

STEPS = ("rename", "replace", "mkdir", "rmdir", "unlink", "link")


class Stopped(BaseException):
    """As Ctrl-C, but nobody else's."""


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Before the step-th change of a name on the disk."""
    count = 0

    def counted(act: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            if count == step:
                raise Stopped
            return act(*args, **named)

        return run

    for name in STEPS:
        monkeypatch.setattr(os, name, counted(getattr(os, name)))


def forget_one(vault: Vault) -> None:
    with vault.changing(say):
        vault.commit(contents(4, 40, changed=(1, 3)), [contents(1, 10, changed=()), contents(2, 20, changed=())])


@pytest.mark.parametrize(
    ("change", "old", "new"),
    [(lambda vault: commit(vault, contents(4, history=2)), 3, 4), (undo, 3, 2), (forget_one, 3, 40)],
    ids=["commit", "undo", "former rewritten"],
)
def test_a_change_that_is_stopped_anywhere_has_happened_or_not(
    three: Vault, tmp_path: Path, change: Callable[[Vault], object], old: int, new: int
) -> None:
    """Readers of a half-moved `.now` see the new state whole; the next to change the model moves in the rest."""
    straight = Vault(shutil.copytree(three.path, tmp_path / "straight" / "model"))
    change(straight)
    before, after = everything(three.path), everything(straight.path)
    left: list[int] = []
    while True:
        vault = Vault(shutil.copytree(three.path, tmp_path / str(len(left)) / "model"))
        with pytest.MonkeyPatch.context() as patch:
            stop_at(patch, len(left) + 1)
            try:
                change(vault)
                break
            except Stopped:
                pass
        left.append(value_of(vault))
        assert vault.read(ledger_values) == (straight if left[-1] == new else three).read(ledger_values)
        with vault.changing(say):
            pass
        assert everything(vault.path) == (after if left[-1] == new else before)
    assert set(left) == {old, new}
    assert left == sorted(left, key=(old, new).index)
    assert left.count(new) > 3


def test_what_a_killed_process_left_half_written_is_swept(three: Vault) -> None:
    before = everything(three.path)
    (three.path / ".next").mkdir()
    (three.path / ".next" / ".model.safetensors.4711.part").write_bytes(b"half")
    assert value_of(three) == 3
    with three.changing(say):
        assert everything(three.path) == before


def test_a_model_that_is_being_made_is_there_or_not(tmp_path: Path) -> None:
    there: list[bool] = []
    while True:
        vault = Vault(tmp_path / str(len(there)) / "model")
        vault.path.parent.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            stop_at(patch, len(there) + 1)
            try:
                commit(vault, contents(1))
                break
            except Stopped:
                pass
        there.append(vault.exists)
        if there[-1]:
            assert value_of(vault) == 1
        commit(vault, contents(1) if not there[-1] else contents(2))
        assert value_of(vault) == 1 + there[-1]
    assert there == sorted(there)
    assert True in there and False in there


def test_a_model_that_is_moved_in_while_it_is_looked_for_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = commit(Vault(tmp_path / "model"), contents(1))
    coming = vault.path / ".now"
    coming.mkdir()
    (vault.path / "model.json").rename(coming / "model.json")
    looked, exists = [], Path.exists

    def slow(path: Path) -> bool:
        found = exists(path)
        looked.append(path)
        if len(looked) == 1:
            (coming / "model.json").rename(vault.path / "model.json")
        return found

    monkeypatch.setattr(Path, "exists", slow)
    assert vault.exists
    assert looked


def moves_while(vault: Vault, monkeypatch: pytest.MonkeyPatch, name: str, *wanted: Contents) -> None:
    """Commit between the moment at which a file's bytes are checked and that at which it is read."""
    left = list(wanted)

    def late(path: Path, mend: str) -> Any:
        if left and path.name == name:
            commit(vault, left.pop())
        return read_arrays(path, mend)

    monkeypatch.setattr(module, "read_arrays", late)


@pytest.mark.parametrize("name", ["model.safetensors", "memory.safetensors"])
def test_a_file_that_is_replaced_after_it_was_checked_is_not_taken_for_it(
    three: Vault, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    moves_while(three, monkeypatch, name, contents(4))
    assert value_of(three) == 4


def test_a_file_that_is_moved_in_after_it_was_checked_is_found_at_its_place(
    three: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = commit(Vault(shutil.copytree(three.path, tmp_path / "later")), contents(4))
    coming = three.path / ".now"
    coming.mkdir()
    for name in ("model.json", "model.safetensors", "memory.safetensors", "README.md"):
        shutil.copy(later.path / name, coming / name)
    (coming / "ledger").mkdir()
    shutil.copy(later.path / ledger_name(4), coming / ledger_name(4))
    moves_while(three, monkeypatch, "model.safetensors", contents(5))
    assert value_of(three) == 5


def test_readers_beside_a_writer_only_ever_see_whole_versions(tmp_path: Path) -> None:
    vault = commit(Vault(tmp_path / "model"), contents(1))
    done, failed = threading.Event(), []

    def write() -> None:
        value = 1
        try:
            while not done.is_set():
                for version in (2, 3, 4):
                    value += 1
                    time.sleep(0.02)  # Faster than any session; a reader must still get a word in.
                    commit(vault, contents(version, value))
                for _ in range(3):
                    time.sleep(0.02)
                    undo(vault)
        except BaseException as error:
            failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    seen: list[tuple[int, ...]] = []
    try:
        end = time.monotonic() + 2
        while time.monotonic() < end and not failed:
            seen.append(vault.read(lambda version: (*values(version), ledger_values(version)[-1])))
    finally:
        done.set()
        writer.join()
    assert failed == []
    assert {found for found in seen if len(set(found)) > 1} == set()
    assert len(set(seen)) > 3


# ---- damage ---------------------------------------------------------------------------------------------------------


def read_all(vault: Vault) -> object:
    return vault.read(lambda version: (values(version), ledger_values(version)))


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_told_with_the_file_and_the_mend(three: Vault, name: str) -> None:
    flip(three.path / name, 40)
    line = refusal(lambda: read_all(three))
    assert line.startswith(f"{three.path / name}: is damaged")
    assert "undo the last session, or take the folder from a backup" in line


def test_no_byte_of_the_facts_can_be_another(three: Vault) -> None:
    path = three.path / "model.json"
    for place in range(len(path.read_bytes())):
        flip(path, place)
        line = refusal(lambda: three.read(lambda version: version.facts))
        assert line.startswith(f"{path}: is ")
        flip(path, place)
    assert value_of(three) == 3


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_told_with_the_mend(three: Vault, name: str) -> None:
    (three.path / name).unlink()
    line = refusal(lambda: read_all(three))
    assert line.startswith(f"{three.path / name}: is missing; undo the last session")


@pytest.mark.parametrize("damage", [flip, Path.unlink, lambda path: path.write_bytes(b"")], ids=["flip", "no", "empty"])
@pytest.mark.parametrize("name", [name for name in FILES if name != "ledger/0001.safetensors"])
def test_undo_restores_a_whole_version_when_the_present_one_is_damaged(
    three: Vault, name: str, damage: Callable[[Path], object]
) -> None:
    damage(three.path / name)
    undo(three)
    assert value_of(three) == 2
    assert three.read(ledger_values) == [1, 2]
    commit(three, contents(3))
    assert value_of(three) == 3


@pytest.mark.parametrize("name", ["model.json", "model.safetensors", "memory.safetensors"])
def test_undo_does_not_step_to_a_version_that_is_damaged(three: Vault, name: str) -> None:
    spoilt = three.path / "history" / "0002"
    flip(spoilt / name, 40)
    before = everything(three.path)
    line = refusal(lambda: undo(three))
    assert line.startswith(f"{spoilt / name}: is damaged")
    assert line.endswith(f"; delete {spoilt}, to do without that version before")
    assert everything(three.path) == before
    shutil.rmtree(spoilt)
    undo(three)
    assert value_of(three) == 1


def test_undo_does_not_step_to_a_version_whose_ledger_is_damaged(three: Vault) -> None:
    flip(three.path / "ledger" / "0001.safetensors")
    line = refusal(lambda: undo(three))
    assert line.startswith(f"{three.path / 'ledger' / '0001.safetensors'}: is damaged")
    assert "backup" in line
    assert value_of(three) == 3


def signed(path: Path, **changed: Any) -> None:
    """Write other facts, with the checksum that they should have."""
    facts = {**json.loads(path.read_text()), **changed}
    facts.pop("checksum")
    write_json(path, {**facts, "checksum": fingerprint(facts)})


def test_a_newer_format_is_not_guessed_at(three: Vault) -> None:
    signed(three.path / "model.json", format=2)
    line = refusal(lambda: three.read(values))
    assert "is a model of format 2, and this version reads up to 1; update harkback" in line


def test_an_older_format_that_nobody_reads_any_more_is_told(three: Vault) -> None:
    signed(three.path / "model.json", format=0)
    assert "is a model of format 0, which this version no longer reads" in refusal(lambda: three.read(values))


def test_facts_that_are_none(three: Vault) -> None:
    for text in ("[]", "{}", '"model"', '{"format": "1"}', "null"):
        (three.path / "model.json").write_text(text)
        assert "is no model's model.json" in refusal(lambda: three.read(values))


def test_older_formats_are_brought_up_step_by_step(three: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    def second(facts: dict[str, Any]) -> dict[str, Any]:
        return {**facts, "format": 2, "steps": ["second"]}

    def third(facts: dict[str, Any]) -> dict[str, Any]:
        return {**facts, "format": 3, "steps": [*facts["steps"], "third"]}

    monkeypatch.setattr(module, "MIGRATIONS", {1: second, 2: third})
    monkeypatch.setattr(module, "FORMAT", 3)
    before = everything(three.path)
    assert value_of(three) == 3
    assert three.read(lambda version: version.facts["steps"]) == ["second", "third"]
    assert everything(three.path) == before  # Reading changes nothing.
    newest = contents(4)
    newest.facts.update(format=3, steps=["born so"])
    commit(three, newest)
    assert json.loads((three.path / "model.json").read_text())["format"] == 3
    assert three.read(ledger_values) == [1, 2, 3, 4]
    assert [version.facts["steps"] for version in three.versions()] == [["second", "third"]] * 3
    undo(three)
    assert everything(three.path) == before


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.path, "boom")


@pytest.mark.parametrize("name", ["model.safetensors", "memory.safetensors", "ledger/0003.safetensors"])
@pytest.mark.parametrize("write", [lambda bomb, path: path.write_bytes(pickle.dumps(bomb)), torch.save])
def test_a_pickle_under_the_name_of_arrays_is_never_unpickled(
    three: Vault, tmp_path: Path, name: str, write: Callable[[Any, Path], object]
) -> None:
    """By one who knows how a folder is signed."""
    crater = tmp_path / "crater"
    write(Bomb(crater), three.path / name)
    files = json.loads((three.path / "model.json").read_text())["files"]
    signed(three.path / "model.json", files={**files, name: digest(three.path / name)})
    assert refusal(lambda: read_all(three)).startswith(f"{three.path / name}: is damaged")
    undo(three)
    assert not crater.exists()
    pickle.loads(pickle.dumps(Bomb(crater)))  # noqa: S301 (it would have)
    assert crater.exists()


@pytest.mark.parametrize(
    "name", ["../other.safetensors", "/etc/passwd", "ledger/../../x.safetensors", "model.pt", ".lock"]
)
def test_facts_cannot_name_files_that_are_no_models(three: Vault, name: str) -> None:
    files = json.loads((three.path / "model.json").read_text())["files"]
    signed(three.path / "model.json", files={**files, name: "0" * 64})
    assert "names files that are not a model's" in refusal(lambda: three.read(values))


def test_a_disk_that_is_full_at_any_file_leaves_the_old_state(three: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file that is written is synced; so is every folder, where a failure is passed over."""
    before = everything(three.path)
    sync, refused = os.fsync, 0
    for at in range(1, 20):
        count = 0

        def full(handle: int) -> None:
            nonlocal count, refused
            count += 1
            if count == at:  # noqa: B023 (called within the round)
                refused += 1
                raise OSError(28, os.strerror(28))
            sync(handle)

        monkeypatch.setattr(os, "fsync", full)
        try:
            commit(three, contents(4))
            break
        except HarkbackError as error:
            assert "No space left on device; free some space" in str(error)
            assert everything(three.path) == before
    assert refused >= 5  # Two arrays, a part of the ledger, the card, the facts.
    assert value_of(three) == 4


# ---- who may change it ----------------------------------------------------------------------------------------------


def test_what_is_no_model_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    for path, what in ((tmp_path / "photos", "is no model"), (tmp_path / "photos" / "cat.jpg", "is no model")):
        assert what in refusal(lambda path=path: commit(Vault(path), contents(1)))
        assert what in refusal(lambda path=path: Vault(path).read(values))
    assert everything(tmp_path) == {"photos/cat.jpg": b"cat"}
    assert "no such model" in refusal(lambda: Vault(tmp_path / "none").read(values))
    assert not (tmp_path / "none").exists()


def test_an_empty_folder_can_become_a_model(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / ".DS_Store").write_bytes(b"")
    assert value_of(commit(Vault(tmp_path / "model"), contents(1))) == 1


def test_a_file_above_the_folder_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "a file stands in the way" in refusal(lambda: commit(Vault(tmp_path / "file" / "model"), contents(1)))


def test_a_second_change_waits_for_the_first_and_says_so(three: Vault) -> None:
    said: list[str] = []
    waits, order = threading.Event(), []

    def tell(line: str) -> None:
        said.append(line)
        waits.set()

    def second() -> None:
        with Vault(three.path).changing(tell):
            order.append("second")

    with three.changing(say):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(10)
        assert value_of(three) == 3  # Readers do not wait.
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert said == [f"{three.path}: another process changes this model; waiting for it"]


def test_who_has_waited_long_enough_is_told_and_nothing_is_changed(three: Vault) -> None:
    before, said = everything(three.path), []

    def second() -> None:
        with Vault(three.path).changing(said.append, patience=0.1):
            raise AssertionError("it has no right to")

    with three.changing(say):
        (three.path / ".next").mkdir()  # What the first is at is none of the second's business.
        line = refusal(second)
        assert (three.path / ".next").exists()
    assert "another process has been changing this model for 0.1 s; try again" in line
    assert len(said) == 1
    assert everything(three.path) == before


def test_a_process_that_was_killed_blocks_nobody(three: Vault) -> None:
    code = "import filelock, sys, time; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print(1, flush=True)"
    argv = [sys.executable, "-c", f"{code}; time.sleep(60)", str(three.path / ".lock")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"1\n"
        said: list[str] = []
        with pytest.raises(HarkbackError), three.changing(said.append, patience=0.05):
            pass
        assert len(said) == 1
        holder.kill()
    assert value_of(commit(three, contents(4))) == 4
