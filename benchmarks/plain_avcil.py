"""AV-CIL's training step (arXiv 2308.11073 and its code) as a researcher would write it: whole tensors, autograd.

A yardstick for `harkback.learners.avcil`, not a part of the package: the same mathematics, every patch projected, every
map of the attention kept, the frozen teacher asked in every step. Tokens are float32 in memory: loading costs nothing
here.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, normalize, relu, softmax

TEMPERATURE = 2.0  #: of the logits that are distilled
CONTRAST = 0.05  #: temperature of both contrasts
INSTANCE, CLASS = 0.5, 1.0  #: weights of the contrasts, as for AVE
SPATIAL, TEMPORAL = 0.5, 0.5  #: weights of the distillation of the attention


class Shape(NamedTuple):
    """Of one clip's features."""

    audio_dim: int
    frames: int
    patches: int
    dim: int


class Said(NamedTuple):
    audio: Tensor  #: (clips, dim) projected sound
    visual: Tensor  #: (clips, dim) projected attended picture
    logits: Tensor  #: (clips, classes)
    spatial: Tensor  #: (clips, frames, patches, dim) sums to one over the patches
    temporal: Tensor  #: (clips, frames, dim) sums to one over the frames


class PlainNetwork(nn.Module):
    def __init__(self, shape: Shape, classes: int) -> None:
        super().__init__()
        self.listen = nn.Linear(shape.audio_dim, shape.dim)
        self.look = nn.Linear(shape.dim, shape.dim)
        self.project_audio = nn.Linear(shape.audio_dim, shape.dim)
        self.project_visual = nn.Linear(shape.dim, shape.dim)
        self.head = nn.Linear(shape.dim, classes)

    def forward(self, audio: Tensor, visual: Tensor) -> Said:
        """audio: (clips, audio_dim); visual: (clips, frames, patches, dim)."""
        query = self.listen(audio).tanh()  # (clips, dim)
        keys = self.look(visual).tanh()  # (clips, frames, patches, dim)
        spatial = softmax(keys * query[:, None, None], 2)
        inner = (spatial * keys).sum(2)  # (clips, frames, dim)
        temporal = softmax(inner * query[:, None], 1)
        attended = (temporal * (spatial * visual).sum(2)).sum(1)  # (clips, dim)
        heard, seen = relu(self.project_audio(audio)), relu(self.project_visual(attended))
        return Said(heard, seen, self.head(heard + seen), spatial, temporal)


class PlainStep:
    """A network in a later session, its frozen teacher and its optimiser. Old classes came as many at a time as new."""

    def __init__(self, shape: Shape, classes_old: int, classes_new: int, seed: int) -> None:
        """classes_old, classes_new: how many; seed: of the first weights."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.teacher = PlainNetwork(shape, classes_old).requires_grad_(False)
            self.network = copy.deepcopy(self.teacher).requires_grad_()
            self.network.head = nn.Linear(shape.dim, classes_old + classes_new)
        with torch.no_grad():
            self.network.head.weight[:classes_old] = self.teacher.head.weight
            self.network.head.bias[:classes_old] = self.teacher.head.bias
        self.old, self.session = classes_old, classes_new
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-3, weight_decay=1e-4)

    def step(self, audio: Tensor, visual: Tensor, targets: Tensor, exemplars_mask: Tensor) -> float:
        """One step of training; returns the loss before it.

        audio: (clips, audio_dim); visual: (clips, frames, patches, dim), both float32; targets: (clips,) long;
        exemplars_mask: (clips,) bool, which are exemplars, whose classes are old ones.
        """
        loss = self.loss(audio, visual, targets, exemplars_mask)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def loss(self, audio: Tensor, visual: Tensor, targets: Tensor, exemplars: Tensor) -> Tensor:
        said = self.network(audio, visual)
        with torch.no_grad():
            told = self.teacher(audio, visual)
        old, new, total = said.logits[:, : self.old], said.logits[:, self.old :], said.logits.new_zeros(())
        # Separated cross-entropy: exemplars among old classes, new clips among new ones.
        if exemplars.any():
            total = total + cross_entropy(old[exemplars], targets[exemplars], reduction="sum")
        if not exemplars.all():
            total = total + cross_entropy(new[~exemplars], targets[~exemplars] - self.old, reduction="sum")
        total = total / len(targets)
        # Distillation of the logits, session by session.
        for mine, its in zip(old.split(self.session, 1), told.logits.split(self.session, 1), strict=True):
            says, says_it = log_softmax(mine / TEMPERATURE, 1), softmax(its / TEMPERATURE, 1)
            total = total + TEMPERATURE**2 * kl_div(says, says_it, reduction="batchmean")
        # Contrast of sound and picture, by clip and by class (eq. 7 of the paper, over a clip's positives).
        scores = normalize(said.audio, dim=1) @ normalize(said.visual, dim=1).T / CONTRAST
        total = total + INSTANCE * cross_entropy(scores, torch.arange(len(scores)))
        positive = (targets[:, None] == targets).float()
        total = total - CLASS * ((log_softmax(scores, 1) * positive).sum(1) / positive.sum(1)).mean()
        # Distillation of the attention, on exemplars.
        if exemplars.any():
            for weight, mine, its in (
                (SPATIAL, said.spatial, told.spatial),
                (TEMPORAL, said.temporal, told.temporal),
            ):
                kl = kl_div(mine[exemplars].log(), its[exemplars], reduction="sum")
                total = total + weight * kl / exemplars.sum()
        result: Tensor = total
        return result
