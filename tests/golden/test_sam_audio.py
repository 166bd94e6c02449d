"""The towers against outputs of the official modules, and planted mistakes against those same outputs.

`slice.safetensors.xz` (see `cut.py`) proves the heart of every tower anywhere. The whole fixtures, where they are at
hand, prove every layer and every case.
"""

from __future__ import annotations

import importlib
import lzma
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load
from torch import Tensor

from harkback.encoders.sam_audio import SamAudio

CLOSE = 2e-5  # of the largest reference value, in float32 on the CPU
SLICE = Path(__file__).with_name("slice.safetensors.xz")
GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden"
DIT = {"norm_eps": 1e-5, "n_heads": 4, "max_positions": 10_000}
VISUAL = "vision_encoder.model.visual."

whole = pytest.mark.skipif(not GOLDEN.is_dir(), reason="NOT CHECKED: the whole golden fixtures are not at hand")


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def error(found: Tensor, expected: Tensor) -> float:
    """Largest difference, as a share of the largest reference value."""
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def sliced(under: str) -> dict[str, Tensor]:
    if not HELD:
        HELD.update(load(lzma.decompress(SLICE.read_bytes())))
    return {name.removeprefix(f"{under}/"): t for name, t in HELD.items() if name.startswith(f"{under}/")}


HELD: dict[str, Tensor] = {}


def golden(name: str) -> dict[str, Any]:
    held: dict[str, Any] = torch.load(GOLDEN / name, weights_only=True)
    return held


# ---- the slice: each function returns the worst error of one tower ---------------------------------------------------


def slice_of_vision(room: types.ModuleType) -> float:
    state = sliced("vision/state")
    shapes = {"proj": (128, 96), "ln_post.weight": (128,), "ln_post.bias": (128,)}
    rest = {f"attn_pool.{name}": shape for name, shape in POOL.items()} | shapes  # not in the slice, and not asked
    tower = room.VisionTower({**{name: torch.zeros(shape) for name, shape in rest.items()}, **state})
    tower.load_state_dict({**{name: torch.zeros(shape) for name, shape in rest.items()}, **state})
    cases = [sliced(f"vision/{name}") for name in ("native_4x4", "interp_6x6", "interp_4x6")]
    return max(error(tower.stream(case["input"], 0), case["layer_0"]) for case in cases)


POOL = {
    "probe": (1, 1, 128),
    "attn.in_proj_weight": (384, 128),
    "attn.in_proj_bias": (384,),
    "attn.out_proj.weight": (128, 128),
    "attn.out_proj.bias": (128,),
    "layernorm.weight": (128,),
    "layernorm.bias": (128,),
    "mlp.c_fc.weight": (512, 128),
    "mlp.c_fc.bias": (512,),
    "mlp.c_proj.weight": (128, 512),
    "mlp.c_proj.bias": (128,),
}


def slice_of_codec(room: types.ModuleType) -> float:
    rest = {"encoder.block.3.alpha": (1, 32, 1), "encoder.block.4.weight": (40, 32, 3), "encoder.block.4.bias": (40,)}
    state = room.folded({**sliced("codec/state"), **{name: torch.zeros(shape) for name, shape in rest.items()}})
    codec = room.Codec(state, [2, 8])  # two of its four strides: what the slice has weights for
    codec.load_state_dict(state)
    worst = 0.0
    for name in ("b1_exact", "b1_subhop"):
        case = sliced(f"codec/{name}")
        waves = room.whole_hops(case["input"][:, 0], 1920)
        worst = max(worst, error(codec.encoder.block[:3](waves[:, None])[..., ::3], case["block_2"]))
        worst = max(worst, error(codec.quantizer.in_proj(case["z"]), case["mean"]))
    return worst


def slice_of_fusion(room: types.ModuleType) -> float:
    state = sliced("fusion/state")
    rest = {
        "transformer.norm.weight": torch.ones(64),
        "transformer.output.weight": torch.zeros(32, 64),
        "transformer.final_layer_scale_shift_table": torch.zeros(2, 64),
    }
    fusion = room.Fusion({**rest, **state}, DIT)
    fusion.load_state_dict({**rest, **state})
    cases = [
        sliced(f"fusion/{name}") for name in ("full", "uncond_t0", "audio_only_t05", "no_video_no_anchor_no_pad_t1")
    ]
    return max(error(fusion(*dit_inputs(case), layer=0), case["hidden_0"]) for case in cases)


def dit_inputs(case: dict[str, Any]) -> tuple[Tensor | None, ...]:
    anchors = case.get("anchor_ids")
    return (
        case["noisy"],
        case["feats"],
        case["time"],
        None if case.get("video") is None else case["video"].transpose(1, 2),
        None if anchors is None else anchors.gather(1, case["anchor_align"]),
        case.get("pad"),
        case.get("text"),
        case.get("text_mask"),
    )


def slice_of_pictures(room: types.ModuleType) -> float:
    """Bit for bit, so an error is 0 or 1."""
    case = sliced("preprocess")
    same = [
        torch.equal(room.pixels(room.resized(case["input"], 56, mode)), case[f"{mode}_56"])
        for mode in ("bicubic", "bilinear")
    ]
    return 0.0 if all(same) else 1.0


TOWERS = {
    "encoders._vision": slice_of_vision,
    "encoders._codec": slice_of_codec,
    "encoders._fusion": slice_of_fusion,
    "pictures": slice_of_pictures,
}


@pytest.mark.parametrize("name", TOWERS)
def test_the_slice(name: str) -> None:
    assert TOWERS[name](importlib.import_module(f"harkback.{name}")) <= CLOSE


def test_the_slice_is_small() -> None:
    assert SLICE.stat().st_size <= 2_000_000


# ---- mistakes that load without a word and are wrong -----------------------------------------------------------------

MUTANTS = {
    "rows turn first": (
        "encoders._vision",
        "column[:, None] * frequency, row[:, None]",
        "row[:, None] * frequency, column[:, None]",
    ),
    "positions from 0": ("encoders._vision", "torch.arange(1, rows + 1)", "torch.arange(rows)"),
    "halves turn, not pairs": (
        "encoders._vision",
        "even, odd = x[..., ::2], x[..., 1::2]",
        "even, odd = x.chunk(2, -1)",
    ),
    "the class token turns": ("encoders._vision", "torch.zeros(extra, size", "torch.ones(extra, size"),
    "positions resampled by corners": ("encoders._vision", "align_corners=False", "align_corners=True"),
    "another epsilon": ("encoders._vision", "EPS = 1e-5", "EPS = 1e-3"),
    "another gelu": ("encoders._vision", "gelu(self.c_fc(x))", 'gelu(self.c_fc(x), approximate="tanh")'),
    "heads split in order": (
        "encoders._fusion",
        "(-1, self.heads)).permute(0, 3, 1, 2)",
        "(self.heads, -1)).permute(0, 2, 1, 3)",
    ),
    "sines first": ("encoders._fusion", "[angle.cos(), angle.sin()]", "[angle.sin(), angle.cos()]"),
    "another theta": ("encoders._fusion", "2.0 * config", "1.0 * config"),
    "padding is heard": ("encoders._fusion", "mask = None if allowed is None else", "mask = None if True else"),
    "anchors left out": ("encoders._fusion", "if anchors is not None:", "if False:"),
    "silence added where no video is": ("encoders._fusion", "self.gate.tanh() * self.layer_norm", "self.layer_norm"),
    "a norm before the cross-attention": (
        "encoders._fusion",
        "cross_attention(x,",
        "cross_attention(self.ffn_norm(x),",
    ),
    "the scale, not the mean": ("encoders._codec", "both[: len(both) // 2]", "both[len(both) // 2 :]"),
    "weights not normalised": ("encoders._codec", "gain / tensor.norm(dim=(1, 2), keepdim=True)", "gain"),
    "snake without its square": ("encoders._codec", "sin_().square_()", "sin_()"),
    "the end repeated, not mirrored": ("encoders._codec", "torch.minimum(place, period - place)", "0 * place - 1"),
    "dilations of another codec": ("encoders._codec", "DILATIONS = (1, 3, 9)", "DILATIONS = (1, 3, 5)"),
    "no clamp": ("pictures", ".clamp(0, 255)", ""),
    "no rounding": ("pictures", ".round()", ""),
    "no antialias": ("pictures", "antialias=True", "antialias=False"),
    "another range": ("pictures", "/ 255 - 0.5) / 0.5", "/ 255 - 0.45) / 0.5"),
}


@pytest.mark.parametrize("mistake", MUTANTS)
def test_a_planted_mistake_is_caught(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, right, wrong = MUTANTS[mistake]
    source = Path(str(importlib.import_module(f"harkback.{name}").__file__)).read_text(encoding="utf-8")
    assert right in source, "the line to spoil has changed: spoil the new one"
    room = types.ModuleType(f"spoilt_{name}")
    monkeypatch.setitem(sys.modules, room.__name__, room)  # dataclasses look their module up
    exec(compile(source.replace(right, wrong), room.__name__, "exec"), room.__dict__)  # noqa: S102 (our own source)
    assert not TOWERS[name](room) <= CLOSE  # so written, NaN is caught too


# ---- the whole fixtures ----------------------------------------------------------------------------------------------


@whole
@pytest.mark.parametrize("name", ["native_4x4", "interp_6x6", "interp_4x6", "eps_case"])
def test_the_vision_tower(name: str) -> None:
    from harkback.encoders._vision import VisionTower

    held = golden("pe_visual.pt")
    state = dict(held["state_dict"])
    case, pixels = held["outputs"].get(name), held["inputs"].get(name)
    if name == "eps_case":
        case = held["eps_case"]
        state, pixels = {**state, **case["override"]}, held["inputs"][case["input"]]
    state = {key.removeprefix(VISUAL): t for key, t in state.items() if key.startswith(VISUAL)}
    tower = VisionTower(state)
    tower.load_state_dict(state)
    streams = [tower.stream(pixels, layer) for layer in range(tower.depth)]
    found = {f"layer_{i}": stream for i, stream in enumerate(streams)} | {
        "tokens_ln_post": tower.ln_post(streams[-1]),
        "tokens_ln_post_nocls": tower.patches(streams[-1]),
        "layer_1_ln_post_nocls": tower.patches(tower.stream(pixels, -2)),
        "attn_pool": tower.attn_pool(tower.ln_post(streams[-1])),
        "pooled": tower.vectors(streams[-1]),
        "encode_image_normalized": tower(pixels),
    }
    asked = [key for key, expected in case.items() if isinstance(expected, Tensor)]
    assert len(asked) >= 2
    for key in asked:
        assert error(found[key], case[key]) <= CLOSE, key


@whole
def test_preprocessing_bit_for_bit() -> None:
    from harkback.pictures import pixels, resized

    held = golden("preprocess.pt")
    for name, pictures in held["inputs"].items():
        for what, expected in held["outputs"][name].items():
            mode, side = what.split("_")
            assert torch.equal(pixels(resized(pictures, int(side), mode)), expected), (name, what)


@whole
@pytest.mark.parametrize("name", ["b2_odd", "b1_exact", "b1_subhop"])
def test_the_codec(name: str) -> None:
    from harkback.encoders._codec import Codec, folded, whole_hops

    held = golden("dacvae_encoder.pt")
    prefix = "audio_codec."
    state = folded({key.removeprefix(prefix): t for key, t in held["state_dict"].items()})
    codec = Codec(state, held["config"]["encoder_rates"])
    codec.load_state_dict(state)
    case = held["outputs"][name]
    x = whole_hops(held["inputs"][name][:, 0], codec.hop)
    assert torch.equal(x, case["padded"][:, 0])
    assert error(codec(x), case["latent_BTC"]) <= CLOSE
    x = x[:, None]
    for i, block in enumerate(codec.encoder.block):
        x = block(x)
        assert error(x, case[f"encoder_block_{i}"]) <= CLOSE, i


@whole
@pytest.mark.parametrize("name", ["full", "uncond_t0", "audio_only_t05", "no_video_no_anchor_no_pad_t1", "eps_case"])
def test_the_dit(name: str) -> None:
    from harkback.encoders._fusion import Fusion

    held = golden("dit.pt")
    given, case, state = held["inputs"].get(name), held["outputs"].get(name), held["state_dict"]
    if name == "eps_case":
        case = held["eps_case"]
        given, state = held["inputs"][case["input"]], {**state, **case["override"]}
    fusion = Fusion(state, held["config"]["transformer"])
    fusion.load_state_dict(state)
    for layer in range(fusion.depth):
        stream = fusion(*dit_inputs(given), layer=layer)
        if f"hidden_{layer}" in case:
            assert error(stream, case[f"hidden_{layer}"]) <= CLOSE, layer
    assert error(fusion.velocity(stream, given["time"]), case["velocity"]) <= CLOSE


@whole
def test_tiny_sam_audio_from_its_folder_to_tokens() -> None:
    model = SamAudio.from_pretrained(GOLDEN / "tiny-sam-audio", device="cpu")
    held = golden("tiny-sam-audio/expected.pt")
    given, case = held["inputs"], held["outputs"]
    latents = model.audio_latents(case["audios_padded_batch"][:, 0])
    assert error(latents, case["audio_latents"]) <= CLOSE
    video = torch.zeros_like(case["video_features_BCT"].transpose(1, 2))
    for i, expected in enumerate(case["visual"]):
        frames = given["frames"][i].permute(0, 2, 3, 1)
        assert error(model.patch_tokens(frames), expected["tokens_ln_post_nocls"]) <= CLOSE
        vectors = model.frame_vectors(frames)
        assert error(vectors, expected["pooled_normalized"]) <= CLOSE
        at = case["frame_index_25hz"][i]
        video[i, : len(at)] = vectors[at]
    assert error(video, case["video_features_BCT"].transpose(1, 2)) <= CLOSE
    for moment, expected in case["dit"].items():
        for layer in range(3):
            stream = model.hidden_states(
                latents, video, float(moment[2:]), layer, noise=given["noise"], valid=case["audio_pad_mask"]
            )
            assert error(stream, expected[f"hidden_{layer}"]) <= CLOSE, (moment, layer)


@whole
def test_frames_that_are_fewer_than_latents_are_repeated_as_upstream_repeats_them() -> None:
    """Its rule for a tensor of frames: linspace(0, N - 1, T), rounded half to even."""
    model = SamAudio.from_pretrained(GOLDEN / "tiny-sam-audio", device="cpu")
    held = golden("tiny-sam-audio/expected.pt")
    latents, case = held["outputs"]["audio_latents"][:1], held["outputs"]
    vectors = model.frame_vectors(held["inputs"]["frames"][0].permute(0, 2, 3, 1))
    stream = model.hidden_states(latents, vectors[None], 0.5, -1, noise=held["inputs"]["noise"][:1])
    assert error(stream, case["dit"]["t=0.5"]["hidden_2"][:1]) <= CLOSE
