"""What a file holds, found out in a process of its own: the same values, and what crashes a decoder stays there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import misdeeds
from commands import failure
from fakes import Crashing, random_features, tone
from harkback import answers, decoding, windows
from harkback.apart import apart
from harkback.cli import main
from harkback.clips import Clip
from harkback.confined import DECODING, Limits
from harkback.media import Media, MediaError, NothingInside, Truncated
from harkback.model import Model
from harkback.teaching import Making, teach

MIB = 1 << 20


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("asked")
    for name, pitch in {"low": 200, "high": 1500}.items():
        for i in range(4):
            tone(root / "clips" / name / f"{i}.wav", pitch + 5 * i)
    teach(root / "model", root / "clips", making=Making(learner="ncm", memory=8), pictures=False)
    return root / "model"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [tone(tmp_path / f"{name}.wav", pitch) for name, pitch in {"a": 210, "b": 1510, "c": 220}.items()]


def test_values_arrive_as_they_were() -> None:
    media = Media(torch.tensor([[0.5, -1.0]]), 8000, None, torch.tensor([0.1]), 0.25)
    error = NothingInside("holds nothing", where="there", mend="go on")
    features = random_features(2)
    tensor = torch.arange(12, dtype=torch.uint8).reshape(3, 4).T
    *plain, found, features_too, failed, moved = apart(
        misdeeds.finds, [media, features, error, tensor], limits=Limits()
    )
    assert plain == [None, 1.5, ["a", 2]]
    assert torch.equal(found.waveform, torch.tensor([[0.5, -1.0]])) and found.frames is None
    assert (found.sample_rate, found.duration) == (8000, 0.25)
    assert features_too.ids == features.ids and torch.equal(features_too.visual, features.visual)
    assert type(failed) is NothingInside and str(failed) == "there: holds nothing; go on"
    assert torch.equal(moved, tensor)


def test_what_is_raised_there_is_raised_here() -> None:
    values = apart(misdeeds.loses, "a file", limits=Limits())
    assert next(values) == 1
    with pytest.raises(Truncated, match="a file: stops; fetch it again"):
        next(values)


def test_without_limits_it_is_this_process() -> None:
    assert list(apart(misdeeds.who, limits=None)) == [os.getpid()] != list(apart(misdeeds.who, limits=Limits()))


@pytest.mark.parametrize(
    ("deed", "limits", "what"),
    [
        ("aborts", Limits(), "crashed the decoder"),
        pytest.param("spins", Limits(computing=1), "took more than 1 s of computing", marks=pytest.mark.slow),
        ("sleeps", Limits(silence=0.5), "took more than 0.5 s"),
        ("devours", Limits(memory=200 * MIB), "does not fit in memory"),
    ],
)
def test_a_file_that_breaks_its_decoder_is_named(
    deed: str, limits: Limits, what: str, files: list[Path], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "cut", misdeeds.Hostile("b.wav", deed))
    asked = Model(model)
    with pytest.raises(MediaError) as caught:
        asked.predict(files[1], limits=limits)
    assert str(caught.value).startswith(f"{files[1]}: {what}") and "\n" not in str(caught.value)
    assert asked.predict(files[0], limits=Limits())[0].label == "low"


def test_asked_apart_or_here_the_answers_are_the_same(files: list[Path], model: Path) -> None:
    asked = Model(model)
    for file in files:
        for window in (None, 0.1, 0):
            assert asked.predict(file, window=window, limits=DECODING) == asked.predict(file, window=window)


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_crash_costs_the_command_one_file(
    after: int, files: list[Path], model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(answers, "cut", misdeeds.Hostile("b.wav", "aborts", after))
    with pytest.raises(SystemExit) as stop:
        main(["predict", str(model), *map(str, files), "--csv"])
    said = capsys.readouterr()
    assert stop.value.code == 2
    assert [line.split(",")[0] for line in said.out.splitlines()[1:]] == [str(files[0]), str(files[2])]
    last = f"harkback: {files[1]}: crashed the decoder; convert the file to another format"
    assert said.err.splitlines()[-1] == last


def test_a_crash_while_it_is_explained_does_not_cost_the_answers(
    files: list[Path], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from harkback import stills

    monkeypatch.setattr(stills, "shown", misdeeds.Hostile("b.wav", "aborts"))
    with pytest.raises(SystemExit):
        main(["predict", str(model), str(files[1]), "--csv", "--explain", str(tmp_path / "why")])
    said = capsys.readouterr()
    assert f"{files[1]},0.0" in said.out and "high" in said.out
    assert said.err.splitlines()[-1].startswith(f"harkback: {files[1]}: crashed the decoder")


def test_no_worker_of_the_command_line_is_this_process(
    files: list[Path], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """However few are asked for: clips that kill whoever decodes them are left out, by name."""
    monkeypatch.setattr(decoding, "Reading", lambda *_: Crashing())
    folder = tmp_path / "new" / "poison"
    tone(folder / "x.wav", 700)
    assert "crashed the decoder" in failure(capsys, "teach", model, folder.parent, "--workers", "0")
    with pytest.raises(SystemExit) as stop:
        main(["extract", str(folder.parent), "--store", str(tmp_path / "store"), "--workers", "0"])
    said = capsys.readouterr()
    assert stop.value.code == 2 and "left out: poison/x.wav: decoding it crashed the decoder" in said.err


@pytest.mark.slow
def test_a_clip_may_not_compute_for_ever_in_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "DECODING", replace(DECODING, computing=1))
    clips = [Clip(name, Path(name), name) for name in ("good", "spins", "good too")]
    found = list(decoding.in_order(misdeeds.Deeds(), clips, workers=1))
    assert [isinstance(one, decoding.Failed) for one in found] == [False, True, False]


def test_lengths_are_of_clips_that_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "no.wav").write_bytes(b"no")
    clips = [
        Clip("a", tone(tmp_path / "a.wav", 200, seconds=0.5)),
        Clip("no", tmp_path / "no.wav"),
        Clip("gone", tmp_path / "gone.wav"),
        Clip("part", tmp_path / "no.wav", start=1.0, end=3.0),
    ]

    def found(limits: Limits | None) -> Iterator[float]:
        return apart(windows.lengths, clips, limits=limits)

    assert list(found(None)) == list(found(Limits())) == [0.5, 2.0]
