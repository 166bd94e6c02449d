"""The training loop: what it visits, how fast it goes, and what it withholds."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from fakes import Mapped, random_features, without
from harkback.features import Features
from harkback.network import Answers, Network, NetworkSettings
from harkback.training import TrainSettings, _mute, _shape_of_rate, fit

SMALL = NetworkSettings(width=8, heads=2, key_dim=2, dropout=0.0)


def network(rows: Features, classes: int = 3) -> Network:
    made = Network(SMALL)
    made.ready(rows, classes, torch.Generator().manual_seed(0))
    return made


@pytest.mark.parametrize(("clips", "batch"), [(10, 4), (8, 4), (3, 64), (1, 1)])
def test_every_clip_is_visited_once_an_epoch(clips: int, batch: int) -> None:
    rows = random_features(clips)
    seen: list[list[int]] = []

    def loss(said: Answers, rows: Tensor) -> Tensor:
        assert len(said.logits) == len(rows)
        seen.append(rows.tolist())
        return said.logits.square().mean()

    fit(network(rows), rows, loss, TrainSettings(epochs=3, batch=batch), torch.Generator().manual_seed(1))
    steps = math.ceil(clips / batch)
    assert len(seen) == 3 * steps
    epochs = [[row for part in seen[e * steps : (e + 1) * steps] for row in part] for e in range(3)]
    assert all(sorted(epoch) == list(range(clips)) for epoch in epochs)
    if clips >= 8:
        assert epochs[0] != epochs[1]  # In another order each time.


def test_answers_belong_to_the_rows_that_are_named() -> None:
    rows = random_features(12)
    model = network(rows)
    reference = model.ask(rows).logits  # The loss below has no gradient worth speaking of, so the weights stay.

    def loss(said: Answers, batch: Tensor) -> Tensor:
        torch.testing.assert_close(said.logits.detach(), reference[batch], rtol=1e-4, atol=1e-5)
        return said.logits.sum() * 0

    settings = TrainSettings(epochs=2, batch=5, mute=0.0, decay=0.0)
    fit(model, Mapped(rows), loss, settings, torch.Generator().manual_seed(1))  # type: ignore[arg-type]


def test_the_rate_rises_in_a_line_and_falls_along_a_cosine() -> None:
    assert _shape_of_rate(0.0) == 0
    assert _shape_of_rate(0.05) == pytest.approx(0.5)
    assert _shape_of_rate(0.1) == pytest.approx(1.0)
    assert _shape_of_rate(0.55) == pytest.approx(0.5)
    assert _shape_of_rate(0.1 + 0.9 / 3) == pytest.approx((1 + math.cos(math.pi / 3)) / 2)
    assert _shape_of_rate(1.0) == pytest.approx(0.0, abs=1e-7)


def test_the_rate_is_set_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    step = torch.optim.AdamW.step

    def noted(self: Any, *arguments: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    rows = random_features(10)
    settings = TrainSettings(epochs=5, batch=5, rate=0.02)
    fit(network(rows), rows, lambda said, _: said.logits.square().mean(), settings, torch.Generator())
    expected = [0.02 * _shape_of_rate((i + 0.5) / 10) for i in range(10)]
    assert rates == pytest.approx(expected)
    assert max(rates) <= 0.02


def test_it_lowers_the_loss() -> None:
    rows, targets = random_features(12), torch.arange(12) % 3
    model = network(rows)

    def now() -> float:
        return float(torch.nn.functional.cross_entropy(model.ask(rows).logits, targets))

    before = now()
    settings = TrainSettings(epochs=40, batch=12, rate=2e-2, mute=0.0)
    loss = lambda said, batch: torch.nn.functional.cross_entropy(said.logits, targets[batch])  # noqa: E731
    fit(model, rows, loss, settings, torch.Generator())
    assert now() < 0.2 < before


def test_nothing_to_learn_changes_nothing() -> None:
    rows = random_features(3)
    model = network(rows)
    before = {name: array.clone() for name, array in model.state().items()}
    nothing = rows[torch.zeros(0, dtype=torch.long)]
    fit(model, nothing, lambda said, _: said.logits.sum(), TrainSettings(), torch.Generator())
    assert all(torch.equal(array, before[name]) for name, array in model.state().items())


# ---- muting ---------------------------------------------------------------------------------------------------------


def test_sound_or_picture_is_withheld_never_both() -> None:
    rows = random_features(4000)
    some = torch.Generator().manual_seed(0)
    muted = _mute(rows, 0.25, some)
    deaf, blind = ~muted.heard, ~muted.seen
    assert not (deaf & blind).any()
    for share in (deaf, blind):
        assert float(share.float().mean()) == pytest.approx(0.25, abs=0.03)  # Four standard deviations.
    assert torch.equal(muted.audio, rows.audio)
    assert rows.heard.all()
    assert rows.seen.all()


def test_what_is_all_that_a_clip_has_is_not_withheld() -> None:
    rows = without(random_features(300), sound=range(100), picture=range(100, 200))
    muted = _mute(rows, 0.5, torch.Generator().manual_seed(0))
    assert muted.seen[:100].all()
    assert muted.heard[100:200].all()
    assert not muted.heard[:100].any()
    assert not muted.seen[100:200].any()
    assert not (muted.heard & muted.seen)[200:].any()  # At one half, every other clip loses one of its two.


def test_a_share_of_nothing_withholds_nothing() -> None:
    rows = random_features(200)
    muted = _mute(rows, 0.0, torch.Generator().manual_seed(0))
    assert muted.heard.all()
    assert muted.seen.all()
