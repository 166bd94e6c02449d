"""A taught learner as an ONNX file: tokens in, scores and attention out, for programs that have no PyTorch."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harkback import __version__
from harkback.errors import HarkbackError
from harkback.features import READ, FeatureRows, Features, TokenShape
from harkback.files import whole
from harkback.learners.base import Learner, Looks
from harkback.recording import INPUTS, recorded

INSTALL = 'pip install "harkback[onnx]"'
UPDATE = "update with `pip install --upgrade onnx onnxruntime onnxscript`, or use it from Python"
TOLERANCE = 1e-5  #: how far the file's answers may be from PyTorch's, as a share of the largest of them
BATCHES = (1, 2, 7)  #: random clips that are asked at once to compare the two

OUTPUTS = ("scores", "attention")


def export(
    learner: Learner[Any],
    shape: TokenShape,
    path: Path,
    *,
    metadata: Mapping[str, str],
    like: FeatureRows | None = None,
) -> float:
    """Write what the learner knows as an ONNX file that answers for any number of clips, and check the file.

    Inputs: audio (clips, audio_tokens, audio_dim) float32, visual (clips, frames, patches, visual_dim) float32, heard
    and seen (clips,) bool, as in `Features`. Outputs: scores (clips, classes) float32, and, of a learner that `Looks`,
    attention (clips, frames, patches) float32. The file's one metadata property, ``harkback``, is JSON: ``classes``,
    the names of the scores' columns; ``version``, Harkback's; and ``metadata``'s entries beside them.

    The file that lies on the disk is asked by onnxruntime, and the learner by PyTorch, for the same random clips: 1, 2
    and 7 at once, some without sound, some without a picture, one without either. Returned is the greatest difference
    there was: of the scores as a share of the largest absolute score of all these clips, of the attention as a share of
    its largest value, whichever is greater. Where it is above 1e-5 nothing is left at ``path``.

    like: clips like those to be asked. The random tokens have the mean and the deviation of theirs, channel by channel;
    without, they are standard normal. Tokens far from all that was taught would magnify rounding.
    """
    if not learner.classes:
        raise HarkbackError("nothing was taught yet, so there is nothing to export", mend="teach it first")
    with _quiet():
        onnx, onnxruntime = _packages()
        body = _exported(learner, shape)
        model = _over_clips(onnx, body, {**metadata, "classes": learner.classes, "version": __version__})
    with whole(path) as temporary:
        onnx.save(model, temporary)
        some = torch.Generator().manual_seed(0)
        asked = [_drawn(shape, count, like, some) for count in BATCHES]
        difference = _difference(_told(learner, asked), _run(onnxruntime, temporary, path, asked))
        if not difference <= TOLERANCE:
            what = f"its answers would differ from PyTorch's by {difference:.1g} of the largest, so it was not kept"
            ours = "tell us of it, with the learner's name and settings"
            mend = "compare on clips `like` those it was taught" if like is None else ours
            raise HarkbackError(what, where=path, mend=mend)
    return difference


def _packages() -> tuple[Any, Any]:
    try:
        onnx, onnxruntime, _ = (import_module(name) for name in ("onnx", "onnxruntime", "onnxscript"))
    except ImportError as error:
        raise HarkbackError(f"an ONNX file cannot be written without {error.name}", mend=INSTALL) from error
    return onnx, onnxruntime  # torch.onnx imports onnxscript by itself, and fails late without it.


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns, logs and prints of matters that are not the user's; what fails is raised all the same."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


# ---- one clip -------------------------------------------------------------------------------------------------------


def _exported(learner: Learner[Any], shape: TokenShape) -> Any:
    """The ONNX model for one clip: its inputs and outputs are those of the file, less their first dimension."""
    clip = _one(shape)
    try:
        program = torch.export.export(recorded(learner, clip), clip, strict=False)
        names = [f"clip_{name}" for name in (*INPUTS, *_outputs(learner))]
        found = torch.onnx.export(
            program, dynamo=True, verbose=False, input_names=names[: len(INPUTS)], output_names=names[len(INPUTS) :]
        )
        return found.model_proto  # type: ignore[union-attr]
    except HarkbackError:
        raise
    except Exception as error:  # PyTorch's, the exporter's, or that of a learner from elsewhere.
        what = f"{type(learner).__name__} cannot be written as ONNX: {_first_line(error)}"
        raise HarkbackError(what, mend=UPDATE) from error


# ---- any number of clips --------------------------------------------------------------------------------------------


def _over_clips(onnx: Any, one: Any, facts: Mapping[str, Any]) -> Any:
    """The model that does to each of many clips what ``one`` does to one, by ONNX's own loop, `Scan`.

    The loop costs next to nothing beside the work for a clip, and holds what one clip needs at a time, where a graph
    over all clips would hold that of all: the lifted patches of 100 clips are a gigabyte.
    """
    helper, body = onnx.helper, one.graph
    constants = list(body.initializer)
    del body.initializer[:], body.value_info[:]
    for part in (body, *body.node, *body.input, *body.output, *constants):
        del part.metadata_props[:]  # The lines of code it came from, with the paths of this machine.
        part.ClearField("doc_string")
    made = {name for node in body.node for name in node.output}
    for value in constants:
        if value.name in {output.name for output in body.output} - made:  # A look that is the same for every clip.
            body.node.append(helper.make_node("Identity", [f"{value.name}_always"], [value.name]))
            value.name = f"{value.name}_always"

    def many(values: Any) -> list[Any]:
        """The same of many clips."""
        types = [(value.name.removeprefix("clip_"), value.type.tensor_type) for value in values]
        return [
            helper.make_tensor_value_info(name, kind.elem_type, ["clips", *(d.dim_value for d in kind.shape.dim)])
            for name, kind in types
        ]

    given, wanted = many(body.input), many(body.output)
    loop = helper.make_node(
        "Scan", [x.name for x in given], [x.name for x in wanted], "clips", num_scan_inputs=len(given), body=body
    )
    graph = helper.make_graph([loop], "harkback", given, wanted, constants)
    model = helper.make_model(
        graph,
        opset_imports=one.opset_import,
        ir_version=one.ir_version,
        producer_name="harkback",
        producer_version=__version__,
    )
    helper.set_model_props(model, {"harkback": json.dumps(facts)})
    onnx.checker.check_model(model)
    return model


def _told(learner: Learner[Any], asked: Sequence[Features]) -> list[list[Tensor]]:
    """PyTorch's answers to each of the batches."""
    return [[learner.scores(clips), *([learner.heat(clips)] if isinstance(learner, Looks) else [])] for clips in asked]


def _run(onnxruntime: Any, file: Path, path: Path, asked: Sequence[Features]) -> list[list[Tensor]]:
    """The answers of the ``file`` that is to be ``path``."""
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        inputs = [{name: getattr(clips, name).numpy() for name in INPUTS} for clips in asked]
        return [[torch.from_numpy(answer) for answer in session.run(None, each)] for each in inputs]
    except Exception as error:  # Of many classes of its own.
        what = f"onnxruntime {onnxruntime.__version__} cannot run it, so it was not kept: {_first_line(error)}"
        raise HarkbackError(what, where=path, mend=UPDATE) from error


def _difference(wanted: list[list[Tensor]], got: list[list[Tensor]]) -> float:
    """How far the file's answers are from PyTorch's, by `export`'s measure; NaN if one of them is."""
    found = []
    for want, answer in zip(zip(*wanted, strict=True), zip(*got, strict=True), strict=True):
        exact, mine = (torch.cat([batch.double().flatten() for batch in side]) for side in (want, answer))
        largest = float(exact.abs().max())
        found.append((exact - mine).abs().max() / (largest or 1.0))
    return float(torch.stack(found).max())


def _first_line(error: BaseException) -> str:
    """Of what was at the bottom of it: what exporters say around that is advice to their own authors."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _outputs(learner: Learner[Any]) -> Sequence[str]:
    return OUTPUTS if isinstance(learner, Looks) else OUTPUTS[:1]


def _one(shape: TokenShape) -> tuple[Tensor, ...]:
    clips = _drawn(shape, 1, None, torch.Generator().manual_seed(0))
    return clips.audio[0], clips.visual[0], clips.heard[0], clips.seen[0]


def _drawn(shape: TokenShape, count: int, like: FeatureRows | None, some: torch.Generator) -> Features:
    """Random clips. Of every four the second has no sound, the third no picture, the fourth neither."""
    number = torch.arange(count) % 4
    heard, seen = number % 2 == 0, number < 2
    audio = torch.randn(count, shape.audio_tokens, shape.audio_dim, generator=some)
    visual = torch.randn(count, shape.frames, shape.patches, shape.visual_dim, generator=some)
    if like is not None:
        known = like[torch.arange(min(len(like), READ))]
        audio = _alike(audio, known.audio[known.heard])
        visual = _alike(visual, known.visual[known.seen])
    return Features(
        tuple(map(str, range(count))), audio * heard[:, None, None], visual * seen[:, None, None, None], heard, seen
    )


def _alike(normal: Tensor, tokens: Tensor) -> Tensor:
    """Standard normal numbers, brought to the tokens' mean and deviation, channel by channel."""
    if not len(tokens):
        return normal
    spread, mean = torch.std_mean(tokens.float().flatten(0, -2), 0, correction=0)
    return normal * spread + mean
