"""Audio-guided visual attention: the sound says where to look, then when.

Written in the absorbed form. A head scores a patch ``v`` by ``q . (K v)``, which equals ``(K^T q) . v``: the query is
carried into the space of the tokens, so no patch is ever projected and no gradient flows into the (frozen) tokens.
`absorbed.py` reads them once forward and once backward. `docs/method.md` sets the equations beside this.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from harkback.absorbed import attend
from harkback.body import Gathered
from harkback.features import TokenShape
from harkback.parallel import Share
from harkback.standard import Standard


class Looked(NamedTuple):
    """What the guided attention saw, and where it looked."""

    vectors: Tensor  #: (clips, heads, visual_dim) attended tokens, standardised
    plain: Tensor  #: (clips, visual_dim) the plain mean of the tokens, standardised
    spatial: Tensor  #: (clips, heads, frames, patches) sums to one over the patches
    temporal: Tensor  #: (clips, heads, frames) sums to one over the frames

    def heat(self) -> Tensor:
        """(clips, frames, patches) the share of the whole look that fell on each patch; sums to one over a clip."""
        return torch.einsum("nhfp,nhf->nfp", self.spatial, self.temporal) / self.temporal.shape[1]

    def over(self, share: Share) -> Gathered:
        return Gathered(self, share)


def alignment(frames: int, audio_tokens: int) -> Tensor:
    """(frames, audio_tokens) how much audio token ``i`` sounds at the time of frame ``t``; each row sums to one.

    A triangle around the frame's instant that ends at its neighbours' (or at the next token, where tokens are fewer).
    """
    frame = (torch.arange(frames) + 0.5) / frames
    token = (torch.arange(audio_tokens) + 0.5) / audio_tokens
    reach = max(1 / frames, 1 / audio_tokens)
    weight = (1 - (frame[:, None] - token).abs() / reach).clamp_min(0)
    return weight / weight.sum(1, keepdim=True)


class GuidedAttention(nn.Module):
    """Two stages of audio-guided attention with several heads.

    ``width`` is the size of the heard vectors that guide. Each head has its own keys; a bias in the query lets a head
    look at what is salient whatever is heard, which is also all that is left when the clip has no sound.
    """

    def __init__(self, shape: TokenShape, width: int, heads: int, key_dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.heads, self.key_dim = heads, key_dim
        # skip_init: nn.Linear would draw first values from torch's own generator, which is not ours to move.
        self.where: nn.Linear = nn.utils.skip_init(nn.Linear, width, heads * key_dim)
        self.when: nn.Linear = nn.utils.skip_init(nn.Linear, width, heads * key_dim)
        self.where_keys = nn.Parameter(torch.empty(heads, key_dim, shape.visual_dim))
        self.when_keys = nn.Parameter(torch.empty(heads, key_dim, shape.visual_dim))
        for query in (self.where, self.when):
            nn.init.normal_(query.weight, std=width**-0.5, generator=generator)
            nn.init.zeros_(query.bias)
        for keys in (self.where_keys, self.when_keys):
            nn.init.normal_(keys, std=shape.visual_dim**-0.5, generator=generator)

    def forward(self, at_frame: Tensor, whole: Tensor, visual: Tensor, standard: Standard) -> Looked:
        """Attend over patches, then over frames.

        at_frame: (clips, frames, width) what is heard at each frame, or (clips, 1, width) if all hear the same; whole:
        (clips, width) what the clip sounds like; visual: (clips, frames, patches, visual_dim) raw tokens, of any
        precision; standard: of the tokens.
        """
        # u . (v - mean) / scale: the mean moves all patches, and all frames, alike and leaves both softmax as they are.
        where = self._carried(self.where(at_frame), self.where_keys / standard.scale)
        when = self._carried(self.when(whole), self.when_keys / standard.scale)
        return Looked(*attend(where, when, visual, standard.mean, standard.scale))

    def _carried(self, query: Tensor, keys: Tensor) -> Tensor:
        """``K^T q`` for every head, with the usual ``1 / sqrt(key_dim)``."""
        by_head: Tensor = query.unflatten(-1, (self.heads, self.key_dim))
        return torch.einsum("...hk,hkd->...hd", by_head, keys / self.key_dim**0.5)
