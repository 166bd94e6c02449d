"""The losses against their formulas, their gradients against finite differences, and what they are for."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from harkback.distill import balanced_cross_entropy, class_counts, feature_distillation, logit_distillation

BLOCKS = torch.tensor([0, 0, 1, 2, 2, 2])


def draw(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


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


# ---- gradients ------------------------------------------------------------------------------------------------------


def test_gradients_against_finite_differences() -> None:
    targets, counts = torch.tensor([0, 3, 1, 1]), torch.tensor([6.0, 48, 1, 3], dtype=torch.float64)
    there = torch.tensor([True, False, True, True])
    assert gradcheck(lambda x: balanced_cross_entropy(x, targets, counts), draw(4, 4).requires_grad_())
    assert gradcheck(lambda x: logit_distillation(x, draw(4, 6, seed=1), BLOCKS, 2.0), draw(4, 6).requires_grad_())
    assert gradcheck(lambda x: feature_distillation(x, draw(4, 5, seed=1), there), draw(4, 5).requires_grad_())
