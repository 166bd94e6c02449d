"""SAM-Audio's frozen towers as an encoder: codec latents of the sound, dense tokens of the picture, or both fused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from harkback.encoders import EncoderSpec
from harkback.encoders._batching import gathered, of_sounds
from harkback.encoders._checkpoint import Checkpoint, blocks_of, weights_digest
from harkback.encoders._codec import Codec, folded, latents_of, used
from harkback.encoders._device import chosen_device, chosen_dtype
from harkback.encoders._eye import Eye
from harkback.encoders._fusion import NULL, PADDED, PARTS, Fusion
from harkback.encoders._hub import model_folder
from harkback.encoders._time import nearest
from harkback.encoders._vision import VisionTower
from harkback.features import Features, TokenShape
from harkback.limits import check_limits
from harkback.media import Media
from harkback.pictures import Squeeze

FILES = ("config.json", ("checkpoint.pt", "model.safetensors", "model.safetensors.index.json"))
VISION, CODEC = "vision_encoder.model.visual.", "audio_codec."  # where their tensors stand; the DiT's: `PARTS`
SIBLING = "PE-AV (`--encoder pe-av --model facebook/pe-av-small`)"
SEED = 0  #: of the noise that the flow starts from


@dataclass(frozen=True, slots=True)
class SamAudioSettings:
    """Which tokens are taken. All of it is part of the features' identity."""

    frames: int = 8  #: frames in which a clip's visual tokens are told
    per_second: float = 0.0  #: pictures to look at a second, averaged into the frames; 0: one a frame; SAM-Audio's: 25
    visual: Literal["patches", "vectors"] = "patches"  #: dense tokens of each frame, or one vector of it
    grid: int = 8  #: patches a side, averaged from the tower's own 24 (fewer in a smaller tower)
    layer: int = -1  #: block of the vision tower after which patches are taken, -1: the last
    sound: Literal["latents", "fused"] = "latents"  #: the codec's latents; or, experimental, the DiT's tokens
    audio_tokens: int = 50  #: tokens into which a clip's sound (25 latents a second) is averaged
    fused_layer: int | None = None  #: block of the DiT; none: two thirds of the way up
    fused_time: float = 0.0  #: flow time, 0 (noise) to 1 (data)


class SamAudio:
    """A tower is read when it is first used: asking for `audio_latents` never reads the vision tower."""

    MODELS = ("facebook/sam-audio-small", "facebook/sam-audio-base", "facebook/sam-audio-large")
    GATED = True  #: their weights are given to those who ask for access
    Settings = SamAudioSettings
    in_workers = False

    def __init__(
        self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, settings: SamAudioSettings
    ) -> None:
        self.checkpoint = checkpoint
        self.device = device
        self.dtype = dtype
        self.settings = settings
        self._vision_config: Mapping[str, Any] = checkpoint.config["vision_encoder"]
        checkpoint.tower(CODEC)  # It is there. The DiT may be left out of a file where nobody asks for fused tokens.
        layers = blocks_of(checkpoint.tower(PARTS), "transformer.layers.") if settings.sound == "fused" else None
        _check(settings, blocks_of(checkpoint.tower(VISION), "transformer.resblocks."), layers)

    @classmethod
    def from_pretrained(
        cls,
        folder_or_id: str | Path,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        settings: SamAudioSettings | None = None,
    ) -> SamAudio:
        """A folder with ``config.json`` and ``checkpoint.pt``, or a hub id such as ``facebook/sam-audio-small``.

        device: none: a GPU if there is one. dtype: of the vision tower and the DiT; none: bfloat16 on a GPU, else
        float32. The codec is float32 everywhere. Raises `HarkbackError`.
        """
        folder = model_folder(folder_or_id, FILES, kind="SAM-Audio", example=cls.MODELS[0], open_sibling=SIBLING)
        checkpoint = Checkpoint.open(folder, kind="SAM-Audio", is_ours=_is_sam_audio)
        where = chosen_device(device)
        return cls(checkpoint, where, chosen_dtype(dtype, where), settings or SamAudioSettings())

    # ---- the towers -------------------------------------------------------------------------------------------------

    @cached_property
    def codec(self) -> Codec:
        strides = self.checkpoint.fact("audio_codec", "encoder_rates", lambda rates: [int(rate) for rate in rates])
        state = folded(self.checkpoint.anew().tower(CODEC))
        return self.checkpoint.built(lambda s: Codec(s, strides), state, self.device, torch.float32)

    @cached_property
    def vision(self) -> VisionTower:
        name, unit = str(self._vision_config.get("name", "")), bool(self._vision_config.get("normalize_feature", True))
        make = partial(VisionTower, name=name, unit=unit)
        return self.checkpoint.built(make, self._lasting.tower(VISION), self.device, self.dtype)

    @cached_property
    def _eye(self) -> Eye:
        return Eye(self.vision, self.picture, self.device)

    @cached_property
    def fusion(self) -> Fusion:
        config = self.checkpoint.config["transformer"]
        return self.checkpoint.built(lambda s: Fusion(s, config), self._lasting.tower(PARTS), self.device, self.dtype)

    def audio_latents(self, waveforms: Tensor) -> Tensor:
        """waveforms: (clips, samples) in [-1, 1] at 48 kHz -> (clips, ceil(samples / 1920), channels) float32.

        The mean of the codec's bottleneck. Latent ``i`` begins at ``i / 25`` s; it can hear a quarter second to each
        side.
        """
        return latents_of(self.codec, waveforms.to(self.device, torch.float32))

    def patch_tokens(self, frames: Tensor, layer: int = -1) -> Tensor:
        """frames: (n, height, width, 3) uint8 RGB -> (n, patches, width) after block ``layer``, normalised.

        Patches row by row, without the class token. layer: counted like a list's, -1 the last.
        """
        return self._eye.patches(frames, layer)

    def frame_vectors(self, frames: Tensor) -> Tensor:
        """frames: (n, height, width, 3) uint8 RGB -> (n, dim): each picture as one vector, of length one."""
        return self._eye.vectors(frames)

    def hidden_states(
        self,
        latents: Tensor,
        frame_vectors: Tensor | None,
        time: float,
        layer: int,
        *,
        noise: Tensor | None = None,
        valid: Tensor | None = None,
    ) -> Tensor:
        """Experimental: the DiT's residual stream (clips, T, width) after block ``layer``, without text.

        latents: (clips, T, channels) of `audio_latents`; frame_vectors: (clips, frames, dim), T of them or any number
        spread evenly, None: nothing is added; time: of the flow, 0 (noise) to 1 (data); layer: counted like a list's;
        noise: (clips, T, 2 channels) state of the flow at that time, none: seeded noise on its way to the latents
        (and to silence as the residual); valid: (clips, T) bool, False where padded.
        """
        clips, times, _ = latents.shape
        sounds = latents.to(self.device, torch.float32)
        if noise is None:
            some = torch.Generator().manual_seed(SEED)  # The same for every clip: its tokens do not hang on others.
            start = torch.randn(1, times, 2 * sounds.shape[-1], generator=some).to(self.device)
            noise = (1 - time) * start + time * torch.cat([sounds, self._silence.expand_as(sounds)], -1)
        video = None if frame_vectors is None else frame_vectors.to(self.device)
        if video is not None and video.shape[1] != times:
            video = video[:, torch.linspace(0, video.shape[1] - 1, times).round().long()]
        valid = None if valid is None else valid.to(self.device)
        anchors = torch.full((clips, times), NULL, device=self.device)
        if valid is not None:
            anchors = anchors.masked_fill(~valid, PADDED)
        moment = torch.full((clips,), float(time), device=self.device)
        both = torch.cat([sounds, sounds], -1)
        with torch.no_grad():
            stream: Tensor = self.fusion(noise.to(self.device), both, moment, video, anchors, valid, layer=layer)
        return stream

    # ---- the encoder ------------------------------------------------------------------------------------------------

    @cached_property
    def spec(self) -> EncoderSpec:
        s = self.settings
        return EncoderSpec(
            name="sam-audio",
            revision=self._revision,
            licence="SAM License",
            shape=self._shape,
            frames=s.frames,
            per_second=s.per_second,
            sample_rate=self.checkpoint.fact("audio_codec", "sample_rate", int),
            preprocessing={**asdict(s), "picture": asdict(self.picture), "flow_seed": SEED},
            computed_with={"torch": version("torch"), "av": version("av"), "precision": str(self.dtype)[6:]},
        )

    @property
    def picture(self) -> Squeeze:
        """What is done to each picture as soon as it is decoded."""
        bilinear = str(self._vision_config.get("interpolation_mode", "BICUBIC")).upper() == "BILINEAR"
        return Squeeze(self.checkpoint.fact("vision_encoder", "image_size", int), "bilinear" if bilinear else "bicubic")

    def encode(self, media: Sequence[Media]) -> Features:
        """float16 tokens; a clip without sound or picture has zeros there, and a mask that says so."""
        s, shape = self.settings, self._shape
        side = round(shape.patches**0.5) if s.visual == "patches" else 0
        patches, vectors = self._eye.of_clips(media, s.layer, side, vectors=not side or s.sound == "fused")
        looks = patches if side else {i: found[:, None] for i, found in vectors.items()}
        seen = {i: found.unflatten(0, (s.frames, -1)).float().mean(1) for i, found in looks.items()}

        def listen(waves: Tensor, places: list[int]) -> Tensor:
            latents = self.audio_latents(waves)
            if s.sound == "latents":
                return latents
            fused = [self._fused(one[None], media[i], vectors.get(i)) for one, i in zip(latents, places, strict=True)]
            return torch.cat(fused)

        heard = of_sounds(media, listen, shape.audio_tokens, self.codec.hop)
        return gathered(shape, len(media), heard, seen)

    @cached_property
    def _shape(self) -> TokenShape:
        s, vision = self.settings, self.vision
        audio_dim = self.codec.channels if s.sound == "latents" else self.fusion.width
        if s.visual == "vectors":
            return TokenShape(s.audio_tokens, audio_dim, s.frames, 1, vision.dim)
        side = self.picture.side // vision.patch
        return TokenShape(s.audio_tokens, audio_dim, s.frames, min(s.grid, side) ** 2, vision.width)

    @property
    def _revision(self) -> str:
        held = self.checkpoint.anew()  # All of it is read, and soon out of memory again.
        towers = [used(held.tower(CODEC)), held.tower(VISION)]
        return weights_digest(*towers, *([held.tower(PARTS)] if self.settings.sound == "fused" else []))

    @property
    def _lasting(self) -> Checkpoint:
        """Where a tower's tensors are taken from: they stay mapped if they can be used as they are."""
        as_it_is = self.device.type == "cpu" and self.dtype == torch.float32
        return self.checkpoint if as_it_is else self.checkpoint.anew()

    @cached_property
    def _silence(self) -> Tensor:
        """(1, 1, channels) the latent of silence, away from the ends."""
        reach = self.codec.reach
        return self.audio_latents(torch.zeros(1, (2 * reach + 1) * self.codec.hop))[:, reach : reach + 1]

    def _fused(self, latents: Tensor, clip: Media, vectors: Tensor | None) -> Tensor:
        """(1, T, channels) -> (1, T, width). A clip without picture has vectors of zeros, as upstream gives it."""
        s, times = self.settings, latents.shape[1]
        if vectors is None:
            video = torch.zeros(1, times, self.vision.dim)
        else:
            instants = torch.arange(times) * (self.codec.hop / clip.sample_rate)
            video = vectors[nearest(clip.times, instants).to(vectors.device)][None]
        layer = 2 * self.fusion.depth // 3 if s.fused_layer is None else s.fused_layer
        return self.hidden_states(latents, video, s.fused_time, layer)


def _is_sam_audio(config: Mapping[str, Any]) -> bool:
    return all(isinstance(config.get(part), Mapping) for part in ("audio_codec", "vision_encoder", "transformer"))


def _check(s: SamAudioSettings, blocks: int, layers: int | None) -> None:
    """`HarkbackError` for a setting that means nothing; blocks, layers: of the vision tower and, if used, the DiT."""
    check_limits(
        "sam-audio",
        s,
        frames=(1, None),
        per_second=(0, 100),
        grid=(1, None),
        layer=(-blocks, blocks - 1),
        audio_tokens=(1, None),
        fused_time=(0, 1),
    )
    if layers is not None:
        check_limits("sam-audio", s, fused_layer=(-layers, layers - 1))
