"""One part, in this process: `python -m benchmarks.alone MODULE FILE` writes its figures to a file, as JSON.

Nothing is loaded before the part: it may say how torch is to be.
"""

import json
import sys
from importlib import import_module
from pathlib import Path

if __name__ == "__main__":
    module, path = sys.argv[1:]
    figures = import_module(f"benchmarks.{module}").measure()
    Path(path).write_text(json.dumps(figures, allow_nan=False))
