"""What a learner does to one clip, as a graph of PyTorch's operations: for exporters, which know no learner."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from harkback.errors import HarkbackError
from harkback.features import Features
from harkback.learners.base import Learner, Looks

LARGEST = 2_000_000_000  #: bytes of all constants; one protobuf message, which an ONNX file is, holds at most 2 GiB
INPUTS = ("audio", "visual", "heard", "seen")


def recorded(learner: Learner[Any], clip: tuple[Tensor, ...]) -> fx.GraphModule:
    """What the learner does to one clip, operation by operation: (audio, visual, heard, seen) -> its outputs.

    It is asked for a clip alone, as no learner may score a clip otherwise among others: so whatever it does clip by
    clip or a few clips at a time is laid open, and every size is known.
    """
    recorder = _Recorder(type(learner).__name__)
    for name, array in zip(INPUTS, clip, strict=True):
        recorder.known[id(array)] = array, recorder.graph.placeholder(name)
    with torch.no_grad(), recorder:
        features = Features(("",), *(array[None] for array in clip))
        answers = [learner._scores(features)]
        if isinstance(learner, Looks):
            answers.append(learner.heat(features))
        answers = [answer.float()[0] for answer in answers]
    recorder.graph.output(tuple(recorder.result(answer) for answer in answers))
    return fx.GraphModule(recorder.constants, recorder.graph)


class _Recorder(TorchDispatchMode):
    """Records the operations that the clip has a part in. All others are done now, and their results are constants.

    So random features that are drawn anew from a seed become arrays, and a choice that depends on the learner alone is
    made once. PyTorch's own tracers would record the drawing.
    """

    def __init__(self, learner: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.learner = learner
        self.graph = fx.Graph()
        self.constants = nn.Module()
        self.size = 0  #: bytes of all constants
        #: By the id of a tensor that the clip has a part in, the node that makes it. The tensor is held, so that no
        #: other gets its id.
        self.known: dict[int, tuple[Tensor, fx.Node]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        if not any(id(each) in self.known for each in tree_leaves((args, options)) if isinstance(each, Tensor)):
            return func(*args, **options)
        if torch.Tag.data_dependent_output in func.tags:
            what = f"{self.learner} cannot be written as ONNX: it looks at a clip's numbers to decide what to compute"
            raise HarkbackError(what, mend="use it from Python")
        node = self.graph.call_function(func, *tree_map(self._argument, (tuple(args), dict(options))))
        if func is torch.ops.aten._to_copy.default:  # Of a copy as it is, torch.export 2.6 lets nothing be changed.
            node = self.graph.call_function(torch.ops.aten.clone.default, (node,))
        result = func(*args, **options)
        if isinstance(result, Tensor):
            self.known[id(result)] = result, node
        else:
            for i, part in enumerate(result):
                self.known[id(part)] = part, self.graph.call_function(operator.getitem, (node, i))
        return result

    def result(self, value: Tensor) -> fx.Node:
        """The node of what is to be an output; a copy, where the clip has no part in it."""
        if id(value) in self.known:
            return self.known[id(value)][1]
        return self.graph.call_function(torch.ops.aten.clone.default, (self._constant(value),))

    def _argument(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return self.known[id(value)][1] if id(value) in self.known else self._constant(value)

    def _constant(self, value: Tensor) -> fx.Node:
        """Equal arrays are kept once, however often they are drawn."""
        array = value.detach().clone().contiguous()
        told = hashlib.sha256(f"{array.dtype} {tuple(array.shape)}".encode() + array.numpy().tobytes())
        name = f"constant_{told.hexdigest()[:16]}"
        if not hasattr(self.constants, name):
            self.constants.register_buffer(name, array)
            self.size += array.nbytes
            if self.size > LARGEST:
                what = f"{self.learner} has more than {LARGEST / 1e9:.1f} GB of numbers, too many for one ONNX file"
                raise HarkbackError(what, mend="teach one with fewer random features")
        return self.graph.get_attr(name)
