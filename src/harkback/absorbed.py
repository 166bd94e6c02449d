"""Guided attention without projecting a patch, a few frames at a time: tokens are read once forward, once backward.

Half-precision tokens are turned into the arithmetic's precision in pieces that stay in the cache, so no copy of a batch
is ever made. Nothing as large as the tokens is kept for the backward pass, which is written by hand: it needs the
shares alone, which are few, and reads the tokens again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.utils import _python_dispatch

PIECE = 400_000  #: numbers of the tokens that a core works on at once: 1.6 MB in float32, which its own cache holds
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
        spatial, second = (when.new_empty(clips, heads, frames, patches) for _ in range(2))
        temporal = when.new_empty(clips, heads, frames)
        sums = when.new_empty(clips, heads + 1, dim)

        def look(some: slice) -> None:
            for group, pieces in _groups(tokens, some, when.dtype):
                seen = []  # at each frame: what every head saw, and the plain mean
                for at, v in pieces:
                    alpha = torch.softmax(_first_scores(where[group], at, v), 3)
                    spatial[group, :, at], second[group, :, at] = alpha, _by_patch(when[group], v)
                    if v.shape[1] < frames:
                        seen.append(_and_evenly(alpha).transpose(1, 2) @ v)
                beta = (spatial[group] * second[group]).sum(3).softmax(2)
                if seen:
                    sums[group] = torch.einsum("nhf,nfhd->nhd", _and_evenly(beta), torch.cat(seen, 1))
                else:  # All frames are at hand still, and one product is quicker than one a frame.
                    share = _and_evenly((alpha * beta[..., None]).flatten(2))
                    torch.bmm(share, v.flatten(1, 2), out=sums[group])
                sums[group].sub_(mean).div_(scale)
                temporal[group] = beta

        _shared(look, tokens)
        vectors, plain = sums[:, :heads], sums[:, heads]
        ctx.save_for_backward(where, when, tokens, mean / scale, scale, vectors, spatial, second, temporal)
        ctx.mark_non_differentiable(plain, spatial, temporal)
        return vectors, plain, spatial, temporal

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        where, when, tokens, middle, scale, vectors, spatial, second, temporal = ctx.saved_tensors
        by_raw = gradients[0] / scale  # (clips, heads, dim)
        # How far it agrees with what was seen: what a softmax takes off.
        agreed = (gradients[0] * (vectors + middle)).sum(2, keepdim=True)
        by_where, by_when = when.new_empty(where.shape), when.new_empty(when.shape)

        def learn(some: slice) -> None:
            for group, pieces in _groups(tokens, some, when.dtype):
                for at, v in pieces:
                    alpha, beta, outer = spatial[group, :, at], temporal[group, :, at], second[group, :, at]
                    by_share = _by_patch(by_raw[group], v)
                    by_beta = (alpha * by_share).sum(3)
                    by_mean = beta * (by_beta - agreed[group])  # through the softmax over the frames
                    by_alpha = torch.addcmul(by_share * beta[..., None], outer, by_mean[..., None])
                    by_first = alpha * (by_alpha - (alpha * by_alpha).sum(3, keepdim=True))  # and over the patches
                    _add_products(by_when[group], alpha * by_mean[..., None], v, at)
                    if where.shape[1] == 1:
                        _add_products(by_where[group, 0], by_first, v, at)
                    else:
                        by_where[group, at] = by_first.transpose(1, 2) @ v

        _shared(learn, tokens)
        return by_where, by_when, None, None, None


def _and_evenly(shares: Tensor) -> Tensor:
    """(clips, heads + 1, ..., n): one head more, that looks at all alike; shares: (clips, heads, ..., n)"""
    return torch.cat([shares, torch.full_like(shares[:, :1], 1 / shares.shape[-1])], 1)


def _by_patch(query: Tensor, v: Tensor) -> Tensor:
    """(clips, heads, frames, patches) q . v_tp; query: (clips, heads, dim), v: (clips, frames, patches, dim)."""
    return torch.bmm(query, v.flatten(1, 2).mT).view(*query.shape[:2], *v.shape[1:3])


def _add_products(to: Tensor, by_scores: Tensor, v: Tensor, at: slice) -> None:
    """What scores (clips, heads, frames, patches) hand on to the query (clips, heads, dim) that asked for them."""
    if at.start == 0:
        torch.bmm(by_scores.flatten(2), v.flatten(1, 2), out=to)
    else:
        torch.baddbmm(to, by_scores.flatten(2), v.flatten(1, 2), out=to)


def _first_scores(where: Tensor, at: slice, v: Tensor) -> Tensor:
    """(clips, heads, frames, patches) u_t . v_tp; at: which frames v has."""
    return _by_patch(where[:, 0], v) if where.shape[1] == 1 else torch.matmul(where[:, at], v.mT).transpose(1, 2)


def _groups(tokens: Tensor, some: slice, dtype: torch.dtype) -> Iterator[tuple[slice, Iterator[tuple[slice, Tensor]]]]:
    """Of some clips, a few whole ones at a time, and their frames in this precision: all of them, or of one clip a few.

    What is given is valid until the next is asked for.
    """
    frame = max(1, tokens[:1, :1].numel())
    at_once = max(1, (ON_GPU if tokens.is_cuda else PIECE) // frame)
    together, frames = max(1, at_once // max(1, tokens.shape[1])), min(at_once, max(1, tokens.shape[1]))
    room = tokens.new_empty(min(together, some.stop - some.start), frames, *tokens.shape[2:], dtype=dtype)

    def pieces(group: Tensor) -> Iterator[tuple[slice, Tensor]]:
        for first in range(0, tokens.shape[1], frames):
            at = slice(first, min(first + frames, tokens.shape[1]))
            yield at, room[: len(group), : at.stop - first].copy_(group[:, at])

    for first in range(some.start, some.stop, together):
        group = slice(first, min(first + together, some.stop))
        yield group, pieces(tokens[group])


def _shared(work: Callable[[slice], None], tokens: Tensor) -> None:
    """Do the work on all clips, each core on some of them: sharing every small step of it costs far more."""
    clips, count = len(tokens), torch.get_num_threads()
    if count == 1 or clips < count or tokens.is_cuda or _python_dispatch.is_in_torch_dispatch_mode():
        work(slice(0, clips))
        return
    each = -(-clips // count)

    def alone(first: int) -> None:
        torch.set_num_threads(1)  # In this thread.
        with torch.no_grad():
            work(slice(first, min(first + each, clips)))

    try:
        list(_workers(count).map(alone, range(0, clips, each)))
    finally:
        torch.set_num_threads(count)  # In threads that are yet to be started.


@cache
def _workers(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "harkback-attention")
