"""AV-CIL's network (arXiv 2308.11073): every channel of the picture has an attention of its own, guided by the sound.

Scores are products of two tanh, so the attention cannot be absorbed into a query as `attention.py` does: every patch is
projected. What can be done is done: a few clips at a time, so that what is between two products stays in the cache, and
a backward pass written by hand, which needs no map of the attention to be kept.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from harkback.body import Gathered, Seen
from harkback.channel_attention import Look, Looking, Room
from harkback.channel_teacher import Projection, Teacher
from harkback.features import Features, TokenShape
from harkback.parallel import Draw, Share, add_up
from harkback.standard import Standard


class Held(Protocol):
    """A look that can be held to what a teacher says."""

    @property
    def temporal(self) -> Tensor:
        """(clips, frames, visual_dim) sums to one over the frames"""
        ...

    def hold(self, clips: Tensor, teacher: Teacher, numbers: Tensor) -> Tensor:
        """See `spatial_distillation`."""
        ...


class ChannelLook(NamedTuple):
    """What was seen, and all that is needed to say where, or to hold it to what a teacher says."""

    vectors: Tensor  #: (clips, visual_dim) attended tokens, standardised
    temporal: Tensor  #: (clips, frames, visual_dim) sums to one over the frames
    pull: Tensor  #: (clips,) zeros; its gradient is how hard each clip is held to a teacher
    look: Look

    def heat(self) -> Tensor:
        """(clips, frames, patches) the share of the whole look that fell on each patch; sums to one over a clip."""
        return self.look.heat(self.temporal).float()

    def hold(self, clips: Tensor, teacher: Teacher, numbers: Tensor) -> Tensor:
        return self.look.hold(clips.tolist(), teacher, numbers.tolist()) + self.pull[clips].sum()

    def over(self, share: Share) -> GatheredChannels:
        return GatheredChannels(self, share)


class GatheredChannels(Gathered):
    """What several processes looked at, each a share of the clips."""

    def __init__(self, own: ChannelLook, share: Share) -> None:
        super().__init__(own, share)
        self._mine = own

    @property
    def temporal(self) -> Tensor:
        return self._share.whole(self._mine.temporal)

    def hold(self, clips: Tensor, teacher: Teacher, numbers: Tensor) -> Tensor:
        mine, places = self._share.places(clips)
        distance = self._mine.look.hold(places.tolist(), teacher, numbers[mine].tolist())
        add_up(distance)
        return distance + self._share.whole(self._mine.pull)[clips].sum()


class ChannelAttention(nn.Module):
    """S = softmax_p(V~ * a~), T = softmax_t((sum_p S V~) * a~), v = sum_t T sum_p S V; products channel by channel.

    a~ = tanh(W1 a), V~ = tanh(W2 V), both of the tokens' own dimension (768 in the paper), on standardised tokens:
    the standardisation is folded into W2, so that no standardised copy of the tokens is made. AV-CIL eq. (1) to (4).
    """

    def __init__(self, shape: TokenShape, generator: torch.Generator) -> None:
        super().__init__()
        self.listen = uniform_linear(shape.audio_dim, shape.visual_dim, generator)
        self.look = uniform_linear(shape.visual_dim, shape.visual_dim, generator)
        self.room = Room()

    def query(self, heard: Tensor, there: Tensor) -> Tensor:
        """heard: (clips, audio_dim) standardised; there: (clips,) bool. What is not heard favours no patch."""
        query: Tensor = self.listen(heard).tanh() * there[:, None]
        return query

    def projection(self, standard: Standard) -> Projection:
        weight = self.look.weight / standard.scale
        return Projection(weight, self.look.bias - weight @ standard.mean)

    def forward(self, heard: Tensor, there: Tensor, tokens: Tensor, standard: Standard) -> ChannelLook:
        """tokens: (clips, frames, patches, visual_dim) raw."""
        query, how = self.query(heard, there), self.projection(standard)
        learning = torch.is_grad_enabled()
        look = Look(query, how, tokens, self.room if learning else None)
        if learning:
            vectors, temporal, pull = Looking.apply(query, *how, tokens, look)  # type: ignore[no-untyped-call]
        else:
            self.room = Room()
            vectors, temporal = look.attended()
            pull = query.new_zeros(len(query))
            look.leave()
        return ChannelLook(standard(vectors), temporal, pull, look)


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

    def forward(self, features: Features, draw: Draw | None) -> Seen:  # noqa: ARG002 (no dropout)
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


def spatial_distillation(student: Held, clips: Tensor, teacher: Teacher, numbers: Tensor) -> Tensor:
    """sum KL(S_teacher || S) over frames, channels and these clips of the look; a scalar.

    clips: (held,) long, rows of the look; numbers: (held,) long, the teacher's rows for them.
    """
    return student.hold(clips, teacher, numbers)


def uniform_linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer that begins as PyTorch's own do, which the published code uses."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)
    for values in (layer.weight, layer.bias):
        nn.init.uniform_(values, -(inputs**-0.5), inputs**-0.5, generator=generator)
    return layer
