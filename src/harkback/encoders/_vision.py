"""The vision tower of the Perception Encoder (PE-Core; Bolya et al., arXiv 2504.13181): pixels -> patch tokens."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, linear, normalize, scaled_dot_product_attention

from harkback.encoders._checkpoint import blocks_of
from harkback.state import State

HEAD = 64  #: size of a head in every released tower but those named here
HEADS = {"PE-Core-G14-448": 16}
POOL_HEADS = 8
EPS = 1e-5  #: of every layer norm
THETA = 10_000.0  #: of the rotary positions


class Attention(nn.Module):
    """Softmax attention in heads; parameters named as in `torch.nn.MultiheadAttention`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """x: (n, tokens, width); turn: cosine and sine of each token's angles, (tokens, width / heads)."""
        split = linear(x, self.in_proj_weight, self.in_proj_bias).unflatten(-1, (3, self.heads, -1))
        q, k, v = split.permute(2, 0, 3, 1, 4)  # each (n, heads, tokens, width / heads)
        return self._merged(scaled_dot_product_attention(turned(q, *turn), turned(k, *turn), v))

    def ask(self, query: Tensor, x: Tensor) -> Tensor:
        """query: (1, 1, width) of x: (n, tokens, width) -> (n, 1, width); without positions."""
        width = x.shape[-1]
        q = linear(query, self.in_proj_weight[:width], self.in_proj_bias[:width]).expand(len(x), -1, -1)
        kv = linear(x, self.in_proj_weight[width:], self.in_proj_bias[width:]).unflatten(-1, (2, self.heads, -1))
        k, v = kv.permute(2, 0, 3, 1, 4)
        return self._merged(scaled_dot_product_attention(q.unflatten(-1, (self.heads, -1)).transpose(1, 2), k, v))

    def _merged(self, x: Tensor) -> Tensor:
        out: Tensor = self.out_proj(x.transpose(1, 2).flatten(2))
        return out


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, hidden)
        self.c_proj = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c_proj(gelu(self.c_fc(x)))
        return out


class Block(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, EPS)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width, EPS)
        self.mlp = Mlp(width, hidden)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        x = x + self.attn(self.ln_1(x), turn)
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class Pool(nn.Module):
    """One learnt question to all tokens."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.empty(1, 1, width))
        self.attn = Attention(width, POOL_HEADS)
        self.layernorm = nn.LayerNorm(width, EPS)
        self.mlp = Mlp(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, width) -> (n, width)."""
        answer = self.attn.ask(self.probe, x)
        out: Tensor = (answer + self.mlp(self.layernorm(answer)))[:, 0]
        return out


class VisionTower(nn.Module):
    """Modules are named as in the checkpoint; all sizes come from its shapes."""

    def __init__(self, state: State, name: str = "", heads: int | None = None, unit: bool = True) -> None:
        """state: only the shapes are read; heads: none: as the model ``name`` has, or as usual; unit: see `forward`."""
        super().__init__()
        width, _, _, self.patch = state["conv1.weight"].shape
        depth = blocks_of(state, "transformer.resblocks.")
        hidden = len(state["transformer.resblocks.0.mlp.c_fc.bias"])
        positions = len(state["positional_embedding"])
        self.depth, self.width, self.dim = depth, width, state["proj"].shape[1]
        self.extra = 1 if "class_embedding" in state else 0  #: tokens before the patches
        self.side = round((positions - self.extra) ** 0.5)  #: patches a side that the positions were learnt for
        self.conv1 = nn.Conv2d(3, width, self.patch, self.patch, bias=False)
        if self.extra:
            self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(positions, width))
        self.ln_pre = nn.LayerNorm(width, EPS)
        self.unit = unit
        self.heads = heads or HEADS.get(name, max(1, width // HEAD))
        blocks = nn.ModuleList(Block(width, self.heads, hidden) for _ in range(depth))
        self.transformer = nn.ModuleDict({"resblocks": blocks})
        self.ln_post = nn.LayerNorm(width, EPS)
        self.attn_pool = Pool(width, len(state["attn_pool.mlp.c_fc.bias"]))
        self.proj = nn.Parameter(torch.empty(width, self.dim))

    def streams(self, pixels: Tensor) -> Iterator[Tensor]:
        """pixels: (n, 3, height, width) in [-1, 1] -> the residual stream after each block.

        (n, 1 + patches, width): a class token, then the patches row by row. Height and width are multiples of the
        patch; positions learnt for another grid are resampled.
        """
        patches = self.conv1(pixels.to(self.conv1.weight.dtype))  # (n, width, rows, columns)
        rows, columns = patches.shape[-2:]
        x = patches.flatten(2).transpose(1, 2)
        if self.extra:
            x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1)
        x = self.ln_pre(x + self._positions(rows, columns))
        turn = rotations(rows, columns, self.extra, self.width // self.heads, x.device, x.dtype)
        for block in self.transformer["resblocks"].children():
            x = block(x, turn)
            yield x

    def stream(self, pixels: Tensor, layer: int = -1) -> Tensor:
        """The last of `streams`, or the one after block ``layer``, counted like a list's."""
        return next(islice(self.streams(pixels), range(self.depth)[layer], None))

    def look(self, pixels: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """`patches` after block ``layer`` and the `forward` vectors, from one pass."""
        at = range(self.depth)[layer]
        for i, x in enumerate(self.streams(pixels)):
            if i == at:
                patches = self.patches(x)
        return patches, self._final(x)

    def patches(self, stream: Tensor) -> Tensor:
        """The stream after any layer -> (n, patches, width), normalised."""
        out: Tensor = self.ln_post(stream)[:, self.extra :]
        return out

    def vectors(self, stream: Tensor) -> Tensor:
        """The stream after the last layer -> (n, dim): a picture as one vector, of any length."""
        out: Tensor = self.attn_pool(self.ln_post(stream)) @ self.proj
        return out

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: (n, 3, height, width) in [-1, 1] -> (n, dim) float32, of length one (unless ``unit`` is False)."""
        return self._final(self.stream(pixels))

    def _final(self, stream: Tensor) -> Tensor:
        vectors = self.vectors(stream).float()
        return normalize(vectors, dim=-1) if self.unit else vectors

    def _positions(self, rows: int, columns: int) -> Tensor:
        """(1 + patches, width) for a grid of any size."""
        learnt = self.positional_embedding
        if (rows, columns) == (self.side, self.side):
            return learnt
        grid = learnt[self.extra :].unflatten(0, (self.side, self.side)).permute(2, 0, 1)[None]
        other = interpolate(grid.float(), (rows, columns), mode="bilinear", align_corners=False)
        return torch.cat([learnt[: self.extra], other[0].flatten(1).T.to(learnt.dtype)])


@lru_cache(maxsize=8)
def rotations(
    rows: int, columns: int, extra: int, size: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Cosine and sine (extra + patches, size): the first half of a head turns with the column, the second with the row.

    Positions start at 1; the class token is not turned. Both members of a pair of channels have one angle.
    """
    frequency = THETA ** (-torch.arange(0, size // 2, 2, dtype=torch.float64) / (size // 2))  # (size / 4,)
    row = torch.arange(1, rows + 1).repeat_interleave(columns)
    column = torch.arange(1, columns + 1).repeat(rows)
    angle = torch.cat([column[:, None] * frequency, row[:, None] * frequency], 1).repeat_interleave(2, 1)
    angle = torch.cat([torch.zeros(extra, size, dtype=torch.float64), angle])
    return angle.cos().to(device, dtype), angle.sin().to(device, dtype)


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x: (..., tokens, size), its channels turned in pairs (0, 1), (2, 3), ... by the tokens' angles."""
    even, odd = x[..., ::2], x[..., 1::2]
    across = torch.stack([-odd, even], -1).flatten(-2)
    return x * cos + across * sin
