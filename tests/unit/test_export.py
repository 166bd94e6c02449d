"""ONNX files: what they answer, what they say of themselves, and what is left when one cannot be made."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fakes import SHAPE, features_of, random_features, session_of, small, without
from harkback import __version__, recording
from harkback.contestants import changed
from harkback.errors import HarkbackError
from harkback.export import TOLERANCE, export
from harkback.features import Features, TokenShape, join
from harkback.learners.base import Learner, Looks
from harkback.learners.hark import Hark, HarkSettings
from harkback.learners.l3 import L3
from harkback.learners.ncm import NCM
from harkback.learners.ridge import Ridge
from harkback.registry import LEARNERS
from harkback.stream import Session

INSTALL = 'pip install "harkback[onnx]"'
onnx = pytest.importorskip("onnx", reason=f"ONNX IS NOT TESTED: {INSTALL}")
onnxruntime = pytest.importorskip("onnxruntime", reason=f"ONNX IS NOT TESTED: {INSTALL}")
pytest.importorskip("onnxscript", reason=f"ONNX IS NOT TESTED: {INSTALL}")

FIRST, SECOND = ("b", "a") * 6, ("d", "c") * 6
SIGNAL = TokenShape(audio_tokens=32, audio_dim=64, frames=8, patches=64, visual_dim=231)


def taught(kind: type[Learner[Any]], settings: Any = None) -> Learner[Any]:
    """Taught two sessions of two classes."""
    learner: Learner[Any] = kind(small(kind.Settings()) if settings is None else settings, memory=6, seed=3)
    learner.learn(session_of(FIRST))
    if learner.cumulative:
        return learner.learn(Session.of(join([features_of(FIRST), features_of(SECOND, 1)]), FIRST + SECOND))
    return learner.learn(session_of(SECOND, seed=1))


def asked(path: Path, clips: Features) -> dict[str, Tensor]:
    """What the file says of clips."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = {name: getattr(clips, name) for name in ("audio", "visual", "heard", "seen")}
    arrays = {name: (array.float() if array.is_floating_point() else array).numpy() for name, array in given.items()}
    said = session.run(None, arrays)
    return {output.name: torch.from_numpy(array) for output, array in zip(session.get_outputs(), said, strict=True)}


def facts_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads({p.key: p.value for p in onnx.load(path).metadata_props}["harkback"])
    return found


def same_answers(path: Path, learner: Learner[Any], shape: TokenShape = SHAPE, scale: float = 1.0) -> None:
    """The file says what the learner says, of clips that `export` did not ask it for."""
    for count, sound, picture in ((1, [], []), (1, [0], []), (1, [], [0]), (5, [1, 4], [2, 4]), (130, [7], [8])):
        clips = without(random_features(count, 99, shape, torch.float32), sound, picture)
        clips = replace(clips, audio=clips.audio * scale, visual=clips.visual * scale)
        said, scores = asked(path, clips), learner.scores(clips)
        assert said["scores"].dtype == torch.float32 and said["scores"].shape == scores.shape
        torch.testing.assert_close(said["scores"], scores, rtol=0, atol=TOLERANCE * float(scores.abs().max()))
        assert ("attention" in said) == isinstance(learner, Looks)
        if isinstance(learner, Looks):
            heat = learner.heat(clips)
            torch.testing.assert_close(said["attention"], heat, rtol=0, atol=TOLERANCE * float(heat.max()))
            assert torch.allclose(said["attention"].sum((1, 2)), torch.ones(count), atol=1e-5)


# ---- what a file answers --------------------------------------------------------------------------------------------

FAST = ("hark",)  # The method of this house.


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow]) for name in LEARNERS.names()]
)
def test_a_file_says_what_the_learner_says(name: str, tmp_path: Path) -> None:
    learner = taught(LEARNERS.load(name))
    path = tmp_path / f"{name}.onnx"
    difference = export(learner, SHAPE, path, metadata={"learner": name})
    assert 0 <= difference <= TOLERANCE
    same_answers(path, learner)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


SWITCHES: list[tuple[str, Mapping[str, Any]]] = [
    ("hark", {"guide": "none"}),
    ("hark", {"features": 0}),
    ("l3", {"network.guide": "none"}),  # Looks everywhere alike, whatever the clip.
    ("avcil", {"network.guide": "none"}),
    ("icarl", {"answer": "fc"}),
    ("afc", {"answer": "nme"}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "switch"), SWITCHES, ids=lambda each: each if isinstance(each, str) else str(each))
def test_settings_that_change_what_is_computed(name: str, switch: Mapping[str, Any], tmp_path: Path) -> None:
    kind = LEARNERS.load(name)
    learner = taught(kind, changed(small(kind.Settings()), switch))
    export(learner, SHAPE, tmp_path / "x.onnx", metadata={})
    same_answers(tmp_path / "x.onnx", learner)


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape", [SIGNAL, TokenShape(1, 3, 2, 3, 4), TokenShape(4, 3, 1, 5, 3), TokenShape(3, 2, 4, 1, 3)]
)
def test_hark_as_it_is_by_default_on_other_shapes(shape: TokenShape, tmp_path: Path) -> None:
    clips = without(random_features(24, 1, shape), sound=[3], picture=[4])
    learner = Hark(HarkSettings()).learn(Session.of(clips, ("a", "b", "c") * 8))
    export(learner, shape, tmp_path / "x.onnx", metadata={}, like=clips)
    same_answers(tmp_path / "x.onnx", learner, shape)


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["sound", "picture"])
def test_taught_without_sound_or_without_picture(missing: str, tmp_path: Path) -> None:
    clips = without(features_of(FIRST), **{missing: range(12)})
    learner = Hark(small(HarkSettings())).learn(Session.of(clips, FIRST))
    export(learner, SHAPE, tmp_path / "x.onnx", metadata={})
    same_answers(tmp_path / "x.onnx", learner)


def test_the_difference_is_that_of_the_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is off by a known amount is said to be off by that."""
    learner = taught(NCM)  # Whose scores are cosines.
    said: list[Tensor] = []
    plain = Learner.scores

    def moved(self: Learner[Any], features: Any) -> Tensor:
        scores = plain(self, features)
        said.append(scores)
        return scores + 2e-6 * (scores == scores.max())  # The greatest of each batch.

    monkeypatch.setattr(Learner, "scores", moved)
    difference = export(learner, SHAPE, tmp_path / "x.onnx", metadata={})
    assert difference == pytest.approx(2e-6 / float(torch.cat(said).abs().max()), rel=0.1)  # float32 rounds 2e-6, too.


# ---- what a file says of itself -------------------------------------------------------------------------------------


def test_a_file_names_its_classes_and_its_shapes_and_no_path(tmp_path: Path) -> None:
    learner = Ridge().learn(session_of(("Glöckchen", 'a "quoted" | name') * 6))
    path = tmp_path / "deep" / "x.onnx"
    export(learner, SHAPE, path, metadata={"encoder_key": "0123", "learner": "ridge", "classes": "mine"})
    assert facts_of(path) == {
        "encoder_key": "0123",
        "learner": "ridge",
        "classes": ["Glöckchen", 'a "quoted" | name'],
        "version": __version__,
    }
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    shapes = {
        value.name: [each.dim_param or each.dim_value for each in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {
        "audio": ["clips", 6, 5],
        "visual": ["clips", 3, 4, 7],
        "heard": ["clips"],
        "seen": ["clips"],
        "scores": ["clips", 2],
    }
    written = path.read_bytes()
    for place in (Path(recording.__file__).parent, Path(torch.__file__).parent, tmp_path):
        assert str(place).encode() not in written
    assert b"File " not in written and b"pkg.torch" not in written


@pytest.mark.slow
def test_equal_learners_make_equal_files_and_draw_nothing_of_torch_s_own(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    files = []
    for place in ("one.onnx", "two.onnx"):
        learner = Hark(small(HarkSettings()), seed=5).learn(session_of(FIRST))
        state = learner.state()
        export(learner, SHAPE, tmp_path / place, metadata={})
        assert all(torch.equal(array, state[name]) for name, array in learner.state().items())
        files.append((tmp_path / place).read_bytes())
    assert files[0] == files[1]
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.slow
def test_what_is_used_twice_is_kept_once(tmp_path: Path) -> None:
    """Scores and look both need the random features and the gaze, by far the largest arrays."""
    learner = taught(Hark)
    export(learner, SHAPE, tmp_path / "x.onnx", metadata={})
    arrays = [onnx.numpy_helper.to_array(each) for each in onnx.load(tmp_path / "x.onnx").graph.initializer]
    large = [(str(a.dtype), a.shape, a.tobytes()) for a in arrays if a.size > 50]
    assert len(set(large)) == len(large) and len(large) >= 4
    assert any(a.shape == tuple(learner.gaze.shape) and np.array_equal(a, learner.gaze.numpy()) for a in arrays)


@pytest.mark.slow
def test_nothing_is_printed(tmp_path: Path) -> None:
    """Asked of a process of its own: what the exporter logs depends on what was imported before."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from fakes import SHAPE, session_of\n"
        "from harkback.export import export\n"
        "from harkback.learners.ncm import NCM\n"
        "export(NCM().learn(session_of(('a', 'b'))), SHAPE, Path(sys.argv[2]), metadata={})\n"
    )
    place = str(tmp_path / "x.onnx")
    command = [sys.executable, "-c", script, str(Path(__file__).parents[1]), place]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert Path(place).is_file()


@pytest.mark.slow
def test_logging_is_as_it_was_afterwards(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    export(taught(NCM), SHAPE, tmp_path / "x.onnx", metadata={})
    logging.getLogger("harkback").warning("heard again")
    assert [message for message in caplog.messages if message] == ["heard again"]  # torch traces itself wordlessly.


# ---- what they are compared on --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_clips_compared_are_like_those_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every channel has its own mean and deviation; clips without sound or picture tell nothing of either."""
    given = without(random_features(60, 2, dtype=torch.float32), sound=range(20), picture=range(40, 60))
    given.audio[20:] = given.audio[20:] * torch.arange(1, 6) + 100
    given.visual[:40] = given.visual[:40] * 0.01 - 3
    seen: list[Features] = []
    plain = Learner.scores

    def watched(self: Learner[Any], features: Features) -> Tensor:
        seen.append(features)
        return plain(self, features)

    monkeypatch.setattr(Learner, "scores", watched)
    export(taught(Ridge), SHAPE, tmp_path / "x.onnx", metadata={}, like=given)
    assert [len(clips) for clips in seen] == [1, 2, 7]
    clips = join(seen)
    assert not clips.heard.all() and not clips.seen.all() and not (clips.heard | clips.seen).all()
    audio, visual = clips.audio[clips.heard].flatten(0, 1), clips.visual[clips.seen].flatten(0, 2)
    assert torch.allclose(audio.mean(0), torch.full((5,), 100.0), atol=3)
    assert torch.allclose(audio.std(0), torch.arange(1.0, 6.0), rtol=0.4)
    assert torch.allclose(visual.mean(0), torch.full((7,), -3.0), atol=0.01)
    assert torch.allclose(visual.std(0), torch.full((7,), 0.01), rtol=0.4)
    assert not clips.audio[~clips.heard].any() and not clips.visual[~clips.seen].any()


# ---- when there is no file ------------------------------------------------------------------------------------------


def complaint(learner: Learner[Any], path: Path, **options: Any) -> str:
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(HarkbackError) as raised:
        export(learner, SHAPE, path, metadata={}, **options)
    assert (path.read_bytes() if path.exists() else None) == before
    assert not path.parent.exists() or {each.name for each in path.parent.iterdir()} <= {path.name}
    line = str(raised.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_without_a_package(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    line = complaint(taught(NCM), tmp_path / "x.onnx")
    assert line == f"an ONNX file cannot be written without {package}; {INSTALL}"


class Aside(NCM):
    """Answers by what no graph can hold."""

    def _scores(self, features: Features) -> Tensor:
        return torch.from_numpy(features.audio.numpy().mean((1, 2)))[:, None] + super()._scores(features)


class Deciding(NCM):
    def _scores(self, features: Features) -> Tensor:
        scores = super()._scores(features)
        return scores if features.audio.mean() > 0 else -scores


class Broken(NCM):
    def _scores(self, features: Features) -> Tensor:
        raise RuntimeError("\n  first line\nsecond line")


class Foreign(NCM):
    def _scores(self, features: Features) -> Tensor:
        return super()._scores(features) + torch.special.bessel_j0(features.audio.mean((1, 2)))[:, None]


def test_a_file_that_answers_otherwise_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"the file of yesterday")
    learner = Aside().learn(session_of(FIRST))
    line = complaint(learner, path)
    assert line.startswith(f"{path}: its answers would differ from PyTorch's by ") and "`like`" in line
    assert "tell us of it" in complaint(learner, path, like=features_of(FIRST))


@pytest.mark.slow
def test_a_learner_that_no_graph_can_hold(tmp_path: Path) -> None:
    line = complaint(Deciding().learn(session_of(FIRST)), tmp_path / "x.onnx")
    assert line.startswith("Deciding cannot be written as ONNX: it looks at a clip's numbers") and "Python" in line
    line = complaint(Broken().learn(session_of(FIRST)), tmp_path / "x.onnx")
    assert line.startswith("Broken cannot be written as ONNX: first line; ")
    line = complaint(Foreign().learn(session_of(FIRST)), tmp_path / "x.onnx")
    assert line.startswith("Foreign cannot be written as ONNX: ") and "update" in line


@pytest.mark.slow
def test_a_file_that_onnxruntime_cannot_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*args: Any, **options: Any) -> Any:
        raise RuntimeError("[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuses)
    line = complaint(taught(NCM), tmp_path / "x.onnx")
    assert f"onnxruntime {onnxruntime.__version__} cannot run it" in line and "NOT_IMPLEMENTED" in line


def test_nothing_taught_and_too_much_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nothing was taught" in complaint(Hark(), tmp_path / "x.onnx")
    learner = taught(Hark)
    monkeypatch.setattr(recording, "LARGEST", learner.gaze.numel() * 8)
    assert "too many for one ONNX file" in complaint(learner, tmp_path / "x.onnx")


@pytest.mark.slow
def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").mkdir()
    with pytest.raises(HarkbackError, match=r"choose|check"):
        export(taught(NCM), SHAPE, tmp_path / "x.onnx", metadata={})
    assert [each.name for each in tmp_path.iterdir()] == ["x.onnx"] and not list((tmp_path / "x.onnx").iterdir())


@pytest.mark.slow
def test_numbers_that_are_none_are_no_agreement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = taught(L3)
    monkeypatch.setattr(learner, "heat", lambda features: torch.full((len(features), 3, 4), torch.nan))
    assert "by nan" in complaint(learner, tmp_path / "x.onnx")
