"""Extraction and benches on a Ray cluster of two machines, which lose one another: the result is a single process's."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import stored
from clusters import DIGITS, Two, lists, measured, once, store_of
from commands import failure, result
from fakes import Fake, tone, tones
from harkback.cli import main
from harkback.clips import Clip
from harkback.cluster import joined
from harkback.decoding import Failed
from harkback.errors import HarkbackError
from harkback.extract import extract

# Of settings that Ray makes itself.
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*")]


@pytest.fixture(scope="module")
def two() -> Iterator[Two]:
    with Two() as found:
        yield found


# ---- extraction -----------------------------------------------------------------------------------------------------


def test_the_store_is_that_of_one_process(
    two: Two, folder: Path, alone: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = result(capsys, "extract", folder, "--store", tmp_path / "store", "--on", two.address)
    assert store_of(tmp_path / "store") == alone
    assert [skip["id"] for skip in told["skipped"]] == (["class 1/no sound.wav"] if folder != DIGITS else [])
    again = result(capsys, "extract", folder, "--store", tmp_path / "store", "--on", two.address)
    assert again["encoded"] == 0
    assert store_of(tmp_path / "store") == alone
    alone_again = result(capsys, "extract", folder, "--store", tmp_path / "store", "--workers", "0")
    assert alone_again["encoded"] == 0


def test_a_driver_that_is_killed_and_started_again_goes_on(
    two: Two, folder: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    root = tmp_path / "store"
    program = "import clusters; clusters.on_loopback().start(); from harkback.cli import main; main()"
    command = [sys.executable, "-c", program, "extract", folder, "--store", root]
    command += ["--on", two.address, "--json"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    once(lambda: lists(root) > 0, partial(first.send_signal, signal.SIGKILL)).join()
    assert first.wait() == -signal.SIGKILL
    kept = {name: file for name, file in store_of(root).items() if (root / name).with_suffix(".json").exists()}
    assert kept.items() < alone.items()
    told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert 0 < told["encoded"] < told["clips"]
    assert store_of(root) == alone
    assert not (root / ".parts").exists()


def test_parts_that_a_killed_driver_left_are_not_made_again(two: Two, tmp_path: Path) -> None:
    """The first block is poison to the driver: that its part is taken in ends it, while the others are finished."""
    clips = tones(tmp_path / "clips", 150)
    root, tally = tmp_path / "store", tmp_path / "tally"
    tally.mkdir()
    encoder = Fake(tally=str(tally))

    class Killed(BaseException):
        pass

    def die(_: Clip) -> None:
        while len([*(root / ".parts").glob("*.json")]) < 2:
            time.sleep(0.01)
        raise Killed

    with joined(two.address) as machines, pytest.raises(Killed):
        extract(clips, encoder, root, on=machines, tell=die)
    assert (lists(root), len([*tally.iterdir()])) == (1, 150)
    with joined(two.address) as machines:
        found = extract(clips, encoder, root, on=machines)
    assert (found.encoded, len([*tally.iterdir()])) == (86, 150)  # All 86 were taken in, none was encoded again.
    extract(clips, Fake(), tmp_path / "alone", workers=0)
    assert store_of(root) == store_of(tmp_path / "alone")


def test_what_fails_fails_as_in_one_process(two: Two, tmp_path: Path) -> None:
    clips = tones(tmp_path / "clips", 70)
    tone(clips[5].path, 500, 0.95)  # It takes its process down.
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    clips[66:66] = [Clip("broken", tmp_path / "broken.wav", "x"), Clip("gone", tmp_path / "gone.wav", "x")]
    with joined(two.address) as machines:
        found = extract(clips, Fake(poison="exit"), tmp_path / "store", on=machines)
    expected = extract(clips, Fake(poison="exit"), tmp_path / "alone", workers=1)
    assert found.skips == expected.skips
    assert {skip.id for skip in found.skips} == {"05.wav", "broken", "gone"}
    assert store_of(tmp_path / "store") == store_of(tmp_path / "alone")


def test_a_full_disk_is_said_in_one_line_and_parts_are_kept(two: Two, tmp_path: Path) -> None:
    """Here: a file where the folder of parts should be."""
    clips = tones(tmp_path / "clips", 3)
    extract(clips[:1], Fake(), tmp_path / "store", workers=0)
    (tmp_path / "store" / ".parts").write_bytes(b"")
    with joined(two.address) as machines, pytest.raises(HarkbackError, match=r"\.parts") as caught:
        extract(clips, Fake(), tmp_path / "store", on=machines)
    assert "Traceback" not in str(caught.value) and "\n" not in str(caught.value)
    assert lists(tmp_path / "store") == 1


def test_what_a_machine_lacks_is_said_in_one_line(two: Two, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """An encoder whose code lies on this machine alone."""
    code = tmp_path / "only_here.py"
    code.write_text("from fakes import Fake\nclass Local(Fake): pass\n")
    sys.path.insert(0, str(tmp_path))
    try:
        from only_here import Local  # type: ignore[import-not-found]

        with joined(two.address) as machines, pytest.raises(HarkbackError, match=r"only_here.*same on all") as e:
            extract(tones(tmp_path / "clips", 3), Local(), tmp_path / "store", on=machines)
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("only_here", None)
    assert "\n" not in str(e.value)
    assert "Traceback" not in capfd.readouterr().err


def test_a_store_that_a_machine_does_not_see(two: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import clusters
    from harkback.cluster import machines as module

    monkeypatch.setattr(module, "_seen", clusters.blind)
    with joined(two.address) as machines, pytest.raises(HarkbackError, match=r"store: is not seen by .*--store"):
        extract(tones(tmp_path / "clips", 3), Fake(), tmp_path / "store", on=machines)
    monkeypatch.setattr(module, "_seen", clusters.of_another_version)
    with joined(two.address) as machines, pytest.raises(HarkbackError, match=r"harkback 0\.0\.1.*same version"):
        extract(tones(tmp_path / "clips", 3), Fake(), tmp_path / "store", on=machines)


def test_what_is_relative_is_so_to_the_folder_of_the_command(
    two: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The machines are in another."""
    for i in range(8):
        tone(tmp_path / "clips" / "ab"[i % 2] / f"{i}.wav", 300 + 50 * i)
    monkeypatch.chdir(tmp_path)
    words = ["clips", "--store", "store", "--on", two.address]
    assert result(capsys, "extract", *words)["clips"] == 8
    more = ["--learners", "hark", "--sessions", "2", "--seeds", "1", "--out", "out"]
    assert result(capsys, "bench", *words, *more)["unfinished"] == []
    assert [*Path("out").glob("runs/*/session-01.json")]


@pytest.mark.parametrize("kind", ["webdataset", "parquet"])
def test_clips_in_shards_behind_a_url(kind: str, two: Two, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips = stored.sounds(tmp_path)
    url = f"file://{tmp_path / kind}"
    stored.put(url, stored.tars(clips) if kind == "webdataset" else stored.tables(clips))
    told = result(capsys, "extract", url, "--store", tmp_path / "store", "--on", two.address)
    assert (told["clips"], told["encoded"]) == (len(clips), len(set(clips.values())))
    result(capsys, "extract", url, "--store", tmp_path / "alone", "--workers", "0")
    assert store_of(tmp_path / "store") == store_of(tmp_path / "alone")


def test_a_defect_of_an_encoder_is_said_in_one_line(tmp_path: Path) -> None:
    from harkback.cluster import blocks
    from harkback.parts import Parts

    def outcomes() -> Iterator[Any]:
        yield "key", Failed("it is torn", lasting=True)
        raise RuntimeError("CUDA error:\nsomething")

    block = blocks.Block({"key": tones(tmp_path, 1)[0]})
    told = blocks._write(block, outcomes(), Fake(), Parts(tmp_path / "store"))["failed"]
    assert "fake failed with RuntimeError: CUDA error:" in told and "\n" not in told


# ---- benches --------------------------------------------------------------------------------------------------------


def without_seconds(facts: Any) -> Any:
    if isinstance(facts, dict):
        return {name: without_seconds(fact) for name, fact in facts.items() if not name.startswith("seconds")}
    return [without_seconds(fact) for fact in facts] if isinstance(facts, list) else facts


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_bench_gives_the_same_json(two: Two, classes: Path, tmp_path: Path) -> None:
    """3 learners x 3 seeds."""
    from harkback.report import write_report

    here = measured(classes, tmp_path / "here", None, "l3", "ncm", "ridge", seeds=(0, 1, 2))
    there = measured(classes, tmp_path / "there", two.address, "l3", "ncm", "ridge", seeds=(0, 1, 2))
    assert there.failed == {} and len(there.runs) == 9
    for name in ("here", "there"):
        write_report(tmp_path / name)
    assert (tmp_path / "here" / "bench.json").read_bytes() == (tmp_path / "there" / "bench.json").read_bytes()
    assert without_seconds(read(tmp_path / "here" / "report.json")) == without_seconds(
        read(tmp_path / "there" / "report.json")
    )
    for one, other in zip(here.runs, there.runs, strict=True):
        assert one.done() == other.done() == 2
        assert all(torch.equal(one.scores(t), other.scores(t)) for t in range(2))


def test_what_fails_for_good_is_shown_and_the_rest_is_kept(
    two: Two, classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["bench", classes, "--learners", "finetune,ncm", "--sessions", "2,1", "--seeds", "2", "--out", out]
    words += ["--finetune.train.epochs", "3", "--finetune.train.rate", "1e30", "--on", two.address]
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    said = capsys.readouterr()
    assert stop.value.code == 2
    last = said.err.rstrip("\n").splitlines()[-1].split("\r")[-1]
    assert (
        last.startswith(f"harkback: {out}: 2 of 4 runs failed") and "not finite" in last and "Traceback" not in said.err
    )
    assert said.out.count("Failed, and left out of all numbers: finetune") == 2
    facts = read(out / "bench.json")
    assert [("failed" in run, run["learner"]) for run in facts["runs"]] == [(True, "finetune"), (False, "ncm")] * 2
    rows = {row["learner"]: row for row in read(out / "report.json")["rows"]}
    assert (rows["finetune"]["runs"], rows["ncm"]["runs"]) == (0, 2)


# ---- joining --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "127.0.0.1:"])
def test_a_cluster_that_is_not_there(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tones(tmp_path / "clips" / "a", 2)
    said = failure(capsys, "extract", tmp_path / "clips", "--store", tmp_path / "store", "--on", f"ray://{address}")
    assert f"ray://{address}: cannot be joined" in said and "ray start" in said


def test_a_cluster_of_this_machine_alone_asks_who_comes(tmp_path: Path) -> None:
    """In a process of its own: it is Ray's import that reads what is asked for."""
    tones(tmp_path / "clips" / "a", 5)
    apart = tempfile.mkdtemp(prefix="ray-")  # From the cluster of the other tests; with a short name, for sockets.
    program = f"""
import os, subprocess, sys
from harkback.cluster import joined
with joined("ray"):
    import ray
    address = ray.get_runtime_context().gcs_address
    code = "import ray; ray.init(address={{!r}}); print(ray.nodes())".format(address)
    env = {{name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}}
    stranger = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    assert stranger.returncode and not stranger.stdout and "token" in stranger.stderr.lower(), stranger
    from harkback.cli import main
    main(["extract", {str(tmp_path / "clips")!r}, "--store", {str(tmp_path / "store")!r}, "--on", "ray", "--json"])
"""
    env = {**os.environ, "RAY_TMPDIR": apart}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=120)
    shutil.rmtree(apart)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["clips"] == 5
