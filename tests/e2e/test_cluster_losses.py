"""Clusters that lose a machine, or have others: each test has one of its own, as a process can be in one at a time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from clusters import Two, lists, measured, once, store_of
from fakes import Fake, Lethal, small, tones
from harkback.cluster import joined
from harkback.datasets import open_dataset
from harkback.encoders import Opening
from harkback.errors import HarkbackError
from harkback.extract import extract
from harkback.learners.base import Learner
from harkback.registry import LEARNERS
from tiny_models import sam_audio_folder

# Of settings that Ray makes itself.
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*")]


def test_a_machine_that_is_lost_changes_nothing(folder: Path, alone: dict[str, bytes], tmp_path: Path) -> None:
    root, begun = tmp_path / "store", -1
    dataset = open_dataset(str(folder))
    clips = [clip for part in dataset.splits.values() for clip in part]
    with Two() as cluster, joined(cluster.address) as machines:

        def kill() -> None:
            nonlocal begun
            cluster.kill(cluster.nodes[0])
            begun = lists(root)

        watch = once(lambda: lists(root) > 0, kill)
        extract(clips, Opening("signal").open(), root, on=machines)
        watch.join()
    assert 0 < begun < sum(name.startswith("0") and name.endswith("json") for name in alone)
    assert store_of(root) == alone


@pytest.mark.parametrize("gpus", [0, 1])
def test_an_encoder_with_a_device_is_opened_where_that_is(
    gpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With GPUs (none is there: the machines say that they have one) decoding and encoding are apart."""
    sam_audio_folder(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    opening = Opening("sam-audio", "model")
    clips = tones(tmp_path / "clips", 70)
    with Two(num_gpus=gpus) as cluster, joined(cluster.address) as machines:
        assert machines is not None
        encoder = machines.opened(opening)
        with pytest.raises(TypeError, match="somewhere else"):
            encoder.encode([])
        found = extract(clips, encoder, tmp_path / "store", on=machines)
        with pytest.raises(HarkbackError, match="cannot be sent"):
            extract(tones(tmp_path / "more", 1), Fake(in_workers=False), tmp_path / "other", on=machines)
    here = opening.open()
    assert encoder.spec == here.spec
    one = extract(clips, here, tmp_path / "alone", workers=0)
    assert found.keys == one.keys
    assert store_of(tmp_path / "store") == store_of(tmp_path / "alone")


def test_a_machine_that_is_lost_in_a_bench_changes_nothing(classes: Path, tmp_path: Path) -> None:
    slow = {"l3": replace_epochs(LEARNERS.load("l3"), 150)}
    out = tmp_path / "there"
    with Two() as cluster:

        def sessions() -> int:
            return len([*out.glob("runs/*/session-*.json")])

        watch = once(lambda: sessions() > 1, lambda: cluster.kill(cluster.nodes[1]))
        there = measured(classes, out, cluster.address, "l3", seeds=(0, 1, 2, 3), settings=slow)
        watch.join()
    here = measured(classes, tmp_path / "here", None, "l3", seeds=(0, 1, 2, 3), settings=slow)
    assert there.failed == {}
    for one, other in zip(here.runs, there.runs, strict=True):
        assert all(torch.equal(one.scores(t), other.scores(t)) for t in range(2))


def test_a_block_that_takes_each_process_down_ends_the_command(tmp_path: Path) -> None:
    """As one that needs more memory than there is: Ray itself would begin it anew for ever."""
    clips = tones(tmp_path / "clips", 3)
    with Two() as cluster, joined(cluster.address) as machines:
        with pytest.raises(HarkbackError, match="was lost 4 times, perhaps for want of memory; run the same") as caught:
            extract(clips, Lethal(), tmp_path / "store", on=machines)
        assert "\n" not in str(caught.value)
        found = extract(clips, Fake(), tmp_path / "store", on=machines)
    assert found.skips == () and found.encoded == 3


def replace_epochs(kind: type[Learner[Any]], epochs: int) -> Any:
    settings = small(kind.Settings())
    return replace(settings, train=replace(settings.train, epochs=epochs))


def test_what_is_broken_off_ends_while_its_cluster_is_there() -> None:
    """What Ray Data would say of an iterator that ends too late, and did in a traceback after Ctrl-C."""
    program = """
from time import sleep
from harkback.cluster import joined

def broken_off():
    import ray

    def slow(row):
        sleep(0.2)
        return row

    rows = iter(ray.data.range(64, override_num_blocks=64).map(slow).iter_rows())
    next(rows)
    raise KeyboardInterrupt

try:
    with joined("ray"):
        broken_off()
except KeyboardInterrupt:
    print("told")
"""
    apart = tempfile.mkdtemp(prefix="ray-")  # With a short name, for sockets.
    env = {**os.environ, "RAY_TMPDIR": apart}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=120)
    shutil.rmtree(apart)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "told", done.stderr
    said = done.stdout + done.stderr
    assert "Dataset" in said and "not initialized" not in said and "Traceback" not in said
