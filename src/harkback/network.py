"""The network that learns on frozen tokens: a body that listens and looks, and a head that grows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from harkback.body import Body, Look, Seen
from harkback.buffer import reading
from harkback.channels import ChannelBody
from harkback.device import carried, training_device
from harkback.errors import HarkbackError
from harkback.features import FeatureRows, Features, TokenShape
from harkback.guided import GuidedBody
from harkback.heads import Head, ProxyHead
from harkback.limits import Limits
from harkback.parallel import Share, shared
from harkback.standard import measure
from harkback.state import State


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """How the network is built. The defaults are `docs/method.md`'s; each switch is an ablation."""

    body: Literal["l3", "avcil"] = "l3"  #: l3: heads that look where the sound leads; avcil: AV-CIL's network
    width: int = 256  #: size of the projected and fused vectors
    heads: int = 8  #: attention heads, of body l3
    key_dim: int = 32  #: size of a head's queries and keys, of body l3
    guide: Literal["audio", "none"] = "audio"  #: what guides the look; none: the plain mean of the patches
    dropout: float = 0.3  #: share of the projected features dropped in training, 0..0.99; of body l3

    LIMITS: ClassVar[Mapping[str, Limits]] = {
        "width": (1, None), "heads": (1, None), "key_dim": (1, None), "dropout": (0, 0.99),
    }  # fmt: skip


#: AV-CIL's network (arXiv 2308.11073) as it was published.
AVCIL_NETWORK = NetworkSettings(body="avcil", width=768, dropout=0.0)


class Answers(NamedTuple):
    """What the network says of some clips, and the vectors that distillation holds on to."""

    audio: Tensor  #: (clips, width) projected sound; zero where unheard
    visual: Tensor  #: (clips, width) projected attended picture; zero where unseen
    fused: Tensor  #: (clips, width) f = audio + visual
    logits: Tensor  #: (clips, classes)
    looked: Look | None = None  #: where it looked; None: not guided, or not kept


class Network(nn.Module):
    """Takes its sizes from the first features it meets, and a row of its head for each class as it comes."""

    body: Body
    head: Head | ProxyHead

    def __init__(self, settings: NetworkSettings, head: type[Head | ProxyHead] = Head) -> None:
        super().__init__()
        if settings.body == "l3" and settings.width % settings.heads:
            what = f"a width of {settings.width} cannot be shared out among {settings.heads} heads"
            raise HarkbackError(what, where="network", mend="take a width that is a multiple of the heads")
        self.settings = settings
        self.kind = head
        self.built: TokenShape | None = None
        self.device = training_device()  #: where the body is

    def build(self, shape: TokenShape, generator: torch.Generator) -> None:
        s = self.settings
        self.built = shape
        if s.body == "avcil":
            self.body = ChannelBody(shape, generator, width=s.width, guide=s.guide)
        else:
            self.body = GuidedBody(
                shape, generator, width=s.width, heads=s.heads, key_dim=s.key_dim, guide=s.guide, dropout=s.dropout
            )
        self.body.to(self.device)
        self.head = self.kind(self.body.width)

    def forward(
        self, features: Features, generator: torch.Generator | None = None, share: Share | None = None
    ) -> Answers:
        """The answers for all clips that are shared out, where ``features`` are those of this process; None: for these.

        generator: where dropout draws from while training; None: no dropout.
        """
        share = share or Share(len(features))
        draw = None if generator is None else share.uniform(generator)
        seen: Seen = self.body(carried(features, self.device), draw)
        audio, visual, fused, read = (part.cpu() for part in seen[:4])
        looked = seen.looked
        if share.processes > 1:
            audio, visual, fused, read = share.whole(torch.stack([audio, visual, fused, read], 1)).unbind(1)
            looked = looked and looked.over(share)
        return Answers(audio, visual, fused, self.head(read), looked)

    def state(self) -> State:
        if self.built is None:
            return {}
        return {"shape": torch.tensor(self.built), **{name: array.cpu() for name, array in self.state_dict().items()}}

    def restore(self, state: State) -> None:
        if not state:
            self.built = None
            return
        weights = dict(state)
        self.build(TokenShape(*weights.pop("shape").tolist()), torch.Generator())  # What it draws is overwritten.
        for name, array in weights.items():
            if name.startswith("head."):  # A head is as large as it has grown.
                own = self.get_parameter(name)
                blank = nn.Parameter(torch.empty_like(array), requires_grad=own.requires_grad)
                setattr(self.head, name.removeprefix("head."), blank)
        self.load_state_dict(weights)

    def ready(self, rows: FeatureRows, classes: int, generator: torch.Generator) -> None:
        """Sizes and standardisation from the first clips ever met; a row of the head for each class."""
        if self.built is None:
            self.build(rows.shape, generator)
            measure(rows, self.body.audio_standard, self.body.visual_standard)
        self.head.grow(classes, generator)

    def answer(self, features: Features) -> Answers:
        """The answers for clips in memory, as when not training."""
        answers: Answers = self(features)
        return answers

    @torch.no_grad()
    def heat(self, features: Features) -> Tensor:
        """(clips, frames, patches) share of the look that fell on each patch; sums to one over a clip."""
        looked = self.answer(features).looked
        if looked is not None:
            return looked.heat().cpu()
        shape = features.shape
        return torch.full((len(features), shape.frames, shape.patches), 1 / (shape.frames * shape.patches))

    @torch.no_grad()
    def ask(self, rows: FeatureRows) -> Answers:
        """The answers for all rows, a batch at a time, without where it looked. Every process asks about its share."""
        share = shared(len(rows))
        said = [self.answer(clips)[:4] for _, clips in reading(share.of(rows))]
        audio, visual, fused, logits = (share.whole(torch.cat(part)) for part in zip(*said, strict=True))
        return Answers(audio, visual, fused, logits)
