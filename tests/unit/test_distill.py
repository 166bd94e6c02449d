"""The losses against their formulas, their gradients against finite differences, and what they are for."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from harkback import distill
from harkback.distill import (
    balanced_cross_entropy,
    class_contrast,
    class_counts,
    feature_distillation,
    importance_distillation,
    instance_contrast,
    logit_distillation,
    nca,
    separated_cross_entropy,
    sigmoid_distillation,
)

BLOCKS = torch.tensor([0, 0, 1, 2, 2, 2])


def draw(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(scores: list[float]) -> list[float]:
    powers = [math.exp(score) for score in scores]
    return [power / sum(powers) for power in powers]


# ---- balanced cross-entropy -----------------------------------------------------------------------------------------


def test_balanced_cross_entropy_is_equation_4() -> None:
    """-log( n_y e^{l_y} / sum_j n_j e^{l_j} ), the mean over the clips."""
    logits, targets, counts = draw(5, 4), torch.tensor([0, 3, 1, 1, 2]), torch.tensor([6.0, 48, 1, 3]).double()
    expected = 0.0
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        weighed = [n * math.exp(x) for n, x in zip(counts.tolist(), row, strict=True)]
        expected -= math.log(weighed[target] / sum(weighed)) / 5
    assert float(balanced_cross_entropy(logits, targets, counts)) == pytest.approx(expected, rel=1e-12)


@given(st.floats(0.5, 100), st.floats(-50, 50))
def test_equal_counts_make_it_plain_and_a_common_shift_changes_nothing(count: float, shift: float) -> None:
    logits, targets = draw(6, 3), torch.tensor([0, 1, 2, 2, 1, 0])
    plain = torch.nn.functional.cross_entropy(logits, targets)
    balanced = balanced_cross_entropy(logits + shift, targets, torch.full((3,), count, dtype=torch.float64))
    assert float(balanced) == pytest.approx(float(plain), rel=1e-9)


@given(st.floats(0.1, 50))
def test_only_the_ratio_of_the_counts_matters(factor: float) -> None:
    logits, targets = draw(6, 3), torch.tensor([0, 1, 2, 2, 1, 0])
    counts = torch.tensor([3.0, 8, 20], dtype=torch.float64)
    one, other = (balanced_cross_entropy(logits, targets, n) for n in (counts, counts * factor))
    assert float(one) == pytest.approx(float(other), rel=1e-9)


def test_a_class_without_clips_takes_no_part() -> None:
    logits, targets = draw(4, 3).requires_grad_(), torch.tensor([0, 2, 2, 0])
    loss = balanced_cross_entropy(logits, targets, torch.tensor([2.0, 0, 2]))
    plain = torch.nn.functional.cross_entropy(logits.detach()[:, [0, 2]], targets // 2)
    assert float(loss.detach()) == pytest.approx(float(plain))
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert not logits.grad[:, 1].any()


def test_the_best_logits_of_an_imbalanced_problem_hold_no_prior() -> None:
    """Clips that say nothing, 8 of one class to 1 of the other: plain logits learn the ratio, balanced ones do not."""
    targets = torch.tensor([0] * 80 + [1] * 10)
    counts = class_counts(targets, 2)
    gaps = []
    for n in (counts, torch.ones(2)):
        logits = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([logits], max_iter=100, tolerance_grad=1e-10)

        def closure(logits: Tensor = logits, n: Tensor = n, optimizer: torch.optim.LBFGS = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = balanced_cross_entropy(logits.expand(90, 2), targets, n)
            loss.backward()
            return loss

        optimizer.step(closure)  # type: ignore[arg-type]
        gaps.append(float((logits[0] - logits[1]).detach()))
    assert gaps[0] == pytest.approx(0.0, abs=1e-4)
    assert gaps[1] == pytest.approx(math.log(8), abs=1e-4)


def test_the_minimum_on_a_discrete_problem_is_the_balanced_posterior() -> None:
    """x of three kinds, p(x|y) known. Training has p(y) = (.9, .1); the balanced posterior is p(x|y) / sum_y p(x|y)."""
    given_y = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]], dtype=torch.float64)  # (y, x)
    many = torch.tensor([900.0, 100.0], dtype=torch.float64)
    clips = (given_y * many[:, None]).round().long()
    x = torch.cat([torch.full((int(clips[y, v]),), v) for y in range(2) for v in range(3)])
    y = torch.cat([torch.full((int(clips[y].sum()),), y) for y in range(2)])
    table = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([table], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-15)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = balanced_cross_entropy(table[x], y, many)
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    posterior = (given_y / given_y.sum(0)).T
    torch.testing.assert_close(table.detach().softmax(1), posterior, rtol=0, atol=1e-4)


def test_class_counts_counts() -> None:
    counts = class_counts(torch.tensor([3, 0, 3, 1, 3]), 5)
    assert counts.tolist() == [1, 1, 0, 3, 0]
    assert counts.dtype == torch.float32
    assert class_counts(torch.zeros(0, dtype=torch.long), 2).tolist() == [0, 0]


# ---- separated cross-entropy ----------------------------------------------------------------------------------------

NEW = torch.tensor([False, True, False, True, True])
SPLIT = torch.tensor([1, 0, 4, 2, 3, 1, 0])  # Of new, old, new, old, new, new, old classes.


def test_separated_cross_entropy_is_equation_3() -> None:
    """-log( e^{l_y} / sum_c e^{l_c} ), c among the new classes if y is new and among the old ones if not."""
    logits = draw(7, 5)
    expected = 0.0
    for row, target in zip(logits.tolist(), SPLIT.tolist(), strict=True):
        rivals = [c for c in range(5) if bool(NEW[c]) == bool(NEW[target])]
        expected -= math.log(math.exp(row[target]) / sum(math.exp(row[c]) for c in rivals)) / 7
    assert float(separated_cross_entropy(logits, SPLIT, NEW)) == pytest.approx(expected, rel=1e-12)


def test_it_is_the_two_cross_entropies_weighed_by_their_clips() -> None:
    logits, fresh = draw(7, 5), NEW[SPLIT]
    rank = torch.tensor([0, 0, 1, 1, 2])  # Of each class among those of its kind.
    of_new = torch.nn.functional.cross_entropy(logits[fresh][:, NEW], rank[SPLIT[fresh]])
    of_old = torch.nn.functional.cross_entropy(logits[~fresh][:, ~NEW], rank[SPLIT[~fresh]])
    found = float(separated_cross_entropy(logits, SPLIT, NEW))
    assert found == pytest.approx(float(4 * of_new + 3 * of_old) / 7, rel=1e-12)


def test_new_clips_do_not_pull_at_old_logits_nor_exemplars_at_new_ones() -> None:
    logits = draw(7, 5).requires_grad_()
    separated_cross_entropy(logits, SPLIT, NEW).backward()
    assert logits.grad is not None
    for clip, target in enumerate(SPLIT.tolist()):
        own = NEW[target] == NEW
        assert not logits.grad[clip, ~own].any()  # Exactly nothing.
        assert logits.grad[clip, own].all()


@given(st.floats(-50, 50))
def test_a_shift_of_all_old_logits_changes_nothing(shift: float) -> None:
    logits = draw(7, 5)
    moved = logits + shift * (~NEW).double()
    one, other = (float(separated_cross_entropy(x, SPLIT, NEW)) for x in (logits, moved))
    assert one == pytest.approx(other, rel=1e-9)


@pytest.mark.parametrize("new", [True, False])
def test_classes_of_one_kind_alone_make_it_plain(new: bool) -> None:
    """The first session; and one that brings no new class."""
    logits = draw(7, 5)
    found = separated_cross_entropy(logits, SPLIT, torch.full((5,), new))
    assert torch.equal(found, torch.nn.functional.cross_entropy(logits, SPLIT))


# ---- iCaRL: a sigmoid for each class --------------------------------------------------------------------------------


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def wanted(clip: int, target: int, classes: int, teacher: Tensor | None) -> list[float]:
    """The teacher's sigmoid of former classes, one or nothing of the others."""
    told = [] if teacher is None else [sigmoid(x) for x in teacher[clip].tolist()]
    return told + [float(c == target) for c in range(len(told), classes)]


@pytest.mark.parametrize("former", [None, 2, 5])
def test_sigmoid_distillation_is_a_binary_cross_entropy_of_each_class(former: int | None) -> None:
    logits, teacher = draw(6, 5), None if former is None else draw(6, former, seed=1)
    targets = torch.tensor([0, 3, 1, 4, 2, 3])
    expected = 0.0
    for clip in range(6):
        for z, q in zip(logits[clip].tolist(), wanted(clip, int(targets[clip]), 5, teacher), strict=True):
            expected -= (q * math.log(sigmoid(z)) + (1 - q) * math.log(1 - sigmoid(z))) / 6
    assert float(sigmoid_distillation(logits, targets, teacher)) == pytest.approx(expected, rel=1e-12)


def test_one_sigmoid_is_applied() -> None:
    """Its gradient is sigmoid(z) - q, by the clips. AV-CIL's code applies two, and its gradient is all but nothing."""
    logits, teacher, targets = draw(4, 3).requires_grad_(), draw(4, 2, seed=1), torch.tensor([0, 2, 1, 2])
    sigmoid_distillation(logits, targets, teacher).backward()
    assert logits.grad is not None
    for clip in range(4):
        aims = wanted(clip, int(targets[clip]), 3, teacher)
        for z, q, slope in zip(logits[clip].tolist(), aims, logits.grad[clip].tolist(), strict=True):
            assert slope == pytest.approx((sigmoid(z) - q) / 4, rel=1e-9)


def test_former_classes_are_best_left_as_the_teacher_has_them() -> None:
    """No pull at all where the student says what the teacher said, whatever the label, and none further away."""
    logits, targets = draw(6, 5).requires_grad_(), torch.tensor([0, 3, 1, 4, 2, 3])
    teacher = logits.detach()[:, :3]
    loss = sigmoid_distillation(logits, targets, teacher)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[:, :3].abs().max() < 1e-15
    assert logits.grad[:, 3:].all()
    for seed in range(20):
        moved = logits.detach().clone()
        moved[:, :3] += 0.3 * draw(6, 3, seed=seed)
        assert float(sigmoid_distillation(moved, targets, teacher)) > float(loss.detach())


def test_the_label_of_an_exemplar_says_nothing_where_there_is_a_teacher() -> None:
    """Its class is a former one, of which the teacher speaks; of the new classes it is none."""
    logits, teacher = draw(2, 4), draw(2, 3, seed=1)
    one, other = (sigmoid_distillation(logits, torch.tensor([c, c]), teacher) for c in (0, 2))
    assert torch.equal(one, other)
    assert not torch.equal(one, sigmoid_distillation(logits, torch.tensor([3, 3]), teacher))


# ---- contrast of sound and picture ----------------------------------------------------------------------------------


def likeness(audio: Tensor, visual: Tensor, temperature: float) -> list[list[float]]:
    """Cosines of every sound to every picture, over the temperature."""
    rows = []
    for a in audio.tolist():
        row = []
        for v in visual.tolist():
            row.append(sum(x * y for x, y in zip(a, v, strict=True)) / math.hypot(*a) / math.hypot(*v) / temperature)
        rows.append(row)
    return rows


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_instance_contrast_is_equation_5(temperature: float) -> None:
    audio, visual = draw(6, 4), draw(6, 4, seed=1)
    expected = 0.0
    for clip, row in enumerate(likeness(audio, visual, temperature)):
        expected -= math.log(softmax(row)[clip]) / 6
    assert float(instance_contrast(audio, visual, temperature)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_class_contrast_is_equation_7(temperature: float) -> None:
    """Each sound: minus the mean of log p over the pictures of its class. Over the positives, not over the batch."""
    audio, visual, targets = draw(7, 4), draw(7, 4, seed=1), [0, 1, 0, 2, 1, 1, 3]
    expected = 0.0
    for clip, row in enumerate(likeness(audio, visual, temperature)):
        said = softmax(row)
        positives = [j for j in range(7) if targets[j] == targets[clip]]
        expected -= sum(math.log(said[j]) for j in positives) / len(positives) / 7
    found = float(class_contrast(audio, visual, torch.tensor(targets), temperature))
    assert found == pytest.approx(expected, rel=1e-9)


def test_clips_of_classes_of_their_own_make_both_contrasts_one() -> None:
    audio, visual = draw(5, 4), draw(5, 4, seed=1)
    one, other = instance_contrast(audio, visual, 0.1), class_contrast(audio, visual, torch.arange(5) * 3, 0.1)
    assert float(one) == pytest.approx(float(other), rel=1e-12)


def test_a_clip_alone_has_nothing_to_contrast_with() -> None:
    audio, visual = draw(1, 4), draw(1, 4, seed=1)
    assert float(instance_contrast(audio, visual, 0.05)) == 0
    assert float(class_contrast(audio, visual, torch.tensor([3]), 0.05)) == 0


@given(st.floats(0.05, 2))
def test_contrasts_of_sound_and_picture_that_agree(temperature: float) -> None:
    """n vectors at right angles: log(1 + (n - 1) e^{-1/t}) for its own; the other n - 1 of its class lie 1/t lower."""
    vectors = torch.eye(4, dtype=torch.float64)
    rest = math.log(1 + 3 * math.exp(-1 / temperature))
    assert float(instance_contrast(vectors, vectors * 5, temperature)) == pytest.approx(rest, rel=1e-9, abs=1e-12)
    alike = float(class_contrast(vectors, vectors * 5, torch.zeros(4, dtype=torch.long), temperature))
    assert alike == pytest.approx(rest + 0.75 / temperature, rel=1e-9)


# ---- proxies: neighbourhood component analysis ----------------------------------------------------------------------


def naive_nca(logits: Tensor, targets: list[int], scale: float, margin: float) -> float:
    total = 0.0
    for row, target in zip(logits.tolist(), targets, strict=True):
        rest = sum(math.exp(scale * y) for c, y in enumerate(row) if c != target)
        total += max(0.0, -math.log(math.exp(scale * (row[target] - margin)) / rest)) / len(targets)
    return total


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_nca_is_equation_10(scale: float) -> None:
    """The true class stands above the line alone, less the margin; the others below it, without."""
    logits, targets = draw(7, 4).tanh(), [0, 3, 1, 1, 2, 0, 3]
    logits[0] = torch.tensor([1.0, -1, -1, -1])  # So sure that nothing is left to ask: below zero, but for the clamp.
    found = float(nca(logits, torch.tensor(targets), torch.tensor(scale).double()))
    assert found == pytest.approx(naive_nca(logits, targets, scale, 0.6), rel=1e-9)
    if scale == 5:
        sure = float(nca(logits[:1], torch.tensor(targets[:1]), torch.tensor(scale).double()))
        assert sure == 0
    other = float(nca(logits, torch.tensor(targets), torch.tensor(scale).double(), margin=0.1))
    assert other == pytest.approx(naive_nca(logits, targets, scale, 0.1), rel=1e-9)


def test_the_margin_costs_the_scale_times_itself() -> None:
    """Taken off every class, as AV-CIL's code does, it would cost nothing."""
    logits, targets, scale = draw(5, 4).tanh() / 10, torch.tensor([0, 3, 1, 1, 2]), torch.tensor(3.0).double()
    none, some = (float(nca(logits, targets, scale, margin)) for margin in (0.0, 0.25))
    assert some - none == pytest.approx(0.75, rel=1e-9)


def test_a_clip_that_is_right_by_more_than_the_margin_pulls_at_nothing() -> None:
    logits = torch.tensor([[1.0, -1.0], [0.1, 0.0]], dtype=torch.float64, requires_grad=True)
    nca(logits, torch.tensor([0, 0]), torch.tensor(5.0).double()).backward()
    assert logits.grad is not None
    assert logits.grad.any(1).tolist() == [False, True]


def test_a_single_class_has_nothing_to_be_told_from() -> None:
    logits = draw(4, 1).requires_grad_()
    loss = nca(logits, torch.zeros(4, dtype=torch.long), torch.tensor(1.0).double())
    assert float(loss.detach()) == 0
    with torch.autograd.set_detect_anomaly(True):  # Nor is anything NaN on the way.
        loss.backward()
    assert torch.equal(logits.grad, torch.zeros(4, 1, dtype=torch.float64))  # type: ignore[arg-type]


def test_two_classes_are_told_apart_even_by_one_clip() -> None:
    logits = torch.tensor([[0.25, 0.75]], dtype=torch.float64)
    found = float(nca(logits, torch.tensor([0]), torch.tensor(2.0).double(), margin=0.5))
    assert found == pytest.approx(2 * (0.75 - (0.25 - 0.5)))


# ---- distillation of logits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 2.0, 3.5])
def test_logit_distillation_is_its_formula(temperature: float) -> None:
    student, teacher = draw(5, 6), draw(5, 6, seed=1)
    expected = 0.0
    for block in ([0, 1], [2], [3, 4, 5]):
        for clip in range(5):
            p = softmax([float(teacher[clip, c]) / temperature for c in block])
            q = softmax([float(student[clip, c]) / temperature for c in block])
            expected += temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / 5
    found = float(logit_distillation(student, teacher, BLOCKS, temperature))
    assert found == pytest.approx(expected, rel=1e-10)


@given(st.lists(st.floats(-20, 20), min_size=3, max_size=3), st.floats(0.5, 5))
def test_it_is_zero_where_each_session_is_told_apart_as_before(shifts: list[float], temperature: float) -> None:
    """A shift of a whole session's logits changes nothing within it: what it may learn is the balance between them."""
    teacher = draw(4, 6)
    student = teacher + torch.tensor(shifts, dtype=torch.float64)[BLOCKS]
    assert float(logit_distillation(student, teacher, BLOCKS, temperature)) == pytest.approx(0, abs=1e-9)


@given(st.integers(0, 10_000))
def test_it_is_never_negative(seed: int) -> None:
    assert float(logit_distillation(draw(3, 6, seed=seed), draw(3, 6, seed=seed + 1), BLOCKS, 2.0)) >= 0


def test_at_high_temperature_it_is_half_the_squared_difference_of_centred_logits() -> None:
    """Hinton et al. (arXiv 1503.02531, sec. 2.1): why T^2 stands before it. Per class, of a session of n classes."""
    student, teacher = draw(5, 4), draw(5, 4, seed=1)
    one_block = torch.zeros(4, dtype=torch.long)
    gap = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    expected = float(gap.square().sum(1).mean()) / 4 / 2
    assert float(logit_distillation(student, teacher, one_block, 1e4)) == pytest.approx(expected, rel=1e-3)


def test_the_order_of_classes_and_the_names_of_sessions_do_not_matter() -> None:
    student, teacher = draw(5, 6), draw(5, 6, seed=1)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    one = logit_distillation(student, teacher, BLOCKS, 2.0)
    other = logit_distillation(student[:, order], teacher[:, order], (BLOCKS * 7 + 3)[order], 2.0)
    assert float(one) == pytest.approx(float(other), rel=1e-12)


def test_no_former_classes_no_loss() -> None:
    nothing = torch.zeros(3, 0, dtype=torch.float64)
    assert float(logit_distillation(nothing, nothing, torch.zeros(0, dtype=torch.long), 2.0)) == 0


# ---- distillation of features ---------------------------------------------------------------------------------------


def test_feature_distillation_is_one_minus_the_cosine() -> None:
    student, teacher = draw(4, 3), draw(4, 3, seed=1)
    there = torch.tensor([True, False, True, True])
    expected = 0.0
    for clip in (0, 2, 3):
        s, t = student[clip].tolist(), teacher[clip].tolist()
        cosine = sum(a * b for a, b in zip(s, t, strict=True)) / math.hypot(*s) / math.hypot(*t)
        expected += (1 - cosine) / 3
    assert float(feature_distillation(student, teacher, there)) == pytest.approx(expected, rel=1e-12)


@given(st.floats(0.01, 100))
def test_lengths_do_not_matter(factor: float) -> None:
    student, there = draw(4, 3), torch.ones(4, dtype=torch.bool)
    assert float(feature_distillation(student * factor, student, there)) == pytest.approx(0, abs=1e-9)
    assert float(feature_distillation(-student * factor, student, there)) == pytest.approx(2, abs=1e-9)


def test_no_clip_has_the_feature() -> None:
    student = draw(4, 3).requires_grad_()
    loss = feature_distillation(student, draw(4, 3, seed=1), torch.zeros(4, dtype=torch.bool))
    assert float(loss.detach()) == 0
    (loss + student.sum()).backward()  # It stands in a sum that is differentiated.
    assert torch.equal(student.grad, torch.ones(4, 3, dtype=torch.float64))  # type: ignore[arg-type]


def test_a_clip_without_the_feature_gets_no_gradient() -> None:
    student = draw(4, 3)
    student[1] = 0
    student.requires_grad_()
    feature_distillation(student, draw(4, 3, seed=1), torch.tensor([True, False, True, True])).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert student.grad.any(1).tolist() == [True, False, True, True]


# ---- distillation by importance -------------------------------------------------------------------------------------


def test_importance_distillation_is_equation_9() -> None:
    student, teacher, importance = draw(5, 3), draw(5, 3, seed=1), draw(5, seed=2).abs()
    expected = 0.0
    for clip in range(5):
        s, t = student[clip].tolist(), teacher[clip].tolist()
        gap = math.hypot(*(a / math.hypot(*s) - b / math.hypot(*t) for a, b in zip(s, t, strict=True)))
        expected += float(importance[clip]) * gap / 5
    assert float(importance_distillation(student, teacher, importance)) == pytest.approx(expected, rel=1e-9)


@given(st.floats(0.01, 100))
def test_a_student_that_points_where_the_teacher_does_is_left_alone(factor: float) -> None:
    """No gradient, though the norm has none there; the opposite direction is as far as can be, two."""
    teacher, importance = draw(4, 3), torch.full((4,), 2.0, dtype=torch.float64)
    student = teacher.clone().requires_grad_()
    loss = importance_distillation(student, teacher, importance)
    loss.backward()
    assert student.grad is not None
    assert not student.grad.any()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-5)
    assert float(importance_distillation(teacher * factor, teacher, importance)) == pytest.approx(0, abs=1e-5)
    assert float(importance_distillation(-teacher * factor, teacher, importance)) == pytest.approx(4, rel=1e-9)


def test_what_is_of_no_importance_or_was_never_there_pulls_at_nothing() -> None:
    student, teacher = draw(4, 3), draw(4, 3, seed=1)
    student[1] = teacher[1] = 0  # A sound that nobody heard.
    student.requires_grad_()
    importance_distillation(student, teacher, torch.tensor([1.0, 1.0, 0.0, 0.5]).double()).backward()
    assert student.grad is not None
    assert student.grad.any(1).tolist() == [True, False, False, True]


# ---- gradients ------------------------------------------------------------------------------------------------------


FOUR = torch.tensor([0, 3, 1, 1])
LOSSES: dict[str, tuple[Callable[..., Tensor], tuple[tuple[int, ...], ...]]] = {
    # name: (the loss of what is differentiated, the sizes of that)
    "balanced_cross_entropy": (
        lambda x: balanced_cross_entropy(x, FOUR, torch.tensor([6.0, 48, 1, 3]).double()),
        ((4, 4),),
    ),
    "separated_cross_entropy": (lambda x: separated_cross_entropy(x, SPLIT, NEW), ((7, 5),)),
    "sigmoid_distillation": (lambda x: sigmoid_distillation(x, FOUR, draw(4, 2, seed=1)), ((4, 5),)),
    "instance_contrast": (lambda a, v: instance_contrast(a, v, 0.3), ((4, 3), (4, 3))),
    "class_contrast": (lambda a, v: class_contrast(a, v, FOUR, 0.3), ((4, 3), (4, 3))),
    "nca": (lambda x, scale: nca(x.tanh() / 2, FOUR, scale), ((4, 4), ())),
    "importance_distillation": (
        lambda x: importance_distillation(x, draw(4, 5, seed=1), draw(4, seed=2).abs()),
        ((4, 5),),
    ),
    "logit_distillation": (lambda x: logit_distillation(x, draw(4, 6, seed=1), BLOCKS, 2.0), ((4, 6),)),
    "feature_distillation": (
        lambda x: feature_distillation(x, draw(4, 5, seed=1), torch.tensor([True, False, True, True])),
        ((4, 5),),
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_against_finite_differences(name: str) -> None:
    loss, sizes = LOSSES[name]
    asked = tuple(draw(*size, seed=3 + i).requires_grad_() for i, size in enumerate(sizes))
    assert gradcheck(loss, asked)
    assert all(slope.any() for slope in torch.autograd.grad(loss(*asked), asked))


def test_every_loss_is_among_them() -> None:
    own = {name for name, f in vars(distill).items() if inspect.isfunction(f) and f.__module__ == distill.__name__}
    assert own - {"class_counts"} == LOSSES.keys()
