"""Model folders that are not what they should be: one line that says why, and no pickle is ever run."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from harkback.encoders._checkpoint import weights_digest
from harkback.encoders.sam_audio import SamAudio
from harkback.errors import HarkbackError
from tiny_models import sam_audio_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return sam_audio_folder(tmp_path / "model")


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, ("exploded",))


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def other_config(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))


def no_weights(folder: Path) -> None:
    (folder / "checkpoint.pt").unlink()


def cut_short(folder: Path) -> None:
    held = (folder / "checkpoint.pt").read_bytes()
    (folder / "checkpoint.pt").write_bytes(held[: len(held) // 2])


def empty(folder: Path) -> None:
    (folder / "checkpoint.pt").write_bytes(b"")


def text(folder: Path) -> None:
    (folder / "checkpoint.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5100148344\n")


def broken_safetensors(folder: Path) -> None:
    (folder / "checkpoint.pt").unlink()
    (folder / "model.safetensors").write_bytes(b"these are words")


def empty_index(folder: Path) -> None:
    (folder / "checkpoint.pt").unlink()
    (folder / "model.safetensors.index.json").write_text("{}")


def missing_shard(folder: Path) -> None:
    (folder / "checkpoint.pt").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "part.safetensors"}}))


def bomb(folder: Path) -> None:
    torch.save({"weights": Bomb()}, folder / "checkpoint.pt")


def old_bomb(folder: Path) -> None:
    (folder / "checkpoint.pt").write_bytes(pickle.dumps(Bomb()))


def a_list(folder: Path) -> None:
    torch.save([torch.zeros(3)], folder / "checkpoint.pt")


def lacks_a_tower(folder: Path) -> None:
    change(folder, lambda tensors: {name: t for name, t in tensors.items() if not name.startswith("audio_codec.")})


def lacks_a_tensor(folder: Path) -> None:
    change(folder, lambda tensors: {name: t for name, t in tensors.items() if not name.endswith("ln_post.weight")})


def another_shape(folder: Path) -> None:
    change(folder, lambda tensors: {name: t[:3] if name.endswith("visual.proj") else t for name, t in tensors.items()})


def change(folder: Path, how: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    tensors = {name: t.clone() for name, t in torch.load(folder / "checkpoint.pt", weights_only=True).items()}
    torch.save(how(tensors), folder / "checkpoint.pt")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (no_config, "there is no config.json"),
        (broken_config, "config.json: is damaged"),
        (other_config, "is the folder of another model, not of SAM-Audio: its config.json says bert"),
        (no_weights, "there is no checkpoint.pt or model.safetensors"),
        (cut_short, "checkpoint.pt: is damaged"),
        (empty, "checkpoint.pt: is damaged"),
        (text, "checkpoint.pt: is damaged"),
        (broken_safetensors, "model.safetensors: is damaged"),
        (empty_index, "names no files of tensors"),
        (missing_shard, "part.safetensors: No such file"),
        (bomb, "is a pickle that wants more than to hold tensors, and was not run"),
        (old_bomb, "checkpoint.pt: is"),
        (a_list, "is not a plain dictionary of tensors"),
        (lacks_a_tower, 'holds no tensors "audio_codec.*"'),
        (lacks_a_tensor, "its tensors do not fit together"),
        (another_shape, "its tensors do not fit together"),
    ],
)
def test_a_folder_that_is_no_model(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], None], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    spoil(folder)
    with pytest.raises(HarkbackError) as caught:
        model = SamAudio.from_pretrained(folder, device="cpu")
        model.frame_vectors(torch.zeros(1, 9, 9, 3, dtype=torch.uint8))
    assert said in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert ";" in str(caught.value)  # It says what to do.
    assert not (tmp_path / "exploded").exists()


def test_the_digest_hangs_on_names_shapes_and_every_byte() -> None:
    weights = {"a": torch.arange(6.0), "b": torch.ones(2, 3)}
    same = {"b": torch.ones(2, 3), "a": torch.arange(6.0)}
    assert weights_digest(weights) == weights_digest(same)
    nudged = torch.arange(6.0)
    nudged[3] = torch.nextafter(nudged[3], torch.tensor(9.0))
    others = [
        {**weights, "a": nudged},
        {**weights, "b": torch.ones(3, 2)},
        {"c": weights["a"], "b": weights["b"]},
        {**weights, "a": weights["a"].double()},
    ]
    assert len({weights_digest(weights), *map(weights_digest, others)}) == 5
