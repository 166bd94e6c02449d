"""Facts that do not have their shape are named by the place where they do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import handmade
from commands import failure
from harkback.errors import HarkbackError
from harkback.shapes import check, natural, number, part

SHAPE = {"name": str, "many": [natural], "either": (None, {"x": number}), "maybe?": bool, "all": {...: [str]}}
GOOD: dict[str, Any] = {"name": "a", "many": [0, 3], "either": None, "all": {"p": ["q"], "r": []}, "more": object()}


@pytest.mark.parametrize("change", [{}, {"either": {"x": -0.5}}, {"maybe": True}, {"many": []}, {"all": {}}])
def test_what_fits_fits(change: dict[str, Any]) -> None:
    check({**GOOD, **change}, SHAPE, Path("f"), "m")


@pytest.mark.parametrize(
    ("change", "at"),
    [
        ({"name": 1}, "name"),
        ({"many": [1, -1]}, "many[1]"),
        ({"many": [1, True]}, "many[1]"),
        ({"many": {"0": 1}}, "many"),
        ({"many": [2**64]}, "many[0]"),
        ({"either": 1}, "either"),
        ({"either": {"x": float("nan")}}, "either"),
        ({"either": {"x": 10**400}}, "either"),
        ({"maybe": None}, "maybe"),
        ({"all": {"p": ["q", None]}}, "all.p[1]"),
    ],
)
def test_what_does_not_is_told_by_its_place(change: dict[str, Any], at: str) -> None:
    with pytest.raises(HarkbackError) as caught:
        check({**GOOD, **change}, SHAPE, Path("f"), "m")
    assert str(caught.value).startswith(f"f: makes no sense at {at}")


def test_what_must_be_there_must_be() -> None:
    for name in ("name", "many", "either", "all"):
        with pytest.raises(HarkbackError, match=f"makes no sense at {name}; m"):
            check({key: value for key, value in GOOD.items() if key != name}, SHAPE, Path("f"), "m")
    with pytest.raises(HarkbackError, match="f: makes no sense; m"):
        check([], SHAPE, Path("f"), "m")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\0", 3])
def test_a_part_of_a_folder_leads_nowhere_else(name: Any) -> None:
    assert not part(name) and part("ridge-0-1-abc") and part("..a")


# ---- the log of a bench ---------------------------------------------------------------------------------------------


def _bench(**change: Any) -> Callable[[Path], None]:
    def damage(out: Path) -> None:
        facts = json.loads((out / "bench.json").read_text(encoding="utf-8"))
        (out / "bench.json").write_text(json.dumps({**facts, **change}), encoding="utf-8")

    return damage


def _session(**change: Any) -> Callable[[Path], None]:
    def damage(out: Path) -> None:
        path = out / "runs" / "run-0" / "session-01.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))

    return damage


def _scores(**change: torch.Tensor) -> Callable[[Path], None]:
    def damage(out: Path) -> None:
        path = out / "runs" / "run-0" / "session-01.safetensors"
        save_file({**load_file(path), **change}, path)

    return damage


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_bench(runs=[{"learner": "one"}]), "bench.json: makes no sense at runs[0].folder"),
        (_bench(runs=3), "bench.json: makes no sense at runs"),
        (_bench(sessions=[]), "bench.json: makes no sense at sessions"),
        (_bench(encoder={}), "bench.json: makes no sense at encoder.name"),
        (
            _bench(runs=[{"folder": "../../x", "learner": "one", "seed": 0, "order": 0}]),
            "bench.json: makes no sense at runs[0].folder",
        ),
        (_session(sizes=[2, -1]), "session-01.json: makes no sense at sizes[1]"),
        (_session(sizes=[2, 2]), "session-01.json: its sizes are not those of its classes"),
        (_session(losses=["x"]), "session-01.json: makes no sense at losses"),
        (_scores(truth=torch.full((6,), 99)), "session-01.safetensors: is damaged: its answers are not of its clips"),
        (_scores(rows=torch.full((6,), -1)), "session-01.safetensors: is damaged: its answers are not of its clips"),
        (_scores(scores=torch.zeros(6, 2)), "session-01.safetensors: is damaged: its answers are not of its clips"),
    ],
)
def test_a_damaged_log_is_named(
    damage: Callable[[Path], None], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = handmade.small(tmp_path / "log")
    damage(out)
    assert words in failure(capsys, "report", out)
