"""The learners that train a network: what each lowers, which of them are one in a limiting case, what they keep."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, get_args, get_type_hints

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from fakes import features_of, random_features, same_state, session_of, small, without
from harkback.distill import (
    balanced_cross_entropy,
    class_contrast,
    feature_distillation,
    instance_contrast,
    logit_distillation,
    nca,
    separated_cross_entropy,
    sigmoid_distillation,
)
from harkback.errors import HarkbackError
from harkback.features import FeatureRows, Features
from harkback.heads import PROXIES, ProxyHead
from harkback.learners.afc import AFC
from harkback.learners.avcil import AVCIL
from harkback.learners.base import Learner
from harkback.learners.finetune import FineTune, FineTuneSettings
from harkback.learners.icarl import ICaRL
from harkback.learners.joint import Joint
from harkback.learners.l3 import L3
from harkback.learners.lwf import LwF
from harkback.learners.ssil import SSIL
from harkback.memory import herd, quotas
from harkback.network import AVCIL_NETWORK, Answers, Network, NetworkSettings
from harkback.registry import LEARNERS
from harkback.stream import Session

Kind = type[Learner[Any]]

ALL: dict[str, Kind] = {name: LEARNERS.load(name) for name in LEARNERS.names()}
TRAINED = {name: kind for name, kind in ALL.items() if hasattr(kind.Settings(), "train")}
FIRST, SECOND, THIRD = "babaabba" * 2, "dcecdcedc" * 2, "fgfgfgfg"


def made(kind: Kind, memory: int = 6, seed: int = 0, train: dict[str, Any] | None = None, **changes: Any) -> Any:
    settings = small(kind.Settings())
    if train:
        settings = replace(settings, train=replace(settings.train, **train))
    return kind(replace(settings, **changes), memory=memory, seed=seed)


def taught(kind: Kind, *sessions: str, **options: Any) -> Any:
    learner = made(kind, **options)
    for t, labels in enumerate(sessions):
        learner.learn(session_of(labels, seed=t))
    return learner


# ---- which are one --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [LwF, SSIL, AVCIL, Joint, L3])
def test_the_first_session_is_plain_cross_entropy(kind: Kind) -> None:
    """There is nothing to forget yet: each is fine-tuning with its own network and training, bit for bit."""
    learner = taught(kind, FIRST, **({"balance": False} if kind is L3 else {}))
    s = learner.settings
    plain = FineTune(FineTuneSettings(s.network, s.train), seed=0).learn(session_of(FIRST))
    assert same_state(learner.network.state(), plain.network.state())
    assert learner.losses == plain.losses
    assert len(plain.losses) == s.train.epochs


@pytest.mark.parametrize("kind", [LwF, SSIL, AVCIL])
def test_the_second_session_is_not(kind: Kind) -> None:
    learner = taught(kind, FIRST, SECOND)
    plain = FineTune(FineTuneSettings(learner.settings.network, learner.settings.train), seed=0)
    plain.learn(session_of(FIRST)).learn(session_of(SECOND, seed=1))
    assert not same_state(learner.network.state(), plain.network.state())


def test_av_cil_without_its_extras_is_ss_il() -> None:
    weights = ("instance_weight", "class_weight", "spatial_weight", "temporal_weight")
    one = taught(AVCIL, FIRST, SECOND, THIRD, **dict.fromkeys(weights, 0.0))
    other = taught(SSIL, FIRST, SECOND, THIRD)
    assert same_state(one.state(), other.state())
    assert one.losses == other.losses
    for name in weights:  # Each of them is one of the differences.
        with_it = taught(AVCIL, FIRST, SECOND, **{**dict.fromkeys(weights, 0.0), name: 1.0})
        assert not same_state(with_it.network.state(), taught(SSIL, FIRST, SECOND).network.state()), name


@pytest.mark.parametrize("name", [name for name, kind in ALL.items() if hasattr(kind.Settings(), "answer")])
def test_how_it_answers_changes_nothing_of_what_it_learns(name: str) -> None:
    """So one training serves all answers, in a bench."""
    kind, clips = ALL[name], random_features(40, seed=9)
    learners = [
        taught(kind, FIRST, SECOND, answer=answer) for answer in get_args(get_type_hints(kind.Settings)["answer"])
    ]
    assert len(learners) > 1
    for one, other in pairwise(learners):
        assert same_state(one.state(), other.state())
        assert one.losses == other.losses
        assert not torch.equal(one.scores(clips), other.scores(clips))


def test_lwf_keeps_no_clip() -> None:
    none, many = (taught(LwF, FIRST, SECOND, memory=memory) for memory in (0, 50))
    assert same_state(none.state(), many.state())
    assert not any("memory" in name for name in none.state())


def test_attention_is_distilled_on_exemplars_of_a_guided_look_alone() -> None:
    """Without exemplars, or without a guide, the weights of that loss do nothing at all."""
    unguided = replace(small(AVCIL_NETWORK), guide="none")
    for options, same in (({"memory": 0}, True), ({"network": unguided}, True), ({}, False)):
        one = taught(AVCIL, FIRST, SECOND, **options)
        other = taught(AVCIL, FIRST, SECOND, **options, spatial_weight=50.0, temporal_weight=50.0)
        assert same_state(one.state(), other.state()) is same, options


# ---- what is lowered ------------------------------------------------------------------------------------------------


@dataclass
class Caught:
    """What a learner handed to the training loop, which did not run."""

    teacher: Network  #: as the session found it, with rows for the new classes
    network: Network  #: what learns, moved a little away from its teacher
    rows: FeatureRows
    loss: Callable[[Answers, Tensor], Tensor]
    fresh: int | None
    targets: Tensor  #: (rows,)
    born: Tensor  #: (classes,)

    def say(self, batch: Tensor) -> Tensor:
        return self.loss(self.network.answer(self.rows[batch]), batch)


def caught(learner: Any, labels: str = THIRD, missing: Sequence[int] = ()) -> Caught:
    """A session's training, not done. missing: the first half of these clips have no sound, the rest no picture."""
    found: list[Any] = []

    def fit(
        network: Network, rows: FeatureRows, loss: Any, *_: Any, fresh: int | None = None, judge: Any
    ) -> list[float]:
        teacher = copy.deepcopy(network)
        with torch.no_grad():
            some = torch.Generator().manual_seed(5)
            for weight in network.parameters():
                weight += 0.1 * torch.randn(weight.shape, generator=some)
        found.extend([teacher, network, rows, loss, fresh])
        return []

    held = learner.memory.targets.clone() if hasattr(learner, "memory") else torch.zeros(0, dtype=torch.long)
    half = len(missing) // 2
    clips = without(features_of(labels, seed=2), sound=missing[:half], picture=missing[half:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[type(learner).__module__], "fit", fit)
        learner.learn(Session.of(clips, labels))
    number = {name: i for i, name in enumerate(learner.classes)}
    return Caught(*found, torch.cat([torch.tensor([number[x] for x in labels]), held]), learner.born)


#: Some new clips and some exemplars, in no order.
BATCH = torch.tensor([9, 0, 12, 3, 5, 8, 2, 11])


def of_kind(c: Caught) -> Tensor:
    return c.born == 2


def former(c: Caught, batch: Tensor, temperature: float = 2.0) -> Tensor:
    """Distillation of the former five classes, by the session they came in, from the copy of the network."""
    with torch.no_grad():
        told = c.teacher.answer(c.rows[batch]).logits[:, :5]
    said = c.network.answer(c.rows[batch]).logits[:, :5]
    return logit_distillation(said, told, torch.tensor([0, 0, 1, 1, 1]), temperature)


def test_what_finetune_lowers() -> None:
    c = caught(taught(FineTune, FIRST, SECOND))
    batch = torch.tensor([4, 0, 7])
    said = c.network.answer(c.rows[batch]).logits.log_softmax(1)
    expected = -sum(said[i, c.targets[row]] for i, row in enumerate(batch.tolist())) / 3
    assert said.shape == (3, 7)  # Over all classes.
    assert len(c.rows) == len(THIRD)
    torch.testing.assert_close(c.say(batch), expected)


@pytest.mark.parametrize("weight", [0.0, 1.0, 3.0])
def test_what_lwf_lowers(weight: float) -> None:
    c = caught(taught(LwF, FIRST, SECOND, weight=weight, temperature=3.0))
    batch = torch.tensor([4, 0, 7])
    assert len(c.rows) == len(THIRD)
    said = c.network.answer(c.rows[batch]).logits[:, 5:]  # New clips among new classes.
    expected = cross_entropy(said, c.targets[batch] - 5) + weight * former(c, batch, 3.0)
    torch.testing.assert_close(c.say(batch), expected)


def test_what_ss_il_lowers() -> None:
    c = caught(taught(SSIL, FIRST, SECOND, temperature=1.5))
    assert c.fresh == len(THIRD)
    assert len(c.rows) == len(c.targets) == len(THIRD) + 5  # One exemplar of each class.
    said = c.network.answer(c.rows[BATCH]).logits
    expected = separated_cross_entropy(said, c.targets[BATCH], of_kind(c)) + former(c, BATCH, 1.5)
    torch.testing.assert_close(c.say(BATCH), expected)


def test_what_icarl_lowers() -> None:
    c = caught(taught(ICaRL, FIRST, SECOND))
    assert c.fresh is None  # Exemplars are mixed among the clips.
    told = c.teacher.answer(c.rows[BATCH]).logits[:, :5].detach()
    expected = sigmoid_distillation(c.network.answer(c.rows[BATCH]).logits, c.targets[BATCH], told)
    torch.testing.assert_close(c.say(BATCH), expected)


def vectors(said: Answers) -> list[Tensor]:
    """Those that AFC holds on to."""
    assert said.looked is not None
    return [said.audio, said.visual, said.looked.vectors.flatten(1)]


def naive_importance(network: Network, clip: Features, target: Tensor) -> list[float]:
    """The shares of sound, picture and attended picture in the slope of a clip's loss, asked clip by clip."""
    said = network.answer(clip)
    loss = nca(said.logits, target, network.head.scale)  # type: ignore[arg-type]
    norms = [float(x.norm()) for x in torch.autograd.grad(loss, [said.audio, said.visual, said.looked.vectors])]  # type: ignore[union-attr]
    return [norm / sum(norms) for norm in norms]


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
def test_what_afc_lowers(weight: float) -> None:
    """With weight 0 there is no distillation; else it is that weight times sqrt(seen / new), of 7 and 2 classes."""
    c = caught(taught(AFC, FIRST, SECOND, weight=weight))
    said, told = c.network.answer(c.rows[BATCH]), c.teacher.answer(c.rows[BATCH])
    expected = float(nca(said.logits, c.targets[BATCH], c.network.head.scale).detach())  # type: ignore[arg-type]
    held = 0.0
    for i, row in enumerate(BATCH.tolist()):
        shares = naive_importance(c.teacher, c.rows[BATCH[i : i + 1]], c.targets[row : row + 1])
        assert sum(shares) == pytest.approx(1)
        for share, mine, its in zip(shares, vectors(said), vectors(told), strict=True):
            gap = normalize(mine[i], dim=0) - normalize(its[i], dim=0)
            held += share * float(gap.detach().norm()) / len(BATCH)
    assert held > 0.05
    assert float(c.say(BATCH).detach()) == pytest.approx(expected + weight * math.sqrt(7 / 2) * held, rel=1e-4)


def maps(network: Network, clips: Features) -> tuple[Tensor, Tensor]:
    """Where and when AV-CIL's network looks: S (clips, frames, patches, dim), T (clips, frames, dim)."""
    body: Any = network.body
    heard = body.audio_standard(clips.audio.float()).mean(1)
    query = body.attention.listen(heard).tanh()[:, None, None] * clips.heard[:, None, None, None]
    seen = body.attention.look(body.visual_standard(clips.visual.float())).tanh()
    spatial = (seen * query).softmax(2)
    return spatial, ((spatial * seen).sum(2) * query[:, 0]).softmax(1)


def test_what_av_cil_lowers() -> None:
    weights = {"instance_weight": 0.7, "class_weight": 1.3, "spatial_weight": 0.6, "temporal_weight": 0.9}
    learner = taught(AVCIL, FIRST, SECOND, **weights, contrast_temperature=0.2, temperature=1.5)
    c = caught(learner, missing=[3, 4, 5, 6])
    assert c.fresh == 8
    clips, said = c.rows[BATCH], c.network.answer(c.rows[BATCH])
    expected = separated_cross_entropy(said.logits, c.targets[BATCH], of_kind(c)) + former(c, BATCH, 1.5)
    both = clips.heard & clips.seen
    assert both.tolist() == [True, True, True, False, False, True, True, True]
    expected = expected + 0.7 * instance_contrast(said.audio[both], said.visual[both], 0.2)
    expected = expected + 1.3 * class_contrast(said.audio[both], said.visual[both], c.targets[BATCH][both], 0.2)
    exemplars = c.rows[BATCH[BATCH >= 8]]
    assert len(exemplars) == 4
    for weight, mine, its in zip((0.6, 0.9), maps(c.network, exemplars), maps(c.teacher, exemplars), strict=True):
        expected = expected + weight * (its * (its / mine).log()).sum() / 4
    torch.testing.assert_close(c.say(BATCH), expected, rtol=1e-4, atol=1e-5)
    weights_of = list(c.network.parameters())
    for one, other in zip(
        torch.autograd.grad(c.say(BATCH), weights_of), torch.autograd.grad(expected, weights_of), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_a_clip_without_sound_or_picture_takes_no_part_in_a_contrast() -> None:
    """What the contrasts add is the same with such clips in the batch, and nothing where there are only such."""
    missing = [3, 4, 5, 6]
    with_, none = (
        caught(taught(AVCIL, FIRST, instance_weight=w, class_weight=2 * w), SECOND, missing) for w in (0.5, 0.0)
    )
    with_.network.load_state_dict(none.network.state_dict())

    def contrast(rows: list[int]) -> Tensor:
        batch = torch.tensor(rows)
        return with_.say(batch).detach() - none.say(batch).detach()

    whole = contrast([0, 1, 2, 7, 8, 18])
    assert whole > 0.1
    torch.testing.assert_close(contrast([0, 5, 1, 3, 2, 7, 4, 8, 18, 6]), whole, rtol=1e-4, atol=1e-5)
    assert contrast(missing) == 0
    assert contrast([0, 1, 2]) != whole


def test_what_l3_lowers() -> None:
    c = caught(taught(L3, FIRST, SECOND, feature_weight=0.6, logit_weight=0.4), missing=[3, 4])
    clips, said, told = c.rows[BATCH], c.network.answer(c.rows[BATCH]), c.teacher.answer(c.rows[BATCH])
    counts = torch.tensor([float((c.targets == k).sum()) for k in range(7)])
    expected = balanced_cross_entropy(said.logits, c.targets[BATCH], counts) + 0.4 * former(c, BATCH)
    anything = clips.heard | clips.seen
    for name, there in (("audio", clips.heard), ("visual", clips.seen), ("fused", anything)):
        expected = expected + 0.2 * feature_distillation(getattr(said, name), getattr(told, name).detach(), there)
    torch.testing.assert_close(c.say(BATCH), expected)


# ---- AFC: importance and proxies ------------------------------------------------------------------------------------


def test_importance_is_the_share_of_the_slope_by_finite_differences() -> None:
    learner = taught(AFC, FIRST)
    net = learner.network.double()
    clip, target = features_of("a", seed=7), torch.tensor([learner.classes.index("b")])  # Which is wrong.
    _, shares = learner._with_importance(clip, target)
    said = net.answer(clip)
    audio, visual, attended = (x.detach() for x in (said.audio[0], said.visual[0], said.looked.vectors[0]))
    head, project = net.head, net.body.project_visual

    def loss(fused: Tensor) -> float:
        """-log( e^{scale (y_t - 0.6)} / e^{scale y_other} ), of two classes."""
        with torch.no_grad():
            true, other = head(fused[None])[0, [int(target), 1 - int(target)]] * head.scale
        return float(other - (true - 0.6 * head.scale.detach()))

    def slope(of: Callable[[Tensor], float], at: Tensor) -> float:
        steps = 1e-6 * torch.eye(len(at), dtype=torch.float64)
        return math.hypot(*((of(at + step) - of(at - step)) / 2e-6 for step in steps))

    assert loss(audio + visual) > 0  # Else the clamp holds it, and there is no slope.
    with torch.no_grad():
        norms = [
            slope(lambda x: loss(x + visual), audio),
            slope(lambda x: loss(audio + x), visual),
            slope(lambda x: loss(audio + project(x).detach().clamp_min(0)), attended),
        ]
    assert norms[0] != pytest.approx(norms[2], rel=0.1)
    assert shares[0].tolist() == pytest.approx([norm / sum(norms) for norm in norms], rel=1e-5)


def test_importance_is_each_clips_own_and_sums_to_one() -> None:
    learner = taught(AFC, FIRST)
    clips, targets = random_features(140, seed=7), torch.arange(140) % 2  # More than are read at once.
    vectors, shares = learner._with_importance(clips, targets)
    assert [len(column) for column in vectors] == [140] * 3
    torch.testing.assert_close(shares.sum(1), torch.ones(140))
    assert (shares > 0).all()
    for row in (0, 3, 139):
        mine = torch.tensor([row])
        alone = naive_importance(learner.network, clips[mine], targets[mine])
        assert shares[row].tolist() == pytest.approx(alone, rel=1e-4)


def test_a_clip_that_is_surely_right_has_no_importance() -> None:
    """Its loss stands at zero: nothing of the teacher depends on it."""
    learner = taught(AFC, FIRST)
    with torch.no_grad():
        learner.network.head.scale.fill_(1000.0)
    clips, targets = random_features(60, seed=7), torch.arange(60) % 2
    said = learner.network.answer(clips).logits
    sure = said[torch.arange(60), targets] - said[torch.arange(60), 1 - targets] > 0.6
    _, shares = learner._with_importance(clips, targets)
    assert torch.equal(shares.sum(1) == 0, sure)
    with torch.no_grad():  # With the other class as far away as can be, every clip is sure.
        fused = learner.network.ask(clips).fused[:1]
        learner.network.head.weight.copy_(torch.stack([fused.expand(PROXIES, -1), -fused.expand(PROXIES, -1)]))
    _, shares = learner._with_importance(clips[torch.tensor([0])], torch.tensor([0]))
    assert not shares.any()


def test_new_proxies_begin_at_clips_of_their_class_and_old_ones_stay() -> None:
    learner = made(AFC)
    learner.born, learner.sessions = torch.tensor([0, 1, 1]), torch.tensor(1)
    head, fused = ProxyHead(4), torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    head.grow(1, torch.Generator().manual_seed(1))
    head.grow(3, torch.Generator().manual_seed(1))
    before, targets = head.proxies.detach().clone(), torch.tensor([1, 2, 0, 1, 2, 1, 2, 0, 1])
    learner._imprint(head, fused, targets)
    moved = head.proxies.detach() - before
    assert not moved[0].any()
    for number in (1, 2):
        mine = fused[targets == number]
        unit = mine / mine.square().sum(1, keepdim=True).sqrt()
        gaps = torch.cdist(moved[number], unit)
        assert (gaps.amin(1) < 1e-5).all()  # Each is one of them.
        assert len(gaps.argmin(1).unique()) > 1  # And not all the same one.


def test_proxies_of_former_classes_are_not_learnt_again() -> None:
    learner = taught(AFC, FIRST)
    former = learner.network.head.proxies.detach().clone()
    learner.learn(session_of(SECOND, seed=1))
    assert torch.equal(learner.network.head.proxies[:2], former)
    assert learner.network.head.proxies.shape == (5, PROXIES, 16)


# ---- exemplars ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SSIL, AVCIL])
def test_random_exemplars_are_any_clips_of_their_class_within_the_budget(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[kind.__module__], "fit", lambda *_, **__: [])  # Only what is kept matters here.
    labels, kept = "aabbabab", []
    for seed in range(40):
        learner = made(kind, memory=3, seed=seed).learn(session_of(labels))
        assert learner.memory.targets.tolist() == [0, 1]  # Three would not be equal shares.
        ids = [int(name.rpartition("-")[2]) for name in learner.memory.features.ids]
        assert [labels[row] for row in ids] == ["a", "b"]
        kept += ids
    assert set(kept) == set(range(8))
    assert max(kept.count(row) for row in range(8)) < 25  # Each is drawn one time in four: 10 of 40.


@pytest.mark.parametrize("kind", [kind for kind in TRAINED.values() if hasattr(kind(), "memory")])
def test_exemplars_are_cut_as_classes_come(kind: Kind) -> None:
    learner = taught(kind, FIRST, memory=9)
    assert torch.bincount(learner.memory.targets).tolist() == quotas(9, 2) == [4, 4]
    former = set(learner.memory.features.ids)
    learner.learn(session_of(SECOND, seed=1))
    assert torch.bincount(learner.memory.targets).tolist() == [1] * 5
    old = [name for name, t in zip(learner.memory.features.ids, learner.memory.targets, strict=True) if t < 2]
    assert former.issuperset(old)  # Nobody had the others any more.


@pytest.mark.parametrize("kind", [ICaRL, AFC, SSIL, AVCIL, L3])
def test_herded_exemplars_are_herded_on_the_fused_vectors_of_the_trained_network(kind: Kind) -> None:
    options = {"exemplars": "herding"} if hasattr(kind.Settings(), "exemplars") else {}
    learner = taught(kind, FIRST, memory=6, **options)
    clips = features_of(FIRST)
    fused = learner.network.ask(clips).fused
    expected = []
    for label in learner.classes:
        rows = torch.tensor([row for row, each in enumerate(FIRST) if each == label])
        expected += [clips.ids[row] for row in rows[herd(fused[rows], 3)].tolist()]
    assert list(learner.memory.features.ids) == expected


@pytest.mark.parametrize("kind", [ICaRL, AFC])
def test_means_are_those_of_the_exemplars_as_the_network_sees_them_now(kind: Kind) -> None:
    learner = taught(kind, FIRST, SECOND, memory=11, answer="nme")
    held, targets = learner.memory.features, learner.memory.targets
    vectors = normalize(learner.network.ask(held).fused, dim=1)
    for number in range(5):
        mean = sum(vectors[row] for row in range(len(held)) if targets[row] == number)
        torch.testing.assert_close(learner.nearest.means[number], mean / mean.norm())
    clips = random_features(6, seed=9)
    unit = normalize(learner.network.ask(clips).fused, dim=1)
    expected = torch.stack([-(unit - mean).square().sum(1) for mean in learner.nearest.means], 1)
    torch.testing.assert_close(learner.scores(clips), expected)


@pytest.mark.parametrize("kind", [ICaRL, AFC])
def test_a_class_without_room_is_known_by_the_mean_of_all_its_clips(kind: Kind) -> None:
    learner = taught(kind, FIRST, memory=1)
    assert learner.memory.targets.tolist() == [0]
    rows = torch.tensor([row for row, label in enumerate(FIRST) if label == learner.classes[1]])
    mean = normalize(learner.network.ask(features_of(FIRST)[rows]).fused, dim=1).mean(0)
    torch.testing.assert_close(learner.nearest.means[1], mean / mean.norm())
    before = learner.nearest.means[1].clone()
    learner.learn(session_of(SECOND, seed=1))
    assert torch.equal(learner.nearest.means[1], before)  # Nothing was left to measure it anew.


# ---- networks -------------------------------------------------------------------------------------------------------


def test_av_cil_needs_its_own_network() -> None:
    with pytest.raises(HarkbackError, match=r"leave avcil\.network\.body alone"):
        made(AVCIL, network=small(NetworkSettings()))


@pytest.mark.parametrize(
    ("name", "body"), [(name, body) for name in TRAINED for body in ("l3", "avcil") if (name, body) != ("avcil", "l3")]
)
def test_separable_classes_are_learnt_on_either_body(name: str, body: str) -> None:
    kind = TRAINED[name]
    network = small(NetworkSettings() if body == "l3" else AVCIL_NETWORK)
    learner = made(kind, memory=12, train={"epochs": 20, "rate": 3e-3}, network=network)
    sessions = [("cat", "dog") * 10, ("owl", "bee") * 10]
    asked = sessions[0] + sessions[1]
    for labels in [asked] if learner.cumulative else sessions:
        learner.learn(session_of(labels, noise=0.3))
    assert learner.classes == ("cat", "dog", "owl", "bee")
    scores = learner.scores(features_of(asked, seed=1, noise=0.3))  # Other clips of the same classes.
    targets = torch.arange(2).repeat(10)
    assert (scores[20:].argmax(1) == targets + 2).float().mean() > 0.8  # Chance is 0.25.
    assert (scores[:20, :2].argmax(1) == targets).float().mean() > 0.8  # Chance is 0.5.
    if name not in ("finetune", "lwf"):  # Those two keep nothing of the first session.
        assert (scores[:20].argmax(1) == targets).float().mean() > 0.4


# ---- the best epoch -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRAINED)
def test_validation_clips_choose_the_epoch(name: str) -> None:
    """At a constant rate, the weights are those of a training that ended there, and that is the best there was."""
    kind, epochs = TRAINED[name], 5
    train = {"schedule": "constant", "rate": 3e-3}
    asked = "abababab" * 2
    clips = features_of(asked, seed=8, noise=2.0)

    def accuracy(learner: Any) -> float:
        said = learner.network.ask(clips).logits.argmax(1).tolist()
        return sum(learner.classes[c] == label for c, label in zip(said, asked, strict=True)) / len(asked)

    stopped = [
        made(kind, train={**train, "epochs": n}).learn(session_of(FIRST, noise=2.0)) for n in range(1, epochs + 1)
    ]
    marks = [accuracy(learner) for learner in stopped]
    best = marks.index(max(marks))
    session = session_of(FIRST, noise=2.0)
    learner = made(kind, train={**train, "epochs": epochs})
    learner.learn(replace(session, validation=Session.of(clips, asked)))
    assert same_state(learner.network.state(), stopped[best].network.state())
    assert len(learner.losses) == epochs
    # Clips of a class that it does not know are never right, so the first epoch is as good as any.
    learner = made(kind, train={**train, "epochs": epochs})
    learner.learn(replace(session, validation=Session.of(clips, ["z"] * len(asked))))
    assert same_state(learner.network.state(), stopped[0].network.state())
