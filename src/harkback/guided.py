"""The body of `l3`: listen, look where the sound leads, fuse."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from harkback.attention import GuidedAttention, alignment
from harkback.body import Seen, drop, new_linear
from harkback.features import Features, TokenShape
from harkback.parallel import Draw
from harkback.standard import Standard


class GuidedBody(nn.Module):
    """Tokens -> projected sound, projected attended picture, their sum. `docs/method.md` has the equations.

    guide: "audio", or "none" for the plain mean of the patches; dropout: share of the projected features dropped in
    training.
    """

    align: Tensor  #: (frames, audio_tokens) what sounds at each frame

    def __init__(
        self,
        shape: TokenShape,
        generator: torch.Generator,
        *,
        width: int,
        heads: int,
        key_dim: int,
        guide: Literal["audio", "none"],
        dropout: float,
    ) -> None:
        super().__init__()
        self.width, self.heads, self.guide, self.dropout = width, heads, guide, dropout
        self.register_buffer("align", alignment(shape.frames, shape.audio_tokens), persistent=False)
        self.audio_standard = Standard(shape.audio_dim)
        self.visual_standard = Standard(shape.visual_dim)
        self.listen = new_linear(shape.audio_dim, width, generator)
        self.attend = new_linear(width, heads, generator)
        self.project_audio = new_linear(width * 3, width, generator)
        self.look = GuidedAttention(shape, width, heads, key_dim, generator)
        self.project_plain = new_linear(shape.visual_dim, width, generator)
        # Few numbers a head: with whole-width values the picture learns the training clips by heart.
        self.values = nn.Parameter(torch.empty(heads, shape.visual_dim, width // heads))
        nn.init.normal_(self.values, std=shape.visual_dim**-0.5, generator=generator)

    def forward(self, features: Features, draw: Draw | None) -> Seen:
        # Listen: every token alike, then the clip as mean, attended mean and peak of its tokens.
        tokens = self.audio_standard(features.audio.float())  # (clips, audio_tokens, audio_dim)
        sounds = relu(self.listen(tokens)) * features.heard[:, None, None]  # (clips, audio_tokens, width)
        # Look: the sound of the moment over the patches, the sound of the clip over the frames.
        looked = None
        if self.guide == "audio":
            # With one token of sound, all frames hear the same.
            at_frame = sounds if sounds.shape[1] == 1 else self.align @ sounds
            looked = self.look(at_frame, sounds.mean(1), features.visual, self.visual_standard)
            plain = looked.plain  # (clips, visual_dim)
        else:
            plain = self.visual_standard(features.visual.mean((1, 2), dtype=torch.float32))
        # Learn: f = project(audio) + project(attended visual), eq. (9) of docs/method.md.
        audio = self.project_audio(drop(self._heard(sounds), self.dropout, draw)) * features.heard[:, None]
        sight = self.project_plain(drop(plain, self.dropout, draw))
        if looked is not None:
            seen = drop(looked.vectors, self.dropout, draw)  # (clips, heads, visual_dim)
            sight = sight + torch.einsum("nhd,hdw->nhw", seen, self.values).flatten(1)
        sight = sight * features.seen[:, None]
        fused = audio + sight
        return Seen(audio, sight, fused, drop(relu(fused), self.dropout, draw), looked)

    def _heard(self, sounds: Tensor) -> Tensor:
        weight = self.attend(sounds).softmax(1)  # (clips, audio_tokens, heads)
        picked = torch.einsum("nth,nthw->nhw", weight, sounds.unflatten(-1, (self.heads, -1))).flatten(1)
        return torch.cat([sounds.mean(1), picked, sounds.amax(1)], 1)  # (clips, 3 width)
