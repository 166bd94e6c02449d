"""DAC-VAE's encoder: 48 kHz sound -> 25 latents a second, the mean of its bottleneck (Kumar et al., NeurIPS 2023)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from math import prod

import torch
from torch import Tensor, nn

from harkback.encoders._device import in_batches
from harkback.state import State

DILATIONS = (1, 3, 9)
AT_ONCE = {"cuda": 1 << 22, "cpu": 1 << 19}  #: samples that are worked on at one time
#: Numbers of a stream at one time in the blocks before the streams grow short: they hold most of the memory, and a CPU
#: is faster while its cache holds them; but not in steps so short that threads only wake one another.
WINDOW = {"cuda": 1 << 26, "cpu": 1 << 20}
WIDE = 2  #: blocks before the streams grow short


class Snake(nn.Module):
    """x + sin²(αx) / α, with an α for each channel (Ziyin et al., NeurIPS 2020)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.empty(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        wave = (self.alpha * x).sin_().square_()
        return wave.mul_((self.alpha + 1e-9).reciprocal()).add_(x)


class Residual(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            Snake(channels),
            _conv(channels, channels, 7, dilation=dilation),
            Snake(channels),
            _conv(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.block(x)
        return change.add_(x)


class Down(nn.Module):
    """Three residual units, then fewer and wider."""

    def __init__(self, channels: int, wider: int, stride: int) -> None:
        super().__init__()
        units = [Residual(channels, dilation) for dilation in DILATIONS]
        self.block = nn.Sequential(*units, Snake(channels), _conv(channels, wider, 2 * stride, stride=stride))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(x)
        return out


class Encoder(nn.Module):
    def __init__(self, widths: Sequence[int], strides: Sequence[int], latent: int) -> None:
        super().__init__()
        downs = [Down(*step) for step in zip(widths, widths[1:], strides, strict=False)]
        self.block = nn.Sequential(_conv(1, widths[0], 7), *downs, Snake(widths[-1]), _conv(widths[-1], latent, 3))


class Bottleneck(nn.Module):
    def __init__(self, latent: int, channels: int) -> None:
        super().__init__()
        self.in_proj = _conv(latent, channels, 1)


class Codec(nn.Module):
    """Modules are named as in the checkpoint. Runs in float32: in half precision α overflows."""

    def __init__(self, state: State, strides: Sequence[int]) -> None:
        """state: folded weights, only their shapes are read; strides: of the blocks, in samples of their input."""
        super().__init__()
        last = len(strides) + 2
        widths = [len(state[f"encoder.block.{i}.{'bias' if i == 0 else 'block.4.bias'}"]) for i in range(last - 1)]
        latent = len(state[f"encoder.block.{last}.bias"])
        self.channels = len(state["quantizer.in_proj.bias"])
        self.width = widths[0]
        self.strides = tuple(strides)
        self.encoder = Encoder(widths, strides, latent)
        self.quantizer = Bottleneck(latent, self.channels)

    @property
    def hop(self) -> int:
        """Samples a latent."""
        return prod(self.strides)

    @property
    def reach(self) -> int:
        """How many latents to each side of its own a sample can change."""
        return self._reach(len(self.strides))

    def forward(self, waveforms: Tensor) -> Tensor:
        """waveforms: (clips, samples) in [-1, 1], whole hops -> (clips, latents, channels)."""
        # On a GPU convolutions round to ten bits unless told not to. (The flags exist only where CUDA does.)
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False) if waveforms.is_cuda else nullcontext()
        first, rest = self.encoder.block[: 1 + WIDE], self.encoder.block[1 + WIDE :]
        numbers = WINDOW.get(waveforms.device.type, WINDOW["cpu"])
        window = max(2048, numbers // (len(waveforms) * self.width))
        with exact:
            short = in_windows(first, waveforms[:, None], window, prod(self.strides[:WIDE]), self._reach(WIDE))
            mean: Tensor = self.quantizer.in_proj(rest(short))
        return mean.transpose(1, 2)

    def _reach(self, blocks: int) -> int:
        """Of what comes out of the first blocks, how many to each side of its own a sample can change."""
        reach, step = 3, 1  # in samples: the first convolution sees 3 to each side
        for stride in self.strides[:blocks]:
            reach += step * (3 * sum(DILATIONS) + stride)
            step *= stride
        return -(-(reach + step) // step)


@torch.no_grad()
def latents_of(codec: Codec, waveforms: Tensor) -> Tensor:
    """waveforms: (clips, samples) on the codec's device -> (clips, ceil(samples / hop), channels).

    What is longer than `AT_ONCE` goes through in windows, so that memory does not grow with length.
    """
    at_once = AT_ONCE.get(waveforms.device.type, AT_ONCE["cpu"])
    padded = whole_hops(waveforms, codec.hop)

    def run(rows: Tensor) -> Tensor:
        return in_windows(lambda x: codec(x).transpose(1, 2), rows, at_once, codec.hop, codec.reach).transpose(1, 2)

    return in_batches(run, padded, max(1, at_once // padded.shape[1]))


def in_windows(run: Callable[[Tensor], Tensor], x: Tensor, window: int, hop: int, reach: int) -> Tensor:
    """``run(x)``, (..., samples) -> (..., samples / hop), the same in windows that overlap.

    window: samples of one, overlap and all; reach: how many results to each side of its own a sample can change.
    """
    total = x.shape[-1] // hop
    inside = max(1, window // hop - 2 * reach)
    if total <= inside + 2 * reach:
        return run(x)
    parts = []
    for begin in range(0, total, inside):
        end = min(total, begin + inside)
        left, right = max(0, begin - reach), min(total, end + reach)
        parts.append(run(x[..., left * hop : right * hop])[..., begin - left : end - left])
    return torch.cat(parts, -1)


def whole_hops(waveforms: Tensor, hop: int) -> Tensor:
    """(clips, samples) -> the same, mirrored at its end up to a multiple of ``hop`` samples.

    A mirror image that is too short is mirrored again, where upstream would fail (under 961 samples of 1920).
    """
    samples = waveforms.shape[1]
    total = -(-samples // hop) * hop
    period = max(1, 2 * (samples - 1))
    place = torch.arange(samples, total, device=waveforms.device) % period
    return torch.cat([waveforms, waveforms[:, torch.minimum(place, period - place)]], 1)


def used(state: State) -> State:
    """Of the codec's tensors those that make latents."""
    return {name: tensor for name, tensor in state.items() if name.startswith(("encoder.", "quantizer.in_proj."))}


def folded(state: State) -> State:
    """The encoder's weights with weight norm folded in: w = v · g / ‖v‖ over each output channel; mean half only.

    Accepts both ways in which torch has named the norm's parts, and weights that are folded already.
    """
    wanted = used(state)
    out: State = {}
    for name, tensor in wanted.items():
        stem, _, part = name.rpartition(".")
        if part in ("weight_v", "original1"):
            stem = stem.removesuffix(".parametrizations.weight")
            gain = wanted[name.removesuffix(part) + {"weight_v": "weight_g", "original1": "original0"}[part]]
            out[f"{stem}.weight"] = tensor * (gain / tensor.norm(dim=(1, 2), keepdim=True))
        elif part not in ("weight_g", "original0"):
            out[name] = tensor.clone()  # So that the file's pages can leave memory.
    for part in ("weight", "bias"):
        both = out[f"quantizer.in_proj.{part}"]  # the mean, then the raw scale, which is never used here
        out[f"quantizer.in_proj.{part}"] = both[: len(both) // 2].clone()
    return out


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv1d:
    padding = (kernel - stride) * dilation // 2
    return nn.Conv1d(inputs, outputs, kernel, stride, padding, dilation)
