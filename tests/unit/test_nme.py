"""The nearest mean of exemplars: by brute force, over sessions, and through a file."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor

from harkback.nme import NearestMean

TARGETS = torch.tensor([0, 2, 1, 0, 2, 2, 1, 0])


def draw(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def unit(vector: list[float]) -> list[float]:
    length = math.hypot(*vector)
    return [x / length for x in vector]


def mean_of(vectors: Tensor, targets: Tensor, target: int) -> list[float]:
    """iCaRL's mu: the mean of the unit vectors of a class, brought to unit length."""
    mine = [unit(v) for v, t in zip(vectors.tolist(), targets.tolist(), strict=True) if t == target]
    return unit([sum(column) / len(mine) for column in zip(*mine, strict=True)])


def made(vectors: Tensor, targets: Tensor, classes: int) -> NearestMean:
    nearest = NearestMean()
    nearest.update(vectors, targets, classes)
    return nearest


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_minus_the_squared_distances_to_the_means(seed: int) -> None:
    vectors, asked = draw(8, 4, seed=seed), draw(5, 4, seed=seed + 10) * 7
    said = made(vectors, TARGETS, 3).scores(asked)
    assert said.shape == (5, 3)
    for n, vector in enumerate(asked.tolist()):
        for c in range(3):
            mean = mean_of(vectors, TARGETS, c)
            expected = -sum((a - b) ** 2 for a, b in zip(unit(vector), mean, strict=True))
            assert float(said[n, c]) == pytest.approx(expected, rel=1e-4, abs=1e-6)


@given(st.integers(0, 10_000))
def test_the_nearest_by_distance_is_the_nearest_by_angle(seed: int) -> None:
    """|x - mu|^2 = 2 - 2 cos for vectors of unit length."""
    nearest, asked = made(draw(8, 4, seed=seed), TARGETS, 3), draw(6, 4, seed=seed + 1)
    cosines = torch.nn.functional.cosine_similarity(asked[:, None], nearest.means, dim=2)
    torch.testing.assert_close(nearest.scores(asked), 2 * cosines - 2, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(nearest.means.norm(dim=1), torch.ones(3))


def test_lengths_and_order_of_the_exemplars_do_not_matter() -> None:
    vectors, order = draw(8, 4), torch.tensor([5, 0, 7, 2, 1, 6, 4, 3])
    one = made(vectors, TARGETS, 3)
    other = made((vectors * draw(8, 1, seed=1).exp())[order], TARGETS[order], 3)
    torch.testing.assert_close(one.means, other.means)


def test_a_single_exemplar_is_its_class() -> None:
    nearest = made(torch.tensor([[3.0, 4.0], [0.0, -2.0]]), torch.tensor([0, 1]), 2)
    torch.testing.assert_close(nearest.means, torch.tensor([[0.6, 0.8], [0.0, -1.0]]))
    assert nearest.scores(torch.tensor([[30.0, 40.0]]))[0].tolist() == pytest.approx([0, -(0.36 + 1.8**2)], abs=1e-5)


def test_a_class_without_an_exemplar_keeps_the_mean_it_had() -> None:
    nearest, now = made(draw(8, 4), TARGETS, 3), draw(4, 4, seed=5)
    before = nearest.means.clone()
    nearest.update(now, torch.tensor([3, 1, 4, 1]), 5)
    assert nearest.means.shape == (5, 4)
    assert torch.equal(nearest.means[[0, 2]], before[[0, 2]])
    for target in (1, 3, 4):
        expected = torch.tensor(mean_of(now, torch.tensor([3, 1, 4, 1]), target))
        torch.testing.assert_close(nearest.means[target], expected, rtol=1e-4, atol=1e-5)
    kept = nearest.means.clone()
    nearest.update(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), 5)
    assert torch.equal(nearest.means, kept)


def test_it_comes_back_from_its_state() -> None:
    nearest, other = made(draw(8, 4), TARGETS, 3), NearestMean()
    other.restore(load(save(nearest.state())))
    assert torch.equal(nearest.scores(draw(5, 4, seed=2)), other.scores(draw(5, 4, seed=2)))
    before = nearest.means.clone()
    state = nearest.state()
    other.restore(state)
    other.means += 1  # What was restored is its own.
    assert torch.equal(state["means"], before)
    other.restore(NearestMean().state())
    assert other.means.shape == (0, 0)
