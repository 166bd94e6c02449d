"""What a pickle of NumPy arrays describes, found without doing what it says.

A pickle is a program for a machine with a stack and a memo, and one of its instructions calls any function of any
installed module: to read a stranger's pickle with the standard library's reader is to run a stranger's program. This
machine calls nothing. It knows by name the few functions that NumPy's arrays are made with, and notes what they would
have made: `Array` says where the numbers lie. Any other name is an error.

The format: `pickletools` of the standard library documents each instruction. What NumPy writes:
``ndarray.__reduce__`` (protocols 2 to 4) and ``ndarray.__reduce_ex__`` (5), the same since NumPy 1.16.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, NamedTuple

#: Instructions. Each makes one small thing at most, so this bounds the memory; 61,195 arrays need 2,000,000.
STEPS = 8_000_000
NUMBER = re.compile(r"f[248]|[iu][1248]|b1")  #: kinds of numbers that arrays may hold, as NumPy writes them


class Refused(Exception):
    """The pickle holds something else than arrays, or makes no sense."""


class Stretch(NamedTuple):
    """Bytes that were left in the file."""

    offset: int
    length: int
    utf8: bool = False  #: each character of this UTF-8 text is a byte: how protocol 2 spells bytes


class LongText(NamedTuple):
    """A text that was left in the file."""

    offset: int
    length: int


class Known(Enum):
    """Names that a pickle may mention; none of them is looked up."""

    RECONSTRUCT = "_reconstruct"
    FROMBUFFER = "_frombuffer"
    SCALAR = "scalar"
    NDARRAY = "ndarray"
    DTYPE = "dtype"
    ENCODE = "encode"


_NAMES = {
    **{f"numpy.{core}.multiarray _reconstruct": Known.RECONSTRUCT for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray scalar": Known.SCALAR for core in ("core", "_core")},
    **{f"numpy.{core}.numeric _frombuffer": Known.FROMBUFFER for core in ("core", "_core")},
    "numpy ndarray": Known.NDARRAY,
    "numpy dtype": Known.DTYPE,
    "_codecs encode": Known.ENCODE,
}


@dataclass(slots=True, eq=False)
class Kind:
    """A dtype: ``f4`` and the like, or ``O`` for objects."""

    code: str
    order: str = "="  #: "<", ">", or "|" where it makes no difference


@dataclass(slots=True, eq=False)
class Array:
    """An array, or the blank that becomes one."""

    kind: Kind | None = None
    shape: tuple[int, ...] = ()
    order: Literal["C", "F"] = "C"
    data: bytes | Stretch | list[Any] | None = None  #: a list where the kind is ``O``


class Machine:
    """Runs the instructions that `pickletools.genops` reads, and gives what stands on the stack at the end.

    Long bytes and texts come as `Stretch` and `LongText`. Nothing is hashed or printed that is not plain: a few
    instructions can nest tuples so that either would take for ever. A method is an instruction, by its name.
    """

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []  #: the stacks below each mark
        self._memo: dict[int, Any] = {}

    def run(self, steps: Iterable[tuple[str, Any]]) -> Any:
        """steps: name and argument of each instruction.

        Raises `Refused`; IndexError, KeyError, TypeError or ValueError where instructions do not fit together.
        """
        for count, (name, arg) in enumerate(steps):
            if count == STEPS:
                raise Refused(f"has more than {STEPS} instructions")
            if name in _PUSHED:
                self._stack.append(arg)
            elif name in _CONSTANT:
                self._stack.append(_CONSTANT[name])
            elif name in _TUPLES:
                self._last(_TUPLES[name])
            elif name == "STOP":
                break
            elif method := getattr(self, f"_{name.lower()}", None):
                method(arg)
            else:
                raise Refused(f"holds the instruction {name}, which no array needs")
        (result,) = self._stack
        return result

    # ---- the stack and the memo ----

    def _proto(self, version: int) -> None:
        if not 2 <= version <= 5:
            raise Refused(f"is a pickle of protocol {version}; 2 to 5 can be read")

    def _frame(self, _: int) -> None:
        """Only says how much to read ahead."""

    def _mark(self, _: None) -> None:
        self._outer.append(self._stack)
        self._stack = []

    def _marked(self) -> list[Any]:
        """What lies above the last mark, which is taken away."""
        items, self._stack = self._stack, self._outer.pop()
        return items

    def _memoize(self, _: None) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _binput(self, place: int) -> None:
        self._memo[place] = self._stack[-1]

    _long_binput = _binput

    def _binget(self, place: int) -> None:
        self._stack.append(self._memo[place])

    _long_binget = _binget

    # ---- containers ----

    def _empty_list(self, _: None) -> None:
        self._stack.append([])

    def _empty_dict(self, _: None) -> None:
        self._stack.append({})

    def _append(self, _: None) -> None:
        self._extend([self._stack.pop()])

    def _appends(self, _: None) -> None:
        self._extend(self._marked())

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise Refused("appends to what is no list")
        target += items

    def _setitem(self, _: None) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._update([key, value])

    def _setitems(self, _: None) -> None:
        self._update(self._marked())

    def _update(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict):
            raise Refused("sets items of what is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str):  # Others could be made to take for ever when they are hashed.
                raise Refused("has a dict with keys that are no names")
            target[key] = value

    def _tuple(self, _: None) -> None:
        items = tuple(self._marked())
        self._stack.append(items)

    def _last(self, count: int) -> None:
        items = tuple(self._stack.pop() for _ in range(count))
        self._stack.append(items[::-1])

    # ---- names, and what NumPy would do ----

    def _global(self, name: str) -> None:
        if name not in _NAMES:
            raise Refused(f"asks for {name.replace(' ', '.')}, which no array needs")
        self._stack.append(_NAMES[name])

    def _stack_global(self, _: None) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise Refused("asks for something without a name")
        self._global(f"{module} {name}")

    def _reduce(self, _: None) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if not isinstance(function, Known) or not isinstance(arguments, tuple):
            raise Refused("calls what is no function")
        self._stack.append(_made(function, arguments))

    def _build(self, _: None) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if not isinstance(state, tuple):
            raise Refused("sets a state that no array has")
        if isinstance(target, Kind):
            _, target.order, *rest = state
            if target.order not in ("<", ">", "|", "=") or any(part is not None for part in rest[:3]):
                raise Refused("has arrays of records")
        elif isinstance(target, Array):
            _, shape, kind, fortran, data = state
            _settle(target, kind, shape, "F" if fortran is True else "C", data)
        else:
            raise Refused("sets the state of what is no array")


TEXTS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
BYTES = {"SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8", "SHORT_BINSTRING", "BINSTRING"}
_PUSHED = TEXTS | BYTES | {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_CONSTANT = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


def _made(function: Known, arguments: tuple[Any, ...]) -> Any:
    """What the call of a known function would give."""
    match function, arguments:
        case Known.RECONSTRUCT, (Known.NDARRAY, _, _):
            return Array()
        case Known.DTYPE, (str(code), _, _):
            if not NUMBER.fullmatch(code) and code not in ("O", "O8"):
                raise Refused(f"has arrays of {code[:20]}, which are no numbers")
            return Kind(code[0] if code[0] == "O" else code)
        case Known.FROMBUFFER, (data, kind, shape, "C" | "F" as order, *_):
            return _settle(Array(), kind, shape, order, data)
        case Known.SCALAR, (kind, data):
            return _settle(Array(), kind, (), "C", data)
        case Known.ENCODE, (str(text), "latin1"):
            return text.encode("latin1")
        case Known.ENCODE, (LongText(offset, length), "latin1"):
            return Stretch(offset, length, utf8=True)
    raise Refused(f"calls {function.value} in a way that is not known here")


def _settle(array: Array, kind: Any, shape: Any, order: Literal["C", "F"], data: Any) -> Array:
    """The blank becomes an array: its numbers must be as many as its shape says."""
    if isinstance(data, str):  # Python 2 wrote bytes as text.
        data = data.encode("latin1")
    fits = isinstance(kind, Kind) and isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
    if not fits or len(shape) > 32:
        raise Refused("has an array without a kind or a shape")
    if kind.code == "O":
        if not isinstance(data, list) or len(data) != math.prod(shape):
            raise Refused("has an array of objects that lacks some")
    elif isinstance(data, Stretch) and data.utf8:
        pass  # How many bytes they are is seen when they are read.
    elif not isinstance(data, bytes | bytearray | Stretch):
        raise Refused("has an array without numbers")
    else:
        length = data.length if isinstance(data, Stretch) else len(data)
        if length != math.prod(shape) * int(kind.code[1:]):
            raise Refused("has an array whose numbers do not fill its shape")
    array.kind, array.shape, array.order = kind, shape, order
    array.data = bytes(data) if isinstance(data, bytearray) else data
    return array
