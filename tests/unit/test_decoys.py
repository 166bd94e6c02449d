"""Decoys: what a clip's tokens are made of is found in them again, and the set is as hard as it says."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harkback.clips import Clip
from harkback.datasets import Benchmark, Encoded, decoys, open_dataset
from harkback.datasets.decoys import Decoys
from harkback.errors import HarkbackError
from harkback.features import TokenShape
from harkback.harness import BenchSettings, bench
from harkback.store import FeatureStore

NOWHERE = Path("there/is/no/such/folder")
SMALL: dict[str, int] = {"classes": 4, "train": 3, "val": 1, "test": 2, "frames": 2, "patches": 8, "dim": 32}


def small(**changes: int) -> Decoys:
    return Decoys(NOWHERE, **{**SMALL, **changes})


def clips_of(dataset: Decoys) -> list[Clip]:
    return [clip for clips in dataset.splits.values() for clip in clips]


def numbers(dataset: Decoys, clip: Clip) -> tuple[Any, Any]:
    """A clip's tokens in double precision: (dim,) and (frames, patches, dim)."""
    audio, visual = dataset.tokens(clip)
    return audio[0].double().numpy(), visual.double().numpy()


def mixed(key: Any, rows: Any) -> list[float]:
    """``key @ rows``, number by number."""
    return [sum(float(key[i]) * float(rows[i][d]) for i in range(len(key))) for d in range(len(rows[0]))]


def key_in(token: Any, rows: Any) -> Any:
    """The key that was mixed into a token from which all else but noise was taken: least squares."""
    return np.linalg.lstsq(rows.T.astype(float), token, rcond=None)[0]


@pytest.fixture(scope="module")
def wide() -> Decoys:
    return Decoys(NOWHERE, classes=28, train=6, val=0, test=1, frames=6, patches=16, dim=192, seed=3)


def test_told_by_the_sound_no_decoy_sounds_like_the_target() -> None:
    plain = Decoys(NOWHERE, classes=28, train=6, val=0, test=0, frames=2, patches=8, dim=32, told_by="sound")
    keyed = Decoys(NOWHERE, classes=28, train=6, val=0, test=0, frames=2, patches=8, dim=32)
    mixed_up = 0
    for clip in plain.splits["train"]:
        scene = plain.scene(clip)
        sounds = [plain.sound_of(c) for c in scene.classes]
        assert sounds[0] not in sounds[1:]
        assert not scene.keys.any()
        others = [keyed.sound_of(c) for c in keyed.scene(clip).classes]
        mixed_up += others[0] in others[1:]
    assert mixed_up > 0  # With keys, some do.
    assert plain.spec.key != keyed.spec.key


# ---- what a clip is made of -----------------------------------------------------------------------------------------


def test_without_noise_a_clip_is_the_sum_of_what_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoys, "NOISE", 0.0)
    monkeypatch.setattr(decoys, "SCENE", 0.0)
    dataset = small()
    for clip in clips_of(dataset):
        scene = dataset.scene(clip)
        c = dataset.classes.index(str(clip.label))
        audio, visual = numbers(dataset, clip)
        sound = dataset.sounds[[0, 3, 1, 4][c]]
        assert audio == pytest.approx(
            [x + y for x, y in zip(sound, mixed(scene.keys[0], dataset.ear), strict=True)], abs=0.02
        )
        for t in range(2):
            for place in range(8):
                token = [0.0] * 32
                for thing in range(6):
                    if scene.places[thing] == place and scene.visible[t, thing]:
                        look = dataset.looks[scene.classes[thing]]
                        token = [x + y for x, y in zip(look, mixed(scene.keys[thing], dataset.eye), strict=True)]
                assert visual[t, place] == pytest.approx(token, abs=0.02)


def test_sound_and_target_share_a_key_and_no_decoy_has_it(wide: Decoys) -> None:
    for clip in wide.splits["test"]:
        c = wide.classes.index(str(clip.label))
        audio, visual = numbers(wide, clip)
        heard = key_in(audio - wide.sounds[(c // 2 + 3 * (c % 2)) % 7], wide.ear)
        mask = wide.target(clip)
        where = set(mask.nonzero()[:, 1].tolist())
        assert len(where) == 1
        visual = visual - np.median(visual, axis=(0, 1))  # Most tokens are of the ground: that is the scene's vector.
        for t, place in mask.nonzero().tolist():
            assert key_in(visual[t, place] - wide.looks[c], wide.eye) == pytest.approx(heard, abs=0.6)
        for thing in range(1, 6):
            scene = wide.scene(clip)
            t = int(scene.visible[:, thing].argmax())
            key = key_in(visual[t, scene.places[thing]] - wide.looks[scene.classes[thing]], wide.eye)
            assert key == pytest.approx(scene.keys[thing], abs=0.6)
            assert math.dist(key, heard) > 1.0


def test_six_things_are_in_view_each_for_a_run_of_at_least_half_the_frames(wide: Decoys) -> None:
    lengths: Counter[int] = Counter()
    for clip in wide.splits["test"]:
        _, visual = numbers(wide, clip)
        there = np.linalg.norm(visual - np.median(visual, axis=(0, 1)), axis=2) > 4.0  # (frames, patches)
        assert int(there.any(0).sum()) == 6
        for place in np.flatnonzero(there.any(0)):
            steps = np.flatnonzero(there[:, place])
            assert steps.tolist() == list(range(steps[0], steps[-1] + 1))
            lengths[len(steps)] += 1
        (target,) = wide.target(clip).any(0).nonzero().flatten().tolist()
        assert there[:, target].tolist() == wide.target(clip)[:, target].tolist()
        assert wide.target(clip).sum() == there[:, target].sum()
    assert set(lengths) == {3, 4, 5, 6} and min(lengths.values()) > 168 / 4 / 2


def test_decoys_are_of_other_classes_all_of_them(wide: Decoys) -> None:
    seen: Counter[int] = Counter()
    for clip in wide.splits["train"]:
        target, *others = wide.scene(clip).classes
        assert wide.classes[target] == clip.label and target not in others and len(others) == 5
        assert sorted(set(wide.scene(clip).places.tolist())) == sorted(wide.scene(clip).places.tolist())
        seen.update(others)
    assert set(seen) == set(range(28)) and max(seen.values()) < 3 * min(seen.values())


def test_one_frame_is_enough() -> None:
    dataset = small(frames=1, patches=6)
    for clip in clips_of(dataset):
        assert dataset.scene(clip).visible.all() and dataset.target(clip).sum() == 1


# ---- what is hard ---------------------------------------------------------------------------------------------------


def test_twins_look_alike_and_sound_different(wide: Decoys) -> None:
    looks = wide.looks.astype(float)
    assert np.linalg.norm(looks, axis=1) == pytest.approx([8.0] * 28, rel=1e-5)
    assert np.linalg.norm(wide.sounds, axis=1) == pytest.approx([6.0] * 7, rel=1e-5)
    for rows in (wide.ear, wide.eye):
        assert rows.shape == (6, 192) and np.linalg.norm(rows, axis=1) == pytest.approx([1.0] * 6, rel=1e-5)
    alike = looks @ looks.T / 64
    for c in range(28):
        for other in range(c):
            twins = c // 2 == other // 2
            # Two unit vectors with as much of their own as the gap: 1 / (1 + 0.7 squared), in many dimensions.
            assert alike[c, other] == pytest.approx(1 / 1.49 if twins else 0.0, abs=0.35 if not twins else 0.2)
            assert not (twins and wide.sound_of(c) == wide.sound_of(other))


def test_every_sound_belongs_to_several_looks(wide: Decoys) -> None:
    of: dict[int, list[int]] = {}
    for c in range(28):
        of.setdefault(wide.sound_of(c), []).append(c // 2)
    assert sorted(of) == list(range(7))
    assert all(len(set(pairs)) == len(pairs) == 4 for pairs in of.values())


def test_without_the_key_77_of_100_clips_can_be_told() -> None:
    dataset = small(classes=28, train=40)
    shares = []
    for clip in dataset.splits["train"]:
        target, *others = dataset.scene(clip).classes
        rivals = {c for c in others if dataset.sound_of(c) == dataset.sound_of(target)}
        shares.append(1 / (1 + len(rivals)))
    # Each of the three other classes of the sound is among the five decoys, or not.
    among = 1 - (26 / 27) ** 5
    expected = sum(math.comb(3, n) * among**n * (1 - among) ** (3 - n) / (1 + n) for n in range(4))
    assert expected == pytest.approx(0.77, abs=0.005)
    assert np.mean(shares) == pytest.approx(expected, abs=0.025)


@pytest.mark.parametrize(
    ("classes", "sessions"), [(28, (7, 7, 7, 7)), (10, (3, 3, 2, 2)), (9, (3, 2, 2, 2)), (3, (1, 1, 1))]
)
def test_the_protocol_teaches_twins_in_different_sessions(classes: int, sessions: tuple[int, ...]) -> None:
    dataset = small(classes=classes)
    protocol = dataset.protocol
    assert (protocol.name, protocol.memory, protocol.sessions) == ("decoys", 168, sessions)
    assert sorted(protocol.order) == sorted(dataset.classes)
    when = [session for session, size in enumerate(protocol.sessions) for _ in range(size)]
    taught: dict[str, list[int]] = {}
    for name, session in zip(protocol.order, when, strict=True):
        taught.setdefault(name[:-1], []).append(session)
    assert all(len(set(of_pair)) == len(of_pair) for of_pair in taught.values())
    assert [name[-1] for name in protocol.order] == sorted(name[-1] for name in protocol.order)


# ---- the same clips, always -----------------------------------------------------------------------------------------


def test_a_clip_is_the_same_whatever_else_is_in_the_set() -> None:
    few, many = small(), small(train=5, val=0, test=4)
    assert few.spec == many.spec
    kept = {clip.id: clip for clip in clips_of(many)}
    for clip in few.splits["train"] + few.splits["test"]:
        assert kept[clip.id] == clip
        for one, other in zip(few.tokens(clip), many.tokens(clip), strict=True):
            assert torch.equal(one, other)


def test_no_two_clips_and_no_two_seeds_are_alike() -> None:
    tokens = {
        (seed, clip.id): small(seed=seed).tokens(clip)[1].numpy().tobytes()
        for seed in (0, 1)
        for clip in clips_of(small())
    }
    assert len(set(tokens.values())) == len(tokens) == 2 * 4 * 6
    assert small(seed=0).spec.key != small(seed=1).spec.key
    assert not np.allclose(small(seed=0).looks, small(seed=1).looks)


def test_these_numbers_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever changes what a clip holds raises EDITION, or stores would mix two kinds."""
    dataset = small()
    clip = dataset.splits["test"][3]
    assert clip.id == "test/00b/001" and clip.label == "look 00 b"
    audio, visual = dataset.tokens(clip)
    assert audio[0, :3].tolist() == pytest.approx([-0.875, 1.525, 1.126], abs=2e-3)
    assert visual[1, 3, :3].tolist() == pytest.approx([2.361, 2.09, -0.547], abs=2e-3)
    before = dataset.spec.revision
    monkeypatch.setattr(decoys, "EDITION", decoys.EDITION + 1)
    assert small().spec.revision != before
    assert not np.allclose(small().looks, dataset.looks)


# ---- as a dataset ---------------------------------------------------------------------------------------------------


def test_it_is_opened_by_its_name_and_no_folder_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for source in ("decoys", "decoys:some_folder"):
        dataset = open_dataset(source)
        assert isinstance(dataset, Benchmark) and isinstance(dataset, Encoded)
        assert {split: len(clips) for split, clips in dataset.splits.items()} == {
            "train": 1344,
            "val": 336,
            "test": 560,
        }
        assert dataset.spec.shape == TokenShape(1, 768, 8, 16, 768)
        assert (dataset.name, dataset.skips, dataset.spec.licence) == ("decoys", (), "Apache-2.0")
    assert not list(tmp_path.iterdir())
    assert "val" not in small(val=0).splits


@pytest.mark.parametrize("changes", [{"classes": 1}, {"patches": 5}, {"frames": 0}, {"dim": 5}, {"test": -1}])
def test_what_cannot_be_is_said(changes: dict[str, int]) -> None:
    with pytest.raises(HarkbackError, match=r"decoys: .* cannot be; take 2 classes") as caught:
        small(**changes)
    assert "\n" not in str(caught.value)


def test_a_store_is_filled_once_and_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoys, "SHARD", 5)
    dataset, root = small(), tmp_path / "store"
    clips = clips_of(dataset)
    made: list[str] = []
    tokens = Decoys.tokens

    def breaking(self: Decoys, clip: Clip) -> Any:
        if len(made) == 12:
            raise KeyboardInterrupt
        made.append(clip.id)
        return tokens(self, clip)

    monkeypatch.setattr(Decoys, "tokens", breaking)
    with pytest.raises(KeyboardInterrupt):
        dataset.convert(clips, root)
    monkeypatch.setattr(Decoys, "tokens", tokens)
    assert sorted(FeatureStore.open(root, dataset.spec).places) == sorted(made[:10])  # Two full shards.
    rest, again = dataset.convert(clips, root), dataset.convert(clips, root)
    assert (rest.encoded, again.encoded, len(clips)) == (14, 0, 24)
    assert again.clips == tuple(clips) and not again.skips
    features = again.features[torch.arange(24)]
    assert features.ids == again.keys == tuple(clip.id for clip in clips)
    assert features.heard.all() and features.seen.all()
    for row, clip in enumerate(clips):
        audio, visual = dataset.tokens(clip)
        assert torch.equal(features.audio[row], audio) and torch.equal(features.visual[row], visual)
    backwards = dataset.convert(clips[::-1], root)  # Rows go by what is asked for, not by what lies first.
    assert torch.equal(backwards.features[torch.tensor([0])].visual[0], features.visual[-1])
    with pytest.raises(HarkbackError, match="revision"):
        small(seed=1).convert(clips, root)


def test_a_bench_of_its_own_protocol(tmp_path: Path) -> None:
    finished = bench(small(), None, BenchSettings(learners=("ncm", "ridge"), seeds=(0,)), tmp_path / "out")
    assert finished.sizes == (1, 1, 1, 1)
    facts = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert facts["memory"] == 168
