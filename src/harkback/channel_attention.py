"""AV-CIL's attention channel by channel, forwards and backwards by hand, a few frames at a time.

With V~ = tanh(W v + b) of every patch and a~ the query of the clip, both of the tokens' dimension, channel by channel:

    e = exp(V~ a~),  S = e / sum_p e,  T = softmax_t(a~ sum_p S V~),  vector = sum_t T sum_p S v

Every patch has to be projected, and its gradient has to meet the patch again: two products of matrices, which set the
floor. What lies between them is done on few enough numbers at a time to stay in the cache, and no map of the attention
is kept. Memory is taken once and used step after step: fresh memory costs more than most of what is computed in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from harkback.channel_teacher import Projection, Teacher

CHUNK = 1 << 19  #: numbers of the tokens that are projected at once: smaller products are slower ones
BLOCK = 1 << 17  #: numbers on which all else is done at once: four such arrays lie in 2 MB of cache
KEPT = 5 << 26  #: numbers of V~ that are kept for the backward pass, 1.3 GB; what is beyond is computed again


class Room:
    """Memory that one step leaves to the next."""

    def __init__(self) -> None:
        self.idle: list[Tensor] = []

    def take(self, numbers: int, like: Tensor) -> Tensor:
        found = self.idle.pop() if self.idle else None
        if found is None or len(found) < numbers or found.dtype != like.dtype:
            return like.new_empty(numbers)
        return found

    def give(self, flat: Tensor) -> None:
        self.idle = [flat]


class Memory(NamedTuple):
    """What one look writes to. A unit's array is (units, frames, patches, visual_dim)."""

    flat: Tensor  #: all of it, (numbers,)
    patches: Tensor  #: of a chunk, where the tokens are of another type
    bent: Tensor  #: V~ of a chunk that is not kept
    pull: Tensor  #: gradient of W v of a chunk
    share: Tensor  #: of a block
    weighted: Tensor  #: of a block
    kept: tuple[Tensor, ...]  #: V~ of the last chunks
    total: Tensor  #: (units, frames, 1, visual_dim) sum_p e
    inner: Tensor  #: (units, frames, 1, visual_dim) sum_p S V~
    seen: Tensor  #: (units, frames, 1, visual_dim) sum_p S v


class Look:
    """One look at a batch: what is computed on the way forwards, and is needed on the way back.

    It is worked on in units: a clip, or where that is too large for the cache, a part of its frames.
    """

    def __init__(self, query: Tensor, how: Projection, tokens: Tensor, room: Room | None) -> None:
        """query: (clips, visual_dim) a~; tokens: (clips, frames, patches, visual_dim) raw; room: None, not to learn."""
        self.query, self.how, self.room, self.shape = query, how, room, tokens.shape
        clips, frames, patches, dim = tokens.shape
        fit = max(1, BLOCK // max(1, patches * dim))  # Frames in a block.
        self.frames = frames if fit >= frames else max(n for n in range(1, fit + 1) if frames % n == 0)  # In a unit.
        self.parts = frames // max(1, self.frames)  # Units of a clip.
        self.block = max(1, fit // max(1, self.frames))  # Units of a block, and of a chunk.
        self.chunk = self.block * max(1, CHUNK // max(1, self.block * self.frames * patches * dim))
        self.tokens = tokens.reshape(clips * self.parts, self.frames, patches, dim).split(self.chunk)
        self.asked = query.repeat_interleave(self.parts, 0)[:, None, None]  # (units, 1, 1, visual_dim)
        self.teacher: Teacher | None = None
        self.held: dict[int, int] = {}  # Clips of the batch that are held to the teacher -> their numbers there.
        self.memory: Memory | None = None

    def forward(self) -> Memory:
        """Fill ``kept``, ``total``, ``inner`` and ``seen``."""
        m = self.memory = self._take()
        for number, (asked, *sums) in enumerate(self._chunks(self.asked, m.total, m.inner, m.seen)):
            patches, product = self._project(m, number)
            for x, y, a, total, inner, seen in self._blocks(patches, product, asked, *sums):
                share, weighted = m.share[: len(x)], m.weighted[: len(x)]
                torch.mul(self.how.bend(y), a, out=share).exp_()  # Scores lie in [-1, 1]: no overflow.
                torch.sum(share, 2, keepdim=True, out=total)
                torch.sum(torch.mul(share, y, out=weighted), 2, keepdim=True, out=inner)
                torch.sum(share.mul_(x), 2, keepdim=True, out=seen)
            sums[1].div_(sums[0])
            sums[2].div_(sums[0])
        return m

    def attended(self) -> tuple[Tensor, Tensor]:
        """The vectors (clips, visual_dim), and T (clips, frames, visual_dim)."""
        m = self.memory or self.forward()
        vectors, temporal = torch.empty_like(self.query), torch.empty_like(self._by_clip(m.total))
        for clips in self._some_clips():
            torch.softmax(self._by_clip(m.inner)[clips] * self.query[clips, None], 1, out=temporal[clips])
            torch.sum(temporal[clips] * self._by_clip(m.seen)[clips], 1, out=vectors[clips])
        return vectors, temporal

    @torch.no_grad()
    def heat(self, temporal: Tensor) -> Tensor:
        """(clips, frames, patches) the mean over the channels of T S."""
        heat, when = [], temporal.view(-1, self.frames, 1, self.shape[-1]).split(self.chunk)
        for tokens, asked, much in zip(self.tokens, self.asked.split(self.chunk), when, strict=True):
            heat.append((self.how(tokens).mul_(asked).softmax(2) * much).mean(-1))
        return torch.cat(heat).view(self.shape[:3])

    @torch.no_grad()
    def hold(self, clips: list[int], teacher: Teacher, numbers: list[int]) -> Tensor:
        """sum KL(S_teacher || S) of these clips of the batch, which have these numbers at the teacher's; a scalar.

        KL = sum_p S_teacher log S_teacher - a~ sum_p S_teacher V~ + log sum_p e: no map but the teacher's is needed.
        """
        if self.held:
            raise ValueError("a look is held to one teacher, once")
        self.teacher, self.held = teacher, dict(zip(clips, numbers, strict=True))
        self.agreed = torch.zeros_like(self.query)  # sum_t sum_p S_teacher V~
        m = self.memory or self.forward()
        distance = self.query.new_zeros((), dtype=torch.float64)
        for number, total in enumerate(m.total.split(self.chunk)):
            held = list(self._held_among(number * self.chunk, len(total)))
            if held:
                bent = m.kept[number - self.skipped] if number >= self.skipped else self._again(m, number)[1]
            for row, clip, frames in held:
                spatial, entropy = teacher(self.held[clip], frames, self.tokens[number][row])
                agreed = torch.mul(spatial, bent[row], out=m.weighted[0]).sum(1)
                self.agreed[clip] += agreed.sum(0)
                apart = total[row, :, 0].log().add_(entropy).addcmul_(agreed, self.query[clip], value=-1)
                distance += apart.sum(dtype=torch.float64)
        return distance.to(self.query.dtype)

    def backward(
        self, by_vectors: Tensor, by_temporal: Tensor | None, by_held: Tensor, temporal: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of query, weight and bias. by_held: (clips,) how much each one's KL weighs in the loss.

        The gradient of a score is S (V~ by_inner + v by_seen + rest) - by_held S_teacher, where ``rest`` is by_held
        less the mean of the others over S; that of V~ is a~ times that, plus S by_inner.
        """
        m = self.memory or self.forward()
        self.memory = None  # What is there is written over.
        of_query, of_weight, of_bias = (torch.zeros_like(x) for x in (self.query, *self.how))
        factors = self._factors(m, by_vectors, by_temporal, by_held, temporal, of_query)
        by_query = torch.empty_like(self.asked)
        for number, given in enumerate(self._chunks(self.asked, *factors, by_query)):
            patches, bent = self._again(m, number)
            pull, unit = m.pull[: len(bent)], number * self.chunk
            for x, y, score, a, by_inner, by_seen, rest, by_a in self._blocks(patches, bent, pull, *given):
                share, weighted = m.share[: len(x)], m.weighted[: len(x)]
                torch.mul(y, a, out=share).exp_()
                torch.addcmul(rest, x, by_seen, out=score).addcmul_(y, by_inner).mul_(share)
                torch.sum(torch.mul(score, y, out=weighted), (1, 2), keepdim=True, out=by_a)
                score.mul_(a).addcmul_(share, by_inner)
                for row, clip, frames in self._held_among(unit, len(x)):
                    spatial = self.teacher(self.held[clip], frames, x[row])[0]  # type: ignore[misc]
                    score[row].addcmul_(spatial, self.query[clip] * by_held[clip], value=-1)
                torch.ops.aten.tanh_backward.grad_input(score, y, grad_input=score)
                of_bias += score.sum((0, 1, 2))
                unit += len(x)
            of_weight.addmm_(pull.flatten(0, 2).T, patches.flatten(0, 2))
        of_query += by_query.view(self.shape[0], self.parts, self.shape[3]).sum(1)
        if self.held:
            of_query.addcmul_(self.agreed, by_held[:, None], value=-1)
        if self.room is not None:
            self.room.give(m.flat)
        return of_query, of_weight, of_bias

    def _factors(
        self,
        m: Memory,
        by_vectors: Tensor,
        by_temporal: Tensor | None,
        by_held: Tensor,
        temporal: Tensor,
        of_query: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Back over the frames' softmax: by_inner, by_seen, rest, all over sum_p e, for they are to meet e, not S.

        They take the places of ``total``, ``seen`` and ``inner``; what reaches the query by this way is written.
        """
        for clips in self._some_clips():
            total, inner, seen = (self._by_clip(x)[clips] for x in (m.total, m.inner, m.seen))
            when, by_vector = temporal[clips], by_vectors[clips, None]
            by_inner = by_vector * seen
            if by_temporal is not None:
                by_inner += by_temporal[clips]
            by_inner *= when
            by_inner.addcmul_(when, by_inner.sum(1, keepdim=True), value=-1)  # Of the scores of the frames.
            torch.sum(by_inner * inner, 1, out=of_query[clips])
            by_inner *= self.query[clips, None]
            by_seen = when * by_vector
            inner.mul_(by_inner).addcmul_(by_seen, seen).sub_(by_held[clips, None, None]).div_(total).neg_()
            torch.div(by_seen, total, out=seen)
            torch.div(by_inner, total, out=total)
        return m.total, m.seen, m.inner

    def leave(self) -> None:
        """Forget what was computed. Whoever asks again has it computed again."""
        self.memory = None

    def _take(self) -> Memory:
        patches, dim = self.shape[2:]
        units, unit = len(self.asked), (self.frames, patches, dim)
        chunk, block = min(self.chunk, units), min(self.block, units)
        fit = KEPT // max(1, prod(unit)) if self.room is not None else 0
        # The last units are kept: exemplars, which are looked at once more, come last in a batch.
        self.skipped = -(-max(0, units - fit) // self.chunk)  # Chunks.
        kept = max(0, units - self.skipped * self.chunk)
        sizes = [(n, *unit) for n in (chunk, chunk, chunk, block, block, kept)] + [(units, self.frames, 1, dim)] * 3
        need = sum(map(prod, sizes))
        flat = self.query.new_empty(need) if self.room is None else self.room.take(need, self.query)
        arrays = flat[:need].split([prod(size) for size in sizes])
        views = [array.view(size) for array, size in zip(arrays, sizes, strict=True)]
        read, bent, pull, share, weighted, all_kept, total, inner, seen = views
        return Memory(flat, read, bent, pull, share, weighted, all_kept.split(self.chunk), total, inner, seen)

    def _project(self, m: Memory, number: int) -> tuple[Tensor, Tensor]:
        """The patches of a chunk, and W v."""
        patches = self._read(m, number)
        place = m.bent[: len(patches)] if number < self.skipped else m.kept[number - self.skipped]
        return patches, self.how.product(patches, place)

    def _again(self, m: Memory, number: int) -> tuple[Tensor, Tensor]:
        """The patches of a chunk, and V~."""
        if number >= self.skipped:
            return self._read(m, number), m.kept[number - self.skipped]
        patches, product = self._project(m, number)
        return patches, self.how.bend(product)

    def _read(self, m: Memory, number: int) -> Tensor:
        tokens = self.tokens[number]
        return tokens if tokens.dtype == self.query.dtype else m.patches[: len(tokens)].copy_(tokens)

    def _chunks(self, *arrays: Tensor) -> Iterator[tuple[Tensor, ...]]:
        return zip(*(x.split(self.chunk) for x in arrays), strict=True)

    def _blocks(self, *arrays: Tensor) -> Iterator[tuple[Tensor, ...]]:
        return zip(*(x.split(self.block) for x in arrays), strict=True)

    def _by_clip(self, units: Tensor) -> Tensor:
        return units.view(*self.shape[:2], self.shape[3])

    def _some_clips(self) -> Iterator[slice]:
        step = max(1, BLOCK // max(1, prod(self.shape[1::2])))
        return (slice(first, first + step) for first in range(0, len(self.query), step))

    def _held_among(self, first: int, count: int) -> Iterator[tuple[int, int, slice]]:
        """Of the units from ``first`` on those of clips that are held to a teacher: row, clip, which of its frames."""
        for row in range(count) if self.held else ():
            clip, part = divmod(first + row, self.parts)
            if clip in self.held:
                yield row, clip, slice(part * self.frames, (part + 1) * self.frames)


class Looking(Function):
    """(query, weight, bias) -> the vectors, T, and (clips,) zeros: what is held to a teacher pulls at those."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, weight: Tensor, bias: Tensor, tokens: Tensor, look: Look
    ) -> tuple[Tensor, Tensor, Tensor]:
        vectors, temporal = look.attended()
        ctx.look = look
        ctx.save_for_backward(query, weight, bias, tokens, temporal)
        ctx.set_materialize_grads(False)
        return vectors, temporal, query.new_zeros(len(query))

    @staticmethod
    def backward(
        ctx: Any, by_vectors: Tensor | None, by_temporal: Tensor | None, by_held: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        query, *_, temporal = ctx.saved_tensors  # And torch has seen that none of the others was written to since.
        by_vectors = torch.zeros_like(query) if by_vectors is None else by_vectors
        by_held = query.new_zeros(len(query)) if by_held is None else by_held
        return *ctx.look.backward(by_vectors, by_temporal, by_held, temporal), None, None
