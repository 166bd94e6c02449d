"""The heads: what a row or a set of proxies says of a vector, and how both grow."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from harkback.heads import PROXIES, Head, ProxyHead


def draw(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def grown(kind: type[Head | ProxyHead], classes: int, width: int, seed: int = 0) -> Head | ProxyHead:
    head = kind(width)
    head.grow(classes, torch.Generator().manual_seed(seed))
    return head


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / math.hypot(*one) / math.hypot(*other)


def by_definition(x: Tensor, proxies: Tensor) -> list[list[float]]:
    """PODNet eq. (8) and (9): cosines to the proxies of a class, weighed by their own softmax."""
    said = []
    for vector in x.tolist():
        row = []
        for mine in proxies.tolist():
            likeness = [cosine(vector, proxy) for proxy in mine]
            powers = [math.exp(each) for each in likeness]
            row.append(sum(p / sum(powers) * each for p, each in zip(powers, likeness, strict=True)))
        said.append(row)
    return said


def test_a_head_is_linear() -> None:
    head, x = grown(Head, 3, 4).double(), draw(5, 4)
    with torch.no_grad():
        head.bias.copy_(draw(3, seed=1))
        said = head(x).tolist()
    weight, bias = head.weight.tolist(), head.bias.tolist()
    for n, vector in enumerate(x.tolist()):
        for c in range(3):
            expected = sum(w * v for w, v in zip(weight[c], vector, strict=True)) + bias[c]
            assert said[n][c] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("classes", "width"), [(1, 1), (3, 4), (2, 7)])
def test_proxies_are_compared_by_cosine_and_weighed_by_their_softmax(classes: int, width: int) -> None:
    head, x = grown(ProxyHead, classes, width).double(), draw(5, width)
    assert head.weight.shape == (classes, PROXIES, width)
    torch.testing.assert_close(head(x).detach(), torch.tensor(by_definition(x, head.weight), dtype=torch.float64))


@given(st.integers(0, 10_000), st.floats(1e-3, 1e3))
def test_what_proxies_say_lies_between_the_least_and_the_greatest_cosine(seed: int, size: float) -> None:
    """So in [-1, 1], whatever the lengths; and above the plain mean, as the softmax favours the nearest proxy."""
    head, x = grown(ProxyHead, 4, 5, seed).double(), draw(6, 5, seed=seed + 1) * size
    with torch.no_grad():
        head.weight *= draw(4, PROXIES, 1, seed=seed + 2).exp()
    said = head(x).detach()
    cosines = torch.tensor([[[cosine(v, p) for p in mine] for mine in head.weight.tolist()] for v in x.tolist()])
    assert (said.abs() <= 1 + 1e-9).all()
    assert (said <= cosines.amax(2) + 1e-6).all()
    assert (said >= cosines.mean(2) - 1e-6).all()


def test_the_bounds_are_reached_where_all_proxies_lie_along_the_vector() -> None:
    head, x = grown(ProxyHead, 2, 3).double(), draw(1, 3)
    with torch.no_grad():
        head.weight.copy_(torch.stack([x.expand(PROXIES, 3), -2 * x.expand(PROXIES, 3)]))
    assert head(x)[0].tolist() == pytest.approx([1, -1])


def test_lengths_say_nothing_and_a_vector_of_zeros_is_like_no_class() -> None:
    head, x = grown(ProxyHead, 3, 4).double(), draw(5, 4)
    torch.testing.assert_close(head(x), head(x * draw(5, 1, seed=3).abs()))
    nothing = torch.zeros(2, 4, dtype=torch.float64, requires_grad=True)
    said = head(nothing)
    assert not said.any()
    said.sum().backward()
    assert nothing.grad is not None
    assert nothing.grad.isfinite().all()


def test_gradients_of_proxies_against_finite_differences() -> None:
    head = grown(ProxyHead, 2, 3).double()
    weight = head.weight.detach().clone().requires_grad_()
    assert gradcheck(
        lambda x, w: torch.func.functional_call(head, {"weight": w}, (x,)), (draw(3, 3).requires_grad_(), weight)
    )


@pytest.mark.parametrize("kind", [Head, ProxyHead])
def test_a_head_grows_at_its_end_and_says_of_former_classes_what_it_said(kind: type[Head | ProxyHead]) -> None:
    some = torch.Generator().manual_seed(0)
    head, x = kind(4), torch.randn(5, 4, generator=some)
    assert head(x).shape == (5, 0)
    head.grow(2, some)
    with torch.no_grad():
        for weight in head.parameters():
            weight += 0.5
    before = head(x)
    head.grow(5, some)
    after = head(x)
    assert after.shape == (5, 5)
    torch.testing.assert_close(after[:, :2], before)
    assert len(after[:, 2:].T.unique(dim=0)) == 3  # Not all alike.
    head.grow(5, some)
    torch.testing.assert_close(head(x), after)
    learnt = {name for name, weight in head.named_parameters() if weight.is_leaf and weight.requires_grad}
    assert learnt == {name for name, _ in head.named_parameters()} - {"held"}


def test_proxies_of_former_classes_are_fixed_and_those_of_new_ones_are_learnt() -> None:
    head, some = grown(ProxyHead, 2, 4), torch.Generator().manual_seed(1)
    assert isinstance(head, ProxyHead)
    former = head.proxies.detach().clone()
    head.grow(5, some)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    head(torch.randn(6, 4, generator=some)).square().sum().backward()
    fresh = head.proxies.detach()[2:].clone()
    optimizer.step()
    assert head.proxies.shape == (5, PROXIES, 4)
    assert torch.equal(head.proxies[:2], former)
    assert (head.proxies[2:] != fresh).flatten(1).any(1).all()
    head.grow(5, some)  # A session without a new class: all are former ones now.
    kept = head.proxies.detach().clone()
    assert not any(weight.numel() for name, weight in head.named_parameters() if name not in ("scale", "held"))
    assert sum(weight.numel() for weight in head.parameters()) == 5 * PROXIES * 4 + 1  # All are counted as fitted.
    assert torch.equal(head.proxies, kept)


@pytest.mark.parametrize("kind", [Head, ProxyHead])
def test_new_rows_are_the_generators(kind: type[Head | ProxyHead]) -> None:
    before = torch.get_rng_state()
    one, same, other = (grown(kind, 3, 4, seed).weight for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(before, torch.get_rng_state())


def test_the_scale_of_proxies_begins_at_one_and_is_learnt() -> None:
    head = grown(ProxyHead, 3, 4)
    assert head.scale.tolist() == 1
    assert "scale" in dict(head.named_parameters())
