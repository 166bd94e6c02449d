"""State: whatever an object is made of, said in arrays and set from them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save

from fakes import same_state
from harkback.state import Stateful, pack_text, restore_into, state_of, unpack_text


class Part:
    def __init__(self, value: float = 0.0) -> None:
        self.value = torch.tensor(value)

    def state(self) -> dict[str, torch.Tensor]:
        return {"value": self.value, "deep/er": self.value + 1}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        assert set(state) == {"value", "deep/er"}
        self.value = state["value"]


class Owner:
    def __init__(self, seed: int = 0, size: int = 2) -> None:
        self.weights = torch.full((size, 3), float(seed))
        self.count = torch.tensor(seed)
        self.part = Part(seed)
        self.part_two = Part(seed + 10)
        self.generator = torch.Generator().manual_seed(seed)
        self.width = 5  # No array: it comes from the settings.


@given(st.lists(st.text()))
def test_texts_of_any_kind_come_back(texts: list[str]) -> None:
    packed = pack_text(texts)
    assert packed.dtype == torch.uint8
    assert packed.dim() == 1
    assert unpack_text(packed) == tuple(texts)


@pytest.mark.parametrize("text", ["", "é", "e\u0301", "鐘", "🔔", "\x00", "a\nb", '"', "\\", "\udcff"])
def test_texts_that_are_hard(text: str) -> None:
    packed = load(save({"text": pack_text([text, "b"])}))["text"]
    assert unpack_text(packed) == (text, "b")


def test_names_and_arrays() -> None:
    state = state_of(Owner(3))
    assert set(state) == {
        "weights", "count", "part/value", "part/deep/er", "part_two/value", "part_two/deep/er", "generator",
    }  # fmt: skip
    assert state["part_two/value"] == 13
    assert same_state(state, load(save(state)))


def test_what_is_restored_is_the_same_and_goes_on_alike() -> None:
    owner, other = Owner(3, size=4), Owner(7, size=2)
    torch.rand(5, generator=owner.generator)
    restore_into(other, load(save(state_of(owner))))
    assert same_state(state_of(owner), state_of(other))
    assert other.weights.shape == (4, 3)
    assert other.part_two.value == 13
    assert torch.equal(torch.randn(9, generator=owner.generator), torch.randn(9, generator=other.generator))
    assert torch.equal(torch.randperm(9, generator=owner.generator), torch.randperm(9, generator=other.generator))


def test_a_state_is_a_copy_both_ways() -> None:
    owner = Owner(3)
    state = state_of(owner)
    owner.weights += 1
    owner.part.value += 1
    assert state["weights"][0, 0] == 3
    assert state["part/value"] == 3
    other = Owner()
    restore_into(other, state)
    other.weights += 1
    assert state["weights"][0, 0] == 3


def test_views_become_arrays_of_their_own() -> None:
    owner = Owner()
    owner.weights = torch.arange(12.0).view(3, 4).T[1:]
    state = state_of(owner)
    assert state["weights"].is_contiguous()
    assert torch.equal(load(save(state))["weights"], owner.weights)
    assert not state_of(Owner())["weights"].requires_grad


def test_a_missing_array_is_not_passed_over() -> None:
    state = state_of(Owner())
    del state["weights"]
    with pytest.raises(KeyError, match="weights"):
        restore_into(Owner(), state)


def test_what_is_stateful() -> None:
    assert isinstance(Part(), Stateful)
    assert not isinstance(torch.Generator(), Stateful)
    assert not isinstance(torch.zeros(1), Stateful)
