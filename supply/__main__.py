"""``python -m supply bill FILE``, ``licences FOLDER...`` (folders of installed packages) and ``faults`` (asks PyPI)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from supply import bill, faults, licences

if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "bill":
        Path(rest[0]).write_text(json.dumps(bill.bill(), indent=1, sort_keys=True) + "\n")
    elif what == "faults":
        found, sound, others = faults.faults()
        print(f"{len(sound)} are at their newest version, of which no fault is known")
        print(f"{len(others)} are at another, of which PyPI's page does not tell: {', '.join(others)}")
        if found:
            sys.exit("\n".join(f"{name}: {', '.join(ids)}" for name, ids in found.items()))
    elif unknown := licences.write(rest):
        sys.exit(f"write by hand into docs/licences.md what licences these have: {', '.join(unknown)}")
