"""Do the tests notice? Modules with one small mistake each, and the tests that ought to fail.

    python -m trials.mutants [MODULE ...] [--again FILE] [--out FILE]

Makes every mistake of `trials.mutations` in a module of the package, one at a time, and runs the module's own tests
(``tests/unit/test_MODULE*.py``, and those of `MORE`) until one fails. Nothing is written into the package: a process
that has loaded torch and pytest forks for each mutant, and there the module is imported with the mistake in it. Tests
that took less time come first. A mutant that no test notices survives; one that hangs is noticed by the clock. Needs
what the tests need, no more, and a system that forks (Linux).

Hypothesis shows the same examples as in the suite, and does not make them smaller when one fails.

mutmut 3 was tried: it leaves out everything that is decorated (each property here), and puts its own code around
functions, which tests that look at a module's functions notice. cosmic-ray starts Python, torch and pytest anew for
each mutant and rewrites the file in place.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_loader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NoReturn

import hypothesis
import pytest

from trials.mutations import Mutant, mutants

ROOT = Path(__file__).resolve().parents[1]
MODULES = ("memory", "metrics", "stream", "distill", "features")
MORE: dict[str, tuple[str, ...]] = {}  #: tests under another name that are a module's own
FIRST = ("numpy", "scipy.stats", "torch", "safetensors.torch")  #: loaded once, before there are forks
MEMORY = 16 * 2**30  #: bytes of addresses that a mutant may ask for


@dataclass
class Seen:
    """What came of one run of the tests."""

    code: int = -1  #: pytest's; -1: the process ended before it had one
    first: str = ""  #: the first test that failed, or what could not be imported
    late: bool = False
    took: dict[str, float] = field(default_factory=dict)  #: seconds, by test
    loaded: list[str] = field(default_factory=list)  #: modules that are not this project's

    @property
    def survived(self) -> bool:
        return self.code == 0 and not self.late

    @property
    def fate(self) -> str:
        """Exit code 4, where the same call passed before: a conftest.py could not import what has the mistake."""
        if self.late or self.survived:
            return "late" if self.late else "survived"
        if self.code == 4 or self.first.endswith("(import)"):
            return "unimportable"
        return "noticed" if self.code in (1, 2) else "crashed"


class Watch:
    """A plugin of pytest that ends the process, and says what it saw, as soon as a test fails."""

    def __init__(self, order: dict[str, float], writer: int) -> None:
        self.order, self.writer, self.seen = order, writer, Seen()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: self.order.get(item.nodeid, 0.0))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seen.took[report.nodeid] = self.seen.took.get(report.nodeid, 0.0) + report.duration
        if report.failed:
            self.end(1, report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.end(2, f"{report.nodeid} (import)")

    def end(self, code: int, first: str = "") -> NoReturn:
        self.seen.code, self.seen.first = code, first
        with os.fdopen(self.writer, "wb") as out:
            out.write(json.dumps(asdict(self.seen)).encode())
        os._exit(0)


class Mistaken(SourceFileLoader):
    """A module's loader that finds other source in its file."""

    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self.source = source

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002
        return compile(self.source, self.path, "exec")  # type: ignore[no-any-return]


@dataclass
class Instead:
    """Finds one module where it is not."""

    name: str
    source: str

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        if name != self.name:
            return None
        file = str(ROOT / "src" / Path(*name.split(".")).with_suffix(".py"))
        return spec_from_loader(name, Mistaken(name, file, self.source))


def attempt(name: str, source: str, tests: Sequence[Path], order: dict[str, float], limit: float, at: Path) -> Seen:
    """Run the tests in a fork, with that source as the module; no longer than ``limit`` seconds."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _run(name, source, tests, order, at, writer)
    os.close(writer)
    said, until, late = b"", time.monotonic() + limit, False
    while True:
        ready, _, _ = select.select([reader], [], [], max(0.0, until - time.monotonic()))
        late = not ready
        piece = os.read(reader, 2**16) if ready else b""
        said += piece
        if not piece:
            break
    os.close(reader)
    try:
        os.killpg(child, signal.SIGKILL)  # Whatever it left behind, too.
    except ProcessLookupError:
        os.kill(child, signal.SIGKILL)  # It has not got as far as its own group; dead or not, it waits to be reaped.
    os.waitpid(child, 0)
    return Seen(late=True) if late else Seen(**json.loads(said or "{}"))


def _run(name: str, source: str, tests: Sequence[Path], order: dict[str, float], at: Path, writer: int) -> None:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.chdir(at)  # A mistake about paths shall not meet the repository.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    for loaded in [other for other in sys.modules if other.partition(".")[0] == name.partition(".")[0]]:
        del sys.modules[loaded]  # Else what is right would be found again.
    sys.meta_path.insert(0, Instead(name, source))  # type: ignore[arg-type]
    watch = Watch(order, writer)
    quiet = ["-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=no", "--no-header", f"--basetemp={at / 'tests'}"]
    quiet += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # Hypothesis is there already, and shows the same.
    files = [str(path) for path in tests]
    code = int(pytest.main(["-c", str(ROOT / "pyproject.toml"), f"--rootdir={ROOT}", *quiet, *files], [watch]))
    if not order:
        watch.seen.loaded = [name for name, module in list(sys.modules.items()) if _is_others(module)]
    watch.end(code)


def _is_others(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return bool(file) and not any(Path(file).is_relative_to(ROOT / room) for room in ("src", "tests", "trials"))


def try_module(module: str, again: Collection[str] | None, at: Path) -> list[dict[str, Any]]:
    """Every mutant of a module, and what became of it."""
    source = (ROOT / "src" / "harkback" / f"{module}.py").read_text()
    tests = [*sorted((ROOT / "tests" / "unit").glob(f"test_{module}*.py")), *(ROOT / t for t in MORE.get(module, ()))]
    name = f"harkback.{module}"
    begun = time.monotonic()
    right = attempt(name, source, tests, {}, 600, at)
    if not right.survived:
        sys.exit(f"{module}: the tests fail without any mistake: {right.first or right}; mend them first")
    whole = time.monotonic() - begun
    for other in right.loaded:  # Once here, so that no fork has to.
        with contextlib.suppress(Exception):
            importlib.import_module(other)
    gc.freeze()  # What is there stays: no fork need look through it for garbage.
    order = {test: round(took, 2) for test, took in right.took.items()}
    every = [mutant for mutant in mutants(source) if again is None or _name(mutant) in again]
    print(
        f"{module}: {len(every)} mutants; {len(order)} tests in {whole:.1f} s: {', '.join(t.name for t in tests)}",
        flush=True,
    )
    results = []
    for n, mutant in enumerate(every):
        seen = attempt(name, mutant.source, tests, order, 10 + 5 * whole, at)
        if seen.late:  # Or was it the machine?
            seen = attempt(name, mutant.source, tests, order, 10 + 5 * whole, at)
        results.append(
            {"name": _name(mutant), "line": mutant.line, "kind": mutant.kind, "fate": seen.fate, "by": seen.first}
        )
        if seen.survived:
            print(f"  {module}.py:{mutant.line}  {_shown(mutant)}", flush=True)
        if sys.stderr.isatty():
            print(f"\r{n + 1} of {len(every)}", end="\r", file=sys.stderr)
    return results


def _name(mutant: Mutant) -> str:
    """The same mistake has the same name, whatever line it moved to."""
    return f"{mutant.kind}: {mutant.before} -> {mutant.after}"


def _shown(mutant: Mutant) -> str:
    """What changed, and a few characters around it."""
    before, after = mutant.before, mutant.after
    start = _alike(before, after)
    end = _alike(before[start:][::-1], after[start:][::-1])
    left, right = before[max(0, start - 40) : start], before[len(before) - end :][:20]
    return f"{mutant.kind}: {left}[{before[start : len(before) - end]} -> {after[start : len(after) - end]}]{right}"


def _alike(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    lines = ["| module | mutants | noticed by a test | at import | by the clock | crashed | survived | killed |"]
    lines.append("|---" * 8 + "|")
    for module, those in results.items():
        n = Counter(each["fate"] for each in those)
        fates = [n[fate] for fate in ("noticed", "unimportable", "late", "crashed", "survived")]
        share = 100 * (1 - n["survived"] / len(those)) if those else float("nan")
        lines.append(f"| {module} | {len(those)} | {' | '.join(map(str, fates))} | {share:.1f} % |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m trials.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"default: {' '.join(MODULES)}")
    parser.add_argument("--again", type=Path, help="JSON of an earlier run: only what survived then")
    parser.add_argument("--out", type=Path, help="JSON of every mutant, and what became of it")
    asked = parser.parse_args()
    for name in FIRST:
        importlib.import_module(name)
    # As conftest's profile "same", which it would load, but for the search for a smaller example.
    phases = [phase for phase in hypothesis.Phase if phase.name not in ("shrink", "explain")]
    slow = [hypothesis.HealthCheck.too_slow]
    hypothesis.settings.register_profile(
        "mutants", derandomize=True, deadline=None, max_examples=50, suppress_health_check=slow, phases=phases
    )
    os.environ["HYPOTHESIS_PROFILE"] = "mutants"
    at = Path(tempfile.mkdtemp(prefix="mutants-"))
    before = json.loads(asked.again.read_text()) if asked.again else None
    results = {}
    try:
        for module in asked.modules or MODULES:
            again = None if before is None else {each["name"] for each in before[module] if each["fate"] == "survived"}
            results[module] = try_module(module, again, at)
            if asked.out:
                asked.out.write_text(json.dumps(results, indent=1) + "\n")
    finally:
        shutil.rmtree(at, ignore_errors=True)
    print(table(results))


if __name__ == "__main__":
    main()
