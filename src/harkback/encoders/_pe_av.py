"""PE-AV's checkpoints (Vyas et al., arXiv 2512.19687): tensors under our names, and transformers' towers over time."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from harkback.encoders._checkpoint import AGAIN, Checkpoint
from harkback.encoders._device import in_batches
from harkback.encoders._vision import VisionTower
from harkback.errors import HarkbackError
from harkback.state import State

INSTALL = 'pip install "harkback[pe-av]"'
NEEDED = ("PeAudioEncoder", "PeVideoEncoder", "PeAudioVideoEncoder", "ViTForImageClassification")

Kind = Literal["Audio", "Video", "AudioVideo"]  #: of a tower over time, as transformers' classes are named

#: Where a tower's tensors may stand: twins are tied, and a file holds them once.
PLACES: Mapping[Kind, tuple[str, ...]] = {
    "Audio": ("audio_model.audio_encoder.", "audio_video_encoder.embedder.audio_encoder.", "audio_encoder."),
    "Video": ("video_model.video_encoder.", "audio_video_encoder.embedder.video_encoder."),
    "AudioVideo": ("audio_video_encoder.",),
}
#: Parts of them that are towers of their own, and not asked through transformers.
INSIDE = ("dac_encoder", "bottleneck", "vision_model", "audio_encoder", "video_encoder")
APART = tuple(f"embedder.{name}." for name in INSIDE)

#: Tokens that a tower over time is shown at once, 30 s of sound: the models were trained on short clips, and attention
#: over half an hour would not fit into memory.
WINDOW = 750
TOKENS_AT_ONCE = {"cuda": 1 << 15, "cpu": 1 << 11}  #: of any number of clips


def library() -> Any:
    """The module transformers, imported only when a model is opened; `HarkbackError` if it is missing or too old."""
    try:
        found = importlib.import_module("transformers")
    except ImportError as error:
        raise HarkbackError("PE-AV needs the library transformers", mend=INSTALL) from error
    try:
        for name in NEEDED:
            getattr(found, name)
    except (AttributeError, ImportError, RuntimeError) as error:
        raise HarkbackError(f"transformers {found.__version__} has no PE-AV that works here", mend=INSTALL) from error
    return found


def is_pe_av(config: Mapping[str, Any]) -> bool:
    return config.get("model_type") in ("pe_audio_video", "pe_audio")


class Parts:
    """What a checkpoint holds of each tower: its tensors under our names, and transformers' config of it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.sees = checkpoint.config["model_type"] == "pe_audio_video"  #: False: a pe-a-frame model, which only hears

    @cached_property
    def codec(self) -> State:
        return codec_state(_below(self._tensors("Audio"), "embedder."))

    @cached_property
    def vision(self) -> State:
        """`HarkbackError` where there is none, or one that `VisionTower` cannot be."""
        try:
            state, bias = vision_state(_below(self._tensors("Video"), "embedder.vision_model.timm_model."))
        except KeyError as error:
            what = f"its vision tower lacks the tensor {error.args[0]}"
            raise HarkbackError(what, where=self.checkpoint.folder, mend="check that it is the model") from error
        if bias is not None and bias.any():
            what = "its vision tower adds a bias to the vectors of pictures, as that of no released PE-AV does"
            raise HarkbackError(what, where=self.checkpoint.folder, mend="take a released model")
        return state

    @property
    def strides(self) -> list[int]:
        """Of the codec: samples a step, by block."""
        return [int(stride) for stride in self.config("Audio").dac_config.downsampling_ratios]

    def in_time(self, kind: Kind) -> State:
        """The tensors of a tower over time, without the codec or the vision tower inside it."""
        return {name: tensor for name, tensor in self._tensors(kind).items() if not name.startswith(APART)}

    def config(self, kind: Kind) -> Any:
        """transformers' config of a tower over time, with the defaults that config.json leaves out."""
        found, facts, parts = library(), self._facts(kind), {}
        if kind == "Video":  # Some vision tower that transformers can make without timm; it is never asked.
            vectors = self.vision["proj"].shape[1]
            parts = {"vision_config": found.ViTConfig(num_hidden_layers=1, num_labels=vectors)}
        elif kind == "AudioVideo":
            parts = {"audio_config": self.config("Audio"), "video_config": self.config("Video")}
        try:
            config = getattr(found, f"Pe{kind}EncoderConfig")(**{**facts, **parts, "return_dict": True})
        except Exception as error:  # Another's code, asked with another's file: it may fail in any way.
            why = " ".join(str(error).split())[:200]
            where = self.checkpoint.folder / "config.json"
            raise HarkbackError(f"describes no PE-AV: {why}", where=where, mend=AGAIN) from error
        config._attn_implementation = "sdpa"
        return config

    def vision_tower(self, state: State) -> VisionTower:
        heads = _part(_part(self._facts("Video"), "vision_config"), "model_args").get("num_heads")
        return VisionTower(state, heads=heads if isinstance(heads, int) else None)

    def time_tower(self, kind: Kind) -> nn.Module:
        """transformers' transformer over time, asked as ``tower(tokens, ..., mask).last_hidden_state``.

        In place of the codec and the vision tower inside it stands an entrance for what our own make. To be made on
        the meta device.
        """
        tower: nn.Module = getattr(library(), f"Pe{kind}Encoder")(self.config(kind))
        rotations: Any = tower.rotary_emb
        with torch.device("cpu"):  # Its frequencies are computed, not read.
            tower.rotary_emb = type(rotations)(rotations.config)
        tower.embedder = (Meeting if kind == "AudioVideo" else Entrance)(tower.embedder)
        return tower

    def blind(self) -> HarkbackError:
        mend = "for pictures take a pe-av model"
        return HarkbackError("is a model of sound alone", where=self.checkpoint.folder, mend=mend)

    def _tensors(self, kind: Kind) -> State:
        """All of a tower's, under the first of its prefixes that there is."""
        if not self.sees and kind != "Audio":
            raise self.blind()
        places = PLACES[kind]
        there = (place for place in places if any(name.startswith(place) for name in self.checkpoint.tensors))
        return self.checkpoint.tower(next(there, places[0]))

    def _facts(self, kind: Kind) -> Mapping[str, Any]:
        """What config.json says of a tower; transformers leaves out what is usual."""
        config = self.checkpoint.config
        joint = _part(config, "audio_video_config") if self.sees else config
        return joint if kind == "AudioVideo" else _part(joint, f"{kind.lower()}_config")


def _part(facts: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = facts.get(name)
    return found if isinstance(found, Mapping) else {}


# ---- tensors --------------------------------------------------------------------------------------------------------


def codec_state(embedder: State) -> State:
    """The codec's tensors as `Codec` names them: in the file, weight norm is folded and the mean stands alone."""
    steps = len({name.split(".")[2] for name in embedder if name.startswith("dac_encoder.block.")})
    names = (
        (r"dac_encoder\.conv1\.", "encoder.block.0."),
        (r"dac_encoder\.snake1\.", f"encoder.block.{steps + 1}."),
        (r"dac_encoder\.conv2\.", f"encoder.block.{steps + 2}."),
        (r"dac_encoder\.block\.(\d+)\.", lambda m: f"encoder.block.{int(m[1]) + 1}.block."),
        (r"\.res_unit([123])\.(snake|conv)([12])\.", _residual),
        (r"(?<=\.block\.)snake1\.", "3."),
        (r"(?<=\.block\.)conv1\.", "4."),
        (r"^bottleneck\.", "quantizer.in_proj."),
    )
    held = {name: tensor for name, tensor in embedder.items() if name.startswith(("dac_encoder.", "bottleneck."))}
    return {_renamed(name, names): tensor for name, tensor in held.items()}


def vision_state(timm: State) -> tuple[State, Tensor | None]:
    """The vision tower's tensors as `VisionTower` names them, from timm's names; and a bias that it has no place for.

    They are views, but for two small matrices. `KeyError` with the name of what is missing.
    """
    names = (
        (r"^patch_embed\.proj\.", "conv1."),
        (r"^norm_pre\.", "ln_pre."),
        (r"^norm\.", "ln_post."),
        (r"^blocks\.", "transformer.resblocks."),
        (r"\.norm([12])\.", r".ln_\1."),
        (r"\.mlp\.fc1\.", ".mlp.c_fc."),
        (r"\.mlp\.fc2\.", ".mlp.c_proj."),
        (r"\.attn\.qkv\.", ".attn.in_proj_"),
        (r"\.attn\.proj\.", ".attn.out_proj."),
        (r"^attn_pool\.proj\.", "attn_pool.attn.out_proj."),
        (r"^attn_pool\.norm\.", "attn_pool.layernorm."),
        (r"^attn_pool\.latent$", "attn_pool.probe"),
    )
    rest = dict(timm)
    bias = rest.pop("head.bias", None)
    out = {"positional_embedding": rest.pop("pos_embed")[0], "proj": rest.pop("head.weight").T}
    for part in ("weight", "bias"):
        question = rest.pop(f"attn_pool.q.{part}")
        out[f"attn_pool.attn.in_proj_{part}"] = torch.cat([question, rest.pop(f"attn_pool.kv.{part}")])
    if "cls_token" in rest:
        out["class_embedding"] = rest.pop("cls_token").flatten()
    return {**out, **{_renamed(name, names): tensor for name, tensor in rest.items()}}, bias


def _below(state: State, prefix: str) -> State:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _renamed(name: str, names: tuple[tuple[str, Any], ...]) -> str:
    for old, new in names:
        name = re.sub(old, new, name)
    return name


def _residual(found: re.Match[str]) -> str:
    place = 2 * (int(found[3]) - 1) + (found[2] == "conv")  # snake, convolution, snake, convolution
    return f".{int(found[1]) - 1}.block.{place}."


# ---- towers over time -----------------------------------------------------------------------------------------------


class Entrance(nn.Module):
    """Latents or vectors of pictures, (clips, times, dim), to the tower's width."""

    def __init__(self, embedder: Any) -> None:
        super().__init__()
        self.proj = getattr(embedder, "proj", nn.Identity())
        self.data_proj = embedder.data_proj

    def forward(self, tokens: Tensor, padding_mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        return self.data_proj(self.proj(tokens)), padding_mask


class Meeting(nn.Module):
    """Audio and video tokens of the same times, (clips, times, dim), to the joint tower's width."""

    def __init__(self, embedder: Any) -> None:
        super().__init__()
        self.video_proj = embedder.video_proj
        self.video_norm = embedder.video_norm
        self.concat_modality_proj = embedder.concat_modality_proj
        self.data_proj = embedder.data_proj

    def forward(
        self, sound: Tensor, picture: Tensor, padding_mask: Tensor | None, padding_mask_videos: Tensor
    ) -> tuple[Tensor, Tensor | None, None, None]:
        seen = self.video_proj(picture.transpose(1, 2)).transpose(1, 2) * padding_mask_videos[..., None]
        both = torch.cat([sound, self.video_norm(seen)], -1)
        return self.data_proj(self.concat_modality_proj(both)), padding_mask, None, None


def aligned(video: Tensor, times: int, heard: Tensor | None, seen: Tensor | None) -> tuple[Tensor, Tensor]:
    """(clips, frames, dim) -> (clips, times, dim), and (clips, times) bool: whether there is a picture.

    Time ``i`` of ``t`` that are heard gets frame ``floor(i * n / t)`` of ``n`` that are seen. heard: (clips, times),
    seen: (clips, frames) bool, True in front, False where padded.
    """
    frame = torch.full((len(video), times), -1, device=video.device)
    for i, row in enumerate(frame):
        t = times if heard is None else int(heard[i].sum())
        n = video.shape[1] if seen is None else int(seen[i].sum())
        if t and n:  # Interpolated, not divided as whole numbers: so it rounds as when the models were trained.
            steps = torch.arange(n, dtype=torch.float32, device=video.device)
            row[:t] = interpolate(steps[None, None], size=t, mode="nearest")[0, 0].long()
    clip = torch.arange(len(video), device=video.device)[:, None]
    return video[clip, frame.clamp_min(0)], frame >= 0


def in_windows(tower: nn.Module, *streams: Tensor | None) -> Tensor:
    """``tower(*streams)``, each (clips, times, ...), -> (clips, times, width); some clips at one time.

    What is longer than `WINDOW` goes through in as few windows as can be, of equal length.
    """
    first = streams[0]
    assert first is not None
    clips, times = first.shape[:2]

    def run(begin: int, end: int, rows: Tensor) -> Tensor:
        parts = [None if stream is None else stream[rows, begin:end] for stream in streams]
        found: Tensor = tower(*parts).last_hidden_state
        return found

    count = max(1, -(-times // WINDOW))
    at_once = TOKENS_AT_ONCE.get(first.device.type, TOKENS_AT_ONCE["cpu"]) // (-(-times // count) + 1)
    windows = pairwise(times * i // count for i in range(count + 1))
    rows = torch.arange(clips, device=first.device)
    with torch.no_grad():
        return torch.cat([in_batches(partial(run, *window), rows, max(1, at_once)) for window in windows], 1)
