"""Tables and numbers as people read them: on paper, too, whatever the names."""

from __future__ import annotations

import re
from pathlib import Path

from handmade import EVIL, Log, small
from harkback.formats import amount, chance, duration, percent, signed, size
from harkback.report import latex


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
    assert [percent(x) for x in (0.5, -0.025, -0.0001, None, float("nan"))] == ["50.0", "−2.5", "0.0", "–", "–"]
    assert [signed(x) for x in (0.5, -0.025, -0.0001, 0.0001, None)] == ["+50.0", "−2.5", "0.0", "0.0", "–"]
    assert [amount(n) for n in (0, 999, 1000, 1_234_567, 2e9)] == ["0", "999", "1 k", "1.23 M", "2 G"]
    # So many digits that a p-value is on its own side of 0.05.
    values = (0.2134, 0.0001, 0.049, 0.0496, 0.0504, 0.004, 0.05, 1.0)
    assert [chance(p).removeprefix("p = ") for p in values] == [
        "0.21",
        "p < 0.001",
        "0.049",
        "0.0496",
        "0.05",
        "0.004",
        "0.05",
        "1.00",
    ]


# LaTeX.


def balanced(text: str) -> list[list[str]]:
    """The cells of each row of the table; fails if braces, dollars or environments do not match."""
    depth = 0
    for letter in re.sub(r"\\[{}$&#_%\\]", "", text):
        depth += (letter == "{") - (letter == "}")
        assert depth >= 0
    assert depth == 0
    bare = re.sub(r"\\[{}$&#_%]", "", text)
    assert bare.count("$") % 2 == 0
    begun = re.findall(r"\\(begin|end)\{(\w+)\}", text)
    assert begun == [("begin", "table"), ("begin", "tabular"), ("end", "tabular"), ("end", "table")]
    assert text.isascii() and "%" not in bare.partition("\n")[2] and "#" not in bare
    body = text[text.index("\\toprule") : text.index("\\bottomrule")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)&", line)] for line in body.splitlines() if "&" in line]


def test_the_table_for_a_paper(tmp_path: Path) -> None:
    text = latex(small(tmp_path / "log"))
    rows = balanced(text)
    columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", text)
    assert columns is not None and {len(row) for row in rows} == {len(columns[1])} == {9}
    assert [row[0] for row in rows] == ["Learner", "one", r"\emph{ceiling}", "another"]
    assert rows[1][1:4] == [r"\textbf{63.9} $\pm$ 105.9", r"\textbf{62.5} $\pm$ 158.8", "reference"]
    assert rows[2][1] == "72.2"  # A ceiling is never the best.
    assert rows[1][-1] == r"\textbf{2 kB} \\"
    caption = text[text.index("\\caption") : text.index("\\begin{tabular}")]
    for said in ("signal", "10 exemplars", "seeds 0, 1", "half the 95", "Against one", "ceiling"):
        assert said in caption
    assert text.startswith("% \\usepackage{booktabs}")


def test_names_cannot_break_the_table(tmp_path: Path) -> None:
    names = [EVIL, "[a]", "*b", r"50% of \relax{} & #1_2^3 ~|--", "Åsa's café", "x\ny"]
    log = Log(tmp_path / "log", [2], "ab")
    for name in names:
        log.add(name, 0, [{"a": 1, "b": 1}])
    rows = balanced(latex(log.close(), "Åsa's café"))
    assert [row[0] for row in rows[1:]] == [
        r"\textless{}script\textgreater{}alert(''x'')\textless{}/script\textgreater{} \$a\_b\$ {[}U+1F438{]}",
        "{[}a{]}",
        "{*}b",
        r"50\% of \textbackslash{}relax\{\} \& \#1\_2\textasciicircum{}3 \textasciitilde{}\textbar{}-{}-",
        r"\r{A}sa's caf\'{e}",
        "x y",
    ]
