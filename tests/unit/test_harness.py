"""What the bench hands to learners: validation clips, a protocol, ready features, one training for two answers."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from fakes import Fake, Listed, small, tone
from harkback import material
from harkback.clips import Clip, Skip
from harkback.contestants import changed, entered
from harkback.datasets import BenchProtocol
from harkback.encoders import EncoderSpec
from harkback.errors import HarkbackError
from harkback.extract import Extraction, extract
from harkback.features import Features
from harkback.harness import Bench, BenchSettings, bench
from harkback.learners.base import Learner
from harkback.log import Run
from harkback.material import prepare
from harkback.registry import LEARNERS
from harkback.stream import SealedError, Session, shuffled

CLASSES = ("high", "low", "middle", "top")


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(material, "extract", partial(extract, workers=0))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Listed:
    """Four classes of pitch; of each five clips to learn, two to choose by, two to ask."""
    root = tmp_path_factory.mktemp("clips")
    splits: dict[str, tuple[Clip, ...]] = {}
    for split, count in (("train", 5), ("val", 2), ("test", 2)):
        found = []
        for number, label in enumerate(CLASSES):
            for i in range(count):
                pitch = 300 * 1.7**number + 9 * i + {"train": 0, "val": 2, "test": 4}[split]
                path = tone(root / split / label / f"{i}.wav", pitch, 0.1 + 0.1 * number + 0.003 * i)
                found.append(Clip(f"{split}/{label}/{i}", path, label))
        splits[split] = tuple(found)
    return Listed(splits)


def test_clips_that_share_an_id_are_refused_wherever_they_stand(clips: Listed, tmp_path: Path) -> None:
    """A training clip with the id of a test clip would be asked, and never learnt."""
    one, *others = clips.splits["test"]
    same = replace(clips.splits["train"][0], id=one.id)
    across = Listed({"train": (same, *clips.splits["train"][1:]), "test": clips.splits["test"]})
    within = Listed({"train": clips.splits["train"], "test": (one, *others, replace(one, path=others[0].path))})
    for dataset in (across, within):
        with pytest.raises(HarkbackError, match=f'listed: two clips have the id "{one.id}"'):
            prepare(dataset, Fake(), tmp_path / "store")


def settings_of(*learners: str, **changes: Any) -> BenchSettings:
    chosen: dict[str, Any] = {"learners": learners, "sessions": (2, 1, 1), "memory": 4, "seeds": (0,), **changes}
    return BenchSettings(settings={name: small(LEARNERS.load(name).Settings()) for name in LEARNERS.names()}, **chosen)


def logged(out: Path) -> dict[str, Any]:
    """Everything that a bench measured: arrays and facts of each session of each run, less the seconds."""
    found: dict[str, Any] = {}
    for path in sorted((out / "runs").glob("*/session-*.json")):
        facts = json.loads(path.read_text())
        facts.pop("seconds")
        scores = Run(path.parent, "", 0, 0).scores(facts["session"])
        found[f"{path.parent.name}/{facts['session']}"] = (facts, scores.numpy().tobytes())
    return found


# ---- validation -----------------------------------------------------------------------------------------------------


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[set[str], set[str] | None, int]]:
    """(classes learnt, classes of the validation clips, how many of those) of each session that anyone learns."""
    found: list[tuple[set[str], set[str] | None, int]] = []
    real = Learner.learn

    def noted(self: Any, session: Session) -> Any:
        held = session.validation
        found.append((set(session.labels), None if held is None else set(held.labels), len(held.labels) if held else 0))
        return real(self, session)

    monkeypatch.setattr(Learner, "learn", noted)
    return found


Sessions = list[tuple[set[str], set[str] | None, int]]


def test_without_a_policy_there_are_no_validation_clips(clips: Listed, tmp_path: Path, sessions: Sessions) -> None:
    done = bench(clips, Fake(), settings_of("ncm"), tmp_path)
    assert [held for _, held, _ in sessions] == [None] * 3
    assert len(done.material.extraction.clips) == 28  # They are not even encoded.


def test_the_policies(clips: Listed, tmp_path: Path, sessions: Sessions) -> None:
    order = shuffled(CLASSES, 0)
    bench(clips, Fake(), settings_of("ncm", validation="current"), tmp_path)
    assert sessions == [(set(part), set(part), 2 * len(part)) for part in (order[:2], order[2:3], order[3:])]
    sessions.clear()
    bench(clips, Fake(), settings_of("ncm", validation="all-seen"), tmp_path)
    assert [held for _, held, _ in sessions] == [set(order[:2]), set(order[:3]), set(order)]
    assert json.loads((tmp_path / "bench.json").read_text())["validation"] == "all-seen"
    sessions.clear()
    bench(clips, Fake(), settings_of("joint", validation="current"), tmp_path)
    assert [held for _, held, _ in sessions] == [set(order[:2]), set(order[:3]), set(order)]  # All is current to it.


def test_another_policy_is_another_run_and_can_be_another_result(clips: Listed, tmp_path: Path) -> None:
    one = bench(clips, Fake(), settings_of("finetune"), tmp_path)
    other = bench(clips, Fake(), settings_of("finetune", validation="all-seen"), tmp_path)
    assert one.runs[0].folder != other.runs[0].folder


def test_the_epoch_is_the_best_on_the_validation_clips(clips: Listed, tmp_path: Path) -> None:
    """By hand: the weights after each epoch are those of a training that is stopped there with the same draws."""
    from harkback.learners.finetune import FineTune, FineTuneSettings

    chosen = small(FineTuneSettings())
    chosen = replace(chosen, train=replace(chosen.train, epochs=9, schedule="constant", rate=0.1))
    found = prepare(clips, Fake(), tmp_path, validation="all-seen")
    train = [Session.of(found.train, found.train_labels) for _ in range(10)]
    held = found.validation
    shares = []
    for epochs in range(1, 10):
        learner = FineTune(replace(chosen, train=replace(chosen.train, epochs=epochs))).learn(train[epochs])
        said = [learner.classes[column] for column in learner.scores(held.features).argmax(1).tolist()]
        shares.append(sum(a == b for a, b in zip(said, held.labels, strict=True)) / len(said))
    best = shares.index(max(shares)) + 1
    assert best < 9, "the last epoch is the best alone: this test would show nothing"
    judged = FineTune(chosen).learn(Session.of(found.train, found.train_labels, Session.of(held.features, held.labels)))
    stopped = FineTune(replace(chosen, train=replace(chosen.train, epochs=best))).learn(train[0])
    assert torch.equal(judged.scores(found.test), stopped.scores(found.test))


def test_validation_clips_are_sealed_with_their_session(clips: Listed, tmp_path: Path) -> None:
    found = prepare(clips, Fake(), tmp_path, validation="all-seen").validation
    with Session.of(found.features, found.labels, Session.of(found.features, found.labels)) as session:
        assert session.validation is not None
        assert len(session.validation.features) == 8
    with pytest.raises(SealedError):
        len(session.validation.features)


def test_clips_that_are_asked_may_choose_no_epoch(clips: Listed, tmp_path: Path) -> None:
    with pytest.raises(HarkbackError, match="--validation"):
        bench(clips, Fake(), settings_of("ncm", validation="current", split="val"), tmp_path)
    bare = Listed({name: of for name, of in clips.splits.items() if name != "val"})
    with pytest.raises(HarkbackError, match='no clips in split "val"'):
        bench(bare, Fake(), settings_of("ncm", validation="current"), tmp_path)


# ---- one training for two answers -----------------------------------------------------------------------------------


def test_two_ways_to_answer_are_trained_once(clips: Listed, tmp_path: Path, sessions: Sessions) -> None:
    both = bench(clips, Fake(), settings_of("icarl", "icarl-fc"), tmp_path / "both")
    assert len(sessions) == 3
    for name in ("icarl", "icarl-fc"):
        bench(clips, Fake(), settings_of(name), tmp_path / "alone")
    alone, together = logged(tmp_path / "alone"), logged(tmp_path / "both")
    assert alone == together
    nme, fc = both.runs
    assert not torch.equal(nme.scores(2), fc.scores(2))


def test_another_answer_asked_for_later_leaves_the_first_as_it_is(clips: Listed, tmp_path: Path) -> None:
    bench(clips, Fake(), settings_of("icarl"), tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").rglob("*.*")}
    bench(clips, Fake(), settings_of("icarl", "icarl-fc"), tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    bench(clips, Fake(), settings_of("icarl", "icarl-fc"), tmp_path / "both")
    assert logged(tmp_path / "out") == logged(tmp_path / "both")


class Killed(BaseException):
    pass


def test_two_answers_go_on_after_a_kill(clips: Listed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After every single file that is written, so that one of the two may be a session ahead of the other."""
    settings = settings_of("icarl", "icarl-fc")
    bench(clips, Fake(), settings, tmp_path / "whole")
    write, wrote = Run.write, 0
    chance = random.Random(0)

    def dying(self: Run, *arguments: Any) -> None:
        nonlocal wrote
        write(self, *arguments)
        wrote += 1
        if chance.random() < 0.6:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Run, "write", dying)
        while True:
            try:
                bench(clips, Fake(), settings, tmp_path / "killed")
                break
            except Killed:
                assert wrote < 100
    assert wrote == 6  # What one of them had written already is left as it is.
    assert logged(tmp_path / "killed") == logged(tmp_path / "whole")


# ---- side by side ---------------------------------------------------------------------------------------------------


def test_processes_side_by_side_measure_the_same(clips: Listed, tmp_path: Path) -> None:
    settings = settings_of("ncm", "l3", "icarl", "icarl-fc", "joint", seeds=(0, 1))
    alone = bench(clips, Fake(), settings, tmp_path / "alone")
    together = bench(clips, Fake(), settings, tmp_path / "together", workers=2)
    assert [run.folder.name for run in alone.runs] == [run.folder.name for run in together.runs]
    one, other = logged(tmp_path / "alone"), logged(tmp_path / "together")
    assert one.keys() == other.keys()
    for name, (facts, _) in one.items():
        assert {k: v for k, v in facts.items() if k != "losses"} == {
            k: v for k, v in other[name][0].items() if k != "losses"
        }
        assert facts["losses"] == pytest.approx(other[name][0]["losses"], rel=1e-5)
    for a, b in zip(alone.runs, together.runs, strict=True):
        # A process of its own may have more threads than a test, which adds up in another order.
        torch.testing.assert_close(a.scores(2), b.scores(2), rtol=1e-4, atol=1e-5)


def test_what_fails_in_a_process_fails_the_bench_with_its_line(clips: Listed, tmp_path: Path) -> None:
    settings = settings_of("finetune", "ncm", seeds=(0, 1))
    wild = changed(LEARNERS.load("finetune").Settings(), {"train.rate": 1e30, "train.epochs": 3})
    with pytest.raises(HarkbackError, match="not finite"):
        bench(clips, Fake(), replace(settings, settings={"finetune": wild}), tmp_path, workers=2)


# ---- protocols ------------------------------------------------------------------------------------------------------


OWN = BenchProtocol("own-1999", ("top", "low", "gone", "high", "middle"), (2, 2, 1), 6)


@dataclass(frozen=True)
class WithProtocol(Listed):
    protocol: BenchProtocol = OWN


def facts_of(done: Bench) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((done.out / "bench.json").read_text())
    return facts


def test_a_protocol_decides_what_is_left_open(clips: Listed, tmp_path: Path) -> None:
    """One of its classes has no clips: the others keep their sessions, and the log says what is amiss."""
    done = bench(WithProtocol(clips.splits), Fake(), settings_of("ncm", sessions=(), memory=None), tmp_path)
    assert done.sizes == (2, 1, 1)
    assert [(run.seed, run.order) for run in done.runs] == [(0, "own-1999")]
    assert done.runs[0].facts(2)["classes"] == ["top", "low", "high", "middle"]
    facts = facts_of(done)
    assert facts["memory"] == 6
    assert facts["protocol"]["name"] == "own-1999"
    assert facts["protocol"]["changed"] == ["4 classes of 5", "sessions of 2, 1, 1 classes"]


def test_a_protocol_that_is_kept_has_nothing_changed(clips: Listed, tmp_path: Path) -> None:
    whole = BenchProtocol("own-1999", ("top", "low", "high", "middle"), (3, 1), 6)
    settings = settings_of("ncm", sessions=(), memory=None, seeds=(0, 1))
    done = bench(WithProtocol(clips.splits, protocol=whole), Fake(), settings, tmp_path)
    assert facts_of(done)["protocol"] == {"name": "own-1999", "changed": []}
    assert [(run.seed, run.order) for run in done.runs] == [(0, "own-1999"), (1, "own-1999")]


def test_other_orders_sizes_and_memory_are_options(clips: Listed, tmp_path: Path) -> None:
    whole = WithProtocol(clips.splits, protocol=BenchProtocol("own-1999", ("top", "low", "high", "middle"), (3, 1), 6))
    settings = settings_of("ncm", sessions=(2,), memory=5, orders=("own-1999", 7))
    done = bench(whole, Fake(), settings, tmp_path)
    assert done.sizes == (2, 2)
    assert done.runs[0].facts(1)["classes"] == ["top", "low", "high", "middle"]
    assert done.runs[1].facts(1)["classes"] == list(shuffled(CLASSES, 7))
    changes = facts_of(done)["protocol"]["changed"]
    assert changes == ["sessions of 2, 2 classes", "a memory of 5 instead of 6", "class orders own-1999, 7"]


def test_clips_that_are_left_out_are_a_change_of_the_protocol(clips: Listed, tmp_path: Path) -> None:
    gone = tuple(Skip(f"{i}", Path("x.mp4"), "is not in the folder") for i in range(3))
    whole = WithProtocol(clips.splits, gone, protocol=BenchProtocol("o", ("top", "low", "high", "middle"), (3, 1), 6))
    done = bench(whole, Fake(), settings_of("ncm", sessions=(), memory=None), tmp_path)
    assert facts_of(done)["protocol"]["changed"] == ["3 clips left out"]


@pytest.mark.parametrize("protocol", [True, False])
def test_an_order_that_nobody_knows(clips: Listed, tmp_path: Path, protocol: bool) -> None:
    dataset = WithProtocol(clips.splits) if protocol else clips
    with pytest.raises(HarkbackError, match="--orders"):
        bench(dataset, Fake(), settings_of("ncm", orders=("nonsense",)), tmp_path)


def test_settings_that_cannot_be_are_told_before_anything_is_encoded(tmp_path: Path) -> None:
    from harkback.learners.ridge import RidgeSettings

    nothing = Listed({})  # There is nothing to encode: that would be told next.
    wrong = BenchSettings(learners=("ridge",), settings={"ridge": RidgeSettings(penalty=0.0)})
    with pytest.raises(HarkbackError, match="penalty"):
        bench(nothing, Fake(), wrong, tmp_path)


def test_a_reference_takes_part(clips: Listed, tmp_path: Path) -> None:
    with pytest.raises(HarkbackError, match="--reference"):
        bench(clips, Fake(), settings_of("ncm", reference="ridge"), tmp_path)
    assert facts_of(bench(clips, Fake(), settings_of("ncm", reference="ncm"), tmp_path))["reference"] == "ncm"


# ---- a dataset that comes as features -------------------------------------------------------------------------------


class Ready:
    """Clips that are nowhere on the disk, with features."""

    name = "ready"
    skips: tuple[Skip, ...] = ()

    def __init__(self, clips: Listed, folder: Path) -> None:
        self.splits = clips.splits
        self.features = extract([c for of in clips.splits.values() for c in of], Fake(), folder, workers=0)

    @property
    def spec(self) -> EncoderSpec:
        return Fake(name="ready").spec

    def convert(self, clips: Sequence[Clip], root: Path) -> Extraction:
        number = {clip.id: row for row, clip in enumerate(self.features.clips)}
        rows = torch.tensor([number[clip.id] for clip in clips])
        features: Features = self.features.features[rows]
        return Extraction(tuple(clips), tuple(clip.id for clip in clips), features, (), len(clips), 0.0)


def test_ready_features_are_benched_like_any(clips: Listed, tmp_path: Path) -> None:
    ready = Ready(clips, tmp_path / "features")
    done = bench(ready, None, settings_of("ridge", "l3"), tmp_path / "ready")
    same = bench(clips, Fake(), settings_of("ridge", "l3"), tmp_path / "media")
    assert done.encoder == "ready"
    for one, other in zip(done.runs, same.runs, strict=True):
        assert torch.equal(one.scores(2), other.scores(2))


def test_modalities_take_part_side_by_side(clips: Listed, tmp_path: Path) -> None:
    done = bench(clips, Fake(), settings_of("ridge", modalities=("both", "audio", "visual")), tmp_path)
    assert [run.learner for run in done.runs] == ["ridge", "ridge@audio", "ridge@visual"]
    kinds = {entry["learner"]: (entry["method"], entry["modality"]) for entry in facts_of(done)["runs"]}
    assert kinds == {"ridge": ("ridge", "both"), "ridge@audio": ("ridge", "audio"), "ridge@visual": ("ridge", "visual")}
    both, audio, visual = (run.scores(2) for run in done.runs)
    torch.testing.assert_close(both, audio)  # These clips are sound alone.
    assert torch.equal(visual, visual[:1].expand_as(visual))  # And of them nothing can be seen.
    assert [each.name for each in entered(["ridge"], ("audio",))] == ["ridge@audio"]
