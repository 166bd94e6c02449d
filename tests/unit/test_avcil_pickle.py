"""Pickled arrays: what NumPy writes is read as NumPy would read it, and anything else is one line and never run."""

from __future__ import annotations

import io
import os
import pickle
import struct
import sys
import tracemalloc
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harkback.datasets import _pickle_machine, _pickled_arrays
from harkback.datasets._pickled_arrays import PickledArrays
from harkback.errors import HarkbackError

PROTOCOLS = (2, 3, 4, 5)


def header(kind: str = "|O", shape: tuple[int, ...] = ()) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": kind, "fortran_order": False, "shape": shape})
    return out.getvalue()


def saved(path: Path, pickled: bytes) -> PickledArrays:
    path.write_bytes(header() + pickled)
    return PickledArrays(path)


def pickled(content: Any, protocol: int) -> bytes:
    """What ``np.save`` puts behind the header, in any protocol."""
    box = np.empty((), dtype=object)
    box[()] = content
    return pickle.dumps(box, protocol)


def contents(arrays: PickledArrays) -> dict[str, np.ndarray[Any, Any]]:
    with arrays.opened() as read:
        return {name: read(name) for name in arrays.ids}


def same(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].dtype == expected[name].dtype
        and found[name].shape == expected[name].shape
        and found[name].tobytes() == expected[name].tobytes()
        for name in found
    )


def refusal(path: Path, pickled: bytes) -> str:
    """The one line that such a file is answered with."""
    with pytest.raises(HarkbackError) as caught:
        assert saved(path, pickled).ids
    line = str(caught.value)
    assert line.startswith(f"{path}: ") and "\n" not in line and len(line) < len(str(path)) + 300
    return line


@contextmanager
def little_memory(most: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


# ---- what NumPy writes ----------------------------------------------------------------------------------------------

RANDOM = np.random.default_rng(0)
ARRAYS = {
    "vector": RANDOM.standard_normal(768).astype("f4"),
    "small": RANDOM.standard_normal(5).astype("f4"),
    "tokens": RANDOM.standard_normal((16, 96)).astype("f4"),
    "big-endian": RANDOM.standard_normal((40, 7)).astype(">f4"),
    "columns first": np.asfortranarray(RANDOM.standard_normal((30, 9)).astype("f4")),
    "every other": RANDOM.standard_normal((60, 9)).astype("f4")[::2, 1:],
    "half": RANDOM.standard_normal((3, 4)).astype("f2"),
    "double": RANDOM.standard_normal((50, 4)),
    "whole numbers": np.arange(700),
    "bytes": np.arange(256, dtype="u1"),
    "yes or no": np.array([True, False]),
    "a number": np.array(3.5, dtype="f4"),
    "nothing": np.zeros((0, 4), "f4"),
    "-F5wSJwBZjU": np.full((2, 2, 2), -1, "f4"),
    "chat à poil": np.zeros(600, "f8"),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_gives_back_what_was_saved(tmp_path: Path, protocol: int) -> None:
    # Of protocol 2, only what it can say: it spells no bytes at all as a call of `bytes`.
    expected = {name: array for name, array in ARRAYS.items() if protocol > 2 or array.size}
    assert same(contents(saved(tmp_path / "a.npy", pickled(expected, protocol))), expected)


def test_the_file_that_numpy_saves(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ARRAYS, allow_pickle=True)  # type: ignore[arg-type]
    assert same(contents(PickledArrays(tmp_path / "a.npy")), ARRAYS)


@pytest.mark.parametrize("protocol", [2, 3])
def test_files_of_numpy_before_2(tmp_path: Path, protocol: int) -> None:
    text = pickled(ARRAYS if protocol > 2 else {"x": ARRAYS["tokens"]}, protocol)
    old = text.replace(b"numpy._core.", b"numpy.core.")
    assert b"numpy.core." in old and b"_core" not in old
    assert same(contents(saved(tmp_path / "a.npy", old)), ARRAYS if protocol > 2 else {"x": ARRAYS["tokens"]})


@pytest.mark.parametrize("protocol", [4, 5])
def test_newer_protocols_of_numpy_before_2(tmp_path: Path, protocol: int) -> None:
    """The names are a byte shorter, and say so in a byte before them; frames are only hints."""
    text = pickled({"x": ARRAYS["tokens"]}, protocol)
    for module in (b"multiarray", b"numeric"):
        new = b"numpy._core." + module
        text = text.replace(bytes([len(new)]) + new, bytes([len(new) - 1]) + new.replace(b"_core", b"core"))
    assert b"_core" not in text
    assert same(contents(saved(tmp_path / "a.npy", text)), {"x": ARRAYS["tokens"]})


def test_more_arrays_than_a_pickler_writes_at_once(tmp_path: Path) -> None:
    many = {f"clip {i}": np.full(3, i, "f4") for i in range(2500)}
    for protocol in PROTOCOLS:
        assert same(contents(saved(tmp_path / "a.npy", pickled(many, protocol))), many)


def test_one_array_under_two_names(tmp_path: Path) -> None:
    one = ARRAYS["tokens"]
    both = {"a": one, "b": one}
    for protocol in PROTOCOLS:
        assert same(contents(saved(tmp_path / "a.npy", pickled(both, protocol))), both)


def test_a_dict_in_order_of_insertion_only_is_a_dict(tmp_path: Path) -> None:
    assert "collections.OrderedDict" in refusal(tmp_path / "a.npy", pickled(OrderedDict(a=ARRAYS["small"]), 4))


def test_python_2_wrote_bytes_as_text(tmp_path: Path) -> None:
    """As its protocol 2 did: BINSTRING, SHORT_BINSTRING, and flags as numbers."""

    def array(numbers: np.ndarray[Any, Any]) -> bytes:
        raw = numbers.tobytes()
        text = b"U" + bytes([len(raw)]) + raw if len(raw) < 256 else b"T" + struct.pack("<i", len(raw)) + raw
        kind = b"cnumpy\ndtype\n(U\x02f4K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        shape = b"".join(b"K" + bytes([n]) for n in numbers.shape)
        blank = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
        return blank + b"(K\x01(" + shape + b"t" + kind + b"\x89" + text + b"tb"

    expected = {"a": ARRAYS["small"], "b": ARRAYS["tokens"]}
    items = b"".join(b"U\x01" + name.encode() + array(numbers) for name, numbers in expected.items())
    assert same(contents(saved(tmp_path / "a.npy", b"\x80\x02}(" + items + b"u.")), expected)


def test_the_size_of_the_file_is_not_the_size_in_memory(tmp_path: Path) -> None:
    for protocol in (3, 4, 5):
        big = {f"clip {i}": np.full((1024, 1024), i, "f4") for i in range(8)}
        arrays = saved(tmp_path / "a.npy", pickled(big, protocol))
        del big
        with little_memory(500_000):
            assert len(arrays.ids) == 8
        with little_memory(6_000_000), arrays.opened() as read:
            for i in range(8):
                assert read(f"clip {i}")[0, 0] == i


@given(
    st.dictionaries(
        st.text(max_size=12),
        st.tuples(
            st.sampled_from(["<f4", ">f4", "<f2", "<f8", "<i2", "|u1"]),
            st.lists(st.integers(0, 9), max_size=3),
            st.booleans(),
        ),
    ),
    st.sampled_from(PROTOCOLS[1:]),
)
def test_whatever_arrays_there_are(
    tmp_path_factory: pytest.TempPathFactory, kinds: dict[str, tuple[str, list[int], bool]], protocol: int
) -> None:
    path = tmp_path_factory.mktemp("any") / "a.npy"
    some = np.random.default_rng(0)
    expected = {
        name: np.array(some.integers(0, 250, shape), dtype=kind, order="F" if turned else "C")
        for name, (kind, shape, turned) in kinds.items()
    }
    assert same(contents(saved(path, pickled(expected, protocol))), expected)


# ---- what is no dict of arrays --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"clip": [1.0, 2.0]}, 'holds, under "clip", something that is no array of numbers'),
        ({"clip": {"inner": ARRAYS["small"]}}, "something that is no array"),
        ({"clip": np.array([[1], None], dtype=object)}, "something that is no array of numbers"),
        ({"clip": np.array(["a text"])}, "has arrays of U6, which are no numbers"),
        ({"clip": np.zeros(2, dtype=[("x", "f4")])}, "which are no numbers"),
        ({"clip": np.zeros(2, dtype="c8")}, "has arrays of c8, which are no numbers"),
        ({"clip": torch.zeros(2)}, "asks for torch._utils._rebuild_tensor_v2, which no array needs"),
        ({"clip": {1, 2}}, "holds the instruction EMPTY_SET"),
        ({1: ARRAYS["small"]}, "keys that are no names"),
        ({("a", "b"): ARRAYS["small"]}, "keys that are no names"),
        ([ARRAYS["small"]], "holds no dict of arrays"),
        (None, "holds no dict of arrays"),
    ],
)
def test_other_contents_are_named(tmp_path: Path, content: Any, says: str) -> None:
    assert says in refusal(tmp_path / "a.npy", pickled(content, 4))


def test_a_number_of_numpy_is_an_array_without_dimensions(tmp_path: Path) -> None:
    found = contents(saved(tmp_path / "a.npy", pickled({"clip": np.float32(2.5)}, 4)))
    assert found["clip"].shape == () and found["clip"] == 2.5


@pytest.mark.parametrize("protocol", [0, 1])
def test_protocols_before_2(tmp_path: Path, protocol: int) -> None:
    refusal(tmp_path / "a.npy", pickled({"clip": ARRAYS["small"]}, protocol))


def test_other_files(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    for data, says in [
        (b"", "is no .npy file"),
        (b"\x93NUMPY\x01\x00", "is no .npy file"),
        (b"PK\x03\x04 a zip, says its name", "is no .npy file"),
        (header("<f4", (3,)) + bytes(12), "holds an array of kind <f4 and shape (3,), not arrays by the ids of clips"),
        (header("|O", (3,)), "holds an array of kind |O and shape (3,)"),
        (b"\x93NUMPY\x01\x00\x10\x00" + b"{'descr': open}\n", "its header is no header"),
        (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 70_000, "its header is no header"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b"[1]", "its header is no header"),
    ]:
        path.write_bytes(data)
        with pytest.raises(HarkbackError) as caught:
            PickledArrays(path)
        assert says in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(HarkbackError, match="No such file"):
        PickledArrays(tmp_path / "none.npy")


# ---- what is evil ---------------------------------------------------------------------------------------------------


class Call:
    """Pickles to a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("deep", [False, True])
def test_nothing_is_run(tmp_path: Path, protocol: int, deep: bool) -> None:
    mark = tmp_path / "was here"
    calls = {
        f"{os.system.__module__}.system": Call(os.system, f"touch '{mark}'"),
        "eval": Call(eval, f"open({str(mark)!r}, 'w')"),
        "exec": Call(exec, f"open({str(mark)!r}, 'w')"),
        "open": Call(open, str(mark), "w"),
        "getattr": Call(getattr, os, "system"),
        "numpy.load": Call(np.load, str(mark)),
        "numpy.fromfile": Call(np.fromfile, str(mark)),
    }
    for name, call in calls.items():
        if name == "getattr":  # A module cannot be pickled: by hand.
            evil = b"\x80\x02cbuiltins\ngetattr\n(cos\nsystem\nU\x08__call__tR."
        else:
            evil = pickled({"a": ARRAYS["small"], "b": [Call(list, [call])] if deep else call}, protocol)
        line = refusal(tmp_path / "a.npy", evil)
        assert "which no array needs; nothing of it was run" in line
        assert deep or name in line
        assert not mark.exists()


def test_no_module_is_so_much_as_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil_module.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\nrun = print\n")
    monkeypatch.syspath_prepend(tmp_path)
    evil = [b"cevil_module\nrun\n)R.", b"\x8c\x0bevil_module\x8c\x03run\x93)R.", b"(ievil_module\nrun\n."]
    for text in evil:
        refusal(tmp_path / "a.npy", b"\x80\x04" + text)
    assert "evil_module" not in sys.modules and not (tmp_path / "mark").exists()


NAMES = {name: f"c{name.replace(' ', chr(10))}\n".encode() for name in _pickle_machine._NAMES}
RECONSTRUCT, NDARRAY = NAMES["numpy.core.multiarray _reconstruct"], NAMES["numpy ndarray"]
SCALAR, FROMBUFFER = NAMES["numpy.core.multiarray scalar"], NAMES["numpy.core.numeric _frombuffer"]
DTYPE, ENCODE = NAMES["numpy dtype"], NAMES["_codecs encode"]
F4 = DTYPE + b"(U\x02f4\x89\x88tR"
BLANK = RECONSTRUCT + b"(" + NDARRAY + b"(K\x00tU\x01btR"


@pytest.mark.parametrize(
    "evil",
    [
        # Names that are admitted, in other places than NumPy has them.
        RECONSTRUCT + b"(" + DTYPE + b"(K\x00tU\x01btR.",
        RECONSTRUCT + b"(cos\nsystem\n(K\x00tU\x01btR.",
        NDARRAY + b"(K\x09tR.",
        DTYPE + b"(U\x02O8" + NDARRAY + b"tR.",
        DTYPE + b"(" + NDARRAY + b"\x89\x88tR.",
        DTYPE + b"(U\x07f4,f4,O\x89\x88tR.",
        SCALAR + b"(" + DTYPE + b"(U\x02O8\x89\x88tRU\x04aaaatR.",
        ENCODE + b"(U\x02abU\x03hextR.",
        ENCODE + b"(U\x02abU\x05zip_ctR.",
        ENCODE + b"U\x02abR.",
        NDARRAY + b"}b.",
        DTYPE + b"N\x81.",
        BLANK + b"}(U\x09__class__" + NDARRAY + b"ub.",
        BLANK + b"N}U\x01xK\x01s\x86b.",
        # Arrays that lie.
        BLANK + b"(K\x01(K\x05t" + F4 + b"\x89U\x04abcdtb.",
        BLANK + b"(K\x01(J\xff\xff\xff\xfft" + F4 + b"\x89U\x04abcdtb.",
        BLANK + b"(K\x01(\x88t" + F4 + b"\x89U\x04abcdtb.",
        BLANK + b"(K\x01(K\x01t" + F4 + b"\x89" + F4 + b"tb.",
        BLANK + b"(K\x01(K\x01tN\x89U\x04abcdtb.",
        BLANK + b"(K\x01" + b"(" + b"K\x01" * 40 + b"t" + F4 + b"\x89U\x04abcdtb.",
        BLANK + b"(K\x01(\x8a\xff" + b"\x7f" * 255 + b"t" + F4 + b"\x89U\x04abcdtb.",
        BLANK + b"(K\x01)" + DTYPE + b"(U\x02O8\x89\x88tR\x89]tb.",
        BLANK + b"(K\x01(K\x01t" + F4 + b"(K\x03U\x01<" + F4 + b"NNJ\xff\xff\xff\xffK\x04K\x00tb\x89U\x04abcdtb.",
        BLANK + b"(K\x01(K\x01t" + F4 + b"(K\x03U\x01?NNNtb\x89U\x04abcdtb.",
        FROMBUFFER + b"(U\x04abcd" + F4 + b"(K\x01tU\x01KtR.",
        FROMBUFFER + b"(" + BLANK + F4 + b"(K\x01tU\x01CtR.",
        # Instructions that do not fit together.
        b".",
        b"0.",
        b"R.",
        b"b.",
        b"1.",
        b"t.",
        b"s.",
        b"}(K\x01u.",
        b"]K\x01K\x02s.",
        b"}K\x01a.",
        b"(K\x01.",
        b"NN.",
        b"h\x07.",
        b"j\xff\xff\xff\xff.",
        b"\x94.",
        b"K\x01K\x02\x93.",
        b"\x80\x02\x80\x09.",
        b"\x97.",
        b"\x98.",
        b"P0\n.",
        b"Q.",
        b"\x82\x01.",
        b"I01\n.",
        b"\xff.",
        b"c" + b"a" * 5000 + b"\nb\n.",
        b"cone line",
        b"}U\x03abc",
        b"\x8b\xff\xff\xff\xff.",
        b"\x8b\x00\x10\x00\x00" + b"\x7f" * 4096 + b".",
        b"G\x7f",
    ],
)
def test_what_makes_no_sense_is_one_line(tmp_path: Path, evil: bytes) -> None:
    assert "nothing of it was run" in refusal(tmp_path / "a.npy", b"\x80\x04}U\x01x" + evil.removesuffix(b".") + b"s.")
    refusal(tmp_path / "a.npy", evil)


@pytest.mark.parametrize(
    "lying",
    [
        b"B\xff\xff\xff\xff",  # BINBYTES
        b"\x8e" + struct.pack("<Q", 2**60),  # BINBYTES8
        b"\x8e" + struct.pack("<Q", 2**64 - 1),
        b"\x96" + struct.pack("<Q", 2**50),  # BYTEARRAY8
        b"X\xff\xff\xff\xff",  # BINUNICODE
        b"\x8d" + struct.pack("<Q", 2**40),  # BINUNICODE8
        b"T\xff\xff\xff\x7f",  # BINSTRING
        b"T\xff\xff\xff\xff",
        b"\x8b\xff\xff\xff\x7f",  # LONG4
        b"\x95" + struct.pack("<Q", 2**62),  # FRAME
    ],
)
def test_a_length_that_lies_costs_no_memory(tmp_path: Path, lying: bytes) -> None:
    with little_memory(300_000):
        refusal(tmp_path / "a.npy", b"\x80\x04" + lying + b"some bytes")


def test_an_array_larger_than_any_clip_is_not_read(tmp_path: Path) -> None:
    """The file need not be large for that: the file system keeps no zeros."""
    size = 2**34
    kind = F4 + b"(K\x03U\x01<NNNtb"
    begin = header() + b"\x80\x04}U\x01a" + FROMBUFFER + b"(\x8e" + struct.pack("<Q", size)
    with (tmp_path / "a.npy").open("wb") as file:
        file.write(begin)
        file.seek(len(begin) + size)
        file.write(kind + b"(J" + struct.pack("<i", 2**15) + b"J" + struct.pack("<i", 2**17) + b"tU\x01CtRs.")
    with pytest.raises(HarkbackError, match=f'holds, under "a", {size} bytes, which no clip has'):
        assert PickledArrays(tmp_path / "a.npy").ids


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_file_that_is_cut_off(tmp_path: Path, protocol: int) -> None:
    text = pickled({"small": ARRAYS["small"], "tokens": ARRAYS["tokens"]}, protocol)
    for end in range(0, len(text) - 1, 41):
        assert "is cut off" in refusal(tmp_path / "a.npy", text[:end])


def test_few_instructions_cannot_keep_us_busy(tmp_path: Path) -> None:
    """Tuples of tuples: 2**60 things to anybody who hashes, compares or prints them."""
    bomb = b"K\x01\x94" + b"".join(b"h%c\x86\x94" % i for i in range(60))
    loop = b"]\x94h\x00a"  # A list in itself.
    for evil in (
        b"}" + bomb + b"K\x01s.",
        b"}U\x01a" + bomb + b"s.",
        BLANK + b"(K\x01" + bomb + F4 + b"\x89U\x04abcdtb.",
        BLANK + b"(K\x01(K\x01t" + bomb + b"\x89U\x04abcdtb.",
        F4 + b"(K\x03" + bomb + b"NNNtb.",
        DTYPE + b"(" + bomb + b"\x89\x88tR.",
        RECONSTRUCT + bomb + b"R.",
        bomb + b"h\x3c\x93.",
        bomb + b".",
        b"}U\x01a" + loop + b"s.",
        loop + b".",
        b"(" * 100_000 + b".",
        b"]" * 100_000 + b"a" * 99_999 + b".",
    ):
        refusal(tmp_path / "a.npy", b"\x80\x04" + evil)


def test_instructions_and_small_things_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pickle_machine, "STEPS", 1000)
    assert "more than 1000 instructions" in refusal(tmp_path / "a.npy", b"\x80\x04" + b"}" * 2000 + b".")
    monkeypatch.setattr(_pickled_arrays, "KEPT", 2**20)
    many = (b"C\xff" + bytes(255)) * 5000
    monkeypatch.setattr(_pickle_machine, "STEPS", 10**6)
    assert "more than 1 MB of small things" in refusal(tmp_path / "a.npy", b"\x80\x04" + many + b".")


def test_arrays_that_are_gone_when_they_are_read(tmp_path: Path) -> None:
    for protocol in PROTOCOLS:
        arrays = saved(tmp_path / "a.npy", pickled({"tokens": ARRAYS["tokens"]}, protocol))
        assert arrays.ids == {"tokens"}
        whole = arrays.path.read_bytes()
        arrays.path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(OSError, match="damaged"), arrays.opened() as read:
            read("tokens")


ORIGINALS = [
    header() + pickled({"a": ARRAYS["small"], "b": ARRAYS["tokens"], "c": np.float64(1)}, protocol)
    for protocol in PROTOCOLS
]


@given(
    st.sampled_from(ORIGINALS),
    st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=6), st.integers(0, 6)), min_size=1, max_size=6),
)
def test_whatever_is_done_to_a_file_it_is_arrays_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, original: bytes, changes: list[tuple[float, bytes, int]]
) -> None:
    path = tmp_path_factory.mktemp("any") / "a.npy"
    text = bytearray(original)
    for where, new, gone in changes:
        at = round(where * len(text))
        text[at : at + gone] = new
    path.write_bytes(text)
    try:
        arrays = PickledArrays(path)
        ids = arrays.ids
    except HarkbackError as error:
        assert "\n" not in str(error)
        return
    with arrays.opened() as read:
        for name in ids:
            try:
                assert isinstance(read(name), np.ndarray)
            except OSError as error:
                assert "damaged" in str(error)
