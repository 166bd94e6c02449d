"""The tables of docs/scale.md: `python -m benchmarks.scale [--gpu-hour.low 1 ...] [--json] [--page PAGE]`.

They are computed from what was measured (`costs.json`), simulated (`failures.json`) and assumed (`plan.py`); `--page`
writes them into the page.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import arg

from benchmarks import costs, failures, limits, plan
from benchmarks.amounts import dollars, hours, rounded, seconds, share, span
from benchmarks.plan import CLIPS, Assumptions, Span
from harkback.formats import size

HOUR = failures.HOUR


@dataclass(frozen=True)
class Asked:
    """Compute what large benchmarks take."""

    assume: Annotated[Assumptions, arg(name="")] = field(default_factory=Assumptions)
    json: bool = False  #: print the figures as JSON
    page: Path | None = None  #: write the tables into this page


def tables(a: Assumptions = plan.USUAL) -> dict[str, str]:
    """Markdown, by the name that the page knows it by."""
    found = plan.costs()
    return {
        "machine": _machine(found),
        "assumptions": _assumptions(a),
        "clip": _clip(found),
        "operations": _operations(found, a),
        "bytes": _bytes(a),
        "catalogue": _catalogue(found, a),
        "extraction": _extraction(a),
        "training": _training(a),
        "demand": _demand(found, a),
        "failures": _failures(),
        "first": limits.first(found, a),
    }


def _machine(found: dict[str, Any]) -> str:
    m, dates = found["machine"], sorted(set(found["dates"].values()))
    first = f"{m['processor']}, {m['instructions']}, {m['cores']} hardware threads, {m['memory_gb']} GB"
    return f"{first}; Python {m['python']}, torch {m['torch']}; {' to '.join(dates)}."


def _assumptions(a: Assumptions) -> str:
    about = dict(re.findall(r"^    (\w+): .*?#: (.*)$", inspect.getsource(Assumptions), re.MULTILINE))
    rows = []
    for each in dataclasses.fields(a):
        value = getattr(a, each.name)
        shown = span(value, _short) if isinstance(value, Span) else value if isinstance(value, str) else _short(value)
        flag = f"`--{each.name.replace('_', '-')}`"
        rows.append([f"{flag} `.low`, `.high`" if isinstance(value, Span) else flag, shown, about[each.name]])
    return _table(["flag", "assumed", "what"], rows, right=(1,))


def _clip(found: dict[str, Any]) -> str:
    names = {
        "hash": "hashing it",
        "decode signal": "decoding it, 8 pictures, sound at 16 kHz (`signal`)",
        "encode signal": "encoding it with `signal`",
        "decode sam-audio": "decoding it, 8 pictures squeezed to 336 x 336, sound at 48 kHz (`sam-audio`)",
        "decode sam-audio, 25 pictures a second": "the same with 25 pictures a second",
    }
    films = found["films"]
    rows = [["bytes of the file", *(size(of["bytes"]) for of in films.values())]]
    rows += [[told, *(seconds(of[name]) for of in films.values())] for name, told in names.items()]
    towers = found["towers"]
    cpu = plan.FRAMES * towers["cpu seconds a picture"] + towers["cpu seconds of 10 s of sound"]
    rows.append(["encoding it with `sam-audio`, 8 pictures, float32, random weights", *[seconds(cpu)] * len(films)])
    return _table(["CPU seconds of one thread", *films], rows)


def _operations(found: dict[str, Any], a: Assumptions) -> str:
    towers, formulas = found["towers"], costs.formulas()
    rows = []
    for what, counted, cpu, gpu in (
        ("a picture", "operations a picture", "cpu seconds a picture", plan.vision_seconds(1, a)),
        ("10 s of sound", "operations of 10 s of sound", "cpu seconds of 10 s of sound", plan.codec_seconds(a)),
    ):
        amounts = [f"{of[counted] / 1e12:.3f} · 10¹²" for of in (towers, formulas)]
        rows.append([what, *amounts, seconds(towers[cpu]), span(gpu, seconds)])
    head = ["", "operations, counted", "by the formula", "measured on one CPU thread", "**estimated** on an H100"]
    return _table(head, rows)


def _bytes(a: Assumptions) -> str:
    rows = []
    for name, shape in plan.SETTINGS.items():
        each = plan.row_bytes(shape)
        grid = f"{shape.audio_tokens} x {shape.audio_dim} + {shape.frames} x {shape.patches} x {shape.visual_dim}"
        stores = [size(clips * each) for clips in CLIPS.values()]
        month = [dollars(CLIPS["VGGSound"] * each / 1e9 * price) for price in (a.object_month, a.shared_month)]
        rows.append([name, grid, size(each), *stores, " or ".join(month)])
    film = plan.costs()["films"][a.film]["bytes"]
    month = [dollars(CLIPS["VGGSound"] * film / 1e9 * price) for price in (a.object_month, a.shared_month)]
    rows.append(
        [f"the clips ({a.film})", "", size(film), *(size(n * film) for n in CLIPS.values()), " or ".join(month)]
    )
    return _table(
        ["setting", "tokens", "a clip", *CLIPS, "VGGSound a month: object, or shared"], rows, right=(2, 3, 4, 5)
    )


def _catalogue(found: dict[str, Any], a: Assumptions) -> str:
    every = [found["catalogue"][str(clips)] for clips in CLIPS.values()]
    calm = [of["nothing"]["peak resident mb"] for of in every]
    looks = [seconds(of["lists"] * a.look) for of in every]
    rows = [
        ["shards, and as many lists", *(f"{of['lists']:,}" for of in every)],
        ["the first list, which names all files that were looked at", *(size(of["first list bytes"]) for of in every)],
        ["writing it, CPU", *(seconds(of["fill"]["first list cpu"]) for of in every)],
        ["another list", *(size(of["another list bytes"]) for of in every)],
        ["`index.safetensors`", *(size(of["index bytes"]) for of in every)],
        ["opening it for the first time, CPU (makes the index)", *(seconds(of["first open"]["cpu"]) for of in every)],
        ["memory of that", *(size(1e6 * of["first open"]["peak resident mb"]) for of in every)],
        ["opening it later, CPU", *(seconds(of["later open"]["cpu"]) for of in every)],
        ["memory of that", *(size(1e6 * of["later open"]["peak resident mb"]) for of in every)],
        ["asking a shared file system about each list, at every opening (*assumed*)", *looks],
        ["memory of a process that holds all clips, keys and rows besides (a bench, a driver)"]
        + [size(1e6 * of["rows"]["peak resident mb"]) for of in every],
        [f"of {a.cores} such on a node, a training for each core"]
        + [size(a.cores * 1e6 * of["rows"]["peak resident mb"]) for of in every],
        ["of each, Python and torch alone", *(size(1e6 * each) for each in calm)],
    ]
    return _table(["", *CLIPS], rows)


def _extraction(a: Assumptions) -> str:
    rows = []
    for data, clips in CLIPS.items():
        for way in plan.ways(a).values():
            x = plan.extracted(way, clips, a)
            gpu = span(x.gpu_hours, rounded) if x.gpu_hours.high else ""
            lasts = span(x.hours, hours)
            moved = [size(x.read), size(x.written)]
            rows.append([data, way.name, *moved, rounded(x.core_hours), gpu, lasts, x.bound, span(x.dollars, dollars)])
    head = [
        "",
        "encoder",
        "clips read (twice)",
        "store",
        "core-hours",
        "GPU-hours, **estimated**",
        "time",
        "set by",
        "cost",
    ]
    return _table(head, rows, right=(2, 3, 4, 5, 6, 8))


def _training(a: Assumptions) -> str:
    rows = []
    for encoder in ("signal", "sam-audio"):
        for learner, epochs in plan.EPOCHS.items():
            of = [plan.trained(learner, encoder, clips, a) for clips in CLIPS.values()]
            each = plan.costs()["learning"][encoder][learner]
            taken = [rounded(one.hours) for one in of]
            lost = [share(of[0].by_session), share(of[0].from_the_start)]
            rows.append([f"`{learner}` on `{encoder}`", seconds(each), str(epochs), *taken, size(of[0].read), *lost])
    head = ["", "CPU seconds a clip and pass", "passes", *(f"{name}: hours of a core" for name in CLIPS)]
    head += ["VGGSound: read, at least", "longer through failures", "if each began anew"]
    return _table(head, rows)


def _demand(found: dict[str, Any], a: Assumptions) -> str:
    """How much each worker asks of the shared file system, and how many it can serve."""
    film, rows = found["films"][a.film]["bytes"], []

    def add(what: str, rate: Span) -> None:
        many = Span(a.shared_rate / rate.high, a.shared_rate / rate.low)
        rows.append([what, span(rate, lambda x: f"{size(x)}/s"), span(many, rounded)])

    for way in plan.ways(a).values():
        moved = 2 * film + way.row
        if way.gpu.high:
            add(f"encoding, {way.name}: a GPU", Span(moved / way.gpu.high, moved / way.gpu.low))
        else:
            add(f"encoding, {way.name}: a core", Span(moved / way.core, moved / way.core))
    for encoder in ("signal", "sam-audio"):
        for learner in plan.EPOCHS:
            rate = plan.trained(learner, encoder, CLIPS["VGGSound"], a).rate
            add(f"learning, `{learner}` on `{encoder}`: a core", Span(rate, rate))
    return _table(["", "asks for", f"{size(a.shared_rate)}/s are enough for"], rows)


def _failures() -> str:
    found = json.loads(failures.FILE.read_text())
    rows = []
    for of in found["table"]:
        block, _ = found["asked"][of["job"]]
        first = [of["job"], seconds(block["fixed"] + block["block"] * block["seconds"]), of["what"]]
        calm = hours(of["hours without failures"])
        shares = [share(of[name]) for name in ("longer", "redone", "redone, closed form")]
        rows.append([*first, calm, *shares, rounded(of["nodes lost"]), str(of["most tries"])])
    head = ["", "a block", "failures", "without", "longer", "work redone", "by the formula", "nodes lost", "most tries"]
    return _table(head, rows, right=(1, 3, 4, 5, 6, 7, 8))


def figures(a: Assumptions) -> dict[str, Any]:
    """What is computed, as plain facts."""
    ways = plan.ways(a)
    extraction = {
        data: {name: plan.extracted(way, clips, a)._asdict() for name, way in ways.items()}
        for data, clips in CLIPS.items()
    }
    training = {
        data: {
            f"{learner} on {encoder}": plan.trained(learner, encoder, clips, a)._asdict()
            for encoder in ("signal", "sam-audio")
            for learner in plan.EPOCHS
        }
        for data, clips in CLIPS.items()
    }
    rows = {name: plan.row_bytes(shape) for name, shape in plan.SETTINGS.items()}
    facts = {"assumptions": dataclasses.asdict(a), "bytes of a clip": rows, "decoded bytes": plan.decoded_bytes()}
    return {**facts, "extraction": extraction, "training": training, "measured": plan.costs()}


def written(page: str, found: dict[str, str]) -> str:
    """The page with the tables between ``<!-- scale: NAME -->`` and ``<!-- end -->``."""
    parts = re.split(r"(<!-- scale: [\w-]+ -->\n)(.*?)(?=<!-- end -->)", page, flags=re.DOTALL)
    for i in range(1, len(parts), 3):
        name = parts[i].split()[2]
        parts[i + 1] = f"\n{found.pop(name)}\n\n"
    if found:
        raise SystemExit(f"the page has no place for {', '.join(found)}")
    return "".join(parts)


def _table(head: list[str], rows: list[list[str]], right: tuple[int, ...] | None = None) -> str:
    sides = [(i > 0) if right is None else (i in right) for i in range(len(head))]
    lines = [head, ["---:" if side else "---" for side in sides], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _short(value: float) -> str:
    return f"{value:g}".replace("e+", "e").replace("e0", "e")


def main() -> None:
    asked = tyro.cli(Asked, prog="python -m benchmarks.scale")
    if asked.json:
        print(json.dumps(figures(asked.assume), indent=1))
        return
    found = tables(asked.assume)
    if asked.page is not None:
        if asked.assume != plan.USUAL:
            raise SystemExit("the page shows the usual assumptions: change them in benchmarks/plan.py")
        asked.page.write_text(written(asked.page.read_text(), found))
        return
    for name, table in found.items():
        print(f"## {name}\n\n{table}\n", file=sys.stdout)


if __name__ == "__main__":
    main()
