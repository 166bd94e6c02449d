"""How the things of the demo sound: a few synthesisers, in numpy, with ranges that the table of classes fills in.

A voice takes a random generator and returns a ``Sound``: the wave, and the beat that the drawing follows.
Every range is a ``(low, high)`` pair, drawn uniformly once per clip, so that no two clips of a class are the same.
``rate`` is always in beats a second, and ``share`` is the part of the time between two beats that a burst fills: above
0.75 a burst may run into the next one, and then there is no rhythm left to see.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Range = tuple[float, float]

RATE = 16_000  #: Hz
SECONDS = 2.0  #: length of a clip
SAMPLES = int(RATE * SECONDS)
SNR = (2.0, 22.0)  #: dB, of the voice over the noise of the room
TIME: Array = np.arange(SAMPLES) / RATE  #: (samples,) seconds


class Sound(NamedTuple):
    """What a voice returns."""

    wave: Array  #: (samples,) any scale: the mix sets the loudness
    beat: Array  #: (samples,) in [0, 1]: how hard the thing is at work, which its drawing shows


def strike(rng: np.random.Generator, pitch: Range, rate: Range, ring: Range, partials: tuple[Range, ...]) -> Sound:
    """Something solid, struck ``rate`` times a second: bells, clocks, strings.

    ``pitch`` is in Hz, ``ring`` (how long the lowest partial takes to fall to 1/e) in seconds, and ``partials`` holds
    ``(frequency ratio, loudness)``. High partials die first, as they do in metal and wood.
    """
    since, _ = _since(rng, 1.0 / rng.uniform(*rate))
    base, length = rng.uniform(*pitch), rng.uniform(*ring)
    wave = np.zeros(SAMPLES)
    for ratio, loudness in partials:
        frequency = base * ratio * rng.uniform(0.985, 1.015)
        fall = np.exp(-since / (length / np.sqrt(max(ratio, 1.0))))
        wave += loudness * rng.uniform(0.6, 1.4) * fall * np.sin(2 * np.pi * (frequency * since + rng.uniform()))
    wave *= np.minimum(since / 0.002, 1.0)  # 2 ms of attack: without it every stroke is a click of all frequencies
    # A tick lasts a hundredth of a frame; what the eye is shown lasts longer than what the ear is given.
    return Sound(wave, np.exp(-since / max(0.1, 0.6 * length)))


def sweep(rng: np.random.Generator, pitch: Range, depth: Range, rate: Range, bright: Range) -> Sound:
    """A tone that climbs and falls by ``depth`` octaves ``rate`` times a second; ``bright`` is the overtones' share."""
    height = _swell(rng, rate)
    phase = _phase(rng.uniform(*pitch) * 2.0 ** (rng.uniform(*depth) * (height - 0.5)))
    overtones = rng.uniform(*bright)
    wave = np.sin(phase) + overtones * np.sin(2 * phase) + 0.6 * overtones * np.sin(3 * phase)
    return Sound(wave * (0.25 + 0.75 * height), height)


def call(
    rng: np.random.Generator, pitch: Range, formant: Range, rate: Range, share: Range, glide: Range, rasp: Range
) -> Sound:
    """An animal, or a bow on a string: bursts of a harmonic tone, coloured by one resonance.

    ``pitch`` and ``formant`` are in Hz, ``glide`` in octaves from a burst's start to its end, ``rasp`` in [0, 1] is
    how much noise is in it.
    """
    period = 1.0 / rng.uniform(*rate)
    since, turn = _since(rng, period)
    span = period * rng.uniform(*share)
    beat = _hump(since, span)
    base = rng.uniform(*pitch) * rng.uniform(0.94, 1.06, turn.max() + 1)[turn]  # no two calls at one pitch
    frequency = base * 2.0 ** (rng.uniform(*glide) * (np.minimum(since / span, 1.0) - 0.5))
    wave = _harmonics(_phase(frequency), float(base.mean()), rng.uniform(*formant))
    noise = rng.standard_normal(SAMPLES) * np.abs(wave)
    return Sound((wave + rng.uniform(*rasp) * noise) * beat, beat)


def buzz(rng: np.random.Generator, pitch: Range, rate: Range, rough: Range, formant: Range) -> Sound:
    """A saw-tooth that revs ``rate`` times a second: engines and wings. ``rough`` in [0, 1] roughens it."""
    swell = _swell(rng, rate)
    base = rng.uniform(*pitch)
    wave = _harmonics(_phase(base * (1.0 + 0.35 * swell)), base, rng.uniform(*formant), spread=1.4)
    wave *= 1.0 + rng.uniform(*rough) * rng.standard_normal(SAMPLES)
    return Sound(wave * (0.15 + 0.85 * swell), swell)


def thud(rng: np.random.Generator, pitch: Range, rate: Range, ring: Range, snap: Range) -> Sound:
    """A skin, or a ball on a floor: a tone that falls from its ``pitch`` (Hz) as it dies, after a ``snap`` of noise."""
    since, _ = _since(rng, 1.0 / rng.uniform(*rate))
    length = rng.uniform(*ring)
    bend = 0.03  # seconds in which the pitch comes down; the phase is the integral of the falling frequency
    phase = 2 * np.pi * rng.uniform(*pitch) * (since + 0.8 * bend * (1.0 - np.exp(-since / bend)))
    wave = np.sin(phase) * np.exp(-since / length)
    wave += rng.uniform(*snap) * rng.standard_normal(SAMPLES) * np.exp(-since / 0.012)
    return Sound(wave, np.exp(-since / max(0.1, length)))


def trill(rng: np.random.Generator, pitch: Range, flutter: Range, rate: Range, share: Range, bright: Range) -> Sound:
    """Bursts of one tone that flutters ``flutter`` times a second: a cricket, a toad, a telephone."""
    period = 1.0 / rng.uniform(*rate)
    since, _ = _since(rng, period)
    beat = _hump(since, period * rng.uniform(*share), edge=0.25)
    phase = _phase(np.full(SAMPLES, rng.uniform(*pitch)))
    wave = np.sin(phase) + rng.uniform(*bright) * np.sin(2.41 * phase)  # an overtone that is not a harmonic: metal
    flap = 0.5 - 0.5 * np.cos(2 * np.pi * rng.uniform(*flutter) * since)
    return Sound(wave * flap**2 * beat, beat)


def hiss(rng: np.random.Generator, band: Range, rate: Range, share: Range, crackle: Range) -> Sound:
    """Noise between the two frequencies of ``band`` (Hz) that comes in gusts; ``crackle`` in [0, 1] adds drops."""
    period = 1.0 / rng.uniform(*rate)
    since, _ = _since(rng, period)
    beat = _hump(since, period * rng.uniform(*share))
    drops = rng.standard_normal(SAMPLES) * (rng.uniform(size=SAMPLES) < 0.01) * 10.0
    noise = rng.standard_normal(SAMPLES) + rng.uniform(*crackle) * drops
    spectrum = np.fft.rfft(noise)
    frequency = np.fft.rfftfreq(SAMPLES, 1 / RATE)
    low, high = band[0] * rng.uniform(0.85, 1.15), band[1] * rng.uniform(0.85, 1.15)
    spectrum *= 1.0 / (1.0 + (low / (frequency + 1.0)) ** 4) / (1.0 + (frequency / high) ** 4)
    return Sound(np.fft.irfft(spectrum, SAMPLES) * (0.1 + 0.9 * beat), beat)


def in_a_room(wave: Array, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """The voice in a noisy room, at a random loudness: (samples,) in [-1, 1]."""
    noise = _background(rng) * 10.0 ** (-rng.uniform(*SNR) / 20.0)
    mix = wave / np.sqrt(np.mean(wave**2)) + noise
    return np.asarray(mix * (rng.uniform(0.2, 0.85) / np.abs(mix).max()), np.float32)


def _background(rng: np.random.Generator) -> Array:
    """(samples,) noise of unit power, of a colour between white and brown: the room the clip was recorded in."""
    spectrum = np.fft.rfft(rng.standard_normal(SAMPLES))
    spectrum *= (np.fft.rfftfreq(SAMPLES, 1 / RATE) + 50.0) ** -rng.uniform(0.0, 1.0)
    noise = np.fft.irfft(spectrum, SAMPLES)
    return np.asarray(noise / np.sqrt(np.mean(noise**2)))


def _since(rng: np.random.Generator, period: float) -> tuple[Array, npt.NDArray[np.intp]]:
    """Seconds since the latest beat, (samples,) >= 0, and that beat's number: a slightly unsteady pulse.

    Neighbouring beats are 0.76 to 1.24 periods apart.
    """
    count = int(SECONDS / period) + 4
    times = rng.uniform(-1.0, 0.0) * period + period * np.arange(-1, count - 1)  # one beat is always before zero
    times[1:] += rng.uniform(-0.12, 0.12, count - 1) * period
    turn = np.searchsorted(times, TIME, side="right") - 1
    return TIME - times[turn], turn


def _swell(rng: np.random.Generator, rate: Range) -> Array:
    """(samples,) in [0, 1]: a slow rise and fall, with a second wave under it so that it does not quite repeat."""
    speed, start, second = rng.uniform(*rate), rng.uniform(), rng.uniform(0.3, 0.7)
    wave = np.sin(2 * np.pi * (speed * TIME + start)) + 0.35 * np.sin(2 * np.pi * (second * speed * TIME + 3 * start))
    return np.asarray((wave - wave.min()) / np.ptp(wave))


def _hump(since: Array, length: float, edge: float = 1.0) -> Array:
    """(samples,) in [0, 1]: up and down within ``length`` seconds of a beat; a small ``edge`` makes it a plateau."""
    inside = np.clip(since / length, 0.0, 1.0)
    return np.minimum(1.0, np.sin(np.pi * inside) / edge)


def _phase(frequency: Array) -> Array:
    """(samples,) radians of a tone whose frequency in Hz is (samples,)."""
    return 2 * np.pi * np.cumsum(frequency) / RATE


def _harmonics(phase: Array, base: float, formant: float, spread: float = 0.8) -> Array:
    """The harmonics of ``base`` Hz up to 7 kHz, each as loud as it is near the ``formant`` (Hz); (samples,).

    ``spread`` is the width of the resonance in octaves. The powers of one complex exponential are all the harmonics.
    """
    turn = np.exp(1j * phase)
    now, wave = np.ones(SAMPLES, dtype=np.complex128), np.zeros(SAMPLES)
    for number in range(1, max(2, min(24, int(7000 / base)))):
        now *= turn
        loudness = np.exp(-0.5 * (np.log2(number * base / formant) / spread) ** 2)
        if loudness > 0.02:
            wave += loudness * now.imag
    return wave
