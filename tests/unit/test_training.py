"""The training loop: what it visits, how fast it goes, and what it withholds."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fakes import Mapped, random_features, same_state, without
from harkback.features import Features
from harkback.network import Answers, Network, NetworkSettings
from harkback.parallel import Share
from harkback.training import AVCIL_TRAIN, TrainSettings, _batches, _mute, _shape_of_rate, class_loss, fit

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


def test_the_loss_of_an_epoch_is_the_mean_over_its_steps() -> None:
    rows, said = random_features(10), []

    def loss(answers: Answers, batch: Tensor) -> Tensor:
        value = (answers.logits.sum() * 0 + len(said)).square()  # 0, 1, 4, 9 ...
        said.append(float(value.detach()))
        return value

    losses = fit(network(rows), rows, loss, TrainSettings(epochs=3, batch=4), torch.Generator())
    assert said == [float(i * i) for i in range(9)]
    assert losses == pytest.approx([sum(said[3 * e : 3 * e + 3]) / 3 for e in range(3)])


def test_class_loss_is_the_mean_of_minus_log_softmax() -> None:
    rows, targets, batch = random_features(6), torch.tensor([0, 2, 1, 1, 0, 2]), torch.tensor([4, 1, 5])
    said = network(rows).answer(rows[batch])
    expected = 0.0
    for row, target in zip(said.logits.tolist(), (0, 2, 2), strict=True):
        expected -= math.log(math.exp(row[target]) / sum(math.exp(x) for x in row)) / 3
    assert float(class_loss(targets)(said, batch).detach()) == pytest.approx(expected, rel=1e-5)


# ---- optimizers -----------------------------------------------------------------------------------------------------

PLAIN = TrainSettings(epochs=1, batch=64, rate=0.01, schedule="constant", mute=0.0)


def double(rows: Features) -> Network:
    """Of AV-CIL's body, which reads the tokens in the precision of its weights."""
    made = Network(replace(SMALL, body="avcil"))
    made.ready(rows, 3, torch.Generator().manual_seed(0))
    return made.double()


def by_hand(model: Network, rows: Features, targets: Tensor, settings: TrainSettings, steps: int) -> Network:
    """Adam (arXiv 1412.6980, algorithm 1) and AdamW (1711.05101, algorithm 2), step by step, all clips in each."""
    model = copy.deepcopy(model)
    first = {name: torch.zeros_like(w) for name, w in model.named_parameters()}
    second = {name: torch.zeros_like(w) for name, w in model.named_parameters()}
    for t in range(1, steps + 1):
        asked = dict(model.named_parameters())
        value = torch.nn.functional.cross_entropy(model(rows).logits, targets)
        slopes = torch.autograd.grad(value, list(asked.values()))
        with torch.no_grad():
            for (name, w), slope in zip(asked.items(), slopes, strict=True):
                if settings.optimizer == "adam":
                    slope = slope + settings.decay * w
                else:
                    w -= settings.rate * settings.decay * w
                first[name] = 0.9 * first[name] + 0.1 * slope
                second[name] = 0.999 * second[name] + 0.001 * slope * slope
                mean, square = first[name] / (1 - 0.9**t), second[name] / (1 - 0.999**t)
                w -= settings.rate * mean / (square.sqrt() + 1e-8)
    return model


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
@pytest.mark.parametrize("steps", [1, 3])
def test_steps_are_those_of_the_optimizers_papers(optimizer: Any, steps: int) -> None:
    rows, targets = random_features(8), torch.arange(8) % 3
    model = double(rows)
    settings = replace(PLAIN, optimizer=optimizer, epochs=steps, decay=0.3)
    expected = dict(by_hand(model, rows, targets, settings, steps).named_parameters())
    before = {name: w.detach().clone() for name, w in model.named_parameters()}
    fit(model, rows, class_loss(targets), settings, torch.Generator())
    for name, w in model.named_parameters():
        assert not torch.equal(w, before[name])
        torch.testing.assert_close(w, expected[name], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    ("optimizer", "moved", "within"),
    [
        ("adam", lambda w: w - 0.01 * w.sign(), 1e-4),  # Adam's epsilon is felt by the smallest weights.
        ("adamw", lambda w: w * (1 - 0.01 * 0.3), 1e-12),
    ],
)
def test_decay_alone_is_a_full_step_of_adam_and_a_share_of_the_weight_in_adamw(
    optimizer: Any, moved: Callable[[Tensor], Tensor], within: float
) -> None:
    """Coupled decay is a gradient like others, which Adam brings to length one; decoupled decay is not touched."""
    rows = random_features(8)
    model = double(rows)
    before = {name: w.detach().clone() for name, w in model.named_parameters()}
    settings = replace(PLAIN, optimizer=optimizer, decay=0.3)
    fit(model, rows, lambda said, _: said.logits.sum() * 0, settings, torch.Generator())
    for name, w in model.named_parameters():
        torch.testing.assert_close(w.detach(), moved(before[name]), rtol=0, atol=within)


def test_a_constant_rate_is_the_same_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    step = torch.optim.Adam.step

    def noted(self: Any, *arguments: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", noted)
    rows = random_features(10)
    settings = replace(PLAIN, optimizer="adam", epochs=5, batch=5, rate=0.02)
    fit(network(rows), rows, lambda said, _: said.logits.square().mean(), settings, torch.Generator())
    assert rates == [0.02] * 10


def test_av_cils_training_is_as_published() -> None:
    """FIELD: Adam, rate 1e-3, weight decay 1e-4, no schedule, batches of 256."""
    s = AVCIL_TRAIN
    assert (s.optimizer, s.rate, s.decay, s.schedule, s.batch, s.mute) == ("adam", 1e-3, 1e-4, "constant", 256, 0.0)


# ---- replay ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 30), st.integers(1, 12), st.integers(1, 40), st.integers(0, 1000))
def test_every_step_has_its_exemplars_and_they_come_in_turn(
    new: int, held: int, batch: int, replay: int, seed: int
) -> None:
    some = torch.Generator().manual_seed(seed)
    settings = TrainSettings(batch=batch, replay=replay)
    steps = [step.tolist() for step in _batches(new, new + held, settings, some)]
    fresh = [row for step in steps for row in step if row < new]
    assert sorted(fresh) == list(range(new))
    assert len(steps) == math.ceil(new / batch)
    for i, step in enumerate(steps):
        assert sum(row < new for row in step) == min(batch, new - i * batch)
        exemplars = [row for row in step if row >= new]
        assert len(set(exemplars)) == len(exemplars) == min(replay, held)  # None of them twice.
        assert max(exemplars) < new + held
    turn = held // min(replay, held)
    for first in range(0, len(steps), turn):  # Nor in the steps of one turn.
        seen = Counter(row for step in steps[first : first + turn] for row in step if row >= new)
        assert max(seen.values()) == 1


def visited(fresh: int | None, **changes: Any) -> list[list[list[int]]]:
    """The rows of every step of three epochs over ten rows."""
    rows, steps = random_features(10), []

    def loss(said: Answers, batch: Tensor) -> Tensor:
        steps.append(batch.tolist())
        return said.logits.square().mean()

    settings = TrainSettings(**{"epochs": 3, "batch": 3, **changes})
    fit(network(rows), rows, loss, settings, torch.Generator().manual_seed(1), fresh=fresh)
    return [steps[e * len(steps) // 3 : (e + 1) * len(steps) // 3] for e in range(3)]


def test_exemplars_join_each_batch_of_new_clips() -> None:
    epochs = visited(6, replay=2)
    for epoch in epochs:
        assert [[row < 6 for row in step] for step in epoch] == [[True] * 3 + [False] * 2] * 2
        assert sorted(row for step in epoch for row in step) == list(range(10))  # Two steps use all four exemplars.
    assert epochs[0] != epochs[1]


def test_all_exemplars_join_where_fewer_are_held_than_asked_for() -> None:
    for epoch in visited(8, replay=128):
        assert len(epoch) == 3
        assert all(sorted(row for row in step if row >= 8) == [8, 9] for step in epoch)


@pytest.mark.parametrize(("fresh", "replay"), [(None, 5), (6, 0), (None, 0), (10, 5)])
def test_without_replay_or_exemplars_all_rows_are_mixed(fresh: int | None, replay: int) -> None:
    epochs = visited(fresh, replay=replay)
    for epoch in epochs:
        assert [len(step) for step in epoch] == [3, 3, 3, 1]
        assert sorted(row for step in epoch for row in step) == list(range(10))
    assert epochs == visited(None)


def test_the_rate_is_spread_over_the_steps_of_the_new_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    step = torch.optim.AdamW.step

    def noted(self: Any, *arguments: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    visited(6, replay=2, rate=0.02)  # Two steps in each of three epochs.
    assert rates == pytest.approx([0.02 * _shape_of_rate((i + 0.5) / 6) for i in range(6)])


# ---- the best epoch -------------------------------------------------------------------------------------------------


def judged(marks: list[float] | None, epochs: int = 5) -> tuple[Network, list[dict[str, Tensor]], list[float]]:
    """The network after ``epochs``, its state at the end of each as the judge saw it, and the losses."""
    rows, targets = random_features(12), torch.arange(12) % 3
    model, states = network(rows), []

    def judge() -> float:
        states.append({name: array.clone() for name, array in model.state().items()})
        return marks[len(states) - 1]  # type: ignore[index]

    settings = TrainSettings(epochs=epochs, batch=5, rate=0.02, schedule="constant")
    losses = fit(
        model,
        rows,
        class_loss(targets),
        settings,
        torch.Generator().manual_seed(1),
        judge=None if marks is None else judge,
    )
    return model, states, losses


@pytest.mark.parametrize(
    ("marks", "best"),
    [
        ([0.1, 0.5, 0.9, 0.3, 0.2], 2),
        ([0.1, 0.9, 0.3, 0.9, 0.9], 1),  # the earliest of equals
        ([0.0, 0.0, 0.0, 0.0, 0.0], 0),
        ([0.1, 0.2, 0.3, 0.4, 0.5], 4),
        ([-3.0, -1.0, -2.0, -1.0, -9.0], 1),
    ],
)
def test_the_weights_of_the_best_epoch_stay(marks: list[float], best: int) -> None:
    model, states, losses = judged(marks)
    assert len(states) == len(losses) == 5  # It is asked once an epoch, and training goes on to the end.
    assert same_state(model.state(), states[best])
    assert all(not same_state(model.state(), state) for i, state in enumerate(states) if i != best)
    # With a rate that does not know the end, stopping there gives the same weights, bit for bit.
    stopped, _, shorter = judged(None, epochs=best + 1)
    assert same_state(model.state(), stopped.state())
    assert losses[: best + 1] == shorter


def test_without_a_judge_the_last_weights_stay() -> None:
    model, _, losses = judged(None)
    other, states, same = judged([0.0, 0.0, 0.0, 0.0, 1.0])
    assert same_state(model.state(), other.state())
    assert same_state(model.state(), states[-1])
    assert losses == same


# ---- muting ---------------------------------------------------------------------------------------------------------


def test_sound_or_picture_is_withheld_never_both() -> None:
    rows = random_features(4000)
    some = torch.Generator().manual_seed(0)
    muted = _mute(rows, 0.25, Share(len(rows)).uniform(some))
    deaf, blind = ~muted.heard, ~muted.seen
    assert not (deaf & blind).any()
    for share in (deaf, blind):
        assert float(share.float().mean()) == pytest.approx(0.25, abs=0.03)  # Four standard deviations.
    assert torch.equal(muted.audio, rows.audio)
    assert rows.heard.all()
    assert rows.seen.all()


def test_what_is_all_that_a_clip_has_is_not_withheld() -> None:
    rows = without(random_features(300), sound=range(100), picture=range(100, 200))
    muted = _mute(rows, 0.5, Share(len(rows)).uniform(torch.Generator().manual_seed(0)))
    assert muted.seen[:100].all()
    assert muted.heard[100:200].all()
    assert not muted.heard[:100].any()
    assert not muted.seen[100:200].any()
    assert not (muted.heard & muted.seen)[200:].any()  # At one half, every other clip loses one of its two.


def test_a_share_of_nothing_withholds_nothing() -> None:
    rows = random_features(200)
    muted = _mute(rows, 0.0, Share(len(rows)).uniform(torch.Generator().manual_seed(0)))
    assert muted.heard.all()
    assert muted.seen.all()
