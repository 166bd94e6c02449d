"""The model card: what a model knows, how sure that is, what was never measured. A function of its facts alone."""

from __future__ import annotations

import json
import re
import shlex
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from math import ceil, isfinite
from typing import Any

from scipy.stats import binomtest

from harkback.formats import DASH, count, listed, percent
from harkback.unknown import Calibration

#: Licences that the hub knows by their SPDX names, which it writes small.
ON_HUB = """
    apache-2.0 mit isc unlicense zlib wtfpl bsl-1.0 ncsa ecl-2.0 ms-pl mpl-2.0 osl-3.0 afl-3.0 artistic-2.0 ofl-1.1
    postgresql bsd-2-clause bsd-3-clause bsd-3-clause-clear epl-1.0 epl-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gpl-2.0 gpl-3.0
    lgpl-2.1 lgpl-3.0 cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0
    cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
    cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0
"""
TAGS = ("harkback", "audio-visual", "class-incremental-learning", "continual-learning")

Facts = Mapping[str, Any]


def card(facts: Facts) -> str:
    """README.md of a model, from its model.json: Markdown under the hub's YAML. Equal facts, equal text.

    It names no path, and of the classes those alone that the model knows now. Accuracies are those of the last exam,
    with Wilson's 95 % intervals.
    """
    parts = (_front, _use, _classes, _unknown, _sessions, _made, _limits)
    return "\n\n".join("\n".join(part(facts)) for part in parts) + "\n"


def _front(facts: Facts) -> Iterator[str]:
    licence = str(facts["encoder"]["licence"])
    yield from ("---", "library_name: harkback", "pipeline_tag: video-classification")
    if licence.lower() in ON_HUB.split():
        yield f"license: {licence.lower()}"
    else:
        name = re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-.")
        yield from ("license: other", f"license_name: {json.dumps(name or 'unknown')}")
    yield from ("tags:", *(f"- {tag}" for tag in TAGS), "---", f"# {_text(facts['name'])}", "")
    known = facts["classes"]
    yield (
        f"An audio-visual classifier of {count(len(known), 'class', 'classes')}, taught with Harkback "
        f"{_text(facts['harkback'])}. It hears and sees a clip, names its class and says how sure it is, and can be "
        "taught more classes."
    )


def _use(facts: Facts) -> Iterator[str]:
    name = _plain(facts["name"])
    yield from (
        "## Use",
        "",
        "```",
        f"harkback predict {shlex.quote(name)} street.mp4   # class, confidence and seconds",
        f"harkback teach {shlex.quote(name)} new_clips/     # new_clips/<class name>/*.mp4",
        f"harkback undo {shlex.quote(name)}                 # back to before the last session",
        "```",
        "",
        "```python",
        "import harkback",
        "",
        f'answers = harkback.load({json.dumps(name, ensure_ascii=False)}).predict("street.mp4")',
        "```",
        "",
        f"On the hub, `harkback pull OWNER/NAME {shlex.quote(name)}` fetches it first. Its encoder is "
        f"{_text(facts['encoder']['name'])}; if that needs a model of its own, `--model` says where it is.",
    )


def _classes(facts: Facts) -> Iterator[str]:
    exam, when = _exam(facts)
    yield from ("## Classes", "", "| class | clips taught | told rightly | accuracy | 95 % interval |")
    yield "|---|---:|---:|---:|---:|"
    for name in facts["classes"]:
        yield f"| {_text(name)} | {_taught(facts, name)} | {_mark(exam.get(name))} |"
    asked = [exam[name] for name in facts["classes"] if name in exam]
    total = [sum(right for right, _ in asked), sum(number for _, number in asked)]
    clips = sum(_taught(facts, name) for name in facts["classes"])
    yield f"| **all** | {clips} | {_mark(total)} |"
    yield ""
    if not total[1]:
        yield "No clip was retained to examine it by, so nothing is known of how often it is right."
        return
    yield (
        f"Asked on {when} were clips that the model retained of those it was taught, each as if it had not learnt that "
        f"one. The intervals are Wilson's; {DASH}: no clip of that class could be asked."
    )


def _unknown(facts: Facts) -> Iterator[str]:
    rate, evidence = float(facts["false_alarm"]), facts["calibration"]["evidence"]
    yield from ("## Clips of no class", "")
    if len(facts["classes"]) < 2:
        yield 'It cannot say "unknown": with one class there is nothing to weigh a clip against.'
        return
    if Calibration.from_facts(facts["calibration"]).threshold(rate) is None:
        yield (
            f'It cannot say "unknown" yet: to promise that at most {rate:.1%} of known clips are called so takes '
            f"{ceil(1 / rate - 1e-9) - 1} clips to examine it by, and it has {len(evidence)}."
        )
        return
    yield (
        f'It can say "unknown". Of clips like those it was taught at most {percent(rate)} % are called so, by '
        f"{count(len(evidence), 'clip')} that it was examined by. How many clips of no class are cannot be promised."
    )
    met = [record["strangers"] for record in facts["sessions"] if record.get("strangers")]
    if met:
        told, asked = sum(each["told"] for each in met), sum(each["asked"] for each in met)
        sure = [f"{each['auroc']:.2f}" for each in met if isfinite(each["auroc"])]
        auroc = f" (AUROC by session: {', '.join(sure)})" if sure else ""
        yield (
            f"Before it learnt them, it called {told} of {asked} clips of classes that were then new unknown, "
            f"{_share(told, asked)}{auroc}."
        )


def _sessions(facts: Facts) -> Iterator[str]:
    yield from ("## Sessions", "", "| session | UTC | clips | new classes | old classes, told rightly | skipped |")
    yield "|---:|---|---:|---|---|---:|"
    for number, record in enumerate(facts["sessions"], 1):
        day = _text(str(record["time"])[:10])
        if record["did"] != "teach":
            gone = count(record["classes"], "class", "classes")
            yield f"| {number} | {day} | {DASH} | {gone} forgotten | {DASH} | {DASH} |"
            continue
        clips = sum(len(record["clips"].get(name, ())) for name in facts["classes"])
        new = listed([_text(name) for name in record["new"] if name in facts["classes"]]) or DASH
        cost = record.get("before")
        old = (
            f"{cost['right']} before, {cost['right_after']} after, of {cost['asked']}"
            if cost and cost["asked"]
            else DASH
        )
        yield f"| {number} | {day} | {clips} | {new} | {old} | {record.get('skipped', 0)} |"
    yield from ("", "Skipped are files that could not be read, or were taught before.")


def _made(facts: Facts) -> Iterator[str]:
    learner, encoder, shape = facts["learner"], facts["encoder"], facts["encoder"]["shape"]
    settings = ", ".join(f"{name} {value}" for name, value in _flat(learner["settings"])) or "none"
    window = next((r["window"] for r in reversed(facts["sessions"]) if r.get("window")), None)
    yield from (
        "## How it is made",
        "",
        f"* Encoder, frozen: {_text(encoder['name'])}, revision {_text(encoder['revision'])}, licence "
        f"{_text(encoder['licence'])}. {shape['audio_tokens']} tokens of sound and {shape['frames']} × "
        f"{shape['patches']} of the picture a clip; key {_text(facts['encoder_key'])}.",
        f"* Learner: {_text(learner['name'])}, seed {learner['seed']}, at most {learner['memory']} clips retained. "
        f"Settings: {_text(settings)}.",
    )
    if window:
        yield f"* Long videos are cut into windows of {window:g} s, as long as the clips it was taught."


def _limits(_: Facts) -> Iterator[str]:
    yield from (
        "## What was not measured, and limits",
        "",
        "* The accuracy above is of clips from the same folders as those it was taught, each asked as if it had not "
        "been learnt. It is not the accuracy on your recordings: other microphones, cameras, places and kinds of noise "
        "were not tried, nor was any public benchmark.",
        "* Confidences are calibrated on those same clips, and promise nothing on others.",
        "* It names one class a clip. What sounds or shows several at once was not tried.",
        "* Whether it is as good for everybody was not examined: let it decide nothing about people.",
        "* The folder holds no clip, but numbers that were computed from clips, and of each clip a SHA-256, by which "
        "whoever has the clip can tell that it was taught. Mind that before you publish it.",
    )


def _exam(facts: Facts) -> tuple[dict[str, Sequence[int]], str]:
    """The last exam, class -> (right, asked), and its day."""
    for record in reversed(facts["sessions"]):
        if record.get("exam"):
            return {name: mark for name, mark in record["exam"].items() if mark[1]}, _text(str(record["time"])[:10])
    return {}, ""


def _taught(facts: Facts, name: str) -> int:
    """Clips taught of a class, over all sessions."""
    return sum(len(record.get("clips", {}).get(name, ())) for record in facts["sessions"])


def _mark(mark: Sequence[int] | None) -> str:
    """(right, asked) as three cells."""
    if not mark or not mark[1]:
        return f"{DASH} | {DASH} | {DASH}"
    right, asked = mark
    low, high = _interval(right, asked)
    return f"{right} of {asked} | {percent(right / asked)} % | {percent(low)} to {percent(high)} %"


def _share(part: int, whole: int) -> str:
    low, high = _interval(part, whole)
    return f"{percent(part / whole)} % ({percent(low)} to {percent(high)} %)"


def _interval(right: int, asked: int) -> tuple[float, float]:
    found = binomtest(right, asked).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def _flat(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Settings by dotted name, in the names' order."""
    for name, value in sorted(settings.items()):
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value if isinstance(value, str) else json.dumps(value)


def _text(text: object) -> str:
    """Any text as Markdown that shows just that, in a table too."""
    marked = re.sub(r"([\\`*_\[\]|~$#])", r"\\\1", _plain(text))
    return marked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _plain(text: object) -> str:
    """One line of text that UTF-8 can carry and that runs one way; emoji of several parts stay in one piece."""
    return "".join(c.encode("unicode_escape").decode() if _odd(c) else c for c in str(text))


def _odd(c: str) -> bool:
    return unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or "\u202a" <= c <= "\u202e" or "\u2066" <= c <= "\u2069"
