"""Media -> features, clip by clip: what an encoder cannot do with one of them is that one's failure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from harkback.encoders import Encoder
from harkback.errors import HarkbackError, one_line, starved
from harkback.features import Features
from harkback.media import Media, MediaError

STARVED = "does not fit in memory; end other programs, or take a shorter clip"


def encoded_each(encoder: Encoder, media: Sequence[Media]) -> list[Features | str]:
    """Of each clip its one row, in half precision, or why it has none.

    A `HarkbackError` of the encoder is raised: it speaks of the machine or the model, not of a clip.
    """
    if not media:
        return []
    try:
        features = encoder.encode(media)
        if len(features) != len(media):
            raise ValueError(f"it made {len(features)} rows of {len(media)} clips")
    except MediaError as error:
        why = error.what if error.mend is None else f"{error.what}; {error.mend}"
    except HarkbackError:
        raise
    except Exception as error:  # A defect that one clip brings to light must not end a night's work.
        why = f"encoding it failed with {type(error).__name__}: {one_line(error)}; please report it"
        if starved(error):
            why = STARVED
    else:
        half = replace(features, audio=features.audio.half(), visual=features.visual.half())
        return [_fit(half[row]) for row in torch.arange(len(half)).split(1)]
    return [why] if len(media) == 1 else [found for clip in media for found in encoded_each(encoder, [clip])]


def _fit(row: Features) -> Features | str:
    if row.unfit().any():
        return "the encoder made tokens of it that are not finite in half precision (NaN, or beyond 65504)"
    return row
