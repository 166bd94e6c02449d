"""What people write behind the flags of the command line -> numbers and names, or one line on what is wrong."""

from __future__ import annotations

from harkback.errors import HarkbackError

EXAMPLES = {"--learners": "l3,finetune,joint", "--modality": "both,audio,visual", "--orders": "3, or avcil-2023"}


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
