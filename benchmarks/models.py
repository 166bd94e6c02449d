"""What it takes to hold a model: `python -m benchmarks.models [--known 10,1000]`.

Teaching 5 classes of 20 clips whose features lie in a store, everything counted but the loading of Python modules:
opening the model, finding the features, learning, the exam, writing. The clips are the demo's; the classes that the
model knows before are noise of the shape of the default encoder's tokens, 4 clips each. Then one question about a clip
of 2 s, and the time until `harkback --help` has been printed.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # As the command line does, before torch is loaded.

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import tables
from harkback.datasets.demo import Demo
from harkback.encoders import open_encoder
from harkback.extract import extract
from harkback.features import Features
from harkback.ledger import Entries
from harkback.model import Model, undo
from harkback.pupil import Pupil
from harkback.pupil_files import contents, ledger_file
from harkback.teaching import teach
from harkback.vault import Vault

AT_ONCE = 100  #: classes taught in one session while the model is made
CLIPS = 4  #: of each of those classes


def strangers(classes: int, seed: int) -> tuple[Features, list[str]]:
    """Clips of noise, each class about a point of its own."""
    some, shape = torch.Generator().manual_seed(seed), open_encoder("signal").spec.shape
    count = classes * CLIPS
    audio = torch.randn(classes, 1, 1, shape.audio_dim, generator=some) + torch.randn(
        classes, CLIPS, shape.audio_tokens, shape.audio_dim, generator=some
    )
    visual = torch.randn(count, *shape[2:], generator=some)
    there = torch.ones(count, dtype=torch.bool)
    names = tuple(f"noise-{seed}-{i}" for i in range(count))
    features = Features(names, audio.flatten(0, 1).half(), visual.half(), there, there.clone())
    return features, [f"class {seed}-{i // CLIPS}" for i in range(count)]


def make(path: Path, known: int) -> None:
    """A model that knows so many classes."""
    pupil, ledger = Pupil.new("hark", None, open_encoder("signal").spec), dict[str, Entries]()
    while len(pupil.classes) < known:
        pupil.teach(*strangers(min(AT_ONCE, known - len(pupil.classes)), pupil.version))
        pupil.version += 1
        ledger[ledger_file(pupil.version)] = pupil.entries()
        pupil.ledger = list(ledger)
    vault = Vault(path)
    with vault.changing(print):
        vault.commit(contents(pupil, path.name, ledger))


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def helped() -> float:
    began = time.perf_counter()
    subprocess.run([Path(sys.executable).with_name("harkback"), "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def measure(known: str = "10,1000") -> dict[str, dict[str, float]]:
    """By what is done: seconds. known: classes that the model knows before, with commas."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = Demo(folder / "clips", classes=5, train=20, test=1)
        clips = dataset.splits["train"]
        extract(clips, open_encoder("signal"), folder / "store")
        (folder / "clips" / "demo.json").unlink()
        teach(folder / "warm", folder / "clips", store=folder / "store")  # Modules, caches of random features.
        for count in map(int, known.split(",")):
            make(folder / f"rover-{count}", count)
            taken = []
            for _ in range(3):
                taken.append(timed(lambda: teach(folder / f"rover-{count}", folder / "clips", store=folder / "store")))  # noqa: B023
                undo(folder / f"rover-{count}")
            wall, cpu = sorted(taken)[1]
            title = f"`teach` 5 classes of 20 clips, {count} known (median of 3)"
            found[title] = {"wall_seconds": wall, "cpu_seconds": cpu}
        model = Model(folder / "warm")
        model.predict(clips[0].path)
        wall, cpu = timed(lambda: [model.predict(clip.path) for clip in clips[:20]])
        title = "`predict` one clip of 2 s, encoder loaded (mean of 20)"
        found[title] = {"wall_seconds": wall / 20, "cpu_seconds": cpu / 20}
        found["`harkback --help` (best of 5)"] = {"wall_seconds": min(helped() for _ in range(5))}
    return found


def main() -> None:
    take = argparse.ArgumentParser()
    take.add_argument("--known", default="10,1000", help="classes that the model knows, with commas")
    print("\n\n".join(tables(measure(take.parse_args().known))))


if __name__ == "__main__":
    main()
