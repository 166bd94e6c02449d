"""Guided attention without projecting a patch, a few clips at a time: tokens are read once forward, once backward.

Half-precision tokens are turned into the arithmetic's precision in pieces that stay in the cache, so no copy of a batch
is ever made. Nothing as large as the tokens is kept for the backward pass, which is written by hand: it needs the
shares alone, which are few, and reads the tokens again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

PIECE = 1 << 19  #: numbers of the tokens that a core works on at once: 2 MB in float32, the size of its own cache
ON_GPU = 1 << 27  #: the same, of a GPU, where many small products cost more than memory


class Attended(NamedTuple):
    """What two stages of attention make of raw tokens."""

    vectors: Tensor  #: (clips, heads, visual_dim) attended tokens, standardised; they alone have a gradient
    plain: Tensor  #: (clips, visual_dim) the tokens' plain mean, standardised
    spatial: Tensor  #: (clips, heads, frames, patches) sums to one over the patches
    temporal: Tensor  #: (clips, heads, frames) sums to one over the frames


def attend(where: Tensor, when: Tensor, tokens: Tensor, mean: Tensor, scale: Tensor) -> Attended:
    """Attend over patches, then over frames: eq. (5) to (7) of `docs/method.md`.

    where: (clips, frames, heads, visual_dim) carried queries, or (clips, 1, heads, visual_dim) if all frames ask the
    same; when: (clips, heads, visual_dim) those of the second stage; tokens: (clips, frames, patches, visual_dim) of
    any precision, to which no gradient flows; mean, scale: (visual_dim,) what they are standardised by.
    """
    return Attended(*_Absorbed.apply(where, when, tokens, mean, scale))  # type: ignore[no-untyped-call]


class _Absorbed(Function):
    @staticmethod
    def forward(
        ctx: Any, where: Tensor, when: Tensor, tokens: Tensor, mean: Tensor, scale: Tensor
    ) -> tuple[Tensor, ...]:
        clips, frames, patches, dim = tokens.shape
        heads = when.shape[1]
        spatial, outer = (when.new_empty(clips, heads, frames, patches) for _ in range(2))
        temporal = when.new_empty(clips, heads, frames)
        share = when.new_full((clips, heads + 1, frames * patches), 1 / (frames * patches))  # The last row stays even.
        sums = when.new_empty(clips, heads + 1, dim)
        for piece, v in _pieces(tokens, when.dtype):
            flat = v.flatten(1, 2)
            alpha = torch.softmax(_first_scores(where[piece], v), 3, out=spatial[piece])
            second = torch.bmm(when[piece], flat.mT, out=outer[piece].flatten(2)).view_as(alpha)
            beta = (alpha * second).sum(3).softmax(2)
            share[piece, :heads] = (alpha * beta[..., None]).flatten(2)
            torch.bmm(share[piece], flat, out=sums[piece]).sub_(mean).div_(scale)
            temporal[piece] = beta
        vectors, plain = sums[:, :heads], sums[:, heads]
        ctx.save_for_backward(where, when, tokens, scale, spatial, outer, temporal)
        ctx.mark_non_differentiable(plain, spatial, temporal)
        return vectors, plain, spatial, temporal

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        where, when, tokens, scale, spatial, outer, temporal = ctx.saved_tensors
        by_vectors = gradients[0]  # (clips, heads, dim)
        by_where, by_when = when.new_empty(where.shape), when.new_empty(when.shape)
        for piece, v in _pieces(tokens, when.dtype):
            flat, alpha, beta = v.flatten(1, 2), spatial[piece], temporal[piece]
            by_share = torch.bmm(by_vectors[piece] / scale, flat.mT).view_as(alpha)
            by_beta = (alpha * by_share).sum(3)
            by_mean = beta * (by_beta - (beta * by_beta).sum(2, keepdim=True))  # through the softmax over the frames
            by_alpha = torch.addcmul(by_share * beta[..., None], outer[piece], by_mean[..., None])
            by_first = alpha * (by_alpha - (alpha * by_alpha).sum(3, keepdim=True))  # and over the patches
            torch.bmm((alpha * by_mean[..., None]).flatten(2), flat, out=by_when[piece])
            if where.shape[1] == 1:
                torch.bmm(by_first.flatten(2), flat, out=by_where[piece, 0])
            else:
                by_where[piece] = by_first.transpose(1, 2) @ v
        return by_where, by_when, None, None, None


def _first_scores(where: Tensor, v: Tensor) -> Tensor:
    """(clips, heads, frames, patches) u_t . v_tp"""
    clips, asked, heads, _ = where.shape
    if asked == 1:
        return torch.bmm(where[:, 0], v.flatten(1, 2).mT).view(clips, heads, *v.shape[1:3])
    return torch.matmul(where, v.mT).transpose(1, 2)


def _pieces(tokens: Tensor, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
    """A few clips at a time in this precision, each valid until the next is asked for."""
    at_once = ON_GPU if tokens.is_cuda else PIECE * torch.get_num_threads()
    step = max(1, at_once // max(1, tokens[:1].numel()))
    room = tokens.new_empty(min(step, len(tokens)), *tokens.shape[1:], dtype=dtype)  # Fresh memory costs page faults.
    for first in range(0, len(tokens), step):
        piece = slice(first, min(first + step, len(tokens)))
        yield piece, room[: piece.stop - first].copy_(tokens[piece])
