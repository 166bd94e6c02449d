"""What a cluster costs: `python -m benchmarks.cluster [--clips 512] [--seconds 0.4]` (with the extra ``ray``).

Clips of a tenth of a second, and an encoder that takes that many seconds of a core for each: by this process, by two
worker processes of it, and by a Ray cluster of two machines with a core each, on this machine's loopback, which is up
before the clock starts. Its own processes start within the time that is measured. Ideal is half of what one core takes.
Needs two cores with nothing else to do: another program's share of them would count as Ray's.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from clusters import Two, store_of
from fakes import Fake, tone
from harkback.clips import Clip
from harkback.cluster import joined
from harkback.engine import Engine
from harkback.extract import extract

WANTED = 0.85  #: of the ideal speed-up


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=0.4, help="that the encoder takes for a clip")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        paths = [tone(root / "clips" / f"{i}.wav", 200 + 3500 * i / asked.clips) for i in range(asked.clips)]
        clips = [Clip(path.name, path, "tone") for path in paths]

        def timed(name: str, on: Engine | None = None, workers: int | None = None) -> float:
            began = time.perf_counter()
            extract(clips, Fake(busy=asked.seconds), root / name, workers=workers, on=on)
            return time.perf_counter() - began

        with Two() as cluster, joined(cluster.address) as machines:
            ray = timed("ray", on=machines)
        one, two = timed("one", workers=0), timed("two", workers=2)
        if not store_of(root / "one") == store_of(root / "two") == store_of(root / "ray"):
            raise SystemExit("the stores are not equal")
    ideal = one / 2
    figures = {
        "clips": asked.clips,
        "seconds_a_clip": asked.seconds,
        "one_process_seconds": one,
        "two_workers_seconds": two,
        "ray_seconds": ray,
        "two_workers_of_ideal": ideal / two,
        "ray_of_ideal": ideal / ray,
    }
    print(json.dumps(figures, indent=1))
    sys.exit(ideal / ray < WANTED)


if __name__ == "__main__":
    main()
