"""PE-AV as an encoder: tokens of sound in its context, dense tokens of the picture, or tokens of both together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from harkback.encoders import EncoderSpec
from harkback.encoders._batching import gathered, of_sounds
from harkback.encoders._checkpoint import Checkpoint, blocks_of, weights_digest
from harkback.encoders._codec import Codec, latents_of
from harkback.encoders._device import chosen_device, chosen_dtype
from harkback.encoders._eye import Eye
from harkback.encoders._hub import model_folder
from harkback.encoders._pe_av import WINDOW, Kind, Parts, aligned, in_windows, is_pe_av, library
from harkback.encoders._vision import VisionTower
from harkback.features import Features, TokenShape
from harkback.limits import check_limits
from harkback.media import Media
from harkback.pictures import Squeeze

FILES = ("config.json", ("model.safetensors", "model.safetensors.index.json"))
RATE = 48_000  #: Hz that the models hear, whatever default their config.json repeats


@dataclass(frozen=True, slots=True)
class PeAvSettings:
    """Which tokens are taken. All of it is part of the features' identity. A pe-a-frame model tells of sound alone."""

    frames: int = 16  #: frames in which a clip's visual tokens are told; models named 16-frame were trained on so many
    per_second: float = 0.0  #: pictures to look at a second, averaged into the frames; 0: one a frame
    visual: Literal["patches", "tokens"] = "patches"  #: dense tokens of each frame, or one of it among the others
    grid: int = 8  #: patches a side, averaged from the tower's own 24 (fewer in a smaller tower)
    layer: int = -1  #: block of the vision tower after which patches are taken, -1: the last
    sound: Literal["audio", "joint"] = "audio"  #: tokens of the sound alone, or of sound and picture together
    audio_tokens: int = 50  #: tokens into which a clip's sound (25 tokens a second) is averaged


class PeAv:
    """A tower is read when it is first used, the text tower never."""

    MODELS = (
        "facebook/pe-av-small",
        "facebook/pe-av-small-16-frame",
        "facebook/pe-av-base",
        "facebook/pe-av-base-16-frame",
        "facebook/pe-av-large",
        "facebook/pe-av-large-16-frame",
        "facebook/pe-a-frame-small",
        "facebook/pe-a-frame-base",
        "facebook/pe-a-frame-large",
    )
    REQUIRES = ("transformers",)
    EXTRA = "pe-av"
    Settings = PeAvSettings
    in_workers = False

    def __init__(
        self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, settings: PeAvSettings
    ) -> None:
        self.checkpoint = checkpoint
        self.device = device
        self.dtype = dtype
        self.parts = Parts(checkpoint)
        self.sees = self.parts.sees
        _check(settings, blocks_of(self.parts.vision, "transformer.resblocks.") if self.sees else None)
        if not self.sees and settings.sound == "joint":
            raise self.parts.blind()
        # What is said of pictures does not change the tokens of a model without them.
        self.settings = settings if self.sees else replace(PeAvSettings(frames=1), audio_tokens=settings.audio_tokens)

    @classmethod
    def from_pretrained(
        cls,
        folder_or_id: str | Path,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        settings: PeAvSettings | None = None,
    ) -> PeAv:
        """A folder with ``config.json`` and ``model.safetensors``, or a hub id such as ``facebook/pe-av-small``.

        device: none: a GPU if there is one. dtype: of all towers but the codec, which is float32 everywhere; none:
        bfloat16 on a GPU, else float32. Raises `HarkbackError`, also where transformers is missing.
        """
        library()
        folder = model_folder(folder_or_id, FILES, kind="PE-AV", example=cls.MODELS[0])
        checkpoint = Checkpoint.open(folder, kind="PE-AV", is_ours=is_pe_av)
        where = chosen_device(device)
        return cls(checkpoint, where, chosen_dtype(dtype, where), settings or PeAvSettings())

    # ---- the towers -------------------------------------------------------------------------------------------------

    @cached_property
    def codec(self) -> Codec:
        strides = self.parts.strides
        return self.checkpoint.built(lambda s: Codec(s, strides), self.parts.codec, self.device, torch.float32)

    @cached_property
    def vision(self) -> VisionTower:
        return self.checkpoint.built(self.parts.vision_tower, self.parts.vision, self.device, self.dtype)

    @cached_property
    def _eye(self) -> Eye:
        if self.picture is None:
            raise self.parts.blind()
        return Eye(self.vision, self.picture, self.device)

    @cached_property
    def audio_tower(self) -> nn.Module:
        return self._time_tower("Audio")

    @cached_property
    def video_tower(self) -> nn.Module:
        return self._time_tower("Video")

    @cached_property
    def joint_tower(self) -> nn.Module:
        return self._time_tower("AudioVideo")

    def audio_latents(self, waveforms: Tensor) -> Tensor:
        """waveforms: (clips, samples) in [-1, 1] at 48 kHz -> (clips, ceil(samples / 1920), channels) float32.

        The mean of the codec's bottleneck, which the audio tower is given.
        """
        return latents_of(self.codec, waveforms.to(self.device, torch.float32))

    def audio_tokens(self, waveforms: Tensor, mask: Tensor | None = None) -> Tensor:
        """waveforms: (clips, samples) in [-1, 1] at 48 kHz -> (clips, ceil(samples / 1920), width).

        Token ``i`` begins at ``i / 25`` s. What is no whole number of tokens is mirrored at its end. mask: (clips,
        samples) bool, True in front, False where padded; tokens there are zero. Sounds of more than 30 s (750 tokens)
        go through the tower in equal windows of at most so many, as the models were trained on short clips.
        """
        heard = self._mask(None if mask is None else mask[:, :: self.codec.hop])
        return _where(heard, in_windows(self.audio_tower, self.audio_latents(waveforms).to(self.dtype), heard))

    def video_tokens(self, frames: Tensor, mask: Tensor | None = None) -> Tensor:
        """frames: (clips, n, height, width, 3) uint8 RGB -> (clips, n, width), each frame among the others of its clip.

        mask: (clips, n) bool, True in front, False where padded; tokens there are zero. More than 750 frames go
        through the tower in windows, as in `audio_tokens`.
        """
        return self.watch(self.frame_vectors(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]), mask)

    def joint_tokens(
        self, waveforms: Tensor, frames: Tensor, waveform_mask: Tensor | None = None, frame_mask: Tensor | None = None
    ) -> Tensor:
        """Arguments as of `audio_tokens` and `video_tokens` -> (clips, ceil(samples / 1920), width).

        Frames are taken to be spread evenly over the sound.
        """
        heard = None if waveform_mask is None else waveform_mask[:, :: self.codec.hop]
        audio, video = self.audio_tokens(waveforms, waveform_mask), self.video_tokens(frames, frame_mask)
        return self.join(audio, video, heard, frame_mask)

    def watch(self, vectors: Tensor, mask: Tensor | None = None) -> Tensor:
        """`video_tokens` of vectors (clips, n, dim) that `frame_vectors` made."""
        seen = self._mask(mask)
        return _where(seen, in_windows(self.video_tower, vectors.to(self.device, self.dtype), seen))

    def join(
        self, audio: Tensor, video: Tensor, audio_mask: Tensor | None = None, video_mask: Tensor | None = None
    ) -> Tensor:
        """`joint_tokens` of tokens that `audio_tokens` (clips, T, width) and `video_tokens` (clips, n, width) made.

        Masks: (clips, T) and (clips, n) bool, True in front, False where padded. A clip whose frames are all padded
        is one without picture.
        """
        sound, picture = (tokens.to(self.device, self.dtype) for tokens in (audio, video))
        heard, seen = self._mask(audio_mask), self._mask(video_mask)
        picture, there = aligned(picture, sound.shape[1], heard, seen)
        return _where(heard, in_windows(self.joint_tower, sound, picture, heard, there))

    def patch_tokens(self, frames: Tensor, layer: int = -1) -> Tensor:
        """frames: (n, height, width, 3) uint8 RGB -> (n, patches, width) after block ``layer``, normalised.

        Of the vision tower, before the frames of a clip come together. Patches row by row, without the class token.
        layer: counted like a list's, -1 the last.
        """
        return self._eye.patches(frames, layer)

    def frame_vectors(self, frames: Tensor) -> Tensor:
        """frames: (n, height, width, 3) uint8 RGB -> (n, dim): each picture as one vector, of length one."""
        return self._eye.vectors(frames)

    # ---- the encoder ------------------------------------------------------------------------------------------------

    @cached_property
    def spec(self) -> EncoderSpec:
        s, joint = self.settings, self.settings.sound == "joint"
        towers = [self.parts.codec, self.parts.in_time("Audio")]
        towers += [self.parts.vision] if self.sees else []
        towers += [self.parts.in_time("Video")] if joint or s.visual == "tokens" else []
        towers += [self.parts.in_time("AudioVideo")] if joint else []
        picture = None if self.picture is None else asdict(self.picture)
        libraries = {name: version(name) for name in ("torch", "av", "transformers")}
        return EncoderSpec(
            name="pe-av",
            revision=weights_digest(*towers),
            licence="Apache-2.0",
            shape=self._shape,
            frames=s.frames,
            per_second=s.per_second,
            sample_rate=RATE,
            preprocessing={**asdict(s), "picture": picture, "window": WINDOW},
            computed_with={**libraries, "precision": str(self.dtype)[6:]},
        )

    @property
    def picture(self) -> Squeeze | None:
        """What is done to each picture as soon as it is decoded."""
        return Squeeze(self.vision.patch * self.vision.side, "bilinear") if self.sees else None

    def encode(self, media: Sequence[Media]) -> Features:
        """float16 tokens; a clip without sound or picture has zeros there, and a mask that says so.

        The joint tokens of a clip without picture are those that the model makes of its sound and no frames. With a
        pe-a-frame model no clip has a picture.
        """
        s, shape = self.settings, self._shape
        side = round(shape.patches**0.5) if s.visual == "patches" else 0
        looked = self._eye.of_clips(media, s.layer, side, vectors=not side or s.sound == "joint") if self.sees else None
        patches, vectors = looked or ({}, {})
        video = {i: self.watch(found[None])[0] for i, found in vectors.items()}
        looks = patches if side else {i: found[:, None] for i, found in video.items()}
        seen = {i: found.unflatten(0, (s.frames, -1)).float().mean(1) for i, found in looks.items()}

        def listen(waves: Tensor, places: list[int]) -> Tensor:
            tokens = self.audio_tokens(waves)
            if s.sound == "audio":
                return tokens
            return torch.cat([self._joined(one[None], video.get(i)) for one, i in zip(tokens, places, strict=True)])

        heard = of_sounds(media, listen, shape.audio_tokens, self.codec.hop)
        return gathered(shape, len(media), heard, seen)

    @cached_property
    def _shape(self) -> TokenShape:
        s = self.settings
        shape = TokenShape(s.audio_tokens, self._width("AudioVideo" if s.sound == "joint" else "Audio"), s.frames, 1, 1)
        if not self.sees:
            return shape
        if s.visual == "tokens":
            return shape._replace(visual_dim=self._width("Video"))
        return shape._replace(patches=min(s.grid, self.vision.side) ** 2, visual_dim=self.vision.width)

    def _width(self, kind: Kind) -> int:
        return int(self.parts.config(kind).hidden_size)

    def _joined(self, audio: Tensor, video: Tensor | None) -> Tensor:
        """(1, T, width), (pictures, width) -> (1, T, width)."""
        if video is not None:
            return self.join(audio, video[None])
        nothing = torch.zeros(1, 1, self._width("Video"))
        return self.join(audio, nothing, video_mask=torch.zeros(1, 1, dtype=torch.bool))

    def _time_tower(self, kind: Kind) -> nn.Module:
        state = self.parts.in_time(kind)
        tower = self.checkpoint.built(lambda _: self.parts.time_tower(kind), state, self.device, self.dtype)
        return tower.to(self.device)  # the rotations, which no state holds

    def _mask(self, mask: Tensor | None) -> Tensor | None:
        return None if mask is None else mask.to(self.device, torch.bool)


def _where(mask: Tensor | None, tokens: Tensor) -> Tensor:
    """Zero where padded."""
    return tokens if mask is None else tokens.masked_fill(~mask[..., None], 0)


def _check(s: PeAvSettings, blocks: int | None) -> None:
    """`HarkbackError` for a setting that means nothing; blocks: of the vision tower, none: there is no such tower."""
    check_limits("pe-av", s, frames=(1, None), per_second=(0, 100), grid=(1, None), audio_tokens=(1, None))
    if blocks is not None:
        check_limits("pe-av", s, layer=(-blocks, blocks - 1))
