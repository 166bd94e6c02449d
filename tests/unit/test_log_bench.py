"""The bench and its log: what is measured is honest, and a bench that was killed goes on as if it had not been."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from fakes import Fake, Listed, same_state, small, tone
from harkback import harness, material
from harkback.clips import Clip, Skip
from harkback.datasets.folder import Folder
from harkback.errors import HarkbackError
from harkback.extract import extract
from harkback.files import HERE
from harkback.harness import Bench, BenchSettings, bench, pairs
from harkback.learners.base import Learner
from harkback.learners.ncm import NCM
from harkback.log import Run, truth_columns
from harkback.material import prepare
from harkback.pooling import pooled
from harkback.registry import LEARNERS
from harkback.stream import Session, shuffled

CLASSES = ("high", "low", "middle", "top")
LEARNER_NAMES = ("ncm", "ridge", "finetune", "joint", "l3")


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(material, "extract", partial(extract, workers=0))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes of pitch, five clips to learn and two to ask of each."""
    root = tmp_path_factory.mktemp("clips")
    for number, label in enumerate(CLASSES):
        for split, count in (("train", 5), ("test", 2)):
            for i in range(count):
                pitch = 300 * 1.7**number + 9 * i + (4 if split == "test" else 0)
                tone(root / split / label / f"{i}.wav", pitch, 0.1 + 0.1 * number + 0.003 * i)
    return root


def settings_of(**changes: Any) -> BenchSettings:
    chosen: dict[str, Any] = {"learners": LEARNER_NAMES, "sessions": (2, 1, 1), "memory": 4, "seeds": (0, 1), **changes}
    return BenchSettings(settings={name: small(LEARNERS.load(name).Settings()) for name in LEARNERS.names()}, **chosen)


def logged(out: Path) -> dict[str, Any]:
    """Everything that a bench measured: arrays and facts of each session of each run, less the seconds."""
    found: dict[str, Any] = {}
    for path in sorted((out / "runs").glob("*/session-*.json")):
        facts = json.loads(path.read_text())
        facts.pop("seconds")
        arrays = harness.Run(path.parent, "", 0, 0)
        t = facts["session"]
        found[f"{path.parent.name}/{t}"] = (facts, arrays.scores(t).numpy().tobytes())
    return found


def test_a_bench_writes_a_log_of_every_session(clips: Path, tmp_path: Path) -> None:
    done = bench(Folder(clips), Fake(), settings_of(), tmp_path)
    assert isinstance(done, Bench)
    assert done.sizes == (2, 1, 1)
    assert [(run.learner, run.seed, run.order) for run in done.runs] == [
        (name, seed, seed) for seed in (0, 1) for name in LEARNER_NAMES
    ]
    for run in done.runs:
        assert run.done() == 3
        order = shuffled(CLASSES, run.order)
        for t, known in enumerate((2, 3, 4)):
            facts = run.facts(t)
            assert facts["classes"] == list(order[:known])
            assert facts["sizes"] == [2, 1, 1][: t + 1]
            assert facts["seconds"] > 0
            assert facts["memory_bytes"] > 0
            assert run.scores(t).shape == (2 * known, known)
        for t, answered in enumerate(run.answered()):
            # Truth, from the clips themselves.
            asked = [done.material.test_clips[row].label for row in answered.rows]
            names = [order[column] for column in answered.truth]
            assert asked == names
            came = [0, 0, 1, 2]
            assert answered.came.tolist() == [came[order.index(name)] for name in names]
            assert set(asked) == set(order[: (2, 3, 4)[t]])
        assert not list(run.folder.glob("state-*"))  # Nothing is left to go on to.
    facts = json.loads((tmp_path / "bench.json").read_text())
    assert facts["sessions"] == [2, 1, 1]
    assert len(facts["test_clips"]) == 8
    assert facts["training_clips"] == 20


def test_a_ceiling_is_told_with_the_bytes_of_all_clips_that_it_wants_again(clips: Path, tmp_path: Path) -> None:
    """joint has the state of finetune, and needs besides what the store holds of every clip so far."""
    done = bench(Folder(clips), Fake(), settings_of(learners=("joint", "finetune"), seeds=(0,)), tmp_path)
    joint, finetune = done.runs
    one = done.material.train[torch.tensor([0])]
    tokens = one.audio.nbytes + one.visual.nbytes
    more = [joint.facts(t)["memory_bytes"] - finetune.facts(t)["memory_bytes"] for t in range(3)]
    assert more == [10 * tokens, 15 * tokens, 20 * tokens]


def test_the_log_holds_what_the_learner_says_when_taught_by_hand(clips: Path, tmp_path: Path) -> None:
    done = bench(Folder(clips), Fake(), settings_of(learners=("ncm",), seeds=(3,)), tmp_path)
    run, order = done.runs[0], shuffled(CLASSES, 3)
    learner = NCM()
    train, labels = done.material.train, done.material.train_labels
    for t, names in enumerate((order[:2], order[2:3], order[3:])):
        rows = [row for name in names for row, label in enumerate(labels) if label == name]
        learner.learn(Session.of(train[torch.tensor(rows)], [labels[row] for row in rows]))
        asked = [row for row, clip in enumerate(done.material.test_clips) if clip.label in learner.classes]
        assert torch.equal(run.scores(t), learner.scores(done.material.test[torch.tensor(asked)]))
    assert learner.classes == order


def test_separable_clips_are_told_apart(clips: Path, tmp_path: Path) -> None:
    done = bench(Folder(clips), Fake(), settings_of(learners=("ncm", "ridge"), seeds=(0,)), tmp_path)
    for run in done.runs:
        first = run.answered()[0]  # Later classes lie between these two on a line, where a linear model cannot win.
        assert (first.said == first.truth).all()


class Killed(BaseException):
    pass


@pytest.mark.slow
def test_a_bench_that_is_killed_goes_on_as_if_it_had_not_been(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each session of each learner, before and after its result is written; every time started again."""
    settings = settings_of(seeds=(0,))
    bench(Folder(clips), Fake(), settings, tmp_path / "whole")
    expected = logged(tmp_path / "whole")
    write, writes = Run.write, 0

    def dying(self: Run, *arguments: Any) -> None:
        nonlocal writes
        writes += 1
        if writes % 2:  # Dies, then gets through once and dies, and so on.
            raise Killed
        write(self, *arguments)
        raise Killed

    monkeypatch.setattr(Run, "write", dying)
    deaths = 0
    while True:
        try:
            bench(Folder(clips), Fake(), settings, tmp_path / "killed")
            break
        except Killed:
            deaths += 1
    assert deaths == 2 * 3 * len(LEARNER_NAMES)
    assert logged(tmp_path / "killed") == expected
    assert len(expected) == 3 * len(LEARNER_NAMES)


@pytest.mark.parametrize("victim", ["session-01.safetensors", "state-01.safetensors", "session-01.json"])
def test_a_kill_between_two_files_of_a_session(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    from harkback import log

    def dying(real: Any, path: Path, what: Any) -> None:
        if path.name == victim:
            raise Killed
        real(path, what)

    settings = settings_of(learners=("l3",), seeds=(0,))
    bench(Folder(clips), Fake(), settings, tmp_path / "whole")
    with monkeypatch.context() as patch:
        for name in ("write_arrays", "write_json"):
            patch.setattr(log, name, partial(dying, getattr(log, name)))
        with pytest.raises(Killed):
            bench(Folder(clips), Fake(), settings, tmp_path / "killed")
    learnt: list[int] = []
    real = Learner.learn

    def counted(self: Any, session: Session) -> Any:
        learnt.append(len(session.labels))
        return real(self, session)

    monkeypatch.setattr(Learner, "learn", counted)
    bench(Folder(clips), Fake(), settings, tmp_path / "killed")
    assert len(learnt) == 2  # The first session is not learnt again.
    assert logged(tmp_path / "killed") == logged(tmp_path / "whole")


def test_what_a_kill_left_half_written_is_swept(clips: Path, tmp_path: Path) -> None:
    out, settings = tmp_path / "out", settings_of(learners=("ncm",), seeds=(0,))
    finished = bench(Folder(clips), Fake(), settings, out, tmp_path / "store")
    run = finished.runs[0].folder
    before, half = logged(out), f"{HERE}-{2**22 + 1}.part"  # No process has such a number.
    left = [out / f".bench.json.{half}", run / f".session-00.json.{half}", run / "state-01.safetensors"]
    for path in left:
        path.write_bytes(b"half of it")
    bench(Folder(clips), Fake(), settings, out, tmp_path / "store")
    assert not any(path.exists() for path in left)
    assert logged(out) == before


def test_what_is_done_is_not_done_again_and_what_is_asked_more_is_added(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench(Folder(clips), Fake(), settings_of(learners=("ncm",), seeds=(0,)), tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.*")}
    more = bench(Folder(clips), Fake(), settings_of(learners=("ncm", "ridge"), seeds=(0, 1)), tmp_path)
    assert [run.done() for run in more.runs] == [3] * 4
    assert {path: path.stat().st_mtime_ns for path in before} == before

    def never(*_: object) -> None:
        raise AssertionError("it is learnt again")

    monkeypatch.setattr(NCM, "_learn", never)
    bench(Folder(clips), Fake(), settings_of(learners=("ncm", "ridge"), seeds=(0, 1)), tmp_path)


@pytest.mark.parametrize("change", [{"memory": 5}, {"sessions": (2,)}, {"seeds": (5,)}, {"orders": (7,)}])
def test_another_question_is_another_run(clips: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    one = bench(Folder(clips), Fake(), settings_of(learners=("l3",), seeds=(0,)), tmp_path)
    other = bench(Folder(clips), Fake(), settings_of(**{"learners": ("l3",), "seeds": (0,), **change}), tmp_path)
    assert one.runs[0].folder != other.runs[0].folder
    assert other.runs[0].done() == len(other.sizes)


def test_another_clip_is_another_run(clips: Path, tmp_path: Path) -> None:
    folder, settings = Folder(clips), settings_of(learners=("ncm",), seeds=(0,))
    one = bench(folder, Fake(), settings, tmp_path)
    fewer = Listed({**folder.splits, "train": folder.splits["train"][:-1]})
    assert bench(fewer, Fake(), settings, tmp_path).runs[0].folder != one.runs[0].folder
    relabelled = Listed({name: clips[::-1] for name, clips in folder.splits.items()})
    assert bench(relabelled, Fake(), settings, tmp_path).runs[0].folder != one.runs[0].folder


def test_seeds_and_orders() -> None:
    assert pairs((0, 2), ()) == ((0, 0), (2, 2))
    assert pairs((2, 2), ()) == ((2, 2),)  # One log is written once.
    assert pairs((0, 1), (5, "own")) == ((0, 5), (1, 5), (0, "own"), (1, "own"))


def test_joint_is_handed_everything_and_the_others_are_not(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list[int]] = {}
    real = Learner.learn

    def counted(self: Any, session: Session) -> Any:
        seen.setdefault(type(self).__name__, []).append(len(session.features))
        return real(self, session)

    monkeypatch.setattr(Learner, "learn", counted)
    bench(Folder(clips), Fake(), settings_of(learners=("finetune", "joint"), seeds=(0,)), tmp_path)
    assert seen == {"FineTune": [10, 5, 5], "Joint": [10, 15, 20]}


def test_a_session_is_closed_before_the_test_clips_are_asked(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions: list[Session] = []
    learn, scores = Learner.learn, Learner.scores

    def keeping(self: Any, session: Session) -> Any:
        sessions.append(session)
        return learn(self, session)

    def peeking(self: Any, features: Any) -> Any:
        with pytest.raises(HarkbackError, match="closed"):
            sessions[-1].features[torch.tensor([0])]
        return scores(self, features)

    monkeypatch.setattr(Learner, "learn", keeping)
    monkeypatch.setattr(Learner, "scores", peeking)
    bench(Folder(clips), Fake(), settings_of(learners=("ncm", "joint"), seeds=(0,)), tmp_path)
    assert len(sessions) == 6


# ---- what is left out -----------------------------------------------------------------------------------------------


def two_classes(root: Path) -> dict[str, list[Clip]]:
    """Each with three clips to learn and two to ask."""
    splits: dict[str, list[Clip]] = {"train": [], "test": []}
    for number, label in enumerate(("a", "b")):
        for split, count in (("train", 3), ("test", 2)):
            for i in range(count):
                name = f"{split}/{label}/{i}.wav"
                splits[split].append(Clip(name, tone(root / name, 300 + 500 * number + 20 * i + len(split)), label))
    return splits


def frozen(splits: dict[str, list[Clip]], skips: tuple[Skip, ...] = ()) -> Listed:
    return Listed({name: tuple(clips) for name, clips in splits.items()}, skips)


def test_the_same_content_never_stands_on_both_sides(tmp_path: Path) -> None:
    splits = two_classes(tmp_path)
    for name, label, like, split in (
        ("leak.wav", "a", splits["train"][0], "test"),  # a training clip among the test clips
        ("twin.wav", "a", splits["train"][1], "train"),  # twice to learn
        ("echo.wav", "b", splits["test"][3], "test"),  # twice to ask
        ("doubt.wav", "b", splits["train"][2], "test"),  # and under another label
    ):
        (tmp_path / name).write_bytes(like.path.read_bytes())
        splits[split].append(Clip(name, tmp_path / name, label))
    dataset = frozen(splits, (Skip("stray", tmp_path, "lies outside"),))
    material = prepare(dataset, Fake(), tmp_path / "store")
    assert sorted(clip.id for clip in material.test_clips) == [f"test/{c}/{i}.wav" for c in "ab" for i in range(2)]
    assert sorted(material.train.ids) == [f"train/{c}/{i}.wav" for c in "ab" for i in range(3)]
    reasons = {skip.id: skip.reason for skip in material.skips}
    assert reasons.keys() == {"leak.wav", "twin.wav", "echo.wav", "doubt.wav", "stray"}
    assert "train/a/0.wav" in reasons["leak.wav"]
    assert 'labelled "a"' in reasons["doubt.wav"]
    assert "labelled" not in reasons["leak.wav"]
    assert material.train_labels == ("a", "a", "a", "b", "b", "b")
    train, test = (pooled(rows[torch.arange(len(rows))]) for rows in (material.train, material.test))
    assert torch.cdist(train, test).min() > 0


def test_a_class_that_cannot_be_measured_is_left_out_by_name(tmp_path: Path) -> None:
    splits = two_classes(tmp_path)
    splits["train"].append(Clip("alone.wav", tone(tmp_path / "alone.wav", 3000), "alone"))
    splits["test"].append(Clip("new.wav", tone(tmp_path / "new.wav", 3100), "never taught"))
    (tmp_path / "no.wav").write_bytes(b"no sound")
    splits["train"] += [Clip("c.wav", tone(tmp_path / "c.wav", 3200), "c")]
    splits["test"] += [Clip("no.wav", tmp_path / "no.wav", "c")]  # Its only test clip cannot be read.
    material = prepare(frozen(splits), Fake(), tmp_path / "store")
    assert material.classes == ("a", "b")
    reasons = {skip.id: skip.reason for skip in material.skips}
    assert reasons.keys() == {"alone.wav", "new.wav", "no.wav", "c.wav"}
    assert 'class "alone" is left out: it has no clip to ask' in reasons["alone.wav"]
    assert 'class "never taught" is left out: it has no clip to learn from' in reasons["new.wav"]
    assert 'class "c" is left out' in reasons["c.wav"]
    assert set(material.test_labels) == {"a", "b"}


def test_a_class_with_one_clip_in_a_folder(tmp_path: Path) -> None:
    for label, count in (("a", 3), ("b", 3), ("alone", 1)):
        for i in range(count):
            tone(tmp_path / "clips" / label / f"{i}.wav", 300 + 100 * i + 1000 * len(label) + ord(label[0]))
    material = prepare(Folder(tmp_path / "clips"), Fake(), tmp_path / "store")
    assert material.classes == ("a", "b")
    assert [skip.id for skip in material.skips] == ["alone/0.wav"]


def test_fewer_than_two_classes(tmp_path: Path) -> None:
    splits = {name: [c for c in clips if c.label == "a"] for name, clips in two_classes(tmp_path).items()}
    with pytest.raises(HarkbackError, match=r"needs two classes.*there are 1"):
        prepare(frozen(splits), Fake(), tmp_path / "store")


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    splits = two_classes(tmp_path)
    with pytest.raises(HarkbackError, match='no clips in split "val"'):
        prepare(frozen(splits), Fake(), tmp_path / "store", "val")
    with pytest.raises(HarkbackError, match='no clips in split "test"'):
        prepare(frozen({"train": splits["train"]}), Fake(), tmp_path / "store")
    asked = prepare(frozen({"train": splits["train"], "val": splits["test"]}), Fake(), tmp_path / "store", "val")
    assert len(asked.test_clips) == 4


def test_more_sessions_than_classes(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(HarkbackError, match="4 classes cannot be cut into 5 sessions"):
        bench(Folder(clips), Fake(), settings_of(sessions=(5,)), tmp_path)
    with pytest.raises(HarkbackError, match='no learner "nonsense"'):
        bench(Folder(clips), Fake(), settings_of(learners=("nonsense",)), tmp_path)


# ---- the log --------------------------------------------------------------------------------------------------------


def test_a_log_written_by_hand(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", "ncm", 0, 0)
    assert run.done() == 0
    assert run.answered() == []
    state = {"x": torch.arange(3)}
    first = {
        "scores": torch.tensor([[0.1, 0.9], [0.8, 0.2]]),
        "rows": torch.tensor([4, 7]),
        "truth": torch.tensor([1, 1]),
    }
    run.write(0, first, {"classes": ["a", "b"], "sizes": [2]}, state)
    assert run.done() == 1
    assert same_state(run.state(0), state)
    second = {
        "scores": torch.tensor([[0.1, 0.2, 0.3], [0.9, 0.5, 0.1], [0.0, 0.0, 1.0]]),
        "rows": torch.tensor([4, 7, 9]),
        "truth": torch.tensor([1, 0, 2]),
    }
    run.write(1, second, {"classes": ["a", "b", "c"], "sizes": [2, 1]}, {"x": torch.arange(4)})
    assert not (tmp_path / "run" / "state-00.safetensors").exists()
    with pytest.raises(HarkbackError, match="state to go on from is missing"):
        run.state(0)
    one, two = run.answered()
    assert (one.rows.tolist(), one.truth.tolist(), one.said.tolist(), one.came.tolist()) == (
        [4, 7],
        [1, 1],
        [1, 0],
        [0, 0],
    )
    assert (two.said.tolist(), two.came.tolist()) == ([2, 0, 2], [0, 0, 1])
    # A session whose JSON is missing was never finished.
    (tmp_path / "run" / "session-01.json").unlink()
    assert run.done() == 1
    assert len(run.answered()) == 1


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_no_answers(tmp_path: Path, score: float) -> None:
    run = Run(tmp_path / "run", "ncm", 0, 0)
    arrays = {"scores": torch.tensor([[0.1, score]]), "rows": torch.tensor([4]), "truth": torch.tensor([1])}
    run.write(0, arrays, {"classes": ["a", "b"], "sizes": [2]}, None)
    with pytest.raises(HarkbackError, match=r"session-00.safetensors: is damaged: scores .*; delete"):
        run.answered()


def test_a_session_without_scores_is_damaged(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", "ncm", 0, 0)
    run.write(0, {"scorez": torch.zeros(1, 2)}, {"classes": ["a", "b"], "sizes": [2]}, None)
    for read in (run.answered, lambda: run.scores(0)):
        with pytest.raises(HarkbackError, match=r"session-00.safetensors: is damaged: it has no scores; delete"):
            read()


def test_truth_columns() -> None:
    assert truth_columns(["b", "a", "b"], ("a", "b")).tolist() == [1, 0, 1]
    assert truth_columns([], ("a",)).shape == (0,)
    with pytest.raises(KeyError):
        truth_columns(["c"], ("a", "b"))
