"""The store, whatever is done to it in whatever order: what was added is there, bit for bit, and nothing else is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fakes import Fake
from harkback import catalogue
from harkback.catalogue import Catalogue
from harkback.clips import Clip
from harkback.features import Arrays, Features, join, none_of
from harkback.parts import Parts
from harkback.store import FeatureStore, source_of

SPEC = Fake().spec
CONTENTS = [f"content {i}".encode() for i in range(12)]
KEYS = [hashlib.sha256(content).hexdigest() for content in CONTENTS]
#: Some contents cannot be read, always for the same reason, as it is with one decoder.
FAILS = {key: f"is broken: {i}" for i, key in enumerate(KEYS) if i % 4 == 3}


def row_of(key: str) -> Features:
    some, shape = torch.Generator().manual_seed(int(key[:8], 16)), SPEC.shape
    there = torch.rand(2, 1, generator=some) < 0.7
    audio, visual = (torch.randn(1, *size, generator=some).half() for size in (shape[:2], shape[2:]))
    return Features((key,), audio, visual, *there)


def batch(keys: list[str]) -> tuple[Features, dict[str, str]]:
    good = [row_of(key) for key in keys if key not in FAILS]
    return join(good) if good else none_of(SPEC.shape), {key: FAILS[key] for key in keys if key in FAILS}


class Stored(RuleBasedStateMachine):
    """Two processes and a folder. What a process adds is what a store opened later has to have."""

    @initialize()
    def begin(self) -> None:
        self.room = TemporaryDirectory()
        self.root = Path(self.room.name) / "store"
        self.added: set[str] = set()  #: by either process
        self.seen: list[set[str]] = [set(), set()]  #: what each process must know of
        self.patches = [patch.object(catalogue, "LOOSE", 2), patch("os.fsync", lambda _: None)]
        for each in self.patches:  # So that there soon is an index; what fsync is for cannot be tried here.
            each.start()
        self.stores = [FeatureStore.open(self.root, SPEC) for _ in range(2)]

    def teardown(self) -> None:
        for each in getattr(self, "patches", ()):
            each.stop()
        if hasattr(self, "room"):
            self.room.cleanup()

    @rule(who=st.integers(0, 1), keys=st.lists(st.sampled_from(KEYS), max_size=5, unique=True))
    def add(self, who: int, keys: list[str]) -> None:
        self.stores[who].add(*batch(keys))
        self.added |= set(keys)
        self.seen[who] |= set(keys)

    @rule(who=st.integers(0, 1), keys=st.lists(st.sampled_from(KEYS), max_size=5, unique=True))
    def adopt(self, who: int, keys: list[str]) -> None:
        """From a part that was made elsewhere."""
        parts = Parts(self.root)
        parts.write("part", *batch(keys), {"passing": "a cable was out"})
        assert parts.take_in("part", self.stores[who]) == {"passing": "a cable was out"}
        self.added |= set(keys)
        self.seen[who] |= set(keys)

    @rule(
        who=st.integers(0, 1),
        keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=5, unique=True),
        when=st.sampled_from(["within the arrays", "before the list", "within the list"]),
    )
    def die(self, who: int, keys: list[str], when: str) -> None:
        """In the middle of an add: nothing of it is there, and a new process goes on."""
        if when == "before the list":
            cut = patch.object(Catalogue, "add", side_effect=KeyboardInterrupt)
        elif when == "within the list":
            cut = patch.object(catalogue, "write_json", side_effect=KeyboardInterrupt)
        else:
            cut = patch("harkback.files.save_file", side_effect=KeyboardInterrupt)
            keys = [key for key in KEYS if key not in FAILS][:2]
        with cut, pytest.raises(KeyboardInterrupt):
            self.stores[who].add(*batch(keys))
        self.reopen(who)

    @rule(who=st.integers(0, 1))
    def reopen(self, who: int) -> None:
        self.stores[who] = FeatureStore.open(self.root, SPEC)
        self.seen[who] = set(self.added)

    @rule(who=st.integers(0, 1), content=st.integers(0, len(CONTENTS) - 1), name=st.integers(0, 2))
    def look(self, who: int, content: int, name: int) -> None:
        """A file is written anew, and its key is asked for."""
        path = Path(self.room.name) / f"{name}.wav"
        path.write_bytes(CONTENTS[content])
        os.utime(path, ns=(content, content))  # A time of its own, as a later version has.
        store = self.stores[who]
        assert store.key(Clip(path.name, path, "x")) == KEYS[content]
        assert store.known(path) == source_of(path)
        assert store.key(Clip(path.name, path, "x", 0.5, 1.0)) == f"{KEYS[content]}@0.5-1.0"

    @rule(damage=st.sampled_from(["gone", "cut", "rubbish"]))
    def lose_the_index(self, damage: str) -> None:
        index = self.root / catalogue.FILE
        if index.exists():
            content = b"rubbish" if damage == "rubbish" else index.read_bytes()[: index.stat().st_size // 2]
            index.unlink()  # Whoever has it mapped keeps what it had.
            if damage != "gone":
                index.write_bytes(content)

    @rule(who=st.integers(0, 1), data=st.data())
    def read(self, who: int, data: st.DataObject) -> None:
        there = sorted(self.seen[who] - FAILS.keys())
        if there:
            keys = data.draw(st.lists(st.sampled_from(there), min_size=1, max_size=8))
            self._right(self.stores[who], keys)

    @invariant()
    def all_that_was_added_is_there_and_nothing_else(self) -> None:
        for store, seen in zip(getattr(self, "stores", ()), getattr(self, "seen", ()), strict=True):
            assert {key for key in KEYS if key in store.places} == set(store.places) == seen - FAILS.keys()
            assert len(store.places) == len(seen - FAILS.keys())
            assert store.failures == {key: FAILS[key] for key in seen & FAILS.keys()}

    @staticmethod
    def _right(store: FeatureStore, keys: list[str]) -> None:
        found = store.rows(keys, [f"name {i}" for i in range(len(keys))])[torch.arange(len(keys))]
        expected = join([row_of(key) for key in keys])
        assert found.ids == tuple(f"name {i}" for i in range(len(keys)))
        for name in Arrays._fields:
            assert torch.equal(getattr(found, name), getattr(expected, name)), name


TestStored = Stored.TestCase
TestStored.settings = settings(max_examples=max(8, settings.default.max_examples // 4), stateful_step_count=20)


@settings(max_examples=max(8, settings.default.max_examples // 4))
@given(st.lists(st.sampled_from(KEYS), unique=True), st.data())
def test_however_keys_are_cut_into_shards_the_store_says_the_same(keys: list[str], data: st.DataObject) -> None:
    """In any order, in any batches, with reopening in between or not."""
    told: list[Mapping[str, str]] = []
    with TemporaryDirectory() as room, patch.object(catalogue, "LOOSE", 1), patch("os.fsync", lambda _: None):
        for name, order in (("one", keys), ("other", data.draw(st.permutations(keys)))):
            store, rest = FeatureStore.open(Path(room) / name, SPEC), list(order)
            while rest:
                size = data.draw(st.integers(1, len(rest)))
                store.add(*batch(rest[:size]))
                rest = rest[size:]
                if data.draw(st.booleans()):
                    store = FeatureStore.open(Path(room) / name, SPEC)
            again = FeatureStore.open(Path(room) / name, SPEC)
            good = [key for key in keys if key not in FAILS]
            assert set(again.places) == set(good)
            Stored._right(again, good) if good else None
            told.append(again.failures)
    assert told[0] == told[1]
