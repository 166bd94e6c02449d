"""What a command says beside its result, on stderr."""

from __future__ import annotations

import sys

from harkback.errors import one_line


def say(line: str) -> None:
    print(one_line(line), file=sys.stderr)
