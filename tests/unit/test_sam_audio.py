"""`SamAudio` on tiny folders: what it reads, what it refuses, and that neither length nor company changes a token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from harkback.encoders import _codec, _eye
from harkback.encoders._codec import Codec, latents_of, whole_hops
from harkback.encoders._time import nearest, spread
from harkback.encoders.sam_audio import SamAudio, SamAudioSettings
from harkback.errors import HarkbackError
from harkback.media import Media
from tiny_models import sam_audio_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sam_audio_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def model(folder: Path) -> SamAudio:
    return SamAudio.from_pretrained(folder, device="cpu")


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pictures(count: int, height: int = 40, width: int = 60, seed: int = 0) -> Tensor:
    some = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=some)


def clip(seconds: float = 0.5, count: int = 8, seed: int = 0) -> Media:
    times = (torch.arange(count) + 0.5) * seconds / count
    return Media(noise(1, round(48_000 * seconds), seed=seed), 48_000, pictures(count, seed=seed), times, seconds)


# ---- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tokens", "cells", "length"), [(4, 8, 8.0), (50, 13, 12.3), (3, 1, 0.01), (7, 50, 49.5)])
def test_spread_is_the_mean_of_a_step_function(tokens: int, cells: int, length: float) -> None:
    """By brute force: cells as steps, sampled finely."""
    weight = spread(tokens, cells, length)
    fine = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    cell = (fine * length).long().clamp_max(cells - 1)
    token = (fine * tokens).long()
    expected = torch.zeros(tokens, cells).index_put((token, cell), torch.tensor(1.0), accumulate=True)
    torch.testing.assert_close(weight, expected / expected.sum(1, keepdim=True), rtol=0, atol=2e-3)
    torch.testing.assert_close(weight.sum(1), torch.ones(tokens))


def test_nearest_takes_the_earlier_of_two() -> None:
    assert nearest(torch.tensor([0.1, 0.3, 0.5]), torch.tensor([0.0, 0.2, 0.21, 0.4, 9.0])).tolist() == [0, 0, 1, 1, 2]


# ---- the codec -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 2, 700, 1919, 1920, 1921, 24_777])
def test_a_latent_for_each_begun_hop(model: SamAudio, samples: int) -> None:
    found = model.audio_latents(noise(2, samples))
    assert found.shape == (2, -(-samples // 1920), model.codec.channels)
    assert found.isfinite().all()


@pytest.mark.parametrize("samples", [961, 1000, 1919, 1920, 1921, 5000])
def test_the_end_is_mirrored_as_torch_mirrors(samples: int) -> None:
    x = noise(2, samples)
    expected = torch.nn.functional.pad(x, (0, -samples % 1920), mode="reflect")
    assert torch.equal(whole_hops(x, 1920), expected)


def test_a_short_end_is_mirrored_to_and_fro() -> None:
    assert whole_hops(torch.tensor([[1.0, 2.0, 3.0]]), 8).tolist() == [[1, 2, 3, 2, 1, 2, 3, 2]]
    assert whole_hops(torch.tensor([[5.0]]), 3).tolist() == [[5, 5, 5]]


def test_windows_change_nothing(model: SamAudio, monkeypatch: pytest.MonkeyPatch) -> None:
    waves = noise(2, 100_000)
    monkeypatch.setitem(_codec.AT_ONCE, "cpu", 1 << 30)
    at_once = latents_of(model.codec, waves)
    for size in (2 * model.codec.reach + 1, 2 * model.codec.reach + 5):
        monkeypatch.setitem(_codec.AT_ONCE, "cpu", size * 1920)
        torch.testing.assert_close(latents_of(model.codec, waves), at_once, rtol=0, atol=1e-5)


def test_reach_is_how_far_a_sample_is_heard(model: SamAudio) -> None:
    """By brute force: latents that move with one sample, for samples at every place of a hop."""
    codec: Codec = model.codec
    waves = noise(1, 40 * 1920)
    plain = codec(waves)
    furthest = 0
    for place in (0, 1, 500, 960, 1918, 1919):
        moved = waves.clone()
        moved[0, 20 * 1920 + place] += 0.5
        changed = (codec(moved) - plain).abs().amax((0, 2)).nonzero().flatten()
        furthest = max(furthest, int((changed - 20).abs().max()))
    assert 0 < furthest <= codec.reach <= furthest + 2


# ---- what is read ----------------------------------------------------------------------------------------------------


def test_a_tower_is_read_when_it_is_used_and_stays_mapped(folder: Path) -> None:
    model = SamAudio.from_pretrained(folder, device="cpu")
    model.audio_latents(noise(1, 4000))
    assert "vision" not in vars(model)
    assert "fusion" not in vars(model)
    model.patch_tokens(pictures(1))
    assert "fusion" not in vars(model)
    held = model.checkpoint.tensors["vision_encoder.model.visual.conv1.weight"]
    assert model.vision.conv1.weight.data_ptr() == held.data_ptr()


@pytest.mark.parametrize("kind", ["safetensors", "shards", "parametrized", "folded"])
def test_other_ways_to_store_the_same_weights(folder: Path, model: SamAudio, tmp_path: Path, kind: str) -> None:
    from safetensors.torch import save_file

    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    tensors = {name: t.clone() for name, t in torch.load(folder / "checkpoint.pt", weights_only=True).items()}
    if kind == "parametrized":
        new = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
        for name in [name for name in tensors if name.startswith("audio_codec.encoder")]:
            stem, _, part = name.rpartition(".")
            tensors[f"{stem}.{new.get(part, part)}"] = tensors.pop(name)
    if kind == "folded":
        for name in [name for name in tensors if name.startswith("audio_codec.") and name.endswith("weight_v")]:
            stem = name.removesuffix("_v")
            v, g = tensors.pop(name), tensors.pop(f"{stem}_g")
            tensors[stem] = g * v / v.flatten(1).norm(dim=1)[:, None, None]
    if kind == "shards":
        names = sorted(tensors)
        for i, part in enumerate((names[::2], names[1::2])):
            save_file({name: tensors[name] for name in part}, tmp_path / f"part-{i}.safetensors")
        where = {name: f"part-{i % 2}.safetensors" for i, name in enumerate(names)}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    elif kind == "safetensors":
        save_file(tensors, tmp_path / "model.safetensors")
    else:
        torch.save(tensors, tmp_path / "checkpoint.pt")
    other = SamAudio.from_pretrained(tmp_path, device="cpu")
    torch.testing.assert_close(other.audio_latents(noise(1, 9000)), model.audio_latents(noise(1, 9000)))
    assert torch.equal(other.patch_tokens(pictures(2)), model.patch_tokens(pictures(2)))
    if kind in ("safetensors", "shards"):
        assert other.spec.key == model.spec.key


@pytest.mark.parametrize(
    ("part", "name"),
    [("audio_codec", "encoder_rates"), ("audio_codec", "sample_rate"), ("vision_encoder", "image_size")],
)
@pytest.mark.parametrize("said", [None, "many"])
def test_a_config_that_does_not_say_what_is_needed(
    folder: Path, tmp_path: Path, part: str, name: str, said: object
) -> None:
    config = json.loads((folder / "config.json").read_text())
    if said is None:
        del config[part][name]
    else:
        config[part][name] = said
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "checkpoint.pt").symlink_to(folder / "checkpoint.pt")
    with pytest.raises(HarkbackError, match=rf"config\.json: does not say {part}\.{name}"):
        SamAudio.from_pretrained(tmp_path, device="cpu").encode([clip()])
        SamAudio.from_pretrained(tmp_path, device="cpu").spec  # noqa: B018


def test_a_file_without_the_dit_serves_as_long_as_nobody_asks_for_it(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    tensors = torch.load(folder / "checkpoint.pt", weights_only=True)
    kept = {name: t.clone() for name, t in tensors.items() if name.startswith(("audio_codec.", "vision_encoder."))}
    torch.save(kept, tmp_path / "checkpoint.pt")
    model = SamAudio.from_pretrained(tmp_path, device="cpu")
    assert model.encode([clip()]).heard.all()
    with pytest.raises(HarkbackError, match=r"transformer\."):
        model.hidden_states(model.audio_latents(noise(1, 4000)), None, 0.0, -1)


def test_other_sizes(tmp_path: Path) -> None:
    """Nothing is hard-coded: other widths, depths, heads, rates and channels load and are told."""
    sizes = {"dim": 96, "heads": 3, "layers": 4, "vision_width": 192, "vision_blocks": 3, "channels": 24}
    other = SamAudio.from_pretrained(sam_audio_folder(tmp_path, **sizes), device="cpu")
    assert (other.codec.channels, other.vision.width, other.vision.depth) == (24, 192, 3)
    assert (other.fusion.width, other.fusion.depth) == (96, 4)
    latents = other.audio_latents(noise(2, 6000))
    assert other.hidden_states(latents, None, 0.0, -1).shape == (2, 4, 96)
    assert other.encode([clip()]).shape == other.spec.shape


# ---- the encoder -----------------------------------------------------------------------------------------------------


def test_the_key_names_the_weights_and_the_settings_not_the_precision(
    folder: Path, model: SamAudio, tmp_path: Path
) -> None:
    def key(of: Path = folder, dtype: str | None = None, **settings: object) -> str:
        chosen = replace(SamAudioSettings(), **settings)  # type: ignore[arg-type]
        return SamAudio.from_pretrained(of, device="cpu", dtype=dtype, settings=chosen).spec.key

    assert key() == key() == key(dtype="bfloat16") == model.spec.key
    others = [key(layer=0), key(grid=2), key(frames=4), key(audio_tokens=9), key(per_second=5.0), key(sound="fused")]
    assert len({key(), *others, key(sam_audio_folder(tmp_path, seed=5))}) == 8


def test_bfloat16_tokens_are_near(folder: Path, model: SamAudio) -> None:
    half = SamAudio.from_pretrained(folder, device="cpu", dtype="bfloat16")
    assert half.vision.conv1.weight.dtype == torch.bfloat16
    assert half.codec.encoder.block[0].weight.dtype == torch.float32  # The codec never loses precision.
    one, other = (m.encode([clip()]).visual.float() for m in (model, half))
    assert (one - other).abs().mean() < 0.02 * one.abs().mean() + 0.02


def test_pictures_beyond_the_frames_are_averaged_into_them(folder: Path) -> None:
    settings = SamAudioSettings(frames=2, per_second=25.0)
    model = SamAudio.from_pretrained(folder, device="cpu", settings=settings)
    assert model.spec.per_second == 25.0
    many = clip(count=6)
    assert many.frames is not None
    tokens = model.patch_tokens(many.frames).unflatten(0, (2, 3)).mean(1)  # (2, patches, width)
    torch.testing.assert_close(model.encode([many]).visual[0].float(), tokens, rtol=2e-3, atol=2e-3)


def test_a_grid_is_the_mean_of_its_patches(folder: Path) -> None:
    model = SamAudio.from_pretrained(folder, device="cpu", settings=SamAudioSettings(grid=2))
    tokens = model.patch_tokens(pictures(8)).unflatten(1, (4, 4))  # (8, rows, columns, width)
    expected = torch.stack([tokens[:, r : r + 2, c : c + 2].mean((1, 2)) for r in (0, 2) for c in (0, 2)], 1)
    torch.testing.assert_close(model.encode([clip()]).visual[0].float(), expected, rtol=2e-3, atol=2e-3)


def test_vectors_instead_of_patches(folder: Path) -> None:
    model = SamAudio.from_pretrained(folder, device="cpu", settings=SamAudioSettings(visual="vectors"))
    found = model.encode([clip()])
    assert found.shape == model.spec.shape
    torch.testing.assert_close(found.visual[0, :, 0].float(), model.frame_vectors(pictures(8)), rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(found.visual.float().norm(dim=-1), torch.ones(1, 8, 1), rtol=2e-3, atol=2e-3)


def test_fused_tokens_hang_on_picture_sound_time_and_layer(folder: Path) -> None:
    def tokens(of: Media, **settings: object) -> Tensor:
        chosen = replace(SamAudioSettings(sound="fused"), **settings)  # type: ignore[arg-type]
        found = SamAudio.from_pretrained(folder, device="cpu", settings=chosen).encode([of])
        assert found.heard.tolist() == [True]
        return found.audio[0]

    here = clip()
    blind = Media(here.waveform, here.sample_rate, None, torch.zeros(0), here.duration)
    plain = tokens(here)
    assert torch.equal(plain, tokens(here))
    for other in (
        tokens(blind),
        tokens(replace(here, frames=pictures(8, seed=3))),
        tokens(replace(here, waveform=noise(1, 24_000, seed=3))),
        tokens(here, fused_time=0.5),
        tokens(here, fused_layer=0),
    ):
        assert (plain - other).abs().max() > 1e-2


def test_at_the_end_of_the_flow_no_noise_is_left(model: SamAudio) -> None:
    latents = model.audio_latents(noise(1, 20_000))
    silence = model._silence.expand_as(latents)
    given = torch.cat([latents, silence], -1)
    expected = model.hidden_states(latents, None, 1.0, -1, noise=given)
    torch.testing.assert_close(model.hidden_states(latents, None, 1.0, -1), expected)


def test_another_number_of_pictures_than_asked(model: SamAudio) -> None:
    with pytest.raises(RuntimeError):
        model.encode([clip(count=7)])


@pytest.mark.parametrize(
    "wrong",
    [
        {"layer": 9},
        {"layer": -9},
        {"frames": 0},
        {"grid": 0},
        {"fused_layer": 7, "sound": "fused"},
        {"fused_time": 1.5},
        {"per_second": -1.0},
    ],
)
def test_settings_that_mean_nothing(folder: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(HarkbackError, match=next(iter(wrong))):
        SamAudio.from_pretrained(folder, device="cpu", settings=replace(SamAudioSettings(), **wrong))  # type: ignore[arg-type]


def test_devices_and_precisions_that_are_not_there(folder: Path) -> None:
    with pytest.raises(HarkbackError, match="no device"):
        SamAudio.from_pretrained(folder, device="cuda:99")
    with pytest.raises(HarkbackError, match="no precision"):
        SamAudio.from_pretrained(folder, device="cpu", dtype="int3")


def test_too_little_memory_is_said_before_loading(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harkback.encoders._device.available", lambda device: 1_000_000)
    with pytest.raises(HarkbackError, match=r"0\.3 GB of memory, and 0\.0 GB are free"):
        SamAudio.from_pretrained(folder, device="cpu").audio_latents(noise(1, 4000))


def test_a_full_device_is_given_less_at_once(model: SamAudio, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    stream = model.vision.stream

    def scarce(x: Tensor, layer: int = -1) -> Tensor:
        sizes.append(len(x))
        if len(x) > 1:
            raise torch.OutOfMemoryError
        return stream(x, layer)

    expected = model.patch_tokens(pictures(3))
    monkeypatch.setattr(model.vision, "stream", scarce)
    monkeypatch.setitem(_eye.AT_ONCE, "cpu", 4)
    torch.testing.assert_close(model.patch_tokens(pictures(3)), expected)
    assert sizes == [3, 2, 1, 1, 1]


@pytest.mark.gpu
def test_a_gpu_gives_the_tokens_of_the_cpu(folder: Path, model: SamAudio) -> None:
    other = SamAudio.from_pretrained(folder, device="cuda", dtype="float32")
    one, two = model.encode([clip()]), other.encode([clip()])
    torch.testing.assert_close(one.audio, two.audio, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(one.visual, two.visual, rtol=1e-2, atol=1e-2)
