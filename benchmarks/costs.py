"""What a clip of 10 s costs, measured: `python -m benchmarks.costs [PART ...]` writes `costs.json`.

CPU seconds of one thread throughout, so that other work on the machine hardly changes them. `benchmarks.scale` computes
from these figures what large benchmarks take. Takes some minutes, 3 GB of memory, and 1 GB of a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import catalogues, films
from benchmarks.machine import described, threads
from benchmarks.tokens import drawn
from harkback.encoders._codec import Codec, folded, latents_of
from harkback.encoders._vision import VisionTower
from harkback.encoders.signal import Signal
from harkback.features import Features, Rows, TokenShape
from harkback.files import digest, write_arrays, write_json
from harkback.learners.avcil import AVCIL
from harkback.learners.hark import Hark
from harkback.learners.l3 import L3
from harkback.learners.ridge import Ridge
from harkback.media import Media, read
from harkback.pictures import Squeeze
from harkback.stream import Session

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from tiny_models import SMALL, STRIDES, fill_sam_audio, sam_audio_shapes

FILE = Path(__file__).with_name("costs.json")
SECONDS, RATE, SIDE = 10, 48_000, 336  #: of a clip; Hz and pixels that SAM-Audio wants
BLOCK = 64  #: clips
SHAPES = {"signal": Signal().spec.shape, "sam-audio": TokenShape(50, 128, 8, 64, 1024)}
FEW, MORE = 64, 192  #: clips; what a clip costs is the slope between them


def films_read() -> dict[str, Any]:
    """By film: bytes, and CPU seconds of hashing, decoding for each encoder, and encoding with `signal`."""
    found, signal, squeeze = {}, Signal(), Squeeze(SIDE, "bicubic")
    with tempfile.TemporaryDirectory() as name:
        for kind in films.KINDS:
            path = films.film(Path(name) / f"{kind}.mp4", kind, SECONDS)
            media = _read(path, signal.spec.frames, signal.spec.sample_rate)
            assert media.frames is not None and media.waveform is not None
            found[kind] = {
                "bytes": path.stat().st_size,
                "hash": _seconds(lambda path=path: digest(path), 20),
                "decode signal": _seconds(lambda path=path: _read(path, 8, signal.spec.sample_rate)),
                "decode sam-audio": _seconds(lambda path=path: _read(path, 8, RATE, squeeze)),
                "decode sam-audio, 25 pictures a second": _seconds(
                    lambda path=path: _read(path, 250, RATE, squeeze), 1
                ),
                "encode signal": _seconds(lambda media=media: signal.encode([media])),
            }
    return found


def towers() -> dict[str, float]:
    """Operations of SAM-Audio's towers at their real size, counted; and CPU seconds, with random weights."""
    vision, codec = _towers(torch.device("meta"))
    wave, picture = torch.zeros(1, SECONDS * RATE), torch.zeros(1, 3, SIDE, SIDE)
    counted = {
        "operations a picture": operations(lambda: vision.patches(vision.stream(picture.to("meta")))),
        "operations of 10 s of sound": operations(lambda: codec(wave.to("meta"))),
    }
    vision, codec = _towers(torch.device("cpu"))
    noise = 0.3 * torch.randn(wave.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return {
            **counted,
            "cpu seconds a picture": _seconds(lambda: vision.patches(vision.stream(picture)), 3),
            "cpu seconds of 10 s of sound": _seconds(lambda: latents_of(codec, noise), 3),
        }


def operations(work: Callable[[], Any]) -> float:
    """Multiplications and additions of matrices and convolutions, as torch counts them."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        work()
    return float(counter.get_total_flops())


def formulas() -> dict[str, float]:
    """The same from the architecture: a multiplication and an addition are two operations."""
    s, tokens = SMALL, 1 + (SIDE // SMALL.patch) ** 2
    block = tokens * s.vision_width * (4 * s.vision_width + 2 * s.vision_hidden) + 2 * tokens**2 * s.vision_width
    picture = 2.0 * ((tokens - 1) * 3 * s.patch**2 * s.vision_width + s.vision_blocks * block)
    length, width = SECONDS * RATE, s.codec_dim
    sound = length * width * 7
    for stride in STRIDES:
        sound += 3 * length * width**2 * (7 + 1)  # Three residual units: a kernel of 7, then one of 1.
        length //= stride
        sound += length * width * 2 * width * 2 * stride
        width *= 2
    sound += length * (width * s.codec_latent * 3 + s.codec_latent * s.channels)
    return {"operations a picture": picture, "operations of 10 s of sound": 2.0 * sound}


def learning() -> dict[str, Any]:
    """CPU seconds a clip, by encoder and learner: of a session for those in closed form, of an epoch for the others."""
    found: dict[str, Any] = {}
    for encoder, shape in SHAPES.items():
        features = drawn([i % 8 for i in range(MORE)], 8, shape, 0)
        taught = {
            "hark": [_taught(Hark(), features, clips) for clips in (FEW, MORE)],
            "ridge": [_taught(Ridge(), features, clips) for clips in (FEW, MORE)],
            "l3": [_taught(_epochs(L3, 2), features, clips) / 2 for clips in (FEW, MORE)],
            "avcil": [_taught(_epochs(AVCIL, 2), features, clips) / 2 for clips in (FEW, MORE)],
        }
        found[encoder] = {name: (more - few) / (MORE - FEW) for name, (few, more) in taught.items()}
    return found


def writing() -> dict[str, Any]:
    """Seconds of writing a block of 64 clips with its list, to the disk: by encoder, CPU and wall."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        for encoder, shape in SHAPES.items():
            block, root = drawn([0] * BLOCK, 1, shape, 0), Path(name)
            arrays = {part: getattr(block, part) for part in ("audio", "visual", "heard", "seen")}

            def written(arrays: dict[str, torch.Tensor] = arrays, root: Path = root) -> None:
                write_arrays(root / "part.safetensors", arrays)
                write_json(root / "part.json", {"keys": ["0" * 64] * BLOCK, "failures": {}, "sources": {}})

            cpu = _seconds(written, 5)
            walls = [_wall(written) for _ in range(5)]
            found[encoder] = {"cpu": cpu, "wall": median(walls)}
    return found


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "films": films_read,
    "towers": towers,
    "learning": learning,
    "writing": writing,
    "catalogue": catalogues.measure,
}


def _read(path: Path, frames: int, rate: int, picture: Squeeze | None = None) -> Media:
    return read(path, frames=frames, sample_rate=rate, picture=picture)


def _towers(device: torch.device) -> tuple[VisionTower, Codec]:
    """With random weights, or none on the meta device."""
    used = ("vision_encoder.model.visual.", "audio_codec.encoder.", "audio_codec.quantizer.in_proj.")
    shapes = {name: shape for name, shape in sam_audio_shapes(SMALL).items() if name.startswith(used)}
    state = {name: torch.empty(shape, device=device) for name, shape in shapes.items()}
    if device.type != "meta":
        fill_sam_audio(state)
    parts: list[nn.Module] = []
    for prefix, make in (
        (used[0], lambda s: VisionTower(s, SMALL.vision_name)),
        ("audio_codec.", lambda s: Codec(s, STRIDES)),
    ):
        own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        own = own if prefix == used[0] else folded(own)
        with torch.device("meta"):
            module = make(own)
        module.load_state_dict(own, assign=True)
        parts.append(module.requires_grad_(False))
    return parts[0], parts[1]  # type: ignore[return-value]


def _epochs(kind: Any, epochs: int) -> Any:
    chosen = kind.Settings()
    return kind(replace(chosen, train=replace(chosen.train, epochs=epochs)), memory=0)


def _taught(learner: Any, features: Features, clips: int) -> float:
    lesson = Session.of(Rows(features, torch.arange(clips)), [f"class {i % 8}" for i in range(clips)])
    began = process_time()
    learner.learn(lesson)
    return process_time() - began


def _seconds(work: Callable[[], Any], repeats: int = 7) -> float:
    """Median CPU seconds, after a first time that does not count."""
    work()
    taken = []
    for _ in range(repeats):
        began = process_time()
        work()
        taken.append(process_time() - began)
    return median(taken)


def _wall(work: Callable[[], Any]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began


def main(argv: Sequence[str] | None = None) -> None:
    take = argparse.ArgumentParser(prog="python -m benchmarks.costs", description=(__doc__ or "").partition(":")[0])
    take.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; none: all")
    asked = take.parse_args(argv)
    machine = described()
    before = json.loads(FILE.read_text()) if FILE.exists() else {}
    found = before if before.get("machine") == machine else {"machine": machine, "dates": {}}
    with threads(1):
        for part in asked.parts or PARTS:
            found[part] = PARTS[part]()
            found["dates"][part] = date.today().isoformat()
            write_json(FILE, found)
            print(part, json.dumps(found[part], indent=1))


if __name__ == "__main__":
    main()
