"""What breaks first on the way from one machine to many, in the order in which a cluster that grows meets it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks import plan
from benchmarks.amounts import rounded, seconds, share, span
from benchmarks.failures import HOUR, redone
from benchmarks.plan import CLIPS, Assumptions, Span
from harkback.formats import duration, size


def first(found: dict[str, Any], a: Assumptions) -> str:
    """A list in Markdown. found: what was measured."""
    parts = (_reading(found, a), _sessions(a), _without_gpu(a), _codec(a), *_catalogue(found, a))
    return "\n".join(f"{i}. {text}" for i, text in enumerate(parts, 1))


def _reading(found: dict[str, Any], a: Assumptions) -> str:
    rates = {name: plan.trained("l3", name, CLIPS["VGGSound"], a).rate for name in ("signal", "sam-audio")}
    way, rate = plan.ways(a)["`signal`"], size(a.shared_rate)
    asked = (2 * found["films"][a.film]["bytes"] + way.row) / way.core
    return (
        f"**The shared file system, under training.** One core that learns `l3` asks for {size(rates['signal'])}/s of "
        f"`signal`'s tokens and {size(rates['sam-audio'])}/s of `sam-audio`'s; {rate}/s are enough for "
        f"{rounded(a.shared_rate / rates['sam-audio'])} such cores, and the cluster has {a.nodes * a.cores}. "
        f"Extraction is easier: {rate}/s feed {rounded(a.shared_rate / asked)} cores with `signal`. *Mend:* copy the "
        "store to each node's own disk or memory before the bench (`signal`'s of VGGSound may fit its memory), take "
        "smaller tokens (`--sam-audio.grid 4`), or learners in closed form, which do not read it once an epoch."
    )


def _sessions(a: Assumptions) -> str:
    avcil = plan.trained("avcil", "sam-audio", CLIPS["VGGSound"], a)
    return (
        "**A session that lasts longer than a node.** A retry of a training goes on at its last session. Of `avcil` on "
        f"`sam-audio`, a session of a tenth of VGGSound takes {rounded(avcil.hours / plan.SESSIONS)} hours of a core; "
        f"on nodes that last 10 h the training takes {share(avcil.by_session)} longer. *Mend:* nodes that are not "
        "taken away, a GPU, or smaller sessions; there are no checkpoints within a session."
    )


def _without_gpu(a: Assumptions) -> str:
    job, _ = plan.jobs(a)["VGGSound, sam-audio without a GPU"]
    lost = {life: share(redone(job.lasts(0), life * HOUR)) for life in (2, 10)}
    less = share(redone(replace(job, block=16).lasts(0), 2 * HOUR))
    return (
        f"**SAM-Audio without a GPU.** A block of 64 clips takes {duration(job.lasts(0))} of a core. Work that is done "
        f"again comes to {lost[10]} on nodes that last 10 h and to {lost[2]} on nodes that last 2 h, where a block "
        f"must be allowed more tries than three. With blocks of 16 it would be {less}."
    )


def _codec(a: Assumptions) -> str:
    way, codec, vision = plan.ways(a)["`sam-audio`, H100"], plan.codec_seconds(a), plan.vision_seconds(plan.FRAMES, a)
    part = Span(*sorted((codec.low / way.gpu.low, codec.high / way.gpu.high)))
    needed = Span(way.core / way.gpu.high, way.core / way.gpu.low)
    moved = Span(plan.decoded_bytes() / way.gpu.high, plan.decoded_bytes() / way.gpu.low)
    return (
        f"**The codec on a GPU (an estimate).** In float32 without tensor cores, the sound takes {span(part, share)} "
        f"of a GPU's time: {span(codec, seconds)} a clip, beside {span(vision, seconds)} for 8 pictures. A GPU then "
        f"needs {span(needed, rounded)} cores that decode, and {span(moved, size)} a second of decoded clips come to "
        f"it (a block of 64: {size(plan.BLOCK * plan.decoded_bytes())})."
    )


def _catalogue(found: dict[str, Any], a: Assumptions) -> tuple[str, str]:
    large = found["catalogue"][str(CLIPS["AudioSet"])]
    memory = {step: 1e6 * large[step]["peak resident mb"] for step in ("fill", "first open", "rows")}
    lists = f"{large['lists']:,}"
    return (
        f"**The catalogue, at two million clips.** The first list has {size(large['first list bytes'])}: whoever wrote "
        f"it had {size(memory['fill'])} of memory, who first read it {size(memory['first open'])}. A process that "
        f"holds all clips and keys has {size(memory['rows'])}, so {a.cores} trainings on a node have "
        f"{size(a.cores * memory['rows'])}. Asking about {lists} lists takes {seconds(large['lists'] * a.look)} at "
        "every opening, on a shared file system as assumed. At 200,000 clips none of it matters.",
        f"**Not the driver's lists.** Writing {lists} of them took "
        f"{seconds(large['fill']['a list cpu'] * large['lists'])} of CPU time in all, on a local disk.",
    )
