"""Encoders that need a model, as a person meets them on the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from commands import failure, result
from harkback.cli import main
from tiny_models import sam_audio_folder

SAM = ["--encoder", "sam-audio", "--device", "cpu"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sam_audio_folder(tmp_path_factory.mktemp("sam") / "model")


@pytest.mark.slow
def test_extract_then_bench(clips: Path, model: Path, tmp_path: Path, capsys: Any) -> None:
    argv = [clips, *SAM, "--model", model, "--store", tmp_path / "features"]
    first = result(capsys, "extract", *argv)
    assert (first["encoder"], first["clips"], first["encoded"], first["skipped"]) == ("sam-audio", 24, 24, [])
    assert result(capsys, "extract", *argv)["encoded"] == 0
    out = ["--out", tmp_path / "out", "--learners", "l3,ridge", "--sessions", "2", "--seeds", "1"]
    found = result(capsys, "bench", *argv, *out, "--l3.train.epochs", "2")
    assert found["encoder"] == "sam-audio"
    assert [row["learner"] for row in found["rows"]] == ["l3", "ridge"]
    facts = json.loads((tmp_path / "features" / "store.json").read_text())["encoder"]
    assert (facts["name"], facts["licence"], facts["computed_with"]["precision"]) == (
        "sam-audio",
        "SAM License",
        "float32",
    )


def test_settings_of_encoders_are_flags(clips: Path, model: Path, tmp_path: Path, capsys: Any) -> None:
    flags = ["--sam-audio.frames", "2", "--sam-audio.grid", "2", "--sam-audio.audio-tokens", "5"]
    result(capsys, "extract", clips, *SAM, "--model", model, "--store", tmp_path / "features", *flags)
    shape = json.loads((tmp_path / "features" / "store.json").read_text())["encoder"]["shape"]
    assert (shape["frames"], shape["patches"], shape["audio_tokens"]) == (2, 4, 5)
    with pytest.raises(SystemExit):
        main(["extract", "--help"])
    told = capsys.readouterr().out
    assert "--sam-audio.fused-time" in told and "--model" in told and "flow time" in told


def test_another_model_is_another_store(clips: Path, model: Path, tmp_path: Path, capsys: Any) -> None:
    argv = ["extract", clips, *SAM, "--store", tmp_path / "features"]
    result(capsys, *argv, "--model", model)
    other = sam_audio_folder(tmp_path / "other", seed=1)
    assert "--store" in failure(capsys, *argv, "--model", other)
    moved = tmp_path / "moved"  # The same weights in another place are the same model.
    shutil.copytree(model, moved)
    assert result(capsys, *argv, "--model", moved)["encoded"] == 0


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--encoder", "sam-audio"], ["--model", "needs a model", "facebook/sam-audio-small"]),
        (["--model", "MODEL"], ["--model", "computes without a model", "leave it out"]),
        (["--device", "cpu"], ["--device", "leave it out"]),
        ([*SAM, "--model", "nowhere"], ["nowhere", "no such folder", "facebook/sam-audio-small"]),
        ([*SAM, "--model", "./org/nowhere"], ["no such folder", "facebook/sam-audio-small"]),
        ([*SAM, "--model", "CLIPS"], ["no SAM-Audio model", "config.json"]),
        ([*SAM, "--model", "MODEL", "--sam-audio.layer", "9"], ["layer is 9", "-2 to 1"]),
        ([*SAM, "--model", "MODEL", "--dtype", "int3"], ["int3", "float32"]),
        (["--encoder", "sam-audio", "--device", "tpu", "--model", "MODEL"], ["tpu", "cpu"]),
        (["--encoder", "sam"], ['no encoder "sam"', "sam-audio", "signal"]),
    ],
)
def test_what_cannot_be(
    clips: Path, model: Path, argv: list[str], words: list[str], tmp_path: Path, capsys: Any
) -> None:
    places = {"MODEL": str(model), "CLIPS": str(clips)}
    line = failure(capsys, "extract", clips, "--store", tmp_path / "s", *(places.get(word, word) for word in argv))
    assert all(word in line for word in words), line


def test_a_folder_of_another_model(clips: Path, model: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "whisper"}))
    line = failure(capsys, "extract", clips, *SAM, "--model", tmp_path)
    assert "another model" in line and "whisper" in line
