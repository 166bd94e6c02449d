"""The command line as a person meets it: results, one-line failures, exit status 2, nothing lost."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from commands import failure, heed_ctrl_c, result
from harkback.cli import main

QUICK = ["--learners", "ncm,ridge", "--sessions", "2", "--seeds", "1", "--memory", "8"]
ROW = {
    "learner",
    "mean_accuracy",
    "final_accuracy",
    "average_forgetting",
    "ci95",
    "seconds",
    "memory_bytes",
    "accuracy_per_session",
}


def test_bench_prints_what_scripts_rely_on(clips: Path, store: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    found = result(capsys, "bench", clips, "--out", out, "--store", store, *QUICK)
    assert (found["dataset"], found["encoder"], found["sessions"]) == ("my clips", "signal", [2, 2])
    assert [row["learner"] for row in found["rows"]] == ["ncm", "ridge"]
    for row in found["rows"]:
        assert row.keys() >= ROW
        assert len(row["accuracy_per_session"]) == 2
        assert row["mean_accuracy"] == pytest.approx(sum(row["accuracy_per_session"]) / 2)
        assert row["final_accuracy"] == row["accuracy_per_session"][-1]
        assert row["ci95"] is None  # One run has no interval.
    assert {path.name for path in out.glob("report.*")} == {"report.html", "report.json", "report.md", "report.tex"}


def test_a_finished_bench_is_not_run_again(clips: Path, store: Path, tmp_path: Path, capsys: Any) -> None:
    argv = ["bench", clips, "--out", tmp_path / "out", "--store", store, *QUICK]
    first = result(capsys, *argv)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").rglob("session-*")}
    assert result(capsys, *argv) == first  # The seconds too: they were read, not measured anew.
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").rglob("session-*")}


def test_flags_of_learners_come_from_their_settings(clips: Path, store: Path, tmp_path: Path, capsys: Any) -> None:
    argv = ["bench", clips, "--out", tmp_path / "out", "--store", store, *QUICK]
    usual = result(capsys, *argv)
    stiff = result(capsys, *argv, "--ridge.penalty", "1e9")
    assert usual["rows"][0]["accuracy_per_session"] == stiff["rows"][0]["accuracy_per_session"]
    facts = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert facts["settings"]["ridge"]["penalty"] == 1e9
    assert len(list((tmp_path / "out" / "runs").glob("ridge-*"))) == 2


def test_report_is_made_again_from_the_log_alone(clips: Path, store: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    first = result(capsys, "bench", clips, "--out", out, "--store", store, *QUICK)
    page = (out / "report.html").read_bytes()
    for path in out.glob("report.*"):
        path.unlink()
    shutil.rmtree(clips)
    assert result(capsys, "report", out) == first
    assert (out / "report.html").read_bytes() == page


def test_extract_says_what_it_did_and_what_it_left_out(clips: Path, store: Path, capsys: Any) -> None:
    bad = clips / "train" / "siren" / "not a film.mp4"
    bad.parent.mkdir(parents=True, exist_ok=True)
    bad.write_text("words")
    found = result(capsys, "extract", clips, "--store", store, "--workers", "0")
    assert found["encoded"] == 1 and found["clips"] == 24
    assert [skip["id"] for skip in found["skipped"]] == ["train/siren/not a film.mp4"]
    again = result(capsys, "extract", clips, "--store", store)
    assert again["encoded"] == 0 and again["skipped"] == found["skipped"]


def test_bad_clips_are_counted_skips(clips: Path, store: Path, tmp_path: Path, capsys: Any) -> None:
    classes = sorted(path for path in (clips / "train").iterdir())
    whole = sorted(classes[0].glob("*.mp4"))[0]
    spoilt = {
        "text.mp4": b"this is a text file",
        "empty.mp4": b"",
        "cut.mp4": whole.read_bytes()[:3000],
        'it\'s "quoted" é 鳥.mp4': b"no film either",
        "zz again.mp4": whole.read_bytes(),
    }
    for name, content in spoilt.items():
        (classes[0] / name).write_bytes(content)
    (clips / "train" / "empty class").mkdir()
    test_class = clips / "test" / classes[1].name
    shutil.copy(sorted(classes[1].glob("*.mp4"))[0], test_class / "leak.mp4")
    found = result(capsys, "bench", clips, "--out", tmp_path / "out", "--store", store, *QUICK)
    reasons = {skip["id"]: skip["reason"] for skip in found["skipped"]}
    assert reasons.keys() == {
        *(f"train/{classes[0].name}/{name}" for name in spoilt),
        "train/empty class",
        f"test/{classes[1].name}/leak.mp4",
    }
    assert "same content" in reasons[f"train/{classes[0].name}/zz again.mp4"]
    assert "same content" in reasons[f"test/{classes[1].name}/leak.mp4"]
    assert found["test_clips"] == 8 and found["training_clips"] == 16


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["bench", "/nowhere/at all"], ["/nowhere/at all", "no such folder"]),
        (["bench", __file__], ["is not a folder", "root/<class>/"]),
        (["nothing"], ['no command "nothing"', "bench"]),
        (["bench"], ["Missing", "--help"]),
        (["bench", ".", "--learners", "l4"], ['no learner "l4"', "l3"]),
        (["bench", ".", "--learners", " ,"], ["--learners", "is empty"]),
        (["bench", ".", "--learners", "l3@smell"], ["l3@smell", "audio"]),
        (["bench", ".", "--suite", "some"], ["--suite", "all, avcil"]),
        (["bench", ".", "--modality", "smell"], ["--modality", "both, audio, visual"]),
        (["bench", ".", "--reference", "joint", "--learners", "ncm"], ["--reference", "ncm"]),
        (["bench", ".", "--orders", "-1,2"], ["--orders"]),
        (["bench", ".", "--read-pickle"], ["--read-pickle", "holds no pickled files"]),
        (["demo", "--classes", "1"], ["--classes", "two classes"]),
        (["bench", ".", "--encoder", "ear"], ['no encoder "ear"', "signal"]),
        (["bench", ".", "--sessions", "two"], ["--sessions", '"two"', "like 5 or 3,1,2"]),
        (["bench", ".", "--seeds", "0"], ["--seeds"]),
        (["bench", ".", "--memory", "-1"], ["--memory", "negative"]),
        (["bench", ".", "--wrong", "1"], ["Unrecognized", "--wrong"]),
        (["report", "/nowhere"], ["/nowhere"]),
    ],
)
def test_wrong_arguments(argv: list[str], words: list[str], capsys: Any) -> None:
    line = failure(capsys, *argv)
    assert all(word in line for word in words), line


def test_wrong_folders(clips: Path, tmp_path: Path, capsys: Any) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no clips" in failure(capsys, "bench", empty)
    one = tmp_path / "one"
    shutil.copytree(sorted((clips / "train").iterdir())[0], one / "only class")
    assert "two classes" in failure(capsys, "bench", one, "--out", tmp_path / "out")
    table = clips / "clips.csv"
    table.write_text("path\nx.mp4\n")
    assert "no column label" in failure(capsys, "bench", clips)
    table.write_text("path,label\n../../etc/passwd,secret\n")
    assert "leaves the folder" in failure(capsys, "bench", clips)


def test_sessions_that_do_not_fit(clips: Path, store: Path, tmp_path: Path, capsys: Any) -> None:
    argv = ["bench", clips, "--out", tmp_path / "out", "--store", store, "--learners", "ncm"]
    assert "4 classes cannot be cut into 9" in failure(capsys, *argv, "--sessions", "9")
    assert "are 5 in all" in failure(capsys, *argv, "--sessions", "2,3")


def test_a_class_with_one_clip_is_left_out_by_name(clips: Path, store: Path, tmp_path: Path, capsys: Any) -> None:
    loose = tmp_path / "loose"
    for folder in (clips / "train").iterdir():
        shutil.copytree(folder, loose / folder.name)
    lonely = sorted(path.name for path in loose.iterdir())[0]
    for path in sorted((loose / lonely).iterdir())[1:]:
        path.unlink()
    found = result(
        capsys, "bench", loose, "--out", tmp_path / "out", "--store", store, "--learners", "ncm", "--sessions", "3"
    )
    (skip,) = found["skipped"]
    assert f'class "{lonely}" is left out' in skip["reason"]


def test_another_encoders_store_is_refused(clips: Path, store: Path, tmp_path: Path, capsys: Any) -> None:
    other = tmp_path / "other"
    shutil.copytree(store, other)
    facts = json.loads((other / "store.json").read_text())
    facts["key"], facts["encoder"]["name"] = "0" * 16, "sam-audio"
    (other / "store.json").write_text(json.dumps(facts))
    line = failure(capsys, "bench", clips, "--out", tmp_path / "out", "--store", other, *QUICK)
    assert "sam-audio" in line and "signal" in line and "--store" in line


def test_doctor_knows_what_is_here(capsys: Any) -> None:
    main(["doctor", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["encoders"]["signal"].startswith("ready")
    assert {"l3", "finetune", "joint", "ncm", "ridge"} <= set(found["learners"])
    main(["doctor"])
    assert "signal: ready" in capsys.readouterr().out


def test_help_tells_defaults(capsys: Any) -> None:
    for command in ("demo", "bench", "extract", "report", "doctor"):
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
        told = capsys.readouterr().out
        assert "default" in told or command in ("report", "doctor")
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    assert "--l3.train.epochs" in capsys.readouterr().out


#: One thread: these commands share the cores with the tests.
ALONE = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(*argv: str | Path) -> list[str]:
    return [sys.executable, "-c", "from harkback.cli import main; main()", *(str(word) for word in argv)]


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_loses_nothing(clips: Path, tmp_path: Path) -> None:
    argv = command("extract", clips, "--store", tmp_path / "features", "--workers", "0", "--json")

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))

    full = subprocess.run(argv, capture_output=True, text=True, env=ALONE, preexec_fn=small_files)
    assert full.returncode == 2 and "Traceback" not in full.stderr
    assert full.stderr.strip().splitlines()[-1].startswith("harkback: ")
    then = subprocess.run(argv, capture_output=True, text=True, env=ALONE)
    assert then.returncode == 0 and json.loads(then.stdout)["clips"] == 24


@pytest.mark.slow
def test_ctrl_c_is_one_line_and_the_next_run_goes_on(clips: Path, tmp_path: Path) -> None:
    argv = command("extract", clips, "--store", tmp_path / "features", "--workers", "1", "--json")
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ALONE, preexec_fn=heed_ctrl_c)
    assert process.stderr is not None
    said = b""
    while not re.search(rb"\| [1-9]\d*/24", said):  # The bar says that some clips are encoded.
        said += os.read(process.stderr.fileno(), 4096)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 2 and b"Traceback" not in said + rest
    assert b"stopped" in rest.strip().splitlines()[-1]
    then = subprocess.run(argv, capture_output=True, text=True, env=ALONE)
    assert 0 < json.loads(then.stdout)["encoded"] < 24


@pytest.mark.slow
def test_a_bench_killed_three_times_gives_the_same_result(clips: Path, tmp_path: Path) -> None:
    def argv(out: Path) -> list[str]:
        quick = ["--l3.train.epochs", "8", "--joint.train.epochs", "8", "--finetune.train.epochs", "8"]
        return command(
            "bench", clips, "--out", out, "--sessions", "4", "--memory", "8", "--seeds", "2", "--json", *quick
        )

    def numbers(said: str) -> dict[str, Any]:
        found = json.loads(said)
        for row in found["rows"]:
            assert row.pop("seconds") > 0  # What no two runs share.
            assert min(row.pop("seconds_per_session")) > 0
        return found

    began = time.monotonic()
    straight = subprocess.run(argv(tmp_path / "straight"), capture_output=True, text=True, check=True)
    whole = time.monotonic() - began
    for share in (0.35, 0.5, 0.65):  # Each start skips what is done, so these fall at different places.
        process = subprocess.Popen(argv(tmp_path / "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=share * whole)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    last = subprocess.run(argv(tmp_path / "killed"), capture_output=True, text=True, check=True)
    assert numbers(last.stdout) == numbers(straight.stdout)
