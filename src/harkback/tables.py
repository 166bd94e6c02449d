"""The report's tables: their columns, what the columns mean and whose they are; as Markdown and as LaTeX."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from harkback.formats import DASH, amount, duration, percent, size
from harkback.results import average
from harkback.wording import difference

Row = dict[str, Any]  #: a learner's numbers, as `report.summary` gives them


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str
    unit: str
    key: str  #: of the row's number
    text: Callable[[Row], str]  #: a row's cell
    better: Callable[..., Any] | None = None  #: which of several is the best: max or min


def shares(name: str, unit: str, key: str, half: str = "", better: Callable[..., Any] | None = max) -> Column:
    return Column(name, unit, key, lambda row: percent(row[key], row[half] if half else None), better)


def spent(name: str, key: str, words: Callable[[float], str]) -> Column:
    return Column(name, "", key, lambda row: DASH if row[key] is None else words(row[key]), min)


def a_session(row: Row) -> str:
    measured = [seconds for seconds in row["seconds_per_session"] if seconds is not None]
    return duration(average(measured)) if measured else DASH


MAIN = (
    shares("Mean accuracy", "%", "mean_accuracy", "ci95"),
    shares("Final accuracy", "%", "final_accuracy", "final_ci95"),
    shares("Forgetting", "points", "average_forgetting", better=min),
    shares("Backward transfer", "points", "backward_transfer"),
    Column("Time a session", "", "seconds", a_session, min),  # As many sessions for each, so the sum ranks alike.
    spent("Trained parameters", "trained_parameters", amount),
    spent("Kept", "memory_bytes", size),
)

#: All metrics by name.
NAMED = (
    shares("Mean, micro", "%", "mean_accuracy"),
    shares("Mean, task macro", "%", "mean_accuracy_task_macro"),
    shares("Mean, class macro", "%", "mean_accuracy_class_macro"),
    shares("Final, micro", "%", "final_accuracy"),
    shares("Final, task macro", "%", "final_accuracy_task_macro"),
    shares("Final, class macro", "%", "final_accuracy_class_macro"),
    shares("Average forgetting", "points", "average_forgetting", better=min),
    shares("Final forgetting", "points", "final_forgetting", better=min),
    shares("Final forgetting (PyCIL)", "points", "final_forgetting_pycil", better=min),
    shares("Backward transfer", "points", "backward_transfer"),
    shares("Test clips alone", "± points", "test_half_width", better=None),
    spent("Time in all", "seconds", duration),
)

#: (name, what it means, whose it is).
DEFINITIONS = (
    (
        "Mean accuracy",
        "average incremental accuracy: the mean over all sessions, the first included, of the share of test clips of "
        "all classes seen so far that are right (micro: every clip weighs alike)",
        "as PyCIL and PILOT; so AV-CIL's steps averaged",
    ),
    ("Final accuracy", "the share of all test clips that are right after the last session (micro)", ""),
    (
        "Task macro",
        "mean and final accuracy, but after each session the mean over the sessions so far of the share right on each "
        "one's classes, among all classes seen: every session weighs alike, however many clips it has",
        "IEMF, arXiv 2505.10176",
    ),
    ("Class macro", "the same with classes for sessions: every class weighs alike", "balanced accuracy"),
    (
        "Against the reference",
        "the final accuracy less the reference's, over the runs that both have, on the same clips; in brackets the "
        "95 % interval of this one difference, of runs (Student's t) and test clips (bootstrap) together; a star: "
        "real, p < 0.05 after Holm's correction over all learners; with a single run p is McNemar's",
        "",
    ),
    (
        "Forgetting",
        "average forgetting: how far the accuracy on the classes of each former session lies below its best in any "
        "earlier session, averaged over former sessions and then over all sessions but the first; negative where old "
        "classes got better",
        "AV-CIL, arXiv 2308.11073",
    ),
    (
        "Final forgetting",
        "the same after the last session alone",
        "Chaudhry et al., ECCV 2018, with the best among earlier sessions",
    ),
    (
        "Final forgetting (PyCIL)",
        "the same, but the best may be the last session itself: never negative",
        "PyCIL, PILOT, mammoth",
    ),
    (
        "Backward transfer",
        "how the accuracy on the classes of each former session changed from the session in which they came to the "
        "last; negative where they were forgotten",
        "Lopez-Paz & Ranzato, NeurIPS 2017",
    ),
    (
        "Test clips alone",
        "half the 95 % interval of the final accuracy that the choice of so many test clips alone implies, were there "
        "no other chance: accuracies measured on other clips of the same classes can differ by more, whoever learnt",
        "Wald, or Wilson where wider",
    ),
    (
        "Time",
        "what learning took, mean over runs, of a session on average or in all; encoding and asking are not in it",
        "",
    ),
    ("Trained parameters", "numbers fitted to clips: weights, not memory or counters; after the last session", ""),
    (
        "Kept",
        "bytes of all that is carried from session to session after the last one: weights, memory, counters; for a "
        "learner that wants every clip again also those clips' features in half precision; mean over runs",
        "",
    ),
    (
        "±",
        "half the 95 % confidence interval of the mean over runs (Student's t). Runs that share a class order are not "
        "independent: with several orders it is taken over the orders' means, with one it is taken over seeds and says "
        "nothing of other orders. It does not speak of other test clips",
        "",
    ),
)


def main_columns(rows: Sequence[Row], reference: str | None) -> list[Column]:
    """Of the first table; with the differences where there is something to compare."""
    columns = list(MAIN)
    if any(row["comparison"] is not None for row in rows):

        def text(row: Row) -> str:
            return "reference" if row["learner"] == reference else difference(row["comparison"])

        columns.insert(2, Column(f"Against {reference}", "points, final", "comparison", text))
    return columns


def marked(rows: Sequence[Row], columns: Sequence[Column]) -> list[list[tuple[str, bool]]]:
    """Each row's cells; true: the best of the methods, ceilings aside, or as good on paper."""
    best: list[str] = []
    for column in columns:
        rivals = [row for row in rows if column.better and not row["cumulative"] and row[column.key] is not None]
        chosen = column.better(rivals, key=lambda row: row[column.key]) if column.better and len(rivals) > 1 else None
        best.append(bare(column.text(chosen)) if chosen else "")
    return [
        [
            (text := column.text(row), not row["cumulative"] and text not in ("", DASH) and bare(text) == best[k])
            for k, column in enumerate(columns)
        ]
        for row in rows
    ]


def bare(text: str) -> str:
    """A number without its interval."""
    return text.partition(" ±")[0]


def markdown_table(rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    """Lines of Markdown."""
    heads = ["Learner", *(", ".join(filter(None, (column.name, column.unit))) for column in columns)]
    lines = [f"| {' | '.join(map(plain, heads))} |", f"|{' --- |' + ' ---: |' * len(columns)}"]
    return lines + [f"| {' | '.join(plain(t) for t in (r['learner'], *(c.text(r) for c in columns)))} |" for r in rows]


def plain(text: str) -> str:
    """Text that Markdown shows as it stands, on one line."""
    return re.sub(r"([\\`*_\[\]<|$~&])", r"\\\1", _one_line(text))


def latex_table(rows: Sequence[Row], columns: Sequence[Column], caption: str) -> str:
    """A table for a paper; needs the package booktabs alone. ASCII: whatever the engine, it compiles."""
    heads = ["Learner", *(f"{column.name}{f' ({column.unit})' if column.unit else ''}" for column in columns)]
    lines = [
        "% \\usepackage{booktabs}",
        "\\begin{table}",
        "\\centering\\small",
        f"\\caption{{{latex(caption)}}}",
        f"\\begin{{tabular}}{{l{'r' * len(columns)}}}",
        "\\toprule",
        f"{' & '.join(map(latex, heads))} \\\\",
        "\\midrule",
    ]
    for row, cells in zip(rows, marked(rows, columns), strict=True):
        texts = [_bold(text) if best else latex(text) for text, best in cells]
        name = f"\\emph{{{latex(row['learner'])}}}" if row["cumulative"] else latex(row["learner"])
        lines.append(f"{' & '.join([name, *texts])} \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}", ""])


def _bold(text: str) -> str:
    number = bare(text)
    return f"\\textbf{{{latex(number)}}}{latex(text[len(number) :])}"


#: In a row's first cell a bare [ or * would be an argument of the line break before it.
LATEX = {
    **{letter: f"\\{letter}" for letter in "{}$&#_%"},
    **{letter: f"{{{letter}}}" for letter in "[]*"},
    **{"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", '"': "''"},
    **{
        "<": "\\textless{}",
        ">": "\\textgreater{}",
        "|": "\\textbar{}",
        "…": "\\dots{}",
        "–": "\\textendash{}",
        "’": "'",
    },
    **{"−": "$-$", "±": "$\\pm$", "µ": "$\\mu$", "×": "$\\times$", "→": "$\\to$", "ß": "\\ss{}"},
}
ACCENTS = dict(zip("\u0300\u0301\u0302\u0303\u0308\u030a\u030c\u0327", "`'^~\"rvc", strict=True))


def latex(text: str) -> str:
    """Text that LaTeX sets as it stands; a letter that it does not know is given by its number."""
    return re.sub("-(?=-)", "-{}", "".join(_letter(letter) for letter in _one_line(text)))


def _letter(letter: str) -> str:
    if letter in LATEX:
        return LATEX[letter]
    if letter.isascii():
        return letter
    parts = unicodedata.normalize("NFD", letter)
    base, marks = parts[0], parts[1:]
    if base.isascii() and base.isalpha() and len(marks) == 1 and marks in ACCENTS:
        return f"\\{ACCENTS[marks]}{{{base}}}"
    return f"{{[}}U+{ord(letter):04X}{{]}}"


def _one_line(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f\u2028\u2029]+", " ", text)
