"""The page: it stands alone, survives any name, shows what was measured, and stays readable with many learners."""

from __future__ import annotations

import base64
import io
import re
import warnings
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from handmade import EVIL, FIRST, Log, classes, evil, small, sure
from pages import Page, page_of, pictures, texts_of


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return small(tmp_path / "log")


@pytest.fixture
def wicked(tmp_path: Path) -> Path:
    return evil(tmp_path / "evil")


# The page.


def test_the_page_stands_alone(out: Path) -> None:
    text, page = page_of(out)
    assert page.fetched
    assert all(uri.startswith("data:image/") for uri in page.fetched)
    assert not re.search(r"(src|href|url|@import)[\s\"'(=]*(https?:)?//", text)
    assert "script" not in page.tags
    assert text.lstrip().startswith("<!doctype html>")


def test_names_cannot_break_the_page(wicked: Path) -> None:
    text, page = page_of(wicked)
    assert "<script" not in text
    assert page.words.count(EVIL) > 4
    drawn = [ElementTree.fromstring(svg) for svg in pictures(page, "svg+xml")]
    assert len(drawn) == 4  # Accuracy and costs at two widths: there is nobody to compare with.
    for svg in drawn:
        texts = [node.text or "" for node in svg.iter("{http://www.w3.org/2000/svg}text")]
        assert any(text.startswith("<script>al") and text.endswith("…") for text in texts)


def test_dollars_are_no_formula(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", [2], "ab")
    log.add("$a_b$ 🐸", 0, [{"a": 1, "b": 1}])
    _, page = page_of(log.close())
    for svg in pictures(page, "svg+xml"):
        assert "$a_b$ 🐸" in [node.text for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("text")]


def test_the_same_log_gives_the_same_bytes(wicked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib as mpl

    one, _ = page_of(wicked)
    monkeypatch.setitem(mpl.rcParams, "lines.linewidth", 31.0)  # The reader's own style must not show.
    before = dict(mpl.rcParams)
    assert page_of(wicked)[0] == one
    assert dict(mpl.rcParams) == before


def test_no_warning_escapes(wicked: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        page_of(wicked)
    assert caught == []


def test_the_best_method_is_bold_and_the_ceiling_is_not(out: Path) -> None:
    text, _ = page_of(out)
    table = text[: text.index("Accuracy as classes come")]
    rows = dict(
        re.findall(r'<th scope="row" title="\w+">(\w+)</th>(<td>.*?)</tr>', table[: table.index("All metrics")])
    )
    bold = {name: re.findall("<b>(.*?)</b>", cells) for name, cells in rows.items()}
    # "another" never knew anything: it had nothing to forget, and it is quicker.
    assert bold == {
        "one": ["63.9 ± 105.9", "62.5 ± 158.8", "0.0", "2 kB"],
        "ceiling": [],
        "another": ["0.0", "0.0", "1.5 s", "2 kB"],
    }
    assert "<details open>\n<summary>one</summary>" in text


def test_heat_lies_where_the_learner_looked(wicked: Path) -> None:
    _, page = page_of(wicked)
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


def test_clips_are_said_right_or_wrong(wicked: Path) -> None:
    _, page = page_of(wicked)
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
        if not any((node.text or "").startswith("session, and") for node in root.iter()):
            continue
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
    assert "--sessions 2,1,1 --memory 10 --seeds 2 --orders 1,1 --split test --encoder signal</pre>" in text
    assert "seeds 0, 1 on class order 1." in text
    # A dataset that comes as features has no encoder to name; a reference that was named is named again.
    log.facts = {"encoder": {"name": "released"}, "validation": "none", "reference": "one"}
    assert "--split test --validation none --reference one</pre>" in page_of(log.close())[0]
    # Left out, a protocol's own order would be taken.
    log.runs, log.facts = [{**log.runs[0], "seed": 4, "order": 4}], {"protocol": {"name": "avcil-2023", "changed": []}}
    assert "--seeds 4,4 --orders 4,4 --split" in page_of(log.close())[0]
    # Names as --learners reads them.
    log.add("l3@audio", 1, FIRST, modality="audio", method="l3")
    assert "--learners one,l3@audio --sessions" in page_of(log.close())[0]
    # What was set is set again.
    log.facts = {"settings": {"one": {"width": 3}, "l3@audio": {"temperature": 4.0, "network": {"heads": 4}}}}
    assert "signal --l3.temperature 4.0 --l3.network.heads 4</pre>" in page_of(log.close())[0]


# Many learners.


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Page]:
    """Twenty learners, the later the better, and two ceilings; losses of two. The log, and its page."""
    names = classes(12)
    log = Log(tmp_path_factory.mktemp("crowd"), [6, 6], names)
    for k in range(20):
        right = {name: 1 + (i < k // 2) for i, name in enumerate(names)}
        say = {"losses": [3.0, 2.0 - k / 10, 1.0]} if k in (0, 7) else {"losses": []}
        log.add(f"learner{k:02d}", 0, [{name: right[name] for name in names[:6]}, right], say=say)
    for name in ("joint", "joint-avcil"):
        log.add(name, 0, [dict.fromkeys(names[:6], 2), dict.fromkeys(names, 2)], cumulative=True)
    log.facts = {"reference": "learner03"}
    return log.close(), page_of(log.out)[1]


def test_of_many_learners_the_reference_the_best_and_the_ceilings_are_named(
    crowd: tuple[Path, Page], tmp_path: Path
) -> None:
    from harkback import curves
    from harkback.report import find

    out, page = crowd
    found = find(out)
    looks = curves.styled(found.told, found.compared.reference)
    bright = [look.results.learner for look in looks if look.bright]
    assert bright == ["learner03", *(f"learner{k}" for k in (14, 16, 17, 18, 19)), "joint", "joint-avcil"]
    assert len(looks) == 22 and all(not look.bright for look in looks[:14])
    coloured = [look.colour for look in looks if look.bright and not look.results.cumulative]
    assert len(set(coloured)) == 6
    few = curves.styled(find(sure(tmp_path / "sure")).told, None)
    assert [look.bright for look in few] == [True] * 3

    words = "".join(page.words)
    assert words.count("14 other learners") == 2
    drawn = [texts_of(svg) for svg in pictures(page, "svg+xml")]
    accuracy = next(texts for texts in drawn if "accuracy over all classes seen, %" in texts)
    assert [text for text in accuracy if text.startswith("l")] == bright[:6]
    alone = [texts for texts in drawn if "learner00" in texts and "joint" in texts and "final accuracy" not in texts]
    assert len(alone) == 2 and all(sum("learner" in text for text in texts) == 20 for texts in alone)


def test_the_forest_has_a_row_for_each_but_the_reference(crowd: tuple[Path, Page], tmp_path: Path) -> None:
    _, page = crowd
    forests = [t for t in (texts_of(svg) for svg in pictures(page, "svg+xml")) if "final accuracy" in t]
    assert len(forests) == 2
    for texts in forests:
        assert "learner03" not in texts and "points above or below learner03" in texts
        assert {"learner00", "learner19", "joint", "joint-avcil"} <= set(texts)
    _, page = page_of(sure(tmp_path / "sure", reference="weak"))
    svg = next(svg for svg in pictures(page, "svg+xml") if "final accuracy" in texts_of(svg)).decode()
    # "strong" is real in both panels, "close" in neither: full, and hollow.
    filled = re.findall(r"<use [^>]*style=\"fill: (#\w+); stroke: #0072b2\"", svg)
    assert sorted(filled) == ["#0072b2", "#0072b2", "#ffffff", "#ffffff"]


def test_losses_are_drawn_where_they_were_kept(crowd: tuple[Path, Page], out: Path) -> None:
    from harkback import curves
    from harkback.report import find

    drawn = curves.losses(find(crowd[0]).told)
    assert drawn is not None
    texts = texts_of(base64.b64decode(drawn.wide.partition(",")[2]))
    assert [text for text in texts if text.startswith("learner")] == ["learner00", "learner07"]
    assert curves.losses(find(out).told) is None
    assert "How the training loss fell" in "".join(crowd[1].words)
    assert "How the training loss fell" not in page_of(out)[0]
