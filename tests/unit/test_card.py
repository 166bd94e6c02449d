"""Model cards: what they say is what the facts say, and nothing that was forgotten."""

from __future__ import annotations

import copy
import json
from math import sqrt
from typing import Any

import pytest

from harkback.card import card

DOG = "dog | <b>`x`</b> & *y* 👩‍🚒"
Z = 1.959963984540054  # The normal distribution's 97.5 % quantile.


def facts(**changes: Any) -> dict[str, Any]:
    """model.json of a model of two sessions."""
    return {
        "format": 1,
        "harkback": "0.1.0",
        "name": "rover",
        "classes": ["siren", DOG],
        "learner": {
            "name": "hark",
            "settings": {"passes": 3, "guide": "audio", "inner": {"width": 8}},
            "memory": 200,
            "seed": 7,
        },
        "encoder": {
            "name": "signal",
            "revision": "1",
            "licence": "Apache-2.0",
            "shape": {"audio_tokens": 32, "audio_dim": 64, "frames": 8, "patches": 49, "visual_dim": 231},
            "frames": 8,
            "sample_rate": 16000,
            "preprocessing": {"sound": "x"},
            "computed_with": {"torch": "2.13.0"},
            "per_second": 0.0,
        },
        "encoder_key": "0123abcd",
        "encoder_model": "/home/anna/models/secret",
        "false_alarm": 0.05,
        "calibration": {"temperature": 0.1, "evidence": [i / 40 for i in range(38)]},
        "sessions": [
            {
                "did": "teach",
                "time": "2026-11-23T03:20:00+00:00",
                "clips": {"siren": [f"{i:064x}" for i in range(24)]},
                "new": ["siren"],
                "skipped": 2,
                "seconds": 3.2,
                "exam": {"siren": [18, 20]},
                "window": 3.5,
            },
            {
                "did": "teach",
                "time": "2026-11-24T04:20:00+00:00",
                "clips": {"siren": ["a", "b", "c", "d"], DOG: ["e", "f", "g"]},
                "new": [DOG],
                "skipped": 0,
                "seconds": 3.2,
                "exam": {"siren": [19, 20], DOG: [1, 3]},
                "before": {"right": 18, "asked": 20, "right_after": 17},
                "strangers": {"asked": 20, "told": 17, "auroc": 0.934},
                "window": 2.0,
            },
        ],
        **changes,
    }


def wilson(right: int, asked: int) -> str:
    """Wilson's interval by its formula."""
    p, share = right / asked, Z * Z / asked
    middle, half = (p + share / 2) / (1 + share), Z * sqrt(p * (1 - p) / asked + share / asked / 4) / (1 + share)
    return f"{100 * max(0, middle - half):.1f} to {100 * min(1, middle + half):.1f} %"


def rows(text: str) -> list[list[list[str]]]:
    """The cells of all tables, as a reader of the rendered card sees them."""
    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")
    tables: list[list[list[str]]] = []
    tokens = markdown.parse(text)
    for i, kind in enumerate(token.type for token in tokens):
        if kind == "table_open":
            tables.append([])
        elif kind == "tr_open":
            tables[-1].append([])
        elif kind in ("th_open", "td_open"):
            shown = [child for child in tokens[i + 1].children if child.type not in ("strong_open", "strong_close")]
            assert all(child.type in ("text", "text_special") for child in shown), shown  # Nothing but words.
            tables[-1][-1].append("".join(child.content for child in shown))
    return tables


def front(text: str) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    start, matter, _ = text.split("---\n", 2)
    assert start == ""
    found: dict[str, Any] = yaml.safe_load(matter)
    return found


# ---- numbers --------------------------------------------------------------------------------------------------------


def test_classes_with_what_they_were_taught_and_how_they_did() -> None:
    head, *classes = rows(card(facts()))[0]
    assert head == ["class", "clips taught", "told rightly", "accuracy", "95 % interval"]
    assert classes == [
        ["siren", "28", "19 of 20", "95.0 %", wilson(19, 20)],
        [DOG, "3", "1 of 3", "33.3 %", wilson(1, 3)],
        ["all", "31", "20 of 23", "87.0 %", wilson(20, 23)],
    ]
    assert "Asked on 2026-11-24" in card(facts())


def test_sessions_with_what_they_cost() -> None:
    with_more = facts()
    with_more["sessions"].append({"did": "forget", "time": "2026-12-01T00:00:00+00:00", "classes": 1})
    head, *sessions = rows(card(with_more))[1]
    assert head == ["session", "UTC", "clips", "new classes", "old classes, told rightly", "skipped"]
    assert sessions == [
        ["1", "2026-11-23", "24", "siren", "–", "2"],
        ["2", "2026-11-24", "7", DOG, "18 before, 17 after, of 20", "0"],
        ["3", "2026-12-01", "–", "1 class forgotten", "–", "–"],
    ]


def test_what_was_never_asked_is_a_dash_or_said_to_be_unknown() -> None:
    some = facts()
    some["sessions"][1]["exam"] = {"siren": [0, 20]}
    assert rows(card(some))[0][2] == [DOG, "3", "–", "–", "–"]
    assert rows(card(some))[0][3] == ["all", "31", "0 of 20", "0.0 %", wilson(0, 20)]
    none = facts()
    for record in none["sessions"]:
        record["exam"] = {}
    none["sessions"][1]["before"] = {"right": 0, "asked": 0, "right_after": 0}
    assert rows(card(none))[0][3] == ["all", "31", "–", "–", "–"]
    assert rows(card(none))[1][2][4] == "–"
    assert "nothing is known of how often it is right" in card(none) and "Asked on" not in card(none)


def test_made_of_what() -> None:
    text = card(facts())
    assert "signal, revision 1, licence Apache-2.0. 32 tokens of sound and 8 × 49 of the picture" in text
    assert "hark, seed 7, at most 200 clips retained. Settings: guide audio, inner.width 8, passes 3." in text
    assert "windows of 2 s" in text
    quiet = facts()
    for record in quiet["sessions"]:
        del record["window"]
    assert "windows of" not in card(quiet)


# ---- unknown --------------------------------------------------------------------------------------------------------


def test_whether_it_can_say_unknown() -> None:
    assert "at most 5.0 % are called so, by 38 clips" in card(facts())
    # 1 / 0.05 - 1 = 19 clips are the fewest by which one in twenty can be told.
    for count, sure in ((19, True), (18, False)):
        text = card(facts(calibration={"temperature": 1.0, "evidence": [0.5] * count}))
        assert ('It can say "unknown"' in text) is sure
        assert ("takes 19 clips to examine it by, and it has 18" in text) is not sure
    text = card(facts(false_alarm=0.01))
    assert 'cannot say "unknown" yet' in text and "takes 99 clips" in text and "it has 38" in text
    assert "with one class" in card(facts(classes=["siren"]))


def test_strangers_are_counted_over_all_sessions() -> None:
    assert f"called 17 of 20 clips of classes that were then new unknown, 85.0 % ({wilson(17, 20)})" in card(facts())
    more = facts()
    more["sessions"].append({**more["sessions"][1], "strangers": {"asked": 5, "told": 1, "auroc": float("nan")}})
    assert f"called 18 of 25 clips of classes that were then new unknown, 72.0 % ({wilson(18, 25)})" in card(more)
    assert "(AUROC by session: 0.93)" in card(more)
    del more["sessions"][1]["strangers"], more["sessions"][2]["strangers"]
    assert "Before it learnt them" not in card(more)


# ---- what stands where ----------------------------------------------------------------------------------------------


def test_front_matter() -> None:
    assert front(card(facts())) == {
        "library_name": "harkback",
        "pipeline_tag": "video-classification",
        "license": "apache-2.0",
        "tags": ["harkback", "audio-visual", "class-incremental-learning", "continual-learning"],
    }


@pytest.mark.parametrize(
    ("licence", "license", "name"),
    [
        ("CC-BY-NC-4.0", "cc-by-nc-4.0", None),
        ("SAM License", "other", "sam-license"),
        ("1.0", "other", "1.0"),
        ('My: "own", 2', "other", "my-own-2"),
        ("GPL-3.0-only", "other", "gpl-3.0-only"),
        ("…", "other", "unknown"),
    ],
)
def test_licences(licence: str, license: str, name: str | None) -> None:
    changed = facts()
    changed["encoder"]["licence"] = licence
    found = front(card(changed))
    assert (found["license"], found.get("license_name")) == (license, name)


@pytest.mark.parametrize(
    "name",
    [DOG, "a\\|b", "# x", "[a](b)", "_a_ **b** ~~c~~", "$a$", "<!-- x", "&amp;", "日本語", "a#", "1. x", "- x"],
)
def test_any_name_is_shown_as_it_is(name: str) -> None:
    named = json.loads(json.dumps(facts()).replace('"siren"', json.dumps(name)))
    tables = rows(card(named))
    assert tables[0][1][0] == name and tables[1][1][3] == name
    assert [len(row) for row in tables[0]] == [5] * 4 and [len(row) for row in tables[1]] == [6] * 3


def test_odd_characters_stay_on_their_line() -> None:
    text = card(facts(name="a\nb\u2028c\udc80 '`d"))
    text.encode("utf-8")
    assert text.splitlines() == text.split("\n")[:-1]
    assert "# a\\\\nb\\\\u2028c\\\\udc80 '\\`d" in text
    assert "harkback undo 'a\\nb\\u2028c\\udc80 '\"'\"'`d'" in text
    assert 'harkback.load("a\\\\nb\\\\u2028c\\\\udc80 \'`d")' in text


def test_how_to_use_it() -> None:
    text = card(facts(name="my rover"))
    for line in (
        "harkback predict 'my rover' street.mp4",
        "harkback teach 'my rover' new_clips/",
        "harkback undo 'my rover'",
        'harkback.load("my rover").predict("street.mp4")',
    ):
        assert line in text
    assert "It is not the accuracy on your recordings" in text and "benchmark" in text


# ---- what does not stand there --------------------------------------------------------------------------------------


def test_no_path_and_no_forgotten_class() -> None:
    kept = facts(classes=["siren"])
    text = card(kept)
    assert "dog" not in text and "👩" not in text and "| 2 | 2026-11-24 | 4 |" in text
    assert "1 of 3" not in text and "/home" not in text and "secret" not in text


def test_equal_facts_make_equal_bytes_and_are_left_as_they_are() -> None:
    first = facts()
    before = copy.deepcopy(first)
    text = card(first)
    assert first == before and card(facts()) == text
    # However a file's reader orders what has no order.
    turned = json.loads(json.dumps(first), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    assert card(turned) == text
    assert text.endswith("\n") and not text.endswith("\n\n") and "\r" not in text
    seconds = facts()
    seconds["sessions"][0]["seconds"] = 99.0
    assert card(seconds) == text  # How long it took is nobody's fact.
