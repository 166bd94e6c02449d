"""The absorbed attention against whole tensors and autograd, in value and gradient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from harkback import absorbed
from harkback.absorbed import Attended, attend


class Asked(NamedTuple):
    where: Tensor
    when: Tensor
    tokens: Tensor
    mean: Tensor
    scale: Tensor


#: clips, heads, frames, patches, visual_dim
SIZES = [(5, 3, 2, 4, 6), (1, 1, 1, 1, 1), (3, 2, 1, 5, 4), (4, 1, 6, 1, 3), (2, 8, 3, 7, 5)]
PIECES = [1, 60, 1 << 20]  # one clip, some clips, all clips at once


def asked(sizes: tuple[int, ...], once: bool, dtype: torch.dtype = torch.float64) -> Asked:
    clips, heads, frames, patches, dim = sizes
    some = torch.Generator().manual_seed(sum(sizes) + once)
    draw = lambda *size: torch.randn(*size, generator=some, dtype=torch.float64).to(dtype)  # noqa: E731
    where, when = draw(clips, 1 if once else frames, heads, dim), draw(clips, heads, dim)
    tokens = draw(clips, frames, patches, dim) * 2 + 0.5
    return Asked(where.requires_grad_(), when.requires_grad_(), tokens, draw(dim), draw(dim).abs() + 0.5)


def plain(where: Tensor, when: Tensor, tokens: Tensor, mean: Tensor, scale: Tensor) -> Attended:
    """Whole tensors, every patch standardised; autograd does the rest."""
    v = (tokens.to(where.dtype) - mean) / scale
    where, when = where * scale, when * scale  # What is asked of raw tokens, asked of standardised ones.
    spatial = torch.einsum("nfhd,nfpd->nhfp", where.expand(-1, v.shape[1], -1, -1), v).softmax(3)
    seen = torch.einsum("nhfp,nfpd->nhfd", spatial, v)
    temporal = torch.einsum("nhd,nhfd->nhf", when, seen).softmax(2)
    return Attended(torch.einsum("nhf,nhfd->nhd", temporal, seen), v.mean((1, 2)), spatial, temporal)


@pytest.mark.parametrize("once", [True, False])
@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("sizes", SIZES)
def test_it_is_what_whole_tensors_say(
    sizes: tuple[int, ...], piece: int, once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(absorbed, "PIECE", piece)
    given = asked(sizes, once)
    for one, other in zip(attend(*given), plain(*given), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("once", [True, False])
@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("sizes", SIZES)
def test_its_gradients_are_those_of_autograd(
    sizes: tuple[int, ...], piece: int, once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(absorbed, "PIECE", piece)
    given = asked(sizes, once)
    weight = torch.randn(attend(*given).vectors.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    found = torch.autograd.grad((attend(*given).vectors * weight).sum(), (given.where, given.when))
    expected = torch.autograd.grad((plain(*given).vectors * weight).sum(), (given.where, given.when))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("once", [True, False])
def test_its_gradients_are_those_of_finite_differences(once: bool) -> None:
    given = asked(SIZES[0], once)
    assert torch.autograd.gradcheck(lambda u, w: attend(u, w, *given[2:]).vectors, (given.where, given.when))


@pytest.mark.parametrize("once", [True, False])
def test_half_precision_tokens_are_exact_in_float32(once: bool) -> None:
    """Of the size that is trained on: relative 1e-5 of the plain form in float64, of which float32 is 1e-7 off."""
    given = asked((6, 8, 8, 16, 768), once, torch.float32)
    queries = [(each.detach() * 768**-0.5).requires_grad_() for each in given[:2]]
    given = Asked(*queries, given.tokens.half(), *given[3:])
    exact = Asked(*(part.detach().double().requires_grad_(part.requires_grad) for part in given))
    mine, its = attend(*given), plain(*exact)
    for one, other in zip(mine, its, strict=True):
        assert float((one - other).detach().norm() / other.detach().norm()) < 1e-5
    mine.vectors.square().sum().backward()
    its.vectors.square().sum().backward()
    for one, other in zip(given[:2], exact[:2], strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert float((one.grad - other.grad).norm() / other.grad.norm()) < 1e-5


def test_nothing_as_large_as_the_tokens_is_kept_for_the_backward_pass() -> None:
    """But the tokens themselves, as they came."""
    given = asked((4, 2, 3, 8, 64), once=True, dtype=torch.float32)
    tokens, kept = given.tokens.half(), []

    def keep(x: Tensor) -> Tensor:
        kept.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        attend(given.where, given.when, tokens, given.mean, given.scale)
    others = [x for x in kept if x.data_ptr() != tokens.data_ptr()]
    assert len(kept) - len(others) == 1
    assert max(x.numel() for x in others) < tokens.numel() / 4


def test_sharp_scores_do_not_overflow() -> None:
    given = asked(SIZES[0], once=False)
    sharp = attend(given.where.detach() * 1e4, given.when.detach() * 1e4, *given[2:])
    assert all(part.isfinite().all() for part in sharp)
    assert float(sharp.spatial.amax(3).min()) > 0.999


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("clips", [2, 3, 7])
def test_cores_that_share_the_clips_do_as_one_does(clips: int) -> None:
    given = asked((clips, 3, 2, 4, 6), once=True)
    found = torch.autograd.grad(attend(*given).vectors.square().sum(), (given.where, given.when))
    assert torch.get_num_threads() == 3
    torch.set_num_threads(1)
    alone = torch.autograd.grad(attend(*given).vectors.square().sum(), (given.where, given.when))
    for one, other in zip(found, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("three_threads")
def test_what_fails_on_one_core_fails() -> None:
    where, when, tokens, mean, scale = asked((6, 3, 2, 4, 6), once=True)
    with pytest.raises(RuntimeError):
        attend(where, when, tokens, mean, scale[:-1])
    assert torch.get_num_threads() == 3
