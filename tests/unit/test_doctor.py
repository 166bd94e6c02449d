"""The doctor on encoders that need a model, against encoders of our own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from harkback import doctor
from harkback.doctor import examine, told
from harkback.registry import ENCODERS, Registry

FILES = ("config.json", ("model.safetensors", "model.safetensors.index.json"))


class NeedsModel:
    """As a real one, but nothing may be made of it: that would load a model."""

    MODELS = ("owner/small", "owner/large")
    GATED = True
    spec = encode = None

    def __init__(self, folder: Path) -> None:
        raise AssertionError("the doctor loads no models")

    @classmethod
    def from_pretrained(cls, folder_or_id: str) -> NeedsModel:
        raise AssertionError("the doctor loads no models")


class NeedsPackage(NeedsModel):
    REQUIRES = ("torch", "no-such-package")
    EXTRA = "such"


class NeedsForeign(NeedsPackage):
    EXTRA = None


class Bare(NeedsModel):
    MODELS = ()


def state_of(kind: type[Any], monkeypatch: pytest.MonkeyPatch) -> str:
    load = Registry.load
    monkeypatch.setattr(Registry, "names", lambda self: ["it"] if self == ENCODERS else [])
    monkeypatch.setattr(Registry, "load", lambda self, name: kind if name == "it" else load(self, name))
    facts = examine()
    assert f"encoder    it: {facts['encoders']['it']}" in told(facts)
    return str(facts["encoders"]["it"])


def test_an_encoder_without_its_packages_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = 'cannot run here: lacks no-such-package; pip install "harkback[such]"'
    assert state_of(NeedsPackage, monkeypatch) == expected
    assert state_of(NeedsForeign, monkeypatch) == "cannot run here: lacks no-such-package; pip install no-such-package"


def test_an_encoder_that_needs_a_model_says_which_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    assert state_of(NeedsModel, monkeypatch) == (
        "ready; give it --model owner/small (gated) or a folder; there are also owner/large; downloaded: none"
    )
    assert state_of(Bare, monkeypatch) == "ready; give it --model FOLDER; downloaded: none"


def test_models_that_are_here_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    constants = pytest.importorskip("huggingface_hub.constants", reason='pip install "harkback[hub]"')
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for model in NeedsModel.MODELS:  # One is whole, of the other only the first file came.
        snapshot = tmp_path / f"models--{model.replace('/', '--')}" / "snapshots" / "abc"
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").touch()
        (snapshot.parents[1] / "refs").mkdir()
        (snapshot.parents[1] / "refs" / "main").write_text("abc")
    assert state_of(NeedsModel, monkeypatch).endswith("downloaded: none")
    weights = tmp_path / "models--owner--large" / "snapshots" / "abc" / "model.safetensors"
    weights.touch()
    assert state_of(NeedsModel, monkeypatch).endswith("downloaded: owner/large")
    weights.unlink()
    weights.with_name("model.safetensors.index.json").write_text("{")
    assert state_of(NeedsModel, monkeypatch).endswith("downloaded: none")


def test_without_the_hubs_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert state_of(NeedsModel, monkeypatch).endswith("downloaded: none")
    assert 'pip install "harkback[hub]"' in examine()["hub"]["library"]
    assert "hub        library: missing" in told(examine())


def test_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def asks(*args: Any, **options: Any) -> None:
        raise AssertionError("the doctor asks nobody")

    monkeypatch.setattr("socket.socket.connect", asks)
    monkeypatch.setattr("socket.getaddrinfo", asks)
    assert examine()["hub"]


def test_memory_is_told_and_a_broken_device_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "available", lambda device: 7_100_000_000)
    assert "7.1 GB of memory free" in examine()["devices"][0]
    monkeypatch.setattr(doctor, "available", lambda device: None)
    assert "memory" not in examine()["devices"][0]

    def broken(device: Any) -> int:
        raise RuntimeError("CUDA error")

    monkeypatch.setattr(doctor, "available", broken)
    assert "memory" not in examine()["devices"][0]
