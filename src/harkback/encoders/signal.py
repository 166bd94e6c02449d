"""The default encoder: classical descriptors of sound and picture. No download, no device, the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version

import kaldi_native_fbank as knf
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dctn
from skimage.feature import hog
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from harkback.encoders import EncoderSpec
from harkback.features import Features, TokenShape
from harkback.media import Media

RATE = 16_000  # Hz
MELS, LOW, HIGH = 40, 60.0, 7600.0  # mel bands between two frequencies in Hz
STEP = 0.010  # seconds between spectra; each looks at 25 ms
WINDOW = 0.32  # seconds that an audio token hears at least: a syllable
FLOOR = 5.0  # nats; the log-mel of faint hiss, so that digital silence is not infinitely far from it
QUEFRENCIES, MODULATIONS = 16, 4  # cepstral coefficients along frequency, and along time
AUDIO_TOKENS = 32

FRAMES, GRID, PATCH = 8, 8, 16  # pictures of GRID x GRID patches of PATCH x PATCH pixels
CELL, ORIENTATIONS = 8, 9  # pixels; bins over 180 degrees
FINE, COARSE = 4, 3  # cells a side of a patch's window: 32 of 128 pixels, and (at half size) 48 of 128
CONTRAST = 0.1  # standard deviation of brightness at which a window's gradients count half

SHAPE = TokenShape(
    AUDIO_TOKENS,
    QUEFRENCIES * MODULATIONS,
    FRAMES,
    GRID * GRID,
    (FINE**2 + COARSE**2) * ORIENTATIONS + 6,
)

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Signal:
    """Cepstra that move, and oriented gradients at two scales with colour.

    Sound: 32 tokens of 64. The clip's log-mel spectrum (40 bands, 60..7600 Hz, nats) in windows of 0.32 s or two
    token periods, whichever is longer, as the lowest 16 x 4 coefficients of its two-dimensional cosine transform: the
    cepstrum and how it moves. Scaled so that coefficient (0, 0) is the mean log energy, 5..26; others within +-10.

    Picture: 8 frames of 8 x 8 patches of 231, row by row. A frame is squeezed to 128 x 128. Each patch has the
    histograms of oriented gradients (Dalal & Triggs, CVPR 2005) of the 32 pixels around it and, from the half-size
    picture, of the 48 around it, 0..1, faded where the window has no contrast (normalised noise would look like
    structure); then mean and deviation of brightness (0..1), red - green and yellow - blue (-1..1).
    """

    @property
    def in_workers(self) -> bool:
        return True

    @property
    def picture(self) -> None:
        return None

    @property
    def spec(self) -> EncoderSpec:
        return EncoderSpec(
            name="signal",
            revision="1",
            licence="Apache-2.0",
            shape=SHAPE,
            frames=FRAMES,
            sample_rate=RATE,
            preprocessing={
                "sound": f"log-mel {MELS} bands {LOW:g}..{HIGH:g} Hz, floor {FLOOR:g}, {WINDOW:g} s windows, DCT",
                "picture": f"squeezed to {GRID * PATCH} x {GRID * PATCH} bilinear with antialias, HOG, colour",
            },
            computed_with=_versions(),
        )

    def encode(self, media: Sequence[Media]) -> Features:
        """float16 tokens; a clip without sound or picture has zeros there, and a mask that says so."""
        audio, visual = torch.zeros(len(media), *SHAPE[:2]), torch.zeros(len(media), *SHAPE[2:])
        heard, seen = torch.zeros(2, len(media), dtype=torch.bool)
        for i, clip in enumerate(media):
            if clip.waveform is not None:
                audio[i], heard[i] = torch.from_numpy(_sound(clip.waveform.mean(0).numpy())), True
            if clip.frames is not None:
                visual[i], seen[i] = _pictures(clip.frames), True
        ids = tuple(str(i) for i in range(len(media)))
        return Features(ids, audio.half(), visual.half(), heard, seen)


@cache
def _versions() -> dict[str, str]:
    """Looked up once: it takes as long as decoding a sound does."""
    names = ("torch", "numpy", "scipy", "scikit-image", "kaldi-native-fbank", "av")
    return {name: version(name) for name in names}


def _sound(samples: Array) -> Array:
    """samples: (samples,) in [-1, 1] at 16 kHz -> (32, 64) tokens."""
    spectrum = _log_mel(samples)
    count = len(spectrum)
    length = max(round(WINDOW / STEP), round(2 * count / AUDIO_TOKENS))
    tokens = np.empty((AUDIO_TOKENS, QUEFRENCIES * MODULATIONS), np.float32)
    for i in range(AUDIO_TOKENS):
        start = round((i + 0.5) * count / AUDIO_TOKENS - length / 2)
        window = spectrum[np.clip(np.arange(start, start + length), 0, count - 1)]
        waves = dctn(window, norm="ortho")[:MODULATIONS, :QUEFRENCIES] / np.sqrt(window.size)
        tokens[i] = waves.ravel()
    return tokens


def _log_mel(samples: Array) -> Array:
    """(samples,) -> (spectra, 40) nats; 10 ms apart, on the scale of 16-bit samples."""
    options = knf.FbankOptions()
    options.frame_opts.samp_freq = RATE
    options.frame_opts.frame_shift_ms = 1000 * STEP
    options.frame_opts.dither = 0.0  # Noise would make features that cannot be reproduced.
    options.frame_opts.snip_edges = False
    options.mel_opts.num_bins, options.mel_opts.low_freq, options.mel_opts.high_freq = MELS, LOW, HIGH
    fbank = knf.OnlineFbank(options)
    enough = max(len(samples), RATE // 40)  # One spectrum needs 25 ms.
    fbank.accept_waveform(RATE, np.pad(samples, (0, enough - len(samples))) * 32768)
    fbank.input_finished()
    spectra = np.stack([fbank.get_frame(i) for i in range(fbank.num_frames_ready)])
    clear: Array = np.maximum(spectra, FLOOR).astype(np.float32)
    return clear


def _pictures(frames: Tensor) -> Tensor:
    """frames: (8, height, width, 3) uint8 -> (8, 64, 231) tokens."""
    whole = _squeezed(frames, GRID * PATCH)
    half = _squeezed(frames, GRID * PATCH // 2)
    fine, coarse = _gradients(whole, FINE, step=2), _gradients(half, COARSE, step=1)
    red, green, blue = whole.unbind(1)
    colours = torch.stack([(red + green + blue) / 3, red - green, (red + green) / 2 - blue], 1)
    # (8, 3, grid, patch, grid, patch)
    blocks: Tensor = colours.unflatten(-1, (GRID, PATCH)).unflatten(-3, (GRID, PATCH))
    colour = torch.cat([blocks.mean((-3, -1)), blocks.std((-3, -1), correction=0)], 1)  # (8, 6, grid, grid)
    return torch.cat([fine, coarse, colour.permute(0, 2, 3, 1)], -1).flatten(1, 2)


def _squeezed(frames: Tensor, side: int) -> Tensor:
    """(n, height, width, 3) uint8 -> (n, 3, side, side) in [0, 1]."""
    # One picture at a time: eight of a 4K film as floats would be 800 MB.
    return torch.cat(
        [
            interpolate(frame.permute(2, 0, 1)[None].float(), (side, side), mode="bilinear", antialias=True) / 255
            for frame in frames
        ]
    )


def _gradients(pictures: Tensor, cells: int, step: int) -> Tensor:
    """(n, 3, side, side) -> (n, 8, 8, cells * cells * 9): windows of ``cells`` cells, ``step`` cells apart."""
    framed = pad(pictures, (CELL, CELL, CELL, CELL), mode="reflect")
    windows = [
        hog(
            picture.permute(1, 2, 0).numpy(),
            ORIENTATIONS,
            (CELL, CELL),
            (cells, cells),
            "L2-Hys",
            feature_vector=False,
            channel_axis=-1,
        )[::step, ::step].reshape(GRID, GRID, -1)
        for picture in framed
    ]
    # In double: of the difference of two squares float32 makes contrast where there is plain grey.
    bright = framed.mean(1, keepdim=True).double()
    mean, power = (avg_pool2d(x, cells * CELL, step * CELL)[:, 0] for x in (bright, bright.square()))
    contrast = (power - mean.square()).clamp_min(0).sqrt().float()
    return torch.from_numpy(np.stack(windows)).float() * (contrast / (contrast + CONTRAST))[..., None]
