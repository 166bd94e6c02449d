"""A folder of clips in each of its three layouts, and everything that may lie in one."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from pathlib import Path

import pytest

from harkback.datasets.folder import Folder
from harkback.errors import HarkbackError


def put(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"film")
    return root


def listed(root: Path, text: str, *names: str, encoding: str = "utf-8") -> Folder:
    put(root, *names)
    (root / "clips.csv").write_text(text, encoding=encoding)
    return Folder(root)


def ids(folder: Folder) -> dict[str, list[str]]:
    return {split: [clip.id for clip in clips] for split, clips in folder.splits.items()}


def skipped(folder: Folder) -> dict[str, str]:
    assert folder.splits
    return {skip.id: skip.reason for skip in folder.skips}


# ---- root/<class>/* -------------------------------------------------------------------------------------------------


def test_folders_are_classes_and_a_quarter_is_held_out(tmp_path: Path) -> None:
    put(tmp_path, *(f"{label}/{i}.mp4" for label in ("dog", "cat") for i in range(8)))
    folder = Folder(tmp_path)
    assert set(folder.splits) == {"train", "test"}
    for label in ("dog", "cat"):
        counts = {split: sum(clip.label == label for clip in clips) for split, clips in folder.splits.items()}
        assert counts == {"train": 6, "test": 2}
    everything = sorted(name for names in ids(folder).values() for name in names)
    assert everything == sorted(f"{label}/{i}.mp4" for label in ("dog", "cat") for i in range(8))
    assert all(clip.path == tmp_path / clip.id for clips in folder.splits.values() for clip in clips)
    assert folder.skips == ()
    assert folder.name == tmp_path.name


@pytest.mark.parametrize(("clips", "held_out"), [(1, 0), (2, 1), (3, 1), (4, 1), (7, 1), (8, 2), (12, 3), (13, 3)])
def test_how_many_are_held_out(tmp_path: Path, clips: int, held_out: int) -> None:
    put(tmp_path, *(f"dog/{i}.mp4" for i in range(clips)))
    splits = Folder(tmp_path).splits
    assert len(splits.get("test", ())) == held_out
    assert len(splits["train"]) == clips - held_out


def test_the_same_clips_are_held_out_wherever_the_folder_lies(tmp_path: Path) -> None:
    names = [f"dog/{i}.mp4" for i in range(20)]
    one, other = put(tmp_path / "one", *names), put(tmp_path / "other" / "place", *reversed(names))
    assert ids(Folder(one)) == ids(Folder(other)) == ids(Folder(one))
    # A choice that can be computed anywhere: the lowest SHA-256 of the ids.
    few = put(tmp_path / "few", *(f"dog/{i}.mp4" for i in range(4)))
    lowest = min(names[:4], key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    assert ids(Folder(few))["test"] == [lowest]


def test_a_new_clip_moves_few_others(tmp_path: Path) -> None:
    names = [f"dog/{i}.mp4" for i in range(40)]
    before = set(ids(Folder(put(tmp_path / "one", *names)))["test"])
    after = set(ids(Folder(put(tmp_path / "two", *names, "dog/new.mp4")))["test"])
    assert len(before - after) <= 1


def test_folders_inside_a_class_belong_to_it(tmp_path: Path) -> None:
    put(tmp_path, "dog/summer/a.mp4", "dog/winter/a.mp4", "dog/b.mp4")
    found = Folder(tmp_path).splits
    clips = [clip for clips in found.values() for clip in clips]
    assert {clip.id for clip in clips} == {"dog/summer/a.mp4", "dog/winter/a.mp4", "dog/b.mp4"}
    assert {clip.label for clip in clips} == {"dog"}


def test_stray_files_and_empty_classes_are_listed(tmp_path: Path) -> None:
    put(tmp_path, "dog/a.mp4", "dog/b.mp4", "readme.txt")
    (tmp_path / "cat").mkdir()
    (tmp_path / "owl" / "deep").mkdir(parents=True)
    found = skipped(Folder(tmp_path))
    assert found.keys() == {"readme.txt", "cat", "owl"}
    assert found["readme.txt"] == "lies outside the class folders"
    assert found["cat"] == found["owl"] == "the class folder is empty"


def test_hidden_files_do_not_count(tmp_path: Path) -> None:
    put(tmp_path, "dog/a.mp4", "dog/b.mp4", ".DS_Store", ".git/x", "dog/._a.mp4", "dog/.thumbs/a.png", "cat/.hidden")
    folder = Folder(tmp_path)
    assert sorted(name for names in ids(folder).values() for name in names) == ["dog/a.mp4", "dog/b.mp4"]
    assert skipped(folder) == {"cat": "the class folder is empty"}


def test_every_visible_file_counts_whatever_it_is_called(tmp_path: Path) -> None:
    put(tmp_path, "dog/a.txt", "dog/no suffix")
    assert sorted(name for names in ids(Folder(tmp_path)).values() for name in names) == ["dog/a.txt", "dog/no suffix"]


@pytest.mark.parametrize(
    "make", [lambda root: None, lambda root: put(root, "a.mp4"), lambda root: (root / "x").mkdir()]
)
def test_no_clips(tmp_path: Path, make: object) -> None:
    make(tmp_path)  # type: ignore[operator]
    with pytest.raises(HarkbackError, match="no clips in it"):
        Folder(tmp_path).splits  # noqa: B018


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(HarkbackError, match="no such folder"):
        Folder(tmp_path / "none")
    with pytest.raises(HarkbackError, match="is not a folder"):
        Folder(put(tmp_path, "file") / "file")


# ---- root/{train,val,test}/<class>/* --------------------------------------------------------------------------------


def test_splits_of_its_own(tmp_path: Path) -> None:
    put(tmp_path, "train/dog/a.mp4", "train/cat/a.mp4", "val/dog/b.mp4", "test/dog/c.mp4", "test/cat/d.mp4")
    folder = Folder(tmp_path)
    assert ids(folder) == {
        "train": ["train/cat/a.mp4", "train/dog/a.mp4"],
        "val": ["val/dog/b.mp4"],
        "test": ["test/cat/d.mp4", "test/dog/c.mp4"],
    }
    assert [clip.label for clip in folder.splits["train"]] == ["cat", "dog"]


def test_no_test_split_is_made_up(tmp_path: Path) -> None:
    put(tmp_path, *(f"train/dog/{i}.mp4" for i in range(8)))
    assert set(ids(Folder(tmp_path))) == {"train"}


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    put(tmp_path, "train/a.mp4", "train/b.mp4", "tram/a.mp4", "test/a.mp4")
    clips = [clip for clips in Folder(tmp_path).splits.values() for clip in clips]
    assert {clip.label for clip in clips} == {"train", "tram", "test"}


def test_a_stray_file_in_a_split(tmp_path: Path) -> None:
    put(tmp_path, "train/dog/a.mp4", "train/notes.txt", "test/dog/b.mp4")
    assert skipped(Folder(tmp_path)) == {"train/notes.txt": "lies outside the class folders"}


@pytest.mark.parametrize("name", ["cat/c.mp4", "notes.txt"])
def test_what_lies_beside_the_splits_is_listed(tmp_path: Path, name: str) -> None:
    put(tmp_path, "train/dog/a.mp4", "test/dog/b.mp4", name)
    assert len(skipped(Folder(tmp_path))) == 1


def test_a_split_without_class_folders_is_listed(tmp_path: Path) -> None:
    put(tmp_path, "train/dog/a.mp4", "test/b.mp4")
    assert skipped(Folder(tmp_path))


# ---- clips.csv ------------------------------------------------------------------------------------------------------


def test_a_table(tmp_path: Path) -> None:
    folder = listed(
        tmp_path,
        'path,label,split,start,end\na.mp4,dog,train,,\nx/b.mp4,"cat, big",test,1.5,2.25\na.mp4,dog,val,3,\n',
        "a.mp4", "x/b.mp4",
    )  # fmt: skip
    train, val, test = (folder.splits[split][0] for split in ("train", "val", "test"))
    assert (train.id, train.label, train.path, train.start, train.end) == ("a.mp4", "dog", tmp_path / "a.mp4", 0, None)
    assert (test.label, test.start, test.end) == ("cat, big", 1.5, 2.25)
    assert (val.start, val.end) == (3.0, None)
    assert len({train.id, val.id, test.id}) == 3
    assert folder.skips == ()


def test_a_table_wins_over_folders(tmp_path: Path) -> None:
    folder = listed(tmp_path, "path,label\ndog/a.mp4,wolf\ndog/b.mp4,wolf\n", "dog/a.mp4", "dog/b.mp4", "dog/c.mp4")
    clips = [clip for clips in folder.splits.values() for clip in clips]
    assert {(clip.id, clip.label) for clip in clips} == {("dog/a.mp4", "wolf"), ("dog/b.mp4", "wolf")}


def test_a_table_without_splits_is_dealt(tmp_path: Path) -> None:
    names = [f"{i}.mp4" for i in range(8)]
    folder = listed(tmp_path, "label,path\n" + "".join(f"dog,{name}\n" for name in names), *names)
    assert {split: len(clips) for split, clips in folder.splits.items()} == {"train": 6, "test": 2}


@pytest.mark.parametrize(
    "text",
    ["\ufeffpath,label\na.mp4,dog\n", "path,label\na.mp4,dog,, ,\n",
     "path,label\r\na.mp4,dog\r\n", "path,label\n\n a.mp4 , dog \n\n",
     'path,label\n"a.mp4","dog"', "label,other,path\ndog,5,a.mp4\n", "path,label,split\na.mp4,dog,\n"],
)  # fmt: skip
def test_tables_as_programs_write_them(tmp_path: Path, text: str) -> None:
    folder = listed(tmp_path, text, "a.mp4")
    (clip,) = folder.splits["train"]
    assert (clip.id, clip.label) == ("a.mp4", "dog")


def test_what_is_listed_but_not_there(tmp_path: Path) -> None:
    folder = listed(tmp_path, "path,label\na.mp4,dog\nb.mp4,dog\nx,dog\n", "a.mp4", "x/y.mp4")
    assert skipped(folder) == dict.fromkeys(("b.mp4", "x"), "is listed in clips.csv but not there")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column path and no column label"),
        ("path\na.mp4\n", "no column label"),
        ("name,label\na.mp4,dog\n", "no column path"),
        ("path,label\n,dog\n", "line 2.*empty"),
        ("path,label\na.mp4,dog\na.mp4,\n", "line 3.*empty"),
        ("path,label\na.mp4\n", "empty"),
        ("path,label,split\na.mp4,dog,training\n", 'no split "training"'),
        ("path,label,start\na.mp4,dog,soon\n", '"soon" is not a number'),
        ("path,label,start\na.mp4,dog,nan\n", "not a number"),
        ("path,label,end\na.mp4,dog,inf\n", "not a number"),
        ("path,label,end\na.mp4,dog,1:30\n", "not a number"),
        ("path,label,start,end\na.mp4,dog,2,1\n", "ends before it starts"),
        ("path,label,start,end\na.mp4,dog,2,2\n", "ends before it starts"),
        ("path,label,start\na.mp4,dog,-1\n", "line 2: the window starts before the file"),
        ("path,label\na.mp4,dog\na.mp4,cat, big\n", "line 3: has more cells than the first line"),
        ('path,label,"' + 140_000 * "x", "line 1: is no CSV"),
        ('path,label\na.mp4,dog\n"b.mp4,cat\n' + 20_000 * "c.mp4,cat\n", "line 3: is no CSV.*close the quote"),
        ("path,label,end\na.mp4,dog,0\n", "ends before it starts"),
        ("path,label\n../a.mp4,dog\n", "leaves the folder"),
        ("path,label\n/etc/passwd,dog\n", "leaves the folder"),
        ("path,label\nx/../../a.mp4,dog\n", "leaves the folder"),
        ("path,label\n", "no clips in it"),
        ("path,label\nnone.mp4,dog\n", "no clips in it"),
    ],
)
def test_a_wrong_table_is_answered_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    root = tmp_path / "clips"
    put(tmp_path, "a.mp4")
    with pytest.raises(HarkbackError, match=message) as caught:
        listed(root, text, "a.mp4").splits  # noqa: B018
    assert "\n" not in str(caught.value)


def test_a_link_that_leaves_the_folder(tmp_path: Path) -> None:
    put(tmp_path, "outside/secret.mp4")
    root = put(tmp_path / "clips", "a.mp4")
    (root / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(HarkbackError, match="leaves the folder"):
        listed(root, "path,label\nlink/secret.mp4,dog\n").splits  # noqa: B018


def test_a_table_in_another_encoding(tmp_path: Path) -> None:
    with pytest.raises(HarkbackError, match="not UTF-8"):
        listed(tmp_path, "path,label\na.mp4,chien à poil\n", "a.mp4", encoding="latin-1").splits  # noqa: B018


def test_windows_late_in_a_long_film_have_ids_of_their_own(tmp_path: Path) -> None:
    folder = listed(tmp_path, "path,label,start,end\na.mp4,dog,10000.21,10001\na.mp4,dog,10000.24,10001\n", "a.mp4")
    clips = [clip for clips in folder.splits.values() for clip in clips]
    assert len({clip.id for clip in clips}) == 2


@pytest.mark.parametrize("label", ["dog", "cat"])
def test_a_clip_that_is_listed_twice(tmp_path: Path, label: str) -> None:
    """Kept once and told of, or refused; but ids are unique."""
    folder = listed(tmp_path, f"path,label\na.mp4,dog\nb.mp4,dog\na.mp4,{label}\n", "a.mp4", "b.mp4")
    try:
        splits = folder.splits
    except HarkbackError:
        return
    found = [clip.id for clips in splits.values() for clip in clips]
    assert len(set(found)) == len(found)


def test_a_path_with_a_nul(tmp_path: Path) -> None:
    with pytest.raises(HarkbackError):
        listed(tmp_path, "path,label\na\0.mp4,dog\n").splits  # noqa: B018


# ---- names ----------------------------------------------------------------------------------------------------------


def test_a_class_is_one_however_its_accents_are_spelt(tmp_path: Path) -> None:
    one, two = (unicodedata.normalize(form, "Bäh-é") for form in ("NFC", "NFD"))
    assert one != two
    put(tmp_path, f"train/{one}/a.mp4", f"test/{two}/b.mp4")
    splits = Folder(tmp_path).splits
    assert splits["train"][0].label == splits["test"][0].label == one
    assert splits["test"][0].path.is_file()
    table = listed(tmp_path / "table", f"path,label\na.mp4,{one}\nb.mp4,{two}\n", "a.mp4", "b.mp4")
    assert {clip.label for clips in table.splits.values() for clip in clips} == {one}


def test_names_that_are_no_text(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system has no such names")
    (folder / os.fsdecode(b"\xff.mp4")).write_bytes(b"film")
    (clip,) = Folder(tmp_path).splits["train"]
    assert clip.label == "caf\\udce9"
    assert clip.id == "caf\\udce9/\\udcff.mp4"
    assert clip.path.is_file()
    clip.id.encode()


def test_names_from_all_over_the_world(tmp_path: Path) -> None:
    for label in ("鐘の音", "колокол", "🔔", "a b", "it's", "50%", "a\nb"):
        put(tmp_path, f"{label}/a.mp4", f"{label}/b.mp4")
    labels = {clip.label for clips in Folder(tmp_path).splits.values() for clip in clips}
    assert labels == {"鐘の音", "колокол", "🔔", "a b", "it's", "50%", "a\nb"}
