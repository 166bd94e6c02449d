"""What `make bench` makes of its figures: comparison, rooflines, the report, the record. Nothing is timed here."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # The benchmarks are no part of the package.

from benchmarks import record
from benchmarks.comparison import TARGETS, TOLERANCE, Target, better, worse
from benchmarks.machine import Rate, Rates, Work, cpu_seconds, described
from benchmarks.report import TITLES, number, report, targets
from benchmarks.tokens import drawn, stored

from harkback.features import TokenShape

ROOT = Path(__file__).parents[2]
MACHINE = {
    "processor": "Imagined", "cores": 2, "memory_gb": 8.0, "instructions": "AVX2", "system": "Linux",
    "python": "3.11.0", "torch": "2.6.0",
}  # fmt: skip
STEP = {"cheaper_than_plain_avcil": 60.0, "times_roofline": 3.0, "l3_resident_mb": 900.0, "l3_cpu_seconds": 0.08}
RESULTS: dict[str, Any] = {
    "machine": MACHINE,
    "parts": {name: {"date": "2026-11-23", "seconds": 61} for name in ("step", "protocol")},
    "step": {"8x16x768": STEP},
    "protocol": {
        "hark": {"wall_seconds": 70.0, "right": 0.5},
        "ridge": {"wall_seconds": 21.0, "right": 0.25},
        "l3": {"wall_seconds": 300.0},
    },
    "protocol_ave_shape_seconds": {"hark": 70.0, "ridge": 21.0, "l3": 300.0},
}


def with_step(**changed: float) -> dict[str, Any]:
    """The results with another step."""
    return {**RESULTS, "step": {"8x16x768": {**STEP, **changed}}}


# ---- comparison ----


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        ("cheaper_than_plain_avcil", 60.0 / TOLERANCE - 0.1),
        ("times_roofline", 3.0 * TOLERANCE + 0.1),
        ("times_roofline", float("nan")),
    ],
)
def test_a_ratio_that_became_worse_is_told_and_no_other(figure: str, value: float) -> None:
    (line,) = worse(RESULTS, with_step(**{figure: value}))
    assert line.startswith(f"step / 8x16x768 / {figure}: was {STEP[figure]:.3g}, is {value:.3g}")


def test_better_ratios_and_those_within_the_tolerance_are_not_told() -> None:
    assert worse(RESULTS, with_step(cheaper_than_plain_avcil=600.0, times_roofline=0.3)) == []
    assert worse(RESULTS, with_step(cheaper_than_plain_avcil=60 / TOLERANCE, times_roofline=3 * TOLERANCE)) == []


def test_seconds_and_memory_are_not_compared() -> None:
    slower = with_step(l3_cpu_seconds=80.0, l3_resident_mb=9e9)
    assert worse(RESULTS, {**slower, "protocol_ave_shape_seconds": {"hark": 7e4}}) == []


def test_a_ratio_that_is_gone_is_told_but_a_part_that_was_not_asked_for_is_not() -> None:
    less = {"cheaper_than_plain_avcil": 60.0}
    assert worse(RESULTS, {"step": {"8x16x768": less}}) == [
        "step / 8x16x768 / times_roofline: was 3, is not measured any more"
    ]
    assert worse(RESULTS, {"protocol": RESULTS["protocol"]}) == []


def test_nothing_is_worse_than_no_record() -> None:
    assert worse({}, RESULTS) == []


def test_every_target_on_a_ratio_is_also_compared_and_goes_the_same_way() -> None:
    ratios = [target for target in TARGETS if target.unit not in ("s", "MB")]
    assert len(ratios) >= 8
    for target in ratios:
        assert better(target.path[-1]) == {"at least": "more", "at most": "less"}[target.bound], target.what


def test_a_target_is_reached_at_its_value() -> None:
    least, most = (Target("x", ("a",), bound, 4.0) for bound in ("at least", "at most"))
    assert [least.reached(x) for x in (3.9, 4.0, 4.1)] == [False, True, True]
    assert [most.reached(x) for x in (3.9, 4.0, 4.1)] == [True, True, False]


# ---- the machine ----


def test_a_roofline_is_the_larger_of_moving_and_computing() -> None:
    rates = Rates(Rate(100.0, 200.0), Rate(50.0, 100.0), Rate(20.0, 40.0), Rate(10.0, 15.0), 0.001)
    assert Work(bytes=30, operations=200).roofline(rates) == 3.0
    assert Work(bytes=30, operations=400).roofline(rates) == 4.0
    assert Work(bytes=30, operations=200, doubles=100).roofline(rates) == 4.0


def test_the_work_is_done_once_before_it_counts() -> None:
    done: list[int] = []
    found = cpu_seconds(lambda: done.append(1), repeats=4)
    assert len(done) == 5
    assert found.wall >= 0 <= found.cpu


def test_a_machine_is_described_in_plain_facts_without_its_name() -> None:
    facts = described()
    assert json.loads(json.dumps(facts)) == facts
    assert facts.keys() - {"gpu"} == MACHINE.keys()


# ---- clips ----


def test_drawn_clips_lie_in_a_store_as_they_were_drawn_and_classes_are_apart(tmp_path: Path) -> None:
    shape = TokenShape(1, 768, 2, 4, 16)
    labels = [i % 3 for i in range(150)]
    rows = stored(tmp_path / "store", labels, 3, shape, 7)
    found = rows[torch.arange(150)]
    again = drawn(labels[64:128], 3, shape, 7 + 64)
    assert torch.equal(found.visual[64:128], again.visual) and torch.equal(found.audio[64:128], again.audio)
    means = torch.stack([found.audio[i::3].float().mean((0, 1)) for i in range(3)])
    other = drawn(labels, 3, shape, 10**6).audio.float().mean(1)
    assert ((other @ means.T - means.square().sum(1) / 2).argmax(1) == torch.tensor(labels)).float().mean() > 0.5


# ---- report and record ----


def test_numbers_have_three_digits_or_all_before_the_point() -> None:
    shown = {0.08123: "0.0812", 3.0: "3", 61: "61", 123.456: "123", 1234.5: "1,234", 1.5e11: "1.5e+11", None: "–"}
    assert {value: number(value) for value in shown} == shown


def test_the_report_has_targets_and_every_figure() -> None:
    text = report(RESULTS)
    assert "Imagined, 2 cores, AVX2, 8.0 GB; no GPU; Linux, Python 3.11.0, torch 2.6.0." in text
    assert "| a step of `l3`, 8 x 16 x 768: cheaper than AV-CIL's plain one | at least 50 times | 60 | yes |" in text
    assert "`ridge`: wall clock | at most 20 s | 21 | **no** |" in text
    assert "`ncm`: wall clock | at most 20 s | – | not measured |" in text
    assert "|  | 8x16x768 |" in text and "| l3 cpu seconds | 0.08 |" in text
    head = "|  | wall seconds | right |\n| --- | ---: | ---: |\n"
    assert head + "| hark | 70 | 0.5 |\n| ridge | 21 | 0.25 |\n| l3 | 300 | – |" in text
    assert "`python -m benchmarks step`: 2026-11-23, it took 1 min 1 s." in text
    assert "scaling" not in targets(RESULTS) and "scaling.svg" not in text


def test_deeper_figures_have_headings_and_the_picture_its_place() -> None:
    lines = {"tokens, MB": {"16": 5.0, "64": 20.0}, "ridge": {"16": 0.5, "64": 1.0, "times_reading": 30.0}}
    results = {
        **RESULTS,
        "scaling": {"clips": lines},
        "parts": {**RESULTS["parts"], "scaling": RESULTS["parts"]["step"]},
    }
    text = report(results, picture=True)
    assert "### clips\n\n|  | tokens, MB | ridge |" in text
    assert "| times reading | – | 30 |" in text
    assert "(scaling.svg)" in text


def test_recording_a_part_keeps_the_others_of_the_same_machine() -> None:
    new = {"machine": MACHINE, "parts": {"step": {"date": "2026-12-01", "seconds": 1}}, "step": {"x": {}}}
    kept = record.merged(RESULTS, new)
    assert kept["step"] == {"x": {}} and kept["parts"]["step"]["date"] == "2026-12-01"
    assert kept["protocol"] == RESULTS["protocol"] and kept["parts"]["protocol"] == RESULTS["parts"]["protocol"]
    moved = record.merged(RESULTS, {**new, "machine": {**MACHINE, "cores": 4}})
    assert "protocol" not in moved and moved["parts"].keys() == {"step"}


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    assert record.read(tmp_path) == {}
    record.write(tmp_path, RESULTS)
    assert record.read(tmp_path) == RESULTS
    assert (tmp_path / "REPORT.md").read_text() == report(RESULTS)


def test_the_record_of_the_project_says_what_was_asked_for() -> None:
    found = record.read(ROOT / "benchmarks")
    if not found:
        pytest.skip("nothing is recorded yet")
    for shape in ("8x16x768", "8x196x768"):
        assert found["step"][shape].keys() >= {"cheaper_than_plain_avcil", "times_roofline"}
    assert found["protocol_ave_shape_seconds"].keys() >= {"hark", "ridge"}
    assert found["parts"].keys() == found.keys() & TITLES.keys()
