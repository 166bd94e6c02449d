"""The lists that come with the package: against what is known of them, and against the published ones if at hand."""

from __future__ import annotations

import csv
import itertools
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harkback.clips import Clip
from harkback.datasets import _avcil
from harkback.datasets._avcil import BENCHES, Bench, Row, Share, bench, disjoint, missing, pack, told, unpack

PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "avcil-splits"
LISTS = Path(_avcil.__file__).parent / "_lists"

#: Counted from the published lists on their own, without this package.
FACTS = {
    "ave": ((3294, 391, 394), (48, 152), (6, 18), (7,) * 4, 340),
    "kinetics-sounds": ((19_220, 1947, 1958), (272, 919), None, (6,) * 5, 500),
    "vggsound100": ((51_195, 5000, 5000), (97, 950), (50, 50), (10,) * 10, 1500),
}


@pytest.fixture(params=BENCHES)
def whole(request: pytest.FixtureRequest) -> Bench:
    return bench(request.param)


def test_splits_classes_sessions_and_memory(whole: Bench) -> None:
    counts, trained, asked, sessions, memory = FACTS[whole.name]
    assert tuple(len(clips) for clips in whole.splits.values()) == counts
    assert list(whole.splits) == ["train", "val", "test"]
    train = Counter(whole.splits["train"].values()).values()
    test = Counter(whole.splits["test"].values()).values()
    assert (min(train), max(train)) == trained
    assert asked is None or (min(test), max(test)) == asked
    assert whole.protocol.name == "avcil-2023"
    assert whole.protocol.sessions == sessions and whole.protocol.memory == memory
    assert len(set(whole.protocol.order)) == len(whole.protocol.order) == sum(sessions)
    for clips in whole.splits.values():
        assert set(clips.values()) == set(whole.protocol.order)


def test_ids_are_those_of_videos_and_stand_in_one_split(whole: Bench) -> None:
    ids = [clip for clips in whole.splits.values() for clip in clips]
    start = r"_\d{6}" if whole.name == "vggsound100" else ""
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(rf"[\w-]{{11}}{start}", clip, re.ASCII) for clip in ids)


def test_clips_stand_by_class_in_order_and_then_by_id(whole: Bench) -> None:
    place = {label: i for i, label in enumerate(whole.protocol.order)}
    for clips in whole.splits.values():
        assert list(clips) == sorted(clips, key=lambda clip: (place[clips[clip]], clip))


def test_the_test_clips_of_each_session() -> None:
    def asked(name: str) -> list[int]:
        whole = bench(name)
        counts = Counter(whole.splits["test"].values())
        order = iter(whole.protocol.order)
        return [sum(counts[label] for label in itertools.islice(order, size)) for size in whole.protocol.sessions]

    assert asked("ave") == [104, 106, 105, 79]
    assert min(asked("kinetics-sounds")) == 372 and max(asked("kinetics-sounds")) == 413
    assert asked("vggsound100") == [500] * 10


def test_the_order_of_the_classes() -> None:
    ave, sounds, vgg = (bench(name).protocol.order for name in BENCHES)
    assert ave[:3] == ("Acoustic guitar", "Cat", "Fixed-wing aircraft, airplane")
    assert ave[7] == "Bus" and ave[14] == "Violin, fiddle" and ave[-2:] == ("Shofar", "Goat")
    assert sounds[:3] == ("playing drums", "bowling", "shoveling snow") and sounds[5] == "chopping wood"
    assert vgg[:4] == ("playing theremin", "donkey, ass braying", "playing electronic organ", "zebra braying")


def test_how_much_of_vggsounds_test_is_in_its_training() -> None:
    whole = bench("vggsound100")
    train: dict[str, list[tuple[str, int]]] = {}
    for clip, label in whole.splits["train"].items():
        train.setdefault(clip[:11], []).append((label, int(clip[12:])))
    leaks = {clip: train[clip[:11]] for clip in whole.splits["test"] if clip[:11] in train}
    apart = {clip: min(abs(int(clip[12:]) - start) for _, start in pieces) for clip, pieces in leaks.items()}
    assert len(leaks) == 1627
    assert sum(any(of == whole.splits["test"][clip] for of, _ in leaks[clip]) for clip in leaks) == 1625
    assert sum(seconds <= 30 for seconds in apart.values()) == 730
    assert sum(seconds < 10 for seconds in apart.values()) == 14
    own = bench("vggsound100-disjoint")
    assert own.splits["test"].keys() == whole.splits["test"].keys() - leaks.keys()
    assert len(own.splits["test"]) == 3373
    assert own.splits["train"] == whole.splits["train"] and own.splits["val"] == whole.splits["val"]
    assert own.protocol == whole.protocol and own.name == "vggsound100-disjoint"


@pytest.mark.parametrize("name", ["ave", "kinetics-sounds"])
def test_the_others_share_no_video(name: str) -> None:
    assert disjoint(bench(name), "same").splits == bench(name).splits


def test_the_lists_are_small() -> None:
    assert sum(path.stat().st_size for path in LISTS.iterdir()) < 700_000
    assert sorted(path.stem for path in LISTS.iterdir()) == sorted(BENCHES)


def test_they_are_the_published_lists_and_made_by_pack(whole: Bench) -> None:
    table = PUBLISHED / f"{whole.name}.csv"
    if not table.exists():
        pytest.skip(f"NOT CHECKED: the lists against {table}, which is not here")
    with table.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    order = [label for _, label in sorted({(int(line["class_index"]), line["label"]) for line in lines})]
    rows = [Row(line["id"], line["label"], line["split"]) for line in lines]
    assert {Row(clip, label, split) for split, of in whole.splits.items() for clip, label in of.items()} == set(rows)
    assert list(whole.protocol.order) == order
    assert unpack(whole.name, pack(rows, order, whole.protocol.sessions, whole.protocol.memory)) == whole


VIDEOS = st.text("abXY09-_", min_size=10, max_size=10).map(lambda text: text + "A")
LABELS = ["dog", "chat à poil", "never"]


@given(
    st.dictionaries(
        st.tuples(VIDEOS, st.integers(0, 65_535)),
        st.tuples(st.sampled_from(LABELS[:2]), st.sampled_from(["train", "val", "test"])),
        min_size=1,
    ),
    st.booleans(),
)
def test_what_is_packed_is_unpacked(clips: dict[tuple[str, int], tuple[str, str]], timed: bool) -> None:
    rows = {f"{video}_{start:06d}" if timed else video: of for (video, start), of in clips.items()}
    packed = pack([Row(clip, *of) for clip, of in rows.items()], LABELS, (2, 1), 7)
    found = unpack("mine", packed)
    assert {clip: (label, split) for split, of in found.splits.items() for clip, label in of.items()} == rows
    assert found.protocol.order == tuple(LABELS) and found.protocol.sessions == (2, 1) and found.protocol.memory == 7


@pytest.mark.parametrize("clip", ["short", "aaaaaaaaaaB", "aaaaaaaaaaA_12", "aaaaaaaaaaA_000012_000022", "aaaaaaaaaa+"])
def test_what_could_not_be_unpacked_is_not_packed(clip: str) -> None:
    with pytest.raises(ValueError):
        pack([Row(clip, "dog", "train")], ["dog"], (1,), 1)


def test_ids_with_and_without_a_second_do_not_mix() -> None:
    rows = [Row("aaaaaaaaaaA", "dog", "train"), Row("bbbbbbbbbbA_000001", "dog", "train")]
    for some in (rows, rows[::-1]):
        with pytest.raises(ValueError):
            pack(some, ["dog"], (1,), 1)


class Some:
    """A dataset that has these clips of AVE."""

    def __init__(self, **splits: list[str]) -> None:
        self.bench = bench("ave")
        self.splits = {
            split: tuple(Clip(clip, Path("x"), self.bench.splits[split][clip]) for clip in clips)
            for split, clips in splits.items()
        }


def test_missing_counts_by_split_and_class() -> None:
    whole = bench("ave")
    goats = [clip for clip, label in whole.splits["test"].items() if label == "Goat"]
    table = missing(Some(train=list(whole.splits["train"])[:5], test=goats[:2]))
    assert table["train"]["Acoustic guitar"].found == 5
    assert table["test"]["Goat"] == Share(len(goats), 2)
    assert sum(share.found for of in table.values() for share in of.values()) == 7
    assert sum(share.listed for share in table["val"].values()) == 391
    assert all(list(of) == list(whole.protocol.order) for of in table.values())


def test_it_is_told_in_half_a_sentence() -> None:
    whole = bench("ave")
    assert told(whole) == "0 of 3294 clips of train, 0 of 391 clips of val, 0 of 394 clips of test"
    most = [clip for of in whole.splits.values() for clip, label in of.items() if label not in ("Cat", "Bus")]
    assert told(whole, most).endswith("; nothing of the classes Cat, Bus")
    few = [clip for clip, label in whole.splits["train"].items() if label in ("Cat", "Bus", "Goat")]
    assert told(whole, few).endswith(
        "; nothing of the classes Acoustic guitar, Fixed-wing aircraft, airplane, Frying (food) and 22 more"
    )
