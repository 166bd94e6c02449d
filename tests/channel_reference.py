"""AV-CIL's attention by its definition: in loops, and in whole tensors that autograd can differentiate."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harkback.channel_teacher import Projection, Teacher
from harkback.channels import ChannelAttention
from harkback.features import TokenShape
from harkback.standard import Standard

SHAPE = TokenShape(1, 3, 2, 3, 4)
CLIPS = 5


def draw(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def attention(shape: TokenShape = SHAPE, seed: int = 0) -> ChannelAttention:
    """As it begins, but with weights large enough to bend the tanh and to tell patches apart."""
    module = ChannelAttention(shape, torch.Generator().manual_seed(seed)).double()
    with torch.no_grad():
        for weight in module.parameters():
            weight *= 3
    return module


def standard(shape: TokenShape = SHAPE) -> Standard:
    made = Standard(shape.visual_dim).double()
    made.mean.copy_(draw(shape.visual_dim, seed=5))
    made.scale.copy_(draw(shape.visual_dim, seed=6).abs() + 0.5)
    return made


def inputs(shape: TokenShape = SHAPE, clips: int = CLIPS, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """What is heard (clips, audio_dim), whether it is there; raw tokens. The second clip has no sound."""
    there = torch.arange(clips) != 1
    heard = draw(clips, shape.audio_dim, seed=seed + 1)
    return heard, there, draw(clips, shape.frames, shape.patches, shape.visual_dim, seed=seed + 2) * 1.5 + 0.5


def teacher_of(
    heard: Tensor, there: Tensor, tokens: Tensor, shape: TokenShape = SHAPE, seed: int = 4
) -> tuple[ChannelAttention, Teacher]:
    """Another attention, and it as a teacher of these clips."""
    module, how = attention(shape, seed).to(heard.dtype), standard(shape).to(heard.dtype)
    with torch.no_grad():
        looked = module(heard, there, tokens, how)
        return module, Teacher(looked.look.query, looked.temporal, Projection(*module.projection(how)), tokens)


def softmax(scores: list[float]) -> list[float]:
    powers = [math.exp(score) for score in scores]
    return [power / sum(powers) for power in powers]


def by_loops(
    module: ChannelAttention, heard: Tensor, there: Tensor, tokens: Tensor, how: Standard
) -> tuple[Tensor, Tensor, Tensor]:
    """AV-CIL eq. (1) to (4) for every clip and channel: S, T and the attended vector."""
    clips, frames, patches, dim = tokens.shape
    v = ((tokens - how.mean) / how.scale).tolist()
    w1, b1, w2, b2 = (x.tolist() for x in (*module.listen.parameters(), *module.look.parameters()))
    spatial, temporal = torch.zeros_like(tokens), torch.zeros(clips, frames, dim, dtype=torch.float64)
    vectors = torch.zeros(clips, dim, dtype=torch.float64)
    for n in range(clips):
        for c in range(dim):
            guide = math.tanh(sum(w * a for w, a in zip(w1[c], heard[n].tolist(), strict=True)) + b1[c])
            guide = guide if there[n] else 0.0
            inner, outer = [], []
            for t in range(frames):
                bent = [
                    math.tanh(sum(w * x for w, x in zip(w2[c], v[n][t][p], strict=True)) + b2[c])
                    for p in range(patches)
                ]
                shares = softmax([x * guide for x in bent])
                spatial[n, t, :, c] = torch.tensor(shares, dtype=torch.float64)
                inner.append(sum(s * x for s, x in zip(shares, bent, strict=True)))
                outer.append(sum(s * v[n][t][p][c] for p, s in enumerate(shares)))
            when = softmax([x * guide for x in inner])
            temporal[n, :, c] = torch.tensor(when, dtype=torch.float64)
            vectors[n, c] = sum(s * x for s, x in zip(when, outer, strict=True))
    return spatial, temporal, vectors


def plain(
    module: ChannelAttention, heard: Tensor, there: Tensor, tokens: Tensor, how: Standard
) -> tuple[Tensor, Tensor, Tensor]:
    """The same in whole tensors."""
    guide = module.listen(heard).tanh() * there[:, None]
    bent = module.look(how(tokens)).tanh()
    spatial = (bent * guide[:, None, None]).softmax(2)
    temporal = ((spatial * bent).sum(2) * guide[:, None]).softmax(1)
    return spatial, temporal, (temporal * (spatial * how(tokens)).sum(2)).sum(1)
