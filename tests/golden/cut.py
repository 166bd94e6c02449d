"""Cuts `slice.safetensors.xz` from the golden fixtures: python tests/golden/cut.py GOLDEN.

The fixtures are outputs of the official SAM-Audio, Perception Encoder and DAC-VAE modules at small sizes with seeded
random weights (no trained weight is among them). The slice keeps what fits into two megabytes: the vision tower's first
block on three grids, the codec's first three blocks and its bottleneck, the DiT's first block in four cases, and
preprocessed pictures.
"""

from __future__ import annotations

import lzma
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

SLICE = Path(__file__).with_name("slice.safetensors.xz")
#: Numbers of four bytes: compresses a sixth better than the default.
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9, "lc": 2, "lp": 2, "pb": 2}]


def cut(golden: Path) -> dict[str, torch.Tensor]:
    out: dict[str, torch.Tensor] = {}

    def load(name: str) -> dict[str, Any]:
        held: dict[str, Any] = torch.load(golden / name, weights_only=True)
        return held

    def put(under: str, tensors: dict[str, torch.Tensor | None]) -> None:
        out.update({f"{under}/{name}": t.contiguous().clone() for name, t in tensors.items() if t is not None})

    def kept(state: dict[str, torch.Tensor], prefix: str, *beginnings: str) -> dict[str, torch.Tensor | None]:
        inner = {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
        return {name: t for name, t in inner.items() if name.startswith(beginnings)}

    pe = load("pe_visual.pt")
    stem = ("class_embedding", "positional_embedding", "conv1.", "ln_pre.", "transformer.resblocks.0.")
    put("vision/state", kept(pe["state_dict"], "vision_encoder.model.visual.", *stem))
    for name, pixels in pe["inputs"].items():
        put(f"vision/{name}", {"input": pixels[:1], "layer_0": pe["outputs"][name]["layer_0"][:1]})

    codec = load("dacvae_encoder.pt")
    blocks = tuple(f"encoder.block.{i}." for i in range(3))
    put("codec/state", kept(codec["state_dict"], "audio_codec.", *blocks, "quantizer.in_proj."))
    for name in ("b1_exact", "b1_subhop"):
        given = codec["outputs"][name]
        few = {"block_2": given["encoder_block_2"][..., ::3], "z": given["z"], "mean": given["mean"]}
        put(f"codec/{name}", {"input": codec["inputs"][name], **few})

    dit = load("dit.pt")
    first = ("transformer.layers.0.", "transformer.x_", "transformer.y_", "transformer.t_")
    parts = ("proj.", "align_", "embed_", "memory_", *first)
    put("fusion/state", kept(dit["state_dict"], "", *parts))
    for name, given in dit["inputs"].items():
        put(f"fusion/{name}", {**given, "hidden_0": dit["outputs"][name]["hidden_0"]})

    pictures = load("preprocess.pt")
    noise = pictures["outputs"]["uint8_48x64"]
    put("preprocess", {"input": pictures["inputs"]["uint8_48x64"][:1], **{mode: x[:1] for mode, x in noise.items()}})
    return out


if __name__ == "__main__":
    SLICE.write_bytes(lzma.compress(save(cut(Path(sys.argv[1]))), format=lzma.FORMAT_XZ, filters=FILTERS))
    print(f"{SLICE.name}: {SLICE.stat().st_size} bytes")
