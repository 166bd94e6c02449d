"""The network that learns on frozen tokens: listen, look, fuse, and a head that grows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, relu

from harkback.attention import GuidedAttention, Looked, alignment
from harkback.features import FeatureRows, Features, TokenShape, batches
from harkback.state import State

READ = 128  #: clips read at a time where no gradient is needed


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """How the network is built. The defaults are `docs/method.md`'s; each switch is an ablation."""

    width: int = 256  #: size of the projected and fused vectors
    heads: int = 8  #: attention heads
    key_dim: int = 32  #: size of a head's queries and keys
    guide: Literal["audio", "none"] = "audio"  #: what guides the look; none: the plain mean of the patches
    modality: Literal["both", "audio", "visual"] = "both"  #: what the classifier may use
    dropout: float = 0.3  #: share of the projected features dropped in training, 0..1


class Answers(NamedTuple):
    """What the network says of some clips, and the vectors that distillation holds on to."""

    audio: Tensor  #: (clips, width) projected sound; zero where unheard
    visual: Tensor  #: (clips, width) projected attended picture; zero where unseen
    fused: Tensor  #: (clips, width) f = audio + visual
    logits: Tensor  #: (clips, classes)
    looked: Looked | None = None  #: where it looked; None: not guided, or not kept


class Standard(nn.Module):
    """Fixed mean and scale of the tokens, measured on the first clips that are learnt and kept ever after."""

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))

    def forward(self, tokens: Tensor) -> Tensor:
        return (tokens - self.mean) / self.scale

    def measure(self, total: Tensor, squares: Tensor, count: int) -> None:
        """total, squares: (dim,) float64 sums of the tokens and of their squares; count: how many tokens."""
        if count:
            mean = total / count
            self.mean.copy_(mean)
            # A channel that never moved in the first session must not explode when it does later.
            self.scale.copy_((squares / count - mean.square()).clamp_min(0).sqrt().clamp_min(1e-2))


class Head(nn.Module):
    """A linear classifier with a row for each class known."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(0, width))
        self.bias = nn.Parameter(torch.empty(0))

    def grow(self, classes: int, generator: torch.Generator) -> None:
        """Rows for ``classes`` in all; the old rows stay as they are."""
        old, width = self.weight.shape
        fresh = 0.01 * torch.randn(classes - old, width, generator=generator)
        self.weight = nn.Parameter(torch.cat([self.weight.detach(), fresh]))
        self.bias = nn.Parameter(torch.cat([self.bias.detach(), torch.zeros(classes - old)]))

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class Network(nn.Module):
    """Takes its sizes from the first features it meets, and a row of its head for each class as it comes."""

    align: Tensor  #: (frames, audio_tokens) what sounds at each frame

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        self.built: TokenShape | None = None

    def build(self, shape: TokenShape, generator: torch.Generator) -> None:
        s = self.settings
        self.built = shape
        self.register_buffer("align", alignment(shape.frames, shape.audio_tokens), persistent=False)
        self.audio_standard = Standard(shape.audio_dim)
        self.visual_standard = Standard(shape.visual_dim)
        self.listen = _linear(shape.audio_dim, s.width, generator)
        self.attend = _linear(s.width, s.heads, generator)
        self.project_audio = _linear(s.width * 3, s.width, generator)
        self.look = GuidedAttention(shape, s.width, s.heads, s.key_dim, generator)
        self.project_plain = _linear(shape.visual_dim, s.width, generator)
        # Few numbers a head: with whole-width values the picture learns the training clips by heart.
        self.values = nn.Parameter(torch.empty(s.heads, shape.visual_dim, s.width // s.heads))
        nn.init.normal_(self.values, std=shape.visual_dim**-0.5, generator=generator)
        self.head = Head(s.width)

    def grow(self, classes: int, generator: torch.Generator) -> None:
        self.head.grow(classes, generator)

    @torch.no_grad()
    def measure(self, rows: FeatureRows) -> None:
        """Set the fixed standardisation from these clips."""
        shape = rows.shape
        sums = [torch.zeros(2, dim, dtype=torch.float64) for dim in (shape.audio_dim, shape.visual_dim)]
        counts = [0, 0]
        for batch in batches(len(rows), READ):
            part = rows[batch]
            for i, (tokens, there) in enumerate(((part.audio, part.heard), (part.visual, part.seen))):
                flat = tokens[there].flatten(0, -2).double()
                sums[i] += torch.stack([flat.sum(0), flat.square().sum(0)])
                counts[i] += len(flat)
        for standard, (total, squares), count in zip(
            (self.audio_standard, self.visual_standard), sums, counts, strict=True
        ):
            standard.measure(total, squares, count)

    def forward(self, features: Features, generator: torch.Generator | None = None) -> Answers:
        """generator: where dropout draws from while training; None: no dropout."""
        s = self.settings
        hear = features.heard & (s.modality != "visual")
        see = features.seen & (s.modality != "audio")
        # Listen: every token alike, then the clip as mean, attended mean and peak of its tokens.
        tokens = self.audio_standard(features.audio.float())  # (clips, audio_tokens, audio_dim)
        sounds = relu(self.listen(tokens)) * hear[:, None, None]  # (clips, audio_tokens, width)
        # Look: the sound of the moment over the patches, the sound of the clip over the frames.
        visual = features.visual.float()  # (clips, frames, patches, visual_dim)
        plain = self.visual_standard(visual.mean((1, 2)))  # (clips, visual_dim)
        looked = None
        if s.guide == "audio":
            standard = self.visual_standard
            looked = self.look(self.align @ sounds, sounds.mean(1), visual, standard.mean, standard.scale)
        # Learn: f = project(audio) + project(attended visual), eq. (9) of docs/method.md.
        audio = self.project_audio(_drop(self._heard(sounds), s.dropout, generator)) * hear[:, None]
        sight = self.project_plain(_drop(plain, s.dropout, generator))
        if looked is not None:
            seen = _drop(looked.vectors, s.dropout, generator)  # (clips, heads, visual_dim)
            sight = sight + torch.einsum("nhd,hdw->nhw", seen, self.values).flatten(1)
        sight = sight * see[:, None]
        fused = audio + sight
        return Answers(audio, sight, fused, self.head(_drop(relu(fused), s.dropout, generator)), looked)

    def state(self) -> State:
        return {} if self.built is None else {"shape": torch.tensor(self.built), **self.state_dict()}

    def restore(self, state: State) -> None:
        if not state:
            self.built = None
            return
        weights = dict(state)
        some = torch.Generator()  # What it draws is overwritten.
        self.build(TokenShape(*weights.pop("shape").tolist()), some)
        self.grow(len(weights["head.bias"]), some)
        self.load_state_dict(weights)

    def ready(self, rows: FeatureRows, classes: int, generator: torch.Generator) -> None:
        """Sizes and standardisation from the first clips ever met; a row of the head for each class."""
        if self.built is None:
            self.build(rows.shape, generator)
            self.measure(rows)
        self.grow(classes, generator)

    def answer(self, features: Features) -> Answers:
        """The answers for clips in memory, as when not training."""
        answers: Answers = self(features)
        return answers

    @torch.no_grad()
    def heat(self, features: Features) -> Tensor:
        """(clips, frames, patches) share of the look that fell on each patch; sums to one over a clip."""
        looked = self.answer(features).looked
        if looked is not None:
            return looked.heat()
        shape = features.shape
        return torch.full((len(features), shape.frames, shape.patches), 1 / (shape.frames * shape.patches))

    @torch.no_grad()
    def ask(self, rows: FeatureRows) -> Answers:
        """The answers for all rows, a batch at a time, without the attention weights."""
        parts = [self.answer(rows[batch]) for batch in batches(len(rows), READ)]
        return Answers(
            torch.cat([part.audio for part in parts]),
            torch.cat([part.visual for part in parts]),
            torch.cat([part.fused for part in parts]),
            torch.cat([part.logits for part in parts]),
        )

    def _heard(self, sounds: Tensor) -> Tensor:
        weight = self.attend(sounds).softmax(1)  # (clips, audio_tokens, heads)
        picked = torch.einsum("nth,nthw->nhw", weight, sounds.unflatten(-1, (self.settings.heads, -1))).flatten(1)
        return torch.cat([sounds.mean(1), picked, sounds.amax(1)], 1)  # (clips, 3 width)


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)
    nn.init.normal_(layer.weight, std=inputs**-0.5, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def _drop(x: Tensor, share: float, generator: torch.Generator | None) -> Tensor:
    if generator is None or share == 0:
        return x
    keep = torch.rand(x.shape, generator=generator) >= share
    return x * keep / (1 - share)
