"""The network: what grows, what is masked, what is measured; its attention has tests of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from fakes import SHAPE, random_features, same_state, without
from harkback.body import drop as _drop
from harkback.features import READ, Features
from harkback.heads import Head
from harkback.network import Network, NetworkSettings
from harkback.parallel import Share
from harkback.standard import Standard

SMALL = NetworkSettings(width=8, heads=2, key_dim=3)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(rows: Features | None = None, classes: int = 3, **changes: object) -> Network:
    made = Network(replace(SMALL, **changes))  # type: ignore[arg-type]
    made.ready(rows if rows is not None else random_features(20), classes, seeded())
    return made


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-4, atol=1e-5)


# ---- the head -------------------------------------------------------------------------------------------------------


def test_a_head_grows_at_its_end() -> None:
    head, some = Head(4), seeded()
    x = torch.randn(5, 4, generator=some)
    assert head(x).shape == (5, 0)
    head.grow(2, some)
    before = head(x)
    with torch.no_grad():
        head.bias += 1
    head.grow(5, some)
    assert head(x).shape == (5, 5)
    torch.testing.assert_close(head(x)[:, :2], before + 1)
    assert head(x)[:, 2:].abs().max() < 0.5  # New rows begin near nothing, and not all alike.
    assert len(head.weight[2:].unique(dim=0)) == 3
    assert not head.bias[2:].any()
    weight = head.weight.clone()
    head.grow(5, some)
    assert torch.equal(weight, head.weight)


# ---- standardisation ------------------------------------------------------------------------------------------------


def test_tokens_are_measured_where_they_are_there() -> None:
    rows = without(random_features(READ + 30, 3), sound=[0, 5, 129], picture=[1, 5, 140])
    made = network(rows)
    for standard, tokens, there in (
        (made.body.audio_standard, rows.audio, rows.heard),
        (made.body.visual_standard, rows.visual, rows.seen),
    ):
        flat = tokens[there].double().flatten(0, -2).numpy()
        np.testing.assert_allclose(standard.mean.numpy(), flat.mean(0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(standard.scale.numpy(), flat.std(0), rtol=1e-4)


def test_the_measure_is_the_first_sessions_for_ever() -> None:
    made = network()
    mean = made.body.visual_standard.mean.clone()
    moved = random_features(9, 5)
    made.ready(replace(moved, visual=moved.visual + 10), 4, seeded())
    assert torch.equal(mean, made.body.visual_standard.mean)


def test_a_channel_that_never_moved_is_not_blown_up() -> None:
    standard = Standard(2)
    tokens = torch.tensor([[5.0, 1.0], [5.0, 3.0]]).double()
    standard.measure(tokens.sum(0), tokens.square().sum(0), 2)
    assert standard(torch.tensor([5.0, 2.0])).tolist() == pytest.approx([0, 0], abs=1e-5)
    assert standard(torch.tensor([6.0, 3.0])).abs().max() <= 100
    nothing = Standard(2)
    nothing.measure(torch.zeros(2), torch.zeros(2), 0)
    assert nothing(torch.tensor([1.0, 2.0])).tolist() == [1, 2]


# ---- the forward pass -----------------------------------------------------------------------------------------------


def test_fused_is_the_sum_of_its_parts_and_logits_are_the_heads() -> None:
    made, rows = network(), random_features(6, 2)
    said = made.ask(rows)
    torch.testing.assert_close(said.fused, said.audio + said.visual)
    expected = said.fused.clamp_min(0) @ made.head.weight.T + made.head.bias
    torch.testing.assert_close(said.logits, expected)
    assert said.logits.shape == (6, 3)


@pytest.mark.parametrize("guide", ["audio", "none"])
def test_what_is_missing_is_zero_and_is_not_read(guide: str) -> None:
    made, rows = network(guide=guide), random_features(4, 2)
    whole, part = made.ask(rows), made.ask(without(rows, sound=[0, 2], picture=[1, 2]))
    assert not part.audio[[0, 2]].any()
    assert not part.visual[[1, 2]].any()
    assert not part.fused[2].any()
    assert close(part.audio[1], whole.audio[1])
    assert close(part.audio[3], whole.audio[3])
    assert close(part.fused[3], whole.fused[3])


def test_an_unguided_look_is_the_mean_of_the_patches() -> None:
    made, rows = network(guide="none"), random_features(3, 2)
    said = made.answer(rows)
    assert said.looked is None
    assert torch.equal(made.heat(rows), torch.full((3, 3, 4), 1 / 12))
    order = torch.tensor([3, 0, 2, 1])
    assert close(said.visual, made.ask(replace(rows, visual=rows.visual[:, :, order])).visual)
    louder = replace(rows, audio=rows.audio * 3)
    assert close(said.visual, made.ask(louder).visual)  # What is heard does not matter to it.


def test_a_guided_look_depends_on_what_is_heard() -> None:
    made, rows = network(), random_features(3, 2)
    other = replace(rows, audio=random_features(3, 8).audio)
    assert not close(made.heat(rows), made.heat(other))
    assert not close(made.ask(rows).visual, made.ask(other).visual)


def test_what_sounds_now_guides_the_look_now() -> None:
    """A change of the last tokens of the sound moves the look inside the last frame, not inside the first."""
    made, rows = network(), random_features(2, 2)
    audio = rows.audio.clone()
    audio[:, -1] = -audio[:, -1] + 2
    one, other = made.answer(rows).looked, made.answer(replace(rows, audio=audio)).looked
    assert one is not None
    assert other is not None
    assert close(one.spatial[:, :, 0], other.spatial[:, :, 0])
    assert not close(one.spatial[:, :, -1], other.spatial[:, :, -1])


def test_many_clips_are_answered_as_few(monkeypatch: pytest.MonkeyPatch) -> None:
    made, rows = network(), random_features(READ + 5, 2)
    said = made.ask(rows)
    assert said.looked is None
    part = made.ask(rows[torch.arange(READ, READ + 5)])
    for one, other in zip(said[:4], part[:4], strict=True):
        assert close(one[READ:], other)


def test_no_gradient_flows_into_the_tokens_and_every_weight_gets_one() -> None:
    made, rows = network(), random_features(6, 2)
    said = made.answer(rows)
    (said.logits.square().sum() + said.fused.square().sum()).backward()
    without_gradient = [
        name for name, weight in made.named_parameters() if weight.grad is None or not weight.grad.any()
    ]
    assert without_gradient == []


# ---- dropout --------------------------------------------------------------------------------------------------------


def test_dropout_keeps_the_mean_and_is_the_generators() -> None:
    x = torch.ones(100, 200)
    dropped = _drop(x, 0.3, Share(100).uniform(seeded()))
    assert float((dropped == 0).float().mean()) == pytest.approx(0.3, abs=0.02)
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.02)
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert torch.equal(dropped, _drop(x, 0.3, Share(100).uniform(seeded())))
    assert torch.equal(_drop(x, 0.3, None), x)
    assert torch.equal(_drop(x, 0.0, Share(100).uniform(seeded())), x)


def test_heads_lose_the_same_channels() -> None:
    dropped = _drop(torch.ones(50, 3, 40), 0.5, Share(50).uniform(seeded()))
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert not torch.equal(dropped[0], dropped[1])


def test_there_is_dropout_in_training_alone() -> None:
    made, rows = network(dropout=0.5), random_features(4, 2)
    with torch.no_grad():
        assert torch.equal(made(rows).logits, made(rows).logits)
        assert not torch.equal(made(rows, seeded(1)).logits, made(rows, seeded(2)).logits)
        assert torch.equal(made(rows, seeded(1)).logits, made(rows, seeded(1)).logits)


# ---- state ----------------------------------------------------------------------------------------------------------


def test_a_network_comes_back_from_its_state() -> None:
    made, rows = network(), random_features(4, 2)
    other = Network(SMALL)
    assert other.state() == {}
    other.restore(load(save({name: array.contiguous() for name, array in made.state().items()})))
    assert other.built == SHAPE
    assert same_state(made.state(), other.state())
    assert torch.equal(made.ask(rows).logits, other.ask(rows).logits)
    other.restore({})
    assert other.built is None
    assert other.state() == {}


def test_the_seed_decides_the_weights() -> None:
    one, other = network(), network()
    assert same_state(one.state(), other.state())
    third = Network(SMALL)
    third.ready(random_features(20), 3, seeded(1))
    assert not same_state(one.state(), third.state())
