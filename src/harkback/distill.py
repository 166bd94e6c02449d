"""Losses: pure functions of what the student says, what the teacher said and what is true. Means over clips."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, kl_div, log_softmax


def balanced_cross_entropy(logits: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
    """Cross-entropy whose logits are raised by the log of the class counts (balanced softmax, arXiv 2007.10740 eq. 4).

    logits: (clips, classes); targets: (clips,) long; counts: (classes,) training clips of each class.
    With 48 clips of a new class beside 6 exemplars of an old one, a plain softmax learns the ratio 8 : 1 as a prior and
    answers with new classes. Told of the counts in training, the logits themselves need not hold them.
    A class with no clip at all takes no part: its logit goes to minus infinity.
    """
    return cross_entropy(logits + counts.log(), targets)


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
