"""The state of a learner as named arrays, so that it can be kept in safetensors and continued bit for bit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

State = dict[str, Tensor]


@runtime_checkable
class Stateful(Protocol):
    """Something that can say all it is in arrays, and become that again; sizes are the state's, not its own."""

    def state(self) -> State: ...
    def restore(self, state: State) -> None: ...


def pack_text(texts: Sequence[str]) -> Tensor:
    """Texts as (bytes,) uint8, for a file that holds arrays alone."""
    return torch.tensor(list(json.dumps(list(texts)).encode()), dtype=torch.uint8)


def unpack_text(packed: Tensor) -> tuple[str, ...]:
    return tuple(json.loads(bytes(packed.tolist())))


def state_of(owner: object) -> State:
    """The arrays of an object: its tensors, its generators and its `Stateful` parts, by attribute name."""
    state: State = {}
    for name, value in sorted(vars(owner).items()):
        if isinstance(value, Tensor):
            state[name] = value
        elif isinstance(value, torch.Generator):
            state[name] = value.get_state()
        elif isinstance(value, Stateful):
            state.update({f"{name}/{key}": array for key, array in value.state().items()})
    return {name: array.detach().clone().contiguous() for name, array in state.items()}


def restore_into(owner: object, state: State) -> None:
    """Set the arrays of an object of the same kind and settings from `state_of`."""
    for name, value in vars(owner).items():
        if isinstance(value, Tensor):
            setattr(owner, name, state[name].clone())
        elif isinstance(value, torch.Generator):
            value.set_state(state[name].to(torch.uint8))
        elif isinstance(value, Stateful):
            start = f"{name}/"
            value.restore({key.removeprefix(start): array for key, array in state.items() if key.startswith(start)})
