"""The signal encoder: its numbers mean what its docstring says they mean."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.fft import idctn
from torch import Tensor

from harkback.encoders.signal import (
    COARSE,
    FINE,
    FLOOR,
    FRAMES,
    GRID,
    HIGH,
    LOW,
    MELS,
    MODULATIONS,
    ORIENTATIONS,
    QUEFRENCIES,
    RATE,
    Signal,
)
from harkback.media import Media

TIMES = (torch.arange(FRAMES) + 0.5) / FRAMES
FINE_BINS = FINE**2 * ORIENTATIONS
COARSE_BINS = COARSE**2 * ORIENTATIONS


def sound(samples: Tensor) -> Tensor:
    """(samples,) -> (32, 64)."""
    return Signal().encode([Media(samples[None].float(), RATE, None, TIMES[:0], len(samples) / RATE)]).audio[0].float()


def picture(image: Tensor) -> Tensor:
    """(height, width, 3) uint8 -> (8, 8, 231): the first frame's patches, by row and column."""
    frames = image.expand(FRAMES, *image.shape)
    tokens = Signal().encode([Media(None, RATE, frames, TIMES, 1.0)]).visual[0].float()
    assert torch.equal(tokens[0], tokens[-1])  # The same picture in every frame.
    return tokens[0].unflatten(0, (GRID, GRID))


def tone(pitch: float, loud: float = 0.3, seconds: float = 1.0) -> Tensor:
    return loud * torch.sin(2 * math.pi * pitch * torch.arange(round(seconds * RATE)) / RATE)


def bands(token: Tensor) -> NDArray[np.float64]:
    """(40,) the smooth log-mel spectrum that a token's cepstrum stands for, in nats, in the mean over its window."""
    waves = np.zeros((1, MELS))
    waves[0, :QUEFRENCIES] = token.unflatten(0, (MODULATIONS, QUEFRENCIES))[0].numpy()
    # Undoes: orthonormal cosine transform in two dimensions, divided by the root of the window's size.
    return np.asarray(idctn(waves, norm="ortho")[0] * np.sqrt(MELS))


def band_of(pitch: float) -> float:
    """Number of the mel band (HTK's scale) whose middle lies at a pitch."""
    mel = lambda hz: 1127 * math.log(1 + hz / 700)  # noqa: E731
    return (mel(pitch) - mel(LOW)) / (mel(HIGH) - mel(LOW)) * (MELS + 1) - 1


# ---- sound ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pitch", [200, 500, 1000, 2000, 4000, 6000])
def test_a_tone_raises_its_own_band(pitch: float) -> None:
    heard = bands(sound(tone(pitch))[16])
    assert abs(int(heard.argmax()) - band_of(pitch)) <= 1.5
    far = [band for band in range(MELS) if abs(band - band_of(pitch)) > 8]
    assert heard.max() > heard[far].mean() + 4  # nats


def test_louder_sound_raises_the_mean_by_the_log_of_the_power() -> None:
    noise = 0.02 * torch.randn(RATE, generator=torch.Generator().manual_seed(0))
    for factor in (2.0, 5.0):
        change = sound(noise * factor) - sound(noise)
        assert change[2:-2, 0].tolist() == pytest.approx([2 * math.log(factor)] * 28, abs=0.03)
        assert change[2:-2, 1:].abs().max() < 0.03  # And nothing else.


def test_silence_is_the_floor() -> None:
    tokens = sound(torch.zeros(RATE))
    assert tokens[:, 0].tolist() == pytest.approx([FLOOR] * 32, abs=0.01)
    assert tokens[:, 1:].abs().max() < 0.01
    assert torch.equal(tokens, sound(torch.full((RATE,), 1e-7)))  # Hiss below hearing is silence too.


def test_the_mean_is_in_the_range_it_is_said_to_be_in() -> None:
    for samples in (torch.zeros(RATE), tone(440, 1.0), torch.rand(RATE, generator=torch.Generator()) * 2 - 1):
        tokens = sound(samples)
        assert tokens[:, 0].min() > FLOOR - 0.01
        assert tokens[:, 0].max() < 25.1
        assert tokens[:, 1:].abs().max() < 10


def test_tokens_follow_time() -> None:
    low, high = tone(300), tone(4000)
    tokens = sound(torch.cat([low, high]))
    for i in (2, 8, 12):
        assert abs(int(bands(tokens[i]).argmax()) - band_of(300)) <= 1.5
    for i in (19, 24, 29):
        assert abs(int(bands(tokens[i]).argmax()) - band_of(4000)) <= 1.5


def test_a_sound_that_pulses_moves_and_one_that_does_not_does_not() -> None:
    noise = 0.1 * torch.randn(2 * RATE, generator=torch.Generator().manual_seed(0))
    slow = 0.5 + 0.5 * torch.sin(2 * math.pi * 3 * torch.arange(2 * RATE) / RATE)
    still, pulsing = (sound(x).unflatten(1, (MODULATIONS, QUEFRENCIES))[4:-4, 1:, 0] for x in (noise, noise * slow))
    assert pulsing.abs().mean() > 5 * still.abs().mean()


def test_channels_are_mixed() -> None:
    one, other = tone(300), tone(4000)
    both = Media(torch.stack([one, other]), RATE, None, TIMES[:0], 1.0)
    mixed = Signal().encode([both]).audio[0].float()
    assert torch.equal(mixed, sound((one + other) / 2))


# ---- pictures -------------------------------------------------------------------------------------------------------


def stripes(angle: float, period: float = 16.0) -> Tensor:
    """(128, 128, 3) waves of brightness whose gradient points along ``angle`` degrees from the x axis (y down)."""
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    way = x * math.cos(math.radians(angle)) + y * math.sin(math.radians(angle))
    level = 127.5 + 100 * torch.sin(2 * math.pi * way / period)
    return level.round().to(torch.uint8)[..., None].repeat(1, 1, 3)


def orientations(tokens: Tensor) -> Tensor:
    """(9,) gradient by direction in the middle patches, the fine scale and the coarse."""
    middle = tokens[2:6, 2:6]
    parts = middle[..., :FINE_BINS], middle[..., FINE_BINS : FINE_BINS + COARSE_BINS]
    return torch.stack([part.unflatten(-1, (-1, ORIENTATIONS)).mean((0, 1, 2)) for part in parts])


def bin_of(angle: float) -> int:
    """The one of nine bins of 20 degrees that the direction of a gradient falls in; up and down are one."""
    return int((angle % 180) // (180 / ORIENTATIONS))


@pytest.mark.parametrize("angle", [10, 30, 50, 70, 90, 110, 130, 150, 170])
def test_a_gradient_fills_the_bin_of_its_direction(angle: float) -> None:
    for part in orientations(picture(stripes(angle))):
        best = int(part.argmax())
        # scikit-image measures the angle with y down, as we do here, or with y up: it may differ, but not by place.
        assert best in {bin_of(angle), bin_of(-angle)}
        assert part[best] > 0.6 * part.sum()


def test_a_vertical_edge_and_a_level_one_fill_different_bins() -> None:
    upright, level = torch.zeros(128, 128, 3, dtype=torch.uint8), torch.zeros(128, 128, 3, dtype=torch.uint8)
    upright[:, 64:], level[64:] = 255, 255
    one, other = (orientations(picture(image))[0] for image in (upright, level))
    assert one.argmax() in (0, ORIENTATIONS - 1)  # Brightness changes along x: 0 degrees.
    assert other.argmax() == ORIENTATIONS // 2  # 90 degrees.
    patches = picture(upright)[..., :FINE_BINS].sum(-1)
    assert patches[4, 3:5].min() > 10 * patches[4, [0, 1, 6, 7]].max()  # Only where the edge is.


def test_an_even_picture_has_no_gradients() -> None:
    for level in (0, 128, 255):
        tokens = picture(torch.full((100, 60, 3), level, dtype=torch.uint8))
        assert tokens[..., : FINE_BINS + COARSE_BINS].max() < 0.02  # Not 0: rounding, of a squeezed even picture.


def test_faint_noise_is_not_structure() -> None:
    some = torch.Generator().manual_seed(0)
    noise = torch.randint(-1, 2, (128, 128, 3), generator=some)
    faint = picture((128 + noise).to(torch.uint8))[..., :FINE_BINS].norm(dim=-1).mean()
    strong = picture((128 + 80 * noise).to(torch.uint8))[..., :FINE_BINS].norm(dim=-1).mean()
    assert faint < 0.1 * strong


def test_colour_is_brightness_and_two_contrasts() -> None:
    image = torch.zeros(128, 128, 3, dtype=torch.uint8)
    image[:64, :64] = torch.tensor([255, 0, 0])
    image[:64, 64:] = torch.tensor([0, 255, 0])
    image[64:, :64] = torch.tensor([0, 0, 255])
    image[64:, 64:] = torch.tensor([255, 255, 255])
    colour = picture(image)[..., -6:]
    third = 1 / 3
    for (row, column), expected in {
        (1, 1): (third, 1, 0.5), (1, 6): (third, -1, 0.5), (6, 1): (third, 0, -1), (6, 6): (1, 0, 0),
    }.items():  # fmt: skip
        assert colour[row, column].tolist() == pytest.approx([*expected, 0, 0, 0], abs=2e-3)


def test_deviations_within_a_patch() -> None:
    image = torch.zeros(128, 128, 3, dtype=torch.uint8)
    image[::2] = 255  # Lines: half the pixels of each patch are white.
    colour = picture(image)[..., -6:]
    torch.testing.assert_close(colour[..., 0], torch.full((8, 8), 0.5), rtol=0, atol=2e-3)
    torch.testing.assert_close(colour[..., 3], torch.full((8, 8), 0.5), rtol=0, atol=2e-3)
    assert colour[..., [1, 2, 4, 5]].abs().max() < 2e-3


def test_a_picture_of_another_size_is_squeezed() -> None:
    small = stripes(10)
    large = small.repeat_interleave(3, 0).repeat_interleave(2, 1)
    one, other = picture(small), picture(large)
    assert (one - other).abs().mean() < 0.05
    assert orientations(one).argmax() == orientations(other).argmax()


def test_frames_are_encoded_each_by_itself() -> None:
    some = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (FRAMES, 40, 50, 3), dtype=torch.uint8, generator=some)
    tokens = Signal().encode([Media(None, RATE, frames, TIMES, 1.0)]).visual[0]
    for t in range(FRAMES):
        assert torch.equal(tokens[t].float(), picture(frames[t]).flatten(0, 1))
