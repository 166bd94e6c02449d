"""The report: its numbers are those worked out by hand, and it survives any name, any gap and any half-done log."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import harkback
from handmade import FIRST, SECOND, Log, classes, evil, small, sure
from harkback.errors import HarkbackError
from harkback.report import latex, markdown, summary, write_report
from harkback.wording import grouped
from pages import page_of


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return small(tmp_path / "log")


@pytest.fixture
def wicked(tmp_path: Path) -> Path:
    return evil(tmp_path / "evil")


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
    # Rows of a: 1; 1/2, 1; 1/4, 1/2, 1 and 1/4; 3/4, 1/2; 1, 1, 0. Classes: a, b of session 0, then c, then d.
    assert one["mean_accuracy_task_macro"] == pytest.approx(
        ((1 + 3 / 4 + (1 / 4 + 1 / 2 + 1) / 3) / 3 + (1 / 4 + 5 / 8 + 2 / 3) / 3) / 2
    )
    assert one["final_accuracy_task_macro"] == pytest.approx(((1 / 4 + 1 / 2 + 1) / 3 + 2 / 3) / 2)
    # Two clips of each class, so classes weigh as clips do.
    assert one["mean_accuracy_class_macro"] == pytest.approx(one["mean_accuracy"])
    assert one["final_accuracy_class_macro"] == pytest.approx(one["final_accuracy"])
    # Seed 0: best less last: 1 - 1/4, 1 - 1/2; seed 1: the last is the best.
    assert one["final_forgetting_pycil"] == pytest.approx((3 / 4 + 1 / 2) / 2 / 2)
    assert one["seconds_per_session"] == pytest.approx([2.0, 2.0, 2.0])
    # 1.96 sqrt(.625 x .375 / 8).
    assert one["test_half_width"] == pytest.approx(1.96 * (0.625 * 0.375 / 8) ** 0.5, rel=1e-4)
    # What a log of old does not say.
    assert one["trained_parameters"] is one["method"] is one["modality"] is None


def test_a_log_of_today_says_more(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", [2, 1, 1], "abcd")
    log.add("l3@audio", 0, FIRST, say={"trained_parameters": 1000}, method="l3", modality="audio")
    log.add("l3@audio", 1, SECOND, say={"trained_parameters": 3000}, method="l3", modality="audio")
    log.facts = {"protocol": {"name": "avcil-2023", "changed": []}, "validation": "current"}
    found = summary(log.close())
    row = found["rows"][0]
    assert (row["trained_parameters"], row["method"], row["modality"]) == (2000, "l3", "audio")
    assert (found["protocol"]["name"], found["validation"]) == ("avcil-2023", "current")
    assert "| 2 k |" in markdown(log.out)
    assert (
        "Protocol avcil-2023, unchanged. Validation: best epoch on validation clips of the session's own"
        in markdown(log.out)
    )


def test_the_comparison_is_in_the_json(out: Path) -> None:
    found = summary(out)
    assert (found["reference"], found["reference_named_by"]) == ("one", "nobody")
    rows = {row["learner"]: row for row in found["rows"]}
    assert rows["one"]["comparison"] is None
    of = rows["another"]["comparison"]
    # On the one run in common: final 0 of 8 against 4 of 8, mean 0 against (1 + 2/3 + 1/2) / 3; a coin thrown 4 times.
    assert (of["reference"], of["runs"], of["units"], of["final_test"]) == ("one", 1, 1, "mcnemar")
    assert of["difference_final"] == -0.5 and of["difference_mean"] == pytest.approx(-13 / 18)
    assert of["only_right"] == [0, 4] and of["p"] == pytest.approx(1 / 8) and of["p_holm"] == pytest.approx(2 / 8)
    assert of["real"] is False
    assert of["ci"][0] < -0.5 < of["ci"][1] and of["mean_ci"][0] < -13 / 18 < of["mean_ci"][1]
    assert 0 < of["mean_p"] <= of["mean_p_holm"] <= 1
    assert rows["ceiling"]["comparison"]["difference_final"] == 0 and rows["ceiling"]["comparison"]["p"] == 1
    named = summary(out, "another")
    assert (named["reference"], named["reference_named_by"]) == ("another", "report")
    assert {row["learner"]: row for row in named["rows"]}["one"]["comparison"]["difference_final"] == 0.5
    with pytest.raises(HarkbackError, match="one, ceiling, another"):
        summary(out, "nobody")


def test_the_summary_says_what_was_measured(out: Path) -> None:
    found = summary(out)
    assert [row["learner"] for row in found["rows"]] == ["one", "ceiling", "another"]
    assert [row["cumulative"] for row in found["rows"]] == [False, True, False]
    assert (found["encoder"], found["sessions"], found["memory"]) == ("signal", [2, 1, 1], 10)
    assert (found["asked"], found["training_clips"], found["test_clips"]) == ("test", 30, 8)
    assert found["skipped"] == found["unfinished"] == []


def test_what_cannot_be_measured_is_null(wicked: Path) -> None:
    written = write_report(wicked)
    row = strict((wicked / "report.json").read_text(encoding="utf-8"))["rows"][0]
    for name in ("ci95", "final_ci95", "average_forgetting", "final_forgetting", "backward_transfer"):
        assert row[name] is None
    assert row["mean_accuracy"] == row["final_accuracy"] == 0.75
    assert written == [wicked / f"report.{kind}" for kind in ("json", "md", "tex", "html")]
    assert row["comparison"] is None and row["trained_parameters"] is None


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
        {"learner": "one", "seed": 2, "order": 2, "sessions": 2, "failed": None},
        {"learner": "none", "seed": 0, "order": 0, "sessions": 0, "failed": None},
    ]
    text, _ = page_of(log.out)
    for said in (text, markdown(log.out)):
        assert "Unfinished, and left out of all numbers: one, seed 2, order 2 (2 of 3 sessions)" in said


def test_a_run_that_failed_says_why(tmp_path: Path) -> None:
    log = Log(tmp_path / "half", [2, 1, 1], "abcd")
    log.add("one", 0, FIRST)
    log.add("one", 1, FIRST[:1])
    facts = json.loads((log.close() / "bench.json").read_text(encoding="ascii"))
    facts["runs"][1]["failed"] = "its machine <caught> fire"
    (log.out / "bench.json").write_text(json.dumps(facts), encoding="ascii")
    found = summary(log.out)
    assert found["rows"][0]["runs"] == 1
    assert [each["failed"] for each in found["unfinished"]] == ["its machine <caught> fire"]
    text, _ = page_of(log.out)
    for said in (text, markdown(log.out)):
        assert "Failed, and left out of all numbers: one, seed 1, order 1 (1 of 3 sessions): its machine" in said


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
    assert len(table) == 2 * (2 + 3)
    assert table[2].startswith("| one | 63.9 ± 105.9 | 62.5 ± 158.8 | reference | 6.2 | 0.0 | 2 s | – | 2 kB |")
    assert table[3].startswith("| ceiling | 72.2 | 50.0 | 0.0 (")
    assert table[7].startswith(
        "| one | 63.9 | 64.6 | 63.9 | 62.5 | 62.5 | 62.5 | 6.2 | 12.5 | 31.2 | 0.0 | 33.5 | 6 s |"
    )
    assert all(line.count("|") == table[k // 5 * 5].count("|") for k, line in enumerate(table))
    assert "3 sessions of 2, 1, 1 classes" in text
    assert 'asked of 8 clips of split "test"; a memory of 10 exemplars in all; seeds 0, 1' in text


def test_names_cannot_break_the_markdown(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", [2], "ab")
    log.add("a|b\n# <i>*x*", 0, [{"a": 1, "b": 1}])
    lines = markdown(log.close()).splitlines()
    assert sum(line.startswith(r"| a\|b # \<i>\*x\* |") for line in lines) == 2
    assert sum(line.startswith("#") for line in lines) == 1


def test_the_verdict_is_worked_out(out: Path, tmp_path: Path) -> None:
    text = markdown(out)
    assert "Of 2 incremental learners one knew most: it reached 63.9 ± 105.9 % mean accuracy over 2 runs." in text
    assert "ceiling, which is handed every former clip again, reached 72.2 %: 8.3 points more." in text
    assert "another is 72.2 points below one in mean accuracy (95 % interval −100.0 to " in text
    assert "one forgot most: 6.2 points on average." in text


def test_what_is_real_is_said_to_be(tmp_path: Path) -> None:
    out = sure(tmp_path / "sure", reference="weak")
    text = markdown(out)
    # 20 of 80 clips more in the end, 20 of 40 after the first session.
    assert "strong is 37.5 points above weak in mean accuracy (95 % interval " in text
    assert re.search(
        r"strong is 25\.0 points above weak in final accuracy \(95 % interval 1\d\.\d to 3\d\.\d, p \\< 0\.001", text
    )
    assert "this is real." in text
    assert re.search(
        r"close is 1\.2 points above weak in .* \(95 % interval −\d\.\d to .*\): this may be chance\.", text
    )
    assert "The reference, weak, was named when the bench was started." in text
    assert re.search(r"\| strong .* \+25\.0 \(1\d\.\d to 3\d\.\d\) \\\* \|", text)
    assert re.search(r"\| close .* \+1\.2 \(−\d\.\d to \d\.\d\) \|", text)
    assert "Only 3 class orders stand behind an interval" in text
    assert "was taken after the results were seen" not in text
    # The report's own choice goes before the bench's.
    assert "The reference, strong, was named for this report." in markdown(out, "strong")
    assert "weak is 25.0 points below strong in final accuracy" in markdown(out, "strong")


def test_a_choice_after_the_fact_is_owned_up_to(tmp_path: Path) -> None:
    text = markdown(sure(tmp_path / "sure"))
    assert "The reference, strong, was taken after the results were seen" in text
    assert "Of 3 incremental learners strong knew most" in text
    assert "close is 36.9 points below strong in mean accuracy" in text


def test_a_single_run_speaks_of_clips_alone(out: Path, tmp_path: Path) -> None:
    text = markdown(out)
    assert "speak of the choice of test clips alone" in text
    assert "another shares 1 of 2 runs with one." in text
    log = Log(tmp_path / "apart", [2], "ab")
    log.add("one", 0, [{"a": 1, "b": 1}])
    log.add("two", 1, [{"a": 1, "b": 1}])
    log.add("begun", 0, [])
    text = markdown(log.close())
    assert "Not compared, for want of a run with the seed, class order and clips of one of one: two." in text
    assert "two has no run in common with one, so the two cannot be compared." in text
    assert "Against" not in text.partition("Differences")[0]
    assert "The reference, begun, has no finished run" in markdown(log.out, "begun")


def test_among_many_comparisons_one_is_low_by_chance(tmp_path: Path) -> None:
    names = classes(20)
    log = Log(tmp_path / "many", [20], names)
    log.add("base", 0, [dict.fromkeys(names, 1)])
    for k in range(5):
        log.add(f"other{k}", 0, [{name: 1 + (i < 6) * (k == 0) for i, name in enumerate(names)}])
    text = markdown(log.close(), "base")
    # Six clips to none: p = 2 / 64, and five times that after Holm.
    assert "other0 is 15.0 points above base in final accuracy" in text
    assert "p = 0.16 after Holm): this may be chance, as one of 5 comparisons." in text
    assert "other1 is level with base in final accuracy" in text
    log.runs = log.runs[:2]
    text = markdown(log.close(), "base")
    assert "p = 0.03): this is real for this one run." in text
    assert "speak of the choice of test clips alone" in text


def test_orders_of_a_protocol_are_named(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", [2, 1, 1], "abcd")
    for order in ("avcil-2023", 10, 9):
        for seed in (0, 1):
            log.add("one", seed, FIRST if seed else SECOND, order=order)
    log.facts = {
        "protocol": {"name": "avcil-2023", "changed": ["a memory of 10 instead of 340"]},
        "validation": "all-seen",
    }
    _, page = page_of(log.close())
    words = "".join(page.words)
    assert "seeds 0, 1 on class orders avcil-2023 (the protocol's own), 10, 9." in words
    assert "Protocol avcil-2023, but a memory of 10 instead of 340." in words
    assert "it looks at old classes beyond the memory" in words
    assert "--seeds 2 --orders avcil-2023,10,9 --split test --validation all-seen --encoder signal" in words
    assert "seed 0, order avcil-2023" in words
    log.runs = [run for run in log.runs if run["order"] == "avcil-2023"]
    assert "--seeds 2 --orders avcil-2023 --split" in page_of(log.close())[0]
    assert "All runs had one class order" not in markdown(log.out)  # There is nobody to compare with.
    log.add("half", 0, [], order=7)
    assert "Unfinished, and left out of all numbers: half, seed 0, order 7 (0 of 3 sessions)" in markdown(log.close())
    assert "seeds 0 on avcil-2023 (the protocol's own), 1 on avcil-2023 (the protocol's own), 0 on order 7" in markdown(
        log.out
    )


def test_what_stands_behind_plus_minus_is_said(tmp_path: Path) -> None:
    said = {
        ((0, 0), (1, 1)): "over 2 runs, each with a class order of its own (Student's t).",
        ((0, 5), (1, 5), (2, 5)): "over 3 runs on one class order (Student's t).",
        ((0, 5), (1, 5), (0, 6), (1, 6)): "over 2 class orders (Student's t).",
    }
    for number, (pairs, words) in enumerate(said.items()):
        log = Log(tmp_path / str(number), [2, 1, 1], "abcd")
        for seed, order in pairs:
            log.add("one", seed, SECOND if order == 5 and seed else FIRST, order=order)
        for text in (markdown(log.close()), "".join(page_of(log.out)[1].words), latex(log.out).replace("$\\pm$", "±")):
            assert f"±: half the 95 {chr(92) if 'booktabs' in text else ''}% interval of the mean {words}" in text
    # Both seeds alike on order 6, and one of each kind on order 5: Student's t over the two orders' means.
    a, b = ((1 + 4 / 6 + 4 / 8) / 3, (1 / 4 + 4 / 6 + 6 / 8) / 3)
    row = summary(tmp_path / "2")["rows"][0]
    assert row["ci95"] == pytest.approx(12.706204736432095 * abs((a + b) / 2 - a) / 2)
    log = Log(tmp_path / "alone", [2, 1, 1], "abcd")
    log.add("one", 0, FIRST)
    assert "±: half" not in markdown(log.close())


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


# Without the extra.


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the page's rooms be imported anew."""
    for name in ("page", "figures", "heat", "curves", "forest", "grids", "templating"):
        monkeypatch.delitem(sys.modules, f"harkback.{name}", raising=False)
        monkeypatch.delattr(harkback, name, raising=False)


@pytest.mark.parametrize("package", ["jinja2", "matplotlib", "PIL"])
def test_without_the_extra_there_is_no_page(out: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    forget(monkeypatch)
    monkeypatch.setitem(sys.modules, package, None)
    assert write_report(out) == [out / "report.json", out / "report.md", out / "report.tex"]
    assert not (out / "report.html").exists()
    assert strict((out / "report.json").read_text(encoding="utf-8")) == summary(out)
    assert (out / "report.md").read_text(encoding="utf-8") == markdown(out)
    assert (out / "report.tex").read_text(encoding="utf-8") == latex(out)


def test_our_own_missing_module_is_no_missing_extra(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forget(monkeypatch)
    monkeypatch.setitem(sys.modules, "harkback.figures", None)
    with pytest.raises(ModuleNotFoundError):
        write_report(out)
