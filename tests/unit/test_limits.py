"""Settings that cannot be are told when a learner is made: not by a traceback after hours of encoding, nor never."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from commands import failure
from harkback.contestants import changed
from harkback.errors import HarkbackError
from harkback.limits import check_limits
from harkback.network import Network, NetworkSettings
from harkback.registry import LEARNERS

BEYOND = [
    ("l3", {"train.epochs": 0}, "l3.train: epochs is 0; give 1 or more"),
    ("l3", {"train.batch": 0}, "l3.train: batch is 0"),
    ("finetune", {"train.batch": -2}, "batch is -2"),
    ("ssil", {"train.replay": -3}, "replay is -3"),
    ("lwf", {"train.rate": -1.0}, "rate is -1"),
    ("lwf", {"train.rate": float("inf")}, "rate is inf"),
    ("joint", {"train.decay": -1.0}, "decay is -1"),
    ("l3", {"train.mute": 0.9}, "mute is 0.9; give 0 to 0.5"),  # Most clips would have lost sound and picture.
    ("l3", {"network.heads": 7}, "width of 256 cannot be shared out among 7 heads"),
    ("l3", {"network.heads": 0}, "heads is 0"),
    ("icarl", {"network.width": 0}, "width is 0"),
    ("l3", {"network.key_dim": 0}, "key_dim is 0"),
    ("l3", {"network.dropout": 1.5}, "dropout is 1.5"),
    ("l3", {"temperature": 0.0}, "l3: temperature is 0"),
    ("l3", {"feature_weight": float("nan")}, "feature_weight is nan"),
    ("ssil", {"temperature": -2.0}, "temperature is -2"),
    ("avcil", {"contrast_temperature": 0.0}, "contrast_temperature is 0"),
    ("lwf", {"temperature": -1.0}, "temperature is -1"),
    ("afc", {"weight": -1.0}, "weight is -1"),
    ("klda", {"features": 0}, "klda: features is 0"),
    ("ranpac", {"features": 0}, "ranpac: features is 0"),
    ("mmal", {"features": -1}, "mmal: features is -1"),
    ("hark", {"passes": 0}, "hark: passes is 0"),
    ("hark", {"features": -1}, "hark: features is -1"),
]


@pytest.mark.parametrize(("learner", "changes", "says"), BEYOND)
def test_a_setting_beyond_its_limits_makes_no_learner(learner: str, changes: dict[str, Any], says: str) -> None:
    kind = LEARNERS.load(learner)
    with pytest.raises(HarkbackError, match=says):
        kind(changed(kind.Settings(), changes))


def test_the_command_line_says_it_before_any_clip_is_encoded(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        for number in "12":
            (tmp_path / label / number).write_text("no clip")
    said = failure(capsys, "bench", tmp_path, "--learners", "finetune", "--finetune.train.batch", "0")
    assert "finetune.train: batch is 0; give 1 or more" in said


def test_limits_are_of_settings_that_there_are_and_allow_the_defaults() -> None:
    seen = 0
    for name in LEARNERS.names():
        for settings in _all(LEARNERS.load(name).Settings()):
            limits = getattr(settings, "LIMITS", {})
            assert set(limits) <= {field.name for field in fields(settings)}
            check_limits(name, settings, **limits)
            seen += len(limits)
    assert seen > 50


def test_heads_are_of_one_body_alone() -> None:
    Network(NetworkSettings(body="avcil", width=10, heads=8))  # It has none, so nothing is shared out.


def _all(settings: Any) -> Iterator[Any]:
    yield settings
    for field in fields(settings):
        if is_dataclass(inner := getattr(settings, field.name)):
            yield from _all(inner)
