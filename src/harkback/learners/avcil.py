"""AV-CIL: audio-visual contrast, attention distillation, separated softmax, distillation session by session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, cast

import torch
from torch import Tensor
from torch.nn.functional import kl_div

from harkback.channel_teacher import Projection, Teacher
from harkback.channels import ChannelLook, Held, spatial_distillation
from harkback.device import carried
from harkback.distill import class_contrast, instance_contrast, logit_distillation, separated_cross_entropy
from harkback.errors import HarkbackError
from harkback.features import READ, FeatureRows, Features, batches
from harkback.learners.base import Learner
from harkback.limits import Limits
from harkback.memory import Choice, Memory
from harkback.network import AVCIL_NETWORK, Answers, Network, NetworkSettings
from harkback.training import AVCIL_TRAIN, TrainSettings, fit


@dataclass(frozen=True, slots=True)
class AVCILSettings:
    network: NetworkSettings = field(default_factory=lambda: AVCIL_NETWORK)
    train: TrainSettings = field(default_factory=lambda: replace(AVCIL_TRAIN, replay=128))
    instance_weight: float = 0.5  #: of the instance contrast; the paper: 0.5 for AVE, 0.1 for the larger sets
    class_weight: float = 1.0  #: of the class contrast
    contrast_temperature: float = 0.05  #: of both contrasts
    spatial_weight: float = 0.5  #: of the distillation of where it looks
    temporal_weight: float = 0.5  #: of the distillation of when it looks
    temperature: float = 2.0  #: softens the logits that are distilled
    exemplars: Choice = "random"  #: how exemplars are chosen

    LIMITS: ClassVar[Mapping[str, Limits]] = {
        "instance_weight": (0, None), "class_weight": (0, None), "contrast_temperature": (0.001, None),
        "spatial_weight": (0, None), "temporal_weight": (0, None), "temperature": (0.01, None),
    }  # fmt: skip


class AVCIL(Learner[AVCILSettings]):
    """Audio-visual class-incremental learning (arXiv 2308.11073).

    The first session: plain cross-entropy. Later ones: SS-IL's separated cross-entropy and task-wise distillation, plus
    instance contrast (eq. 5) and class contrast (eq. 7) of projected sound and picture, plus KL of the spatial and the
    temporal attention from the teacher's, on exemplars (eq. 8 and 9), summed over channels and frames, per exemplar.
    Eq. 7 is the paper's; the published code's differs, and so might the best weight. The code's exception for one split
    of AVE is left out, and so is choosing the epoch on validation clips, which the bench decides (`--validation`).
    """

    Settings = AVCILSettings

    def __init__(self, settings: AVCILSettings | None = None, *, memory: int = 0, seed: int = 0) -> None:
        super().__init__(settings, memory=memory, seed=seed)
        if self.settings.network.body != "avcil":
            raise HarkbackError(
                "avcil distils the attention of AV-CIL's network", mend="leave avcil.network.body alone"
            )
        self.network = Network(self.settings.network)
        self.memory = Memory(memory)

    def _learn(self, features: FeatureRows, targets: Tensor) -> None:
        s = self.settings
        rows, targets = self.memory.beside(features, targets)
        teacher = self.network.ask(rows).logits if self.network.built else None
        attention = self._attention_of(self.memory.features)
        self.network.ready(features, len(self.classes), self.generator)
        new, fresh = self.born == self.sessions, len(features)

        def loss(said: Answers, batch: Tensor) -> Tensor:
            total = separated_cross_entropy(said.logits, targets[batch], new)
            if teacher is None:
                return total
            old = teacher.shape[1]
            total = total + logit_distillation(said.logits[:, :old], teacher[batch], self.born[:old], s.temperature)
            both = said.audio.detach().any(1) & said.visual.detach().any(1)  # A contrast needs sound and picture.
            if both.any():
                pair, t = (said.audio[both], said.visual[both]), s.contrast_temperature
                total = total + s.instance_weight * instance_contrast(*pair, t)
                total = total + s.class_weight * class_contrast(*pair, targets[batch][both], t)
            held = (batch >= fresh).nonzero().flatten()
            if attention is not None and len(held):
                total = total + self._held(cast(Held, said.looked), held, attention, batch[held] - fresh)
            return total

        judge = self.judge(lambda clips: self.network.answer(clips).logits)
        self.losses = fit(self.network, rows, loss, s.train, self.generator, fresh=fresh, judge=judge)
        vectors = self.network.ask(rows).fused if s.exemplars == "herding" else torch.zeros(len(rows), 0)
        self.memory.keep(rows, targets, vectors, len(self.classes), s.exemplars, self.generator)

    @torch.no_grad()
    def _attention_of(self, exemplars: Features | None) -> Teacher | None:
        """What the network, as it is now, attends to in each exemplar."""
        if not self.network.built or exemplars is None or not len(exemplars) or self.settings.network.guide == "none":
            return None
        queries, temporals = [], []
        for batch in batches(len(exemplars), READ):
            looked = cast(ChannelLook, self.network.answer(exemplars[batch]).looked)
            queries.append(looked.look.query)
            temporals.append(looked.temporal)
        how = Projection(*(part.clone() for part in looked.look.how))
        tokens = carried(exemplars, self.network.device).visual
        return Teacher(torch.cat(queries), torch.cat(temporals), how, tokens)

    def _held(self, looked: Held, rows: Tensor, teacher: Teacher, exemplars: Tensor) -> Tensor:
        """Attention distillation: KL from the teacher's maps, per exemplar.

        rows: (held,) long, which of the look are exemplars; exemplars: (held,) long, their numbers in the memory.
        """
        where = spatial_distillation(looked, rows, teacher, exemplars) / len(rows)
        when = kl_div(looked.temporal[rows].log(), teacher.temporal[exemplars], reduction="sum") / len(rows)
        return self.settings.spatial_weight * where + self.settings.temporal_weight * when

    def _scores(self, features: Features) -> Tensor:
        return self.network.answer(features).logits

    def heat(self, features: Features) -> Tensor:
        return self.network.heat(features)
