"""Names -> who takes part: variants, modalities, suites, and what makes two runs one."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pytest

from harkback.contestants import as_flags, changed, code_of, entered, suite
from harkback.errors import HarkbackError
from harkback.flags import with_settings
from harkback.learners.icarl import ICaRLSettings
from harkback.learners.joint import JointSettings
from harkback.learners.l3 import L3Settings
from harkback.network import AVCIL_NETWORK
from harkback.registry import LEARNERS
from harkback.training import AVCIL_TRAIN


def test_a_learner_a_variant_and_a_modality() -> None:
    one, two, three = entered(["ridge", "icarl-fc", "l3@audio"])
    assert (one.name, one.method, one.modality, one.settings) == ("ridge", "ridge", "both", one.kind.Settings())
    assert (two.name, two.method, two.settings) == ("icarl-fc", "icarl", ICaRLSettings(answer="fc"))
    assert (three.name, three.method, three.modality) == ("l3@audio", "l3", "audio")


def test_every_learner_on_each_modality() -> None:
    names = [each.name for each in entered(["ridge", "ncm@visual"], ["visual", "both"])]
    assert names == ["ridge", "ridge@visual", "ncm@visual"]


def test_what_the_user_sets_goes_before_a_variant_and_after_an_ablation() -> None:
    chosen = {
        "joint": changed(JointSettings(), {"train.epochs": 7, "network.width": 8}),
        "l3": L3Settings(balance=False, feature_weight=0.9),
    }
    plain, avcil, ablated = entered(["joint", "joint-avcil", "l3-no-distillation"], settings=chosen)
    assert plain.settings == chosen["joint"]
    assert avcil.settings.network == replace(AVCIL_NETWORK, width=8)
    assert avcil.settings.train == replace(AVCIL_TRAIN, epochs=7)
    assert ablated.settings == L3Settings(feature_weight=0.0, logit_weight=0.0, balance=False)
    assert entered(["joint-avcil"])[0].settings == JointSettings(AVCIL_NETWORK, AVCIL_TRAIN)


@pytest.mark.parametrize(
    ("name", "says"),
    [("nonsense", "no learner"), ("l3-nonsense", "l3-naive-fusion"), ("icarl-", "icarl-fc"), ("l3@smell", "modality")],
)
def test_a_name_that_is_none(name: str, says: str) -> None:
    with pytest.raises(HarkbackError, match=says):
        entered([name])


def test_settings_are_typed_as_they_are_read() -> None:
    """Whatever was set, by user, variant or ablation: the flags give the same contestants."""
    names = [
        "joint",
        "joint-avcil",
        "l3",
        "l3-no-distillation",
        "ranpac",
        "balanced-ridge",
        "hark",
        "icarl",
        "icarl-fc",
    ]
    chosen = {
        "joint": changed(JointSettings(), {"train.epochs": 7, "network.key_dim": 8}),
        "l3": L3Settings(balance=False, feature_weight=0.9, exemplars="random"),
        "ranpac": changed(LEARNERS.load("ranpac").Settings(), {"penalty": 2.5}),
        "balanced-ridge": changed(LEARNERS.load("balanced-ridge").Settings(), {"penalty": 1e-05}),
        "icarl": ICaRLSettings(answer="fc"),
    }
    meant = entered(names, settings=chosen)
    typed = as_flags({each.name: asdict(each.settings) for each in meant})
    assert "--l3.no-balance" in typed and not [word for word in typed if word.startswith("--hark")]

    @dataclass
    class Nothing:
        """No command."""

    _, read = with_settings(Nothing, "bench", typed, ["LEARNERS"])
    assert [each.settings for each in entered(names, settings=read)] == [each.settings for each in meant]


def test_flags_of_what_is_not_here_are_left_out() -> None:
    assert as_flags({"a stranger's": {"depth": 5}, "ridge": {"penalty": 0.1, "gone": 3}}) == []


def test_the_suite_of_all_is_every_learner_in_each_of_its_ways_to_answer() -> None:
    names = suite("all")
    assert set(LEARNERS.names()) <= set(names)
    assert {"icarl-fc", "afc-nme"} == set(names) - set(LEARNERS.names())
    assert len(entered(names)) == len(names)


def test_the_ablations_of_the_seed_paper() -> None:
    """Visual only, audio only, naive fusion, guided attention; feature distillation x logit distillation."""
    found = {each.name: each for each in entered(suite("l3-ablation"))}
    full = L3Settings()
    assert found["l3@visual"].modality == "visual"
    assert found["l3@audio"].modality == "audio"
    assert found["l3-naive-fusion"].settings.network.guide == "none"
    assert full.network.guide == "audio"
    weights = {(each.settings.feature_weight, each.settings.logit_weight) for each in found.values()}
    assert weights == {(f, g) for f in (0.0, full.feature_weight) for g in (0.0, full.logit_weight)}
    assert full.feature_weight > 0
    assert full.logit_weight > 0


def test_the_suite_of_the_paper_is_all_on_its_network() -> None:
    assert {each.settings.network.body for each in entered(suite("avcil"))} == {"avcil"}


@pytest.mark.parametrize("name", ["nonsense", "ridge-ablation", "-ablation", ""])
def test_a_suite_that_is_none(name: str) -> None:
    with pytest.raises(HarkbackError, match="no suite"):
        suite(name)


def test_learners_that_only_answer_otherwise_share_a_training() -> None:
    nme, fc, other, deaf = entered(["icarl", "icarl-fc", "ssil", "icarl@visual"])
    assert nme.training == fc.training
    assert len({nme.training, other.training, deaf.training}) == 3
    slower = entered(["icarl"], settings={"icarl": changed(ICaRLSettings(), {"train.epochs": 3})})[0]
    assert slower.training != nme.training


@dataclass(frozen=True)
class Inner:
    depth: int = 1


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    name: str = "a"


def test_changed_settings() -> None:
    assert changed(Outer(), {"inner.depth": 5, "name": "b"}) == Outer(Inner(5), "b")
    assert changed(Outer(), {}) == Outer()
    for path in ("nothing", "inner.nothing", "name.nothing"):
        with pytest.raises(ValueError, match="no field"):
            changed(Outer(), {path: 1})


def test_the_code_of_a_learner_is_its_own_and_what_it_is_built_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made of modules outside the package, so that a line can be changed."""
    package = tmp_path / "harkback_stand_in"
    package.mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    (package / "__init__.py").write_text("")
    (package / "mine.py").write_text("from harkback.state import State\n\nclass Mine: ...\n")
    import importlib

    mine = importlib.import_module("harkback_stand_in.mine")
    before = code_of(mine.Mine)
    assert code_of(mine.Mine) == before
    (package / "mine.py").write_text(textwrap.dedent("from harkback.state import State\n\nclass Mine: x = 1\n"))
    other = code_of(mine.Mine)
    assert other != before
    # The same with one room more beneath it, however that is imported.
    (package / "mine.py").write_text(
        "from harkback.state import State\nfrom harkback.memory import Memory\n\nclass Mine: ...\n"
    )
    assert len({before, other, code_of(mine.Mine)}) == 3
    (package / "beside.py").write_text("x = 1\n")
    for line in ("from .beside import x", "from . import beside", "import harkback_stand_in.beside"):
        (package / "mine.py").write_text(f"{line}\n\nclass Mine: ...\n")
        (package / "beside.py").write_text("x = 1\n")
        before = code_of(mine.Mine)
        (package / "beside.py").write_text("x = 2\n")
        assert code_of(mine.Mine) != before, line


def test_a_room_that_decides_a_result_is_in_the_code_of_those_it_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    learners = {name: code_of(LEARNERS.load(name)) for name in ("l3", "avcil", "ncm")}
    read = Path.read_bytes

    def with_another_line(self: Path) -> bytes:
        return read(self) + (b"\n# changed\n" if self.name == "channels.py" else b"")

    monkeypatch.setattr(Path, "read_bytes", with_another_line)
    now = {name: code_of(LEARNERS.load(name)) for name in learners}
    assert now["avcil"] != learners["avcil"]
    assert now["l3"] != learners["l3"]  # The network may have either body.
    assert now["ncm"] == learners["ncm"]
