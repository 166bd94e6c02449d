"""Model files on disk: their tensors mapped into memory, so that only the towers in use are ever read."""

from __future__ import annotations

import hashlib
import pickle  # noqa: TID251 (for the name of its error)
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from harkback.encoders._device import check_room
from harkback.errors import HarkbackError
from harkback.files import read_arrays, read_json
from harkback.state import State

AGAIN = "download the model again"
Module = TypeVar("Module", bound=nn.Module)
Fact = TypeVar("Fact")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder with ``config.json`` and tensors by name. Nothing of a tensor is read before it is touched."""

    folder: Path
    config: Mapping[str, Any]
    tensors: State

    @classmethod
    def open(cls, folder: Path, *, kind: str, is_ours: Callable[[Mapping[str, Any]], bool]) -> Checkpoint:
        """kind: the model's name in messages; is_ours: whether a config is of that kind.

        Raises `HarkbackError` where the folder is no model, another model, damaged, or a pickle that wants to do more
        than hold tensors.
        """
        if not folder.is_dir():
            raise HarkbackError("is no folder", where=folder, mend=f"give the folder of a {kind} model, or its hub id")
        config = folder / "config.json"
        if not config.is_file():
            raise HarkbackError(f"holds no {kind} model: there is no config.json", where=folder, mend=AGAIN)
        facts = read_json(config, AGAIN)
        if not isinstance(facts, dict) or not is_ours(facts):
            told = facts.get("model_type") if isinstance(facts, dict) else None
            other = f": its config.json says {told}" if told else ""
            raise HarkbackError(f"is the folder of another model, not of {kind}{other}", where=folder, mend="check it")
        return cls(folder, facts, _tensors(folder, kind))

    def fact(self, part: str, name: str, kind: Callable[[Any], Fact]) -> Fact:
        """What ``config.json`` says of a part, as ``kind`` makes it; `HarkbackError` if it does not say that."""
        try:
            return kind(self.config[part][name])
        except (KeyError, TypeError, ValueError) as error:
            what = f"does not say {part}.{name}, or in a way that is not known"
            raise HarkbackError(what, where=self.folder / "config.json", mend=AGAIN) from error

    def anew(self) -> Checkpoint:
        """The same, mapped anew: what is read there is in memory only as long as its tensors are held.

        For tensors that are copied or only looked at: those that stay mapped are in memory once as they are.
        """
        return replace(self, tensors=_tensors(self.folder, "")) if self.folder.is_dir() else self

    def tower(self, prefix: str | tuple[str, ...]) -> State:
        """The tensors whose names begin so; a single prefix is taken off."""
        found = {name: tensor for name, tensor in self.tensors.items() if name.startswith(prefix)}
        if not found:
            first = prefix if isinstance(prefix, str) else prefix[0]
            raise HarkbackError(f'holds no tensors "{first}*"', where=self.folder, mend="check that it is the model")
        return {name.removeprefix(prefix): t for name, t in found.items()} if isinstance(prefix, str) else found

    def built(self, make: Callable[[State], Module], state: State, device: torch.device, dtype: torch.dtype) -> Module:
        """A module with these tensors in it, ready to ask. On the CPU in the file's own type they stay mapped."""
        check_room(sum(t.numel() for t in state.values()) * dtype.itemsize, device, self.folder)
        try:
            with torch.device("meta"):
                module = make(state)
            module.load_state_dict({name: t.to(device, dtype) for name, t in state.items()}, assign=True)
        except (KeyError, IndexError, ValueError, RuntimeError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            why = str(error).splitlines()
            raise HarkbackError(
                f"its tensors do not fit together: {(why[1:] or why or ['?'])[0].strip()}",
                where=self.folder,
                mend=AGAIN,
            ) from error
        return module.eval().requires_grad_(False)


def blocks_of(state: State, prefix: str) -> int:
    """How many numbered blocks there are under a prefix."""
    return 1 + max(
        (int(name.removeprefix(prefix).split(".")[0]) for name in state if name.startswith(prefix)), default=-1
    )


def weights_digest(*states: State) -> str:
    """16 hexadecimal digits that name these tensors, whatever files they lie in."""
    known = hashlib.sha256()
    for state in states:
        for name in sorted(state):
            tensor = state[name].detach().cpu().contiguous()
            known.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            known.update(tensor.flatten().view(torch.uint8).numpy().data)
    return known.hexdigest()[:16]


def _tensors(folder: Path, kind: str) -> State:
    """All tensors of the folder's model file, mapped."""
    names = ("checkpoint.pt", "model.safetensors", "model.safetensors.index.json")
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise HarkbackError(f"holds no {kind} model: there is no {' or '.join(names[:2])}", where=folder, mend=AGAIN)
    if path.suffix == ".pt":
        return _unpickled(path)
    if path.suffix == ".safetensors":
        return _mapped(path)
    index = read_json(path, _anew(path))
    if not isinstance(index, dict) or not isinstance(index.get("weight_map"), dict):
        raise HarkbackError("names no files of tensors", where=path, mend=_anew(path))
    out: State = {}
    for name in sorted(set(map(str, index["weight_map"].values()))):
        out.update(_mapped(folder / name))
    return out


def _mapped(path: Path) -> State:
    return read_arrays(path, _anew(path))


def _unpickled(path: Path) -> State:
    """Tensors of a file of ``torch.save``; a pickle that holds, or wants to do, anything else is refused unread."""
    try:
        held = torch.load(path, map_location="cpu", mmap=True, weights_only=True)  # noqa: TID251 (holds to tensors)
    except pickle.UnpicklingError as error:
        raise HarkbackError(
            "is a pickle that wants more than to hold tensors, and was not run", where=path, mend="do not trust it"
        ) from error
    except (RuntimeError, EOFError, ValueError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0][:100]
        raise HarkbackError(f"is damaged: {why}", where=path, mend=_anew(path)) from error
    if not isinstance(held, dict) or not all(isinstance(tensor, Tensor) for tensor in held.values()):
        raise HarkbackError("is not a plain dictionary of tensors", where=path, mend="check that it is the model")
    return held


def _anew(path: Path) -> str:
    # In the hub's cache a model's files are links; deleting only the link would bring the same bytes back.
    return f"delete {path.resolve()} and {AGAIN}"
