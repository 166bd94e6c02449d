"""Clips drawn at random: each class has a sound, and a sight that the sound points at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from harkback.encoders import open_encoder
from harkback.features import Features, TokenShape
from harkback.store import FeatureStore, Stored

AVE = TokenShape(audio_tokens=1, audio_dim=768, frames=8, patches=16, visual_dim=768)
SHARD = 64  #: clips a shard, as `harkback extract` writes them
LOUD, VIVID = 0.08, 0.5  #: a class's sound and sight beside noise of size one


def drawn(labels: Sequence[int], classes: int, shape: TokenShape, seed: int) -> Features:
    """A clip for each label: noise, with the class's sound in all of its sound and its sight in one patch a frame."""
    some, always = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(0)
    count, of = len(labels), torch.tensor(labels)
    sounds = torch.randn(classes, 1, shape.audio_dim, generator=always)
    sights = torch.randn(classes, 1, shape.visual_dim, generator=always)
    audio = torch.randn(count, shape.audio_tokens, shape.audio_dim, generator=some) + LOUD * sounds[of]
    visual = torch.randn(count, *shape[2:], generator=some)
    where = torch.randint(shape.patches, (count, shape.frames), generator=some)
    visual[torch.arange(count)[:, None], torch.arange(shape.frames), where] += VIVID * sights[of]
    there = torch.ones(count, dtype=torch.bool)
    return Features(tuple(f"{seed}-{i}" for i in range(count)), audio.half(), visual.half(), there, there.clone())


def stored(root: Path, labels: Sequence[int], classes: int, shape: TokenShape, seed: int) -> Stored:
    """The same in a store on the disk."""
    store = FeatureStore.open(root, replace(open_encoder("signal").spec, shape=shape))
    for part in _shards(labels, classes, shape, seed):
        store.add(part, {})
    return opened(root, shape, len(labels))


def opened(root: Path, shape: TokenShape, count: int) -> Stored:
    """What `stored` has written; nothing is read yet."""
    store = FeatureStore.open(root, replace(open_encoder("signal").spec, shape=shape))
    keys = [str(i) for i in range(count)]
    return store.rows(keys, keys)


def _shards(labels: Sequence[int], classes: int, shape: TokenShape, seed: int) -> Iterator[Features]:
    for start in range(0, len(labels), SHARD):
        part = drawn(labels[start : start + SHARD], classes, shape, seed + start)
        yield replace(part, ids=tuple(str(start + i) for i in range(len(part))))
