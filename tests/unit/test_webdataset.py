"""Clips in tars: what is a sample, what it is called, what is read of it; and tars that lie."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from harkback.datasets import open_dataset
from harkback.datasets.folder import Folder
from harkback.datasets.webdataset import WebDataset
from harkback.errors import HarkbackError
from harkback.places import Member
from stored import Ranged, packed, put


def opened(root: Path, **shards: bytes) -> WebDataset:
    """A dataset of these shards; ``train_0=...`` is ``train_0.tar``."""
    put(str(root), {f"{name}.tar": content for name, content in shards.items()})
    return WebDataset(root)


def clips(dataset: WebDataset) -> dict[str, str | None]:
    return {clip.id: clip.label for clips in dataset.splits.values() for clip in clips}


def skipped(dataset: WebDataset) -> dict[str, str]:
    assert dataset.splits
    return {skip.id: skip.reason for skip in dataset.skips}


#: A good sample, so that a dataset with nothing else but flaws can be opened.
GOOD = [("good.mp4", b"good"), ("good.cls", b"fine")]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_bytes_of_a_clip_are_those_of_the_member(tmp_path: Path, format: int) -> None:
    long = "a" * 60 + "/" + "b" * 90
    inside = [
        ("dog/01.mp4", bytes(range(250))),
        (f"{long}.mp4", b"xyz" * 1000),
        ("dog/empty.mp4", b""),
        ("dog/02.mp4", b"last"),
    ]
    dataset = opened(tmp_path, all=packed(inside, format))
    found = {clip.id: clip.path for split in dataset.splits.values() for clip in split}
    assert {name.partition("!")[2]: place.read() for name, place in found.items()} == dict(inside)
    for place in found.values():
        assert isinstance(place, Member) and place.size == len(dict(inside)[place.inside])
        assert place.name == f"{tmp_path / 'all.tar'}!{place.inside}"
        assert place.changed == (tmp_path / "all.tar").stat().st_mtime_ns
    assert dataset.skips == ()


@pytest.mark.parametrize(
    ("beside", "label"),
    [
        ([("s/k.cls", b" wren\n")], "wren"),
        ([("s/k.label", b"wren")], "wren"),
        ([("s/k.txt", "bähé".encode())], "bähé"),
        ([("s/k.txt", "\ufeffwren".encode())], "wren"),
        ([("s/k.json", b'{"label": "wren", "class": "no"}')], "wren"),
        ([("s/k.json", b'{"class": "wren"}')], "wren"),
        ([("s/k.json", b'{"label": 17}')], "17"),
        ([("s/k.cls", b"17")], "17"),
        ([("s/k.json", b'{"label": "wren"}'), ("s/k.txt", b"a bird sits on a branch")], "wren"),
        ([("s/k.json", b'{"label": "no"}'), ("s/k.cls", b"wren")], "wren"),
        ([("s/k.json", b'{"fps": 25}'), ("s/k.txt", b"wren")], "wren"),
        ([("s/k.json", b'{"label": ["a", "b"]}')], "s"),
        ([("s/k.json", b"[" * 100_000)], "s"),
        ([("s/k.json", b"not json")], "s"),
        ([("s/k.cls", b"\xff\xfe")], "s"),
        ([("s/k.cls", b"  ")], "s"),
        ([("s/other.cls", b"no")], "s"),
        ([("k.cls", b"no")], "s"),
        ([], "s"),
    ],
)  # fmt: skip
def test_where_the_label_stands(tmp_path: Path, beside: list[tuple[str, bytes]], label: str) -> None:
    for order in (1, -1):
        content = packed([("s/k.mp4", b"film"), *beside, *GOOD][::order])
        assert clips(opened(tmp_path / str(order), x=content))["x.tar!s/k.mp4"] == label


def test_a_clip_without_a_label_is_named(tmp_path: Path) -> None:
    dataset = opened(tmp_path, x=packed([("k.mp4", b"film"), ("./l.mp4", b"film"), ("../m.mp4", b"film"), *GOOD]))
    assert skipped(dataset).keys() == {"x.tar!k.mp4", "x.tar!./l.mp4", "x.tar!../m.mp4"}
    assert all("has no label" in reason for reason in skipped(dataset).values())


def test_a_sample_is_what_is_called_the_same_up_to_the_first_dot(tmp_path: Path) -> None:
    inside = [
        ("v.1/a.left.mp4", b"1"), ("v.1/b.mp4", b"2"), ("v.1/a.cls", b"one"), ("v.1/b.cls", b"two"),
        ("v.1/a.right.mp4", b"3"), ("c.jpg", b"4"), ("c.mp4", b"5"), ("c.npy", b"6"), ("c.cls", b"three"),
        ("d.jpg", b"7"), ("d.cls", b"still"), ("e.cls", b"none"), ("f.cls", b"none"), ("f.npy", b"8"),
    ]  # fmt: skip
    dataset = opened(tmp_path, x=packed(inside))
    assert clips(dataset) == {
        "x.tar!v.1/a.left.mp4": "one", "x.tar!v.1/b.mp4": "two", "x.tar!c.mp4": "three", "x.tar!d.jpg": "still",
    }  # fmt: skip
    assert skipped(dataset) == {
        "x.tar!v.1/a.right.mp4": "the clip of its sample is v.1/a.left.mp4",
        "x.tar!c.jpg": "the clip of its sample is c.mp4",
        "x.tar!e.cls": "its sample has no clip",
        "x.tar!f.cls": "its sample has no clip",
    }


def test_a_name_that_is_there_twice_and_hidden_ones(tmp_path: Path) -> None:
    inside = [
        ("dog/a.mp4", b"1"),
        ("dog/a.mp4", b"22"),
        ("dog/._a.mp4", b"x"),
        (".git/b.mp4", b"x"),
        ("./dog/c.mp4", b"3"),
    ]
    dataset = opened(tmp_path, x=packed(inside))
    assert clips(dataset) == {"x.tar!dog/a.mp4": "dog", "x.tar!./dog/c.mp4": "dog"}
    assert skipped(dataset) == {"x.tar!dog/a.mp4": "is in the tar twice"}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-000.tar", "train"), ("train.tar", "train"), ("train/000.tar", "train"), ("a/val/x.tar", "val"),
        ("validation-00001-of-2.tar", "val"), ("valid_3.tar", "val"), ("TEST-1.tar", "test"),
        ("data/test-0.tar", "test"), ("test/train-0.tar", "test"), ("trained-0.tar", None), ("x.tar", None),
        ("contest.tar", None), ("mytest.tar", None),
    ],
)  # fmt: skip
def test_the_split_stands_in_the_name(tmp_path: Path, name: str, split: str | None) -> None:
    put(str(tmp_path), {name: packed([(f"dog/{i}.mp4", b"film") for i in range(8)])})
    counts = {split: len(clips) for split, clips in WebDataset(tmp_path).splits.items()}
    assert counts == ({"train": 6, "test": 2} if split is None else {split: 8})
    assert len(WebDataset(tmp_path).lessons) == {None: 8, "train": 8}.get(split, 0)


def test_what_lies_among_the_shards_is_named_unless_it_is_a_note(tmp_path: Path) -> None:
    put(str(tmp_path), {"a.tar": packed(GOOD), "b.mp4": b"film", "README.md": b"", "a.idx": b"", "x/c.parquet": b""})
    reason = "lies among the shards and is no tar"
    assert skipped(WebDataset(tmp_path)) == {"b.mp4": reason, "x/c.parquet": reason}


def test_the_headers_alone_are_read(ranged: type[Ranged]) -> None:
    inside = [each for i in range(6) for each in ((f"{i}.mp4", bytes(3 << 20)), (f"{i}.cls", b"dog"))]
    ranged.files["b/x.tar"] = packed(inside)
    dataset = WebDataset("ranged://b")
    assert len(clips(dataset)) == 6
    asked = ranged.asked
    assert len(asked) <= 6 + 3  # one a sample, the beginning, the end
    assert sum(end - start for start, end in asked) < 9 * 20_000


# ---- tars that lie --------------------------------------------------------------------------------------------------


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE, raw_size: bytes | None = None) -> bytes:
    """A header on its own."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    block = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    if raw_size is not None:
        block[124:136] = raw_size
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize("size", [1 << 20, 1 << 40, 8**11 - 1])
def test_a_member_that_ends_behind_the_end(tmp_path: Path, size: int) -> None:
    content = packed(GOOD)[:2048] + header("dog/bomb.mp4", size) + b"few"
    dataset = opened(tmp_path, x=content)
    assert clips(dataset) == {"x.tar!good.mp4": "fine"}
    assert skipped(dataset)["x.tar!dog/bomb.mp4"] == f"the tar ends inside it: 3 of {size} bytes are there"
    assert "unexpected end of data" in skipped(dataset)["x.tar"]


@pytest.mark.parametrize(
    "tail",
    [
        header("x", 0, tarfile.XHDTYPE, b"\x80" + (1 << 40).to_bytes(11)),  # facts of 1 TB
        header("x", 0, tarfile.GNUTYPE_LONGNAME, b"\x80" + (1 << 40).to_bytes(11)),  # a name of 1 TB
        header("x", 0, tarfile.XHDTYPE, b"\xff" * 10 + b"\xfc\x00"),  # facts of -1024 bytes
        header("dog/x.mp4", 0, raw_size=b"\xff" * 10 + b"\xfa\x00"),  # a member of -1536 bytes
        header("x", 0, tarfile.GNUTYPE_LONGNAME) * 3000,  # headers of headers of headers
        b"\x07" * 512,  # no header
        header("dog/x.mp4", 0)[:300],  # half a header
    ],
    ids=["pax", "long", "negative-pax", "negative", "deep", "noise", "cut"],
)  # fmt: skip
def test_headers_that_lie_neither_hang_nor_eat_the_memory(tmp_path: Path, tail: bytes) -> None:
    dataset = opened(tmp_path, x=packed(GOOD)[:2048] + tail)
    assert clips(dataset) == {"x.tar!good.mp4": "fine"}
    assert "is no tar, or damaged" in skipped(dataset)["x.tar"]


def test_links_and_holes_are_no_clips(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in GOOD:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, kind in (
            ("dog/link.mp4", tarfile.SYMTYPE),
            ("dog/hard.mp4", tarfile.LNKTYPE),
            ("dog", tarfile.DIRTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    dataset = opened(tmp_path / "links", x=out.getvalue())
    assert skipped(dataset) == dict.fromkeys(
        ("x.tar!dog/link.mp4", "x.tar!dog/hard.mp4"), "is a link, or no plain file"
    )


def test_a_member_with_holes_is_no_clip(tmp_path: Path) -> None:
    """As GNU tar stores a file of 1 MiB of which 512 bytes in the middle are no zeros."""
    block = bytearray(header("dog/holes.mp4", 512, tarfile.GNUTYPE_SPARSE))
    block[386:410] = b"%011o\0%011o\0" % (1 << 19, 512)
    block[483:495] = b"%011o\0" % (1 << 20)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    dataset = opened(tmp_path, x=bytes(block) + b"x" * 512 + packed(GOOD))
    assert clips(dataset) == {"x.tar!good.mp4": "fine"}
    assert "stored with holes" in skipped(dataset)["x.tar!dog/holes.mp4"]


def test_a_broken_shard_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    dataset = opened(tmp_path, a=packed(GOOD), b=b"no tar at all", c=b"", d=bytes(10240))
    assert clips(dataset) == {"a.tar!good.mp4": "fine"}
    assert skipped(dataset).keys() >= {"b.tar", "c.tar"}


def test_nothing_but_broken_shards(tmp_path: Path) -> None:
    with pytest.raises(HarkbackError, match=r"no clips in it; a\.tar: is no tar, or damaged"):
        opened(tmp_path, a=b"no tar at all").splits  # noqa: B018


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tgz"])
def test_a_compressed_tar_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    put(str(tmp_path), {name: gzip.compress(packed(GOOD))})
    with pytest.raises(HarkbackError, match=f"{name}: is compressed with gzip, .*undo the compression") as caught:
        open_dataset(str(tmp_path)).splits  # noqa: B018
    assert "\n" not in str(caught.value)


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as tar:
        member = tarfile.TarInfo("caf\udce9/\udcff.mp4")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"film"))
    (clip,) = opened(tmp_path, x=out.getvalue()).splits["train"]
    assert (clip.id, clip.label) == ("x.tar!caf\\udce9/\\udcff.mp4", "caf\\udce9")
    assert not isinstance(clip.path, Path)
    assert clip.path.read() == b"film"
    clip.path.name.encode()


# ---- which dataset it is --------------------------------------------------------------------------------------------


def test_a_folder_of_tars_is_opened_as_such_and_a_stray_tar_is_not(tmp_path: Path) -> None:
    put(str(tmp_path / "shards"), {"train/a.tar": packed(GOOD), "README.md": b"", "logo.png": b""})
    put(str(tmp_path / "mixed"), {"dog/a.mp4": b"film", "cat/a.mp4": b"film", "old.tar": packed(GOOD)})
    put(str(tmp_path / "table"), {"a.tar": packed(GOOD), "clips.csv": b"path,label\na.tar,x\n"})
    assert isinstance(open_dataset(str(tmp_path / "shards")), WebDataset)
    assert isinstance(open_dataset(str(tmp_path / "mixed")), Folder)
    assert isinstance(open_dataset(str(tmp_path / "table")), Folder)
    assert clips(open_dataset(f"webdataset:{tmp_path / 'mixed'}")) == {"old.tar!good.mp4": "fine"}  # type: ignore[arg-type]
