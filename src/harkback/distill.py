"""Losses: pure functions of what the student says, what the teacher said and what is true. Means over clips."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cosine_similarity,
    cross_entropy,
    kl_div,
    log_softmax,
    normalize,
    one_hot,
)


def balanced_cross_entropy(logits: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
    """Cross-entropy whose logits are raised by the log of the class counts (balanced softmax, arXiv 2007.10740 eq. 4).

    logits: (clips, classes); targets: (clips,) long; counts: (classes,) training clips of each class.
    With 48 clips of a new class beside 6 exemplars of an old one, a plain softmax learns the ratio 8 : 1 as a prior and
    answers with new classes. Told of the counts in training, the logits themselves need not hold them.
    A class with no clip at all takes no part: its logit goes to minus infinity.
    """
    return cross_entropy(logits + counts.log(), targets)


def separated_cross_entropy(logits: Tensor, targets: Tensor, new: Tensor) -> Tensor:
    """Cross-entropy of new clips over new classes alone, and of exemplars over old ones (SS-IL, 2003.13947 eq. 3).

    logits: (clips, classes); targets: (clips,) long; new: (classes,) bool. So that many new clips do not push down the
    scores of classes of which there are few. A clip counts where its class is; the mean is over all clips.
    """
    among = new[targets][:, None] == new  # (clips, classes) may the class be the answer?
    return cross_entropy(logits.masked_fill(~among, -torch.inf), targets)


def sigmoid_distillation(logits: Tensor, targets: Tensor, teacher: Tensor | None) -> Tensor:
    """Binary cross-entropy of every class, summed over classes (iCaRL, arXiv 1611.07725, algorithm 3).

    logits: (clips, classes); targets: (clips,) long; teacher: (clips, former classes) logits, whose sigmoids are what
    is wanted of the former classes; None: there are none.
    """
    wanted = one_hot(targets, logits.shape[1]).to(logits.dtype)
    if teacher is not None:
        wanted = torch.cat([teacher.sigmoid(), wanted[:, teacher.shape[1] :]], 1)
    return binary_cross_entropy_with_logits(logits, wanted, reduction="sum") / len(logits)


def instance_contrast(audio: Tensor, visual: Tensor, temperature: float) -> Tensor:
    """InfoNCE: the sound of a clip belongs to its own picture (AV-CIL, arXiv 2308.11073 eq. 5).

    audio, visual: (clips, width), compared by cosine.
    """
    scores = normalize(audio, dim=1) @ normalize(visual, dim=1).T / temperature
    return cross_entropy(scores, torch.arange(len(scores)))


def class_contrast(audio: Tensor, visual: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """The sound of a clip belongs to all pictures of its class (AV-CIL, arXiv 2308.11073 eq. 7).

    The published code divides by the size of the batch instead of the number of a clip's positives; this is the paper.
    """
    said = log_softmax(normalize(audio, dim=1) @ normalize(visual, dim=1).T / temperature, 1)
    positive = targets[:, None] == targets
    return -((said * positive).sum(1) / positive.sum(1)).mean()


def nca(logits: Tensor, targets: Tensor, scale: Tensor, margin: float = 0.6) -> Tensor:
    """Neighbourhood component analysis with a margin, for a head of proxies (PODNet, arXiv 2004.13513 eq. 10).

    -log( e^{scale (y_t - margin)} / sum_{c != t} e^{scale y_c} ), not below zero. logits: (clips, classes) in [-1, 1];
    scale: a scalar that is learnt. With a single class there is nothing to tell apart: zero.
    """
    if logits.shape[1] < 2:
        return logits.sum() * 0
    true = logits.gather(1, targets[:, None])[:, 0]
    others = (scale * logits).scatter(1, targets[:, None], -torch.inf)
    return (others.logsumexp(1) - scale * (true - margin)).clamp_min(0).mean()


def importance_distillation(student: Tensor, teacher: Tensor, importance: Tensor) -> Tensor:
    """importance x || normalised student - normalised teacher ||, mean over clips (AFC, arXiv 2204.00895 eq. 9).

    student, teacher: (clips, width); importance: (clips,) how much the teacher's loss depends on this vector.
    """
    difference = normalize(student, dim=1) - normalize(teacher, dim=1)
    # The norm has no gradient where student and teacher are one; a tiny number under the root gives it zero.
    return (importance * (difference.square().sum(1) + 1e-12).sqrt()).mean()


def logit_distillation(student: Tensor, teacher: Tensor, blocks: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), within each former session's classes, summed over sessions.

    student, teacher: (clips, former classes) logits; blocks: (former classes,) the session each class came in.
    Task-wise as in SS-IL (arXiv 2003.13947 eq. 6): what the teacher knew was told apart within a session.
    """
    total = student.new_zeros(())
    for block in blocks.unique():
        inside = blocks == block
        said = log_softmax(student[:, inside] / temperature, 1)
        told = log_softmax(teacher[:, inside] / temperature, 1)
        total = total + temperature**2 * kl_div(said, told, reduction="batchmean", log_target=True)
    return total


def feature_distillation(student: Tensor, teacher: Tensor, there: Tensor) -> Tensor:
    """1 - cos(student, teacher), over the clips that have the feature (LUCIR, CVPR 2019, eq. 6).

    student, teacher: (clips, width); there: (clips,) bool. Zero where no clip has it.
    """
    if not there.any():
        return student.new_zeros(())
    return (1 - cosine_similarity(student[there], teacher[there], dim=1)).mean()


def class_counts(targets: Tensor, classes: int) -> Tensor:
    """(classes,) float: how many of the targets (clips,) fall on each class."""
    return torch.bincount(targets, minlength=classes).float()
