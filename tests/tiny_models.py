"""Model folders with random weights in the layout of the released ones, of any size: tiny for tests, or the real ones.

Their tensors have the official names and shapes, so what reads such a folder reads the released one.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.serialization import set_default_mmap_options, skip_data

Shapes = dict[str, tuple[int, ...]]

# ---- SAM-Audio ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SamAudioSizes:
    """What the released models differ in from one another and from a tiny one."""

    dim: int = 64  #: of the diffusion transformer (DiT), a multiple of heads
    heads: int = 4
    layers: int = 2
    frequencies: int = 64  #: of the flow time
    text_dim: int = 24  #: of the words that the DiT could be given
    anchor_dim: int = 8
    codec_dim: int = 8  #: channels of the sound at full rate; doubled four times
    codec_latent: int = 32
    channels: int = 16  #: of a latent
    decoder_dim: int = 48  #: of the codec's decoder, a multiple of 48
    vision_name: str = "PE-Core-Tiny14-56"
    vision_width: int = 128  #: a multiple of 64, the size of a head
    vision_hidden: int = 256
    vision_blocks: int = 2
    vision_dim: int = 64  #: of a picture's one vector
    patch: int = 14
    image_side: int = 56
    words: int = 64  #: that the vision tower's text twin knows
    words_at_once: int = 8
    words_width: int = 32
    words_blocks: int = 1


TINY = SamAudioSizes()
SMALL = SamAudioSizes(
    dim=1536,
    heads=12,
    layers=12,
    frequencies=256,
    text_dim=768,
    anchor_dim=128,
    codec_dim=64,
    codec_latent=1024,
    channels=128,
    decoder_dim=1536,
    vision_name="PE-Core-L14-336",
    vision_width=1024,
    vision_hidden=4096,
    vision_blocks=24,
    vision_dim=1024,
    image_side=336,
    words=49408,
    words_at_once=32,
    words_width=1024,
    words_blocks=24,
)
BASE = replace(SMALL, dim=2048, heads=16, layers=16)
LARGE = replace(SMALL, dim=2816, heads=22, layers=22)

STRIDES = (2, 8, 10, 12)  # of the codec, whose hop of 1920 samples the rest of the model takes for granted
MARK_KERNELS = (16, 10, 8, 4)  # of the decoder's watermark


def sam_audio_folder(folder: Path, sizes: SamAudioSizes = TINY, *, seed: int = 0, **changed: Any) -> Path:
    """Write ``config.json`` and ``checkpoint.pt`` there; changed: sizes by name. Takes little memory at any size."""
    sizes = replace(sizes, **changed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(sam_audio_config(sizes), indent=4) + "\n")
    path = folder / "checkpoint.pt"
    with skip_data():  # Room in the file, and no more than addresses in memory; what is mapped is filled in place.
        torch.save({name: torch.empty(shape) for name, shape in sam_audio_shapes(sizes).items()}, path)
    with set_default_mmap_options(mmap.MAP_SHARED):
        state = torch.load(path, mmap=True, weights_only=True)
    fill_sam_audio(state, seed)
    return folder


def sam_audio_config(sizes: SamAudioSizes = TINY) -> dict[str, Any]:
    """``config.json`` as released, down to the order and to parts that nobody here uses."""
    s = sizes
    return {
        "in_channels": 6 * s.channels,
        "audio_codec": {
            "encoder_dim": s.codec_dim,
            "encoder_rates": list(STRIDES),
            "latent_dim": s.codec_latent,
            "decoder_dim": s.decoder_dim,
            "decoder_rates": list(STRIDES[::-1]),
            "n_codebooks": 16,
            "codebook_size": 1024,
            "codebook_dim": s.channels,
            "quantizer_dropout": False,
            "sample_rate": 48000,
            "mean": 0.0,
            "std": 1.0,
        },
        "text_encoder": {"dim": s.text_dim, "name": "t5-base", "max_length": 512, "pad_mode": "longest"},
        "vision_encoder": {
            "dim": s.vision_dim,
            "batch_size": 300,
            "name": s.vision_name,
            "normalize_feature": True,
            "interpolation_mode": "BICUBIC",
            "image_size": s.image_side,
        },
        "transformer": {
            "dim": s.dim,
            "n_heads": s.heads,
            "n_layers": s.layers,
            "dropout": 0.1,
            "norm_eps": 1e-05,
            "qk_norm": True,
            "fc_bias": False,
            "ffn_exp": 4,
            "ffn_dim_multiplier": 1,
            "multiple_of": 64,
            "non_linearity": "swiglu",
            "use_rope": True,
            "max_positions": 10000,
            "frequency_embedding_dim": s.frequencies,
            "timestep_non_linearity": "swiglu",
            "t_block_non_linearity": "silu",
            "t_block_bias": True,
            "context_dim": s.dim,
            "context_non_linearity": "swiglu",
            "context_embedder_dropout": 0.0,
            "context_norm": False,
            "out_channels": 2 * s.channels,
            "in_channels": None,
        },
        "num_anchors": 3,
        "anchor_embedding_dim": s.anchor_dim,
        "visual_ranker": {"checkpoint": None, "kind": "imagebind"},
        "text_ranker": {
            "rankers": {
                "clap": [{"checkpoint": None, "kind": "clap"}, 5.0],
                "judge": [{"checkpoint_or_model_id": "facebook/sam-audio-judge", "kind": "judge"}, 1.0],
            },
            "kind": "ensemble",
        },
        "span_predictor": "pe-a-frame-large",
    }


def sam_audio_shapes(sizes: SamAudioSizes = TINY) -> Shapes:
    """All tensors of ``checkpoint.pt``, those that are never used among them."""
    vision = "vision_encoder.model."
    return (
        _under("audio_codec.encoder.block.", _codec_encoder(sizes))
        | _under("audio_codec.quantizer.in_proj.", _normed(sizes.codec_latent, 2 * sizes.channels, 1))
        | _under("audio_codec.quantizer.out_proj.", _normed(sizes.channels, sizes.codec_latent, 1))
        | _under("audio_codec.decoder.", _codec_decoder(sizes))
        | _under(vision, _words(sizes))
        | _under(f"{vision}visual.", _vision(sizes))
        | _fusion(sizes)
    )


def fill_sam_audio(state: dict[str, Tensor], seed: int = 0) -> None:
    """Random numbers under which activations neither grow nor fade, whatever the sizes, and no part is without effect.

    Weights that a wrong loader could leave out unnoticed are away from 0 and 1: norms, gates, gains, biases.
    """
    some: dict[torch.device, torch.Generator] = {}
    with torch.no_grad():
        for name, tensor in state.items():
            here = some.setdefault(tensor.device, torch.Generator(tensor.device).manual_seed(seed))
            part = name.rpartition(".")[2]
            if part == "alpha":
                tensor.uniform_(0.3, 2, generator=here)
            elif part == "weight_g":
                # What is added to a residual is smaller; sound comes in softly.
                gain = 0.4 if ".block.3." in name else 4.0 if name.endswith("encoder.block.0.weight_g") else 0.8
                tensor.uniform_(0.75 * gain, 1.25 * gain, generator=here)
            elif part in ("gate", "logit_scale"):
                tensor.fill_(-0.4 if "anchors" in name else 0.7)
            elif part.startswith("bias") or part == "in_proj_bias":
                tensor.normal_(0, 0.1, generator=here)
            elif part.endswith("scale_shift_table") or "embedding" in name or part == "probe":
                tensor.normal_(0, 0.3, generator=here)
            elif tensor.ndim == 1:  # a norm
                tensor.normal_(1, 0.2, generator=here)
            else:
                inputs = len(tensor) if part in ("proj", "text_projection") else tensor[0].numel()
                tensor.normal_(0, 1 / math.sqrt(inputs), generator=here)


def _under(prefix: str, shapes: Shapes) -> Shapes:
    return {prefix + name: shape for name, shape in shapes.items()}


def _linear(inputs: int, outputs: int, *, bias: bool = True) -> Shapes:
    return {"weight": (outputs, inputs)} | ({"bias": (outputs,)} if bias else {})


def _conv(inputs: int, outputs: int, kernel: int) -> Shapes:
    return {"weight": (outputs, inputs, kernel), "bias": (outputs,)}


def _normed(inputs: int, outputs: int, kernel: int) -> Shapes:
    """A convolution in weight norm, as torch named its parts when these models were made."""
    return {"bias": (outputs,), "weight_g": (outputs, 1, 1), "weight_v": (outputs, inputs, kernel)}


def _norm(size: int) -> Shapes:
    return {"weight": (size,), "bias": (size,)}


def _snake(channels: int) -> Shapes:
    return {"alpha": (1, channels, 1)}


def _sequence(*parts: Shapes | None) -> Shapes:
    """Parts under their numbers; None: a part without tensors."""
    return {name: shape for i, part in enumerate(parts) for name, shape in _under(f"{i}.", part or {}).items()}


def _residual(channels: int) -> Shapes:
    inner = (_snake(channels), _normed(channels, channels, 7), _snake(channels), _normed(channels, channels, 1))
    return _under("block.", _sequence(*inner))


def _codec_encoder(s: SamAudioSizes) -> Shapes:
    def down(width: int, stride: int) -> Shapes:
        units = [_residual(width)] * 3
        return _under("block.", _sequence(*units, _snake(width), _normed(width, 2 * width, 2 * stride)))

    widths = [s.codec_dim << i for i in range(len(STRIDES) + 1)]
    downs = [down(*step) for step in zip(widths, STRIDES, strict=False)]
    last = widths[-1]
    return _sequence(_normed(1, s.codec_dim, 7), *downs, _snake(last), _normed(last, s.codec_latent, 3))


def _codec_decoder(s: SamAudioSizes) -> Shapes:
    """Never used, and three quarters of the codec's bytes: with its watermark."""

    def marked(channels: int) -> Shapes:
        half = max(1, channels // 2)
        return _under("block.", _sequence(None, _conv(channels, half, 3), None, _conv(half, channels, 1)))

    def up(level: int, stride: int, kernel: int) -> Shapes:
        inputs, outputs = s.decoder_dim >> level, s.decoder_dim >> level + 1
        wide, narrow = mark >> level, mark >> level + 1
        steps: list[Shapes | None] = [None] * 12
        steps[0] = _snake(inputs)
        steps[1] = {"bias": (outputs,), "weight_g": (inputs, 1, 1), "weight_v": (inputs, outputs, 2 * stride)}
        steps[3] = {"weight": (wide, narrow, kernel), "bias": (narrow,)}
        steps[4] = steps[5] = steps[8] = _residual(outputs)
        steps[6] = steps[7] = marked(narrow)
        steps[11] = _conv(narrow, wide, kernel)
        return _under("block.", _sequence(*steps))

    def memory(width: int) -> Shapes:
        sides = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        shapes = [(4 * width, width)] * 2 + [(4 * width,)] * 2
        return {f"lstm.{side}_l{i}": shape for i in range(2) for side, shape in zip(sides, shapes, strict=True)}

    mark, last = s.decoder_dim // 3, s.decoder_dim >> len(STRIDES)
    ups = [up(i, *step) for i, step in enumerate(zip(STRIDES[::-1], MARK_KERNELS, strict=True))]
    return (
        _under("model.", _sequence(_normed(s.codec_latent, s.decoder_dim, 7), *ups))
        | _under("wm_model.encoder_block.pre.", _sequence(_snake(last), _normed(last, 1, 7), None, _conv(1, 32, 7)))
        | _under("wm_model.encoder_block.post.", _sequence(memory(mark), None, _conv(mark, 128, 7)))
        | {"wm_model.msg_processor.msg_processor.weight": (32, 128)}
        | _under("wm_model.decoder_block.pre.", _sequence(_conv(128, mark, 7), memory(mark)))
        | _under("wm_model.decoder_block.post.", _sequence(None, _conv(32, 1, 7)))
    )


def _transformer(width: int, hidden: int, blocks: int) -> Shapes:
    return {
        f"transformer.resblocks.{i}.{name}": shape
        for i in range(blocks)
        for name, shape in (
            _attention(width)
            | _under("ln_1.", _norm(width))
            | _under("ln_2.", _norm(width))
            | _under("mlp.c_fc.", _linear(width, hidden))
            | _under("mlp.c_proj.", _linear(hidden, width))
        ).items()
    }


def _attention(width: int) -> Shapes:
    both = {"attn.in_proj_weight": (3 * width, width), "attn.in_proj_bias": (3 * width,)}
    return both | _under("attn.out_proj.", _linear(width, width))


def _words(s: SamAudioSizes) -> Shapes:
    """The vision tower's twin for text, never used."""
    return {
        "positional_embedding": (s.words_at_once, s.words_width),
        "text_projection": (s.words_width, s.vision_dim),
        "logit_scale": (),
        "token_embedding.weight": (s.words, s.words_width),
        **_transformer(s.words_width, 4 * s.words_width, s.words_blocks),
        **_under("ln_final.", _norm(s.words_width)),
    }


def _vision(s: SamAudioSizes) -> Shapes:
    width = s.vision_width
    return {
        "class_embedding": (width,),
        "positional_embedding": (1 + (s.image_side // s.patch) ** 2, width),
        "proj": (width, s.vision_dim),
        "conv1.weight": (width, 3, s.patch, s.patch),
        **_under("ln_pre.", _norm(width)),
        **_under("ln_post.", _norm(width)),
        **_transformer(width, s.vision_hidden, s.vision_blocks),
        "attn_pool.probe": (1, 1, width),
        **_under("attn_pool.", _attention(width)),
        **_under("attn_pool.layernorm.", _norm(width)),
        **_under("attn_pool.mlp.c_fc.", _linear(width, s.vision_hidden)),
        **_under("attn_pool.mlp.c_proj.", _linear(s.vision_hidden, width)),
    }


def _fusion(s: SamAudioSizes) -> Shapes:
    dim = s.dim
    hidden = -(-(8 * dim // 3) // 64) * 64

    def gated(inputs: int, hidden: int) -> Shapes:
        return {"w1.weight": (hidden, inputs), "w2.weight": (dim, hidden), "w3.weight": (hidden, inputs)}

    def attention() -> Shapes:
        square = {f"{name}.weight": (dim, dim) for name in ("wq", "wk", "wv", "wo")}
        return square | {f"{name}.weight": (dim // s.heads,) for name in ("q_norm", "k_norm")}

    def layers() -> Iterator[tuple[str, tuple[int, ...]]]:
        for i in range(s.layers):
            yield f"layers.{i}.scale_shift_table", (6, dim)
            for part, inside in (
                ("attention", attention()),
                ("feed_forward", gated(dim, hidden)),
                ("attention_norm", {"weight": (dim,)}),
                ("ffn_norm", {"weight": (dim,)}),
                ("cross_attention", attention()),
            ):
                yield from _under(f"layers.{i}.{part}.", inside).items()

    smooth = _under("groupnorm.", _norm(dim)) | _under("project.", _conv(dim, dim, 3))
    transformer: Shapes = {
        "final_layer_scale_shift_table": (2, dim),
        **dict(layers()),
        "norm.weight": (dim,),
        "output.weight": (2 * s.channels, dim),
        **_under("x_embedder.block.block1.", smooth),
        **_under("x_embedder.block.block2.", smooth),
        **_under("y_embedder.projection.", gated(dim, dim)),
        **_under("t_embedder.projection.", gated(s.frequencies, dim)),
        **_under("t_block.", _linear(dim, 6 * dim)),
    }
    return {
        **_under("transformer.", transformer),
        **_under("proj.", _linear(6 * s.channels, dim)),
        "align_masked_video.gate": (1,),
        **_under("align_masked_video.conv.", _conv(s.vision_dim, dim, 1)),
        **_under("align_masked_video.layer_norm.", _norm(dim)),
        "embed_anchors.gate": (1,),
        "embed_anchors.embed.weight": (4, s.anchor_dim),
        "embed_anchors.proj.weight": (dim, s.anchor_dim),
        **_under("memory_proj.", _linear(s.text_dim, dim)),
    }


# ---- PE-AV ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PeAvSizes:
    """What may differ between PE-AV models."""

    sees: bool = True  #: False: pe-a-frame's layout, the audio tower with the text tower
    width: int = 32  #: of the audio and the video tower
    joint_width: int = 32
    hidden: int = 48
    heads: int = 2
    head: int = 16  #: size of one
    layers: int = 2
    strides: tuple[int, ...] = STRIDES
    codec_dim: int = 4
    codec_latent: int = 24
    channels: int = 8  #: of a latent
    vision_width: int = 128
    vision_heads: int = 2
    vision_hidden: int = 256
    vision_blocks: int = 2
    vision_dim: int = 48  #: of a picture's one vector
    patch: int = 14
    image_side: int = 56


def tiny_pe_av(folder: Path, seed: int = 0, **changed: Any) -> Path:
    """Write ``config.json`` and ``model.safetensors`` as transformers saves them; changed: `PeAvSizes` by name.

    What no encoder uses, the text tower and the heads, holds only NaN.
    """
    sizes = PeAvSizes(**changed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(pe_av_config(sizes), indent=2) + "\n")
    used, unused = pe_av_shapes(sizes)
    state = {name: torch.empty(shape) for name, shape in used.items()}
    fill_sam_audio(state, seed)
    for name, tensor in state.items():
        if name.endswith("timm_model.head.bias"):
            tensor.zero_()
        if ".res_unit" in name and name.endswith(".conv2.weight"):
            tensor.mul_(0.4)  # What is added to a residual is smaller.
        if name.endswith(("timm_model.pos_embed", "timm_model.cls_token", "timm_model.attn_pool.latent")):
            tensor.mul_(0.3 / tensor.std())
    save_file(
        state | {name: torch.full(shape, math.nan) for name, shape in unused.items()}, folder / "model.safetensors"
    )
    return folder


def pe_av_config(s: PeAvSizes) -> dict[str, Any]:
    """``config.json``, which leaves out what is usual."""

    def tower(kind: str, width: int) -> dict[str, Any]:
        sizes = {"hidden_size": width, "intermediate_size": s.hidden, "num_hidden_layers": s.layers}
        return {"model_type": kind, **sizes, "num_attention_heads": s.heads, "head_dim": s.head}

    codec = {"encoder_hidden_size": s.codec_dim, "hidden_size": s.codec_latent, "codebook_dim": s.channels}
    codec |= {"model_type": "dac", "sampling_rate": 16000}  # as released: a default that nobody set
    audio = tower("pe_audio_encoder", s.width) | {"dac_config": {**codec, "downsampling_ratios": list(s.strides)}}
    text = {"model_type": "modernbert"}
    if not s.sees:
        frame = {"architectures": ["PeAudioFrameLevelModel"], "model_type": "pe_audio"}
        return {**frame, "audio_config": audio, "text_config": text}
    timm = {
        "model_type": "timm_wrapper",
        "architecture": "vit_pe_core_large_patch14_336",
        "num_classes": s.vision_dim,
        "model_args": {"embed_dim": s.vision_width, "num_heads": s.vision_heads, "img_size": s.image_side},
    }
    video = tower("pe_video_encoder", s.width) | {"vision_config": timm}
    joint = tower("pe_audio_video_encoder", s.joint_width) | {"audio_config": audio, "video_config": video}
    whole = {"architectures": ["PeAudioVideoModel"], "model_type": "pe_audio_video"}
    return {**whole, "audio_video_config": joint, "text_config": text}


def pe_av_shapes(s: PeAvSizes) -> tuple[Shapes, Shapes]:
    """Tensors of ``model.safetensors``: those that are used, and some of those that are not."""
    unused: Shapes = {"text_model.embeddings.tok_embeddings.weight": (100, 32), "audio_head.proj.weight": (32, s.width)}
    entrance = _under("data_proj.", _linear(s.channels, s.width))
    codec = _under("dac_encoder.", _hf_codec(s)) | _under("bottleneck.", _conv(s.codec_latent, s.channels, 1))
    audio = _under("embedder.", entrance | codec) | _in_time(s, s.width)
    if not s.sees:
        return _under("audio_encoder.", audio), unused
    video = (
        _under("embedder.vision_model.timm_model.", _timm(s))
        | _under("embedder.proj.", _linear(s.vision_dim, s.width, bias=False))
        | _under("embedder.data_proj.", _linear(s.width, s.width))
        | _in_time(s, s.width)
    )
    joint = (
        _under("embedder.video_proj.", _conv(s.width, s.width, 1))
        | _under("embedder.video_norm.", _norm(s.width))
        | _under("embedder.concat_modality_proj.", _linear(2 * s.width, s.joint_width))
        | _under("embedder.data_proj.", _linear(s.joint_width, s.joint_width))
        | _in_time(s, s.joint_width)
    )
    towers = {"audio_model.audio_encoder.": audio, "video_model.video_encoder.": video, "audio_video_encoder.": joint}
    return {name: shape for prefix, tower in towers.items() for name, shape in _under(prefix, tower).items()}, unused


def _in_time(s: PeAvSizes, width: int) -> Shapes:
    inner = s.heads * s.head

    def plain(*shape: int) -> Shapes:
        return {"weight": shape}

    layer = (
        _under("self_attn.q_proj.", plain(inner, width))
        | _under("self_attn.k_proj.", plain(inner, width))
        | _under("self_attn.v_proj.", plain(inner, width))
        | _under("self_attn.o_proj.", plain(width, inner))
        | _under("self_attn.q_norm.", plain(s.head))
        | _under("self_attn.k_norm.", plain(s.head))
        | _under("mlp.gate_proj.", plain(s.hidden, width))
        | _under("mlp.up_proj.", plain(s.hidden, width))
        | _under("mlp.down_proj.", plain(width, s.hidden))
        | _under("input_layernorm.", plain(width))
        | _under("post_attention_layernorm.", plain(width))
    )
    smooth = _under("groupnorm.", _norm(width)) | _under("project.", _conv(width, width, 3))
    return (
        {"patch_embedder.class_embedding": (1, 1, width), "norm.weight": (width,), "output.weight": (width, width)}
        | _under("patch_embedder.resnet_block.block1.", smooth)
        | _under("patch_embedder.resnet_block.block2.", smooth)
        | _under("layers.", _sequence(*[layer] * s.layers))
    )


def _hf_codec(s: PeAvSizes) -> Shapes:
    def unit(width: int) -> Shapes:
        first = _under("snake1.", _snake(width)) | _under("conv1.", _conv(width, width, 7))
        return first | _under("snake2.", _snake(width)) | _under("conv2.", _conv(width, width, 1))

    def down(width: int, stride: int) -> Shapes:
        units = {name: shape for i in (1, 2, 3) for name, shape in _under(f"res_unit{i}.", unit(width)).items()}
        return units | _under("snake1.", _snake(width)) | _under("conv1.", _conv(width, 2 * width, 2 * stride))

    last = s.codec_dim << len(s.strides)
    return (
        _under("conv1.", _conv(1, s.codec_dim, 7))
        | _under("block.", _sequence(*(down(s.codec_dim << i, stride) for i, stride in enumerate(s.strides))))
        | _under("snake1.", _snake(last))
        | _under("conv2.", _conv(last, s.codec_latent, 3))
    )


def _timm(s: PeAvSizes) -> Shapes:
    width = s.vision_width
    mlp = _under("mlp.fc1.", _linear(width, s.vision_hidden)) | _under("mlp.fc2.", _linear(s.vision_hidden, width))
    block = (
        _under("norm1.", _norm(width))
        | _under("attn.qkv.", _linear(width, 3 * width))
        | _under("attn.proj.", _linear(width, width))
        | _under("norm2.", _norm(width))
        | mlp
    )
    pool = (
        {"latent": (1, 1, width)}
        | _under("q.", _linear(width, width))
        | _under("kv.", _linear(width, 2 * width))
        | _under("proj.", _linear(width, width))
        | _under("norm.", _norm(width))
        | mlp
    )
    return (
        {
            "cls_token": (1, 1, width),
            "pos_embed": (1, 1 + (s.image_side // s.patch) ** 2, width),
            "patch_embed.proj.weight": (width, 3, s.patch, s.patch),
        }
        | _under("norm_pre.", _norm(width))
        | _under("blocks.", _sequence(*[block] * s.vision_blocks))
        | _under("norm.", _norm(width))
        | _under("attn_pool.", pool)
        | _under("head.", _linear(width, s.vision_dim))
    )
