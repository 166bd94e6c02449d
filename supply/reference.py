"""The reference of what is public, from its docstrings: ``python -m supply.reference FOLDER`` (``make docs``)."""

from __future__ import annotations

import sys
from pathlib import Path

#: What a user of the package or the author of a learner, an encoder or a dataset imports.
PUBLIC = (
    "harkback",
    "harkback.model",
    "harkback.teaching",
    "harkback.harness",
    "harkback.errors",
    "harkback.clips",
    "harkback.media",
    "harkback.features",
    "harkback.learners.base",
    "harkback.encoders",
    "harkback.datasets",
    "harkback.metrics",
)

if __name__ == "__main__":
    import pdoc

    pdoc.render.configure(docformat="restructuredtext", show_source=False, footer_text="Harkback, Apache-2.0")
    pdoc.pdoc(*PUBLIC, output_directory=Path(sys.argv[1]))
