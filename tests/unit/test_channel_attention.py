"""AV-CIL's attention: gradients written by hand against autograd's, what is held to a teacher, memory used again."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from channel_reference import CLIPS, SHAPE, attention, by_loops, draw, inputs, plain, standard, teacher_of
from fakes import features_of, small, without
from harkback import channel_attention, channel_teacher
from harkback.channel_attention import Look, Looking, Room
from harkback.channel_teacher import Projection, Teacher
from harkback.channels import ChannelAttention, spatial_distillation
from harkback.features import TokenShape
from harkback.learners.avcil import AVCIL
from harkback.stream import Session

#: BLOCK, CHUNK: a part of a clip, one clip, odd numbers of clips, all clips at once. A clip has 24 numbers.
SIZES = [(1, 1), (12, 36), (24, 24), (24, 72), (50, 200), (1 << 17, 1 << 19)]
HELD = {"none": [], "the last": [3, 4], "mixed": [0, 4, 1], "all": [2, 0, 1, 4, 3]}


@pytest.fixture(params=SIZES, ids=str)
def sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    block, chunk = request.param
    monkeypatch.setattr(channel_attention, "BLOCK", block)
    monkeypatch.setattr(channel_attention, "CHUNK", chunk)
    return block, chunk


@pytest.fixture(params=[0, 60, 1 << 28], ids="kept {}".format)
def kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Numbers of V~ that may be kept: none, some, all. Five clips have 120."""
    monkeypatch.setattr(channel_attention, "KEPT", request.param)
    return int(request.param)


@pytest.fixture(params=[0, 1 << 27], ids=["asked", "remembered"])
def remembered(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(channel_teacher, "REMEMBERED", request.param)
    return bool(request.param)


def naive(
    module: ChannelAttention, its: ChannelAttention, heard: Tensor, there: Tensor, tokens: Tensor, held: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """The vectors, T, and sum S_t log(S_t / S) over the clips that are held to ``its``, in whole tensors."""
    how = standard(TokenShape(1, heard.shape[1], *tokens.shape[1:])).to(tokens.dtype)
    mine, temporal, vectors = plain(module, heard, there, tokens, how)
    told = plain(its, heard, there, tokens, how)[0].detach()[held]
    return vectors, temporal, (told * (told / mine[held]).log()).sum()


def relative(one: Tensor, other: Tensor) -> float:
    """How far two tensors are apart, as a share of the other's norm."""
    one, other = one.detach().double(), other.detach().double()
    return float((one - other).norm() / other.norm())


# ---- gradients ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape", [SHAPE, TokenShape(1, 2, 1, 5, 3), TokenShape(1, 2, 4, 1, 3), TokenShape(1, 1, 1, 1, 1)]
)
@pytest.mark.parametrize("held", [False, True])
def test_gradients_by_finite_differences(
    shape: TokenShape, held: bool, remembered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of clips at a time, of which some are kept; the next test has all other sizes."""
    for name, numbers in (("BLOCK", 12), ("CHUNK", 36), ("KEPT", 40)):
        monkeypatch.setattr(channel_attention, name, numbers)
    clips, dim = 3, shape.visual_dim
    tokens = draw(clips, shape.frames, shape.patches, dim, seed=4)
    teacher_query, how = draw(2, dim, seed=11).tanh(), Projection(draw(dim, dim, seed=12), draw(dim, seed=13))
    teacher = Teacher(teacher_query, torch.zeros(2, shape.frames, dim).double(), how, tokens[[2, 0]])

    def looked(query: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        look = Look(query, Projection(weight, bias), tokens, Room())
        vectors, temporal, pull = Looking.apply(query, weight, bias, tokens, look)
        if not held:
            return vectors, temporal
        return vectors, temporal, (look.hold([0, 2], teacher, [1, 0]) + pull[[0, 2]].sum()) * -3.0

    asked = draw(clips, dim, seed=1).tanh(), draw(dim, dim, seed=2), draw(dim, seed=3)
    assert gradcheck(looked, [x.requires_grad_() for x in asked])


@pytest.mark.parametrize("held", HELD.values(), ids=HELD)
def test_all_gradients_are_autograds(held: list[int], sizes: tuple[int, int], kept: int, remembered: bool) -> None:
    """Of vectors, of T and of the distillation, together, in float64."""
    module, (heard, there, tokens) = attention(), inputs()
    its, teacher = teacher_of(heard, there, tokens)
    heard.requires_grad_()
    asked = [*module.parameters(), heard]
    of_vectors, of_temporal = draw(CLIPS, 4, seed=7), draw(CLIPS, 2, 4, seed=8)
    looked = module(heard, there, tokens, standard())
    mine = (looked.vectors * of_vectors).sum() + (looked.temporal * of_temporal).sum()
    if held:
        mine = mine + 0.7 * spatial_distillation(looked, torch.tensor(held), teacher, torch.tensor(held))
    vectors, temporal, apart = naive(module, its, heard, there, tokens, held)
    naively = (vectors * of_vectors).sum() + (temporal * of_temporal).sum() + 0.7 * apart
    assert float(mine.detach()) == pytest.approx(float(naively.detach()), rel=1e-9)
    for one, other in zip(torch.autograd.grad(mine, asked), torch.autograd.grad(naively, asked), strict=True):
        assert other.any()
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("held", HELD.values(), ids=HELD)
def test_in_float32_too_to_one_in_a_hundred_thousand(
    held: list[int], dtype: torch.dtype, remembered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against float64, at a size where sums are long; tokens as they are stored are read and not written to."""
    monkeypatch.setattr(channel_attention, "BLOCK", 3000)
    monkeypatch.setattr(channel_attention, "CHUNK", 9000)
    monkeypatch.setattr(channel_attention, "KEPT", 20_000)
    shape = TokenShape(1, 20, 4, 30, 40)
    module, exact = attention(shape).float(), attention(shape)
    heard, there, tokens = inputs(shape)
    stored = tokens.to(dtype)
    copy = stored.clone()
    its, teacher = teacher_of(heard.float(), there, stored, shape)
    looked = module(heard.float(), there, stored, standard(shape).float())
    assert looked.vectors.dtype == torch.float32
    of_vectors = draw(CLIPS, 40, seed=7)
    mine = (looked.vectors * of_vectors.float()).sum()
    if held:
        mine = mine + 0.7 * spatial_distillation(looked, torch.tensor(held), teacher, torch.tensor(held))
    vectors, temporal, apart = naive(exact, its.double(), heard, there, stored.double(), held)
    naively = (vectors * of_vectors).sum() + 0.7 * apart
    assert relative(looked.vectors, vectors) < 1e-5
    assert relative(looked.temporal, temporal) < 1e-5
    assert relative(mine, naively) < 1e-5
    found = torch.autograd.grad(mine, list(module.parameters()))
    for one, other in zip(found, torch.autograd.grad(naively, list(exact.parameters())), strict=True):
        assert relative(one, other) < 1e-5
    assert torch.equal(stored, copy)


def test_a_clip_that_heard_nothing_learns_nothing_of_where_to_look(sizes: tuple[int, int]) -> None:
    module, (heard, _, tokens), nothing = attention(), inputs(), torch.zeros(CLIPS, dtype=torch.bool)
    looked = module(heard, nothing, tokens, standard())
    looked.vectors.square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().max() < 1e-12 for weight in module.parameters())


# ---- held to a teacher ----------------------------------------------------------------------------------------------


def test_distillation_is_the_sum_of_kl_over_clips_frames_and_channels(sizes: tuple[int, int], remembered: bool) -> None:
    module, (heard, there, tokens) = attention(), inputs()
    its, teacher = teacher_of(heard, there, tokens)
    held = torch.tensor([4, 1, 2])
    found = spatial_distillation(module(heard, there, tokens, standard()), held, teacher, held)
    mine, told = (by_loops(x, heard, there, tokens, standard())[0][held].flatten().tolist() for x in (module, its))
    expected = sum(p * math.log(p / q) for p, q in zip(told, mine, strict=True))
    assert float(found.detach()) == pytest.approx(expected, rel=1e-9)
    assert expected > 0.1


def test_a_teacher_that_remembers_says_what_one_that_is_asked_says(monkeypatch: pytest.MonkeyPatch) -> None:
    heard, there, tokens = inputs()
    _, remembers = teacher_of(heard, there, tokens)
    monkeypatch.setattr(channel_teacher, "REMEMBERED", tokens.numel() - 1)
    module, asked = teacher_of(heard, there, tokens)
    assert remembers.known is not None and asked.known is None
    spatial, _, _ = by_loops(module, heard, there, tokens, standard())
    for clip, frames in product(range(CLIPS), (slice(0, 2), slice(1, 2))):
        part = tokens[clip, frames]
        for one, other in zip(remembers(clip, frames, part), asked(clip, frames, part), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
        share, entropy = asked(clip, frames, part)
        torch.testing.assert_close(share, spatial[clip, frames])
        torch.testing.assert_close(entropy, (share * share.log()).sum(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_pulls_at_a_look_that_is_the_teachers(dtype: torch.dtype) -> None:
    heard, there, tokens = inputs()
    module, teacher = teacher_of(heard.to(dtype), there, tokens.half())
    clips = torch.arange(CLIPS)
    looked = module(heard.to(dtype), there, tokens.half(), standard().to(dtype))
    loss = spatial_distillation(looked, clips, teacher, clips)
    assert abs(float(loss.detach())) < 100 * torch.finfo(dtype).eps
    loss.backward()
    for weight in module.parameters():
        assert weight.grad is not None
        assert weight.grad.abs().max() < 100 * torch.finfo(dtype).eps


def test_a_clip_without_sound_differs_from_a_teacher_that_heard_nothing_by_nothing() -> None:
    """Both look evenly, whatever the weights."""
    module, (heard, _, tokens) = attention(), inputs()
    nothing, clips = torch.zeros(CLIPS, dtype=torch.bool), torch.arange(CLIPS)
    _, teacher = teacher_of(heard, nothing, tokens)
    loss = spatial_distillation(module(heard, nothing, tokens, standard()), clips, teacher, clips)
    assert float(loss.detach()) == pytest.approx(0, abs=1e-12)


def test_a_look_is_held_to_one_teacher() -> None:
    module, (heard, there, tokens) = attention(), inputs()
    _, teacher = teacher_of(heard, there, tokens)
    looked = module(heard, there, tokens, standard())
    spatial_distillation(looked, torch.tensor([0]), teacher, torch.tensor([0]))
    with pytest.raises(ValueError, match="one teacher"):
        spatial_distillation(looked, torch.tensor([1]), teacher, torch.tensor([1]))


# ---- memory ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fits", "again"), [(0, 3), (23, 3), (24, 2), (71, 2), (72, 1), (119, 1), (120, 0)])
def test_patches_are_projected_again_only_beyond_what_may_be_kept(
    fits: int, again: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks of two clips, 48 numbers: of two, two and one; the last are kept."""
    monkeypatch.setattr(channel_attention, "BLOCK", 24)
    monkeypatch.setattr(channel_attention, "CHUNK", 48)
    monkeypatch.setattr(channel_attention, "KEPT", fits)
    seen: list[int] = []
    once = Projection.product

    def counted(how: Projection, patches: Tensor, out: Tensor) -> Tensor:
        seen.append(len(patches))
        return once(how, patches, out)

    monkeypatch.setattr(Projection, "product", counted)
    module, given = attention(), inputs()
    module(*given, standard()).vectors.sum().backward()
    assert seen == [2, 2, 1, *[2, 2, 1][:again]]


def test_a_step_works_in_the_memory_of_the_one_before_and_gives_it_back() -> None:
    module, given = attention(), inputs()
    places = []
    for _ in range(3):
        looked = module(*given, standard())
        assert not module.room.idle
        looked.vectors.sum().backward()
        (flat,) = module.room.idle
        places.append(flat.data_ptr())
    assert len(set(places)) == 1
    module(given[0][:2], given[1][:2], given[2][:2], standard()).vectors.sum().backward()  # A smaller batch.
    assert module.room.idle[0].data_ptr() == places[0]
    with torch.no_grad():
        looked = module(*given, standard())  # It is no longer trained.
    assert not module.room.idle
    assert looked.look.memory is None


def test_looks_that_are_alive_at_once_do_not_share_memory() -> None:
    module, one, other = attention(), inputs(), inputs(seed=20)
    module(*one, standard()).vectors.sum().backward()  # So that there is memory to be used again.
    looks = [module(*given, standard()) for given in (one, other)]
    for looked, given in zip(looks, (one, other), strict=True):
        weights = list(module.parameters())
        found = torch.autograd.grad(looked.vectors.square().sum(), weights)
        expected = torch.autograd.grad(plain(module, *given, standard())[2].square().sum(), weights)
        for mine, its in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, its, rtol=1e-9, atol=1e-11)


def test_a_look_can_be_gone_back_over_twice() -> None:
    """Memory is given back after the first time; what was in it is computed again."""
    module, (heard, there, tokens) = attention(), inputs()
    _, teacher = teacher_of(heard, there, tokens)
    looked = module(heard, there, tokens, standard())
    clips = torch.tensor([3, 1])
    loss = looked.vectors.square().sum() + spatial_distillation(looked, clips, teacher, clips)
    first = torch.autograd.grad(loss, list(module.parameters()), retain_graph=True)
    module(*inputs(seed=20), standard()).vectors.sum().backward()  # Writes over that memory.
    second = torch.autograd.grad(loss, list(module.parameters()))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


# ---- the learner ----------------------------------------------------------------------------------------------------


def test_what_is_learnt_does_not_depend_on_what_the_teacher_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, states, known = ("babaabbcac", "dedeedded"), [], []
    make = Teacher.__init__

    def made(self: Teacher, *given: Any) -> None:
        make(self, *given)
        known.append(self.known is not None)

    monkeypatch.setattr(Teacher, "__init__", made)
    for remembered in (0, 1 << 27):
        monkeypatch.setattr(channel_teacher, "REMEMBERED", remembered)
        learner = AVCIL(small(AVCIL.Settings(spatial_weight=5.0)), memory=6, seed=0)
        for session, names in enumerate(labels):
            learner.learn(Session.of(without(features_of(names, seed=session), sound=[1], picture=[4]), names))
        states.append(learner.network.state_dict())
    assert known == [False, True]
    for name, weight in states[0].items():
        torch.testing.assert_close(weight, states[1][name])
