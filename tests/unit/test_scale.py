"""The plan at scale: its page shows what is computed, and what is computed follows from what was measured."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # The benchmarks are no part of the package.

from benchmarks import costs, films, plan, scale
from benchmarks.plan import Span

from harkback.encoders.signal import Signal
from harkback.features import none_of

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "scale.md"


def test_the_page_shows_what_is_computed() -> None:
    page = PAGE.read_text()
    assert scale.written(page, scale.tables()) == page, "run python -m benchmarks.scale --page docs/scale.md"


def test_tables_find_their_places_and_a_table_without_one_is_told() -> None:
    page = "a\n<!-- scale: one -->\nold\n<!-- end -->\nb\n<!-- scale: two -->\n<!-- end -->\n"
    new = scale.written(page, {"one": "1", "two": "2"})
    assert new == "a\n<!-- scale: one -->\n\n1\n\n<!-- end -->\nb\n<!-- scale: two -->\n\n2\n\n<!-- end -->\n"
    assert scale.written(new, {"one": "1", "two": "2"}) == new
    with pytest.raises(SystemExit, match="three"):
        scale.written(page, {"one": "1", "two": "2", "three": "3"})


@pytest.mark.slow
def test_operations_counted_and_by_the_formula_agree() -> None:
    vision, codec = costs._towers(torch.device("meta"))
    picture = torch.zeros(1, 3, costs.SIDE, costs.SIDE, device="meta")
    wave = torch.zeros(1, costs.SECONDS * costs.RATE, device="meta")
    formulas, recorded = costs.formulas(), plan.costs()["towers"]
    counted = {
        "operations a picture": costs.operations(lambda: vision.patches(vision.stream(picture))),
        "operations of 10 s of sound": costs.operations(lambda: codec(wave)),
    }
    for name, of in counted.items():
        assert of == recorded[name]
        assert of == pytest.approx(formulas[name], rel=0.02)
    assert counted["operations a picture"] == pytest.approx(formulas["operations a picture"], rel=1e-6)


def test_bytes_of_a_clip_are_those_of_its_arrays() -> None:
    shape = Signal().spec.shape
    assert plan.SETTINGS["`signal`"] == shape == costs.SHAPES["signal"]
    assert plan.SETTINGS["`sam-audio` (the default)"] == costs.SHAPES["sam-audio"]
    empty = none_of(shape)
    row = sum(array[:0].new_zeros(1, *array.shape[1:]).nbytes for array in (empty.audio, empty.visual, empty.heard))
    assert plan.row_bytes(shape) == row + 1


def test_a_dearer_gpu_costs_more_and_changes_nothing_else() -> None:
    way = plan.ways()["`sam-audio`, H100"]
    usual = plan.extracted(way, 200_000)
    dearer = plan.extracted(way, 200_000, dataclasses.replace(plan.USUAL, gpu_hour=Span(4.0, 8.0)))
    assert usual.gpu_hours == dearer.gpu_hours and usual.hours == dearer.hours
    cores = usual.core_hours * plan.USUAL.core_hour.low
    assert dearer.dollars.low - cores == pytest.approx(2 * (usual.dollars.low - cores))


def test_what_takes_longest_sets_the_time() -> None:
    way = plan.ways()["`signal`"]
    usual = plan.extracted(way, 200_000)
    assert usual.bound == "the cores"
    assert usual.hours.low == pytest.approx(200_000 * way.core / 128 / 3600)
    slow = plan.extracted(way, 200_000, dataclasses.replace(plan.USUAL, shared_rate=1e8))
    assert slow.bound == "the shared file system"
    assert slow.hours.low == pytest.approx((slow.read + slow.written) / 1e8 / 3600)
    assert slow.read == 2 * 200_000 * plan.costs()["films"]["640x360"]["bytes"]


def test_a_gpu_without_pictures_still_hears_and_time_goes_with_the_share_of_the_peak() -> None:
    none, eight = plan.gpu_seconds(0), plan.gpu_seconds(8)
    assert none == plan.codec_seconds() and eight.low > none.low > 0
    half = dataclasses.replace(plan.USUAL, half_share=Span(0.15, 0.25), single_share=Span(0.05, 0.15))
    assert plan.gpu_seconds(8, half).low == pytest.approx(2 * eight.low)


def test_a_training_that_is_lost_by_sessions_loses_less() -> None:
    for encoder in ("signal", "sam-audio"):
        for learner in plan.EPOCHS:
            of = plan.trained(learner, encoder, 200_000)
            assert 0 < of.by_session < of.from_the_start
            assert of.rate == pytest.approx(of.read / of.hours / 3600)


def test_the_record_was_measured_in_all_its_parts() -> None:
    found = plan.costs()
    assert found["dates"].keys() == costs.PARTS.keys() <= found.keys()
    assert found["films"].keys() == films.KINDS.keys()
    assert found["catalogue"].keys() == {str(clips) for clips in plan.CLIPS.values()}


def test_a_film_is_what_it_says(tmp_path: Path) -> None:
    from harkback.media import read

    path = films.film(tmp_path / "film.mp4", "340x256", 2)
    media = read(path, frames=4, sample_rate=16_000)
    assert media.frames is not None and media.frames.shape == (4, 256, 340, 3)
    assert media.waveform is not None and media.waveform.std() > 0.05
    assert media.duration == pytest.approx(2, abs=0.1)
    assert (media.frames[0].float() - media.frames[-1].float()).abs().mean() > 5


@pytest.mark.slow
def test_the_command_prints_plain_json_and_takes_assumptions() -> None:
    argv = [sys.executable, "-m", "benchmarks.scale", "--json", "--gpu-hour.high", "9"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=ROOT)
    facts = json.loads(done.stdout)
    assert facts["assumptions"]["gpu_hour"] == [2.0, 9.0]
    assert facts["extraction"]["AudioSet"].keys() == plan.ways().keys()
