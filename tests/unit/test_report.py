"""The report: its numbers are those worked out by hand, and it survives any name, any gap and any half-done log."""

from __future__ import annotations

import base64
import io
import json
import re
import sys
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

import harkback
from harkback.errors import HarkbackError
from harkback.log import Run
from harkback.report import duration, grouped, markdown, percent, size, summary, write_report

EVIL = '<script>alert("x")</script> $a_b$ 🐸'

#: Right answers of each class after each session, of two clips a class. Sessions of 2, 1 and 1 classes.
FIRST = [{"a": 2, "b": 2}, {"a": 1, "b": 1, "c": 2}, {"a": 1, "b": 0, "c": 1, "d": 2}]
SECOND = [{"c": 1, "d": 0}, {"c": 2, "d": 1, "a": 1}, {"c": 2, "d": 2, "a": 2, "b": 0}]


class Log:
    """A bench's log, made by hand: two test clips of every class."""

    def __init__(self, out: Path, sizes: list[int], labels: str | list[str]) -> None:
        self.out, self.sizes, self.labels = out, sizes, list(labels)
        self.runs: list[dict[str, Any]] = []
        self.skips: list[dict[str, str]] = []

    def add(
        self, learner: str, seed: int, sessions: list[dict[str, int]], *, seconds: float = 1.5, cumulative: bool = False
    ) -> Run:
        """One run; a wrong clip is said to be of the next class."""
        run = Run(self.out / "runs" / f"run-{len(self.runs)}", learner, seed, seed)
        for t, right in enumerate(sessions):
            classes = list(right)
            rows = [2 * i + k for i, name in enumerate(self.labels) if name in right for k in (0, 1)]
            truth = [classes.index(self.labels[row // 2]) for row in rows]
            hits = [row % 2 < right[self.labels[row // 2]] for row in rows]
            said = [c if hit else (c + 1) % len(classes) for c, hit in zip(truth, hits, strict=True)]
            scores = torch.nn.functional.one_hot(torch.tensor(said), len(classes)).float()
            arrays = {"scores": scores, "rows": torch.tensor(rows), "truth": torch.tensor(truth)}
            facts = {"classes": classes, "sizes": self.sizes[: t + 1], "seconds": seconds, "memory_bytes": 1000 * t}
            run.write(t, arrays, facts, None)
        entry = {"folder": run.folder.name, "learner": learner, "seed": seed, "order": seed, "cumulative": cumulative}
        self.runs.append(entry)
        return run

    def close(self) -> Path:
        facts = {
            "harkback": "0",
            "dataset": f"set of {EVIL}",
            "encoder": {"name": "signal", "revision": "1"},
            "sessions": self.sizes,
            "memory": 10,
            "asked": "test",
            "training_clips": 30,
            "test_clips": [{"id": f"{name}/{k}.mp4", "label": name} for name in self.labels for k in (0, 1)],
            "skips": self.skips,
            "runs": self.runs,
        }
        self.out.mkdir(exist_ok=True)
        (self.out / "bench.json").write_text(json.dumps(facts), encoding="utf-8")
        return self.out


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Two learners and a ceiling; "one" has two seeds."""
    log = Log(tmp_path / "log", [2, 1, 1], "abcd")
    log.add("one", 0, FIRST)
    log.add("one", 1, SECOND, seconds=2.5)
    log.add("ceiling", 0, FIRST, cumulative=True)
    log.add("another", 0, [{"a": 0, "b": 0}, {"a": 0, "b": 0, "c": 0}, {"a": 0, "b": 0, "c": 0, "d": 0}])
    return log.close()


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """One session, one seed, names that want to break out, a look, a skip."""
    log = Log(tmp_path / "evil", [2], [EVIL, "plain"])
    run = log.add(EVIL, 0, [{EVIL: 1, "plain": 2}])
    heat = torch.zeros(3, 2, 4)
    heat[:, 0, 1] = 1.0  # the upper right quarter of the first frame
    run.write_looks(
        {"rows": torch.tensor([0, 1, 2]), "heat": heat, "pictures": torch.full((3, 2, 16, 16, 3), 128).byte()}
    )
    log.skips = [{"id": EVIL, "reason": f"has the same content as {EVIL}"}]
    return log.close()


class Page(HTMLParser):
    """Tags must close in turn; collects what is fetched and what is read."""

    VOID = ("meta", "img", "br", "source")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self.fetched += [str(value) for name, value in attrs if name in ("src", "srcset", "href", "data", "action")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def page_of(out: Path) -> tuple[str, Page]:
    from harkback.page import html

    text = html(out)
    return text, Page(text)


def pictures(page: Page, kind: str) -> list[bytes]:
    head = f"data:image/{kind};base64,"
    return [base64.b64decode(uri.removeprefix(head)) for uri in page.fetched if uri.startswith(head)]


def strict(text: str) -> Any:
    """JSON without NaN or Infinity, which Python would let pass."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


# The numbers.


def test_the_numbers_are_those_worked_out_by_hand(out: Path) -> None:
    found = summary(out)
    one = found["rows"][0]
    # Seed 0: A = 4/4, 4/6, 4/8; seed 1: 1/4 + 0, 4/6, 6/8. Mean over sessions, then over seeds.
    assert one["accuracy_per_session"] == pytest.approx([(1 + 1 / 4) / 2, 4 / 6, (4 / 8 + 6 / 8) / 2])
    means = [(1 + 2 / 3 + 1 / 2) / 3, (1 / 4 + 2 / 3 + 3 / 4) / 3]
    assert one["mean_accuracy"] == pytest.approx(sum(means) / 2)
    # Of two runs: t(0.975, 1) x |difference| / 2.
    assert one["ci95"] == pytest.approx(12.706204736432095 * (means[0] - means[1]) / 2)
    assert one["final_accuracy"] == pytest.approx(0.625)
    assert one["final_ci95"] == pytest.approx(12.706204736432095 * 0.25 / 2)
    # Seed 0: a = 1; 1/2, 1; 1/4, 1/2, 1. F = 1/2, (3/4 + 1/2) / 2. Seed 1: a = 1/4; 3/4, 1/2; 1, 1, 0. F = -1/2, -3/8.
    assert one["average_forgetting"] == pytest.approx(((1 / 2 + 5 / 8) / 2 + (-1 / 2 - 3 / 8) / 2) / 2)
    assert one["final_forgetting"] == pytest.approx((5 / 8 - 3 / 8) / 2)
    assert one["backward_transfer"] == pytest.approx((-(3 / 4 + 1 / 2) / 2 + (3 / 4 + 1 / 2) / 2) / 2)
    assert one["seconds"] == pytest.approx((3 * 1.5 + 3 * 2.5) / 2)
    assert one["memory_bytes"] == 2000
    assert one["per_class_accuracy"] == {"a": 0.75, "b": 0.0, "c": 0.75, "d": 1.0}
    assert one["runs"] == 2


def test_the_summary_says_what_was_measured(out: Path) -> None:
    found = summary(out)
    assert [row["learner"] for row in found["rows"]] == ["one", "ceiling", "another"]
    assert [row["cumulative"] for row in found["rows"]] == [False, True, False]
    assert (found["encoder"], found["sessions"], found["memory"]) == ("signal", [2, 1, 1], 10)
    assert (found["asked"], found["training_clips"], found["test_clips"]) == ("test", 30, 8)
    assert found["skipped"] == found["unfinished"] == []


def test_what_cannot_be_measured_is_null(evil: Path) -> None:
    written = write_report(evil)
    row = strict((evil / "report.json").read_text(encoding="utf-8"))["rows"][0]
    for name in ("ci95", "final_ci95", "average_forgetting", "final_forgetting", "backward_transfer"):
        assert row[name] is None
    assert row["mean_accuracy"] == row["final_accuracy"] == 0.75
    assert written == [evil / "report.json", evil / "report.md", evil / "report.html"]


def test_a_run_stopped_half_way_is_named_and_left_out(out: Path, tmp_path: Path) -> None:
    whole = summary(out)["rows"][0]
    log = Log(tmp_path / "half", [2, 1, 1], "abcd")
    for seed, sessions in enumerate((FIRST, SECOND, FIRST[:2])):
        log.add("one", seed, sessions, seconds=1.5 + (seed == 1))
    log.add("none", 0, [])
    half = summary(log.close())
    assert half["rows"][0] == whole
    assert half["rows"][1]["runs"] == 0
    assert half["rows"][1]["mean_accuracy"] is None
    assert half["rows"][1]["accuracy_per_session"] == []
    assert half["unfinished"] == [
        {"learner": "one", "seed": 2, "order": 2, "sessions": 2},
        {"learner": "none", "seed": 0, "order": 0, "sessions": 0},
    ]
    text, _ = page_of(log.out)
    for said in (text, markdown(log.out)):
        assert "Unfinished, and left out of all numbers: one, seed 2, order 2 (2 of 3 sessions)" in said


def test_a_log_without_any_finished_run_still_reports(tmp_path: Path) -> None:
    log = Log(tmp_path / "begun", [2, 1, 1], "abcd")
    log.add("one", 0, FIRST[:1])
    assert "No incremental learner has a finished run" in markdown(log.close())
    page_of(log.out)


@pytest.mark.parametrize("content", [None, "[]", "{}", "{"])
def test_what_is_no_log_is_said_in_one_line(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "bench.json").write_text(content, encoding="utf-8")
    with pytest.raises(HarkbackError) as caught:
        write_report(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert ";" in str(caught.value)


# The words.


def test_markdown_has_a_row_for_each_learner_and_what_was_asked(out: Path) -> None:
    text = markdown(out)
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(table) == 2 + 3
    assert table[2].startswith("| one | 63.9 ± 105.9 | 62.5 ± 158.8 | 6.2 | 12.5 | 0.0 | 6 s | 2 kB |")
    assert "3 sessions of 2, 1, 1 classes" in text
    assert 'asked of 8 clips of split "test"; a memory of 10 exemplars in all; seeds 0, 1' in text


def test_names_cannot_break_the_markdown(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", [2], "ab")
    log.add("a|b\n# <i>*x*", 0, [{"a": 1, "b": 1}])
    lines = markdown(log.close()).splitlines()
    assert sum(line.startswith(r"| a\|b # \<i>\*x\* |") for line in lines) == 1
    assert sum(line.startswith("#") for line in lines) == 1


def test_the_verdict_is_worked_out(out: Path, tmp_path: Path) -> None:
    text = markdown(out)
    assert "Of 2 incremental learners one knew most: it reached 63.9 ± 105.9 % mean accuracy over 2 runs." in text
    assert "ceiling, which is handed every former clip again, reached 72.2 %: 8.3 points more." in text
    assert "too few runs to rule out chance" in text
    assert "one forgot most: 6.2 points on average." in text

    log = Log(tmp_path / "sure", [2], "ab")
    for seed in (0, 1):
        log.add("weak", seed, [{"a": 0, "b": 1}])
        log.add("strong", seed, [{"a": 2, "b": 1}])
    assert "strong knew most: it reached 75.0 ± 0.0 %" in markdown(log.close())
    assert "It is 50.0 points ± 0.0 ahead of weak, run against run." in markdown(log.out)

    log = Log(tmp_path / "chance", [2], "ab")
    for seed, hits in enumerate((0, 2)):
        log.add("weak", seed, [{"a": 1, "b": 0}])
        log.add("strong", seed, [{"a": hits, "b": 1}])
    assert "Its lead over weak, 25.0 points ± 317.7, may be chance." in markdown(log.close())


def test_skips_are_counted_by_reason(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", [2], "ab")
    log.add("one", 0, [{"a": 1, "b": 1}])
    log.skips = [
        {"id": "1", "reason": "is empty"},
        {"id": "2", "reason": "has the same content as x/1.mp4"},
        {"id": "3", "reason": 'has the same content as x/2.mp4, which is labelled "b"'},
        {"id": "4", "reason": 'class "c" is left out: it has no clip to ask'},
        {"id": "5", "reason": 'class "d d" is left out: it has no clip to ask'},
        {"id": "6", "reason": 'class "d d" is left out: it has no clip to ask'},
    ]
    assert [(reason, len(group)) for reason, group in grouped(log.skips)] == [
        ('class "…" is left out: …', 3),
        ("has the same content as …", 2),
        ("is empty", 1),
    ]
    assert "6 clips were left out:\n  * 3: class" in markdown(log.close())
    text, page = page_of(log.out)
    assert all(f">{skip['id']}</span>" in text for skip in log.skips)
    assert "6 clips were left out." in "".join(page.words)


def test_numbers_for_people() -> None:
    seconds = (0.00002, 0.34, 8.31, 59.6, 83, 3599.9, 8000)
    assert [duration(s) for s in seconds] == [
        "20 µs",
        "0.34 s",
        "8.3 s",
        "1 min 0 s",
        "1 min 23 s",
        "1 h 0 min",
        "2 h 13 min",
    ]
    assert [size(n) for n in (0, 999, 1000, 1_500_000, 999_600_000, 2e12)] == [
        "0 B",
        "999 B",
        "1 kB",
        "1.5 MB",
        "1 GB",
        "2 TB",
    ]
    assert [percent(x) for x in (0.5, -0.025, None, float("nan"))] == ["50.0", "−2.5", "–", "–"]


# The page.


def test_the_page_stands_alone(out: Path) -> None:
    text, page = page_of(out)
    assert page.fetched
    assert all(uri.startswith("data:image/") for uri in page.fetched)
    assert not re.search(r"(src|href|url|@import)[\s\"'(=]*(https?:)?//", text)
    assert "script" not in page.tags
    assert text.lstrip().startswith("<!doctype html>")


def test_names_cannot_break_the_page(evil: Path) -> None:
    text, page = page_of(evil)
    assert "<script" not in text
    assert page.words.count(EVIL) > 4
    drawn = [ElementTree.fromstring(svg) for svg in pictures(page, "svg+xml")]
    assert len(drawn) == 4
    for svg in drawn:
        texts = [node.text or "" for node in svg.iter("{http://www.w3.org/2000/svg}text")]
        assert any(text.startswith("<script>al") and text.endswith("…") for text in texts)


def test_dollars_are_no_formula(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", [2], "ab")
    log.add("$a_b$ 🐸", 0, [{"a": 1, "b": 1}])
    _, page = page_of(log.close())
    for svg in pictures(page, "svg+xml"):
        assert "$a_b$ 🐸" in [node.text for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("text")]


def test_the_same_log_gives_the_same_bytes(evil: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib as mpl

    one, _ = page_of(evil)
    monkeypatch.setitem(mpl.rcParams, "lines.linewidth", 31.0)  # The reader's own style must not show.
    before = dict(mpl.rcParams)
    assert page_of(evil)[0] == one
    assert dict(mpl.rcParams) == before


def test_no_warning_escapes(evil: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        page_of(evil)
    assert caught == []


def test_the_best_method_is_bold_and_the_ceiling_is_not(out: Path) -> None:
    text, _ = page_of(out)
    table = text[: text.index("Accuracy as classes come")]
    rows = dict(re.findall(r'<th scope="row">(\w+)</th>(<td>.*?)</tr>', table))
    bold = {name: re.findall("<b>(.*?)</b>", cells) for name, cells in rows.items()}
    # "another" never knew anything: it had nothing to forget, and it is quicker.
    assert bold == {
        "one": ["63.9 ± 105.9", "62.5 ± 158.8", "0.0", "2 kB"],
        "ceiling": [],
        "another": ["0.0", "0.0", "0.0", "4.5 s", "2 kB"],
    }
    assert "<details open>\n<summary>one</summary>" in text


def test_heat_lies_where_the_learner_looked(evil: Path) -> None:
    _, page = page_of(evil)
    sheets = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=float) for data in pictures(page, "webp")]
    assert len(sheets) == 3
    height, width, _ = sheets[0].shape
    side = (height - 2) // 2
    assert width == 2 * side + 2
    for sheet in sheets:
        warm = sheet[side + 2 :, :, 0] - sheet[side + 2 :, :, 2]  # redder than blue
        q = side // 4
        assert warm[q, 3 * q] > 60  # frame 0, upper right
        assert abs(warm[3 * q, q]) < 20  # frame 0, lower left
        assert abs(warm[:, side + 2 :]).max() < 30  # frame 1
        assert abs(sheet[: side - 4, : side - 4] - 128).max() < 12  # the plain frame


def test_clips_are_said_right_or_wrong(evil: Path) -> None:
    _, page = page_of(evil)
    words = "".join(page.words)
    wrong = words[words.index("Wrong") :]
    assert words.index("Right") < words.index("plain/0.mp4") < words.index("Wrong")
    assert f"{EVIL}/1.mp4" in wrong
    assert f"{EVIL}, called plain" in wrong
    assert "score 1 against 0 for the truth" in wrong
    assert "100.0 % of the look" in words


def test_looks_without_pictures_are_explained(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", [2], "ab")
    log.add("blind", 0, [{"a": 1, "b": 1}]).write_looks({"rows": torch.zeros(0, dtype=torch.long)})
    odd = {"heat": torch.ones(1, 2, 6), "pictures": torch.zeros(1, 2, 8, 8, 3).byte()}
    log.add("odd", 0, [{"a": 1, "b": 1}]).write_looks({"rows": torch.tensor([0]), **odd})
    _, page = page_of(log.close())
    words = "".join(page.words)
    assert "No picture was kept" in words
    assert "6 patches a frame form no square" in words
    assert pictures(page, "webp") == []


def test_many_classes_are_one_picture(tmp_path: Path) -> None:
    names = [f"class {i:02d}" for i in range(31)]
    log = Log(tmp_path / "log", [31], names)
    log.add("one", 0, [{name: 2 - (i == 3) for i, name in enumerate(names)}])
    _, page = page_of(log.close())
    image = Image.open(io.BytesIO(pictures(page, "png")[0]))
    assert image.width == image.height == 31 * (720 // 31)
    assert "class 03 → class 04 (1 of 2)" in "".join(page.words)


def test_what_was_not_measured_is_clear() -> None:
    from harkback.figures import plain_map

    data = base64.b64decode(plain_map(np.array([[1.0, np.nan], [0.0, 0.5]])).partition(",")[2])
    image = Image.open(io.BytesIO(data))
    pixels = [image.getpixel((x, y)) for y in (90, 500) for x in (90, 500)]
    assert [pixel[3] for pixel in pixels] == [255, 0, 255, 255]
    assert sum(pixels[0][:3]) < sum(pixels[3][:3]) < sum(pixels[2][:3])  # the more, the darker


def test_curves_that_end_together_keep_their_names_apart(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", [2, 1, 1], "abcd")
    for i in range(9):
        log.add(f"learner{i}", 0, [dict.fromkeys(right, 0) for right in FIRST])
    _, page = page_of(log.close())
    for svg in pictures(page, "svg+xml"):
        root = ElementTree.fromstring(svg)
        texts = [node for node in root.iter() if (node.text or "").startswith("learner")]
        assert max(float(node.attrib["y"]) for node in texts) < float(root.attrib["viewBox"].split()[3]) - 30
        assert len(texts) % 9 == 0
        for first in range(0, len(texts), 9):  # a panel each
            heights = sorted(float(node.attrib["y"]) for node in texts[first : first + 9])
            assert len(heights) == 9
            assert min(np.diff(heights)) > 9


def test_the_command_repeats_it(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", [2], "ab")
    log.add("one", 4, [{"a": 1, "b": 1}])
    assert (
        "harkback bench CLIPS --learners one --sessions 1 --memory 10 --seeds 4,4 --split test --encoder signal"
        in page_of(log.close())[0]
    )
    log = Log(tmp_path / "more", [2, 1, 1], "abcd")
    for seed in (0, 1):
        log.add("one", seed, FIRST)
    log.runs[0]["order"] = 1
    text, _ = page_of(log.close())
    assert "--sessions 2,1,1 --memory 10 --seeds 2 --orders 1,1 --split test" in text


# Without the extra.


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the page's rooms be imported anew."""
    for name in ("page", "figures", "heat"):
        monkeypatch.delitem(sys.modules, f"harkback.{name}", raising=False)
        monkeypatch.delattr(harkback, name, raising=False)


@pytest.mark.parametrize("package", ["jinja2", "matplotlib", "PIL"])
def test_without_the_extra_there_is_no_page(out: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    forget(monkeypatch)
    monkeypatch.setitem(sys.modules, package, None)
    assert write_report(out) == [out / "report.json", out / "report.md"]
    assert not (out / "report.html").exists()
    assert strict((out / "report.json").read_text(encoding="utf-8")) == summary(out)
    assert (out / "report.md").read_text(encoding="utf-8") == markdown(out)


def test_our_own_missing_module_is_no_missing_extra(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forget(monkeypatch)
    monkeypatch.setitem(sys.modules, "harkback.figures", None)
    with pytest.raises(ModuleNotFoundError):
        write_report(out)
