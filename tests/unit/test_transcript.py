"""`harkback.transcript`: the same answers for eyes, programs, spreadsheets and players, whatever files and classes are
called."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harkback.answers import Answer
from harkback.transcript import as_csv, as_json, as_vtt, clock, table


def answer(label: str | None, start: float = 0.0, end: float = 2.0, **rest: Any) -> Answer:
    likeliest = label if label is not None else "dog"
    facts: dict[str, Any] = {
        "file": "a.mp4",
        "likeliest": likeliest,
        "confidence": 0.875,
        "ranking": ((likeliest, 0.875), ("cat", 0.125)),
        "heard": True,
        "seen": True,
    }
    return Answer(start=start, end=end, label=label, **{**facts, **rest})


LOST = {"likeliest": "", "confidence": 0.0, "ranking": (), "heard": False, "seen": False}
STORY = [
    answer("church bell", 0.0, 12.44),
    answer(None, 12.44, 72.0, heard=False),
    answer("owl", 72.0, 3700.0, confidence=1.0, seen=False),
    answer(None, 3700.0, 3702.0, **LOST),
]
EVIL = 'a\n"b", <i>&\udcff\x1b[31m --> \u2028.mp4'


# ---- for eyes -------------------------------------------------------------------------------------------------------


def test_a_table_of_one_film() -> None:
    assert table(STORY).splitlines() == [
        "file   time                 answer       confidence",
        "a.mp4  0:00.0–0:12.4        church bell      87.5 %",
        "a.mp4  0:12.4–1:12.0        unknown               –  likeliest dog 87.5 %, no sound",
        "a.mp4  1:12.0–1:01:40.0     owl             100.0 %  no picture",
        "a.mp4  1:01:40.0–1:01:42.0  unknown               –  nothing could be decoded",
    ]


def test_a_table_of_clips_tells_no_times() -> None:
    assert table([answer("dog"), answer("owl", file="another.wav", seen=False)]).splitlines() == [
        "file         answer  confidence",
        "a.mp4        dog         87.5 %",
        "another.wav  owl         87.5 %  no picture",
    ]
    assert table([]) == ""


def test_wide_letters_keep_the_columns_aligned() -> None:
    lines = table([answer("鐘の音"), answer("n\u0303andú"), answer("🐸"), answer("dog")]).splitlines()
    wide = {"鐘": 2, "の": 2, "音": 2, "🐸": 2, "\u0303": 0}
    assert len({sum(wide.get(letter, 1) for letter in line) for line in lines}) == 1


def test_a_table_keeps_its_lines_whatever_files_are_called() -> None:
    text = table([answer("dog", file=EVIL), answer("owl\n\x1b")])
    assert len(text.split("\n")) == 3
    assert len(text.splitlines()) == 3
    assert "\x1b" not in text
    text.encode("utf-8")
    assert r"a\n" in text and r"\udcff" in text and r"owl\n" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0:00.0"),
        (9.94, "0:09.9"),
        (59.96, "1:00.0"),
        (75.04, "1:15.0"),
        (3599.97, "1:00:00.0"),
        (3675, "1:01:15.0"),
        (36_000, "10:00:00.0"),
    ],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


# ---- for programs ---------------------------------------------------------------------------------------------------


def test_json_says_everything() -> None:
    assert as_json([STORY[1]]) == [
        {
            "file": "a.mp4",
            "start": 12.44,
            "end": 72.0,
            "label": None,
            "unknown": True,
            "likeliest": "dog",
            "confidence": 0.875,
            "ranking": [{"label": "dog", "confidence": 0.875}, {"label": "cat", "confidence": 0.125}],
            "heard": False,
            "seen": True,
        }
    ]
    third = as_json([answer("dog", 1 / 3, 2 / 3, confidence=1 / 3)])[0]
    assert (third["start"], third["end"], third["confidence"]) == (0.333, 0.667, 0.333333)


def test_json_and_csv_are_text_whatever_files_are_called() -> None:
    answers = [answer("dog, <b>\n", file=EVIL)]
    said = json.loads(json.dumps(as_json(answers), ensure_ascii=False, allow_nan=False).encode("utf-8"))
    assert said[0]["file"] == EVIL.replace("\udcff", "\\udcff")
    assert said[0]["label"] == "dog, <b>\n"
    (row,) = csv.DictReader(io.StringIO(as_csv(answers).encode("utf-8").decode(), newline=""))
    assert (row["file"], row["label"]) == (said[0]["file"], said[0]["label"])


def test_csv_has_a_line_for_each_answer() -> None:
    assert as_csv([]) == "file,start,end,label,confidence,likeliest,unknown,heard,seen\n"
    assert as_csv(STORY).splitlines()[1:] == [
        "a.mp4,0.0,12.44,church bell,0.875,church bell,false,true,true",
        "a.mp4,12.44,72.0,,0.875,dog,true,false,true",
        "a.mp4,72.0,3700.0,owl,1.0,owl,false,true,false",
        "a.mp4,3700.0,3702.0,,0.0,,true,false,false",
    ]


# ---- subtitles ------------------------------------------------------------------------------------------------------


def cues(text: str) -> list[tuple[float, float, str]]:
    """What a player reads: blocks between empty lines, timings in their first line, references resolved."""
    header, *blocks = re.split(r"\n\n+", text.rstrip("\n"))
    assert header == "WEBVTT"
    found = []
    for block in blocks:
        timing, payload = block.split("\n")  # one line each
        times = re.fullmatch(r"(\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3}) --> (\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3})", timing)
        assert times
        h, m, s, ms, h2, m2, s2, ms2 = map(int, times.groups())
        assert "-->" not in payload and "<" not in payload
        found.append((3600 * h + 60 * m + s + ms / 1000, 3600 * h2 + 60 * m2 + s2 + ms2 / 1000, html.unescape(payload)))
    return found


def test_subtitles() -> None:
    assert as_vtt(STORY).startswith("WEBVTT\n\n00:00:00.000 --> 00:00:12.440\nchurch bell 87.5 %\n\n00:00:12.440 --> ")
    assert cues(as_vtt(STORY)) == [
        (0.0, 12.44, "church bell 87.5 %"),
        (12.44, 72.0, "unknown (no sound)"),
        (72.0, 3700.0, "owl 100.0 % (no picture)"),
        (3700.0, 3702.0, "unknown (nothing could be decoded)"),
    ]
    assert cues(as_vtt([])) == []


def test_names_cannot_break_subtitles() -> None:
    names = ["<i>R&B</i>", "a --> b", "&lt;", "tab\tand\nline", "-->", " "]
    found = cues(as_vtt([answer(name, k, k + 1) for k, name in enumerate(names)]))
    shown = [name.replace("\t", "\\t").replace("\n", "\\n") for name in names]
    assert [text for _, _, text in found] == [f"{name} 87.5 %" for name in shown]


@given(st.floats(0, 500_000), st.floats(0, 5))
def test_a_cue_lasts_and_is_where_it_should_be(start: float, seconds: float) -> None:
    ((begin, end, _),) = cues(as_vtt([answer("dog", start, start + seconds)]))
    assert begin == pytest.approx(start, abs=0.00051)
    assert begin < end
    assert end == pytest.approx(start + seconds, abs=0.0016)


def test_subtitles_are_of_one_file() -> None:
    with pytest.raises(ValueError, match="one file"):
        as_vtt([answer("dog"), answer("dog", file="b.mp4")])
