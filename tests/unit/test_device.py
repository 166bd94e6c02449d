"""A body computes where it is put. Here is no GPU, but there is `meta`: a device that knows shapes and no numbers.

An operation on tensors of two devices is an error there as it is on a GPU, so whatever was left behind is found.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fakes import random_features
from harkback.device import carried, named, training_device, training_on
from harkback.errors import HarkbackError
from harkback.network import AVCIL_NETWORK, Network, NetworkSettings
from harkback.parallel import Share

META = torch.device("meta")
SMALL = NetworkSettings(width=8, heads=2, key_dim=4, dropout=0.3)
BODIES = {
    "l3": SMALL,
    "l3, not guided": replace(SMALL, guide="none"),
    "avcil": AVCIL_NETWORK,
    "avcil, not guided": replace(AVCIL_NETWORK, guide="none"),
}


@pytest.mark.parametrize("settings", BODIES.values(), ids=BODIES)
def test_a_body_leaves_nothing_on_the_cpu(settings: NetworkSettings) -> None:
    rows = random_features(4, 0)
    with training_on(META):
        network = Network(settings)
    network.build(rows.shape, torch.Generator().manual_seed(0))
    assert {values.device for values in network.body.state_dict().values()} == {META}
    assert {values.device for values in network.head.parameters()} == {torch.device("cpu")}
    seen = network.body(carried(rows, META), Share(4).uniform(torch.Generator().manual_seed(0)))
    assert {part.device for part in seen[:4]} == {META}
    assert seen.fused.shape == (4, settings.width)
    (seen.fused.sum() + seen.read.sum()).backward()
    slopes = [weight.grad for weight in network.body.parameters() if weight.grad is not None]
    assert slopes
    assert {slope.device for slope in slopes} == {META}
    if seen.looked is not None:
        with torch.no_grad():
            assert seen.looked.heat().device == META


def test_networks_are_on_the_cpu_unless_it_is_said() -> None:
    assert training_device() == Network(SMALL).device == torch.device("cpu")
    with pytest.raises(KeyError), training_on(META):
        assert training_device() == Network(SMALL).device == META
        raise KeyError
    assert training_device() == torch.device("cpu")


def test_what_is_there_already_is_not_copied() -> None:
    rows = random_features(2, 0)
    assert carried(rows, torch.device("cpu")) is rows
    there = carried(rows, META)
    assert carried(there, META).visual is there.visual
    assert {there.audio.device, there.visual.device, there.heard.device, there.seen.device} == {META}


@pytest.mark.parametrize("name", ["gpu", "meta", "cuda:99", "", "cpu:x"])
def test_a_device_that_is_not_here_is_told_in_a_line(name: str) -> None:
    with pytest.raises(HarkbackError, match=r"--train-on: networks cannot be trained on .* here; use cpu"):
        named(name, "--train-on")


def test_the_cpu_is_always_here() -> None:
    assert named(None, "--train-on") == named("cpu", "--train-on") == torch.device("cpu")
