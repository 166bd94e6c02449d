"""How the demo writes a film: H.264 and AAC in MP4, byte for byte the same each time, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.codec.context import Flags

from harkback.datasets._pen import FPS
from harkback.datasets._voices import RATE
from harkback.errors import HarkbackError
from harkback.files import whole


def check_codecs() -> None:
    """Raise if this machine cannot write a film."""
    if not {"libx264", "aac"} <= av.codecs_available:
        raise HarkbackError("this build of PyAV cannot write H.264 and AAC", mend="pip install --force-reinstall av")


def write(path: Path, frames: npt.NDArray[np.uint8], wave: npt.NDArray[np.float32]) -> None:
    """Write ``frames`` (frames, height, width, 3) RGB and ``wave`` (samples,) in [-1, 1]. The file appears whole."""
    with whole(path) as spare:
        _encode(spare, frames, wave)


def _encode(path: Path, frames: npt.NDArray[np.uint8], wave: npt.NDArray[np.float32]) -> None:
    """The same bytes each time: one thread, and no dates."""
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as file:
        # A constant quantiser and no look-ahead: with one, x264 gave other bytes for the same pictures, up to once in
        # eight times, as the memory it was handed differed. Without B-frames the first frame is at 0 s in every player.
        options = {"qp": "26", "preset": "veryfast", "rc-lookahead": "0", "mbtree": "0", "weightp": "0"}
        options |= {"sc_threshold": "0", "bf": "0", "threads": "1"}
        video = file.add_stream("libx264", rate=FPS, options=options)
        video.height, video.width, video.pix_fmt = *frames.shape[1:3], "yuv420p"
        audio = file.add_stream("aac", rate=RATE, layout="mono", bit_rate=40_000, options={"aac_coder": "fast"})
        for stream in (video, audio):
            stream.codec_context.flags |= Flags.bitexact
        for rgb in frames:
            file.mux(video.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        file.mux(video.encode(None))
        samples = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        samples.sample_rate, samples.pts = RATE, 0  # with a time, the lead-in of AAC is marked as such
        file.mux(audio.encode(samples))
        file.mux(audio.encode(None))
