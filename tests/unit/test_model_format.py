"""A model of today opens in every later release: the folder `tests/golden/model-format-1` was written by 0.1.0.

It is never written again. When the format changes, a folder of the new one comes to stand beside it:

    python tests/unit/test_model_format.py tests/golden/model-format-N
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))  # For the script that records, as `conftest.py` does for the tests.

from fakes import random_features
from harkback.encoders import open_encoder
from harkback.model import Model
from harkback.pupil import Pupil
from harkback.pupil_files import contents, ledger_file, restored
from harkback.vault import Vault

GOLDEN = Path(__file__).parents[1] / "golden"
FOLDERS = sorted(GOLDEN.glob("model-format-*"))


def scores(model: Model) -> Tensor:
    return model.learner.scores(random_features(3, 5, open_encoder("signal").spec.shape))


def record(path: Path) -> None:
    """Two sessions, so that there is a version before; few clips, so that the folder is small."""
    shape = open_encoder("signal").spec.shape
    pupil, vault = Pupil.new("ncm", None, open_encoder("signal").spec, memory=1), Vault(path)
    for seed, labels in enumerate((["siren", "Ära"] * 3, ["duck 🦆"] * 2 + ["siren"])):
        pupil.teach(random_features(len(labels), seed, shape), labels, skipped=0, window=2.0)
        pupil.version += 1
        name = ledger_file(pupil.version)
        pupil.ledger = [*pupil.ledger, name]
        with vault.changing(print):
            vault.commit(contents(pupil, "rover", {name: pupil.entries()}))
    (path / ".lock").unlink()
    (path / "scores.json").write_text(json.dumps(scores(Model(path)).tolist()) + "\n")


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "rover"
    shutil.copytree(request.param, path)
    return path


def test_it_answers_as_when_it_was_written(folder: Path) -> None:
    model = Model(folder)
    assert model.classes == ("siren", "Ära", "duck 🦆")
    expected = torch.tensor(json.loads((folder / "scores.json").read_text()))
    torch.testing.assert_close(scores(model), expected, rtol=1e-5, atol=1e-6)


def test_it_can_be_taught_made_to_forget_and_stepped_back(folder: Path) -> None:
    vault = Vault(folder)
    pupil = vault.read(restored)
    pupil.teach(random_features(4, 7, open_encoder("signal").spec.shape), ["bell"] * 4, skipped=0, window=2.0)
    assert pupil.classes == ("siren", "Ära", "duck 🦆", "bell")
    model = Model(folder)
    assert model.forget("Ära") == "exactly"
    assert model.classes == ("siren", "duck 🦆")
    model.undo()
    assert model.classes == ("siren",)


if __name__ == "__main__":
    record(Path(sys.argv[1]))
