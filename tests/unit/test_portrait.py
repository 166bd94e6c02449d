"""A model's page: its numbers are those of model.json and the exam, and no name can break it."""

from __future__ import annotations

import copy
import math
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from handmade import EVIL
from harkback.errors import HarkbackError
from harkback.portrait import portrait
from harkback.unknown import calibrated, examined
from pages import Page, pictures, texts_of

NAMES = ["siren", "dog", "church bell"]
ASKED, RIGHT = [8, 12, 10], [8, 9, 7]  #: clips asked of each class, and those told rightly


def exam() -> tuple[Tensor, Tensor]:
    """Scores (30, 3) and truth (30,): wrong answers are the next class, and doubtful."""
    lines, truth = [], []
    for target in range(3):
        for i in range(ASKED[target]):
            right = i < RIGHT[target]
            said = target if right else (target + 1) % 3
            lines.append((1.0 + 0.01 * i if right else 0.3) * one_hot(torch.tensor(said), 3).float())
            truth.append(target)
    return torch.stack(lines), torch.tensor(truth)


def facts() -> dict[str, Any]:
    scores, truth = exam()
    hashes = [f"{number:064x}" for number in range(200)]
    return {
        "format": 1,
        "harkback": "0.1.0",
        "name": "rover",
        "classes": list(NAMES),
        "learner": {"name": "hark", "settings": {"features": 800}, "memory": 200, "seed": 7},
        "encoder": {"name": "signal", "revision": "1", "licence": "Apache-2.0"},
        "encoder_key": "a0551c59bfc3fd0d",
        "encoder_model": "/home/someone/weights",
        "false_alarm": 0.05,
        "calibration": calibrated(scores, truth).facts(),
        "sessions": [
            {
                "did": "teach",
                "time": "2026-11-23T03:20:00+00:00",
                "clips": {"siren": hashes[:20], "dog": hashes[20:55]},
                "new": ["siren", "dog"],
                "skipped": 2,
                "seconds": 3.2,
                "exam": {"siren": [7, 8], "dog": [11, 12]},
                "window": 2.0,
            },
            {"did": "forget", "time": "2026-11-23T04:00:00+00:00", "classes": 1},
            {
                "did": "teach",
                "time": "2026-11-23T05:06:07+00:00",
                "clips": {"church bell": hashes[60:90], "dog": hashes[90:94]},
                "new": ["church bell"],
                "skipped": 0,
                "seconds": 83.0,
                "exam": {"siren": [8, 8], "dog": [9, 12], "church bell": [7, 10]},
                "before": {"right": 18, "asked": 20, "right_after": 17},
                "strangers": {"asked": 30, "told": 21, "auroc": 0.934},
                "window": 2.0,
            },
        ],
    }


def page(of: dict[str, Any], scores: Tensor, truth: Tensor, folder: Path) -> tuple[str, Page]:
    written = portrait(of, scores, truth, folder / "portrait.html")
    assert written == folder / "portrait.html"
    assert [path.name for path in folder.iterdir()] == ["portrait.html"]
    text = written.read_text("utf-8")
    return text, Page(text)


def rows(text: str, kind: str) -> list[list[str]]:
    """The texts of a table's cells, line by line."""
    table = re.search(rf'<table class="numbers {kind}">(.*?)</table>', text, re.DOTALL)
    assert table
    lines = re.findall(r"<tr[^>]*>(.*?)</tr>", table[1], re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", line, re.DOTALL) for line in lines]
    return [[" ".join(re.sub("<[^>]*>", "", cell).split()) for cell in line] for line in cells]


def tiles(text: str) -> dict[str, str]:
    return dict(re.findall(r"<dt>([\w ]+)</dt><dd><b>(.*?)</b>", text))


def wilson(right: int, asked: int) -> str:
    p, z = right / asked, 1.959963984540054
    middle, root = p + z * z / (2 * asked), z * math.sqrt(p * (1 - p) / asked + z * z / (4 * asked * asked))
    low, high = ((middle + sign * root) / (1 + z * z / asked) for sign in (-1, 1))
    return f"{100 * low:.1f} to {100 * high:.1f}"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    return page(facts(), *exam(), tmp_path_factory.mktemp("plain"))


def test_the_page_stands_alone(plain: tuple[str, Page]) -> None:
    text, found = plain
    assert found.fetched
    assert all(uri.startswith("data:image/") for uri in found.fetched)
    assert not re.search(r"(src|href|url|@import)[\s\"'(=]*(https?:)?//", text)
    assert "script" not in found.tags
    assert text.lstrip().startswith("<!doctype html>")
    assert text.count("prefers-color-scheme: dark") == 2 and "width=device-width" in text


def test_each_class_has_its_clips_and_its_accuracy(plain: tuple[str, Page]) -> None:
    learnt = [20, 35 + 4, 30]
    _, *lines = rows(plain[0], "classes")
    assert lines == [
        [name, f"{100 * right / asked:.1f}", "", wilson(right, asked), f"{right} of {asked}", str(clips)]
        for name, right, asked, clips in zip(NAMES, RIGHT, ASKED, learnt, strict=True)
    ]


def test_the_history_says_what_was_done(plain: tuple[str, Page]) -> None:
    _, *lines = rows(plain[0], "lessons")
    assert lines[0] == [
        *("1", "2026-11-23 03:20 UTC", "learnt 55 clips", "siren, dog", "90.0", "", "", "", "2", "3.2 s")
    ]
    assert lines[1] == ["2", "2026-11-23 04:00 UTC", "forgot 1 class", ""]
    assert lines[2] == [
        *("3", "2026-11-23 05:06 UTC", "learnt 34 clips", "church bell", "80.0", "90.0 → 85.0"),
        *("21 of 30", "0.934", "0", "1 min 23 s"),
    ]


def test_the_figures_in_the_tiles_and_sentences_are_those_of_the_exam(plain: tuple[str, Page]) -> None:
    text, found = plain
    judged = examined(*exam(), 0.05)
    assert judged.false_alarm is not None
    assert tiles(text) == {
        "Classes": "3",
        "Accuracy": "80.0",
        "Calibration error": f"{100 * judged.ece:.1f}",
        "False alarms": f"{100 * judged.false_alarm:.1f}",
        "Strangers noticed": "70.0",
    }
    words = " ".join("".join(found.words).split())
    assert "It knows 3 classes, from 89 clips in 2 sessions." in words
    assert "Asked 30 clips as if it had not learnt them, it was right 24 times: 80.0 %." in words
    assert "Of 30 clips of classes it had not met yet it called 21 unknown." in words
    lowest = sorted(calibrated(*exam()).evidence)[0]  # floor(0.05 x 31) = 1: the lowest
    called = round(30 * judged.false_alarm)
    share = f"{100 * judged.false_alarm:.1f} % ({wilson(called, 30)})"
    assert f"less evidence than {lowest:.3f}, which 30 clips that were asked have set." in words
    assert f"Judged each by the others, {called} of 30 were: {share}." in words
    assert f"it called 21 unknown: 70.0 % ({wilson(21, 30)})." in words


def test_what_it_takes_for_what(plain: tuple[str, Page]) -> None:
    text, found = plain
    table = re.search(r'<table class="grid">(.*?)</table>', text, re.DOTALL)
    assert table
    cells = re.findall(r'<td(?: class="(s\d+)")?>(\d*)</td>', table[1])
    assert [number for _, number in cells] == ["8", "", "", "", "9", "3", "3", "", "7"]
    assert cells[0][0] == "s20" and cells[4][0] == "s15"  # all of its row; three quarters
    words = "".join(found.words)
    assert "dog → church bell (3 of 12); church bell → siren (3 of 10)" in words


def test_figures_show_sessions_confidence_and_evidence(plain: tuple[str, Page]) -> None:
    drawn = [texts_of(svg) for svg in pictures(plain[1], "svg+xml")]
    assert len(drawn) == 6  # Three figures at two widths.
    for texts in drawn[:2]:
        assert {"all classes", "former classes, before", "after", "forgot", "session"} <= set(texts)
    for texts in drawn[2:4]:
        assert "confidence, %" in texts
    for texts in drawn[4:]:
        assert {"evidence", "known", "called unknown", "AUROC"} <= set(texts)


def test_hashes_and_paths_stay_at_home(plain: tuple[str, Page]) -> None:
    assert not re.search("[0-9a-f]{64}", plain[0])
    assert "/home/someone" not in plain[0]
    assert '"seed": 7' in "".join(plain[1].words)


def test_names_cannot_break_the_page(tmp_path: Path) -> None:
    names = [EVIL, '"><img src=x onerror=alert(1)>', 'it\'s <b>"bold"</b> & 🐸']
    of = facts()
    of["name"] = f'"{EVIL}\udce9'  # A folder's name that is no UTF-8.
    of["classes"] = names
    for old, new in zip(NAMES, names, strict=True):
        for session in of["sessions"]:
            session["new"] = [new if name == old else name for name in session.get("new", [])]
            for by_class in ("clips", "exam"):
                if old in session.get(by_class, {}):
                    session[by_class][new] = session[by_class].pop(old)
    text, found = page(of, *exam(), tmp_path)
    assert "<script" not in text and "<img src=x" not in text and '<b>"' not in text
    assert found.words.count(EVIL) == 4  # Its line, its session, its row and its column.
    assert f'"{EVIL}?' in found.words
    assert found.words.count(names[1]) == found.words.count(names[2]) == 4


def test_no_clip_could_be_asked(tmp_path: Path) -> None:
    of = facts()
    of["calibration"] = {"temperature": 1.0, "evidence": []}
    del of["sessions"][1:]
    of["sessions"][0]["exam"] = {}
    text, found = page(of, torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), tmp_path)
    assert pictures(found, "svg+xml") == []
    assert set(tiles(text).values()) == {"3", "–"}
    assert "nan" not in re.sub("<style>.*?</style>", "", text, flags=re.DOTALL)
    words = " ".join("".join(found.words).split())
    assert "No clip could be asked yet" in words
    assert "To promise that takes 19 clips that can be asked, and there are 0" in words
    assert rows(text, "classes")[1] == ["siren", "–", "", "–", "not asked", "20"]


def test_one_class(tmp_path: Path) -> None:
    of = facts()
    scores, truth = torch.full((25, 1), 0.5), torch.zeros(25, dtype=torch.long)
    of["classes"], of["calibration"] = ["siren"], calibrated(scores, truth).facts()
    del of["sessions"][1:]
    of["sessions"][0] |= {"clips": {"siren": ["0"] * 25}, "new": ["siren"], "exam": {"siren": [25, 25]}}
    text, found = page(of, scores, truth, tmp_path)
    words = " ".join("".join(found.words).split())
    assert "It knows 1 class, from 25 clips in 1 session. Asked 25 clips" in words
    assert "Nothing is unknown to a model of one class" in words
    assert tiles(text)["Accuracy"] == "100.0" and tiles(text)["Calibration error"] == "0.0"
    assert len(pictures(found, "svg+xml")) == 4  # No figure of evidence, at two widths.


def test_a_lesson_of_which_all_was_forgotten_is_said_to_be(tmp_path: Path) -> None:
    of = facts()
    of["sessions"][0] |= {"clips": {}, "new": [], "exam": {}}
    of["sessions"][2]["before"] = {"right": 0, "asked": 0, "right_after": 0}
    text, _ = page(of, *exam(), tmp_path)
    _, first, _, last = rows(text, "lessons")
    assert first[2:5] == ["learnt what was forgotten since", "", "–"]
    assert last[5] == ""


def test_old_classes_alone_are_practised_and_many_new_ones_are_counted(tmp_path: Path) -> None:
    of = facts()
    of["sessions"].append({**copy.deepcopy(of["sessions"][2]), "new": []})
    of["sessions"][2]["new"] = [f"class {i}" for i in range(9)]
    text, _ = page(of, *exam(), tmp_path)
    *_, many, practised = rows(text, "lessons")
    assert many[3] == "class 0, class 1, class 2, class 3, class 4, class 5 and 3 others"
    assert practised[2:4] == ["practised 34 clips", ""]


def test_many_classes_are_one_picture(tmp_path: Path) -> None:
    of = facts()
    truth = torch.arange(62) % 31
    of["classes"] = [f"class {i:02d}" for i in range(31)]
    of["calibration"] = calibrated(one_hot(truth, 31).float(), truth).facts()
    text, found = page(of, one_hot(truth, 31).float(), truth, tmp_path)
    assert len(pictures(found, "png")) == 1 and '<table class="grid">' not in text


def test_the_same_model_gives_the_same_bytes_and_no_warning(tmp_path: Path) -> None:
    written = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            written.append(page(facts(), *exam(), tmp_path / name)[0])
    assert written[0] == written[1]
    assert caught == []


def test_without_the_extra_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("portrait_page", "templating"):
        monkeypatch.delitem(sys.modules, f"harkback.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(HarkbackError, match=r'needs jinja2, which is not installed; pip install "harkback\[report\]"'):
        portrait(facts(), *exam(), tmp_path / "portrait.html")
    assert list(tmp_path.iterdir()) == []


def test_a_defect_is_not_taken_for_a_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "harkback.portrait_page", raising=False)
    monkeypatch.setitem(sys.modules, "harkback.grids", None)
    with pytest.raises(ModuleNotFoundError, match=r"harkback\.grids"):
        portrait(facts(), *exam(), tmp_path / "portrait.html")
