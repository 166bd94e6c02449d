"""What benchmarks of 200,000 and 2,000,000 clips take, computed from `costs.json` (measured) and assumptions (here)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from benchmarks.costs import BLOCK, FILE, RATE, SECONDS, SIDE
from benchmarks.failures import HOUR, Cluster, Job, expected
from harkback.features import TokenShape

CLIPS = {"VGGSound": 200_000, "AudioSet": 2_000_000}  #: about so many, of 10 s
FRAMES = 8
RESTS = 2  #: bytes of a row besides its tokens: whether it was heard and seen
EPOCHS = {"hark": 1, "ridge": 1, "l3": 30, "avcil": 200}  #: of a session; AV-CIL's as published for VGGSound100
SESSIONS = 10

#: What the store of an encoder's setting holds of a clip.
SETTINGS = {
    "`signal`": TokenShape(32, 64, 8, 64, 231),
    "`sam-audio` (the default)": TokenShape(50, 128, 8, 64, 1024),
    "`--sam-audio.frames 4`": TokenShape(50, 128, 4, 64, 1024),
    "`--sam-audio.grid 4`": TokenShape(50, 128, 8, 16, 1024),
    "`--sam-audio.visual vectors`": TokenShape(50, 128, 8, 1, 1024),
    "`--sam-audio.grid 24 --sam-audio.audio-tokens 250`": TokenShape(250, 128, 8, 576, 1024),
    "`pe-av`, large": TokenShape(50, 1792, 16, 64, 1024),
}


class Span(NamedTuple):
    """From, to."""

    low: float
    high: float

    def times(self, factor: float) -> Span:
        return Span(self.low * factor, self.high * factor)


@dataclass(frozen=True)
class Assumptions:
    """Nobody has quoted or measured these; change them on the command line."""

    film: str = "640x360"  #: the clips, of those measured: 340x256, 640x360, 1280x720
    core_hour: Span = field(default=Span(0.01, 0.02))  #: dollars: a core of a spot node, 2026
    gpu_hour: Span = field(default=Span(2.0, 4.0))  #: dollars: an H100, 2026
    object_month: float = 0.02  #: dollars: a GB for a month, object storage, 2026
    shared_month: float = 0.15  #: dollars: a GB for a month, a shared file system, 2026
    nodes: int = 8  #: of the cluster
    cores: int = 16  #: of a node
    gpus: int = 8  #: of the cluster, where there are any
    shared_rate: float = 1e9  #: bytes a second that the shared file system gives, to all together
    look: float = 0.0005  #: seconds of asking a shared file system about one file
    half_peak: float = 989e12  #: operations a second of an H100 (SXM) in bfloat16, dense; its data sheet
    single_peak: float = 67e12  #: the same in float32, without its tensor cores; its data sheet
    half_share: Span = field(default=Span(0.3, 0.5))  #: of it that the vision tower reaches
    single_share: Span = field(default=Span(0.1, 0.3))  #: of it that the codec reaches
    fixed: float = 0.2  #: seconds that a block takes besides its clips: started, its part written, taken over
    away: float = 300.0  #: seconds until a lost node is replaced
    load: float = 60.0  #: seconds until a model is loaded


USUAL = Assumptions()


def costs() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


def row_bytes(shape: TokenShape) -> int:
    """Of a clip in the store, in half precision."""
    return 2 * (shape.audio_tokens * shape.audio_dim + shape.frames * shape.patches * shape.visual_dim) + RESTS


def shards(clips: int) -> int:
    return -(-clips // BLOCK)


def decoded_bytes() -> int:
    """Of a clip that waits for a GPU: squares of bytes, and samples of four bytes."""
    return FRAMES * SIDE * SIDE * 3 + SECONDS * RATE * 4


class Way(NamedTuple):
    """A way of encoding."""

    name: str
    core: float  #: CPU seconds a clip, measured: hashing, decoding and, without a GPU, encoding
    gpu: Span  #: GPU seconds a clip, estimated; (0, 0): none is used
    row: int  #: bytes that it writes of a clip


def ways(a: Assumptions = USUAL) -> dict[str, Way]:
    found = costs()
    film, towers = found["films"][a.film], found["towers"]
    shape, default = SETTINGS["`signal`"], SETTINGS["`sam-audio` (the default)"]
    cpu = FRAMES * towers["cpu seconds a picture"] + towers["cpu seconds of 10 s of sound"]
    none = Span(0.0, 0.0)
    every = [
        Way("`signal`", film["hash"] + film["decode signal"] + film["encode signal"], none, row_bytes(shape)),
        Way("`sam-audio`, no GPU", film["hash"] + film["decode sam-audio"] + cpu, none, row_bytes(default)),
        Way("`sam-audio`, H100", film["hash"] + film["decode sam-audio"], gpu_seconds(FRAMES, a), row_bytes(default)),
        Way(
            "the same, 25 pictures a second",
            film["hash"] + film["decode sam-audio, 25 pictures a second"],
            gpu_seconds(25 * SECONDS, a),
            row_bytes(default),
        ),
    ]
    return {way.name: way for way in every}


def gpu_seconds(pictures: int, a: Assumptions = USUAL) -> Span:
    """An estimate: operations over the share of the peak that is assumed. Nothing was measured on a GPU."""
    vision, codec = vision_seconds(pictures, a), codec_seconds(a)
    return Span(vision.low + codec.low, vision.high + codec.high)


def vision_seconds(pictures: int, a: Assumptions = USUAL) -> Span:
    """Of a clip's pictures, in bfloat16."""
    operations = pictures * costs()["towers"]["operations a picture"]
    return Span(operations / (a.half_peak * a.half_share.high), operations / (a.half_peak * a.half_share.low))


def codec_seconds(a: Assumptions = USUAL) -> Span:
    """Of a clip's sound, in float32."""
    operations = costs()["towers"]["operations of 10 s of sound"]
    return Span(operations / (a.single_peak * a.single_share.high), operations / (a.single_peak * a.single_share.low))


class Extracted(NamedTuple):
    core_hours: float
    gpu_hours: Span
    read: float  #: bytes of clips: each once to be hashed, once to be decoded
    written: float  #: bytes of the store
    hours: Span  #: on the cluster: what takes longest of cores, GPUs and the shared file system
    bound: str  #: what that is, where it is not the same at both ends of the estimate: at the upper
    dollars: Span


def extracted(way: Way, clips: int, a: Assumptions = USUAL) -> Extracted:
    cores, gpus = clips * way.core / HOUR, way.gpu.times(clips / HOUR)
    read, written = 2.0 * clips * costs()["films"][a.film]["bytes"], float(clips * way.row)
    on_cores, moving = cores / (a.nodes * a.cores), (read + written) / a.shared_rate / HOUR
    on_gpus = gpus.times(1 / a.gpus)
    high = {"the cores": on_cores, "the GPUs": on_gpus.high, "the shared file system": moving}
    bound = max(high, key=lambda name: high[name])
    hours = Span(max(on_cores, on_gpus.low, moving), high[bound])
    low, most = (cores * a.core_hour[i] + gpus[i] * a.gpu_hour[i] for i in range(2))
    return Extracted(cores, gpus, read, written, hours, bound, Span(low, most))


class Trained(NamedTuple):
    hours: float  #: of one core
    read: float  #: bytes, at least: all clips once an epoch
    rate: float  #: bytes a second that one core asks for
    by_session: float  #: how much longer, as a share, if a node lasts 10 h and a retry goes on at the last session
    from_the_start: float  #: if it began anew


def trained(learner: str, encoder: str, clips: int, a: Assumptions = USUAL) -> Trained:
    seconds = clips * EPOCHS[learner] * costs()["learning"][encoder][learner]
    shape = SETTINGS["`signal`" if encoder == "signal" else "`sam-audio` (the default)"]
    read, life = float(clips * EPOCHS[learner] * row_bytes(shape)), 10 * HOUR
    parts = SESSIONS * expected(seconds / SESSIONS, life, a.away)
    whole = expected(seconds, life, a.away)
    return Trained(seconds / HOUR, read, read / seconds, parts / seconds - 1, whole / seconds - 1)


def jobs(a: Assumptions = USUAL) -> dict[str, tuple[Job, Cluster]]:
    """What is simulated, by name."""
    every = ways(a)
    signal, alone, gpu = (every[name] for name in ("`signal`", "`sam-audio`, no GPU", "`sam-audio`, H100"))
    middle = (gpu.gpu.low + gpu.gpu.high) / 2
    return {
        "AudioSet, signal": (
            Job(CLIPS["AudioSet"], signal.core, BLOCK, a.fixed),
            Cluster(a.nodes, a.cores, away=a.away),
        ),
        "VGGSound, sam-audio without a GPU": (
            Job(CLIPS["VGGSound"], alone.core, BLOCK, a.fixed),
            Cluster(a.nodes, a.cores, away=a.away + a.load),
        ),
        "AudioSet, sam-audio, the GPUs alone": (
            Job(CLIPS["AudioSet"], middle, BLOCK, a.fixed),
            Cluster(a.gpus, 1, away=a.away + a.load),
        ),
    }
