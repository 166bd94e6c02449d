"""What people write behind a command -> its settings, numbers and names; or one line on what is wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Collection, Sequence
from typing import Annotated, Any

import tyro
from tyro.conf import arg

from harkback.errors import HarkbackError

EXAMPLES = {
    "--learners": "l3,finetune,joint",
    "--modality": "both,audio,visual",
    "--orders": "3, or avcil-2023",
    "--classes": "siren,whistle",
}


def names(text: str, flag: str) -> tuple[str, ...]:
    """``a, b,a`` -> a, b."""
    found = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not found:
        raise HarkbackError("is empty", where=flag, mend=f"write it like {EXAMPLES[flag]}")
    return found


def numbers(text: str, flag: str) -> tuple[int, ...]:
    """``3,1`` -> 3, 1."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise HarkbackError(
            f'"{text}" is not a number, or numbers with commas', where=flag, mend="like 5 or 3,1,2"
        ) from None


def counted(text: str, flag: str) -> tuple[int, ...]:
    """``3`` -> 0, 1, 2; ``4,7`` -> 4, 7."""
    found = numbers(text, flag)
    found = tuple(range(found[0])) if len(found) == 1 else tuple(dict.fromkeys(found))
    if not found or min(found) < 0:
        raise HarkbackError(f'"{text}" asks for none', where=flag, mend="give a number of at least 1, or 0,1,2")
    return found


def class_orders(text: str) -> tuple[int | str, ...]:
    """``3`` -> 0, 1, 2; ``4,7`` -> 4, 7; ``avcil-2023,4`` -> a benchmark's own order, and order 4."""
    parts = names(text, "--orders")
    if all(part.lstrip("-").isdecimal() for part in parts):
        return counted(text, "--orders")
    return tuple(int(part) if part.isdecimal() else part for part in parts)


def at_least_none(number: int, flag: str) -> int:
    if number < 0:
        raise HarkbackError(f"{number} is negative", where=flag, mend="give 0 or more")
    return number


def with_settings(
    kind: type[Any], name: str, args: list[str], registries: Sequence[str], only: Collection[str] | None = None
) -> tuple[Any, dict[str, Any]]:
    """The command, and the settings of learners and encoders: typed fields are flags, ``--l3.train.epochs 50``.

    only: the entries whose settings are flags; None: all. Loading them is what takes time.
    """
    from harkback import registry

    found = {
        entry: entries.load(entry).Settings
        for entries in (getattr(registry, each) for each in registries)
        for entry in entries.names()
        if (only is None or entry in only) and hasattr(entries.load(entry), "Settings")
    }
    found = {entry: settings for entry, settings in found.items() if dataclasses.fields(settings)}
    fields = {entry: entry.replace("-", "_") for entry in found}
    settings = dataclasses.make_dataclass(
        "Settings",
        [(fields[entry], of, dataclasses.field(default_factory=of)) for entry, of in found.items()],
        frozen=True,
    )
    flat = arg(name="")
    both = dataclasses.make_dataclass(
        "Both", [("command", Annotated[kind, flat]), ("settings", Annotated[settings, flat])], frozen=True
    )
    both.__doc__ = kind.__doc__
    told = parsed(both, name, args)
    return told.command, {entry: getattr(told.settings, fields[entry]) for entry in found}


def mentioned(args: Sequence[str]) -> set[str]:
    """Words that may name a learner or an encoder: ``--learner l3``, ``--encoder=pe-av``, ``--l3.train.epochs 50``."""
    found = set()
    for word in args:
        flag, _, value = word.partition("=")
        found |= {word, value, flag.lstrip("-").partition(".")[0].replace("_", "-")}
    return found


def parsed(kind: type[Any], name: str, args: list[str]) -> Any:
    """A command's dataclass, filled from the words behind its name."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(kind, prog=f"harkback {name}", args=args)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        # The parser frames its message in a box of several lines; here a failure is one line.
        lines = [line.strip("│╭╮╰╯─ ") for line in said.getvalue().splitlines()]
        words = [line for line in lines if line and not line.startswith(("For full helptext", "harkback ", "Parsing"))]
        raise HarkbackError(" ".join(words[1:] or words), mend=f"see harkback {name} --help") from None
