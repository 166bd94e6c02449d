"""How fast an encoder with a model is, and what it waits for: `python -m benchmarks.encoders [CLIPS] --help`.

Measures on the CPU and, where there is one, on a GPU: the whole extraction of real files, the encoder on clips in
memory, and its towers alone on ready tensors. What matters are the ratios within one run; machines differ.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from harkback.clips import Clip
from harkback.datasets import open_dataset
from harkback.datasets.demo import Demo
from harkback.encoders import Encoder, open_encoder
from harkback.encoders._checkpoint import Checkpoint
from harkback.encoders._device import chosen_device, chosen_dtype
from harkback.encoders._eye import AT_ONCE
from harkback.encoders._vision import VisionTower
from harkback.encoders.sam_audio import SamAudio
from harkback.errors import HarkbackError
from harkback.extract import BATCH, extract
from harkback.features import Features
from harkback.media import Media, read
from harkback.pictures import pixels
from harkback.registry import ENCODERS

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from tiny_models import SMALL, fill_sam_audio, sam_audio_config, sam_audio_folder, sam_audio_shapes, tiny_pe_av

TINY: dict[str, Callable[[Path], Path]] = {"sam-audio": sam_audio_folder, "pe-av": tiny_pe_av}
LEAST = 3.0  # seconds that anything is measured for
READ = 16  # clips in memory
Rows = list[tuple[str, str]]


class Watched:
    """An encoder that notes when it was at work."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.spec, self.picture, self.in_workers = encoder.spec, encoder.picture, encoder.in_workers
        self.work: list[tuple[float, float]] = []

    def encode(self, media: Sequence[Media]) -> Features:
        began = perf_counter()
        features = self.encoder.encode(media)  # They are on the CPU, so the device is done too.
        self.work.append((began, perf_counter()))
        return features


def main() -> None:
    take = argparse.ArgumentParser(prog="python -m benchmarks.encoders", description=(__doc__ or "").partition(":")[0])
    take.add_argument("clips", nargs="?", help="folder of clips; none: the demo's")
    take.add_argument("--most", type=int, default=64, help="clips to take, evenly from all")
    take.add_argument("--encoder", default="sam-audio", choices=ENCODERS.names())
    take.add_argument("--model", help="folder or hub id; none: a tiny one with random weights")
    take.add_argument("--real-size", action="store_true", help="random weights of the real small SAM-Audio's size")
    take.add_argument("--frames", type=int, help="pictures a clip")
    take.add_argument("--workers", type=int, help="processes that decode; none: one a core")
    take.add_argument("--device", help="none: the CPU, and then a GPU if there is one, each in a process of its own")
    take.add_argument("--dtype", help="none: bfloat16 on a GPU, float32 on the CPU")
    take.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # this is the process that measures
    asked = take.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        if asked.here:
            _measure(asked, scratch)
            return
        if asked.clips is None:
            asked.clips = str(scratch / "clips")
            _ = Demo(Path(asked.clips), train=6, test=2).splits  # drawn
        flags = [flag for key in ("encoder", "model", "frames", "workers", "dtype") for flag in _flag(asked, key)]
        flags += ["--most", str(asked.most), *["--real-size"] * asked.real_size, "--here"]
        # Threads that wait sleep, as in the command.
        surroundings = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
        for device in [asked.device] if asked.device else ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]:
            argv = [sys.executable, "-m", "benchmarks.encoders", asked.clips, "--device", device, *flags]
            done = subprocess.run(argv, check=False, env=surroundings)
            if done.returncode:
                raise SystemExit(done.returncode)


def _measure(asked: argparse.Namespace, scratch: Path) -> None:
    every = [clip for clips in open_dataset(asked.clips).splits.values() for clip in clips]
    clips = every[:: max(1, len(every) // asked.most)][: asked.most]
    encoder = _encoder(asked, scratch)
    where = "the CPU" if asked.device == "cpu" else torch.cuda.get_device_name()
    size = "the real small size" if asked.real_size else asked.model or "a tiny model"
    print(f"\n{asked.encoder}, {size}, {len(clips)} clips, on {where} ({os.cpu_count()} cores)\n")
    print("| measure | value |\n|---|---|")
    for title, value in _rows(encoder, clips, scratch, asked.workers):
        print(f"| {title} | {value} |", flush=True)


def _flag(asked: argparse.Namespace, key: str) -> list[str]:
    value = getattr(asked, key)
    return [] if value is None else [f"--{key}", str(value)]


def _encoder(asked: argparse.Namespace, scratch: Path) -> Any:
    kind = ENCODERS.load(asked.encoder)
    if not hasattr(kind, "from_pretrained"):
        return open_encoder(asked.encoder)
    settings = kind.Settings() if asked.frames is None else kind.Settings(frames=asked.frames)
    if not asked.real_size:
        model = asked.model or TINY[asked.encoder](scratch / "model")
        return open_encoder(asked.encoder, model, device=asked.device, dtype=asked.dtype, settings=settings)
    if kind is not SamAudio or asked.model:
        raise SystemExit("--real-size is for sam-audio, and without --model")
    device = chosen_device(asked.device)
    dtype = chosen_dtype(asked.dtype, device)
    state: dict[str, Tensor] = {}
    for name, shape in sam_audio_shapes(SMALL).items():
        if name.startswith(("audio_codec.encoder.", "audio_codec.quantizer.in_proj.")):
            state[name] = torch.empty(shape, device=device)
        elif name.startswith("vision_encoder.model.visual."):
            state[name] = torch.empty(shape, device=device, dtype=dtype)
    fill_sam_audio(state)
    for name, shape in sam_audio_shapes(SMALL).items():
        if not name.startswith(("audio_codec.", "vision_encoder.")):
            state[name] = torch.empty(shape, device="meta")  # the DiT, of which only the shapes are looked at
    return SamAudio(Checkpoint(Path("random numbers"), sam_audio_config(SMALL), state), device, dtype, settings)


def _rows(encoder: Any, clips: Sequence[Clip], scratch: Path, workers: int | None) -> Rows:
    has_towers = hasattr(type(encoder), "vision") and getattr(encoder, "sees", True)
    encoder.encode(_media(encoder, clips[:BATCH]))  # What is read or built once is not the pipeline's to pay.
    watched = Watched(encoder)
    began = perf_counter()
    done = extract(clips, encoder if encoder.in_workers else watched, scratch / "store", workers=workers)
    ended = perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    out = [("**whole extraction**, clips/s", f"{len(done.clips) / (ended - began):.2f}")]
    steady = len(done.clips) / (ended - began)
    if watched.work:
        first, busy = watched.work[0][0], sum(end - begin for begin, end in watched.work)
        steady = len(done.clips) / (ended - first)
        out += [
            ("whole extraction without the start of its processes, clips/s", f"{steady:.2f}"),
            ("seconds until the first clips were decoded", f"{first - began:.1f}"),
            ("share of the time since then that the encoder waits", f"{1 - busy / (ended - first):.1%}"),
        ]
    out.append(("peak resident memory, workers not counted, MB", f"{peak / 1e6:.0f}"))
    if torch.cuda.is_initialized():
        out.append(("peak memory of the GPU, MB", f"{torch.cuda.max_memory_allocated() / 1e6:.0f}"))
    if has_towers:
        held = sum(t.numel() * t.element_size() for part in (encoder.vision, encoder.codec) for t in part.parameters())
        out.append(("weights of vision tower and codec, MB", f"{held / 1e6:.0f}"))

    media = _media(encoder, clips[:READ])
    ready = _rate(encoder.encode, [media[at : at + BATCH] for at in range(0, len(media), BATCH)])
    out.append(("**encoder** on clips in memory, clips/s", f"{ready:.2f}"))
    out.append(("extraction / encoder on clips in memory", f"{steady / ready:.0%}"))
    if has_towers:
        out += _alone(encoder, media, steady)
    return out


def _media(encoder: Any, clips: Sequence[Clip]) -> list[Media]:
    spec = encoder.spec
    asked = {"frames": spec.frames, "per_second": spec.per_second, "sample_rate": spec.sample_rate}
    return [read(clip.path, **asked, picture=encoder.picture) for clip in clips]


@torch.no_grad()
def _alone(encoder: Any, media: Sequence[Media], extraction: float) -> Rows:
    """The towers on tensors that are ready on the device; extraction: clips a second of the whole pipeline."""
    device, tower = encoder.device, encoder.vision
    out: Rows = []
    seconds = []  # a clip, of each tower
    seen = [clip.frames for clip in media if clip.frames is not None]
    if seen:
        squares = pixels(torch.cat(seen).permute(0, 3, 1, 2).to(device))
        looks = _rate(lambda x: tower.patches(tower.stream(x)), squares.split(AT_ONCE[device.type]))
        own, most = _operations(tower, squares.shape[-1]) * looks, _matrix_rate(device, encoder.dtype)
        alone = looks / len(seen[0])
        seconds.append(1 / alone)
        out += [
            (f"**vision tower** alone ({len(seen[0])} pictures a clip), clips/s", f"{alone:.2f}"),
            ("extraction / vision tower alone", f"{extraction / alone:.0%}"),
            ("vision tower, 10^9 operations a second", f"{own / 1e9:.0f}"),
            (f"large {str(encoder.dtype)[6:]} matrices, 10^9 operations a second", f"{most / 1e9:.0f}"),
            ("vision tower / large matrices", f"{own / most:.0%}"),
        ]
    heard = [clip.waveform[0] for clip in media if clip.waveform is not None]
    if heard:
        samples = min(map(len, heard))
        waves = torch.stack([wave[:samples] for wave in heard]).to(device)
        listens = _rate(encoder.audio_latents, waves.split(BATCH))
        seconds.append(1 / listens)
        times = listens * samples / media[0].sample_rate
        out.append(("**codec** alone, clips/s", f"{listens:.2f} ({times:.0f} times real time)"))
    out.append(("extraction / both, one after the other", f"{extraction * sum(seconds):.0%}"))
    return out


def _operations(tower: VisionTower, side: int) -> float:
    """Multiplications and additions for one picture, without those that are not of matrices."""
    width, patches = tower.width, (side // tower.patch) ** 2
    tokens, hidden = patches + tower.extra, tower.transformer["resblocks"][0].mlp.c_fc.out_features
    block = tokens * width * (4 * width + 2 * hidden) + 2 * tokens**2 * width
    return 2.0 * (patches * 3 * tower.patch**2 * width + tower.depth * block)


def _matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    side = 8192 if device.type == "cuda" else 2048
    one, other = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2.0 * side**2 * _rate(one.matmul, [other])  # of rows


def _rate(run: Callable[[Any], Any], batches: Sequence[Any]) -> float:
    """Rows a second, over `LEAST` seconds, after a first batch that does not count."""
    turns, on_gpu = cycle(batches), torch.cuda.is_initialized()

    def some(count: int) -> int:
        rows = 0
        for batch in islice(turns, count):
            run(batch)
            rows += len(batch)
        if on_gpu:
            torch.cuda.synchronize()
        return rows

    some(1)
    rows, began = 0, perf_counter()
    while perf_counter() - began < LEAST:
        rows += some(4 if on_gpu else 1)  # Each wait lets a GPU run empty.
    return rows / (perf_counter() - began)


if __name__ == "__main__":
    try:
        main()
    except HarkbackError as error:
        raise SystemExit(str(error)) from None
