"""Extraction and benches on a Ray cluster of two machines, which lose one another: the result is a single process's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from clusters import Two, store_of
from commands import failure, result
from fakes import Fake, tone, tones
from harkback.clips import Clip
from harkback.cluster import joined
from harkback.errors import HarkbackError
from harkback.extract import Extraction, extract

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*")]
DIGITS = Path(__file__).parents[3] / "shared" / "data" / "spoken-digits"


@pytest.fixture(scope="module")
def two() -> Iterator[Two]:
    with Two() as found:
        yield found


def test_first(two: Two, tmp_path: Path) -> None:
    clips = tones(tmp_path / "clips", 150)
    t = time.time()
    with joined(two.address) as machines:
        found = extract(clips, Fake(pause=0.01), tmp_path / "store", on=machines)
    print(time.time() - t)
    extract(clips, Fake(pause=0.01), tmp_path / "alone", workers=0)
    assert store_of(tmp_path / "store") == store_of(tmp_path / "alone")
