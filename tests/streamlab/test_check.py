"""The battery: each check catches its culprit, every built-in passes, and known failures are honest."""

from __future__ import annotations

import copy
import random
from contextlib import nullcontext
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from streamlab import plugins
from streamlab.batch import Batch
from streamlab.check import Broken, Subject, check_strategy, strategy_checks
from streamlab.check.devices import DeviceWatch
from streamlab.needs import EPISODES, SESSIONS, Needs
from streamlab.strategy import EpisodeBatch, NoOptions, Strategy

CHECKS = {check.__name__: check for check in strategy_checks()}
FAST = {
    "gdumb": "gdumb:passes=3", "ranpac": "ranpac:projections=50", "podnet": "podnet:tuning_epochs=1",
    "cec": "cec:epochs=1,episodes=2", "nc-fscil": "nc-fscil:steps=2", "ocm": "ocm:replay_size=4",
    "onpro": "onpro:replay_size=4",
}  # fmt: skip


class Plain(Strategy):
    """Nothing wrong with it; culprits differ from it in one thing."""

    def losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"task": F.cross_entropy(self.net(batch.images), batch.labels)}


class Crashes(Plain):
    def remember(self, batch: Batch) -> None:
        if self.exposed.all():
            raise RuntimeError("only in the third experience")


class DrawsUnseeded(Plain):
    def setup(self) -> None:
        self.noise = float(np.random.default_rng().random())


SEEN: list[int] = []


class KeepsStateInItsModule(Plain):
    def remember(self, batch: Batch) -> None:
        SEEN.append(len(batch))


class KeepsStateInItsClass(Plain):
    batches: ClassVar[int] = 0

    def remember(self, batch: Batch) -> None:
        type(self).batches += 1


class HoldsAFunction(Plain):
    def setup(self) -> None:
        self.schedule = lambda step: 0.1 * step


class ForgetsWhenResumed(Plain):
    """Its state is there, but it counts in what no checkpoint sees."""

    class Hidden:
        transient = frozenset({"count"})
        count = 0

    def setup(self) -> None:
        self.hidden = self.Hidden()

    def losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        self.hidden.count += 1
        return {"task": F.cross_entropy(self.net(batch.images), batch.labels) * self.hidden.count}


class DrawsFromNumpy(Plain):
    def remember(self, batch: Batch) -> None:
        np.random.rand()


class DrawsFromPython(Plain):
    def remember(self, batch: Batch) -> None:
        random.random()


class SeedsTorch(Plain):
    def losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        return super().losses(batch)


class HoldsBytesOfNoKind(Plain):
    def setup(self) -> None:
        self.means = torch.zeros(50, device=self.setting.device)


class ForgetsItsTeacher(Plain):
    """A teacher that it did not set bytes aside for."""

    needs = Needs(boundaries=True)
    ledger_kinds: ClassVar[dict[str, str]] = {"teacher": "extra models"}

    def end_experience(self, view: Any) -> None:
        from streamlab.nets.network import frozen_copy

        self.teacher = frozen_copy(self.net)


class Grows(Plain):
    ledger_kinds: ClassVar[dict[str, str]] = {"history": "statistics"}

    def setup(self) -> None:
        self.history = torch.zeros(0, device=self.setting.device)

    def remember(self, batch: Batch) -> None:
        self.history = torch.cat([self.history, torch.zeros(len(batch), device=self.setting.device)])


class ScoresSomeClasses(Plain):
    def predict(self, images: torch.Tensor) -> torch.Tensor:
        return self.net(images)[:, self.exposed]


class HidesAClass(Plain):
    def predict(self, images: torch.Tensor) -> torch.Tensor:
        return self.net(images).index_fill(1, torch.tensor([2]), float("-inf"))


class LearnsWhilePredicting(Plain):
    ledger_kinds: ClassVar[dict[str, str]] = {"average": "statistics"}

    def setup(self) -> None:
        self.average = torch.zeros((), device=self.setting.device)

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        self.average = 0.5 * self.average + images.float().mean()
        return self.net(images)


class DropsOutWhenItPredicts(Plain):
    def predict(self, images: torch.Tensor) -> torch.Tensor:
        return F.dropout(self.net(images), training=True)


class DividesByItsSize(Plain):
    needs = Needs(boundaries=True)

    def begin_experience(self, view: Any) -> None:
        self.share = 1 / len(view)


class SizesByTheLargestLabel(Plain):
    def predict(self, images: torch.Tensor) -> torch.Tensor:
        scores = self.net(images)
        scores[:, int(self.exposed.sum()) :] = float("-inf")
        return scores


class MakesTensorsOnTheHost(Plain):
    def losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        weights = torch.ones(self.setting.num_classes)
        return {"task": F.cross_entropy(self.net(batch.images), batch.labels, weights)}


class LearnsFromTests(Strategy):
    """Its prototypes drift with every support that it is shown."""

    needs = Needs(kinds=EPISODES)

    def setup(self) -> None:
        self.shown = 0

    def episode_losses(self, episodes: EpisodeBatch) -> dict[str, torch.Tensor]:
        return {"task": self.net.features(episodes.images).square().mean()}

    def predict_episodes(
        self, support: torch.Tensor, support_labels: torch.Tensor, query: torch.Tensor
    ) -> torch.Tensor:
        self.shown += 1
        return query.float().mean((2, 3, 4))[..., None] * torch.tensor([1.0, self.shown])


class TrainsWhatIsFrozen(Plain):
    def setup(self) -> None:
        for parameter in self.net.parameters():
            parameter.requires_grad_(True)
        self.optimizer = self.make_optimizer(self.net.parameters())


class KnowsItsNetwork(Plain):
    def losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        hidden = self.net.backbone[1](self.net.scaled(batch.images).flatten(1))
        return {"task": F.cross_entropy(self.net.head(hidden), batch.labels)}


class MakesItsBufferLate(Plain):
    """Its buffer is made when the first batch comes, so that no budget gives it room."""

    def remember(self, batch: Batch) -> None:
        if not hasattr(self, "buffer"):
            self.buffer = self.make_buffer()
        self.buffer.add(batch)


class CopiesItsBuffer(Plain):
    def setup(self) -> None:
        self.first = self.make_buffer()
        self.second = copy.deepcopy(self.first)


class HidesItsMoments(Plain):
    """It resumes to the same bits under plain SGD alone: what Adam remembers is lost."""

    default_optimizer: ClassVar[dict[str, Any]] = {"name": "adam", "lr": 0.01}

    class Held:
        transient = frozenset({"optimizer"})

    def setup(self) -> None:
        self.held = self.Held()
        self.held.optimizer = self.optimizer
        self.optimizer = None

    def observe(self, batch: Batch) -> dict[str, torch.Tensor]:
        if not hasattr(self.held, "optimizer"):
            self.held.optimizer = self.make_optimizer(self.net.parameters())
        self.optimizer = self.held.optimizer
        losses = self.losses(batch)
        self.step(losses)
        self.optimizer = None
        return losses


HEADS: list[torch.nn.Module] = []


class SharedHead:
    """A base training that begins where the one before it ended."""

    name = "shared"

    def head(self, feature_size: int, among: torch.Tensor, recipe: Any) -> torch.nn.Module:
        if not HEADS:
            HEADS.append(torch.nn.Linear(feature_size, len(among)))
        return HEADS[0]

    def loss(
        self, network: Any, images: torch.Tensor, labels: torch.Tensor, among: torch.Tensor
    ) -> torch.Tensor:
        return F.cross_entropy(network(images), labels)


class TrainsOnAnothersBase(Plain):
    needs = Needs(kinds=SESSIONS)
    base = SharedHead()


class KeepsViews(Strategy):
    """Its buffer keeps what was augmented."""

    def setup(self) -> None:
        self.buffer = self.make_buffer()

    def losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"task": F.cross_entropy(self.net(batch.images), batch.labels)}

    def remember(self, batch: Batch) -> None:
        self.buffer.add(Batch(batch.images, batch.labels))


CULPRITS = [
    ("check_keeps_images_as_they_lie", KeepsViews, "buffer-0 keeps an image that is none of the source's"),
    ("check_it_runs", MakesItsBufferLate, "a buffer was made after setup"),
    ("check_buffers_draw_apart", CopiesItsBuffer, "2 buffers are named 'buffer-0'"),
    ("check_resumes_mid_stream", HidesItsMoments, "resumed, it ends with another net than unbroken"),
    ("check_trains_its_own_base", TrainsOnAnothersBase, "after another base training its net is another"),
    ("check_episodes_leave_no_trace", LearnsFromTests, "other scores after another episode"),
    ("check_it_runs", Crashes, "RuntimeError: only in the third experience"),
    ("check_same_seed_same_bits", DrawsUnseeded, "two runs of one seed end with another noise"),
    ("check_state_lives_in_attributes", KeepsStateInItsModule, "SEEN changed during a run"),
    ("check_state_lives_in_attributes", KeepsStateInItsClass, "batches changed during a run"),
    ("check_state_round_trips", HoldsAFunction, "schedule is a function, which no checkpoint can hold"),
    ("check_resumes_mid_stream", ForgetsWhenResumed, "resumed, it ends with another net than unbroken"),
    ("check_leaves_global_generators_alone", DrawsFromNumpy, "it draws from numpy's global generator"),
    ("check_leaves_global_generators_alone", DrawsFromPython, "it draws from Python's global generator"),
    ("check_leaves_global_generators_alone", SeedsTorch, "it seeds torch's global generator"),
    ("check_every_byte_has_a_kind", HoldsBytesOfNoKind, "means holds 200 bytes of no kind"),
    ("check_keeps_its_budget", ForgetsItsTeacher, "held, budget"),
    ("check_stops_growing", Grows, "after two more"),
    ("check_scores_every_class", ScoresSomeClasses, r"predict returned \(24, 2\), and must return"),
    ("check_scores_every_class", HidesAClass, "not finite for a class that it has seen"),
    ("check_predictions_leave_no_trace", LearnsWhilePredicting, "predicting changed average"),
    ("check_predictions_leave_no_trace", DropsOutWhenItPredicts, "get other scores the second time"),
    ("check_survives_small_experiences", DividesByItsSize, "ZeroDivisionError"),
    ("check_takes_labels_in_any_order", SizesByTheLargestLabel, "seen before lower ones, has no finite score"),
    ("check_serves_other_networks", KnowsItsNetwork, "TypeError"),
    ("check_serves_other_networks", TrainsWhatIsFrozen, "of a frozen backbone is not what it was"),
    ("check_stays_on_its_device", MakesTensorsOnTheHost, "a tensor made without a device meets one of the device"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "culprit", "sentence"), CULPRITS, ids=lambda value: getattr(value, "__name__", None)
)
def test_a_check_catches_its_culprit(name: str, culprit: type[Strategy], sentence: str) -> None:
    with pytest.raises(Broken, match=sentence) as broken:
        CHECKS[name](Subject(culprit, NoOptions(), "culprit"))
    assert broken.value.line == "" or broken.value.line.startswith("test_check.py"), broken.value.line


def test_every_check_has_a_culprit_and_a_promise() -> None:
    assert {name for name, _, _ in CULPRITS} == set(CHECKS)
    for check in CHECKS.values():
        promise, _, why = (check.__doc__ or "").partition("\n\n")
        assert len(promise) <= 76
        assert promise.endswith(".")
        assert why.strip()


# with experiences (foster once), which is the method
GROW = ("expandable-der", "memo", "foster", "ease", "mos", "inflora")


# Of second order, or on transformers (but for mvp): they take half of the time, and are looked at beside the suite.
LONG = """anil aper coda-prompt dualprompt ease inflora l2p linear-probe maml meta-sgd mos ranpac simplecil slca""".split()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in LONG else ())
        for name in plugins.names("strategies")
    ],
)
def test_every_built_in_keeps_its_promises(name: str) -> None:
    subject = Subject.named(FAST.get(name, name))
    outcomes = list(check_strategy(subject))
    known = list(subject.strategy.known_failures.items())
    assert [(o.check, o.message) for o in outcomes if o.status != "kept"] == known
    assert not known or name in GROW


@pytest.mark.slow
@pytest.mark.parametrize("name", plugins.names("strategies"))
def test_every_choice_of_a_built_in_runs_on_convolutions_and_frozen_networks(name: str) -> None:
    """Each value of each Literal option once: it runs, and serves the other networks."""
    hints = get_type_hints(Subject.named(name).strategy.options_type())
    extra = {"ewc": ",strength=1", "gdumb": ",passes=3", "ranpac": ",projections=50"}.get(name, "")
    for option, hint in hints.items():
        choices = [hint, *get_args(hint)]  # an option may be a Literal or None
        for choice in [c for part in choices if get_origin(part) is Literal for c in get_args(part)]:
            subject = Subject.named(f"{name}:{option}={choice}{extra}")
            CHECKS["check_it_runs"](subject)
            tunes_all = choice == "fine-tuning"  # which is to change a frozen backbone
            told = pytest.raises(Broken, match="of a frozen backbone") if tunes_all else nullcontext()
            with told:
                CHECKS["check_serves_other_networks"](subject)


class Honest(Grows):
    known_failures: ClassVar[dict[str, str]] = {
        "stops_growing": "it is a history",
        "it_runs": "no longer true",
    }


def test_a_known_failure_carries_its_reason_and_passing_it_is_a_failure() -> None:
    outcomes = {o.check: o for o in check_strategy(Subject(Honest, NoOptions(), "honest"))}
    assert (outcomes["stops_growing"].status, outcomes["stops_growing"].message) == (
        "known",
        "it is a history",
    )
    assert outcomes["it_runs"].status == "mended"
    assert outcomes["it_runs"].is_failure


def test_after_a_strategy_that_does_not_run_nothing_else_is_reached() -> None:
    outcomes = list(check_strategy(Subject(Crashes, NoOptions(), "crashes")))
    assert [o.status for o in outcomes] == ["broken"] + ["not reached"] * (len(CHECKS) - 1)


def test_the_device_watch_lets_pass_what_a_gpu_lets_pass() -> None:
    given = torch.zeros(4)  # as from the kernel: made outside the watch
    with DeviceWatch(__file__) as watch:
        host = torch.arange(4)
        torch.zeros(4, device="cpu") + given
        given[host] + 1  # a host index into a device tensor
        given + torch.tensor(2.0)  # a scalar
        given + host.to(given.device)
    assert watch.found == 0
    with DeviceWatch(__file__) as watch:
        given * (torch.ones(4) + 1)
    assert watch.found
