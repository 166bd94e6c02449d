"""What holds for every encoder: the shape it promised, masks that tell the truth, and nothing left to chance."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from harkback.encoders import Encoder, EncoderSpec
from harkback.features import Features, TokenShape
from harkback.media import Media


def media(
    encoder: Encoder,
    *,
    sound: Tensor | float | None = 1.0,
    size: tuple[int, int] | None = (48, 64),
    seed: int = 0,
) -> Media:
    """Noise to hear (a number: that many seconds) and noise to see, as `read` would hand them over."""
    spec, some = encoder.spec, torch.Generator().manual_seed(seed)
    waveform = (
        sound
        if isinstance(sound, Tensor | None)
        else 0.3 * torch.randn(1, max(1, round(sound * spec.sample_rate)), generator=some).clamp(-3, 3)
    )
    frames = None
    if size is not None:
        frames = torch.randint(0, 256, (spec.frames, *size, 3), dtype=torch.uint8, generator=some)
    duration = 1.0 if waveform is None else waveform.shape[1] / spec.sample_rate
    times = (torch.arange(spec.frames) + 0.5) * duration / spec.frames if size is not None else torch.zeros(0)
    return Media(waveform, spec.sample_rate, frames, times, duration)


def check(encoder: Encoder, features: Features, clips: Sequence[Media]) -> None:
    shape = encoder.spec.shape
    assert features.ids == tuple(str(i) for i in range(len(clips)))
    assert features.audio.shape == (len(clips), shape.audio_tokens, shape.audio_dim)
    assert features.visual.shape == (len(clips), shape.frames, shape.patches, shape.visual_dim)
    assert features.audio.dtype == features.visual.dtype == torch.float16
    assert features.heard.dtype == features.seen.dtype == torch.bool
    assert features.heard.tolist() == [clip.waveform is not None for clip in clips]
    assert features.seen.tolist() == [clip.frames is not None for clip in clips]
    assert features.audio.isfinite().all()
    assert features.visual.isfinite().all()
    assert not features.audio[~features.heard].any()
    assert not features.visual[~features.seen].any()
    assert not features.audio.requires_grad
    assert not features.visual.requires_grad
    assert features.audio.device.type == features.visual.device.type == "cpu"


def equal(one: Features, other: Features) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("audio", "visual", "heard", "seen"))


def test_the_spec_is_plain_facts(encoder: Encoder) -> None:
    spec = encoder.spec
    assert isinstance(spec, EncoderSpec)
    facts: dict[str, Any] = json.loads(json.dumps(spec.facts(), allow_nan=False))
    assert facts == spec.facts()
    assert spec.name
    assert spec.revision
    assert spec.licence
    assert isinstance(spec.shape, TokenShape)
    assert min(spec.shape) >= 1
    assert spec.frames >= 1
    assert spec.sample_rate >= 8000
    assert len(spec.key) == 16


def test_the_spec_is_the_same_each_time(encoder: Encoder, make: Callable[[], Encoder]) -> None:
    assert encoder.spec == encoder.spec
    assert make().spec.key == encoder.spec.key


def test_a_worker_may_change_pictures_and_the_tokens_stay(encoder: Encoder) -> None:
    change = encoder.picture
    if change is None:
        pytest.skip("it leaves pictures as they are")
    change = pickle.loads(pickle.dumps(change))  # noqa: S301 (our own, as worker processes are sent it)
    clip = media(encoder, size=(131, 77))
    assert clip.frames is not None
    changed = torch.stack([torch.from_numpy(change(frame.numpy())) for frame in clip.frames])
    assert changed.dtype == torch.uint8
    small = Media(clip.waveform, clip.sample_rate, changed, clip.times, clip.duration)
    assert equal(encoder.encode([clip]), encoder.encode([small]))


def test_frames_of_the_spec_are_frames_of_the_tokens_or_are_pooled_into_them(encoder: Encoder) -> None:
    assert encoder.spec.frames % encoder.spec.shape.frames == 0


def test_sound_and_picture(encoder: Encoder) -> None:
    clips = [media(encoder)]
    features = encoder.encode(clips)
    check(encoder, features, clips)
    assert features.audio.any()
    assert features.visual.any()


def test_no_clips(encoder: Encoder) -> None:
    check(encoder, encoder.encode([]), [])


def test_what_is_missing_is_zero_and_masked(encoder: Encoder) -> None:
    clips = [media(encoder, sound=None), media(encoder, size=None), media(encoder, sound=None, size=None)]
    check(encoder, encoder.encode(clips), clips)


def test_what_is_missing_does_not_change_what_is_there(encoder: Encoder) -> None:
    both = media(encoder)
    deaf = Media(None, both.sample_rate, both.frames, both.times, both.duration)
    blind = Media(both.waveform, both.sample_rate, None, torch.zeros(0), both.duration)
    features = encoder.encode([both, deaf, blind])
    torch.testing.assert_close(features.visual[0], features.visual[1], rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(features.audio[0], features.audio[2], rtol=1e-2, atol=1e-2)


def test_silence_is_a_sound(encoder: Encoder) -> None:
    rate = encoder.spec.sample_rate
    clips = [media(encoder, sound=torch.zeros(1, rate)), media(encoder, sound=torch.zeros(1, 3 * rate))]
    features = encoder.encode(clips)
    check(encoder, features, clips)


def test_black_pictures_are_pictures(encoder: Encoder) -> None:
    clip = media(encoder)
    assert clip.frames is not None
    for level in (0, 255):
        even = Media(clip.waveform, clip.sample_rate, torch.full_like(clip.frames, level), clip.times, clip.duration)
        check(encoder, encoder.encode([even]), [even])


@pytest.mark.parametrize("samples", [1, 2, 399, 401])
def test_a_sound_of_a_few_samples(encoder: Encoder, samples: int) -> None:
    clips = [media(encoder, sound=torch.full((1, samples), 0.5))]
    check(encoder, encoder.encode(clips), clips)


def test_a_sound_at_full_scale(encoder: Encoder) -> None:
    rate = encoder.spec.sample_rate
    square = torch.where(torch.arange(2 * rate) % 40 < 20, 1.0, -1.0)[None]
    clips = [media(encoder, sound=square), media(encoder, sound=torch.ones(1, rate))]
    check(encoder, encoder.encode(clips), clips)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (257, 3), (9, 9), (131, 77)])
def test_pictures_of_any_size(encoder: Encoder, size: tuple[int, int]) -> None:
    clips = [media(encoder, size=size)]
    check(encoder, encoder.encode(clips), clips)


@pytest.mark.slow
def test_pictures_of_4k_on_end(encoder: Encoder) -> None:
    clips = [media(encoder, size=(3840, 2160))]
    check(encoder, encoder.encode(clips), clips)


@pytest.mark.slow
def test_a_minute_of_sound(encoder: Encoder) -> None:
    clips = [media(encoder, sound=60.0)]
    check(encoder, encoder.encode(clips), clips)


def test_a_clip_is_encoded_alone_as_among_others(encoder: Encoder) -> None:
    clips = [
        media(encoder, seed=1),
        media(encoder, sound=0.3, seed=2),
        media(encoder, sound=None, size=(131, 77), seed=3),
        media(encoder, sound=2.7, size=None, seed=4),
    ]
    together = encoder.encode(clips)
    check(encoder, together, clips)
    for row, clip in enumerate(clips):
        alone = encoder.encode([clip])
        for name in ("audio", "visual"):
            one, other = getattr(together, name)[row].float(), getattr(alone, name)[0].float()
            if encoder.in_workers:
                assert torch.equal(one, other)
            else:  # On a device, other batch sizes may take other kernels.
                torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-2)


def test_the_same_clip_gives_the_same_tokens(encoder: Encoder, make: Callable[[], Encoder]) -> None:
    one = encoder.encode([media(encoder)])
    torch.manual_seed(5)
    assert equal(one, encoder.encode([media(encoder)]))
    assert equal(one, make().encode([media(encoder)]))


def test_another_clip_gives_other_tokens(encoder: Encoder) -> None:
    features = encoder.encode([media(encoder, seed=0), media(encoder, seed=1)])
    assert not torch.equal(features.audio[0], features.audio[1])
    assert not torch.equal(features.visual[0], features.visual[1])


def test_the_clip_is_not_written_to(encoder: Encoder) -> None:
    clip, copy = media(encoder), media(encoder)
    encoder.encode([clip])
    assert torch.equal(clip.waveform, copy.waveform)  # type: ignore[arg-type]
    assert torch.equal(clip.frames, copy.frames)  # type: ignore[arg-type]


def test_tokens_of_frames_stand_in_the_order_of_time(encoder: Encoder) -> None:
    """`TokenShape` says that the grids cover the clip evenly; attention in time relies on it."""
    spec = encoder.spec
    rate = spec.sample_rate
    noise = 0.3 * torch.randn(1, rate, generator=torch.Generator().manual_seed(0))
    first, last = torch.cat([noise, noise * 0], 1), torch.cat([noise * 0, noise], 1)
    audio = encoder.encode([media(encoder, sound=first), media(encoder, sound=last)]).audio.float()
    differ = (audio[0] - audio[1]).square().sum(1)  # (audio_tokens,)
    assert differ[0] > 0
    assert differ[-1] > 0
    clip = media(encoder, size=(64, 64))
    assert clip.frames is not None
    changed = clip.frames.clone()
    changed[: spec.frames // 2] = 255 - changed[: spec.frames // 2]
    other = Media(clip.waveform, rate, changed, clip.times, clip.duration)
    visual = encoder.encode([clip, other]).visual.float()
    moved = (visual[0] - visual[1]).square().sum((1, 2))  # (frames,)
    half = spec.shape.frames // 2
    if half:
        assert moved[:half].sum() > moved[half:].sum()


def test_patches_lie_row_by_row(encoder: Encoder) -> None:
    """What attention pictures rely on: a change in the upper left corner shows most in the first patch."""
    shape = encoder.spec.shape
    side = round(shape.patches**0.5)
    if side * side != shape.patches:
        pytest.skip("its patches are no square grid")
    frames = torch.full((encoder.spec.frames, 128, 128, 3), 128, dtype=torch.uint8)
    clips = []
    cell = 128 // side
    for row, column in ((0, 0), (0, side - 1), (side - 1, 0)):
        marked = frames.clone()
        marked[:, row * cell : (row + 1) * cell, column * cell : (column + 1) * cell] = torch.randint(
            0, 256, (cell, cell, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
        )
        clips.append(Media(None, encoder.spec.sample_rate, marked, torch.zeros(encoder.spec.frames), 1.0))
    plain = Media(None, encoder.spec.sample_rate, frames, torch.zeros(encoder.spec.frames), 1.0)
    tokens = encoder.encode([plain, *clips]).visual.float()
    moved = (tokens[1:] - tokens[:1]).square().sum((1, 3))  # (clips, patches)
    assert moved.argmax(1).tolist() == [0, side - 1, side * (side - 1)]
