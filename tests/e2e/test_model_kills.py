"""A model is killed at every step of every change: it is always one of the two states, and the next command goes on.

The kills are made by this file run as a script: it loads everything once, and forks a process for each step.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parents[1]
CHANGES = ("make", "extend", "extend without a store", "extend and drop the oldest", "undo", "forget")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What became of every kill, by change."""
    root = tmp_path_factory.mktemp("kills")
    argv = [sys.executable, __file__, str(root), *CHANGES]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    done = subprocess.run(argv, capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_a_kill_at_any_step_leaves_one_of_the_two_states_and_the_next_command_goes_on(
    told: dict[str, Any], change: str
) -> None:
    found = told[change]
    assert found["wrong"] == []
    assert found["left"].count("old") >= 4  # Else the steps were not counted, or all fell after the commit.
    assert found["left"].count("new") >= 4
    assert found["left"] == sorted(found["left"], reverse=True)  # There is one moment at which it happens.


@pytest.mark.slow
def test_a_kill_while_a_killed_change_is_put_in_order_does_no_harm(told: dict[str, Any]) -> None:
    found = told["twice"]
    assert found["wrong"] == []
    assert found["kills"] > 50


# ---- the script ------------------------------------------------------------------------------------------------------

MARKS = ("time", "seconds")  #: what two runs do not share
CHANGING = {"os.mkdir", "os.rmdir", "os.remove", "os.rename", "os.link", "os.symlink", "os.truncate"}


def steps_in(folder: Path, kill_at: int) -> None:
    """This process ends before the ``kill_at``-th change of a file in the folder, whoever makes it."""
    inside, count = str(folder.resolve()), 0

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal count
        if event == "open":
            if not isinstance(args[2], int) or not args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
            paths = [where(args[0])]
        elif event in ("os.mkdir", "os.rmdir", "os.remove"):
            paths = [where(args[0], args[-1])]
        elif event in ("os.rename", "os.link"):
            paths = [where(args[0], args[2]), where(args[1], args[3])]
        elif event in CHANGING:
            paths = [where(args[0])]
        else:
            return
        # In the room in which one file is being written nothing is anybody's; kills there are drawn (`trials.kills`).
        if any(path == inside or path.startswith(f"{inside}/") for path in paths if ".room." not in path):
            count += 1
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def where(path: Any, folder: int = -1) -> str:
    """The whole path; folder: descriptor of the folder that it is relative to."""
    if isinstance(path, int):
        return ""
    path = os.fsdecode(path)
    return str((Path(f"/proc/self/fd/{folder}").readlink() if folder >= 0 else Path.cwd()) / path)


def survives(folder: Path, change: Callable[[Path], object], kill_at: int) -> bool:
    """Whether the change ran through, in a process of its own."""
    child = os.fork()
    if child == 0:
        try:
            steps_in(folder, kill_at)
            change(folder)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return False
    assert status == 0, f"the change failed with {status}"
    return True


def plain(facts: Any) -> Any:
    """Without what no two runs share."""
    if isinstance(facts, dict):
        return {name: plain(value) for name, value in facts.items() if name not in MARKS}
    return [plain(value) for value in facts] if isinstance(facts, list) else facts


def seen(version: Any) -> Any:
    """All that a version holds; reading an array checks its file's bytes against model.json."""
    for name in version.facts["files"]:
        version.arrays(name)
    return plain(version.facts)


def state(folder: Path) -> Any:
    """What a reader finds; None: no model."""
    from harkback.vault import Vault

    vault = Vault(folder)
    return vault.read(seen) if vault.exists else None


def all_of(folder: Path, but: str = " ") -> Any:
    """A model at rest: what it holds, what its versions before hold, and the names of all files but some."""
    from harkback.vault import Vault

    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    names = [name for name in names if not name.startswith(but)]
    return state(folder), [seen(version) for version in Vault(folder).versions()], names


def put(base: Path | None, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    if base is not None:
        shutil.copytree(base, folder)
    return folder


def kills(base: Path | None, folder: Path, change: Callable[[Path], object], again: str) -> dict[str, Any]:
    """Kill a change at every step. again: what the same change says when it has happened already; "": it goes on."""
    from harkback.errors import HarkbackError

    old = state(put(base, folder)) if base else None
    change(put(base, folder))
    end = all_of(folder)
    if not again:
        change(folder)
        further = all_of(folder)
    left: list[str] = []
    wrong: list[str] = []
    while not survives(put(base, folder), change, len(left) + 1):
        now = state(folder)
        left.append("old" if now == old else "new" if now == end[0] else "neither")
        said = ""
        try:
            change(folder)
        except HarkbackError as error:
            said = str(error)
        happened = left[-1] == "new"
        if left[-1] == "neither" or bool(said) != (happened and bool(again)) or (said and again not in said):
            wrong.append(f"step {len(left)}: {left[-1]}, then said: {said}")
        elif all_of(folder, but=".features" if said else " ") != (further if happened and not again else end):
            wrong.append(f"step {len(left)}: {left[-1]}, and ended as {all_of(folder)[2]}")
    if all_of(folder) != end:
        wrong.append("a change that was not killed ended otherwise")
    return {"left": left, "wrong": wrong}


def kills_twice(base: Path, folder: Path, change: Callable[[Path], object]) -> dict[str, Any]:
    """Kill a change at every step after it has happened, and whoever puts that in order too, at every third."""
    from harkback.vault import Vault

    def order(folder: Path) -> None:
        with Vault(folder).changing(print):
            pass

    change(put(base, folder))
    end = all_of(folder)
    old, count, first, wrong = state(put(base, folder)), 0, 0, []
    while not survives(put(base, folder), change, first := first + 1):
        if state(folder) == old:
            continue
        half = put(folder, folder.with_name("half"))
        second = first % 3 - 2
        while not survives(put(half, folder), order, second := second + 3):
            count += 1
            if state(folder) != end[0]:
                wrong.append(f"steps {first} and {second}: neither")
            order(folder)
            if all_of(folder) != end:
                wrong.append(f"steps {first} and {second}: ended as {all_of(folder)[2]}")
    return {"kills": count, "wrong": wrong}


def run(root: Path) -> dict[str, Any]:
    import torch

    from fakes import Fake, tone
    from harkback import registry, teaching
    from harkback.model import Model, undo
    from harkback.teaching import Making, teach

    torch.set_num_threads(1)
    registry.entry_points = lambda **_: ()  # type: ignore[assignment]  # To look for them is half of a session's time.
    os.fsync = lambda _: None  # What is killed here is the process, not the machine.
    teaching.open_encoder = lambda *_, **__: Fake(name="signal", revision="of a test")  # type: ignore[assignment]
    for session, names in enumerate((("low", "deep"), ("high",), ("shrill",))):
        for pitch, name in enumerate(names):
            for i in range(6):
                tone(root / f"clips-{session}" / name / f"{i}.wav", 150 + 700 * session + 300 * pitch + 5 * i)

    def lesson(session: int, store: bool, **made: Any) -> Callable[[Path], object]:
        making = Making(learner="ncm", memory=8, **made)
        where = root / "features" if store else None
        return partial(teach, clips=root / f"clips-{session}", making=making, store=where, force=True)

    one, two, three, short = (root / "bases" / name / "model" for name in ("one", "two", "three", "short"))
    for base, sessions, history in ((one, 1, 3), (two, 2, 3), (three, 3, 3), (short, 2, 1)):
        for session in range(sessions):
            lesson(session, True, history=history)(base)
    folder, learnt = root / "model", "nothing new to learn"
    twice = kills_twice(three, folder, lambda folder: Model(folder).forget("deep"))
    return {
        "make": kills(None, folder, lesson(0, True), learnt),
        "extend": kills(one, folder, lesson(1, True), learnt),
        "extend without a store": kills(one, folder, lesson(1, False), learnt),
        "extend and drop the oldest": kills(short, folder, lesson(2, True), learnt),
        "undo": kills(three, folder, undo, ""),
        "forget": kills(three, folder, lambda folder: Model(folder).forget("deep"), "knows no class"),
        "twice": twice,
    }


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]))))
