"""The released features: found, told apart, converted and kept, and what is wrong with them said by name."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from avcil_release import AUDIO, VISUAL, features_of, some_of, write_arrays, write_release
from harkback.datasets import Benchmark, Encoded, _released, avcil_features, open_dataset
from harkback.datasets._avcil import bench, missing
from harkback.datasets._hdf5_arrays import Hdf5Arrays
from harkback.datasets.avcil_features import AvcilFeatures
from harkback.datasets.avcil_features_disjoint import AvcilFeaturesDisjoint
from harkback.errors import HarkbackError
from harkback.extract import Extraction
from harkback.features import TokenShape
from harkback.store import FeatureStore

NAMES = ["ave", "kinetics-sounds", "vggsound100"]


def opened(root: Path) -> AvcilFeatures:
    return AvcilFeatures(root, read_pickle=True)


def clips_of(dataset: AvcilFeatures) -> list[Any]:
    return [clip for clips in dataset.splits.values() for clip in clips]


def converted(dataset: AvcilFeatures, store: Path) -> Extraction:
    return dataset.convert(clips_of(dataset), store)


def rows(extraction: Extraction) -> Any:
    return extraction.features[torch.arange(len(extraction.features))]


def refusal(do: Callable[[], Any]) -> str:
    with pytest.raises(HarkbackError) as caught:
        do()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- what it is -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["npy", "h5"])
@pytest.mark.parametrize("name", NAMES)
def test_the_ids_tell_which_benchmark_it_is(tmp_path: Path, name: str, kind: Any) -> None:
    ids = write_release(tmp_path, name, 2, kind, classes=3)
    dataset = open_dataset(f"avcil-features:{tmp_path}", read_pickle=True)
    assert dataset.name == f"avcil-features-{name}"
    assert isinstance(dataset, Benchmark) and isinstance(dataset, Encoded)
    assert dataset.protocol == bench(name).protocol
    for split, clips in dataset.splits.items():
        assert len(clips) == 6
        assert all(clip.label == bench(name).splits[split][clip.id] for clip in clips)
    assert sorted(clip.id for clips in dataset.splits.values() for clip in clips) == sorted(ids)


def test_the_features_are_those_released_in_half_precision(tmp_path: Path) -> None:
    write_release(tmp_path, "ave", 2, "npy", shape=(2, 8, 10), audio_dim=12, classes=3, seed=4)
    dataset = opened(tmp_path)
    assert dataset.spec.shape == TokenShape(audio_tokens=1, audio_dim=12, frames=2, patches=8, visual_dim=10)
    extraction = converted(dataset, tmp_path / "store")
    labels = some_of("ave", 2, 3)
    features = rows(extraction)
    assert features.ids == tuple(clip.id for clip in extraction.clips) == extraction.keys
    assert features.heard.all() and features.seen.all() and not extraction.skips
    for clip, audio, visual in zip(features.ids, features.audio, features.visual, strict=True):
        sound, picture = features_of(clip, labels[clip], seed=4)
        assert np.array_equal(audio.numpy(), sound.astype("f2")[None])
        assert np.array_equal(visual.numpy(), picture.astype("f2"))


@pytest.mark.parametrize(
    ("shape", "tokens"),
    [
        ((8, 196, 6), (8, 196)),
        ((8, 14, 14, 6), (8, 196)),
        ((1568, 6), (8, 196)),
        ((16, 5), (8, 2)),
        ((4, 3, 2), (4, 3)),
    ],
)
def test_shapes_of_the_pictures(tmp_path: Path, shape: tuple[int, ...], tokens: tuple[int, int]) -> None:
    write_release(tmp_path, "ave", 1, "npy", shape=shape, classes=2)
    dataset = opened(tmp_path)
    assert dataset.spec.shape[2:] == (*tokens, shape[-1])
    (clip, *_) = dataset.splits["train"]
    _, picture = features_of(clip.id, str(clip.label), shape)
    flat = picture.reshape(-1, shape[-1]).astype("f2")
    visual = rows(dataset.convert([clip], tmp_path / "store")).visual[0]
    assert np.array_equal(visual[1, 0].numpy(), flat[tokens[1]])  # The second frame begins after the first's patches.
    assert np.array_equal(visual.flatten(0, 1).numpy(), flat)


def test_the_release_says_what_made_it(tmp_path: Path) -> None:
    write_release(tmp_path, "ave", 1, classes=2)
    spec = opened(tmp_path).spec
    assert (spec.name, spec.licence, spec.sample_rate) == ("avcil-released", "CC-BY-NC-4.0", 11_430)
    assert spec.frames == 4  # Two pictures an instant.
    assert "VideoMAE" in spec.preprocessing["visual"] and "AudioMAE" in spec.preprocessing["audio"]
    FeatureStore.open(tmp_path / "store", spec)  # Its facts can be written.


def test_both_formats_are_one_release_wherever_it_lies(tmp_path: Path) -> None:
    write_release(tmp_path / "npy", "ave", 2, "npy", classes=3)
    write_release(tmp_path / "h5" / "deep", "ave", 2, "h5", classes=3)
    one, other = opened(tmp_path / "npy"), opened(tmp_path / "h5")
    assert one.spec == other.spec
    converted(one, tmp_path / "store")
    moved = (tmp_path / "h5").rename(tmp_path / "elsewhere")
    again = converted(opened(moved), tmp_path / "store")
    assert again.encoded == 0 and len(again.clips) == 18


@pytest.mark.parametrize("kind", ["audio", "visual"])
def test_other_content_is_another_release(tmp_path: Path, kind: str) -> None:
    write_release(tmp_path, "ave", 2, classes=2)
    before = opened(tmp_path).spec
    path = tmp_path / (AUDIO if kind == "audio" else VISUAL["npy"])
    arrays = np.load(path, allow_pickle=True).item()
    first = sorted(arrays)[0]
    arrays[first] = arrays[first] + np.float32(1e-3)
    write_arrays(path, arrays)
    after = opened(tmp_path).spec
    assert before.revision != after.revision and before.shape == after.shape
    FeatureStore.open(tmp_path / "store", before)
    assert "revision" in refusal(lambda: converted(opened(tmp_path), tmp_path / "store"))


def test_every_voice_counts_for_the_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_released, "PROBES", 2)
    ids = sorted(write_release(tmp_path, "ave", 4, classes=3))
    before = opened(tmp_path).spec.revision
    for path, middle in ((AUDIO, True), (VISUAL["npy"], False)):
        arrays = np.load(tmp_path / path, allow_pickle=True).item()
        arrays[ids[7]] *= 2
        write_arrays(tmp_path / path, arrays)
        assert (opened(tmp_path).spec.revision != before) is middle
        before = opened(tmp_path).spec.revision


# ---- what is missing ------------------------------------------------------------------------------------------------


def test_clips_without_features_are_skipped_by_name(tmp_path: Path) -> None:
    ids = write_release(tmp_path, "ave", 3, classes=2)
    for path, gone in ((AUDIO, ids[:2]), (VISUAL["npy"], ids[1:4])):
        arrays = np.load(tmp_path / path, allow_pickle=True).item()
        write_arrays(tmp_path / path, {clip: array for clip, array in arrays.items() if clip not in gone})
    dataset = opened(tmp_path)
    reasons = {skip.id: skip.reason for skip in dataset.skips}
    assert reasons[ids[0]] == "has no audio features in the folder"
    assert reasons[ids[1]] == "has no audio and no visual features in the folder"
    assert reasons[ids[2]] == reasons[ids[3]] == "has no visual features in the folder"
    found = {clip.id for clip in clips_of(dataset)}
    assert found == set(ids[4:])
    assert len(found) + len(reasons) == 4079 and not found & reasons.keys()
    assert sum(share.found for of in missing(dataset).values() for share in of.values()) == len(found)


BAD = {
    "nan": lambda x: np.where(np.arange(x.size).reshape(x.shape) == 5, np.nan, x),
    "infinite": lambda x: np.where(np.arange(x.size).reshape(x.shape) == 5, -np.inf, x),
    "large": lambda x: np.where(np.arange(x.size).reshape(x.shape) == 5, 65_520, x),
    "just fits": lambda x: np.where(np.arange(x.size).reshape(x.shape) == 5, 65_519, x),
    "double": lambda x: x.astype("f8") + 1e-9,
    "beyond single": lambda x: x.astype("f8") * 1e60,
    "half": lambda x: x.astype("f2"),
    "other end": lambda x: x.astype(">f4"),
    "whole": lambda x: x.astype("i4"),
    "wide": lambda x: np.concatenate([x, x], -1),
    "deep": lambda x: x[None, None],
    "none": lambda x: x[:0],
}
SAYS = {
    "nan": "has features that are not numbers",
    "infinite": "has features that are not numbers",
    "large": "has features beyond half precision (65504)",
    "just fits": "",
    "double": "",
    "beyond single": "has features beyond half precision (65504)",
    "half": "",
    "other end": "",
    "whole": "has features of a shape or kind that is not known: int32",
    "wide": "has features of another shape: ",
    "deep": "has features of ",
    "none": "has features of a shape or kind that is not known: float32 (0",
}


@pytest.mark.parametrize("which", ["audio", "visual"])
@pytest.mark.parametrize("kind", ["npy", "h5"])
@pytest.mark.parametrize("case", BAD)
def test_features_that_cannot_be_kept_are_named(tmp_path: Path, kind: Any, case: str, which: str) -> None:
    ids = write_release(tmp_path, "ave", 2, kind, classes=2)
    path = tmp_path / (AUDIO if which == "audio" else VISUAL[kind])
    both = {clip: features_of(clip, label) for clip, label in some_of("ave", 2, 2).items()}
    arrays: dict[str, Any] = {clip: of[0 if which == "audio" else 1] for clip, of in both.items()}
    arrays[ids[5]] = BAD[case](arrays[ids[5]])
    write_arrays(path, arrays)
    dataset = opened(tmp_path)
    first = converted(dataset, tmp_path / "store")
    assert first.encoded == len(ids)
    if SAYS[case] == "":
        assert not first.skips and len(first.clips) == len(ids)
        row = rows(first)[torch.tensor([list(first.keys).index(ids[5])])]
        kept = (row.audio if which == "audio" else row.visual).numpy().reshape(arrays[ids[5]].shape)
        assert np.array_equal(kept, arrays[ids[5]].astype("f4").astype("f2"))
        return
    (skip,) = first.skips
    assert skip.id == ids[5] and skip.reason.startswith(SAYS[case])
    assert [clip.id for clip in first.clips] == [clip.id for clip in clips_of(dataset) if clip.id != ids[5]]
    again = converted(opened(tmp_path), tmp_path / "store")
    assert again.encoded == 0 and again.skips == first.skips  # It lies in the clip, and is not tried again.


@pytest.mark.parametrize("kind", [np.longdouble, "c8", "i8", "?"])
def test_numbers_of_other_kinds_are_refused(kind: Any) -> None:
    with pytest.raises(_released.Unfit, match="of a shape or kind that is not known"):
        _released.sound_tokens(np.zeros(3, kind))
    for shape in ((), (3,), (7, 3), (1, 2, 3, 4, 5)):
        with pytest.raises(_released.Unfit, match="of a shape or kind that is not known"):
            _released.picture_tokens(np.zeros(shape, "f4"))


def test_the_first_clip_need_not_be_a_good_one(tmp_path: Path) -> None:
    ids = write_release(tmp_path, "ave", 2, classes=2)
    arrays = np.load(tmp_path / AUDIO, allow_pickle=True).item()
    write_arrays(tmp_path / AUDIO, arrays | {ids[0]: np.full(7, np.nan, "f4")})
    assert opened(tmp_path).spec.shape.audio_dim == 12
    write_arrays(tmp_path / AUDIO, {clip: np.full(7, np.nan, "f4") for clip in ids})
    line = refusal(lambda: opened(tmp_path).spec)
    assert "holds no features that can be used: " in line and "that are not numbers" in line


# ---- stopping and going on ------------------------------------------------------------------------------------------


def test_stopped_by_ctrl_c_it_keeps_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_release(tmp_path, "ave", 3, classes=4)
    dataset = opened(tmp_path)
    whole = rows(converted(dataset, tmp_path / "whole"))
    monkeypatch.setattr(avcil_features, "SHARD", 5)
    calls = iter(range(100))
    take = avcil_features.picture_tokens

    def stop(array: Any) -> Any:
        if next(calls) == 13:
            raise KeyboardInterrupt
        return take(array)

    monkeypatch.setattr(avcil_features, "picture_tokens", stop)
    with pytest.raises(KeyboardInterrupt):
        converted(dataset, tmp_path / "store")
    assert len(FeatureStore.open(tmp_path / "store", dataset.spec).places) == 13
    after = converted(opened(tmp_path), tmp_path / "store")
    assert after.encoded == 36 - 13
    found = rows(after)
    assert found.ids == whole.ids
    assert torch.equal(found.audio, whole.audio) and torch.equal(found.visual, whole.visual)


SLOW = """
import sys, time
from pathlib import Path
from harkback.datasets import avcil_features
take = avcil_features.picture_tokens
def slowly(array):
    time.sleep(0.05)
    return take(array)
avcil_features.picture_tokens, avcil_features.SHARD = slowly, 4
root = Path(sys.argv[1])
dataset = avcil_features.AvcilFeatures(root, read_pickle=True)
dataset.convert([clip for clips in dataset.splits.values() for clip in clips], root / "store")
"""


def test_killed_it_keeps_all_full_shards(tmp_path: Path) -> None:
    write_release(tmp_path, "ave", 3, classes=6)
    with subprocess.Popen([sys.executable, "-c", SLOW, str(tmp_path)], stderr=subprocess.DEVNULL) as process:
        for _ in range(600):
            time.sleep(0.05)
            if len(list((tmp_path / "store").glob("0*.json"))) >= 2:
                break
        process.kill()
    dataset = opened(tmp_path)
    kept = len(FeatureStore.open(tmp_path / "store", dataset.spec).places)
    assert 8 <= kept < 54 and kept % 4 == 0
    after = converted(dataset, tmp_path / "store")
    assert after.encoded == 54 - kept and len(after.clips) == 54


def test_only_the_clips_that_are_asked_for(tmp_path: Path) -> None:
    write_release(tmp_path, "ave", 2, classes=2)
    dataset = opened(tmp_path)
    train = dataset.convert(dataset.splits["train"], tmp_path / "store")
    assert train.encoded == len(train.clips) == 4
    both = dataset.convert([*dataset.splits["test"], *dataset.splits["train"]], tmp_path / "store")
    assert both.encoded == 4 and len(both.clips) == 8
    assert both.features.ids[4:] == train.features.ids
    assert dataset.convert([], tmp_path / "store").clips == ()


def test_memory_is_that_of_a_shard_not_of_the_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(avcil_features, "ROOM", 2**21)
    for kind in ("npy", "h5"):
        ids = write_release(tmp_path / kind, "ave", 6, kind, shape=(8, 32, 64), classes=8, noise=1)  # type: ignore[arg-type]
        size = (tmp_path / kind / VISUAL[kind]).stat().st_size
        dataset = opened(tmp_path / kind)
        assert dataset.spec
        tracemalloc.start()
        assert len(converted(dataset, tmp_path / kind / "store").clips) == len(ids)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < size / 4  # NumPy's arrays are counted; torch's are those of one shard, made once.
    shards = list((tmp_path / "h5" / "store").glob("0*.safetensors"))
    assert len(shards) > 2 and all(path.stat().st_size < 2.1e6 for path in shards)


# ---- finding the files ----------------------------------------------------------------------------------------------


def put(root: Path, *names: str) -> Path:
    for name in names:
        write_arrays(root / name, {"clip": np.zeros(2, "f4")})
    return root


@pytest.mark.parametrize(
    ("audio", "visual"),
    [
        ("audio.npy", "visual.npy"),
        ("audio_pretrained_feature/dict.npy", "visual_pretrained_feature/visual_features.h5"),
        ("x/Audio/features.NPY", "x/VISUAL/features.hdf5"),
        ("AVE_video/audio_features.npy", "AVE_video/frames.h5"),
        ("audio-visual/audio/x.npy", "audio-visual/visual/x.npy"),
        ("audio_pretrained_feature_dict.npy", "video_pretrained_feature_dict.npy"),
    ],
)
def test_files_are_found_by_what_their_names_say(tmp_path: Path, audio: str, visual: str) -> None:
    for name in (audio, visual):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "all_id_category_dict.npy").touch()
    (tmp_path / "audio.txt").touch()
    assert _released.find(tmp_path) == {"audio": tmp_path / audio, "visual": tmp_path / visual}


def test_files_that_are_not_there_or_too_many(tmp_path: Path) -> None:
    mend = "give the folder of one benchmark's features: a .npy of audio and a .npy or .h5 of pictures, named so"
    line = refusal(lambda: opened(tmp_path))
    assert line == f"{tmp_path}: holds 0 files of audio features; found no .npy or .h5 file at all; {mend}"
    put(tmp_path, "audio.npy", "category_encode_dict.npy")
    assert "holds 0 files of visual features; found audio.npy, category_encode_dict.npy; " in refusal(
        lambda: opened(tmp_path)
    )
    put(tmp_path, "AVE/visual.npy", "KS/visual.h5")
    assert "holds 2 files of visual features: AVE/visual.npy, KS/visual.h5; " in refusal(lambda: opened(tmp_path))
    assert "no such folder" in refusal(lambda: opened(tmp_path / "none"))
    assert "is not a folder" in refusal(lambda: opened(tmp_path / "audio.npy"))


def test_ids_of_no_benchmark(tmp_path: Path) -> None:
    put(tmp_path, "audio.npy", "visual.h5")
    line = refusal(lambda: opened(tmp_path).splits)
    assert 'its 1 ids, such as "clip", are of none of the benchmarks ave, kinetics-sounds, vggsound100' in line


def test_two_files_of_different_clips(tmp_path: Path) -> None:
    write_release(tmp_path, "ave", 1, "npy", classes=2)
    arrays = np.load(tmp_path / AUDIO, allow_pickle=True).item()
    write_arrays(tmp_path / AUDIO, {f"{clip}.wav": array for clip, array in arrays.items()})
    line = refusal(lambda: opened(tmp_path).name)
    assert "no clip has features of sound and picture: sound has ids like " in line and '.wav"' in line


# ---- pickles --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["npy", "h5"])
def test_pickles_are_read_only_if_asked_for(tmp_path: Path, kind: Any) -> None:
    write_release(tmp_path, "ave", 1, kind, classes=2)
    for do in (lambda: AvcilFeatures(tmp_path), lambda: open_dataset(f"avcil-features:{tmp_path}")):
        line = refusal(do)
        assert line.startswith(str(tmp_path / AUDIO))
        assert "can be made to run any program" in line and line.endswith("add --read-pickle")


def test_a_pickle_that_does_something_else_is_named(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'was-here'}",)

    write_release(tmp_path, "ave", 1, classes=2)
    np.save(tmp_path / AUDIO, {"x": Evil()}, allow_pickle=True)  # type: ignore[arg-type]
    line = refusal(lambda: opened(tmp_path).splits)
    assert ".system, which no array needs; nothing of it was run" in line
    assert not (tmp_path / "was-here").exists()


# ---- HDF5 -----------------------------------------------------------------------------------------------------------


def secret(tmp_path: Path) -> Path:
    """A file of the user's that nothing downloaded has any business with."""
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["x"] = np.ones((2, 8, 10), "f4")
    np.ones(160, "f4").tofile(tmp_path / "secret.raw")
    return tmp_path / "secret.h5"


def test_an_hdf5_file_leads_to_no_other(tmp_path: Path) -> None:
    other = secret(tmp_path)
    layout = h5py.VirtualLayout((2, 8, 10), "f4")
    layout[:] = h5py.VirtualSource(str(other), "x", (2, 8, 10))
    with h5py.File(tmp_path / "visual.h5", "w") as file:
        file["link"] = h5py.ExternalLink(str(other), "x")
        file["soft"] = h5py.SoftLink("/link")
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("raw", (160,), "f4", external=[(str(tmp_path / "secret.raw"), 0, 640)])
        file.create_group("group")["x"] = [1.0]
        file["text"] = "some text"
        file["refs"] = np.array([file.ref], dtype=h5py.ref_dtype)
        file.create_dataset("huge", (2**20, 2**20), "f4", chunks=(1024, 1024))
        file.create_dataset("endless", (2**33, 2**33), "f4", chunks=(1, 1))
        file.create_dataset("chunky", (4,), "f4", chunks=(2**27,), maxshape=(None,))
        file.create_dataset("unwritten", (3, 4), "f4")
        file["good"] = np.arange(3, dtype="f4")
        file["same"] = file["good"]  # A second name in the same file is as good as the first.
    arrays = Hdf5Arrays(tmp_path / "visual.h5")
    assert {"link", "virtual", "good"} < arrays.ids
    with arrays.opened() as read:
        assert read("good").tolist() == read("same").tolist() == [0, 1, 2]
        for name, says in {
            "link": "is a link, which may lead out of the file",
            "soft": "is a link, which may lead out of the file",
            "virtual": "keeps its numbers in another file",
            "raw": "keeps its numbers in another file",
            "group": "is no array of numbers",
            "text": "is no array of numbers",
            "refs": "is no array of numbers",
            "huge": f"holds {2**42} bytes, which no clip has",
            "endless": f"holds {2**68} bytes, which no clip has",
            "chunky": f"holds {2**29} bytes, which no clip has",
        }.items():
            assert refusal(lambda name=name: read(name)).startswith(f"{tmp_path / 'visual.h5'}, {name}: {says}")
        with pytest.raises(OSError, match="was never written"):
            read("unwritten")


def test_a_link_stops_the_conversion(tmp_path: Path) -> None:
    ids = write_release(tmp_path, "ave", 1, "h5", classes=2)
    other = secret(tmp_path / "audio_pretrained_feature")
    other = other.rename(tmp_path / "secret.bin")
    with h5py.File(tmp_path / VISUAL["h5"], "r+") as file:
        del file[ids[3]]
        file[ids[3]] = h5py.ExternalLink(str(other), "x")
    assert "is a link, which may lead out of the file" in refusal(
        lambda: converted(opened(tmp_path), tmp_path / "store")
    )


def test_one_that_was_never_written_is_tried_again(tmp_path: Path) -> None:
    ids = write_release(tmp_path, "ave", 2, "h5", classes=2)
    label = some_of("ave", 2, 2)[ids[3]]
    with h5py.File(tmp_path / VISUAL["h5"], "r+") as file:
        del file[ids[3]]
        file.create_dataset(ids[3], (2, 8, 10), "f4")
    dataset = opened(tmp_path)
    spec = dataset.spec
    (skip,) = converted(dataset, tmp_path / "store").skips
    assert (skip.id, skip.reason) == (ids[3], "cannot be read: was never written")
    with h5py.File(tmp_path / VISUAL["h5"], "r+") as file:
        file[ids[3]][...] = features_of(ids[3], label)[1]
    mended = opened(tmp_path)
    mended.spec = spec  # As though it were not among the probes.
    again = converted(mended, tmp_path / "store")
    assert again.encoded == 1 and not again.skips


def test_what_is_no_hdf5(tmp_path: Path) -> None:
    write_release(tmp_path, "ave", 1, "h5", classes=2)
    path = tmp_path / VISUAL["h5"]
    whole = path.read_bytes()
    for damaged in (b"", b"no HDF5 at all" * 100, whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        assert f"{path}: cannot be opened as HDF5: " in refusal(lambda: opened(tmp_path).splits)


@pytest.mark.parametrize("seed", range(12))
def test_hdf5_with_holes_is_features_or_one_line(tmp_path: Path, seed: int) -> None:
    write_release(tmp_path, "ave", 1, "h5", classes=2)
    path = tmp_path / VISUAL["h5"]
    text = bytearray(path.read_bytes())
    some = np.random.default_rng(seed)
    for at in some.integers(0, len(text), 40):
        text[at] = some.integers(0, 256)
    path.write_bytes(text)
    try:
        dataset = opened(tmp_path)
        done = converted(dataset, tmp_path / "store")
        assert len(done.clips) + len(done.skips) == len(clips_of(dataset))
    except HarkbackError as error:
        assert "\n" not in str(error)


def test_without_h5py_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_release(tmp_path, "ave", 1, "h5", classes=2)
    monkeypatch.setitem(sys.modules, "h5py", None)
    line = refusal(lambda: opened(tmp_path))
    assert line == f'{tmp_path / VISUAL["h5"]}: needs h5py to be read; pip install "harkback[avcil]"'


def test_h5py_is_not_loaded_before_it_is_needed() -> None:
    code = "import sys, harkback.datasets.avcil_features; sys.exit('h5py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# ---- the disjoint test ----------------------------------------------------------------------------------------------


def test_the_disjoint_test_shares_no_video_with_the_training_and_a_store_with_the_whole(tmp_path: Path) -> None:
    write_release(tmp_path / "vgg", "vggsound100", 40, classes=2)
    whole = open_dataset(f"avcil-features:{tmp_path / 'vgg'}", read_pickle=True)
    part = open_dataset(f"avcil-features-disjoint:{tmp_path / 'vgg'}", read_pickle=True)
    assert part.name == "avcil-features-vggsound100-disjoint"
    trained = {clip[:11] for clip in bench("vggsound100").splits["train"]}  # Of all that are listed.
    asked = whole.splits["test"]
    expected = tuple(clip for clip in asked if clip.id[:11] not in trained)
    assert part.splits == {**whole.splits, "test": expected}
    assert 0 < len(expected) < len(asked)
    assert isinstance(part, AvcilFeaturesDisjoint)
    listed = [len(of) for of in bench("vggsound100-disjoint").splits.values()]
    there = [len(part.splits[split]) for split in ("train", "val", "test")]
    counts = [f"{n} of {all_} clips of {s}" for n, all_, s in zip(there, listed, ("train", "val", "test"), strict=True)]
    assert part.shortfall.startswith(", ".join(counts))
    assert isinstance(whole, Encoded)
    assert isinstance(part, Encoded)
    assert whole.spec == part.spec
    whole.convert(asked, tmp_path / "store")
    assert part.convert(expected, tmp_path / "store").encoded == 0


def test_there_is_no_disjoint_test_where_no_video_is_in_two_splits(tmp_path: Path) -> None:
    write_release(tmp_path / "ave", "ave", 1, classes=2)
    with pytest.raises(HarkbackError, match="use avcil-features"):
        open_dataset(f"avcil-features-disjoint:{tmp_path / 'ave'}", read_pickle=True)
