"""The script that fills the paper's tables, at toy size: files of the real names and layout, numbers of no meaning."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from avcil_release import some_of, write_release
from films import film, gray
from harkback.contestants import suite
from harkback.datasets._avcil import bench

pytestmark = pytest.mark.slow

PATH = Path(__file__).parents[2] / "examples" / "reproduce_avcil.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(PATH.stem, PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[PATH.stem] = module  # Where its flags look for their types.
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Released features of the first classes of two benchmarks; nothing of the third."""
    root = tmp_path_factory.mktemp("reproduce") / "data"
    write_release(root / "avcil-features" / "AVE", "ave", 2, "npy", classes=8)
    write_release(root / "avcil-features" / "kinetics-sounds", "kinetics-sounds", 2, "h5", classes=7)
    return root


@pytest.fixture(scope="module")
def done(script: ModuleType, data: Path) -> tuple[list[str], str]:
    """The command line that was run, and what it printed."""
    argv = ["--data", data, "--out", data.parent / "results", "--read-pickle", "--quick", "--workers", "0"]
    return [str(word) for word in argv], said(script, *argv)


def said(script: ModuleType, *argv: str | Path) -> str:
    with redirect_stdout(io.StringIO()) as out:
        script.main([str(word) for word in argv])
    return out.getvalue()


def table(text: str) -> tuple[list[str], dict[str, list[str]]]:
    """Headings, and each learner's cells."""
    heads, _, *rows = [
        [cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines() if line[:1] == "|"
    ]
    return heads[1:], {row[0]: row[1:] for row in rows}


def number(cell: str) -> float:
    return float(cell.partition(" ")[0].replace("−", "-")) / 100


def test_every_learner_and_every_bench_is_in_the_tables(data: Path, done: tuple[list[str], str]) -> None:
    root = data.parent / "results" / "released-quick"
    text = (root / "tables.md").read_text()
    assert text in done[1]
    heads, rows = table(text)
    assert len(heads) == 9
    rivals = {name.removesuffix("-avcil") for name in suite("avcil")}
    assert rows.keys() == rivals | {*suite("l3-ablation")} | {
        *("ncm", "ridge", "balanced-ridge", "slda", "fecam", "ranpac", "klda", "mmal")
    }
    for first, name in ((0, "ave"), (3, "kinetics-sounds")):
        report = json.loads((root / name / "report.json").read_text())
        assert {row["learner"] for row in report["rows"]} == rows.keys()
        for row in report["rows"]:
            cells = rows[row["learner"]][first : first + 3]
            for cell, key in zip(cells, ("mean_accuracy", "final_accuracy", "average_forgetting"), strict=True):
                assert number(cell) == pytest.approx(row[key], abs=0.0005001)
    assert {cell for cells in rows.values() for cell in cells[6:]} == {""}
    assert "VGGSound100, 61,195 clips: MISSING" in done[1]


def test_the_table_for_a_paper_says_the_same(data: Path, done: tuple[list[str], str]) -> None:
    root = data.parent / "results" / "released-quick"
    _, rows = table((root / "tables.md").read_text())
    lines = [line.removesuffix(r" \\") for line in (root / "tables.tex").read_text().splitlines() if " & " in line]
    found = [[re.sub(r"\\(emph|textbf)\{(.*?)\}", r"\2", cell) for cell in line.split(" & ")] for line in lines[1:]]
    assert [[name, *(cell.replace("−", "$-$") for cell in cells)] for name, cells in rows.items()] == found


def test_a_second_start_redoes_nothing(script: ModuleType, data: Path, done: tuple[list[str], str]) -> None:
    def stamps() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in data.parent.rglob("*.safetensors")}

    before = stamps()
    assert len(before) > 100
    again = said(script, *done[0], "--only", "ave")
    assert stamps() == before
    assert table(again) == table(done[1])  # Kinetics-Sounds is still in it, and AVE's numbers are as they were.


def test_the_real_run_will_find_the_features_of_the_quick_one(data: Path, done: tuple[list[str], str]) -> None:
    stores = {path.parent.relative_to(data.parent) for path in data.parent.rglob("store.json")}
    assert stores == {Path("results", "released", name, "features") for name in ("ave", "kinetics-sounds")}


def test_the_protocol_is_kept(data: Path, done: tuple[list[str], str]) -> None:
    facts = json.loads((data.parent / "results" / "released-quick" / "ave" / "bench.json").read_text())
    assert (facts["protocol"]["name"], facts["sessions"], facts["memory"]) == ("avcil-2023", [7, 1], 340)
    assert {entry["order"] for entry in facts["runs"]} == {"avcil-2023"}
    assert {entry["seed"] for entry in facts["runs"]} == {0}
    assert facts["validation"] == "none"


def test_what_avcil_sets_for_each_benchmark(script: ModuleType) -> None:
    """Epochs of its scripts; 256 clips a step, with 128 exemplars in AV-CIL and SS-IL."""
    epochs = {}
    for benchmark in script.BENCHMARKS:
        found = script.settings_of(benchmark, False)
        epochs[benchmark.name] = {name: settings.train.epochs for name, settings in found.items()}
        own = {name: settings for name, settings in found.items() if name != "l3"}
        assert {settings.network.body for settings in own.values()} == {"avcil"}
        assert {settings.train.batch for settings in own.values()} == {256}
        assert {name for name, settings in own.items() if settings.train.replay == 128} == {"avcil", "ssil"}
        assert found["avcil"].instance_weight == (0.5 if benchmark.name == "ave" else 0.1)
        listed = bench(benchmark.name)
        assert benchmark.clips == sum(map(len, listed.splits.values()))
        assert benchmark.learnt == len(listed.splits["train"])
        assert benchmark.sessions == len(listed.protocol.sessions)
    usual = {"avcil": 200, "l3": 30}
    assert epochs == {
        "ave": {"finetune": 150, "lwf": 200, "icarl": 150, "ssil": 200, "afc": 150, "joint": 150, **usual},
        "kinetics-sounds": {"finetune": 150, "lwf": 100, "icarl": 100, "ssil": 100, "afc": 100, "joint": 100, **usual},
        "vggsound100": dict.fromkeys(("finetune", "lwf", "icarl", "ssil", "afc", "joint"), 200) | usual,
    }


@pytest.mark.parametrize(
    ("features", "sizes"),
    [("released", (9.8, 55.7, 147.5)), ("sam-audio", (4.3, 24.5, 65.0)), ("signal", (1.0, 5.6, 14.7))],
)
def test_the_plan_tells_what_is_missing_and_what_it_takes(
    script: ModuleType, tmp_path: Path, features: str, sizes: tuple[float, ...]
) -> None:
    told = said(script, "--data", tmp_path, "--out", tmp_path / "out", "--features", features, "--plan")
    assert told.count("MISSING") == 3
    assert [float(size) for size in re.findall(r"features ([\d.]+) GB", told)] == list(sizes)
    assert not (tmp_path / "out").exists()


def test_the_page_has_the_scripts_figures_and_its_empty_tables(script: ModuleType, tmp_path: Path) -> None:
    page = (PATH.parents[1] / "docs" / "reproduce.md").read_text()
    for benchmark in script.BENCHMARKS:
        rows = [line for line in page.splitlines() if line.startswith(f"| {benchmark.title} |")]
        cells = [cell.strip() for row in rows for cell in row.split("|")]
        for features, cost in script.COSTS.items():
            told = script.plan(benchmark, script.Options(data=tmp_path, features=features))
            disk, encoding, hours = re.findall(r"features (.* GB); (.*); about (\S+) h of", told)[0]
            assert disk in cells
            assert hours in cells
            assert cost.encoding is None or encoding.removesuffix(" to encode") in cells
            assert set(cost.learning) <= {float(cell) for cell in re.findall(r"(?<=\| )0\.\d+(?= \|)", page)}
        assert list(map(str, benchmark.epochs)) in [row[2:-2].split(" | ")[1:] for row in rows]
    assert page.count(script.write_tables(tmp_path).strip()) == 2


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], ["nothing to do", "docs/reproduce.md"]),
        (["--model", "m"], ["--model", "leave it out"]),
        (["--seeds", "0"], ["--seeds", "at least 1"]),
        (["--data", "DATA"], ["pickle", "--read-pickle"]),
        (["--data", "DATA", "--features", "signal", "--only", "ave"], ["nothing to do"]),
    ],
)
def test_what_cannot_be_is_one_line(
    script: ModuleType, data: Path, tmp_path: Path, argv: list[str], words: list[str], capsys: Any
) -> None:
    with pytest.raises(SystemExit) as stop:
        script.main(["--data", str(tmp_path), *(str(data) if word == "DATA" else word for word in argv)])
    assert stop.value.code == 2
    line = capsys.readouterr().err.rstrip("\n").splitlines()[-1]
    assert line.startswith("reproduce_avcil: ")
    assert all(word in line for word in words), line


@pytest.mark.slow
def test_videos_that_are_named_as_aves(script: ModuleType, tmp_path: Path) -> None:
    """From films to tables, with the encoder that needs no download."""
    places = tmp_path / "data" / "AVE_Dataset" / "AVE"
    places.mkdir(parents=True)
    chosen = some_of("ave", 1, classes=8)
    for i, clip in enumerate(chosen):
        sound = 0.3 * np.sin(np.arange(8_000) * (0.05 + 0.01 * i))[None]
        film(places / f"{clip}.mp4", [gray(8 * i), gray(8 * i + 4)] * 5, sound=sound, sound_rate=16_000)
    argv = ["--data", tmp_path / "data", "--out", tmp_path / "results", "--features", "signal", "--quick"]
    told = said(script, *argv, "--only", "ave", "--workers", "0")
    assert f"AVE, {len(chosen)} of 4,079 clips in" in told
    assert "4055 clips left out" in told
    _, rows = table((tmp_path / "results" / "signal-quick" / "tables.md").read_text())
    report = json.loads((tmp_path / "results" / "signal-quick" / "ave" / "report.json").read_text())
    assert {row["learner"]: round(100 * row["mean_accuracy"], 1) for row in report["rows"]} == {
        name: round(100 * number(cells[0]), 1) for name, cells in rows.items()
    }
    assert len(report["rows"]) == len(rows) > 20
