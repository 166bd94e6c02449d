"""The record: what was measured last on a quiet machine, as JSON, as a report, and as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.report import PICTURE, TITLES, report
from harkback.files import write_json

#: ``machine``; ``parts``: when each was measured and how long it took; then the parts' figures, by name, and
#: ``protocol_ave_shape_seconds``: wall seconds of the protocol by learner.
Results = dict[str, Any]
FIGURES, REPORT = "results.json", "REPORT.md"


def read(folder: Path) -> Results:
    """What is recorded there; {} if nothing is."""
    path = folder / FIGURES
    found: Results = json.loads(path.read_text()) if path.exists() else {}
    return found


def merged(before: Results, found: Results) -> Results:
    """The record with what was found now in it. What another machine found is not kept."""
    kept = before if before.get("machine") == found["machine"] else {}
    every = {**kept, **found, "parts": {**kept.get("parts", {}), **found["parts"]}}
    first = ["machine", "parts", *(part for part in TITLES if part in every)]
    return {name: every[name] for name in dict.fromkeys([*first, *every])}


def write(folder: Path, results: Results) -> None:
    """The record, the report and the picture in it."""
    write_json(folder / FIGURES, results)
    picture = "scaling" in results
    if picture:
        from benchmarks.picture import scaling  # Matplotlib is loaded only now.

        scaling(results["scaling"], folder / PICTURE)
    (folder / REPORT).write_text(report(results, picture))
