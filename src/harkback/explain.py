"""Why an answer: how much of it came from the sound and from the picture, and where the learner looked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harkback import stills
from harkback.answers import Answer
from harkback.encoders import Encoder
from harkback.errors import HarkbackError, one_line
from harkback.features import Features
from harkback.files import read_json, whole, write_json
from harkback.formats import percent
from harkback.learners.base import Learner, Looks
from harkback.media import MediaError
from harkback.transcript import as_json, clock, remark
from harkback.windows import Window, decoded, encoded

if TYPE_CHECKING:
    from PIL.Image import Image

SHOWN = 8  #: frames in a picture, at most
NOISE = 1e-6  #: of the largest score: a smaller effect is rounding
EVEN = 1.01  #: hottest patch over the mean patch, up to which the look goes everywhere alike
LONGEST = 80  #: bytes that the name of a class, or of the file, may have in a picture's name


# ---- what the sound and the picture had to do with it ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shares:
    """What sound and picture had in an answer; negative: spoke against it. The sizes add up to 1, or all are 0."""

    sound: float  #: -1..1
    picture: float  #: -1..1


def shares(learner: Learner[Any], features: Features, said: Sequence[str] | None = None) -> list[Shares]:
    """The part of each modality in the answer of each clip, for any learner. said: class names; None: the likeliest.

    Shapley's value of two players (in: Contributions to the Theory of Games II, 1953). v(S) is the score of the answer
    less the mean score of all classes, with the modalities S there and the others missing; the sound's part is
    ((v(a) - v()) + (v(av) - v(v))) / 2. What is missing has no part, and with one class nothing has.
    """
    both = learner.scores(features)
    known = {name: i for i, name in enumerate(learner.classes)}
    columns = both.argmax(1) if said is None else torch.tensor([known[name] for name in said], dtype=torch.long)

    def value(scores: Tensor) -> Tensor:
        """(clips,) float64"""
        exact = scores.double()
        return exact.gather(1, columns[:, None])[:, 0] - exact.mean(1)

    deaf = replace(features, audio=torch.zeros_like(features.audio), heard=torch.zeros_like(features.heard))
    v_av, v_v = value(both), value(learner.scores(deaf))
    v_a, v_none = (value(learner.scores(_blind(clips))) for clips in (features, deaf))
    sound = torch.where(features.heard, (v_a - v_none + v_av - v_v) / 2, 0.0)
    picture = torch.where(features.seen, (v_v - v_none + v_av - v_a) / 2, 0.0)
    total = sound.abs() + picture.abs()
    there = total > NOISE * both.double().abs().amax(1)
    parts = torch.where(there, torch.stack([sound, picture]) / total, 0.0)
    return [Shares(*part) for part in parts.T.tolist()]


def _blind(clips: Features) -> Features:
    return replace(clips, visual=torch.zeros_like(clips.visual), seen=torch.zeros_like(clips.seen))


# ---- pictures -------------------------------------------------------------------------------------------------------


def explain(
    path: Path, answers: Sequence[Answer], encoder: Encoder, learner: Learner[Any], out_folder: Path
) -> list[Path]:
    """Write a picture for each answer about ``path`` and a JSON file with the facts; return what was written.

    A picture has frames of the clip above and, for a learner that looks, the same with its look over them below. Of
    merged neighbours that window is shown of which the answer was surest. The JSON file says of each answer what
    `transcript.as_json` says, and besides: ``shown``, begin and end in seconds; ``sound_share`` and ``picture_share``
    as in `Shares`; ``focus``, the share of the look on the tenth of the patches that it fell on most; ``picture``, the
    name of the file; a ``note``, why no look is drawn; a ``caption``. What is not there is null, or "". Explaining a
    file again replaces its pictures.

    Raises `MediaError`, and `HarkbackError` where there is a picture to draw and the extra "report" is missing.
    """
    if any(answer.seen for answer in answers):
        _check_extra()
    record, before = _record(out_folder, path)
    told, written = [], []
    for number, answer in enumerate(answers, 1):
        facts, image = _explained(path, answer, encoder, learner)
        if image is not None:
            time = clock(facts["shown"][0]).replace(":", "-")
            place = record.with_name(f"{record.stem} {number:03} {time} {_file_name(answer.name)}.png")
            with whole(place) as temporary:
                image.save(temporary, "PNG")
            facts["picture"] = place.name
            written.append(place)
        told.append(facts)
    write_json(record, {"file": str(path.resolve()), "answers": told})
    for old in set(before) - set(written):
        old.unlink(missing_ok=True)
    return [*written, record]


def _explained(
    path: Path, answer: Answer, encoder: Encoder, learner: Learner[Any]
) -> tuple[dict[str, Any], Image | None]:
    span = answer.surest or (answer.start, answer.end)
    facts: dict[str, Any] = {
        **as_json([answer])[0],
        "shown": [round(time, 3) for time in span],
        "sound_share": None,
        "picture_share": None,
        "focus": None,
        "picture": None,
    }
    part, image, note = None, None, ""
    if answer.ranking:
        features = _features(path, span, encoder)
        part = shares(learner, features, [answer.likeliest])[0]
        facts["sound_share"], facts["picture_share"] = round(part.sound, 4), round(part.picture, 4)
        if answer.seen:
            from harkback.heat import focus, sheets

            frames = features.shape.frames
            chosen = torch.linspace(0, frames - 1, min(frames, SHOWN)).round().long()
            shown = stills.frames(path, span, frames)
            assert shown is not None  # else it was not seen
            pictures = shown[chosen]
            heat, note = look(learner, features)
            if heat is not None:
                facts["focus"] = round(focus(heat), 4)
                heat = heat[chosen].unflatten(1, (isqrt(heat.shape[1]), -1))
            image = sheets(pictures, heat, (pictures.shape[1], pictures.shape[2]), SHOWN)[0]
    return {**facts, "caption": _caption(answer, part, note), "note": note}, image


def _features(path: Path, span: Window, encoder: Encoder) -> Features:
    media = next(decoded(path, [span], encoder))
    ((_, found),) = encoded([(span, media)], encoder)
    if isinstance(found, MediaError):
        raise found if found.where else MediaError(found.what, where=path)
    return found


def look(learner: Learner[Any], features: Features) -> tuple[Tensor | None, str]:
    """Where it looked in the one clip of ``features``: (frames, patches), or None and why that cannot be drawn."""
    if not isinstance(learner, Looks):
        return None, "this learner does not say where it looks"
    heat = learner.heat(features)[0]
    if isqrt(heat.shape[1]) ** 2 != heat.shape[1]:
        return None, f"its {heat.shape[1]} patches a frame form no square, so they cannot be laid"
    if heat.max() <= EVEN * heat.mean():
        return None, "it looked everywhere alike"
    return heat, ""


# ---- words and names ------------------------------------------------------------------------------------------------


def _caption(answer: Answer, part: Shares | None, note: str) -> str:
    """One line: when, what, how sure, from what."""
    said = one_line(answer.name) + ("" if answer.label is None else f" {percent(answer.confidence)} %")
    parts = [f"{clock(answer.start)}–{clock(answer.end)} {said}", remark(answer)]
    if part is not None and (part.sound or part.picture):
        parts.append(", ".join([_share("sound", part.sound), _share("picture", part.picture)]))
    return "; ".join(filter(None, [*parts, note]))


def _share(name: str, share: float) -> str:
    return f"{name} {percent(abs(share))} %{' against it' if share < 0 else ''}"


def _file_name(text: str) -> str:
    """Text as part of a file's name on any system."""
    clean = re.sub(r'[\\/:*?"<>|]', "_", one_line(text))
    return clean.encode()[:LONGEST].decode(errors="ignore").strip(" .") or "_"


def _record(folder: Path, path: Path) -> tuple[Path, list[Path]]:
    """Where the facts on a file belong, and its pictures of last time; other files may have the same name."""
    name, owner = _file_name(path.name), str(path.resolve())
    for number in count(1):
        record = folder / (f"{name}.json" if number == 1 else f"{name} ({number}).json")
        if not record.exists():
            break
        facts = read_json(record)
        if isinstance(facts, dict) and facts.get("file") == owner:
            names = [str(answer.get("picture")) for answer in facts.get("answers", ())]
            return record, [folder / name for name in names if name.startswith(f"{record.stem} ") and "/" not in name]
    return record, []


def _check_extra() -> None:
    try:
        import harkback.heat  # noqa: F401
    except ModuleNotFoundError as error:
        from harkback.report import EXTRA

        package = (error.name or "").partition(".")[0]
        if package not in EXTRA:
            raise
        raise HarkbackError(
            f"pictures cannot be drawn without {package}", mend='pip install "harkback[report]"'
        ) from error
