"""Harkback's own learner: everything it knows is a sum over clips, the look included, so nothing is forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from harkback.bags import Bag
from harkback.block_ridge import BlockRidge, Normal
from harkback.blocks import Block
from harkback.buffer import reading
from harkback.errors import HarkbackError
from harkback.features import FeatureRows, Features, Rows
from harkback.gaze import Foretelling, Patches, Tally, attended, shares
from harkback.gram import by_class
from harkback.learners.base import Learner
from harkback.limits import Limits
from harkback.moments import Moments
from harkback.parallel import shared
from harkback.pieces import pieces
from harkback.standard import Standard, measure
from harkback.state import State

LOGIT = 12.0  #: what turns the scores of a regression on one-hot classes into logits, for choosing the picture's share
SHARES = (0.01, 0.03, 0.1, 0.3, 1.0)  #: how much the picture may weigh beside the sound


@dataclass(frozen=True, slots=True)
class HarkSettings:
    features: int = 800  #: random features of a sound token; half as many of a patch
    penalty: float = 3e-4  #: weight of the squared coefficients, per clip
    passes: int = 3  #: how often the look is corrected by what was looked at
    guide: Literal["audio", "none"] = "audio"  #: what guides the look; none: the plain mean of the patches
    weigh: bool = True  #: choose by leave-one-out how much the picture weighs; else as much as the sound
    left_out: bool = True  #: a clip's look is guided by the other clips alone while it is learnt

    LIMITS: ClassVar[Mapping[str, Limits]] = {"features": (0, None), "passes": (1, None)}


class Hark(Learner[HarkSettings]):
    """Ridge regression on what is heard, what is seen, and what the sound points at. Exemplars: none.

    A clip's vector is [heard; attended; pictured]: two bags of tokens (`bags.Bag`) with, between them, the mean of the
    patches by closed-form guided attention (`gaze`). One sum of such vectors' products serves twice: its columns
    heard x attended are the regression that says where to look, and all of it is the regression that says which class.

    Learning a session:

    1. Its clips' sounds and patches are added to the sums.
    2. Where to look: at first each clip is told the mean patch of its class, made as much bolder as there are patches
       (one of them is meant). The sound foretells that, the look goes there, and what is then seen is what the sound
       shall foretell in the next pass.
    3. A clip's look is guided by the other clips alone, leaving it out of the regression by its leverage:
       (y_i - h_i t_i) / (1 - h_i). Else the looks of learnt clips would be better than those of clips to come.
    4. How much the picture weighs beside the sound is what would have served all clips so far best, each left out.

    What was looked at in former sessions was seen by the look as it then was, and each session's clips judged the
    shares by what was known then; the rest does not depend on the order of the sessions, given the first, which fixes
    what tokens are measured against. `docs/hark.md` has the equations.
    """

    Settings = HarkSettings
    FITTED: ClassVar[tuple[str, ...]] = ("weight", "bias", "gaze", "gaze_bias")
    ABLATIONS: ClassVar = {
        "no-look": {"guide": "none"},
        "one-pass": {"passes": 1},
        "not-left-out": {"left_out": False},
        "not-weighed": {"weigh": False},
        "no-lift": {"features": 0},
    }

    def __init__(self, settings: HarkSettings | None = None, *, memory: int = 0, seed: int = 0) -> None:
        super().__init__(settings, memory=memory, seed=seed)
        s = self.settings
        if not s.penalty > 0:
            raise HarkbackError("the penalty of hark must be above 0", mend="3e-4 is the default")
        seeds = torch.randint(2**62, (2,), generator=self.generator)  # Of the random features: they need not be kept.
        self.sound, self.picture = Bag(s.features, seeds[0]), Bag(s.features // 2, seeds[1])
        self.patches = Patches()
        self.moments = Moments()
        self.tried = torch.zeros(len(SHARES), dtype=torch.float64)  #: loss of all clips so far, each left out, by share
        nothing = torch.zeros(0, dtype=torch.float64)
        self.gaze, self.gaze_bias = nothing, nothing  #: (heard columns, visual_dim), (visual_dim,): where to look
        self.weight, self.bias = nothing, nothing  #: (columns, classes), (classes,)
        self._known: tuple[Tensor, BlockRidge] | None = None  #: weight, and the regression it came from

    def _learn(self, features: FeatureRows, targets: Tensor) -> None:
        self._known = None
        self._measure(features)
        heard, pictured, plain = self._bags(features, targets)
        looked = self._look_anew(features, heard, plain, targets)
        x = torch.cat([heard, looked, pictured], 1)
        self.moments.add(x, targets, len(self.classes))
        if self.ledger is not None:
            self.ledger.clips(targets, x)
        self._solve(x, targets)

    def _scores(self, features: Features) -> Tensor:
        return self._vectors(features) @ self.weight + self.bias

    def _vectors(self, features: Features) -> Tensor:
        """(clips, columns) float64, by the look as it is now."""
        heard, looked, pictured = self._heard(features), [], []
        direction = heard @ self.gaze + self.gaze_bias
        for some, clips in self._few(features):
            patches = self._patches(clips)
            looked.append(self._looked(direction[some], clips, patches))
            pictured.append(self.picture.raw(patches))
        return torch.cat([heard, torch.cat(looked), self.picture.vector(torch.cat(pictured), features.seen)], 1)

    @torch.no_grad()
    def heat(self, features: Features) -> Tensor:
        direction = self._heard(features) @ self.gaze + self.gaze_bias
        parts = [self._look(direction[some], clips, self._patches(clips)) for some, clips in self._few(features)]
        return torch.cat(parts).reshape(features.visual.shape[:3])

    # ---- as if it had not been learnt ----

    @torch.no_grad()
    def strangeness(self, features: FeatureRows) -> Tensor:
        found = self._regression()
        parts = [found.strangeness(found.normal.ask(self._vectors(clips))) for _, clips in reading(features)]
        return torch.cat(parts) if parts else self.bias[:0]

    @torch.no_grad()
    def left_out(self, features: FeatureRows, learnt: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        columns, dim = self.gaze.shape
        x = learnt.clone()  # What is heard and pictured stays; what is looked at is looked at anew.
        x[:, columns : columns + dim] = self._look_at(features, learnt[:, :columns] @ self.gaze + self.gaze_bias)
        found = self._regression()
        now, then = found.normal.ask(x), found.normal.ask(learnt)
        return found.left_out(now, then, targets).float(), found.left_out_strangeness(now, then)

    @torch.no_grad()
    def subtract(self, target: int, entry: State) -> None:
        """The look of other clips was guided by this class too; what they added by it stays as it was."""
        self.moments.remove(entry["x"], target)
        gone = Patches()
        gone.count, gone.sum, gone.products = entry["patches"], entry["patch_sum"], entry["patch_products"]
        self.patches.add(gone, -1)
        self.tried = self.tried - entry.get("tried", 0.0)
        columns, dim = self.gaze.shape
        guide = Foretelling(self.moments, self.tried.new_zeros(0, columns), dim, self.sound.blocks())
        self._guide(*guide.fit(self.tried.new_zeros(0, dim)))
        self._settle(BlockRidge(self._normal(), self._share))

    # ---- what is heard and seen ----

    def _measure(self, rows: FeatureRows) -> None:
        """Fix what tokens are measured against, by the first clips that have any."""
        if len(self.sound.middle) and len(self.picture.middle):
            return
        found = Standard(rows.shape.audio_dim), Standard(rows.shape.visual_dim)
        measure(rows, *found)
        for bag, standard in zip((self.sound, self.picture), found, strict=True):
            if not len(bag.middle):
                bag.measure(standard)

    def _bags(self, rows: FeatureRows, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """heard and pictured (clips, columns) of a session, and the mean of its clips' patches (clips, visual_dim).

        Its patches are added to the sums.
        """
        bags = self.sound, self.picture
        sound, picture = (torch.empty(len(rows), bag.columns, dtype=torch.float64) for bag in bags)
        heard, seen = torch.empty(2, len(rows), dtype=torch.bool)
        share = shared(len(rows))
        for target, mine in by_class(targets):  # With a ledger or without: the same sums, to the bit.
            mine = mine[share.places(mine)[0]]
            met = Tally(rows.shape.visual_dim)
            for batch, clips in reading(Rows(rows, mine)):
                here = mine[batch]
                sound[here], picture[here] = self.sound.of(clips.audio), self._pictures(clips, met)
                heard[here], seen[here] = clips.heard, clips.seen
            added = met.patches()
            added.add_up()
            self.patches.add(added)
            if self.ledger is not None:
                self.ledger.sums(target, patches=added.count, patch_sum=added.sum, patch_products=added.products)
        sound, picture, heard, seen = (share.whole(share.own(array)) for array in (sound, picture, heard, seen))
        self.sound.fix(sound, heard)
        self.picture.fix(picture, seen)
        plain = torch.where(seen[:, None], picture[:, : rows.shape.visual_dim], 0.0)
        return self.sound.vector(sound, heard), self.picture.vector(picture, seen), plain

    def _pictures(self, clips: Features, met: Tally) -> Tensor:
        """(clips, columns) raw bags of patches, which are tallied."""
        parts = []
        for _, few in self._few(clips):
            patches = self._patches(few)
            parts.append(self.picture.raw(patches))
            met.add(patches if few.seen.all() else patches[few.seen])
        return torch.cat(parts)

    def _heard(self, clips: Features) -> Tensor:
        return self.sound.vector(self.sound.of(clips.audio), clips.heard)

    def _few(self, clips: Features) -> Iterator[tuple[slice, Features]]:
        """The clips, so few at a time that what is done to their patches stays in the cache."""
        shape = clips.shape
        return pieces(clips, self.picture.numbers(shape.frames * shape.patches, shape.visual_dim))

    def _patches(self, clips: Features) -> Tensor:
        """(clips, frames x patches, visual_dim) float32, standardised."""
        return self.picture.standard(clips.visual.flatten(1, 2))

    # ---- where to look ----

    def _look(self, direction: Tensor, clips: Features, patches: Tensor) -> Tensor:
        """(clips, frames x patches) shares; even where there is no sound or no picture to go by."""
        guided = clips.heard & clips.seen & (self.settings.guide == "audio")
        return shares(torch.where(guided[:, None], direction, 0.0), patches)

    def _looked(self, direction: Tensor, clips: Features, patches: Tensor) -> Tensor:
        """(clips, visual_dim) what was looked at; zero where there is no picture.

        Counted from the first clips' mean, which is the zero of standardised tokens: from a mean that moves, what was
        summed in one session would not be what is summed in the next.
        """
        seen = attended(self._look(direction, clips, patches), patches)
        return torch.where(clips.seen[:, None], seen, 0.0)

    def _look_at(self, rows: FeatureRows, direction: Tensor) -> Tensor:
        """(clips, visual_dim) what is looked at in clips that are read; direction: (clips, visual_dim)."""
        parts, share = [torch.zeros(0, direction.shape[1], dtype=torch.float64)], shared(len(rows))
        direction = share.own(direction)
        for batch, clips in reading(share.of(rows)):
            where = direction[batch]
            parts += [self._looked(where[some], few, self._patches(few)) for some, few in self._few(clips)]
        return share.whole(torch.cat(parts))

    def _look_anew(self, rows: FeatureRows, heard: Tensor, plain: Tensor, targets: Tensor) -> Tensor:
        """(clips, visual_dim) what a session's clips look at; sets ``gaze`` for clips to come."""
        foretelling = Foretelling(self.moments, heard, plain.shape[1], self.sound.blocks())
        middle, bolder = self.patches.mean, rows.shape.frames * rows.shape.patches
        looked = torch.zeros_like(plain)
        for _, mine in by_class(targets):
            looked[mine] = middle + bolder * (plain[mine].mean(0) - middle)
        for _ in range(self.settings.passes):
            foretold = foretelling.left_out(looked) if self.settings.left_out else foretelling(looked)
            looked = self._look_at(rows, self.patches.against(foretold - middle))
        self._guide(*foretelling.fit(looked))
        return looked

    def _guide(self, slope: Tensor, bias: Tensor) -> None:
        """Set where clips to come look: towards what their sound foretells, heard @ slope + bias."""
        found = self.patches.against(torch.cat([slope, (bias - self.patches.mean)[None]]))
        self.gaze, self.gaze_bias = found[:-1].contiguous(), found[-1].contiguous()  # As a restored one is.

    # ---- which class ----

    def _solve(self, x: Tensor, targets: Tensor) -> None:
        """The ridge regression of all clips so far; x (clips, columns) and targets (clips,): of this session."""
        normal = self._normal()
        self._settle(self._weighed(normal, x, targets) if self.settings.weigh else BlockRidge(normal, 1.0))

    def _weighed(self, normal: Normal, x: Tensor, targets: Tensor) -> BlockRidge:
        """The regression at the share that served all clips so far best; how it serves this session's is found out."""
        asked, tried = normal.ask(x), []
        for i, share in enumerate(SHARES):
            found = BlockRidge(normal, share)
            tried.append(cross_entropy(LOGIT * found.left_out(asked, asked, targets), targets, reduction="none"))
            self.tried[i] += tried[i].sum()
            if int(self.tried[: i + 1].argmin()) == i:
                best = found
        if self.ledger is not None:
            for target, mine in by_class(targets):
                self.ledger.sums(target, tried=torch.stack(tried)[:, mine].sum(1))
        return best

    def _settle(self, found: BlockRidge) -> None:
        self.weight, self.bias = found.fit()
        self._known = self.weight, found

    def _regression(self) -> BlockRidge:
        """What the weight came from."""
        if self._known is None or self._known[0] is not self.weight:  # The learner was restored since.
            self._known = self.weight, BlockRidge(self._normal(), self._share)
        return self._known[1]

    @property
    def _share(self) -> float:
        """How much the picture weighs, beside the sound."""
        return SHARES[int(self.tried.argmin())] if self.settings.weigh else 1.0

    def _normal(self) -> Normal:
        return Normal(self.moments, self._blocks(), self.settings.penalty)

    def _blocks(self) -> list[Block]:
        """The picture's move: how much they weigh beside the sound is chosen."""
        guided = Block(len(self.picture.mean), 0.5, moves=True)
        return [*self.sound.blocks(), guided, *self.picture.blocks(0.3, moves=True)]
