"""AV-CIL's network (arXiv 2308.11073): every channel of the picture has an attention of its own, guided by the sound.

Scores are products of two tanh, so the attention cannot be absorbed into a query as `attention.py` does: every patch is
projected. What can be done is done: a few clips at a time, so that what is between two products stays in the cache, and
a backward pass written by hand, which needs no map of the attention to be kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.functional import linear, relu

from harkback.body import Seen
from harkback.features import Features, TokenShape
from harkback.standard import Standard

CHUNK = 1 << 17  #: numbers of the tokens that are worked on at once: half a megabyte
KEPT = 1 << 26  #: numbers up to which tanh(W V) is kept for the backward pass; beyond, it is computed again


class Projection(NamedTuple):
    """How a patch is seen: tanh(weight v + bias), of raw tokens."""

    weight: Tensor  #: (visual_dim, visual_dim)
    bias: Tensor  #: (visual_dim,)


class ChannelLook(NamedTuple):
    """What was seen, and all that is needed to say where, or to hold it to what a teacher says."""

    vectors: Tensor  #: (clips, visual_dim) attended tokens, standardised
    temporal: Tensor  #: (clips, frames, visual_dim) sums to one over the frames
    query: Tensor  #: (clips, visual_dim) a~ = tanh(W1 a); zero where unheard
    projection: Projection
    tokens: Tensor  #: (clips, frames, patches, visual_dim) raw

    def heat(self) -> Tensor:
        """(clips, frames, patches) the share of the whole look that fell on each patch; sums to one over a clip."""
        heat = self.tokens.new_empty(self.tokens.shape[:3], dtype=torch.float32)
        for clips in _chunks(self.tokens):
            spatial, _ = _attend(_project(self.tokens[clips], self.projection), self.query[clips])
            heat[clips] = (spatial * self.temporal[clips, :, None]).mean(-1)
        return heat


class ChannelAttention(nn.Module):
    """S = softmax_p(V~ * a~), T = softmax_t((sum_p S V~) * a~), v = sum_t T sum_p S V; products channel by channel.

    a~ = tanh(W1 a), V~ = tanh(W2 V), both of the tokens' own dimension (768 in the paper), on standardised tokens:
    the standardisation is folded into W2, so that no standardised copy of the tokens is made. AV-CIL eq. (1) to (4).
    """

    def __init__(self, shape: TokenShape, generator: torch.Generator) -> None:
        super().__init__()
        self.listen = uniform_linear(shape.audio_dim, shape.visual_dim, generator)
        self.look = uniform_linear(shape.visual_dim, shape.visual_dim, generator)

    def query(self, heard: Tensor, there: Tensor) -> Tensor:
        """heard: (clips, audio_dim) standardised; there: (clips,) bool. What is not heard favours no patch."""
        query: Tensor = self.listen(heard).tanh() * there[:, None]
        return query

    def projection(self, standard: Standard) -> Projection:
        weight = self.look.weight / standard.scale
        return Projection(weight, self.look.bias - weight @ standard.mean)

    def forward(self, heard: Tensor, there: Tensor, tokens: Tensor, standard: Standard) -> ChannelLook:
        """tokens: (clips, frames, patches, visual_dim) raw."""
        query, projection = self.query(heard, there), self.projection(standard)
        inner, seen = _Spatial.apply(query, *projection, tokens)  # type: ignore[no-untyped-call]  # each (clips, frames, visual_dim)
        temporal = (inner * query[:, None]).softmax(1)
        vectors = standard((temporal * seen).sum(1))
        return ChannelLook(vectors, temporal, query, projection, tokens)


class ChannelBody(nn.Module):
    """f = ReLU(W_v v_att) + ReLU(W_a a), a linear head on f (AV-CIL section 3.3 and its code).

    Deviations: the paper's encoder gives one vector of sound a clip, so dense sound is averaged; tokens are
    standardised by the first session, as for every gradient learner here, so that no encoder's units favour a method;
    a clip without sound is looked at evenly, and what is missing adds nothing to f.
    """

    def __init__(
        self, shape: TokenShape, generator: torch.Generator, *, width: int, guide: Literal["audio", "none"]
    ) -> None:
        super().__init__()
        self.width, self.guide = width, guide
        self.audio_standard = Standard(shape.audio_dim)
        self.visual_standard = Standard(shape.visual_dim)
        self.attention = ChannelAttention(shape, generator)
        self.project_audio = uniform_linear(shape.audio_dim, width, generator)
        self.project_visual = uniform_linear(shape.visual_dim, width, generator)

    def forward(self, features: Features, generator: torch.Generator | None) -> Seen:  # noqa: ARG002 (no dropout)
        heard = self.audio_standard(features.audio.float().mean(1))  # (clips, audio_dim)
        looked = None
        if self.guide == "audio":
            looked = self.attention(heard, features.heard, features.visual, self.visual_standard)
            vectors = looked.vectors
        else:
            vectors = self.visual_standard(features.visual.float().mean((1, 2)))
        audio = relu(self.project_audio(heard)) * features.heard[:, None]
        visual = relu(self.project_visual(vectors)) * features.seen[:, None]
        fused = audio + visual
        return Seen(audio, visual, fused, fused, looked)


def spatial_distillation(student: ChannelLook, teacher_query: Tensor, teacher: Projection) -> Tensor:
    """sum KL(S_teacher || S) over clips, frames and channels; the look of the same clips, a scalar.

    teacher_query: (clips, visual_dim), the teacher's a~. No map of either is kept: see `_SpatialDistillation`.
    """
    total: Tensor = _SpatialDistillation.apply(  # type: ignore[no-untyped-call]
        student.query, *student.projection, student.tokens, teacher_query, *teacher
    )
    return total


def uniform_linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer that begins as PyTorch's own do, which the published code uses."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)
    for values in (layer.weight, layer.bias):
        nn.init.uniform_(values, -(inputs**-0.5), inputs**-0.5, generator=generator)
    return layer


class _Spatial(Function):
    """(query, weight, bias, tokens) -> sum_p S V~ and sum_p S V, each (clips, frames, visual_dim)."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, weight: Tensor, bias: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        inner = query.new_empty(*tokens.shape[:2], tokens.shape[3])
        seen = torch.empty_like(inner)
        kept = query.new_empty(tokens.shape) if any(ctx.needs_input_grad) and tokens.numel() <= KEPT else None
        for clips in _chunks(tokens):
            patches = tokens[clips].to(query.dtype)
            projected = _project(patches, Projection(weight, bias))
            share, total = _attend(projected, query[clips], divide=False)
            inner[clips] = (share * projected).sum(2) / total
            seen[clips] = share.mul_(patches).sum(2) / total
            if kept is not None:
                kept[clips] = projected
        ctx.save_for_backward(query, weight, bias, tokens, inner, seen, *(() if kept is None else (kept,)))
        return inner, seen

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, weight, bias, tokens, inner, seen, *kept = ctx.saved_tensors
        by_inner, by_seen = gradients
        mean = by_inner * inner + by_seen * seen  # What a softmax takes off every score's gradient.
        sums = _Gradients(query, weight, bias)
        for clips in _chunks(tokens):
            patches = tokens[clips].to(query.dtype)
            projected = kept[0][clips] if kept else _project(patches, Projection(weight, bias))
            share, _ = _attend(projected, query[clips])
            of_inner = by_inner[clips, :, None]
            score = (projected * of_inner).addcmul_(patches, by_seen[clips, :, None])
            score.sub_(mean[clips, :, None]).mul_(share)
            sums.add(clips, score, share.mul_(of_inner), projected, patches)
        return sums.query, sums.weight, sums.bias, None


class _SpatialDistillation(Function):
    """The sum of KL(S_teacher || S). Its gradient is known with its value, so both are computed in one pass."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        weight: Tensor,
        bias: Tensor,
        tokens: Tensor,
        teacher_query: Tensor,
        teacher_weight: Tensor,
        teacher_bias: Tensor,
    ) -> Tensor:
        sums = _Gradients(query, weight, bias)
        total = query.new_zeros(())
        for clips in _chunks(tokens):
            patches = tokens[clips].to(query.dtype)
            projected = _project(patches, Projection(weight, bias))
            mine, _ = _attend(projected, query[clips])
            its, _ = _attend(_project(patches, Projection(teacher_weight, teacher_bias)), teacher_query[clips])
            total += (its * (its.log() - mine.log())).sum()
            sums.add(clips, mine.sub_(its), None, projected, patches)
        ctx.save_for_backward(sums.query, sums.weight, sums.bias)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, weight, bias = ctx.saved_tensors
        return gradients[0] * query, gradients[0] * weight, gradients[0] * bias, None, None, None, None


class _Gradients:
    """Sums of the gradients of query, weight and bias over chunks of clips."""

    def __init__(self, query: Tensor, weight: Tensor, bias: Tensor) -> None:
        self.given = query
        self.query, self.weight, self.bias = (torch.zeros_like(each) for each in (query, weight, bias))

    def add(self, clips: slice, score: Tensor, direct: Tensor | None, projected: Tensor, patches: Tensor) -> None:
        """score, direct: gradients of the scores, and of V~ past the scores; all (clips, frames, patches, dim).

        Both are written to.
        """
        self.query[clips] = (score * projected).sum((1, 2))
        asked = self.given[clips, None, None]
        of_projected = score.mul_(asked) if direct is None else direct.addcmul_(score, asked)
        flat = of_projected.addcmul_(of_projected, projected.square(), value=-1).flatten(0, 2)  # tanh' = 1 - tanh^2
        self.weight.addmm_(flat.T, patches.flatten(0, 2))
        self.bias += flat.sum(0)


def _project(patches: Tensor, how: Projection) -> Tensor:
    """V~: (clips, frames, patches, visual_dim)"""
    return linear(patches.to(how.weight.dtype), how.weight, how.bias).tanh_()


def _attend(projected: Tensor, query: Tensor, divide: bool = True) -> tuple[Tensor, Tensor]:
    """S, or with its sum over the patches undivided; and that sum (clips, frames, visual_dim).

    Scores lie in [-1, 1], so their exponentials need no largest one taken off.
    """
    share = (projected * query[:, None, None]).exp_()
    total = share.sum(2)
    return (share.div_(total[:, :, None]) if divide else share), total


def _chunks(tokens: Tensor) -> Iterator[slice]:
    """Slices of clips that are worked on at once."""
    step = max(1, CHUNK // max(1, tokens[:1].numel()))
    return (slice(first, first + step) for first in range(0, len(tokens), step))
