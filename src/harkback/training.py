"""The one training loop of all gradient learners."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from harkback.features import FeatureRows, Features
from harkback.limits import Limits
from harkback.network import Answers, Network
from harkback.parallel import Draw, first_says, shared
from harkback.prefetch import Batches
from harkback.soundness import Astray

#: What to lower: (the network's answers, (batch,) the row numbers they answer) -> mean loss over the batch.
Loss = Callable[[Answers, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How a network is fitted to the clips of one session."""

    epochs: int = 30  #: passes over the clips of a session
    batch: int = 32  #: clips a step
    replay: int = 0  #: exemplars beside each batch of new clips; 0: exemplars are mixed among the new clips
    optimizer: Literal["adamw", "adam"] = "adamw"  #: adam: weight decay as part of the gradient
    rate: float = 3e-3  #: highest learning rate
    schedule: Literal["cosine", "constant"] = "cosine"  #: of the rate; cosine: after a short warm-up, down to nothing
    decay: float = 1e-2  #: weight decay
    mute: float = 0.25  #: share of clips whose sound, and as many whose picture, is withheld in a step, 0..0.5

    LIMITS: ClassVar[Mapping[str, Limits]] = {
        "epochs": (1, None), "batch": (1, None), "replay": (0, None), "rate": (0, None), "decay": (0, None),
        "mute": (0, 0.5),
    }  # fmt: skip


#: As AV-CIL (arXiv 2308.11073) trains, but for the epochs: its scripts run 100 to 200, by data set and method, and none
#: is right for all. At 50 the loss on spoken digits is down; `docs/reproduce.md` sets the paper's on the paper's data.
AVCIL_TRAIN = TrainSettings(
    epochs=50, batch=256, optimizer="adam", rate=1e-3, schedule="constant", decay=1e-4, mute=0.0
)


def fit(
    network: Network,
    rows: FeatureRows,
    loss: Loss,
    settings: TrainSettings,
    generator: torch.Generator,
    *,
    fresh: int | None = None,
    judge: Callable[[], float] | None = None,
) -> list[float]:
    """Fit all of the network's weights; every random draw comes from the generator.

    Several processes share each batch out: the body is asked about a share of it in each, the loss is of all of it.

    fresh: how many of the rows, the first ones, are new clips; the rest are exemplars, and ``settings.replay`` of them
    join each batch. judge: how good the network is now, the more the better; the weights of the best epoch, the
    earliest of equals, are those that stay. None: the last. Returns the mean loss of each epoch. `Astray` as soon as
    that of one is not finite.
    """
    if not len(rows):
        return []
    new = fresh if fresh and settings.replay else len(rows)
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    optimizer = kind(network.parameters(), lr=settings.rate, weight_decay=settings.decay, fused=True)
    read = Batches(rows, settings.batch + settings.replay, network.device)
    steps, step = settings.epochs * -(-new // settings.batch), 0
    losses, best, kept = [], -torch.inf, None
    for epoch in range(settings.epochs):
        total = 0.0
        order = list(_batches(new, len(rows), settings, generator))  # Drawn at once, so the same on every device.
        shares = [shared(len(batch)) for batch in order]
        parts = read(share.own(batch) for batch, share in zip(order, shares, strict=True))
        for batch, share, (_, clips) in zip(order, shares, parts, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = settings.rate * _shape_of_rate((step + 0.5) / steps, settings.schedule)
            answers = network(_mute(clips, settings.mute, share.uniform(generator)), generator, share)
            optimizer.zero_grad(set_to_none=True)
            value = loss(answers, batch)
            value.backward()
            share.learn(network.parameters())
            optimizer.step()
            step += 1
            total += float(value.detach())
        losses.append(total * settings.epochs / steps)
        if not isfinite(total):
            raise Astray(f"its loss in epoch {epoch + 1} of {settings.epochs} is not finite")
        if judge is not None and (now := first_says(judge())) > best:
            best, kept = now, {name: array.clone() for name, array in network.state_dict().items()}
    if kept is not None:
        network.load_state_dict(kept)
    return losses


def class_loss(targets: Tensor) -> Loss:
    """The plain cross-entropy over all classes. targets: (clips,) long."""
    return lambda said, batch: cross_entropy(said.logits, targets[batch])


def _batches(new: int, rows: int, settings: TrainSettings, generator: torch.Generator) -> Iterator[Tensor]:
    """The rows of each step of an epoch: every new clip once, and exemplars in turn, over and over."""
    batches = torch.randperm(new, generator=generator).split(settings.batch)
    if new == rows:
        yield from batches
        return
    held, need = rows - new, min(settings.replay, rows - new)
    turn = held // need  # Steps until exemplars are drawn anew, so that no step has one of them twice.
    replayed: list[Tensor] = []
    for batch in batches:
        if not replayed:
            replayed = list(torch.randperm(held, generator=generator).split(need)[:turn])
        yield torch.cat([batch, new + replayed.pop()])


def _shape_of_rate(done: float, schedule: str = "cosine") -> float:
    """Up in a line over the first tenth, then down along a cosine to nothing. done: 0..1."""
    if schedule == "constant":
        return 1.0
    if done < 0.1:
        return done / 0.1
    return float(0.5 + 0.5 * torch.cos(torch.tensor((done - 0.1) / 0.9 * torch.pi)))


def _mute(features: Features, share: float, draw: Draw) -> Features:
    """Withhold the sound of some clips and the picture of others.

    Else the stronger modality explains the training clips alone and the weaker one is never learnt; and a model that
    will meet silent videos should have met some.
    """
    drawn = draw()
    both = features.heard & features.seen
    return replace(
        features, heard=features.heard & ~(both & (drawn < share)), seen=features.seen & ~(both & (drawn > 1 - share))
    )
