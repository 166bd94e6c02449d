"""Bags of tokens against plain loops, and blocks of columns that weigh what they should."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from harkback.bags import SPREAD, Bag
from harkback.blocks import Block, scales
from harkback.lift import projection
from harkback.standard import Standard

DIM, TOKENS = 5, 6


def tokens(clips: int, seed: int = 0) -> Tensor:
    return torch.randn(clips, TOKENS, DIM, generator=torch.Generator().manual_seed(seed))


def bag(features: int = 8, seed: int = 3) -> Bag:
    made, standard = Bag(features, torch.tensor(seed)), Standard(DIM)
    flat = (tokens(30, 9) * 4 + 2).flatten(0, 1).double()
    standard.measure(flat.sum(0), flat.square().sum(0), len(flat))
    made.measure(standard)
    return made


def by_loops(clip: list[list[float]], features: int, seed: int) -> list[float]:
    """Means of the tokens; means, then deviations over the tokens, of the random features."""
    drawn = projection(seed, DIM + 1, features).tolist()
    lifted = []
    for token in clip:
        projected = [sum(t * drawn[i][f] for i, t in enumerate(token)) / math.sqrt(DIM) for f in range(features)]
        lifted.append([max(p + SPREAD * drawn[DIM][f], 0.0) for f, p in enumerate(projected)])
    means = [sum(token[i] for token in clip) / len(clip) for i in range(DIM)]
    lifts = [sum(token[f] for token in lifted) / len(clip) for f in range(features)]
    deviations = [math.sqrt(sum((token[f] - lifts[f]) ** 2 for token in lifted) / len(clip)) for f in range(features)]
    return means + lifts + deviations


@pytest.mark.parametrize("features", [8, 1, 0])
def test_a_bag_is_what_loops_over_its_tokens_make_of_it(features: int) -> None:
    clips = tokens(4)
    raw = bag(features).raw(clips)
    assert raw.shape == (4, bag(features).columns) == (4, DIM + 2 * features) and raw.dtype == torch.float64
    np.testing.assert_allclose(raw, [by_loops(clip, features, 3) for clip in clips.tolist()], rtol=1e-5, atol=1e-6)


def test_a_bag_knows_no_order_and_no_number_of_tokens() -> None:
    clips, made = tokens(4), bag()
    torch.testing.assert_close(made.raw(clips[:, [3, 1, 5, 0, 2, 4]]), made.raw(clips), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(made.raw(clips.repeat(1, 3, 1)), made.raw(clips), rtol=1e-5, atol=1e-6)


def test_what_never_differs_has_no_deviation_and_what_hardly_does_its_own() -> None:
    """Sums of squares less squared sums would leave rounding behind, of the size of the mean."""
    made, same = bag(), tokens(4)[:, :1] + 100
    assert not made.raw(same.expand(4, TOKENS, DIM))[:, DIM + 8 :].abs().max() > 1e-4
    assert not made.raw(same)[:, DIM + 8 :].any()
    moved = same + 1e-2 * tokens(4, 1)
    np.testing.assert_allclose(made.raw(moved), [by_loops(clip, 8, 3) for clip in moved.tolist()], rtol=2e-3)


def test_features_are_a_function_of_the_seed() -> None:
    clips = tokens(4)
    raw = [bag(seed=seed).raw(clips) for seed in (3, 3, 4)]
    assert torch.equal(raw[0], raw[1])
    assert torch.equal(raw[0][:, :DIM], raw[2][:, :DIM])  # No plain mean is random.
    assert ((raw[0] - raw[2])[:, DIM:].abs().amax(0) > 1e-3).all()


def test_tokens_are_standardised_by_what_was_measured() -> None:
    made, seen = bag(), tokens(30, 9) * 4 + 2
    standard = made.standard(seen).flatten(0, 1)
    np.testing.assert_allclose(standard.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(standard.std(0, correction=0), 1, rtol=1e-5)
    torch.testing.assert_close(made.standard(seen[:3].half()), made.standard(seen[:3]), rtol=1e-2, atol=1e-2)
    assert made.standard(seen.half()).dtype == torch.float32


def test_the_middle_is_taken_once_from_those_that_have_any_tokens() -> None:
    made, raw = bag(), bag().raw(tokens(6))
    there = torch.tensor([True, False, True, True, False, True])
    made.fix(raw, torch.zeros(6, dtype=torch.bool))
    assert not len(made.middle)
    made.fix(raw, there)
    expected = np.mean([raw[i].numpy() for i in (0, 2, 3, 5)], axis=0)
    np.testing.assert_allclose(made.middle, expected, rtol=1e-12)
    made.fix(raw + 100, there)
    np.testing.assert_allclose(made.middle, expected, rtol=1e-12)


@pytest.mark.parametrize("features", [8, 0])
def test_what_is_missing_is_zero_with_flag_zero_and_the_rest_is_centred(features: int) -> None:
    made = bag(features)
    raw, there = made.raw(tokens(6)), torch.tensor([True, False, True, True, False, True])
    made.fix(raw, there)
    vector = made.vector(raw, there)
    assert vector.shape == (6, DIM + 2 * features + 1)
    assert not vector[~there].any()
    assert vector[there, -1].tolist() == [1] * 4
    torch.testing.assert_close(vector[there, :-1] + made.middle, raw[there])
    np.testing.assert_allclose(vector[:, :-1].sum(0), 0, atol=1e-10)


def test_before_any_tokens_were_met_a_vector_says_nothing_but_that_there_are_some() -> None:
    there = torch.tensor([True, False])
    vector = bag().vector(bag().raw(tokens(2)), there)
    assert not vector[:, :-1].any() and vector[:, -1].tolist() == [1, 0]


@pytest.mark.parametrize("features", [8, 0])
def test_blocks_are_all_columns_of_the_vector(features: int) -> None:
    made = bag(features)
    blocks = made.blocks()
    assert [block.columns for block in blocks] == [DIM, features, features, 1]
    assert sum(block.columns for block in blocks) == made.vector(made.raw(tokens(2)), torch.ones(2).bool()).shape[1]
    assert [block.weight for block in blocks] == [0.3, 0.5, 0.5, 0.01]
    assert [block.weight for block in made.blocks(0.1)] == pytest.approx([0.03, 0.05, 0.05, 0.01])
    assert [block.moves for block in made.blocks()] == [False] * 4
    assert [block.moves for block in made.blocks(moves=True)] == [True, True, True, False]  # Not whether it is there.


def test_a_restored_bag_is_the_same() -> None:
    made, other = bag(), Bag(8, torch.tensor(0))
    raw, there = made.raw(tokens(6)), torch.ones(6, dtype=torch.bool)
    made.fix(raw, there)
    other.restore(made.state())
    clips = made.standard(tokens(3, 2))
    assert torch.equal(other.standard(tokens(3, 2)), clips)
    assert torch.equal(other.vector(other.raw(clips), there[:3]), made.vector(made.raw(clips), there[:3]))


# ---- blocks ---------------------------------------------------------------------------------------------------------


def test_scaled_variances_of_a_block_add_up_to_its_weight_and_keep_their_proportions() -> None:
    x = np.random.default_rng(0).standard_normal((50, 6)) * [1, 2, 3, 1e-3, 1e3, 5]
    blocks = [Block(3, 0.3), Block(2, 0.5), Block(1, 0.01)]
    scale = scales(torch.from_numpy(x.var(0)), blocks).numpy()
    variance, start = (x * scale).var(0), 0
    for columns, weight, _ in blocks:
        mine = slice(start, start + columns)
        assert variance[mine].sum() == pytest.approx(weight, rel=1e-10)
        np.testing.assert_allclose(variance[mine] / weight, x.var(0)[mine] / x.var(0)[mine].sum(), rtol=1e-10)
        start += columns


def test_a_block_that_never_moved_is_left_out_and_rounding_is_no_movement() -> None:
    variance = torch.tensor([0, 0, 1e-17, -1e-17, 4, -1e-16], dtype=torch.float64)
    scale = scales(variance, [Block(2, 0.3), Block(2, 0.5), Block(0, 7.0), Block(2, 1.0)])
    assert scale.tolist() == [0, 0, 0, 0, 0.5, 0.5]
