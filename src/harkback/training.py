"""The one training loop of all gradient learners."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from harkback.features import FeatureRows, Features
from harkback.network import Answers, Network

#: What to lower: (the network's answers, (batch,) the row numbers they answer) -> mean loss over the batch.
Loss = Callable[[Answers, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How a network is fitted to the clips of one session."""

    epochs: int = 30  #: passes over the clips of a session
    batch: int = 32  #: clips a step
    rate: float = 3e-3  #: highest learning rate of AdamW
    decay: float = 1e-2  #: weight decay
    mute: float = 0.25  #: share of clips whose sound, and as many whose picture, is withheld in a step, 0..0.5


def fit(network: Network, rows: FeatureRows, loss: Loss, settings: TrainSettings, generator: torch.Generator) -> None:
    """Fit all of the network's weights; every random draw comes from the generator."""
    if not len(rows):
        return
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.rate, weight_decay=settings.decay, fused=True)
    steps = settings.epochs * -(-len(rows) // settings.batch)
    step = 0
    for _ in range(settings.epochs):
        for batch in torch.randperm(len(rows), generator=generator).split(settings.batch):
            for group in optimizer.param_groups:
                group["lr"] = settings.rate * _shape_of_rate((step + 0.5) / steps)
            answers = network(_mute(rows[batch], settings.mute, generator), generator)
            optimizer.zero_grad(set_to_none=True)
            loss(answers, batch).backward()
            optimizer.step()
            step += 1


def fit_classes(
    network: Network, rows: FeatureRows, targets: Tensor, settings: TrainSettings, generator: torch.Generator
) -> None:
    """Fit to the plain cross-entropy over all classes. targets: (clips,) long."""
    fit(network, rows, lambda said, batch: cross_entropy(said.logits, targets[batch]), settings, generator)


def _shape_of_rate(done: float) -> float:
    """Up in a line over the first tenth, then down along a cosine to nothing. done: 0..1."""
    if done < 0.1:
        return done / 0.1
    return float(0.5 + 0.5 * torch.cos(torch.tensor((done - 0.1) / 0.9 * torch.pi)))


def _mute(features: Features, share: float, generator: torch.Generator) -> Features:
    """Withhold the sound of some clips and the picture of others.

    Else the stronger modality explains the training clips alone and the weaker one is never learnt; and a model that
    will meet silent videos should have met some.
    """
    draw = torch.rand(len(features), generator=generator)
    both = features.heard & features.seen
    return replace(
        features, heard=features.heard & ~(both & (draw < share)), seen=features.seen & ~(both & (draw > 1 - share))
    )
