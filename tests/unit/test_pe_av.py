"""`PeAv` on tiny folders: the same tokens as transformers' own modules, what it reads, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from harkback.encoders import _pe_av
from harkback.encoders._pe_av import aligned, in_windows
from harkback.encoders.pe_av import PeAv, PeAvSettings
from harkback.errors import HarkbackError
from harkback.media import Media
from harkback.pictures import pixels
from tiny_models import tiny_pe_av

transformers = pytest.importorskip(
    "transformers", minversion="5.0", reason="NOT CHECKED: PE-AV needs the extra [pe-av]"
)

HOP = 1920
CLOSE = 2e-5  # of the largest value
OTHER = {
    "width": 48,
    "joint_width": 64,
    "heads": 3,
    "head": 8,
    "layers": 3,
    "channels": 12,
    "codec_dim": 6,
    "vision_width": 96,
    "vision_heads": 3,
    "vision_blocks": 3,
    "vision_dim": 40,
    "patch": 8,
    "image_side": 40,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pe_av(tmp_path_factory.mktemp("pe-av"))


@pytest.fixture(scope="module")
def model(folder: Path) -> PeAv:
    return PeAv.from_pretrained(folder, device="cpu")


@pytest.fixture(scope="module")
def deaf_to_none(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pe-a-frame folder."""
    return tiny_pe_av(tmp_path_factory.mktemp("pe-a-frame"), sees=False)


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pictures(*shape: int, side: int = 56, seed: int = 0) -> Tensor:
    some = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (*shape, side, side, 3), dtype=torch.uint8, generator=some)


def clip(seconds: float = 0.5, count: int = 16, seed: int = 0) -> Media:
    times = (torch.arange(count) + 0.5) * seconds / count
    return Media(noise(1, round(48_000 * seconds), seed=seed), 48_000, pictures(count, seed=seed), times, seconds)


def first(*lengths: int, of: int) -> Tensor:
    """(clips, of) bool: the first so many of each."""
    return torch.arange(of) < torch.tensor(lengths)[:, None]


def same(found: Tensor, expected: Tensor, valid: Tensor | None = None) -> None:
    """Near, where valid; elsewhere zero."""
    assert found.shape == expected.shape
    if valid is not None:
        assert not found[~valid].any()
        found, expected = found[valid], expected[valid]
    assert expected.std() > 0.1
    assert (found - expected).abs().max() <= CLOSE * expected.abs().max()


def opened(folder: Path, dtype: str | None = None, **settings: Any) -> PeAv:
    return PeAv.from_pretrained(folder, device="cpu", dtype=dtype, settings=replace(PeAvSettings(), **settings))


# ---- transformers' own modules ---------------------------------------------------------------------------------------


class OurEyes(nn.Module):
    """Our vision tower where transformers wants one of timm's."""

    def __init__(self, model: PeAv) -> None:
        super().__init__()
        self.tower = [model.vision]  # in a list: its tensors are no part of the state

    def forward(self, x: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.tower[0].vectors(self.tower[0].stream(x)))


def upstream(folder: Path, model: PeAv) -> Any:
    """transformers' joint encoder with the folder's weights: codec, alignment, masks and all are its own."""
    facts = json.loads((folder / "config.json").read_text())["audio_video_config"]
    vision = transformers.ViTConfig(num_hidden_layers=1, num_labels=model.vision.dim)
    video = transformers.PeVideoEncoderConfig(**{**facts["video_config"], "vision_config": vision})
    audio = transformers.PeAudioEncoderConfig(**facts["audio_config"])
    config = transformers.PeAudioVideoEncoderConfig(**{**facts, "audio_config": audio, "video_config": video})
    encoder = transformers.PeAudioVideoEncoder(config).eval()
    encoder.embedder.video_encoder.embedder.vision_model = OurEyes(model)
    places = {
        "audio_model.audio_encoder.": "embedder.audio_encoder.",
        "video_model.video_encoder.": "embedder.video_encoder.",
        "audio_video_encoder.": "",
    }
    state = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        for place, new in places.items():
            if name.startswith(place) and ".vision_model." not in name:
                state[new + name.removeprefix(place)] = tensor
    encoder.load_state_dict(state)
    return encoder


@pytest.fixture(scope="module", params=[{}, OTHER], ids=["tiny", "other sizes"])
def twins(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[PeAv, Any]:
    folder = tiny_pe_av(tmp_path_factory.mktemp("twins"), seed=3, **request.param)
    model = PeAv.from_pretrained(folder, device="cpu")
    return model, upstream(folder, model)


@pytest.mark.parametrize("samples", [1000, 1919, 1920, 9 * HOP, 9 * HOP + 1])
def test_audio_tokens_are_those_of_transformers(twins: tuple[PeAv, Any], samples: int) -> None:
    model, other = twins
    waves = noise(2, samples)
    given = transformers.PeAudioFeatureExtractor()(
        [wave.numpy() for wave in waves], sampling_rate=48_000, return_tensors="pt"
    )
    expected = other.embedder.audio_encoder(given["input_values"]).last_hidden_state
    same(model.audio_tokens(waves), expected)


def test_masked_audio_tokens_are_those_of_transformers(twins: tuple[PeAv, Any]) -> None:
    model, other = twins
    waves, mask = noise(3, 10 * HOP), first(10 * HOP, 7 * HOP, 100, of=10 * HOP)
    waves[~mask] = 0
    expected = other.embedder.audio_encoder(waves[:, None], padding_mask=mask).last_hidden_state
    same(model.audio_tokens(waves, mask), expected, first(10, 7, 1, of=10))


@pytest.mark.parametrize("lengths", [None, (5, 2)])
def test_video_tokens_are_those_of_transformers(twins: tuple[PeAv, Any], lengths: tuple[int, ...] | None) -> None:
    model, other = twins
    mask = None if lengths is None else first(*lengths, of=5)
    side = model.picture.side  # type: ignore[union-attr]
    frames = pictures(2, 5, side=side)
    given = pixels(frames.movedim(-1, 2))
    expected = other.embedder.video_encoder(given, padding_mask_videos=mask).last_hidden_state
    same(model.video_tokens(frames, mask), expected, mask)


# Masked, not 10: then transformers aligns nothing, and the official code and ours do.
@pytest.mark.parametrize(
    ("count", "masked"), [(1, False), (3, False), (10, False), (14, False), (1, True), (4, True), (14, True)]
)
def test_joint_tokens_are_those_of_transformers(twins: tuple[PeAv, Any], count: int, masked: bool) -> None:
    model, other = twins
    waves, frames = noise(2, 10 * HOP), pictures(2, count, side=model.picture.side)  # type: ignore[union-attr]
    masks = (first(10 * HOP, 7 * HOP, of=10 * HOP), first(count, max(1, count - 2), of=count)) if masked else ()
    given = waves[:, None], pixels(frames.movedim(-1, 2))
    expected = other(*given, *masks).last_hidden_state
    same(model.joint_tokens(waves, frames, *masks), expected, first(10, 7, of=10) if masked else None)


def test_no_picture_is_what_transformers_makes_of_frames_that_are_all_padded(twins: tuple[PeAv, Any]) -> None:
    model, other = twins
    waves, frames = noise(1, 10 * HOP), pictures(1, 4, side=model.picture.side)  # type: ignore[union-attr]
    nothing = torch.zeros(1, 4, dtype=torch.bool)
    expected = other(waves[:, None], pixels(frames.movedim(-1, 2)), None, nothing).last_hidden_state
    same(model._joined(model.audio_tokens(waves), None), expected)
    same(model.joint_tokens(waves, frames, None, nothing), expected)


# ---- time ------------------------------------------------------------------------------------------------------------


def test_aligned_takes_the_frame_of_each_time() -> None:
    video = torch.arange(8.0).reshape(2, 4, 1)
    found, there = aligned(video, 6, first(6, 3, of=6), first(4, 2, of=4))
    assert found[0, :, 0].tolist() == [0, 0, 1, 2, 2, 3]
    assert found[1, :3, 0].tolist() == [4, 4, 5]
    assert there.tolist() == [[True] * 6, [True] * 3 + [False] * 3]


def test_what_is_long_goes_through_in_equal_windows(model: PeAv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pe_av, "WINDOW", 10)
    waves, frames = noise(2, 25 * HOP), pictures(2, 12)
    spans = [(0, 8), (8, 16), (16, 25)]
    latents, vectors = model.audio_latents(waves), model.frame_vectors(frames.flatten(0, 1)).unflatten(0, (2, 12))
    audio = torch.cat([model.audio_tower(latents[:, a:b]).last_hidden_state for a, b in spans], 1)
    same(model.audio_tokens(waves), audio)
    video = torch.cat([model.video_tower(vectors[:, a:b]).last_hidden_state for a, b in ((0, 6), (6, 12))], 1)
    same(model.video_tokens(frames), video)
    stretched, there = aligned(video, 25, None, None)
    parts = [(audio[:, a:b], stretched[:, a:b], None, there[:, a:b]) for a, b in spans]
    joint = torch.cat([model.joint_tower(*part).last_hidden_state for part in parts], 1)
    same(model.joint_tokens(waves, frames), joint)


def test_a_window_in_which_a_clip_is_over(model: PeAv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pe_av, "WINDOW", 10)
    waves, mask = noise(2, 25 * HOP), first(25 * HOP, 3 * HOP, of=25 * HOP)
    found = model.audio_tokens(waves, mask)
    assert found.isfinite().all()
    same(found[:1], model.audio_tokens(waves[:1]))
    assert not found[1, 3:].any()
    joint = model.joint_tokens(waves, pictures(2, 4), mask, first(4, 1, of=4))
    assert joint.isfinite().all()
    assert not joint[1, 3:].any()


def test_windows_are_of_half_a_minute(model: PeAv) -> None:
    seen: list[int] = []
    hook = model.audio_tower.layers[0].register_forward_pre_hook(  # type: ignore[index, union-attr]
        lambda layer, args: seen.append(args[0].shape[1] - 1)  # without the class token
    )
    try:
        for tokens in (750, 751):
            assert in_windows(model.audio_tower, noise(1, tokens, model.codec.channels), None).shape[1] == tokens
    finally:
        hook.remove()
    assert seen == [750, 375, 376]


def test_some_clips_at_one_time(model: PeAv, monkeypatch: pytest.MonkeyPatch) -> None:
    waves, mask = noise(5, 4 * HOP), first(*[4 * HOP] * 4, HOP, of=4 * HOP)
    expected = model.audio_tokens(waves, mask)
    monkeypatch.setitem(_pe_av.TOKENS_AT_ONCE, "cpu", 10)  # two clips
    same(model.audio_tokens(waves, mask), expected, mask[:, ::HOP])


# ---- what is read ----------------------------------------------------------------------------------------------------


def test_a_tower_is_read_when_it_is_used_and_stays_mapped(folder: Path) -> None:
    model = PeAv.from_pretrained(folder, device="cpu")
    model.audio_tokens(noise(1, 4000))
    assert not {"vision", "video_tower", "joint_tower"} & set(vars(model))
    model.joint_tokens(noise(1, 4000), pictures(1, 2))
    held = {tensor.data_ptr() for tensor in model.checkpoint.tensors.values()}
    copied = {
        name
        for tower in (model.codec, model.vision, model.audio_tower, model.video_tower, model.joint_tower)
        for name, tensor in tower.named_parameters()
        if tensor.data_ptr() not in held
    }
    assert copied == {"attn_pool.attn.in_proj_weight", "attn_pool.attn.in_proj_bias"}


def test_only_what_is_used_must_be_there(folder: Path, model: PeAv, tmp_path: Path) -> None:
    """Without text and heads; and the twins under their other names."""
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    tensors = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        for kind in ("audio", "video"):
            name = name.replace(f"{kind}_model.{kind}_encoder.", f"audio_video_encoder.embedder.{kind}_encoder.")
        if name.startswith("audio_video_encoder."):
            tensors[name] = tensor
    save_file(tensors, tmp_path / "model.safetensors")
    other = PeAv.from_pretrained(tmp_path, device="cpu")
    assert other.spec == model.spec
    given = noise(1, 4000), pictures(1, 2)
    assert torch.equal(other.joint_tokens(*given), model.joint_tokens(*given))


def test_nothing_is_said_and_nobody_is_warned(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    opened(folder, sound="joint").encode([clip()])
    assert capfd.readouterr() == ("", "")


def test_the_module_is_there_without_transformers() -> None:
    code = "import sys; sys.modules['transformers'] = None; from harkback.encoders.pe_av import PeAv; print(PeAv.EXTRA)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "pe-av\n"


@pytest.mark.parametrize("found", [None, ModuleType("transformers")], ids=["missing", "too old"])
def test_what_to_type_without_transformers(
    folder: Path, monkeypatch: pytest.MonkeyPatch, found: ModuleType | None
) -> None:
    if found is not None:
        monkeypatch.setattr(found, "__version__", "4.57.6", raising=False)
    monkeypatch.setitem(sys.modules, "transformers", found)
    with pytest.raises(HarkbackError, match=r'transformers.*pip install "harkback\[pe-av\]"'):
        PeAv.from_pretrained(folder)


# ---- what is refused -------------------------------------------------------------------------------------------------


def retold(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        facts = json.loads((folder / "config.json").read_text())
        change(facts)
        (folder / "config.json").write_text(json.dumps(facts))

    return spoil


def restored(change: Callable[[dict[str, Tensor]], Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        tensors = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return spoil


TIMM = "video_model.video_encoder.embedder.vision_model.timm_model."
AUDIO = "audio_model.audio_encoder."
SPOILT = {
    "another model": (retold(lambda x: x.update(model_type="bert")), "another model, not of PE-AV.*bert"),
    "no model": (lambda folder: (folder / "config.json").unlink(), "no config.json"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "holds no PE-AV model"),
    "a config of words": (
        retold(lambda x: x["audio_video_config"]["audio_config"].update(rope_parameters="spiral")),
        "describes no PE-AV",
    ),
    "an empty config": (retold(lambda x: x.update(audio_video_config="none")), "do not fit together"),
    "other sizes": (retold(lambda x: x["audio_video_config"].update(hidden_size=80)), "do not fit together"),
    "no joint tower": (
        restored(lambda x: [x.pop(name) for name in list(x) if name.startswith("audio_video_encoder.")]),
        "holds no tensors",
    ),
    "no sound": (restored(lambda x: [x.pop(name) for name in list(x) if name.startswith(AUDIO)]), "holds no tensors"),
    "half a codec": (restored(lambda x: x.pop(f"{AUDIO}embedder.dac_encoder.conv2.bias")), "do not fit together"),
    "no positions": (restored(lambda x: x.pop(f"{TIMM}pos_embed")), "lacks the tensor pos_embed"),
    "a biased head": (restored(lambda x: x[f"{TIMM}head.bias"].fill_(0.1)), "adds a bias"),
    "another tower": (restored(lambda x: x.update({f"{TIMM}head2.weight": torch.ones(1)})), "head2"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_spoilt_folder_is_refused_in_one_line(tmp_path: Path, what: str) -> None:
    spoil, why = SPOILT[what]
    spoil(tiny_pe_av(tmp_path))
    with pytest.raises(HarkbackError, match=why) as caught:
        opened(tmp_path, sound="joint").encode([clip()])
    assert "\n" not in str(caught.value)
    assert caught.value.mend


@pytest.mark.parametrize(
    "wrong", [{"layer": 9}, {"layer": -9}, {"frames": 0}, {"grid": 0}, {"audio_tokens": 0}, {"per_second": -1.0}]
)
def test_settings_that_mean_nothing(folder: Path, wrong: dict[str, float]) -> None:
    with pytest.raises(HarkbackError, match=next(iter(wrong))):
        opened(folder, **wrong)


# ---- the encoder -----------------------------------------------------------------------------------------------------


def test_the_key_names_the_weights_and_the_settings_not_the_precision(
    folder: Path, model: PeAv, tmp_path: Path
) -> None:
    def key(of: Path = folder, dtype: str | None = None, **settings: Any) -> str:
        return opened(of, dtype, **settings).spec.key

    assert key() == key() == key(dtype="bfloat16") == model.spec.key
    others = [key(layer=0), key(grid=2), key(frames=4), key(audio_tokens=9), key(sound="joint"), key(visual="tokens")]
    assert len({key(), *others, key(tiny_pe_av(tmp_path, seed=5))}) == 8
    facts = model.spec.facts()
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["sample_rate"], facts["licence"]) == (48_000, "Apache-2.0")


@pytest.mark.parametrize("settings", [{}, {"sound": "joint", "visual": "tokens"}], ids=["plain", "joint and tokens"])
def test_a_clip_is_encoded_alone_as_among_others(folder: Path, settings: dict[str, str]) -> None:
    model = opened(folder, **settings)
    here = clip()
    blind = Media(here.waveform, 48_000, None, torch.zeros(0), here.duration)
    deaf = Media(None, 48_000, here.frames, here.times, here.duration)
    clips = [here, clip(0.3, seed=1), blind, deaf, clip(seed=2)]
    together = model.encode(clips)
    assert together.shape == model.spec.shape
    assert together.heard.tolist() == [True, True, True, False, True]
    assert together.seen.tolist() == [True, True, False, True, True]
    assert not together.audio[3].any()
    assert not together.visual[2].any()
    for row, one in enumerate(clips):
        alone = model.encode([one])
        torch.testing.assert_close(together.audio[row], alone.audio[0], rtol=2e-3, atol=2e-3)
        torch.testing.assert_close(together.visual[row], alone.visual[0], rtol=2e-3, atol=2e-3)
    # Joint tokens of a sound hang on the picture; others do not.
    assert ((together.audio[0] - together.audio[2]).abs().max() > 1e-2) == (settings != {})


def test_patches_are_those_of_the_vision_tower(folder: Path, model: PeAv) -> None:
    frames = pictures(16)
    found = opened(folder, grid=2, layer=0).encode([clip()])
    stream = model.vision.stream(pixels(frames.movedim(-1, 1)), 0)
    assert torch.equal(model.patch_tokens(frames, 0), model.vision.patches(stream))
    tokens = model.patch_tokens(frames, 0).unflatten(1, (4, 4))  # (frames, rows, columns, width)
    expected = torch.stack([tokens[:, r : r + 2, c : c + 2].mean((1, 2)) for r in (0, 2) for c in (0, 2)], 1)
    torch.testing.assert_close(found.visual[0].float(), expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("visual", ["patches", "tokens"])
def test_pictures_beyond_the_frames_are_averaged_into_them(folder: Path, model: PeAv, visual: str) -> None:
    many = opened(folder, frames=2, per_second=12.0, visual=visual)
    assert many.spec.per_second == 12.0
    frames = pictures(6)
    tokens = model.patch_tokens(frames) if visual == "patches" else model.video_tokens(frames[None])[0][:, None]
    found = many.encode([clip(count=6)]).visual[0].float()
    torch.testing.assert_close(found, tokens.unflatten(0, (2, 3)).mean(1), rtol=2e-3, atol=2e-3)


def test_bfloat16_tokens_are_near(folder: Path) -> None:
    whole, half = (opened(folder, dtype, sound="joint", visual="tokens") for dtype in ("float32", "bfloat16"))
    one, other = (m.encode([clip()]) for m in (whole, half))
    assert half.audio_tower.norm.weight.dtype == torch.bfloat16  # type: ignore[union-attr]
    assert half.codec.encoder.block[0].weight.dtype == torch.float32  # The codec never loses precision.
    for x, y in ((one.audio, other.audio), (one.visual, other.visual)):
        assert (x - y).abs().float().mean() < 0.05 * x.abs().float().mean()
    mask = first(4000, 2000, of=4000)
    assert half.audio_tokens(noise(2, 4000), mask).isfinite().all()


def test_a_model_that_only_hears(deaf_to_none: Path) -> None:
    model = opened(deaf_to_none)
    clips = [clip(), clip(seed=1)]
    found = model.encode(clips)
    assert found.shape == model.spec.shape == (50, 32, 1, 1, 1)
    assert model.spec.frames == 1
    assert model.picture is None
    assert found.heard.all()
    assert not found.seen.any()
    tokens = model.audio_tokens(noise(1, 24_000))
    torch.testing.assert_close(found.audio[0].float().mean(0), tokens[0].mean(0), rtol=0.05, atol=0.05)
    config = transformers.PeAudioEncoderConfig(**json.loads((deaf_to_none / "config.json").read_text())["audio_config"])
    other = transformers.PeAudioEncoder(config).eval()
    tensors = load_file(deaf_to_none / "model.safetensors")
    names = [name for name in tensors if name.startswith("audio_encoder.")]
    other.load_state_dict({name.removeprefix("audio_encoder."): tensors[name] for name in names})
    waves = noise(1, 6 * HOP)
    same(model.audio_tokens(waves), other(waves[:, None]).last_hidden_state)
    assert opened(deaf_to_none, frames=4, layer=7).spec.key == model.spec.key


def test_a_model_that_only_hears_is_not_asked_for_pictures(deaf_to_none: Path) -> None:
    model = opened(deaf_to_none)
    for ask in (
        lambda: model.patch_tokens(pictures(1)),
        lambda: model.frame_vectors(pictures(1)),
        lambda: model.video_tokens(pictures(1, 2)),
        lambda: model.joint_tokens(noise(1, 4000), pictures(1, 2)),
        lambda: opened(deaf_to_none, sound="joint"),
    ):
        with pytest.raises(HarkbackError, match="is a model of sound alone"):
            ask()


@pytest.mark.gpu
def test_a_gpu_gives_the_tokens_of_the_cpu(folder: Path) -> None:
    settings = PeAvSettings(sound="joint", visual="tokens")
    models = [PeAv.from_pretrained(folder, device=d, dtype="float32", settings=settings) for d in ("cpu", "cuda")]
    one, two = (model.encode([clip()]) for model in models)
    torch.testing.assert_close(one.audio, two.audio, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(one.visual, two.visual, rtol=1e-2, atol=1e-2)
