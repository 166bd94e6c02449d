"""``python -m supply bill FILE`` and ``python -m supply licences FOLDER...`` (folders of installed packages)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from supply import bill, licences

if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "bill":
        Path(rest[0]).write_text(json.dumps(bill.bill(), indent=1, sort_keys=True) + "\n")
    elif unknown := licences.write(rest):
        sys.exit(f"write by hand into docs/licences.md what licences these have: {', '.join(unknown)}")
