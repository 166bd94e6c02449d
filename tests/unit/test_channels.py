"""AV-CIL's attention against its definition, one channel at a time, and its hand-written gradients by autograd's."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from fakes import random_features, without
from harkback import channels
from harkback.channels import ChannelAttention, ChannelBody, ChannelLook, Projection, _chunks, spatial_distillation
from harkback.features import TokenShape
from harkback.standard import Standard

SHAPES = [
    TokenShape(1, 3, 2, 3, 4),
    TokenShape(1, 2, 1, 5, 3),  # one frame
    TokenShape(1, 2, 4, 1, 3),  # one patch
    TokenShape(1, 1, 1, 1, 1),
    TokenShape(1, 5, 3, 2, 1),  # one channel
]
SHAPE = SHAPES[0]
CLIPS = 5


def draw(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def attention(shape: TokenShape = SHAPE, seed: int = 0) -> ChannelAttention:
    """As it begins, but with weights large enough to bend the tanh and to tell patches apart."""
    module = ChannelAttention(shape, torch.Generator().manual_seed(seed)).double()
    with torch.no_grad():
        for weight in module.parameters():
            weight *= 3
    return module


def standard(shape: TokenShape = SHAPE) -> Standard:
    made = Standard(shape.visual_dim).double()
    made.mean.copy_(draw(shape.visual_dim, seed=5))
    made.scale.copy_(draw(shape.visual_dim, seed=6).abs() + 0.5)
    return made


def inputs(shape: TokenShape = SHAPE, clips: int = CLIPS, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """What is heard (clips, audio_dim), whether it is there; raw tokens. The second clip has no sound."""
    there = torch.arange(clips) != 1
    heard = draw(clips, shape.audio_dim, seed=seed + 1)
    return heard, there, draw(clips, shape.frames, shape.patches, shape.visual_dim, seed=seed + 2) * 1.5 + 0.5


def softmax(scores: list[float]) -> list[float]:
    powers = [math.exp(score) for score in scores]
    return [power / sum(powers) for power in powers]


def by_loops(
    module: ChannelAttention, heard: Tensor, there: Tensor, tokens: Tensor, how: Standard
) -> tuple[Tensor, Tensor, Tensor]:
    """AV-CIL eq. (1) to (4) for every clip and channel: S, T and the attended vector."""
    clips, frames, patches, dim = tokens.shape
    v = ((tokens - how.mean) / how.scale).tolist()
    w1, b1, w2, b2 = (x.tolist() for x in (*module.listen.parameters(), *module.look.parameters()))
    spatial, temporal = torch.zeros_like(tokens), torch.zeros(clips, frames, dim, dtype=torch.float64)
    vectors = torch.zeros(clips, dim, dtype=torch.float64)
    for n in range(clips):
        for c in range(dim):
            guide = math.tanh(sum(w * a for w, a in zip(w1[c], heard[n].tolist(), strict=True)) + b1[c])
            guide = guide if there[n] else 0.0
            inner, outer = [], []
            for t in range(frames):
                bent = [
                    math.tanh(sum(w * x for w, x in zip(w2[c], v[n][t][p], strict=True)) + b2[c])
                    for p in range(patches)
                ]
                shares = softmax([x * guide for x in bent])
                spatial[n, t, :, c] = torch.tensor(shares, dtype=torch.float64)
                inner.append(sum(s * x for s, x in zip(shares, bent, strict=True)))
                outer.append(sum(s * v[n][t][p][c] for p, s in enumerate(shares)))
            when = softmax([x * guide for x in inner])
            temporal[n, :, c] = torch.tensor(when, dtype=torch.float64)
            vectors[n, c] = sum(s * x for s, x in zip(when, outer, strict=True))
    return spatial, temporal, vectors


def plain(
    module: ChannelAttention, heard: Tensor, there: Tensor, tokens: Tensor, how: Standard
) -> tuple[Tensor, Tensor, Tensor]:
    """The same in whole tensors, which autograd can differentiate."""
    guide = module.listen(heard).tanh() * there[:, None]
    bent = module.look(how(tokens)).tanh()
    spatial = (bent * guide[:, None, None]).softmax(2)
    temporal = ((spatial * bent).sum(2) * guide[:, None]).softmax(1)
    return spatial, temporal, (temporal * (spatial * how(tokens)).sum(2)).sum(1)


# ---- what it says ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 50, 1 << 17])  # one clip, some clips, all clips at once
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_what_its_definition_says(shape: TokenShape, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "CHUNK", chunk)
    module, given_, how = attention(shape), inputs(shape), standard(shape)
    spatial, temporal, vectors = by_loops(module, *given_, how)
    looked = module(*given_, how)
    torch.testing.assert_close(looked.temporal, temporal, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(looked.vectors, vectors, rtol=1e-10, atol=1e-10)
    heat = (spatial * temporal[:, :, None]).mean(-1)
    torch.testing.assert_close(looked.heat(), heat.float(), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(looked.heat().sum((1, 2)), torch.ones(CLIPS))


@pytest.mark.parametrize("chunk", [1, 23, 24, 25, 47, 48, 119, 120, 10_000])  # a clip has 24 numbers
def test_every_clip_is_in_one_chunk_and_none_is_larger_than_asked(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "CHUNK", chunk)
    tokens = torch.zeros(5, 2, 3, 4)
    parts = [list(range(5))[part] for part in _chunks(tokens)]
    assert [row for part in parts for row in part] == list(range(5))
    assert all(len(part) == 1 or len(part) * 24 <= chunk for part in parts)
    assert len(parts[0]) == max(1, min(5, chunk // 24))
    assert list(_chunks(tokens[:0])) == []


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
    heat = ChannelLook(ones, ones[None], ones, surely, extreme).heat()[0, 0]
    assert float(heat[17] / heat[0]) == pytest.approx(math.e**2, rel=1e-5)
    assert float(heat[17]) == pytest.approx(0.0365, abs=5e-5)  # 3.7 %, where an even look has 0.5 %.


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_tokens_as_they_are_stored_are_read_and_not_written_to(dtype: torch.dtype) -> None:
    heard, there, tokens = inputs()
    stored = tokens.to(dtype)
    copy = stored.clone()
    module, how = attention().float(), standard().float()
    looked = module(heard.float(), there, stored, how)
    spatial, temporal, vectors = by_loops(attention(), heard, there, stored.double(), standard())
    assert looked.vectors.dtype == torch.float32
    torch.testing.assert_close(looked.vectors, vectors.float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(looked.heat(), (spatial * temporal[:, :, None]).mean(-1).float(), rtol=1e-4, atol=1e-6)
    teacher = looked.query.detach().flip(0), Projection(*(x.detach() / 2 for x in looked.projection))
    (looked.vectors.square().sum() + spatial_distillation(looked, *teacher)).backward()
    assert torch.equal(stored, copy)
    reference = attention()
    vectors = plain(reference, heard, there, stored.double(), standard())[2]
    loss = vectors.square().sum() + naive_distillation(
        reference, heard, there, stored.double(), *(x.double() for x in (teacher[0], *teacher[1]))
    )
    for mine, its in zip(module.parameters(), torch.autograd.grad(loss, list(reference.parameters())), strict=True):
        torch.testing.assert_close(mine.grad, its.float(), rtol=1e-3, atol=1e-4)


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


# ---- gradients ------------------------------------------------------------------------------------------------------


def spatial_inputs(shape: TokenShape = SHAPE, clips: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dim = shape.visual_dim
    query, weight, bias = draw(clips, dim, seed=1).tanh(), draw(dim, dim, seed=2), draw(dim, seed=3)
    tokens = draw(clips, shape.frames, shape.patches, dim, seed=4)
    return query.requires_grad_(), weight.requires_grad_(), bias.requires_grad_(), tokens


@pytest.mark.parametrize("kept", [0, 1 << 26])
@pytest.mark.parametrize("chunk", [1, 1 << 17])
@pytest.mark.parametrize("shape", SHAPES[:4])
def test_gradients_of_the_sums_over_patches(
    shape: TokenShape, chunk: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "CHUNK", chunk)
    monkeypatch.setattr(channels, "KEPT", kept)
    assert gradcheck(channels._Spatial.apply, spatial_inputs(shape))


@pytest.mark.parametrize("kept", [0, 1 << 26])
@pytest.mark.parametrize("chunk", [1, 50, 1 << 17])
def test_gradients_through_the_whole_attention_are_autograds(
    chunk: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "CHUNK", chunk)
    monkeypatch.setattr(channels, "KEPT", kept)
    module, (heard, there, tokens), how = attention(), inputs(), standard()
    heard.requires_grad_()
    asked = [*module.parameters(), heard]
    of_vectors, of_temporal = draw(CLIPS, 4, seed=7), draw(CLIPS, 2, 4, seed=8)
    looked = module(heard, there, tokens, how)
    mine = (looked.vectors * of_vectors).sum() + (looked.temporal * of_temporal).sum()
    _, temporal, vectors = plain(module, heard, there, tokens, how)
    its = (vectors * of_vectors).sum() + (temporal * of_temporal).sum()
    for one, other in zip(torch.autograd.grad(mine, asked), torch.autograd.grad(its, asked), strict=True):
        assert other.any()
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("kept", "times"), [(0, 6), (120, 3), (1 << 26, 3)])  # 120 numbers in all, three chunks
def test_patches_are_projected_again_only_beyond_what_may_be_kept(
    kept: int, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "CHUNK", 48)
    monkeypatch.setattr(channels, "KEPT", kept)
    calls: list[int] = []
    project = channels._project

    def counted(patches: Tensor, how: Projection) -> Tensor:
        calls.append(len(patches))
        return project(patches, how)

    monkeypatch.setattr(channels, "_project", counted)
    module, given_, how = attention(), inputs(), standard()
    module(*given_, how).vectors.sum().backward()
    assert calls == [2, 2, 1] * (times // 3)


# ---- distillation of where it looks ---------------------------------------------------------------------------------


def naive_distillation(
    module: ChannelAttention, heard: Tensor, there: Tensor, tokens: Tensor, query: Tensor, weight: Tensor, bias: Tensor
) -> Tensor:
    """sum S_t log(S_t / S) in plain tensors. weight, bias: the teacher's, of raw tokens."""
    mine, _, _ = plain(module, heard, there, tokens, standard())
    its = ((tokens @ weight.T + bias).tanh() * query[:, None, None]).softmax(2)
    return (its * (its / mine).log()).sum()


def teacher_of(heard: Tensor, there: Tensor, seed: int = 4) -> tuple[Tensor, Projection]:
    module = attention(seed=seed)
    return module.query(heard, there).detach(), Projection(*(x.detach() for x in module.projection(standard())))


@pytest.mark.parametrize("chunk", [1, 50, 1 << 17])
def test_distillation_is_the_sum_of_kl_over_clips_frames_and_channels(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "CHUNK", chunk)
    module, (heard, there, tokens), how = attention(), inputs(), standard()
    teacher = teacher_of(heard, there)
    found = spatial_distillation(module(heard, there, tokens, how), *teacher)
    mine, _, _ = by_loops(module, heard, there, tokens, how)
    its, _, _ = by_loops(attention(seed=4), heard, there, tokens, how)
    expected = 0.0
    for p, q in zip(its.flatten().tolist(), mine.flatten().tolist(), strict=True):
        expected += p * math.log(p / q)
    assert float(found.detach()) == pytest.approx(expected, rel=1e-9)
    assert expected > 0.1
    naive = naive_distillation(module, heard, there, tokens, teacher[0], *teacher[1])
    for one, other in zip(
        torch.autograd.grad(found, list(module.parameters())),
        torch.autograd.grad(naive, list(module.parameters())),
        strict=True,
    ):
        assert other.any()
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("chunk", [1, 1 << 17])
@pytest.mark.parametrize("shape", SHAPES[:2])
def test_gradients_of_the_distillation(shape: TokenShape, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "CHUNK", chunk)
    *asked, tokens = spatial_inputs(shape)
    dim = shape.visual_dim
    teacher = draw(3, dim, seed=11).tanh(), Projection(draw(dim, dim, seed=12), draw(dim, seed=13))

    def distilled(query: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        look = ChannelLook(query, tokens, query, Projection(weight, bias), tokens)
        return spatial_distillation(look, *teacher) * -3.0

    assert gradcheck(distilled, asked)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_pulls_at_a_look_that_is_the_teachers(dtype: torch.dtype) -> None:
    module, (heard, there, tokens), how = attention().to(dtype), inputs(), standard().to(dtype)
    looked = module(heard.to(dtype), there, tokens.half(), how)
    loss = spatial_distillation(looked, looked.query.detach(), Projection(*(x.detach() for x in looked.projection)))
    assert float(loss.detach()) == 0
    loss.backward()
    assert all(weight.grad is not None and not weight.grad.any() for weight in module.parameters())


def test_a_clip_without_sound_differs_from_a_teacher_that_heard_nothing_by_nothing() -> None:
    """Both look evenly, whatever the weights."""
    module, (heard, _, tokens), how = attention(), inputs(), standard()
    nothing = torch.zeros(CLIPS, dtype=torch.bool)
    loss = spatial_distillation(module(heard, nothing, tokens, how), *teacher_of(heard, nothing))
    assert float(loss.detach()) == pytest.approx(0, abs=1e-12)


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
