"""SAM-Audio's diffusion transformer (DiT): sound latents with the frames of the picture -> fused tokens. No text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, rms_norm, scaled_dot_product_attention, silu

from harkback.encoders._checkpoint import blocks_of
from harkback.encoders._vision import turned
from harkback.state import State

#: What the tower is made of, in the checkpoint's names.
PARTS = ("transformer.", "proj.", "align_masked_video.", "embed_anchors.", "memory_proj.")
NULL, PADDED = 0, 3  #: anchors: nothing is said of this frame; this frame is padding


class Gated(nn.Module):
    """SwiGLU: w2(silu(w1 x) · w3 x)."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(inputs, hidden, bias=False)
        self.w2 = nn.Linear(hidden, outputs, bias=False)
        self.w3 = nn.Linear(inputs, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.w2(silu(self.w1(x)) * self.w3(x))
        return out


class Embedder(nn.Module):
    def __init__(self, state: State, prefix: str) -> None:
        super().__init__()
        hidden, inputs = state[f"{prefix}w1.weight"].shape
        self.projection = Gated(inputs, hidden, len(state[f"{prefix}w2.weight"]))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.projection(x)
        return out


class Norm(nn.Module):
    """Root mean square norm, computed in float32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x.float(), x.shape[-1:], eps=self.eps).to(x.dtype) * self.weight


class Attention(nn.Module):
    def __init__(self, state: State, prefix: str, heads: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.wq, self.wk, self.wv, self.wo = (
            _linear(state, f"{prefix}{name}.weight") for name in ("wq", "wk", "wv", "wo")
        )
        self.q_norm, self.k_norm = (_norm(state, f"{prefix}{name}.weight", eps) for name in ("q_norm", "k_norm"))

    def forward(
        self, x: Tensor, other: Tensor, allowed: Tensor | None, turn: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """x: (n, tokens, dim) asks other: (n, others, dim); allowed: (n, others) bool; turn: rotary cosine and sine."""
        q, k, v = self.q_norm(self._split(self.wq(x))), self.k_norm(self._split(self.wk(other))), self.wv(other)
        if turn is not None:
            q, k = turned(q, *turn), turned(k, *turn)
        mask = None if allowed is None else allowed[:, None, None, :]
        seen = scaled_dot_product_attention(q, k, self._split(v), attn_mask=mask)
        out: Tensor = self.wo(seen.transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Tensor) -> Tensor:
        """(n, tokens, dim) -> (n, heads, tokens, size)."""
        # A quirk of the released weights: channel d · heads + h belongs to head h, though heads are merged in order.
        heads: Tensor = x.unflatten(-1, (-1, self.heads)).permute(0, 3, 1, 2)
        return heads


class Layer(nn.Module):
    def __init__(self, state: State, prefix: str, heads: int, eps: float) -> None:
        super().__init__()
        dim = state[f"{prefix}scale_shift_table"].shape[1]
        self.scale_shift_table = nn.Parameter(torch.empty(6, dim))
        self.attention = Attention(state, f"{prefix}attention.", heads, eps)
        self.cross_attention = Attention(state, f"{prefix}cross_attention.", heads, eps)
        self.feed_forward = Gated(dim, len(state[f"{prefix}feed_forward.w1.weight"]), dim)
        self.attention_norm = Norm(dim, eps)
        self.ffn_norm = Norm(dim, eps)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        time: Tensor,
        turn: tuple[Tensor, Tensor],
        valid: Tensor | None,
        memory_valid: Tensor | None,
    ) -> Tensor:
        """x: (n, tokens, dim); time: (n, 6, dim) shifts, scales and gates of the flow time."""
        shift, scale, gate, shift2, scale2, gate2 = (self.scale_shift_table + time)[:, :, None].unbind(1)
        moved = self.attention_norm(x) * (1 + scale) + shift
        x = x + gate * self.attention(moved, moved, valid, turn)
        x = x + self.cross_attention(x, memory, memory_valid)
        out: Tensor = x + gate2 * self.feed_forward(self.ffn_norm(x) * (1 + scale2) + shift2)
        return out


class Smooth(nn.Module):
    """Group norm over all channels and times, SiLU, and a convolution over three times."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.groupnorm = nn.GroupNorm(1, dim)
        self.project = nn.Conv1d(dim, dim, 3, padding="same")

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(silu(self.groupnorm(x)))
        return out


class Entry(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.block = nn.ModuleDict({"block1": Smooth(dim), "block2": Smooth(dim)})

    def forward(self, x: Tensor) -> Tensor:
        """(n, times, dim) -> the same."""
        y = x.transpose(1, 2)
        out: Tensor = x + self.block["block2"](self.block["block1"](y)).transpose(1, 2)
        return out


class Transformer(nn.Module):
    def __init__(self, state: State, config: Mapping[str, Any]) -> None:
        super().__init__()
        eps, heads = float(config["norm_eps"]), int(config["n_heads"])
        out, dim = state["output.weight"].shape
        depth = blocks_of(state, "layers.")
        self.theta = max(10_000.0, 2.0 * config["max_positions"])
        self.head = dim // heads
        self.frequencies = state["t_embedder.projection.w1.weight"].shape[1]
        self.x_embedder = Entry(dim)
        self.t_embedder = Embedder(state, "t_embedder.projection.")
        self.t_block = nn.Linear(dim, 6 * dim, bias="t_block.bias" in state)
        self.y_embedder = Embedder(state, "y_embedder.projection.")
        self.layers = nn.ModuleList(Layer(state, f"layers.{i}.", heads, eps) for i in range(depth))
        self.norm = Norm(dim, eps)
        self.final_layer_scale_shift_table = nn.Parameter(torch.empty(2, dim))
        self.output = nn.Linear(dim, out, bias=False)


class VideoAligner(nn.Module):
    def __init__(self, state: State, prefix: str) -> None:
        super().__init__()
        dim, inputs, _ = state[f"{prefix}conv.weight"].shape
        self.gate = nn.Parameter(torch.empty(1))
        self.conv = nn.Conv1d(inputs, dim, 1)
        self.layer_norm = nn.LayerNorm(dim, 1e-5)

    def forward(self, video: Tensor) -> Tensor:
        """video: (n, times, frame dim) -> (n, times, dim)."""
        out: Tensor = self.gate.tanh() * self.layer_norm(linear(video, self.conv.weight[..., 0], self.conv.bias))
        return out


class Anchors(nn.Module):
    def __init__(self, state: State, prefix: str) -> None:
        super().__init__()
        kinds, size = state[f"{prefix}embed.weight"].shape
        self.gate = nn.Parameter(torch.empty(1))
        self.embed = nn.Embedding(kinds, size)
        self.proj = nn.Linear(size, len(state[f"{prefix}proj.weight"]), bias=False)

    def forward(self, anchors: Tensor) -> Tensor:
        """anchors: (n, times) numbers of kinds -> (n, times, dim)."""
        out: Tensor = self.gate.tanh() * self.proj(self.embed(anchors))
        return out


class Fusion(nn.Module):
    """Modules are named as in the checkpoint; sizes come from its shapes, heads and positions from its config."""

    def __init__(self, state: State, config: Mapping[str, Any]) -> None:
        """state: only the shapes are read; config: the checkpoint's ``transformer`` section."""
        super().__init__()
        inner = {name.removeprefix("transformer."): t for name, t in state.items() if name.startswith("transformer.")}
        self.transformer = Transformer(inner, config)
        dim, inputs = state["proj.weight"].shape
        self.width, self.depth = dim, len(self.transformer.layers)
        self.proj = nn.Linear(inputs, dim)
        self.align_masked_video = VideoAligner(state, "align_masked_video.")
        self.embed_anchors = Anchors(state, "embed_anchors.")
        self.memory_proj = nn.Linear(state["memory_proj.weight"].shape[1], dim)

    def forward(
        self,
        noisy: Tensor,
        sounds: Tensor,
        time: Tensor,
        video: Tensor | None = None,
        anchors: Tensor | None = None,
        valid: Tensor | None = None,
        text: Tensor | None = None,
        text_valid: Tensor | None = None,
        *,
        layer: int = -1,
    ) -> Tensor:
        """The residual stream (n, times, dim) after block ``layer``, counted like a list's.

        noisy, sounds: (n, times, 2 channels), the state of the flow and the sound it is conditioned on; time: (n,) in
        [0, 1], noise to data; video: (n, times, frame dim) or nothing to add; anchors: (n, times) of `NULL` and its
        kin, or nothing to add; valid: (n, times) bool, False where padded; text: (n, words, text dim) and its mask.
        """
        t = self.transformer
        kind = self.proj.weight.dtype
        x = self.proj(torch.cat([noisy, torch.zeros_like(sounds), sounds], -1).to(kind))
        if video is not None:
            x = x + self.align_masked_video(video.to(kind))
        if anchors is not None:
            x = x + self.embed_anchors(anchors)
        memory = waves(time, x.shape[-1])[:, None].to(kind)
        if text is not None:
            memory = memory + self.memory_proj(text.to(kind))
        x = t.x_embedder(x)
        moment = t.t_embedder(waves(time, t.frequencies).to(kind))
        shifts = t.t_block(silu(moment)).unflatten(-1, (6, -1))
        y = t.y_embedder(memory)
        turn = rotations(x.shape[1], t.head, t.theta, x.device, kind)
        for block in t.layers[: range(self.depth)[layer] + 1]:
            x = block(x, y, shifts, turn, valid, text_valid)
        stream: Tensor = x
        return stream

    def velocity(self, stream: Tensor, time: Tensor) -> Tensor:
        """The stream after the last block -> (n, times, 2 channels): where the flow goes."""
        t = self.transformer
        moment = t.t_embedder(waves(time, t.frequencies).to(stream.dtype))
        shift, scale = (t.final_layer_scale_shift_table + moment[:, None])[:, :, None].unbind(1)
        out: Tensor = t.output(t.norm(stream) * (1 + scale) + shift)
        return out


def _linear(state: State, name: str) -> nn.Linear:
    outputs, inputs = state[name].shape
    return nn.Linear(inputs, outputs, bias=False)


def _norm(state: State, name: str, eps: float) -> nn.Module:
    return Norm(len(state[name]), eps) if name in state else nn.Identity()


def waves(time: Tensor, size: int) -> Tensor:
    """time: (n,) -> (n, size): cosines, then sines, of frequencies from 1 down to 1 / 10000."""
    half = size // 2
    frequency = 10_000.0 ** (-torch.arange(half, device=time.device, dtype=torch.float32) / half)
    angle = time.float()[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], -1)


def rotations(times: int, size: int, theta: float, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine (times, size) of rotary positions from 0; both channels of a pair have one angle."""
    frequency = theta ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    angle = (torch.arange(times)[:, None] * frequency).repeat_interleave(2, 1)
    return angle.cos().to(device, dtype), angle.sin().to(device, dtype)
