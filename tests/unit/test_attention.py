"""Guided attention against its definition, written out loop by loop with every patch projected."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fakes import SHAPE
from harkback.attention import GuidedAttention, Looked, alignment
from harkback.standard import Standard

WIDTH, HEADS, KEY = 6, 3, 4


def attention(seed: int = 0) -> GuidedAttention:
    module = GuidedAttention(SHAPE, WIDTH, HEADS, KEY, torch.Generator().manual_seed(seed)).double()
    some = torch.Generator().manual_seed(seed + 1)
    for bias in (module.where.bias, module.when.bias):  # They begin at zero, which would hide them from the test.
        torch.nn.init.normal_(bias, generator=some)
    return module


def inputs(clips: int = 2, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Standard]:
    some = torch.Generator().manual_seed(seed)
    draw = lambda *size: torch.randn(*size, generator=some, dtype=torch.float64)  # noqa: E731
    standard = Standard(SHAPE.visual_dim).double()
    standard.mean, standard.scale = draw(SHAPE.visual_dim), draw(SHAPE.visual_dim).abs() + 0.3
    visual = draw(clips, SHAPE.frames, SHAPE.patches, SHAPE.visual_dim) * 2 + 1
    return draw(clips, SHAPE.frames, WIDTH), draw(clips, WIDTH), visual, standard


def softmax(scores: list[float]) -> list[float]:
    powers = [math.exp(score - max(scores)) for score in scores]
    return [power / sum(powers) for power in powers]


def by_definition(module: GuidedAttention, at_frame: Tensor, whole: Tensor, visual: Tensor, how: Standard) -> Looked:
    clips, frames, patches, dim = visual.shape
    vectors = torch.zeros(clips, HEADS, dim, dtype=torch.float64)
    plain = ((visual - how.mean) / how.scale).mean((1, 2))
    spatial = torch.zeros(clips, HEADS, frames, patches, dtype=torch.float64)
    temporal = torch.zeros(clips, HEADS, frames, dtype=torch.float64)
    for n in range(clips):
        for h in range(HEADS):
            part = slice(h * KEY, (h + 1) * KEY)
            seen = []
            for t in range(frames):
                query = module.where.weight[part] @ at_frame[n, t] + module.where.bias[part]
                standard = [(visual[n, t, p] - how.mean) / how.scale for p in range(patches)]
                scores = [float(query @ (module.where_keys[h] @ v)) / math.sqrt(KEY) for v in standard]
                weights = softmax(scores)
                spatial[n, h, t] = torch.tensor(weights, dtype=torch.float64)
                seen.append(sum(w * v for w, v in zip(weights, standard, strict=True)))
            query = module.when.weight[part] @ whole[n] + module.when.bias[part]
            weights = softmax([float(query @ (module.when_keys[h] @ v)) / math.sqrt(KEY) for v in seen])
            temporal[n, h] = torch.tensor(weights, dtype=torch.float64)
            vectors[n, h] = sum(w * v for w, v in zip(weights, seen, strict=True))
    return Looked(vectors, plain, spatial, temporal)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_is_what_its_definition_says(seed: int) -> None:
    module, given_ = attention(seed), inputs(seed=seed)
    with torch.no_grad():
        for one, other in zip(module(*given_), by_definition(module, *given_), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_weights_and_heat_sum_to_one() -> None:
    looked = attention()(*inputs(5))
    ones = torch.ones((), dtype=torch.float64)
    torch.testing.assert_close(looked.spatial.sum(-1), ones.expand(5, HEADS, SHAPE.frames))
    torch.testing.assert_close(looked.temporal.sum(-1), ones.expand(5, HEADS))
    torch.testing.assert_close(looked.heat().sum((1, 2)), ones.expand(5))


def test_heat_is_the_mean_over_heads_of_when_times_where() -> None:
    with torch.no_grad():
        looked = attention()(*inputs(2))
    for n in range(2):
        for t in range(SHAPE.frames):
            for p in range(SHAPE.patches):
                each = [float(looked.temporal[n, h, t] * looked.spatial[n, h, t, p]) for h in range(HEADS)]
                assert float(looked.heat()[n, t, p]) == pytest.approx(sum(each) / HEADS)


def test_a_head_that_looks_for_a_patch_finds_it() -> None:
    """The patch that the key matches takes the look, in the frame that has it."""
    module = attention()
    visual = torch.zeros(1, SHAPE.frames, SHAPE.patches, SHAPE.visual_dim, dtype=torch.float64)
    with torch.no_grad():
        for linear, keys in ((module.where, module.where_keys), (module.when, module.when_keys)):
            linear.weight.zero_()
            linear.bias.fill_(20.0)
            keys.zero_()
            keys[:, :, 2] = 1.0  # every head asks for dimension 2
        visual[0, 1, 3, 2] = 5.0
        looked = module(
            torch.zeros(1, SHAPE.frames, WIDTH, dtype=torch.float64), torch.zeros(1, WIDTH, dtype=torch.float64),
            visual, Standard(SHAPE.visual_dim).double(),
        )  # fmt: skip
    assert looked.heat()[0, 1, 3] > 0.99


def test_gradients_are_right_and_none_is_needed_for_the_tokens() -> None:
    module = attention()
    at_frame, whole, visual, how = inputs(1)
    at_frame.requires_grad_()
    whole.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, w: module(a, w, visual, how).vectors, (at_frame, whole))
    module(at_frame, whole, visual, how).vectors.square().sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in module.parameters())


def test_a_sound_that_is_the_same_for_all_frames_needs_to_be_said_but_once() -> None:
    module, (at_frame, whole, visual, how) = attention(), inputs()
    once, every = at_frame[:, :1], at_frame[:, :1].expand(-1, SHAPE.frames, -1)
    for one, other in zip(module(once, whole, visual, how), module(every, whole, visual, how), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_the_order_of_the_patches_does_not_matter() -> None:
    module, (at_frame, whole, visual, how) = attention(), inputs()
    order = torch.tensor([2, 0, 3, 1])
    one, other = (module(at_frame, whole, x, how) for x in (visual, visual[:, :, order]))
    torch.testing.assert_close(one.vectors, other.vectors)
    torch.testing.assert_close(one.spatial[..., order], other.spatial)


def test_only_the_given_generator_is_drawn_from() -> None:
    before = torch.get_rng_state()
    attention()
    assert torch.equal(before, torch.get_rng_state())


def test_the_generator_decides_the_weights() -> None:
    def weights(seed: int) -> Tensor:
        module = GuidedAttention(SHAPE, WIDTH, HEADS, KEY, torch.Generator().manual_seed(seed))
        return torch.cat([weight.detach().flatten() for weight in module.parameters()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


# ---- alignment ------------------------------------------------------------------------------------------------------


def triangle(frames: int, tokens: int) -> list[list[float]]:
    """Height 1 at the frame's instant, 0 one step away, where a step is the coarser grid's."""
    rows = []
    for t in range(frames):
        instant = (t + 0.5) / frames
        step = 1 / min(frames, tokens)
        heights = [max(0.0, 1 - abs((i + 0.5) / tokens - instant) / step) for i in range(tokens)]
        rows.append([height / sum(heights) for height in heights])
    return rows


@given(st.integers(1, 12), st.integers(1, 40))
def test_alignment_is_a_triangle_and_its_rows_sum_to_one(frames: int, tokens: int) -> None:
    weights = alignment(frames, tokens)
    assert weights.shape == (frames, tokens)
    assert weights.isfinite().all()
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(frames))
    torch.testing.assert_close(weights, torch.tensor(triangle(frames, tokens)), rtol=1e-4, atol=1e-5)


@given(st.integers(1, 12), st.integers(1, 40))
def test_alignment_is_the_same_backwards(frames: int, tokens: int) -> None:
    weights = alignment(frames, tokens)
    torch.testing.assert_close(weights, weights.flip(0, 1), rtol=1e-4, atol=1e-5)


def test_equal_grids_meet_one_to_one() -> None:
    torch.testing.assert_close(alignment(5, 5), torch.eye(5), rtol=0, atol=1e-5)


def test_by_hand() -> None:
    # Two frames at 1/4 and 3/4, four tokens at 1/8, 3/8, 5/8, 7/8, a reach of 1/2: heights 3/4, 3/4, 1/4, 0.
    expected = torch.tensor([[3.0, 3, 1, 0], [0, 1, 3, 3]]) / 7
    torch.testing.assert_close(alignment(2, 4), expected)
