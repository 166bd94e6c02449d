"""PE-AV's towers against outputs of the official modules, from a folder as transformers saves it to tokens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from harkback.encoders.pe_av import PeAv

pytest.importorskip("transformers", minversion="5.0", reason="NOT CHECKED: PE-AV needs the extra [pe-av]")

CLOSE = 2e-5  # of the largest reference value, in float32 on the CPU
GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden" / "pe_av.pt"
TWINS = {
    "embedder.audio_encoder.": "audio_model.audio_encoder.",
    "embedder.video_encoder.": "video_model.video_encoder.",
}
HOP = 1920

pytestmark = pytest.mark.skipif(not GOLDEN.is_file(), reason="NOT CHECKED: the golden fixtures are not at hand")


@dataclass(frozen=True)
class Held:
    model: PeAv
    given: dict[str, Tensor]
    expected: dict[str, Tensor]

    @property
    def waves(self) -> Tensor:
        return self.given["input_values"][:, 0]

    def vectors(self, name: str) -> Tensor:
        """The fixtures hold preprocessed pixels."""
        pixels = self.given[name]
        return self.model.vision(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])

    def check(self, found: Tensor, name: str, valid: Tensor | None = None) -> None:
        """valid: (clips, times) bool: the others mean nothing upstream, and are zero here."""
        expected = self.expected[name]
        assert found.shape == expected.shape
        if valid is not None:
            assert not found[~valid].any()
            found, expected = found[valid], expected[valid]
        assert float((found - expected).abs().max() / self.expected[name].abs().max()) <= CLOSE


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Held:
    fixture: dict[str, Any] = torch.load(GOLDEN, weights_only=True)
    folder = tmp_path_factory.mktemp("pe-av")
    tensors = {}
    for name, tensor in fixture["state_dict_transformers"].items():
        twin = next((twin for twin in TWINS if name.startswith(twin)), None)
        where = f"audio_video_encoder.{name}" if twin is None else TWINS[twin] + name.removeprefix(twin)
        tensors[where] = tensor.contiguous()
    save_file(tensors, folder / "model.safetensors")
    config = {"model_type": "pe_audio_video", "audio_video_config": fixture["config"]["transformers"]}
    (folder / "config.json").write_text(json.dumps(config))
    return Held(PeAv.from_pretrained(folder, device="cpu"), fixture["inputs"], fixture["outputs"])


def test_the_codec(held: Held) -> None:
    held.check(held.model.audio_latents(held.waves), "codec_latents_BTC")


def test_vectors_of_pictures(held: Held) -> None:
    held.check(held.vectors("pixel_values_videos"), "pe_features")


def test_audio_tokens(held: Held) -> None:
    held.check(held.model.audio_tokens(held.waves), "audio_tokens")


def test_video_tokens(held: Held) -> None:
    held.check(held.model.watch(held.vectors("pixel_values_videos")), "video_tokens")


@pytest.mark.parametrize(
    ("pictures", "name"),
    [("pixel_values_videos", "joint_tokens"), ("pixel_values_videos_4", "hf_joint_tokens_4frames")],
    ids=["10 frames", "4 frames"],
)
def test_joint_tokens(held: Held, pictures: str, name: str) -> None:
    model = held.model
    held.check(model.join(model.audio_tokens(held.waves), model.watch(held.vectors(pictures))), name)


def test_masked_tokens(held: Held) -> None:
    model, waves_mask, frames_mask = held.model, held.given["padding_mask"], held.given["padding_mask_videos"]
    heard = waves_mask[:, ::HOP]
    audio = model.audio_tokens(held.waves, waves_mask)
    held.check(audio, "masked_audio_tokens", heard)
    video = model.watch(held.vectors("pixel_values_videos_4"), frames_mask)
    held.check(video, "masked_video_tokens", frames_mask)
    held.check(model.join(audio, video, heard, frames_mask), "masked_joint_tokens", heard)


def test_pooled(held: Held) -> None:
    """No tokens of ours, but what else the towers say: the class token in front of them."""
    model = held.model
    audio, vectors = model.audio_tokens(held.waves), held.vectors("pixel_values_videos")
    there = torch.ones(audio.shape[:2], dtype=torch.bool)
    video = model.watch(vectors)
    held.check(model.audio_tower(model.audio_latents(held.waves)).pooler_output, "audio_pooled")
    held.check(model.video_tower(vectors).pooler_output, "video_pooled")
    held.check(model.joint_tower(audio, video, None, there).pooler_output, "joint_pooled")
