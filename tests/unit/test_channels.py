"""AV-CIL's attention against its definition, one channel at a time; and the body that looks with it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from channel_reference import CLIPS, SHAPE, attention, by_loops, draw, inputs, standard
from fakes import random_features, without
from harkback import channel_attention, channels
from harkback.channel_attention import Look
from harkback.channel_teacher import Projection
from harkback.channels import ChannelAttention, ChannelBody
from harkback.features import TokenShape

SHAPES = [
    SHAPE,
    TokenShape(1, 2, 1, 5, 3),  # one frame
    TokenShape(1, 2, 4, 1, 3),  # one patch
    TokenShape(1, 1, 1, 1, 1),
    TokenShape(1, 5, 3, 2, 1),  # one channel
]


# ---- what it says ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("block", "chunk"), [(1, 1), (12, 30), (50, 50), (24, 1 << 19), (1 << 17, 1 << 19)])
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_what_its_definition_says(
    shape: TokenShape, block: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much is worked on at once: a part of a clip, one clip, some clips, all clips."""
    monkeypatch.setattr(channel_attention, "BLOCK", block)
    monkeypatch.setattr(channel_attention, "CHUNK", chunk)
    module, given_, how = attention(shape), inputs(shape), standard(shape)
    spatial, temporal, vectors = by_loops(module, *given_, how)
    looked = module(*given_, how)
    torch.testing.assert_close(looked.temporal, temporal, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(looked.vectors, vectors, rtol=1e-10, atol=1e-10)
    heat = (spatial * temporal[:, :, None]).mean(-1)
    torch.testing.assert_close(looked.heat(), heat.float(), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(looked.heat().sum((1, 2)), torch.ones(CLIPS))


@pytest.mark.parametrize("frames", [1, 2, 5, 6])
@pytest.mark.parametrize("block", [1, 11, 12, 13, 24, 36, 71, 72, 73, 143, 144, 500])  # a frame has 12 numbers
@pytest.mark.parametrize("chunk", [1, 100, 1000])
def test_a_unit_is_a_clip_or_an_equal_part_of_one_and_no_block_is_larger_than_asked(
    frames: int, block: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_attention, "BLOCK", block)
    monkeypatch.setattr(channel_attention, "CHUNK", chunk)
    tokens = torch.arange(7 * frames * 12.0).view(7, frames, 3, 4)
    look = Look(torch.zeros(7, 4), Projection(torch.eye(4), torch.zeros(4)), tokens, None)
    assert look.frames * look.parts == frames
    size = look.block * look.frames * 12
    assert size <= block or look.block * look.frames == 1
    assert look.chunk % look.block == 0
    assert look.chunk * look.frames * 12 <= chunk or look.chunk == look.block
    assert torch.equal(torch.cat([part.flatten() for part in look.tokens]), tokens.flatten())
    if block >= frames * 12:  # As many clips as fit.
        assert (look.block + 1) * frames * 12 > block


def test_units_of_the_tokens_do_not_matter() -> None:
    """Tokens measured in other units, and a standard that was measured on those, are looked at alike."""
    module, (heard, there, tokens), how = attention(), inputs(), standard()
    factor, shift = draw(4, seed=8).abs() + 0.1, draw(4, seed=9)
    other = standard()
    other.mean.copy_(how.mean * factor + shift)
    other.scale.copy_(how.scale * factor)
    one, two = module(heard, there, tokens, how), module(heard, there, tokens * factor + shift, other)
    torch.testing.assert_close(one.vectors, two.vectors)
    torch.testing.assert_close(one.heat(), two.heat())


def test_the_order_of_patches_does_not_matter_and_that_of_frames_only_for_when() -> None:
    module, (heard, there, tokens), how = attention(), inputs(), standard()
    one = module(heard, there, tokens, how)
    two = module(heard, there, tokens[:, [1, 0]][:, :, [2, 0, 1]], how)
    torch.testing.assert_close(one.vectors, two.vectors)
    torch.testing.assert_close(one.temporal[:, [1, 0]], two.temporal)
    torch.testing.assert_close(one.heat()[:, [1, 0]][:, :, [2, 0, 1]], two.heat())


def test_a_clip_without_sound_is_looked_at_evenly() -> None:
    module, (heard, _, tokens), how = attention(), inputs(), standard()
    looked = module(heard, torch.zeros(CLIPS, dtype=torch.bool), tokens, how)
    torch.testing.assert_close(looked.heat(), torch.full((CLIPS, 2, 3), 1 / 6))
    torch.testing.assert_close(looked.vectors, ((tokens - how.mean) / how.scale).mean((1, 2)))
    looked.vectors.square().sum().backward()
    for weight in module.parameters():  # Nothing there could be learnt of where to look.
        assert weight.grad is not None
        assert weight.grad.abs().max() < 1e-12


def test_no_patch_is_favoured_more_than_e_squared_times() -> None:
    """Scores lie in [-1, 1]: the bound holds however large weights and tokens are, and is reached."""
    module, (heard, there, tokens), how = attention(), inputs(), standard()
    with torch.no_grad():
        for weight in module.parameters():
            weight *= 1000
        heat = module(heard, there, tokens, how).heat()
    ratio = heat.amax(2) / heat.amin(2)
    assert (ratio <= math.e**2 * (1 + 1e-5)).all()
    assert ratio.max() > 2  # And they are not all alike.

    patches = 196
    extreme = -torch.ones(1, 1, patches, 1, dtype=torch.float64)
    extreme[0, 0, 17] = 1.0
    surely = Projection(torch.tensor([[50.0]]).double(), torch.zeros(1).double())
    ones = torch.ones(1, 1, dtype=torch.float64)
    heat = Look(ones, surely, extreme, None).heat(ones[None])[0, 0]
    assert float(heat[17] / heat[0]) == pytest.approx(math.e**2, rel=1e-5)
    assert float(heat[17]) == pytest.approx(0.0365, abs=5e-5)  # 3.7 %, where an even look has 0.5 %.


def test_the_generator_decides_the_weights_and_torchs_own_is_left_alone() -> None:
    def weights(seed: int) -> Tensor:
        module = ChannelAttention(SHAPE, torch.Generator().manual_seed(seed))
        return torch.cat([weight.detach().flatten() for weight in module.parameters()])

    before = torch.get_rng_state()
    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))
    assert torch.equal(before, torch.get_rng_state())


def test_linear_layers_begin_as_pytorchs_own_do() -> None:
    """U(-1 / sqrt(inputs), 1 / sqrt(inputs)), weights and biases: compared in their moments and extremes."""
    mine = channels.uniform_linear(16, 2000, torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        its = torch.nn.Linear(16, 2000)
    for one, other in zip(mine.parameters(), its.parameters(), strict=True):
        assert float(one.detach().std()) == pytest.approx(float(other.detach().std()), rel=0.05)
        assert float(one.detach().mean()) == pytest.approx(0, abs=0.02)
        assert 0.2475 < float(one.detach().abs().max()) <= 0.25


def test_of_no_clips_there_is_nothing_to_say() -> None:
    module, (heard, there, tokens), how = attention(), inputs(), standard()
    looked = module(heard[:0], there[:0], tokens[:0], how)
    assert looked.vectors.shape == (0, 4)
    assert looked.temporal.shape == (0, 2, 4)
    assert looked.heat().shape == (0, 2, 3)
    looked.vectors.sum().backward()
    assert all(weight.grad is not None and not weight.grad.any() for weight in module.look.parameters())


# ---- the body -------------------------------------------------------------------------------------------------------


def body(guide: Any = "audio") -> ChannelBody:
    made = ChannelBody(random_features(1).shape, torch.Generator().manual_seed(0), width=6, guide=guide)
    for part in (made.audio_standard, made.visual_standard):
        part.mean.copy_(draw(len(part.mean), seed=1).float())
        part.scale.copy_(draw(len(part.mean), seed=2).float().abs() + 0.5)
    return made


@pytest.mark.parametrize("guide", ["audio", "none"])
def test_a_body_adds_rectified_projections_of_sound_and_picture(guide: str) -> None:
    made, rows = body(guide), without(random_features(4), sound=[1, 3], picture=[2, 3])
    said = made(rows, None)
    heard = made.audio_standard(rows.audio.float()).mean(1)
    if guide == "audio":
        _, _, vectors = by_loops(made.attention, heard, rows.heard, rows.visual.double(), made.visual_standard)
    else:
        vectors = made.visual_standard(rows.visual.float()).mean((1, 2))
        assert said.looked is None
    audio = (heard @ made.project_audio.weight.T + made.project_audio.bias).clamp_min(0)
    visual = (vectors.float() @ made.project_visual.weight.T + made.project_visual.bias).clamp_min(0)
    audio[[1, 3]], visual[[2, 3]] = 0, 0
    for one, other in zip(said[:4], (audio, visual, audio + visual, audio + visual), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert audio[[0, 2]].any(1).all()
    assert visual[[0, 1]].any(1).all()


def test_a_body_without_a_guide_does_not_listen_to_look() -> None:
    rows = random_features(3)
    louder = replace(rows, audio=rows.audio * 3)
    for guide, same in (("none", True), ("audio", False)):
        assert torch.equal(body(guide)(rows, None).visual, body(guide)(louder, None).visual) is same
